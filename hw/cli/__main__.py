"""`python -m hw.cli`."""

from hw.cli import main

if __name__ == "__main__":
    main()
