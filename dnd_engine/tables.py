"""Tables as text and Markdown, and cells of CSV tables that people open in a spreadsheet."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

# Spreadsheets ignore blanks before a formula, and may split a cell at tabs and line ends.
_BEGINS_FORMULA = re.compile(r"\s*[=+\-@]|[\t\r\n]")
# A signed number begins like a formula, but must stay a number.
_NUMBER = re.compile(r"[+-]?[\d.,]+(?:[eE][+-]?\d+)?%?")


def cell(value: Any) -> Any:
    """Return a value that no spreadsheet treats as a formula; an apostrophe marks it as text.

    Prompts and answers are untrusted, and a formula may start a program on the reader's computer.
    """
    if not isinstance(value, str) or not _BEGINS_FORMULA.match(value) or _NUMBER.fullmatch(value):
        return value
    return f"'{value}"


def markdown_table(head: str, rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table.

    Args:
        head: Names of the columns, as in `row | score:`; those that end in a colon, which is not
            shown, hold numbers.
        rows: Cells, escaped as they need it.
    """
    columns = head.split(" | ")
    return [
        f"| {' | '.join(name.removesuffix(':') for name in columns)} |",
        f"| {' | '.join('---:' if name.endswith(':') else '---' for name in columns)} |",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def aligned(rows: Sequence[Sequence[str]], sides: str, between: str = "  ") -> list[str]:
    """Align rows as lines of text; `sides` has `<` (left) or `>` (right) for each column."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        between.join(
            f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
