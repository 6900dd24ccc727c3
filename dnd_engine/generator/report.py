"""The report of an evaluation: types for reading and writing `report.json`.

Numbers that were not measured are None. Intervals are 95 %. Knows no models and computes nothing
from scores; `evaluation.report` does. Imports no torch.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from dnd_engine.config import Degree
from dnd_engine.errors import GeneratorError
from dnd_engine.recipe_file import checked_late, validation_words
from dnd_engine.tasks.folder import Mode

Known = Annotated[float, Field(allow_inf_nan=False)]
"""A number that is never None."""
Maybe = Known | None
Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Base class: the 95 % interval of the number that a subclass adds."""

    low: Known
    high: Known


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A ratio and its interval; all None if its denominator is not clearly different from zero."""

    share: Maybe = None
    low: Maybe = None
    high: Maybe = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One statement about the generator."""

    name: str
    holds: bool | None
    """None if undecided."""
    good: bool | None
    """Whether the finding favours the generator; "ignores its prompts" does not. None if
    undecided, or if it holds but barely."""
    mode: Mode
    row: str = "generator"
    """Row that is judged. Older reports do not say it: they judge the generator alone."""
    words: str
    """The finding in one short sentence, followed by its numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRow(Ends):
    """Means over tasks for one row in one mode, over all tasks or one kind of novelty."""

    row: str
    mode: Mode
    split: str
    holdout: str
    """Kind of novelty of the tasks; empty for all tasks together."""
    score: Known
    unit: Literal["families", "items"]
    """Unit of the bootstrap's resampling."""
    n_tasks: Count
    n_families: Count
    n_items: Count
    draws: Count
    exact: Maybe
    format_share: Maybe
    content_given_format: Maybe
    choice: Maybe
    nll: Maybe
    """Loss on the reference, in nats per token."""
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
    """Corrected (Holm) over the contrasts of one holdout."""
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
    """Excluded tasks, whose wrong prompts ask for another answer format."""
    per_task: dict[str, Known]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention(Share):
    """A row's score on bare inputs as a share of another row's that reads the instruction too."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillShare(Ends):
    """Share of unrelated questions with known answers that a row's adapters answer right."""

    share: Known
    base: Known
    """The base's share of the same questions."""
    n_questions: Count
    n_tasks: Count
    per_task: dict[str, Known]


TeachStart = Literal["generator", "imprint", "scratch", "imprint_better", "imprint_labels"]
"""Starting point of teaching: the generated adapter, the imprinted one, or an empty LoRA. With a
better model's answers or labels, only the imprinted one: label runs from an empty LoRA are
`EqualRun`s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinePoint(Ends):
    """Score on bare inputs after some refinement steps."""

    row: str
    start: TeachStart
    steps: int | None
    """Number of steps; None means Refine's default."""
    seconds: Maybe
    """Time for refinement, and for the imprint before it."""
    score: Known


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher(Ends):
    """Score of Refine's teacher on full prompts."""

    score: Known


@dataclass(frozen=True, slots=True, kw_only=True)
class RefineCurve:
    """Score against seconds, over tasks that have all points."""

    n_tasks: Count
    points: Annotated[tuple[RefinePoint, ...], Field(min_length=1)]
    teacher: Teacher | None
    """None if it was not measured."""
    share_of_teacher: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualRun(Ends):
    """A LoRA trained on labels, compared with the generator."""

    steps: int
    seconds: Maybe
    score: Known
    difference: Known
    """Its score minus the generator's; `low` and `high` are the interval."""
    reaches: bool
    """Whether its mean is at least the generator's."""
    level: bool
    """Whether it is not clearly below the generator's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualScore:
    """The shortest LoRA run on labels that matches the generator's score on bare inputs."""

    n_tasks: Count
    generator: Known
    points: tuple[EqualRun, ...]
    shortest_steps: Annotated[int, Field(gt=0)] | None
    level_steps: int | None
    over_synthesis: Maybe
    """Seconds of the shortest run, as a multiple of a synthesis."""
    break_even_tasks: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction(Ends):
    """How well a gauge ranks tasks by their adapters' gain or score."""

    rank_correlation: Known
    n_tasks: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain(Ends):
    """Gain over the base, for tasks whose gauge is in a range."""

    mode: Mode
    # In JSON it is `from`, a keyword of Python.
    begin: Annotated[Known, Field(alias="from")]
    end: Annotated[Known, Field(alias="to")]
    gain: Known
    n_tasks: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class TercileScore(Ends):
    """Score of a row, for a third of the tasks."""

    tercile: str
    mode: Mode
    begin: Annotated[Known, Field(alias="from")]
    end: Annotated[Known, Field(alias="to")]
    row: str
    score: Known
    n_tasks: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Similar:
    """A task, the similarity of its prompts to the nearest training task, and its scores."""

    slug: str
    similarity: Known
    score: dict[Mode, Maybe]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarityGauge:
    """Results by similarity to the training tasks."""

    terciles: tuple[TercileScore, ...]
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
    """Gains by agreement with the instructed model, which needs no labels."""

    bands: tuple[Gain, ...]
    predicts_gain: dict[Mode, Prediction]
    tasks: tuple[Agreeing, ...]


def within(sureness: float, begin: float, end: float) -> bool:
    """Return whether a band holds a sureness; the last one holds its end."""
    return begin <= sureness < end or sureness == end == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastTask:
    """A task, how sure the instructed model is of its answers, and its adapter's score."""

    slug: str
    sureness: Known
    score: Known


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastBand(Ends):
    """Mean score of the tasks whose sureness is in a range."""

    begin: Annotated[Known, Field(alias="from")]
    end: Annotated[Known, Field(alias="to")]
    score: Known
    n_tasks: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastGauge:
    """Scores of imprinted adapters on bare inputs, by what the page forecasts before making one."""

    teacher_sha256: str
    """The model that was asked; forecasts of another one may turn out otherwise."""
    bands: tuple[ForecastBand, ...]
    predicts_score: Prediction | None
    tasks: tuple[ForecastTask, ...]

    def band_of(self, sureness: float) -> ForecastBand | None:
        """Return the band of a forecast; None if no task was in it."""
        return next((band for band in self.bands if within(sureness, band.begin, band.end)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictTask:
    """A task, the verdict on its first imprinted adapter, and that adapter's score."""

    slug: str
    same: Count
    """Left-out prompts that the adapter answers as the instructed model does."""
    num_prompts: Annotated[int, Field(gt=0)]
    """Number of left-out prompts asked."""
    verdict: Degree
    score: Known


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictBand(Ends):
    """Mean score of the adapters with one verdict."""

    verdict: Degree
    score: Known
    n_tasks: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictGauge:
    """Scores of imprinted adapters on bare inputs, by the verdict on prompts left out of them."""

    teacher_sha256: str
    """The model that was asked; verdicts by another one may turn out otherwise."""
    bands: tuple[VerdictBand, ...]
    predicts_score: Prediction | None
    """Rank correlation between the score and the share of prompts that the adapter answers as the
    instructed model does."""
    tasks: tuple[VerdictTask, ...]

    def band_of(self, verdict: Degree) -> VerdictBand | None:
        """Return the band of a verdict; None if no task had it."""
        return next((band for band in self.bands if band.verdict == verdict), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosine:
    """Mean cosines of ΔW between generated adapters; centred ones subtract the mean first.

    None without such a pair, or if centring leaves nothing.
    """

    same_task: Maybe = None
    different_task: Maybe = None
    same_task_centred: Maybe = None
    different_task_centred: Maybe = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Closeness:
    """A number per generated adapter, compared with the same number per training task."""

    generated: dict[str, Known]
    """Number by task."""
    median: Maybe = None
    """Median over generated adapters; None in older reports, which hold quantiles instead."""
    training_median: Maybe = None
    """Median over training tasks, each compared with the other ones; None in older reports."""
    ratio: Maybe
    """Ratio of the two medians."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distances:
    """Distances among generated adapters and to training adapters; empty by default."""

    n_tasks: Count = 0
    n_training: Count = 0
    nearest: Closeness | None = None
    """Distance to the nearest training ΔW, in units of the training ΔWs' root mean square norm."""
    training: Literal["", "generated", "collected"] = ""
    """Origin of the training adapters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Costs in seconds, and estimates; None or empty if not measured."""

    row_seconds: dict[str, Known] = field(default_factory=dict)
    synthesis_seconds: Maybe = None
    imprint_seconds: dict[str, Known] = field(default_factory=dict)
    refine_seconds: dict[str, Known] = field(default_factory=dict)
    training_seconds: Maybe = None
    training_leaves_out: str = ""
    collection_seconds: Maybe = None
    lora_seconds: Maybe = None
    break_even_tasks: int | None = None
    """Number of tasks after which training and collecting pay off; None if never or unknown."""
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


@checked_late
@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Results of an evaluation."""

    command: str
    seed: int
    split: str
    data: str
    """Description of the tasks."""
    metric: str
    generator: str
    generator_sha256: str
    base: str
    n_tasks: Count
    n_families: Count
    trained_families_among_them: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    """Verdicts, the most informative first."""
    rows: tuple[ReportRow, ...]
    not_measured: dict[str, str]
    """Reason by row."""
    contrasts: tuple[Contrast, ...]
    gaps: tuple[Gap, ...]
    operation_gain: dict[Mode, OperationGain]
    retention: dict[str, Retention]
    ordinary: dict[str, OrdinaryShare] = field(default_factory=dict)
    """By row; empty in reports that precede imprints."""
    skills: dict[str, SkillShare] = field(default_factory=dict)
    """By row; empty in reports from before they were measured."""
    refine: RefineCurve | None
    equal_score: EqualScore | None
    similarity: SimilarityGauge | None
    agreement: AgreementGauge | None
    forecast: ForecastGauge | None = None
    """None in reports that precede forecasts, or have no imprinted row."""
    adapter_verdicts: VerdictGauge | None = None
    """How the verdicts that users get turned out; None as `forecast`, or without left-out prompts.
    Not `verdicts`, which are about the generator."""
    strongest_effect: Maybe
    """Largest effect of an evaluated adapter on its own prompts, in nats."""
    cosine: Cosine
    distances: Distances
    cost: Cost
    failures: tuple[Failure, ...]
    """Wrong answers, sampled by seed."""
    failures_row: str = ""
    """Row of the wrong answers; empty in older reports (see `wrong_row`)."""
    failures_left_out: Count = 0
    """Number of further failures, on data that may not be shared."""
    seconds: Maybe = None
    """Duration of the evaluation."""

    @property
    def gap_closed(self) -> dict[Mode, float | None]:
        """Return the share of the gap from base to own LoRA closed over all tasks, by mode."""
        return {gap.mode: gap.share for gap in self.gaps if not gap.holdout}

    @property
    def holdouts(self) -> tuple[str, ...]:
        """Return the kinds of novelty among its rows, without the empty one of all tasks."""
        return tuple(dict.fromkeys(row.holdout for row in self.rows if row.holdout))

    @property
    def wrong_row(self) -> str:
        """Return the row of the wrong answers."""
        # Older versions drew them from the imprinted row or the generator's, never a taught one.
        imprinted = any(row.row == "generator_imprint" for row in self.rows)
        return self.failures_row or ("generator_imprint" if imprinted else "generator")

    @property
    def several_draws(self) -> dict[str, int]:
        """Return the prompt draws per task of the rows that have more than one."""
        return {row.row: row.draws for row in self.rows_of() if row.draws > 1}

    def rows_of(self, holdout: str = "") -> list[ReportRow]:
        """Return the rows over all tasks, or over one kind of novelty."""
        return [row for row in self.rows if row.holdout == holdout]

    def to_json(self) -> dict[str, Any]:
        """Return the contents of `report.json`."""
        values: dict[str, Any] = _REPORT.dump_python(self, mode="json", by_alias=True)
        # For readers of the JSON; `from_json` ignores it, because it follows from `gaps`.
        return values | {"gap_closed": self.gap_closed}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Report":
        """Read the contents of `report.json`, also from older versions; extra keys are ignored.

        Raises:
            GeneratorError: If it is not what `to_json` returns.
        """
        known = values.get("retention")
        if known is None or (isinstance(known, Mapping) and "bare_generator" in known):
            # Version 0.1 had one retention, or null, without its number of tasks. Nothing reads it
            # back, so drop it instead of inventing that number.
            values = {**values, "retention": {}}
        try:
            # Through JSON text, because only there does strict validation accept a list for a
            # tuple.
            return _REPORT.validate_json(json.dumps(values), strict=True)
        except (ValidationError, TypeError, ValueError) as error:
            words = validation_words(error) if isinstance(error, ValidationError) else str(error)
            raise GeneratorError(f"faults in a report's JSON: {words}.") from error


_REPORT = TypeAdapter(Report)
