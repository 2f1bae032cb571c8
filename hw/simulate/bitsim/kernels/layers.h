// Element by element, pooling, merging and moving.
#pragma once
#include "steps.h"

// Which of a row's 2L values are real: lanes of samples that exist, channels that exist.
struct Counted {
    uint8_t flags[24 * L];
    void set(const Context &ctx, const Tensor &t, int64_t row, int rows) {
        if (!ctx.counters)
            return;
        for (int r = 0; r < rows; r++)
            for (int i = 0; i < 2 * L; i++)
                flags[r * 2 * L + i] = i / 2 < ctx.valid && (int)((row + r) % t.cp) * 2 + (i & 1) < t.c;
    }
};

template <class Self> struct WordOp : Op {
    int word = Word::W64;
    void run(Context &ctx) const override {
        const Self *self = static_cast<const Self *>(this);
        self->dst.zero_border(ctx.arena);
        if (word == Word::W32)
            self->template run_word<int32_t>(ctx);
        else if (word == Word::W64)
            self->template run_word<int64_t>(ctx);
        else
            self->template run_word<i128>(ctx);
    }
};

struct Map : WordOp<Map> {
    Tensor src, dst;
    Steps steps;
    explicit Map(Reader &r) : src(r.tensor()), dst(r.tensor()) { word = (int)r.next(), steps = Steps::read(r); }
    template <class T> void run_word(Context &ctx) const {
        auto machine = std::make_unique<Machine<T>>();
        Counted counted;
        machine->counters = ctx.counters, machine->counted = counted.flags;
        T v[16 * L];
        for (int y = 0; y < src.h; y++) {
            const char *in = src.pixel(ctx.arena, y, 0);
            char *out = dst.pixel(ctx.arena, y, 0);
            const int rows = src.w * src.cp;
            for (int r = 0; r < rows; r += 8) {
                const int n = std::min(8, rows - r);
                const int64_t row = (int64_t)y * rows + r;
                load_values(in + r * src.row_bytes, src.etype, 1, v, n * 2 * L);
                counted.set(ctx, src, row, n);
                machine->run(steps, v, n * 2 * L, row);
                store_values(out + r * dst.row_bytes, dst.etype, 1, v, n * 2 * L);
            }
        }
    }
};

// Each value first goes through its own steps (alignment); then the two meet, and the result goes through `steps`.
struct Binary : WordOp<Binary> {
    Tensor one, two, dst;
    int merge;
    Steps on_one, on_two, steps;
    explicit Binary(Reader &r) : one(r.tensor()), two(r.tensor()), dst(r.tensor()) {
        word = (int)r.next(), merge = (int)r.next();
        on_one = Steps::read(r), on_two = Steps::read(r), steps = Steps::read(r);
    }
    template <class T> void run_word(Context &ctx) const {
        auto machine = std::make_unique<Machine<T>>();
        Counted counted;
        machine->counters = ctx.counters, machine->counted = counted.flags;
        T a[16 * L], b[16 * L];
        for (int y = 0; y < dst.h; y++) {
            const int rows = dst.w * dst.cp;
            const char *in1 = one.pixel(ctx.arena, y, 0), *in2 = two.pixel(ctx.arena, y, 0);
            char *out = dst.pixel(ctx.arena, y, 0);
            for (int r = 0; r < rows; r += 8) {
                const int n = std::min(8, rows - r), count = n * 2 * L;
                load_values(in1 + r * one.row_bytes, one.etype, 1, a, count);
                load_values(in2 + r * two.row_bytes, two.etype, 1, b, count);
                counted.set(ctx, dst, (int64_t)y * rows + r, n);
                machine->run(on_one, a, count);
                machine->run(on_two, b, count);
                for (int i = 0; i < count; i++)
                    a[i] = merge == Merge::ADD        ? a[i] + b[i]
                           : merge == Merge::SUBTRACT ? a[i] - b[i]
                           : merge == Merge::MULTIPLY ? a[i] * b[i]
                           : merge == Merge::MAXIMUM  ? std::max(a[i], b[i])
                                                      : std::min(a[i], b[i]);
                machine->run(steps, a, count);
                store_values(out + r * dst.row_bytes, dst.etype, 1, a, count);
            }
        }
    }
};

// The window's values, in csim's order, reduced left to right or as nnet::reduce's balanced tree.
struct Pool : WordOp<Pool> {
    Tensor src, dst;
    int kh, kw, sh, sw, py, px, maximum, tree;
    i128 pad_value;
    Steps on_input, on_sum, steps;
    std::vector<Steps> divide; // by overlap count - 1; one entry when the divisor is constant
    explicit Pool(Reader &r) : src(r.tensor()), dst(r.tensor()) {
        word = (int)r.next();
        kh = (int)r.next(), kw = (int)r.next(), sh = (int)r.next(), sw = (int)r.next(), py = (int)r.next(), px = (int)r.next();
        maximum = (int)r.next(), tree = (int)r.next();
        pad_value = r.wide();
        on_input = Steps::read(r), on_sum = Steps::read(r);
        int n = (int)r.next();
        for (int i = 0; i < n; i++)
            divide.push_back(Steps::read(r));
        steps = Steps::read(r);
    }
    template <class T> void combine(Machine<T> &m, T *a, const T *b) const {
        for (int i = 0; i < 2 * L; i++)
            a[i] = maximum ? std::max(a[i], b[i]) : (T)(a[i] + b[i]);
        if (!maximum)
            m.run(on_sum, a, 2 * L);
    }
    template <class T> void reduce(Machine<T> &m, T (*x)[2 * L], int n) const {
        if (!tree || n <= 2) {
            for (int i = 1; i < n; i++)
                combine(m, x[0], x[i]);
            return;
        }
        int left = 1;
        while (left * 2 <= n - 1)
            left *= 2;
        reduce(m, x, left);
        reduce(m, x + left, n - left);
        combine(m, x[0], x[left]);
    }
    template <class T> void run_word(Context &ctx) const {
        auto machine = std::make_unique<Machine<T>>();
        Counted counted;
        machine->counters = ctx.counters, machine->counted = counted.flags;
        std::vector<T> buffer((size_t)kh * kw * 2 * L);
        T(*window)[2 * L] = (T(*)[2 * L])buffer.data();
        for (int oy = 0; oy < dst.h; oy++)
            for (int ox = 0; ox < dst.w; ox++)
                for (int c = 0; c < dst.cp; c++) {
                    int n = 0, inside = 0;
                    counted.set(ctx, src, c, 1);
                    for (int ky = 0; ky < kh; ky++)
                        for (int kx = 0; kx < kw; kx++, n++) {
                            const int y = oy * sh + ky - py, x = ox * sw + kx - px;
                            if (y >= 0 && y < src.h && x >= 0 && x < src.w) {
                                load_values(src.pixel(ctx.arena, y, x) + c * src.row_bytes, src.etype, 1, window[n], 2 * L);
                                inside++;
                            } else
                                std::fill(window[n], window[n] + 2 * L, (T)pad_value);
                            machine->run(on_input, window[n], 2 * L);
                        }
                    if (!maximum && !tree) { // csim starts from 0 and casts every sum, the first too
                        machine->run(on_sum, window[0], 2 * L);
                    }
                    reduce(*machine, window, n);
                    if (!divide.empty())
                        machine->run(divide[divide.size() == 1 ? 0 : inside - 1], window[0], 2 * L);
                    machine->run(steps, window[0], 2 * L);
                    store_values(dst.pixel(ctx.arena, oy, ox) + c * dst.row_bytes, dst.etype, 1, window[0], 2 * L);
                }
    }
};

// Max pooling of int16 or uint8 without a cast: the common case, on whole vectors.
struct FastMaxPool : Op {
    Tensor src, dst;
    int kh, kw, sh, sw;
    explicit FastMaxPool(Reader &r) : src(r.tensor()), dst(r.tensor()) {
        kh = (int)r.next(), kw = (int)r.next(), sh = (int)r.next(), sw = (int)r.next();
    }
    template <class V> void run_vec(Context &ctx) const {
        const size_t bytes = src.pixel_bytes();
        for (int oy = 0; oy < dst.h; oy++)
            for (int ox = 0; ox < dst.w; ox++) {
                char *out = dst.pixel(ctx.arena, oy, ox);
                for (size_t i = 0; i < bytes; i += VB) {
                    V best = load<V>(src.pixel(ctx.arena, oy * sh, ox * sw) + i);
                    for (int ky = 0; ky < kh; ky++)
                        for (int kx = 0; kx < kw; kx++) {
                            V x = load<V>(src.pixel(ctx.arena, oy * sh + ky, ox * sw + kx) + i);
                            best = x > best ? x : best;
                        }
                    store(out + i, best);
                }
            }
    }
    void run(Context &ctx) const override {
        dst.zero_border(ctx.arena);
        if (src.etype == Storage::U8)
            run_vec<vu8>(ctx);
        else
            run_vec<v16>(ctx);
    }
};

// out[to[i]] = in[from[i]] through the steps, or 0 where `from` is negative. Other elements of out are left alone:
// several gathers into one tensor make a concatenation.
struct Gather : WordOp<Gather> {
    Tensor src, dst;
    int n;
    const int32_t *from, *to;
    Steps steps;
    explicit Gather(Reader &r) : src(r.tensor()), dst(r.tensor()) {
        word = (int)r.next(), n = (int)r.next();
        from = r.blob<int32_t>(), to = r.blob<int32_t>();
        steps = Steps::read(r);
    }
    template <class T> void run_word(Context &ctx) const {
        auto machine = std::make_unique<Machine<T>>();
        uint8_t counted[L];
        for (int i = 0; i < L; i++)
            counted[i] = i < ctx.valid;
        machine->counters = ctx.counters, machine->counted = counted;
        T v[L];
        for (int e = 0; e < n; e++) {
            if (from[e] < 0)
                std::fill(v, v + L, (T)0);
            else {
                load_values(src.element(ctx.arena, from[e]), src.etype, 2, v, L);
                machine->run(steps, v, L);
            }
            store_values(dst.element(ctx.arena, to[e]), dst.etype, 2, v, L);
        }
    }
};

// A residual addition: ((one << shift) + (two << shift)), rounded and clamped, on whole vectors.
struct FastAdd : Op {
    Tensor one, two, dst;
    int lane, shift1, shift2;
    Finish finish;
    explicit FastAdd(Reader &r) : one(r.tensor()), two(r.tensor()), dst(r.tensor()) {
        lane = (int)r.next(), shift1 = (int)r.next(), shift2 = (int)r.next();
        finish = Finish::read(r);
    }
    // A row is 2L values: two vectors of int16, or four of int32.
    static void widen(const char *p, int etype, v16 *v) {
        if (etype == Storage::U8)
            v[0] = ::widen(p), v[1] = ::widen(p + VB / 2);
        else
            v[0] = load<v16>(p), v[1] = load<v16>(p + VB);
    }
    static void narrow(char *p, int etype, const v16 *v) {
        if (etype == Storage::U8) {
            typedef uint8_t half __attribute__((vector_size(VB / 2)));
            store(p, __builtin_convertvector(v[0], half));
            store(p + VB / 2, __builtin_convertvector(v[1], half));
        } else
            store(p, v[0]), store(p + VB, v[1]);
    }
    void add_row16(const char *a, const char *b, char *out) const {
        v16 x[2], y[2];
        widen(a, one.etype, x);
        widen(b, two.etype, y);
        for (int i = 0; i < 2; i++)
            x[i] = finish.apply(shl(x[i], shift1) + shl(y[i], shift2));
        narrow(out, dst.etype, x);
    }
    // even and odd channels as int32 lanes, and back
    void add_row32(const char *a, const char *b, char *out) const {
        v16 x[2], y[2];
        widen(a, one.etype, x);
        widen(b, two.etype, y);
        for (int i = 0; i < 2; i++) {
            const v32 p = (v32)x[i], q = (v32)y[i];
            const v32 even = finish.apply(shl(sar(shl(p, 16), 16), shift1) + shl(sar(shl(q, 16), 16), shift2));
            const v32 odd = finish.apply(shl(sar(p, 16), shift1) + shl(sar(q, 16), shift2));
            x[i] = (v16)((even & 0xffff) | shl(odd, 16));
        }
        narrow(out, dst.etype, x);
    }
    template <int LANE> void run_lane(Context &ctx) const {
        const int rows = dst.w * dst.cp;
        for (int y = 0; y < dst.h; y++) {
            const char *a = one.pixel(ctx.arena, y, 0), *b = two.pixel(ctx.arena, y, 0);
            char *out = dst.pixel(ctx.arena, y, 0);
            for (int r = 0; r < rows; r++, a += one.row_bytes, b += two.row_bytes, out += dst.row_bytes)
                LANE == 16 ? add_row16(a, b, out) : add_row32(a, b, out);
        }
    }
    void run(Context &ctx) const override {
        dst.zero_border(ctx.arena);
        if (lane == 16)
            run_lane<16>(ctx);
        else
            run_lane<32>(ctx);
    }
};
