// AMX's instructions in plain C++, from Intel's manual (Architecture Instruction Set Extensions, chapter on AMX).
#pragma once
#include <cstdlib>

struct EmulatedTiles {
    TileShapes shapes;
    bool configured = false;
    alignas(64) char bytes[8][16][64] = {};

    void configure(const void *from) {
        memcpy(&shapes, from, sizeof shapes);
        if (shapes.palette != 1)
            abort();
        for (int tile = 0; tile < 8; tile++)
            if (shapes.rows[tile] > 16 || shapes.row_bytes[tile] > 64)
                abort();
        memset(bytes, 0, sizeof bytes);
        configured = true;
    }
    void known(int tile) const { // the processor raises an exception
        if (!configured || !shapes.rows[tile] || !shapes.row_bytes[tile])
            abort();
    }
    void load(int tile, const void *from, size_t stride) {
        known(tile);
        memset(bytes[tile], 0, sizeof bytes[tile]);
        for (int row = 0; row < shapes.rows[tile]; row++)
            memcpy(bytes[tile][row], (const char *)from + row * stride, shapes.row_bytes[tile]);
    }
    void store(int tile, void *to, size_t stride) const {
        known(tile);
        for (int row = 0; row < shapes.rows[tile]; row++)
            memcpy((char *)to + row * stride, bytes[tile][row], shapes.row_bytes[tile]);
    }
    void dot(int sums, int a, int b) { // TDPBSUD: signed bytes of a, unsigned bytes of b
        for (int tile : {sums, a, b})
            known(tile);
        const int quads = shapes.row_bytes[a] / 4;
        if (shapes.rows[sums] != shapes.rows[a] || shapes.row_bytes[sums] != shapes.row_bytes[b] || quads != shapes.rows[b])
            abort();
        for (int m = 0; m < shapes.rows[sums]; m++)
            for (int n = 0; n < shapes.row_bytes[sums] / 4; n++) {
                uint32_t sum;
                memcpy(&sum, bytes[sums][m] + 4 * n, 4);
                for (int k = 0; k < quads; k++)
                    for (int i = 0; i < 4; i++)
                        sum += (uint32_t)((int8_t)bytes[a][m][4 * k + i] * (uint8_t)bytes[b][k][4 * n + i]);
                memcpy(bytes[sums][m] + 4 * n, &sum, 4);
            }
    }
};
static thread_local EmulatedTiles emulated_tiles;

#define TILES_CONFIGURE(from) emulated_tiles.configure(from)
#define TILES_RELEASE() (emulated_tiles.configured = false)
#define TILE_LOAD(tile, from, stride) emulated_tiles.load(tile, from, stride)
#define TILE_STORE(tile, to, stride) emulated_tiles.store(tile, to, stride)
#define TILE_DOT(sums, a, b) emulated_tiles.dot(sums, a, b)
