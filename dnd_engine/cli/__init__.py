"""The `dnd` command: everything the app does, and the training pipeline behind it.

Commands print text, or one JSON object on stdout with --json. Progress goes to stderr. The
exit code is 0 on success, 1 on a failure with a message and 2 on wrong usage. Commands import
heavy modules inside their functions, so that `dnd --help` stays fast.
"""

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import typer
from typer.core import TyperGroup

from dnd_engine.cli import (
    adapters,
    bench,
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
)
from dnd_engine.cli.common import plain_errors, wait_briefly

__all__ = ["add_commands", "app", "main"]

MAKE, USE, KEEP, BUILD, LOOK = "Make", "Use", "Keep", "Build a generator", "Look"
"""Sections of the help."""


class GroupedCommands(TyperGroup):
    """Lists commands in the help under their `rich_help_panel`, panels in order of appearance.

    Typer itself draws panels only with Rich, which takes longer to load than everything else.
    """

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each panel."""
        panels: dict[str, list[tuple[str, Any]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            panels.setdefault(command.rich_help_panel or "Commands", []).append((name, command))
        width = max(len(name) for rows in panels.values() for name, _ in rows)
        for panel, commands in panels.items():
            with formatter.section(panel):
                # Subtract the two columns and the two spaces before each.
                short = formatter.width - width - 4
                formatter.write_dl(
                    # Each section aligns by itself; equal widths align them with each other.
                    [(name.ljust(width), one.get_short_help_str(short)) for name, one in commands]
                )


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
        "deploy": export.deploy,
        "measure": measure.measure,
    },
    KEEP: {"import": library.import_adapter},
    BUILD: {
        "plan": plan.plan,
        "collect": train.collect,
        "train": train.train,
        "watch": train.watch,
        "evaluate": evaluate.evaluate,
        "convert": train.convert,
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
