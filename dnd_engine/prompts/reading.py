"""What a reader of prompt files gets and returns, and how it collects the faults of a file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from dnd_engine.config import PromptLimits
from dnd_engine.errors import BrokenItemsError, PromptFileError
from dnd_engine.prompts.words import count

__all__ = [
    "LABEL_KEYS",
    "PROMPT_KEYS",
    "Asked",
    "Choices",
    "Column",
    "Entry",
    "Faults",
    "Finding",
    "Format",
    "Reading",
    "Role",
    "Split",
    "SplitMode",
]

PROMPT_KEYS = ("prompt", "text", "question", "instruction", "input")
"""Columns and keys that hold the prompt, the first one present winning. Where there is no `prompt`,
`instruction` comes first together with `input` or `question`: in Alpaca files `text` holds the
answer."""
LABEL_KEYS = frozenset(
    ["label", "labels", "answer", "answers", "response", "output", "target", "completion", "gold"]
)

Split = Literal["auto", "separator", "lines", "paragraphs"]
"""How a text file is to be cut into prompts."""
SplitMode = Literal[
    "separator", "lines", "paragraphs", "pairs", "headed", "rows", "objects", "cells", "files"
]
"""How a file was cut into prompts."""
Role = Literal["text", "instruction", "label", ""]
"""What a column is used for; empty if it is not."""

_TOLD_FAULTS = 5
_TOLD_PLACES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What a person chose for one file. The defaults leave every choice to its reader."""

    text: str | None = None
    """Column or key of the prompts, or of their inputs. None: as the reader finds it."""
    instruction: str | None = None
    """Column or key that is put above each text."""
    label: str | None = None
    """Column or key of the labels. None: those named like a label; empty: none."""
    skip_broken: bool = False
    """Whether to leave out lines, rows or files that do not read, instead of refusing all."""
    without: tuple[int, ...] = ()
    """Prompts to leave out, by their place from 0 among the distinct prompts."""


class Entry(NamedTuple):
    """One prompt as it is in its file, before cleaning."""

    place: int
    """What the reading's `unit` counts, from 1."""
    text: str
    label: str | None
    part: str = ""
    """File of an archive that it is in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table, or a key of its objects, to choose from."""

    name: str
    """As `words.shown_column` shows it."""
    role: Role
    samples: tuple[str, ...]
    """Beginnings of the cells of the first rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a reader gets with the bytes of its file."""

    name: str
    """Display name, for errors."""
    split: Split
    limits: PromptLimits
    choices: Choices = Choices()
    formats: "Mapping[str, Format]" = field(default_factory=dict)
    """How the files of an archive are read."""

    def bound(self, num_rows: int, unit: str) -> None:
        """Stop a reader that has taken too much of a file; call it before the work on each row.

        Raises:
            PromptFileError: If these are more rows than a file may have.
        """
        if num_rows > self.limits.max_rows:
            raise PromptFileError(
                f"{self.name}: expected at most {self.limits.max_rows:,} {unit}s that hold "
                "something, got more. Split the file, or keep a sample of it."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a reader found."""

    entries: list[Entry]
    split: SplitMode
    unit: str
    """What a place counts: `line`, `item` or `row`."""
    column: str | None = None
    columns: tuple[Column, ...] = ()
    """Columns to choose from; empty where there is nothing to choose."""
    notes: list[str] = field(default_factory=list)
    doubt: str = ""
    """Why these may not be prompts at all, as a sentence; empty if nothing speaks against it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How files of one suffix are read."""

    read: Callable[[bytes, Asked], Reading]
    """Raises `PromptFileError` with every fault. Never gets an empty file."""
    has_labels: bool = True
    """Whether it has a place for labels, so that rows for measuring can be in it."""
    splits: bool = False
    """Whether it is running text, so that a person can choose how to split it."""
    packed: bool = False
    """Whether it is a zip archive itself."""


class Finding(Exception):
    """What stood where a prompt was expected."""


class Faults:
    """The faults of one file: all counted, equal ones listed once with their places, one error."""

    def __init__(self, name: str, unit: str) -> None:
        self.name, self.unit = name, unit
        self.places: dict[str, list[int]] = {}

    def add(self, place: int, fault: str) -> None:
        """Take a fault; `fault` says what was expected and what came, without a full stop."""
        self.places.setdefault(fault, []).append(place)

    def settle(self, way_out: str, *, num_good: int, skip: bool) -> list[str]:
        """Raise what was found, or return notes that say what was skipped.

        Raises:
            PromptFileError: If there is a fault and nothing may be skipped, or nothing is left;
                a `BrokenItemsError` if other prompts of the file are good.
        """
        if not self.places:
            return []
        if skip and num_good:
            places = sorted({place for found in self.places.values() for place in found})
            return [f"Skipped {self._where(places)}, which cannot be read."]
        in_order = sorted(self.places.items(), key=lambda found: found[1][0])
        told = [
            f"{self.name}, {self._where(places)}: {fault}."
            for fault, places in in_order[:_TOLD_FAULTS]
        ]
        if (rest := len(self.places) - _TOLD_FAULTS) > 0:
            told.append(f"And {count(rest, 'more kind')} of fault.")
        message = "\n".join(told) + f" {way_out}"
        raise BrokenItemsError(message, num_good) if num_good else PromptFileError(message)

    def _where(self, places: list[int]) -> str:
        shown = [f"{place:,}" for place in places[:_TOLD_PLACES]]
        if (rest := len(places) - _TOLD_PLACES) > 0:
            return f"{self.unit}s {', '.join(shown)} and {rest:,} more"
        *first, last = shown
        joined = f"{', '.join(first)} and {last}" if first else last
        return f"{self.unit}{'s' if first else ''} {joined}"
