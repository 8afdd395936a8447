#!/usr/bin/env python3
"""Compiles src/model/cuda/kernels.cu for several GPUs. Needs no GPU, only NVRTC (PyPI: nvidia-cuda-nvrtc).

    LD_LIBRARY_PATH=…/nvidia/cu13/lib scripts/check-cuda-kernels.py
"""

import ctypes
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Hidden size, head size, rotary pairs, activation.
SHAPES = [(2560, 80, 10, 0), (256, 64, 8, 1), (384, 64, 32, 2)]
GPUS = ["sm_80", "sm_89", "sm_90", "sm_100", "sm_120"]


def settings():
    """The constants that src/model/neox/fused.rs compiles with."""
    source = (ROOT / "src/model/neox/fused.rs").read_text()
    names = re.findall(r'format!\("([A-Z_]+)=\{\1\}"\)', source)
    return {name: eval(re.search(rf"const {name}: usize = ([0-9 <]+);", source)[1]) for name in names}


def compile_for(nvrtc, source, gpu, macros):
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"kernels.cu", 0, None, None)
    options = [f"--gpu-architecture={gpu}"] + [f"-D{name}={value}" for name, value in macros.items()]
    values = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
    failed = nvrtc.nvrtcCompileProgram(program, len(options), values)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    if failed:
        raise SystemExit(f"{gpu}: {log.value.decode()}")


def main():
    nvrtc = ctypes.CDLL("libnvrtc.so.13")
    source = (ROOT / "src/model/cuda/kernels.cu").read_bytes()
    for gpu in GPUS:
        for hidden, dim, half, activation in SHAPES:
            macros = {"HIDDEN": hidden, "DIM": dim, "HALF": half, "ACTIVATION": activation, "EPS": "1e-5f", **settings()}
            compile_for(nvrtc, source, gpu, macros)
        print(f"{gpu}: {len(SHAPES)} shapes compile")


if __name__ == "__main__":
    main()
