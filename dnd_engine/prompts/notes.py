"""Sentences that say how a file was read, for the command line and the page.

A note is its English text. It keeps message and values apart, too, so that the page can translate
it: its catalogues include the messages of this package.
"""

from collections.abc import Mapping


class Note(str):
    """An English sentence, or a part of one, that remembers how it was made."""

    __slots__ = ("messages", "values")

    messages: tuple[str, ...]
    """The message with named placeholders; two, for one thing and for several, if it counts."""
    values: Mapping[str, "str | int"]
    """Values of the placeholders; some are notes themselves. A message that counts has `number`."""


def noted(message: str, /, **values: str | int) -> Note:
    """Return a note; messages of direct calls are found for the page's catalogues."""
    return _made(message, (message,), values)


def counted(one: str, other: str, number: int, /, **values: str | int) -> Note:
    """Return a note about one or several things, whose `number` its messages may name."""
    values = {"number": number, **values}
    return _made(one if number == 1 else other, (one, other), values)


def _made(message: str, messages: tuple[str, ...], values: Mapping[str, str | int]) -> Note:
    shown = {name: f"{v:,}" if isinstance(v, int) else v for name, v in values.items()}
    # Names in files are values, so braces in them are not taken for placeholders.
    note = Note(message.format(**shown))
    note.messages, note.values = messages, values
    return note
