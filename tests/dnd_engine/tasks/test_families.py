"""Task families made in code: what is trained, what is held out, and that answers are right."""

import csv
import json
import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from dnd_engine.cli import app
from dnd_engine.errors import ConfigError, TaskError
from dnd_engine.tasks.families import apply_operation, write_families
from dnd_engine.tasks.families.compositions import HELD_OUT_PAIRS
from dnd_engine.tasks.families.inputs import Item, draw_items
from dnd_engine.tasks.families.operation import Operation
from dnd_engine.tasks.families.primitives import HELD_OUT, PRIMITIVES
from dnd_engine.tasks.families.registry import all_inputs, all_operations
from dnd_engine.tasks.families.sample import MIN_OPERATIONS, sample_operations
from dnd_engine.tasks.families.wording import make_wordings
from dnd_engine.tasks.families.words import Vocabulary, vocabulary
from dnd_engine.tasks.families.write import _answered
from dnd_engine.tasks.folder import Task, load_tasks
from dnd_engine.tasks.lists import read_lists
from dnd_engine.tasks.shared_inputs import SharedInputs

NUM_TRAIN, NUM_TEST, NUM_VALIDATION = 60, 40, 20


def run(code: str, folder: Path, hash_seed: str = "random") -> str:
    """Run code in a process of its own: no call is type-checked there, and hashes are others."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, pathlib\n{code}", str(folder)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        cwd=Path(__file__).parents[3],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def write(
    out: Path, seed: int = 0, hash_seed: str = "random", num_operations: int | None = None
) -> Path:
    numbers = f"seed={seed}, train_examples={NUM_TRAIN}, test_examples={NUM_TEST}"
    numbers += f", num_operations={num_operations}"
    code = (
        "from dnd_engine.tasks.families import write_families\n"
        f"print(write_families(pathlib.Path(sys.argv[1]), {numbers}))"
    )
    assert run(code, out, hash_seed) == str(num_operations or len(all_operations()))
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("families") / "tasks", hash_seed="1")


@pytest.fixture(scope="module")
def tasks(folder: Path) -> Mapping[str, Task]:
    return {task.info.slug: task for task in load_tasks(folder)}


def files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def held_out(kind: str) -> list[Operation]:
    return [op for op in all_operations().values() if op.holdout == kind]


def trained() -> list[Operation]:
    return held_out("")


# How much there is


@pytest.mark.slow
def test_there_are_enough_operations_primitives_and_held_out_ones() -> None:
    assert len(trained()) >= 400
    assert len(all_operations()) - len(trained()) >= 60
    assert len(PRIMITIVES) - len(HELD_OUT) >= 25
    assert len(held_out("composition")) >= 40
    assert len({op.family for op in held_out("primitive")}) == 5
    assert len({op.family for op in held_out("family")}) >= 4
    assert len({op.family for op in held_out("composition")}) >= 25


def test_labels_of_choices_vary_so_that_no_label_means_the_same_throughout() -> None:
    labels = [op.options for op in trained() if len(op.options) == 2]
    assert len({frozenset(pair) for pair in labels}) >= 10
    assert Counter(map(frozenset, labels)).most_common(1)[0][1] / len(labels) < 0.35


# Wordings


def test_every_operation_has_eight_wordings_of_one_paragraph() -> None:
    for op in all_operations().values():
        wordings = op.wordings
        assert (len(wordings.train), len(wordings.validation), len(wordings.test)) == (5, 2, 1)
        everything = (*wordings.train, *wordings.validation, *wordings.test)
        assert len(set(everything)) == 8, op.name
        for text in everything:
            assert "\n" not in text
            assert "{" not in text
            assert text[0].isupper() or text[0] == '"'
            assert text[-1] in '.?!"', text
            assert len(text.split()) <= 50


def test_the_verb_of_the_test_side_is_in_no_other_wording() -> None:
    for op in all_operations().values():
        if not op.parts:
            (last,) = op.phrases[-1]
            wordings = op.wordings
            said = [text.lower() for text in (*wordings.train, *wordings.validation)]
            assert not any(last.lower() in text for text in said), op.name


def test_no_phrases_are_listed_for_nothing() -> None:
    said = {variant.said for variants in PRIMITIVES.values() for variant in variants}
    assert {*said, "one-of-several"} == read_lists("phrases").keys()


def test_too_few_phrases_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"`op-x`: expected three groups .* got 2"):
        make_wordings("op-x", (("say it",), ("tell it",)))


@pytest.mark.slow
def test_each_side_uses_its_wordings_and_validation_stands_at_the_end(
    tasks: Mapping[str, Task],
) -> None:
    for slug, task in tasks.items():
        wordings = all_operations()[slug].wordings
        said = [example.prompt.partition("\n\n")[0] for example in task.train]
        cut = NUM_TRAIN - NUM_VALIDATION
        assert set(said[:cut]) <= set(wordings.train)
        assert set(said[cut:]) <= set(wordings.validation)
        assert len(set(said[:cut])) >= 4
        assert {e.prompt.partition("\n\n")[0] for e in task.test} == set(wordings.test)


# Hold-outs


def test_no_family_is_on_both_sides_of_the_split() -> None:
    sides: dict[str, set[bool]] = defaultdict(set)
    for op in all_operations().values():
        sides[op.family].add(bool(op.holdout))
    assert all(len(found) == 1 for found in sides.values())


def test_held_out_primitives_are_part_of_nothing_that_is_trained() -> None:
    names = set(HELD_OUT)
    assert names == {op.family for op in held_out("primitive")}
    for op in (*trained(), *held_out("composition")):
        assert op.family not in names
        assert not {all_operations()[part].family for part in op.parts} & names


def test_parts_of_held_out_compositions_are_trained_alone_and_in_other_pairs() -> None:
    alone = {op.name for op in trained()}
    composed = set(chain.from_iterable(op.parts for op in trained()))
    for op in held_out("composition"):
        assert set(op.parts) <= alone
        assert set(op.parts) <= composed


def test_held_out_pairs_of_primitives_are_composed_in_no_order_in_training() -> None:
    pairs = {
        kind: {frozenset(all_operations()[part].family for part in op.parts) for op in ops}
        for kind, ops in (
            ("train", [op for op in trained() if op.parts]),
            ("heldout", held_out("composition")),
        )
    }
    assert pairs["heldout"] == HELD_OUT_PAIRS
    assert not pairs["train"] & HELD_OUT_PAIRS


# Inputs


def test_no_input_of_a_train_side_is_in_any_test_side(tasks: Mapping[str, Task]) -> None:
    train = {example.bare for task in tasks.values() for example in task.train}
    test = {example.bare for task in tasks.values() for example in task.test}
    assert None not in train | test
    assert not train & test


def test_words_of_train_and_test_differ_and_none_is_in_two_lists() -> None:
    def words(vocab: Vocabulary) -> list[str]:
        lists = (vocab.names, vocab.cities, vocab.things, vocab.nouns, vocab.adjectives)
        return [*chain.from_iterable(lists), *(verb.base for verb in vocab.verbs)]

    train, test = words(vocabulary("train")), words(vocabulary("test"))
    assert len({*train, *test}) == len(train) + len(test) > 300


def test_inputs_are_short_and_so_are_most_answers(tasks: Mapping[str, Task]) -> None:
    examples = [e for task in tasks.values() for e in (*task.train, *task.test)]
    assert all(len((e.bare or "").split()) <= 40 for e in examples)
    assert sum(len(e.response.split()) <= 12 for e in examples) / len(examples) > 0.9


def test_an_input_serves_many_tasks(tasks: Mapping[str, Task]) -> None:
    served = Counter(example.bare for task in tasks.values() for example in task.train)
    shared = sum(count for count in served.values() if count > 1)
    assert shared / served.total() > 0.8


def outputs() -> dict[str, dict[str, list[str | None]]]:
    """Input kind to operation to what it makes of 50 inputs."""
    items = {kind: draw_items(kind, make, "train", 50, 1) for kind, make in all_inputs().items()}
    found: dict[str, dict[str, list[str | None]]] = defaultdict(dict)
    for op in all_operations().values():
        found[op.kind][op.name] = [op.answer(item) for item in items[op.kind]]
    return found


def test_the_same_input_has_different_answers_under_different_operations() -> None:
    """The instruction must tell: 98 of 100 pairs differ in each kind, and no two are one."""
    for kind, answers in outputs().items():
        compared = differ = 0
        for (one, first), (other, second) in combinations(answers.items(), 2):
            both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None is not b]
            unlike = sum(a != b for a, b in both)
            assert unlike or not both, f"{one} and {other} are one operation"
            compared, differ = compared + len(both), differ + unlike
        assert differ / compared > 0.98, kind


def test_running_out_of_inputs_is_refused() -> None:
    with pytest.raises(ConfigError, match="kind `one`: expected 2 different texts for the train"):
        draw_items("one", lambda rng, vocab: Item("the only one"), "train", 2, 0)


# Answers

PINNED = {
    "op-first-2": ("river lamp stone", "river lamp"),
    "op-nth-2": ("river lamp stone", "lamp"),
    "op-drop-second": ("river lamp stone", "river stone"),
    "op-longest": ("owl river elephant", "elephant"),
    "op-vowel-keep": ("owl river Ember", "owl Ember"),
    "op-alternate-even": ("a b c d e", "b d"),
    "op-reverse": ("Maria buys 3 lamps", "lamps 3 buys Maria"),
    "op-reverse-after-colon": ("old attic: lamp stone", "old attic: stone lamp"),
    "op-reverse-each-line": ("a b\nc d e", "b a\ne d c"),
    "op-sort-up": ("stone Lamp river", "Lamp river stone"),
    "op-swap-first-two-last-line": ("a b c\nd e f", "a b c\ne d f"),
    "op-rotate-left": ("a b c", "b c a"),
    "op-upper-last-word-of-each-line": ("a b\nc d", "a B\nc D"),
    "op-upper-city": ("Tom is in Oslo.", "Tom is in OSLO."),
    "op-title-each-word": ("old LAMP", "Old LAMP"),
    "op-mark-quotes-first-word": ("old lamp", '"old" lamp'),
    "op-replace-blank-name": ("Tom is in Oslo.", "___ is in Oslo."),
    "op-repeat-first-word": ("old lamp", "old old lamp"),
    "op-join-hyphen-each-item": ("old lamp, red door", "old-lamp, red-door"),
    "op-count-spelled": ("a b c", "three"),
    "op-template-where": ("the lamp", "where is the lamp now"),
    "op-line-prefix-numbers": ("a\nb", "1. a\n2. b"),
    "op-item-join-and": ("a, b, c", "a, b and c"),
    "op-sentence-bang": ("It rains. Tom sings.", "It rains! Tom sings!"),
    "op-lookup-city": ("name: Tom\ncity: Oslo", "Oslo"),
    "op-record-swap": ("name: Tom\ncity: Oslo", "Tom: name\nOslo: city"),
    "op-pick-name-city": ("Tom is in Oslo.", "Tom, Oslo"),
    "op-remove-colour": ("Tom sold 3 red lamps.", "Tom sold 3 lamps."),
    "op-currency-word": ("It costs $12.", "It costs 12 dollars."),
    "op-date-long": ("Come on 2024-03-05.", "Come on 5 March 2024."),
    "op-dash-swap": ("old lamp - door", "door - old lamp"),
    "op-spell-each": ("We need 3 lamps and 12 chairs.", "We need three lamps and twelve chairs."),
    "op-number-plus-one": ("9 lamps and 12 chairs", "10 lamps and 13 chairs"),
    "op-difference": ("9 lamps and 12 chairs", "3"),
    "op-judge-length-long-short": ("one two three four five six", "long"),
    "op-judge-many-sun-rain": ("Tom sold 3 red lamps.", "rain"),
    "op-sort-up-then-add-bang-each-word": ("b c a", "a! b! c!"),
}


@pytest.mark.parametrize("name", PINNED)
def test_pinned_answers(name: str) -> None:
    text, answer = PINNED[name]
    assert apply_operation(name, text) == answer


def test_a_colour_is_removed_as_a_word_not_from_the_end_of_another() -> None:
    text = "On Monday Maria repaired 3 red lamps in Oslo."
    answer = "On Monday Maria repaired 3 lamps in Oslo."
    assert apply_operation("op-remove-colour", text) == answer


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("op-reverse", "two\nlines"),
        ("op-reverse-each-line", "one line"),
        ("op-reverse-after-colon", "no colon here"),
        ("op-longest", "two and six"),
        ("op-sort-up", "3 lamps"),
        ("op-pick-name", "Tom and Maria"),
        ("op-lookup-day", "name: Tom\ncity: Oslo"),
        ("op-date-year", "no date"),
        ("op-spell-each", "99 lamps and 3 chairs"),
        ("op-message-feeling-happy-good-bad", "I love the kettle."),
        ("op-sql-query", "shops: name, city, sales\nWhich shops are there?"),
        # Longer numbers than Python reads or writes.
        *((f"op-{name}", f"{'9' * 4300} lamps") for name in ("number-plus-one", "spell-each")),
        ("op-number-first-plus-one", f"{'9' * 5000} lamps and 3 chairs"),
        ("op-sum", f"3 lamps and {'9' * 5000} chairs"),
        ("op-judge-many-sun-rain", f"{'9' * 5000} lamps"),
    ],
)
def test_an_operation_that_does_not_apply_says_none(name: str, text: str) -> None:
    assert apply_operation(name, text) is None


def test_an_unknown_operation_is_refused() -> None:
    with pytest.raises(ConfigError, match="no operation 'op-fly'"):
        apply_operation("op-fly", "text")


@pytest.mark.slow
def test_stored_answers_follow_from_the_inputs(tasks: Mapping[str, Task]) -> None:
    executed = 0
    for slug, task in tasks.items():
        executable = all_operations()[slug].run is not None
        executed += executable
        for example in (*task.train[:10], *task.test):
            made = apply_operation(task.info.operation, example.bare or "")
            assert made == (example.response if executable else None), (slug, example)
    assert executed > 500


def test_answers_never_repeat_the_input(tasks: Mapping[str, Task]) -> None:
    assert not any(e.response == e.bare for t in tasks.values() for e in (*t.train, *t.test))


@pytest.mark.slow
@settings(max_examples=25)
@given(st.text(alphabet=st.sampled_from(list("aA é1.,:-\n$ \t'\"({\\0"))) | st.text(max_size=40))
def test_any_text_is_answered_or_declined(text: str) -> None:
    for name in all_operations():
        assert apply_operation(name, text) != ""


def test_guessing_the_commonest_answer_of_a_choice_does_not_pay(
    tasks: Mapping[str, Task],
) -> None:
    for task in tasks.values():
        if task.info.metric == "choice":
            for side in (task.train, task.test):
                ((_, count),) = Counter(e.response for e in side).most_common(1)
                assert count <= 0.6 * len(side), task.info.slug


# The folder


def test_the_folder_holds_every_operation_with_its_columns(folder: Path) -> None:
    with (folder / "tasks.csv").open(encoding="utf-8", newline="") as stream:
        rows: list[dict[str, Any]] = list(csv.DictReader(stream))
    assert [row["slug"] for row in rows] == list(all_operations())
    for row in rows:
        op = all_operations()[row["operation"]]
        assert row["licence"] == "CC0-1.0"
        assert row["licence_class"] == "permissive"
        assert row["source"] == "generated by this project"
        assert row["holdout"] == op.holdout
        assert row["split"] == ("heldout" if op.holdout else "train")
        assert row["input_kind"] == op.kind
        assert (row["n_train"], row["n_test"]) == (str(NUM_TRAIN), str(NUM_TEST))
    line = (folder / "tasks" / "op-reverse" / "train.jsonl").read_text(encoding="utf-8")
    assert set(json.loads(line.split("\n")[0])) == {"prompt", "response"}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    folder: Path, tmp_path: Path
) -> None:
    same = files(write(tmp_path / "same", hash_seed="2"))
    other = files(write(tmp_path / "other", seed=1))
    assert same == files(folder)
    assert other.keys() == same.keys()
    assert other["tasks/op-reverse/train.jsonl"] != same["tasks/op-reverse/train.jsonl"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "same"]


@pytest.mark.slow
def test_the_audit_finds_no_fault(folder: Path) -> None:
    code = (
        "from dnd_engine.tasks import audit, folder\n"
        "print(audit.audit_tasks(folder.load_tasks(pathlib.Path(sys.argv[1]))))"
    )
    assert run(code, folder) == "[]"


def test_an_existing_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(TaskError, match="is there already"):
        write_families(tmp_path)
    assert files(tmp_path) == {"mine.txt": b"mine"}


@pytest.mark.parametrize(("train", "test"), [(39, 5), (40, 0)])
def test_too_few_examples_are_refused(tmp_path: Path, train: int, test: int) -> None:
    with pytest.raises(ConfigError, match=rf"at least 40 train and 1 test .* {train} and {test}"):
        write_families(tmp_path / "out", train_examples=train, test_examples=test)
    assert not list(tmp_path.iterdir())


# Some operations in place of all


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [MIN_OPERATIONS, 13, 60, 200, 741])
def test_a_sample_lacks_nothing_that_the_whole_has(count: int, seed: int) -> None:
    everything = all_operations()
    drawn = sample_operations(everything, count, seed)
    assert len(drawn) == count
    assert [*drawn] == [name for name in everything if name in drawn]
    holdouts = Counter(op.holdout for op in drawn.values())
    for name in ("primitive", "composition", "family"):
        assert holdouts[name] == max(1, round(count * len(held_out(name)) / len(everything)))
    trained = {name: op for name, op in drawn.items() if not op.holdout}
    composed = set(chain.from_iterable(op.parts for op in trained.values()))
    for op in drawn.values():
        if op.holdout == "composition":
            assert set(op.parts) <= trained.keys() & composed
    kinds = Counter(op.kind for op in trained.values())
    assert min(kinds.values()) >= 2
    if count >= 60:
        assert len(kinds) >= 19
        assert any(op.options for op in trained.values())


def test_another_seed_draws_other_operations() -> None:
    one, same, other = (sample_operations(all_operations(), 60, seed) for seed in (0, 0, 1))
    assert [*one] == [*same]
    assert len(one.keys() & other.keys()) < 40


def test_a_sampled_folder_is_a_part_of_the_whole_and_its_tasks_share_inputs(
    folder: Path, tmp_path: Path
) -> None:
    """Two tasks of a kind draw from the same texts: by luck a few have none in common."""
    sampled = write(tmp_path / "tasks", num_operations=60)
    found, whole = files(sampled), files(folder)
    assert found.keys() < whole.keys()
    assert all(found[path] == whole[path] for path in found if path != "tasks.csv")
    lines = set(whole["tasks.csv"].splitlines())
    assert set(found["tasks.csv"].splitlines()) < lines
    trained = load_tasks(sampled, split="train")
    shared = SharedInputs(
        {i: (task, task.train[:-NUM_VALIDATION]) for i, task in enumerate(trained)}
    )
    assert len(shared.anchors) > 0.9 * len(trained)


@pytest.mark.parametrize("count", [0, MIN_OPERATIONS - 1, 743])
def test_a_sample_of_too_few_or_too_many_operations_is_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(ConfigError, match=rf"between 12 and 742 operations, got {count}\. Fewer w"):
        write_families(tmp_path / "out", num_operations=count)
    assert not list(tmp_path.iterdir())


def test_the_command_draws_operations(tmp_path: Path) -> None:
    def make(name: str, number: int) -> Result:
        out = str(tmp_path / name)
        sizes = ["--train", "40", "--test", "2", "--operations", str(number), "--json"]
        return CliRunner().invoke(app, ["tasks", "make", out, *sizes])

    assert json.loads(make("tasks", MIN_OPERATIONS).stdout)["num_tasks"] == MIN_OPERATIONS
    assert len(load_tasks(tmp_path / "tasks")) == MIN_OPERATIONS
    few = make("few", 5)
    assert few.exit_code == 2
    assert "Invalid value for '--operations': Input should be greater than" in few.stderr
    many = make("many", 743)
    assert many.exit_code == 1
    assert "Error: expected between 12 and 742 operations, got 743." in many.stderr


@pytest.mark.parametrize("count", [1, 3])
def test_few_examples_of_a_choice_can_be_had(count: int) -> None:
    pool = [Item(str(number)) for number in range(10)]
    choice = next(op for op in all_operations().values() if op.options)
    two = replace(choice, answer=lambda item: "even" if int(item.text) % 2 == 0 else "odd")
    assert len(_answered(two, pool, count, random.Random(0))) == count
