"""Softmax (not yet)."""
