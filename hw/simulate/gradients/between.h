// Sums of tensors, gradients that come together, and pooling.
#pragma once
#include "rows.h"

namespace {
struct Add : Op {
    Tensor a, b, dst;
    int up_a, up_b;
    Activation activation;
    explicit Add(Reader &r)
        : a(r.tensor()), b(r.tensor()), dst(r.tensor()), up_a((int)r.next()), up_b((int)r.next()), activation(r) {}
    void run(Context &c) const override {
        for (int p = 0; p < dst.pixels(); p++) {
            const char *x = c.arena + a.pixel(p), *y = c.arena + b.pixel(p);
            char *to = c.arena + dst.pixel(p);
            for (int r = 0; r < dst.cp; r++) {
                v32 sum[2];
                for (int k = 0; k < 2; k++)
                    sum[k] = (load_channel(x + r * a.row_bytes(), a.wide, k) << up_a) +
                             (load_channel(y + r * b.row_bytes(), b.wide, k) << up_b);
                activation.store_pair(c, to + r * dst.row_bytes(), (int64_t)p * dst.cp + r, sum[0], sum[1]);
            }
        }
    }
};

// Gradients of one tensor that come from several places, added up; each has its own scale.
struct Merge : Op {
    struct Factor {
        vf value;
    };
    std::vector<Tensor> parts;
    Tensor dst;
    int masked;
    int64_t mask;
    static std::vector<Tensor> read(Reader &r) {
        std::vector<Tensor> found;
        for (int64_t n = r.next(); n > 0; n--)
            found.push_back(r.tensor());
        return found;
    }
    explicit Merge(Reader &r) : parts(read(r)), dst(r.tensor()), masked((int)r.next()), mask(r.next()) {}
    void run(Context &c) const override {
        Scale &out = c.scales[dst.scale];
        out.most = v32{}, out.scale = vf{};
        for (const Tensor &part : parts) {
            const Scale &in = c.scales[part.scale];
            out.scale += __builtin_convertvector(in.most, vf) * in.scale / 32766.0f;
        }
        std::vector<Factor> factors;
        for (const Tensor &part : parts) {
            vf f = c.scales[part.scale].scale;
            for (int i = 0; i < S; i++)
                f[i] = out.scale[i] > 0 ? f[i] / out.scale[i] : 0.0f;
            factors.push_back({f});
        }
        const float magic = 12582912.0f; // 1.5 * 2^23: adding and taking it away rounds
        for (int p = 0; p < dst.pixels(); p++)
            for (int r = 0; r < dst.cp; r++) {
                v32 sum[2];
                for (int k = 0; k < 2; k++) {
                    vf total{};
                    for (size_t i = 0; i < parts.size(); i++)
                        total += factors[i].value * __builtin_convertvector(
                                                 load_channel(c.arena + parts[i].pixel(p) + r * VB, 0, k), vf);
                    sum[k] = __builtin_convertvector((total + magic) - magic, v32);
                }
                if (masked) {
                    const v16 m = load_mask(c.masks + mask + ((int64_t)p * dst.cp + r) * MASK);
                    sum[0] &= first(m), sum[1] &= second(m);
                }
                out.most = larger(out.most, larger(magnitude(sum[0]), magnitude(sum[1])));
                store(c.arena + dst.pixel(p) + r * VB, pair(sum[0], sum[1]));
            }
    }
};

struct Window {
    Tensor src, dst;
    int kh, kw, sh, sw;
    explicit Window(Reader &r) : src(r.tensor()), dst(r.tensor()) {
        kh = (int)r.next(), kw = (int)r.next(), sh = (int)r.next(), sw = (int)r.next();
    }
};

// The largest of a window, and which one it is: the first of several.
struct MaxPool : Op, Window {
    int64_t mask;
    explicit MaxPool(Reader &r) : Window(r), mask(r.next()) {}
    void run(Context &c) const override {
        char *to_mask = c.masks + mask;
        for (int p = 0; p < dst.pixels(); p++)
            for (int r = 0; r < dst.cp; r++) {
                const int y = p / dst.w * sh, x = p % dst.w * sw;
                v16 most = load<v16>(c.arena + src.pixel(y, x) + r * VB);
                for (int k = 1; k < kh * kw; k++) {
                    const v16 here = load<v16>(c.arena + src.pixel(y + k / kw, x + k % kw) + r * VB);
                    most = here > most ? here : most;
                }
                v16 open = v16{} - 1;
                for (int k = 0; k < kh * kw; k++, to_mask += MASK) {
                    const v16 chosen = (load<v16>(c.arena + src.pixel(y + k / kw, x + k % kw) + r * VB) == most) & open;
                    open &= ~chosen;
                    save_mask(to_mask, chosen);
                }
                store(c.arena + dst.pixel(p) + r * VB, most);
            }
    }
};

// From the gradient by what was pooled (src) to that by what it was pooled from (dst). Windows do not overlap.
struct BackwardPool : Op, Window {
    int64_t chosen; // of the largest numbers; -1: a sum
    int masked;
    int64_t mask;
    float unit;
    explicit BackwardPool(Reader &r) : Window(r) {
        chosen = r.next(), masked = (int)r.next(), mask = r.next(), unit = (float)r.real();
    }
    void run(Context &c) const override {
        c.scales[dst.scale].most = c.scales[src.scale].most;
        c.scales[dst.scale].scale = c.scales[src.scale].scale * unit;
        const char *of_window = c.masks + chosen;
        for (int p = 0; p < src.pixels(); p++)
            for (int r = 0; r < src.cp; r++) {
                const v16 g = load<v16>(c.arena + src.pixel(p) + r * VB);
                for (int k = 0; k < kh * kw; k++) {
                    const int place = (p / src.w * sh + k / kw) * dst.w + p % src.w * sw + k % kw;
                    v16 here = g;
                    if (chosen >= 0)
                        here &= load_mask(of_window), of_window += MASK;
                    if (masked)
                        here &= load_mask(c.masks + mask + ((int64_t)place * dst.cp + r) * MASK);
                    store(c.arena + dst.pixel(place) + r * VB, here);
                }
            }
    }
};

struct SumPool : Op, Window {
    explicit SumPool(Reader &r) : Window(r) {}
    void run(Context &c) const override {
        for (int p = 0; p < dst.pixels(); p++)
            for (int r = 0; r < dst.cp; r++) {
                v16 sum{};
                for (int k = 0; k < kh * kw; k++)
                    sum += load<v16>(c.arena + src.pixel(p / dst.w * sh + k / kw, p % dst.w * sw + k % kw) + r * VB);
                store(c.arena + dst.pixel(p) + r * VB, sum);
            }
    }
};
} // namespace
