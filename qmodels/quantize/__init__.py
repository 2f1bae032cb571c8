"""From a float Keras model to a mapped, low-bit QKeras model that hls4ml reproduces bit for bit."""
