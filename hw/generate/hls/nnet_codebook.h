#ifndef NNET_CODEBOOK_H_
#define NNET_CODEBOOK_H_

// A weight stored as a code of BITS bits, decoded by a small table when it is multiplied.
// Written by robust-hls; the table is part of the type, so one layer's codes cannot meet another's table.

#include "ap_fixed.h"
#include "ap_int.h"
#include <cstddef>
#ifndef __SYNTHESIS__
#include <istream>
#endif

namespace nnet {

// T: the fixed-point type of the values. RAW: their bits as integers, 2^BITS of them; code i stands for RAW[i].
template <unsigned BITS, class T, int... RAW> struct codebook {
    static_assert(sizeof...(RAW) == (std::size_t(1) << BITS), "a codebook has one value for every code");

    static const unsigned width = BITS;
    ap_uint<BITS> code;

    codebook() {}
    codebook(int number) : code(number) {}

    T value() const {
        #pragma HLS INLINE
        static const int table[] = {RAW...};
        // Not a ROM: its two ports would be shared by all multipliers. A multiplexer of constants for each of them.
        #pragma HLS ARRAY_PARTITION variable=table complete
        T decoded;
        decoded.range(T::width - 1, 0) = table[code.to_uint()];
        return decoded;
    }
};

#ifndef __SYNTHESIS__
template <unsigned BITS, class T, int... RAW> std::istream &operator>>(std::istream &in, codebook<BITS, T, RAW...> &weight) {
    int number = 0;
    in >> number;
    weight.code = number;
    return in;
}
#endif

namespace product {

template <class x_T, class w_T> class mult;
template <class x_T, class w_T> class weight_ternary;

template <class x_T, unsigned BITS, class T, int... RAW> class mult<x_T, codebook<BITS, T, RAW...>> {
  public:
    static auto product(x_T a, codebook<BITS, T, RAW...> w) -> decltype(a * T()) {
        #pragma HLS INLINE
        return a * w.value();
    }
};

template <class x_T, unsigned BITS, class T, int... RAW>
class weight_ternary<x_T, codebook<BITS, T, RAW...>> : public mult<x_T, codebook<BITS, T, RAW...>> {};

} // namespace product
} // namespace nnet

#endif
