// The user's arrays in and out: exactly ap_fixed's constructor from double and its conversion to float. Integer codes
// stand for code * 2^-fraction.
#pragma once
#include "linear.h"

struct Format {
    int width, fraction, is_signed, rounding, overflow;
};

// ap_fixed_base(double): the 54-bit mantissa is shifted onto the grid, rounded, then wrapped or saturated.
static inline i128 fixed_from_double(double d, const Format &f) {
    if (d == 0 || std::isnan(d))
        return 0;
    int exponent = 1025; // infinity is 2^1024 to ap_fixed
    const double m = std::isinf(d) ? std::copysign(0.5, d) : std::frexp(d, &exponent);
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
struct Block {
    v16 rows[L], spare[L];
    static void interleave(const v16 *a, v16 *b) {
        for (int i = 0; i < L / 2; i++) {
            b[2 * i] = interleave_low(a[i], a[i + L / 2]);
            b[2 * i + 1] = interleave_high(a[i], a[i + L / 2]);
        }
    }
    const v16 *transposed() { // from one array to the other and back
        v16 *a = rows, *b = spare;
        for (int round = 1; round < L; round *= 2, std::swap(a, b))
            interleave(a, b);
        return a;
    }
};

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

    int highest() const { return format.is_signed ? (1 << (format.width - 1)) - 1 : (1 << format.width) - 1; }
    bool small() const { return dst.etype == Storage::U8 || dst.etype == Storage::I16; }
    // Rounded by what the machine has an instruction for.
    bool common_rounding() const { return format.rounding == RoundMode::TRN || format.rounding == RoundMode::RND_CONV; }
    // Saturating, int16-sized results from float: round and clamp in float, where both are exact.
    bool simple() const {
        return small() && common_rounding() && format.overflow == OverflowMode::SAT && std::abs(format.fraction) < 100;
    }
    // int16-sized results from codes whose grid is `shift` bits finer than this format's.
    bool simple_codes(int shift) const {
        return small() && (shift <= 0 || (shift < 32 && common_rounding())) &&
               (format.overflow == OverflowMode::SAT || format.overflow == OverflowMode::WRAP);
    }

    // Every `convert` writes n results as T, the element type of dst, and returns the smallest (0 when none is below).
    // clamping first keeps the rounding's argument small; both bounds are integers, so the order does not matter.
    // NaN compares false with everything and becomes 0, as in ap_fixed.
    template <class T, class R> int convert(const float *x, T *out, int n, R round) const {
        const float scale = std::ldexp(1.0f, format.fraction);
        const float hi = (float)highest(), lo = format.is_signed ? -hi - 1 : 0;
        int least = 0;
        for (int i = 0; i < n; i++) {
            float v = x[i] * scale;
            v = v == v ? v : 0;
            v = v > hi ? hi : v;
            v = v < lo ? lo : v;
            const int r = (int)round(v);
            least = r < least ? r : least;
            out[i] = (T)r;
        }
        return least;
    }
    template <class T> int convert(const float *x, T *out, int n) const {
        return format.rounding == RoundMode::TRN ? convert(x, out, n, [](float v) { return std::floor(v); })
                                                 : convert(x, out, n, [](float v) { return std::nearbyint(v); });
    }

    // `shifted` brings a code to this format's grid; then it is saturated or wrapped.
    template <class T, class E, class F> int convert_codes(const E *x, T *out, int n, F shifted) const {
        const int hi = highest(), lo = format.is_signed ? -hi - 1 : 0, drop = 32 - format.width;
        int least = 0;
        if (format.overflow == OverflowMode::SAT)
            for (int i = 0; i < n; i++) {
                const int v = shifted((int)x[i]), r = v > hi ? hi : v < lo ? lo : v;
                least = r < least ? r : least;
                out[i] = (T)r;
            }
        else
            for (int i = 0; i < n; i++) {
                const uint32_t top = (uint32_t)shifted((int)x[i]) << drop;
                const int r = format.is_signed ? (int)top >> drop : (int)(top >> drop);
                least = r < least ? r : least;
                out[i] = (T)r;
            }
        return least;
    }
    template <class T, class E> int convert_codes(const E *x, T *out, int n, int shift) const {
        if (shift <= 0 && format.overflow == OverflowMode::WRAP) { // 16 bits at most are kept
            const int left = std::min(-shift, 16);
            return convert_codes(x, out, n, [left](int v) { return (int)((uint32_t)v << left); });
        }
        if (shift <= 0) { // what does not fit 16 bits saturates, before the shift or after it
            const int left = std::min(-shift, 15);
            return convert_codes(x, out, n, [left](int v) {
                return (int)((uint32_t)(v > 65535 ? 65535 : v < -65536 ? -65536 : v) << left);
            });
        }
        if (format.rounding == RoundMode::TRN)
            return convert_codes(x, out, n, [shift](int v) { return v >> shift; });
        const uint32_t half = 1u << (shift - 1), mask = 2 * half - 1;
        return convert_codes(x, out, n, [shift, half, mask](int v) { // to nearest, ties to even, and no sum leaves int
            const int floor = v >> shift;
            const uint32_t rest = (uint32_t)v & mask, odd = floor & 1;
            return floor + (int)(rest + odd > half);
        });
    }

    // Elements of every sample, converted to T, transposed, and stored as rows of channel pairs.
    template <class T, class E, class F> void run_as(Context &ctx, const E *x, int size, F to_grid) const {
        constexpr int CH = 4 * L;
        alignas(64) T tmp[L][CH];
        int least = 0;
        for (int e0 = 0; e0 < size; e0 += CH) {
            const int n = std::min(CH, size - e0);
            for (int l = 0; l < L; l++) {
                const E *from = x + (int64_t)std::min(l, ctx.valid - 1) * size + e0;
                least = std::min(least, to_grid(from, tmp[l], n));
            }
            constexpr int BLOCK = VB / (int)sizeof(T);
            for (int part = 0; part < n; part += BLOCK) {
                Block block;
                for (int l = 0; l < L; l++)
                    block.rows[l] = load<v16>(&tmp[l][part]);
                scatter<T>(ctx.arena, block.transposed(), e0 + part, std::min(BLOCK, n - part));
            }
        }
        ctx.out_of_bounds |= least < low;
    }
    template <class E, class F> void run_simple(Context &ctx, const E *x, int size, F to_grid) const {
        if (dst.etype == Storage::U8)
            run_as<uint8_t>(ctx, x, size, to_grid);
        else
            run_as<int16_t>(ctx, x, size, to_grid);
    }
    // Bytes that are this format's own numbers: nothing to convert.
    void run_bytes(Context &ctx, const uint8_t *x, int size) const {
        for (int e0 = 0; e0 < size; e0 += VB) {
            const int n = std::min(VB, size - e0);
            Block block;
            for (int l = 0; l < L; l++) {
                const uint8_t *from = x + (int64_t)std::min(l, ctx.valid - 1) * size + e0;
                if (n == VB)
                    block.rows[l] = load<v16>(from);
                else
                    memcpy(&block.rows[l], from, n);
            }
            scatter<uint8_t>(ctx.arena, block.transposed(), e0, n);
        }
    }

    // n elements from e0 on. Of int16 a vector of the block holds one element, of bytes two neighbours.
    template <class T> void scatter(char *arena, const v16 *block, int e0, int n) const {
        int c = e0 % dst.c;
        if (c & 1) // its even neighbour was in the block before
            merge_odd<T>(arena + rows[e0], block[0]);
        for (int i = 0; i < n; i++, c = c + 1 == dst.c ? 0 : c + 1) {
            if (c & 1)
                continue; // stored with its neighbour
            const bool pair = c + 1 < dst.c && i + 1 < n;
            char *row = arena + rows[e0 + i];
            if (sizeof(T) == 2) {
                const v16 second = pair ? block[i + 1] : v16{};
                store_row(row, Storage::I16, &block[i], &second);
            } else if (i & 1) {
                const v16 first = sar(block[i / 2], 8) & 0xff;
                store(row, pair ? first | shl(block[i / 2 + 1], 8) : first);
            } else
                store(row, pair ? block[i / 2] : block[i / 2] & 0xff);
        }
    }
    template <class T> void merge_odd(char *element, v16 v) const {
        for (int l = 0; l < L; l++)
            ((T *)element)[2 * l] = (T)v[l];
    }
    // Any format. `lsb`: what 1 in the array is worth; its product with a code is exact.
    template <class E> void run_any(Context &ctx, const E *x, int size, double lsb) const {
        for (int e = 0; e < size; e++) {
            i128 v[L];
            for (int l = 0; l < L; l++) {
                v[l] = fixed_from_double((double)x[(int64_t)std::min(l, ctx.valid - 1) * size + e] * lsb, format);
                ctx.out_of_bounds |= v[l] < low || v[l] > high;
            }
            store_values(ctx.arena + rows[e], dst.etype, 2, v, L);
        }
    }
    // The block's samples. They are read as L streams, more than the processor follows on its own: ask for them first,
    // in one go, up to what its second cache holds.
    template <class E> const E *array(const Context &ctx, int size) const {
        const E *x = (const E *)ctx.inputs[which] + ctx.first * size;
        const int64_t bytes = std::min<int64_t>(sizeof(E) * (int64_t)size * ctx.valid, 1 << 18);
        for (int64_t i = 0; i < bytes; i += 64)
            __builtin_prefetch((const char *)x + i);
        return x;
    }
    template <class E> void run_codes(Context &ctx, int size) const {
        const E *x = array<E>(ctx, size);
        const int fraction = ctx.fractions[which], shift = fraction - format.fraction;
        if (std::is_same<E, uint8_t>::value && dst.etype == Storage::U8 && shift == 0 && highest() >= 255)
            run_bytes(ctx, (const uint8_t *)x, size);
        else if (simple_codes(shift))
            run_simple(ctx, x, size, [this, shift](const E *from, auto *to, int n) {
                return convert_codes(from, to, n, shift);
            });
        else
            run_any(ctx, x, size, std::ldexp(1.0, -fraction));
    }
    void run(Context &ctx) const override {
        const int size = dst.h * dst.w * dst.c;
        dst.zero_border(ctx.arena);
        switch (ctx.elements[which]) {
        case Element::UINT8: return run_codes<uint8_t>(ctx, size);
        case Element::INT8: return run_codes<int8_t>(ctx, size);
        case Element::UINT16: return run_codes<uint16_t>(ctx, size);
        case Element::INT16: return run_codes<int16_t>(ctx, size);
        case Element::INT32: return run_codes<int32_t>(ctx, size);
        case Element::FLOAT64: return run_any(ctx, array<double>(ctx, size), size, 1.0);
        }
        const float *x = array<float>(ctx, size);
        if (simple())
            run_simple(ctx, x, size, [this](const float *from, auto *to, int n) { return convert(from, to, n); });
        else
            run_any(ctx, x, size, 1.0);
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
                case Storage::U16: v = (F)((const uint16_t *)p)[2 * l]; break;
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
