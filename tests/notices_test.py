"""What scripts/notices.py takes for licences, and what it makes of them. Offline; run by `make test`."""

import importlib.util
import json
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "notices.py"
spec = importlib.util.spec_from_file_location("notices", SCRIPT)
sys.dont_write_bytecode = True
notices = importlib.util.module_from_spec(spec)
spec.loader.exec_module(notices)

GRANT = "Permission is hereby granted, free of charge"


def package(name, version="1.0.0", licence="MIT"):
    return {"id": f"registry#{name}@{version}", "name": name, "version": version, "license": licence}


def edge(name, *kinds):
    return {"pkg": f"registry#{name}@1.0.0", "dep_kinds": [{"kind": kind} for kind in kinds]}


class Texts(unittest.TestCase):
    def found(self, files, named=None):
        with tempfile.TemporaryDirectory() as folder:
            for path, text in files.items():
                path = Path(folder, path)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return notices.texts(Path(folder), named)

    def test_licences_and_notices_are_found_at_any_depth_and_code_about_licences_is_none(self):
        names = ["LICENSE", "LICENSE-MIT.md", "COPYING", "NOTICE.txt", "vendor/jpeg/README.ijg", "vendor/zip/license.txt"]
        files = {name: f"text of {name}" for name in names}
        others = {"src/license.rs": "fn f() {}", "README.md": "licence: MIT", "src/copying_things.c": "int f;"}
        self.assertEqual(dict(self.found({**files, **others})), files)

    def test_a_text_that_lies_there_twice_is_taken_once(self):
        found = self.found({"LICENSE": "the same\r\n", "vendor/LICENSE": "the same\n"})
        self.assertEqual(found, [("LICENSE", "the same")])

    def test_the_file_that_the_manifest_names_is_taken_whatever_its_name(self):
        self.assertEqual(self.found({"terms.txt": "these"}, "terms.txt"), [("terms.txt", "these")])
        self.assertEqual(self.found({}, "terms.txt"), [])

    def test_c_code_that_was_copied_in_without_a_file_of_its_terms_tells_them_at_its_head(self):
        head = f"/*\n * {GRANT}\n */"
        found = self.found({"LICENSE": "ours", "src/copied.hpp": f"{head}\nint f();\n", "src/own.c": "/* ours */\nint g();\n"})
        self.assertEqual(found, [("LICENSE", "ours"), ("src/copied.hpp", head)])
        found = self.found({"vendor/COPYING": "theirs", "vendor/src/copied.c": f"{head}\nint f;\n"})
        self.assertEqual(found, [("vendor/COPYING", "theirs")], "its project's file says it for all of it")


class Linked(unittest.TestCase):
    def test_what_only_builds_or_tests_need_is_left_out(self):
        names = ["own", "linked", "deeper", "builds", "tests", "both"]
        edges = {
            "own": [edge("linked", None), edge("builds", "build"), edge("tests", "dev"), edge("both", "dev", None)],
            "linked": [edge("deeper", None)],
            "builds": [edge("tests", None)],
        }
        metadata = {
            "packages": [package(name) for name in names],
            "resolve": {
                "root": package("own")["id"],
                "nodes": [{"id": package(name)["id"], "deps": edges.get(name, [])} for name in names],
            },
        }
        own, packages, needed = notices.linked(metadata)
        self.assertEqual(own["name"], "own")
        self.assertEqual([one["name"] for one in packages], ["both", "deeper", "linked"])
        self.assertEqual(needed[own["id"]], [package("both")["id"], package("linked")["id"]])


class ThirdParty(unittest.TestCase):
    OWN = {"name": "own", "version": "0.1.0"}

    def test_each_text_stands_once_with_all_whose_it_is_and_who_brings_none_is_named_with_the_licence(self):
        entries = [
            ("a", "1.0.0", "MIT", "", [("LICENSE", "shared text")]),
            ("b", "2.0.0", "MIT OR Apache-2.0", "", [("LICENSE-MIT", "shared text"), ("NOTICE", "b's own")]),
            ("c", "3.0.0", "BSD-2-Clause", "C. Author", []),
        ]
        told = notices.third_party(self.OWN, entries)
        self.assertEqual(told.count("shared text"), 1)
        self.assertIn("a 1.0.0: MIT\n    texts 1\n", told)
        self.assertIn("b 2.0.0: MIT OR Apache-2.0\n    texts 1, 2\n", told)
        self.assertIn("c 3.0.0: BSD-2-Clause\n    brings no text; by C. Author\n", told)
        self.assertIn("Text 1, in\n    a 1.0.0 (LICENSE)\n    b 2.0.0 (LICENSE-MIT)\n", told)
        self.assertNotIn("Independent JPEG Group", told)

    def test_the_sentence_that_the_independent_jpeg_group_asks_for_is_there_where_its_code_is(self):
        told = notices.third_party(self.OWN, [("jpeg", "1.0.0", "IJG AND Zlib", "", [])])
        self.assertIn("based in part on the work of the Independent JPEG Group.", told)


class Bill(unittest.TestCase):
    def test_components_have_licences_addresses_and_the_checksums_of_the_lock_file(self):
        own, one = package("own"), package("one", licence="MIT/Apache-2.0")
        lock = '[[package]]\nname = "own"\nversion = "1.0.0"\n\n[[package]]\nname = "one"\nversion = "1.0.0"\nchecksum = "ab12"\n'
        needed = {own["id"]: [one["id"]], one["id"]: []}
        bill = notices.bill(own, [one], needed, notices.checksums(lock), [("torch", "2.11.0")])
        self.assertEqual((bill["bomFormat"], bill["specVersion"]), ("CycloneDX", "1.5"))
        crate, wheel = bill["components"]
        self.assertEqual(crate["purl"], "pkg:cargo/one@1.0.0")
        self.assertEqual(crate["licenses"], [{"expression": "MIT OR Apache-2.0"}])
        self.assertEqual(crate["hashes"], [{"alg": "SHA-256", "content": "ab12"}])
        self.assertEqual(wheel["purl"], "pkg:pypi/torch@2.11.0")
        depends = {entry["ref"]: entry["dependsOn"] for entry in bill["dependencies"]}
        self.assertEqual(depends["pkg:cargo/own@1.0.0"], ["pkg:cargo/one@1.0.0", "pkg:pypi/torch@2.11.0"])
        json.dumps(bill)

    def test_every_crate_of_the_real_lock_file_but_our_own_has_a_checksum(self):
        lock = (notices.PROJECT / "Cargo.lock").read_text()
        names = [block.split('"')[1] for block in lock.split("[[package]]")[1:]]
        hashes = notices.checksums(lock)
        self.assertEqual(len(hashes), len(names) - 1)
        self.assertTrue(all(len(checksum) == 64 for checksum in hashes.values()))


if __name__ == "__main__":
    unittest.main()
