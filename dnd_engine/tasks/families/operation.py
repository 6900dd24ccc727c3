"""Defines operations, and how a primitive and its scopes become operations."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from dnd_engine.tasks.families.inputs import Item
from dnd_engine.tasks.families.scopes import PLACES, SPANS, Scope, TextFunction, WordsFunction
from dnd_engine.tasks.families.wording import Phrases, Wordings, make_wordings
from dnd_engine.tasks.lists import read_lists

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

T = TypeVar("T")
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
    phrases: tuple[str, ...] = ()
    """With a slot `{inside}` behind `words`; the last one is for the test side. Empty means those
    of `tasks/data/phrases.txt`."""
    spans: tuple[str, ...] = ("",)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnWord:
    """A function of one word, in several places."""

    name: str
    function: TextFunction
    phrases: tuple[str, ...] = ()
    """As those of `OnWords`, with a slot `{word}`."""
    places: str
    """Their names, with spaces between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnText:
    """A function of a whole text of one kind."""

    name: str
    kind: str
    function: TextFunction
    phrases: tuple[str, ...] = ()
    """As those of `OnWords`, without a slot."""
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Primitive:
    """One idea, in variants; all its operations are one family.

    To add one, write its functions beside its like in `primitives/`, list it there, and write its
    phrases in `tasks/data/phrases.txt`.
    """

    name: str
    category: str
    variants: tuple[OnWords | OnWord | OnText, ...]
    held_out: bool = False
    """Never part of anything trained."""


def operations_of(primitive: Primitive) -> Iterator[Operation]:
    """Every variant of a primitive in every scope that it lists."""
    for variant in primitive.variants:
        phrases = variant.phrases or read_lists("phrases")[variant.name]
        match variant:
            case OnWords():
                for name in variant.spans:
                    full_name = f"{variant.name}-{name}" if name else variant.name
                    said = _said(phrases, "inside", SPANS[name].called)
                    yield _in_scope(primitive, full_name, said, SPANS[name], variant.function)
            case OnWord():
                for name in variant.places.split():
                    full_name = f"{variant.name}-{name}"
                    said = _said(phrases, "word", PLACES[name].called)
                    yield _in_scope(primitive, full_name, said, PLACES[name], variant.function)
            case OnText():
                yield _operation(
                    primitive,
                    variant.name,
                    variant.kind,
                    tuple((phrase,) for phrase in phrases),
                    variant.function,
                    options=variant.options,
                )


def _said(phrases: Sequence[str], slot: str, called: Sequence[str]) -> Phrases:
    """Each phrase with each name of a scope in its slot; the last of both are for the test side."""
    return (
        *(tuple(phrase.format(**{slot: name}) for name in called[:-1]) for phrase in phrases[:-1]),
        (phrases[-1].format(**{slot: called[-1]}),),
    )


def _in_scope(
    primitive: Primitive,
    name: str,
    phrases: Phrases,
    scope: Scope[T],
    function: Callable[[T], str | None],
) -> Operation:
    def run(text: str) -> str | None:
        return scope.apply(text, function)

    return _operation(primitive, name, scope.kind, phrases, run, tails=scope.tails)


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
