// Switches of libtorch that hold for the whole process.

#include <dlfcn.h>

namespace at {
class Context;
}

namespace {

// Sets one, a member of its context that takes a bool. 0, or 1 where this libtorch has no such switch.
int set(const char* member, bool value) {
    // Members are functions whose first argument is the object (Itanium C++ ABI).
    const auto context = reinterpret_cast<at::Context& (*)()>(dlsym(RTLD_DEFAULT, "_ZN2at13globalContextEv"));
    const auto setter = reinterpret_cast<void (*)(at::Context&, bool)>(dlsym(RTLD_DEFAULT, member));
    if (context == nullptr || setter == nullptr) {
        return 1;
    }
    try {
        setter(context(), value);
    } catch (...) {
        return 1;
    }
    return 0;
}

}  // namespace

extern "C" {

// Products of 32-bit floats in 32 bits: by itself libtorch rounds the inputs of cuDNN's convolutions to TF32, 10 bits of mantissa.
int llm_cxr_exact_convolutions() { return set("_ZN2at7Context17setAllowTF32CuDNNEb", false); }

// Attention without cuDNN, which on Hopper and Blackwell comes first, and takes about a second for each length of queries and keys that it has not seen.
int llm_cxr_attention_of_any_length() { return set("_ZN2at7Context14setSDPUseCuDNNEb", false); }

}  // extern "C"
