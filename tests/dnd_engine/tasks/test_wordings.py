"""Further wordings of instructions: what is drawn, what stays, and bad files."""

import json
from pathlib import Path

import pytest

from dnd_engine.errors import TaskError
from dnd_engine.tasks.folder import Example, Task
from dnd_engine.tasks.wordings import instruction_digest, read_wordings, reworded
from tests.task_info import task_info

INFO = task_info("plural")
OWN, OTHERS = "Write the plural.", ("Plural:", "What is the plural?\n- one word")
WORDINGS = {("plural", instruction_digest(OWN)): OTHERS}
TASK = Task(
    INFO,
    tuple(Example(f"{OWN}\n\nword {n}", f"words {n}") for n in range(60)),
    (Example(f"{OWN}\n\nword 99", "words 99"),),
)


def write(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def test_each_wording_is_drawn_and_inputs_and_answers_stay() -> None:
    made = reworded(TASK, WORDINGS, seed=0)

    asked = [tuple(e.prompt.split("\n\n")) for e in made.train]
    assert {instruction for instruction, _ in asked} == {OWN, *OTHERS}
    assert [text for _, text in asked] == [e.bare for e in TASK.train]
    assert [e.response for e in made.train] == [e.response for e in TASK.train]
    assert made.test == TASK.test
    assert made == reworded(TASK, WORDINGS, seed=0) != reworded(TASK, WORDINGS, seed=1)


def test_other_tasks_and_instructions_stay() -> None:
    assert reworded(TASK, {("other", instruction_digest(OWN)): OTHERS}, seed=0) == TASK
    assert reworded(TASK, {("plural", instruction_digest("Another.")): OTHERS}, seed=0) == TASK


def test_reads_what_it_was_given(tmp_path: Path) -> None:
    row = {"slug": "plural", "instruction_sha256": "ab", "wordings": list(OTHERS)}
    assert read_wordings(write(tmp_path / "w.jsonl", row)) == {("plural", "ab"): list(OTHERS)}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"slug": "plural", "instruction_sha256": "ab"}, "expected a JSON object with `slug`"),
        ([1], "expected a JSON object"),
        ({"slug": 1, "instruction_sha256": "ab", "wordings": []}, "must be text"),
        ({"slug": "a", "instruction_sha256": "ab", "wordings": "x"}, "`wordings` must be a list"),
        ({"slug": "a", "instruction_sha256": "ab", "wordings": [3]}, "without a blank line, got 3"),
        ({"slug": "a", "instruction_sha256": "ab", "wordings": ["x\n\ny"]}, "without a blank line"),
        ({"slug": "a", "instruction_sha256": "ab", "wordings": [" "]}, "without a blank line"),
        ({"slug": "a", "instruction_sha256": "b", "wordings": ["\ud800"]}, "half a character"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, row: object, words: str) -> None:
    good = {"slug": "plural", "instruction_sha256": "ab", "wordings": []}
    with pytest.raises(TaskError, match="line 2") as caught:
        read_wordings(write(tmp_path / "w.jsonl", good, row))
    assert words in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"no\.jsonl` cannot be read"):
        read_wordings(tmp_path / "no.jsonl")
