"""The app's edge: `python app.py` does what `dnd serve` does without options; Spaces run it."""

import os
from argparse import ArgumentParser

# Before the slow imports, so that --help answers at once.
if __name__ == "__main__":
    ArgumentParser(
        description="Serve the app. There are no options: environment variables set "
        "the address (GRADIO_SERVER_NAME), the port (GRADIO_SERVER_PORT), a login (DND_AUTH) and "
        "limits (DND_LIMITS).",
        epilog="`dnd serve` serves the same app and takes options: see `dnd serve --help`.",
    ).parse_args()

# Before torch is imported: OpenMP reads this once. Threads that wait awake take the core from the
# one they wait for when other processes compute too.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import typer

from dnd_engine.cli.common import plain_errors
from ui.serve import serve

if __name__ == "__main__":
    # Not the whole of `dnd`: a Space has these files, but no installed package that adds `serve`.
    command = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    command.command()(plain_errors(serve))
    command(args=[])
