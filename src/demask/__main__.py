"""`python -m demask`."""

from demask.cli import main

main()
