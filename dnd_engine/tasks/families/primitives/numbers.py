"""Primitives on numbers in a sentence."""

import re
from collections.abc import Callable

from dnd_engine.tasks.families.operation import Primitives, Variant, on_text
from dnd_engine.tasks.families.scopes import DIGITS, TextFunction, find_numbers
from dnd_engine.tasks.families.words import NUMBERS, spelled

_SPELLED = re.compile(rf"\b(?:{'|'.join(NUMBERS)})\b")


def _each(change: Callable[[int], str | None]) -> TextFunction:
    """Every number changed in its place."""

    def function(text: str) -> str | None:
        new = list(map(change, find_numbers(text)))
        if not new or any(n is None for n in new):
            return None
        left = iter(new)
        # The `or` is for the type checker: None has been refused.
        return DIGITS.sub(lambda _: next(left) or "", text)

    return function


def _at(index: int, change: Callable[[int], str | None]) -> TextFunction:
    """One of two numbers changed in its place."""

    def function(text: str) -> str | None:
        numbers = find_numbers(text)
        if len(numbers) != 2:
            return None
        start, end = list(DIGITS.finditer(text))[index].span()
        new = change(numbers[index])
        return None if new is None else f"{text[:start]}{new}{text[end:]}"

    return function


def _of_two(change: Callable[[int, int], str | None]) -> TextFunction:
    """An answer that depends on the two numbers of a text."""

    def function(text: str) -> str | None:
        found = find_numbers(text)
        return change(*found) if len(found) == 2 else None

    return function


def _unspelled(text: str) -> str | None:
    changed = _SPELLED.sub(lambda m: str(NUMBERS.index(m[0])), text)
    return changed if changed != text else None


def _number(name: str, function: TextFunction, said: str = "", **slots: str) -> Variant:
    return on_text("numbered", name, function, said, **slots)


PRIMITIVES: Primitives = {
    ("spell-number", "format"): (
        _number("spell-each", _each(spelled)),
        _number("spell-first", _at(0, spelled), "spell-one", which="first", other="second"),
        _number("spell-last", _at(1, spelled), "spell-one", which="second", other="first"),
        _number("spell-digits", _unspelled),
    ),
    ("change-number", "math"): (
        _number("number-plus-one", _each(lambda n: str(n + 1)), "number-plus", number="one"),
        _number("number-minus-one", _each(lambda n: str(n - 1))),
        _number("number-plus-ten", _each(lambda n: str(n + 10)), "number-plus", number="ten"),
        _number("number-double", _each(lambda n: str(2 * n))),
        _number("number-tenfold", _each(lambda n: f"{n}0")),
        _number("number-first-plus-one", _at(0, lambda n: str(n + 1))),
        _number("number-second-minus-one", _at(1, lambda n: str(n - 1))),
    ),
    ("pick-number", "extraction"): (
        _number("number-first", _of_two(lambda a, b: str(a)), "number-pick", which="first"),
        _number("number-second", _of_two(lambda a, b: str(b)), "number-pick", which="second"),
        _number("number-larger", _of_two(lambda a, b: str(max(a, b)))),
        _number("number-smaller", _of_two(lambda a, b: str(min(a, b)))),
        _number("number-both", _of_two(lambda a, b: f"{a}, {b}")),
        _number(
            "number-greater-sign", _of_two(lambda a, b: f"{a} > {b}" if a > b else f"{a} < {b}")
        ),
    ),
    ("sum", "math"): (
        _number("sum", _of_two(lambda a, b: str(a + b))),
        _number("difference", _of_two(lambda a, b: str(abs(a - b)))),
    ),
}
