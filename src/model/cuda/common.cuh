// What the kernels of a decode step share: words of bf16, the tensor cores, and attention's arithmetic. Put before kernels.cu (and wide.cu) and step.cu when they are compiled
// (program.rs), for one model's shape:
//
//   HIDDEN, DIM (of a head), HALF (rotary pairs), ACTIVATION (0 gelu, 1 gelu by tanh, 2 relu), EPS

typedef unsigned short u16;
typedef unsigned int u32;
typedef long long i64;

// Less than any score.
#define LEAST __int_as_float(0xff800000)

#define DEVICE static __device__ __forceinline__

DEVICE float low(u32 pair) { return __uint_as_float(pair << 16); }
DEVICE float high(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }
DEVICE float wide(u16 bits) { return __uint_as_float((u32)bits << 16); }

DEVICE u32 pack(float first, float second) {
    u32 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
}

DEVICE u16 narrow(float value) { return (u16)pack(value, 0.0f); }

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

DEVICE float activate(float x) {
#if ACTIVATION == 0
    return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
#elif ACTIVATION == 1
    return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
#else
    return fmaxf(x, 0.0f);
#endif
}

DEVICE float4 four(const u16* from, int quad) {
    const uint2 pairs = ((const uint2*)from)[quad];
    return make_float4(low(pairs.x), high(pairs.x), low(pairs.y), high(pairs.y));
}

#define EIGHTHS (DIM / 8)

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
