#!/usr/bin/env python3
"""Gather what the licences of the dependencies ask to be handed on with the binaries.

    scripts/notices.py --out FOLDER            for the binaries and libtorch (CPU)
    scripts/notices.py --out FOLDER --cuda     with the CUDA libraries

Two files are written: THIRD-PARTY.txt, with the name, version and licence of each crate that is linked into the
binaries and the texts that lie in its source (those of C code that it brings included), and sbom.cdx.json, a list of
the same for scanners (CycloneDX 1.5), with what scripts/libtorch.py brings beside the binaries. The texts of the
latter are in its own folder, `licences`. The same sources give the same files.

cargo must find the sources of the crates, as after a build. Python 3.9 or newer is all else it needs.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent

# Names of files that hold licences and notices, whatever comes behind; not code about licences.
TEXT = re.compile(
    r"(licen[cs]es?|copying|copyright|notices?|unlicen[cs]e|patents|third.?party.*|readme[-._]ijg)([-._].*)?", re.IGNORECASE
)
CODE = {".rs", ".py", ".c", ".cc", ".h", ".hpp", ".js", ".json", ".toml", ".yml", ".yaml", ".sh", ".html"}
# Largest file that is taken for a text.
LARGEST = 1 << 20
# A comment at the head of C code whose project has no file for it.
HEAD = re.compile(rb"/\*.*?\*/|(?:^[ \t]*//[^\n]*\n)+", re.DOTALL | re.MULTILINE)
SOURCE = {".c", ".cc", ".cpp", ".h", ".hpp"}
GRANT = re.compile(rb"permission is (hereby )?granted|redistribution and use", re.IGNORECASE)


def cargo_metadata(*more):
    """What cargo says of this project's packages for the machine that this runs on."""
    version = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    host = next(line.split(": ")[1] for line in version.splitlines() if line.startswith("host: "))
    cargo = os.environ.get("CARGO", "cargo")
    command = [cargo, "metadata", "--format-version=1", "--locked", f"--filter-platform={host}", *more]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=PROJECT)
    return json.loads(told.stdout)


def linked(metadata):
    """The project's own package, and those that its binaries are made of, by name and version.

    Macros are among them, as what they write is in the binaries; what only builds or tests need is left out.
    """
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    needed, ahead = {}, [root]
    while ahead:
        name = ahead.pop()
        if name in needed:
            continue
        needed[name] = sorted(
            edge["pkg"] for edge in nodes[name]["deps"] if any(kind["kind"] is None for kind in edge["dep_kinds"])
        )
        ahead.extend(needed[name])
    own = packages[root]
    others = [packages[name] for name in needed if name != root]
    return own, sorted(others, key=lambda package: (package["name"], package["version"])), needed


def expression(package):
    """The licence as SPDX writes it: a slash is an old way to say OR."""
    licence = package.get("license")
    return " OR ".join(part.strip() for part in licence.split("/")) if licence else None


def decoded(data):
    text = data.decode("utf-8", "replace").replace("\r\n", "\n")
    return "\n".join(line.rstrip() for line in text.strip("\n").split("\n"))


def texts(folder, named=None):
    """The texts in a crate's source, each once: [(path within it, text)]. `named` is the file that its manifest names."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size <= LARGEST)
    chosen = [path for path in paths if TEXT.fullmatch(path.name) and path.suffix.lower() not in CODE]
    if named and (folder / named).is_file() and folder / named not in chosen:
        chosen.append(folder / named)
    found, seen = [], set()

    def take(path, text):
        if text.strip() and text not in seen:
            seen.add(text)
            found.append((path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name, text))

    for path in chosen:
        take(path, decoded(path.read_bytes()))
    # C code that was copied in says at its head by which terms, if nothing beside it does.
    covered = {path.parent for path in chosen if path.parent != folder}
    for path in paths:
        if path.suffix.lower() in SOURCE and not covered.intersection(path.parents):
            head = HEAD.search(path.read_bytes()[:16384])
            if head and head.start() < 200 and GRANT.search(head.group()):
                take(path, decoded(head.group()))
    return found


def standard_library():
    """Rust's own library, which is linked too: (version, texts), with such texts as the toolchain has."""
    run = lambda *command: subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    folder = Path(run("rustc", "--print", "sysroot")) / "share" / "doc" / "rust"
    found = []
    for name in ("COPYRIGHT", "LICENSE-MIT", "LICENSE-APACHE", "licenses/MIT.txt", "licenses/Apache-2.0.txt", "COPYRIGHT-library.html"):
        if (folder / name).is_file():
            found.append((name, decoded((folder / name).read_bytes())))
    return run("rustc", "--version").split()[1], found


def third_party(own, entries):
    """The file of notices. An entry is (name, version, licence, from whom, [(path, text)])."""
    numbers, users, lines = {}, {}, []
    # Its terms ask for this sentence, and not for the text.
    ijg = any("IJG" in (licence or "") for _, _, licence, _, _ in entries)
    for name, version, licence, origin, found in entries:
        lines.append(f"{name} {version}: {licence or 'no licence named'}")
        for path, text in found:
            number = numbers.setdefault(text, len(numbers) + 1)
            users.setdefault(number, []).append(f"{name} {version} ({path})")
        told = sorted({numbers[text] for _, text in found})
        lines.append("    " + (f"texts {', '.join(map(str, told))}" if told else f"brings no text; by {origin or 'authors who are not named'}"))
    out = [
        f"What the binaries of {own['name']} {own['version']} are made of beside their own code, and by which terms.",
        "Of terms that are joined by OR any may be chosen. The texts follow, each once, with the packages whose source holds them.",
        *(["This software is based in part on the work of the Independent JPEG Group."] if ijg else []),
        "",
        *lines,
    ]
    for text, number in numbers.items():
        out += ["", "=" * 80, f"Text {number}, in"]
        out += [f"    {user}" for user in users[number]]
        out += ["=" * 80, "", text]
    return "\n".join(out) + "\n"


def checksums(lock):
    """SHA-256 of each package's archive, by name and version, from the text of Cargo.lock."""
    found = {}
    for block in lock.split("[[package]]")[1:]:
        values = dict(re.findall(r'^(name|version|checksum) = "([^"]*)"$', block, re.MULTILINE))
        if "checksum" in values:
            found[values["name"], values["version"]] = values["checksum"]
    return found


def bill(own, packages, needed, hashes, wheels):
    """The list for scanners, as CycloneDX 1.5 writes it."""
    purl = lambda package: f"pkg:cargo/{package['name']}@{package['version']}"
    reference = {package["id"]: purl(package) for package in [own, *packages]}

    def component(package, kind):
        entry = {
            "type": kind,
            "bom-ref": purl(package),
            "name": package["name"],
            "version": package["version"],
            "purl": purl(package),
        }
        if expression(package):
            entry["licenses"] = [{"expression": expression(package)}]
        if (package["name"], package["version"]) in hashes:
            entry["hashes"] = [{"alg": "SHA-256", "content": hashes[package["name"], package["version"]]}]
        return entry

    brought = []
    for name, version in wheels:
        where = f"pkg:pypi/{name}@{version}"
        brought.append({"type": "library", "bom-ref": where, "name": name, "version": version, "purl": where})
    depends = [
        {"ref": reference[name], "dependsOn": sorted({reference[other] for other in others})} for name, others in needed.items()
    ]
    depends.sort(key=lambda entry: entry["ref"])
    for entry in depends:
        if entry["ref"] == purl(own):
            entry["dependsOn"] += [wheel["bom-ref"] for wheel in brought]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(own, "application")},
        "components": [component(package, "library") for package in packages] + brought,
        "dependencies": depends,
    }


def wheels(kind):
    """What scripts/libtorch.py brings: [(project, version)]."""
    spec = importlib.util.spec_from_file_location("libtorch", PROJECT / "scripts" / "libtorch.py")
    sys.dont_write_bytecode = True
    libtorch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(libtorch)
    return [(project, version) for project, version, _, _ in libtorch.wheels(platform.machine(), kind)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--cuda", action="store_true", help="list the CUDA libraries too")
    args = parser.parse_args()
    own, packages, needed = linked(cargo_metadata())
    entries = []
    for package in packages:
        found = texts(Path(package["manifest_path"]).parent, package.get("license_file"))
        origin = ", ".join([*package.get("authors", []), *filter(None, [package.get("repository")])])
        entries.append((package["name"], package["version"], expression(package), origin, found))
    version, found = standard_library()
    entries.append(("Rust standard library", version, "MIT OR Apache-2.0", "https://www.rust-lang.org", found))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "THIRD-PARTY.txt").write_text(third_party(own, entries), encoding="utf-8")
    hashes = checksums((PROJECT / "Cargo.lock").read_text(encoding="utf-8"))
    listed = bill(own, packages, needed, hashes, wheels("cuda" if args.cuda else "cpu"))
    (args.out / "sbom.cdx.json").write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")
    without = [f"{name} {version}" for name, version, _, _, found in entries if not found]
    print(f"{len(entries)} packages; without a text: {', '.join(without) or 'none'}", file=sys.stderr)


if __name__ == "__main__":
    main()
