"""Runs the command line as `python -m dnd_engine.cli`."""

from dnd_engine.cli import main

main()
