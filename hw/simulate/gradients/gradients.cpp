// Input gradients of a quantized network in integers: activations and gradients are int16, sums int32, one sample a lane.
//
// Two programs a network, made by encode.py. Forward: the network's own bits, and on the way where each activation
// lets a gradient through. Backward: from the loss' gradient by output to that by input. A gradient is kept as int16 of
// up to 15 bits and one scale a sample; every layer's result is shifted back into 16 bits, rounded.
//
// A row is one vector: two channels of S samples, int16. A wide row is two vectors: one channel each, int32.
// Memory of a thread: every tensor has its own place, so that the zero borders are written once.
#include "isa.h"
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace {
constexpr int S = VB / 4;
typedef float vf __attribute__((vector_size(VB), may_alias));

// Where a pair's two numbers of every sample let a gradient through: all ones or zero.
#if VB == 64
constexpr int MASK = 4;
void save_mask(char *to, v16 m) {
    const uint32_t bits = _mm512_movepi16_mask((__m512i)m);
    memcpy(to, &bits, 4);
}
v16 load_mask(const char *from) {
    uint32_t bits;
    memcpy(&bits, from, 4);
    return (v16)_mm512_movm_epi16(bits);
}
#else
constexpr int MASK = VB / 2;
typedef int8_t half8 __attribute__((vector_size(VB / 2), may_alias));
void save_mask(char *to, v16 m) { store(to, __builtin_convertvector(m, half8)); }
v16 load_mask(const char *from) { return __builtin_convertvector(load<half8>(from), v16); }
#endif

v16 pair(v32 a, v32 b) { return (v16)((a & 0xffff) | (b << 16)); }
v32 first(v16 row) { return ((v32)row << 16) >> 16; }
v32 second(v16 row) { return (v32)row >> 16; }
v32 larger(v32 a, v32 b) { return a > b ? a : b; }
v32 clip(v32 a, int lo, int hi) {
    const v32 low = v32{} + lo, high = v32{} + hi;
    a = a < low ? low : a;
    return a > high ? high : a;
}
v32 magnitude(v32 a) { return larger(a, -a); }

// A sample's gradient is number * scale; `most` is the largest number's magnitude.
struct Scale {
    v32 most;
    vf scale;
};

struct Tensor {
    int h, w, cp, top, left, full_w, wide, scale;
    size_t offset;
    size_t row_bytes() const { return wide ? 2 * VB : VB; }
    size_t pixel(int y, int x) const { return offset + (size_t)((y + top) * full_w + x + left) * cp * row_bytes(); }
    size_t pixel(int p) const { return pixel(p / w, p % w); }
    int pixels() const { return h * w; }
};

struct Context {
    char *arena, *masks;
    const float *points; // forward: of the grid; backward: the loss' gradient by output
    float *results;      // forward: outputs; backward: the gradient
    int valid;           // samples of this group
    Scale *scales;
    bool off_grid;
};

struct Reader {
    const int64_t *p;
    const std::vector<Tensor> &tensors;
    const void *const *blobs;
    int64_t next() { return *p++; }
    double real() {
        double value;
        memcpy(&value, p++, 8);
        return value;
    }
    const Tensor &tensor() { return tensors[next()]; }
    template <class T> const T *blob() {
        const int64_t i = next();
        return i < 0 ? nullptr : (const T *)blobs[i];
    }
};

struct Op {
    virtual ~Op() {}
    virtual void run(Context &c) const = 0;
};

// What follows sums: round half to even by `shift` bits (or shift up) and clip; where 0 < sum < `open`, gradients pass.
struct Activation {
    int use, shift, lo, hi, masked, open;
    int64_t mask;
    explicit Activation(Reader &r) {
        use = (int)r.next(), shift = (int)r.next(), lo = (int)r.next(), hi = (int)r.next();
        masked = (int)r.next(), open = (int)r.next(), mask = r.next();
    }
    v32 apply(v32 a) const {
        if (shift > 0)
            a = (a + ((1 << (shift - 1)) - 1) + ((a >> shift) & 1)) >> shift;
        else if (shift < 0) // beyond 16 bits it is clipped in any case
            a = clip(a, -32768, 32767) << -shift;
        return clip(a, lo, hi);
    }
    v32 passes(v32 a) const { return (a > v32{}) & (a < v32{} + open); }
    // Both channels of a pair, row number `row` of the tensor.
    void store_pair(Context &c, char *to, int64_t row, v32 a, v32 b) const {
        if (!use) {
            store(to, a), store(to + VB, b);
            return;
        }
        if (masked)
            save_mask(c.masks + mask + row * MASK, pair(passes(a), passes(b)));
        store(to, pair(apply(a), apply(b)));
    }
};

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

v32 load_channel(const char *row, int wide, int channel) {
    if (wide)
        return load<v32>(row + channel * VB);
    const v16 both = load<v16>(row);
    return channel ? second(both) : first(both);
}

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

enum { DONE, NO_MEMORY, OFF_GRID };

struct Program {
    size_t arena_bytes, mask_bytes;
    int scales;
    std::vector<Tensor> tensors;
    std::vector<std::unique_ptr<Op>> ops;
    std::vector<char *> spare; // arenas of threads that have finished
    std::mutex lock;
    ~Program() {
        for (char *arena : spare)
            std::free(arena);
    }
    char *take() {
        {
            std::lock_guard<std::mutex> hold(lock);
            if (!spare.empty()) {
                char *arena = spare.back();
                spare.pop_back();
                return arena;
            }
        }
        char *arena = (char *)std::aligned_alloc(64, arena_bytes);
        if (arena)
            memset(arena, 0, arena_bytes); // the borders stay so
        return arena;
    }
    void give(char *arena) {
        std::lock_guard<std::mutex> hold(lock);
        spare.push_back(arena);
    }
};

Op *make(int64_t code, Reader &r) {
    switch (code) {
    case 0: return new Input(r);
    case 1: return new Linear(r);
    case 2: return new Add(r);
    case 3: return new MaxPool(r);
    case 4: return new SumPool(r);
    case 5: return new Output(r);
    case 6: return new Seed(r);
    case 7: return new BackwardLinear(r);
    case 8: return new BackwardPool(r);
    case 9: return new Merge(r);
    case 10: return new Gradient(r);
    }
    return nullptr;
}
} // namespace

extern "C" {
int gradients_samples() { return S; } // of a group
int gradients_row() { return VB; }    // bytes
int gradients_mask() { return MASK; } // bytes of a row's

// code: arena bytes, mask bytes of a group, scales, tensors, ops; 9 numbers a tensor; then (kind, numbers...) an op.
void *gradients_create(const int64_t *code, const void *const *blobs) {
    auto program = std::make_unique<Program>();
    program->arena_bytes = ((size_t)code[0] + 63) / 64 * 64, program->mask_bytes = (size_t)code[1];
    program->scales = (int)code[2];
    const int64_t n_tensors = code[3], n_ops = code[4], *p = code + 5;
    for (int64_t i = 0; i < n_tensors; i++, p += 9)
        program->tensors.push_back(Tensor{(int)p[0], (int)p[1], (int)p[2], (int)p[3], (int)p[4], (int)p[5], (int)p[6],
                                          (int)p[7], (size_t)p[8]});
    Reader reader{p, program->tensors, blobs};
    for (int64_t i = 0; i < n_ops; i++) {
        Op *op = make(reader.next(), reader);
        if (!op)
            return nullptr;
        program->ops.emplace_back(op);
    }
    return program.release();
}

void gradients_destroy(void *program) { delete (Program *)program; }

// inputs (samples, n_in), results (samples, n_out); masks: of all groups, written forward, read backward.
int gradients_run(void *handle, const float *inputs, int64_t n_in, float *results, int64_t n_out, char *masks,
                  int64_t samples, int threads) {
    Program &program = *(Program *)handle;
    const int64_t groups = (samples + S - 1) / S;
    std::atomic<int64_t> next{0};
    std::atomic<int> failed{DONE};
    auto work = [&]() {
        char *arena = program.take();
        if (!arena) {
            failed = NO_MEMORY;
            return;
        }
        std::unique_ptr<Scale[]> scales(new Scale[program.scales + 1]());
        for (int64_t g; (g = next++) < groups;) {
            Context c{arena, masks + g * program.mask_bytes, inputs + g * S * n_in, results + g * S * n_out,
                      (int)std::min<int64_t>(S, samples - g * S), scales.get(), false};
            for (const auto &op : program.ops)
                op->run(c);
            if (c.off_grid)
                failed = OFF_GRID;
        }
        program.give(arena);
    };
    std::vector<std::thread> pool;
    for (int64_t i = 1; i < std::min<int64_t>(threads, groups); i++)
        pool.emplace_back(work);
    work();
    for (auto &thread : pool)
        thread.join();
    return failed;
}

// One step along signs, into the box; then the nearest points of the grid. length: one number, or one a feature.
void gradients_move(float *iterate, const float *ahead, const float *length, const float *low, const float *high,
                    float *points, int64_t samples, int64_t features, int64_t lengths) {
    std::vector<float> step(features);
    for (int64_t e = 0; e < features; e++)
        step[e] = length[lengths == 1 ? 0 : e];
    for (int64_t i = 0; i < samples; i++)
        for (int64_t e = 0, k = i * features; e < features; e++, k++) {
            const float by = ahead[k] > 0 ? step[e] : ahead[k] < 0 ? -step[e] : 0.0f;
            const float there = std::min(std::max(iterate[k] + by, low[k]), high[k]);
            iterate[k] = there, points[k] = std::nearbyint(there);
        }
}
}
