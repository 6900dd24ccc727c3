"""`dnd`, the command line: everything the app does, and the pipeline behind it.

Human output by default, one JSON object on stdout with --json; progress goes to stderr. Exit code
0, or 1 for a failure with a message, or 2 for wrong usage. Heavy modules load inside the commands,
so that `dnd --help` answers at once.
"""

import sys
from importlib.metadata import entry_points

import typer

from dnd_engine.cli import (
    adapters,
    bench,
    collect,
    evaluate,
    export,
    library,
    measure,
    refine,
    tasks,
    train,
)
from dnd_engine.cli.common import plain_errors

__all__ = ["app", "main"]

app = typer.Typer(
    name="dnd",
    help="Drop unlabeled prompts, get a LoRA adapter for a frozen language model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    adapters.generate,
    refine.refine,
    adapters.chat,
    adapters.inspect,
    export.export,
    export.push,
    measure.measure,
    collect.collect,
    train.train,
    evaluate.evaluate,
    bench.bench,
    adapters.info,
):
    app.command()(command)
app.command(name="import")(library.import_adapter)
app.add_typer(library.app, name="library")
app.add_typer(tasks.app, name="tasks")


def main() -> None:
    """Entry point: the commands above, and those that other packages of this project add."""
    for command in entry_points(group="dnd.commands"):
        # Loading one may import a whole web framework: only when it, or all help, is asked for.
        if len(sys.argv) < 2 or sys.argv[1] in (command.name, "--help"):
            app.command(name=command.name)(plain_errors(command.load()))
    app()
