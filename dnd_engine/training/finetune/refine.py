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

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dnd_engine.config import RefineConfig
from dnd_engine.errors import TrainingError
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.lora.layout import LoRALayout
from dnd_engine.models.base import BaseModel
from dnd_engine.models.runtime import Runtime
from dnd_engine.tasks.folder import Example, Mode
from dnd_engine.training.examples import (
    EncodedExample,
    answer_logits,
    encode_example,
    pack,
    response_losses,
)
from dnd_engine.training.finetune.steps import descend, draw_lessons, trainable_start
from dnd_engine.training.teacher import greedy_answers, listen, teacher_divergence

__all__ = ["RefineStep", "Refined", "refine"]

_ASKED_TOGETHER = 16
"""Prompts that the teacher answers in one batch; between batches others may use the base."""


@dataclass(frozen=True, slots=True)
class RefineStep:
    """How far a refinement is."""

    stage: str
    """`ask` or `refine`."""
    done: int
    """Prompts asked, or steps trained."""
    total: int
    loss: float | None = None
    """Of the step, nats per answer token; None while the teacher is asked."""
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
    """Of them, those with the commonest answer: 1 where one answer was learnt for all."""


@dataclass(frozen=True, slots=True)
class _Lesson:
    """One prompt as teacher and student read it."""

    prompt: str
    answer: str
    bare: EncodedExample
    full: EncodedExample
    said: tuple[Tensor, Tensor, Tensor] | None
    """Tokens, log-probabilities and rest of the teacher (see `TeacherAnswers`) at each token of its
    answer; None where a label is learnt."""


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
        teacher: What the base wears to answer full prompts; not used with labels.
        config: How long and how fast.

    Yields:
        Progress, before every batch of questions, after the last, and after every step.

    Raises:
        TrainingError: If too few examples can be used, or the loss or its gradient is not finite.
    """
    base = runtime.base
    chosen = _choose(examples, base, config)
    lessons: list[_Lesson] = []
    if config.labels:
        lessons = [_lesson(example, None, base) for example in chosen]
    else:
        for first in range(0, len(chosen), _ASKED_TOGETHER):
            yield RefineStep("ask", first, len(chosen))
            part = chosen[first : first + _ASKED_TOGETHER]
            with runtime.lock, runtime.host.wearing(teacher), torch.inference_mode():
                lessons += _ask(part, base, config)
        if len(lessons) < config.least_prompts:
            raise TrainingError(
                f"refine: the teacher ended its answer within {config.max_answer_tokens} tokens "
                f"for {len(lessons)} of {len(chosen)} prompts, {config.least_prompts} are needed. "
                "Give prompts that ask for short answers, or labelled ones."
            )
        answers = tuple(lesson.answer for lesson in lessons)
        yield RefineStep("ask", len(chosen), len(chosen), answers=answers)
    done = None
    seconds = 0.0

    def loss(tokens: nn.Parameter, step: int) -> Tensor:
        drawn = draw_lessons(
            len(lessons),
            step,
            batch_size=config.batch_size,
            full_share=config.full_share,
            seed=config.seed,
        )
        return _loss(runtime, tokens, layout, [(lessons[i], mode) for i, mode in drawn])

    for done in descend(
        trainable_start(start, layout, config.seed).to(base.device),
        loss,
        runtime.lock,
        name="refine",
        steps=config.steps,
        learning_rate=lambda step: config.learning_rate * _schedule(step, config),
        clip_norm=config.clip_norm,
    ):
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
    chosen: list[Example] = []
    too_long = 0
    for prompt in order:
        # Without labels, what an example answers must not matter.
        example = distinct[prompt] if config.labels else replace(distinct[prompt], response="")
        encoded = encode_example(base.tokenizer, example, "full")
        assert encoded is not None
        if len(encoded.ids) > config.max_tokens:
            too_long += 1
        elif len(chosen) < config.max_prompts:
            chosen.append(example)
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
            f"{len(chosen)} of {len(distinct)}{f' ({told})' if told else ''}. Add prompts, or mend "
            "those that do not fit."
        )
    return chosen


def _ask(examples: Sequence[Example], base: BaseModel, config: RefineConfig) -> list[_Lesson]:
    """What the model, as it stands, answers to full prompts, where it ends its answer."""
    texts = greedy_answers(examples, base, config.max_answer_tokens)
    answered = [replace(e, response=t) for e, t in zip(examples, texts, strict=True) if t]
    heard = listen(answered, base)
    places = map(heard.of, range(len(answered)))
    said = [(heard.tokens[at], heard.log_probs[at], heard.rest[at]) for at in places]
    return [_lesson(e, s, base) for e, s in zip(answered, said, strict=True)]


def _lesson(
    example: Example, said: tuple[Tensor, Tensor, Tensor] | None, base: BaseModel
) -> _Lesson:
    bare = encode_example(base.tokenizer, example, "bare")
    full = encode_example(base.tokenizer, example, "full")
    assert bare is not None
    assert full is not None
    return _Lesson(example.prompt, " ".join(example.response.split()), bare, full, said)


def _loss(
    runtime: Runtime,
    tokens: nn.Parameter,
    layout: LoRALayout,
    drawn: Sequence[tuple[_Lesson, Mode]],
) -> Tensor:
    """Nats per answer token, mean over lessons: from the teacher, or from the labels."""
    base = runtime.base
    rows = [lesson.bare if mode == "bare" else lesson.full for lesson, mode in drawn]
    said = [lesson.said for lesson, _ in drawn if lesson.said is not None]
    batch = pack([rows]).to(base.device)
    with runtime.host.wearing(runtime.host.fit(tokens[None], layout)):
        if not said:
            return response_losses(base.model, batch).nll.mean()
        logits, _ = answer_logits(base.model, batch)
    top, log_probs, rest = (torch.cat(part).to(base.device) for part in zip(*said, strict=True))
    divergence = teacher_divergence(logits, top.long(), log_probs, rest)
    owner = batch.owner[batch.predicts]
    counts = torch.bincount(owner, minlength=len(drawn))
    sums = divergence.new_zeros(len(drawn)).index_add(0, owner, divergence)
    return (sums / counts).mean()


def _schedule(step: int, config: RefineConfig) -> float:
    """A short warm-up, then a straight line down to a tenth."""
    warm = min(1.0, (step + 1) / config.warmup_steps)
    return warm * (1 - 0.9 * step / config.steps)
