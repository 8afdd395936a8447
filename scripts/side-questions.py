#!/usr/bin/env python3
"""Questions of a side and questions that presuppose a finding, by what is there: from phantoms and the answers.jsonl of `llm-cxr-train evaluate`.

    llm-cxr-train phantom --out phantoms --studies 900 --seed 770077
    llm-cxr-train evaluate --bundle models/demo --data phantoms --split all --only vqa --out evaluation
    scripts/side-questions.py phantoms evaluation/answers.jsonl
"""

import argparse
import collections
import json
import pathlib
import re

KINDS = {
    "a pleural effusion": "pleural_effusion",
    "a pneumothorax": "pneumothorax",
    "consolidation": "consolidation",
    "a hazy lung opacity": "lung_opacity",
    "atelectasis": "atelectasis",
    "a lung nodule or mass": "lung_lesion",
    "a rib fracture": "rib_fracture",
    "a pacemaker": "pacemaker",
    "a central venous line": "central_line",
}
PRESUPPOSING = (
    "On which side",
    "How severe",
    "In which lung zone",
    "Which rib",
    "How many leads",
    "How many sternal",
    "Where does the central",
    "What kind of central",
    "How is the endotracheal",
)
DENIAL = ("There is no ", "There are no ")
OF_A_SIDE = re.compile(r"Is there (.+) on the (left|right)\?")


def truths(data):
    """What each image shows, by the image's name."""
    found = {}
    for path in (data / "truth").rglob("*.json"):
        truth = json.loads(path.read_text())
        found[f"{truth['seed']:016x}-{truth['index']:016x}"] = truth["findings"]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path, help="folder that `llm-cxr-train phantom` wrote")
    parser.add_argument("answers", type=pathlib.Path, help="answers.jsonl of an evaluation on it")
    args = parser.parse_args()
    shown = truths(args.data)
    score = collections.defaultdict(lambda: [0, 0])

    def count(row, right):
        score[row][0] += right
        score[row][1] += 1

    for line in args.answers.read_text().splitlines():
        one = json.loads(line)
        findings = shown[pathlib.PurePath(one["id"]).stem]
        right = one["answer"].strip().lower() == one["reference"].strip().lower()
        asked = OF_A_SIDE.fullmatch(one["question"])
        if asked:
            kind = KINDS[asked[1]]
            sides = {f["side"] for f in findings if f["kind"] == kind}
            where = {0: "on neither side", 1: "on one side", 2: "on both sides"}[len(sides)]
            group = asked[1] if kind in ("pleural_effusion", "pneumothorax") else "other findings"
            count(("of a given side", group, where), right)
        elif one["question"].startswith(PRESUPPOSING):
            there = not one["reference"].startswith(DENIAL)
            where = "there" if there else "not there"
            count(("presupposing", "any", where), right)
            count(("presupposing", "any", f"{where}: said so"), there != one["answer"].startswith(DENIAL))
    print("| question | finding | it is | questions | right |\n| --- | --- | --- | --- | --- |")
    for (question, finding, where), (right, number) in sorted(score.items()):
        print(f"| {question} | {finding} | {where} | {number} | {right / number:.2f} |")


if __name__ == "__main__":
    main()
