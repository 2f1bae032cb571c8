"""The hardware side: hls4ml projects, bit-accurate simulation, cost, and the design flow.

Imports `qmodels`; starts no TensorFlow until a function needs it.
"""
