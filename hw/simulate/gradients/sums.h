// Layers that multiply, forward and backward.
#pragma once
#include "rows.h"

namespace {
// Weights packed [4 filters][tap][pair of channels][filter] against windows of pixels.
struct Sums : Op {
    Tensor src, dst;
    int pixels, taps, run_length, blocks, own; // own: every pixel has its own weights
    const int32_t *from, *tap, *pixel, *weights; // byte offsets of windows and taps; which pixels of dst are computed
    explicit Sums(Reader &r) : src(r.tensor()), dst(r.tensor()) {
        pixels = (int)r.next(), taps = (int)r.next(), run_length = (int)r.next(), blocks = (int)r.next();
        own = (int)r.next();
        from = r.blob<int32_t>(), tap = r.blob<int32_t>(), pixel = r.blob<int32_t>(), weights = r.blob<int32_t>();
    }
    template <int B, int P, class Finish> void tile(Context &c, int p0, int b0, const Finish &finish) const {
        v32 acc[B * 4][P];
        for (int f = 0; f < B * 4; f++)
            for (int p = 0; p < P; p++)
                acc[f][p] = finish.begin(b0 * 4 + f);
        const char *base[P];
        for (int p = 0; p < P; p++)
            base[p] = c.arena + src.offset + from[p0 + p];
        const size_t block = (size_t)taps * run_length * 4;
        const int32_t *w = weights + ((own ? p0 * blocks : 0) + b0) * block;
        for (int t = 0; t < taps; t++) {
            const char *q[P];
            for (int p = 0; p < P; p++)
                q[p] = base[p] + tap[t];
            for (int r = 0; r < run_length; r++, w += 4) {
                v16 x[P];
                for (int p = 0; p < P; p++)
                    x[p] = load<v16>(q[p] + (size_t)r * VB);
                for (int b = 0; b < B; b++)
                    for (int f = 0; f < 4; f++) {
                        const v32 wf = broadcast(w + b * block + f);
                        for (int p = 0; p < P; p++)
                            acc[b * 4 + f][p] = dot16(acc[b * 4 + f][p], x[p], wf);
                    }
            }
        }
        for (int p = 0; p < P; p++) {
            const int place = pixel[p0 + p];
            char *to = c.arena + dst.pixel(place);
            for (int f = 0; f < B * 4; f += 2) {
                const int row = (b0 * 4 + f) / 2;
                if (row < dst.cp)
                    finish.end(c, to + row * dst.row_bytes(), (int64_t)place * dst.cp + row, acc[f][p], acc[f + 1][p]);
            }
        }
    }
    template <class Finish> void all(Context &c, const Finish &finish) const {
        constexpr int WIDE = VB == 32 ? 3 : 6; // 16 or 32 registers
        int p = 0;
        for (; !own && p + WIDE <= pixels; p += WIDE)
            for (int b = 0; b < blocks; b++)
                tile<1, WIDE>(c, p, b, finish);
        for (; !own && p + 2 <= pixels; p += 2)
            for (int b = 0; b < blocks; b++)
                tile<1, 2>(c, p, b, finish);
        for (; p < pixels; p++) {
            int b = 0;
            for (; b + 4 <= blocks; b += 4)
                tile<4, 1>(c, p, b, finish);
            for (; b < blocks; b++)
                tile<1, 1>(c, p, b, finish);
        }
    }
};

// A convolution or dense layer, and the activation behind it.
struct Linear : Sums {
    const int32_t *bias;
    Activation activation;
    explicit Linear(Reader &r) : Sums(r), bias(r.blob<int32_t>()), activation(r) {}
    v32 begin(int f) const { return v32{} + bias[f]; }
    void end(Context &c, char *to, int64_t row, v32 a, v32 b) const { activation.store_pair(c, to, row, a, b); }
    void run(Context &c) const override { all(c, *this); }
};

// The same layer's gradient by input, from that by output; what the input's activation stops is set to zero. One of
// several parts where a stride makes windows differ from pixel to pixel.
struct BackwardLinear : Sums {
    int begins, masked;
    int64_t mask;
    float reach, unit; // how large sums of numbers up to one get; what one of the weights' units is worth
    explicit BackwardLinear(Reader &r) : Sums(r) {
        begins = (int)r.next(), masked = (int)r.next(), mask = r.next();
        reach = (float)r.real(), unit = (float)r.real();
    }
    struct Shifted {
        const BackwardLinear &op;
        v32 shift, half, *most;
        v32 begin(int) const { return half; }
        void end(Context &c, char *to, int64_t row, v32 a, v32 b) const {
            a = clip(a >> shift, -32767, 32767), b = clip(b >> shift, -32767, 32767);
            if (op.masked) {
                const v16 m = load_mask(c.masks + op.mask + row * MASK);
                a &= first(m), b &= second(m);
            }
            *most = larger(*most, larger(magnitude(a), magnitude(b)));
            store(to, pair(a, b));
        }
    };
    void run(Context &c) const override {
        const Scale &in = c.scales[src.scale];
        Scale &out = c.scales[dst.scale];
        if (begins)
            out.most = v32{};
        v32 shift{}, half{};
        for (int i = 0; i < S; i++) {
            const float bound = (float)in.most[i] * reach;
            int n = 0;
            while (n < 24 && bound > 32767.0f * (float)(1 << n))
                n++;
            shift[i] = n, half[i] = (1 << n) >> 1;
            out.scale[i] = in.scale[i] * unit * (float)(1 << n);
        }
        all(c, Shifted{*this, shift, half, &out.most});
    }
};
} // namespace
