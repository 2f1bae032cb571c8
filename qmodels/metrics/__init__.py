"""What is measured: robustness, its believability, and the properties behind it."""
