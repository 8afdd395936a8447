#!/usr/bin/env python3
"""Makes a manifest that llm-cxr-train reads from real radiographs that carry labels only.

    scripts/compose-manifest.py ../shared/data/cxr runs/real

DATA_DIR holds `manifest.csv` (file, split, source, licence, view, labels, text, patient) and the images it names. OUT_DIR gets
`real.csv`, one row for each image and one more for each further question, and `README.md`, which says what was composed, what was
skipped and why, and whose images these are. Reports and answers are composed from labels: no radiologist wrote them. They say what
the label says and nothing else: no side, no zone, no severity. Splits are taken over; a patient in two splits is an error. The same
data give the same bytes.
"""

import argparse
import collections
import csv
import hashlib
import os
import pathlib
import random
import sys

SPLITS = {"train": "train", "val": "validate", "validate": "validate", "test": "test"}
COLUMNS = ("image", "split", "patient", "view", "labels", "report", "question", "answer", "origin")
COMPOSED = "composed from labels"
CAPTION = "caption as published"

# What the labels of a folder mean. Only the paediatric set says of each picture what it shows; "cohort" and a virus's name tell of
# the patient.
FOLDERS = {"kermany": "child", "kermany224": "child", "hannover": "adult", "journal": "adult"}

# (question, weight): what is asked often is what other programs will ask.
PNEUMONIA = (
    ("Is there pneumonia?", 3),
    ("Does this radiograph show pneumonia?", 2),
    ("Does the image show pneumonia?", 2),
    ("Can pneumonia be seen?", 2),
    ("Is pneumonia present?", 1),
    ("Are there signs of pneumonia?", 1),
    ("Is there evidence of pneumonia?", 1),
    ("Does this chest X-ray show pneumonia?", 1),
    ("Is this pneumonia?", 1),
    ("Is this radiograph abnormal?", 1),
    ("Is there a lung infection?", 1),
)
CLEAR = (
    ("Are the lungs clear?", 3),
    ("Is this a normal chest radiograph?", 2),
    ("Is this chest X-ray normal?", 1),
    ("Do the lungs look clear?", 1),
    ("Are both lungs clear?", 1),
    ("Is the radiograph unremarkable?", 1),
    ("Is the chest free of pneumonia?", 1),
)
CAUSES = {
    "bacteria": ("Is this bacterial pneumonia?", "Is the pneumonia bacterial?", "Does the image suggest bacterial pneumonia?"),
    "virus": ("Is this viral pneumonia?", "Is the pneumonia viral?", "Does the image suggest viral pneumonia?"),
}
WHICH_CAUSE = ("Is the pneumonia bacterial or viral?", "What kind of pneumonia is this?", "What is the likely cause of the pneumonia?")
SHOWS = ("What does this radiograph show?", "What is the main finding?", "What is the diagnosis?", "What can be seen?")
AGE = ("Is this a child or an adult?", "Is the patient a child or an adult?", "How old is the patient: child or adult?")
CHILD = ("Is this a child?", "Is the patient a child?", "Is this a pediatric chest radiograph?")
ADULT = ("Is this an adult?", "Is the patient an adult?")
VIEW = ("Is this a PA or an AP view?", "What is the view?", "Which projection is this?")

TECHNIQUE = {
    ("child", "AP"): (
        "AP view of the chest of a child.",
        "Frontal AP radiograph of a pediatric chest.",
        "Single AP radiograph of the chest in a child.",
        "A frontal view of a child's chest, taken AP.",
    ),
    ("adult", "AP"): ("AP view of the chest.", "Single AP radiograph of the chest.", "Frontal AP radiograph of an adult chest."),
    ("adult", "PA"): ("PA view of the chest.", "Frontal PA view was obtained.", "Frontal PA radiograph of an adult chest."),
}
CLEAR_LUNGS = (
    "The lungs are clear.",
    "Both lungs are clear, without signs of pneumonia.",
    "No pneumonia is seen; the lungs are clear.",
    "The lungs are clear and there is no evidence of pneumonia.",
    "There are no signs of pneumonia in either lung.",
    "No abnormality of the lungs is seen.",
)
NORMAL = (
    "Normal chest radiograph.",
    "Unremarkable frontal chest radiograph.",
    "No radiographic evidence of acute disease.",
    "No acute cardiopulmonary abnormality.",
    "Normal chest. No pneumonia.",
    "No evidence of pneumonia.",
)
ILL_LUNGS = (
    "The lungs are not clear: there are changes in keeping with pneumonia.",
    "There are radiographic signs of pneumonia.",
    "The lungs show changes consistent with pneumonia.",
    "Pneumonic changes of the lungs are present.",
    "The appearance of the lungs is that of pneumonia.",
    "There is pulmonary disease consistent with pneumonia.",
)
PNEUMONIC = (
    "Pneumonia, {cause} in type.",
    "{Cause} pneumonia.",
    "Findings consistent with {cause} pneumonia.",
    "Pneumonia, most in keeping with a {cause} cause.",
    "Pneumonia of {cause} type.",
    "Appearance of {cause} pneumonia.",
)
CAUSE_WORD = {"bacteria": "bacterial", "virus": "viral"}


class Skips:
    """What is not used, by reason; the first place of each is kept."""

    def __init__(self):
        self.reasons = collections.OrderedDict()

    def add(self, reason, place):
        count, first = self.reasons.get(reason, (0, place))
        self.reasons[reason] = (count + 1, first)


class Image:
    """One row of the source: what is known of a picture."""

    def __init__(self, row, folder):
        self.file, self.split, self.patient = row["file"], SPLITS[row["split"]], row["patient"]
        self.folder, self.view, self.caption = folder, row["view"], row["text"].strip()
        self.source, self.licence = row["source"], row["licence"]
        self.age = FOLDERS[folder]
        given = [label.strip() for label in row["labels"].split(";") if label.strip()]
        self.given = given
        self.normal = "NORMAL" in given or "No Finding" in given
        self.pneumonia = "PNEUMONIA" in given
        self.cause = next((label for label in given if label in CAUSES), None)

    def kinds(self):
        """What questions tell apart."""
        shown = ["pneumonia"] if self.pneumonia else ["normal"] if self.normal else []
        return [self.age, *shown, *([self.cause] if self.cause else [])]

    def labels(self):
        """As `Name` and `Name=0`, under CheXpert's names where there is one."""
        if self.normal:
            return "No Finding;Pneumonia=0"
        if not self.pneumonia:
            return ""
        cause = {"bacteria": ";Bacterial Pneumonia;Viral Pneumonia=0", "virus": ";Bacterial Pneumonia=0;Viral Pneumonia"}
        return "Pneumonia;No Finding=0" + cause.get(self.cause, "")


def read(data, skips):
    """The usable images of the source, sorted by file name."""
    path = data / "manifest.csv"
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            missing = {"file", "split", "source", "licence", "view", "labels", "text", "patient"} - set(rows.fieldnames or ())
            if missing:
                sys.exit(f"{path} lacks the columns {', '.join(sorted(missing))}; it has {', '.join(rows.fieldnames or ())}")
            rows = list(enumerate(rows, 2))
    except OSError as error:
        sys.exit(f"{path} cannot be read ({error.strerror}); give the folder that holds manifest.csv and the images")
    images, patients, files = [], {}, set()
    for line, row in rows:
        if None in row.values() or None in row:
            skips.add("image: row with too few or too many fields", f"line {line}")
            continue
        folder = row["file"].partition("/")[0]
        if row["split"] not in SPLITS:
            skips.add("image: split is not train, val or test", f"line {line}")
        elif folder not in FOLDERS:
            skips.add("image: folder whose labels this script does not know", row["file"])
        elif row["file"] in files:
            skips.add("image: listed twice", row["file"])
        elif not (data / row["file"]).is_file():
            skips.add("image: file is missing", row["file"])
        else:
            split, first = patients.setdefault(row["patient"] or row["file"], (SPLITS[row["split"]], line))
            if split != SPLITS[row["split"]]:
                sys.exit(f"{path}, line {line}: the patient is in split {row['split']}, by line {first} in {split}; "
                         "a leak between splits makes every score worthless, so put all of a patient's images into one")
            files.add(row["file"])
            images.append(Image(row, folder))
    return sorted(images, key=lambda image: image.file)


def report(image, draw, skips):
    """(text, origin) of the image's report; both empty where the labels support none."""
    if image.caption:
        return " ".join(image.caption.split()), CAPTION
    if image.pneumonia and image.cause is None:
        skips.add("report: pneumonia without a cause, wording not known", image.file)
        return "", ""
    if not (image.pneumonia or image.normal):
        reason = "names the patient's cohort" if any(label.startswith("cohort:") for label in image.given) else "names a diagnosis"
        skips.add(f"report: the label {reason}, not what the picture shows", image.file)
        return "", ""
    technique = TECHNIQUE.get((image.age, image.view))
    findings = [draw.choice(technique)] if technique and draw.random() < 0.6 else []
    findings.append(draw.choice(ILL_LUNGS if image.pneumonia else CLEAR_LUNGS))
    if image.pneumonia:
        cause = CAUSE_WORD[image.cause]
        impression = draw.choice(PNEUMONIC).format(cause=cause, Cause=cause.capitalize())
    else:
        impression = draw.choice(NORMAL)
    return f"FINDINGS: {' '.join(findings)} IMPRESSION: {impression}", COMPOSED


def yes_no(yes):
    return "Yes." if yes else "No."


class Balance:
    """How often to ask about whom so that, within a split, each answer to a question is as frequent: the rarer kind is asked about
    more often. Kinds are compared in pairs."""

    def __init__(self, images):
        self.count = collections.Counter(kind for image in images for kind in image.kinds())

    def chance(self, kind, other, of_rarer=1.0):
        """The chance for an image of `kind`, if one of the rarer of both is asked about with chance `of_rarer`."""
        return of_rarer * min(1.0, self.count[other] / self.count[kind])

    def pneumonia(self, image, of_rarer):
        """For questions on pneumonia. A normal adult is counted with the normal children."""
        pair = ("pneumonia", "normal")
        return self.chance(*(pair if image.pneumonia else reversed(pair)), of_rarer)


def questions(image, draw, balance, often):
    """Pairs of question and answer that the labels support."""
    asked = []
    if image.pneumonia or image.normal:
        weights = sum(weight for _, weight in PNEUMONIA + CLEAR)
        for ill, group in ((True, PNEUMONIA), (False, CLEAR)):
            for question, weight in group:
                if draw.random() < balance.pneumonia(image, min(1.0, often * weight / weights)):
                    asked.append((question, yes_no(ill == image.pneumonia)))
        if draw.random() < balance.pneumonia(image, 0.8):
            cause = image.cause and CAUSE_WORD[image.cause]
            shown = f"{cause.capitalize()} pneumonia." if cause else "Pneumonia."
            asked.append((draw.choice(SHOWS), shown if image.pneumonia else "A normal chest."))
        if draw.random() < balance.pneumonia(image, 0.4):
            asked.append(("Which abnormalities are seen?", "Pneumonia." if image.pneumonia else "None."))
    if image.cause and draw.random() < balance.chance(image.cause, "virus" if image.cause == "bacteria" else "bacteria"):
        if draw.random() < 0.5:
            asked.append((draw.choice(WHICH_CAUSE), f"{CAUSE_WORD[image.cause].capitalize()}."))
        else:
            about = draw.choice(sorted(CAUSES))
            asked.append((draw.choice(CAUSES[about]), yes_no(about == image.cause)))
    child = image.age == "child"
    if draw.random() < balance.chance(image.age, "adult" if child else "child"):
        asked.append((draw.choice(AGE), "A child." if child else "An adult."))
        asked.append((draw.choice(CHILD), yes_no(child)))
        asked.append((draw.choice(ADULT), yes_no(not child)))
    if image.view in ("AP", "PA") and draw.random() < (0.2 if child else 1.0):
        asked.append((draw.choice(VIEW), f"{image.view}."))
    return asked


def compose(images, often, skips):
    """Rows of the manifest: the first of each image has its report."""
    by_split = collections.defaultdict(list)
    for image in images:
        by_split[image.split].append(image)
    balance = {split: Balance(members) for split, members in by_split.items()}
    for image in images:
        # Each image has a stream of its own, so that adding one does not change the words of the others.
        draw = random.Random(hashlib.sha256(image.file.encode()).digest())
        text, origin = report(image, draw, skips)
        pairs = questions(image, draw, balance[image.split], often)
        common = (image.split, image.patient, image.view, image.labels())
        yield image, (*common, text, "", "", origin)
        for question, answer in pairs:
            yield image, (*common, "", question, answer, COMPOSED)


def write_whole(path, text):
    """Replaces the file at once, so that nobody reads half of it."""
    half = path.with_name(path.name + ".partial")
    half.write_text(text, encoding="utf-8", newline="")
    half.replace(path)


def describe(images, rows, skips):
    """What README.md says."""
    lines = [
        "# Real radiographs for training",
        "",
        "`real.csv` was written by `scripts/compose-manifest.py`; `llm-cxr-train` reads it as a data set.",
        "",
        "**Composed from labels.** No radiologist wrote these reports and answers, except where the column `origin` says",
        f"`{CAPTION}`. They say what the label of the image says and nothing else: no side, no zone, no severity. A model that",
        "was trained on them must say so. The split `validate` is for measuring; training reads `train` alone.",
        "",
        "| split | folder | images | reports | questions | answered yes / no |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    counts = collections.defaultdict(collections.Counter)
    for image, (_, _, _, _, text, question, answer, _) in rows:
        count = counts[image.split, image.folder]
        count["image"] += not question
        count["report"] += bool(text)
        count["question"] += bool(question)
        count[answer] += 1
    for (split, folder), n in sorted(counts.items()):
        lines.append(f"| {split} | {folder} | {n['image']} | {n['report']} | {n['question']} | {n['Yes.']} / {n['No.']} |")
    lines += ["", "## Labels", ""]
    lines += [
        "`NORMAL` became `No Finding;Pneumonia=0`, `PNEUMONIA` became `Pneumonia;No Finding=0` with `Bacterial Pneumonia` and",
        "`Viral Pneumonia`. A cohort or the name of a virus is about the patient: it gives no label, report or yes/no question.",
        "Yes and no are balanced within each split by asking about the rarer kind of image more often.",
        "",
        "## Skipped",
        "",
    ]
    lines += [f"- {count}: {reason} (first: {place})" for reason, (count, place) in skips.reasons.items()] or ["Nothing."]
    lines += ["", "## Whose images", ""]
    owners = collections.Counter((image.source, image.licence) for image in images)
    lines += [f"- {count} images: {source}, {licence}" for (source, licence), count in sorted(owners.items())]
    return "\n".join(lines) + "\n"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=pathlib.Path, metavar="DATA_DIR", help="folder with manifest.csv and the images")
    parser.add_argument("out", type=pathlib.Path, metavar="OUT_DIR", help="folder for real.csv and README.md")
    parser.add_argument("--questions", type=int, default=5, metavar="N",
                        help="yes/no questions on pneumonia for each image of the rarer kind, on average (default 5); the other "
                        "kind gets as many in all")
    parser.add_argument("--absolute", action="store_true", help="name images by absolute path, so that real.csv may be moved")
    options = parser.parse_args(arguments)
    if options.questions < 0:
        parser.error("--questions must not be negative")
    skips = Skips()
    images = read(options.data, skips)
    if not images:
        sys.exit(f"{options.data / 'manifest.csv'} names no usable image: "
                 + "; ".join(f"{count} times {reason}" for reason, (count, _) in skips.reasons.items()))
    rows = list(compose(images, options.questions, skips))
    options.out.mkdir(parents=True, exist_ok=True)
    data, out = options.data.resolve(), options.out.resolve()
    prefix = data if options.absolute else pathlib.Path(os.path.relpath(data, out))
    partial = out / "real.csv.partial"
    with open(partial, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(((prefix / image.file).as_posix(), *row) for image, row in rows)
    partial.replace(out / "real.csv")
    write_whole(out / "README.md", describe(images, rows, skips))
    print(f"{out / 'real.csv'}: {len(images)} images, {len(rows)} rows; reports and answers are composed from labels")
    for reason, (count, place) in skips.reasons.items():
        print(f"skipped {count}: {reason} (first: {place})")


if __name__ == "__main__":
    main()
