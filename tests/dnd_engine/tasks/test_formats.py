"""Answer formats: exact inverses, strictly read, and never trained where they are held out."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnd_engine.tasks.folder import Example, Task
from dnd_engine.tasks.formats import (
    ANSWER_FORMATS,
    expand,
    formatted,
    is_short_answer,
    pair_is_held_out,
    unseen,
)
from tests.task_info import task_info

SEEN = [name for name, found in ANSWER_FORMATS.items() if not found.held_out]
HELD_OUT = [name for name, found in ANSWER_FORMATS.items() if found.held_out]
ANSWERS = st.text(min_size=1).filter(str.strip)


def task(
    slug: str = "capitals", metric: str = "exact", response: str = "{city}", size: int = 50
) -> Task:
    """A task of `size` train and 5 test examples."""
    examples = tuple(
        Example(
            f"Name the capital.\n\ncountry {i}",
            response.format(city=f"city {i}"),
            (f"city {i}", "none") if metric == "choice" else (),
        )
        for i in range(size + 5)
    )
    return Task(task_info(slug, metric=metric), examples[:size], examples[size:])


def many() -> list[Task]:
    return [task(f"task-{i}", size=2) for i in range(100)]


def test_there_are_ten_formats_of_which_bold_and_round_brackets_are_held_out() -> None:
    assert (len(SEEN), HELD_OUT) == (8, ["bold", "round"])


@pytest.mark.parametrize("name", ANSWER_FORMATS)
def test_every_format_is_asked_for_in_eight_ways(name: str) -> None:
    wordings = ANSWER_FORMATS[name].wordings
    assert len(set(wordings)) == len(wordings) >= 8
    assert all(w.endswith(".") and "\n" not in w for w in wordings)


@pytest.mark.parametrize("name", ANSWER_FORMATS)
@given(answer=ANSWERS)
def test_unwrap_undoes_wrap(name: str, answer: str) -> None:
    assert ANSWER_FORMATS[name].unwrap(ANSWER_FORMATS[name].wrap(answer)) == answer


@pytest.mark.parametrize("name", [name for name in ANSWER_FORMATS if name != "json"])
@given(text=st.text(alphabet=st.sampled_from(list('[]"`-> *()Answer:</a'))))
def test_wrap_undoes_unwrap(name: str, text: str) -> None:
    """JSON leaves white space open; every other format has one spelling."""
    inside = ANSWER_FORMATS[name].unwrap(text)
    assert inside is None or ANSWER_FORMATS[name].wrap(inside) == text


@pytest.mark.parametrize(
    ("name", "text", "inside"),
    [
        ("json", '{"answer": "say \\"no\\" {x}"}', 'say "no" {x}'),
        ("json", '{ "answer":"Oslo" }', "Oslo"),
        ("json", '{"answer": 3}', None),
        ("json", '{"answer": "Oslo", "sure": true}', None),
        ("json", '{"result": "Oslo"}', None),
        ("json", '{"answer": "Oslo"', None),
        ("json", '"Oslo"', None),
        ("square", "[Oslo]", "Oslo"),
        ("square", "[[Oslo]]", "[Oslo]"),
        ("square", "[Oslo", None),
        ("square", "The answer is [Oslo]", None),
        ("square", "[]", None),
        ("quotes", '"say "no""', 'say "no"'),
        ("quotes", '"', None),
        ("tag", "<answer>Oslo</answer>", "Oslo"),
        ("tag", "<answer> </answer>", None),
        ("tag", "<Answer>Oslo</Answer>", None),
        ("prefix", "Answer: Oslo", "Oslo"),
        ("prefix", "Answer:Oslo", None),
        ("bullet", "- Oslo", "Oslo"),
        ("bullet", "* Oslo", None),
        ("arrow", "-> Oslo", "Oslo"),
        ("arrow", "- > Oslo", None),
        ("backticks", "`Oslo`", "Oslo"),
        ("backticks", "Oslo", None),
        ("bold", "**Oslo**", "Oslo"),
        ("bold", "**", None),
        ("bold", "***", None),
        ("bold", "*Oslo*", None),
        ("round", "(Oslo)", "Oslo"),
    ],
)
def test_reading_a_format_is_strict(name: str, text: str, inside: str | None) -> None:
    assert ANSWER_FORMATS[name].unwrap(text) == inside


@pytest.mark.parametrize("name", SEEN)
def test_no_format_reads_another_one(name: str) -> None:
    text = ANSWER_FORMATS[name].wrap("Oslo")
    assert [other for other in ANSWER_FORMATS if ANSWER_FORMATS[other].unwrap(text)] == [name]


def test_a_formatted_task_asks_in_the_instruction_and_answers_in_the_format() -> None:
    plain = task(metric="choice")
    made = formatted(plain, "square", 0)
    assert made.info == replace(
        plain.info,
        slug="capitals~square",
        answer_format="square",
        variant="square",
        description=made.info.description,
    )
    example = made.test[0]
    wording = ANSWER_FORMATS["square"].wordings[-1]
    assert example == Example(
        f"Name the capital. {wording}\n\ncountry 50", "[city 50]", ("[city 50]", "[none]")
    )
    assert [e.bare for e in made.train] == [e.bare for e in plain.train]
    assert plain == task(metric="choice")


def test_each_side_has_wordings_of_its_own() -> None:
    wordings = ANSWER_FORMATS["json"].wordings
    made = formatted(task(), "json", 0)

    def said(examples: tuple[Example, ...]) -> set[str]:
        heads = (example.prompt.partition("\n\n")[0] for example in examples)
        return {head.removeprefix("Name the capital. ") for head in heads}

    assert said(made.train[:40]) == set(wordings[:5])
    assert said(made.train[40:]) == set(wordings[5:7])
    assert said(made.test) == {wordings[7]}


@pytest.mark.parametrize(
    ("prompt", "asking"),
    [
        ("Name it\n\nx", "Name it. SAY.\n\nx"),
        ("Name it:\n\nx\n\ny", "Name it: SAY.\n\nx\n\ny"),
        ("Text:\nx is y.\n\nLabel:", "Text:\nx is y.\nSAY.\n\nLabel:"),
        ("What is x?", "What is x? SAY."),
    ],
)
def test_the_wording_joins_the_instruction_wherever_it_ends(prompt: str, asking: str) -> None:
    plain = task()
    plain = Task(plain.info, plain.train, (Example(prompt, "x"),))
    made = formatted(plain, "arrow", 0).test[0]
    assert made.prompt == asking.replace("SAY.", ANSWER_FORMATS["arrow"].wordings[-1])
    assert made.bare == plain.test[0].bare


def test_formatting_is_a_function_of_its_seed() -> None:
    assert formatted(task(), "json", 3) == formatted(task(), "json", 3)
    assert formatted(task(), "json", 3) != formatted(task(), "json", 4)


@pytest.mark.parametrize(
    ("made", "short"),
    [
        (task(), True),
        (task(metric="choice"), True),
        (task(metric="rouge"), False),
        (task(response="{city}\nand more"), False),
        (task(response="{city} " + "x" * 90), False),
        (formatted(task(), "json", 0), False),
    ],
)
def test_formats_suit_short_single_line_answers(made: Task, short: bool) -> None:
    assert is_short_answer(made) is short


def test_about_one_pair_in_five_is_held_out() -> None:
    pairs = [pair_is_held_out(t.info.slug, name) for t in many() for name in SEEN]
    assert 0.15 < sum(pairs) / len(pairs) < 0.25


def test_expansion_keeps_every_task_and_trains_nothing_held_out() -> None:
    tasks = [*many(), task("long", metric="rouge")]
    found = expand(tasks, per_task=3, seed=0)
    assert [t for t in found if not t.info.answer_format] == tasks
    made = [t for t in found if t.info.answer_format]
    assert len(made) == 300
    assert {t.info.answer_format for t in made} == set(SEEN)
    for found_task in made:
        slug, _, name = found_task.info.slug.partition("~")
        assert not pair_is_held_out(slug, name)
    assert len({t.info.slug for t in found}) == len(found)
    assert expand(tasks, per_task=3, seed=0) == found
    assert expand(tasks, per_task=0, seed=0) == tuple(tasks)


def test_unseen_pairs_are_what_expansion_can_never_make() -> None:
    found = unseen(many(), "pair", seed=0)
    trained = {t.info.slug for t in expand(many(), per_task=len(SEEN), seed=0)}
    everything = {f"{t.info.slug}~{name}" for t in many() for name in SEEN}
    assert {t.info.slug for t in found} == everything - trained
    assert {(t.info.holdout, t.info.split) for t in found} == {("pair", "heldout")}
    some = unseen(many(), "pair", limit=7, seed=0)
    assert len(some) == 7
    assert set(some) <= set(found)


def test_unseen_formats_are_the_held_out_ones() -> None:
    found = unseen(many(), "format", seed=0)
    assert len(found) == 2 * len(many())
    assert {t.info.answer_format for t in found} == set(HELD_OUT)
    assert {(t.info.holdout, t.info.split) for t in found} == {("format", "heldout")}
    assert len(unseen(many(), "format", limit=5, seed=0)) == 5


def test_json_keeps_letters_readable() -> None:
    assert ANSWER_FORMATS["json"].wrap("Käse") == '{"answer": "Käse"}'
    assert json.loads(ANSWER_FORMATS["json"].wrap('a "b" \\ c')) == {"answer": 'a "b" \\ c'}
