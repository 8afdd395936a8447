#!/usr/bin/env python3
"""Speed beside the peers: transformers and llama.cpp on the same shape, the same machine, in one run.

    make build && python3 scripts/bench-peers.py --install .cache/peers --rounds 3

`--install DIR` makes a virtual environment in DIR, brings the peers in the versions below into it (llama.cpp is compiled for this machine, which
takes a C++ compiler and some minutes), and goes on in it; what it brought before stays. torch comes from the index that pip is configured for;
where that has builds for CPUs alone, which are smaller, name one: `--torch 2.11.0+cpu`.

Each round runs every engine once in each precision that it has, one after the other, in a process of its own; the table gives medians
over the rounds and ratios to each peer. A peer whose package is missing is left out, which is said before and after the run; without any
peer, or without one that --engines names, nothing is measured. Weights are random: speed does not depend on them. On a GPU
(`--device cuda --batch 1,8,64`) it is transformers alone, in bf16, as it is and compiled (static cache, CUDA graphs), and the plain read is a
copy within its memory.
llama.cpp's 8 and 4 bits are Q8_0 and Q4_0, made by its own quantiser from the same bf16 file.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What the figures of docs/performance.md were made beside. llama.cpp is built from source: a wheel is for the oldest processor.
PEERS = ["transformers==5.24.0", "gguf==0.19.0", "llama-cpp-python==0.3.36"]
FROM_SOURCE = "llama-cpp-python"
TORCH = "2.11.0"


def shape_of(text):
    return {key: int(value) for key, value in (pair.split("=") for pair in text.split(","))}


def steps(run, count):
    """Median seconds of `count` calls of `run`, after one that does not count."""
    run()
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def run_ours(a):
    held = {"bf16": "native"}.get(a.precision, a.precision)
    command = [ROOT / "target/release/llm-cxr", "bench", "--json", "--shape", a.shape, "--dtype", "bf16", "--weights", held, "--prompt", a.prompt,
               "--new", a.new, "--batch", a.batch, "--repeat", a.repeat, "--device", a.device]
    r = json.loads(subprocess.check_output([str(part) for part in command]))
    return {"prefill": r["prefill_tokens_per_s"], "decode": {str(d["batch"]): d["tokens_per_s"] for d in r["decode"]},
            "peak": r["peak_memory_bytes"], "read": r["read_gb_per_s"]}


def peak_memory():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def random_transformers(a):
    """Its GPT-NeoX with random weights in bf16."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    s = shape_of(a.shape)
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("meta"):
        model = GPTNeoXForCausalLM(GPTNeoXConfig(
            vocab_size=s["vocab"], hidden_size=s["hidden"], num_hidden_layers=s["layers"], num_attention_heads=s["heads"],
            intermediate_size=s["intermediate"], max_position_embeddings=a.prompt + a.new + 16))
    model = model.to_empty(device=a.device)
    for p in model.parameters():
        p.uniform_(-0.03, 0.03)
    for module in model.modules():
        # Buffers are not made on the meta device.
        if hasattr(module, "inv_freq"):
            module.inv_freq = 1.0 / (10000.0 ** (torch.arange(0, len(module.inv_freq), dtype=torch.float) / len(module.inv_freq))).to(a.device)
    model.eval()
    ids = (torch.arange(a.prompt)[None] * 7919 % s["vocab"]).to(a.device)
    wait = torch.cuda.synchronize if a.device == "cuda" else lambda: None
    return model, ids, wait


def peak_of(a):
    import torch

    return torch.cuda.max_memory_allocated() if a.device == "cuda" else peak_memory()


def run_transformers(a):
    model, ids, wait = random_transformers(a)
    prefill = steps(lambda: (model(ids, use_cache=True, logits_to_keep=1), wait()), a.repeat)
    decode = {}
    for batch in map(int, a.batch.split(",")):
        state = {"past": model(ids.expand(batch, -1), use_cache=True, logits_to_keep=1).past_key_values, "next": ids[:, :1].expand(batch, 1)}

        def step():
            out = model(state["next"], past_key_values=state["past"], use_cache=True)
            state["past"], state["next"] = out.past_key_values, out.logits[:, -1:].argmax(-1)
            wait()

        decode[str(batch)] = batch / steps(step, a.new)
    return {"prefill": a.prompt / prefill, "decode": decode, "peak": peak_of(a)}


def run_compiled(a):
    """Its fastest way: a static cache, and the step compiled and recorded (`reduce-overhead`)."""
    import torch
    from transformers import StaticCache

    model, ids, wait = random_transformers(a)
    forward = torch.compile(model.forward, mode="reduce-overhead" if a.device == "cuda" else "default")
    prefill = steps(lambda: (model(ids, use_cache=True, logits_to_keep=1), wait()), a.repeat)
    decode = {}
    for batch in map(int, a.batch.split(",")):
        past = StaticCache(config=model.config, max_cache_len=a.prompt + a.new + 16)
        model(ids.expand(batch, -1), past_key_values=past, use_cache=True, logits_to_keep=1)
        state = {"next": ids[:, :1].expand(batch, 1).contiguous()}

        def step():
            logits = forward(state["next"], past_key_values=past, use_cache=True).logits
            state["next"] = logits[:, -1:].argmax(-1).clone()
            wait()

        for _ in range(6):
            # Compiled, then recorded.
            step()
        decode[str(batch)] = batch / steps(step, a.new)
    return {"prefill": a.prompt / prefill, "decode": decode, "peak": peak_of(a)}


def gguf_file(a):
    """A random GPT-NeoX in llama.cpp's format, written once per shape."""
    import gguf
    import numpy as np

    s = shape_of(a.shape)
    path = pathlib.Path(a.work) / ("neox-" + a.shape.replace("=", "").replace(",", "-") + ".gguf")
    if path.exists():
        return path
    w = gguf.GGUFWriter(str(path) + ".partial", "gptneox")
    w.add_context_length(4096)
    w.add_embedding_length(s["hidden"])
    w.add_block_count(s["layers"])
    w.add_feed_forward_length(s["intermediate"])
    w.add_head_count(s["heads"])
    w.add_rope_dimension_count(s["hidden"] // s["heads"] // 4)
    w.add_parallel_residual(True)
    w.add_layer_norm_eps(1e-5)
    w.add_vocab_size(s["vocab"])
    w.add_tokenizer_model("no_vocab")
    w.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    rng = np.random.default_rng(1)

    def matrix(name, rows, columns):
        bits = (rng.standard_normal((rows, columns), dtype=np.float32) * 0.02).view(np.uint32) >> 16
        w.add_tensor(name, bits.astype(np.uint16).view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)

    def vector(name, n, value):
        w.add_tensor(name, np.full(n, value, dtype=np.float32))

    def norm(name):
        vector(f"{name}.weight", h, 1.0)
        vector(f"{name}.bias", h, 0.0)

    h, m, v = s["hidden"], s["intermediate"], s["vocab"]
    matrix("token_embd.weight", v, h)
    for layer in range(s["layers"]):
        norm(f"blk.{layer}.attn_norm")
        norm(f"blk.{layer}.ffn_norm")
        for part, rows, columns in [("attn_qkv", 3 * h, h), ("attn_output", h, h), ("ffn_up", m, h), ("ffn_down", h, m)]:
            matrix(f"blk.{layer}.{part}.weight", rows, columns)
            vector(f"blk.{layer}.{part}.bias", rows, 0.0)
    norm("output_norm")
    matrix("output.weight", v, h)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    pathlib.Path(str(path) + ".partial").rename(path)
    return path


def quantised_file(a, ll, threads):
    """The random model in the wanted precision, by llama.cpp's quantiser; written once per shape."""
    source = gguf_file(a)
    kind = {"int8": "Q8_0", "int4": "Q4_0"}.get(a.precision)
    if kind is None:
        return source
    path = source.with_suffix(f".{kind}.gguf")
    if not path.exists():
        partial = pathlib.Path(str(path) + ".partial")
        params = ll.llama_model_quantize_default_params()
        params.nthread = threads
        params.ftype = getattr(ll, f"LLAMA_FTYPE_MOSTLY_{kind}")
        if ll.llama_model_quantize(str(source).encode(), str(partial).encode(), params) != 0:
            raise RuntimeError(f"llama.cpp could not quantise to {kind}")
        partial.rename(path)
    return path


def run_llama(a):
    import ctypes
    import os

    import llama_cpp as ll

    threads = os.cpu_count()
    batches = [int(b) for b in a.batch.split(",")]
    quiet = ll.llama_log_callback(lambda level, text, data: None)
    ll.llama_log_set(quiet, ctypes.c_void_p(0))
    ll.llama_backend_init()
    file = quantised_file(a, ll, threads)
    if a.only_files:
        return {}
    model = ll.llama_model_load_from_file(str(file).encode(), ll.llama_model_default_params())
    p = ll.llama_context_default_params()
    p.n_ctx = (a.prompt + a.new + 16) * max(batches)
    p.n_batch = p.n_ubatch = 512
    p.n_seq_max = max(batches)
    p.n_threads = p.n_threads_batch = threads
    context = ll.llama_init_from_model(model, p)
    memory = ll.llama_get_memory(context)
    batch = ll.llama_batch_init(512, 0, 1)

    def decode(rows):
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, position, 1, wanted
            batch.seq_id[i][0] = sequence
        batch.n_tokens = len(rows)
        if ll.llama_decode(context, batch) != 0:
            raise RuntimeError("llama_decode failed")

    vocab = shape_of(a.shape)["vocab"]
    prompt = lambda sequence: [(i * 7919 % vocab, i, sequence, i == a.prompt - 1) for i in range(a.prompt)]

    def prefill():
        ll.llama_memory_clear(memory, True)
        decode(prompt(0))

    prefill_seconds = steps(prefill, a.repeat)
    out = {}
    for streams in batches:
        ll.llama_memory_clear(memory, True)
        for sequence in range(streams):
            decode(prompt(sequence))
        position = [a.prompt]

        def step():
            decode([(1, position[0], sequence, True) for sequence in range(streams)])
            position[0] += 1

        out[str(streams)] = streams / steps(step, a.new)
    return {"prefill": a.prompt / prefill_seconds, "decode": out, "peak": peak_memory()}


# How each is run, the packages it needs, and the precisions it has.
ENGINES = {"llm-cxr": (run_ours, [], ["bf16", "int8", "int4"]),
           "transformers": (run_transformers, ["torch", "transformers"], ["bf16"]),
           "transformers-compiled": (run_compiled, ["torch", "transformers"], ["bf16"]),
           "llama.cpp": (run_llama, ["llama_cpp", "gguf"], ["bf16", "int8", "int4"])}
PRECISIONS = ["bf16", "int8", "int4"]


def run_apart(a, engine, precision, only_files=False):
    """One engine in a process of its own."""
    command = [sys.executable, __file__, "--only", engine, "--precision", precision] + ["--only-files"] * only_files
    for key in ("shape", "prompt", "new", "batch", "repeat", "work", "device"):
        command += [f"--{key}", str(getattr(a, key))]
    done = subprocess.run(command, capture_output=True, text=True)
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise RuntimeError(f"{engine} ({precision}) failed with status {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(line[7:])


def install(folder, torch):
    """A virtual environment with the peers; gives its Python. One that has them already stays as it is."""
    folder = pathlib.Path(folder).absolute()
    python, done = folder / "bin/python", folder / "peers.json"
    wanted = [f"torch=={torch}", *PEERS]
    if python.exists() and done.exists() and json.loads(done.read_text()) == wanted:
        return python
    if folder.exists() and not (folder / "pyvenv.cfg").exists() and any(folder.iterdir()):
        sys.exit(f"{folder} holds something else than a virtual environment; give --install another folder")
    for command in ([sys.executable, "-m", "venv", folder],
                    [python, "-m", "pip", "install", "--no-binary", FROM_SOURCE, *wanted]):
        print(" ".join(map(str, command)), file=sys.stderr, flush=True)
        status = subprocess.run([str(part) for part in command]).returncode
        if status != 0:
            sys.exit(f"the peers could not be brought: the last command ended with {status}")
    done.write_text(json.dumps(wanted))
    return python


def without(flags, args):
    """Arguments without these flags and their values, written `--flag value` or `--flag=value`."""
    rest, args = [], iter(args)
    for part in args:
        if part in flags:
            next(args, None)
        elif part.split("=")[0] not in flags:
            rest.append(part)
    return rest


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--shape", default="hidden=2560,layers=32,heads=32,intermediate=10240,vocab=51305")
    parser.add_argument("--prompt", type=int, default=340)
    parser.add_argument("--new", type=int, default=16)
    parser.add_argument("--batch", default="1,4,8,16")
    parser.add_argument("--engines", help=f"which of {', '.join(ENGINES)} (all that there are)")
    parser.add_argument("--precision", help="which of bf16, int8 and int4 (all; on a GPU bf16)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--install", metavar="DIR", help="make a virtual environment with the peers in DIR, and measure in it")
    parser.add_argument("--torch", default=TORCH, metavar="VERSION", help=f"the torch that --install brings ({TORCH})")
    parser.add_argument("--work", default=str(ROOT / ".cache/bench-peers"), help="folder for the peers' weights")
    parser.add_argument("--only", choices=list(ENGINES), help=argparse.SUPPRESS)
    parser.add_argument("--only-files", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    precisions = a.precision.split(",") if a.precision else PRECISIONS if a.device == "cpu" else ["bf16"]
    if not set(precisions) <= set(PRECISIONS):
        parser.error(f"--precision is a list of {', '.join(PRECISIONS)}")
    if a.install and not a.only:
        python = install(a.install, a.torch)
        os.execv(python, [str(python), __file__, *without(["--install", "--torch"], sys.argv[1:])])
    pathlib.Path(a.work).mkdir(parents=True, exist_ok=True)
    if a.only:
        print("RESULT " + json.dumps(ENGINES[a.only][0](a)))
        return
    wanted = a.engines.split(",") if a.engines else list(ENGINES)
    if "llm-cxr" not in wanted or not set(wanted) <= set(ENGINES):
        parser.error(f"--engines is llm-cxr and some of {', '.join(ENGINES)}")
    engines, left_out = [], []
    for name, (_, modules, _) in ENGINES.items():
        if name not in wanted:
            continue
        # Each on what it is made for.
        if name == {"cpu": "transformers-compiled", "cuda": "llama.cpp"}[a.device]:
            continue
        missing = [m for m in modules if importlib.util.find_spec(m) is None]
        if missing:
            left_out.append(f"{name} (not installed: {', '.join(missing)})")
        else:
            engines.append(name)
    if left_out and (a.engines or engines == ["llm-cxr"]):
        sys.exit(f"nothing to compare with: {'; '.join(left_out)}; --install DIR brings the peers, or --engines names those that there are")
    for name in left_out:
        print(f"left out: {name}", file=sys.stderr)
    runs = [(name, precision) for precision in precisions for name in engines if precision in ENGINES[name][2]]
    if "llama.cpp" in engines:
        # Apart, so that no measurement shares its process, or its peak memory, with the making of files.
        for precision in precisions:
            print(f"llama.cpp's weights in {precision} …", file=sys.stderr, flush=True)
            run_apart(a, "llama.cpp", precision, only_files=True)
    results = {run: [] for run in runs}
    for number in range(a.rounds):
        for name, precision in list(results):
            print(f"round {number + 1} of {a.rounds}: {name}, {precision} …", file=sys.stderr, flush=True)
            try:
                results[name, precision].append(run_apart(a, name, precision))
            except RuntimeError as error:
                if name == "llm-cxr":
                    sys.exit(str(error))
                # A peer that cannot do this here (a crash in its own kernels, say) leaves its cells empty.
                print(error, file=sys.stderr)
                del results[name, precision]
    table(a, engines, precisions, results)
    for name in left_out:
        print(f"left out: {name}")


def table(a, engines, precisions, results):
    peers = [n for n in engines if n != "llm-cxr"]

    def line(label, value, show, compare=True):
        """One line; an engine without the precision leaves its cells empty."""
        medians = {n: statistics.median(map(value, results[n, precision])) for n in engines if (n, precision) in results}
        cells = [show(medians[n]) if n in medians else "" for n in engines]
        cells += [f"{medians['llm-cxr'] / medians[p]:.2f}" if compare and p in medians else "" for p in peers]
        print(f"| {precision} | {label} | " + " | ".join(cells) + " |")

    print(f"\n{a.shape}; tokens/s, medians of {a.rounds} interleaved rounds\n")
    print("| weights | | " + " | ".join(engines) + " | " + " | ".join(f"ratio to {p}" for p in peers) + " |")
    print("| --- | --- |" + " --- |" * (len(engines) + len(peers)))
    for precision in precisions:
        line(f"prefill {a.prompt}", lambda r: r["prefill"], "{:.2f}".format)
        for b in a.batch.split(","):
            line(f"decode, {b} stream{'s' * (b != '1')}", lambda r, b=b: r["decode"][b], "{:.2f}".format)
        line("peak memory", lambda r: r["peak"], lambda bytes: f"{bytes / 1e9:.2f} GB", compare=False)
    reads = [r["read"] for precision in precisions for r in results["llm-cxr", precision]]
    print(f"\nplain memory read in the same run: {statistics.median(reads):.1f} GB/s")


if __name__ == "__main__":
    main()
