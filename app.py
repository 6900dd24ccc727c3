"""The app's edge: `python app.py` does what `dnd serve` does without options; Spaces run it."""

from argparse import ArgumentParser

# Before the slow imports, so that --help answers at once.
if __name__ == "__main__":
    ArgumentParser(
        description="Serve the app. There are no options: environment variables set "
        "the address (GRADIO_SERVER_NAME), the port (GRADIO_SERVER_PORT), a login (DND_AUTH) and "
        "limits (DND_LIMITS).",
        epilog="`dnd serve` serves the same app and takes options: see `dnd serve --help`.",
    ).parse_args()

import typer

from dnd_engine.cli.common import plain_errors, wait_briefly
from ui.serve import serve

if __name__ == "__main__":
    wait_briefly()  # before torch is imported
    # Not the whole of `dnd`: a Space has these files, but no installed package that adds `serve`.
    command = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    command.command()(plain_errors(serve))
    command(args=[])
