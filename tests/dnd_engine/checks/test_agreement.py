"""Agreement compares what two adapters write, one without and one with the instruction."""

import json
from dataclasses import asdict
from functools import partial
from typing import Any

import pytest
from pydantic import TypeAdapter

from dnd_engine.checks.agreement import agreement
from dnd_engine.checks.subject import Reference
from dnd_engine.checks.verdict import AdapterVerdict, Agreement, Labels, judge
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.runtime import Runtime
from tests.dnd_engine.tiny import LAYOUT, random_tokens, stock_answer
from tests.present import present

PROMPTS = [f"Say {word}.\n\n{word}" for word in ("one", "two", "three")]


def fitted(runtime: Runtime, seed: int, size: float = 0.1) -> FittedLoRA:
    return runtime.host.fit(random_tokens(seed=seed, size=size)[None], LAYOUT)


def agreed(*asked: Any, **settings: Any) -> Agreement:
    """The agreement where there is one."""
    return present(agreement(*asked, **settings))


def written(runtime: Runtime, active: FittedLoRA, text: str) -> list[int]:
    """By transformers' own generation."""
    prompt = runtime.base.tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
    )
    ids = runtime.base.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    with runtime.host.applying(active):
        return stock_answer(runtime.base.model, ids, max_new_tokens=24)


@pytest.mark.parametrize(
    ("seeds", "size", "same"), [((1, 2), 0.1, 0), ((3, 3), 3.0, 1)], ids=["never", "sometimes"]
)
def test_it_counts_equal_greedy_answers(
    runtime: Runtime, seeds: tuple[int, int], size: float, same: int
) -> None:
    adapter, teacher = (fitted(runtime, seed, size) for seed in seeds)
    expected = sum(
        written(runtime, adapter, prompt.partition("\n\n")[2]) == written(runtime, teacher, prompt)
        for prompt in PROMPTS
    )
    found = agreed(runtime, adapter, [Reference("a", teacher, PROMPTS)])
    assert (found.same, found.num_prompts) == (expected, 3) == (same, 3)
    assert found.share == expected / 3


def test_teachers_share_the_prompts_and_the_base_can_be_one(runtime: Runtime) -> None:
    """Nothing is fitted, so the base's own bare answers are what the adapter is compared with."""
    silent = fitted(runtime, 1, size=0)
    teacher = fitted(runtime, 2)
    alone = agreed(runtime, silent, [Reference("a", None, PROMPTS)])
    references = [Reference("a", None, PROMPTS), Reference("b", teacher, PROMPTS * 4)]
    both = agreed(runtime, silent, references, left_out=True)
    assert (alone.num_prompts, both.num_prompts) == (3, 3 + 4)
    assert alone.sureness is both.sureness is None, "the base is one of the teachers"
    assert (alone.left_out, both.left_out) == (False, True)
    assert alone.by_bucket == ()
    assert [(part.bucket, part.num_prompts) for part in both.by_bucket] == [("a", 3), ("b", 4)]
    assert sum(part.same for part in both.by_bucket) == both.same
    assert agreement(runtime, silent, []) is None


def test_a_teacher_that_gives_all_prompts_one_answer_is_found_out(runtime: Runtime) -> None:
    """An adapter that does nothing may agree with it."""
    adapter, teacher = fitted(runtime, 1), fitted(runtime, 2)
    same = Reference("a", teacher, PROMPTS[:1] * 4)
    assert agreed(runtime, adapter, [same]).commonest_share == 1.0
    assert agreed(runtime, adapter, [Reference("a", teacher, PROMPTS)]).commonest_share == 1 / 3
    mixed = agreed(runtime, adapter, [same, Reference("b", teacher, PROMPTS)])
    assert [part.alike for part in mixed.by_bucket] == [True, False]
    assert mixed.commonest_share == 5 / 7


def test_an_answer_that_the_teacher_itself_finds_unlikely_wavers(runtime: Runtime) -> None:
    """Every answer of a random base is unlikely; a strong adapter is sure of a word."""
    unsure = agreed(runtime, fitted(runtime, 1), [Reference("a", None, PROMPTS)])
    sure = agreed(runtime, fitted(runtime, 1), [Reference("a", fitted(runtime, 3, 3.0), PROMPTS)])
    assert (unsure.wavering, sure.wavering) == (3, 0)


def test_prompts_that_cannot_be_asked_without_instruction_are_left_out(runtime: Runtime) -> None:
    active = fitted(runtime, 1)
    others = ["No blank line", "Ends there\n\n", f"Too long\n\n{'x' * 500}"]
    assert agreement(runtime, active, [Reference("a", active, others)]) is None
    found = agreed(runtime, active, [Reference("a", active, [*others, *PROMPTS * 4])])
    assert found.num_prompts == 8
    assert not runtime.lock.locked()


def test_labels_say_how_many_answers_are_right(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, teacher = fitted(runtime, 1), fitted(runtime, 3, 3.0)
    told = str(runtime.base.tokenizer.decode(written(runtime, teacher, PROMPTS[0])))
    labels = {PROMPTS[0]: told, "Of another bucket.": "x"}
    found = agreed(runtime, adapter, [Reference("a", teacher, PROMPTS[:1])], labels=labels)
    assert found.labels == Labels(right=0, right_when_told=1, number=1)
    assert 0 < present(found.sureness) < 1
    monkeypatch.setattr("dnd_engine.checks.agreement._text", lambda base, answered: "two")
    # The last one has more tokens than are compared.
    labels = {PROMPTS[0]: "TWO", PROMPTS[1]: "three", PROMPTS[2]: "two " * 30}
    found = agreed(runtime, adapter, [Reference("a", teacher, PROMPTS)], labels=labels)
    assert found.labels == Labels(right=1, right_when_told=1, number=2)
    assert found.repeated == 1, "the teacher repeats the second prompt's input"
    prompts = [*PROMPTS, "Name it.\n\nfour"]
    few = dict.fromkeys(PROMPTS, "1") | {prompts[-1]: "Two", "Of another bucket.": "x"}
    ask = partial(agreed, runtime, adapter, [Reference("a", teacher, prompts)])
    assert not present(ask(labels=few).labels).foreign, "some answer is a label"
    few[prompts[-1]] = "0"
    assert present(ask(labels=few).labels).foreign
    few |= {PROMPTS[0]: "2", PROMPTS[1]: "3"}
    assert not present(ask(labels=few).labels).foreign, "each has a label of its own"


def test_the_answers_are_there_to_read_and_are_stored_nowhere(runtime: Runtime) -> None:
    adapter, teacher = fitted(runtime, 1), fitted(runtime, 3, 3.0)
    decode = runtime.base.tokenizer.decode
    told = str(decode(written(runtime, teacher, PROMPTS[0])))
    labels = {PROMPTS[0]: told.upper(), PROMPTS[1]: "long " * 30}
    references = [Reference("a", teacher, PROMPTS[:2]), Reference("b", adapter, PROMPTS[2:])]
    found = agreed(runtime, adapter, references, labels=labels)
    first, second, third = found.answers
    assert (first.bucket, second.bucket, third.bucket) == ("a", "a", "b")
    assert first.input == PROMPTS[0].partition("\n\n")[2]
    assert first.bare.startswith(str(decode(written(runtime, adapter, first.input))).strip())
    assert first.instructed.startswith(told.strip())
    assert (first.label, first.right, first.same) == (told.upper(), False, False)
    assert second.label is None, "it is too long to be compared"
    assert sum(one.same for one in found.answers) == found.same
    verdict = judge(found)
    assert verdict.answers == found.answers
    stored = TypeAdapter(AdapterVerdict).dump_python(verdict, mode="json")
    assert "answers" not in stored
    assert json.dumps(first.input) not in json.dumps(stored)
    # Checks of an adapter from elsewhere may say anything.
    forged = {**stored, "answers": [asdict(first)]}
    again = TypeAdapter(AdapterVerdict).validate_python(forged)
    assert again == verdict
    assert again.answers == ()


def test_where_the_order_is_the_task_a_list_in_another_order_is_wrong(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by the words of the input, whose capitals hid them."""
    monkeypatch.setattr("dnd_engine.checks.agreement._text", lambda base, answered: "fig, pea, ale")
    prompt = "Sort the words.\n\nPea, Fig, Ale"
    adapter, labels = fitted(runtime, 1), {prompt: "Ale, Fig, Pea"}
    found = agreed(runtime, adapter, [Reference("a", adapter, [prompt])], labels=labels)
    assert found.labels == Labels(right=0, right_when_told=0, number=1)
