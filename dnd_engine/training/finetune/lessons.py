"""The one training of an adapter on examples: Refine uses it, and so does Measure.

A lesson is an example as the base reads it, with and without its instruction. By default its
reference answer is learnt; Refine without labels gives another loss. Every step yields the weight
tokens, so that they can be scored on the way. Knows examples and weight tokens; knows no files and
no scores.
"""

import math
import random
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dnd_engine.config import LabelledConfig, RefineConfig
from dnd_engine.errors import TrainingError
from dnd_engine.lora.layout import LoRALayout
from dnd_engine.models.base import BaseModel
from dnd_engine.models.runtime import Runtime
from dnd_engine.notes import Value, noted
from dnd_engine.tasks.folder import Example
from dnd_engine.training.examples import (
    EncodedExample,
    PackedExamples,
    encode_example,
    pack,
    response_losses,
)
from dnd_engine.training.finetune.steps import draw_lessons, trainable_start

LessonLoss = Callable[[nn.Module, PackedExamples, Sequence[int]], Tensor]
"""Loss of a base whose adapter is active, on a batch of lessons with these numbers."""


@dataclass(frozen=True, slots=True)
class Descent:
    """One step that was done."""

    step: int
    """From 1."""
    loss: float
    """Before the update."""
    seconds: float
    """What it took, waiting for others left out."""
    tokens: Float[Tensor, "tokens rows cols"]
    """After the update, float32, on the base's device. The next step changes them: copy to keep."""
    learnt: tuple[str, ...]
    """Prompts learnt from so far."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """One example as the base reads it."""

    prompt: str
    answer: str
    """On one line."""
    full: EncodedExample
    bare: EncodedExample | None
    """None where there is no instruction to leave out."""

    @classmethod
    def of(cls, base: BaseModel, example: Example) -> "Lesson":
        """Read an example, both ways."""
        full = encode_example(base.tokenizer, example, "full")
        assert full is not None
        bare = encode_example(base.tokenizer, example, "bare")
        return cls(example.prompt, " ".join(example.response.split()), full, bare)


def short_enough(
    base: BaseModel, examples: Iterable[Example], *, most: int, max_tokens: int
) -> tuple[list[Example], int]:
    """Take the first examples of no more than `max_tokens` tokens.

    Returns:
        `most` of them at most, and how many before the last were too long.
    """
    chosen: list[Example] = []
    too_long = 0
    for example in examples:
        # Checked before the next example is tokenised, which would be in vain.
        if len(chosen) == most:
            break
        encoded = encode_example(base.tokenizer, example, "full")
        assert encoded is not None
        if len(encoded.ids) <= max_tokens:
            chosen.append(example)
        else:
            too_long += 1
    return chosen, too_long


def draw_labelled(
    base: BaseModel, examples: Sequence[Example], config: LabelledConfig
) -> list[Lesson]:
    """Draw by seed examples that are short enough, no more than there are steps to learn them.

    Raises:
        TrainingError: If they are too few.
    """
    order = list(examples)
    random.Random(f"{config.seed}:labelled").shuffle(order)
    most = max(config.steps * config.batch_size, config.least_examples)
    chosen, long = short_enough(base, order, most=most, max_tokens=config.max_tokens)
    if len(chosen) < config.least_examples:
        found: Value = len(chosen)
        if long:
            found = noted(
                "{found}, and {number} of more than {most} tokens",
                found=len(chosen),
                number=long,
                most=config.max_tokens,
            )
        raise TrainingError(
            "training needs at least {least} labelled rows that are not scored; got {found}. Add "
            "rows, or score fewer.",
            least=config.least_examples,
            found=found,
        )
    return [Lesson.of(base, example) for example in chosen]


def label_loss(model: nn.Module, batch: PackedExamples, _numbers: Sequence[int]) -> Tensor:
    """Nats per token of the reference answer, mean over lessons."""
    return response_losses(model, batch).nll.mean()


def train_on_lessons(
    runtime: Runtime,
    start: Float[Tensor, "tokens rows cols"],
    layout: LoRALayout,
    lessons: Sequence[Lesson],
    config: RefineConfig | LabelledConfig,
    *,
    name: str,
    final_share: float = 1.0,
    loss: LessonLoss = label_loss,
) -> Generator[Descent]:
    """Train weight tokens, step by step; closing the iterator cancels.

    Args:
        runtime: The frozen base; its lock is held during each step, not between them.
        start: Weight tokens to start from, left unchanged. Layers with zero A and B get a new A.
        layout: Layout of the weight tokens.
        lessons: What is learnt. More may be added between two steps.
        config: Steps, learning rate and its warm-up, batches, the share of whole prompts, and the
            seed of the order.
        name: Name of the operation, for its error.
        final_share: Share of the learning rate at the end; a straight line leads there.
        loss: What a step lowers; the reference answers' if not given.

    Yields:
        After every step.

    Raises:
        TrainingError: If the loss or its gradient is not finite.
    """
    base = runtime.base
    start = trainable_start(start, layout, config.seed)
    tokens = nn.Parameter(start.to(base.device, torch.float32))
    optimizer = torch.optim.AdamW([tokens], weight_decay=0.0)
    # Serves as a set that keeps its order.
    learnt: dict[str, None] = {}
    for step in range(config.steps):
        warm_up = min(1.0, (step + 1) / config.warmup_steps)
        rate = config.learning_rate * (warm_up * (1 - (1 - final_share) * step / config.steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        # Counted at every step, because lessons may be added in between.
        drawn = draw_lessons(
            len(lessons),
            step,
            batch_size=config.batch_size,
            full_share=config.full_share,
            seed=config.seed,
        )
        numbers = [at for at, _ in drawn]
        learnt.update((lessons[at].prompt, None) for at in numbers)
        rows = [
            lessons[at].full if mode == "full" else lessons[at].bare or lessons[at].full
            for at, mode in drawn
        ]
        with runtime.lock.after_chats():
            started = time.monotonic()
            # One row, because all lessons share one adapter.
            batch = pack([rows]).to(base.device)
            with runtime.host.applying(runtime.host.fit(tokens[None], layout)):
                value = loss(base.model, batch, numbers)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
        # The lock is free already: from here on only the tokens are touched.
        norm = nn.utils.clip_grad_norm_([tokens], config.clip_norm).item()
        found = value.item()
        # The sum is finite only if both are. Before the update, which would spoil the tokens.
        if not math.isfinite(found + norm):
            raise TrainingError(
                "{name}, step {step}: loss {loss}, gradient norm {norm}. Lower the learning rate "
                "(here {rate:g}), or start from another adapter.",
                name=name,
                step=str(step + 1),
                loss=found,
                norm=norm,
                rate=rate,
            )
        optimizer.step()
        seconds = time.monotonic() - started
        yield Descent(step + 1, found, seconds, tokens.detach(), tuple(learnt))
