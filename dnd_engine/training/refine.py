"""Refine: a short context distillation on a user's own prompts, from a generated adapter on.

Zero-shot ends where a task is unlike anything trained. A teacher that reads the instruction with
the input still knows it; tens of steps teach the adapter to answer on the bare input alone as the
teacher does on the full prompt. Needs no labels; with labels it learns those instead. Knows
examples and weight tokens; knows no buckets and no files.

Source: Snell et al. 2022, arXiv:2209.15189, for context distillation.
"""

import math
import random
import threading
import time
from collections.abc import Generator as Steps
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dnd_engine.config import RefineConfig
from dnd_engine.errors import TrainingError
from dnd_engine.layout import LoRALayout
from dnd_engine.lora import FittedLoRA, LoRAHost
from dnd_engine.models import BaseModel
from dnd_engine.training.examples import (
    EncodedExample,
    Mode,
    answer_logits,
    encode_example,
    pack,
    response_losses,
)
from dnd_engine.training.objectives import teacher_divergence
from dnd_engine.training.tasks import Example
from dnd_engine.training.teacher import TeacherAnswers, greedy_answers, listen

__all__ = ["RefineStep", "refine"]

_ANSWERED_TOGETHER = 16
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


@dataclass(frozen=True, slots=True)
class _Lesson:
    """One prompt as teacher and student read it."""

    bare: EncodedExample
    full: EncodedExample


def refine(
    base: BaseModel,
    host: LoRAHost,
    lock: threading.Lock,
    start: Float[Tensor, "tokens rows cols"],
    layout: LoRALayout,
    examples: Sequence[Example],
    teacher: FittedLoRA | None,
    config: RefineConfig,
) -> Steps[RefineStep, None, Float[Tensor, "tokens rows cols"]]:
    """Train weight tokens on a few examples, step by step; closing the iterator cancels.

    Args:
        base: The frozen base.
        host: Of the base.
        lock: Guards the two; held during each step, not between steps.
        start: Weight tokens to start from; not changed.
        layout: Theirs.
        examples: Prompts with a bare input. Responses count only if `config.labels`.
        teacher: What the base wears to answer full prompts; not used with labels.
        config: How long and how fast.

    Yields:
        Progress, after every batch of questions and every step.

    Returns:
        The refined weight tokens in float32 on the CPU, by `StopIteration.value`.

    Raises:
        TrainingError: If too few examples can be used, or the loss is no longer finite.
    """
    chosen = _choose(examples, base, config)
    answers: TeacherAnswers | None = None
    if not config.labels:
        answered: list[Example] = []
        for first in range(0, len(chosen), _ANSWERED_TOGETHER):
            yield RefineStep("ask", first, len(chosen))
            part = chosen[first : first + _ANSWERED_TOGETHER]
            with lock, host.wearing(teacher), torch.inference_mode():
                texts = greedy_answers(part, base, config.max_answer_tokens)
            answered += [replace(e, response=t) for e, t in zip(part, texts, strict=True) if t]
        if len(answered) < config.least_prompts:
            raise TrainingError(
                f"refine: the teacher ended its answer within {config.max_answer_tokens} tokens "
                f"for {len(answered)} of {len(chosen)} prompts, {config.least_prompts} are needed. "
                "Give prompts that ask for short answers, or labelled ones."
            )
        chosen = answered
        with lock, host.wearing(teacher), torch.inference_mode():
            answers = listen(chosen, base)
    lessons = [_lesson(example, base) for example in chosen]
    tokens = nn.Parameter(start.detach().float().to(base.device, copy=True))
    optimizer = torch.optim.AdamW([tokens], lr=config.learning_rate, weight_decay=0.0)
    started = time.monotonic()
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _schedule(step, config)
        drawn = _draw(len(lessons), step, config)
        with lock:
            value = _step(base, host, tokens, layout, lessons, answers, drawn, optimizer, config)
        if not math.isfinite(value):
            raise TrainingError(
                f"refine, step {step + 1}: loss {value}. Lower the learning rate "
                f"({config.learning_rate}), or start from another adapter."
            )
        left = (time.monotonic() - started) / (step + 1) * (config.steps - step - 1)
        yield RefineStep("refine", step + 1, config.steps, value, left)
    return tokens.detach().cpu()


def _choose(examples: Sequence[Example], base: BaseModel, config: RefineConfig) -> list[Example]:
    """A seeded draw of distinct prompts with a bare input, short enough for a step."""
    distinct = {e.prompt: e for e in examples if e.bare is not None}
    order = sorted(distinct)
    random.Random(f"{config.seed}:refine").shuffle(order)
    chosen: list[Example] = []
    too_long = 0
    for prompt in order:
        example = distinct[prompt] if config.labels else replace(distinct[prompt], response="")
        encoded = encode_example(base.tokenizer, example, "full")
        assert encoded is not None
        if len(encoded.ids) > config.max_tokens:
            too_long += 1
        elif len(chosen) < config.max_prompts:
            chosen.append(example)
    if len(chosen) < config.least_prompts:
        without = len({e.prompt for e in examples}) - len(distinct)
        raise TrainingError(
            f"refine needs {config.least_prompts} or more different prompts that are an "
            f"instruction, a blank line and an input; got {len(chosen)} ({without} without a blank "
            f"line, {too_long} of more than {config.max_tokens} tokens). Put a blank line between "
            "instruction and input, or add prompts."
        )
    return chosen


def _lesson(example: Example, base: BaseModel) -> _Lesson:
    bare = encode_example(base.tokenizer, example, "bare")
    full = encode_example(base.tokenizer, example, "full")
    assert bare is not None
    assert full is not None
    return _Lesson(bare, full)


def _draw(count: int, step: int, config: RefineConfig) -> list[tuple[int, Mode]]:
    """Lessons of one step: every epoch in an order of its own, mostly bare."""
    places = range(step * config.batch_size, (step + 1) * config.batch_size)
    drawn: list[tuple[int, Mode]] = []
    for place in places[: max(1, min(count, config.batch_size))]:
        epoch, at = divmod(place, count)
        order = list(range(count))
        random.Random(f"{config.seed}:refine:{epoch}").shuffle(order)
        rng = random.Random(f"{config.seed}:refine:{place}:mode")
        drawn.append((order[at], "full" if rng.random() < config.full_share else "bare"))
    return drawn


def _step(
    base: BaseModel,
    host: LoRAHost,
    tokens: nn.Parameter,
    layout: LoRALayout,
    lessons: Sequence[_Lesson],
    answers: TeacherAnswers | None,
    drawn: Sequence[tuple[int, Mode]],
    optimizer: torch.optim.Optimizer,
    config: RefineConfig,
) -> float:
    rows = [lessons[i].bare if mode == "bare" else lessons[i].full for i, mode in drawn]
    batch = pack([rows]).to(base.device)
    with host.wearing(host.fit(tokens[None], layout)):
        if answers is None:
            losses = response_losses(base.model, batch).nll
        else:
            logits, _ = answer_logits(base.model, batch)
            at = [answers.of(i) for i, _ in drawn]
            said = (answers.tokens, answers.log_probs, answers.rest)
            top, log_probs, rest = (
                torch.cat([part[a] for a in at]).to(base.device) for part in said
            )
            divergence = teacher_divergence(logits, top.long(), log_probs, rest)
            owner = batch.owner[batch.predicts]
            counts = torch.bincount(owner, minlength=len(drawn))
            losses = divergence.new_zeros(len(drawn)).index_add(0, owner, divergence) / counts
    loss = losses.mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_([tokens], config.clip_norm)
    optimizer.step()
    return loss.item()


def _schedule(step: int, config: RefineConfig) -> float:
    """A short warm-up, then a straight line down to a tenth."""
    warm = min(1.0, (step + 1) / config.warmup_steps)
    return warm * (1 - 0.9 * step / config.steps)
