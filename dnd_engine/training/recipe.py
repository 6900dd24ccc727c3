"""What a training run is made of; one YAML file a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from dnd_engine.errors import ConfigError
from dnd_engine.files import existing
from dnd_engine.generator.config import OBJECTIVES_ON_WEIGHTS
from dnd_engine.generator.heads import head_named
from dnd_engine.limits import FIXED, check_between, check_least, check_odd, check_positive
from dnd_engine.recipe_file import read_recipe, without_folders

Objective = Literal["task_loss", "reconstruction", "imprint"]
"""What is asked for: answers (through the base), the weights of checkpoints, or, of a teacher,
answers of what it imprints."""

TrainKind = Literal["generator", "multi_task_lora", "teacher"]
"""What is trained."""


_MAY_CHANGE = (
    "steps",
    "patience",
    "validate_every",
    "checkpoint_every",
    "monitor_every",
    "threads",
    "accumulate",
    "recompute",
    "shard_base",
)
"""Settings that a resumed run may have changed: they do not touch what a step computes, or by no
more than rounding, except that the learning rate's cosine ends at `steps`."""

_COUNTS = (
    "steps",
    "tasks_per_step",
    "accumulate",
    "examples_per_task",
    "imprint_prompts",
    "row_tokens",
    "pool_prompts",
    "max_tokens",
    "validation_examples",
    "validation_tasks",
    "validate_every",
    "checkpoint_every",
    "monitor_every",
    "r",
    "lora_alpha",
)

MODELS = ("base", "encoder")
"""Settings that name weights, of which the identity of a run holds the hashes too."""

_PATHS = ("collection", "warm_start", "wordings")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRecipe:
    """Training of a generator, of the multi-task LoRA it must beat, or of its teacher."""

    tasks: tuple[Path, ...]
    """Task folders; their `train` split is used, its test sides are never read by training."""
    out: Path
    """Run folder: checkpoint, log, monitors, and at the end `generator/`."""
    cache: Path | None = None
    """Encoded prompts, keyed by content; runs on the same data may share it.
    None is `cache/` in the run folder."""
    kind: TrainKind = "generator"
    """`multi_task_lora` trains the shared tokens alone on the same batches: the control that
    shows what conditioning adds. `teacher` trains what answers whole prompts for imprints, and adds
    it to the generator of `warm_start`, at its rank or a higher one."""
    objective: Objective = "task_loss"
    base: str = "smollm2-135m-instruct"
    encoder: str = "all-minilm-l6-v2"
    head: str = "hyperconv"
    head_options: Mapping[str, int] = field(default_factory=dict)
    """Options of the head (see `generator.heads`)."""
    without_licence_classes: tuple[str, ...] = ("nc-or-research",)
    format_variants: int = 0
    """Additional answer formats for each short-answer task; 0 adds none."""
    label_variants: int = 0
    """Additional label sets for each classification task; 0 adds none."""
    wordings: Path | None = None
    """File of further wordings of the tasks' instructions (see `tasks.wordings`): each training
    example asks in one of them, or in its own."""
    validation_families: tuple[str, ...] | float = ()
    """Families taken out of training whole, for early stopping: their names, or a share."""
    r: int = 4
    lora_alpha: int = 8
    first_layer: int = 0
    """Lowest layer of the base that the LoRA adapts, counted from 0. A step keeps no activations of
    those below, and computes no gradient there."""
    stages: tuple[tuple[int, int, int], ...] = (
        (16, 48, 384),
        (32, 24, 256),
        (64, 12, 192),
        (128, 4, 192),
    )
    """Decoder stages before the token grid: (prompts, length, width) first. Source: feasibility
    runs, 6 M parameters. Heads without stages use the first alone."""
    reads_tokens: int | None = None
    """Tokens of a prompt that are read, in pieces if the encoder reads fewer at once, and projected
    to the length in the first stage, as the paper does for its larger bases. None reads as many as
    that length, without a projection."""
    kernel_size: int = 3
    warm_start: Path | None = None
    """Generator folder whose weights the run starts from."""
    start_share: float = 0.0
    """Share of the starting weights in a teacher's kept weights. Half follows unseen tasks better
    than the end alone. Source: Wortsman et al. 2022, arXiv:2109.01903."""
    collection: Path | None = None
    """LoRA checkpoints (see `dnd collect`): what reconstruction learns. To the task loss it
    only says which tasks are trained on, so that objectives can be compared on the same."""
    steps: int = 2000
    tasks_per_step: int = 6
    accumulate: int = 1
    """Number of parts into which each process splits its tasks of a step. The gradient is that of
    the whole step; memory is that of one part."""
    recompute: bool = False
    """Whether the base's blocks are computed again for the gradient, instead of kept: half as
    much work again, and memory for one block instead of all."""
    shard_base: bool = False
    """Whether each of several processes keeps only its share of the base's blocks, and gathers a
    block when it computes: for bases that do not fit one card."""
    examples_per_task: int = 8
    """Most examples of a task in one step."""
    imprint_prompts: int = 12
    """Prompts of a task that one imprint is fitted to, with the objective imprint."""
    row_tokens: int = 320
    """A task's examples share a row of about this many tokens: as many as fit are taken, at least
    one. Rows of 250 to 400 give the most examples a second on a CPU."""
    bare_share: float = 0.7
    """Share of examples that show the base only the bare input, so that the prompts must carry the
    instruction; the rest keeps full prompts working."""
    shared_input_share: float = 0.0
    """Share of steps that give all tasks the same inputs, so that only the prompts tell them
    apart."""
    pool_prompts: int = 64
    """Training prompts of a task that conditions are drawn from."""
    max_tokens: int = 160
    """Longer examples are left out, which keeps a step short."""
    validation_examples: int = 4
    """Taken from the end of each task's train side, never trained on, nor are others on the same
    inputs."""
    validation_tasks: int = 64
    """Most tasks that a validation looks at, of the trained and of the validation families each."""
    decoder_lr: float | None = None
    """Peak of the cosine; None takes the head's."""
    shared_lr: float = 1e-3
    weight_decay: float = 0.01
    """On the decoder only. This and both learning rates are those of the first trials, untuned."""
    warmup_steps: int = 50
    final_lr_share: float = 0.1
    """The cosine ends here."""
    clip_norm: float = 1.0
    patience: int = 0
    """Validations without a better one that end the run; the best weights are kept. 0 goes to the
    end and keeps the last: the loss on families left out is a rough guide, since a few confident
    wrong answers outweigh many right ones."""
    validate_every: int = 250
    checkpoint_every: int = 50
    monitor_every: int = 50
    seed: int = 0
    threads: int = 0
    """CPU threads; 0 leaves torch's choice."""

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ConfigError("`tasks` must name at least one task folder.")
        head = head_named(self.head)
        if self.decoder_lr is None:
            # Filled in here, so that what is kept beside a run names the rate that it had.
            object.__setattr__(self, "decoder_lr", head.learning_rate)
        variants = ("format_variants", "label_variants")
        check_least(self, 1, *_COUNTS)
        check_between(self, 0, FIXED.max_threads, "threads")
        counts = ("first_layer", "patience", "warmup_steps", *variants)
        check_least(self, 0, "weight_decay", *counts)
        check_odd("kernel_size", self.kernel_size)
        if not self.stages:
            raise ConfigError("`stages` must hold at least one [channels, height, width].")
        if self.reads_tokens is not None:
            check_least(self, 1, "reads_tokens")
        check_between(
            self, 0, 1, "bare_share", "shared_input_share", "final_lr_share", "start_share"
        )
        check_positive(self, "decoder_lr", "shared_lr", "clip_norm")
        share = self.validation_families
        if isinstance(share, float) and not 0 <= share < 1:
            raise ConfigError(
                f"`validation_families` must be names or a share of 0 to below 1, got {share}."
            )
        self._check_combinations()

    def _check_combinations(self) -> None:
        """Settings that only mean something together."""
        needs_collection = self.objective in OBJECTIVES_ON_WEIGHTS
        if needs_collection and self.collection is None:
            raise ConfigError(
                f"the objective {self.objective} needs `collection`, a folder of LoRA checkpoints; "
                "`dnd collect` makes one."
            )
        if needs_collection and self.kind != "generator":
            raise ConfigError(
                f"a {self.kind} is trained on answers, not by {self.objective}; the mean of a "
                "collection is a row of its own in `dnd evaluate`."
            )
        if needs_collection and (self.format_variants or self.label_variants or self.wordings):
            raise ConfigError(
                f"the objective {self.objective} fits LoRAs that were trained on the tasks as they "
                "are: the collection has none of a variant, and none for other wordings. Leave out "
                "`format_variants`, `label_variants` and `wordings`."
            )
        if self.kind == "teacher" and (self.warm_start is None or self.bare_share > 0):
            raise ConfigError(
                "`kind: teacher` needs `warm_start`, the generator that it is for, and "
                "`bare_share: 0`, because it reads whole prompts; got "
                f"{self.warm_start} and {self.bare_share}."
            )
        if self.objective == "imprint" and (self.kind != "teacher" or self.recompute):
            raise ConfigError(
                "`objective: imprint` needs `kind: teacher`, whose answers imprints are fitted to, "
                f"and no `recompute`; got {self.kind!r} and {self.recompute}."
            )
        if self.start_share and self.kind != "teacher":
            raise ConfigError(
                f"`start_share` is for `kind: teacher`, got {self.start_share} for {self.kind!r}."
            )
        if self.accumulate > (self.tasks_per_step if self.objective == "task_loss" else 1):
            raise ConfigError(
                f"`accumulate` is {self.accumulate}: expected 1, or with the objective task_loss "
                f"up to `tasks_per_step` ({self.tasks_per_step}), so that each part has a task."
            )
        if self.row_tokens < self.max_tokens:
            raise ConfigError(
                f"`row_tokens` must be at least `max_tokens` ({self.max_tokens}), so that one "
                f"example fits a row, got {self.row_tokens}."
            )

    @classmethod
    def read(cls, path: Path, **overrides: Any) -> "TrainRecipe":
        """Read a recipe file; `overrides` that are not None win (see `read_recipe`)."""
        return read_recipe(cls, path, overrides, required=("tasks", "out"))

    @property
    def read_length(self) -> int:
        """Tokens of a prompt that are encoded, at most."""
        return self.reads_tokens or self.stages[0][1]

    @property
    def cache_folder(self) -> Path:
        """Where encoded prompts are kept."""
        return self.cache or self.out / "cache"

    def to_json(self) -> dict[str, Any]:
        """As written beside a run, without paths of the machine."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        del values["out"], values["cache"]
        values["tasks"] = [folder.name for folder in self.tasks]
        for name in _PATHS:
            values[name] = values[name] and values[name].name
        values["head_options"] = dict(self.head_options)
        return without_folders(values, MODELS)

    def identity(self) -> dict[str, Any]:
        """The settings that a checkpoint belongs to; folders belong by their contents instead."""
        left_out = (*_MAY_CHANGE, "tasks", *_PATHS)
        return {
            name: value
            for name, value in self.to_json().items()
            if name not in left_out and not (name in MODELS and existing(getattr(self, name)))
        }
