#!/usr/bin/env python3
"""A picture of what a bundle draws and what its VQ-GAN keeps, for its card. Needs Pillow.

    scripts/samples.py --model models/demo --images phantoms/files --out models/demo/samples.png     # phantoms: llm-cxr-train phantom

First row: images; second: the same, encoded and decoded again; below: drawings of short texts, one seed for all. Nothing is picked: the images are the first of the folder.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

from PIL import Image, ImageDraw

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXTS = ["normal chest X-ray", "Large left pleural effusion", "enlarged heart", "pacemaker", "right upper lobe pneumonia",
         "Bilateral pleural effusions and pulmonary edema", "big right pneumothorax", "broken ribs on the right", "nodule in the left lung",
         "left lower lobe collapse", "ET tube", "widened mediastinum"]
SIDE, MARGIN, LINE = 160, 6, 26


def wrapped(draw, text, width):
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(ROOT / "models/demo"))
    parser.add_argument("--images", required=True, help="folder of images, searched deeply")
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=5)
    a = parser.parse_args()

    def llm_cxr(*arguments):
        command = [str(ROOT / "target/release/llm-cxr"), *map(str, arguments), "--model", a.model]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    columns = 6
    files = sorted(file for file in pathlib.Path(a.images).rglob("*") if file.suffix in (".jpg", ".png"))[:columns]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        again, drawn = [], []
        for number, file in enumerate(files):
            (folder / f"{number}.json").write_text(llm_cxr("encode", file))
            again.append(folder / f"again-{number}.png")
            llm_cxr("decode", folder / f"{number}.json", "-o", again[-1])
        for number, text in enumerate(TEXTS):
            drawn.append(folder / f"drawn-{number}.png")
            llm_cxr("draw", text, "--seed", a.seed, "-o", drawn[-1])
        version = json.loads((pathlib.Path(a.model) / "bundle.json").read_text())["version"]
        rows = [(files, [""] * columns), (again, ["encoded and decoded"] + [""] * (columns - 1))]
        rows += [(drawn[at:at + columns], TEXTS[at:at + columns]) for at in range(0, len(TEXTS), columns)]
        sheet = Image.new("L", (columns * (SIDE + MARGIN) + MARGIN, len(rows) * (SIDE + LINE + MARGIN) + LINE), 255)
        draw = ImageDraw.Draw(sheet)
        for row, (images, captions) in enumerate(rows):
            top = row * (SIDE + LINE + MARGIN) + MARGIN
            for column, (file, caption) in enumerate(zip(images, captions)):
                left = MARGIN + column * (SIDE + MARGIN)
                with Image.open(file) as image:
                    sheet.paste(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BICUBIC), (left, top))
                draw.multiline_text((left, top + SIDE + 2), wrapped(draw, caption or ("computed" if row == 0 else ""), SIDE), fill=0, spacing=1)
        note = f"All images are synthetic: phantoms (first row) and what bundle {version} makes. For research only."
        draw.text((MARGIN, sheet.height - LINE + 8), note, fill=0)
        sheet.save(a.out, optimize=True)
        print(f"{a.out}: {len(files)} images, {len(TEXTS)} drawings, seed {a.seed}")


if __name__ == "__main__":
    main()
