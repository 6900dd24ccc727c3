"""A real LoRA: trained on labelled examples by the recipe of the collected ones.

What a generated adapter is to be compared with. Every step yields the weight tokens, so that they
can be examined on the way. Knows examples and weight tokens; knows no files and no scores.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from dnd_engine.config import LabelledConfig
from dnd_engine.errors import TrainingError
from dnd_engine.lora.layout import LoRALayout
from dnd_engine.models.base import BaseModel
from dnd_engine.models.runtime import Runtime
from dnd_engine.tasks.folder import Example
from dnd_engine.training.examples import EncodedExample, encode_example, pack, response_losses
from dnd_engine.training.finetune.steps import Descent, descend, draw_lessons

__all__ = ["Lesson", "choose_lessons", "train_labelled"]


@dataclass(frozen=True, slots=True)
class Lesson:
    """One labelled example as the base reads it."""

    prompt: str
    full: EncodedExample
    bare: EncodedExample | None
    """None where there is no instruction to leave out."""


def choose_lessons(
    base: BaseModel, examples: Sequence[Example], config: LabelledConfig
) -> list[Lesson]:
    """Draw by seed those that are short enough, and no more than there are steps to learn them.

    Raises:
        TrainingError: If they are too few.
    """
    order = list(examples)
    random.Random(f"{config.seed}:labelled").shuffle(order)
    enough = max(config.steps * config.batch_size, config.least_examples)
    lessons: list[Lesson] = []
    long = 0
    for example in order:
        if len(lessons) == enough:
            break
        full = encode_example(base.tokenizer, example, "full")
        assert full is not None
        if len(full.ids) <= config.max_tokens:
            bare = encode_example(base.tokenizer, example, "bare")
            lessons.append(Lesson(example.prompt, full, bare))
        else:
            long += 1
    if len(lessons) < config.least_examples:
        told = f", and {long} of more than {config.max_tokens} tokens" if long else ""
        raise TrainingError(
            f"training needs {config.least_examples} or more labelled rows besides those that are "
            f"scored; got {len(lessons)}{told}. Add rows, or score fewer."
        )
    return lessons


def train_labelled(
    runtime: Runtime,
    start: Float[Tensor, "tokens rows cols"],
    layout: LoRALayout,
    lessons: Sequence[Lesson],
    config: LabelledConfig,
) -> Iterator[tuple[Descent, tuple[str, ...]]]:
    """Train weight tokens on labels, step by step; closing the iterator cancels.

    Args:
        runtime: The frozen base; its lock is held during each step, not between them.
        start: Weight tokens to start from; not changed.
        layout: Theirs.
        lessons: What is learnt.
        config: How long and how fast.

    Yields:
        Every step, and the prompts whose labels were learnt so far.

    Raises:
        TrainingError: If the loss or its gradient is not finite.
    """
    base = runtime.base
    learnt: dict[str, None] = {}

    def loss(tokens: nn.Parameter, step: int) -> Tensor:
        drawn = draw_lessons(
            len(lessons),
            step,
            batch_size=config.batch_size,
            full_share=config.full_share,
            seed=config.seed,
        )
        learnt.update((lessons[at].prompt, None) for at, _ in drawn)
        rows = [
            lessons[at].full if mode == "full" else lessons[at].bare or lessons[at].full
            for at, mode in drawn
        ]
        with runtime.host.wearing(runtime.host.fit(tokens[None], layout)):
            return response_losses(base.model, pack([rows]).to(base.device)).nll.mean()

    for done in descend(
        start.to(base.device),
        loss,
        runtime.lock,
        name="training",
        steps=config.steps,
        learning_rate=lambda step: config.learning_rate * min(1, (step + 1) / config.warmup_steps),
        clip_norm=config.clip_norm,
    ):
        yield done, tuple(learnt)
