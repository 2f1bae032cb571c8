// nnet::softmax over the last axis: latency, stable, legacy and argmax.
#pragma once
#include "steps.h"

struct Softmax : Op {
    Tensor src, dst;
    int kind;
    Steps on_difference, to_index, on_sum, to_inverse_index, on_product;
    const int64_t *exp_table, *inverse_table;
    int64_t exp_diagonal;
    explicit Softmax(Reader &r) : src(r.tensor()), dst(r.tensor()) {
        kind = (int)r.next(), exp_diagonal = r.next();
        exp_table = r.blob<int64_t>(), inverse_table = r.blob<int64_t>();
        on_difference = Steps::read(r), to_index = Steps::read(r), on_sum = Steps::read(r);
        to_inverse_index = Steps::read(r), on_product = Steps::read(r);
    }

    typedef i128 T;
    T tree(Machine<T> &m, T *x, int n) const { // nnet::reduce with Op_add in accum_t
        if (n == 1)
            return x[0];
        int left = 1;
        while (left * 2 <= n - 1)
            left *= 2;
        T sum = n == 2 ? x[0] + x[1] : tree(m, x, left) + tree(m, x + left, n - left);
        m.run(on_sum, &sum, 1);
        return sum;
    }
    T one(Machine<T> &m, const Steps &s, T v) const {
        m.run(s, &v, 1);
        return v;
    }
    void normalised(Machine<T> &m, const T *x, T *out, int n) const {
        std::vector<T> e(n), sums(n);
        T top = x[0];
        for (int i = 1; i < n; i++)
            top = std::max(top, x[i]);
        for (int i = 0; i < n; i++) {
            T d = kind == SoftmaxKind::STABLE ? one(m, on_difference, top - x[i]) : x[i];
            e[i] = exp_table[(int64_t)one(m, to_index, d)];
        }
        sums = e;
        T inverse = inverse_table[(int64_t)one(m, to_inverse_index, tree(m, sums.data(), n))];
        for (int i = 0; i < n; i++)
            out[i] = one(m, on_product, e[i] * inverse);
    }
    void legacy(Machine<T> &m, const T *x, T *out, int n) const {
        for (int i = 0; i < n; i++) {
            T sum = 0;
            for (int j = 0; j < n; j++) {
                sum += i == j ? (T)exp_diagonal : (T)exp_table[(int64_t)one(m, to_index, x[j] - x[i])];
                sum = one(m, on_sum, sum);
            }
            out[i] = one(m, on_product, inverse_table[(int64_t)one(m, to_inverse_index, sum)]);
        }
    }
    void argmax(Machine<T> &m, const T *x, T *out, int n) const {
        int best = 0;
        for (int i = 1; i < n; i++)
            best = x[i] > x[best] ? i : best;
        for (int i = 0; i < n; i++)
            out[i] = one(m, on_product, i == best);
    }

    void run(Context &ctx) const override {
        dst.zero_border(ctx.arena);
        auto machine = std::make_unique<Machine<T>>();
        uint8_t counted[1] = {1};
        machine->counters = ctx.counters, machine->counted = counted;
        const int n = src.c, size = src.h * src.w * n;
        std::vector<T> values((size_t)n * L), x(n), out(n);
        for (int e0 = 0; e0 < size; e0 += n) {
            for (int c = 0; c < n; c++)
                load_values(src.element(ctx.arena, e0 + c), src.etype, 2, values.data() + c * L, L);
            for (int l = 0; l < ctx.valid; l++) {
                for (int c = 0; c < n; c++)
                    x[c] = values[c * L + l];
                if (kind == SoftmaxKind::ARGMAX)
                    argmax(*machine, x.data(), out.data(), n);
                else if (kind == SoftmaxKind::LEGACY)
                    legacy(*machine, x.data(), out.data(), n);
                else
                    normalised(*machine, x.data(), out.data(), n);
                for (int c = 0; c < n; c++)
                    values[c * L + l] = out[c];
            }
            for (int c = 0; c < n; c++)
                store_values(dst.element(ctx.arena, e0 + c), dst.etype, 2, values.data() + c * L, L);
        }
    }
};
