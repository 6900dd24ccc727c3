"""Extraction methods for Babel, which find the messages in the code.

Babel's own method for Python does not read f-strings before Python 3.12, and it has none for the
page's template.
"""

import ast
import html
import io
import re
from collections.abc import Collection, Iterator, Mapping
from typing import IO, Any

KEYWORDS: Mapping[str, tuple[int, ...] | None] = {
    "_": None,
    "N_": None,
    "ngettext": (1, 2),
    # Notes of the engine, see `dnd_engine.notes`.
    "noted": None,
    "counted": (1, 2),
}
"""Functions that mark messages, in Babel's format."""

Found = tuple[int, str, str | tuple[str, ...], list[str]]
"""Line, function, message or messages, and comments for translators."""


def python(
    file: IO[bytes], keywords: Collection[str], comment_tags: Collection[str], options: Any
) -> Iterator[Found]:
    """Find messages in a Python module: literal arguments of the functions in `keywords`.

    An error with values makes a note of its message (see `dnd_engine.errors.DndError`).
    """
    source = file.read().decode("utf-8")
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        # The plain name alone: `gettext.ngettext` and methods called `_` are none of ours.
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            name = node.func.id
            if name.endswith("Error") and node.keywords:
                name = "noted"
            messages = _literals(node) if name in keywords else ()
            if messages:
                comments = _comments(lines, node.lineno - 1, comment_tags)
                yield node.lineno, name, messages if len(messages) > 1 else messages[0], comments


def template(
    file: IO[bytes], keywords: Collection[str], comment_tags: Collection[str], options: Any
) -> Iterator[Found]:
    """Find messages in HTML, at `data-say` and `data-say-label` (see `assets/words.js`)."""
    source = io.TextIOWrapper(file, encoding="utf-8").read()
    # `(?!-)`: not `data-say-label`, whose element has no message inside.
    marked = r"<(\w+)\b[^>]*\bdata-say(?!-)[^>]*>(.*?)</\1>|<[^>]*\bdata-say-label\b[^>]*>"
    for found in re.finditer(marked, source, re.DOTALL):
        message = found[2]
        if message is None:
            label = re.search(r'aria-label="([^"]*)"', found[0])
            assert label is not None, f"no label to say: {found[0]}"
            message = html.unescape(label[1])
        yield source.count("\n", 0, found.start()) + 1, "_", message, []


def _literals(call: ast.Call) -> tuple[str, ...]:
    """Return the leading arguments that are string literals."""
    found = []
    for argument in call.args:
        if not (isinstance(argument, ast.Constant) and isinstance(argument.value, str)):
            break
        found.append(argument.value)
    return tuple(found)


def _comments(lines: list[str], number: int, tags: Collection[str]) -> list[str]:
    """Return the comment above a line, if it is for translators."""
    found: list[str] = []
    while number > 0 and lines[number - 1].lstrip().startswith("#"):
        number -= 1
        found.insert(0, lines[number].strip().lstrip("# "))
    return found if found and found[0].startswith(tuple(tags)) else []
