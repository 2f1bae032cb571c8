"""Certificates: what no attack within a ball can ever do to an accelerator, proved in its own integers."""
