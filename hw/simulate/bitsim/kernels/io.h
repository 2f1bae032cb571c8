// The user's float arrays in and out: exactly ap_fixed's constructor from double and its conversion to float.
#pragma once
#include "linear.h"

struct Format {
    int width, fraction, is_signed, rounding, overflow;
};

// ap_fixed_base(double): the 54-bit mantissa is shifted onto the grid, rounded, then wrapped or saturated.
static inline i128 fixed_from_double(double d, const Format &f) {
    if (d == 0 || std::isnan(d))
        return 0;
    int exponent;
    const double m = std::frexp(d, &exponent);
    const i128 man = (i128)(int64_t)std::ldexp(m, 53); // exact: 53 significant bits
    const int shift = 53 - exponent - f.fraction;
    const i128 high = f.is_signed ? ((i128)1 << (f.width - 1)) - 1 : ((i128)1 << f.width) - 1;
    const i128 low = f.is_signed ? -high - 1 : 0;
    i128 r;
    if (shift > 0)
        r = shift_right<i128>(man, std::min(shift, 100), f.rounding);
    else if (-shift <= 66)
        r = man << -shift;
    else if (f.overflow == OverflowMode::WRAP || f.overflow == OverflowMode::WRAP_SM)
        return 0; // every kept bit is a zero
    else
        r = man > 0 ? high + 1 : low - 2;
    if (f.overflow == OverflowMode::WRAP_SM && f.is_signed) {
        Step s{};
        s.n = shift, s.width = f.width, s.source_width = 54;
        bool lost;
        return wrap_sign_magnitude(man, r, s, &lost);
    }
    const bool symmetric = f.overflow == OverflowMode::SAT_SYM && f.is_signed;
    if (f.overflow != OverflowMode::WRAP && (r > high || r < low || (symmetric && r == low))) {
        if (f.overflow == OverflowMode::SAT_ZERO)
            return 0;
        if (symmetric)
            return r < 0 ? -high : high;
        return r < 0 ? low : high;
    }
    const u128 mask = (((u128)1 << (f.width - 1)) << 1) - 1;
    const i128 bits = (i128)((u128)r & mask);
    return bits > high ? bits - ((i128)1 << f.width) : bits;
}

// L x L int16, transposed: after log2(L) rounds of interleaving halves, row e holds element e of every sample.
static inline void transpose(v16 *a) {
    v16 b[L];
    for (int round = 1; round < L; round *= 2) {
        for (int i = 0; i < L / 2; i++) {
            b[2 * i] = interleave_low(a[i], a[i + L / 2]);
            b[2 * i + 1] = interleave_high(a[i], a[i + L / 2]);
        }
        for (int i = 0; i < L; i++)
            a[i] = b[i];
    }
}

struct Input : Op {
    Tensor dst;
    int which;
    i128 low, high; // the bounds this program was made for
    Format format;
    std::vector<ptrdiff_t> rows; // of each element
    explicit Input(Reader &r) : dst(r.tensor()) {
        which = (int)r.next();
        low = r.wide(), high = r.wide();
        format.width = (int)r.next(), format.fraction = (int)r.next(), format.is_signed = (int)r.next();
        format.rounding = (int)r.next(), format.overflow = (int)r.next();
        for (int e = 0; e < dst.h * dst.w * dst.c; e++)
            rows.push_back(dst.element(nullptr, e) - (char *)nullptr);
    }

    // Saturating, int16-sized results from float: round and clamp in float, where both are exact.
    bool simple() const {
        return (dst.etype == Storage::U8 || dst.etype == Storage::I16) && format.overflow == OverflowMode::SAT && format.fraction < 100 &&
               format.fraction > -100 && (format.rounding == RoundMode::TRN || format.rounding == RoundMode::RND_CONV);
    }
    // clamping first keeps the rounding's argument small; both bounds are integers, so the order does not matter.
    // NaN compares false with everything and becomes 0, as in ap_fixed. Returns the smallest result.
    template <class R> int convert(const float *x, int16_t *out, int n, R round) const {
        const float scale = std::ldexp(1.0f, format.fraction);
        const float hi = (float)(format.is_signed ? (1 << (format.width - 1)) - 1 : (1 << format.width) - 1);
        const float lo = format.is_signed ? -hi - 1 : 0;
        int least = 0;
        for (int i = 0; i < n; i++) {
            float v = x[i] * scale;
            v = v == v ? v : 0;
            v = v > hi ? hi : v;
            v = v < lo ? lo : v;
            const int r = (int)round(v);
            least = r < least ? r : least;
            out[i] = (int16_t)r;
        }
        return least;
    }

    // CH elements of every sample, converted, transposed, and stored as rows of channel pairs.
    void run_simple(Context &ctx, const float *x, int size) const {
        constexpr int CH = 4 * L;
        alignas(64) int16_t tmp[L][CH];
        int least = 0;
        for (int e0 = 0; e0 < size; e0 += CH) {
            const int n = std::min(CH, size - e0);
            for (int l = 0; l < L; l++) {
                const float *from = x + (int64_t)std::min(l, ctx.valid - 1) * size + e0;
                const int m = format.rounding == RoundMode::TRN ? convert(from, tmp[l], n, [](float v) { return std::floor(v); })
                                                     : convert(from, tmp[l], n, [](float v) { return std::nearbyint(v); });
                least = std::min(least, m);
            }
            for (int part = 0; part < n; part += L) {
                v16 block[L];
                for (int l = 0; l < L; l++)
                    block[l] = load<v16>(&tmp[l][part]);
                transpose(block);
                scatter(ctx.arena, block, e0 + part, std::min(L, n - part));
            }
        }
        ctx.out_of_bounds |= least < low;
    }
    void scatter(char *arena, const v16 *block, int e0, int n) const {
        for (int i = 0; i < n; i++) {
            const int c = (e0 + i) % dst.c;
            if ((c & 1) && i > 0)
                continue; // stored with its neighbour
            if (c & 1) {
                merge_odd(arena + rows[e0], block[0]);
                continue;
            }
            const bool pair = c + 1 < dst.c && i + 1 < n;
            const v16 second = pair ? block[i + 1] : v16{};
            store_row(arena + rows[e0 + i], dst.etype, &block[i], &second);
        }
    }
    // an odd channel whose even neighbour was in the block before
    void merge_odd(char *element, v16 v) const {
        for (int l = 0; l < L; l++) {
            if (dst.etype == Storage::U8)
                ((uint8_t *)element)[2 * l] = (uint8_t)v[l];
            else
                ((int16_t *)element)[2 * l] = v[l];
        }
    }
    template <class F> void run_any(Context &ctx, const F *x, int size) const {
        for (int e = 0; e < size; e++) {
            i128 v[L];
            for (int l = 0; l < L; l++) {
                v[l] = fixed_from_double((double)x[(int64_t)std::min(l, ctx.valid - 1) * size + e], format);
                ctx.out_of_bounds |= v[l] < low || v[l] > high;
            }
            store_values(ctx.arena + rows[e], dst.etype, 2, v, L);
        }
    }
    void run(Context &ctx) const override {
        const int size = dst.h * dst.w * dst.c;
        dst.zero_border(ctx.arena);
        if (ctx.doubles)
            run_any(ctx, (const double *)ctx.inputs[which] + ctx.first * size, size);
        else if (simple())
            run_simple(ctx, (const float *)ctx.inputs[which] + ctx.first * size, size);
        else
            run_any(ctx, (const float *)ctx.inputs[which] + ctx.first * size, size);
    }
};

// to_float / to_double: nearest even, once.
struct Output : Op {
    Tensor src;
    int which, fraction;
    explicit Output(Reader &r) : src(r.tensor()) { which = (int)r.next(), fraction = (int)r.next(); }
    template <class F> void write(Context &ctx, F *out) const {
        const int size = src.h * src.w * src.c;
        const F lsb = std::ldexp((F)1, -fraction);
        for (int e = 0; e < size; e++) {
            const char *p = src.element(ctx.arena, e);
            for (int l = 0; l < ctx.valid; l++) {
                F v;
                switch (src.etype) {
                case Storage::U8: v = (F)((const uint8_t *)p)[2 * l]; break;
                case Storage::I16: v = (F)((const int16_t *)p)[2 * l]; break;
                case Storage::I32: v = (F)((const int32_t *)p)[2 * l]; break;
                case Storage::I64: v = (F)((const int64_t *)p)[2 * l]; break;
                default: v = (F)((const uint64_t *)p)[2 * l];
                }
                out[(int64_t)l * size + e] = v * lsb;
            }
        }
    }
    void run(Context &ctx) const override {
        const int64_t at = ctx.first * src.h * src.w * src.c;
        if (ctx.doubles)
            write(ctx, (double *)ctx.outputs[which] + at);
        else
            write(ctx, (float *)ctx.outputs[which] + at);
    }
};
