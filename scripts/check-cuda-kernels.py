#!/usr/bin/env python3
"""Compiles the kernels of src/model/cuda for several GPUs. Needs no GPU, only NVRTC (PyPI: nvidia-cuda-nvrtc).

    LD_LIBRARY_PATH=…/nvidia/cu13/lib scripts/check-cuda-kernels.py
"""

import ctypes
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent
CUDA = ROOT / "src/model/cuda"
# Hidden size, head size, rotary pairs, activation.
SHAPES = [(2560, 80, 10, 0), (256, 64, 8, 1), (384, 64, 32, 2), (512, 256, 32, 0)]
GPUS = ["sm_80", "sm_89", "sm_90", "sm_100", "sm_120"]
# Those that a step in one launch is for: multiprocessors, and shared memory of a block.
WHOLE = {"sm_90": (132, 227 << 10), "sm_100": (148, 227 << 10)}


def settings(file):
    """The constants that a file of src/model/neox compiles with."""
    source = (ROOT / "src/model/neox" / file).read_text()
    names = re.findall(r'format!\("([A-Z_]+)=\{\1\}"\)', source)
    return {name: eval(re.search(rf"const {name}: usize = ([0-9 <]+);", source)[1]) for name in names}


def compile_for(nvrtc, files, gpu, macros):
    source = b"\n".join((CUDA / name).read_bytes() for name in ("common.cuh", *files))
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, files[-1].encode(), 0, None, None)
    options = [f"--gpu-architecture={gpu}"] + [f"-D{name}={value}" for name, value in macros.items()]
    values = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
    failed = nvrtc.nvrtcCompileProgram(program, len(options), values)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    if failed:
        raise SystemExit(f"{files} for {gpu}: {log.value.decode()}")


def main():
    nvrtc = ctypes.CDLL("libnvrtc.so.13")
    for gpu in GPUS:
        for hidden, dim, half, activation in SHAPES:
            shape = {"HIDDEN": hidden, "DIM": dim, "HALF": half, "ACTIVATION": activation, "EPS": "1e-5f"}
            compile_for(nvrtc, ["kernels.cu", "wide.cu"], gpu, shape | settings("fused.rs") | settings("fused/wide.rs") | {"TILE": 8 if dim > 128 else 16})
            if gpu in WHOLE:
                grid, shared = WHOLE[gpu]
                whole = {
                    "LAYERS": 32,
                    "WIDE": 4 * hidden,
                    "VOCABULARY": 51305,
                    "CONTEXT": 2048,
                    "GRID": grid,
                    "SHARED_BYTES": shared,
                    "STAGE_INPUTS": min(hidden, 1280),
                }
                for rows in (1, 2, 4, 8, 16):
                    compile_for(nvrtc, ["step.cu"], gpu, shape | whole | settings("fused/whole.rs") | {"STEP_ROWS": rows})
        print(f"{gpu}: {len(SHAPES)} shapes compile", flush=True)


if __name__ == "__main__":
    main()
