// AMX's tiles, as tiles.h needs them: weights times data in one call. BITSIM_TILES is 1 where they are compiled in.
//
// BITSIM_TILES_EMULATED: the same instructions in plain C++, so that tiles.h is tested on machines without AMX.
#pragma once
#include "dot4.h"

#if VB == 64 && BITSIM_DOT4 && (defined(__AMX_INT8__) || defined(BITSIM_TILES_EMULATED))
#define BITSIM_TILES 1
#else
#define BITSIM_TILES 0
#endif

#if BITSIM_TILES
constexpr int TILE_ROWS = 16, TILE_BYTES = 64; // of one tile; a row is 16 quads, or 16 sums

struct TileShapes { // what ldtilecfg reads
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
};
static_assert(sizeof(TileShapes) == 64);

// Tiles 0 to 3 hold sums, 4 the weights, 5 and 6 the data.
static inline TileShapes tile_shapes(int filters) {
    TileShapes shapes;
    for (int tile = 0; tile < 7; tile++) {
        shapes.row_bytes[tile] = TILE_BYTES;
        shapes.rows[tile] = (uint8_t)(tile < 5 ? filters : TILE_ROWS);
    }
    return shapes;
}

#if defined(BITSIM_TILES_EMULATED)
#include "amx_emulated.h"
#define BITSIM_TILES_ISA "amx_emulated"
static inline bool tiles_permitted() { return true; }
#else
#include <sys/syscall.h>
#include <unistd.h>
#define BITSIM_TILES_ISA "amx"
#define TILES_CONFIGURE(shapes) _tile_loadconfig(shapes)
#define TILES_RELEASE() _tile_release()
#define TILE_LOAD(tile, from, stride) _tile_loadd(tile, from, stride)
#define TILE_STORE(tile, to, stride) _tile_stored(tile, to, stride)
#define TILE_DOT(sums, weights, data) _tile_dpbsud(sums, weights, data)

// Linux gives a process the registers when it asks (ARCH_REQ_XCOMP_PERM of XTILEDATA).
static inline bool tiles_permitted() {
    static const bool permitted = syscall(SYS_arch_prctl, 0x1023, 18) == 0;
    return permitted;
}
#endif

// sums[2p + h] = start + weights x data[p][h], for P pixels and the two halves of their samples.
//
// weights: `depth` tiles of [filter][16 quads of int8]. data: [pixel][half][16 x depth quads][16 samples of uint8 quads].
// start: [filter][16 samples], the same for all. sums: [pixel][half] of [16 filters][16 samples].
template <int P> static inline void tile_product(const int8_t *weights, int filters, const char *data, int depth,
                                                 const int32_t *start, int32_t *sums) {
    const size_t half = (size_t)depth * TILE_ROWS * TILE_BYTES;
    constexpr size_t SUMS = 16 * 16;
    asm volatile("" ::: "memory"); // the compiler does not know what a tile reads
    TILE_LOAD(0, start, TILE_BYTES);
    TILE_LOAD(1, start, TILE_BYTES);
    if constexpr (P == 2) {
        TILE_LOAD(2, start, TILE_BYTES);
        TILE_LOAD(3, start, TILE_BYTES);
    }
    for (int k = 0; k < depth; k++, weights += filters * TILE_BYTES, data += TILE_ROWS * TILE_BYTES) {
        TILE_LOAD(4, weights, TILE_BYTES);
        TILE_LOAD(5, data, TILE_BYTES);
        TILE_LOAD(6, data + half, TILE_BYTES);
        TILE_DOT(0, 4, 5);
        TILE_DOT(1, 4, 6);
        if constexpr (P == 2) {
            TILE_LOAD(5, data + 2 * half, TILE_BYTES);
            TILE_LOAD(6, data + 3 * half, TILE_BYTES);
            TILE_DOT(2, 4, 5);
            TILE_DOT(3, 4, 6);
        }
    }
    TILE_STORE(0, sums, TILE_BYTES);
    TILE_STORE(1, sums + SUMS, TILE_BYTES);
    if constexpr (P == 2) {
        TILE_STORE(2, sums + 2 * SUMS, TILE_BYTES);
        TILE_STORE(3, sums + 3 * SUMS, TILE_BYTES);
    }
    asm volatile("" ::: "memory");
}

static inline int64_t tile_peak(int64_t rounds) { // multiply-adds of independent products in registers
    const TileShapes shapes = tile_shapes(TILE_ROWS);
    const char zeros[TILE_ROWS * TILE_BYTES] = {};
    int32_t sums[TILE_ROWS * 16];
    TILES_CONFIGURE(&shapes);
    asm volatile("" ::: "memory");
    TILE_LOAD(0, zeros, TILE_BYTES);
    TILE_LOAD(1, zeros, TILE_BYTES);
    TILE_LOAD(2, zeros, TILE_BYTES);
    TILE_LOAD(3, zeros, TILE_BYTES);
    TILE_LOAD(4, zeros, TILE_BYTES);
    TILE_LOAD(5, zeros, TILE_BYTES);
    for (int64_t round = 0; round < rounds; round++) {
        TILE_DOT(0, 4, 5);
        TILE_DOT(1, 4, 5);
        TILE_DOT(2, 4, 5);
        TILE_DOT(3, 4, 5);
    }
    TILE_STORE(0, sums, TILE_BYTES);
    asm volatile("" ::: "memory");
    TILES_RELEASE();
    return rounds * 4 * TILE_ROWS * 16 * TILE_BYTES + sums[0];
}
#endif
