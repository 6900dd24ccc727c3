"""`docs/cli.md` is what the code says of itself; `python -m tests.test_cli_reference` writes it."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from dnd_engine.cli import add_commands, app

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "cli.md"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *(path for path in (ROOT / "docs").glob("*.md") if path.name != "LOG.md"),
]
"""Pages about the commands of today."""
_NAME = r"(?:dnd|[^`\n]*-m dnd_engine\.cli)"
_COMMAND = re.compile(rf"`{_NAME} ([^`]+)`|^(?:\w+=\S+ )*{_NAME} ([^`\n]+)$", re.MULTILINE)

INTRODUCTION = """\
# The command line

`python -m tests.test_cli_reference` generates this page from the code, and a test keeps it up to
date. Every command except `serve` prints text, or with `--json` one JSON object on stdout. Progress
goes to stderr. The exit code is 0 on success, 1 on a failure with a message and 2 on wrong usage.

`dnd --install-completion` sets up your shell to complete commands and options with Tab.
`dnd --show-completion` prints the script instead.
"""


def rendered() -> str:
    add_commands()
    root: Any = typer.main.get_command(app)
    panels: dict[str, list[Any]] = {}
    for command in root.commands.values():
        panels.setdefault(command.rich_help_panel, []).append(command)
    parent = root.make_context("dnd", [], resilient_parsing=True)
    lines = [INTRODUCTION]
    for panel, commands in panels.items():
        lines.append(f"## {panel}\n")
        for command in commands:
            lines += described(command, parent)
    return "\n".join(lines)


def described(command: Any, parent: Any) -> Iterator[str]:
    ctx = command.make_context(command.name, [], parent, resilient_parsing=True)
    yield f"### `{ctx.command_path}`\n"
    yield f"{command.help}\n"
    if hasattr(command, "commands"):
        for inner in command.commands.values():
            yield from described(inner, ctx)
        return
    # Not by Typer's own help records, which look otherwise from one version to the next.
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    shown = [named(p) if p.required else f"[{named(p)}]" for p in arguments]
    yield f"    {' '.join([ctx.command_path, '[OPTIONS]', *shown])}\n"
    for param in command.params:
        more = " Required." if param.required and param not in arguments else ""
        given = param.default is not False and param.default != ""
        if given and isinstance(param.default, str | int | float | Path):
            chosen = max(param.opts, key=len) if param.secondary_opts else param.default
            more = f" Default: `{chosen}`."
        yield f"- `{named(param)}`: {param.help}{more}"
    yield ""


def named(param: Any) -> str:
    if param.param_type_name == "argument":
        name = (param.metavar or param.name.upper()).removesuffix("...")
        return f"{name}..." if param.nargs == -1 else name
    return " / ".join([max(param.opts, key=len), *param.secondary_opts])


def test_the_page_is_what_the_code_says() -> None:
    written = PAGE.read_text(encoding="utf-8")
    assert written == rendered(), "write it again: python -m tests.test_cli_reference"


def commands(page: Path) -> Iterator[list[str]]:
    """What follows `dnd` in sentences and in all blocks, also those that no test can run."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for within, line in _COMMAND.findall(text):
        yield shlex.split(within or line, comments=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_exists_with_its_options(page: Path) -> None:
    add_commands()
    root: Any = typer.main.get_command(app)
    for words in commands(page):
        command, left = root, list(words)
        while left and left[0] in getattr(command, "commands", {}):
            command = command.commands[left.pop(0)]
        is_group = hasattr(command, "commands")
        assert not is_group or not left or left[0].startswith("-"), f"no `dnd {' '.join(words)}`"
        known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)} | {"--help"}
        given = {word.partition("=")[0] for word in left if word.startswith("--")}
        assert given <= known, f"`dnd {' '.join(words)}`: {given - known}"


def dnd(*arguments: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "dnd_engine.cli", *arguments],
        env={**os.environ, "COLUMNS": "80", **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    ).stdout


def test_help_has_a_section_for_each_purpose_and_a_line_for_each_command() -> None:
    shown = dnd("--help")
    places = [shown.index(f"\n{name}:\n") for name in ("Make", "Use", "Keep", "Build a generator")]
    assert places == sorted(places)
    assert "..." not in shown.split("\nMake:\n")[1], "a line is cut"


def test_help_and_completion_load_neither_the_window_nor_a_model() -> None:
    code = (
        "import sys; sys.argv = ['dnd', '--help']\n"
        "from dnd_engine.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'gradio', 'torch', 'transformers', 'numpy', 'gguf'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)


@pytest.mark.parametrize(
    ("words", "expected"),
    [("dnd ser", ["serve"]), ("dnd library re", ["rename"]), ("dnd serve --mc", ["--mcp"])],
)
def test_a_shell_completes_commands_and_options(words: str, expected: list[str]) -> None:
    last = str(len(words.split()) - 1)
    shown = dnd(_DND_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=last)
    assert shown.split() == expected


@pytest.mark.parametrize("port", ["70000", "0", "-1"])
def test_a_port_that_does_not_exist_is_refused(port: str) -> None:
    add_commands()
    result = CliRunner().invoke(app, ["serve", "--port", port])
    assert result.exit_code == 2
    assert "Invalid value for '--port'" in result.stderr


def test_the_completion_script_can_be_shown() -> None:
    shown = dnd("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "_DND_COMPLETE=complete_bash" in shown


if __name__ == "__main__":
    PAGE.write_text(rendered(), encoding="utf-8")
