// CUDA graphs of libtorch, found by name at run time: the binary is built against the CPU half of libtorch alone, and its headers need
// none of CUDA's. What libtorch throws ends here, since nothing may unwind into Rust.
//
// The few types that cross are declared below as libtorch 2.11 has them. With -DLLM_CXR_CHECK_ABI and the headers of a CUDA libtorch, the
// compiler compares (scripts/check-cuda-abi.sh).

#include <dlfcn.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <new>
#include <utility>

#ifdef LLM_CXR_CHECK_ABI
#include <ATen/cuda/CUDAGraph.h>
#endif

namespace {

// c10::cuda::CUDAStream: device and id.
struct Stream {
    std::int8_t device[2];
    std::int64_t id;
};

// at::cuda::MempoolId_t.
using Pool = std::pair<unsigned long long, unsigned long long>;

// Room for an at::cuda::CUDAGraph.
constexpr std::size_t kGraphBytes = 1024;

// cudaStreamCaptureModeThreadLocal: what other threads do is none of a capture's business.
constexpr int kThreadLocal = 1;

#ifdef LLM_CXR_CHECK_ABI
static_assert(sizeof(at::cuda::CUDAGraph) <= kGraphBytes && alignof(at::cuda::CUDAGraph) <= alignof(std::max_align_t));
static_assert(sizeof(c10::cuda::CUDAStream) == sizeof(Stream) && alignof(c10::cuda::CUDAStream) == alignof(Stream));
static_assert(std::is_trivially_copy_constructible_v<c10::cuda::CUDAStream> && std::is_trivially_destructible_v<c10::cuda::CUDAStream>);
static_assert(std::is_same_v<at::cuda::MempoolId_t, Pool>);
static_assert(cudaStreamCaptureModeThreadLocal == kThreadLocal && sizeof(cudaStreamCaptureMode) == sizeof(int));
static_assert(std::is_same_v<c10::DeviceIndex, std::int8_t>);
static_assert(std::is_same_v<decltype(&c10::cuda::CUDAStream::stream), cudaStream_t (c10::cuda::CUDAStream::*)() const>);
#endif

// Members are functions whose first argument is the object (Itanium C++ ABI).
struct Library {
    void (*construct)(void*, bool);
    void (*destroy)(void*);
    void (*capture_begin)(void*, Pool, int);
    void (*capture_end)(void*);
    void (*replay)(void*);
    Pool (*pool)();
    Stream (*side_stream)(bool, std::int8_t);
    Stream (*current_stream)(std::int8_t);
    void (*use_stream)(Stream);
    void* (*raw_stream)(const Stream*);
    void (*set_device)(std::int8_t, bool);
    void (*synchronize)();
};

Library library;

struct Graph {
    alignas(std::max_align_t) unsigned char memory[kGraphBytes];
};

void say(char* why, std::size_t room, const char* text) {
    if (room > 0) {
        std::snprintf(why, room, "%s", text);
    }
}

// 0, or 1 with the reason in `why`.
template <typename Work>
int guarded(char* why, std::size_t room, Work work) {
    try {
        work();
        return 0;
    } catch (const std::exception& error) {
        say(why, room, error.what());
    } catch (...) {
        say(why, room, "libtorch threw something unknown");
    }
    return 1;
}

template <typename Function>
bool find(Function& function, const char* name, char* why, std::size_t room) {
    function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
    if (function == nullptr && room > 0) {
        std::snprintf(why, room, "this libtorch has no %s", name);
    }
    return function != nullptr;
}

}  // namespace

extern "C" {

// Finds what is needed in the libraries that are open. To be called once, before all others.
int llm_cxr_graphs_find(char* why, std::size_t room) {
    Library& l = library;
    const bool all = find(l.construct, "_ZN2at4cuda9CUDAGraphC1Eb", why, room) &&
                     find(l.destroy, "_ZN2at4cuda9CUDAGraphD1Ev", why, room) &&
                     find(l.capture_begin, "_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode", why, room) &&
                     find(l.capture_end, "_ZN2at4cuda9CUDAGraph11capture_endEv", why, room) &&
                     find(l.replay, "_ZN2at4cuda9CUDAGraph6replayEv", why, room) &&
                     find(l.pool, "_ZN2at4cuda17graph_pool_handleEv", why, room) &&
                     find(l.side_stream, "_ZN3c104cuda17getStreamFromPoolEba", why, room) &&
                     find(l.current_stream, "_ZN3c104cuda20getCurrentCUDAStreamEa", why, room) &&
                     find(l.use_stream, "_ZN3c104cuda20setCurrentCUDAStreamENS0_10CUDAStreamE", why, room) &&
                     find(l.raw_stream, "_ZNK3c104cuda10CUDAStream6streamEv", why, room) &&
                     find(l.set_device, "_ZN3c104cuda10set_deviceEab", why, room) &&
                     find(l.synchronize, "_ZN3c104cuda18device_synchronizeEv", why, room);
    return all ? 0 : 1;
}

// A pool of memory that graphs share.
int llm_cxr_graphs_pool(unsigned long long pool[2], char* why, std::size_t room) {
    return guarded(why, room, [&] {
        const Pool made = library.pool();
        pool[0] = made.first;
        pool[1] = made.second;
    });
}

int llm_cxr_device_use(int device, char* why, std::size_t room) {
    return guarded(why, room, [&] { library.set_device(static_cast<std::int8_t>(device), true); });
}

// Waits for the device, and makes another stream than the default one this thread's. `before` gets the one that was.
int llm_cxr_stream_enter(int device, Stream* before, char* why, std::size_t room) {
    return guarded(why, room, [&] {
        library.set_device(static_cast<std::int8_t>(device), false);
        library.synchronize();
        *before = library.current_stream(static_cast<std::int8_t>(device));
        library.use_stream(library.side_stream(false, static_cast<std::int8_t>(device)));
    });
}

// Waits for the device, and makes `before` this thread's stream again.
int llm_cxr_stream_leave(const Stream* before, char* why, std::size_t room) {
    const int waited = guarded(why, room, [] { library.synchronize(); });
    const int used = guarded(why, room, [&] { library.use_stream(*before); });
    return waited | used;
}

// This thread's stream, as the driver knows it.
int llm_cxr_stream_current(int device, void** raw, char* why, std::size_t room) {
    return guarded(why, room, [&] {
        const Stream stream = library.current_stream(static_cast<std::int8_t>(device));
        *raw = library.raw_stream(&stream);
    });
}

// From here on what this thread launches is recorded, not run.
Graph* llm_cxr_graph_begin(const unsigned long long pool[2], char* why, std::size_t room) {
    Graph* graph = new (std::nothrow) Graph;
    if (graph == nullptr) {
        say(why, room, "out of memory");
        return nullptr;
    }
    if (guarded(why, room, [&] { library.construct(graph->memory, false); }) != 0) {
        delete graph;
        return nullptr;
    }
    if (guarded(why, room, [&] { library.capture_begin(graph->memory, Pool(pool[0], pool[1]), kThreadLocal); }) != 0) {
        guarded(why, 0, [&] { library.destroy(graph->memory); });
        delete graph;
        return nullptr;
    }
    return graph;
}

int llm_cxr_graph_end(Graph* graph, char* why, std::size_t room) {
    return guarded(why, room, [&] { library.capture_end(graph->memory); });
}

int llm_cxr_graph_replay(Graph* graph, char* why, std::size_t room) {
    return guarded(why, room, [&] { library.replay(graph->memory); });
}

void llm_cxr_graph_free(Graph* graph) {
    guarded(nullptr, 0, [&] { library.destroy(graph->memory); });
    delete graph;
}

}  // extern "C"
