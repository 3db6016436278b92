"""``python -m apexbridge_trio``: the same as the command ``apexbridge``."""

from apexbridge_trio.cli.main import main

main()
