"""From a QKeras model to an HLS project: contract, conversion, reuse, precision, codes, test bench."""
