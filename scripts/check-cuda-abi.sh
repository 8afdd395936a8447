#!/bin/sh
# Compares what src/model/cuda/graph.cc declares of libtorch with the headers of a CUDA build, and its names with the library's. Needs no GPU.
#
#   scripts/check-cuda-abi.sh TORCH CUDA_INCLUDE     # site-packages/torch, and a folder with cuda_runtime_api.h (nvidia/cu13/include)
set -eu
torch=$1
cuda=$2
here=$(dirname "$0")/..
${CXX:-c++} -std=c++17 -fsyntax-only -DLLM_CXR_CHECK_ABI -I"$torch/include" -I"$torch/include/torch/csrc/api/include" -I"$cuda" \
    "$here/src/model/cuda/graph.cc"
names=$(grep -oh '"_Z[A-Za-z0-9_]*"' "$here"/src/model/cuda/*.cc | tr -d '"')
for name in $names; do
    nm -D --defined-only "$torch/lib/libtorch_cuda.so" "$torch/lib/libc10_cuda.so" "$torch/lib/libtorch_cpu.so" | grep -q " T $name\$" || {
        echo "missing: $name" >&2
        exit 1
    }
done
echo "libtorch agrees: $(echo "$names" | wc -l) functions"
