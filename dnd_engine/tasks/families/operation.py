"""Defines operations, and how a primitive and its scopes become operations."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from dnd_engine.tasks.families.inputs import Item
from dnd_engine.tasks.families.scopes import (
    PLACES,
    SPANS,
    TextFunction,
    WordsFunction,
)
from dnd_engine.tasks.families.wording import Phrases, Wordings, make_wordings

__all__ = [
    "Holdout",
    "OnText",
    "OnWord",
    "OnWords",
    "Operation",
    "Primitive",
    "TextFunction",
    "WordsFunction",
    "operations_of",
]

Holdout = Literal["", "primitive", "composition", "family"]
"""What is new about a held-out operation; empty for training operations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One task: a kind of input, the ways to ask, and the one right answer."""

    name: str
    """Also the task's slug."""
    family: str
    category: str
    kind: str
    phrases: Phrases
    answer: Callable[[Item], str | None]
    """None where the item does not suit the operation."""
    run: TextFunction | None = None
    """The same for any text; None where answers need facts that the text does not spell out."""
    holdout: Holdout = ""
    options: tuple[str, ...] = ()
    """All possible answers, where they are few and fixed: a choice task."""
    tails: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    """Names of the operations that a composition runs one after the other."""

    @property
    def wordings(self) -> Wordings:
        """The instructions of each side."""
        return make_wordings(self.name, self.phrases, self.tails)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnWords:
    """A function of a run of words, in several spans."""

    name: str
    function: WordsFunction
    phrases: tuple[str, ...]
    """With a slot `{inside}` behind `words`; the last one is for the test side."""
    spans: tuple[str, ...] = ("",)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnWord:
    """A function of one word, in several places."""

    name: str
    function: TextFunction
    phrases: tuple[str, ...]
    """With a slot `{word}`; the last one is for the test side."""
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnText:
    """A function of a whole text of one kind."""

    name: str
    kind: str
    function: TextFunction
    phrases: tuple[str, ...]
    """The last one is for the test side."""
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Primitive:
    """One idea, in variants; all its operations are one family.

    To add one, write its functions and phrases beside its like in `primitives/` and list it there.
    """

    name: str
    category: str
    variants: tuple[OnWords | OnWord | OnText, ...]
    held_out: bool = False
    """Never part of anything trained."""


def operations_of(primitive: Primitive) -> Iterator[Operation]:
    """Every variant of a primitive in every scope that it lists."""
    for variant in primitive.variants:
        match variant:
            case OnWords():
                yield from _on_words(primitive, variant)
            case OnWord():
                yield from _on_word(primitive, variant)
            case OnText():
                phrases = tuple((phrase,) for phrase in variant.phrases)
                yield _operation(
                    primitive,
                    variant.name,
                    variant.kind,
                    phrases,
                    variant.function,
                    options=variant.options,
                )


def _on_words(primitive: Primitive, variant: OnWords) -> Iterator[Operation]:
    for name in variant.spans:
        span = SPANS[name]

        def run(text: str, apply: Callable[..., str | None] = span.apply) -> str | None:
            return apply(text, variant.function)

        *seen, last = variant.phrases
        yield _operation(
            primitive,
            f"{variant.name}-{name}" if name else variant.name,
            span.kind,
            (
                *(tuple(p.format(inside=i) for i in span.inside[:-1]) for p in seen),
                (last.format(inside=span.inside[-1]),),
            ),
            run,
            tails=span.tails,
        )


def _on_word(primitive: Primitive, variant: OnWord) -> Iterator[Operation]:
    for name in variant.places:
        place = PLACES[name]

        def run(text: str, apply: Callable[..., str | None] = place.apply) -> str | None:
            return apply(text, variant.function)

        *seen, last = variant.phrases
        yield _operation(
            primitive,
            f"{variant.name}-{name}",
            place.kind,
            (
                *(tuple(p.format(word=c) for c in place.called[:-1]) for p in seen),
                (last.format(word=place.called[-1]),),
            ),
            run,
            tails=place.tails,
        )


def _operation(
    primitive: Primitive,
    name: str,
    kind: str,
    phrases: Phrases,
    run: TextFunction,
    *,
    tails: tuple[str, ...] = (),
    options: tuple[str, ...] = (),
) -> Operation:
    return Operation(
        name=f"op-{name}",
        family=primitive.name,
        category=primitive.category,
        kind=kind,
        phrases=phrases,
        answer=lambda item: run(item.text),
        run=run,
        holdout="primitive" if primitive.held_out else "",
        options=options,
        tails=tails,
    )
