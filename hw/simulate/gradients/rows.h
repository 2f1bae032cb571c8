// Vectors, tensors of rows, where gradients pass, and the reader of a program.
#pragma once
#include "isa.h"
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
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

v32 load_channel(const char *row, int wide, int channel) {
    if (wide)
        return load<v32>(row + channel * VB);
    const v16 both = load<v16>(row);
    return channel ? second(both) : first(both);
}

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
} // namespace
