"""Task folders: read, audited for what makes scores meaningless, and made from datasets.

The defects found in the paper's released data are rebuilt here in miniature, each in the form it
was released in, and each must fail loudly.
"""

import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import chain, islice, product
from math import factorial, prod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from dnd_engine.cli import app
from dnd_engine.errors import AssetError, ConfigError, TaskError
from dnd_engine.tasks import audit, datasets
from dnd_engine.tasks.audit import Fault, audit_tasks
from dnd_engine.tasks.conditions import check_conditions, unscored
from dnd_engine.tasks.datasets import DatasetRecipe, fetch_tasks, make_task, read_dataset_recipes
from dnd_engine.tasks.folder import (
    Example,
    Task,
    held_back,
    load_tasks,
    read_index,
    write_tasks,
)
from tests.task_info import task_info

ROOT = Path(__file__).parents[3]
HEADER = "slug,family,category,metric,licence,description,split\n"


def examples(count: int, answers: str = "AB", first: int = 0, **fields: Any) -> list[Example]:
    """Inputs without meaning, and the answers in turn."""
    return [
        Example(f"Sort it.\n\nq{first + i}", answers[i % len(answers)], **fields)
        for i in range(count)
    ]


def task(
    test: Sequence[Example], train: Sequence[Example] | None = None, slug: str = "s", **fields: str
) -> Task:
    """A task with a sound train side, unless another is given."""
    sound = examples(20, first=1000, options=test[0].options)
    return Task(task_info(slug, **fields), tuple(train or sound), tuple(test))


def found(*tasks: Task, severity: str = "error") -> list[str]:
    return [f"{f.kind}: {f.words}" for f in audit_tasks(tasks) if f.severity == severity]


def dnd(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


# Folders


def letters(slug: str, **fields: str) -> Task:
    """A sound task: 30 train and 12 test items."""
    rows = examples(42, "abc")
    rows = [replace(e, prompt=e.prompt.replace("Sort it", f"Sort {slug}")) for e in rows]
    return Task(task_info(slug, **fields), tuple(rows[:30]), tuple(rows[30:]))


def test_a_folder_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    one = letters("one", family="f", operation="sort", split="heldout", holdout="composition")
    two = Task(
        task_info("two", metric="choice", licence='MIT, "or" so'),
        (Example("Say\n\nhé\u2028llo\r\n", "ja", ("ja", "nein")),),
        (Example("x", "nein", ("nein", "ja")),),
    )
    write_tasks(tmp_path / "new" / "tasks", (one, two))
    assert load_tasks(tmp_path / "new" / "tasks") == (one, two)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["tasks"]


WRITTEN = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@settings(max_examples=30)
@given(WRITTEN, st.lists(WRITTEN, max_size=3))
def test_any_text_survives_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, text: str, options: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("any") / "tasks"
    written = Task(task_info(), (Example(text, text, tuple(options)),), (Example(text, "x"),))
    write_tasks(folder, [written])
    assert load_tasks(folder) == (written,)


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_line_ends_of_a_description_survive_the_round_trip(tmp_path: Path, end: str) -> None:
    written = letters("one", description=f"a{end}b")
    write_tasks(tmp_path / "tasks", [written])
    assert load_tasks(tmp_path / "tasks") == (written,)


def test_nothing_is_written_over_or_half_written(tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks", [letters("one")])
    with pytest.raises(TaskError, match=r"tasks` is there already\. Choose another folder"):
        write_tasks(tmp_path / "tasks", [letters("two")])
    with pytest.raises(TaskError, match=r"task `\.\./x`: `slug` '\.\./x' is not a plain folder"):
        write_tasks(tmp_path / "other", [letters("../x")])
    with pytest.raises(TaskError, match="slug `one` is there twice"):
        write_tasks(tmp_path / "other", [letters("one"), letters("one")])
    with pytest.raises(TaskError, match=r"`metric` is 'luck'.*; slug `one` is there twice\."):
        write_tasks(tmp_path / "other", [letters("one"), letters("one", metric="luck")])
    assert [path.name for path in tmp_path.iterdir()] == ["tasks"]


def test_no_input_that_is_held_back_is_trained_on_in_other_words() -> None:
    """Those that remain keep their order; without a blank line, the prompt is the input."""
    texts = ("a\n\nx", "a\n\ny", "b\n\nx", "z", "c\n\nw", "z", "c\n\nx")
    task = Task(task_info(), tuple(Example(text, "r") for text in texts), ())
    trained, held = held_back(task, 2)
    assert [e.prompt for e in trained] == ["a\n\ny", "c\n\nw"]
    assert [e.prompt for e in held] == ["z", "c\n\nx"]


def test_several_folders_are_one_collection(tmp_path: Path) -> None:
    write_tasks(tmp_path / "a", [letters("one"), letters("two", split="heldout")])
    write_tasks(tmp_path / "b", [letters("three")])
    folders = [tmp_path / "b", tmp_path / "a"]
    assert [t.info.slug for t in load_tasks(folders)] == ["three", "one", "two"]
    assert [t.info.slug for t in load_tasks(folders, split="train")] == ["three", "one"]
    assert [t.info.slug for t in load_tasks(tmp_path / "b")] == ["three"]


def test_a_slug_in_two_folders_is_refused(tmp_path: Path) -> None:
    write_tasks(tmp_path / "a", [letters("one")])
    write_tasks(tmp_path / "b", [letters("one")])
    with pytest.raises(TaskError, match=r"`.*a`, `.*b`: slug `one` is there twice\."):
        load_tasks((tmp_path / "a", tmp_path / "b"))


def test_splits_and_licence_classes_filter(tmp_path: Path) -> None:
    tasks = [letters("one"), letters("two", split="heldout", holdout="family")]
    write_tasks(tmp_path / "t", [*tasks, letters("three", licence_class="nc-or-research")])

    def slugs(**filters: Any) -> list[str]:
        return [t.info.slug for t in load_tasks(tmp_path / "t", **filters)]

    assert slugs(split="heldout") == ["two"]
    assert slugs(split="train", without_licence_classes=("nc-or-research",)) == ["one"]
    with pytest.raises(TaskError, match=r"has no task with split 'heldout' that passes the filte"):
        slugs(split="heldout", without_licence_classes=("permissive",))


def test_what_is_held_out_is_the_family_unless_the_index_says_more(tmp_path: Path) -> None:
    rows = "a,f,c,exact,MIT,d,train\nb,g,c,exact,MIT,d,heldout\n"
    (tmp_path / "tasks.csv").write_text(HEADER + rows)
    assert [i.holdout for i in read_index(tmp_path)] == ["", "family"]
    wider = HEADER.replace("\n", ",holdout,operation\n")
    rows = "a,f,c,exact,MIT,d,train,,sort\nb,g,c,exact,MIT,d,heldout,primitive,\n"
    (tmp_path / "tasks.csv").write_text(wider + rows)
    index = read_index(tmp_path)
    assert [(i.holdout, i.operation) for i in index] == [("", "sort"), ("primitive", "")]
    assert [i.answer_format for i in index] == ["", ""]
    rows = "a,f,c,exact,MIT,d,train,family,\nb,g,c,exact,MIT,d,heldout,luck,\n"
    (tmp_path / "tasks.csv").write_text(wider + rows)
    with pytest.raises(TaskError, match=r"line 2: .* is for training; line 3: `holdout` is 'luck'"):
        read_index(tmp_path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, r"no `tasks\.csv` in `.*`\. A task folder holds it beside `tasks/`\."),
        ("", r"lacks the column\(s\) slug, family, .*, split\."),
        (
            "slug,family,category\na,b,c\n",
            r"lacks the column\(s\) metric, licence, description, sp",
        ),
        (
            HEADER
            + "../x,f,c,exact,MIT,d,train\n.y,f,c,exact,MIT,d,train\n,f,c,exact,MIT,d,train\n",
            r"line 2: `slug` '\.\./x' is not a plain folder name; line 3: `slug` '\.y' .*; line 4",
        ),
        (
            HEADER + "a,f,c,luck,MIT,d,test\n",
            r"line 2: `split` is 'test', expected train or heldout; line 2: `metric` is 'luck'",
        ),
        (HEADER + "a,f,c,exact\n", r"line 2: `split` is '', expected"),
        (
            HEADER + "a,,c,exact,MIT,d,train\nb,f, ,exact,MIT,d,train\n ,f,c,exact,MIT,d,train\n",
            r"line 2: `family` is empty; line 3: `category` is empty; line 4: `slug` ' ' is not",
        ),
        (HEADER + "a,f,c,exact,MIT,d,train\n" * 2, r"slug `a` is there twice\."),
        (HEADER + "a,f,c,x,MIT,d,train\n" * 9, r"; and 5 more\."),
        # Found by the long run of tests/fuzz: a row without its last columns, and a header whose
        # first column comes last.
        ("family,category,metric,licence,description,split,slug\na\n", r"line 2: `slug` '' is not"),
        # A blank line, and a cell of two lines: each row is named by its last line.
        (
            HEADER + '\na,f,c,x,MIT,d,train\nb,f,c,x,MIT,"d\nd",train\n',
            r"line 3: `metric` is 'x', .*; line 5: `metric`",
        ),
    ],
)
def test_all_faults_of_an_index_are_named(tmp_path: Path, table: str | None, message: str) -> None:
    if table is not None:
        (tmp_path / "tasks.csv").write_text(table)
    with pytest.raises(TaskError, match=message):
        read_index(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"train\.jsonl` is missing\. Each task of `tasks\.csv` has a folder"),
        (b"\n\n", r"train\.jsonl`: no examples\."),
        (b"\xff\xfe\xff", r"train\.jsonl` is not UTF-8"),
        (
            b'{"prompt": "a", "response": "b"}\n[1]\n\n'
            b'{"prompt": " ", "response": "b"}\n{"prompt": "a"',
            r"line 2: expected an object, got a list; "
            r"line 4: expected a non-empty string `prompt`; "
            r"line 5: broken JSON at column 15\. Write one JSON object a line, with the texts",
        ),
        (b'{"prompt": "a", "response": 3}', r"line 1: expected a non-empty string `response`"),
        (
            b'{"prompt": "a", "response": "b", "options": ["b", 1]}',
            r"line 1: expected `options` to be a list of strings",
        ),
        (
            rb'{"prompt": "a", "response": "b", "options": ["b", "\ud800"]}',
            r"line 1: `options` holds half a character, which no file can hold",
        ),
        (b'{"prompt": "a", "response": "b"}\r[1]\r\n2', r"line 2: .*; line 3: "),
        (b"[" * 100_000, r"line 1: JSON that is nested too deeply\."),
        (b"1" * 5_000, r"line 1: a number with too many digits\."),
        (b"1\n" * 9, r"line 5: .*; and 4 more\."),
    ],
)
def test_all_faults_of_an_example_file_are_named(
    tmp_path: Path, text: bytes | None, message: str
) -> None:
    write_tasks(tmp_path / "t", [letters("first")])
    path = tmp_path / "t" / "tasks" / "first" / "train.jsonl"
    path.unlink()
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(TaskError, match=message):
        load_tasks(tmp_path / "t")


def test_the_bare_input_follows_the_first_blank_line() -> None:
    assert Example("Do.\n\na\n\nb", "x").bare == "a\n\nb"


# The audit: what was found in the released data of the paper

GOOD = ["kettle", "spoon", "gently", "towel", "warm", "soap", "brush", "rinse"]
BAD = ["hammer", "petrol", "bonfire", "lava", "knife", "cement", "acid", "saw"]


def household(count: int, seed: int) -> list[dict[str, Any]]:
    """Goals with a sensible and a silly way, as PIQA has them: label 0 or 1 says which is which."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        ways = [" ".join(rng.sample(GOOD, 3)), " ".join(rng.sample(BAD, 3))]
        label = rng.randrange(2)
        rows.append(
            {
                "goal": f"Clean thing {seed}-{number}",
                "sol1": ways[label],
                "sol2": ways[1 - label],
                "label": label,
            }
        )
    return rows


def released(
    rows: Sequence[dict[str, Any]], letter: Callable[[int], str], **changes: Any
) -> list[Example]:
    """Rows in the released form: options as lines `A: …`, the gold in brackets."""
    return [
        Example(
            f"Choose the better way.\n\n{row['goal']}\nA: {row['sol1']}\nB: {row['sol2']}.\n"
            "Please answer the question choosing from [A]/[B].",
            f"[{letter((row | changes)['label'])}]",
        )
        for row in rows
    ]


def wrong_letter(label: int) -> str:
    """The released conversion: the label less one picks the letter, so 0 is the last of two."""
    return "AB"[label - 1] if label >= 0 else "ABCD"[label - 1 + len("ABCD") - 2]


def right_letter(label: int) -> str:
    return "AB"[label]


def test_the_miniature_of_piqa_is_sound_when_its_labels_are() -> None:
    train, test = household(80, seed=1), household(40, seed=2)
    sound = task(released(test, right_letter), released(train, right_letter))
    assert audit_tasks([sound]) == []


def test_a_hidden_test_side_turned_into_one_letter_is_found() -> None:
    """PIQA's released test side: hidden labels, -1, all became `[A]`."""
    train, test = household(80, seed=1), household(40, seed=2)
    hidden = task(released(test, lambda _: "A", label=-1), released(train, right_letter))
    assert "constant: 40 of 40 test responses are '[A]'" in found(hidden)


def test_inverted_train_labels_are_found() -> None:
    """PIQA's released train side, before a test side with true labels."""
    train, test = household(80, seed=1), household(40, seed=2)
    inverted = task(released(test, right_letter), released(train, wrong_letter))
    (fault,) = found(inverted)
    assert fault.startswith("inverted: words predict 100% of the labels within the train side and")
    assert "0% on the other, where chance is 50% and exchanging labels gives 100%" in fault


def test_labels_inverted_against_another_copy_of_the_data_are_found() -> None:
    """Where no test side is left to compare with, a sound copy under the same wording shows it."""
    rows = household(80, seed=1)
    test = [released(household(20, seed), right_letter) for seed in (2, 3)]
    sound = task(test[0], released(rows[:40], right_letter), slug="sound")
    inverted = task(test[1], released(rows[:40], wrong_letter), slug="released")
    assert (
        "contradiction: 40 of the 40 questions that `sound` asks too are answered differently there"
    ) in found(sound, inverted)


def test_golds_that_point_by_digit_where_others_point_by_letter_are_found() -> None:
    """ARC's released `[1]` to `[4]`: the scorer turns digits into letters in predictions only."""
    test = released(household(40, seed=2), right_letter)
    test[5] = replace(test[5], response="[1]", prompt=test[5].prompt.replace("\nA:", "\n1:"))
    test[9] = replace(test[9], response="[2]")
    (fault,) = found(task(test, released(household(80, seed=1), right_letter)))
    assert fault == (
        "odd_label: 2 test responses point at an option by a digit, the others do not: a scorer "
        "of the others never credits them"
    )


def test_one_data_set_under_two_names_is_found() -> None:
    """Math-Plus and Math-IIO-68K-Mini were one file."""
    one = letters("plus")
    two = Task(task_info("iio"), one.train, one.test[:6])
    assert Fault(
        "iio",
        "duplicate",
        "36 of its 36 examples are those of `plus`: one data set under two names",
        "error",
    ) in audit_tasks([one, two])


def test_one_data_set_under_another_instruction_is_a_warning() -> None:
    one = letters("plus")
    reworded = [replace(e, prompt=f"Please{e.prompt}") for e in (*one.train, *one.test)]
    two = task(reworded[30:], reworded[:30], "iio")
    assert found(one, two) == []
    words = "duplicate: 42 of its 42 examples are those of `plus` under another instruction: one"
    assert any(w.startswith(words) for w in found(one, two, severity="warning"))
    third = task(examples(30, first=500), [*reworded[:20], *examples(20, first=600)], "third")
    assert not any(w.startswith("duplicate") for w in found(one, third, severity="warning"))


def test_a_majority_that_looks_like_skill_is_a_warning_with_its_share() -> None:
    """BoolQ without passages was beaten by always saying True."""
    options = ("True", "False")
    train = [Example(f"Is it?\n\nt{i}", options[i % 2], options) for i in range(40)]

    def test_side(true: int) -> list[Example]:
        return [Example(f"Is it?\n\nq{i}", options[i >= true], options) for i in range(40)]

    assert found(task(test_side(34), train, metric="choice")) == []
    assert found(task(test_side(34), train, metric="choice"), severity="warning") == [
        "majority: 85% of the test responses are 'True'"
    ]
    assert found(task(test_side(25), train, metric="choice"), severity="warning") == []


def test_conditions_made_of_scored_items_are_refused() -> None:
    """The released evaluation drew its conditions from the test file."""
    scored = examples(20)
    train = [e.prompt for e in examples(20, first=100)]
    check_conditions(train, scored)
    with pytest.raises(TaskError, match=r"1 of 21 condition prompts hold items.*'Sort it.*q3 '"):
        check_conditions([*train, "Sort it.\n\n q3 "], scored)
    with pytest.raises(TaskError, match=r"Draw conditions from the train side"):
        check_conditions(["Put in order, please.\n\nq7"], scored)
    assert unscored(["x\n\nq7", train[0], "q8"], scored) == [train[0]]


def test_an_input_split_by_the_blank_line_does_not_identify_an_item() -> None:
    """Where the question comes last, many items share what follows the blank line."""
    scored = [Example(f"A story about {i}.\n\nHow many stars?", "5") for i in range(10)]
    check_conditions(["Another story.\n\nHow many stars?"], scored)
    with pytest.raises(TaskError, match="1 of 1 condition prompts"):
        check_conditions(["A story about 3.\n\nHow many stars?"], scored)
    train = [Example(f"A tale of {i}.\n\nHow many stars?", str(i % 3)) for i in range(20)]
    test = [replace(e, response=str(i % 3)) for i, e in enumerate(scored)]
    assert found(task(test, train), severity="warning") == [
        "repeated_bare_input: 30 of 30 bare inputs repeat, such as 'How many stars?': the input "
        "is before the blank line"
    ]


# The audit: everything else


def test_a_sound_task_passes() -> None:
    assert audit_tasks([task(examples(20))]) == []
    assert audit_tasks([task(examples(20, options=("A", "B")), metric="choice")]) == []


@pytest.mark.parametrize("side", ["train", "test"])
def test_an_answer_that_is_nearly_always_right_is_an_error_on_either_side(side: str) -> None:
    constant = [*examples(19, "A"), *examples(1, "B", first=50)]
    sound = examples(20, first=1000)
    sides = (constant, sound) if side == "test" else (sound, constant)
    assert f"constant: 19 of 20 {side} responses are 'A'" in found(task(*sides))
    varied = [*examples(18, "A"), *examples(2, "B", first=50)]
    sides = (varied, sound) if side == "test" else (sound, varied)
    assert found(task(*sides)) == []


def test_an_answer_that_always_stands_first_is_found() -> None:
    def side(first: int, shuffled: bool) -> list[Example]:
        rows = []
        for i in range(first, first + 20):
            options = [f"right{i}", f"wrong{i}", f"other{i}"]
            if shuffled:
                random.Random(i).shuffle(options)
            prompt = f"Choose.\n\nq{i}\n- " + "\n- ".join(options)
            rows.append(Example(prompt, f"right{i}", tuple(options)))
        return rows

    assert found(task(side(0, True), side(100, True), metric="choice")) == []
    assert found(task(side(0, False), side(100, True), metric="choice")) == [
        "constant: test: the answer is option 1 of those listed in 20 of 20 prompts. Shuffle them"
    ]


def test_impossible_answers_are_found() -> None:
    train = examples(20, first=100, options=("A", "B"))

    def errors(test: list[Example], metric: str = "choice") -> list[str]:
        return found(task(test, train, metric=metric))

    assert errors(examples(20, options=("A", "C"))) == [
        "stray_answer: test: 10 responses are not among their options, such as 'B'"
    ]
    assert errors([*examples(19, options=("A", "B")), Example("Sort.\n\nx", "B")]) == [
        "no_choice: test: a choice task needs two or more options in every line"
    ]
    assert errors(examples(20, options=("A", "B", "B"))) == [
        "equal_options: test: 20 lines give an option twice"
    ]
    case = task(examples(20, options=("A", "B", "b")), train, metric="choice")
    assert found(case) == []
    assert "20 lines have options that differ in case only" in found(case, severity="warning")[0]


def test_lists_of_one_repeated_option_are_reported_and_break_no_other_check() -> None:
    def side(letter: str) -> list[Example]:
        return [
            Example(f"Choose.\n\n{letter}{i}", f"{letter}{i}", (f"{letter}{i}",) * 2)
            for i in range(12)
        ]

    faults = found(task(side("b"), side("a"), metric="choice"))
    assert "equal_options: test: 12 lines give an option twice" in faults


def test_blanks_inside_a_listed_option_do_not_take_long() -> None:
    gap = " " * 20_000
    listed = f"Choose.\n\nA: tea{gap}cup {gap}\n\nB: milk \r\nno option"
    started = time.process_time()
    assert audit._listed(listed) == {"A": f"tea{gap}cup", "B": "milk"}
    assert time.process_time() - started < 1


def test_hidden_labels_are_found_before_they_are_scored() -> None:
    train = examples(20, "01", first=100)
    part = [*examples(20, "01"), *[Example(f"Sort it.\n\nh{i}", "-1") for i in range(4)]]
    assert found(task(part, train)) == [
        "hidden_label: test: 4 labels are '-1', and none of the other side: hidden or missing "
        "labels"
    ]
    empty = [*examples(20, "01"), Example("Sort it.\n\nh", " ")]
    assert found(task(empty, train)) == ["hidden_label: test: 1 responses are empty"]
    stance = [Example(f"Sort.\n\n{i}", str(i % 3 - 1)) for i in range(60)]
    assert audit_tasks([task(stance[30:], stance[:30])]) == []


def test_faults_come_in_the_order_of_the_examples_in_every_process() -> None:
    """Sets of texts have another order in each process; only one order in 720 passes by luck."""
    hidden = ["nan", "NaN", "NAN", "null", "Null", "NULL"]
    answers = [*(hidden * 2), *"ABC" * 6]
    train = [Example(f"Sort it.\n\nq{i}", answer) for i, answer in enumerate(answers)]
    test = examples(20, "ABC", first=1000)
    words = [f"hidden_label: train: 2 labels are {gold!r}, and none of" for gold in hidden]
    said = [w for w in found(task(test, train)) if w.startswith("hidden_label")]
    assert [w[: len(start)] for w, start in zip(said, words, strict=True)] == words
    one = letters("one")
    copies = [replace(one, info=task_info(f"copy{i}"), train=one.test) for i in range(6)]
    assert (
        "overlap: 12 test prompts are in the train side of `copy0`, `copy1`, `copy2` and 3 more"
        in found(one, *reversed(copies))
    )


def test_a_label_that_training_never_saw_is_a_warning() -> None:
    test = [*examples(20), *[Example(f"Sort it.\n\nc{i}", "C") for i in range(3)]]
    assert found(task(test), severity="warning") == [
        "unseen_label: 3 test responses are labels that no train example has, such as 'C'"
    ]


def test_references_that_no_output_can_match_are_found() -> None:
    """The ROUGE scorer reads a to z and digits only: a Greek reference scores 0 against itself."""
    from rouge_score.rouge_scorer import RougeScorer

    greek = "καλημέρα κόσμε"
    assert RougeScorer(["rougeL"]).score(greek, greek)["rougeL"].fmeasure == 0
    test = [*examples(10), Example("Sort it.\n\ng", greek)]
    assert found(task(test, metric="rouge"))[0].startswith(
        "unmatchable: test: 1 responses have few or no letters a to z and digits"
    )
    # Of this one it reads the digit, and so counts every answer with a 5 as right.
    test = [*examples(10), Example("Sort it.\n\ng", f"{greek} 5")]
    assert found(task(test, metric="rouge"))[0].startswith("unmatchable: test: 1 responses")
    assert not any("unmatchable" in f for f in found(task(test, metric="bleu")))
    ended = [*examples(10), Example("Sort it.\n\ne", "A<|im_end|>")]
    assert "1 responses hold a chat control token" in found(task(ended))[0]


def test_test_prompts_of_a_train_side_are_errors_and_shared_inputs_warnings() -> None:
    test = examples(20)
    assert found(task(test, train=[*test[:3], *examples(20, first=90)])) == [
        "overlap: 3 prompts are in both train and test"
    ]
    spaced = [replace(test[0], prompt="Sort it.\n\n q0\n"), *examples(20, first=90)]
    assert found(task(test, train=spaced)) == ["overlap: 1 prompts are in both train and test"]
    other = task(examples(20, first=300), test[:5] + examples(20, first=400), "other")
    assert found(task(test), other) == ["overlap: 5 test prompts are in the train side of `other`"]
    reworded = [replace(e, prompt=e.prompt.replace("Sort it", "Order")) for e in test[:4]]
    more = task(test, train=[*reworded, *examples(20, first=90)])
    assert found(more) == []
    assert found(more, severity="warning") == [
        "shared_input: 4 of 20 test inputs are, under another instruction, in the train side of `s`"
    ]


def test_a_held_out_family_that_is_trained_on_is_found() -> None:
    seen, new = letters("seen", family="f"), letters("new", family="f", split="heldout")
    new = replace(new, info=replace(new.info, holdout="family"))
    assert found(seen, new) == [
        "parted_family: its family `f` is held out, but `seen` of it is for training"
    ]
    # Other kinds of novelty are new within a family.
    assert not found(seen, replace(new, info=replace(new.info, holdout="primitive")))
    assert not found(seen, replace(new, info=replace(new.info, family="g")))


def test_the_same_question_answered_twice_is_found() -> None:
    train = [*examples(20, first=100), Example("Sort it.\n\nq3", "A")]
    assert "contradiction: 1 questions are answered differently in different lines" in found(
        task(examples(20), train)
    )


def test_inputs_answered_the_other_way_under_another_wording_are_found() -> None:
    def reworded(count: int, flipped: int) -> list[Example]:
        return [
            Example(f"Order, please.\n\nq{i}", "AB"[(i + (i < flipped)) % 2]) for i in range(count)
        ]

    train = examples(20, first=100)
    assert found(task(examples(20), [*train, *reworded(10, flipped=10)])) == [
        "contradiction: 10 of 10 inputs that come again under another wording have another answer "
        "there: one side may be inverted"
    ]
    slips = task(examples(20), [*train, *reworded(10, flipped=2)])
    assert found(slips) == []
    assert "contradiction: 2 of 10 inputs" in found(slips, severity="warning")[0]


def test_open_questions_may_have_many_answers() -> None:
    rows = [Example(f"Name a synonym.\n\nword{i // 2}", f"answer{i}") for i in range(80)]
    kinds = {f.kind for f in audit_tasks([task(rows[1::2], rows[0::2])])}
    assert kinds == {"overlap"}  # the same prompts on both sides, but no contradiction


def test_tasks_of_one_family_that_answer_the_other_way_are_a_warning() -> None:
    """They may be meant so: "which makes sense?" and "which does not?"."""
    options = ("yes", "no")

    def side(wording: str, first: int, flip: int) -> list[Example]:
        return [
            Example(f"{wording}\n\nsentence {i}", options[(i + flip) % 2], options)
            for i in range(first, first + 20)
        ]

    one = task(side("True?", 0, 0), side("True?", 50, 0), "one", family="f", metric="choice")
    two = task(side("False?", 0, 1), side("False?", 50, 1), "two", family="f", metric="choice")
    assert found(one, two) == []
    (words,) = [w for w in found(one, two, severity="warning") if w.startswith("opposed")]
    assert words.startswith("opposed: 40 of the 40 inputs that it shares with `one`")


def reviews(count: int, seed: int, flip: bool = False, labels: int = 2) -> list[Example]:
    """Texts whose words tell the label, with a tenth of noise."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        label = number % labels
        shown = label if rng.random() < 0.9 else rng.randrange(labels)
        words = [f"w{shown}{rng.randrange(6)}" for _ in range(3)] + [f"x{rng.randrange(50)}"]
        named = (label + flip) % labels
        rows.append(Example(f"Which?\n\n{seed} {number} {' '.join(words)}", f"label{named}"))
    return rows


@pytest.mark.parametrize("labels", [2, 4])
def test_labels_that_words_predict_the_wrong_way_are_found(labels: int) -> None:
    test = reviews(60, seed=2, labels=labels)
    assert found(task(test, reviews(120, seed=1, labels=labels))) == []
    (fault,) = found(task(test, reviews(120, seed=1, labels=labels, flip=True)))
    assert fault.startswith("inverted: words predict ")


@pytest.mark.parametrize(("count", "is_found"), [(12, False), (16, False), (18, True)])
def test_an_inversion_is_found_as_soon_as_luck_is_ruled_out(count: int, is_found: bool) -> None:
    """Words tell every label, and those of the test side are exchanged: all of 12 may be luck."""

    def side(first: int, size: int, flip: int) -> list[Example]:
        return [
            Example(f"Which?\n\nitem {first + i} w{i % 2}", "AB"[(i + flip) % 2])
            for i in range(size)
        ]

    inverted = task(side(0, count, flip=1), side(100, 60, flip=0))
    assert [fault.partition(":")[0] for fault in found(inverted)] == ["inverted"] * is_found


def dealt(answers: Sequence[int], guesses: Sequence[int]) -> Iterator[list[list[int]]]:
    """Every table of these margins: a row for each answer, a column for each guess."""
    if len(answers) == 1:
        yield [list(guesses)]
        return
    for row in product(*(range(guess + 1) for guess in guesses)):
        if sum(row) == answers[0]:
            left = [guess - taken for guess, taken in zip(guesses, row, strict=True)]
            yield from ([list(row), *below] for below in dealt(answers[1:], left))


def probability(table: Sequence[Sequence[int]]) -> Fraction:
    """Return that of a table, when guesses are dealt to items at random (Fisher 1935)."""
    margins = (*map(sum, table), *map(sum, zip(*table, strict=True)))
    cells = [*chain.from_iterable(table)]
    ways = prod(map(factorial, margins))
    return Fraction(ways, factorial(sum(cells)) * prod(map(factorial, cells)))


@pytest.mark.parametrize("renamed", [False, True])
@pytest.mark.parametrize(
    ("answers", "guesses"),
    [
        ((6, 6), (6, 6)),
        ((9, 3), (5, 7)),
        ((11, 1), (12, 0)),
        ((20, 20), (18, 22)),
        ((4, 4, 4), (4, 5, 3)),
        ((9, 6, 3), (6, 6, 6)),
    ],
)
def test_luck_comes_no_more_often_than_it_says(
    answers: tuple[int, ...], guesses: tuple[int, ...], renamed: bool
) -> None:
    """Added up over every outcome, so the rate of false alarms is exact, not simulated.

    Of these sides only the one of 40 items is large enough for an alarm at all.
    """
    outcomes = [
        (audit._Guesses(np.array(table)).luck(renamed=renamed), probability(table))
        for table in dealt(answers, guesses)
    ]
    assert sum(share for _, share in outcomes) == 1
    for level, _ in outcomes:
        assert float(sum(share for luck, share in outcomes if luck <= level)) <= level * 1.000001
    fired = sum(share for luck, share in outcomes if luck <= audit._FALSE_ALARMS)
    assert (fired > 0) == (sum(answers) == 40)


def test_minimal_pairs_over_the_two_sides_are_no_inversion() -> None:
    """A twin of every test item is in train with the other answer, as in Winogrande."""
    rng = random.Random(0)
    pairs = [[f"w{rng.randrange(1000)}" for _ in range(4)] for _ in range(80)]
    sides: tuple[list[Example], list[Example]] = ([], [])
    for number, words in enumerate(pairs):
        for twin, answer in enumerate("AB" if number % 2 else "BA"):
            text = f"Which?\n\n{' '.join(words)} twin{number}{twin}"
            sides[twin].append(Example(text, answer))
    assert found(task(sides[1], sides[0])) == []


def test_a_majority_that_changes_sides_is_a_warning() -> None:
    train = [*examples(30, "A", first=100), *examples(10, "B", first=200)]
    test = [*examples(10, "A"), *examples(30, "B", first=300)]
    assert found(task(test, train), severity="warning") == [
        "flipped_majority: 'B' is 25% of the train responses and 75% of the test responses: one "
        "side may be inverted"
    ]


def test_a_missing_bare_input_is_a_warning_with_its_share() -> None:
    test = [replace(e, prompt=e.prompt.replace("\n\n", " ")) for e in examples(10)]
    assert found(task(test)) == []
    assert found(task(test), severity="warning") == [
        "no_bare_input: 33% of the prompts have no blank line, so no bare input"
    ]


# Datasets


@pytest.fixture(autouse=True)
def datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what `datasets` loads out of the user's own cache."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")


def recipe(folder: Path, **fields: Any) -> DatasetRecipe:
    values: dict[str, Any] = {
        "slug": "pairs",
        "dataset": str(folder),
        "instruction": ("Same?", "Do they mean the same?"),
        "input": "{one} [SEP] {two}",
        "label": "label",
        "labels": ("no", "yes"),
        "metric": "choice",
        "licence": "MIT",
        "category": "paraphrase",
    }
    return DatasetRecipe(**(values | fields))


def pair_rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {"one": f"a{i} {{x}}", "two": f"b{i}", "label": i % 2} for i in range(first, first + count)
    ]


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(rows)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_a_folder_of_files_becomes_a_task_folder(tmp_path: Path, ending: str) -> None:
    write_rows(tmp_path / "data" / f"train.{ending}", pair_rows(60))
    write_rows(tmp_path / "data" / f"test.{ending}", pair_rows(30, first=100))
    made, _ = fetch_tasks(
        [recipe(tmp_path / "data", train_examples=50, test_examples=20)],
        tmp_path / "tasks",
    )
    assert made == load_tasks(tmp_path / "tasks")
    (task,) = made
    assert (len(task.train), len(task.test)) == (50, 20)
    assert task.info.family == "pairs"
    assert task.info.description == "Same?"
    for example in (*task.train, *task.test):
        assert example.bare is not None
        number = int(example.bare.split()[0][1:])
        assert example.bare == f"a{number} {{x}} [SEP] b{number}"
        assert example.response == ("no", "yes")[number % 2]
        assert example.options == ("no", "yes")
    heads = {example.prompt.split("\n\n")[0] for example in task.train}
    assert heads == {"Same?", "Do they mean the same?"}


def test_the_draw_is_a_function_of_the_seed(tmp_path: Path) -> None:
    write_rows(tmp_path / "all.jsonl", pair_rows(80))
    slices = {"train": "train[:50%]", "test": "train[50%:]", "train_examples": 10}
    one = recipe(tmp_path / "all.jsonl", **slices)
    first = make_task(one)
    assert make_task(one) == first
    assert make_task(replace(one, seed=1)).train != first.train
    assert {e.prompt for e in first.train}.isdisjoint(e.prompt for e in first.test)
    assert len(first.test) == 40


@pytest.mark.parametrize("count", [0, 1, 2, 5, 30, 300])
def test_rows_come_in_the_order_of_a_sample(count: int) -> None:
    drawn = list(datasets._shuffled(count, random.Random(3)))
    assert drawn == random.Random(3).sample(range(count), count)


def test_rows_of_a_huge_split_are_drawn_one_at_a_time() -> None:
    first = list(islice(datasets._shuffled(10**15, random.Random(0)), 1000))
    assert len(set(first)) == 1000
    assert all(0 <= number < 10**15 for number in first)


def test_no_input_comes_twice_or_on_both_sides(tmp_path: Path) -> None:
    write_rows(tmp_path / "d" / "train.jsonl", [*pair_rows(30), *pair_rows(10)])
    write_rows(tmp_path / "d" / "test.jsonl", [*pair_rows(10), *pair_rows(10, first=50)])
    made = make_task(recipe(tmp_path / "d"))
    assert (len(made.train), len(made.test)) == (20, 20)


def test_options_of_each_row_are_read_with_their_labels(tmp_path: Path) -> None:
    """ARC's form: some rows count A to D, others 1 to 4; the answer becomes the option's text."""
    rows = [
        {
            "question": f"q{i}",
            "choices": {
                "text": [f"t{i}{k}" for k in range(4)],
                "label": list("ABCD" if i % 5 else "1234"),
            },
            "answerKey": ("ABCD" if i % 5 else "1234")[i % 4],
        }
        for i in range(60)
    ]
    write_rows(tmp_path / "d" / "train.jsonl", rows[:40])
    write_rows(tmp_path / "d" / "test.jsonl", rows[40:])
    made = make_task(
        recipe(
            tmp_path / "d",
            input="{question}\nOptions:\n{choices.text}",
            label="answerKey",
            labels=(),
            options=("choices.text",),
            option_labels="choices.label",
        ),
    )
    for example in (*made.train, *made.test):
        assert example.bare is not None
        number = int(example.bare.split("\n")[0][1:])
        assert example.response == f"t{number}{number % 4}"
        assert example.options == tuple(f"t{number}{k}" for k in range(4))
        assert f"Options:\n- t{number}0\n- t{number}1\n" in example.bare


@pytest.mark.parametrize(
    ("fields", "row", "response", "options"),
    [
        ({"metric": "exact"}, {"label": 1}, "yes", ()),
        ({}, {"label": True}, "yes", ("no", "yes")),
        ({}, {"label": 1.0}, "yes", ("no", "yes")),
        ({"label_values": ("n", "y")}, {"label": "y"}, "yes", ("no", "yes")),
        ({"label_values": ("1", "-1")}, {"label": -1}, "yes", ("no", "yes")),
        (
            {"labels": (), "options": ("one", "two"), "label_values": ("1", "2")},
            {"label": "2"},
            "b",
            ("a", "b"),
        ),
        ({"labels": (), "metric": "rouge"}, {"label": " long text "}, "long text", ()),
        ({"labels": (), "metric": "exact"}, {"label": -1}, "-1", ()),
        (
            {"labels": (), "metric": "exact", "label": "answers.text"},
            {"answers": {"text": ["x", "y"]}},
            "x",
            (),
        ),
    ],
)
def test_labels_become_words(
    tmp_path: Path, fields: dict[str, Any], row: dict[str, Any], response: str, options: Any
) -> None:
    write_rows(tmp_path / "d" / "train.jsonl", [{"one": "a", "two": "b"} | row])
    write_rows(tmp_path / "d" / "test.jsonl", [{"one": "a", "two": "b"} | row])
    write_rows(tmp_path / "d" / "train.jsonl", [{"one": "c", "two": "d"} | row])
    made = make_task(recipe(tmp_path / "d", **fields))
    assert (made.test[0].response, made.test[0].options) == (response, options)


def test_an_option_that_a_row_lacks_is_none_of_its_options(tmp_path: Path) -> None:
    """Exams with four or five options have a fifth column, which is empty where there are four."""
    rows = [
        {
            "one": f"q{i}",
            "a": f"a{i}",
            "b": f"b{i}",
            "c": f"c{i}" if i % 2 else None,
            "key": "AB"[i % 2],
        }
        for i in range(20)
    ]
    write_rows(tmp_path / "d" / "train.jsonl", rows[:10])
    write_rows(tmp_path / "d" / "test.jsonl", rows[10:])
    exam = recipe(
        tmp_path / "d",
        input="{one}{c}",
        label="key",
        labels=(),
        options=("a", "b", "c"),
        label_values=tuple("ABC"),
    )
    for example in make_task(exam).test:
        assert example.bare is not None
        number = int(example.bare[1:].partition("c")[0])
        assert example.options == tuple(f"{k}{number}" for k in "abc"[: 2 + number % 2])
        assert example.response == f"{'ab'[number % 2]}{number}"
    write_rows(tmp_path / "e" / "test.jsonl", [row | {"key": "C"} for row in rows[10:]])
    exam = replace(exam, dataset=str(tmp_path / "e"))
    with pytest.raises(ConfigError, match=r"a row has the label 'C', but no text for it\. Check"):
        make_task(exam)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, r"the label 'Z' is none of 0, 1\. Give `label_values`, in the order of the texts\."),
        ({"label_values": ("n", "y")}, r"the label 'Z' is none of n, y\. Check `label_values`\."),
        ({"option_labels": "keys"}, r"the label 'Z' is none of A, B\. Check `option_labels`\."),
    ],
)
def test_a_label_that_names_no_text_is_refused(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    """Even where a row has no options at all, those that it could have are named."""
    row = {"one": None, "two": None, "label": "Z", "keys": ["A", "B"], "question": "q"}
    write_rows(tmp_path / "d" / "test.jsonl", [row])
    exam = recipe(
        tmp_path / "d",
        input="{question}",
        labels=(),
        options=("one", "two"),
        train="test",
        **fields,
    )
    with pytest.raises(ConfigError, match=message):
        make_task(exam)


def test_an_item_that_a_list_lacks_is_no_line_of_the_input(tmp_path: Path) -> None:
    for side, first in (("train", 0), ("test", 50)):
        rows = [row | {"two": ["x", None, "", "y"]} for row in pair_rows(4, first)]
        write_rows(tmp_path / "d" / f"{side}.jsonl", rows)
    made = make_task(recipe(tmp_path / "d", input="{one}\n{two}"))
    # An empty text is not missing, and dropping it would shift the ones after it.
    assert all(e.prompt.endswith("\n- x\n- \n- y") for e in made.test)


def test_class_names_of_the_dataset_are_its_labels(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    kinds = Features(
        {"one": Value("string"), "two": Value("string"), "label": ClassLabel(names=["neg", "pos"])}
    )
    for side, first in (("train", 0), ("test", 50)):
        path = tmp_path / "d" / f"{side}.parquet"
        path.parent.mkdir(exist_ok=True)
        Dataset.from_list(pair_rows(20, first), features=kinds).to_parquet(str(path))
    made = make_task(recipe(tmp_path / "d", labels=()))
    assert {e.response for e in made.train} == {"neg", "pos"}


def test_hidden_test_labels_are_refused(tmp_path: Path) -> None:
    """PIQA's test split on the Hub: every label is -1."""
    write_rows(tmp_path / "d" / "train.jsonl", household(30, seed=1))
    hidden = [row | {"label": -1} for row in household(20, seed=2)]
    write_rows(tmp_path / "d" / "test.jsonl", hidden)
    piqa = recipe(
        tmp_path / "d", input="{goal}\n- {sol1}\n- {sol2}", labels=(), options=("sol1", "sol2")
    )
    message = r"split `test`: 20 of 20 labels are hidden .*Take a split that has labels, often `val"
    with pytest.raises(TaskError, match=message):
        fetch_tasks([piqa], tmp_path / "tasks")
    with pytest.raises(TaskError, match="split `test` has no row left: 20 unlabelled"):
        fetch_tasks([replace(piqa, skip_unlabelled=True)], tmp_path / "tasks")
    some = [*household(20, seed=2), *hidden[:1]]
    write_rows(tmp_path / "e" / "train.jsonl", household(30, seed=1))
    write_rows(tmp_path / "e" / "test.jsonl", some)
    piqa = replace(piqa, dataset=str(tmp_path / "e"))
    with pytest.raises(TaskError, match=r"1 of 21 labels are hidden.*Set `skip_unlabelled: true`"):
        make_task(piqa)
    assert len(make_task(replace(piqa, skip_unlabelled=True)).test) == 20


def test_hidden_labels_are_counted_as_they_are_judged(tmp_path: Path) -> None:
    """White space is no free text, and -1 is a label where a recipe says so."""
    rows = pair_rows(20)
    texts = [row | {"label": "  " if row is rows[0] else "x"} for row in rows]
    write_rows(tmp_path / "d" / "test.jsonl", texts)
    free = recipe(tmp_path / "d", labels=(), metric="exact", train="test")
    with pytest.raises(TaskError, match=r"1 of 20 labels are hidden .*`skip_unlabelled: true`"):
        make_task(free)
    labels = [None, *(1 - 2 * row["label"] for row in rows[1:])]
    stances = [row | {"label": label} for row, label in zip(rows, labels, strict=True)]
    write_rows(tmp_path / "e" / "test.jsonl", stances)
    stance = recipe(tmp_path / "e", label_values=("1", "-1"), train="test")
    with pytest.raises(TaskError, match="1 of 20 labels are hidden"):
        make_task(stance)


def test_a_label_that_is_no_number_is_hidden(tmp_path: Path) -> None:
    """Parquet keeps NaN apart from null, where what wrote it did."""
    for side, first in (("train", 0), ("test", 50)):
        rows = [row | {"label": float(row["label"])} for row in pair_rows(20, first)]
        table = pa.Table.from_pylist([*rows, {"one": "c", "two": "d", "label": float("nan")}])
        (tmp_path / "d").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "d" / f"{side}.parquet")
    with pytest.raises(TaskError, match="1 of 21 labels are hidden"):
        make_task(recipe(tmp_path / "d"))
    made = make_task(recipe(tmp_path / "d", skip_unlabelled=True))
    assert (len(made.train), len(made.test)) == (20, 20)


def test_a_dataset_with_bad_labels_is_not_written(tmp_path: Path) -> None:
    write_rows(tmp_path / "d" / "train.jsonl", pair_rows(40))
    constant = [row | {"label": 0} for row in pair_rows(20, first=100)]
    write_rows(tmp_path / "d" / "test.jsonl", constant)
    message = r"nothing was written to .*: pairs: 20 of 20 test responses are 'no'"
    with pytest.raises(TaskError, match=message):
        fetch_tasks([recipe(tmp_path / "d")], tmp_path / "tasks")
    assert not (tmp_path / "tasks").exists()


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"test": "validation"}, AssetError, r"split `validation` could not be loaded: Unknown s"),
        ({"config": "nope"}, AssetError, r"could not be loaded: .*nope"),
        ({"dataset": "no/such-set"}, AssetError, r"`no/such-set`, split `test` could not be load"),
        ({"dataset": "x" * 5000}, AssetError, r"split `test` could not be loaded"),
        ({"dataset": __file__}, ConfigError, r"is none of \.parquet, \.json, \.jsonl, \.csv\."),
        ({"label": "gold"}, ConfigError, r"has no column gold\. It has one, two, label\."),
        ({"input": "{one.deep}"}, ConfigError, r"a row has no `one\.deep`"),
        ({"labels": ()}, ConfigError, r"metric choice needs `labels` or `options`"),
        ({"labels": ("only",)}, ConfigError, r"the label 1 is none of 0\. Give `label_values`"),
        ({"max_characters": 3}, TaskError, r"has no row left: 20 empty or too long"),
        (
            {"labels": (), "options": ("one", "two"), "label_values": ("0", "1", "2")},
            ConfigError,
            r"a row has 2 options and 3 labels",
        ),
    ],
)
def test_what_a_dataset_lacks_is_said(
    tmp_path: Path, fields: dict[str, Any], error: type[Exception], message: str
) -> None:
    write_rows(tmp_path / "d" / "train.jsonl", pair_rows(20))
    write_rows(tmp_path / "d" / "test.jsonl", pair_rows(20, first=50))
    with pytest.raises(error, match=message):
        make_task(recipe(tmp_path / "d", **fields))


def test_a_dataset_that_needs_a_script_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "d.py").write_text("raise SystemExit('run')\n")
    with pytest.raises(AssetError, match=r"could not be loaded: Dataset scripts are no longer"):
        make_task(recipe(tmp_path / "d"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"slug": "a/b"}, r"`slug` 'a/b' is not a plain folder name"),
        ({"slug": "a\nb"}, r"`slug` 'a\\nb' is not a plain folder name"),
        ({"slug": "ä" * 101}, r"`slug` 'ä{80}' is not a plain folder name"),
        ({"category": " "}, r"`category` is empty"),
        ({"instruction": ()}, r"`instruction` needs one or more wordings"),
        ({"instruction": "One.\n\nTwo."}, r"none with a blank line"),
        ({"instruction": "One.\n \nTwo."}, r"none with a blank line"),
        ({"instruction": ("One.", "One.\r\n\r\nTwo.")}, r"none with a blank line"),
        ({"label_values": ("0", "0")}, r"`label_values` has '0' twice"),
        ({"options": ("a",)}, r"give `labels` or `options`, not both"),
        ({"option_labels": "x"}, r"`option_labels` needs `options`"),
        ({"label_values": ("a",)}, r"`labels` has 2 entries and `label_values` 1"),
        ({"train_examples": 0}, r"`train_examples` must be at least 1, got 0"),
        ({"input": "no column"}, r"`input` 'no column' names no column"),
        ({"input": "{one"}, r"`input` '\{one': .*\. Write \{column\}\."),
        ({"input": "{}"}, r"expected plain names of columns"),
        ({"input": "{one!r}"}, r"expected plain names of columns"),
        ({"input": "{one[0]}"}, r"expected plain names of columns"),
    ],
)
def test_a_faulty_recipe_is_refused_before_anything_loads(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe(Path("nowhere"), **fields)


def test_a_slug_of_two_recipes_is_refused_before_anything_loads(tmp_path: Path) -> None:
    twice = [recipe(Path("nowhere")), recipe(Path("nothing"))]
    with pytest.raises(TaskError, match=r"tasks`: slug `pairs` is there twice\."):
        fetch_tasks(twice, tmp_path / "tasks")


def test_without_the_extra_the_way_to_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[train\]'"):
        make_task(recipe(tmp_path))


def test_recipes_are_read_from_files_and_folders(tmp_path: Path) -> None:
    shipped = ROOT / "assets" / "recipes" / "dataset-boolq.yaml"
    (read,) = read_dataset_recipes([shipped], seed=7, train_examples=None)
    assert (read.slug, read.labels, read.seed, read.train_examples) == (
        "boolq",
        ("no", "yes"),
        7,
        800,
    )
    assert len(read.wordings) == 2
    for name in ("b", "a"):
        text = shipped.read_text().replace("slug: boolq", f"slug: {name}")
        (tmp_path / f"{name}.yaml").write_text(text)
    assert [r.slug for r in read_dataset_recipes([tmp_path, shipped])] == ["a", "b", "boolq"]
    (tmp_path / "c.yaml").write_text("slug: c\nlabels: [yes, no]\n")
    with pytest.raises(ConfigError, match=r"c\.yaml` needs dataset and instruction and input"):
        read_dataset_recipes([tmp_path])


# Commands


def test_check_groups_errors_and_warnings(tmp_path: Path) -> None:
    write_tasks(tmp_path / "a", [letters("one")])
    odd = replace(letters("two"), test=tuple(examples(12, "A", first=900)))
    write_tasks(tmp_path / "b", [odd, task(examples(20, first=2000), slug="three")])
    sound = dnd("tasks", "check", tmp_path / "a", "--json")
    assert sound.exit_code == 0
    assert json.loads(sound.stdout) == {
        "num_tasks": 1,
        "num_train": 30,
        "num_test": 12,
        "faults": {},
        "warnings": {},
    }
    result = dnd("tasks", "check", tmp_path / "a", tmp_path / "b", "--json")
    assert result.exit_code == 1
    values = json.loads(result.stdout)
    assert values["num_tasks"] == 3
    assert values["faults"] == {"two": ["12 of 12 test responses are 'A'"]}
    assert set(values["warnings"]) == {"two"}
    words = dnd("tasks", "check", tmp_path / "a", tmp_path / "b").stdout
    assert "3 tasks: 1 with errors, 1 with warnings.\n\nErrors:\ntwo: 12 of 12" in words


def test_list_takes_several_folders(tmp_path: Path) -> None:
    write_tasks(tmp_path / "a", [letters("one")])
    write_tasks(tmp_path / "b", [letters("two", operation="sort")])
    rows = json.loads(dnd("tasks", "list", tmp_path / "a", tmp_path / "b", "--json").stdout)
    assert [(r["slug"], r["operation"]) for r in rows["tasks"]] == [("one", ""), ("two", "sort")]


def test_make_writes_a_folder_that_passes_the_check(tmp_path: Path) -> None:
    size = ("--operations", 60, "--train", 40, "--test", 10)  # all: `test_families.py`
    arguments = ("make", tmp_path / "new", *size, "--json")
    made = dnd("tasks", *arguments)
    assert made.exit_code == 0, made.output
    values = json.loads(made.stdout)
    tasks = load_tasks(tmp_path / "new")
    assert values == {"folder": str(tmp_path / "new"), "num_tasks": len(tasks)}
    assert {len(t.test) for t in tasks} == {10}
    assert found(*tasks) == []


def test_fetch_makes_a_folder_or_says_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import config

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    write_rows(tmp_path / "d" / "train.csv", pair_rows(40))
    write_rows(tmp_path / "d" / "test.csv", pair_rows(20, first=50))
    (tmp_path / "r.yaml").write_text(
        f"slug: pairs\ndataset: {tmp_path / 'd'}\ninstruction: Same?\ninput: '{{one}} {{two}}'\n"
        "label: label\nlabels: ['no', 'yes']\nmetric: choice\nlicence: MIT\ncategory: c\n"
    )
    arguments = ("tasks", "fetch", tmp_path / "r.yaml", "--out", tmp_path / "out")
    made = dnd(*arguments, "--train", 15, "--json")
    assert made.exit_code == 0, made.output
    values = json.loads(made.stdout)
    assert (values["num_train"], values["num_test"], values["warnings"]) == (15, 20, {})
    again = dnd(*arguments)
    assert again.exit_code == 1
    assert "is there already" in again.stderr
