// Dense and convolution on quads of channels, uint8 data and int8 weights: int32 sums, whatever the plan says of int16.
//
// Two rows of the window become two vectors of quads, for all filters of a tile. An odd last row meets itself, with
// weights of zero.
#pragma once
#include "dot4.h"
#include "linear.h"

#if BITSIM_DOT4
struct QuadLinear : FastLinear {
    std::vector<ptrdiff_t> rows;   // of the window, from where it begins; an even number
    std::vector<int32_t> quads;    // [filter block of DOT4_FILTERS, 4 or 2][two rows][filter]
    std::vector<uint32_t> offsets; // what the sums begin with: the bias, and what dot4 leaves out

    QuadLinear(int kernel, Reader &r) : FastLinear(kernel, r), offsets(bias, bias + nf) {
        const size_t line = (size_t)src.full_w * src.pixel_bytes();
        const int run = run_length(), taps = kh * run;
        for (int tap = 0; tap < taps; tap++)
            rows.push_back(tap / run * line + tap % run * src.row_bytes);
        if (taps % 2)
            rows.push_back(rows.back());
        for (int f0 = 0, size; f0 < nf; f0 += size) {
            size = block_size(nf - f0);
            for (int tap = 0; tap < taps; tap += 2)
                for (int f = f0; f < f0 + size; f++)
                    quads.push_back((int32_t)(pair(f, tap) | (tap + 1 < taps ? pair(f, tap + 1) << 16 : 0)));
        }
        quads.resize(quads.size() + 4); // dot4 reads four at a time
        for (int f = 0; f < nf; f++)
            for (int tap = 0; tap < taps; tap++)
                offsets[f] += DOT4_OFFSET * (uint32_t)((int8_t)pair(f, tap) + (int8_t)(pair(f, tap) >> 8));
    }

    static int block_size(int left) { return left >= DOT4_FILTERS ? DOT4_FILTERS : left >= 4 ? 4 : 2; }

    uint32_t pair(int f, int tap) const { // two int8
        const int first = f / 4 * 4, size = std::min(4, nf - first);
        return (uint32_t)weights[(size_t)first * kh * run_length() + tap * size + f - first] & 0xffff;
    }

    template <int F, int P> void tile(char *arena, int pixel, int f0, const int32_t *w) const {
        v32 acc[F][2 * P];
        const char *base[P];
        unroll<P>([&](auto p) BITSIM_INLINE { base[p] = source(arena, pixel + p); });
        unroll<F>([&](auto f) BITSIM_INLINE {
            unroll<2 * P>([&](auto v) BITSIM_INLINE { acc[f][v] = v32{} + (int32_t)offsets[f0 + f]; });
        });
        for (size_t r = 0; r < rows.size(); r += 2, w += F)
            unroll<P>([&](auto p) BITSIM_INLINE {
                const v16 a = dot4_data(load<v16>(base[p] + rows[r])), b = dot4_data(load<v16>(base[p] + rows[r + 1]));
                const v32 low = quads_low(a, b), high = quads_high(a, b);
                unroll<F>([&](auto f) BITSIM_INLINE {
                    acc[f][2 * p] = dot4<f>(acc[f][2 * p], low, w);
                    acc[f][2 * p + 1] = dot4<f>(acc[f][2 * p + 1], high, w);
                });
            });
        finish_tile<F, P>(arena, acc, pixel, f0);
    }

    // From sums in the order of quads_low and quads_high, the halves of a pixel side by side.
    template <int F, int P> BITSIM_INLINE void finish_tile(char *arena, v32 (&acc)[F][2 * P], int pixel, int f0) const {
        if (kernel == LinearKernel::INT8) { // int16 is enough, and finishes twice as many at once
            v16 sums[F][P];
            unroll<F>([&](auto f) BITSIM_INLINE {
                unroll<P>([&](auto p) BITSIM_INLINE { sums[f][p] = narrow(acc[f][2 * p], acc[f][2 * p + 1]); });
            });
            write<F, P, 1>(arena, sums, pixel, f0);
        } else {
            unroll<F>([&](auto f) BITSIM_INLINE {
                unroll<P>([&](auto p) BITSIM_INLINE { in_order(acc[f][2 * p], acc[f][2 * p + 1]); });
            });
            write<F, P, 2>(arena, acc, pixel, f0);
        }
    }

    template <int F> const int32_t *block(char *arena, int f0, const int32_t *w) const {
        constexpr int P = DOT4_FILTERS / F; // as many sums, however few filters
        int p = 0;
        for (; p + P <= dst.pixels(); p += P)
            tile<F, P>(arena, p, f0, w);
        for (; p < dst.pixels(); p++)
            tile<F, 1>(arena, p, f0, w);
        return w + F * rows.size() / 2;
    }

    void run(Context &ctx) const override {
        dst.zero_border(ctx.arena);
        const int32_t *w = quads.data();
        for (int f0 = 0, size; f0 < nf; f0 += size) {
            size = block_size(nf - f0);
            w = size == DOT4_FILTERS ? block<DOT4_FILTERS>(ctx.arena, f0, w)
                : size == 4          ? block<4>(ctx.arena, f0, w)
                                     : block<2>(ctx.arena, f0, w);
        }
    }
};
#endif
