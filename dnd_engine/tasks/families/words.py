"""The words that inputs are built of: everyday ones, all chosen for this project.

Train and test sides use different words: every third word of an open list (`tasks/data/words.txt`)
belongs to the test side. Closed lists (days, months, colours, numbers) are shared. No word stands
in two lists, so that a function can tell a name from a city by looking it up.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeVar

from dnd_engine.tasks.lists import read_lists

T = TypeVar("T")
Side = Literal["train", "test"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = _words(
    "January February March April May June July August September October November December"
)
COLOURS = _words("red blue green yellow black white brown pink purple grey")
NUMBERS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
"""Number words, each at the index that it names."""


def spelled(number: int) -> str | None:
    """A number as a word; None if there is none here."""
    return NUMBERS[number] if number < len(NUMBERS) else None


@dataclass(frozen=True, slots=True)
class Verb:
    """Forms of a verb that takes any thing as its object."""

    base: str
    third: str
    past: str
    participle: str
    ing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The open word lists of one side."""

    side: Side
    names: tuple[str, ...]
    cities: tuple[str, ...]
    things: tuple[str, ...]
    """Singular; each forms its plural with an s."""
    nouns: tuple[str, ...]
    adjectives: tuple[str, ...]
    verbs: tuple[Verb, ...]

    def part(self, values: tuple[T, ...]) -> tuple[T, ...]:
        """The part of a list that belongs to this side."""
        return _part(values, self.side)


def open_list(name: str) -> tuple[str, ...]:
    """The words of both sides."""
    return _words(" ".join(read_lists("words")[name]))


@cache
def vocabulary(side: Side) -> Vocabulary:
    """The words of a side; the two sides share none."""
    names = ("names", "cities", "things", "nouns", "adjectives")
    lists = {name: _part(open_list(name), side) for name in names}
    verbs = tuple(Verb(*forms.split("/")) for forms in _part(open_list("verbs"), side))
    return Vocabulary(side=side, verbs=verbs, **lists)


def _part(values: tuple[T, ...], side: Side) -> tuple[T, ...]:
    """Every third value is for tests."""
    # By its place, so that words added at the end of a list move no other to the other side.
    return tuple(v for i, v in enumerate(values) if (i % 3 == 2) == (side == "test"))
