// Dense and convolution where the formats prove int16 or int32 accumulators right: the fast path.
//
// A tile is F filters x NV vectors of accumulators in registers. Data are read once a filter block, weights are
// broadcast. Row = channel pair, so the kernel's columns x channels are one contiguous run a kernel line.
#pragma once
#include "steps.h"

struct Dot8 { // uint8 data, int8 weights, int16 accumulators: a pixel is one vector
    typedef v16 vec;
    typedef int16_t lane;
    static constexpr int per_pixel = 1;
    static vec dot(vec acc, const char *x, v32 w) { return dot8(acc, load<v16>(x), w); }
};
struct Dot16 { // int16 data and weights, int32 accumulators: a pixel is two vectors
    typedef v32 vec;
    typedef int32_t lane;
    static constexpr int per_pixel = 2;
    static vec dot(vec acc, const char *x, v32 w) { return dot16(acc, load<v16>(x), w); }
};

struct DotU16 : Dot16 { // uint16 data, read as int16 from 2^15 below: the bias makes up for it
    static vec dot(vec acc, const char *x, v32 w) {
        return dot16(acc, load<v16>(x) ^ (v16{} + INT16_MIN), w);
    }
};

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
static inline void store_row(char *row, int etype, const v16 *a, const v16 *b) {
    if (etype == Storage::U8)
        store(row, (v16)((*a & 0xff) | shl(*b, 8)));
    else {
        store(row, interleave_low(*a, *b));
        store(row + VB, interleave_high(*a, *b));
    }
}
static inline void store_row(char *row, int etype, const v32 *a, const v32 *b) {
    if (etype == Storage::U8)
        store(row, narrow_pairs((a[0] & 0xff) | shl(b[0], 8), (a[1] & 0xff) | shl(b[1], 8)));
    else {
        store(row, (v32)((a[0] & 0xffff) | (b[0] << 16)));
        store(row + VB, (v32)((a[1] & 0xffff) | (b[1] << 16)));
    }
}

struct FastLinear : Op {
    Tensor src, dst;
    int kh, kw, sh, sw, py, px, nf, kernel, chunk, word;
    const int32_t *weights, *bias;
    Finish finish;
    Steps steps;
    std::vector<ptrdiff_t> from, to; // where a pixel's window begins, where its result goes

    explicit FastLinear(Reader &r) : src(r.tensor()), dst(r.tensor()) {
        kh = (int)r.next(), kw = (int)r.next(), sh = (int)r.next(), sw = (int)r.next();
        py = (int)r.next(), px = (int)r.next(), nf = (int)r.next(), kernel = (int)r.next(), chunk = (int)r.next();
        word = (int)r.next();
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
    template <class S> void spill(char *arena, const S *acc, int pixel, int npix, int f0, int nfilt) const {
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

    template <class D, int F, int P> void tile(char *arena, int pixel, int f0, const int32_t *w) const {
        typedef typename D::vec V;
        constexpr int NV = P * D::per_pixel;
        const size_t step = src.row_bytes, line = (size_t)src.full_w * src.pixel_bytes();
        const char *base[P];
        for (int p = 0; p < P; p++)
            base[p] = source(arena, pixel + p);
        V acc[F][NV];
        for (int f = 0; f < F; f++)
            for (int v = 0; v < NV; v++)
                acc[f][v] = V{} + (typename D::lane)bias[f0 + f];
        const int run = run_length();
        for (int y = 0; y < kh; y++) {
            const char *q[P];
            for (int p = 0; p < P; p++)
                q[p] = base[p] + y * line;
            for (int r = 0; r < run; r++) {
                for (int f = 0; f < F; f++) {
                    const v32 wf = broadcast(w + f);
                    for (int v = 0; v < NV; v++)
                        acc[f][v] = D::dot(acc[f][v], q[v / D::per_pixel] + (v % D::per_pixel) * VB, wf);
                }
                w += F;
                for (int p = 0; p < P; p++)
                    q[p] += step;
            }
        }
        if (!finish.use) {
            spill(arena, (const typename D::lane *)acc, pixel, P, f0, F);
            return;
        }
        for (int f = 0; f < F; f++)
            for (int v = 0; v < NV; v++)
                acc[f][v] = finish.apply(acc[f][v]);
        for (int p = 0; p < P; p++) {
            char *out = arena + to[pixel + p] + (size_t)(f0 / 2) * dst.row_bytes;
            for (int f = 0; f < F && f0 + f < 2 * dst.cp; f += 2, out += dst.row_bytes)
                store_row(out, dst.etype, &acc[f][p * D::per_pixel], &acc[f + 1][p * D::per_pixel]);
        }
    }

    // uint8 data with sums beyond int16: int16 over `chunk` steps, proved to fit, then int32.
    template <int F, int P> void chunked(char *arena, int pixel, int f0, const int32_t *w) const {
        const size_t step = src.row_bytes, line = (size_t)src.full_w * src.pixel_bytes();
        int32_t wide[F * P * L];
        for (int i = 0; i < F * P * L; i++)
            wide[i] = bias[f0 + i / (P * L)];
        const int run = run_length();
        const char *base[P];
        for (int p = 0; p < P; p++)
            base[p] = source(arena, pixel + p);
        for (int y = 0; y < kh; y++)
            for (int r0 = 0; r0 < run; r0 += chunk) {
                v16 acc[F][P] = {};
                const int stop = std::min(run, r0 + chunk);
                for (int r = r0; r < stop; r++, w += F)
                    for (int f = 0; f < F; f++) {
                        const v32 wf = broadcast(w + f);
                        for (int p = 0; p < P; p++)
                            acc[f][p] = dot8(acc[f][p], load<v16>(base[p] + y * line + r * step), wf);
                    }
                const int16_t *lanes = (const int16_t *)acc;
                for (int i = 0; i < F * P * L; i++)
                    wide[i] += lanes[i];
            }
        spill(arena, wide, pixel, P, f0, F);
    }

    template <int F> void block(char *arena, int f0, const int32_t *w) const {
        const int npix = dst.pixels();
        int p = 0;
        if (kernel == LinearKernel::INT16)
            for (; p < npix; p++)
                tile<Dot16, F, 1>(arena, p, f0, w);
        else if (kernel == LinearKernel::UINT16)
            for (; p < npix; p++)
                tile<DotU16, F, 1>(arena, p, f0, w);
        else if (kernel == LinearKernel::INT8) {
            for (; p + 3 <= npix; p += 3)
                tile<Dot8, F, 3>(arena, p, f0, w);
            for (; p < npix; p++)
                tile<Dot8, F, 1>(arena, p, f0, w);
        } else {
            for (; p + 3 <= npix; p += 3)
                chunked<F, 3>(arena, p, f0, w);
            for (; p < npix; p++)
                chunked<F, 1>(arena, p, f0, w);
        }
    }

    void run(Context &ctx) const override {
        dst.zero_border(ctx.arena);
        const int32_t *w = weights;
        const int taps = kh * run_length();
        for (int f0 = 0; f0 < nf;) {
            if (nf - f0 > 2) {
                block<4>(ctx.arena, f0, w);
                w += 4 * taps, f0 += 4;
            } else {
                block<2>(ctx.arena, f0, w);
                w += 2 * taps, f0 += 2;
            }
        }
    }
};
