"""The operations on texts with facts, which `tasks/data/answers.txt` lists.

A heading of several words begins with the input kind, the category and the family; the words after
these say what is below it:

- `NAME`: the template of the answer, the labels if it is one of few, and the phrases;
- `in FRAME`: operations that share phrases, each with its name, the template of its answer, and
  what fills the slots of the phrases; these are listed above it, under the frame's name alone;
- `if FACT VALUE`: wordings of a condition, and pairs of labels: for that value, and for others;
- `by FACT VALUE ...`: what instructions call the fact, and sets of labels for its values.

Else, parts of one line are separated by ` / `.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from dnd_engine.tasks.families.inputs import Item
from dnd_engine.tasks.families.operation import Operation
from dnd_engine.tasks.families.wording import Phrases, class_phrases, label_phrases, phrases
from dnd_engine.tasks.lists import read_lists

_HELD_OUT = ("message-hurry", "parse", "question", "clause-duty", "advert-facts")
"""Families that are held out as a whole."""
_SEPARATOR = " / "

Answer = Callable[[Item], str | None]


def operations() -> Iterator[Operation]:
    """All of them, in the order of the list."""
    frames: dict[str, tuple[str, ...]] = {}
    for heading, lines in read_lists("answers").items():
        kind, *words = heading.split()
        if not words:
            frames[kind] = lines
            continue
        category, family, *how = words
        for name, ways, answer, options in _listed(family, how, lines, frames):
            yield Operation(
                name=f"op-{name}".lower(),
                family=family,
                category=category,
                kind=kind,
                phrases=ways,
                answer=answer,
                holdout="family" if family in _HELD_OUT else "",
                options=options,
            )


def _listed(
    family: str, how: Sequence[str], lines: Sequence[str], frames: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, Phrases, Answer, tuple[str, ...]]]:
    """Name, phrases, answer and options of the operations under one heading."""
    said = [line for line in lines if _SEPARATOR not in line]
    rows = [tuple(line.split(_SEPARATOR)) for line in lines if _SEPARATOR in line]
    match how:
        case [name]:
            template, *ways = said
            yield name, phrases(*ways), _filled(template), rows[0] if rows else ()
        case ["in", frame]:
            for name, template, *slots in rows:
                ways = [way.format(*slots) for way in frames[frame]]
                yield name, phrases(*ways), _filled(template), ()
        case ["if", fact, value]:
            *conditions, pairs = lines
            for yes, no in (pair.split("/") for pair in pairs.split()):
                answer = _renamed(fact, {value: yes}, no)
                name = f"{family}-{value}-{yes}-{no}"
                yield name, label_phrases(conditions, yes, no), answer, (yes, no)
        case ["by", fact, *values]:
            for labels in rows:
                names = dict(zip(values, labels, strict=True))
                name = f"{family}-as-{labels[0].replace(' ', '-')}"
                yield name, class_phrases(said[0], names), _renamed(fact, names), labels


def _filled(template: str) -> Answer:
    """A template with facts in its slots; None where it stays empty."""
    return lambda item: template.format_map(item.facts) or None


def _renamed(fact: str, names: Mapping[str, str], other: str | None = None) -> Answer:
    """The label of a fact's value."""
    return lambda item: names.get(item.facts[fact], other)
