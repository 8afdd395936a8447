// What lies between the matrix products of a pass over many rows (tokens), of steps and of prompts. The products are libtorch's: at these sizes they are about as fast as
// the tensor cores or memory allow. Compiled behind common.cuh and kernels.cu (whose `norms` begins each half of a layer), with further macros:
//
//   TURN_THREADS of a block of `turn_and_activate`
//   ATTEND_WARPS of a block of `attend_rows`, the keys that each takes at a time (TILE), and how many such tiles it has under way, less one (STAGES)
//
// QKV and the MLP's first half come in f32 and without their biases.

DEVICE float with_bias(const float* line, const u16* bias, int at) { return line[at] + (bias ? wide(bias[at]) : 0.0f); }

// As `turned`, of a head whose bias has not been added yet. Apart from it, so that the kernels tuned around that one stay as they were measured.
DEVICE float turned_with_bias(const float* head, const u16* bias, int d, const float* cosines, const float* sines) {
    const float own = with_bias(head, bias, d);
    if (d < HALF) return own * cosines[d] - with_bias(head, bias, d + HALF) * sines[d];
    if (d < 2 * HALF) return own * cosines[d - HALF] + with_bias(head, bias, d - HALF) * sines[d - HALF];
    return own;
}

// The first `turning` blocks, three a row, take a row's queries, keys and values from `qkv` ([rows, 3, heads, DIM]): queries go to `q` ([rows, heads, DIM]), turned,
// keys (turned) and values to the memory ([heads, tokens, DIM]), all in bf16. The others activate the MLP's first half, eight numbers a thread.
//
// `input`: [3, rows]: tokens, where sequences begin in the memory, positions.
extern "C" __global__ void __launch_bounds__(TURN_THREADS) turn_and_activate(
    int turning, const float* qkv, const u16* qkv_bias, const float* cosines, const float* sines, const i64* input, u16* keys, u16* values, u16* q,
    i64 tokens, const float* up, const u16* up_bias, u16* active, int outputs, int rows) {
    start_next();
    if ((int)blockIdx.x < turning) {
        const int row = blockIdx.x / 3, role = blockIdx.x % 3;
        const i64 start = input[rows + row], position = input[2 * rows + row];
        const float* line = qkv + ((i64)row * 3 + role) * HIDDEN;
        const u16* bias = qkv_bias ? qkv_bias + role * HIDDEN : 0;
        for (int pair = threadIdx.x; pair < HIDDEN / 2; pair += TURN_THREADS) {
            const int head = pair / (DIM / 2), d = pair % (DIM / 2) * 2;
            const float* from = line + head * DIM;
            const u16* more = bias ? bias + head * DIM : 0;
            float first, second;
            if (role == 2) {
                first = with_bias(from, more, d), second = with_bias(from, more, d + 1);
            } else {
                first = turned_with_bias(from, more, d, cosines + position * HALF, sines + position * HALF);
                second = turned_with_bias(from, more, d + 1, cosines + position * HALF, sines + position * HALF);
            }
            u16* to = role == 0 ? q + (i64)row * HIDDEN + head * DIM : (role == 1 ? keys : values) + (head * tokens + start + position) * DIM;
            ((u32*)to)[d / 2] = pack(first, second);
        }
        return;
    }
    const i64 place = ((i64)(blockIdx.x - turning) * TURN_THREADS + threadIdx.x) * 8;
    if (place >= (i64)rows * outputs) return;
    const float4* from = (const float4*)(up + place);
    float4 a = from[0], b = from[1];
    if (up_bias) {
        const u16* bias = up_bias + place % outputs;
        add(a, four(bias, 0)), add(b, four(bias, 1));
    }
    *(uint4*)(active + place) = make_uint4(
        pack(activate(a.x), activate(a.y)), pack(activate(a.z), activate(a.w)), pack(activate(b.x), activate(b.y)),
        pack(activate(b.z), activate(b.w)));
}

// Attention of one head of one row, whose own key and value are in the memory already. Each warp takes every ATTEND_WARPS-th tile of the keys, brought to a ring of its own,
// and keeps maximum, sum and weighted values so far (Milakov and Gimelshein 2018, arXiv 1805.02867); the warps' are put together in the end.

// Numbers from one key to the next in the ring: those of neighbours lie in other banks.
#define PITCH (DIM % 32 == 16 ? DIM : DIM + 16)
#define TILE_NUMBERS (TILE * PITCH)
// Lanes that share a key, and eighths of a head that each of them has at most.
#define SHARERS (32 / TILE)
#define OWN_EIGHTHS ((EIGHTHS + SHARERS - 1) / SHARERS)
// Keys whose values a warp adds at a time.
#define ABREAST (32 / EIGHTHS)

DEVICE void copy_later(u16* to, const u16* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((u32)__cvta_generic_to_shared(to)), "l"(from) : "memory");
}

extern "C" __global__ void __launch_bounds__(ATTEND_WARPS * 32) attend_rows(
    const u16* q, const i64* input, const u16* keys, const u16* values, u16* out, int rows, i64 tokens) {
    extern __shared__ __align__(16) u16 rings[];
    __shared__ float parts[ATTEND_WARPS][ABREAST * DIM], maxima[ATTEND_WARPS], totals[ATTEND_WARPS];
    const int heads = HIDDEN / DIM, head = blockIdx.x % heads, row = blockIdx.x / heads;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    start_next();
    const i64 start = input[rows + row];
    const int count = (int)input[2 * rows + row] + 1, tiles = (count + TILE - 1) / TILE;
    const u16* kept[2] = {keys + (head * tokens + start) * DIM, values + (head * tokens + start) * DIM};
    u16* ring = rings + warp * (STAGES * 2 * TILE_NUMBERS);
    // What is not there is committed too: a group a tile.
    auto bring = [&](int tile, int stage) {
        const int pieces = min(TILE, count - tile * TILE) * EIGHTHS;
        for (int piece = lane; piece < pieces; piece += 32) {
            const int at = piece / EIGHTHS * PITCH + piece % EIGHTHS * 8;
#pragma unroll
            for (int which = 0; which < 2; which++)
                copy_later(ring + (2 * stage + which) * TILE_NUMBERS + at, kept[which] + (i64)tile * TILE * DIM + piece * 8);
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
    };
    wait_for_last();
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; stage++) bring(warp + stage * ATTEND_WARPS, stage);

    const int key = lane / SHARERS, share = lane % SHARERS, group = lane / EIGHTHS, eighth = lane % EIGHTHS;
    float query[OWN_EIGHTHS][8];
#pragma unroll
    for (int i = 0; i < OWN_EIGHTHS; i++) {
        const int e = i * SHARERS + share;
        if (e >= EIGHTHS) break;
        const uint4 eight = *(const uint4*)(q + (i64)row * HIDDEN + head * DIM + e * 8);
        const float scale = rsqrtf((float)DIM);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const u32 pair = j == 0 ? eight.x : j == 1 ? eight.y : j == 2 ? eight.z : eight.w;
            query[i][2 * j] = low(pair) * scale, query[i][2 * j + 1] = high(pair) * scale;
        }
    }
    float most = LEAST, total = 0.0f, sum[8] = {};
    int stage = 0;
    for (int tile = warp; tile < tiles; tile += ATTEND_WARPS) {
        bring(tile + (STAGES - 1) * ATTEND_WARPS, stage == 0 ? STAGES - 1 : stage - 1);
        asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 1) : "memory");
        __syncwarp();
        const u16* here = ring + 2 * stage * TILE_NUMBERS;
        const int valid = min(TILE, count - tile * TILE);
        float score = 0.0f;
#pragma unroll
        for (int i = 0; i < OWN_EIGHTHS; i++) {
            const int e = i * SHARERS + share;
            if (e < EIGHTHS) score += dot_eight(*(const uint4*)(here + key * PITCH + e * 8), query[i]);
        }
#pragma unroll
        for (int step = 1; step < SHARERS; step <<= 1) score += __shfl_xor_sync(~0u, score, step);
        // What lies behind the last key is whatever was there before.
        if (key >= valid) score = LEAST;
        const float next = fmaxf(most, max_of_warp(score));
        const float weight = __expf(score - next), fade = __expf(most - next);
        most = next;
        total = total * fade + (share == 0 ? weight : 0.0f);
#pragma unroll
        for (int i = 0; i < 8; i++) sum[i] *= fade;
#pragma unroll
        for (int i = 0; i < (TILE + ABREAST - 1) / ABREAST; i++) {
            const int at = i * ABREAST + group;
            const float p = __shfl_sync(~0u, weight, min(at, TILE - 1) * SHARERS);
            if (group < ABREAST && at < valid) add_eight(sum, p, *(const uint4*)(here + TILE_NUMBERS + at * PITCH + eighth * 8));
        }
        // The stage is brought anew in the next round.
        __syncwarp();
        stage = stage + 1 == STAGES ? 0 : stage + 1;
    }
    total = sum_of_warp(total);
    if (group < ABREAST) {
#pragma unroll
        for (int i = 0; i < 8; i++) parts[warp][group * DIM + eighth * 8 + i] = sum[i];
    }
    if (lane == 0) maxima[warp] = most, totals[warp] = total;
    __syncthreads();
    float highest = LEAST, all = 0.0f, shares[ATTEND_WARPS];
#pragma unroll
    for (int w = 0; w < ATTEND_WARPS; w++) highest = fmaxf(highest, maxima[w]);
#pragma unroll
    for (int w = 0; w < ATTEND_WARPS; w++) {
        shares[w] = __expf(maxima[w] - highest);
        all += shares[w] * totals[w];
    }
    for (int d = threadIdx.x; d < DIM; d += ATTEND_WARPS * 32) {
        float value = 0.0f;
#pragma unroll
        for (int w = 0; w < ATTEND_WARPS; w++)
            for (int g = 0; g < ABREAST; g++) value += shares[w] * parts[w][g * DIM + d];
        out[(i64)row * HIDDEN + head * DIM + d] = narrow(value / all);
    }
}
