"""Defines operations, and how a primitive and its scopes become operations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dnd_engine.tasks.families.inputs import Item
from dnd_engine.tasks.families.scopes import (
    PLACES,
    SPANS,
    TEXTS,
    Scope,
    TextFunction,
    WordsFunction,
)
from dnd_engine.tasks.families.wording import Phrases, Wordings, make_wordings
from dnd_engine.tasks.lists import read_lists

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


@dataclass(frozen=True, slots=True)
class Variant:
    """A function of a primitive, in several scopes; make it by `on_words` and its like."""

    name: str
    function: Callable[[Any], str | None]
    scopes: Sequence[Scope[Any]]
    said: str
    """Heading of its phrases in `tasks/data/phrases.txt`; the last one is for the test side. A
    scope fills their slot `{inside}`, behind `words`, or `{word}`."""
    slots: Mapping[str, str]
    """What fills the other slots."""
    options: tuple[str, ...] = ()


Primitives = Mapping[tuple[str, str], Sequence[Variant]]
"""The variants of primitives, by name and category. To add a primitive, write its functions beside
its like in `primitives/`, list it there, and write its phrases in `tasks/data/phrases.txt`."""


def on_words(
    name: str, function: WordsFunction, spans: str = "whole", said: str = "", **slots: str
) -> Variant:
    """A function of a run of words; `spans` are names, with spaces between them."""
    scopes = [SPANS[span] for span in spans.split()]
    return Variant(name, function, scopes, said or name, slots)


def on_word(
    name: str, function: TextFunction, places: str, said: str = "", **slots: str
) -> Variant:
    """A function of one word; `places` are names, with spaces between them."""
    scopes = [PLACES[place] for place in places.split()]
    return Variant(name, function, scopes, said or name, slots)


def on_text(kind: str, name: str, function: TextFunction, said: str = "", **slots: str) -> Variant:
    """A function of a whole text of one kind."""
    return Variant(name, function, [TEXTS[kind]], said or name, slots)


def in_scope(
    variant: Variant, scope: Scope[Any], family: str, category: str, *, held_out: bool
) -> Operation:
    """A variant of a primitive in one of its scopes."""

    def run(text: str) -> str | None:
        return scope.apply(text, variant.function)

    def filled(phrase: str, called: str) -> str:
        return phrase.format(inside=called, word=called, **variant.slots)

    # The last phrase and the last name are for the test side.
    *seen, last = read_lists("phrases")[variant.said]
    *names, tested = scope.called
    return Operation(
        name=f"op-{variant.name}-{scope.name}".removesuffix("-"),
        family=family,
        category=category,
        kind=scope.kind,
        phrases=(
            *(tuple(filled(phrase, name) for name in names) for phrase in seen),
            (filled(last, tested),),
        ),
        answer=lambda item: run(item.text),
        run=run,
        holdout="primitive" if held_out else "",
        options=variant.options,
        tails=scope.tails,
    )
