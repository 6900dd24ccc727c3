"""Scopes: where in a text a primitive works.

A *span* is a run of words: the whole text, each line, the part after the colon. A *place* is a
single word or entity: the first word, the last word of each line, the city. Each names its input
kind, says how instructions speak of it, and applies a function there, leaving the rest as it is.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Generic, NamedTuple, TypeVar

from dnd_engine.tasks.families.inputs import KINDS
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


@dataclass(frozen=True, slots=True)
class Scope(Generic[T]):
    """Where a function works: on runs of words (a span) or on single words (a place)."""

    name: str
    kind: str
    called: tuple[str, ...]
    """How an instruction names a place, or what follows `the words` for a span; the last one is for
    the test side."""
    apply: Callable[[str, Callable[[T], str | None]], str | None]
    partial: bool = False
    """Whether parts of the text are outside."""

    @property
    def tails(self) -> tuple[str, ...]:
        """What an instruction adds about the rest."""
        return _TAILS if self.partial else ()


Span = Scope[list[str]]
Place = Scope[str]
SpanFunction = Callable[[str, WordsFunction], str | None]


def _whole(text: str, function: WordsFunction) -> str | None:
    # Texts of several lines are a kind of their own.
    return None if "\n" in text else function(text.split())


def split_lines(text: str) -> list[str]:
    """The lines of a text, split at line feeds only."""
    return text.split("\n")


def split_items(text: str) -> list[str]:
    """The items of a comma-separated line; the commas of a sentence make no list."""
    return [] if "\n" in text or "." in text else text.split(", ")


def _each(split: Callable[[str], list[str]], separator: str) -> SpanFunction:
    """Each of several parts of a text."""

    def apply(text: str, function: WordsFunction) -> str | None:
        parts = split(text)
        done = [function(part.split()) for part in parts]
        return _joined(separator, done) if len(parts) > 1 else None

    return apply


def _part(pattern: str) -> SpanFunction:
    """The second group of a pattern; the first and the third stay."""

    def apply(text: str, function: WordsFunction) -> str | None:
        match = re.fullmatch(pattern, text)
        return _joined("", [match[1], function(match[2].split()), match[3]]) if match else None

    return apply


def _joined(separator: str, parts: list[str | None]) -> str | None:
    # All or nothing: a text of which only some parts were changed is no answer.
    done = [part for part in parts if part is not None]
    return separator.join(done) if len(done) == len(parts) else None


SPANS: Mapping[str, Span] = {
    span.name or "whole": span
    for span in (
        Scope("", "plain", ("", " in the text", " below", " of the text"), _whole),
        Scope(
            "each-line",
            "lines",
            (" of each line", " in each line", " of every line"),
            _each(split_lines, "\n"),
        ),
        Scope(
            "first-line",
            "lines",
            (" of the first line", " in line one", " in the first line"),
            _part(r"()(.*)(\n(?s:.*))"),
            partial=True,
        ),
        Scope(
            "last-line",
            "lines",
            (" of the last line", " in the bottom line", " in the last line"),
            _part(r"((?s:.*)\n)(.*)()"),
            partial=True,
        ),
        Scope(
            "each-item",
            "items",
            (" of each item", " in every list item", " of every item in the list"),
            _each(split_items, ", "),
        ),
        Scope(
            "after-colon",
            "labelled",
            (" after the colon", " to the right of the colon", " behind the colon"),
            _part(r"([^:\n]+: )([^:\n]+)()"),
            partial=True,
        ),
        Scope(
            "first-sentence",
            "sentences",
            (" of the first sentence", " in sentence one", " in the first sentence"),
            _part(r"()([^.\n]+)(\. .+)"),
            partial=True,
        ),
        Scope(
            "last-sentence",
            "sentences",
            (" of the last sentence", " in the final sentence", " in the last sentence"),
            _part(r"(.+\. )([^.\n]+)(\.)"),
            partial=True,
        ),
    )
}

TEXTS: Mapping[str, Place] = {
    kind: Scope("", kind, ("", ""), lambda text, function: function(text)) for kind in KINDS
}
"""Whole texts, of which instructions name no part."""


class _Pick(NamedTuple):
    """Which words of a span; `called` has a slot for the span."""

    name: str
    called: tuple[str, ...]
    choose: Callable[[int], range]
    """Number of words to the indices of those picked; empty where there are too few."""


# No pick applies where it would be the same as another: of two words, the second is the last.
_PICKS = (
    _Pick("each-word", ("each word{}", "every word{}", "every single word{}"), range),
    _Pick(
        "first-word",
        ("the first word{}", "word number one{}", "the opening word{}"),
        lambda n: range(1) if n > 1 else range(0),
    ),
    _Pick(
        "last-word",
        ("the last word{}", "the final word{}", "the closing word{}"),
        lambda n: range(n - 1, n) if n > 1 else range(0),
    ),
    _Pick(
        "second-word",
        ("the second word{}", "word number two{}", "the word after the first one{}"),
        lambda n: range(1, 2) if n > 2 else range(0),
    ),
    _Pick(
        "odd-words",
        (
            "every odd-numbered word{}",
            "the first, third, fifth word{} and so on",
            "every word{} in an odd place",
        ),
        lambda n: range(0, n, 2) if n > 2 else range(0),
    ),
)


def _change(pick: _Pick, function: TextFunction, words: list[str]) -> str | None:
    chosen = pick.choose(len(words))
    done = [function(w) if i in chosen else w for i, w in enumerate(words)]
    return _joined(" ", done) if chosen else None


def _place(pick: _Pick, span: Span) -> Place:
    def apply(text: str, function: TextFunction) -> str | None:
        return span.apply(text, partial(_change, pick, function))

    # The whole text has one name more than other spans; the last is for the test side.
    insides = (*span.called[:2], span.called[-1])
    return Scope(
        f"{pick.name}-of-{span.name}" if span.name else pick.name,
        span.kind,
        tuple(called.format(inside) for called, inside in zip(pick.called, insides, strict=True)),
        apply,
        partial=span.partial or pick.name != "each-word",
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

    return Scope(entity, "scene", _ENTITY_CALLED[entity], apply, partial=True)


PLACES: Mapping[str, Place] = {
    place.name: place
    for place in (
        *(_place(pick, span) for pick in _PICKS for span in SPANS.values()),
        *(_entity_place(entity) for entity in _ENTITY_CALLED),
    )
}
"""Named by word and span: `first-word`, `last-word-of-each-line`, `city`."""
