#!/usr/bin/env python3
"""The published VQ-GAN's speed beside PyTorch's, in turns: taming-transformers' own networks, random weights, one image.

    python3 -m venv .venv-peers && .venv-peers/bin/pip install torch==2.11.0 numpy einops
    .venv-peers/bin/pip install --no-deps taming-transformers==0.0.1        # its networks need none of its training stack
    make build && .venv-peers/bin/python scripts/bench-vqgan.py --rounds 3

Each round runs this program in each of `--ours` (arguments of `llm-cxr bench`) and PyTorch in f32 as written, in f32 with channels innermost, and in
bf16 with channels innermost, one after the other, each in a process of its own. PyTorch's codes are compared with its own in f32. Times are medians, in
milliseconds.
"""

import argparse
import json
import pathlib
import shlex
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHAPE = dict(ch=128, ch_mult=(1, 1, 2, 2, 4), num_res_blocks=2, attn_resolutions=[16], in_channels=3, resolution=256, z_channels=256, out_ch=3,
             dropout=0.0, double_z=False)
CODES, WIDTH = 1024, 256
WAYS = ["f32", "f32-channels-last", "bf16-channels-last"]


def median_of(repeat, run):
    run()
    times = []
    for _ in range(repeat):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e3


def pytorch(way, repeat):
    """Milliseconds of PyTorch one way, and the share of codes that are those in f32."""
    import torch
    from taming.modules.diffusionmodules.model import Decoder, Encoder

    torch.manual_seed(1)
    torch.set_grad_enabled(False)
    encoder, decoder = Encoder(**SHAPE).eval(), Decoder(**SHAPE).eval()
    before, after = torch.nn.Conv2d(256, WIDTH, 1), torch.nn.Conv2d(WIDTH, 256, 1)
    # As far from nought as what comes out of the encoder, so that all codes are in use.
    book = torch.randn(CODES, WIDTH)
    image = torch.rand(1, 3, 256, 256) * 2 - 1

    def latent():
        return before(encoder(image)).float().permute(0, 2, 3, 1).reshape(-1, WIDTH)

    first = latent()
    book *= first.std()
    nearest = lambda z: torch.cdist(z, book).argmin(1)
    exact = nearest(first)
    networks = [encoder, decoder, before, after]
    if way != "f32":
        kind = torch.bfloat16 if way.startswith("bf16") else torch.float
        for network in networks:
            network.to(dtype=kind, memory_format=torch.channels_last)
        image = image.to(dtype=kind, memory_format=torch.channels_last)
    kind = next(decoder.parameters()).dtype
    encode = lambda: nearest(latent())
    vectors = book[exact].reshape(1, 16, 16, WIDTH).permute(0, 3, 1, 2).to(kind)
    if way != "f32":
        vectors = vectors.contiguous(memory_format=torch.channels_last)
    decode = lambda: decoder(after(vectors))
    equal = (encode() == exact).float().mean().item()
    return {"encode": median_of(repeat, encode), "decode": median_of(repeat, decode), "equal": equal}


def ours(arguments, repeat):
    command = [ROOT / "target/release/llm-cxr", "bench", "--vqgan", "published", "--batch", "1", "--json", "--repeat", str(repeat), *shlex.split(arguments)]
    report = json.loads(subprocess.check_output([str(part) for part in command], stderr=subprocess.DEVNULL))
    return {"encode": report["passes"][0]["encode_ms"], "decode": report["passes"][0]["decode_ms"], "equal": report["codes_equal"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--ours", action="append", help="arguments of `llm-cxr bench`, once for each way to compute (--dtype f32 and --dtype bf16)")
    parser.add_argument("--only", choices=WAYS, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.only:
        print("RESULT " + json.dumps(pytorch(a.only, a.repeat)))
        return
    runs = {f"llm-cxr {arguments}": lambda arguments=arguments: ours(arguments, a.repeat) for arguments in a.ours or ["--dtype f32", "--dtype bf16"]}
    for way in WAYS:
        command = [sys.executable, __file__, "--only", way, "--repeat", str(a.repeat)]
        runs[f"PyTorch {way}"] = lambda command=command: json.loads(
            next(line for line in subprocess.check_output(command, text=True).splitlines() if line.startswith("RESULT "))[7:])
    results = {name: [] for name in runs}
    for number in range(a.rounds):
        for name, run in runs.items():
            print(f"round {number + 1} of {a.rounds}: {name} …", file=sys.stderr, flush=True)
            results[name].append(run())
    print("| | encode, ms | decode, ms | codes as in f32 |\n| --- | --- | --- | --- |")
    for name, rounds in results.items():
        times = [", ".join(f"{r[key]:.0f}" for r in rounds) for key in ("encode", "decode")]
        print(f"| {name} | {times[0]} | {times[1]} | {rounds[-1]['equal']:.2%} |")


if __name__ == "__main__":
    main()
