"""Programs we drive, what is built once and kept, and what this machine has."""
