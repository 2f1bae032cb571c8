// C interface: create a program from its encoding, run it over a batch with threads, destroy it.
#include "exact.h"
#include "io.h"
#include "layers.h"
#include "pairs.h"
#include "quads.h"
#include "softmax.h"
#include "tiles.h"
#include <mutex>
#include <thread>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace {
struct Program {
    size_t arena_bytes = 0;
    std::vector<std::unique_ptr<Op>> ops;
    std::vector<Tensor> tensors;
    std::mutex lock;
    std::vector<char *> idle; // arenas are kept between calls: small batches would pay for the page faults

    ~Program() {
        for (char *a : idle)
            free(a);
    }
    char *take() {
        std::lock_guard<std::mutex> hold(lock);
        if (idle.empty())
            return guarded((char *)aligned_alloc(64, arena_bytes));
        char *a = idle.back();
        idle.pop_back();
        return a;
    }
    char *guarded(char *a) const { // under AddressSanitizer what lies between two tensors may not be touched
#if defined(__SANITIZE_ADDRESS__)
        if (a) {
            __asan_poison_memory_region(a, arena_bytes);
            for (const Tensor &t : tensors)
                __asan_unpoison_memory_region(a + t.offset, t.bytes());
        }
#endif
        return a;
    }
    void give(char *a) {
        std::lock_guard<std::mutex> hold(lock);
        idle.push_back(a);
    }
};

volatile int sink;

#if defined(__AVX2__)
#define BITSIM_REGISTER(v) "+x"(v)
#elif defined(__aarch64__) && VB == 16
#define BITSIM_REGISTER(v) "+w"(v)
#else
#define BITSIM_REGISTER(v) "+m"(v)
#endif

// PRODUCTS: of one number of acc at a time.
template <class V, int PRODUCTS, class F> int64_t peak(int64_t rounds, F dot) {
    constexpr int N = 12;
    V acc[N] = {};
    v16 x = v16{} + 3;
    v32 w = v32{} + 0x01020102;
    for (int64_t r = 0; r < rounds; r++)
        for (int i = 0; i < N; i++) {
            asm volatile("" : BITSIM_REGISTER(x)); // or the compiler would multiply once
            acc[i] = dot(acc[i], x, w);
        }
    for (int i = 1; i < N; i++)
        acc[0] += acc[i];
    sink = acc[0][0];
    return rounds * N * PRODUCTS * (VB / (int)sizeof(acc[0][0]));
}

struct Arena {
    Program &program;
    char *memory;
    explicit Arena(Program &p) : program(p), memory(p.take()) {}
    ~Arena() {
        if (memory)
            program.give(memory);
    }
};

// False when an input left the bounds the program was made for.
bool run_block(const Program &program, Context &ctx) {
    ctx.out_of_bounds = false;
    for (const auto &op : program.ops) {
        op->run(ctx);
        if (ctx.out_of_bounds)
            return false;
    }
    return true;
}

Op *make_linear(Reader &r) {
    const int kernel = (int)r.next();
#if BITSIM_DOT4
    if (kernel == LinearKernel::INT8 || kernel == LinearKernel::INT8_CHUNKED || kernel == LinearKernel::INT8_WIDE) {
#if BITSIM_TILES
        if (tiles_permitted())
            return new TileLinear(kernel, r);
#endif
        return new QuadLinear(kernel, r);
    }
#endif
    return new PairLinear(kernel, r);
}

Op *make(int64_t code, Reader &r) {
    switch (code) {
    case Opcode::INPUT: return new Input(r);
    case Opcode::OUTPUT: return new Output(r);
    case Opcode::FAST_LINEAR: return make_linear(r);
    case Opcode::EXACT_LINEAR: return new ExactLinear(r);
    case Opcode::MAP: return new Map(r);
    case Opcode::BINARY: return new Binary(r);
    case Opcode::POOL: return new Pool(r);
    case Opcode::FAST_MAX_POOL: return new FastMaxPool(r);
    case Opcode::GATHER: return new Gather(r);
    case Opcode::SOFTMAX: return new Softmax(r);
    case Opcode::FAST_ADD: return new FastAdd(r);
    }
    return nullptr;
}
} // namespace

extern "C" {
const char *bitsim_isa() {
#if BITSIM_TILES
    if (tiles_permitted())
        return BITSIM_TILES_ISA;
#endif
    return BITSIM_ISA;
}
void bitsim_tiles_always(int always) {
#if BITSIM_TILES
    tiles_always = always != 0;
#endif
}
int bitsim_lanes() { return L; }
int bitsim_quads() { return BITSIM_DOT4; }

// code: arena bytes, tensors, ops, then 9 numbers a tensor, then (opcode, numbers...) an op. Null if it makes no sense.
void *bitsim_create(const int64_t *code, const void *const *blobs, int64_t n_blobs) {
    auto program = std::make_unique<Program>();
    program->arena_bytes = (size_t)(code[0] + 63) / 64 * 64 + 64;
    const int64_t n_tensors = code[1], n_ops = code[2];
    const int64_t *p = code + 3;
    std::vector<Tensor> &tensors = program->tensors;
    for (int64_t i = 0; i < n_tensors; i++, p += 9) {
        Tensor t{(int)p[0], (int)p[1], (int)p[2], (int)p[3], (int)p[4], (int)p[5], (int)p[6], (int)p[7], 0, 0, (size_t)p[8], 0};
        t.cp = (t.c + 1) / 2, t.full_w = t.pl + t.w + t.pr, t.row_bytes = 2 * L * esize(t.etype);
        tensors.push_back(t);
    }
    std::vector<Blob> table;
    for (int64_t i = 0; i < n_blobs; i++)
        table.push_back(Blob{blobs[i]});
    Reader reader{p, tensors, table.data()};
    for (int64_t i = 0; i < n_ops; i++) {
        Op *op = make(reader.next(), reader);
        if (!op)
            return nullptr;
        program->ops.emplace_back(op);
    }
#if BITSIM_TILES
    Arena arena(*program);
    for (const auto &op : program->ops)
        if (arena.memory)
            op->prepare(arena.memory);
#endif
    return program.release();
}

void bitsim_destroy(void *program) { delete (Program *)program; }

// The machine's peak, in multiply-adds done: independent dot products in registers. kind 0: of int16, 1: of bytes, with
// the instruction that the kernels use.
int64_t bitsim_peak(int kind, int64_t rounds) {
    if (kind == 0)
        return peak<v32, 2>(rounds, dot16);
#if BITSIM_TILES
    if (tiles_permitted())
        return tile_peak(rounds / 16 + 1); // one is worth some eighty of the others
#endif
#if BITSIM_DOT4
    const int32_t weights[4] = {0x01020102, 0x01020102, 0x01020102, 0x01020102};
    return peak<v32, 4>(rounds, [&](v32 acc, v16 x, v32) { return dot4<0>(acc, (v32)x, weights); });
#else
    return peak<v16, 2>(rounds, dot8);
#endif
}

// elements, fractions: of each input, as in Context.
// other: the program for blocks whose inputs leave the bounds this one was made for, or null.
// counters: one int64 a counter, added to; null outside of overflow reports. Returns a Status.
int bitsim_run(void *handle, void *other, const void *const *inputs, const int32_t *elements, const int32_t *fractions,
               void *const *outputs, int64_t samples, int doubles, int threads, int64_t *counters, int64_t n_counters) {
    Program &program = *(Program *)handle;
    const int64_t blocks = (samples + L - 1) / L;
    std::atomic<int64_t> next{0};
    std::atomic<int> failed{Status::DONE};
    std::mutex lock;
    auto work = [&]() {
        Arena arena(program);
        std::unique_ptr<Arena> second;
        std::vector<int64_t> local(counters ? n_counters : 0);
        Context ctx{arena.memory, inputs, elements, fractions, outputs, doubles != 0, 0, 0, counters ? local.data() : nullptr, false};
        for (int64_t b; arena.memory && !failed && (b = next++) < blocks;) {
            ctx.first = b * L;
            ctx.valid = (int)std::min<int64_t>(L, samples - ctx.first);
            if (run_block(program, ctx))
                continue;
            if (!other) {
                failed = Status::OUT_OF_BOUNDS;
                break;
            }
            if (!second)
                second = std::make_unique<Arena>(*(Program *)other);
            if (!second->memory)
                break;
            Context again = ctx;
            again.arena = second->memory;
            run_block(*(Program *)other, again);
        }
        if (!arena.memory || (second && !second->memory))
            failed = Status::NO_MEMORY;
        std::lock_guard<std::mutex> hold(lock);
        for (size_t i = 0; i < local.size(); i++)
            counters[i] += local[i];
    };
    const int extra = (int)std::min<int64_t>(threads, blocks) - 1;
    std::vector<std::thread> pool;
    for (int i = 0; i < extra; i++)
        pool.emplace_back(work);
    work();
    for (auto &t : pool)
        t.join();
    return failed;
}
}
