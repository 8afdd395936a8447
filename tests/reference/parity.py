#!/usr/bin/env python3
"""The running server against the reference stack, end to end, on random checkpoints in the published formats.

    make parity        # or, with other cases: .venv/bin/python tests/reference/parity.py --cases 14 --seed 105

Each case draws shapes, dtypes and file formats; writes a Hugging Face GPT-NeoX folder and a Lightning VQ-GAN checkpoint; runs
`llm-cxr convert` and `llm-cxr serve --preprocess compat`; and compares what HTTP gives with Pillow, taming-transformers and
transformers: codes, greedy tokens of a report, a question and a drawing, P(yes), decoded text, drawn pixels.
"""

import argparse
import base64
import io
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time
import urllib.request

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from taming.modules.diffusionmodules.model import Decoder, Encoder
from taming.modules.vqvae.quantize import VectorQuantizer
from transformers import AutoTokenizer, GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

ROOT = pathlib.Path(__file__).resolve().parents[2]
SERVER = ROOT / "target/release/llm-cxr"
INTRO = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
REPORT = "Generate free-text radiology reports for the entered chest X-ray images."
DRAW = "Generate a chest X-ray image that corresponds to the entered free-text radiology reports for the chest X-ray image."


class Progress:
    """A class that the converter does not know, as Lightning checkpoints are full of."""


def make_tokenizer(folder, rng):
    shared = ROOT.parent / "shared/data/tokenizer/20B_tokenizer.json"
    if shared.exists() and rng.random() < 0.5:
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(shared), eos_token="<|endoftext|>")
        tokenizer.add_special_tokens({"additional_special_tokens": ["### End", "### Instruction:", "### Response:"]})
        tokenizer.add_tokens(["### Response:\n"], special_tokens=True)
    else:
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(ROOT / "tests/fixtures/vocabulary/tokenizer.json"), eos_token="<|endoftext|>")
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_llm(folder, rows, rng):
    heads = rng.choice([2, 3, 4])
    head_dim = rng.choice([16, 20, 24])
    config = GPTNeoXConfig(
        vocab_size=rows, hidden_size=heads * head_dim, num_hidden_layers=rng.choice([1, 2, 3]), num_attention_heads=heads,
        intermediate_size=rng.choice([64, 150, 256]), max_position_embeddings=2048, rotary_pct=rng.choice([0.25, 0.5, 1.0]),
        rotary_emb_base=rng.choice([10000, 5000]), use_parallel_residual=rng.random() < 0.6, layer_norm_eps=rng.choice([1e-5, 1e-3]),
        tie_word_embeddings=rng.random() < 0.3, bos_token_id=0, eos_token_id=0)
    model = GPTNeoXForCausalLM(config).eval()
    dtype = rng.choice([torch.float32, torch.float16, torch.bfloat16])
    with torch.no_grad():
        for name, p in model.named_parameters():
            one = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            p.copy_((torch.randn_like(p) * rng.choice([0.08, 0.15]) + one).to(dtype).float())
    form = rng.choice(["safetensors", "shards", "bin", "bin-shards"])
    half = GPTNeoXForCausalLM(config).to(dtype)
    half.load_state_dict({k: v.to(dtype) for k, v in model.state_dict().items()})
    half.save_pretrained(folder, max_shard_size="200KB" if "shards" in form else "10GB")
    if form.startswith("bin"):
        to_bin(folder, config)
    print(f"  llm: {config.num_hidden_layers}×{config.hidden_size}, rows {rows}, {str(dtype)[6:]}, {form}, parallel={config.use_parallel_residual}, "
          f"tied={config.tie_word_embeddings}")
    return model


def to_bin(folder, config):
    """Rewrites safetensors as pickles, with the buffers of old state dicts."""
    from safetensors.torch import load_file

    index = {}
    files = sorted(folder.glob("model*.safetensors"))
    for i, file in enumerate(files):
        tensors = load_file(file)
        if i == 0:
            tensors["gpt_neox.layers.0.attention.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.bool)
            tensors["gpt_neox.layers.0.attention.masked_bias"] = torch.tensor(-1e9)
            tensors["gpt_neox.layers.0.attention.rotary_emb.inv_freq"] = torch.ones(4)
        name = "pytorch_model.bin" if len(files) == 1 else f"pytorch_model-{i + 1:05}-of-{len(files):05}.bin"
        torch.save(tensors, folder / name)
        index.update({key: name for key in tensors})
        file.unlink()
    if len(files) > 1:
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    for leftover in folder.glob("*.safetensors.index.json"):
        leftover.unlink()


def make_vqgan(folder, rng):
    dd = dict(double_z=False, z_channels=rng.choice([16, 32]), resolution=rng.choice([32, 64]), in_channels=3, out_ch=3, ch=32,
              ch_mult=rng.choice([[1, 1], [1, 2, 2], [1, 1, 2]]), num_res_blocks=rng.choice([1, 2]),
              attn_resolutions=rng.choice([[], [16], [8, 16]]), dropout=0.0)
    embed_dim, n_embed = rng.choice([8, 32]), rng.choice([64, 128])
    parts = torch.nn.ModuleDict(dict(
        encoder=Encoder(**dd), decoder=Decoder(**dd), quantize=VectorQuantizer(n_embed, embed_dim, beta=0.25),
        quant_conv=torch.nn.Conv2d(dd["z_channels"], embed_dim, 1),
        post_quant_conv=torch.nn.Conv2d(embed_dim, dd["z_channels"], 1))).eval()
    with torch.no_grad():
        z = parts["quant_conv"](parts["encoder"](torch.rand(8, 3, dd["resolution"], dd["resolution"]) * 2 - 1))
        flat = z.permute(0, 2, 3, 1).reshape(-1, embed_dim)
        book = flat[torch.randperm(len(flat))[:n_embed]]
        parts["quantize"].embedding.weight.copy_(book + 0.5 * flat.std() * torch.randn_like(book))
    state = {f"{k}": v for k, v in parts.state_dict().items()}
    state["loss.discriminator.main.0.weight"] = torch.randn(4, 4)
    torch.save({"epoch": 3, "global_step": 77, "pytorch-lightning_version": "1.9.0", "state_dict": state,
                "callbacks": {Progress: {"best": torch.tensor(1.0)}}, "optimizer_states": [{"state": {0: {"exp_avg": torch.randn(3)}}}],
                "lr_schedulers": []}, folder / "last.ckpt")
    lines = "".join(f"      {k}: {v}\n" for k, v in dd.items())
    (folder / "vqgan.yaml").write_text("model:\n  base_learning_rate: 4.5e-06\n  target: taming.models.vqgan.VQModel\n  params:\n"
                                       f"    embed_dim: {embed_dim}\n    n_embed: {n_embed}\n    ddconfig:\n{lines}"
                                       "    lossconfig:\n      target: taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator\n")
    print(f"  vqgan: {dd['resolution']} px, {dd['ch_mult']}, {n_embed} codes of {embed_dim}")
    return parts, dd, n_embed, embed_dim


def radiographs(rng):
    """Files as clients send them: a real one if there is one, and modes that trip decoders."""
    y, x = np.mgrid[0:317, 0:251]
    grey = (127 + 60 * np.sin(x / 23.0) + 60 * np.cos(y / 31.0) + np.random.default_rng(rng.randrange(99)).normal(0, 8, x.shape)).clip(0, 255)
    image = Image.fromarray(grey.astype(np.uint8))
    for make in (lambda f: image.save(f, "PNG"), lambda f: image.convert("RGB").save(f, "JPEG", quality=80),
                 lambda f: image.convert("P").save(f, "PNG"),
                 lambda f: Image.fromarray((grey * 200).astype(np.uint16)).save(f, "PNG")):
        file = io.BytesIO()
        make(file)
        yield file.getvalue()
    real = sorted((ROOT.parent / "shared/data/cxr").glob("*/*.jp*g")) if (ROOT.parent / "shared").exists() else []
    if real:
        yield rng.choice(real).read_bytes()


def preprocess(file, side):
    image = Image.open(io.BytesIO(file)).convert("RGB")
    scale = side / min(image.size)
    image = image.resize([round(v * scale) for v in image.size], Image.LANCZOS)
    left, top = round((image.width - side) / 2), round((image.height - side) / 2)
    array = np.array(image.crop((left, top, left + side, top + side)))
    return 2.0 * (torch.from_numpy(array).permute(2, 0, 1)[None].float() / 255.0) - 1.0


def prompt(instruction, text=None):
    block = "" if text is None else f"Input:\n{text}\n\n"
    return f"{INTRO}\n\n### Instruction:\n{instruction}\n\n{block}### Response:\n"


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as response:
        return json.load(response)


def equal(what, ours, reference):
    if ours != reference:
        where = next((i for i, (a, b) in enumerate(zip(ours, reference)) if a != b), min(len(ours), len(reference)))
        raise SystemExit(f"  DIFFERS: {what} at {where}: {ours[where:where + 5]} instead of {reference[where:where + 5]}")
    print(f"  equal: {what} ({len(reference)})")


@torch.no_grad()
def case(number, seed, port):
    rng = random.Random(seed)
    torch.manual_seed(seed)
    print(f"case {number} (seed {seed})")
    with tempfile.TemporaryDirectory() as temp:
        temp = pathlib.Path(temp)
        tokenizer = make_tokenizer(temp / "llm", rng)
        parts, dd, n_embed, embed_dim = make_vqgan(temp, rng)
        base = len(tokenizer)
        model = make_llm(temp / "llm", base + n_embed, rng)
        subprocess.run([SERVER, "convert", "--llm", temp / "llm", "--vqgan-config", temp / "vqgan.yaml", "--vqgan-checkpoint", temp / "last.ckpt",
                        "--out", temp / "bundle"], check=True, stdout=subprocess.DEVNULL)
        server = subprocess.Popen([SERVER, "serve", "--model", temp / "bundle", "--listen", f"127.0.0.1:{port}", "--preprocess", "compat",
                                   "--dtype", "f32", "--device", "cpu", "--log-level", "warn"])
        try:
            url = f"http://127.0.0.1:{port}"
            wait(url, server)
            compare(url, rng, tokenizer, model, parts, dd, n_embed, embed_dim, base)
        finally:
            server.terminate()
            server.wait(30)


def wait(url, server):
    for _ in range(300):
        try:
            return urllib.request.urlopen(url + "/readyz").read()
        except OSError:
            if server.poll() is not None:
                raise SystemExit("the server ended")
            time.sleep(0.1)
    raise SystemExit("the server is not ready")


def compare(url, rng, tokenizer, model, parts, dd, n_embed, embed_dim, base):
    latent = dd["resolution"] >> (len(dd["ch_mult"]) - 1)
    per_image = latent * latent
    end = tokenizer.convert_tokens_to_ids("### End")
    image_word = tokenizer("image", add_special_tokens=False)["input_ids"]

    def ids_with(text, codes):
        ids = tokenizer(text)["input_ids"]
        opened = tokenizer("<image>", add_special_tokens=False)["input_ids"]
        at = next(i for i in range(len(ids)) if ids[i:i + len(opened)] == opened)
        return ids[:at + 1] + [base + c for c in codes] + ids[at + len(opened) - 1:]

    def greedy(ids, new, mask=None):
        generate = dict(max_new_tokens=new, do_sample=False, pad_token_id=0, eos_token_id=end, use_cache=True)
        if mask is not None:
            generate["suppress_tokens"] = mask
        return model.generate(torch.tensor([ids]), **generate)[0, len(ids):].tolist()

    assert len(image_word) >= 1
    codes_masked = list(range(base, base + n_embed))
    for file in radiographs(rng):
        z = parts["quant_conv"](parts["encoder"](preprocess(file, dd["resolution"])))
        codes = parts["quantize"](z)[2][2].reshape(-1).tolist()
        image = base64.b64encode(file).decode()
        ours = post(url + "/v1/report", {"image": image, "max_tokens": 40, "include": ["token_ids", "codes"]})
        equal("codes", ours["codes"], codes)
        ids = ids_with(prompt(REPORT, "<image>"), codes)
        reference = greedy(ids, 40, codes_masked)
        equal("report tokens", ours["token_ids"], reference)
        text = tokenizer.decode(reference, skip_special_tokens=True, clean_up_tokenization_spaces=True).strip()
        equal("report text", ours["report"], text)
        assert ours["usage"]["prompt_tokens"] == len(ids), (ours["usage"], len(ids))

        question = "Is there a left pleural effusion?"
        ours = post(url + "/v1/vqa", {"image": image, "question": question, "max_tokens": 12, "include": ["token_ids", "probabilities"]})
        ids = ids_with(prompt(question, "<image>"), codes)
        equal("answer tokens", ours["token_ids"], greedy(ids, 12, codes_masked))
        p = model(torch.tensor([ids])).logits[0, -1].double().softmax(-1)
        first = lambda words: p[list({tokenizer(w, add_special_tokens=False)["input_ids"][0] for w in words})].sum().item()
        yes, no = first(["yes", "Yes"]), first(["no", "No"])
        assert abs(ours["p_yes"] - yes / (yes + no)) < 1e-4, (ours["p_yes"], yes / (yes + no))
        print("  equal: P(yes)")

    ours = post(url + "/v1/generate-image", {"text": "Cardiomegaly. No effusion.", "temperature": 0, "include": ["token_ids", "codes"]})
    ids = tokenizer(prompt(DRAW, "Cardiomegaly. No effusion."))["input_ids"]
    opened, closed = (tokenizer(c, add_special_tokens=False)["input_ids"][0] for c in "<>")
    drawn = greedy(ids + [opened], per_image, list(range(base)))
    flat = ours["token_ids"][0] if isinstance(ours["token_ids"][0], list) else ours["token_ids"]
    equal("drawing tokens", flat, [opened] + drawn + [closed, end])
    quantised = parts["quantize"].get_codebook_entry(torch.tensor(drawn) - base, (1, latent, latent, embed_dim))
    x = parts["decoder"](parts["post_quant_conv"](quantised)).clamp(-1, 1)
    reference = (((x + 1) / 2)[0].permute(1, 2, 0) * 255 + 0.5).floor().numpy().astype(int)
    pixels = np.array(Image.open(io.BytesIO(base64.b64decode(ours["images"][0]["data"]))).convert("RGB")).astype(int)
    worst = np.abs(pixels - reference).max()
    share = (pixels == reference).mean()
    assert worst <= 1 and share > 0.999, (worst, share)
    print(f"  equal: drawn pixels ({share:.5f} identical, worst difference {worst})")

    ids = tokenizer(prompt("Name the lungs."))["input_ids"]
    ours = post(url + "/v1/instruct", {"instruction": "Name the lungs.", "temperature": 0, "max_tokens": 30, "include": ["token_ids"]})
    flat = ours["token_ids"][0] if ours["token_ids"] and isinstance(ours["token_ids"][0], list) else ours["token_ids"]
    equal("instruction tokens, unconstrained", flat, greedy(ids, 30))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port", type=int, default=18089)
    a = parser.parse_args()
    for i in range(a.cases):
        case(i + 1, a.seed + i, a.port)
    print(f"{a.cases} passed, 0 failed")


if __name__ == "__main__":
    sys.exit(main())
