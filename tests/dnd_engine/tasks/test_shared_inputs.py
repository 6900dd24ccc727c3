"""Shared inputs: one text, several tasks, different answers."""

import random
from dataclasses import replace

import pytest

from dnd_engine.tasks.folder import Example, Task, held_back
from dnd_engine.tasks.formats import ANSWER_FORMATS, formatted
from dnd_engine.tasks.shared_inputs import SharedInputs
from tests.task_info import task_info

TEXTS = [f"{a} {b} {c}" for a in ("red", "blue") for b in ("cat", "dog", "owl") for c in "xyz"]


def task(slug: str, answers: dict[str, str], operation: str = "") -> Task:
    examples = tuple(Example(f"Do {slug}.\n\n{t}", a) for t, a in answers.items())
    return Task(task_info(slug, operation=operation), examples, ())


FIRST = task("op-first-1", {t: t.split()[0] for t in TEXTS[:10]}, "op-first-1")
LAST = task("op-last-1", {t: t.split()[-1] for t in TEXTS[9:]}, "op-last-1")
LENGTH = task("length", {t: str(len(t)) for t in TEXTS})
STRANGER = task("stranger", {"what else": "x"})


def shared(*tasks: Task, held: int = 0) -> SharedInputs:
    splits = [held_back(t, held)[0] if held else t.train for t in tasks]
    return SharedInputs(dict(enumerate(zip(tasks, splits, strict=True))))


def rows_of(draws: SharedInputs, tasks: int, inputs: int, seed: int) -> dict[int, list[Example]]:
    return draws.draw(tasks, inputs, random.Random(seed))


def anchored(draws: SharedInputs, anchor: int, tasks: int, inputs: int) -> dict[int, list[Example]]:
    """The first draw that begins with the anchor."""
    found = (rows_of(draws, tasks, inputs, seed) for seed in range(50))
    return next(rows for rows in found if next(iter(rows)) == anchor)


def test_a_procedural_task_answers_inputs_of_its_kind_that_are_not_its_own() -> None:
    """In its own words; tasks are of a kind if they have any input in common."""
    rows = anchored(shared(FIRST, LAST), 0, 2, 4)
    assert list(rows) == [0, 1]
    made = 0
    for first, last in zip(rows[0], rows[1], strict=True):
        assert first in FIRST.train
        assert last.bare == first.bare
        assert last.bare is not None
        assert last.response == last.bare.split()[-1]
        assert last.prompt.startswith("Do op-last-1.\n\n")
        made += last not in LAST.train
    assert made >= 3


def test_other_tasks_share_only_what_stands_in_both() -> None:
    """Too little in common: the anchor stays alone."""
    plain = task("last", {t: t.split()[-1] for t in TEXTS[9:]})
    draws = shared(FIRST, plain)
    assert draws.anchors == [0, 1]
    assert list(anchored(draws, 0, 2, 8)) == [0]
    rows = anchored(shared(FIRST, LENGTH), 1, 2, 8)
    assert len(rows) == 2
    assert all(one in LENGTH.train for one in rows[1])


def test_a_task_that_shares_nothing_is_no_anchor() -> None:
    assert shared(LENGTH, STRANGER).anchors == []
    assert rows_of(shared(LENGTH, STRANGER), 2, 4, 0) == {}
    assert shared(LENGTH, STRANGER, FIRST).anchors == [0, 2]
    name = next(n for n, f in ANSWER_FORMATS.items() if not f.held_out)
    assert shared(LAST, formatted(LAST, name, 0)).anchors == [], "only itself in another format"


def test_no_example_is_made_of_an_input_that_the_task_is_validated_on() -> None:
    again = tuple(replace(e, prompt=f"Please {e.prompt}") for e in LAST.train[-3:])
    last = replace(LAST, train=again + LAST.train)  # asks for what it holds back in other words
    held = {e.bare for e in last.train[-3:]}
    draws = shared(LENGTH, last, held=3)
    seen = 0
    for seed in range(20):
        rows = rows_of(draws, 2, 10, seed)
        if next(iter(rows)) == 0 and 1 in rows:
            assert not {one.bare for one in rows[1]} & held
            seen += 1
    assert seen


def test_tasks_that_answer_alike_are_not_shown_together() -> None:
    """Nothing could tell them apart."""
    twin = task("twin", {t: t.split()[0] for t in TEXTS[:10]})
    draws = shared(FIRST, twin, LENGTH)
    for seed in range(20):
        rows = rows_of(draws, 3, 4, seed)
        assert len(rows) == 2
        assert 2 in rows


def test_formats_are_kept_and_come_after_other_tasks() -> None:
    name = next(n for n, f in ANSWER_FORMATS.items() if not f.held_out)
    wrapped = formatted(LAST, name, 0)
    draws = shared(FIRST, LAST, wrapped, LENGTH)
    made = 0
    for seed in range(20):
        rows = rows_of(draws, 3, 4, seed)
        assert len(rows) == 3
        assert not {1, 2} <= set(rows), "one of the two, while there are other tasks"
        for one in rows.get(2, ()):
            answer = ANSWER_FORMATS[name].unwrap(one.response)
            assert one.bare is not None
            assert answer == one.bare.split()[-1]
            made += one not in wrapped.train
    assert made > 0, "a task in a format never answered another task's inputs"
    assert set(rows_of(draws, 4, 4, 0)) == {0, 1, 2, 3}


@pytest.mark.parametrize("seed", [0, 1])
def test_a_draw_is_a_function_of_its_random_numbers(seed: int) -> None:
    one = rows_of(shared(FIRST, LAST, LENGTH), 3, 5, seed)
    assert one == rows_of(shared(FIRST, LAST, LENGTH), 3, 5, seed)
    assert one != rows_of(shared(FIRST, LAST, LENGTH), 3, 5, seed + 7)
