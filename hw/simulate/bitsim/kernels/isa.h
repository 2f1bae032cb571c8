// The few instructions that differ between machines. Everything else is plain C++ with GCC vector types.
//
//   dot16(acc, x, w): acc[i] += x[2i] * w[0] + x[2i+1] * w[1]   int16 x int16 -> int32
//   dot8(acc, x, w):  acc[i] += x[2i] * w[0] + x[2i+1] * w[1]   uint8 x int8  -> int16, modulo 2^16
//
// `w` holds its pair repeated over the vector. dot8's pair sum must not exceed int16 (the lowering proves it).
// Where BITSIM_DOT4 is 1, the machine multiplies four channels at once (dot4.h), and dot8 is not used.
#pragma once
#include <cstdint>
#include <cstring>
#include <utility>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(BITSIM_PORTABLE)
#define BITSIM_ISA "portable"
#define VB 32
#elif defined(__AVX512BW__) && defined(__AVX512VNNI__)
#define BITSIM_ISA "avx512vnni"
#define BITSIM_DOT4 1
#define VB 64
#elif defined(__AVX2__) && defined(__AVXVNNI__)
#define BITSIM_ISA "avxvnni"
#define BITSIM_DOT4 1
#define VB 32
#elif defined(__AVX2__)
#define BITSIM_ISA "avx2"
#define VB 32
#elif defined(__ARM_NEON) && defined(__aarch64__)
#define VB 16
#if defined(__ARM_FEATURE_MATMUL_INT8)
#define BITSIM_ISA "neoni8mm"
#define BITSIM_DOT4 1
#elif defined(__ARM_FEATURE_DOTPROD)
#define BITSIM_ISA "neondot"
#define BITSIM_DOT4 1
#else
#define BITSIM_ISA "neon"
#endif
#else
#define BITSIM_ISA "portable"
#define VB 32
#endif
#if !defined(BITSIM_DOT4)
#define BITSIM_DOT4 0
#endif
#define BITSIM_INLINE __attribute__((always_inline))

typedef int16_t v16 __attribute__((vector_size(VB), may_alias));
typedef int32_t v32 __attribute__((vector_size(VB), may_alias));
typedef uint16_t vu16 __attribute__((vector_size(VB), may_alias));
typedef uint32_t vu32 __attribute__((vector_size(VB), may_alias));
typedef uint8_t vu8 __attribute__((vector_size(VB), may_alias));

// The sums of a wrapping accumulator may pass the ends of a signed number, which C++ forbids.
static inline v16 plus(v16 a, v16 b) { return (v16)((vu16)a + (vu16)b); }
static inline v32 plus(v32 a, v32 b) { return (v32)((vu32)a + (vu32)b); }

// One sample a lane: a row of a tensor holds two channels of L samples.
constexpr int L = VB / 2;

#if VB == 64
static inline v32 dot16(v32 acc, v16 x, v32 w) {
    return (v32)_mm512_dpwssd_epi32((__m512i)acc, (__m512i)x, (__m512i)w);
}
static inline v16 dot8(v16 acc, v16 x, v32 w) {
    return plus(acc, (v16)_mm512_maddubs_epi16((__m512i)x, (__m512i)w));
}
#elif defined(__AVX2__) && !defined(BITSIM_PORTABLE)
static inline v32 dot16(v32 acc, v16 x, v32 w) {
#if defined(__AVXVNNI__)
    return (v32)_mm256_dpwssd_avx_epi32((__m256i)acc, (__m256i)x, (__m256i)w);
#else
    return plus(acc, (v32)_mm256_madd_epi16((__m256i)x, (__m256i)w));
#endif
}
static inline v16 dot8(v16 acc, v16 x, v32 w) {
    return plus(acc, (v16)_mm256_maddubs_epi16((__m256i)x, (__m256i)w));
}
#elif VB == 16
// Even and odd numbers apart: the compiler takes x apart once for all filters of a tile, w once for all its pixels.
static inline v32 dot16(v32 acc, v16 x, v32 w) {
    const int16x8_t a = (int16x8_t)x, b = (int16x8_t)w;
    int32x4_t sum = (int32x4_t)acc;
    sum = vmlal_s16(sum, vget_low_s16(vuzp1q_s16(a, a)), vget_low_s16(vuzp1q_s16(b, b)));
    return (v32)vmlal_s16(sum, vget_low_s16(vuzp2q_s16(a, a)), vget_low_s16(vuzp2q_s16(b, b)));
}
static inline v16 dot8(v16 acc, v16 x, v32 w) {
    const uint16x8_t a = (uint16x8_t)x;
    const int16x8_t b = (int16x8_t)w, low = vshrq_n_s16(vshlq_n_s16(b, 8), 8), high = vshrq_n_s16(b, 8);
    const int16x8_t sum = vmlaq_s16((int16x8_t)acc, (int16x8_t)vandq_u16(a, vdupq_n_u16(0xff)), low);
    return (v16)vmlaq_s16(sum, (int16x8_t)vshrq_n_u16(a, 8), high);
}
#else
static inline v32 dot16(v32 acc, v16 x, v32 w) {
    v32 pairs = (v32)x;
    const v32 first = ((pairs << 16) >> 16) * ((w << 16) >> 16), second = (pairs >> 16) * (w >> 16);
    return plus(plus(acc, first), second);
}
static inline v16 dot8(v16 acc, v16 x, v32 w) {
    v16 pairs = (v16)w;
    const v16 first = (x & 0xff) * ((pairs << 8) >> 8), second = ((x >> 8) & 0xff) * (pairs >> 8);
    return plus(plus(acc, first), second);
}
#endif

// f(0) .. f(N - 1) with constants: arrays that are indexed by them live in registers.
template <class F, int... I> BITSIM_INLINE static inline void unroll(F &&f, std::integer_sequence<int, I...>) {
    (f(std::integral_constant<int, I>{}), ...);
}
template <int N, class F> BITSIM_INLINE static inline void unroll(F &&f) {
    unroll(f, std::make_integer_sequence<int, N>{});
}

// Shifts by one amount for all lanes. GCC would take int16 lanes apart: AVX2 has no shift by a vector for them.
#if VB == 64
static inline v16 sar(v16 a, int s) { return (v16)_mm512_sra_epi16((__m512i)a, _mm_cvtsi32_si128(s)); }
static inline v16 shl(v16 a, int s) { return (v16)_mm512_sll_epi16((__m512i)a, _mm_cvtsi32_si128(s)); }
static inline v32 sar(v32 a, int s) { return (v32)_mm512_sra_epi32((__m512i)a, _mm_cvtsi32_si128(s)); }
static inline v32 shl(v32 a, int s) { return (v32)_mm512_sll_epi32((__m512i)a, _mm_cvtsi32_si128(s)); }
#elif defined(__AVX2__) && !defined(BITSIM_PORTABLE)
static inline v16 sar(v16 a, int s) { return (v16)_mm256_sra_epi16((__m256i)a, _mm_cvtsi32_si128(s)); }
static inline v16 shl(v16 a, int s) { return (v16)_mm256_sll_epi16((__m256i)a, _mm_cvtsi32_si128(s)); }
static inline v32 sar(v32 a, int s) { return (v32)_mm256_sra_epi32((__m256i)a, _mm_cvtsi32_si128(s)); }
static inline v32 shl(v32 a, int s) { return (v32)_mm256_sll_epi32((__m256i)a, _mm_cvtsi32_si128(s)); }
#else
static inline v16 sar(v16 a, int s) { return a >> (int16_t)s; }
static inline v16 shl(v16 a, int s) { return a << (int16_t)s; }
static inline v32 sar(v32 a, int s) { return a >> s; }
static inline v32 shl(v32 a, int s) { return a << s; }
#endif

static inline v16 widen(const void *p) { // L bytes, each in 16 bits
#if VB == 64
    return (v16)_mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)p));
#elif defined(__AVX2__) && !defined(BITSIM_PORTABLE)
    return (v16)_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p)); // GCC 12 would make four instructions of it
#else
    typedef uint8_t half __attribute__((vector_size(VB / 2)));
    half v;
    memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, v16);
#endif
}
static inline v32 broadcast(const int32_t *w) { return v32{} + *w; }
template <class V> static inline V load(const void *p) {
    V v;
    memcpy(&v, p, sizeof v);
    return v;
}
template <class V> static inline void store(void *p, V v) { memcpy(p, &v, sizeof v); }
