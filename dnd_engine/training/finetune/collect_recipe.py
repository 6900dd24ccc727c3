"""How LoRA checkpoints of a set of tasks are made: the settings, the tasks, the starting rule.

The authors read the loss curve to decide where snapshots begin; here a stated rule decides
(`starts_here`). Trains nothing.
"""

import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from dnd_engine.errors import ConfigError
from dnd_engine.limits import FIXED, check_between, check_least, check_positive
from dnd_engine.lora.layout import LoRASpec
from dnd_engine.recipe_file import read_recipe, without_folders
from dnd_engine.tasks.folder import HOLDOUTS, Task, load_tasks

StartReason = Literal["plateau", "latest"]
"""Why snapshots started: the loss had stopped falling, or the steps were running out."""

GROWS = {
    "tasks",
    "out",
    "split",
    "holdouts",
    "reports",
    "without_licence_classes",
    "limit_tasks",
    "seeds",
}
"""Settings that say which runs there are. A later call may ask for more runs; how each is trained
may not change within one collection."""
FREE = {"threads", "checkpoint_every", "tasks_at_once"}
"""Settings that change what a run costs, and its result by no more than rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectRecipe:
    """How the LoRA checkpoints of a set of tasks are made."""

    tasks: tuple[Path, ...]
    """Task folders; only train sides are trained on."""
    out: Path
    """The collection's folder."""
    base: str = "smollm2-135m-instruct"
    split: Literal["train", "heldout", "both"] = "train"
    """Held-out tasks yield oracles; training reads the train split only."""
    holdouts: tuple[str, ...] = ()
    """Only held-out tasks of these kinds; empty for all."""
    reports: tuple[Path, ...] = ()
    """Report folders of examinations: only the tasks that they examined. Those that an examination
    made itself, pairs and formats, have no folder and are not among them."""
    limit_tasks: int = 0
    """Tasks, drawn by `init_seed`; a larger limit keeps those of a smaller one. 0 takes all."""
    without_licence_classes: tuple[str, ...] = ("nc-or-research",)
    r: int = 4
    lora_alpha: int = 8
    init_seed: int = 0
    """Seed of the initial A, which all runs share."""
    seeds: int = 1
    """Runs of each task, seeds 0, 1 and so on; a seed changes the order of the data alone."""
    steps: int = 40
    """At most; a run ends after its last snapshot. Source: feasibility runs, in which 40 steps
    taught most procedural tasks."""
    batch_size: int = 8
    bare_share: float = 0.7
    """Share of examples that show the base only the bare input, as when a generator is trained."""
    learning_rate: float = 5e-4
    """Held after the warm-up: a decay would make the last snapshots one and the same."""
    warmup_steps: int = 5
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    """Maximum gradient norm of each run."""
    max_tokens: int = 160
    """Longer examples are left out."""
    validation_examples: int = 8
    """Taken from the end of each task's train side, never trained on; bare where the task has bare
    inputs."""
    validate_every: int = 10
    num_snapshots: int = 10
    """Consecutive steps kept at the end of a run."""
    smoothing_steps: int = 5
    """The rule looks at the mean loss of this many steps."""
    plateau_steps: int = 5
    plateau_percent: float = 5.0
    """Snapshots start once that mean has fallen by at most `plateau_percent` over `plateau_steps`;
    at the latest, when just enough steps remain."""
    snapshot_dtype: Literal["float32", "bfloat16"] = "float32"
    """A step moves a cell of A by .00015 (root mean square), the spacing of bfloat16 at A's size:
    there bfloat16 would distort the difference of two snapshots by 60 %, measured on four tasks of
    SmolLM2. The files are twice as large for it."""
    tasks_at_once: int = 4
    """Runs in one batch. On one CPU core four at once take about a tenth less time than one after
    the other; devices with more room should gain more."""
    checkpoint_every: int = 10
    """Steps that a killed run repeats at most."""
    threads: int = 0
    """CPU threads; 0 leaves torch's choice."""

    def __post_init__(self) -> None:
        if strays := [name for name in self.holdouts if name not in HOLDOUTS]:
            raise ConfigError(
                f"`holdouts` must be some of {', '.join(HOLDOUTS)}, got {', '.join(strays)}."
            )
        if not self.tasks:
            raise ConfigError("`tasks` must name at least one task folder.")
        counts = ("seeds", "steps", "batch_size", "max_tokens", "validation_examples")
        intervals = ("validate_every", "checkpoint_every", "smoothing_steps", "plateau_steps")
        check_least(self, 1, *counts, *intervals, "num_snapshots", "tasks_at_once")
        check_least(self, 0, "limit_tasks", "warmup_steps", "weight_decay")
        check_between(self, 0, FIXED.max_threads, "threads")
        check_positive(self, "learning_rate", "clip_norm")
        check_between(self, 0, 1, "bare_share")
        check_between(self, 0, 100, "plateau_percent")
        if self.num_snapshots > self.steps:
            raise ConfigError(
                f"`num_snapshots` is {self.num_snapshots}, more than the {self.steps} `steps`."
            )
        LoRASpec(r=self.r, lora_alpha=self.lora_alpha)

    @classmethod
    def read(cls, path: Path, **overrides: Any) -> "CollectRecipe":
        """Read a recipe file; `overrides` that are not None win (see `read_recipe`)."""
        return read_recipe(cls, path, overrides, required=("tasks", "out"))

    def to_json(self) -> dict[str, Any]:
        """As the manifest holds it, without paths of the machine."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        del values["out"]
        values["tasks"] = [folder.name for folder in self.tasks]
        values["reports"] = [folder.name for folder in self.reports]
        for name in ("holdouts", "without_licence_classes"):
            values[name] = list(values[name])
        return without_folders(values, ("base",))


def starts_here(losses: Sequence[float], recipe: CollectRecipe) -> StartReason | None:
    """The stated rule in place of an eye on the curve: whether snapshots start at the last step.

    Let m(t) be the mean of the `smoothing_steps` losses up to step t. Snapshots start at the first
    step at which m(t) has not fallen by more than `plateau_percent` of m(t - `plateau_steps`), and
    at the latest where `num_snapshots` steps are left, that one included. `losses` begin at step 1.

    Returns:
        Why they start, or None while the loss is still falling.
    """
    step, window, back = len(losses), recipe.smoothing_steps, recipe.plateau_steps
    if step >= window + back:
        # Sums serve as means, because both windows have the same length.
        now = sum(losses[step - window :])
        before = sum(losses[step - window - back : step - back])
        if now >= before * (1 - recipe.plateau_percent / 100):
            return "plateau"
    return "latest" if step == recipe.steps - recipe.num_snapshots + 1 else None


def choose_tasks(recipe: CollectRecipe) -> list[Task]:
    """Load the tasks that a recipe asks for, in the order of the draw.

    Raises:
        ConfigError: If a report folder is none, or none of its tasks is there.
        TaskError: If a task folder is malformed.
    """
    tasks = load_tasks(
        recipe.tasks,
        split=None if recipe.split == "both" else recipe.split,
        without_licence_classes=recipe.without_licence_classes,
    )
    # Sorted, so that the draw does not depend on the order of the folders.
    chosen = sorted(tasks, key=lambda task: task.info.slug)
    if recipe.holdouts:
        # Training tasks have no kind of holdout, and stay.
        kinds = {"", *recipe.holdouts}
        chosen = [task for task in chosen if task.info.holdout in kinds]
    if recipe.reports:
        examined = set[str]().union(*map(_examined, recipe.reports))
        chosen = [task for task in chosen if task.info.slug in examined]
        if not chosen:
            raise ConfigError(
                f"{', '.join(f'`{folder}`' for folder in recipe.reports)} examined no task of "
                f"split {recipe.split} that the task folders hold. Name the folders that were "
                "examined."
            )
    if not chosen:
        raise ConfigError(
            f"the task folders hold no task of split {recipe.split} that `holdouts` leaves in: "
            f"{', '.join(f'`{kind}`' for kind in recipe.holdouts) or 'all'}. Choose others."
        )
    random.Random(f"{recipe.init_seed}:collect:limit").shuffle(chosen)
    return chosen[: recipe.limit_tasks or None]


def _examined(report: Path) -> set[str]:
    """Slugs of the tasks that an examination measured."""
    path = report / "report.csv"
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return {row["slug"] for row in csv.DictReader(stream)}
    except (OSError, UnicodeDecodeError, KeyError, csv.Error) as error:
        raise ConfigError(
            f"`{report}` is no report folder with a sound `report.csv`: {error!r}. Name one that "
            "`dnd evaluate` wrote."
        ) from error
