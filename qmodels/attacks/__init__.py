"""Attacks on the input grid: an attack is a frozen config object that turns a victim and images into examples."""
