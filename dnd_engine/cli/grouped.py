"""Plain-text help that lists the commands in sections, one line each."""

from typing import Any

from typer.core import TyperGroup


class GroupedCommands(TyperGroup):
    """Lists commands under their `rich_help_panel`, panels in order of appearance.

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
