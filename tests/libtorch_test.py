"""What scripts/libtorch.py does with a slow, broken or hostile source of wheels. Offline; run by `make test`."""

import base64
import contextlib
import hashlib
import http.server
import importlib.util
import io
import os
import sys
import tempfile
import threading
import unittest
import zipfile
from pathlib import Path
from unittest import mock

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "libtorch.py"
spec = importlib.util.spec_from_file_location("libtorch", SCRIPT)
sys.dont_write_bytecode = True
libtorch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(libtorch)

KEEP = {"torch/lib/libtorch_cpu.so": "lib", "torch/include/*": "include"}
MEMBERS = {
    "torch/lib/libtorch_python.so": os.urandom(3 << 20),
    "torch/lib/libtorch_cpu.so": os.urandom(2 << 20),
    "torch/_C.so": os.urandom(4 << 20),
    "torch/include/ATen/ATen.h": b"#pragma once\n",
    "torch-1.dist-info/licenses/LICENSE": b"as is\n",
}


def wheel(tampered=None):
    """A wheel's bytes and its RECORD's sha256; one member may differ from what RECORD says of it."""
    rows = []
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in MEMBERS.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            rows.append(f"{name},sha256={digest},{len(data)}\n")
            archive.writestr(name, data[::-1] if name == tampered else data)
        record = "".join(rows).encode()
        archive.writestr("torch-1.dist-info/RECORD", record)
    return out.getvalue(), hashlib.sha256(record).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves one file; may ignore ranges, break off after some bytes, or refuse."""

    def __init__(self, data, ranges=True, status=None, budget=None):
        self.data, self.ranges, self.status, self.budget, self.sent = data, ranges, status, budget, 0
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/torch.whl"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers GET with the server's file."""

    def do_GET(self):
        server = self.server
        if server.status:
            return self.send_error(server.status)
        start, end = 0, len(server.data)
        if server.ranges:
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            start, end = int(first), min(int(last) + 1, end)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(server.data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        for at in range(start, end, 1 << 16):
            piece = server.data[at : min(at + (1 << 16), end)]
            if server.budget is not None and server.sent + len(piece) > server.budget:
                server.budget = None
                return
            with contextlib.suppress(OSError):
                self.wfile.write(piece)
            server.sent += len(piece)

    def log_message(self, *_):
        """Keep the test output clean."""


class Bringing(unittest.TestCase):
    """One wheel, from a server on this machine."""

    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.downloads = Path(scratch.name) / "downloads"
        self.downloads.mkdir()
        self.folder = Path(scratch.name) / "libtorch"
        for patch in (
            mock.patch.object(libtorch, "say"),
            mock.patch.object(libtorch.Progress, "add"),
            mock.patch.object(libtorch, "pip_setting", return_value=None),
            mock.patch.object(libtorch.time, "sleep"),
        ):
            patch.start()
            self.addCleanup(patch.stop)

    def bring(self, server, record, pip=None):
        """Bring the wheel as the script would."""
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        with mock.patch.object(libtorch, "wheel_url", return_value=server.url), mock.patch.object(libtorch, "pip", pip):
            libtorch.bring(("torch", "1", record, KEEP), "x86_64", self.downloads, self.folder, False)

    def assert_whole(self):
        """Everything wanted is there, equal, and nothing else."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        files = {str(path.relative_to(self.folder)): path.read_bytes() for path in files}
        self.assertEqual(
            files,
            {
                "lib/libtorch_cpu.so": MEMBERS["torch/lib/libtorch_cpu.so"],
                "include/ATen/ATen.h": MEMBERS["torch/include/ATen/ATen.h"],
                "licences/torch-1/LICENSE": MEMBERS["torch-1.dist-info/licenses/LICENSE"],
            },
        )
        self.assertEqual(list(self.downloads.iterdir()), [])

    def test_only_the_needed_part_of_a_wheel_is_fetched(self):
        data, record = wheel()
        server = Server(data)
        self.bring(server, record)
        self.assert_whole()
        self.assertLess(server.sent, 6 << 20)

    def test_a_download_that_breaks_off_goes_on_where_it_stopped(self):
        data, record = wheel()
        server = Server(data, budget=3 << 20)
        self.bring(server, record)
        self.assert_whole()
        self.assertLess(server.sent, 8 << 20)

    def test_a_later_run_does_not_fetch_again_what_an_earlier_one_brought(self):
        data, record = wheel()
        first = Server(data)
        self.addCleanup(first.server_close)
        self.addCleanup(first.shutdown)
        partial = self.downloads / "torch-1-x86_64.partial"
        with libtorch.RemoteFile(first.url, partial) as source:
            source.fetch(0, len(data))
        second = Server(data)
        self.bring(second, record)
        self.assert_whole()
        self.assertEqual(second.sent, 1)

    def test_a_server_without_ranges_serves_too(self):
        data, record = wheel()
        self.bring(Server(data, ranges=False), record)
        self.assert_whole()

    def test_a_refused_download_is_left_to_pip(self):
        data, record = wheel()

        def pip(*arguments, quiet=True):
            folder = Path(next(a for a in arguments if a.startswith("--dest=")).removeprefix("--dest="))
            folder.mkdir()
            (folder / "torch-1-cp312-cp312-manylinux_2_28_x86_64.whl").write_bytes(data)
            return ""

        self.bring(Server(data, status=403), record, pip)
        self.assert_whole()

    def test_another_wheel_than_the_pinned_one_is_refused(self):
        data, _ = wheel()
        with self.assertRaisesRegex(SystemExit, "not the file this project was tested with"):
            self.bring(Server(data), "0" * 64)

    def test_a_member_that_differs_from_its_record_is_refused_and_thrown_away(self):
        data, record = wheel(tampered="torch/lib/libtorch_cpu.so")
        with self.assertRaisesRegex(SystemExit, "libtorch_cpu.so .* does not have the sha256"):
            self.bring(Server(data), record)
        self.assertEqual(list(self.downloads.iterdir()), [])


class Cache(unittest.TestCase):
    """The folder in the cache and the link to it."""

    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = Path(scratch.name)

    def test_a_library_of_another_size_makes_the_folder_damaged(self):
        target = self.scratch / "libtorch"

        def bring(entry, machine, downloads, folder, keep_wheels):
            (folder / "lib").mkdir(parents=True, exist_ok=True)
            (folder / "lib" / "libc10.so").write_bytes(b"12345")

        with mock.patch.object(libtorch, "bring", bring), mock.patch.object(libtorch, "say"):
            libtorch.install("x86_64", "cpu", target, self.scratch, False)
            self.assertTrue(libtorch.is_whole(target))
            (target / "lib" / "libc10.so").write_bytes(b"123")
            self.assertFalse(libtorch.is_whole(target))
            libtorch.install("x86_64", "cpu", target, self.scratch, False)
            self.assertTrue(libtorch.is_whole(target))
        self.assertEqual([path.name for path in self.scratch.iterdir()], ["libtorch"])

    def test_a_given_libtorch_of_another_version_is_named(self):
        (self.scratch / "build-version").write_text("2.4.0+cpu\n")
        with self.assertRaisesRegex(SystemExit, "is libtorch 2.4.0"):
            libtorch.check_given(self.scratch)

    def test_the_link_moves_to_a_new_folder_and_never_replaces_a_real_one(self):
        link = self.scratch / ".libtorch"
        libtorch.point(link, self.scratch / "one")
        libtorch.point(link, self.scratch / "two")
        self.assertEqual(os.readlink(link), str(self.scratch / "two"))
        (self.scratch / "folder").mkdir()
        with self.assertRaises(SystemExit):
            libtorch.point(self.scratch / "folder", self.scratch / "two")


if __name__ == "__main__":
    unittest.main()
