// A decode step of GPT-NeoX in bf16, for few rows (tokens): what lies between the weights is fused, and the weights are read once, at the speed of
// memory. Compiled on the machine it runs on (program.rs), for one model's shape:
//
//   HIDDEN, DIM (of a head), HALF (rotary pairs), ACTIVATION (0 gelu, 1 gelu by tanh, 2 relu), EPS
//   WARPS of a block of a product, and the weight blocks that each has under way (DEPTH)
//
// A kernel lets the one behind it start early (griddepcontrol), so that its first weights are under way before what it waits for is there.
// Every block waits before it writes anything or ends; so when a kernel runs on after its wait, all kernels before it are done.
//
// Residual stream, QKV and logits are f32; what enters a product is bf16; sums are f32.

typedef unsigned short u16;
typedef unsigned int u32;
typedef long long i64;

// Less than any score.
#define LEAST __int_as_float(0xff800000)

#define DEVICE static __device__ __forceinline__

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

DEVICE float low(u32 pair) { return __uint_as_float(pair << 16); }
DEVICE float high(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }
DEVICE float wide(u16 bits) { return __uint_as_float((u32)bits << 16); }

DEVICE u32 pack(float first, float second) {
    u32 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
}

DEVICE u16 narrow(float value) { return (u16)pack(value, 0.0f); }

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

// c[16 × 8] += a[16 × 16] · b[16 × 8].
DEVICE void multiply(float (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

DEVICE float sum_of_warp(float x) {
    for (int step = 16; step > 0; step >>= 1) x += __shfl_xor_sync(~0u, x, step);
    return x;
}

DEVICE float max_of_warp(float x) {
    for (int step = 16; step > 0; step >>= 1) x = fmaxf(x, __shfl_xor_sync(~0u, x, step));
    return x;
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

DEVICE float activate(float x) {
#if ACTIVATION == 0
    return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
#elif ACTIVATION == 1
    return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
#else
    return fmaxf(x, 0.0f);
#endif
}

// One block a row, a thread for each four numbers of it (HIDDEN / 4 of them at most; MOST_QUADS each).
//
// Where `ids` are given, x[row] is first read from the embedding. `first` and `second` get the row normed with the one and the other
// weights; there need be no second.
#define NORM_THREADS 512
#define MOST_QUADS ((HIDDEN / 4 + NORM_THREADS - 1) / NORM_THREADS)

DEVICE void write_normed(u16* to, const u16* weight, const u16* bias, int quad, const float (&v)[4], float mean, float scale) {
    const uint2 w = ((const uint2*)weight)[quad], b = ((const uint2*)bias)[quad];
    uint2 out;
    out.x = pack((v[0] - mean) * scale * low(w.x) + low(b.x), (v[1] - mean) * scale * high(w.x) + high(b.x));
    out.y = pack((v[2] - mean) * scale * low(w.y) + low(b.y), (v[3] - mean) * scale * high(w.y) + high(b.y));
    ((uint2*)to)[quad] = out;
}

extern "C" __global__ void __launch_bounds__(NORM_THREADS) norms(
    float* x, const i64* ids, const u16* embedding, const u16* weight1, const u16* bias1, u16* first, const u16* weight2, const u16* bias2,
    u16* second) {
    start_next();
    wait_for_last();
    const i64 row = blockIdx.x;
    float4* line = (float4*)(x + row * HIDDEN);
    float v[MOST_QUADS][4];
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < MOST_QUADS; i++) {
        const int quad = threadIdx.x + i * NORM_THREADS;
        if (quad >= HIDDEN / 4) break;
        if (ids) {
            const uint2 pairs = ((const uint2*)(embedding + ids[row] * HIDDEN))[quad];
            v[i][0] = low(pairs.x), v[i][1] = high(pairs.x), v[i][2] = low(pairs.y), v[i][3] = high(pairs.y);
            line[quad] = make_float4(v[i][0], v[i][1], v[i][2], v[i][3]);
        } else {
            const float4 four = line[quad];
            v[i][0] = four.x, v[i][1] = four.y, v[i][2] = four.z, v[i][3] = four.w;
        }
        sum += v[i][0] + v[i][1] + v[i][2] + v[i][3];
    }
    const float mean = of_block<false>(sum) / HIDDEN;
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < MOST_QUADS; i++) {
        if (threadIdx.x + i * NORM_THREADS >= HIDDEN / 4) break;
        for (int j = 0; j < 4; j++) squares += (v[i][j] - mean) * (v[i][j] - mean);
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

// Products. A block makes 16·TILES outputs of all rows; its warps share the inputs in blocks of 32, and add up in the end, in the order of
// warps. A warp's lane l reads 8 weights of output l / 4 (and of output l / 4 + 8) at a time, and the 8 inputs of row l / 4 that
// belong to them: in which order inputs are added is nobody's business, so what a lane read goes to the tensor cores as it is.

// A matrix of `outputs` × `inputs` and what it multiplies, [rows, inputs].
struct Factor {
    const u16* weight;
    const u16* x;
    int inputs;
};

// Weights under way at a time.
template <int TILES>
struct Depth {
    static const int value = TILES == 1 ? DEPTH : DEPTH / 2;
};

template <int TILES, int EIGHTS>
struct Sums {
    float c[TILES][EIGHTS][4];
};

template <int TILES, int EIGHTS>
DEVICE void accumulate(Sums<TILES, EIGHTS>& sums, const Factor& one, const Factor& two, int tile, int outputs, int rows) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = lane / 4, place = (lane % 4) * 8;
    const int blocks = (one.inputs + two.inputs) / 32, edge = one.inputs / 32;
    const int end = blocks * (warp + 1) / WARPS;
    int block = blocks * warp / WARPS;
    int output[2 * TILES];
#pragma unroll
    for (int i = 0; i < 2 * TILES; i++) output[i] = min(tile * 16 * TILES + group + 8 * i, outputs - 1);

    const int depth = Depth<TILES>::value;
    uint4 w[depth][2 * TILES];
    auto load = [&](int at, uint4(&to)[2 * TILES]) {
        const bool first = at < edge;
        const u16* from = (first ? one.weight + at * 32 : two.weight + (at - edge) * 32) + place;
        const i64 inputs = first ? one.inputs : two.inputs;
#pragma unroll
        for (int i = 0; i < 2 * TILES; i++) to[i] = stream(from + output[i] * inputs);
    };
#pragma unroll
    for (int d = 0; d < depth; d++)
        if (block + d < end) load(block + d, w[d]);
    wait_for_last();
    while (block < end) {
#pragma unroll
        for (int d = 0; d < depth; d++) {
            if (block + d >= end) break;
            const int at = block + d;
            const bool first = at < edge;
            const u16* from = (first ? one.x + at * 32 : two.x + (at - edge) * 32) + place;
            const i64 inputs = first ? one.inputs : two.inputs;
#pragma unroll
            for (int e = 0; e < EIGHTS; e++) {
                uint4 x = make_uint4(0, 0, 0, 0);
                if (e * 8 + group < rows) x = read(from + (e * 8 + group) * inputs);
#pragma unroll
                for (int t = 0; t < TILES; t++) {
                    const uint4 a = w[d][2 * t], b = w[d][2 * t + 1];
                    multiply(sums.c[t][e], a.x, b.x, a.y, b.y, x.x, x.y);
                    multiply(sums.c[t][e], a.z, b.z, a.w, b.w, x.z, x.w);
                }
            }
            if (at + depth < end) load(at + depth, w[d]);
        }
        block += depth;
    }
}

// Adds up the warps' sums; `give(output, row, sum)` gets each of the block's.
template <int TILES, int EIGHTS, typename Give>
DEVICE void add_up(const Sums<TILES, EIGHTS>& sums, int tile, int outputs, int rows, Give give) {
    __shared__ float parts[WARPS][4][32];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int t = 0; t < TILES; t++) {
#pragma unroll
        for (int e = 0; e < EIGHTS; e++) {
            if (e * 8 >= rows) break;
            if (t + e > 0) __syncthreads();
#pragma unroll
            for (int i = 0; i < 4; i++) parts[warp][i][lane] = sums.c[t][e][i];
            __syncthreads();
            if (warp < 4) {
                float sum = 0.0f;
#pragma unroll
                for (int w = 0; w < WARPS; w++) sum += parts[w][warp][lane];
                const int output = (tile * TILES + t) * 16 + lane / 4 + (warp / 2) * 8;
                const int row = e * 8 + (lane % 4) * 2 + warp % 2;
                if (output < outputs && row < rows) give(output, row, sum);
            }
        }
    }
}

DEVICE float bias_of(const u16* bias, int output) { return bias ? wide(bias[output]) : 0.0f; }

// QKV, f32, and the activated MLP, bf16, from inputs that are normed differently. There may be but one of the two.
template <int TILES, int EIGHTS>
DEVICE void widen(Factor qkv, const u16* qkv_bias, float* qkv_out, int qkv_outputs, Factor up, const u16* up_bias, u16* up_out, int up_outputs, int rows) {
    start_next();
    const int tiles = (qkv_outputs + 16 * TILES - 1) / (16 * TILES);
    Sums<TILES, EIGHTS> sums = {};
    const Factor none = {0, 0, 0};
    if ((int)blockIdx.x < tiles) {
        accumulate<TILES, EIGHTS>(sums, qkv, none, blockIdx.x, qkv_outputs, rows);
        add_up<TILES, EIGHTS>(sums, blockIdx.x, qkv_outputs, rows, [&](int output, int row, float sum) {
            qkv_out[(i64)row * qkv_outputs + output] = sum + bias_of(qkv_bias, output);
        });
    } else {
        const int tile = blockIdx.x - tiles;
        accumulate<TILES, EIGHTS>(sums, up, none, tile, up_outputs, rows);
        add_up<TILES, EIGHTS>(sums, tile, up_outputs, rows, [&](int output, int row, float sum) {
            up_out[(i64)row * up_outputs + output] = narrow(activate(sum + bias_of(up_bias, output)));
        });
    }
}

// What attention and MLP found, added to the residual stream. There may be but one of the two.
template <int TILES, int EIGHTS>
DEVICE void add_to(Factor dense, const u16* dense_bias, Factor down, const u16* down_bias, float* x, int rows) {
    start_next();
    Sums<TILES, EIGHTS> sums = {};
    accumulate<TILES, EIGHTS>(sums, dense, down, blockIdx.x, HIDDEN, rows);
    add_up<TILES, EIGHTS>(sums, blockIdx.x, HIDDEN, rows, [&](int output, int row, float sum) {
        x[(i64)row * HIDDEN + output] += sum + bias_of(dense_bias, output) + bias_of(down_bias, output);
    });
}

#define OF_ROWS(NAME, TILES, EIGHTS)                                                                                                            \
    extern "C" __global__ void __launch_bounds__(WARPS * 32) widen_##NAME(                                                                        \
        const u16* qkv, const u16* qkv_x, const u16* qkv_bias, float* qkv_out, int qkv_outputs, const u16* up, const u16* up_x,                    \
        const u16* up_bias, u16* up_out, int up_outputs, int rows) {                                                                              \
        widen<TILES, EIGHTS>({qkv, qkv_x, HIDDEN}, qkv_bias, qkv_out, qkv_outputs, {up, up_x, HIDDEN}, up_bias, up_out, up_outputs, rows);         \
    }                                                                                                                                             \
    extern "C" __global__ void __launch_bounds__(WARPS * 32) add_to_##NAME(                                                                       \
        const u16* dense, const u16* dense_x, const u16* dense_bias, int dense_inputs, const u16* down, const u16* down_x,                         \
        const u16* down_bias, int down_inputs, float* x, int rows) {                                                                              \
        add_to<TILES, EIGHTS>({dense, dense_x, dense_inputs}, dense_bias, {down, down_x, down_inputs}, down_bias, x, rows);                        \
    }

OF_ROWS(8, 1, 1)
OF_ROWS(16, 1, 2)
OF_ROWS(32, 2, 4)
OF_ROWS(64, 2, 8)

// Attention of one head of one row. Its key and value, and those of the rows before it that are of the same sequence, are taken from `qkv`
// ([rows, 3, HEADS, DIM]); all others from the memory ([HEADS, tokens, DIM]), which gets the row's own.
//
// `input`: [3, rows]: tokens, where sequences begin in the memory, positions.
#define ATTEND_THREADS 256
#define EIGHTHS (DIM / 8)
#define GROUPS (ATTEND_THREADS / EIGHTHS)
// Rows of one sequence in a step.
#define FRESH 16

DEVICE float turned(const float* head, int d, const float* cosines, const float* sines) {
    if (d < HALF) return head[d] * cosines[d] - head[d + HALF] * sines[d];
    if (d < 2 * HALF) return head[d] * cosines[d - HALF] + head[d - HALF] * sines[d - HALF];
    return head[d];
}

DEVICE float dot_eight(uint4 k, const float* q) {
    return low(k.x) * q[0] + high(k.x) * q[1] + low(k.y) * q[2] + high(k.y) * q[3] + low(k.z) * q[4] + high(k.z) * q[5] + low(k.w) * q[6] +
           high(k.w) * q[7];
}

DEVICE void add_eight(float (&sum)[8], float p, uint4 v) {
    sum[0] += p * low(v.x), sum[1] += p * high(v.x), sum[2] += p * low(v.y), sum[3] += p * high(v.y);
    sum[4] += p * low(v.z), sum[5] += p * high(v.z), sum[6] += p * low(v.w), sum[7] += p * high(v.w);
}

extern "C" __global__ void __launch_bounds__(ATTEND_THREADS) attend(
    const float* qkv, const float* cosines, const float* sines, const i64* input, u16* keys, u16* values, u16* out, int rows, i64 tokens) {
    // A weight for each position.
    extern __shared__ float weights[];
    __shared__ float q[DIM];
    __shared__ __align__(16) u16 fresh_keys[FRESH][DIM], fresh_values[FRESH][DIM];
    __shared__ float parts[GROUPS][DIM];
    start_next();
    const int head = blockIdx.x, row = blockIdx.y, thread = threadIdx.x;
    const i64 start = input[rows + row];
    const int position = (int)input[2 * rows + row];
    int fresh = 1;
    while (fresh < FRESH && fresh <= row && input[rows + row - fresh] == start && input[2 * rows + row - fresh] == position - fresh) fresh++;
    // Positions in the memory, and then the fresh ones.
    const int old = position + 1 - fresh;
    const u16* old_keys = keys + ((i64)head * tokens + start) * DIM;
    const u16* old_values = values + ((i64)head * tokens + start) * DIM;
    for (int at = thread * 64; at < old * DIM; at += ATTEND_THREADS * 64) {
        prefetch(old_keys + at);
        prefetch(old_values + at);
    }
    wait_for_last();

    for (int i = thread; i < fresh * DIM; i += ATTEND_THREADS) {
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
    for (int key = thread; key <= position; key += ATTEND_THREADS) {
        const u16* line = key < old ? old_keys + (i64)key * DIM : fresh_keys[key - old];
        uint4 k[EIGHTHS];
#pragma unroll
        for (int i = 0; i < EIGHTHS; i++) k[i] = ((const uint4*)line)[i];
        float score = 0.0f;
#pragma unroll
        for (int i = 0; i < EIGHTHS; i++) score += dot_eight(k[i], q + 8 * i);
        weights[key] = score;
        most = fmaxf(most, score);
    }
    most = of_block<true>(most);
    float total = 0.0f;
    for (int key = thread; key <= position; key += ATTEND_THREADS) {
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
