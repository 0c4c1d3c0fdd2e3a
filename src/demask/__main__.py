"""`python -m demask`."""

from demask.cli import main

if __name__ == "__main__":  # processes that work on cells import this, too
    main()
