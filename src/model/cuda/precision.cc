// Products of 32-bit floats in 32 bits: by itself libtorch rounds the inputs of cuDNN's convolutions to TF32, 10 bits of mantissa.

#include <dlfcn.h>

namespace at {
class Context;
}

extern "C" {

// Switches that off for the whole process. 0, or 1 where this libtorch has no such switch.
int llm_cxr_exact_convolutions() {
    // Members are functions whose first argument is the object (Itanium C++ ABI).
    const auto context = reinterpret_cast<at::Context& (*)()>(dlsym(RTLD_DEFAULT, "_ZN2at13globalContextEv"));
    const auto allow = reinterpret_cast<void (*)(at::Context&, bool)>(dlsym(RTLD_DEFAULT, "_ZN2at7Context17setAllowTF32CuDNNEb"));
    if (context == nullptr || allow == nullptr) {
        return 1;
    }
    try {
        allow(context(), false);
    } catch (...) {
        return 1;
    }
    return 0;
}

}  // extern "C"
