"""What a training run is made of; one YAML file a run."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from dnd_engine.errors import ConfigError
from dnd_engine.training.recipe_file import read_recipe

__all__ = ["TrainRecipe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRecipe:
    """End-to-end training of a generator: the task loss, through the frozen base."""

    tasks: Path
    """Task folder; its `train` split is used, its test sides are never read by training."""
    out: Path
    """Run folder: checkpoint, log, and at the end `generator/`."""
    kind: Literal["generator", "multi_task_lora"] = "generator"
    """`multi_task_lora` trains the shared tokens alone on the same batches: the control that
    shows what conditioning adds."""
    base: str = "smollm2-135m-instruct"
    encoder: str = "all-minilm-l6-v2"
    without_licence_classes: tuple[str, ...] = ("nc-or-research",)
    r: int = 4
    lora_alpha: int = 8
    stages: tuple[tuple[int, int, int], ...] = (
        (16, 48, 384),
        (32, 24, 256),
        (64, 12, 192),
        (128, 4, 192),
    )
    """Decoder stages before the token grid: (prompts, length, width) first. Source: feasibility
    runs, 6 M parameters."""
    kernel_size: int = 3
    steps: int = 2000
    tasks_per_step: int = 6
    examples_per_task: int = 3
    bare_share: float = 0.7
    """Share of rows that show the base only the bare input, so that the prompts must carry the
    instruction; the rest keeps full prompts working."""
    pool_prompts: int = 64
    """Training prompts of a task that conditions are drawn from."""
    max_tokens: int = 160
    """Longer examples are left out, which keeps a step short."""
    validation_examples: int = 4
    """Taken from the end of each task's train side, never trained on."""
    decoder_lr: float = 5e-4
    shared_lr: float = 1e-3
    weight_decay: float = 0.01
    """On the decoder only. Source for the three: feasibility runs, untuned."""
    warmup_steps: int = 50
    final_lr_share: float = 0.1
    """The cosine ends here."""
    clip_norm: float = 1.0
    validate_every: int = 100
    checkpoint_every: int = 50
    seed: int = 0
    threads: int = 0
    """CPU threads; 0 leaves torch's choice."""

    def __post_init__(self) -> None:
        counts = ("steps", "tasks_per_step", "examples_per_task", "pool_prompts", "max_tokens")
        if self.threads < 0:
            raise ConfigError(f"`threads` must be 0 or more, got {self.threads}.")
        for name in (*counts, "validate_every", "checkpoint_every", "validation_examples"):
            if getattr(self, name) < 1:
                raise ConfigError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if not 0 <= self.bare_share <= 1:
            raise ConfigError(f"`bare_share` must lie between 0 and 1, got {self.bare_share}.")
        if self.kind not in ("generator", "multi_task_lora"):
            raise ConfigError(f"`kind` must be generator or multi_task_lora, got {self.kind!r}.")

    @classmethod
    def read(cls, path: Path, **overrides: Any) -> "TrainRecipe":
        """Read a recipe file; `overrides` that are not None win (see `read_recipe`)."""
        return read_recipe(cls, path, overrides, required=("tasks", "out"))

    def to_json(self) -> dict[str, Any]:
        """As written beside a run, without paths of the machine."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        del values["out"]
        values["tasks"] = self.tasks.name
        return values
