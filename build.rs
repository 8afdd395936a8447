//! Compiles the C++ of `src/model/cuda`, and lets the binaries find libtorch at run time without `LD_LIBRARY_PATH`.
//!
//! The run path holds, in this order, `lib/` and `../lib` beside the binary (packages, containers) and the folder that
//! `LIBTORCH` named at build time. It is a RUNPATH, so that `LD_LIBRARY_PATH` still wins (a GPU machine's own libtorch).

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=build.rs");
    let mut shim = cc::Build::new();
    for file in ["src/model/cuda/graph.cc", "src/model/cuda/switches.cc"] {
        println!("cargo:rerun-if-changed={file}");
        shim.file(file);
    }
    shim.cpp(true).std("c++17").compile("llm_cxr_graph");
    println!("cargo:rustc-link-arg=-Wl,--enable-new-dtags");
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/lib:$ORIGIN/../lib");
    if let Some(libtorch) = std::env::var_os("LIBTORCH") {
        let lib = PathBuf::from(libtorch).join("lib");
        let lib = lib.canonicalize().unwrap_or(lib);
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    }
}
