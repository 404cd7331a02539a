"""`python -m ccr` is the `ccr` command."""

from ccr.cli import main

main()
