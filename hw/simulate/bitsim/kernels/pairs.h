// Dense and convolution on pairs of channels: int16, and bytes where the machine has nothing for quads (quads.h).
#pragma once
#include "linear.h"

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

struct PairLinear : FastLinear {
    using FastLinear::FastLinear;

    template <class D, int F, int P> void tile(char *arena, int pixel, int f0, const int32_t *w) const {
        typedef typename D::vec V;
        constexpr int NV = P * D::per_pixel;
        const size_t step = src.row_bytes, line = (size_t)src.full_w * src.pixel_bytes();
        const char *base[P];
        for (int p = 0; p < P; p++)
            base[p] = source(arena, pixel + p);
        V acc[F][NV];
        unroll<F>([&](auto f) BITSIM_INLINE {
            unroll<NV>([&](auto v) BITSIM_INLINE { acc[f][v] = V{} + (typename D::lane)bias[f0 + f]; });
        });
        const int run = run_length();
        for (int y = 0; y < kh; y++) {
            const char *q[P];
            for (int p = 0; p < P; p++)
                q[p] = base[p] + y * line;
            for (int r = 0; r < run; r++) {
                unroll<F>([&](auto f) BITSIM_INLINE {
                    const v32 wf = broadcast(w + f);
                    unroll<NV>([&](auto v) BITSIM_INLINE {
                        acc[f][v] = D::dot(acc[f][v], q[v / D::per_pixel] + (v % D::per_pixel) * VB, wf);
                    });
                });
                w += F;
                for (int p = 0; p < P; p++)
                    q[p] += step;
            }
        }
        write<F, P, D::per_pixel>(arena, acc, pixel, f0);
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
        else if constexpr (BITSIM_DOT4)
            return; // QuadLinear's
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
