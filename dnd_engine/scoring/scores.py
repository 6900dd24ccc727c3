"""The results of an evaluation per item, and what else a report needs.

One `ItemScore` is one line of `scores.jsonl`. Knows no models: reports are made from these alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from dnd_engine.generator.report import Cosine, Cost, Distances
from dnd_engine.tasks.folder import Mode

__all__ = [
    "DEFAULT_ROWS",
    "DRAWN",
    "IMPRINTED",
    "MODES",
    "REFINED",
    "ROWS",
    "SHOWN_CHARACTERS",
    "ItemScore",
    "Refining",
    "ReportMeta",
]

ROWS = (
    "base",
    "few_shot",
    "mean_lora",
    "multi_task_lora",
    "nearest_lora",
    "shared_lora",
    "generator",
    "generator_wrong",
    "generator_shuffled",
    "generator_constant",
    "imprint",
    "generator_imprint",
    "generator_imprint_wrong",
    "generator_refined_15",
    "generator_refined_30",
    "generator_refined",
    "scratch_refined_15",
    "scratch_refined_30",
    "scratch_refined",
    "imprint_refined_15",
    "labelled_5",
    "labelled_10",
    "labelled_20",
    "labelled_40",
    "imprint_labelled_20",
    "oracle_lora",
)
"""Every row of an evaluation, in report order. `evaluation.baselines` defines their adapters."""


IMPRINTED = ("imprint", "generator_imprint", "generator_imprint_wrong")
"""Rows whose instruction is imprinted in closed form."""

DRAWN = ("generator", "generator_imprint")
"""Rows measured with several prompt draws; the others have one."""


@dataclass(frozen=True, slots=True)
class Refining:
    """How a refined row is made."""

    start: Literal["generator", "imprint", "scratch"]
    """From the generated adapter, the imprinted one, or a LoRA that changes nothing yet."""
    steps: int | None = None
    """None are as many as Refine has."""
    labels: bool = False
    """Learn the prompts' labels instead of a teacher's answers."""


REFINED: Mapping[str, Refining] = {
    "generator_refined_15": Refining("generator", 15),
    "generator_refined_30": Refining("generator", 30),
    "generator_refined": Refining("generator"),
    "scratch_refined_15": Refining("scratch", 15),
    "scratch_refined_30": Refining("scratch", 30),
    "scratch_refined": Refining("scratch"),
    "imprint_refined_15": Refining("imprint", 15),
    "labelled_5": Refining("scratch", 5, labels=True),
    "labelled_10": Refining("scratch", 10, labels=True),
    "labelled_20": Refining("scratch", 20, labels=True),
    "labelled_40": Refining("scratch", 40, labels=True),
    "imprint_labelled_20": Refining("imprint", 20, labels=True),
}
"""Rows that train on the prompts of the condition."""

DEFAULT_ROWS = tuple(row for row in ROWS if row not in REFINED)
"""All but those that train: up to a minute a task."""

MODES: tuple[Mode, ...] = ("full", "bare")

SHOWN_CHARACTERS = 300
"""Characters of a generated text that are kept beside its score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemScore:
    """One item of one task's test side, answered under one row, mode and prompt draw."""

    row: str
    mode: Mode
    draw: int
    """Number of the prompt draw; 0 for rows without conditions."""
    slug: str
    family: str
    category: str
    holdout: str
    """What is new about the task (see `TaskInfo.holdout`); empty for seen tasks."""
    item: int
    """Index in the task's test side."""
    score: float
    """The task's own metric on the greedily generated text, 0 to 1."""
    exact: bool
    """Normalised exact match of the generated text."""
    format_ok: bool | None
    """Whether the answer has the requested format; None if none was requested."""
    content_ok: bool | None
    """Whether the payload is right once the format is stripped; None unless `format_ok`."""
    choice: bool | None
    """Whether the length-normalised log-likelihood picks the reference; None without options."""
    nll: float
    """Loss of the reference in nats per token, teacher-forced."""
    substituted: bool | None
    """Whether the text is what a trained operation gives on this input, and not the reference;
    None where the task is not procedural."""
    text: str
    """What was generated, cut at `SHOWN_CHARACTERS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportMeta:
    """What a report contains apart from scores."""

    command: str
    """As typed, so that a reader can repeat it."""
    seed: int
    split: str
    """`train` (seen tasks, new items) or `heldout`."""
    generator: str
    generator_sha256: str
    base: str
    rows: tuple[str, ...]
    """Rows wanted and measured, in the order of `ROWS`."""
    modes: tuple[Mode, ...]
    data: str
    """The tasks in words: how many, of which folders, with which filters."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Row that was asked for and could not be measured, to the reason."""
    cost: Cost = field(default_factory=Cost)
    cosine: Cosine = field(default_factory=Cosine)
    distances: Distances = field(default_factory=Distances)
    trained_families: tuple[str, ...] = ()
    """Families of the tasks that the generator was trained on."""
