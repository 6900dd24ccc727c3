"""Law 7: what a row, mode, split, check or metric is called is written in one place."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

import pytest

from dnd_engine import wording
from dnd_engine.checks.results import CONTROLS
from dnd_engine.measure.results import Row
from dnd_engine.scoring.scores import MODES, ROWS
from dnd_engine.tasks.folder import HOLDOUTS, SPLITS

ROOT = Path(__file__).parents[1]
HOME = ROOT / "dnd_engine" / "wording.py"
SOURCES = [p for top in ("dnd_engine", "ui") for p in (ROOT / top).rglob("*.py") if p != HOME]

TABLES: Mapping[str, Mapping[str, str]] = {
    name: table
    for name, table in vars(wording).items()
    if name.isupper() and isinstance(table, dict)
}


@pytest.mark.parametrize(
    ("table", "known"),
    [
        ({**wording.ROWS, **wording.MEASURED_ROWS}, {*ROWS, *get_args(Row)}),
        # `plain` is full prompts of rows without an instruction, in measurements alone.
        (wording.MODES, {*MODES, "plain"}),
        (wording.MODE_NOTES, set(MODES)),
        (wording.HOLDOUTS, {"", "seen", *HOLDOUTS}),
        (wording.SECTIONS, {"refine", "written", *SPLITS}),
        (wording.CONTROLS, set(CONTROLS)),
    ],
)
def test_everything_that_has_a_name_has_it_there(table: Mapping[str, str], known: set[str]) -> None:
    assert set(table) == known
    assert len(set(table.values())) == len(table), "two things of one name"


def words(node: ast.AST) -> str | None:
    """A string, or one that is marked for translation."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("_", "N_", "noted") and node.args:
        node = node.args[0]
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def is_label(words: str) -> bool:
    return len(words.split()) <= 6 and words[:1].isupper()


def renamed(source: str) -> Iterator[str]:
    """Tables of names: most keys are ids of one table, two at least, with words of their own."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Dict):
            continue
        given = {
            key: value
            for at, value in zip(node.keys, map(words, node.values), strict=True)
            if at is not None and (key := words(at)) is not None and value is not None
        }
        for name, table in TABLES.items():
            # Labels are short and begin like one; codes and sentences are no names.
            names = [k for k in given if k in table and is_label(given[k])]
            if 2 * len(names) > max(len(given), 3):
                yield f"line {node.lineno} names {', '.join(names)} of {name}"


def test_no_other_table_names_them_again() -> None:
    assert len(SOURCES) > 150
    found = {path: [*renamed(path.read_text(encoding="utf-8"))] for path in SOURCES}
    assert {path.name: places for path, places in found.items() if places} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('T = {"base": "Base model", "few_shot": "Some examples"}', True),
        ('T = {"bare": N_("Inputs alone"), "full": noted("All")}', True),
        ('T = {"base": "base", "few_shot": "other"}', False),
        ('T = {"base": "Base model"}', False),
    ],
)
def test_a_second_table_would_be_found(source: str, found: bool) -> None:
    assert bool([*renamed(source)]) == found
