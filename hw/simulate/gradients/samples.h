// Between arrays, sample by sample, and rows: the ends of both programs.
#pragma once
#include "rows.h"

namespace {
// S vectors of S numbers: after log2(S) rounds of interleaving halves, number i of vector k is number k of vector i.
#if VB == 64
v32 low_halves(v32 a, v32 b) {
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
v32 high_halves(v32 a, v32 b) {
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#elif VB == 32
v32 low_halves(v32 a, v32 b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
v32 high_halves(v32 a, v32 b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#else
v32 low_halves(v32 a, v32 b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
v32 high_halves(v32 a, v32 b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
#endif
void transpose(v32 (&a)[S]) {
    for (int round = 1; round < S; round *= 2) {
        v32 b[S];
        for (int i = 0; i < S / 2; i++)
            b[2 * i] = low_halves(a[i], a[i + S / 2]), b[2 * i + 1] = high_halves(a[i], a[i + S / 2]);
        std::copy(b, b + S, a);
    }
}

// The rows of a tensor as numbers sample by sample, pixel by pixel, channels filled up to pairs; and back.
struct BySample {
    Tensor tensor;
    int channels, pairs, stride; // pairs of all pixels; int16 numbers from one sample to the next
    BySample(const Tensor &t, int c)
        : tensor(t), channels(c), pairs(t.pixels() * t.cp), stride((pairs + S - 1) / S * S * 2) {}
    int features() const { return tensor.pixels() * channels; }
    size_t row(int pair) const { return tensor.pixel(pair / tensor.cp) + (size_t)(pair % tensor.cp) * VB; }
    std::vector<int16_t> &numbers() const {
        thread_local std::vector<int16_t> kept;
        kept.assign((size_t)S * stride, 0);
        return kept;
    }
    void to_rows(const std::vector<int16_t> &numbers, char *arena) const {
        for (int first = 0; first < pairs; first += S) {
            v32 block[S];
            for (int i = 0; i < S; i++)
                block[i] = load<v32>(numbers.data() + (size_t)i * stride + 2 * first);
            transpose(block);
            for (int r = 0; r < S && first + r < pairs; r++)
                store(arena + row(first + r), block[r]);
        }
    }
    void from_rows(std::vector<int16_t> &numbers, const char *arena) const {
        for (int first = 0; first < pairs; first += S) {
            v32 block[S]{};
            for (int r = 0; r < S && first + r < pairs; r++)
                block[r] = load<v32>(arena + row(first + r));
            transpose(block);
            for (int i = 0; i < S; i++)
                store(numbers.data() + (size_t)i * stride + 2 * first, block[i]);
        }
    }
};

// Points of the grid, in grid steps, by sample, to rows.
struct Input : Op {
    BySample dst;
    explicit Input(Reader &r) : dst{r.tensor(), (int)r.next()} {} // braces: in this order
    static bool convert(const float *from, int16_t *to, int n) {
        float off = 0, most = 0;
        for (int e = 0; e < n; e++) {
            const float whole = std::nearbyint(from[e]);
            off = std::max(off, std::fabs(from[e] - whole)), most = std::max(most, std::fabs(whole));
            to[e] = (int16_t)(int)whole;
        }
        return off < 0.01f && most < 32768.0f;
    }
    void run(Context &c) const override {
        std::vector<int16_t> &numbers = dst.numbers();
        for (int i = 0; i < c.valid; i++) {
            const float *from = c.points + (size_t)i * dst.features();
            int16_t *to = numbers.data() + (size_t)i * dst.stride;
            bool fine = true;
            if (dst.channels % 2 == 0)
                fine = convert(from, to, dst.features());
            else
                for (int p = 0; p < dst.tensor.pixels(); p++)
                    fine &= convert(from + p * dst.channels, to + p * (dst.channels + 1), dst.channels);
            c.off_grid |= !fine;
        }
        dst.to_rows(numbers, c.arena);
    }
};

struct Output : Op {
    Tensor src;
    int channels;
    float unit;
    explicit Output(Reader &r) : src(r.tensor()), channels((int)r.next()), unit((float)r.real()) {}
    void run(Context &c) const override {
        for (int e = 0; e < channels; e++) {
            const v32 value = load_channel(c.arena + src.pixel(0) + e / 2 * src.row_bytes(), src.wide, e % 2);
            for (int i = 0; i < c.valid; i++)
                c.results[(size_t)i * channels + e] = (float)value[i] * unit;
        }
    }
};

// The loss' gradient by output, brought to 15 bits.
struct Seed : Op {
    Tensor dst;
    int channels, masked;
    int64_t mask;
    explicit Seed(Reader &r) : dst(r.tensor()), channels((int)r.next()), masked((int)r.next()), mask(r.next()) {}
    void run(Context &c) const override {
        Scale &out = c.scales[dst.scale];
        out.most = v32{}, out.scale = vf{};
        for (int i = 0; i < c.valid; i++)
            for (int e = 0; e < channels; e++)
                out.scale[i] = std::max(out.scale[i], std::fabs(c.points[(size_t)i * channels + e]) / 16383.0f);
        for (int r = 0; r < dst.cp; r++) {
            v32 g[2]{};
            for (int k = 0; k < 2 && 2 * r + k < channels; k++)
                for (int i = 0; i < c.valid; i++)
                    if (out.scale[i] > 0)
                        g[k][i] = (int)std::lrint(c.points[(size_t)i * channels + 2 * r + k] / out.scale[i]);
            v16 row = pair(g[0], g[1]);
            if (masked)
                row &= load_mask(c.masks + mask + (int64_t)r * MASK);
            out.most = larger(out.most, larger(magnitude(first(row)), magnitude(second(row))));
            store(c.arena + dst.pixel(0) + r * VB, row);
        }
    }
};

struct Gradient : Op {
    BySample src;
    float unit;
    explicit Gradient(Reader &r) : src{r.tensor(), (int)r.next()}, unit((float)r.real()) {}
    static void convert(const int16_t *from, float *to, int n, float scale) {
        for (int e = 0; e < n; e++)
            to[e] = (float)from[e] * scale;
    }
    void run(Context &c) const override {
        std::vector<int16_t> &numbers = src.numbers();
        src.from_rows(numbers, c.arena);
        for (int i = 0; i < c.valid; i++) {
            const int16_t *from = numbers.data() + (size_t)i * src.stride;
            float *to = c.results + (size_t)i * src.features();
            const float scale = c.scales[src.tensor.scale].scale[i] * unit;
            if (src.channels % 2 == 0)
                convert(from, to, src.features(), scale);
            else
                for (int p = 0; p < src.tensor.pixels(); p++)
                    convert(from + p * (src.channels + 1), to + p * src.channels, src.channels, scale);
        }
    }
};
} // namespace
