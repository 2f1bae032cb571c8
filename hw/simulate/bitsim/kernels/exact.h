// Dense, convolution and depthwise convolution in csim's own order, casting after every product and every addition
// where the accumulator can round, saturate or wrap in an order that matters.
#pragma once
#include "steps.h"

struct ExactLinear : Op {
    Tensor src, dst;
    int sh, sw, py, px, nf, taps, word, depthwise;
    const int32_t *tap_row, *tap_parity; // [nf or 1][taps]: row within the window, channel parity
    const int64_t *weights, *bias;       // [nf][taps], [nf]
    Steps on_product, on_sum, on_result;

    explicit ExactLinear(Reader &r) : src(r.tensor()), dst(r.tensor()) {
        sh = (int)r.next(), sw = (int)r.next(), py = (int)r.next(), px = (int)r.next();
        nf = (int)r.next(), taps = (int)r.next(), word = (int)r.next(), depthwise = (int)r.next();
        tap_row = r.blob<int32_t>(), tap_parity = r.blob<int32_t>();
        weights = r.blob<int64_t>(), bias = r.blob<int64_t>();
        on_product = Steps::read(r), on_sum = Steps::read(r), on_result = Steps::read(r);
    }

    template <class T> void run_word(Context &ctx) const {
        auto machine = std::make_unique<Machine<T>>();
        uint8_t counted[L];
        for (int i = 0; i < L; i++)
            counted[i] = i < ctx.valid;
        machine->counters = ctx.counters, machine->counted = counted;
        const int stride = depthwise ? taps : 0;
        T x[L], acc[L];
        for (int p = 0; p < dst.pixels(); p++) {
            const char *base = src.pixel(ctx.arena, (p / dst.w) * sh - py, (p % dst.w) * sw - px);
            char *out = dst.pixel(ctx.arena, p / dst.w, p % dst.w);
            for (int f = 0; f < nf; f++) {
                std::fill(acc, acc + L, (T)bias[f]);
                const int64_t *w = weights + (size_t)f * taps;
                const int32_t *row = tap_row + (size_t)f * stride, *parity = tap_parity + (size_t)f * stride;
                for (int t = 0; t < taps; t++) {
                    load_values(base + row[t] * (int64_t)src.row_bytes + parity[t] * esize(src.etype), src.etype, 2, x, L);
                    for (int i = 0; i < L; i++)
                        x[i] *= (T)w[t];
                    if (!on_product.empty())
                        machine->run(on_product, x, L);
                    for (int i = 0; i < L; i++)
                        acc[i] += x[i];
                    if (!on_sum.empty())
                        machine->run(on_sum, acc, L);
                }
                machine->run(on_result, acc, L);
                store_values(out + (f / 2) * dst.row_bytes + (f & 1) * esize(dst.etype), dst.etype, 2, acc, L);
            }
        }
    }

    void run(Context &ctx) const override {
        dst.zero_border(ctx.arena);
        if (word == Word::W32)
            run_word<int32_t>(ctx);
        else if (word == Word::W64)
            run_word<int64_t>(ctx);
        else
            run_word<i128>(ctx);
    }
};
