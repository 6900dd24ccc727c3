"""Per-item results and metadata of an evaluation, from which reports are made.

One `ItemScore` is one line of `scores.jsonl`. Knows no models.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from dnd_engine import wording
from dnd_engine.generator.report import Cosine, Cost, Distances
from dnd_engine.tasks.folder import Mode

IMPRINT_ALONE = "imprint alone"
"""Replaces the generator's name in reports on a base that has none."""

ROWS = tuple(wording.ROWS)
"""Every row of an evaluation, in report order."""

IMPRINTED = ("imprint", "generator_imprint", "generator_imprint_wrong")
"""Rows whose instruction is imprinted in closed form."""

FORECAST_ROW = "generator_imprint"
"""Row that a forecast is about: what the page makes, by the same teacher."""

DRAWN = ("generator", "generator_imprint")
"""Rows measured with several prompt draws; the others have one."""


@dataclass(frozen=True, slots=True)
class Refining:
    """How a refined row is made."""

    start: Literal["generator", "imprint", "scratch"]
    """Starting point: the generated adapter, the imprinted one, or a new LoRA that changes nothing
    yet."""
    steps: int | None = None
    """Number of steps; None means Refine's default."""
    answers: Literal["own", "better", "labels"] = "own"
    """Whose answers it is trained on: those of the generator's own teacher, those of a better
    model, or the prompts' labels."""

    @property
    def from_labels_alone(self) -> bool:
        """Whether the adapter knows nothing but the labels."""
        return self.answers == "labels" and self.start == "scratch"


REFINED: Mapping[str, Refining] = {
    "generator_refined_15": Refining("generator", 15),
    "generator_refined_30": Refining("generator", 30),
    "generator_refined": Refining("generator"),
    "scratch_refined_15": Refining("scratch", 15),
    "scratch_refined_30": Refining("scratch", 30),
    "scratch_refined": Refining("scratch"),
    "imprint_refined_15": Refining("imprint", 15),
    "imprint_taught_20": Refining("imprint", 20, answers="better"),
    "labelled_5": Refining("scratch", 5, answers="labels"),
    "labelled_10": Refining("scratch", 10, answers="labels"),
    "labelled_20": Refining("scratch", 20, answers="labels"),
    "labelled_40": Refining("scratch", 40, answers="labels"),
    "imprint_labelled_20": Refining("imprint", 20, answers="labels"),
    "imprint_labelled_40": Refining("imprint", 40, answers="labels"),
}
"""Rows that train on the prompts of the condition."""

DEFAULT_ROWS = tuple(row for row in ROWS if row not in (*REFINED, "steering_vector"))
"""All rows except the slow ones: those that train take up to a minute per task, and
`steering_vector` answers without packed weights and is almost never right."""

MODES: tuple[Mode, ...] = ("full", "bare")

SHOWN_CHARACTERS = 300
"""Maximum characters of a generated text to store."""


_MADE = (
    "generator_refined",
    "generator_refined_30",
    "generator_refined_15",
    "generator_imprint",
    "generator",
    # Only a report on a base without a generator has this row and none of the above.
    "imprint",
)
"""Rows that a report may be about, the most finished adapter first."""


def made_row(rows: Collection[str]) -> str:
    """Return the row that a report is about: taught, else imprinted, else as generated."""
    return next((row for row in _MADE if row in rows), "generator")


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
    """Kind of novelty of the task (see `TaskInfo.holdout`); empty for seen tasks."""
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
    text: str
    """Generated text, cut at `SHOWN_CHARACTERS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportMeta:
    """Contents of a report apart from scores."""

    command: str
    """Command as typed, so that a reader can repeat it."""
    seed: int
    split: str
    """`train` (seen tasks, new items) or `heldout`."""
    generator: str
    generator_sha256: str
    teacher_sha256: str = ""
    base: str
    rows: tuple[str, ...]
    """Requested rows that were measured, in the order of `ROWS`."""
    modes: tuple[Mode, ...]
    data: str
    """Description of the tasks: number, folders and filters."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Requested rows that could not be measured, with the reason."""
    cost: Cost = field(default_factory=Cost)
    cosine: Cosine = field(default_factory=Cosine)
    distances: Distances = field(default_factory=Distances)
    trained_families: tuple[str, ...] = ()
    """Families of the tasks that the generator was trained on."""
