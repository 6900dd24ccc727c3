"""Operations by how their answers come from an item's facts: a fact, a label, a filled template."""

from collections.abc import Callable, Mapping, Sequence

from dnd_engine.tasks.families.labels import class_phrases, label_phrases
from dnd_engine.tasks.families.operation import Operation
from dnd_engine.tasks.families.wording import Phrases

__all__ = ["classes", "fact", "filled", "from_facts", "two_labels"]

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
        kind: Of the input.
        phrases: See `wording`.
        answer: Facts of an item to its answer; None where it has none.
        options: All answers, of a choice task.
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
    """The answer is a template with facts in its slots."""
    return template.format_map


def two_labels(
    family: str,
    category: str,
    kind: str,
    conditions: Sequence[str],
    holds: tuple[str, str],
    labels: tuple[str, str],
    *,
    held_out: bool = False,
) -> Operation:
    """One of two labels, by whether a fact has a value; named by family, value and labels.

    Args:
        family: See `from_facts`, as the three that follow it.
        category: As in `tasks.csv`.
        kind: Of the input.
        conditions: Wordings of when the first label is right.
        holds: A fact and the value for which the first label is right.
        labels: For that value, and for all others.
        held_out: Whether the family is.
    """
    (name, value), (yes, no) = holds, labels
    return from_facts(
        f"{family}-{value}-{yes}-{no}",
        family,
        category,
        kind,
        label_phrases(conditions, yes, no),
        lambda facts: yes if facts[name] == value else no,
        options=labels,
        held_out=held_out,
    )


def classes(
    name: str,
    family: str,
    category: str,
    kind: str,
    called: str,
    values: Sequence[str],
    labels: tuple[str, ...],
    *,
    fact_name: str,
    held_out: bool = False,
) -> Operation:
    """One label for each value of a fact.

    Args:
        name: See `from_facts`, as the three that follow it.
        family: Held out as a whole or not at all.
        category: As in `tasks.csv`.
        kind: Of the input.
        called: What instructions call the fact.
        values: Of the fact.
        labels: One for each value.
        fact_name: The fact.
        held_out: Whether the family is.
    """
    meanings = dict(zip(values, labels, strict=True))
    return from_facts(
        name,
        family,
        category,
        kind,
        class_phrases(called, meanings),
        lambda facts: meanings[facts[fact_name]],
        options=labels,
        held_out=held_out,
    )
