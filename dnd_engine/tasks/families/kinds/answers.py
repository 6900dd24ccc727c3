"""Operations by how their answers come from an item's facts: a fact, a label, a filled template."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import starmap
from types import MappingProxyType

from dnd_engine.tasks.families.labels import class_phrases, label_phrases
from dnd_engine.tasks.families.operation import Operation
from dnd_engine.tasks.families.wording import Phrases, phrases
from dnd_engine.tasks.lists import read_lists

Facts = Mapping[str, str]


def from_facts(
    name: str,
    family: str,
    category: str,
    kind: str,
    phrases: Phrases,
    answer: Callable[[Facts], str | None],
    *,
    options: tuple[str, ...] = (),
    held_out: bool = False,
) -> Operation:
    """An operation whose answers need what the maker of an item knows about it.

    Args:
        name: Without the leading `op-`.
        family: Held out as a whole or not at all.
        category: As in `tasks.csv`.
        kind: The kind of input.
        phrases: See `wording`.
        answer: Facts of an item to its answer; None where it has none.
        options: All answers of a choice task.
        held_out: Whether the family is.
    """
    return Operation(
        name=f"op-{name}".lower(),
        family=family,
        category=category,
        kind=kind,
        phrases=phrases,
        answer=lambda item: answer(item.facts),
        holdout="family" if held_out else "",
        options=options,
    )


def fact(name: str) -> Callable[[Facts], str | None]:
    """The answer is a fact; None where an item lacks it."""
    return lambda facts: facts.get(name)


def filled(template: str) -> Callable[[Facts], str | None]:
    """The answer is a template with facts in its slots; None where it stays empty."""
    return lambda facts: template.format_map(facts) or None


def listed(
    kind: str,
    *,
    held_out: Sequence[str] = (),
    options: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> Iterator[Operation]:
    """The operations on a kind of input that `tasks/data/answers.txt` lists.

    A heading is the kind, the category, the family and the name; below it stand the template of the
    answer and the phrases.

    Args:
        kind: The kind of input.
        held_out: Families that are held out.
        options: All answers of choice tasks, by name.
    """
    for heading, (template, *ways) in read_lists("answers").items():
        its_kind, category, family, name = heading.split()
        if its_kind == kind:
            yield from_facts(
                name,
                family,
                category,
                kind,
                phrases(*ways),
                filled(template),
                options=options.get(name, ()),
                held_out=family in held_out,
            )


def two_labels(
    family: str,
    category: str,
    kind: str,
    conditions: Sequence[str],
    holds: tuple[str, str],
    *pairs: tuple[str, str],
    held_out: bool = False,
) -> Iterator[Operation]:
    """One of two labels, by whether a fact has a value; an operation for each pair of labels.

    Args:
        family: Held out as a whole or not at all.
        category: As in `tasks.csv`.
        kind: The kind of input.
        conditions: Wordings of when the first label is right.
        holds: A fact and the value for which the first label is right.
        pairs: The label for that value, and the one for all others.
        held_out: Whether the family is.
    """
    name, value = holds

    # A function for each pair: a lambda made in a loop would see the labels of the last one.
    def one(yes: str, no: str) -> Operation:
        return from_facts(
            f"{family}-{value}-{yes}-{no}",
            family,
            category,
            kind,
            label_phrases(conditions, yes, no),
            lambda facts: yes if facts[name] == value else no,
            options=(yes, no),
            held_out=held_out,
        )

    return starmap(one, pairs)


def classes(
    family: str,
    category: str,
    kind: str,
    called: str,
    classified: tuple[str, Sequence[str]],
    *label_sets: tuple[str, ...],
    held_out: bool = False,
) -> Iterator[Operation]:
    """One label for each value of a fact; an operation for each set of labels.

    Args:
        family: Held out as a whole or not at all.
        category: As in `tasks.csv`.
        kind: The kind of input.
        called: What instructions call the fact.
        classified: The fact and its values.
        label_sets: Labels in the order of the values.
        held_out: Whether the family is.
    """
    name, values = classified

    def one(labels: tuple[str, ...]) -> Operation:
        meanings = dict(zip(values, labels, strict=True))
        return from_facts(
            f"{family}-as-{labels[0].replace(' ', '-')}",
            family,
            category,
            kind,
            class_phrases(called, meanings),
            lambda facts: meanings[facts[name]],
            options=labels,
            held_out=held_out,
        )

    return map(one, label_sets)
