"""The accelerator's bits: hls4ml's C simulation, bitsim, and the gate that compares them."""
