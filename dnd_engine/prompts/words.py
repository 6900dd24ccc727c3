"""Formats untrusted names and texts for messages about files."""

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Literal

from dnd_engine.notes import Note, counted, first_of, noted

Thing = Literal["column", "key"]
"""Where the texts of a row are, in messages."""


_LINE_ENDS = re.compile(r"\r\n|[\r\x0b\x0c\x85]")
"""Other ends of lines than `\\n`. Deleted as controls, they would join two words: old Macs and some
spreadsheets end lines with `\\r` alone, and Word breaks them with `\\x0b`."""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters except tab and newline, and lone surrogates, which no tokenizer can encode."""


def printable(text: str) -> str:
    """Remove control characters and lone surrogates, and end all lines with a newline."""
    return _CONTROLS.sub("", _LINE_ENDS.sub("\n", text))


def display_name(name: str) -> str:
    """Return the last part of a path on one line of at most 120 characters, keeping the suffix."""
    return shorten(one_line(name.replace("\\", "/").rpartition("/")[2]) or "unnamed", 120)


def one_line(text: str) -> str:
    """Remove unprintable characters, such as control and direction marks, and outer spaces.

    Zero-width joiners stay where they change the shape of letters or emoji.
    """
    if text.isascii() and text.isprintable():
        return text.strip()
    # Treat spaces of other widths as plain ones: macOS writes some into file names.
    spaced = (" " if unicodedata.category(char) == "Zs" else char for char in text)
    shown = "".join(char for char in spaced if char.isprintable() or char in _JOINERS)
    # Last, because removing other characters changes a joiner's neighbours.
    return _IDLE_JOINERS.sub("", shown).strip()


_JOINERS = "\u200c\u200d"
# Arabic and its supplements, the Indic scripts up to Sinhala, symbols, the selector that makes a
# symbol an emoji, and emoji.
_SHAPED = "[\u0600-\u06ff\u0750-\u077f\u08a0-\u0dff\u2190-\u27bf\ufe0f\U0001f000-\U0001faff]"
_IDLE_JOINERS = re.compile(f"(?<!{_SHAPED})[{_JOINERS}]|[{_JOINERS}](?!{_SHAPED})")
"""Joiners that only hide: not between letters of the Arabic and Indic scripts, or emoji."""


def shorten(text: str, limit: int) -> str:
    """Cut the middle out of a text that is longer than `limit` characters."""
    head = limit // 2
    return text if len(text) <= limit else f"{text[:head]}…{text[head + 1 - limit :]}"


def cut(text: str, limit: int) -> str:
    """Cut the end off a text that is longer than `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def megabytes(num_bytes: int) -> float:
    """Return a size in MB, rounded up, so that a file over the limit never reads as the limit."""
    return math.ceil(num_bytes / 1e5) / 10


def cell_text(value: object) -> str:
    """Write text as it is, and numbers and truth values as JSON; all else as nothing.

    NaN and infinities mean that there is no number.
    """
    if isinstance(value, str):
        return value
    is_number = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    return json.dumps(value) if is_number else ""


def quoted(names: Sequence[str]) -> str:
    """List the first eight names, each on one line and at most 40 characters long."""
    return first_of(names, 8, write=lambda name: f"`{shorten(one_line(name), 40)}`")


def named(thing: Thing, names: Sequence[str]) -> Note:
    """Return "column `a`" or "columns `a`, `b`"."""
    listed = quoted(names) or "(none)"
    if thing == "key":
        return counted("key {names}", "keys {names}", len(names), names=listed)
    return counted("column {names}", "columns {names}", len(names), names=listed)


def use_formats(suffixes: Iterable[str]) -> Note:
    """Say which formats to use, by their suffixes."""
    *others, last = (suffix.removeprefix(".") for suffix in suffixes)
    return noted("Use {names} or {last}.", names=", ".join(others), last=last)


def shown_column(name: str) -> str:
    """Return the name of a column as pages show it."""
    return shorten(one_line(name), 60)
