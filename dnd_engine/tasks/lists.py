"""Phrases and sentences as plain text, so that the code beside them holds only what they mean."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent / "data"


@cache
def read_lists(name: str) -> Mapping[str, tuple[str, ...]]:
    """Read `data/<name>.txt`: headings at the margin, each with its entries indented below it."""
    lists: dict[str, list[str]] = {}
    entries: list[str] = []
    for line in (_FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            entries.append(line.strip())
        elif line:
            # Two names of one list: the indented lines below the heading fill it.
            entries = lists[line] = []
    return {heading: tuple(entries) for heading, entries in lists.items()}
