"""`dnd`, the command line: everything the app does, and the pipeline behind it.

Human output by default, one JSON object on stdout with --json; progress goes to stderr. Exit code
0, or 1 for a failure with a message, or 2 for wrong usage. Heavy modules load inside the commands,
so that `dnd --help` answers at once.
"""

from collections.abc import Callable
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
    watch,
)
from dnd_engine.cli.common import plain_errors
from dnd_engine.cli.grouped import GroupedCommands

__all__ = ["add_commands", "app", "main"]

MAKE, USE, KEEP, BUILD, LOOK = "Make", "Use", "Keep", "Build a generator", "Look"
"""What commands are for: the sections of the help."""

app = typer.Typer(
    name="dnd",
    help="Drop unlabeled prompts, get a LoRA adapter for a frozen language model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    cls=GroupedCommands,
)
_COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    MAKE: {"generate": adapters.generate, "refine": refine.refine},
    USE: {
        "chat": adapters.chat,
        "inspect": adapters.inspect,
        "export": export.export,
        "push": export.push,
        "measure": measure.measure,
    },
    KEEP: {"import": library.import_adapter},
    BUILD: {
        "collect": collect.collect,
        "train": train.train,
        "watch": watch.watch,
        "evaluate": evaluate.evaluate,
    },
    LOOK: {"bench": bench.bench, "info": adapters.info},
}
for panel, commands in _COMMANDS.items():
    for name, command in commands.items():
        app.command(name=name, rich_help_panel=panel)(command)
app.add_typer(library.app, name="library", rich_help_panel=KEEP)
app.add_typer(tasks.app, name="tasks", rich_help_panel=BUILD)


def add_commands() -> None:
    """Add the commands of other packages of this project."""
    for found in entry_points(group="dnd.commands"):
        app.command(name=found.name, rich_help_panel=LOOK)(plain_errors(found.load()))


def main() -> None:
    """Entry point: the commands above, and those that other packages of this project add."""
    add_commands()
    # However it was started: shells complete the name `dnd`.
    app(prog_name="dnd")
