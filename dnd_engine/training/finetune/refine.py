"""Refine: a short context distillation on a user's own prompts, from a generated adapter on.

Zero-shot ends where a task is unlike anything trained. A teacher that reads the instruction with
the input still knows it; tens of steps teach the adapter to answer on the bare input alone as the
teacher does on the full prompt. Needs no labels; with labels it learns those instead. Knows
examples and weight tokens; knows no buckets and no files.

Source: Snell et al. 2022, arXiv:2209.15189, for context distillation.
"""

import random
from collections import Counter
from collections.abc import Generator as Steps
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dnd_engine.config import RefineConfig
from dnd_engine.errors import TrainingError
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.lora.layout import LoRALayout
from dnd_engine.models.base import BaseModel
from dnd_engine.models.runtime import Runtime
from dnd_engine.tasks.folder import Example
from dnd_engine.training.examples import (
    PackedExamples,
    answer_logits,
)
from dnd_engine.training.finetune.lessons import Lesson, short_enough, train_on_lessons, warm_up
from dnd_engine.training.teacher import greedy_answers, listen, teacher_divergence

__all__ = ["RefineStep", "Refined", "refine"]

_ASKED_TOGETHER = 16
"""Prompts that the teacher answers in one batch; between batches others may use the base."""


_Said = tuple[Tensor, Tensor, Tensor]
"""Tokens, log-probabilities and rest of the teacher (see `TeacherAnswers`) at each token of its
answer to one prompt."""


@dataclass(frozen=True, slots=True)
class RefineStep:
    """How far a refinement is."""

    stage: str
    """`ask` or `refine`."""
    done: int
    """Prompts asked, or steps trained."""
    total: int
    loss: float | None = None
    """Loss of the step in nats per answer token; None while the teacher answers."""
    seconds_left: float | None = None
    """Estimated from the steps so far; None before the first."""
    answers: tuple[str, ...] = ()
    """The teacher's, once all are given; each on one line."""


@dataclass(frozen=True, slots=True)
class Refined:
    """What a refinement made."""

    tokens: Float[Tensor, "tokens rows cols"]
    """Weight tokens in float32 on the CPU."""
    prompts: tuple[str, ...]
    """Those that were learnt from."""
    commonest_share: float
    """Share of prompts with the most common answer; 1 if all answers are the same."""


def refine(
    runtime: Runtime,
    start: Float[Tensor, "tokens rows cols"],
    layout: LoRALayout,
    examples: Sequence[Example],
    teacher: FittedLoRA | None,
    config: RefineConfig,
) -> Steps[RefineStep, None, Refined]:
    """Train weight tokens on a few examples, step by step; closing the iterator cancels.

    Args:
        runtime: The frozen base; its lock is held during each batch and step, not between them.
        start: Weight tokens to start from; not changed.
        layout: Theirs.
        examples: Prompts; those without a bare input are left out. Responses count only if
            `config.labels`, and then those without one are left out.
        teacher: The adapter applied while the base answers full prompts; unused with labels.
        config: How long and how fast.

    Yields:
        Progress, before every batch of questions, after the last, and after every step.

    Raises:
        TrainingError: If too few examples can be used, or the loss or its gradient is not finite.
    """
    base = runtime.base
    train = partial(
        train_on_lessons,
        runtime,
        start,
        layout,
        config=config,
        name="refine",
        learning_rate=lambda step: config.learning_rate * _schedule(step, config),
    )
    chosen = _choose(examples, base, config)
    if config.labels:
        lessons = [Lesson.of(base, example) for example in chosen]
        steps = train(lessons)
    else:
        taught: list[tuple[Lesson, _Said]] = []
        for first in range(0, len(chosen), _ASKED_TOGETHER):
            yield RefineStep("ask", first, len(chosen))
            part = chosen[first : first + _ASKED_TOGETHER]
            with runtime.lock, runtime.host.applying(teacher), torch.inference_mode():
                taught += _ask(part, base, config)
        if len(taught) < config.least_prompts:
            raise TrainingError(
                f"refine: the teacher ended its answer within {config.max_answer_tokens} tokens "
                f"for {len(taught)} of {len(chosen)} prompts, {config.least_prompts} are needed. "
                "Give prompts that ask for short answers, or labelled ones."
            )
        lessons = [lesson for lesson, _ in taught]
        answers = tuple(lesson.answer for lesson in lessons)
        yield RefineStep("ask", len(chosen), len(chosen), answers=answers)
        steps = train(lessons, loss=partial(_teacher_loss, [said for _, said in taught]))
    done = None
    seconds = 0.0
    for done, _ in steps:
        seconds += done.seconds
        left = seconds / done.step * (config.steps - done.step)
        yield RefineStep("refine", done.step, config.steps, done.loss, left)
    assert done is not None
    ((_, commonest),) = Counter(lesson.answer for lesson in lessons).most_common(1)
    return Refined(
        done.tokens.cpu(),
        tuple(lesson.prompt for lesson in lessons),
        commonest_share=commonest / len(lessons),
    )


def _choose(examples: Sequence[Example], base: BaseModel, config: RefineConfig) -> list[Example]:
    """A seeded draw of distinct prompts that can be learnt from, short enough for a step."""
    distinct = {e.prompt: e for e in examples}
    learnable = {p: e for p, e in distinct.items() if e.response or not config.labels}
    split = [p for p, e in learnable.items() if e.bare is not None]
    order = sorted(split)
    random.Random(f"{config.seed}:refine").shuffle(order)
    # Without labels, what an example answers must not matter.
    drawn = [
        distinct[prompt] if config.labels else replace(distinct[prompt], response="")
        for prompt in order
    ]
    chosen, too_long = short_enough(
        base, drawn, most=config.max_prompts, max_tokens=config.max_tokens
    )
    if len(chosen) < config.least_prompts:
        unusable = [
            (len(distinct) - len(learnable), "without a label"),
            (len(learnable) - len(split), "without a blank line"),
            (too_long, f"of more than {config.max_tokens} tokens"),
        ]
        told = ", ".join(f"{count} {why}" for count, why in unusable if count)
        raise TrainingError(
            f"refine needs {config.least_prompts} or more different prompts that are an "
            f"instruction, a blank line and an input{', labelled' if config.labels else ''}; got "
            f"{len(chosen)} of {len(distinct)}{f' ({told})' if told else ''}. Add prompts, or fix "
            "those that do not fit."
        )
    return chosen


def _ask(
    examples: Sequence[Example], base: BaseModel, config: RefineConfig
) -> list[tuple[Lesson, _Said]]:
    """Return the answers to full prompts that end within the limit, with predictions."""
    texts = greedy_answers(examples, base, config.max_answer_tokens)
    answered = [replace(e, response=t) for e, t in zip(examples, texts, strict=True) if t]
    known = listen(answered, base)
    places = map(known.of, range(len(answered)))
    said = [(known.tokens[at], known.log_probs[at], known.rest[at]) for at in places]
    return [(Lesson.of(base, e), s) for e, s in zip(answered, said, strict=True)]


def _teacher_loss(
    said: Sequence[_Said], model: nn.Module, batch: PackedExamples, numbers: Sequence[int]
) -> Tensor:
    """Nats per answer token from the teacher, mean over lessons."""
    logits, _ = answer_logits(model, batch)
    parts = zip(*(said[number] for number in numbers), strict=True)
    top, log_probs, rest = (torch.cat(part).to(logits.device) for part in parts)
    divergence = teacher_divergence(logits, top.long(), log_probs, rest)
    owner = batch.owner[batch.predicts]
    counts = torch.bincount(owner, minlength=len(numbers))
    sums = divergence.new_zeros(len(numbers)).index_add(0, owner, divergence)
    return (sums / counts).mean()


def _schedule(step: int, config: RefineConfig) -> float:
    """A short warm-up, then a straight line down to a tenth."""
    return warm_up(step, config.warmup_steps) * (1 - 0.9 * step / config.steps)
