"""Primitives that answer with one of two labels.

Every condition comes with several pairs of labels, so that no label name means the same throughout.
"""

import re
from collections.abc import Callable
from dataclasses import replace

from dnd_engine.tasks.families.operation import Primitives, Variant, on_text
from dnd_engine.tasks.families.scopes import find_entity, find_numbers

_LONG = 5
"""More words than this make a plain text long; plain texts have four to eight."""
_MANY = 10


def _judge(
    name: str,
    kind: str,
    conditions: tuple[str, str],
    test: Callable[[str], bool | None],
    labels: str,
) -> tuple[Variant, ...]:
    """An operation for each pair of labels; the second condition is for the test side."""
    seen, tested = conditions

    def variant(yes: str, no: str) -> Variant:
        def function(text: str) -> str | None:
            holds = test(text)
            return None if holds is None else yes if holds else no

        slots = {"yes": yes, "no": no, "when": seen, "test": tested}
        full = f"judge-{name}-{yes}-{no}".lower()
        return replace(on_text(kind, full, function, "one-of-two", **slots), options=(yes, no))

    return tuple(variant(*pair.split("/")) for pair in labels.split())


def _is_long(text: str) -> bool | None:
    return None if "\n" in text else len(text.split()) > _LONG


def _has_number(text: str) -> bool:
    return re.search(r"\d", text) is not None


def _starts_small(text: str) -> bool | None:
    return text[0].islower() if text[:1].isalpha() else None


def _is_many(text: str) -> bool | None:
    numbers = find_numbers(text)
    return numbers[0] > _MANY if len(numbers) == 1 else None


def _city_first(text: str) -> bool | None:
    name, city = find_entity("name", text), find_entity("city", text)
    return None if name is None or city is None else text.index(city) < text.index(name)


PRIMITIVES: Primitives = {
    ("judge-length", "classification"): _judge(
        "length",
        "plain",
        ("the text has more than five words", "there are more than five words"),
        _is_long,
        "yes/no long/short red/green 1/0",
    ),
    ("judge-number", "classification"): _judge(
        "number",
        "plain",
        ("there is a number in digits", "the text holds a digit"),
        _has_number,
        "yes/no true/false keep/drop A/B",
    ),
    ("judge-case", "classification"): _judge(
        "case",
        "plain",
        ("the text starts with a small letter", "the first letter is lower case"),
        _starts_small,
        "yes/no good/bad left/right apple/anchor",
    ),
    ("judge-many", "classification"): _judge(
        "many",
        "scene",
        ("the number is larger than ten", "there are more than ten things"),
        _is_many,
        "yes/no many/few pass/fail sun/rain",
    ),
    ("judge-order", "classification"): _judge(
        "order",
        "scene",
        ("the city comes before the name", "the city is named before the person"),
        _city_first,
        "yes/no true/false on/off cat/dog",
    ),
}
