// Dense and convolution where the formats prove int16 or int32 accumulators right: what pairs.h and quads.h share.
//
// A tile is F filters x NV vectors of accumulators in registers. Data are read once a filter block, weights are
// broadcast. Row = channel pair, so the kernel's columns x channels are one contiguous run a kernel line.
#pragma once
#include "steps.h"

static inline v16 narrow_pairs(v32 a, v32 b) { // even int16 of each: 2L lanes of 32 bits to L lanes of 16
#if VB == 64
    return __builtin_shufflevector((v16)a, (v16)b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36,
                                   38, 40, 42, 44, 46, 48, 50, 52, 54, 56, 58, 60, 62);
#elif VB == 16
    return __builtin_shufflevector((v16)a, (v16)b, 0, 2, 4, 6, 8, 10, 12, 14);
#else
    return __builtin_shufflevector((v16)a, (v16)b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
#endif
}
static inline v16 interleave_low(v16 a, v16 b) {
#if VB == 64
    return __builtin_shufflevector(a, b, 0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39, 8, 40, 9, 41, 10, 42, 11,
                                   43, 12, 44, 13, 45, 14, 46, 15, 47);
#elif VB == 16
    return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
#else
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#endif
}
static inline v16 interleave_high(v16 a, v16 b) {
#if VB == 64
    return __builtin_shufflevector(a, b, 16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55, 24, 56, 25, 57,
                                   26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63);
#elif VB == 16
    return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#endif
}

// One row (two filters of one pixel) from finished accumulators.
BITSIM_INLINE static inline void store_row(char *row, int etype, const v16 *a, const v16 *b) {
    if (etype == Storage::U8)
        store(row, (v16)((*a & 0xff) | shl(*b, 8)));
    else {
        store(row, interleave_low(*a, *b));
        store(row + VB, interleave_high(*a, *b));
    }
}
BITSIM_INLINE static inline void store_row(char *row, int etype, const v32 *a, const v32 *b) {
    if (etype == Storage::U8)
        store(row, narrow_pairs((a[0] & 0xff) | shl(b[0], 8), (a[1] & 0xff) | shl(b[1], 8)));
    else {
        store(row, (v32)((a[0] & 0xffff) | (b[0] << 16)));
        store(row + VB, (v32)((a[1] & 0xffff) | (b[1] << 16)));
    }
}

struct FastLinear : Op {
    const int kernel;
    Tensor src, dst;
    int kh, kw, sh, sw, py, px, nf, chunk, word;
    // [filter block of 4 (the last may be 2)][row][step][filter], a pair each: of int16, or of int8 and then twice
    const int32_t *weights;
    const int32_t *bias;
    Finish finish;
    Steps steps;
    std::vector<ptrdiff_t> from, to; // where a pixel's window begins, where its result goes

    FastLinear(int kernel, Reader &r) : kernel(kernel), src(r.tensor()), dst(r.tensor()) {
        kh = (int)r.next(), kw = (int)r.next(), sh = (int)r.next(), sw = (int)r.next();
        py = (int)r.next(), px = (int)r.next(), nf = (int)r.next(), chunk = (int)r.next(), word = (int)r.next();
        weights = r.blob<int32_t>(), bias = r.blob<int32_t>();
        finish = Finish::read(r);
        steps = Steps::read(r);
        for (int p = 0; p < dst.pixels(); p++) {
            from.push_back(src.pixel(nullptr, (p / dst.w) * sh - py, (p % dst.w) * sw - px) - (char *)nullptr);
            to.push_back(dst.pixel(nullptr, p / dst.w, p % dst.w) - (char *)nullptr);
        }
    }

    int run_length() const { return kw * src.cp; }
    const char *source(char *arena, int pixel) const { return arena + from[pixel]; }

    template <class T> void finish_generic(char *arena, const T *acc, int pixel, int npix, int f0, int nfilt) const {
        // acc: [filter][pixel][L]
        Machine<T> machine;
        T *v = const_cast<T *>(acc);
        machine.run(steps, v, nfilt * npix * L);
        for (int p = 0; p < npix; p++) {
            char *out = arena + to[pixel + p];
            for (int f = 0; f < nfilt && f0 + f < 2 * dst.cp; f++)
                store_values(out + ((f0 + f) / 2) * dst.row_bytes + (f & 1) * esize(dst.etype), dst.etype, 2,
                             v + (f * npix + p) * L, L);
        }
    }
    template <class S>
    __attribute__((noinline)) void spill(char *arena, const S *acc, int pixel, int npix, int f0, int nfilt) const {
        const int n = nfilt * npix * L;
        if (word == Word::W32) {
            int32_t v[24 * L];
            std::copy(acc, acc + n, v);
            finish_generic(arena, v, pixel, npix, f0, nfilt);
        } else if (word == Word::W64) {
            int64_t v[24 * L];
            std::copy(acc, acc + n, v);
            finish_generic(arena, v, pixel, npix, f0, nfilt);
        } else {
            i128 v[24 * L];
            std::copy(acc, acc + n, v);
            finish_generic(arena, v, pixel, npix, f0, nfilt);
        }
    }

    // From finished sums of F filters x P pixels, N vectors each, to the rows they belong to.
    template <int F, int P, int N, class V>
    BITSIM_INLINE void write(char *arena, V (&acc)[F][P * N], int pixel, int f0) const {
        if (!finish.use) {
            typedef typename std::decay<decltype(acc[0][0][0])>::type lane;
            V sums[F][P * N]; // acc itself may stay in registers
            unroll<F>([&](auto f) BITSIM_INLINE {
                unroll<P * N>([&](auto v) BITSIM_INLINE { sums[f][v] = acc[f][v]; });
            });
            spill(arena, (const lane *)sums, pixel, P, f0, F);
            return;
        }
        unroll<F>([&](auto f) BITSIM_INLINE {
            unroll<P * N>([&](auto v) BITSIM_INLINE { acc[f][v] = finish.apply(acc[f][v]); });
        });
        unroll<P>([&](auto p) BITSIM_INLINE {
            char *out = arena + to[pixel + p] + (size_t)(f0 / 2) * dst.row_bytes;
            unroll<F / 2>([&](auto f) BITSIM_INLINE {
                if (f0 + 2 * f < 2 * dst.cp)
                    store_row(out + f * dst.row_bytes, dst.etype, &acc[2 * f][p * N], &acc[2 * f + 1][p * N]);
            });
        });
    }
};
