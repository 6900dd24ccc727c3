"""Primitives on numbers in a sentence."""

import re
from collections.abc import Callable

from dnd_engine.tasks.families.operation import OnText, Primitive, TextFunction
from dnd_engine.tasks.families.words import NUMBERS

__all__ = ["PRIMITIVES"]

_DIGITS = re.compile(r"\b\d+\b")
_SPELLED = re.compile(rf"\b(?:{'|'.join(NUMBERS)})\b")


def _each(change: Callable[[int], str | None]) -> TextFunction:
    """Every number changed in its place."""

    def function(text: str) -> str | None:
        new = [change(int(n)) for n in _DIGITS.findall(text)]
        if not new or any(n is None for n in new):
            return None
        left = iter(new)
        return _DIGITS.sub(lambda _: next(left) or "", text)

    return function


def _at(index: int, change: Callable[[int], str | None]) -> TextFunction:
    """One of two numbers changed in its place."""

    def function(text: str) -> str | None:
        found = list(_DIGITS.finditer(text))
        if len(found) != 2:
            return None
        start, end = found[index].span()
        new = change(int(text[start:end]))
        return None if new is None else f"{text[:start]}{new}{text[end:]}"

    return function


def _of_two(change: Callable[[int, int], str | None]) -> TextFunction:
    """An answer that depends on the two numbers of a text."""

    def function(text: str) -> str | None:
        found = [int(n) for n in _DIGITS.findall(text)]
        return change(*found) if len(found) == 2 else None

    return function


def _spelled(number: int) -> str | None:
    return NUMBERS[number] if number < len(NUMBERS) else None


def _unspelled(text: str) -> str | None:
    changed = _SPELLED.sub(lambda m: str(NUMBERS.index(m[0])), text)
    return changed if changed != text else None


def _number(name: str, function: TextFunction, *phrases: str) -> OnText:
    return OnText(name=name, kind="numbered", function=function, phrases=phrases)


PRIMITIVES = (
    Primitive(
        name="spell-number",
        category="format",
        variants=(
            _number(
                "spell-each",
                _each(_spelled),
                "write the numbers as words",
                "spell out all numbers",
                "replace the digits by number words",
                "turn every number into a word",
                "give the numbers in letters, in the same sentence",
            ),
            _number(
                "spell-first",
                _at(0, _spelled),
                "write the first number as a word and keep the second in digits",
                "spell out only the first number",
                "replace the first number by a number word; keep the other",
                "give just the first of the numbers in letters, in the same sentence",
            ),
            _number(
                "spell-last",
                _at(1, _spelled),
                "write the second number as a word and keep the first in digits",
                "spell out only the second number",
                "replace the second number by a number word; keep the other",
                "give just the second of the numbers in letters, in the same sentence",
            ),
            _number(
                "spell-digits",
                _unspelled,
                "write the number words in digits",
                "replace all number words by digits",
                "turn every spelled number into digits",
                "give the numbers as figures, in the same sentence",
            ),
        ),
    ),
    Primitive(
        name="change-number",
        category="math",
        variants=tuple(
            _number(f"number-{name}", function, *phrases)
            for name, function, phrases in (
                (
                    "plus-one",
                    _each(lambda n: str(n + 1)),
                    (
                        "add one to each number",
                        "raise every number by one",
                        "make both numbers one larger",
                        "let each number grow by one",
                    ),
                ),
                (
                    "minus-one",
                    _each(lambda n: str(n - 1)),
                    (
                        "subtract one from each number",
                        "lower every number by one",
                        "make both numbers one smaller",
                        "let each number shrink by one",
                    ),
                ),
                (
                    "plus-ten",
                    _each(lambda n: str(n + 10)),
                    (
                        "add ten to each number",
                        "raise every number by ten",
                        "make both numbers ten larger",
                        "let each number grow by ten",
                    ),
                ),
                (
                    "double",
                    _each(lambda n: str(2 * n)),
                    (
                        "double each number",
                        "multiply every number by two",
                        "make both numbers twice as large",
                        "let each number grow to its double",
                    ),
                ),
                (
                    "tenfold",
                    _each(lambda n: f"{n}0"),
                    (
                        "write a zero behind each number",
                        "multiply every number by ten",
                        "make both numbers ten times as large",
                        "let each number grow tenfold",
                    ),
                ),
                (
                    "first-plus-one",
                    _at(0, lambda n: str(n + 1)),
                    (
                        "add one to the first number and keep the second",
                        "raise only the first number by one",
                        "make the first number one larger, not the second",
                        "let just the first number grow by one",
                    ),
                ),
                (
                    "second-minus-one",
                    _at(1, lambda n: str(n - 1)),
                    (
                        "subtract one from the second number and keep the first",
                        "lower only the second number by one",
                        "make the second number one smaller, not the first",
                        "let just the second number shrink by one",
                    ),
                ),
            )
        ),
    ),
    Primitive(
        name="pick-number",
        category="extraction",
        variants=tuple(
            _number(f"number-{name}", _of_two(function), *phrases)
            for name, function, phrases in (
                (
                    "first",
                    lambda a, b: str(a),
                    (
                        "give the first number",
                        "which number comes first?",
                        "extract the first of the two numbers",
                        "write down the number that comes first",
                    ),
                ),
                (
                    "second",
                    lambda a, b: str(b),
                    (
                        "give the second number",
                        "which number comes second?",
                        "extract the second of the two numbers",
                        "write down the number that comes second",
                    ),
                ),
                (
                    "larger",
                    lambda a, b: str(max(a, b)),
                    (
                        "give the larger number",
                        "which number is larger?",
                        "extract the bigger of the two numbers",
                        "write down the higher number",
                    ),
                ),
                (
                    "smaller",
                    lambda a, b: str(min(a, b)),
                    (
                        "give the smaller number",
                        "which number is smaller?",
                        "extract the lesser of the two numbers",
                        "write down the lower number",
                    ),
                ),
                (
                    "both",
                    lambda a, b: f"{a}, {b}",
                    (
                        "list the numbers with a comma",
                        "give both numbers, separated by a comma",
                        "extract all numbers and put a comma between",
                        "write down the two numbers with a comma between them",
                    ),
                ),
                (
                    "greater-sign",
                    lambda a, b: f"{a} > {b}" if a > b else f"{a} < {b}",
                    (
                        "write the numbers in their order with < or > between them",
                        "compare the two numbers with the sign < or >",
                        "put the right one of < and > between the two numbers",
                        "show with < or > how the first number compares to the second",
                    ),
                ),
            )
        ),
    ),
    Primitive(
        name="sum",
        category="math",
        variants=(
            _number(
                "sum",
                _of_two(lambda a, b: str(a + b)),
                "give the sum of the two numbers",
                "what is the sum of the numbers?",
                "add the two numbers and write only the result",
                "work out what the two numbers are together",
            ),
            _number(
                "difference",
                _of_two(lambda a, b: str(abs(a - b))),
                "give the difference between the two numbers",
                "how far apart are the numbers?",
                "subtract the smaller number from the larger and write only the result",
                "work out by how much the two numbers differ",
            ),
        ),
    ),
)
