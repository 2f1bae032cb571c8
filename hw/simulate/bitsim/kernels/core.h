// Tensors, the context a block of samples runs in, and the reader of the encoded program.
#pragma once
#include "codes.h" // made from bitsim/codes.py when the kernels are built
#include "isa.h"
#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <vector>

typedef __int128 i128;
typedef unsigned __int128 u128;

static inline size_t esize(int etype) {
    return etype == Storage::U8                             ? 1
           : etype == Storage::I16 || etype == Storage::U16 ? 2
           : etype == Storage::I32                          ? 4
                                                            : 8;
}

// Layout: [pad_t + h + pad_b][pad_l + w + pad_r][ceil(c / 2)] rows of [L samples][2 channels].
struct Tensor {
    int etype, h, w, c, pt, pl, pb, pr, cp, full_w;
    size_t offset, row_bytes;
    char *pixel(char *arena, int y, int x) const {
        return arena + offset + (size_t)((y + pt) * full_w + x + pl) * cp * row_bytes;
    }
    size_t pixel_bytes() const { return (size_t)cp * row_bytes; }
    bool padded() const { return pt | pl | pb | pr; }
    int pixels() const { return h * w; }
    size_t bytes() const { return (size_t)(pt + h + pb) * full_w * pixel_bytes(); }
    // element (flat, channels last) -> row start; the lane stride is two elements
    char *element(char *arena, int flat) const {
        int ch = flat % c, px = flat / c;
        return pixel(arena, px / w, px % w) + (size_t)(ch / 2) * row_bytes + (ch & 1) * esize(etype);
    }
    void zero_border(char *arena) const {
        if (!padded())
            return;
        char *base = arena + offset;
        size_t px = pixel_bytes(), line = px * full_w;
        memset(base, 0, line * pt);
        for (int y = 0; y < h; y++) {
            memset(base + line * (pt + y), 0, px * pl);
            memset(base + line * (pt + y) + px * (pl + w), 0, px * pr);
        }
        memset(base + line * (pt + h), 0, line * pb);
    }
};

struct Blob {
    const void *data;
    template <class T> const T *as() const { return static_cast<const T *>(data); }
};

struct Context {
    char *arena;
    const void *const *inputs;
    const int32_t *elements;  // of every input: its Element
    const int32_t *fractions; // of every input of integers: one of them is worth 2^-fraction
    void *const *outputs;
    bool doubles;       // outputs are double, not float
    int64_t first;      // index of the block's first sample
    int valid;          // samples in this block, at most L
    int64_t *counters;  // overflows per counter, or null
    bool out_of_bounds; // an input left the bounds the program was made for
};

struct Reader {
    const int64_t *p;
    const std::vector<Tensor> &tensors;
    const Blob *blobs;
    int64_t next() { return *p++; }
    i128 wide() {
        uint64_t low = (uint64_t)next();
        int64_t high = next();
        return (i128)(((u128)(uint64_t)high << 64) | low);
    }
    const Tensor &tensor() { return tensors[next()]; }
    template <class T> const T *blob() {
        int64_t i = next();
        return i < 0 ? nullptr : blobs[i].as<T>();
    }
};

struct Op {
    virtual ~Op() {}
    virtual void prepare(char *) {} // once, with an arena to try things in
    virtual void run(Context &ctx) const = 0;
};

template <class T> static inline void load_values(const char *p, int etype, int stride, T *v, int n) {
#define CASE(E, C)                                                                                                     \
    case Storage::E:                                                                                                   \
        for (int i = 0; i < n; i++)                                                                                    \
            v[i] = (T)((const C *)p)[i * stride];                                                                      \
        break;
    switch (etype) {
        CASE(U8, uint8_t) CASE(I16, int16_t) CASE(U16, uint16_t) CASE(I32, int32_t) CASE(I64, int64_t) CASE(U64, uint64_t)
    }
#undef CASE
}
template <class T> static inline void store_values(char *p, int etype, int stride, const T *v, int n) {
#define CASE(E, C)                                                                                                     \
    case Storage::E:                                                                                                   \
        for (int i = 0; i < n; i++)                                                                                    \
            ((C *)p)[i * stride] = (C)v[i];                                                                            \
        break;
    switch (etype) {
        CASE(U8, uint8_t) CASE(I16, int16_t) CASE(U16, uint16_t) CASE(I32, int32_t) CASE(I64, int64_t) CASE(U64, uint64_t)
    }
#undef CASE
}
