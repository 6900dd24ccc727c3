"""Refine: an adapter learns on bare inputs what a teacher says to full prompts."""

from collections.abc import Generator as Steps
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dnd_engine.config import RefineConfig
from dnd_engine.errors import ConfigError, RemoteError, TrainingError
from dnd_engine.lora.apply import LoRAHost
from dnd_engine.models.base import BaseModel
from dnd_engine.models.runtime import Runtime
from dnd_engine.models.turns import TurnLock
from dnd_engine.tasks.folder import Example
from dnd_engine.training.examples import encode_example, pack, response_losses
from dnd_engine.training.finetune.lessons import Lesson, train_on_lessons
from dnd_engine.training.finetune.refine import Refined, RefineStep, choose, refine
from dnd_engine.training.finetune.steps import draw_lessons
from tests.dnd_engine.tiny import LAYOUT, random_tokens

EXAMPLES = tuple(
    Example(f"Say it.\n\n{word}", word[0])
    for word in ["ab", "cd", "ef", "gh", "ij", "kl", "mn", "op"]
)
LABELS = RefineConfig(steps=8, batch_size=4, labels=True, learning_rate=1e-2)


def start() -> Tensor:
    """A fresh LoRA: A random, B zero."""
    tokens = random_tokens(seed=1)
    for m in LAYOUT.matrices():
        if m.side == "B":
            tokens[m.first_token : m.first_token + m.num_tokens] = 0
    return tokens


def refining(
    base: BaseModel,
    config: RefineConfig,
    examples: tuple[Example, ...] = EXAMPLES,
    lock: Any = None,
) -> Steps[RefineStep, None, Refined]:
    host = LoRAHost(base.model, LAYOUT)
    runtime = Runtime(base, host, lock or TurnLock())
    return refine(runtime, start(), LAYOUT, examples, None, config)


def finish(steps: Steps[RefineStep, None, Refined]) -> tuple[list[RefineStep], Refined]:
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as stop:
            return seen, stop.value


def refined_on_many(base: BaseModel, config: RefineConfig, **options: Any) -> Refined:
    steps = refine(Runtime.of(base, LAYOUT), start(), LAYOUT, MANY, None, config, **options)
    return finish(steps)[1]


def bare_loss(base: BaseModel, tokens: Tensor) -> float:
    host = LoRAHost(base.model, LAYOUT)
    encoded = [encode_example(base.tokenizer, e, "bare") for e in EXAMPLES]
    with torch.no_grad(), host.applying(host.fit(tokens[None])):
        return float(response_losses(base.model, pack([[e for e in encoded if e]])).nll.mean())


def test_labels_are_learnt_on_bare_inputs(base: BaseModel) -> None:
    seen, made = finish(refining(base, replace(LABELS, steps=30)))
    assert set(made.prompts) == {e.prompt for e in EXAMPLES}
    assert made.commonest_share == 1 / len(EXAMPLES)
    assert bare_loss(base, made.tokens) < 0.7 * bare_loss(base, start())
    assert [step.done for step in seen] == list(range(1, 31))
    assert all(step.stage == "refine" and step.total == 30 for step in seen)
    assert seen[-1].seconds_left == 0
    assert seen[0].seconds_left is not None
    assert seen[0].seconds_left > 0


def test_the_start_is_not_changed_and_the_same_seed_gives_the_same_adapter(base: BaseModel) -> None:
    tokens = start()
    runtime = Runtime.of(base, LAYOUT)
    _, one = finish(refine(runtime, tokens, LAYOUT, EXAMPLES, None, LABELS))
    _, other = finish(refine(runtime, tokens, LAYOUT, EXAMPLES[::-1], None, LABELS))
    assert torch.equal(tokens, start())
    assert torch.equal(one.tokens, other.tokens)
    _, third = finish(refining(base, replace(LABELS, seed=1)))
    assert not torch.equal(one.tokens, third.tokens)


def test_labels_are_learnt_by_the_training_that_measure_uses(base: BaseModel) -> None:
    _, made = finish(refining(base, LABELS))
    lessons = [Lesson.of(base, example) for example in choose(EXAMPLES, base, LABELS)]
    *_, last = train_on_lessons(
        Runtime.of(base, LAYOUT),
        start(),
        LAYOUT,
        lessons,
        LABELS,
        name="training",
        final_share=0.1,
    )
    assert torch.equal(last.tokens, made.tokens)
    assert last.learnt == made.prompts


def test_layers_that_an_imprint_left_at_zero_learn_too(base: BaseModel) -> None:
    empty = torch.zeros_like(start())
    lessons = [Lesson.of(base, example) for example in EXAMPLES]
    *_, last = train_on_lessons(
        Runtime.of(base, LAYOUT), empty, LAYOUT, lessons, LABELS, name="training"
    )
    ups = [m for m in LAYOUT.matrices() if m.side == "B"]
    assert all(last.tokens[m.first_token : m.first_token + m.num_tokens].any() for m in ups)
    assert not empty.any()


def test_without_labels_the_student_comes_to_agree_with_the_teacher(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers are given, as a random base never ends its own; what it says of them is its."""
    monkeypatch.setattr(
        "dnd_engine.training.finetune.refine._greedy_answers",
        lambda _runtime, examples, *_: [e.bare for e in examples],
    )
    config = RefineConfig(steps=40, batch_size=4, learning_rate=1e-2, full_share=0)
    seen, _ = finish(refining(base, config))
    assert seen[0] == RefineStep("ask", 0, len(EXAMPLES))
    assert seen[1].stage == "ask"
    assert sorted(seen[1].answers) == sorted(e.bare or "" for e in EXAMPLES)
    losses = [step.loss for step in seen if step.loss is not None]
    assert len(losses) == 40
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_how_many_got_the_commonest_answer_is_told(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "dnd_engine.training.finetune.refine._greedy_answers",
        lambda _runtime, examples, *_: ["x\n x" if e.bare != "ab" else "y" for e in examples],
    )
    seen, made = finish(refining(base, RefineConfig(steps=1, batch_size=4)))
    assert sorted(seen[1].answers) == ["x x"] * 7 + ["y"]
    assert made.commonest_share == 7 / 8


def test_references_do_not_leak_into_a_refinement_without_labels(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Example] = []

    def answers(_runtime: Runtime, examples: Sequence[Example], *_: object) -> list[str]:
        asked.extend(examples)
        return ["x"] * len(examples)

    monkeypatch.setattr("dnd_engine.training.finetune.refine._greedy_answers", answers)
    next(steps := refining(base, replace(LABELS, labels=False)))
    next(steps)
    assert len(asked) == len(EXAMPLES)
    assert {e.response for e in asked} == {""}


def test_the_lock_is_free_between_steps_and_closing_cancels(base: BaseModel) -> None:
    lock = TurnLock()
    steps = refining(base, LABELS, lock=lock)
    next(steps)
    assert not lock.locked()
    steps.close()
    assert not lock.locked()
    with pytest.raises(StopIteration):
        next(steps)


MANY = tuple(Example(f"Say it.\n\n{a}{b}", a) for a in "abcdefgh" for b in "abcd")


def test_prompts_held_back_are_scored_and_not_learnt(base: BaseModel) -> None:
    rated: list[tuple[Tensor, tuple[Example, ...]]] = []

    def score(tokens: Tensor, examples: Sequence[Example]) -> list[float]:
        rated.append((tokens.clone(), tuple(examples)))
        return [len(rated) / 8] * len(examples)

    steps = refine(
        Runtime.of(base, LAYOUT), start(), LAYOUT, MANY, None, replace(LABELS, steps=7), score=score
    )
    seen, made = finish(steps)
    held_back = {example.prompt for example in rated[0][1]}
    assert len(held_back) == made.num_held_back == 8
    assert not held_back & set(made.prompts)
    assert torch.equal(rated[0][0], start())
    assert torch.equal(rated[-1][0], made.tokens)
    assert [step.score for step in seen] == [0.125] * 4 + [0.25] * 2 + [0.375]
    assert {step.score_before for step in seen} == {0.125}
    assert (made.score, made.score_before) == (0.375, 0.125)
    assert made.scores == dict.fromkeys(held_back, 0.375)


@pytest.mark.parametrize(("fresh", "num_held_back"), [(12, 8), (5, 5), (1, 2)])
def test_prompts_that_the_start_was_not_fitted_to_are_held_back_first(
    base: BaseModel, fresh: int, num_held_back: int
) -> None:
    """Fewer of them rather than some that the start was fitted to."""
    rated: list[Sequence[Example]] = []
    unfitted = {example.prompt for example in MANY[-fresh:]}

    def score(_tokens: Tensor, examples: Sequence[Example]) -> list[float]:
        rated.append(examples)
        return [0.5] * len(examples)

    made = refined_on_many(base, replace(LABELS, steps=1), score=score, unfitted=unfitted)
    assert made.num_held_back == num_held_back
    assert len({e.prompt for e in rated[0]} & unfitted) == min(fresh, num_held_back)


@pytest.mark.parametrize("fitted", [False, True])
def test_each_group_is_learnt_and_held_back_equally(base: BaseModel, fitted: bool) -> None:
    """Whether or not the start was fitted to some of the prompts."""
    rated: list[Sequence[Example]] = []
    small = {example.prompt for example in MANY[:6]}
    groups = [{example.prompt for example in MANY} - small, small]
    unfitted = {example.prompt for example in MANY[3:]} if fitted else set[str]()

    def score(_tokens: Tensor, examples: Sequence[Example]) -> list[float]:
        rated.append(examples)
        return [0.5] * len(examples)

    config = replace(LABELS, steps=9, max_prompts=12)
    made = refined_on_many(base, config, score=score, unfitted=frozenset(unfitted), groups=groups)
    held_back = {example.prompt for example in rated[0]}
    assert len(held_back & small) == len(held_back) // 2 > 0
    learnt = set(made.prompts)
    assert len((learnt | held_back) & small) >= 5  # of 12, where a sixth of all prompts are its
    assert not held_back & learnt


def test_training_begins_with_the_first_answers_and_takes_the_others_on_the_way(
    base: BaseModel,
) -> None:
    asked: list[int] = []
    taken: list[int] = []

    def answers(examples: Sequence[Example]) -> Steps[Sequence[str | None], None, None]:
        for first in range(0, len(examples), 8):
            asked.append(first)
            yield [None if n == 1 else e.bare for n, e in enumerate(examples[first : first + 8])]

    config = replace(LABELS, labels=False, steps=11, least_prompts=8)
    steps = refine(Runtime.of(base, LAYOUT), start(), LAYOUT, MANY, None, config, answers=answers)
    for step in steps:
        if step.stage == "refine":
            taken.append(len(asked))
    assert taken == [2] * 5 + [3] * 5 + [4]


def test_an_outside_teacher_without_answers_is_an_error(base: BaseModel) -> None:
    def answers(examples: Sequence[Example]) -> Steps[Sequence[str | None], None, None]:
        yield [None] * len(examples)

    config = replace(LABELS, labels=False)
    steps = refine(
        Runtime.of(base, LAYOUT), start(), LAYOUT, EXAMPLES, None, config, answers=answers
    )
    with pytest.raises(TrainingError, match=r"model gave .* to 0 of 8 prompts, 8 are needed"):
        finish(steps)


@pytest.mark.parametrize(("least", "num_answered", "num_held_back"), [(2, len(MANY), 8), (8, 9, 3)])
def test_what_is_held_back_leaves_enough_to_learn_from(
    base: BaseModel, least: int, num_answered: int, num_held_back: int
) -> None:
    """Wait for more than a first batch that is all held back; take back some if few others come."""

    def answers(examples: Sequence[Example]) -> Steps[Sequence[str | None], None, None]:
        said = [e.bare if n < num_answered else None for n, e in enumerate(examples)]
        for first in range(0, len(said), 8):
            yield said[first : first + 8]

    config = replace(LABELS, labels=False, steps=1, least_prompts=least)
    made = refined_on_many(
        base, config, answers=answers, score=lambda _tokens, held_back: [0.5] * len(held_back)
    )
    assert (made.num_held_back, made.score) == (num_held_back, 0.5)
    assert made.prompts


def test_what_was_learnt_outlives_a_server_that_fails(base: BaseModel) -> None:
    def answers(examples: Sequence[Example]) -> Steps[Sequence[str | None], None, None]:
        yield [example.bare for example in examples[:8]]
        raise RemoteError("the server is down")

    config = replace(LABELS, labels=False, steps=11, least_prompts=8)
    steps = refine(Runtime.of(base, LAYOUT), start(), LAYOUT, MANY, None, config, answers=answers)
    seen, made = finish(steps)
    assert seen[-1].done == made.steps == 11
    assert made.num_lost == len(MANY) - 8
    assert set(made.prompts) < {example.prompt for example in MANY}


def test_a_server_that_fails_before_anything_was_learnt_is_an_error(base: BaseModel) -> None:
    def answers(_examples: Sequence[Example]) -> Steps[Sequence[str | None], None, None]:
        yield []
        raise RemoteError("the server is down")

    config = replace(LABELS, labels=False)
    steps = refine(Runtime.of(base, LAYOUT), start(), LAYOUT, MANY, None, config, answers=answers)
    with pytest.raises(RemoteError, match="is down"):
        finish(steps)


def test_too_few_usable_prompts_are_counted_with_the_reasons(base: BaseModel) -> None:
    examples = (*EXAMPLES[:3], Example("No blank line", "x"), Example(f"Long.\n\n{'y' * 300}", "x"))
    told = r"8 or more.* with a label; got 4 of 5 \(1 of more than 192 tokens\)"
    with pytest.raises(TrainingError, match=told):
        next(refining(base, LABELS, examples))
    told = r"an input; got 3 of 5 \(1 without a blank line, 1 of more than 192 tokens\)"
    with pytest.raises(TrainingError, match=told):
        next(refining(base, replace(LABELS, labels=False), examples))
    unlabelled = tuple(replace(e, response="") for e in EXAMPLES)
    with pytest.raises(TrainingError, match=r"got 0 of 8 \(8 without a label\)"):
        next(refining(base, LABELS, unlabelled))


def test_a_teacher_that_does_not_end_its_answers_is_an_error(base: BaseModel) -> None:
    config = RefineConfig(max_answer_tokens=2)
    with pytest.raises(TrainingError, match=r"ended its answer within 2 tokens for \d of 8"):
        finish(refining(base, config))


def test_a_gradient_that_is_not_finite_is_an_error_and_not_an_adapter(base: BaseModel) -> None:
    """Also in the last step, after which no loss would show it."""
    steps = refining(base, replace(LABELS, steps=1, clip_norm=1e-6))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(torch.nan))
        with pytest.raises(TrainingError, match=r"step 1: loss .*, gradient norm nan\. Lower"):
            next(steps)


def test_every_prompt_is_learnt_in_every_epoch_however_few_there_are() -> None:
    for count, batch in ((3, 8), (8, 3), (10, 4)):
        size = min(count, batch)
        drawn = [
            i
            for step in range(4 * count)
            for i, _ in draw_lessons(count, step, batch_size=batch, full_share=0.2, seed=0)
        ]
        assert len(drawn) == 4 * count * size
        for epoch in range(4 * size):
            assert sorted(drawn[epoch * count : (epoch + 1) * count]) == list(range(count))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "`steps` must be between 1 and 1000, got 0"),
        ({"full_share": 1.5}, "`full_share` must be between 0 and 1, got 1.5"),
        ({"learning_rate": 0}, "`learning_rate` must be between"),
        ({"max_prompts": 4}, "`max_prompts` must be at least 8, got 4"),
    ],
)
def test_settings_out_of_bounds_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RefineConfig(**wrong)
