"""From the network to the numbers and arrays that the kernels read."""

from hw.simulate.bitsim.encode.network import Encoded, encode

__all__ = ["Encoded", "encode"]
