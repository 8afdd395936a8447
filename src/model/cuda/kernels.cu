// A decode step of GPT-NeoX in bf16, for few rows (tokens): what lies between the weights is fused, and the weights are read once, at the speed of
// memory. Compiled behind common.cuh, with further macros:
//
//   WARPS of a block of a product, and the blocks of weights that each has under way (DEPTH)
//   CHUNK: bytes of the next kernel's weights that a block brings into the cache
//   NORM_THREADS of a block that norms; FRESH: most rows of one sequence in a step
//
// A kernel lets the one behind it start early (griddepcontrol), so that its first weights are under way before what it waits for is there.
// Every block waits before it writes anything or ends; so when a kernel runs on after its wait, all kernels before it are done.
//
// Residual stream, QKV and logits are f32; what enters a product is bf16; sums are f32.

DEVICE void start_next() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

DEVICE void wait_for_last() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Weights pass by the L1 cache, which is for what all blocks read.
DEVICE uint4 stream(const u16* from) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from));
    return v;
}

DEVICE uint4 read(const u16* from) {
    uint4 v;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from) : "memory");
    return v;
}

DEVICE void prefetch(const void* line) { asm volatile("prefetch.global.L2 [%0];" ::"l"(line)); }

// Reads a block's share of the weights of the kernel behind it into the cache, while its own sums are made: between two kernels memory has nothing
// else to do.
DEVICE void ahead(i64 share, const void* next, i64 bytes) {
#if __CUDA_ARCH__ >= 900
    const i64 from = share * CHUNK;
    if (threadIdx.x == 0 && from < bytes) {
        const u32 size = (u32)min((i64)CHUNK, bytes - from);
        asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"((const char*)next + from), "r"(size));
    }
#endif
}

// Of all threads of a block, of which there are 1024 at most.
template <bool MAX>
DEVICE float of_block(float x) {
    __shared__ float parts[32];
    x = MAX ? max_of_warp(x) : sum_of_warp(x);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
    __syncthreads();
    if (lane == 0) parts[warp] = x;
    __syncthreads();
    const float none = MAX ? LEAST : 0.0f;
    x = lane < warps ? parts[lane] : none;
    return MAX ? max_of_warp(x) : sum_of_warp(x);
}

// One block a row.
//
// The residual stream x[row] is the embedding of a token where `ids` are given; else what it was and the products that `add` has made of
// it, in `parts` parts, with their biases. `first` and `second` get the row normed with the one and the other weights; there need be no second.
#define MOST_QUADS ((HIDDEN / 4 + NORM_THREADS - 1) / NORM_THREADS)

DEVICE void add(float4& sum, float4 more) { sum.x += more.x, sum.y += more.y, sum.z += more.z, sum.w += more.w; }

DEVICE void write_normed(u16* to, const u16* weight, const u16* bias, int quad, float4 v, float mean, float scale) {
    const float4 w = four(weight, quad), b = four(bias, quad);
    uint2 out;
    out.x = pack((v.x - mean) * scale * w.x + b.x, (v.y - mean) * scale * w.y + b.y);
    out.y = pack((v.z - mean) * scale * w.z + b.z, (v.w - mean) * scale * w.w + b.w);
    ((uint2*)to)[quad] = out;
}

extern "C" __global__ void __launch_bounds__(NORM_THREADS) norms(
    float* x, const i64* ids, const u16* embedding, const float* added, int parts, const u16* dense_bias, const u16* down_bias,
    const u16* weight1, const u16* bias1, u16* first, const u16* weight2, const u16* bias2, u16* second) {
    start_next();
    wait_for_last();
    const i64 row = blockIdx.x, rows = gridDim.x;
    float4* line = (float4*)(x + row * HIDDEN);
    float4 v[MOST_QUADS];
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < MOST_QUADS; i++) {
        const int quad = threadIdx.x + i * NORM_THREADS;
        if (quad >= HIDDEN / 4) break;
        if (ids) {
            v[i] = four(embedding + ids[row] * HIDDEN, quad);
        } else {
            v[i] = line[quad];
            for (int part = 0; part < parts; part++) add(v[i], ((const float4*)(added + (part * rows + row) * HIDDEN))[quad]);
            if (dense_bias) add(v[i], four(dense_bias, quad));
            if (down_bias) add(v[i], four(down_bias, quad));
        }
        line[quad] = v[i];
        sum += v[i].x + v[i].y + v[i].z + v[i].w;
    }
    const float mean = of_block<false>(sum) / HIDDEN;
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < MOST_QUADS; i++) {
        if (threadIdx.x + i * NORM_THREADS >= HIDDEN / 4) break;
        const float a = v[i].x - mean, b = v[i].y - mean, c = v[i].z - mean, d = v[i].w - mean;
        squares += a * a + b * b + c * c + d * d;
    }
    const float scale = rsqrtf(of_block<false>(squares) / HIDDEN + EPS);
#pragma unroll
    for (int i = 0; i < MOST_QUADS; i++) {
        const int quad = threadIdx.x + i * NORM_THREADS;
        if (quad >= HIDDEN / 4) break;
        write_normed(first + row * HIDDEN, weight1, bias1, quad, v[i], mean, scale);
        if (second) write_normed(second + row * HIDDEN, weight2, bias2, quad, v[i], mean, scale);
    }
}

// Products. A block makes 16 outputs of all rows; its warps share the inputs in blocks of 32, and add up in the end, in the order of
// warps. A warp's lane l reads 8 weights of output l / 4 (and of output l / 4 + 8) at a time, and the 8 inputs of row l / 4 that
// belong to them: in which order inputs are added is nobody's business, so what a lane read goes to the tensor cores as it is.

// A matrix of `outputs` × `inputs` and what it multiplies, [rows, inputs].
struct Factor {
    const u16* weight;
    const u16* x;
    int inputs;
};

template <int EIGHTS>
struct Sums {
    float c[EIGHTS][4];
};

template <int EIGHTS>
DEVICE void accumulate(
    Sums<EIGHTS>& sums, const Factor& one, const Factor& two, int tile, int outputs, int rows, int part = 0, int parts = 1) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = lane / 4, place = (lane % 4) * 8;
    const int blocks = (one.inputs + two.inputs) / 32, edge = one.inputs / 32;
    const int share = part * WARPS + warp, shares = parts * WARPS;
    const int end = blocks * (share + 1) / shares;
    int block = blocks * share / shares;
    int output[2];
#pragma unroll
    for (int i = 0; i < 2; i++) output[i] = min(tile * 16 + group + 8 * i, outputs - 1);

    uint4 w[DEPTH][2];
    auto load = [&](int at, uint4(&to)[2]) {
        const bool first = at < edge;
        const u16* from = (first ? one.weight + at * 32 : two.weight + (at - edge) * 32) + place;
        const i64 inputs = first ? one.inputs : two.inputs;
#pragma unroll
        for (int i = 0; i < 2; i++) to[i] = stream(from + output[i] * inputs);
    };
#pragma unroll
    for (int d = 0; d < DEPTH; d++)
        if (block + d < end) load(block + d, w[d]);
    wait_for_last();
    while (block < end) {
#pragma unroll
        for (int d = 0; d < DEPTH; d++) {
            if (block + d >= end) break;
            const int at = block + d;
            const bool first = at < edge;
            const u16* from = (first ? one.x + at * 32 : two.x + (at - edge) * 32) + place;
            const i64 inputs = first ? one.inputs : two.inputs;
#pragma unroll
            for (int e = 0; e < EIGHTS; e++) {
                uint4 x = make_uint4(0, 0, 0, 0);
                if (e * 8 + group < rows) x = read(from + (e * 8 + group) * inputs);
                const uint4 a = w[d][0], b = w[d][1];
                multiply(sums.c[e], a.x, b.x, a.y, b.y, x.x, x.y);
                multiply(sums.c[e], a.z, b.z, a.w, b.w, x.z, x.w);
            }
            if (at + DEPTH < end) load(at + DEPTH, w[d]);
        }
        block += DEPTH;
    }
}

// Adds up the warps' sums; `give(output, row, sum)` gets each of the block's.
template <int EIGHTS, typename Give>
DEVICE void add_up(const Sums<EIGHTS>& sums, int tile, int outputs, int rows, Give give) {
    __shared__ float parts[WARPS][4][32];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int e = 0; e < EIGHTS; e++) {
        if (e * 8 >= rows) break;
        if (e > 0) __syncthreads();
#pragma unroll
        for (int i = 0; i < 4; i++) parts[warp][i][lane] = sums.c[e][i];
        __syncthreads();
        if (warp < 4) {
            float sum = 0.0f;
#pragma unroll
            for (int w = 0; w < WARPS; w++) sum += parts[w][warp][lane];
            const int output = tile * 16 + lane / 4 + (warp / 2) * 8;
            const int row = e * 8 + (lane % 4) * 2 + warp % 2;
            if (output < outputs && row < rows) give(output, row, sum);
        }
    }
}

// Attention of one head of one row. Its key and value, and those of the rows before it that are of the same sequence, are taken from `qkv`
// ([rows, 3, HEADS, DIM]); all others from the memory ([HEADS, tokens, DIM]), which gets the row's own.
//
// `input`: [3, rows]: tokens, where sequences begin in the memory, positions.
#define GROUPS ((WARPS * 32) / EIGHTHS)

DEVICE void attend(
    int head, int row, const float* qkv, const float* cosines, const float* sines, const i64* input, u16* keys, u16* values, u16* out, int rows,
    i64 tokens) {
    // A weight for each position.
    extern __shared__ float weights[];
    __shared__ float q[DIM];
    __shared__ __align__(16) u16 fresh_keys[FRESH][DIM], fresh_values[FRESH][DIM];
    __shared__ float parts[GROUPS][DIM];
    const int thread = threadIdx.x;
    const i64 start = input[rows + row];
    const int position = (int)input[2 * rows + row];
    int fresh = 1;
    while (fresh < FRESH && fresh <= row && input[rows + row - fresh] == start && input[2 * rows + row - fresh] == position - fresh) fresh++;
    // Positions in the memory, and then the fresh ones.
    const int old = position + 1 - fresh;
    const u16* old_keys = keys + ((i64)head * tokens + start) * DIM;
    const u16* old_values = values + ((i64)head * tokens + start) * DIM;
    for (int at = thread * 64; at < old * DIM; at += (WARPS * 32) * 64) {
        prefetch(old_keys + at);
        prefetch(old_values + at);
    }
    wait_for_last();

    for (int i = thread; i < fresh * DIM; i += (WARPS * 32)) {
        const int f = i / DIM, d = i % DIM, at = position + 1 - fresh + f;
        const float* line = qkv + (i64)(row + 1 - fresh + f) * 3 * HIDDEN + head * DIM;
        const u16 key = narrow(turned(line + HIDDEN, d, cosines + (i64)at * HALF, sines + (i64)at * HALF));
        const u16 value = narrow(line[2 * HIDDEN + d]);
        fresh_keys[f][d] = key;
        fresh_values[f][d] = value;
        if (f == fresh - 1) {
            const i64 place = ((i64)head * tokens + start + position) * DIM + d;
            keys[place] = key;
            values[place] = value;
            q[d] = turned(line, d, cosines + (i64)at * HALF, sines + (i64)at * HALF) * rsqrtf((float)DIM);
        }
    }
    __syncthreads();

    float most = LEAST;
    for (int key = thread; key <= position; key += (WARPS * 32)) {
        const u16* line = key < old ? old_keys + (i64)key * DIM : fresh_keys[key - old];
        float score = 0.0f;
#pragma unroll 5
        for (int i = 0; i < EIGHTHS; i++) score += dot_eight(((const uint4*)line)[i], q + 8 * i);
        weights[key] = score;
        most = fmaxf(most, score);
    }
    most = of_block<true>(most);
    float total = 0.0f;
    for (int key = thread; key <= position; key += (WARPS * 32)) {
        const float weight = __expf(weights[key] - most);
        weights[key] = weight;
        total += weight;
    }
    total = of_block<false>(total);

    const int group = thread / EIGHTHS, eighth = thread % EIGHTHS;
    if (group < GROUPS) {
        float sum[8] = {};
#pragma unroll 4
        for (int key = group; key < old; key += GROUPS) add_eight(sum, weights[key], ((const uint4*)(old_values + (i64)key * DIM))[eighth]);
        for (int f = group; f < fresh; f += GROUPS) add_eight(sum, weights[old + f], ((const uint4*)fresh_values[f])[eighth]);
#pragma unroll
        for (int i = 0; i < 8; i++) parts[group][eighth * 8 + i] = sum[i];
    }
    __syncthreads();
    if (thread < DIM) {
        float sum = 0.0f;
        for (int g = 0; g < GROUPS; g++) sum += parts[g][thread];
        out[(i64)row * HIDDEN + head * DIM + thread] = narrow(sum / total);
    }
}

// The product of all outputs, f32.
template <int EIGHTS>
DEVICE void product(
    const u16* weight, const u16* x, const u16* bias, float* out, int outputs, int rows, const void* next, i64 next_bytes) {
    start_next();
    Sums<EIGHTS> sums = {};
    accumulate<EIGHTS>(sums, Factor{weight, x, HIDDEN}, Factor{0, 0, 0}, blockIdx.x, outputs, rows);
    ahead(blockIdx.x, next, next_bytes);
    add_up<EIGHTS>(sums, blockIdx.x, outputs, rows, [&](int output, int row, float sum) {
        out[(i64)row * outputs + output] = sum + (bias ? wide(bias[output]) : 0.0f);
    });
}

// The first `attending` blocks attend, the others are the MLP's first half, activated, bf16: reading its weights leaves attention the time it needs.
template <int EIGHTS>
DEVICE void attend_and_up(
    int attending, const float* qkv, const float* cosines, const float* sines, const i64* input, u16* keys, u16* values, u16* attended,
    i64 tokens, const u16* weight, const u16* x, const u16* bias, u16* out, int outputs, int rows, const void* next, i64 next_bytes) {
    start_next();
    if ((int)blockIdx.x < attending) {
        const int heads = HIDDEN / DIM;
        attend(blockIdx.x % heads, blockIdx.x / heads, qkv, cosines, sines, input, keys, values, attended, rows, tokens);
        return;
    }
    const int tile = blockIdx.x - attending;
    Sums<EIGHTS> sums = {};
    accumulate<EIGHTS>(sums, Factor{weight, x, HIDDEN}, Factor{0, 0, 0}, tile, outputs, rows);
    ahead(tile, next, next_bytes);
    add_up<EIGHTS>(sums, tile, outputs, rows, [&](int output, int row, float sum) {
        out[(i64)row * outputs + output] = narrow(activate(sum + (bias ? wide(bias[output]) : 0.0f)));
    });
}

// What attention and MLP add to the residual stream: [parts, rows, HIDDEN], a part from each share of the inputs. There may be but one of the two.
template <int EIGHTS>
DEVICE void add_shares(Factor dense, Factor down, float* out, int rows, const void* next, i64 next_bytes) {
    start_next();
    Sums<EIGHTS> sums = {};
    accumulate<EIGHTS>(sums, dense, down, blockIdx.x, HIDDEN, rows, blockIdx.y, gridDim.y);
    ahead(blockIdx.x + (i64)blockIdx.y * gridDim.x, next, next_bytes);
    out += (i64)blockIdx.y * rows * HIDDEN;
    add_up<EIGHTS>(sums, blockIdx.x, HIDDEN, rows, [&](int output, int row, float sum) { out[(i64)row * HIDDEN + output] = sum; });
}

// As many blocks at a time as a multiprocessor has threads for, if they are to be `THREADS`.
#define KERNEL(THREADS) extern "C" __global__ void __launch_bounds__(WARPS * 32, THREADS / (WARPS * 32))
#define OF_ROWS(NAME, EIGHTS, THREADS)                                                                                                     \
    KERNEL(THREADS) product_##NAME(                                                                                                          \
        const u16* weight, const u16* x, const u16* bias, float* out, int outputs, int rows, const void* next, i64 next_bytes) {              \
        product<EIGHTS>(weight, x, bias, out, outputs, rows, next, next_bytes);                                                        \
    }                                                                                                                                        \
    KERNEL(THREADS) attend_and_up_##NAME(                                                                                                    \
        int attending, const float* qkv, const float* cosines, const float* sines, const i64* input, u16* keys, u16* values, u16* attended,   \
        i64 tokens, const u16* weight, const u16* x, const u16* bias, u16* out, int outputs, int rows, const void* next, i64 next_bytes) {    \
        attend_and_up<EIGHTS>(                                                                                                         \
            attending, qkv, cosines, sines, input, keys, values, attended, tokens, weight, x, bias, out, outputs, rows, next, next_bytes);    \
    }                                                                                                                                        \
    KERNEL(THREADS) add_##NAME(                                                                                                              \
        const u16* dense, const u16* dense_x, int dense_inputs, const u16* down, const u16* down_x, int down_inputs, float* out, int rows,    \
        const void* next, i64 next_bytes) {                                                                                                   \
        const Factor one = {dense, dense_x, dense_inputs}, two = {down, down_x, down_inputs};                                                 \
        add_shares<EIGHTS>(one, two, out, rows, next, next_bytes);                                                                     \
    }

OF_ROWS(8, 1, 1536)
OF_ROWS(16, 2, 1024)
