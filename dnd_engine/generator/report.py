"""The report of an examination, as types: what `report.json` holds, written and read in one place.

Numbers that were not measured are None. Intervals are 95 %. Knows no models and computes nothing
from scores; `evaluation.report` does. Imports no torch.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from dnd_engine.errors import GeneratorError
from dnd_engine.lora.provenance import validation_words
from dnd_engine.tasks.folder import Mode

__all__ = [
    "Agreeing",
    "AgreementGauge",
    "Closeness",
    "Contrast",
    "Cosine",
    "Cost",
    "Distances",
    "Distribution",
    "Ends",
    "EqualRun",
    "EqualScore",
    "Failure",
    "Gain",
    "Gap",
    "OperationGain",
    "OrdinaryShare",
    "Prediction",
    "RefineCurve",
    "RefinePoint",
    "Report",
    "ReportRow",
    "Retention",
    "Share",
    "Similar",
    "SimilarityGauge",
    "Substitution",
    "TeachStart",
    "Teacher",
    "TercileGain",
    "TercileScore",
    "Verdict",
]

Known = Annotated[float, Field(allow_inf_nan=False)]
"""A number that was measured."""
Maybe = Known | None
Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """The interval of the number that a subclass adds."""

    low: Known
    high: Known


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A ratio and its interval; all None where what it is a share of is not clear of zero."""

    share: Maybe = None
    low: Maybe = None
    high: Maybe = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One statement about the generator."""

    name: str
    holds: bool | None
    """None where it is open."""
    good: bool | None
    """Whether the finding speaks for the generator: ignoring prompts does not. None if open."""
    mode: Mode
    words: str
    """The finding as one short sentence, then the numbers behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRow(Ends):
    """Means over tasks of one row in one mode, over all tasks or one kind of novelty."""

    row: str
    mode: Mode
    split: str
    holdout: str
    """What is new about the tasks; empty for all tasks together."""
    score: Known
    unit: Literal["families", "items"]
    """What the bootstrap drew."""
    n_tasks: Count
    n_families: Count
    n_items: Count
    draws: Count
    per_draw: tuple[Known, ...]
    """Score of each prompt draw."""
    exact: Maybe
    format_share: Maybe
    content_given_format: Maybe
    choice: Maybe
    nll: Maybe
    """Nats per token of the reference."""
    per_category: dict[str, Known]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast(Ends):
    """The generator minus another row, paired by item."""

    mode: Mode
    holdout: str
    minus: str
    difference: Known
    n_tasks: Count
    better: Count
    worse: Count
    sign_test_p: Known
    sign_test_p_holm: Known
    """Corrected over the contrasts of one holdout."""
    nll_difference: Known
    nll_low: Known
    nll_high: Known


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap(Share):
    """Share of the gap from base to own LoRA that the generator closes."""

    mode: Mode
    holdout: str
    n_tasks: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationGain(Ends):
    """Loss under another task's prompts minus loss under the right ones."""

    mean: Known
    share_positive: Known
    n_tasks: Count
    left_out: tuple[str, ...]
    """Tasks whose wrong prompts ask for another answer format."""
    per_task: dict[str, Known]


@dataclass(frozen=True, slots=True, kw_only=True)
class Substitution(Ends):
    """How often the answer is what a trained operation would give instead."""

    share: Known
    n_tasks: Count
    n_items: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention(Share):
    """A row on bare inputs as a share of its teacher, which reads the instruction too."""

    row: str
    bare: Known
    teacher: str
    full: Known
    n_tasks: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class OrdinaryShare(Ends):
    """Share of ordinary messages that a row's adapters leave alone."""

    share: Known
    n_tasks: Count
    per_task: dict[str, Known]


TeachStart = Literal["generator", "imprint", "scratch", "imprint_labels"]
"""Where teaching starts: the generated adapter, the imprinted one, or an empty LoRA; on labels only
from the imprinted one, since runs on labels from an empty LoRA are `EqualRun`s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinePoint(Ends):
    """Score on bare inputs after some steps of refining."""

    row: str
    start: TeachStart
    steps: int | None
    """None are as many as Refine has."""
    seconds: Maybe
    """Time for refining, and for imprinting before it."""
    score: Known


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher(Ends):
    """Score on full prompts of what Refine learns from."""

    score: Known


@dataclass(frozen=True, slots=True, kw_only=True)
class RefineCurve:
    """Quality against seconds, over tasks that every point was measured on."""

    n_tasks: Count
    points: Annotated[tuple[RefinePoint, ...], Field(min_length=1)]
    teacher: Teacher | None
    share_of_teacher: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualRun(Ends):
    """A LoRA trained on labels, beside the generator."""

    steps: int
    seconds: Maybe
    score: Known
    difference: Known
    """Its score minus the generator's, with the interval."""
    reaches: bool
    """Whether its mean is at least the generator's."""
    level: bool
    """Whether it is not clearly below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualScore:
    """The shortest LoRA run on labels that scores as the generator does on bare inputs."""

    n_tasks: Count
    generator: Known
    points: tuple[EqualRun, ...]
    shortest_steps: Annotated[int, Field(gt=0)] | None
    level_steps: int | None
    over_synthesis: Maybe
    """Seconds of the shortest run, in syntheses."""
    break_even_tasks: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction(Ends):
    """How well a gauge orders tasks by what their adapters gain."""

    rank_correlation: Known
    n_tasks: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain(Ends):
    """Gain over the base of tasks whose gauge is between two values."""

    mode: Mode
    begin: Annotated[Known, Field(alias="from")]
    end: Annotated[Known, Field(alias="to")]
    gain: Known
    n_tasks: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class TercileGain(Gain):
    """As `Gain`, for a third of the tasks."""

    tercile: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TercileScore(Ends):
    """Score of a row on a third of the tasks."""

    tercile: str
    mode: Mode
    begin: Annotated[Known, Field(alias="from")]
    end: Annotated[Known, Field(alias="to")]
    row: str
    score: Known
    n_tasks: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Similar:
    """A task, its prompts' similarity to the nearest training task's, and its scores."""

    slug: str
    similarity: Known
    score: dict[Mode, Maybe]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarityGauge:
    """Results by how near a task's prompts are to training."""

    terciles: tuple[TercileScore, ...]
    gains: tuple[TercileGain, ...]
    predicts_gain: dict[Mode, Prediction]
    tasks: Annotated[tuple[Similar, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreeing:
    """A task, its adapter's agreement with the instructed model, and its gains over the base."""

    slug: str
    agreement: Known
    gain: dict[Mode, Maybe]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementGauge:
    """Gains by how often adapters agree, without labels, with the instructed model."""

    bands: tuple[Gain, ...]
    predicts_gain: dict[Mode, Prediction]
    tasks: tuple[Agreeing, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosine:
    """Mean cosines of ΔW over pairs of generated adapters; centred ones after subtracting the mean.

    None where there is no such pair, or nothing is left after centring.
    """

    same_task: Maybe = None
    different_task: Maybe = None
    same_task_centred: Maybe = None
    different_task_centred: Maybe = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A distribution, read at `evaluation.distances.QUANTILES`."""

    n: Count
    values: tuple[Known, ...]
    """Empty if there was nothing."""

    @property
    def median(self) -> float:
        """The middle value."""
        return self.values[len(self.values) // 2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Closeness:
    """A number for each generated adapter, beside the same for each training task's."""

    generated: dict[str, Known]
    """Task to number."""
    distribution: Distribution
    leave_one_out: Distribution
    """Distance of training tasks from the other training tasks."""
    ratio: Maybe
    """Ratio of both medians."""
    nearest_task: dict[str, str] = field(default_factory=dict)
    """Task to nearest training task, where the number is a distance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distances:
    """Generated adapters beside each other and beside training adapters; none by default."""

    n_tasks: Count = 0
    n_adapters: Count = 0
    n_training: Count = 0
    distributions: dict[str, Distribution] = field(default_factory=dict)
    """The four cosines, by the names of `Cosine`."""
    nearest: Closeness | None = None
    """Distance to the nearest training ΔW, in units of the root mean square norm of these."""
    outside_span: Closeness | None = None
    """Share of the norm that no combination of training ΔWs gives."""
    training: Literal["", "generated", "collected"] = ""
    """Where the training adapters come from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What things took, in seconds, and estimates; None or empty if not measured."""

    row_seconds: dict[str, Known] = field(default_factory=dict)
    synthesis_seconds: Maybe = None
    imprint_seconds: dict[str, Known] = field(default_factory=dict)
    refine_seconds: dict[str, Known] = field(default_factory=dict)
    training_seconds: Maybe = None
    training_leaves_out: str = ""
    collection_seconds: Maybe = None
    lora_seconds: Maybe = None
    break_even_tasks: int | None = None
    """Tasks after which training and collecting are paid back; None if they never are, too."""
    estimates_not_measured: dict[str, Known] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A wrong answer of the generator."""

    mode: Mode
    slug: str
    item: int
    description: str
    asked: str
    wanted: str
    got: str
    score: Known


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an examination found."""

    command: str
    seed: int
    split: str
    data: str
    """The tasks in words."""
    metric: str
    generator: str
    generator_sha256: str
    base: str
    n_tasks: Count
    n_families: Count
    trained_families_among_them: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    """The most telling first."""
    rows: tuple[ReportRow, ...]
    not_measured: dict[str, str]
    """Row to reason."""
    contrasts: tuple[Contrast, ...]
    gaps: tuple[Gap, ...]
    operation_gain: dict[Mode, OperationGain]
    substitution: dict[Mode, Substitution]
    retention: dict[str, Retention]
    ordinary: dict[str, OrdinaryShare] = field(default_factory=dict)
    """By row; reports before imprints have none."""
    refine: RefineCurve | None
    equal_score: EqualScore | None
    similarity: SimilarityGauge | None
    agreement: AgreementGauge | None
    strongest_effect: Maybe
    """Largest effect that an examined adapter had on its own prompts, in nats."""
    cosine: Cosine
    distances: Distances
    cost: Cost
    failures: tuple[Failure, ...]
    """Wrong answers, drawn by seed."""
    failures_left_out: Count = 0
    """More of them, on data that may not be passed on."""
    seconds: Maybe = None
    """What examining took."""

    @property
    def gap_closed(self) -> dict[Mode, float | None]:
        """Share of the gap from base to own LoRA closed, over all tasks, by mode."""
        return {gap.mode: gap.share for gap in self.gaps if not gap.holdout}

    @property
    def holdouts(self) -> tuple[str, ...]:
        """Kinds of novelty that its rows tell apart, the empty one of all tasks left out."""
        return tuple(dict.fromkeys(row.holdout for row in self.rows if row.holdout))

    def rows_of(self, holdout: str = "") -> list[ReportRow]:
        """Rows over all tasks, or over one kind of novelty."""
        return [row for row in self.rows if row.holdout == holdout]

    def to_json(self) -> dict[str, Any]:
        """Return what `report.json` holds."""
        values: dict[str, Any] = _REPORT.dump_python(self, mode="json", by_alias=True)
        return values | {"gap_closed": self.gap_closed}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Report":
        """Read what `report.json` holds, from this version or an older one; extra keys are ignored.

        Raises:
            GeneratorError: If it is not what `to_json` returns.
        """
        known = values.get("retention")
        if known is None or (isinstance(known, Mapping) and "bare_generator" in known):
            # Version 0.1 knew one retention, or null, and not over how many tasks. Nothing reads it
            # back, so no number of tasks is made up for it.
            values = {**values, "retention": {}}
        try:
            # Only from JSON text does a strict reader take a list for a tuple.
            return _REPORT.validate_json(json.dumps(values), strict=True)
        except (ValidationError, TypeError, ValueError) as error:
            words = validation_words(error) if isinstance(error, ValidationError) else str(error)
            raise GeneratorError(f"faults in a report's JSON: {words}.") from error


_REPORT = TypeAdapter(Report)
