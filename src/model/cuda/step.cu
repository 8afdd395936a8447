// A whole decode step of GPT-NeoX in one launch, for a few rows: kernels.cu's products read weights at three quarters of the speed of memory at best, for each
// begins and ends alone. Here a block stays on its multiprocessor for the step. One warp (the producer) brings the weights of the block's outputs, matrix after
// matrix, into a ring in shared memory, and waits for nothing but free room; the others (consumers) multiply, norm and attend, and wait for other blocks where
// they need what those have made. While they wait the ring fills, and they empty it faster than memory fills it: so memory is never idle.
//
// For Hopper and newer (bulk copies, mbarriers). Compiled behind common.cuh, with further macros:
//
//   STEP_ROWS (1, 2, 4, 8, 16), LAYERS, WIDE (MLP), VOCABULARY, CONTEXT, GRID (blocks: multiprocessors of the GPU), STAGE_INPUTS (divides HIDDEN and WIDE, a multiple of 32)
//   SHARED_BYTES of a block; UNDER_WAY: stages that a block asks for at a time; UP_FIRST: sixteenths of the MLP's first half that are made before attention
//
// The blocks must all be on the GPU at once: launched as a cooperative grid. `counts` is zero before the first step, and each step leaves it so.

typedef unsigned long long u64;

#define METHOD __device__ __forceinline__

// Warps that consume; one more produces, and another tells other blocks.
#define CONSUMERS 10
#define THREADS (CONSUMERS * 32)

// Bytes of a row in shared memory: eight rows that are read at the same place lie in different banks.
#define PADDED(BYTES) ((BYTES) % 128 == 0 ? (BYTES) + 64 : (BYTES))
#define ROW_BYTES PADDED(STAGE_INPUTS * 2)
// A stage: inputs of eight outputs.
#define STAGE_BYTES (8 * ROW_BYTES)
#define X_BYTES PADDED(HIDDEN * 2)

#define HEADS (HIDDEN / DIM)
// Of a block's 32 inputs, those that a warp has.
#define BLOCKS_OF_WARP ((STAGE_INPUTS / 32 + CONSUMERS - 1) / CONSUMERS)
// Eights of outputs that a block adds to the residual stream.
#define ADD_EIGHTS (((HIDDEN + GRID - 1) / GRID + 7) / 8)
#define QUADS ((HIDDEN / 4 + THREADS - 1) / THREADS)
// Keys (or values) of a stage.
#define STAGE_KEYS (STAGE_BYTES / (DIM * 2))

// What a layer's kernels read. The same in fused/whole.rs.
struct Layer {
    const u16 *qkv, *qkv_bias, *dense, *dense_bias, *up, *up_bias, *down, *down_bias;
    const u16 *norm1, *norm1_bias, *norm2, *norm2_bias;
};

// What a step reads and writes.
struct Whole {
    // [LAYERS]
    const Layer* layers;
    const u16 *embedding, *head, *head_bias, *norm, *norm_bias;
    const float *cosines, *sines;
    // [3, rows]: tokens, where sequences begin in the memory, positions.
    const i64* input;
    // Of layer 0, [HEADS, tokens, DIM]; the next layer's are `stride` further.
    u16 *keys, *values;
    i64 stride, tokens;
    // [rows, HIDDEN]
    float* x;
    // [rows, 3, HEADS, DIM]
    float* qkv;
    // [rows, HEADS, shares, DIM], and of each the largest score and the sum of weights.
    float *attended, *scales;
    // [rows, HIDDEN], where attention is not in shares.
    u16* whole;
    // [rows, WIDE]
    u16* active;
    // [rows, VOCABULARY]
    float* logits;
    u32* counts;
};

// Shares that a row's head is attended to in: as many blocks as there are, about.
template <int ROWS>
struct Shares {
    static const int value = ROWS >= 4 ? 1 : 4 / ROWS;
};

// The tensor cores take sixteen rows; registers for the second eight are there where it is.
template <int ROWS>
struct Rows {
    static const int halves = ROWS > 8 ? 2 : 1;
    // Rows that are normed at a time.
    static const int normed = ROWS > 8 ? 8 : ROWS;
    // Eights of outputs whose sums are added up at a time.
    static const int eights = ROWS > 8 ? 5 : 10;
    // Whether a layer's two norms have room beside each other.
    static const bool both = ROWS <= 8;
};

// A share of a row's head: positions `from` to `to` of those that begin at `start` in the memory. Those from `old` on are of this step.
struct Unit {
    int row, head, share, from, to, old, position;
    i64 start;
    // What is in the memory.
    METHOD int kept() const { return max(0, min(to, old) - from); }
};

template <int ROWS>
struct Room {
    static const int shares = Shares<ROWS>::value;
    static const int keys = (CONTEXT + shares - 1) / shares + 1;
    static const int units = (ROWS * HEADS * shares + GRID - 1) / GRID;
    // Attention: weights, sums of groups, query, the step's own keys and values. Sums of a matrix, and of what is added.
    static const int groups = THREADS / EIGHTHS;
    static const int attention = (keys + 3) / 4 * 4 * 4 + groups * DIM * 4 + DIM * 4 + 2 * ROWS * DIM * 2;
    static const int eights = CONSUMERS * ROWS * 8 * 4 * (ADD_EIGHTS > Rows<ROWS>::eights ? ADD_EIGHTS : Rows<ROWS>::eights);
    static const int scratch = ((attention > eights ? attention : eights) + 15) / 16 * 16;
    static const int normed = (Rows<ROWS>::both ? 2 : 1) * ROWS * X_BYTES;
    // Barriers: two for each of at most 32 stages, and one for each kind of news.
    static const int barriers = (2 * 32 + 4) * 8;
    static const int sums = 2 * CONSUMERS * Rows<ROWS>::normed * 4;
    static const int fit = (SHARED_BYTES - barriers - sums - normed - scratch - units * (int)sizeof(Unit) - LAYERS * (int)sizeof(Layer)) / STAGE_BYTES;
    static const int stages = fit < 32 ? fit : 32;
};

DEVICE u32 shared(const void* at) { return (u32)__cvta_generic_to_shared(at); }

DEVICE void begin(u64* barrier, u32 count) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared(barrier)), "r"(count) : "memory"); }

DEVICE void expect(u64* barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared(barrier)), "r"(bytes) : "memory");
}

DEVICE void arrive(u64* barrier) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared(barrier)) : "memory"); }

DEVICE void wait(u64* barrier, u32 parity) {
    u32 done = 0;
    while (!done) {
        asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                     : "=r"(done)
                     : "r"(shared(barrier)), "r"(parity)
                     : "memory");
    }
}

// Weights are read once: they need not stay in the cache.
DEVICE u64 once() {
    u64 policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

DEVICE void bring(void* to, const void* from, u32 bytes, u64* barrier, u64 policy) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(shared(to)), "l"(from),
                 "r"(bytes), "r"(shared(barrier)), "l"(policy)
                 : "memory");
}

// All consumers of a block.
DEVICE void together() { asm volatile("bar.sync 1, %0;" ::"n"(THREADS) : "memory"); }

// What a warp has written is there for those that wait for `news`.
DEVICE void tell(u64* news) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) arrive(news);
}

DEVICE void wait_for_all(const u32* count) {
    if (threadIdx.x == 0) {
        u32 seen;
        do asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(count) : "memory");
        while (seen < GRID);
    }
    together();
}

// The outputs of a matrix that are this block's, in eights that are as even as can be.
struct Range {
    int first, count, eights;
    static METHOD Range of(int outputs) {
        const int first = (int)((i64)outputs * blockIdx.x / GRID), end = (int)((i64)outputs * (blockIdx.x + 1) / GRID);
        return Range{first, end - first, (end - first + 7) / 8};
    }
    METHOD int begin(int eight) const { return first + count * eight / eights; }
    METHOD int size(int eight) const { return begin(eight + 1) - begin(eight); }
};

struct Ring {
    unsigned char* stages;
    u64 *full, *empty;
    int stage;
    u32 parity;

    template <int STAGES>
    METHOD void next() {
        if (++stage == STAGES) stage = 0, parity ^= 1;
    }

    // Waits until there is room, and but `UNDER_WAY` - 1 stages are under way: more would not come sooner, and whatever is read beside them would have to
    // queue behind them, in the caches too. (A stage that has never been filled counts as there.)
    template <int STAGES>
    METHOD void wait_for_room() {
        wait(empty + stage, parity ^ 1);
        const int last = stage - UNDER_WAY;
        if (UNDER_WAY < STAGES && (last >= 0 || filled)) wait(full + (last >= 0 ? last : last + STAGES), last >= 0 ? parity : parity ^ 1);
        filled = filled || stage == STAGES - 1;
    }
    bool filled;
};

// The producer: weights of `inputs` inputs of this block's outputs, in the order in which they are consumed.
template <int STAGES>
DEVICE void bring_piece(Ring& ring, const u16* weight, int inputs, int chunk, int first, int size, u64 policy) {
    const int lane = threadIdx.x % 32;
    ring.wait_for_room<STAGES>();
    if (lane == 0) expect(ring.full + ring.stage, size * STAGE_INPUTS * 2);
    __syncwarp();
    if (lane < size) {
        const u16* from = weight + (i64)(first + lane) * inputs + chunk * STAGE_INPUTS;
        bring(ring.stages + ring.stage * STAGE_BYTES + lane * ROW_BYTES, from, STAGE_INPUTS * 2, ring.full + ring.stage, policy);
    }
    ring.next<STAGES>();
}

template <int STAGES>
DEVICE void bring_matrix(Ring& ring, const u16* weight, int outputs, int from, int to, u64 policy) {
    const Range range = Range::of(outputs);
    for (int eight = from; eight < to; eight++)
        for (int chunk = 0; chunk < HIDDEN / STAGE_INPUTS; chunk++)
            bring_piece<STAGES>(ring, weight, HIDDEN, chunk, range.begin(eight), range.size(eight), policy);
}

// Keys or values that are in the memory, `STAGE_KEYS` at a time.
template <int STAGES>
DEVICE void bring_kept(Ring& ring, const u16* memory, i64 tokens, const Unit& unit, u64 policy) {
    const u16* from = memory + (unit.head * tokens + unit.start + unit.from) * DIM;
    for (int key = 0; key < unit.kept(); key += STAGE_KEYS) {
        ring.wait_for_room<STAGES>();
        if (threadIdx.x % 32 == 0) {
            const u32 bytes = min(STAGE_KEYS, unit.kept() - key) * DIM * 2;
            expect(ring.full + ring.stage, bytes);
            bring(ring.stages + ring.stage * STAGE_BYTES, from + (i64)key * DIM, bytes, ring.full + ring.stage, policy);
        }
        __syncwarp();
        ring.next<STAGES>();
    }
}

// Eights of the MLP's first half that are made before attention.
DEVICE int before_attention() { return Range::of(WIDE).eights * UP_FIRST / 16; }

template <int ROWS, int STAGES>
DEVICE void produce(Ring ring, const Whole& step, const Layer* layers, const Unit* units, int count) {
    const u64 policy = once();
    for (int l = 0; l < LAYERS; l++) {
        const Layer& layer = layers[l];
        bring_matrix<STAGES>(ring, layer.qkv, 3 * HIDDEN, 0, Range::of(3 * HIDDEN).eights, policy);
        bring_matrix<STAGES>(ring, layer.up, WIDE, 0, before_attention(), policy);
        for (int unit = 0; unit < count; unit++) {
            bring_kept<STAGES>(ring, step.keys + l * step.stride, step.tokens, units[unit], policy);
            bring_kept<STAGES>(ring, step.values + l * step.stride, step.tokens, units[unit], policy);
        }
        bring_matrix<STAGES>(ring, layer.up, WIDE, before_attention(), Range::of(WIDE).eights, policy);
        const Range range = Range::of(HIDDEN);
        for (int chunk = 0; chunk < (HIDDEN + WIDE) / STAGE_INPUTS; chunk++) {
            const bool dense = chunk < HIDDEN / STAGE_INPUTS;
            for (int eight = 0; eight < range.eights; eight++)
                bring_piece<STAGES>(
                    ring, dense ? layer.dense : layer.down, dense ? HIDDEN : WIDE, dense ? chunk : chunk - HIDDEN / STAGE_INPUTS, range.begin(eight),
                    range.size(eight), policy);
        }
    }
    bring_matrix<STAGES>(ring, step.head, VOCABULARY, 0, Range::of(VOCABULARY).eights, policy);
}

// Tells all blocks what this one's consumers have written, so that these need not wait until it is seen everywhere.
DEVICE void report(u64* news, u32* counts) {
    if (threadIdx.x % 32 != 0) return;
    for (int l = 0; l < LAYERS; l++) {
        for (int kind = 0; kind < 4; kind++) {
            wait(news + kind, l & 1);
            asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counts + 4 * l + kind) : "memory");
        }
    }
}

// Inputs of a warp: of rows lane / 4 and, where there are so many, lane / 4 + 8.
template <int ROWS>
struct Inputs {
    uint4 of[Rows<ROWS>::halves][BLOCKS_OF_WARP];
};

// c[ROWS × 8 outputs] += what a warp has of a stage.
template <int ROWS>
DEVICE void multiply_stage(float (&c)[2][4], const unsigned char* stage, const Inputs<ROWS>& x) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const unsigned char* at = stage + (lane / 4) * ROW_BYTES + (lane % 4) * 16;
#pragma unroll
    for (int i = 0; i < BLOCKS_OF_WARP; i++) {
        const int block = warp + i * CONSUMERS;
        if (STAGE_INPUTS / 32 % CONSUMERS != 0 && block >= STAGE_INPUTS / 32) break;
        const uint4 w = *(const uint4*)(at + block * 64), a = x.of[0][i];
        const uint4 b = Rows<ROWS>::halves > 1 ? x.of[Rows<ROWS>::halves - 1][i] : make_uint4(0, 0, 0, 0);
        multiply(c[0], a.x, b.x, a.y, b.y, w.x, w.y);
        multiply(c[1], a.z, b.z, a.w, b.w, w.z, w.w);
    }
}

// A warp's sums of `eights` eights, number `eight`, to its place among `[CONSUMERS, ROWS, eights, 8]`.
template <int ROWS>
DEVICE void put_sums(float* room, int eights, int eight, const float (&c)[2][4]) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < Rows<ROWS>::halves; half++) {
        const int row = lane / 4 + 8 * half;
        if (row >= ROWS) continue;
        const float2 sums = make_float2(c[0][2 * half] + c[1][2 * half], c[0][2 * half + 1] + c[1][2 * half + 1]);
        *(float2*)(room + ((warp * ROWS + row) * eights + eight) * 8 + lane % 4 * 2) = sums;
    }
}

// A warp has read what it needs of a stage.
template <int STAGES>
DEVICE void release(Ring& ring) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) arrive(ring.empty + ring.stage);
    ring.next<STAGES>();
}

template <int ROWS, int STAGES>
DEVICE void use_stage(Ring& ring, float (&c)[2][4], const Inputs<ROWS>& x) {
    wait(ring.full + ring.stage, ring.parity);
    multiply_stage<ROWS>(c, ring.stages + ring.stage * STAGE_BYTES, x);
    release<STAGES>(ring);
}

// Inputs of a chunk, bf16, from rows that are `stride` bytes apart, in shared memory or (`GLOBAL`) written by other blocks.
template <int ROWS, bool GLOBAL>
DEVICE void inputs_of(Inputs<ROWS>& x, const void* rows, i64 stride, int chunk) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < Rows<ROWS>::halves; half++) {
        const int row = lane / 4 + 8 * half;
        const char* at = (const char*)rows + row * stride + (chunk * STAGE_INPUTS + (lane % 4) * 8) * 2;
#pragma unroll
        for (int i = 0; i < BLOCKS_OF_WARP; i++) {
            const int block = warp + i * CONSUMERS;
            x.of[half][i] = make_uint4(0, 0, 0, 0);
            if (row >= ROWS || block >= STAGE_INPUTS / 32) continue;
            const uint4* from = (const uint4*)(at + block * 64);
            x.of[half][i] = GLOBAL ? __ldcg(from) : *from;
        }
    }
}

// What a block's consumers share besides the ring.
struct Scratch {
    unsigned char *normed, *second;
    float* room;
    // [2, CONSUMERS, rows that are normed at a time]
    float* sums;
    // Four kinds: QKV, attention, MLP's first half, residual stream.
    u64* news;
    const Layer* layers;
    const Unit* units;
    int count;
};

// Products of eights `from` to `to` of this block's outputs with rows in shared memory; `give(output, row, sum)` gets each, with its bias.
template <int ROWS, int STAGES, typename Give>
DEVICE void matrix(Ring& ring, float* room, int outputs, const u16* bias, const void* x, int from, int to, Give give) {
    const int most = Rows<ROWS>::eights, own = (most * 8 * ROWS + THREADS - 1) / THREADS;
    const Range range = Range::of(outputs);
    Inputs<ROWS> v[HIDDEN / STAGE_INPUTS];
#pragma unroll
    for (int chunk = 0; chunk < HIDDEN / STAGE_INPUTS; chunk++) inputs_of<ROWS, false>(v[chunk], x, X_BYTES, chunk);
    for (int first = from; first < to; first += most) {
        const int eights = min(most, to - first);
        // Of the sums that this thread will add up.
        auto output_of = [&](int i) {
            const int place = i % 8, eight = i / 8 % most;
            if (i >= most * 8 * ROWS || eight >= eights || place >= range.size(first + eight)) return -1;
            return range.begin(first + eight) + place;
        };
        int output[own];
        u16 biases[own];
#pragma unroll
        for (int k = 0; k < own; k++) {
            output[k] = output_of(threadIdx.x + k * THREADS);
            biases[k] = bias && output[k] >= 0 ? bias[output[k]] : 0;
        }
        // Whoever was in this room has left it.
        together();
        for (int eight = 0; eight < eights; eight++) {
            float c[2][4] = {};
#pragma unroll
            for (int chunk = 0; chunk < HIDDEN / STAGE_INPUTS; chunk++) use_stage<ROWS, STAGES>(ring, c, v[chunk]);
            put_sums<ROWS>(room, most, eight, c);
        }
        together();
#pragma unroll
        for (int k = 0; k < own; k++) {
            if (output[k] < 0) continue;
            float sum = wide(biases[k]);
#pragma unroll
            for (int w = 0; w < CONSUMERS; w++) sum += room[w * ROWS * most * 8 + threadIdx.x + k * THREADS];
            give(output[k], (int)(threadIdx.x + k * THREADS) / (8 * most), sum);
        }
    }
}

// Sums over all consumers, of each row: of each warp by itself, then of the warps, for which a lane takes one row.
template <int ROWS>
DEVICE void sums_of(float (&sum)[ROWS], float* parts) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int row = 0; row < ROWS; row++) {
        sum[row] = sum_of_warp(sum[row]);
        if (lane == 0) parts[warp * ROWS + row] = sum[row];
    }
    together();
    float all = 0.0f;
#pragma unroll
    for (int w = 0; w < CONSUMERS; w += 32 / ROWS) {
        if (w + lane / ROWS < CONSUMERS) all += parts[w * ROWS + lane];
    }
#pragma unroll
    for (int step = 16; step >= ROWS; step >>= 1) all += __shfl_xor_sync(~0u, all, step);
#pragma unroll
    for (int row = 0; row < ROWS; row++) sum[row] = __shfl_sync(~0u, all, row);
}

DEVICE float largest_of(float x, float* parts) {
    x = max_of_warp(x);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
    together();
    x = parts[0];
#pragma unroll
    for (int w = 1; w < CONSUMERS; w++) x = fmaxf(x, parts[w]);
    return x;
}

// Weight and bias of a norm, of this thread's places.
struct NormWeights {
    uint2 weight[QUADS], bias[QUADS];
    METHOD void load(const u16* from, const u16* bias_from) {
#pragma unroll
        for (int i = 0; i < QUADS; i++) {
            const int quad = threadIdx.x + i * THREADS;
            if (quad >= HIDDEN / 4) break;
            weight[i] = ((const uint2*)from)[quad];
            bias[i] = ((const uint2*)bias_from)[quad];
        }
    }
    METHOD void write(unsigned char* to, int i, float4 v, float mean, float scale) const {
        const uint2 w = weight[i], b = bias[i];
        uint2 out;
        out.x = pack((v.x - mean) * scale * low(w.x) + low(b.x), (v.y - mean) * scale * high(w.x) + high(b.x));
        out.y = pack((v.z - mean) * scale * low(w.y) + low(b.y), (v.w - mean) * scale * high(w.y) + high(b.y));
        ((uint2*)to)[threadIdx.x + i * THREADS] = out;
    }
};

// Norms `ROWS` rows of the residual stream, from `begin` on, in one or two ways, into shared memory.
template <int ROWS>
DEVICE void norm_some(const Whole& step, const Scratch& scratch, bool embedded, int begin, const NormWeights& first, const NormWeights* second) {
    float4 v[ROWS][QUADS];
    float sum[ROWS];
#pragma unroll
    for (int row = 0; row < ROWS; row++) {
#pragma unroll
        for (int i = 0; i < QUADS; i++) {
            const int quad = threadIdx.x + i * THREADS;
            v[row][i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            if (quad >= HIDDEN / 4) break;
            v[row][i] = embedded ? four(step.embedding + step.input[begin + row] * HIDDEN, quad) : __ldcg((const float4*)(step.x + (i64)(begin + row) * HIDDEN) + quad);
        }
    }
#pragma unroll
    for (int row = 0; row < ROWS; row++) {
        sum[row] = 0.0f;
#pragma unroll
        for (int i = 0; i < QUADS; i++) sum[row] += v[row][i].x + v[row][i].y + v[row][i].z + v[row][i].w;
    }
    sums_of<ROWS>(sum, scratch.sums);
    float squares[ROWS];
#pragma unroll
    for (int row = 0; row < ROWS; row++) {
        const float mean = sum[row] / HIDDEN;
        squares[row] = 0.0f;
#pragma unroll
        for (int i = 0; i < QUADS; i++) {
            if (threadIdx.x + i * THREADS >= HIDDEN / 4) break;
            const float a = v[row][i].x - mean, b = v[row][i].y - mean, c = v[row][i].z - mean, d = v[row][i].w - mean;
            squares[row] += a * a + b * b + c * c + d * d;
        }
    }
    sums_of<ROWS>(squares, scratch.sums + CONSUMERS * ROWS);
#pragma unroll
    for (int row = 0; row < ROWS; row++) {
        const float mean = sum[row] / HIDDEN, scale = rsqrtf(squares[row] / HIDDEN + EPS);
#pragma unroll
        for (int i = 0; i < QUADS; i++) {
            if (threadIdx.x + i * THREADS >= HIDDEN / 4) break;
            first.write(scratch.normed + (begin + row) * X_BYTES, i, v[row][i], mean, scale);
            if (second) second->write(scratch.second + (begin + row) * X_BYTES, i, v[row][i], mean, scale);
        }
    }
    together();
}

// Norms all rows; `ready`: the blocks that have added to them, unless they are `embedded`.
template <int ROWS>
DEVICE void norm_rows(
    const Whole& step, const Scratch& scratch, bool embedded, const u32* ready, const u16* weight1, const u16* bias1, const u16* weight2, const u16* bias2) {
    NormWeights first, second;
    first.load(weight1, bias1);
    if (weight2) second.load(weight2, bias2);
    if (ready) wait_for_all(ready);
#pragma unroll 1
    for (int begin = 0; begin < ROWS; begin += Rows<ROWS>::normed) norm_some<Rows<ROWS>::normed>(step, scratch, embedded, begin, first, weight2 ? &second : 0);
}

DEVICE int unit_of(int row, int head, int share, int shares) { return (row * HEADS + head) * shares + share; }

// Attention of one head of one row to its share of the positions. Keys and values of the step's own rows of the same sequence are taken from `qkv`, all
// others come by the ring; the memory gets the row's own.
template <int ROWS, int STAGES>
DEVICE void attend_share(Ring& ring, const Whole& step, const Scratch& scratch, u16* keys, u16* values, const Unit& unit) {
    const int shares = Shares<ROWS>::value, thread = threadIdx.x, kept = unit.kept();
    float* weights = scratch.room;
    float* parts = weights + (Room<ROWS>::keys + 3) / 4 * 4;
    float* q = parts + Room<ROWS>::groups * DIM;
    u16(*fresh_keys)[DIM] = (u16(*)[DIM])(q + DIM);
    u16(*fresh_values)[DIM] = fresh_keys + ROWS;
    const int fresh = unit.position + 1 - unit.old;

    // Whoever was in this room has left it.
    together();
    for (int i = thread; i < fresh * DIM; i += THREADS) {
        const int f = i / DIM, d = i % DIM, at = unit.old + f;
        const float* line = step.qkv + (i64)(unit.row + 1 - fresh + f) * 3 * HIDDEN + unit.head * DIM;
        const float *cosines = step.cosines + (i64)at * HALF, *sines = step.sines + (i64)at * HALF;
        const u16 key = narrow(turned(line + HIDDEN, d, cosines, sines)), value = narrow(line[2 * HIDDEN + d]);
        const float query = turned(line, d, cosines, sines) * rsqrtf((float)DIM);
        fresh_keys[f][d] = key;
        fresh_values[f][d] = value;
        if (f < fresh - 1) continue;
        q[d] = query;
        if (unit.share == shares - 1) {
            const i64 place = (unit.head * step.tokens + unit.start + unit.position) * DIM + d;
            keys[place] = key;
            values[place] = value;
        }
    }
    together();

    // Two threads a key, which take its eighths in turns. Where all keys begin in the same bank, each begins elsewhere.
    float most = LEAST;
    auto score = [&](int keys, int weight, const u16* lines) {
        for (int first = 0; first < keys; first += THREADS / 2) {
            const int key = first + thread / 2, turn = DIM % 64 == 0 ? 2 * key : 0;
            float sum = 0.0f;
            if (key < keys) {
#pragma unroll
                for (int i = 0; i < (EIGHTHS + 1) / 2; i++) {
                    const int eighth = 2 * i + thread % 2, at = (eighth + turn) % EIGHTHS;
                    if (eighth < EIGHTHS) sum += dot_eight(((const uint4*)(lines + key * DIM))[at], q + 8 * at);
                }
            }
            sum += __shfl_xor_sync(~0u, sum, 1);
            if (key >= keys) continue;
            weights[weight + key] = sum;
            most = fmaxf(most, sum);
        }
    };
    for (int first = 0; first < kept; first += STAGE_KEYS) {
        wait(ring.full + ring.stage, ring.parity);
        score(min(STAGE_KEYS, kept - first), first, (const u16*)(ring.stages + ring.stage * STAGE_BYTES));
        release<STAGES>(ring);
    }
    const int first_fresh = max(unit.from, unit.old);
    if (first_fresh < unit.to) score(unit.to - first_fresh, kept, fresh_keys[first_fresh - unit.old]);
    most = largest_of(most, scratch.sums);
    float total[1] = {0.0f};
    for (int key = thread; key < unit.to - unit.from; key += THREADS) {
        const float weight = __expf(weights[key] - most);
        weights[key] = weight;
        total[0] += weight;
    }
    sums_of<1>(total, scratch.sums + CONSUMERS);

    const int group = thread / EIGHTHS, eighth = thread % EIGHTHS, groups = Room<ROWS>::groups;
    float sum[8] = {};
    for (int first = 0; first < kept; first += STAGE_KEYS) {
        wait(ring.full + ring.stage, ring.parity);
        const uint4* lines = (const uint4*)(ring.stages + ring.stage * STAGE_BYTES);
        if (group < groups) {
#pragma unroll 4
            for (int key = group; key < min(STAGE_KEYS, kept - first); key += groups) add_eight(sum, weights[first + key], lines[key * EIGHTHS + eighth]);
        }
        release<STAGES>(ring);
    }
    if (group < groups) {
        for (int key = first_fresh + group; key < unit.to; key += groups)
            add_eight(sum, weights[key - unit.from], ((const uint4*)fresh_values[key - unit.old])[eighth]);
#pragma unroll
        for (int i = 0; i < 8; i++) parts[group * DIM + eighth * 8 + i] = sum[i];
    }
    together();
    if (thread < DIM) {
        float sum = 0.0f;
        for (int g = 0; g < groups; g++) sum += parts[g * DIM + thread];
        const int number = unit_of(unit.row, unit.head, unit.share, shares);
        if (shares == 1) {
            step.whole[(i64)unit.row * HIDDEN + unit.head * DIM + thread] = narrow(sum / total[0]);
        } else {
            step.attended[(i64)number * DIM + thread] = sum;
            if (thread < 2) step.scales[number * 2 + thread] = thread == 0 ? most : total[0];
        }
    }
}

// Attention's shares of all rows put together, bf16, in shared memory.
template <int ROWS>
DEVICE void gather(const Whole& step, const Scratch& scratch) {
    const int shares = Shares<ROWS>::value, own = (ROWS * HIDDEN / 4 + THREADS - 1) / THREADS;
    float2 scales[own][shares];
    float4 parts[own][shares];
#pragma unroll
    for (int i = 0; i < own; i++) {
        const int quad = threadIdx.x + i * THREADS, row = quad / (HIDDEN / 4), at = quad % (HIDDEN / 4) * 4;
        if (quad >= ROWS * HIDDEN / 4) break;
        const i64 unit = unit_of(row, at / DIM, 0, shares);
#pragma unroll
        for (int s = 0; s < shares; s++) {
            scales[i][s] = __ldcg((const float2*)step.scales + unit + s);
            parts[i][s] = __ldcg((const float4*)(step.attended + (unit + s) * DIM + at % DIM));
        }
    }
#pragma unroll
    for (int i = 0; i < own; i++) {
        const int quad = threadIdx.x + i * THREADS, row = quad / (HIDDEN / 4), at = quad % (HIDDEN / 4) * 4;
        if (quad >= ROWS * HIDDEN / 4) break;
        float most = scales[i][0].x;
#pragma unroll
        for (int s = 1; s < shares; s++) most = fmaxf(most, scales[i][s].x);
        float total = 0.0f;
        float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
        for (int s = 0; s < shares; s++) {
            const float weight = __expf(scales[i][s].x - most);
            const float4 part = parts[i][s];
            total += weight * scales[i][s].y;
            sum.x += weight * part.x, sum.y += weight * part.y, sum.z += weight * part.z, sum.w += weight * part.w;
        }
        *(uint2*)(scratch.normed + row * X_BYTES + at * 2) = make_uint2(pack(sum.x / total, sum.y / total), pack(sum.z / total, sum.w / total));
    }
    together();
}

// Adds what attention and MLP make to the residual stream.
template <int ROWS, int STAGES>
DEVICE void add_to_stream(Ring& ring, const Whole& step, const Layer& layer, const Scratch& scratch, bool first, const u32* attended, const u32* active) {
    const int shares = Shares<ROWS>::value;
    const Range range = Range::of(HIDDEN);
    float c[ADD_EIGHTS][2][4] = {};
    Inputs<ROWS> v, next;
    // What this thread will add to, with the biases.
    const int own = (ADD_EIGHTS * 8 * ROWS + THREADS - 1) / THREADS;
    float* x[own];
    float stream[own];
#pragma unroll
    for (int k = 0; k < own; k++) {
        const int i = threadIdx.x + k * THREADS, place = i % 8, eight = i / 8 % ADD_EIGHTS, row = i / 8 / ADD_EIGHTS;
        x[k] = 0;
        if (row >= ROWS || eight >= range.eights || place >= range.size(eight)) continue;
        const int output = range.begin(eight) + place;
        x[k] = step.x + (i64)row * HIDDEN + output;
        stream[k] = first ? wide(step.embedding[step.input[row] * HIDDEN + output]) : *x[k];
        if (layer.dense_bias) stream[k] += wide(layer.dense_bias[output]);
        if (layer.down_bias) stream[k] += wide(layer.down_bias[output]);
    }
    auto use = [&] {
#pragma unroll
        for (int eight = 0; eight < ADD_EIGHTS; eight++)
            if (eight < range.eights) use_stage<ROWS, STAGES>(ring, c[eight], v);
    };
    wait_for_all(attended);
    if (shares > 1) gather<ROWS>(step, scratch);
    for (int chunk = 0; chunk < HIDDEN / STAGE_INPUTS; chunk++) {
        if (shares > 1) {
            inputs_of<ROWS, false>(v, scratch.normed, X_BYTES, chunk);
        } else {
            inputs_of<ROWS, true>(v, step.whole, HIDDEN * 2, chunk);
        }
        use();
    }
    wait_for_all(active);
    inputs_of<ROWS, true>(next, step.active, WIDE * 2, 0);
    for (int chunk = 0; chunk < WIDE / STAGE_INPUTS; chunk++) {
        v = next;
        if (chunk + 1 < WIDE / STAGE_INPUTS) inputs_of<ROWS, true>(next, step.active, WIDE * 2, chunk + 1);
        use();
    }
#pragma unroll
    for (int eight = 0; eight < ADD_EIGHTS; eight++) put_sums<ROWS>(scratch.room, ADD_EIGHTS, eight, c[eight]);
    together();
#pragma unroll
    for (int k = 0; k < own; k++) {
        if (!x[k]) continue;
#pragma unroll
        for (int w = 0; w < CONSUMERS; w++) stream[k] += scratch.room[w * ROWS * ADD_EIGHTS * 8 + threadIdx.x + k * THREADS];
        *x[k] = stream[k];
    }
}

template <int ROWS, int STAGES>
DEVICE void consume(Ring ring, const Whole& step, const Scratch& scratch) {
    u32* counts = step.counts;
    u64* news = scratch.news;
    for (int l = 0; l < LAYERS; l++, counts += 4) {
        const Layer& layer = scratch.layers[l];
        const bool both = Rows<ROWS>::both;
        norm_rows<ROWS>(
            step, scratch, l == 0, l > 0 ? counts - 1 : 0, layer.norm1, layer.norm1_bias, both ? layer.norm2 : 0, both ? layer.norm2_bias : 0);
        auto queried = [&](int output, int row, float sum) { step.qkv[(i64)row * 3 * HIDDEN + output] = sum; };
        matrix<ROWS, STAGES>(ring, scratch.room, 3 * HIDDEN, layer.qkv_bias, scratch.normed, 0, Range::of(3 * HIDDEN).eights, queried);
        tell(news);
        // Nobody adds to the rows before this block has told of its share of attention.
        if (!both) norm_rows<ROWS>(step, scratch, l == 0, 0, layer.norm2, layer.norm2_bias, 0, 0);
        const int before = before_attention(), eights = Range::of(WIDE).eights;
        auto activated = [&](int output, int row, float sum) { step.active[(i64)row * WIDE + output] = narrow(activate(sum)); };
        matrix<ROWS, STAGES>(ring, scratch.room, WIDE, layer.up_bias, scratch.second, 0, before, activated);
        wait_for_all(counts);
        u16 *keys = step.keys + l * step.stride, *values = step.values + l * step.stride;
        for (int unit = 0; unit < scratch.count; unit++) attend_share<ROWS, STAGES>(ring, step, scratch, keys, values, scratch.units[unit]);
        tell(news + 1);
        matrix<ROWS, STAGES>(ring, scratch.room, WIDE, layer.up_bias, scratch.second, before, eights, activated);
        tell(news + 2);
        add_to_stream<ROWS, STAGES>(ring, step, layer, scratch, l == 0, counts + 1, counts + 2);
        tell(news + 3);
    }
    norm_rows<ROWS>(step, scratch, false, counts - 1, step.norm, step.norm_bias, 0, 0);
    auto scored = [&](int output, int row, float sum) { step.logits[(i64)row * VOCABULARY + output] = sum; };
    matrix<ROWS, STAGES>(ring, scratch.room, VOCABULARY, step.head_bias, scratch.normed, 0, Range::of(VOCABULARY).eights, scored);
    // Nobody waits any more once all are here; the last one makes the counts fit for the next step.
    if (threadIdx.x == 0 && atomicAdd(counts, 1) == GRID - 1)
        for (u32* count = step.counts; count <= counts; count++) *count = 0;
}

// The block's share `number` of attention.
template <int ROWS>
DEVICE Unit unit_at(const Whole& step, int number) {
    const int shares = Shares<ROWS>::value;
    Unit unit;
    unit.share = number % shares, unit.head = number / shares % HEADS, unit.row = number / shares / HEADS;
    unit.start = step.input[ROWS + unit.row];
    unit.position = (int)step.input[2 * ROWS + unit.row];
    int fresh = 1;
    while (fresh < ROWS && fresh <= unit.row && step.input[ROWS + unit.row - fresh] == unit.start &&
           step.input[2 * ROWS + unit.row - fresh] == unit.position - fresh)
        fresh++;
    unit.old = unit.position + 1 - fresh;
    unit.from = (unit.position + 1) * unit.share / shares, unit.to = (unit.position + 1) * (unit.share + 1) / shares;
    return unit;
}

template <int ROWS>
DEVICE void whole_step(const Whole& step) {
    extern __shared__ __align__(128) unsigned char memory[];
    const int stages = Room<ROWS>::stages, most = Room<ROWS>::units, all = ROWS * HEADS * Shares<ROWS>::value;
    static_assert(Room<ROWS>::stages >= 2, "no room");
    static_assert(DIM <= THREADS && STAGE_KEYS >= 1, "heads are too wide");
    unsigned char* normed = memory + stages * STAGE_BYTES;
    float* room = (float*)(normed + Room<ROWS>::normed);
    u64* barriers = (u64*)((unsigned char*)room + Room<ROWS>::scratch);
    u64* news = barriers + 2 * stages;
    float* sums = (float*)((unsigned char*)barriers + Room<ROWS>::barriers);
    Unit* units = (Unit*)((unsigned char*)sums + Room<ROWS>::sums);
    Layer* layers = (Layer*)(units + most);
    const int count = blockIdx.x < all % GRID ? all / GRID + 1 : all / GRID;
    const Ring ring = {memory, barriers, barriers + stages, 0, 0, false};
    if (threadIdx.x == 0) {
        for (int i = 0; i < stages; i++) {
            begin(ring.full + i, 1);
            begin(ring.empty + i, CONSUMERS);
        }
        for (int i = 0; i < 4; i++) begin(news + i, CONSUMERS);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    } else if (threadIdx.x >= 32 && threadIdx.x < 32 + most) {
        const int number = blockIdx.x + (threadIdx.x - 32) * GRID;
        if (number < all) units[threadIdx.x - 32] = unit_at<ROWS>(step, number);
    }
    for (int i = threadIdx.x; i < (int)sizeof(Layer) / 8 * LAYERS; i += blockDim.x) ((u64*)layers)[i] = ((const u64*)step.layers)[i];
    __syncthreads();
    if (threadIdx.x >= THREADS + 32) {
        report(news, step.counts);
    } else if (threadIdx.x >= THREADS) {
        produce<ROWS, stages>(ring, step, layers, units, count);
    } else {
        consume<ROWS, stages>(ring, step, Scratch{normed, Rows<ROWS>::both ? normed + ROWS * X_BYTES : normed, room, sums, news, layers, units, count});
    }
}

extern "C" __global__ void __launch_bounds__(THREADS + 64, 1) whole(const __grid_constant__ Whole step) { whole_step<STEP_ROWS>(step); }
