"""The command ``apexbridge``: each one a thin client of the HTTP API, or of the state directory.

Only typer is imported before a command runs, so that ``apexbridge --help`` answers at once.
"""
