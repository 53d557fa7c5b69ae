"""``python -m skipper``: the command line."""

from skipper.cli import main

main()
