"""What scripts/compose-manifest.py makes of a small made-up folder. Offline; run by `make test`."""

import collections
import contextlib
import csv
import importlib.util
import io
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "compose-manifest.py"
spec = importlib.util.spec_from_file_location("compose_manifest", SCRIPT)
sys.dont_write_bytecode = True
compose_manifest = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compose_manifest)

HEADER = ("file", "split", "source", "licence", "view", "labels", "text", "patient")
ILL, WELL = "PNEUMONIA;bacteria", "NORMAL"


def row(name, labels=WELL, split="train", view="AP", text="", patient=None):
    return (name, split, "A. Source", "CC BY 4.0", view, labels, text, patient or name)


class Composing(unittest.TestCase):
    """A data folder in, a manifest out."""

    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.data, self.out = Path(scratch.name) / "data", Path(scratch.name) / "out"

    def compose(self, rows, *options, absent=()):
        """Runs the script on these rows; the manifest's rows."""
        for name in (r[0] for r in rows):
            if name not in absent:
                path = self.data / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"")
        with open(self.data / "manifest.csv", "w", newline="") as file:
            csv.writer(file).writerows((HEADER, *rows))
        with contextlib.redirect_stdout(io.StringIO()):
            compose_manifest.main([str(self.data), str(self.out), *options])
        with open(self.out / "real.csv", newline="") as file:
            return list(csv.DictReader(file))

    def cohort(self):
        """Three times as many ill as well children, and some adults."""
        children = [row(f"kermany/{i}.jpg", ILL if i % 4 else WELL) for i in range(800)]
        held_out = [row(f"kermany/v{i}.jpg", "PNEUMONIA;virus" if i % 2 else WELL, split="val") for i in range(40)]
        adults = [row(f"hannover/{i}.jpg", "cohort:COVID-19", view="PA") for i in range(20)]
        return children + held_out + adults

    def test_the_same_data_give_the_same_bytes_and_another_image_does_not_change_the_words_of_the_rest(self):
        first = self.compose(self.cohort())
        self.assertEqual(first, self.compose(self.cohort()))
        more = self.compose([*self.cohort(), row("kermany/x.jpg", WELL)])
        reports = [{r["image"]: r["report"] for r in rows if r["report"]} for rows in (first, more)]
        self.assertEqual({k: v for k, v in reports[1].items() if "x.jpg" not in k}, reports[0])

    def test_every_image_has_one_row_without_question_and_its_path_leads_to_the_file(self):
        rows = self.compose(self.cohort())
        firsts = [r["image"] for r in rows if not r["question"]]
        self.assertEqual(len(firsts), 860)
        self.assertEqual(len(set(firsts)), 860)
        self.assertTrue(all((self.out / r["image"]).is_file() for r in rows))
        moved = self.compose(self.cohort(), "--absolute")
        self.assertTrue(all(Path(r["image"]).is_absolute() and Path(r["image"]).is_file() for r in moved))

    def test_yes_and_no_are_as_frequent_for_every_question_on_pneumonia(self):
        answers = collections.defaultdict(collections.Counter)
        for r in self.compose(self.cohort()):
            if r["split"] == "train":
                answers[r["question"]][r["answer"]] += 1
        asked = [q for q, _ in compose_manifest.PNEUMONIA + compose_manifest.CLEAR]
        for question in asked:
            yes, no = answers[question]["Yes."], answers[question]["No."]
            self.assertGreater(yes + no, 20, question)
            # Four standard deviations of a fair coin.
            self.assertLess(abs(yes - no), 4 * (yes + no) ** 0.5, question)
        # 200 well children, five questions each.
        self.assertLess(abs(sum(answers[q]["No."] + answers[q]["Yes."] for q in asked) - 2000), 200)

    def test_answers_follow_the_label(self):
        truth = {"Is there pneumonia?": ("Yes.", "No."), "Are the lungs clear?": ("No.", "Yes.")}
        seen = collections.Counter()
        for r in self.compose(self.cohort()):
            if r["question"] in truth:
                ill = "No Finding=0" in r["labels"]
                self.assertEqual(r["answer"], truth[r["question"]][0 if ill else 1])
                seen[r["question"], ill] += 1
        self.assertEqual(len(seen), 4)

    def test_reports_say_the_label_and_no_side_or_size(self):
        wordings = set()
        for r in self.compose(self.cohort()):
            if r["report"]:
                self.assertRegex(r["report"], r"^FINDINGS: .+\. IMPRESSION: .+\.$")
                self.assertNotRegex(r["report"].lower(), r"\b(left|right|upper|lower|small|large|mild|severe|effusion|heart)\b")
                impression = r["report"].partition("IMPRESSION: ")[2]
                self.assertEqual("No Finding=0" not in r["labels"], "normal" in impression.lower() or "No " in impression
                                 or "Unremarkable" in impression)
                self.assertEqual(r["origin"], "composed from labels")
                wordings.add(r["report"])
        self.assertGreater(len(wordings), 40)

    def test_a_cohort_is_no_finding_and_a_caption_stays_as_it_is(self):
        caption = "Hazy infiltrates in both lung fields."
        rows = self.compose([
            row("hannover/a.jpg", "cohort:COVID-19"),
            row("hannover/b.jpg", "COVID-19"),
            row("hannover/c.jpg", "No Finding", view="PA"),
            row("journal/d.jpg", "COVID-19", text=caption),
        ])
        by_image = {Path(r["image"]).name: r for r in rows if not r["question"]}
        self.assertEqual((by_image["a.jpg"]["report"], by_image["a.jpg"]["labels"]), ("", ""))
        self.assertEqual((by_image["b.jpg"]["report"], by_image["b.jpg"]["labels"]), ("", ""))
        self.assertEqual(by_image["c.jpg"]["labels"], "No Finding;Pneumonia=0")
        self.assertEqual((by_image["d.jpg"]["report"], by_image["d.jpg"]["origin"]), (caption, "caption as published"))
        self.assertNotIn("COVID", "".join(",".join(r.values()) for r in rows))
        readme = (self.out / "README.md").read_text()
        self.assertIn("names the patient's cohort, not what the picture shows (first: hannover/a.jpg)", readme)

    def test_splits_are_kept_and_the_readme_says_what_was_composed_and_skipped(self):
        rows = self.compose([
            row("kermany/a.jpg"), row("kermany/b.jpg", ILL, split="val"), row("kermany/c.jpg", split="holdout"),
            row("kermany/d.jpg"), row("elsewhere/e.jpg"), row("kermany/a.jpg"),
        ], absent=("kermany/d.jpg",))
        self.assertEqual({(Path(r["image"]).name, r["split"]) for r in rows}, {("a.jpg", "train"), ("b.jpg", "validate")})
        readme = (self.out / "README.md").read_text()
        for text in ("Composed from labels", "1: image: split is not train, val or test", "file is missing (first: kermany/d.jpg)",
                     "listed twice", "does not know (first: elsewhere/e.jpg)", "2 images: A. Source, CC BY 4.0"):
            self.assertIn(text, readme)

    def test_a_patient_in_two_splits_and_other_columns_are_errors(self):
        with self.assertRaisesRegex(SystemExit, "line 3: the patient is in split val, by line 2 in train"):
            self.compose([row("kermany/a.jpg", patient="p"), row("kermany/b.jpg", split="val", patient="p")])
        (self.data / "manifest.csv").write_text("image,words\na.jpg,x\n")
        with self.assertRaisesRegex(SystemExit, "lacks the columns file, .* it has image, words"):
            compose_manifest.main([str(self.data), str(self.out)])
        with self.assertRaisesRegex(SystemExit, "cannot be read .* give the folder"):
            compose_manifest.main([str(self.data / "nowhere"), str(self.out)])


if __name__ == "__main__":
    unittest.main()
