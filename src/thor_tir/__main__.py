"""`python -m thor_tir` is `thor`."""

from thor_tir.cli import main

if __name__ == "__main__":
    main()
