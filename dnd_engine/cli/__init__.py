"""The `dnd` command: everything the app does, and the training pipeline behind it.

Commands print text, or one JSON object on stdout with --json. Progress goes to stderr. The
exit code is 0 on success, 1 on a failure with a message and 2 on wrong usage. Commands import
heavy modules inside their functions, so that `dnd --help` stays fast.
"""

from collections.abc import Callable
from importlib.metadata import entry_points

import typer

from dnd_engine.cli import (
    adapters,
    bench,
    collect,
    convert,
    deploy,
    doctor,
    evaluate,
    export,
    library,
    measure,
    plan,
    publish,
    refine,
    tasks,
    train,
    watch,
)
from dnd_engine.cli.common import plain_errors
from dnd_engine.cli.grouped import GroupedCommands
from dnd_engine.cli.openmp import wait_briefly

__all__ = ["add_commands", "app", "main"]

MAKE, USE, KEEP, BUILD, LOOK = "Make", "Use", "Keep", "Build a generator", "Look"
"""Sections of the help."""

app = typer.Typer(
    name="dnd",
    help="Drop unlabeled prompts, get a LoRA adapter for a frozen language model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # No Rich anywhere: see `GroupedCommands`.
    rich_markup_mode=None,
    cls=GroupedCommands,
)
_COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    MAKE: {"generate": adapters.generate, "refine": refine.refine, "propose": refine.propose},
    USE: {
        "chat": adapters.chat,
        "inspect": adapters.inspect,
        "export": export.export,
        "push": export.push,
        "publish": publish.publish,
        "deploy": deploy.deploy,
        "measure": measure.measure,
    },
    KEEP: {"import": library.import_adapter},
    BUILD: {
        "plan": plan.plan,
        "collect": collect.collect,
        "train": train.train,
        "watch": watch.watch,
        "evaluate": evaluate.evaluate,
        "convert": convert.convert,
    },
    LOOK: {"bench": bench.bench, "info": adapters.info, "doctor": doctor.doctor},
}
for panel, commands in _COMMANDS.items():
    for name, command in commands.items():
        app.command(name=name, rich_help_panel=panel)(command)
app.add_typer(library.app, name="library", rich_help_panel=KEEP)
app.add_typer(tasks.app, name="tasks", rich_help_panel=BUILD)


def add_commands() -> None:
    """Add the commands that other packages register, such as `serve` of the page."""
    for found in entry_points(group="dnd.commands"):
        app.command(name=found.name, rich_help_panel=LOOK)(plain_errors(found.load()))


def main() -> None:
    """Run the command line, including the commands that other packages add."""
    wait_briefly()  # before a command imports torch
    add_commands()
    # Shell completion is installed for `dnd`, however this process was started.
    app(prog_name="dnd")
