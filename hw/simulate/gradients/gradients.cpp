// Input gradients of a quantized network in integers: activations and gradients are int16, sums int32, one sample a lane.
//
// Two programs a network, made by encode.py. Forward: the network's own bits, and on the way where each activation
// lets a gradient through. Backward: from the loss' gradient by output to that by input. A gradient is kept as int16 of
// up to 15 bits and one scale a sample; every layer's result is shifted back into 16 bits, rounded.
//
// A row is one vector: two channels of S samples, int16. A wide row is two vectors: one channel each, int32.
// Memory of a thread: every tensor has its own place, so that the zero borders are written once.
#include "between.h"
#include "samples.h"
#include "sums.h"
#include <atomic>
#include <mutex>
#include <thread>

namespace {
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
