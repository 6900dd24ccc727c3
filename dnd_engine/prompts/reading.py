"""Input and output types of prompt file readers, and the collection of a file's faults."""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from dnd_engine.errors import BrokenItemsError, PromptFileError
from dnd_engine.limits import PromptLimits
from dnd_engine.notes import Note, counted, joined, noted
from dnd_engine.wording import N_, listed

PROMPT_KEYS = ("prompt", "text", "question", "instruction", "input")
"""Columns and keys of the prompt; the first one present is used. Without `prompt`, `instruction`
comes first, with `input`, `question` or `text` below it, in this order: in Alpaca files, which have
an `input` too, `text` contains the answer."""
LABEL_KEYS = frozenset(
    ["label", "labels", "answer", "answers", "response", "output", "target", "completion", "gold"]
)

Split = Literal["auto", "separator", "lines", "paragraphs"]
"""Requested way to split a text file into prompts."""
SplitMode = Literal[
    "separator",
    "lines",
    "paragraphs",
    "pairs",
    "headed",
    "titled",
    "shared",
    "rows",
    "objects",
    "cells",
    "files",
]
"""Way in which a file was split. Only those of `Split` can be asked for, and they keep titles; a
file read in another way is read automatically when a recipe is repeated."""
Role = Literal["text", "instruction", "label", ""]
"""Role of a column; empty if unused."""

_UNITS = (
    *(N_("cell"), N_("item"), N_("line"), N_("prompt"), N_("row"), N_("text")),
    *(N_("cells"), N_("items"), N_("lines"), N_("prompts"), N_("rows")),
)
"""Units of positions, and what a file has several of. Marked here, because messages take them as
values."""

NO_COLUMNS = noted("The chosen columns were ignored: only tables and JSON have some.")

_MAX_FAULTS = 5
_MAX_PLACES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """A person's options for one file. By default, the reader decides."""

    text: str | None = None
    """Column or key of prompts or inputs. None: detect it."""
    instruction: str | None = None
    """Column or key to put above each text."""
    label: str | None = None
    """Column or key of labels. None: detect by name; empty: no labels."""
    skip_broken: bool = False
    """Skip unreadable lines, rows or files instead of rejecting the whole file."""
    without: tuple[int, ...] = ()
    """Prompts to leave out, by index from 0 among the distinct prompts."""

    @property
    def name_columns(self) -> bool:
        """Return whether a column or key is chosen."""
        return any((self.text, self.instruction, self.label))


class Entry(NamedTuple):
    """One prompt as in its file, before cleaning."""

    place: int
    """Position from 1, in the reading's `unit`."""
    text: str
    label: str | None
    part: str = ""
    """Its file inside an archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A selectable column of a table or key of objects."""

    name: str
    """Name as shown, by `words.shown_column`; a repeated one has a number, a missing one its
    place."""
    role: Role
    samples: tuple[str, ...]
    """Beginnings of the first rows' cells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a reader gets with the bytes of its file."""

    name: str
    """Display name, for errors."""
    split: Split
    limits: PromptLimits
    choices: Choices
    formats: "Mapping[str, Format]"
    """Formats of files inside an archive."""

    def bound(self, num_rows: int, units: str) -> None:
        """Check the number of rows so far; `units` is what they are, a plural of `_UNITS`.

        Raises:
            PromptFileError: If there are more rows than a file may have.
        """
        if num_rows > self.limits.max_rows:
            raise PromptFileError(
                "{name}: expected at most {most} {units} that hold something, got more. Split the "
                "file, or keep a sample of it.",
                name=self.name,
                most=self.limits.max_rows,
                units=noted(units),
            )

    def fit(self, entries: Iterable[Entry]) -> list[Entry]:
        """Collect entries that repeat texts of their file, while they fit into memory.

        Raises:
            PromptFileError: If their texts take more memory than those of a file may.
        """
        kept: list[Entry] = []
        seen: set[int] = set()
        num_bytes = 0
        for entry in entries:
            kept.append(entry)  # first, so that no other text gets the same `id`
            for text in (entry.text, entry.label):
                if text is not None and id(text) not in seen:
                    seen.add(id(text))
                    num_bytes += sys.getsizeof(text)
            check_memory(num_bytes, self.name, self.limits)
        return kept


def text_bytes(texts: Iterable[str | None]) -> int:
    """Return the memory that texts take. One that occurs several times counts once."""
    distinct = {id(text): text for text in texts if text is not None}
    return sum(map(sys.getsizeof, distinct.values()))


def check_memory(num_bytes: int, name: str, limits: PromptLimits) -> None:
    """Raise if the texts of a file take more memory than they may."""
    if num_bytes > limits.max_memory_bytes:
        raise PromptFileError(
            "{name}: its prompts take more than {most:g} MB of memory, which is the limit; a long "
            "text that many of them repeat counts each time. Split the file, or keep a sample of "
            "it.",
            name=name,
            most=limits.max_memory_bytes / 1e6,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Output of a reader."""

    entries: list[Entry]
    split: SplitMode
    unit: str
    """Unit of positions, one of `_UNITS`."""
    column: str | None = None
    columns: tuple[Column, ...] = ()
    """Selectable columns; may be empty."""
    notes: list[Note] = field(default_factory=list)
    doubt: str = ""
    """A sentence why these may not be prompts; empty without doubts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How to read files of one suffix."""

    read: Callable[[bytes, Asked], Reading]
    """Raises `PromptFileError` with every fault. Never receives an empty file."""
    has_labels: bool = True
    """Whether files can contain labels, and so rows for measuring."""
    splits: bool = False
    """Whether it is running text, which can be split in several ways."""
    packed: bool = False
    """Whether the file is itself a zip archive."""


class Finding(Exception):
    """Something other than a prompt was found where one was expected; its message names it."""


class Faults:
    """The faults of one file, raised as one error; equal ones are listed together."""

    def __init__(self, name: str, unit: Literal["line", "item"]) -> None:
        self.name, self.unit = name, unit
        self.places: dict[str, list[int]] = {}

    def add(self, place: int, fault: str) -> None:
        """Add a fault; `fault` states expectation and finding, without a full stop."""
        self.places.setdefault(fault, []).append(place)

    def settle(self, way_out: str, *, num_good: int, skip: bool) -> list[Note]:
        """Raise the faults, or return notes about what was skipped.

        Raises:
            PromptFileError: If there are faults and nothing may be skipped, or nothing is left; a
                `BrokenItemsError` if other prompts of the file are usable.
        """
        if not self.places:
            return []
        if skip and num_good:
            places = sorted({place for found in self.places.values() for place in found})
            where = self._where(places)
            return [noted("Skipped {places}, which cannot be read.", places=where)]
        in_order = sorted(self.places.items(), key=lambda found: found[1][0])
        lines = [
            noted(
                "{name}, {places}: {fault}.",
                name=self.name,
                places=self._where(places),
                fault=fault,
            )
            for fault, places in in_order[:_MAX_FAULTS]
        ]
        if (rest := len(self.places) - _MAX_FAULTS) > 0:
            lines.append(
                counted(
                    "And {number} more kind of fault.", "And {number} more kinds of fault.", rest
                )
            )
        message = joined([joined(lines, "\n"), way_out], " ")
        raise BrokenItemsError(message, num_good) if num_good else PromptFileError(message)

    def _where(self, places: list[int]) -> Note:
        shown = [*map(str, places[:_MAX_PLACES])]
        names = listed(shown)
        if (rest := len(places) - _MAX_PLACES) > 0:
            names = noted("{names} and {number} more", names=", ".join(shown), number=rest)
        if self.unit == "item":
            return counted("item {places}", "items {places}", len(places), places=names)
        return counted("line {places}", "lines {places}", len(places), places=names)
