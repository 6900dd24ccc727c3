"""Settings of the bench."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from dnd_engine.errors import ConfigError
from dnd_engine.limits import check_least
from dnd_engine.training.recipe import TrainRecipe

SECTIONS = ("synthesis", "imprint", "crowd", "chat", "examination", "training", "contended")
"""All sections of the bench."""

LORA_STEPS = 40
"""Steps of the LoRA run that synthesis is compared with. Source: procedural tasks are learnt in 40
steps of 8 examples (feasibility runs)."""

BUSY = 2
"""Processes that contend for the cores."""

_RECIPE: Mapping[str, Any] = {f.name: f.default for f in fields(TrainRecipe)}

STEP_SIZES = ("tasks_per_step", "examples_per_task", "row_tokens")
"""Settings that fix the size of a training step."""

_MAX_OF_A_STEP = 16
"""Largest believable step size in a generator's folder, as a multiple of the usual one. Larger
values are ignored, because such a step would fill the memory."""


def recipe_of(training: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the recipe in the `training` section of a generator's config; empty if unknown."""
    recipe = training.get("recipe")
    return recipe if isinstance(recipe, dict) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchConfig:
    """Sections, sizes and repetitions of the bench."""

    only: tuple[str, ...] = SECTIONS
    """Sections to measure, from `SECTIONS`."""
    rounds: int = 5
    """Number of rounds. Each measurement runs once per round, and medians are reported. One more
    round runs first and is discarded."""
    lora_steps: int = 8
    """Steps of the LoRA run in a round. Five rounds of 8 are the whole run of 40; fewer are scaled
    up to it, and the result says so."""
    lora_examples: int = 8
    """Examples in each LoRA step."""
    example_tokens: int = 64
    """Tokens per LoRA example, and per row where training is compared with ordinary rows."""
    num_prompts: int = 128
    """Prompts per synthesis, all as long as the encoder reads."""
    imprinted_prompts: tuple[int, int] = (16, 128)
    """Prompts in the smaller and the larger imprinted bucket."""
    visitors: int = 6
    """Number of visitors who synthesize at once, each from the smaller number of prompts."""
    chat_tokens: int = 32
    """Maximum number of tokens per answer."""
    examined_items: tuple[int, int] = (4, 16)
    """Tasks of an examination, and items of each."""
    tasks_per_step: int = 0
    """Tasks in a training step. Here and in the next two settings, 0 takes the loaded generator's
    training value, or the recipe's default if it is unknown."""
    examples_per_task: int = 0
    """Maximum number of examples per task."""
    row_tokens: int = 0
    """Token budget per task; examples are added while they fit."""
    own_tokens: tuple[int, int] = (30, 70)
    """Minimum and maximum tokens of a training example after the shared prefix."""
    prefix_tokens: int = 24
    """Tokens of the shared prefix: the system prompt of the chat template."""
    answer_tokens: int = 8
    """Tokens of an answer, the only ones that have a loss."""
    copy_megabytes: int = 256
    """Size of the copy that memory bandwidth is measured with, far beyond any cache."""
    settle_seconds: float = 1.0
    """How long the busy processes run before a measurement beside them starts."""
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
        check_least(self, 2, "chat_tokens", "visitors")
        if min(self.examined_items) < 1:
            raise ConfigError(
                f"`examined_items` must be at least 1 task and 1 item, got {self.examined_items}."
            )
        shortest = min(self.own_tokens[0], self.example_tokens - 1)
        if shortest <= self.answer_tokens or self.own_tokens[1] < self.own_tokens[0]:
            raise ConfigError(
                f"examples of {self.own_tokens[0]} to {self.own_tokens[1]} and of "
                f"{self.example_tokens} tokens must have room for an answer of "
                f"{self.answer_tokens}."
            )

    def of(self, training: Mapping[str, Any]) -> "BenchConfig":
        """Fill in the sizes of a training step.

        Args:
            training: The `training` section of a generator's config; may be empty.
        """
        theirs = recipe_of(training)
        found: dict[str, Any] = {}
        for name in STEP_SIZES:
            value, usual = theirs.get(name), _RECIPE[name]
            # The folder may be a stranger's. `isinstance` would take `true` for 1.
            sound = type(value) is int and 1 <= value <= _MAX_OF_A_STEP * usual
            found[name] = getattr(self, name) or (value if sound else usual)
        return replace(self, **found)

    def quick(self) -> "BenchConfig":
        """Return a config with fewer rounds, and a LoRA run scaled up from four steps."""
        return replace(self, rounds=2, lora_steps=2, chat_tokens=16)
