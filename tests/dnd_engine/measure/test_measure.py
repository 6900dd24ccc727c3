"""Measuring on labelled rows: no leak, honest verdicts, nothing lost by stopping."""

import csv
import hashlib
import io
import itertools
import json
import re
import zipfile
from collections.abc import Callable, Sequence
from collections.abc import Generator as Steps
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dnd_engine.cli import app
from dnd_engine.config import LabelledConfig, MeasureConfig
from dnd_engine.errors import ConfigError, MeasureError, TrainingError
from dnd_engine.library import Library
from dnd_engine.limits import FIXED
from dnd_engine.lora.adapter import Adapter
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.lora.reader import read_adapter
from dnd_engine.lora.seen import Seen, digests, with_inputs, with_met
from dnd_engine.measure import run
from dnd_engine.measure.picture import race_charts
from dnd_engine.measure.results import (
    EvalPass,
    ItemResult,
    Measurement,
    MeasureStep,
    Row,
    RowResult,
)
from dnd_engine.measure.sides import Sides, split
from dnd_engine.models.base import BaseModel
from dnd_engine.models.runtime import Runtime
from dnd_engine.models.turns import TurnLock
from dnd_engine.progress import finish
from dnd_engine.prompts.files import Prompt, PromptFile, read_prompt_file
from dnd_engine.prompts.split import split_prompt
from dnd_engine.scoring.metrics import Grader
from dnd_engine.scoring.questions import Answer, Question
from dnd_engine.scoring.statistics import Interval
from dnd_engine.tasks.folder import Example, Mode
from dnd_engine.training.finetune.collect_recipe import CollectRecipe
from dnd_engine.training.finetune.steps import check_points
from tests.dnd_engine.tiny import BASE_ID, CONFIG, LAYOUT, byte_tokenizer, make_adapter, text_of
from tests.present import present

TOKENIZER = byte_tokenizer()
UNKNOWN = Seen(frozenset(), frozenset(), known=False)
WORDS = [f"{a}{b}" for a in "abcdef" for b in "uvwxyz"]
ROWS = [(f"Say it.\n\n{word}", word[::-1]) for word in WORDS]
"""36 of them, no label twice."""
TRAINING = LabelledConfig(steps=20, batch_size=4, learning_rate=1e-2, warmup_steps=1)


def labelled(rows: Sequence[tuple[str, str | None]], name: str = "rows.csv") -> PromptFile:
    return PromptFile(
        name=name,
        prompts=tuple(
            Prompt(text=text, file=name, line=line, label=label)
            for line, (text, label) in enumerate(rows, start=2)
        ),
        split="rows",
        column="prompt",
        notes=(),
        num_bytes=1,
        sha256=hashlib.sha256(repr(rows).encode()).hexdigest(),
    )


def sides(
    rows: Sequence[tuple[str, str | None]] = ROWS, seen: Seen = UNKNOWN, **config: Any
) -> Sides:
    return split(labelled(rows), TOKENIZER, seen, MeasureConfig(**config))


def start(adapter: Adapter, of: Sides | None = None) -> Measurement:
    return Measurement(
        sides=of or sides(),
        adapter=adapter.name,
        adapter_sha256=adapter.sha256,
        strength=adapter.strength,
        base=adapter.base_id,
        synthesis_seconds=0.3,
        seed=0,
    )


# What is scored


def spaced(text: str) -> str:
    return " ".join(text.split())


prompts = st.lists(
    st.tuples(
        st.sampled_from(["Say it.\n\n", "Turn it round.\n\n", "Say it.  \n\n", ""]),
        st.sampled_from(WORDS[:12]),
    ).map("".join),
    min_size=2,
    max_size=30,
)


@given(
    texts=prompts,
    read=st.sets(st.sampled_from([f"Say it.\n\n{word}" for word in WORDS[:12]])),
    learnt=st.sets(st.sampled_from(WORDS[:12])),
    limit=st.integers(1, 20),
    seed=st.integers(0, 3),
    allow=st.booleans(),
)
@settings(max_examples=60)
def test_no_scored_row_is_learnt_shown_or_met(
    texts: list[str], read: set[str], learnt: set[str], limit: int, seed: int, allow: bool
) -> None:
    rows = [(text, f"{n}") for n, text in enumerate(texts)]
    seen = Seen(digests(read), digests(learnt), known=True)
    config: dict[str, Any] = {"limit_items": limit, "seed": seed, "allow_seen": allow}
    try:
        found = sides(rows, seen, **config)
    except MeasureError:
        hidden = learnt if allow else learnt | read
        fresh = {spaced(t) for t in texts} - {spaced(t) for t in hidden}
        fresh -= {spaced(t) for t in texts if split_prompt(t).bare in hidden}
        assert not fresh or len({spaced(t) for t in texts}) < 2
        return
    scored = {spaced(e.prompt) for e in found.test}
    assert len(scored) == len(found.test) <= min(limit, len(texts) // 2)
    assert not scored & {spaced(e.prompt) for e in found.train}
    assert not scored & {spaced(text) for text in learnt}
    assert found.num_seen_scored >= len(scored & {spaced(text) for text in read})
    assert allow or found.num_seen_scored == 0
    by_line = dict(enumerate(texts, start=2))
    assert [by_line[n] for n in found.lines] == [e.prompt for e in found.test]
    again = sides(rows, seen, **config)
    assert (again.lines, again.train) == (found.lines, found.train)


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("other", ["", "Repeat.\n\n"])
def test_inputs_that_the_adapter_has_seen_under_an_instruction_are_not_scored(
    labels: bool, other: str
) -> None:
    made = with_met({"generator_sha256": "g"}, [text for text, _ in ROWS[:30]], labels=labels)
    seen = Seen.by(with_met(made, [], labels=False))
    found = sides([(f"{other}{word}", word[::-1]) for word in WORDS], seen)
    assert {split_prompt(e.prompt).bare for e in found.test} <= set(WORDS[30:])
    assert found.num_seen == 30


def test_instructed_rows_of_inputs_that_the_adapter_has_seen_bare_are_not_scored() -> None:
    seen = Seen.by(with_met({"generator_sha256": "g"}, WORDS[:30], labels=False))
    assert {e.bare for e in sides(ROWS, seen).test} <= set(WORDS[30:])


def test_one_question_below_many_texts_does_not_make_all_rows_seen() -> None:
    rows = [(f"{word}\n\nIs it good?", word) for word in WORDS]
    seen = Seen.by(with_met({"generator_sha256": "g"}, [rows[0][0]], labels=False))
    assert sides(rows, seen).num_seen == 1


def test_an_input_that_is_scored_is_not_learnt_under_another_instruction() -> None:
    rows = [(f"{how}\n\n{word}", word) for word in WORDS for how in ("Say it.", "Repeat.")]
    found = sides(rows, limit_items=10)
    assert not {e.bare for e in found.test} & {e.bare for e in found.train}
    assert found.num_repeated > 0
    assert "repeated" in " ".join(found.notes)


def test_inputs_of_few_scored_rows_are_not_learnt_under_other_instructions_either() -> None:
    """Among four rows, each may have an instruction of its own, though few are used."""
    hows = ("Say it.", "Repeat.", "Echo.", "Copy.", "Again.")
    rows = [(f"{how}\n\n{word}", word) for word in WORDS[:8] for how in hows]
    for limit in (1, 2, 4):
        found = sides(rows, limit_items=limit)
        assert not {e.bare for e in found.test} & {e.bare for e in found.train}


def test_rows_that_cannot_be_scored_are_counted() -> None:
    rows = [*ROWS, ("No label", None), ("Long\n\n" + "x" * 400, "a"), ("Say  it.\n\nau ", "ua")]
    found = sides(rows)
    assert (found.num_rows, found.num_unlabelled) == (39, 1)
    assert (found.num_too_long, found.num_repeated) == (1, 1)
    assert len(found.test) + len(found.train) == len(ROWS)
    assert "Left out: 1 without a label, 1 too long, 1 repeated." in found.notes


def test_labels_that_no_answer_can_hold_are_counted() -> None:
    rows = [(f"Say it.\n\n{n}", str(n % 10) * size) for n, size in enumerate([5, 20, 21] * 12)]
    found = sides(rows, metric="exact", max_new_tokens=20)
    long = sum(len(e.response) > 20 for e in found.test)
    assert 0 < long == found.num_cut < len(found.test)
    words = f"{long} scored labels are longer than the 20 tokens of an answer, so no answer"
    assert any(words in note for note in found.notes)
    assert not any("tokens of an answer" in note for note in sides().notes)


def test_a_reader_is_told_what_the_adapter_has_met() -> None:
    read = digests(text for text, _ in ROWS[:30])
    found = sides(seen=Seen(read, frozenset(), known=True), limit_items=4)
    assert "30 rows are not scored, as the adapter has seen their prompts or inputs." in found.notes
    assert any("does not say which prompts" in note for note in sides().notes)
    found = sides(seen=Seen(read, frozenset(), known=True), allow_seen=True)
    assert any("has not learnt their labels" in note for note in found.notes)


@pytest.mark.parametrize(
    ("labels", "metric", "options"),
    [
        (["yes", "no"] * 18, "choice", ("no", "yes")),
        ([f"answer {n}" for n in range(36)], "exact", ()),
        ([" ".join([f"word{n}"] * 20) for n in range(36)], "rouge", ()),
        (["слово " * 20 + str(n) for n in range(36)], "exact", ()),
        (["same"] * 36, "exact", ()),
    ],
    ids=["few labels", "short answers", "long answers", "letters that ROUGE drops", "one label"],
)
def test_the_metric_follows_from_the_labels(
    labels: list[str], metric: str, options: tuple[str, ...]
) -> None:
    rows = [(f"Say.\n\n{n}", label) for n, label in enumerate(labels)]
    found = sides(rows)
    assert (found.metric, found.options) == (metric, options)
    assert all(e.options == options for e in found.test)


def test_the_note_on_a_choice_says_when_case_counts() -> None:
    found = sides([(f"Say.\n\n{n}", ["Yes", "yes", "No"][n % 3]) for n in range(36)])
    item = next(e for e in found.test if e.response == "Yes")
    graded = [Grader(found.metric).grade(item, text).score for text in ("Yes", "yes")]
    assert graded == [1, 0]
    assert any("Case counts only if two labels differ" in note for note in found.notes)


def test_bare_inputs_are_asked_only_where_there_are_some() -> None:
    mixed = [
        (text if n % 2 else text.replace("\n\n", " "), label)
        for n, (text, label) in enumerate(ROWS)
    ]
    found = sides(mixed)
    assert found.modes == ("bare", "full")
    assert 0 < len(found.asked("bare")) < len(found.asked("full")) == len(found.test)
    plain = [(f"Plain {n}", "x") for n in range(10)]
    assert sides(plain).modes == ("full",)
    with pytest.raises(MeasureError, match=r"rows\.csv: no scored prompt .* Ask in mode `full`"):
        sides(plain, modes=("bare",))


@pytest.mark.parametrize(
    ("rows", "config", "message"),
    [
        ([("a", None), ("b", None)], {}, r"expected a label beside each prompt, got none for 2"),
        (ROWS[:1], {}, r"two or more labelled rows of at most 384 tokens, got 1 of 1\. Add rows"),
        (ROWS, {"max_tokens": 3}, r"of at most 3 tokens, got 0 of 36"),
        (ROWS, {"metric": "choice"}, r"needs 2 to 12 distinct labels that repeat, got 36 among 36"),
        (
            [*ROWS, ("Say it.\n\ng", "καλημέρα κόσμε 5"), ("Say it.\n\n?", "—")],
            {"metric": "rouge"},
            r"a to z and digits, of which 2 of 38 labels .*κόσμε 5.*\. Take `exact`",
        ),
    ],
)
def test_rows_that_cannot_be_measured_on_are_refused(
    rows: list[tuple[str, str | None]], config: dict[str, Any], message: str
) -> None:
    with pytest.raises(MeasureError, match=message):
        sides(rows, **config)


def test_an_adapter_that_has_met_everything_is_told_with_the_way_out() -> None:
    every = digests(text for text, _ in ROWS)
    told = r"prompts or inputs of all 36 labelled rows, so none is left.*or tick “Score prompts"
    with pytest.raises(MeasureError, match=told):
        sides(seen=Seen(every, frozenset(), known=True))
    assert sides(seen=Seen(every, frozenset(), known=True), allow_seen=True).num_seen_scored == 18
    with pytest.raises(MeasureError, match=r"make an adapter from part of them\.$"):
        sides(seen=Seen(frozenset(), every, known=True), allow_seen=True)
    # To allow them would not help, as prompts whose labels it learnt are never scored.
    with pytest.raises(MeasureError, match=r"make an adapter from part of them\.$"):
        sides(seen=Seen(frozenset(), every, known=True))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"limit_items": 0}, "`limit_items` must be at least 1"),
        ({"modes": ()}, "`modes` must be `bare`, `full` or both, .* got none"),
        ({"modes": ("full", "full")}, "`modes` must be `bare`, `full` or both, each at most once"),
    ],
)
def test_settings_out_of_bounds_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MeasureConfig(**wrong)


# What an adapter has seen


def test_what_an_adapter_met_adds_up_in_its_provenance() -> None:
    made = with_met({"generator_sha256": "g"}, ["a  b", "c"], labels=False)
    refined = with_met(made, ["d"], labels=False)
    trained = with_met(with_met(refined, ["e"], labels=True), ["f"], labels=True)
    assert Seen.by(trained) == Seen(digests(["a b", "c", "d"]), digests(["e", "f"]), known=True)
    assert not any(text in str(trained.values()) for text in ("a  b", "a b"))
    only_trained = with_met({}, ["e"], labels=True)
    assert Seen.by(only_trained) == Seen(frozenset(), digests(["e"]), known=True)
    of_earlier_version = with_met({"generator_sha256": "g"}, ["e"], labels=True)
    assert not Seen.by(of_earlier_version).known
    began_unknown = with_met({}, ["e"], labels=True, after={})
    went_on = with_met(began_unknown, ["f"], labels=True, after=began_unknown)
    assert Seen.by(went_on) == Seen(frozenset(), digests(["e", "f"]), known=False)
    assert Seen.by(with_met(made, ["f"], labels=True, after=made)).known


def test_of_more_prompts_than_its_reader_takes_a_provenance_lists_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dnd_engine.lora.seen.FIXED", replace(FIXED, max_listed_prompts=2))
    few = with_met({"generator_sha256": "g"}, WORDS[:4], labels=False)
    assert Seen.by(few) == Seen(digests(WORDS[:4]), frozenset(), known=True)
    many = with_met(few, ["one more"], labels=False, after=few)
    assert Seen.by(many) == Seen(frozenset(), frozenset(), known=False)
    assert not Seen.by(with_met({"generator_sha256": "g"}, ["a"], labels=False, after=many)).known


@pytest.mark.parametrize("strange", [{}, {"prompts_read": 3}, {"generator_sha256": ["a"]}])
def test_a_strange_provenance_tells_nothing(strange: dict[str, Any]) -> None:
    assert Seen.by(strange) == UNKNOWN


# Planted answers


def plant(monkeypatch: pytest.MonkeyPatch, right: Callable[[FittedLoRA | None, int], bool]) -> None:
    """Whether an item is answered rightly depends on what is active and the item's last letters."""
    end = TOKENIZER.eos_token_id

    def reply(question: Question, active: FittedLoRA | None) -> Answer:
        ids = tuple(t for t in question.reference if t != end)
        number = WORDS.index(text_of(TOKENIZER, ids)[::-1])
        good = right(active, number)
        return Answer(0.5 if good else 2.0, (), ids if good else ids[:1])

    def answer(
        runtime: object, groups: Sequence[Sequence[Question]], active: FittedLoRA | None
    ) -> list[list[Answer]]:
        return [[reply(question, active) for question in group] for group in groups]

    monkeypatch.setattr(run, "answer", answer)


def row_of(found: Measurement, row: Row, mode: Mode = "bare") -> RowResult:
    """Its last point, complete or not."""
    return [r for r in found.rows if (r.row, r.mode) == (row, mode)][-1]


def lead_over(found: Measurement, row: Row, mode: Mode = "bare") -> Interval:
    return present(row_of(found, row, mode).lead)


def measuring(
    base: BaseModel, of: Sides | None = None
) -> tuple[list[FittedLoRA], TurnLock, Steps[MeasureStep, None, Measurement]]:
    runtime = Runtime.of(base, LAYOUT)
    fitted = [
        runtime.host.fit(make_adapter(seed).tokens[None].float(), LAYOUT) for seed in range(2)
    ]
    steps = run.measure(runtime, fitted[0], fitted[1], start(make_adapter(), of))
    return fitted, runtime.lock, steps


def test_an_adapter_that_is_right_gains_and_the_interval_says_so(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    (adapter, _), _, steps = measuring(base)
    plant(monkeypatch, lambda active, n: active is adapter and n % 6 > 0)
    found = finish(steps)
    for mode in ("bare", "full"):
        own, beside = row_of(found, "adapter", mode), row_of(found, "base", mode)
        lead = lead_over(found, "base", mode)
        assert own.lead is None
        assert own.score.mean > 0.6
        assert beside.score.mean == 0
        assert lead.low > 0.4
        assert (beside.verdict, lead.unit, beside.num_items) == ("gain", "items", 18)
        assert own.nll == pytest.approx(0.5, abs=0.4)
        assert beside.nll == 2.0
        assert row_of(found, "shared_lora", mode).verdict == "gain"
    assert "A clear gain over base (+" in found.verdicts[0]
    assert " and what all adapters share (+" in found.verdicts[0]
    assert all(row.score.low < row.score.high for row in found.rows), "also where all are right"


def test_verdicts_tell_of_rows_that_are_through_alone(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    (adapter, _), _, steps = measuring(base)
    plant(monkeypatch, lambda active, n: active is adapter)
    short = next(s.measured for s in steps if s.row == "shared_lora")  # 16 of 18 bare items
    assert lead_over(short, "shared_lora").units == 16  # paired by the items that both have
    (row,) = (r for r in short.to_json()["rows"] if r["row"] == "shared_lora")
    assert (row["n_items"], row["lead"]["mean"], row["verdict"]) == (16, 1.0, None)
    assert "A clear gain over base (" in short.verdicts[0]
    assert "what all adapters share" not in " ".join(short.verdicts)


def test_verdicts_tell_the_last_whole_point_of_a_training() -> None:
    """At step 0 the LoRA still is the base, and a point that is not through looks too good."""
    few = sides(limit_items=12, modes=("full",))
    right, wrong = (
        tuple(
            ItemResult(line=line, score=score, choice=None, nll=1.0, text="a") for line in few.lines
        )
        for score in (1.0, 0.0)
    )
    passes = [
        EvalPass(row="base", mode="full", items=wrong),
        EvalPass(row="adapter", mode="full", items=right),
        EvalPass(row="trained_lora", mode="full", items=wrong),
    ]
    found = replace(start(make_adapter(), few), passes=tuple(passes))
    assert [row.row for row, _ in found.beside("full")["gain"]] == ["base"]
    assert "0 steps" not in found.verdicts[0]
    passes += [
        EvalPass(row="trained_lora", mode="full", steps=5, items=wrong),
        EvalPass(row="trained_lora", mode="full", steps=10, items=right[:3]),
    ]
    found = replace(found, passes=tuple(passes))
    assert [(row.row, row.steps) for row, _ in found.beside("full")["gain"]] == [
        *(("base", 0), ("trained_lora", 5)),
    ]
    assert "5 steps (+1.00" in found.verdicts[0]
    # The library keeps the same point, and the table gives the unfinished one no lead.
    kept = [(row.row, row.steps) for row in found.scores()["rows.csv"].rows]
    assert kept == [("base", 0), ("adapter", 0), ("trained_lora", 5)]
    (unfinished,) = (line for line in found.markdown().splitlines() if "10 steps" in line)
    assert "+" not in unfinished
    assert "| 3 |" in unfinished
    # The LoRA is that of 10 steps, whose score is not known yet.
    assert found.scores("trained_lora") == {}


def test_one_answer_for_all_rows_is_told_beside_what_the_commonest_label_scores() -> None:
    """Nine of twelve rows are `no`, and the adapter says so to every row."""
    examples = tuple(
        Example(f"Is it?\n\n{n}", "no" if n < 9 else "yes", options=("no", "yes"))
        for n in range(12)
    )
    few = replace(
        sides(),
        test=examples,
        lines=tuple(range(12)),
        options=("no", "yes"),
        modes=("bare",),
    )
    always = tuple(
        ItemResult(line=n, score=float(n < 9), choice=n < 9, nll=1.0, text="no") for n in range(12)
    )
    never = tuple(replace(item, score=0.0, text="well") for item in always)
    found = replace(
        start(make_adapter(), few),
        passes=(
            EvalPass(row="base", mode="bare", items=never),
            EvalPass(row="adapter", mode="bare", items=always),
        ),
    )
    assert found.commonest("bare") == ("no", 0.75)
    assert not found.beats_commonest("bare")
    assert found.always_answers("bare") == "no"
    (told,) = found.verdicts
    assert "A clear gain over base" in told
    assert "Answering always `no` would score .75." in told
    assert told.endswith("It gives every row the same answer: `no`.")


def test_answers_in_a_verdict_are_short_and_cannot_be_markdown_or_terminal_codes() -> None:
    answer = "`<img src=x>`\n\n# Title \x1b[31m" + "word " * 100
    few = replace(sides(), options=())
    items = tuple(
        ItemResult(line=line, score=0.0, choice=None, nll=1.0, text=answer)
        for line, _ in few.asked("full")
    )
    passes = tuple(EvalPass(row=row, mode="full", items=items) for row in ("base", "adapter"))
    (told,) = replace(start(make_adapter(), few), passes=passes).verdicts
    assert told.endswith("word`.")
    shown = told.rpartition("the same answer: ")[2]
    assert shown.count("`") == 2
    assert shown.isprintable()
    assert len(shown) < 60


def test_always_the_commonest_label_scores_by_the_metric() -> None:
    """Labels that share words are partly right for each other by ROUGE."""
    examples = tuple(
        Example(f"Is it?\n\n{n}", "very good" if n < 3 else "not good") for n in range(4)
    )
    options = ("not good", "very good")
    few = replace(sides(), test=examples, lines=tuple(range(4)), options=options, metric="rouge")
    assert start(make_adapter(), few).commonest("bare") == ("very good", (3 + 0.5) / 4)
    exact = start(make_adapter(), replace(few, metric="exact"))
    assert exact.commonest("bare") == ("very good", 0.75)


def test_the_commonest_label_is_that_of_the_rows_asked_in_the_mode() -> None:
    """Rows without an instruction are not asked bare, so their labels do not count there."""
    bare = [Example(f"Is it?\n\n{n}", "no", options=("no", "yes")) for n in range(3)]
    whole = [Example(f"Is it {n}?", "yes", options=("no", "yes")) for n in range(5)]
    few = replace(sides(), test=(*bare, *whole), lines=tuple(range(8)), options=("no", "yes"))
    found = start(make_adapter(), few)
    assert found.commonest("bare") == ("no", 1.0)
    assert found.commonest("full") == ("yes", 5 / 8)


def test_rows_without_an_instruction_are_not_called_full_prompts() -> None:
    """The base was not told the task, so the verdict on it says so."""
    rows = [(f"The film was {word}", word) for word in WORDS]
    found = start(make_adapter(), sides(rows, limit_items=8))
    right = tuple(
        ItemResult(line=n, score=1.0, choice=None, nll=1.0, text="a") for n in found.sides.lines
    )
    wrong = tuple(replace(item, score=0.0) for item in right)
    found = replace(
        found,
        passes=(
            EvalPass(row="base", mode="full", items=wrong),
            EvalPass(row="adapter", mode="full", items=right),
        ),
    )
    (told,) = found.verdicts
    assert told.startswith("As in your file: this adapter scores 1.00")
    assert "Your rows have no instruction, so the base was not told the task." in told
    assert "| As in your file | Base |" in found.markdown()
    assert "Full" not in found.markdown()
    assert [chart.title for chart in race_charts(found)] == ["As in your file"]
    assert found.scores()["rows.csv"].brief == (("plain", 1.0, 0.0),)


def test_a_useless_adapter_is_told_as_no_gain(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    (adapter, _), _, steps = measuring(base)
    plant(monkeypatch, lambda active, n: n % 2 == (active is adapter))
    found = finish(steps)
    lead = lead_over(found, "base")
    assert lead.low < 0 < lead.high
    assert row_of(found, "base").verdict == "no clear difference"
    assert "No gain clear of zero over base" in found.verdicts[0]


def test_a_harmful_adapter_is_told_as_worse(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    (adapter, _), _, steps = measuring(base)
    plant(monkeypatch, lambda active, n: active is not adapter)
    found = finish(steps)
    assert row_of(found, "base").verdict == "loss"
    assert "Clearly worse than base (-1.00, -1.00 to -.65)" in found.verdicts[0]


def test_five_items_decide_nothing(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    (adapter, _), _, steps = measuring(base, sides(limit_items=5))
    plant(monkeypatch, lambda active, n: active is adapter)
    found = finish(steps)
    assert lead_over(found, "base").mean == 1
    assert row_of(found, "base").verdict == "too few items"
    assert "Too few items to place it beside base" in found.verdicts[0]


def test_steps_tell_how_far_it_is_and_stopping_keeps_what_was_found(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, lock, steps = measuring(base)
    plant(monkeypatch, lambda active, n: active is not None)
    seen: list[MeasureStep] = []
    for step in steps:
        assert not lock.locked()
        seen.append(step)
        if step.row == "adapter":
            steps.close()
            break
    assert all(r.lead is None for r in seen[-1].measured.rows), "of 16 short items out of 18"
    assert seen[-1].measured.verdicts == ()
    assert [step.done for step in seen] == [16, 18, 34, 36, 52]
    assert {step.total for step in seen} == {4 * 36}
    assert all(step.seconds_left is not None and step.stage == "score" for step in seen)
    kept = seen[-1].measured
    assert [(r.row, r.mode, r.num_items) for r in kept.rows] == [
        ("base", "bare", 18),
        ("adapter", "bare", 16),
        ("base", "full", 18),
    ]
    assert row_of(kept, "base", "full").lead is None
    json.dumps(kept.to_json())
    assert "This adapter" in kept.markdown()
    assert race_charts(kept)


def test_few_shots_come_from_the_train_side_and_their_lack_is_told(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answer(
        runtime: object, groups: Sequence[Sequence[Question]], active: object
    ) -> list[list[Answer]]:
        asked.extend(text_of(TOKENIZER, q.prompt) for group in groups for q in group)
        return [[Answer(1, (), ())] * len(group) for group in groups]

    monkeypatch.setattr(run, "answer", answer)
    _, _, steps = measuring(base)
    found = finish(steps)
    shown = [text for text in asked if text.count("<|im_start|>assistant") > 1]
    assert len(shown) == 36
    train = {e.prompt for e in found.sides.train}
    held = {word for word in WORDS if f"Say it.\n\n{word}" not in train}
    for text in shown:
        *before, _ = text.split("<|im_start|>user\n")
        assert not any(f"{word}<|im_end|>" in part for part in before for word in held)
    _, _, steps = measuring(base, replace(sides(), train=()))
    found = finish(steps)
    assert found.row("few_shot", "full") is None
    assert "few-shot prompt was not measured: no row is left" in " ".join(found.notes)


def test_options_are_weighed_where_labels_are_few(base: BaseModel) -> None:
    rows = [(f"Is it?\n\n{word}", "yes" if word[0] in "abc" else "no") for word in WORDS]
    _, _, steps = measuring(base, sides(rows, limit_items=8))
    found = finish(steps)
    assert all(r.choice is not None for r in found.rows)
    assert "right label likeliest" in found.markdown()


def test_items_and_tables_hold_what_was_found(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, steps = measuring(base)
    plant(monkeypatch, lambda active, n: active is not None)
    found = finish(steps)
    items = list(csv.DictReader(io.StringIO(found.items_csv())))
    assert len(items) == 4 * 2 * 18
    lines = dict(enumerate(ROWS, start=2))
    for item in items:
        assert lines[int(item["line"])] == (item["prompt"], item["label"])
        assert (item["answer"] == item["label"]) == (item["score"] == "1.0")
    values = json.loads(json.dumps(found.to_json()))
    assert values["data"]["num_scored"] == 18
    assert "Say it." not in json.dumps(values)
    assert {r["row"] for r in values["rows"]} == {"base", "adapter", "shared_lora", "few_shot"}
    table = found.markdown()
    assert table.startswith("| input | row | score | 95 % | nats a token |")
    assert "| Bare | This adapter | 1.00 | .82 to 1.00 | .50 |  | 18 |  |" in table


def for_the_command(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch, folder: Path, stops: int = -1
) -> tuple[Library, Path, type]:
    """Give the command a library with an adapter, labelled rows, and an engine that is tiny.

    Args:
        base: The engine's.
        monkeypatch: Of the test.
        folder: Where library and rows go.
        stops: Number of the step at which Ctrl-C is pressed.
    """

    class TinyEngine:
        @staticmethod
        def read_adapter(path: Path) -> Adapter:
            return read_adapter(path, CONFIG, BASE_ID)

        @staticmethod
        def measure(adapter: Adapter, file: PromptFile, config: MeasureConfig) -> Any:
            (active, _), _, steps = measuring(base, split(file, TOKENIZER, UNKNOWN, config))
            plant(monkeypatch, lambda chosen, n: chosen is active)
            for number in itertools.count():
                try:
                    yield next(steps)
                except StopIteration as end:
                    return end.value
                if number == stops:
                    raise KeyboardInterrupt

    monkeypatch.setattr("dnd_engine.cli.measure.load_engine", lambda config: TinyEngine())
    library = Library(folder / "library")
    library.add(make_adapter(), "vault")
    (data := folder / "rows.csv").write_text(
        "prompt,label\n" + "".join(f'"{text}",{label}\n' for text, label in ROWS), "utf-8"
    )
    return library, data, TinyEngine


def test_the_command_keeps_scores_with_an_adapter_of_the_library(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library, data, tiny = for_the_command(base, monkeypatch, tmp_path)
    place = ["--library", str(library.root)]
    for _ in range(2):  # measured again, it is replaced
        result = CliRunner().invoke(app, ["measure", "vault", str(data), *place])
        assert result.exit_code == 0, result.output
    (kept,) = library.get("vault").scores.values()
    assert kept.brief == (("bare", 1.0, 0.0), ("full", 1.0, 0.0))
    assert (kept.own, kept.num_scored, kept.metric) == ("adapter", 18, "exact")
    assert {r.row for r in kept.rows} == {"base", "adapter", "shared_lora", "few_shot"}
    listed = CliRunner().invoke(app, ["library", "list", *place]).stdout
    assert "rows.csv: bare 1.00 (base 0.00), full 1.00 (base 0.00)" in listed
    library.update("vault", strength=0.5)
    listed = CliRunner().invoke(app, ["library", "list", *place]).stdout
    assert "rows.csv at strength 1: bare 1.00 (base 0.00)" in listed
    monkeypatch.setattr(tiny, "measure", lambda *_: measuring(base)[2])
    monkeypatch.setattr(Library, "load", lambda *_: library.delete("vault") and make_adapter())
    result = CliRunner().invoke(app, ["measure", "vault", str(data), *place])
    assert result.exit_code == 0, "an entry that is gone by now costs no measurement"
    assert "The scores could not be stored in the library: no adapter" in result.stderr


def test_the_command_keeps_what_was_finished_before_it_was_stopped(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library, data, _ = for_the_command(base, monkeypatch, tmp_path, stops=5)
    out = tmp_path / "out"
    asked = ["measure", "vault", str(data), "--library", str(library.root), "--out", str(out)]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 130, result.output
    assert f"What was finished is in `{out}`." in result.stderr
    rows = json.loads((out / "measurement.json").read_text())["rows"]
    assert ("adapter", "bare", 18) in [(r["row"], r["mode"], r["n_items"]) for r in rows]
    assert len((out / "items.csv").read_text().splitlines()) > 18
    assert not library.get("vault").scores, "those of a whole measurement are not replaced"
    (out / "measurement.json").write_text("earlier")
    result = CliRunner().invoke(app, asked)
    assert f"`{out}` still holds the earlier measurement." in result.stderr
    assert (out / "measurement.json").read_text() == "earlier"


def test_only_rows_that_are_through_are_kept_as_scores(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, steps = measuring(base)
    plant(monkeypatch, lambda active, n: active is not None)
    seen = [step.measured.scores() for step in steps]
    assert seen[:5] == [{}] * 5, "the adapter has not answered all of a mode"
    first = seen[5]["rows.csv"]
    assert [(r.row, r.mode) for r in first.rows] == [
        ("base", "bare"),
        ("adapter", "bare"),
        ("base", "full"),
    ]
    assert first.brief == (("bare", 1.0, 0.0),)


# Training


def training(
    base: BaseModel,
    adapter: Adapter,
    config: LabelledConfig = TRAINING,
    *,
    warm_start: bool = False,
) -> tuple[Runtime, Measurement, Steps[MeasureStep, None, Measurement]]:
    runtime = Runtime.of(base, LAYOUT)
    fits = [runtime.host.fit(a.tokens[None].float(), LAYOUT) for a in (adapter, make_adapter(1))]
    before = finish(run.measure(runtime, fits[0], fits[1], start(adapter, sides(limit_items=8))))
    steps = run.train(runtime, adapter, before, config, warm_start=warm_start, origin={"base": "b"})
    return runtime, before, steps


@pytest.mark.slow
def test_a_lora_is_scored_on_its_way_and_comes_back_as_an_adapter(base: BaseModel) -> None:
    adapter = make_adapter()
    runtime, _, steps = training(base, adapter)
    seen: list[MeasureStep] = []
    found = finish(steps, seen.append)
    curve = [r for r in found.rows if r.row == "trained_lora" and r.mode == "bare"]
    assert [r.steps for r in curve] == [0, 5, 10, 20]
    assert [r.num_items for r in curve] == [8] * 4
    seconds = [r.train_seconds for r in curve]
    assert seconds[0] == 0
    assert seconds == sorted(seconds)
    untrained = row_of(found, "base")
    assert (curve[0].score, curve[0].nll) == (untrained.score, untrained.nll)
    losses = [present(step.loss) for step in seen if step.stage == "train"]
    assert len(losses) == 20
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    made = found.trained["trained_lora"]
    kept = found.scores("trained_lora")["rows.csv"]
    assert (kept.own, kept.strength) == ("trained_lora", 1)
    assert kept.brief[0][1] == round(curve[-1].score.mean, 4)
    assert {r.steps for r in kept.rows if r.row == "trained_lora"} == {20}
    assert made.layout == adapter.layout
    trained = made.provenance["trained"]
    assert (trained["start"], trained["steps"], trained["labels"]) == ("scratch", 20, True)
    assert trained["num_examples"] == len(found.sides.train) == 28
    assert Seen.by(made.provenance).learnt == with_inputs(e.prompt for e in found.sides.train)
    card = made.files()["README.md"].decode()
    assert "trained on labels: 28 examples, 20 steps." in card
    assert "It was not generated." in card
    assert "Nearest training tasks" not in card
    # What the last point says is what the returned adapter does.
    active = runtime.host.fit(made.scaled_tokens[None], made.layout)
    again = finish(run.measure(runtime, active, active, start(made, found.sides)))
    assert row_of(again, "adapter").nll == pytest.approx(curve[-1].nll, abs=1e-4)
    learnt = [(e.prompt, e.response) for e in found.sides.train]
    with pytest.raises(MeasureError, match="none is left to score"):
        sides(learnt, Seen.by(made.provenance), allow_seen=True)


def test_a_warm_start_begins_where_the_adapter_is(base: BaseModel) -> None:
    adapter = make_adapter(provenance={"generator_sha256": "g"}, seconds={"train": 1000.0})
    adapter = adapter.with_strength(0.5)
    config = replace(TRAINING, steps=5)
    _, _, steps = training(base, adapter, config, warm_start=True)
    found = finish(steps)
    curve = [r for r in found.rows if r.row == "warm_lora" and r.mode == "full"]
    assert [r.steps for r in curve] == [0, 5]
    assert curve[0].nll == row_of(found, "adapter", "full").nll
    made = found.trained["warm_lora"]
    assert made.strength == 1
    assert made.provenance["trained"]["from_sha256"] == adapter.sha256
    assert made.seconds["train"] == pytest.approx(1000 + curve[-1].train_seconds)
    assert made.provenance["generator_sha256"] == "g"
    assert (
        "hypernetwork from unlabeled prompts, then trained on labels"
        in made.files()["README.md"].decode()
    )
    assert "From adapter" in race_charts(found)[0].summary


def test_stopping_a_training_keeps_its_points_and_its_lora(base: BaseModel) -> None:
    _, before, steps = training(base, make_adapter())
    for step in steps:
        kept = step.measured
        if step.stage == "train" and step.done == 7:
            steps.close()
    assert [r.steps for r in kept.rows if r.row == "trained_lora"] == [0, 5, 0, 5]
    assert kept.trained["trained_lora"].provenance["trained"]["steps"] == 5
    assert len(before.rows) == 8  # what was measured before is not changed
    with pytest.raises(StopIteration):
        next(steps)


def test_who_stops_before_the_first_point_has_what_was_there_before(base: BaseModel) -> None:
    adapter = make_adapter()
    runtime, before, steps = training(base, adapter)
    assert next(steps).measured == before
    steps.close()
    once = finish(training(base, adapter, replace(TRAINING, steps=2))[2])
    again = run.train(runtime, adapter, once, TRAINING, warm_start=False, origin={})
    assert next(again).measured == once, "the curve and the LoRA of the earlier run"


def test_training_again_replaces_the_curve(base: BaseModel) -> None:
    adapter = make_adapter()
    config = replace(TRAINING, steps=2)
    runtime, _, steps = training(base, adapter, config)
    once = finish(steps)
    args = (runtime, adapter, once, config)
    twice = finish(run.train(*args, warm_start=False, origin={}))
    assert [(r.row, r.steps) for r in twice.rows] == [(r.row, r.steps) for r in once.rows]
    assert torch.equal(twice.trained["trained_lora"].tokens, once.trained["trained_lora"].tokens)


def test_points_double_and_end_with_the_last_step() -> None:
    assert check_points(80) == (5, 10, 20, 40, 80)
    assert check_points(50) == (5, 10, 20, 40, 50)
    assert check_points(3) == (3,)


def test_another_adapter_or_too_few_rows_are_refused(base: BaseModel) -> None:
    adapter = make_adapter()
    runtime, before, _ = training(base, adapter)
    with pytest.raises(MeasureError, match=r"`tiny` is not the adapter that was measured"):
        next(
            run.train(
                *(runtime, make_adapter(5), before, TRAINING),
                warm_start=False,
                origin={},
            )
        )
    strict = replace(TRAINING, max_tokens=10)
    told = r"at least 8 labelled rows that are not scored; got 0, and 28 of more than 10"
    with pytest.raises(TrainingError, match=told):
        next(run.train(*(runtime, adapter, before, strict), warm_start=False, origin={}))


def test_the_recipe_is_that_of_collected_loras() -> None:
    ours, theirs = LabelledConfig(), CollectRecipe(tasks=(Path("t"),), out=Path("o"))
    for name in ("batch_size", "learning_rate", "warmup_steps", "clip_norm"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.full_share == pytest.approx(1 - theirs.bare_share)


def test_the_picture_names_what_it_shows(base: BaseModel) -> None:
    _, _, steps = training(base, make_adapter(), replace(TRAINING, steps=5))
    bare, _ = race_charts(finish(steps))
    assert bare.summary.startswith("Bare: Base ")
    assert "; Adapter " in bare.summary
    assert re.search(r"; From scratch [.\d]+: [.\d]+ \([.\d]+ m?s\)", bare.summary)


def test_rows_of_a_zip_are_told_apart_though_their_lines_begin_again(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "rows.zip", "w") as archive:
        for name, begin in (("a.jsonl", 0), ("b.jsonl", 20)):
            rows = (
                {"prompt": f"Say it.\n\n{n}", "label": f"L{n}"} for n in range(begin, begin + 20)
            )
            archive.writestr(name, "".join(json.dumps(row) + "\n" for row in rows))
    file = read_prompt_file(tmp_path / "rows.zip")
    sides = split(file, TOKENIZER, UNKNOWN, MeasureConfig(limit_items=20))
    assert len(set(sides.lines)) == len(sides.test) == 20
    asked = dict(sides.asked("bare"))
    assert [asked[line] for line in sides.lines] == list(sides.test)
