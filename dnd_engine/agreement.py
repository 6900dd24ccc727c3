"""Whether an adapter carries its instruction: answers without it beside the model's with it.

The model wears what all of a generator's adapters share, reads the whole prompt and answers; the
adapter answers the bare input alone. Where both say the same, the adapter needs no instruction.
This takes no labels, and over unseen tasks it foretells what an adapter gains (a report says how
well). Knows token ids and adapters; judges nothing.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from dnd_engine.evaluation.scoring import Question, answer
from dnd_engine.lora import FittedLoRA, LoRAHost
from dnd_engine.models import BaseModel
from dnd_engine.training.examples import Mode, encode_example
from dnd_engine.training.tasks import Example

__all__ = ["Agreement", "agreement"]

_MOST_PROMPTS = 8
"""Two batches of so many answers take one to two seconds on two CPU cores."""
_MOST_TOKENS = 256
"""Longer prompts are left out."""
_MOST_NEW_TOKENS = 24
"""What is compared: the beginnings of long answers."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often both said the same."""

    same: int
    """Prompts with the same greedy answer, as far as answers are compared."""
    num_prompts: int
    """Prompts that were asked; only those with a blank line between instruction and input can."""

    @property
    def share(self) -> float:
        """Of the prompts."""
        return self.same / self.num_prompts


def agreement(
    base: BaseModel,
    host: LoRAHost,
    lock: threading.Lock,
    adapter: FittedLoRA,
    teacher: FittedLoRA,
    prompts: Sequence[str],
) -> Agreement | None:
    """Compare greedy answers to the first few prompts that can be asked without instruction.

    Args:
        base: The frozen base.
        host: Of the base.
        lock: Guards the two; held for one batch at a time.
        adapter: Answers bare inputs.
        teacher: Answers whole prompts.
        prompts: Instruction, blank line and input.

    Returns:
        None if no prompt is short enough and has a blank line.
    """
    asked = [example for example in (Example(p, "") for p in prompts) if example.bare is not None]
    short = [e for e in asked if len(_prompt(base, e, "full")) <= _MOST_TOKENS][:_MOST_PROMPTS]
    if not short:
        return None
    said = []
    sides: tuple[tuple[FittedLoRA, Mode], ...] = ((adapter, "bare"), (teacher, "full"))
    for worn, mode in sides:
        questions = [_question(base, example, mode) for example in short]
        with lock:
            (answers,) = answer(base, host, [questions], worn)
        said.append([found.ids for found in answers])
    same = sum(one == other for one, other in zip(*said, strict=True))
    return Agreement(same, len(short))


def _prompt(base: BaseModel, example: Example, mode: Mode) -> tuple[int, ...]:
    encoded = encode_example(base.tokenizer, example, mode)
    assert encoded is not None
    return encoded.ids[: encoded.start]


def _question(base: BaseModel, example: Example, mode: Mode) -> Question:
    end = base.tokenizer.eos_token_id
    assert isinstance(end, int)
    return Question(_prompt(base, example, mode), (end,), (), _MOST_NEW_TOKENS)
