"""Scopes: where in a text a primitive works.

A *span* is a run of words: the whole text, each line, the part after the colon. A *place* is a
single word or entity: the first word, the last word of each line, the city. Each names its input
kind, says how instructions speak of it, and applies a function there, leaving the rest as it is.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Generic, TypeVar

from dnd_engine.tasks.families.words import COLOURS, DAYS, open_list

T = TypeVar("T")
TextFunction = Callable[[str], str | None]
"""None where the function does not apply."""
WordsFunction = Callable[[list[str]], str | None]

DIGITS = re.compile(r"\b\d+\b")
"""A number in digits."""
_MAX_DIGITS = 18
"""Python refuses to read or write thousands of digits, and nobody counts things with these many."""

_TAILS = (
    "Leave the rest as it is.",
    "Keep everything else.",
    "Do not change anything else.",
    "The other parts stay the same.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope(Generic[T]):
    """Where a function works: on runs of words (a span) or on single words (a place)."""

    name: str
    kind: str
    called: tuple[str, ...]
    """How an instruction names a place, or what follows `the words` for a span; the last one is for
    the test side."""
    partial: bool
    """Whether parts of the text lie outside."""
    apply: Callable[[str, Callable[[T], str | None]], str | None]

    @property
    def tails(self) -> tuple[str, ...]:
        """What an instruction adds about the rest."""
        return _TAILS if self.partial else ()


Span = Scope[list[str]]
Place = Scope[str]


def _whole(text: str, function: WordsFunction) -> str | None:
    # Texts of several lines are a kind of their own.
    return None if "\n" in text else function(text.split())


def _each_line(text: str, function: WordsFunction) -> str | None:
    lines = text.split("\n")
    return _joined("\n", [function(line.split()) for line in lines]) if len(lines) > 1 else None


def _first_line(text: str, function: WordsFunction) -> str | None:
    first, found, rest = text.partition("\n")
    return _joined("\n", [function(first.split()), rest]) if found else None


def _last_line(text: str, function: WordsFunction) -> str | None:
    rest, found, last = text.rpartition("\n")
    return _joined("\n", [rest, function(last.split())]) if found else None


def split_items(text: str) -> list[str]:
    """The items of a comma-separated line; the commas of a sentence make no list."""
    return [] if "\n" in text or "." in text else text.split(", ")


def _each_item(text: str, function: WordsFunction) -> str | None:
    items = split_items(text)
    return _joined(", ", [function(item.split()) for item in items]) if len(items) > 1 else None


def _after_colon(text: str, function: WordsFunction) -> str | None:
    match = re.fullmatch(r"([^:\n]+): ([^:\n]+)", text)
    return _joined(": ", [match[1], function(match[2].split())]) if match else None


def _first_sentence(text: str, function: WordsFunction) -> str | None:
    # `.` matches no line break, so the text is one line, here and below.
    match = re.fullmatch(r"([^.\n]+)\. (.+)", text)
    return _joined(". ", [function(match[1].split()), match[2]]) if match else None


def _last_sentence(text: str, function: WordsFunction) -> str | None:
    match = re.fullmatch(r"(.+)\. ([^.\n]+)\.", text)
    if not match:
        return None
    changed = function(match[2].split())
    return None if changed is None else f"{match[1]}. {changed}."


def _joined(separator: str, parts: list[str | None]) -> str | None:
    # All or nothing: a text of which only some parts were changed is no answer.
    done = [part for part in parts if part is not None]
    return separator.join(done) if len(done) == len(parts) else None


SPANS: Mapping[str, Span] = {
    span.name: span
    for span in (
        Scope(
            name="",
            kind="plain",
            called=("", " in the text", " below", " of the text"),
            partial=False,
            apply=_whole,
        ),
        Scope(
            name="each-line",
            kind="lines",
            called=(" of each line", " in each line", " of every line"),
            partial=False,
            apply=_each_line,
        ),
        Scope(
            name="first-line",
            kind="lines",
            called=(" of the first line", " in line one", " in the first line"),
            partial=True,
            apply=_first_line,
        ),
        Scope(
            name="last-line",
            kind="lines",
            called=(" of the last line", " in the bottom line", " in the last line"),
            partial=True,
            apply=_last_line,
        ),
        Scope(
            name="each-item",
            kind="items",
            called=(" of each item", " in every list item", " of every item in the list"),
            partial=False,
            apply=_each_item,
        ),
        Scope(
            name="after-colon",
            kind="labelled",
            called=(" after the colon", " to the right of the colon", " behind the colon"),
            partial=True,
            apply=_after_colon,
        ),
        Scope(
            name="first-sentence",
            kind="sentences",
            called=(" of the first sentence", " in sentence one", " in the first sentence"),
            partial=True,
            apply=_first_sentence,
        ),
        Scope(
            name="last-sentence",
            kind="sentences",
            called=(" of the last sentence", " in the final sentence", " in the last sentence"),
            partial=True,
            apply=_last_sentence,
        ),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pick:
    """Which words of a span; `called` has a slot for the span."""

    name: str
    called: tuple[str, ...]
    choose: Callable[[int], range]
    """Number of words to the indices of those picked; empty where there are too few."""


# No pick applies where it would be the same as another: of two words, the second is the last.
_PICKS = (
    _Pick(
        name="each-word",
        called=("each word{inside}", "every word{inside}", "every single word{inside}"),
        choose=lambda n: range(n),
    ),
    _Pick(
        name="first-word",
        called=("the first word{inside}", "word number one{inside}", "the opening word{inside}"),
        choose=lambda n: range(1) if n > 1 else range(0),
    ),
    _Pick(
        name="last-word",
        called=("the last word{inside}", "the final word{inside}", "the closing word{inside}"),
        choose=lambda n: range(n - 1, n) if n > 1 else range(0),
    ),
    _Pick(
        name="second-word",
        called=(
            "the second word{inside}",
            "word number two{inside}",
            "the word after the first one{inside}",
        ),
        choose=lambda n: range(1, 2) if n > 2 else range(0),
    ),
    _Pick(
        name="odd-words",
        called=(
            "every odd-numbered word{inside}",
            "the first, third, fifth word{inside} and so on",
            "every word{inside} in an odd place",
        ),
        choose=lambda n: range(0, n, 2) if n > 2 else range(0),
    ),
)


def _change(pick: _Pick, function: TextFunction, words: list[str]) -> str | None:
    chosen = pick.choose(len(words))
    done = [function(w) if i in chosen else w for i, w in enumerate(words)]
    return _joined(" ", done) if chosen else None


def _place(pick: _Pick, span: Span) -> Place:
    def apply(text: str, function: TextFunction) -> str | None:
        return span.apply(text, partial(_change, pick, function))

    return Scope(
        name=f"{pick.name}-of-{span.name}" if span.name else pick.name,
        kind=span.kind,
        called=tuple(
            called.format(inside=inside)
            # The whole text has one name more than other spans; the last is for the test side.
            for called, inside in zip(pick.called, (*span.called[:2], span.called[-1]), strict=True)
        ),
        partial=span.partial or pick.name != "each-word",
        apply=apply,
    )


_ENTITY_CALLED: Mapping[str, tuple[str, ...]] = {
    "name": ("the name", "the person's name", "the name of the person"),
    "city": ("the city", "the name of the city", "the place name"),
    "colour": ("the colour", "the colour word", "the word for the colour"),
    "day": ("the day", "the weekday", "the day of the week"),
    "number": ("the number", "the figure", "the amount"),
}
"""What scenes name once each."""


@cache
def _pattern(entity: str) -> re.Pattern[str]:
    if entity == "number":
        return DIGITS
    # Words of both sides: an operation must know them in any text.
    words = {
        "name": open_list("names"),
        "city": open_list("cities"),
        "colour": COLOURS,
        "day": DAYS,
    }
    return re.compile(rf"\b(?:{'|'.join(words[entity])})\b")


def find_entity(entity: str, text: str) -> str | None:
    """The one entity of that sort in a text; None if there is none or more than one."""
    found = _pattern(entity).findall(text)
    return found[0] if len(found) == 1 else None


def find_numbers(text: str) -> list[int]:
    """All numbers in digits; none where one of them is too long to compute with."""
    found: list[str] = DIGITS.findall(text)
    return list(map(int, found)) if all(len(n) <= _MAX_DIGITS for n in found) else []


def _entity_place(entity: str) -> Place:
    def apply(text: str, function: TextFunction) -> str | None:
        found = find_entity(entity, text)
        changed = None if found is None else function(found)
        # A function as replacement, because in a string backslashes would be read as escapes.
        return None if changed is None else _pattern(entity).sub(lambda _: changed, text)

    return Scope(
        name=entity, kind="scene", called=_ENTITY_CALLED[entity], partial=True, apply=apply
    )


PLACES: Mapping[str, Place] = {
    place.name: place
    for place in (
        *(_place(pick, span) for pick in _PICKS for span in SPANS.values()),
        *(_entity_place(entity) for entity in _ENTITY_CALLED),
    )
}
"""Named by word and span: `first-word`, `last-word-of-each-line`, `city`."""
