#!/usr/bin/env python3
"""How cost grows: with the number of clients, and with the length of the context.

    make build && scripts/growth.py --model models/demo --images FOLDER

Starts a server with MODEL on a free port of this machine and puts it under load with 1 to 64 clients, then times the language model of SHAPE
on random weights at growing contexts. Prints two tables in Markdown.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = ROOT / "target/release/llm-cxr"


def start(model, flags):
    """A running server: its process and its address."""
    command = [BINARY, "serve", "--model", model, "--listen", "127.0.0.1:0", "--device", "cpu", "--log-format", "json", *flags]
    server = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        try:
            address = json.loads(line).get("address") or json.loads(line).get("fields", {}).get("address")
        except json.JSONDecodeError:
            continue
        if address:
            break
    else:
        sys.exit("the server ended before it told its address")
    # Whoever logs must not block on a full pipe.
    threading.Thread(target=lambda: [None for _ in server.stderr], daemon=True).start()
    url = f"http://{address}"
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{url}/readyz", timeout=1)
            return server, url
        except OSError:
            time.sleep(0.1)
    sys.exit("the server was not ready after a minute")


def clients(a):
    images = [str(path) for path in sorted(pathlib.Path(a.images).rglob("*")) if path.suffix in (".png", ".jpg", ".jpeg")][:900]
    server, url = start(a.model, a.serve.split())
    try:
        print("| clients | requests/s | tokens/s | report p50 / p95 | question p50 / p95 | image p50 / p95 | refused or failed |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for count in [int(count) for count in a.clients.split(",")]:
            command = [BINARY, "load", "--url", url, "--clients", count, "--mix", "report,vqa,image", "--readings", a.readings, "--duration", a.duration, "--json"]
            command += [part for image in images for part in ("--image", image)]
            r = json.loads(subprocess.check_output([str(part) for part in command]))
            times = [f"{t['p50']:.3f} / {t['p95']:.3f} s" if t else "–" for t in (r["latency"].get(k) for k in ("report", "vqa", "image"))]
            print(f"| {count} | {r['requests_per_s']:.1f} | {r['tokens_per_s']:.0f} | {' | '.join(times)} | {r['requests'] - r['ok']} |", flush=True)
    finally:
        server.terminate()
        server.wait()


def contexts(a):
    batches = [1, 8]
    print(f"\n| context | prefill, tokens/s | {' | '.join(f'step of {b}, ms' for b in batches)} |")
    print(f"| --- | --- |{' --- |' * len(batches)}")
    for length in [int(length) for length in a.contexts.split(",")]:
        command = [BINARY, "bench", "--json", "--shape", a.shape, "--dtype", "bf16", "--weights", a.weights, "--prompt", length, "--new", 8,
                   "--repeat", 3, "--batch", ",".join(map(str, batches)), "--device", "cpu"]
        r = json.loads(subprocess.check_output([str(part) for part in command]))
        steps = " | ".join(f"{d['step_ms']:.1f}" for d in r["decode"])
        print(f"| {length} | {r['prefill_tokens_per_s']:.0f} | {steps} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(ROOT / "models/demo"))
    parser.add_argument("--images", required=True, help="folder of radiographs to send")
    parser.add_argument("--serve", default="", help="further flags of the server")
    parser.add_argument("--clients", default="1,2,4,8,16,32,64")
    parser.add_argument("--readings", default="1", help="how often a radiograph is read for a report")
    parser.add_argument("--duration", default="8s")
    parser.add_argument("--shape", default="hidden=2560,layers=4,heads=32,intermediate=10240,vocab=8192")
    parser.add_argument("--weights", default="native")
    parser.add_argument("--contexts", default="64,256,512,1024,2000")
    a = parser.parse_args()
    clients(a)
    contexts(a)


if __name__ == "__main__":
    main()
