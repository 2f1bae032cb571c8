// Four channels at once, on machines that have the instruction (BITSIM_DOT4 is 1).
//
//   dot4<F>(acc, x, w): acc[i] += x[4i] * w[F][0] + .. + x[4i+3] * w[F][3]   uint8 x int8 -> int32, modulo 2^32
//
// `w` are quads of int8 in memory; a whole vector of 16 bytes is read of them. x is made of two rows of pairs:
// quads_low and quads_high interleave them, so that a lane of 32 bits holds four channels of one sample. Intel's
// instructions do so in every 128 bits apart: the samples are out of order until in_order or narrow mends it.
#pragma once
#include "isa.h"

#if BITSIM_DOT4
// What dot4 takes the data to be below their value: what is missing in the sums is this times the weights' sum.
#if VB == 16 && !defined(__ARM_FEATURE_MATMUL_INT8)
constexpr int DOT4_OFFSET = 128; // it multiplies signed numbers only
static inline v16 dot4_data(v16 row) { return row ^ (v16{} + (int16_t)0x8080); }
#else
constexpr int DOT4_OFFSET = 0;
static inline v16 dot4_data(v16 row) { return row; }
#endif

#if VB == 64
constexpr int DOT4_FILTERS = 8; // at once: twice as many vectors of sums, of 32 registers
static inline v32 quads_low(v16 a, v16 b) { return (v32)_mm512_unpacklo_epi16((__m512i)a, (__m512i)b); }
static inline v32 quads_high(v16 a, v16 b) { return (v32)_mm512_unpackhi_epi16((__m512i)a, (__m512i)b); }
template <int F> static inline v32 dot4(v32 acc, v32 x, const int32_t *w) {
    return (v32)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)x, _mm512_set1_epi32(w[F]));
}
static inline void in_order(v32 &a, v32 &b) {
    const v32 low = a, high = b;
    a = __builtin_shufflevector(low, high, 0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    b = __builtin_shufflevector(low, high, 8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
}
static inline v16 narrow(v32 a, v32 b) { // in order, and the low halves only
    return __builtin_shufflevector((v16)a, (v16)b, 0, 2, 4, 6, 32, 34, 36, 38, 8, 10, 12, 14, 40, 42, 44, 46, 16, 18,
                                   20, 22, 48, 50, 52, 54, 24, 26, 28, 30, 56, 58, 60, 62);
}
#elif VB == 32
constexpr int DOT4_FILTERS = 4; // of 16 registers
static inline v32 quads_low(v16 a, v16 b) { return (v32)_mm256_unpacklo_epi16((__m256i)a, (__m256i)b); }
static inline v32 quads_high(v16 a, v16 b) { return (v32)_mm256_unpackhi_epi16((__m256i)a, (__m256i)b); }
template <int F> static inline v32 dot4(v32 acc, v32 x, const int32_t *w) {
    return (v32)_mm256_dpbusd_avx_epi32((__m256i)acc, (__m256i)x, _mm256_set1_epi32(w[F]));
}
static inline void in_order(v32 &a, v32 &b) {
    const __m256i low = (__m256i)a, high = (__m256i)b;
    a = (v32)_mm256_permute2x128_si256(low, high, 0x20), b = (v32)_mm256_permute2x128_si256(low, high, 0x31);
}
static inline v16 narrow(v32 a, v32 b) {
    return (v16)_mm256_packus_epi32((__m256i)(a & 0xffff), (__m256i)(b & 0xffff));
}
#else
constexpr int DOT4_FILTERS = 8; // of 32 registers
static inline v32 quads_low(v16 a, v16 b) { return (v32)vzip1q_s16((int16x8_t)a, (int16x8_t)b); }
static inline v32 quads_high(v16 a, v16 b) { return (v32)vzip2q_s16((int16x8_t)a, (int16x8_t)b); }
template <int F> static inline v32 dot4(v32 acc, v32 x, const int32_t *w) {
    const int8x16_t four = vreinterpretq_s8_s32(vld1q_s32(w + F / 4 * 4));
#if defined(__ARM_FEATURE_MATMUL_INT8)
    return (v32)vusdotq_laneq_s32((int32x4_t)acc, (uint8x16_t)x, four, F % 4);
#else
    return (v32)vdotq_laneq_s32((int32x4_t)acc, (int8x16_t)x, four, F % 4);
#endif
}
static inline void in_order(v32 &, v32 &) {}
static inline v16 narrow(v32 a, v32 b) { return (v16)vuzp1q_s16((int16x8_t)a, (int16x8_t)b); }
#endif
#endif
