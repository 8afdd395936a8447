#!/usr/bin/env python3
"""Bring libtorch once into a cache and point `.libtorch` at it.

    scripts/libtorch.py            what the binaries are built and run with (CPU)
    scripts/libtorch.py --cuda     the same with the CUDA libraries, for a GPU image

libtorch is taken from the wheels of the Python package index that pip is configured for, whichever that is. A wheel
is a zip file, so only the needed parts of it are fetched (a quarter of the bytes), with HTTP ranges; what was fetched
survives an interruption. Each wheel's RECORD is pinned here by its sha256 and lists the sha256 of every member, so
whatever way a file came, it is checked.

The folder's path is printed on stdout, everything else goes to stderr. Python 3.9 or newer and pip are all it needs.
"""

import argparse
import base64
import csv
import fcntl
import fnmatch
import hashlib
import io
import json
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from pathlib import Path

VERSION = "2.11.0"
PROJECT = Path(__file__).resolve().parent.parent
BLOCK = 1 << 20
ATTEMPTS = 8

# What is kept of a wheel → where. torch links libtorch.so at build time only; the others are loaded at run time.
TORCH = {
    "torch/lib/libtorch.so": "lib",
    "torch/lib/libtorch_cpu.so": "lib",
    "torch/lib/libc10.so": "lib",
    "torch/lib/libgomp.so.1": "lib",
    "torch/include/*": "include",
}
TORCH_ARM = {
    "torch/lib/libarm_compute*": "lib",
    "torch/lib/libgfortran*": "lib",
    "torch/lib/libnvpl_*": "lib",
}
TORCH_CUDA = {
    "torch/lib/libtorch_cuda.so": "lib",
    "torch/lib/libtorch_cuda_linalg.so": "lib",
    "torch/lib/libtorch_nvshmem.so": "lib",
    "torch/lib/libc10_cuda.so": "lib",
    "torch/lib/libcaffe2_nvrtc.so": "lib",
}
LIBRARIES = {"nvidia/*/lib/*.so*": "lib"}

# The sha256 of each wheel's RECORD, for x86_64 and aarch64. libtorch_cpu.so needs all three, with a GPU or without.
CPU = [
    ("torch", VERSION, "64d76220aff1572ba2ee949e3c4e5633a21f7aa626c634ee1730609464777fc5",
     "663b5a78dd5e8d72032e95225ad4e0caac07fbfda69cd4c12b3f8823f6e91a27", TORCH),
    ("nvidia-cuda-runtime", "13.0.96", "34c7a65651597fd8a376b049b69bb26db399a9ea443a7a142ccd34f5a10f79c4",
     "8ff0b015e7bb39dbf9cfc2a997cdb581914c6661dbbdbc1a71c7cc3da6a4dc11", {"nvidia/cu13/lib/libcudart.so.13": "lib"}),
    ("nvidia-cuda-cupti", "13.0.85", "f8ae8ddce85f8e319abac90e956bf45a572e31f4ff01af2d634f37aa3d78e3eb",
     "d26eaae605b8bd5e97a7355a3938d2213f2062f0f23d2afd1c00c9d8647cf4a6", {"nvidia/cu13/lib/libcupti.so.13": "lib"}),
]
# What the metadata of torch 2.11.0 lists (cuda-toolkit 13.0.2 among it), less what only Python uses.
CUDA = [
    ("nvidia-cublas", "13.1.0.3", "35a31bf9f5d4fa709c63a127c3b0651f3ccfec462c422cf8bf5d9e964301de59",
     "e1abf66f4dfb5166be892ebe84b136faaca00e8a5d93f5b0d4919d26a03fb7d0", LIBRARIES),
    ("nvidia-cufft", "12.0.0.61", "50d86a39c8b16aaedabf82f2e54418ecd00435467f47bdcc12f08b3f00c5dcb4",
     "35eeca2290c33359635c302977d8dcb58b6e192fd41b44d09715f0db117b4671", LIBRARIES),
    ("nvidia-cufile", "1.15.1.6", "71e64aad4a5cac9a56b737d732caa43c0ebc36e4e5ac4f63b523f45ab50285d6",
     "20eb34de63ea4fb75c3b51a488388a2858883f52b783832cb667cce2de6c8e97", LIBRARIES),
    ("nvidia-curand", "10.4.0.35", "a4340ab778f30ac2b39e95dd8447a6d79925287d312442c102dac6e2105dc025",
     "85738bc18c1f978869dfaa2acc15156740cc7a13e1113bf3070b56493aac0e96", LIBRARIES),
    ("nvidia-cusolver", "12.0.4.66", "2b13143036698247ffae6687e0645d1b903cef6d6851c04bc3f45536f918cb92",
     "f6a619890373d293ce81de6c5cc9b7b85eb1f24fb5493b77de5a6bd52ede54b0", LIBRARIES),
    ("nvidia-cusparse", "12.6.3.3", "1bc905cfcd5b254d22a6866884cd7280da178e2bf7971dcfef65dd6c11c72dfd",
     "e7812919b545312816c802d760e3c1ccf88a34b19ca8cfcaadd01b98244ae6d4", LIBRARIES),
    ("nvidia-nvjitlink", "13.0.88", "8deabe93d94e96f22180365bcd7c5a39c30c41e97d3cd7f9bb375cd1460eddfa",
     "884dae1d5dcb019e5897bbf23d216188bbcca383cfb82a3943cfb01ae2ef759e", LIBRARIES),
    ("nvidia-cuda-nvrtc", "13.0.88", "c836d98d0eebc101713a79a8d2802f22dfe8b3f9118403d987470bc0b59c9e0b",
     "46eed66d6c4e20b8ff1233c2480c143de46ac63d7ce352e669ef4486392fff33", LIBRARIES),
    ("nvidia-nvtx", "13.0.85", "2a8c8921f0a28790c1ef3c6f4c7f2ee5972f94a3818b1bbe12d99030afb72a66",
     "cf42f1ecfc45e6735b22f1a22ce2792eb0fa9102c7bf105af3f8c94bdeda779a", LIBRARIES),
    ("nvidia-cudnn-cu13", "9.19.0.56", "f3d7140798fccda99fb75841ff41c5dd88de4bc6bd5bffb49200c9b7bf791ca8",
     "cb9e895d22ea624ae709a975d0e5404a828b8c455d045b534f1f26af0feec5fc", LIBRARIES),
    ("nvidia-cusparselt-cu13", "0.8.0", "43278a3f845551894a9cf1381e29b7c5b845aa1eae0b14bb4f8338c470c042ff",
     "51e9f92a4de691877670beecf804ae0bcbc0f1ae39bdb1bbe894b46ba7c3f29e", LIBRARIES),
    ("nvidia-nccl-cu13", "2.28.9", "354815308954b2fd5ffcfe2fc264ed611ee91912cadbab28632d10424988f4bb",
     "36e72cbd7fc83f194f2cac930577e87c3a8993e736672ea7d9a450dcb7d9ac65", LIBRARIES),
    ("nvidia-nvshmem-cu13", "3.4.5", "b6aa8392b88088391e5b1ce756ca95d02035d25c26ea070f65794b24cb095fd7",
     "6e2c71f59d559eee8289c4761f6186666f6fa333de26b74e903220ccac8136f0", LIBRARIES),
]


def wheels(machine, kind):
    """What to bring for a machine: (project, version, sha256 of the wheel's RECORD, what is kept of it)."""
    chosen = []
    for project, version, x86, arm, keep in CPU + (CUDA if kind == "cuda" else []):
        if project == "torch":
            keep = {**keep, **(TORCH_ARM if machine == "aarch64" else {}), **(TORCH_CUDA if kind == "cuda" else {})}
        chosen.append((project, version, arm if machine == "aarch64" else x86, keep))
    return chosen


class Refused(Exception):
    """The server will not hand the file to us (pip may know how to ask)."""


def say(text):
    """Print to stderr, whole lines."""
    print(text, file=sys.stderr, flush=True)


class Progress:
    """A bar on a terminal, a line every tenth elsewhere."""

    def __init__(self, label, total):
        self.label, self.total, self.done = label, max(total, 1), 0
        self.began, self.shown = time.monotonic(), 0
        self.terminal = sys.stderr.isatty()

    def add(self, count):
        """Count bytes that came."""
        self.done = min(self.done + count, self.total)
        share = self.done / self.total
        mark = int(share * (200 if self.terminal else 10))
        if mark == self.shown:
            return
        self.shown = mark
        rate = self.done / max(time.monotonic() - self.began, 0.001) / 1e6
        text = f"{self.label}  {self.done / 1e6:6.0f} / {self.total / 1e6:.0f} MB  {rate:5.1f} MB/s"
        if self.terminal:
            bar = "█" * int(share * 24)
            print(f"\r  {bar:<24} {share:4.0%}  {text} ", end="\n" if share == 1 else "", file=sys.stderr, flush=True)
        else:
            say(f"  {share:4.0%}  {text}")


# --- pip: where a wheel is, and how to reach it -----------------------------------------------------------------------


def pip(*arguments, quiet=True):
    """Run pip; its output, or None where it failed."""
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode == 0:
        command = [sys.executable, "-m", "pip"]
    else:
        command = [shutil.which("pip3") or shutil.which("pip")]
    if command[0] is None:
        sys.exit("pip is missing: install python3-pip, or set LIBTORCH to a libtorch " + VERSION + " of your own")
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    stderr = subprocess.STDOUT if quiet else None
    result = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment)
    return result.stdout if result.returncode == 0 else None


def pip_setting(name):
    """A setting of pip (environment before files), or None."""
    value = os.environ.get("PIP_" + name.upper().replace("-", "_"))
    if value:
        return value
    for line in (pip("config", "list") or "").splitlines():
        key, _, text = line.partition("=")
        if key in (f"global.{name}", f"download.{name}", f"install.{name}"):
            value = text.strip().strip("'\"")
    return value or None


def target_flags(machine):
    """Flags that make any pip choose the wheels of CPython 3.12 for this machine, whatever Python it runs under."""
    flags = ["--only-binary=:all:", "--python-version=3.12", "--implementation=cp", "--abi=cp312"]
    systems = [f"manylinux_2_{minor}" for minor in (28, 27, 25, 18, 17, 12, 5)]
    systems += ["manylinux2014", "manylinux2010", "manylinux1"]
    return flags + [f"--platform={system}_{machine}" for system in systems]


def wheel_url(project, version, machine):
    """The address of a wheel on pip's index, or None; asked of `pip index`, which downloads nothing."""
    listing = pip("index", "versions", project, *target_flags(machine), "-vv") or ""
    name = re.compile(rf"{project.replace('-', '_')}-{re.escape(version)}-(cp312-cp312|py3-none)-.*{machine}\.whl")
    for address in re.findall(r"(?:https?|file)://\S+", listing):
        address = address.partition("#")[0]
        if name.fullmatch(urllib.parse.unquote(address).rsplit("/", 1)[-1]) and "****" not in address:
            return address
    return None


def opener():
    """An opener that trusts the certificates and uses the proxy that pip is configured for."""
    certificates = pip_setting("cert") or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    folder = certificates if certificates and os.path.isdir(certificates) else None
    context = ssl.create_default_context(cafile=None if folder else certificates, capath=folder)
    proxy = pip_setting("proxy")
    proxies = urllib.request.ProxyHandler({"http": proxy, "https": proxy} if proxy else None)
    return urllib.request.build_opener(proxies, urllib.request.HTTPSHandler(context=context))


# --- a wheel at a distance --------------------------------------------------------------------------------------------


class RemoteFile(io.RawIOBase):
    """A file behind HTTP ranges, readable and seekable, that keeps on disk every block it fetched."""

    def __init__(self, url, path):
        super().__init__()
        self.url, self.path, self.position = url, path, 0
        self.web = opener()
        self.map_path = path.with_name(path.name + ".blocks")
        with self.ask(0, 1) as answer:
            ranges = answer.headers.get("Content-Range", "")
            self.size = int(ranges.rpartition("/")[2] if ranges else answer.headers["Content-Length"])
        self.count = -(-self.size // BLOCK)
        known = self.map_path.read_bytes() if path.exists() and self.map_path.exists() else b""
        fits = len(known) == self.count and path.stat().st_size == self.size
        self.blocks = bytearray(known if fits else bytes(self.count))
        self.file = open(path, "r+b" if fits else "w+b")
        self.file.truncate(self.size)

    def ask(self, start, end):
        """Open the address at bytes start..end."""
        headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity", "User-Agent": "llm-cxr-setup"}
        try:
            return self.web.open(urllib.request.Request(self.url, headers=headers), timeout=60)
        except urllib.error.HTTPError as error:
            if error.code in (408, 429) or error.code >= 500:
                raise
            raise Refused(f"the server answers {error.code} {error.reason}") from error

    def missing(self, start, end):
        """Runs of whole blocks, as block numbers, that cover bytes start..end and are not here yet."""
        runs = []
        for block in range(start // BLOCK, -(-min(end, self.size) // BLOCK)):
            if self.blocks[block]:
                continue
            if runs and runs[-1][1] == block:
                runs[-1][1] = block + 1
            else:
                runs.append([block, block + 1])
        return runs

    def fetch(self, start, end, progress=None):
        """Bring bytes start..end to the disk, trying again from where it broke off."""
        failures = 0
        while self.missing(start, end):
            first, last = self.missing(start, end)[0]
            before = sum(self.blocks)
            try:
                self.fetch_run(first, last, progress)
            except (OSError, urllib.error.URLError) as error:
                failures = 0 if sum(self.blocks) > before else failures + 1
                if failures >= ATTEMPTS:
                    raise Refused(f"the download keeps breaking off ({error})") from error
                time.sleep(min(2**failures, 30))
            finally:
                self.save()

    def fetch_run(self, first, last, progress):
        """One request for a run of blocks."""
        with self.ask(first * BLOCK, min(last * BLOCK, self.size)) as answer:
            if answer.status != 206:  # no ranges here: the whole file comes
                first, last = 0, self.count
            for block in range(first, last):
                length = min(BLOCK, self.size - block * BLOCK)
                data = answer.read(length)
                if len(data) != length:
                    raise OSError("the connection closed early")
                self.file.seek(block * BLOCK)
                self.file.write(data)
                if progress and not self.blocks[block]:
                    progress.add(length)
                self.blocks[block] = 1
                if block % 16 == 15:
                    self.save()

    def save(self):
        """Write down which blocks are here, after the blocks themselves."""
        self.file.flush()
        self.map_path.write_bytes(self.blocks)

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=io.SEEK_SET):
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        self.position = base + offset
        return self.position

    def tell(self):
        return self.position

    def readinto(self, buffer):
        end = min(self.position + len(buffer), self.size)
        if end <= self.position:
            return 0
        self.fetch(self.position, end)
        self.file.seek(self.position)
        count = self.file.readinto(memoryview(buffer)[: end - self.position])
        self.position += count
        return count

    def close(self):
        if not self.closed:
            self.file.close()
        super().close()


# --- taking what is needed --------------------------------------------------------------------------------------------


def wanted(name, keep):
    """Where a member of a wheel goes (relative path), or None."""
    if name.endswith("/"):
        return None
    for pattern, folder in keep.items():
        if fnmatch.fnmatchcase(name, pattern):
            inside = name[len(pattern) - 1 :] if pattern.endswith("/*") else name.rsplit("/", 1)[-1]
            return f"{folder}/{inside}"
    found = re.match(r"([^/]+)\.dist-info/(?:licenses/)?([^/]*(?:LICEN[CS]E|NOTICE)[^/]*)$", name, re.IGNORECASE)
    return f"licences/{found[1]}/{found[2]}" if found else None


def take(archive, source, title, record_sha256, keep, folder):
    """Extract and check the wanted members of an open wheel; `source` is its RemoteFile, or None for a file at hand."""
    record_name = next(name for name in archive.namelist() if name.endswith(".dist-info/RECORD"))
    record = archive.read(record_name)
    found = hashlib.sha256(record).hexdigest()
    if found != record_sha256:
        sys.exit(f"{title} is not the file this project was tested with (RECORD has sha256 {found}); nothing installed")
    expected = {row[0]: row[1] for row in csv.reader(io.StringIO(record.decode())) if row}
    chosen = [(info, wanted(info.filename, keep)) for info in archive.infolist()]
    chosen = [(info, place) for info, place in chosen if place]
    for pattern in keep:
        if not any(fnmatch.fnmatchcase(info.filename, pattern) for info, _ in chosen):
            sys.exit(f"{title} holds no {pattern}")
    if source:
        # A member's local header may be longer than its central one: leave room for it.
        spans = [(info.header_offset, info.header_offset + info.compress_size + 1024) for info, _ in chosen]
        blocks = {block for span in spans for first, last in source.missing(*span) for block in range(first, last)}
        if blocks:
            progress = Progress(title, sum(min(BLOCK, source.size - block * BLOCK) for block in blocks))
            for span in spans:
                source.fetch(*span, progress)
    for info, place in chosen:
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with archive.open(info) as member, open(path, "wb") as out:
            for piece in iter(lambda: member.read(BLOCK), b""):
                digest.update(piece)
                out.write(piece)
        sha256 = "sha256=" + base64.urlsafe_b64encode(digest.digest()).decode().rstrip("=")
        if sha256 != expected.get(info.filename):
            raise zipfile.BadZipFile(f"{info.filename} of {title} does not have the sha256 that its RECORD lists")


def bring(entry, machine, downloads, folder, keep_wheels):
    """Bring one wheel's wanted members into `folder`: over ranges where the server allows, else as pip does."""
    project, version, record_sha256, keep = entry
    title = f"{project}-{version}"
    partial = downloads / f"{title}-{machine}.partial"
    litter = [partial, partial.with_name(partial.name + ".blocks")]
    try:
        url = wheel_url(project, version, machine)
        if url is None:
            raise Refused("pip's index does not show its address")
        if url.startswith("file://"):
            with zipfile.ZipFile(urllib.request.url2pathname(urllib.parse.urlsplit(url).path)) as archive:
                return take(archive, None, title, record_sha256, keep, folder)
        with RemoteFile(url, partial) as source, zipfile.ZipFile(io.BufferedReader(source, BLOCK)) as archive:
            take(archive, source, title, record_sha256, keep, folder)
    except (zipfile.BadZipFile, zlib.error) as error:
        for path in litter:
            path.unlink(missing_ok=True)
        sys.exit(f"the download of {title} is damaged ({error}); it was thrown away, run this again")
    except (Refused, OSError) as error:
        say(f"  {title}: {error}; leaving the download to pip")
        whole = downloads / f"{title}-{machine}"
        arguments = ["--no-deps", f"--dest={whole}", *target_flags(machine), f"{project}=={version}"]
        if pip("download", *arguments, quiet=False) is None:
            sys.exit(f"pip could not bring {title} (its own words are above): is there a network, or a mirror?")
        litter.append(whole)
        with zipfile.ZipFile(next(whole.glob("*.whl"))) as archive:
            take(archive, None, title, record_sha256, keep, folder)
    if not keep_wheels:
        for path in litter:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


# --- the cache --------------------------------------------------------------------------------------------------------


def cache_folder():
    """The cache, made if needed: the user's, or the project's own where the home cannot be written."""
    chosen = os.environ.get("LLM_CXR_CACHE")
    if chosen:
        candidates = [Path(chosen)]
    else:
        base = os.environ.get("XDG_CACHE_HOME")
        candidates = [(Path(base) if base else Path.home() / ".cache") / "llm-cxr", PROJECT / ".cache"]
    for candidate in candidates:
        try:
            candidate.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=candidate):
                return candidate.resolve()
        except OSError as error:
            reason = error
    sys.exit(f"no cache folder can be written ({reason}); set LLM_CXR_CACHE to one that can")


def is_whole(folder):
    """Whether a folder of ours is complete: its stamp lists every library with its size."""
    try:
        stamp = json.loads((folder / "complete.json").read_text())
        return stamp["version"] == VERSION and all(
            (folder / path).stat().st_size == size for path, size in stamp["files"].items()
        )
    except (OSError, ValueError, KeyError):
        return False


def check_given(folder):
    """Exit unless a folder that the user names is a libtorch of the right version."""
    try:
        version = (folder / "build-version").read_text().strip()
    except OSError:
        sys.exit(f"LIBTORCH={folder} has no build-version: is it a libtorch folder (lib/, include/, build-version)?")
    if version.partition("+")[0] != VERSION:
        sys.exit(f"LIBTORCH={folder} is libtorch {version}; needed is {VERSION}. Unset LIBTORCH to have it brought")
    for part in ("lib/libtorch_cpu.so", "lib/libc10.so", "include/torch"):
        if not (folder / part).exists():
            sys.exit(f"LIBTORCH={folder} has no {part}")


def install(machine, kind, target, cache, keep_wheels):
    """Make `target` whole: built beside it, renamed into place."""
    downloads = cache / "downloads"
    downloads.mkdir(exist_ok=True)
    say(f"Bringing libtorch {VERSION} to {target} (once)")
    with tempfile.TemporaryDirectory(prefix=target.name + ".", dir=cache) as scratch:
        folder = Path(scratch) / "libtorch"
        for entry in wheels(machine, kind):
            bring(entry, machine, downloads, folder, keep_wheels)
        (folder / "build-version").write_text(VERSION + "\n")
        files = {str(path.relative_to(folder)): path.stat().st_size for path in sorted((folder / "lib").iterdir())}
        (folder / "complete.json").write_text(json.dumps({"version": VERSION, "files": files}, indent=1) + "\n")
        if target.exists():  # damaged since: out of the way first, for a rename cannot replace a folder
            target.rename(Path(scratch) / "damaged")
        folder.rename(target)
    if not any(downloads.iterdir()):
        downloads.rmdir()


def point(link, target):
    """Make `link` a symbolic link to `target`, at one stroke."""
    if link.is_dir() and not link.is_symlink():
        sys.exit(f"{link} is a folder, not the link this script makes; move it away, or name it in LIBTORCH")
    if link.is_symlink() and os.readlink(link) == str(target):
        return
    fresh = link.with_name(f"{link.name}.{os.getpid()}")
    fresh.symlink_to(target)
    fresh.replace(link)


def main():
    """Parse, call, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuda", action="store_true", help="with the CUDA libraries (about 4 GB)")
    parser.add_argument("--keep", action="store_true", help="keep what was downloaded after it was unpacked")
    parser.add_argument("--no-link", action="store_true", help="leave .libtorch alone")
    options = parser.parse_args()

    link = PROJECT / ".libtorch"
    given = os.environ.get("LIBTORCH")
    if given and Path(given).absolute() != link:
        check_given(Path(given))
        if not options.no_link:
            point(link, Path(given).resolve())
        print(given)
        return
    kind = "cuda" if options.cuda else "cpu"
    machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(platform.machine().lower(), platform.machine())
    if sys.platform != "linux" or machine not in ("x86_64", "aarch64"):
        sys.exit(
            f"no libtorch is pinned for {sys.platform} {machine} ({kind}); "
            f"install libtorch {VERSION} yourself and name its folder in LIBTORCH"
        )
    cache = cache_folder()
    target = cache / f"libtorch-{VERSION}-{kind}-{machine}"
    if not is_whole(target):
        with open(cache / "libtorch.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                say("Another run is bringing libtorch; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_whole(target):
                install(machine, kind, target, cache, options.keep)
    if not options.no_link and not options.cuda:
        point(link, target)
    print(target)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nStopped; what was downloaded is kept, run this again to go on")
