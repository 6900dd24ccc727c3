"""What the bench measures, and how long it may take."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from dnd_engine.config import check_least
from dnd_engine.errors import ConfigError
from dnd_engine.training.recipe import TrainRecipe

__all__ = ["BUSY", "LORA_STEPS", "SECTIONS", "BenchConfig"]

SECTIONS = ("synthesis", "imprint", "chat", "training", "contended")
"""All sections that are measured in turns."""

LORA_STEPS = 40
"""Steps of the LoRA run that synthesis is compared with. Source: procedural tasks are learnt in 40
steps of 8 examples (feasibility runs)."""

BUSY = 2
"""Processes that contend for the cores."""

_RECIPE: Mapping[str, Any] = {f.name: f.default for f in fields(TrainRecipe)}

STEP_SIZES = ("tasks_per_step", "examples_per_task", "row_tokens")
"""Sizes of a training step."""

_MAX_OF_A_STEP = 16
"""A folder may say that its training steps were this many times as large as usual; what is beyond
is not believed, for it would fill the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchConfig:
    """What is measured, and how long it may take."""

    only: tuple[str, ...] = SECTIONS
    """Some of `SECTIONS`."""
    rounds: int = 5
    """Every measurement is taken once a round; medians are reported. One round before is thrown
    away."""
    lora_steps: int = 8
    """Steps of the LoRA run in a round. Five rounds of 8 are the whole run of 40; fewer are scaled
    up to it, and the result says so."""
    lora_examples: int = 8
    """Examples in each of these steps."""
    example_tokens: int = 64
    """Tokens of such an example; also of a row where training is compared with ordinary rows."""
    num_prompts: int = 128
    """Prompts of the synthesis; all are as long as the encoder reads."""
    imprinted_prompts: tuple[int, int] = (16, 128)
    """Prompts of the smaller and of the larger bucket that is imprinted."""
    chat_tokens: int = 32
    """Tokens of an answer at most."""
    tasks_per_step: int = 0
    examples_per_task: int = 0
    """At most."""
    row_tokens: int = 0
    """As many examples of a task as fit so many tokens are taken. 0, for these three, is what the
    loaded generator was trained with, or the recipe's default where it does not say."""
    own_tokens: tuple[int, int] = (30, 70)
    """Least and most tokens of a training example after the prefix that all share."""
    prefix_tokens: int = 24
    """How much of that prefix is the chat template's system prompt."""
    answer_tokens: int = 8
    """Tokens of an answer, the only ones with a loss."""
    copy_megabytes: int = 256
    """Size of the copy that memory bandwidth is measured with, far beyond any cache."""
    settle_seconds: float = 1.0
    """How long busy processes run before something is measured beside them."""
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.only if name not in SECTIONS]
        if unknown or not self.only:
            raise ConfigError(
                f"`only` must be some of {', '.join(SECTIONS)}, got {', '.join(unknown) or 'none'}."
            )
        counts = ("rounds", "lora_steps", "lora_examples", "num_prompts")
        check_least(self, 1, *counts, "answer_tokens", "copy_megabytes")
        check_least(self, 0, *STEP_SIZES)
        check_least(self, 2, "chat_tokens")
        shortest = min(self.own_tokens[0], self.example_tokens - 1)
        if shortest <= self.answer_tokens or self.own_tokens[1] < self.own_tokens[0]:
            raise ConfigError(
                f"examples of {self.own_tokens[0]} to {self.own_tokens[1]} and of "
                f"{self.example_tokens} tokens must have room for an answer of "
                f"{self.answer_tokens}."
            )

    def of(self, training: Mapping[str, Any]) -> "BenchConfig":
        """With the sizes of a training step filled in.

        Args:
            training: What a generator's folder says of its training; may be empty.
        """
        recipe = training.get("recipe")
        theirs = recipe if isinstance(recipe, dict) else {}
        found: dict[str, Any] = {}
        for name in STEP_SIZES:
            value, usual = theirs.get(name), _RECIPE[name]
            sound = type(value) is int and 1 <= value <= _MAX_OF_A_STEP * usual
            found[name] = getattr(self, name) or (value if sound else usual)
        return replace(self, **found)

    def quick(self) -> "BenchConfig":
        """The same with fewer rounds, and a LoRA run scaled up from four steps."""
        return replace(self, rounds=2, lora_steps=2, chat_tokens=16)
