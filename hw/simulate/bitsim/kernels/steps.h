// Small programs on integers: rounding, overflow, tables. The lowering has proved that no step but WRAP leaves T.
#pragma once
#include "core.h"

struct Step {
    int code, n, mode, counter;
    i128 a, b;
    const int64_t *data;
    int64_t period;
    int source_width, width; // WRAP_SM
};

struct Steps {
    std::vector<Step> list;
    static Steps read(Reader &r) {
        Steps steps;
        int count = (int)r.next();
        for (int i = 0; i < count; i++) {
            Step s;
            s.code = (int)r.next(), s.n = (int)r.next(), s.mode = (int)r.next(), s.counter = (int)r.next();
            s.a = r.wide(), s.b = r.wide();
            s.data = r.blob<int64_t>(), s.period = r.next();
            s.source_width = (int)r.next(), s.width = (int)r.next();
            steps.list.push_back(s);
        }
        return steps;
    }
    bool empty() const { return list.empty(); }
};

template <class T> static inline T shift_right(T v, int s, int mode) {
    const T half = (T)1 << (s - 1);
    switch (mode) {
    case RoundMode::TRN: return v >> s;
    case RoundMode::TRN_ZERO: return v < 0 ? (T)((T)(v + (((T)1 << s) - 1)) >> s) : (T)(v >> s);
    case RoundMode::RND: return (T)(v + half) >> s;
    case RoundMode::RND_ZERO: return (T)(v + (v < 0 ? half : (T)(half - 1))) >> s;
    case RoundMode::RND_INF: return (T)(v + (v < 0 ? (T)(half - 1) : half)) >> s;
    case RoundMode::RND_MIN_INF: return (T)(v + (half - 1)) >> s;
    default: return (T)(v + (half - 1) + ((v >> s) & 1)) >> s;
    }
}

template <class T> struct Unsigned;
template <> struct Unsigned<int32_t> { typedef uint32_t type; };
template <> struct Unsigned<int64_t> { typedef uint64_t type; };
template <> struct Unsigned<i128> { typedef u128 type; };

// ap_fixed_base::overflow_adjust for AP_WRAP_SM: `src` is the value before rounding, `v` after it, unbounded.
static inline i128 wrap_sign_magnitude(i128 src, i128 v, const Step &s, bool *overflowed) {
    const i128 low = -((i128)1 << (s.width - 1)), high = ((i128)1 << (s.width - 1)) - 1;
    u128 mask = (((u128)1 << (s.width - 1)) << 1) - 1;
    u128 bits = (u128)v & mask;
    *overflowed = v < low || v > high;
    if (*overflowed) {
        int pos = s.n + s.width; // the first bit that is lost, as numbered in the source
        bool lost = pos >= 0 && pos < s.source_width && (((u128)src >> pos) & 1);
        bool sign = (bits >> (s.width - 1)) & 1;
        if (lost != sign) {
            bits = ~bits & mask;
            u128 top = (u128)1 << (s.width - 1);
            // _AP_ROOT_op_set_bit: writes the bit
            bits = lost ? bits | top : bits & ~top;
        }
    }
    i128 out = (i128)bits;
    return out > high ? out - ((i128)1 << s.width) : out;
}

// Values are rows of `width`; row r's parameters are data[(r % period) * 2 + (i & 1)]. `counted` says which of a
// row's values are real, or is null when nothing is counted.
template <class T> struct Machine {
    static constexpr int MAX = 24 * L;
    T saved[MAX], other[MAX];
    int64_t *counters = nullptr;
    const uint8_t *counted = nullptr; // one flag a value

    template <class F> void each(const Step &s, T *v, int n, F f) {
        if (s.counter >= 0 && counters) {
            for (int i = 0; i < n; i++) {
                T out = f(v[i]);
                counters[s.counter] += counted[i] && out != v[i];
                v[i] = out;
            }
        } else {
            for (int i = 0; i < n; i++)
                v[i] = f(v[i]);
        }
    }

    void shift(const Step &s, T *v, int n) {
#define MODE(M)                                                                                                        \
    case RoundMode::M:                                                                                                 \
        for (int i = 0; i < n; i++)                                                                                    \
            v[i] = shift_right<T>(v[i], s.n, RoundMode::M);                                                                       \
        break;
        switch (s.mode) { MODE(TRN) MODE(TRN_ZERO) MODE(RND) MODE(RND_ZERO) MODE(RND_INF) MODE(RND_MIN_INF) MODE(RND_CONV) }
#undef MODE
    }

    void run(const Steps &steps, T *v, int n, int64_t row = 0, int width = 2 * L) {
        typedef typename Unsigned<T>::type U;
        for (const Step &s : steps.list) {
            const T a = (T)s.a, b = (T)s.b;
            switch (s.code) {
            case StepCode::SHR: shift(s, v, n); break;
            case StepCode::SHL:
                for (int i = 0; i < n; i++)
                    v[i] = (T)((U)v[i] << s.n);
                break;
            case StepCode::WRAP: {
                const int drop = (int)sizeof(T) * 8 - s.n;
                if (s.mode)
                    each(s, v, n, [drop](T x) { return (T)((T)((U)x << drop) >> drop); });
                else {
                    const U mask = (U)(((((U)1) << (s.n - 1)) << 1) - 1);
                    each(s, v, n, [mask](T x) { return (T)((U)x & mask); });
                }
                break;
            }
            case StepCode::CLAMP: each(s, v, n, [a, b](T x) { return x < a ? a : x > b ? b : x; }); break;
            case StepCode::SAT_ZERO: each(s, v, n, [a, b](T x) { return x < a || x > b ? (T)0 : x; }); break;
            case StepCode::WRAP_SM:
                for (int i = 0; i < n; i++) {
                    bool lost;
                    i128 src = v[i], r = s.n > 0 ? shift_right<i128>(src, s.n, s.mode) : (i128)((u128)src << -s.n);
                    v[i] = (T)wrap_sign_magnitude(src, r, s, &lost);
                    if (s.counter >= 0 && counters)
                        counters[s.counter] += counted[i] && lost;
                }
                break;
            case StepCode::ADD_CONST:
                for (int i = 0; i < n; i++)
                    v[i] += a;
                break;
            case StepCode::MUL_CONST:
                for (int i = 0; i < n; i++)
                    v[i] *= a;
                break;
            case StepCode::ADD_PARAM:
            case StepCode::MUL_PARAM:
                for (int i = 0; i < n; i++) {
                    T p = (T)s.data[((row + i / width) % s.period) * 2 + (i & 1)];
                    v[i] = s.code == StepCode::ADD_PARAM ? v[i] + p : v[i] * p;
                }
                break;
            case StepCode::LUT: // proved inside the table for real values; the channel that fills an odd last pair holds anything
                for (int i = 0; i < n; i++)
                    v[i] = (T)s.data[(int64_t)(v[i] < a ? (T)0 : v[i] - a > b ? b : (T)(v[i] - a))];
                break;
            case StepCode::DIV_CONST:
                for (int i = 0; i < n; i++)
                    v[i] /= a;
                break;
            case StepCode::SAVE:
                for (int i = 0; i < n; i++)
                    saved[i] = v[i];
                break;
            case StepCode::SWAP: // v <-> saved, and keep this v as the alternative of SELECT
                for (int i = 0; i < n; i++) {
                    other[i] = v[i];
                    v[i] = saved[i];
                }
                break;
            case StepCode::SELECT:
                for (int i = 0; i < n; i++)
                    v[i] = saved[i] >= a ? other[i] : v[i];
                break;
            }
        }
    }
};

// ((a + c + ((a >> s) & m)) >> s) clamped: every common rounding, without a branch.
struct Finish {
    bool use;
    int drop, s, c, m, lo, hi;
    static Finish read(Reader &r) {
        Finish f;
        f.use = r.next(), f.drop = (int)r.next(), f.s = (int)r.next(), f.c = (int)r.next();
        f.m = (int)r.next(), f.lo = (int)r.next(), f.hi = (int)r.next();
        return f;
    }
    template <class V> BITSIM_INLINE V apply(V a) const {
        typedef typename std::decay<decltype(a[0])>::type E;
        if (drop)
            a = sar(shl(a, drop), drop);
        a = sar(a + (E)c + (sar(a, s) & (E)m), s);
        const V low = V{} + (E)lo, high = V{} + (E)hi;
        a = a < low ? low : a;
        return a > high ? high : a;
    }
};

