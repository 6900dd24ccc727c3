"""Defines operations, and how a primitive and its scopes become operations."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal, TypeVar

from dnd_engine.tasks.families.inputs import Item
from dnd_engine.tasks.families.scopes import PLACES, SPANS, Scope, TextFunction, WordsFunction
from dnd_engine.tasks.families.wording import Phrases, Wordings, make_wordings
from dnd_engine.tasks.lists import read_lists

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


@dataclass(frozen=True, slots=True)
class OnWords:
    """A function of a run of words, in several spans."""

    name: str
    function: WordsFunction
    _: KW_ONLY
    phrases: tuple[str, ...] = ()
    """With a slot `{inside}` behind `words`; the last one is for the test side. Empty means those
    of `tasks/data/phrases.txt`."""
    spans: tuple[str, ...] = ("",)


@dataclass(frozen=True, slots=True)
class OnWord:
    """A function of one word, in several places."""

    name: str
    function: TextFunction
    _: KW_ONLY
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


Variant = OnWords | OnWord | OnText
Primitives = Mapping[tuple[str, str], Sequence[Variant]]
"""The variants of primitives, by name and category. To add a primitive, write its functions beside
its like in `primitives/`, list it there, and write its phrases in `tasks/data/phrases.txt`."""


@dataclass(frozen=True, slots=True)
class Primitive:
    """One idea, in variants; all its operations are one family."""

    name: str
    category: str
    variants: Sequence[Variant]
    held_out: bool
    """Never part of anything trained."""


def operations_of(primitive: Primitive) -> Iterator[Operation]:
    """Every variant of a primitive in every scope that it lists."""
    for variant in primitive.variants:
        phrases = variant.phrases or read_lists("phrases")[variant.name]
        match variant:
            case OnWords(name, function):
                for span in variant.spans:
                    yield _in_scope(primitive, name, phrases, "inside", SPANS[span], function)
            case OnWord(name, function):
                for place in variant.places.split():
                    yield _in_scope(primitive, name, phrases, "word", PLACES[place], function)
            case OnText():
                yield _operation(
                    primitive,
                    variant.name,
                    variant.kind,
                    tuple((phrase,) for phrase in phrases),
                    variant.function,
                    options=variant.options,
                )


def _in_scope(
    primitive: Primitive,
    name: str,
    phrases: Sequence[str],
    slot: str,
    scope: Scope[T],
    function: Callable[[T], str | None],
) -> Operation:
    """Return a variant in one scope; the scope's names fill a slot of the phrases."""
    # The last phrase and the last name are for the test side.
    said = (
        *(tuple(p.format(**{slot: name}) for name in scope.called[:-1]) for p in phrases[:-1]),
        (phrases[-1].format(**{slot: scope.called[-1]}),),
    )

    def run(text: str) -> str | None:
        return scope.apply(text, function)

    name = f"{name}-{scope.name}" if scope.name else name
    return _operation(primitive, name, scope.kind, said, run, tails=scope.tails)


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
