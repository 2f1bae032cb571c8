"""`python -m hw.cli`."""

from hw.cli import main

main()
