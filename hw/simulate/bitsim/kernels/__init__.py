"""The C++ that computes: built, loaded, called."""
