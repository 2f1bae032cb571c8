// Dense and convolution on AMX's tiles: 16 filters, 16 quads of channels and 16 samples an instruction.
//
// The window's rows become quads as in quads.h, in a buffer, once for all filters. A vector of 16 samples is a row of
// the data's tile. Missing quads have weights of zero.
#pragma once
#include "amx.h"
#include "quads.h"

#if BITSIM_TILES
#include <chrono>

static std::atomic<bool> tiles_always{false}; // wherever they can be used, without a trial

struct TileLinear : QuadLinear {
    int filters;                       // of a tile, an even number
    int depth;                         // tiles that cover the window
    std::vector<int8_t> panels;        // [filter block][depth][filter][16 quads]
    std::vector<int32_t> starts;       // [filter block][filter][16 samples]: the bias
    TileShapes shapes;
    bool worth_it = true;

    TileLinear(int kernel, Reader &r) : QuadLinear(kernel, r) {
        const int blocks = (nf + TILE_ROWS - 1) / TILE_ROWS, pairs = (nf / 2 + blocks - 1) / blocks;
        const int taps = kh * run_length(), count = (int)rows.size() / 2;
        filters = 2 * pairs, depth = (count + 15) / 16;
        shapes = tile_shapes(filters);
        panels.resize((size_t)blocks * depth * filters * TILE_BYTES);
        starts.resize((size_t)blocks * filters * 16);
        for (int f = 0; f < nf; f++) {
            const int block = f / filters, row = f % filters;
            for (int tap = 0; tap < taps; tap++) {
                const size_t tile = (size_t)block * depth + tap / 32;
                const uint16_t two = (uint16_t)pair(f, tap);
                memcpy(&panels[(tile * filters + row) * TILE_BYTES + tap % 32 * 2], &two, 2);
            }
            std::fill_n(starts.begin() + ((size_t)block * filters + row) * 16, 16, (int32_t)offsets[f]);
        }
    }

    // The window of one pixel, as two panels of tiles: the samples of quads_low, then those of quads_high.
    void pack(const char *arena, int pixel, char *panel) const {
        const char *base = arena + from[pixel];
        const size_t half = (size_t)depth * TILE_ROWS * TILE_BYTES;
        for (size_t r = 0; r < rows.size(); r += 2, panel += VB) {
            const v16 a = load<v16>(base + rows[r]), b = load<v16>(base + rows[r + 1]);
            store(panel, quads_low(a, b));
            store(panel + half, quads_high(a, b));
        }
    }

    template <int P> void pixels(char *arena, int pixel, char *data) const {
        alignas(64) int32_t sums[2 * P][16][16];
        const size_t window = (size_t)depth * 2 * TILE_ROWS * TILE_BYTES;
        for (int p = 0; p < P; p++)
            pack(arena, pixel + p, data + p * window);
        for (int f0 = 0, block = 0; f0 < nf; f0 += filters, block++) {
            tile_product<P>(&panels[(size_t)block * depth * filters * TILE_BYTES], filters, data, depth,
                            &starts[(size_t)block * filters * 16], sums[0][0]);
            for (int f = 0; f < filters && f0 + f < nf; f += 2) {
                v32 acc[2][2 * P];
                unroll<2 * P>([&](auto v) BITSIM_INLINE {
                    acc[0][v] = load<v32>(sums[v][f]), acc[1][v] = load<v32>(sums[v][f + 1]);
                });
                finish_tile<2, P>(arena, acc, pixel, f0 + f);
            }
        }
    }

    void run_tiles(Context &ctx) const {
        static thread_local std::vector<v32> buffer; // aligned, and zero where no quad is written
        const size_t wanted = (size_t)depth * 2 * 2 * TILE_ROWS;
        if (buffer.size() < wanted)
            buffer.resize(wanted);
        char *data = (char *)buffer.data();
        dst.zero_border(ctx.arena);
        TILES_CONFIGURE(&shapes);
        int p = 0;
        for (; p + 2 <= dst.pixels(); p += 2)
            pixels<2>(ctx.arena, p, data);
        if (p < dst.pixels())
            pixels<1>(ctx.arena, p, data);
        TILES_RELEASE();
    }

    void run(Context &ctx) const override { worth_it ? run_tiles(ctx) : QuadLinear::run(ctx); }

    // Tiles are taken where they are faster than vectors on this machine, and give the same bytes.
    void prepare(char *arena) override {
        if (tiles_always)
            return;
        typedef std::chrono::steady_clock clock;
        clock::duration best[2] = {clock::duration::max(), clock::duration::max()};
        std::vector<char> found[2];
        for (size_t i = 0; i < src.bytes(); i++)
            arena[src.offset + i] = (char)(i * 37 + i / 256);
        Context ctx{arena, nullptr, nullptr, nullptr, nullptr, false, 0, 0, nullptr, false};
        for (int round = 0; round < 6; round++) {
            worth_it = round % 2;
            const clock::time_point start = clock::now();
            run(ctx);
            best[worth_it] = std::min(best[worth_it], clock::now() - start);
            found[worth_it].assign(arena + dst.offset, arena + dst.offset + dst.bytes());
        }
        worth_it = found[0] == found[1] && best[1] < best[0];
    }
};
#endif
