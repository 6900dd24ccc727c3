"""Sentences of the engine that the page translates: notes on files, and messages of errors.

A note is its English text, which the command line prints. It keeps message and values apart, too,
so that the page can translate it: its catalogues include every message given to these functions.
"""

import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

Value = str | int | float
"""What a placeholder stands for. Whole numbers get their thousands separated, so the number of a
line or a version is given as text."""


class Note(str):
    """An English sentence, or a part of one, that remembers how it was made."""

    __slots__ = ("messages", "values")

    messages: tuple[str, ...]
    """The message with named placeholders; two, for one thing and for several, if it counts."""
    values: Mapping[str, Value]
    """Values of the placeholders; some are notes themselves. A message that counts has `number`."""

    def __str__(self) -> str:
        return self  # `str` of an error with a note returns the note, not a plain copy of its text


def noted(message: str, /, **values: Value) -> Note:
    """Return a note; messages of direct calls are found for the page's catalogues."""
    return _made(message, (message,), values)


def counted(one: str, other: str, number: int, /, **values: Value) -> Note:
    """Return a note about one or several things, whose `number` its messages may name."""
    values = {"number": number, **values}
    return _made(one if number == 1 else other, (one, other), values)


def joined(parts: Sequence[str], between: str) -> Note:
    """Join notes and plain texts, such as the faults of a file, one a line."""
    values = {f"part_{place}": part for place, part in enumerate(parts)}
    # In no catalogue: only its parts have words.
    message = between.join(f"{{{name}}}" for name in values)
    return _made(message, (message,), values)


def first_of(
    parts: Sequence[str],
    most: int,
    between: Literal[", ", "; "] = ", ",
    write: Callable[[str], str] = str,
) -> Note:
    """List the first parts, as `write` puts them, and count the others."""
    # Only the first are written: a hostile file has millions.
    shown = joined([write(part) for part in parts[:most]], between)
    if (rest := len(parts) - most) <= 0:
        return shown
    if between == "; ":
        return noted("{names}; and {number} more", names=shown, number=rest)
    return noted("{names} and {number} more", names=shown, number=rest)


def _made(message: str, messages: tuple[str, ...], values: Mapping[str, Value]) -> Note:
    # Names in files are values, so braces in them are not taken for placeholders.
    note = Note(_English().vformat(message, (), values))
    note.messages, note.values = messages, values
    return note


class _English(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        # A message may give a format for a float, which a caller may write as a whole number.
        return format(value, format_spec or ("," if isinstance(value, int) else ""))
