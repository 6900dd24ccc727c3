"""The report of an examination: a `Report` made from item scores, and the files that show it.

Every table holds every row that was measured, whatever it says; rows that were not are named with
the reason; wrong answers are drawn by seed, never chosen. Knows no models and measures nothing.
"""

import csv
import json
import math
import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, get_args

from dnd_engine.config import AGREEMENT_BANDS, SURENESS_BANDS, Degree
from dnd_engine.errors import ConfigError
from dnd_engine.evaluation.page import full_page
from dnd_engine.evaluation.pictures import draw_pictures
from dnd_engine.evaluation.result_store import Findings, KeptVerdict
from dnd_engine.evaluation.verdicts import judge
from dnd_engine.files import write_whole, written_aside
from dnd_engine.generator.report import (
    Agreeing,
    AgreementGauge,
    Contrast,
    Cost,
    EqualRun,
    EqualScore,
    Failure,
    ForecastBand,
    ForecastGauge,
    ForecastTask,
    Gain,
    Gap,
    OperationGain,
    OrdinaryShare,
    Prediction,
    RefineCurve,
    RefinePoint,
    Report,
    ReportRow,
    Retention,
    Share,
    Similar,
    SimilarityGauge,
    SkillShare,
    Teacher,
    TeachStart,
    TercileScore,
    VerdictBand,
    VerdictGauge,
    VerdictTask,
    within,
)
from dnd_engine.scoring.scores import (
    DRAWN,
    FORECAST_ROW,
    IMPRINTED,
    REFINED,
    ROWS,
    ItemScore,
    Refining,
    ReportMeta,
    made_row,
)
from dnd_engine.scoring.statistics import (
    Cell,
    Interval,
    cells,
    holm,
    interval,
    paired,
    rank_correlation,
    share_of_gap,
    sign_test,
    task_means,
)
from dnd_engine.tables import cell
from dnd_engine.tasks.folder import Mode, Task

K = TypeVar("K")
V = TypeVar("V")

FAILURES = 20
"""Wrong items shown."""

WRONG_BELOW = 0.5
"""An item is wrong if its score is under this: any miss of an exact task, a poor overlap else."""

_SHOWN = 300
"""Characters of a prompt shown with a failure."""

_ORDER: tuple[Mode, ...] = ("bare", "full")

_TERCILES = ("least similar", "middle", "most similar")

Value = Callable[[ItemScore], float | None]

_VALUES: Mapping[str, Value] = {
    "score": lambda s: s.score,
    "exact": lambda s: s.exact,
    "format_share": lambda s: s.format_ok,
    "content_given_format": lambda s: s.content_ok,
    "choice": lambda s: s.choice,
    "nll": lambda s: s.nll,
}
"""What is averaged, under the names of the report."""


def build_report(
    scores: Sequence[ItemScore],
    meta: ReportMeta,
    *,
    tasks: Sequence[Task] = (),
    found: Findings | None = None,
    other_format: Collection[str] = (),
) -> Report:
    """Turn item scores into a report.

    Means are over tasks, with items and prompt draws averaged within; intervals are 95 %, by a
    bootstrap over families.

    Args:
        scores: Scores of all rows and modes.
        meta: What the scores do not say.
        tasks: The examined tasks; without them, failures do not say what was asked and wanted.
        found: What was measured beside the scores.
        other_format: Tasks whose wrong prompts ask for another answer format than the task's own;
            the gain of right over wrong prompts leaves them out.

    Raises:
        ConfigError: If there is no score.
    """
    if not scores:
        raise ConfigError("a report needs at least one score, got none. Examine some tasks first.")
    # Bare inputs first: there the prompts must carry the task.
    meta = replace(meta, modes=tuple(mode for mode in _ORDER if mode in meta.modes))
    table = _Measured(scores, meta)
    groups = _groups(scores)
    families = {s.family for s in scores}
    made = made_row({s.row for s in scores})
    # Once, where they are the same; without a generator, there is nothing to say of it.
    judged = dict.fromkeys((made, "generator") if meta.generator_sha256 else (made,))
    found = found or Findings()
    effects = [v for check in found.checks.values() if (v := check["effect"]) is not None]
    return Report(
        command=meta.command,
        seed=meta.seed,
        split=meta.split,
        data=meta.data,
        metric="each task's own metric on greedily generated text, 0 to 1",
        generator=meta.generator,
        generator_sha256=meta.generator_sha256,
        base=meta.base,
        n_tasks=len({s.slug for s in scores}),
        n_families=len(families),
        trained_families_among_them=tuple(sorted(families & set(meta.trained_families))),
        # What the report is about comes first.
        verdicts=tuple(
            verdict
            for row in judged
            for verdict in judge(
                scores,
                meta.cosine,
                meta.distances,
                seed=meta.seed,
                row=row,
                other_format=other_format,
            )
        ),
        rows=tuple(
            row
            for group in groups
            for mode in meta.modes
            for name in table.names(mode)
            if (row := _row(table, name, mode, group)) is not None
        ),
        not_measured=_not_measured(table, meta),
        contrasts=tuple(c for group in groups for c in _contrasts(table, group)),
        gaps=tuple(_gap(table, mode, group) for group in groups for mode in meta.modes),
        operation_gain=_known({m: _operation_gain(table, m, other_format) for m in meta.modes}),
        retention=_known({row: _retention(table, row, of) for row, of in _teachers(meta)}),
        ordinary=_ordinary(table, found.ordinary),
        skills=_skills(table, found.skills),
        refine=_refine(table),
        equal_score=_equal_score(table),
        similarity=_similarity(table, found.similarities),
        agreement=_agreement(table, found.checks),
        forecast=_forecast(table, found.sureness),
        adapter_verdicts=_adapter_verdicts(table, found.adapter_verdicts),
        strongest_effect=max(effects, default=None),
        cosine=meta.cosine,
        distances=meta.distances,
        cost=meta.cost,
        failures=_failures(table, made, tasks),
        failures_row=made,
    )


def write_report(report: Report, scores: Sequence[ItemScore], out: Path) -> None:
    """Write a report and the scores it was built from to a folder; each aside, then renamed.

    The folder gets `report.json`, `report.csv` (means per task, row and mode), `items.csv` (every
    item), `REPORT.md` and `plots/`.
    """
    # Pictures first, because the page links those that could be drawn.
    pictures = draw_pictures(report, out / "plots")
    values = report.to_json()
    write_whole(out / "report.json", json.dumps(values, indent=1, ensure_ascii=False) + "\n")
    _write_csv(out / "report.csv", _task_rows(scores))
    _write_csv(out / "items.csv", [asdict(score) for score in scores])
    write_whole(out / "REPORT.md", full_page(report, pictures))


@dataclass(frozen=True, slots=True)
class _Measured:
    """Scores by row and mode."""

    scores: Sequence[ItemScore]
    meta: ReportMeta
    by_row: dict[tuple[str, Mode], list[ItemScore]] = field(init=False)

    def __post_init__(self) -> None:
        by_row: dict[tuple[str, Mode], list[ItemScore]] = defaultdict(list)
        for score in self.scores:
            by_row[score.row, score.mode].append(score)
        object.__setattr__(self, "by_row", by_row)

    def names(self, mode: Mode) -> list[str]:
        found = {s.row for s in self.scores if s.mode == mode}
        # Rows of other versions come last.
        return sorted(found, key=[*ROWS, *sorted(found)].index)

    def items(self, row: str, mode: Mode, group: str = "") -> list[ItemScore]:
        mine = self.by_row.get((row, mode), [])
        return [s for s in mine if not group or (s.holdout or "seen") == group]

    def cells(self, row: str, mode: Mode, group: str = "", what: str = "score") -> tuple[Cell, ...]:
        return cells(self.items(row, mode, group), _VALUES[what])

    def gains(self, mode: Mode) -> tuple[Cell, ...]:
        """What the generator's adapters add to the base."""
        return paired(self.cells("generator", mode), self.cells("base", mode))

    def interval(self, of: Sequence[Cell]) -> Interval:
        return interval(of, seed=self.meta.seed)

    def level(self, of: Sequence[Cell], name: str = "score") -> dict[str, float]:
        """Mean over tasks with its interval."""
        found = self.interval(of)
        return {name: _round(found.mean), **_ends(found)}

    def predicts_gain(self, known: Mapping[str, float]) -> dict[Mode, Prediction]:
        """How well a gauge orders tasks by what their adapters gain, by mode."""
        return _known({m: self.prediction(self.gains(m), known) for m in self.meta.modes})

    def prediction(self, gains: Sequence[Cell], known: Mapping[str, float]) -> Prediction | None:
        """How well a gauge orders tasks by what their adapters gain or score: rank correlation."""
        pairs = {
            family: [(known[task], value) for task, value in tasks.items() if task in known]
            for family, tasks in task_means(gains).items()
        }
        found = rank_correlation(pairs, seed=self.meta.seed)
        if found is None:
            return None
        count = sum(map(len, pairs.values()))
        return Prediction(rank_correlation=_round(found.mean), **_ends(found), n_tasks=count)


def _groups(scores: Sequence[ItemScore]) -> list[str]:
    """All tasks together, then each kind of novelty; seen tasks apart only beside unseen ones."""
    kinds = sorted({s.holdout for s in scores})
    return [""] if kinds == [""] else ["", *(kind or "seen" for kind in kinds)]


def _row(table: _Measured, name: str, mode: Mode, group: str) -> ReportRow | None:
    items = table.items(name, mode, group)
    if not items:
        return None
    found = table.interval(cells(items, _VALUES["score"]))
    return ReportRow(
        **_means(items) | {"score": _round(found.mean)},
        row=name,
        mode=mode,
        split=table.meta.split,
        holdout=group,
        **_ends(found),
        unit=found.unit,
        n_tasks=len({s.slug for s in items}),
        n_families=len({s.family for s in items}),
        n_items=len({(s.slug, s.item) for s in items}),
        draws=len({s.draw for s in items}),
        per_category={
            category: _mean(cells((s for s in items if s.category == category), _VALUES["score"]))
            for category in sorted({s.category for s in items})
        },
    )


def _contrasts(table: _Measured, group: str) -> list[Contrast]:
    """The generator minus every other row; sign tests are corrected over the group's contrasts."""
    found: list[Contrast] = []
    for mode in table.meta.modes:
        ours = table.cells("generator", mode, group)
        losses = table.cells("generator", mode, group, "nll")
        for name in table.names(mode):
            pairs = paired(ours, table.cells(name, mode, group))
            if name == "generator" or not pairs:
                continue
            score = table.interval(pairs)
            loss = table.interval(paired(losses, table.cells(name, mode, group, "nll")))
            # Unrounded, or small differences would become ties, which the sign test leaves out.
            means = [*_per_task(pairs, exact=True).values()]
            surprise = sign_test(means)
            found.append(
                Contrast(
                    mode=mode,
                    holdout=group,
                    minus=name,
                    difference=_round(score.mean),
                    **_ends(score),
                    n_tasks=len(means),
                    better=sum(m > 0 for m in means),
                    worse=sum(m < 0 for m in means),
                    sign_test_p=surprise,
                    # Corrected below, once all are known.
                    sign_test_p_holm=surprise,
                    nll_difference=_round(loss.mean),
                    nll_low=_round(loss.low),
                    nll_high=_round(loss.high),
                )
            )
    corrected = holm([c.sign_test_p for c in found])
    return [replace(c, sign_test_p_holm=p) for c, p in zip(found, corrected, strict=True)]


def _gap(table: _Measured, mode: Mode, group: str) -> Gap:
    base = table.cells("base", mode, group)
    gained = paired(table.cells("generator", mode, group), base)
    whole = paired(table.cells("oracle_lora", mode, group), base)
    tasks = {cell.task for cell in gained} & {cell.task for cell in whole}
    found = share_of_gap(gained, whole, seed=table.meta.seed)
    return Gap(mode=mode, holdout=group, n_tasks=len(tasks), **_share(found))


def _operation_gain(
    table: _Measured, mode: Mode, other_format: Collection[str]
) -> OperationGain | None:
    """Loss under another task's prompts minus loss under the right ones, per task."""
    pairs = [
        cell
        for cell in paired(
            table.cells("generator_wrong", mode, what="nll"),
            table.cells("generator", mode, what="nll"),
        )
        if cell.task not in other_format
    ]
    if not pairs:
        return None
    found = table.interval(pairs)
    per_task = _per_task(pairs)
    return OperationGain(
        mean=_round(found.mean),
        **_ends(found),
        share_positive=_round(sum(v > 0 for v in per_task.values()) / len(per_task)),
        n_tasks=len(per_task),
        left_out=tuple(sorted(set(other_format) & {s.slug for s in table.scores})),
        per_task=per_task,
    )


def _teachers(meta: ReportMeta) -> tuple[tuple[str, str], ...]:
    """Rows on bare inputs, each with the row on full prompts whose score it is to retain."""
    # Without a trained teacher, the generated adapter answers the whole prompts of an imprint.
    teacher = "trained_teacher" if meta.teacher_sha256 else "generator"
    return (
        ("generator", "multi_task_lora"),
        ("imprint", "base"),
        ("generator_imprint", teacher),
    )


def _retention(table: _Measured, row: str, teacher: str) -> Retention | None:
    """A row on bare inputs as a share of another that reads the instruction too."""
    both = _common(table.cells(row, "bare"), table.cells(teacher, "full"))
    if both is None:
        return None
    ours, theirs = both
    return Retention(
        # `share_of_gap` divides any two levels; these are measured from zero.
        **_share(share_of_gap(ours, theirs, seed=table.meta.seed)),
        row=row,
        bare=_mean(ours),
        teacher=teacher,
        full=_mean(theirs),
        n_tasks=_count(ours),
    )


def _ordinary(
    table: _Measured, ordinary: Mapping[str, Mapping[str, float]]
) -> dict[str, OrdinaryShare]:
    """Share of ordinary messages that a row's adapters leave alone, over the examined tasks."""
    return {
        row: OrdinaryShare(**_over_tasks(table, shares))
        for row, shares in _examined(table, ordinary).items()
    }


def _skills(
    table: _Measured, skills: Mapping[str, Mapping[str, Mapping[str, int]]]
) -> dict[str, SkillShare]:
    """Share of unrelated questions that a row's adapters answer right, over the examined tasks."""
    found = {}
    for row, counts in _examined(table, skills).items():
        after = {slug: one["after"] / one["num_questions"] for slug, one in counts.items()}
        # The same for each task, unless jobs on unlike machines round otherwise.
        before = [one["before"] / one["num_questions"] for one in counts.values()]
        found[row] = SkillShare(
            **_over_tasks(table, after),
            base=_round(sum(before) / len(before)),
            n_questions=max(one["num_questions"] for one in counts.values()),
        )
    return found


def _examined(table: _Measured, checked: Mapping[str, Mapping[str, V]]) -> dict[str, dict[str, V]]:
    """What was checked of adapters, for rows and tasks of the report."""
    slugs = {score.slug for score in table.scores}
    return {
        row: known
        for row in DRAWN
        if row in table.meta.rows
        and (known := {slug: v for slug, v in checked.get(row, {}).items() if slug in slugs})
    }


def _over_tasks(table: _Measured, shares: Mapping[str, float]) -> dict[str, Any]:
    """Fields of a mean over tasks that have one share each."""
    families = {score.slug: score.family for score in table.scores}
    # One number a task, as if it had a single item. Sorted, as an interval depends on the order.
    slugs = sorted(shares, key=lambda slug: (families[slug], slug))
    found = [Cell(families[slug], slug, 0, shares[slug]) for slug in slugs]
    if len({families[slug] for slug in slugs}) == 1:
        # Else items would be resampled within tasks, where there is nothing to draw from.
        found = [cell._replace(task=cell.family, item=n) for n, cell in enumerate(found)]
    return {
        **table.level(found, "share"),
        "n_tasks": len(shares),
        "per_task": {slug: _round(shares[slug]) for slug in sorted(shares)},
    }


def _refine(table: _Measured) -> RefineCurve | None:
    """What refining reaches on bare inputs against what it takes, beside its teacher.

    The teacher has the instruction in its prompt. It is the trained one of the generator, or the
    part that its adapters share. Only tasks that every point has been measured on count, so that
    two points differ in nothing else.
    """
    starts: Mapping[TeachStart, str] = {"generator": "generator", "scratch": "base"}
    trained = [row for row, how in REFINED.items() if not how.from_labels_alone]
    # The imprint counts only where rows start from it: tasks that cannot be imprinted would be lost
    # to all points for nothing.
    if any(table.cells(row, "bare") for row in trained if REFINED[row].start == "imprint"):
        starts = {**starts, "imprint": "generator_imprint"}
    found = {row: table.cells(row, "bare") for row in (*starts.values(), *trained)}
    found = {row: mine for row, mine in found.items() if mine}
    if not found.keys() & REFINED.keys():
        return None
    teacher = table.cells("trained_teacher" if table.meta.teacher_sha256 else "shared_lora", "full")
    # The teacher comes last, so that `zip` below leaves it out.
    both = _common(*found.values(), *([teacher] if teacher else []))
    if both is None:
        return None
    among = dict(zip(found, both, strict=False))
    cost = table.meta.cost
    planned: list[tuple[str, TeachStart, int | None]]
    planned = [(row, start, 0) for start, row in starts.items()]
    planned += [(row, _way(REFINED[row]), REFINED[row].steps) for row in trained]
    points = [
        RefinePoint(
            row=row,
            start=start,
            steps=steps,
            seconds=_spent(cost, row, steps),
            **table.level(among[row]),
        )
        for row, start, steps in planned
        if row in among
    ]
    kept = None
    if teacher and "generator_refined" in among:
        kept = share_of_gap(among["generator_refined"], both[-1], seed=table.meta.seed)
    return RefineCurve(
        n_tasks=_count(both[0]),
        points=tuple(points),
        teacher=Teacher(**table.level(both[-1])) if teacher else None,
        share_of_teacher=Share(**_share(kept)),
    )


def _way(how: Refining) -> TeachStart:
    if how.start != "imprint":
        return how.start
    ways: Mapping[str, TeachStart] = {"better": "imprint_better", "labels": "imprint_labels"}
    return ways.get(how.answers, "imprint")


def _spent(cost: Cost, row: str, steps: int | None) -> float | None:
    """Return the seconds of refining and of imprinting before it; None if either is not known."""
    parts: list[float | None] = [0.0 if steps == 0 else cost.refine_seconds.get(row)]
    if row in IMPRINTED or (row in REFINED and REFINED[row].start == "imprint"):
        parts.append(cost.imprint_seconds.get(row))
    return None if None in parts else _round(sum(part for part in parts if part is not None))


def _equal_score(table: _Measured) -> EqualScore | None:
    """The shortest LoRA run on labels that scores as the generator does on bare inputs.

    A run reaches the generator if its mean does; it is level if it is not clearly below, which a
    shorter run may be by luck.
    """
    runs = {
        row: mine
        for row, how in REFINED.items()
        if how.from_labels_alone and (mine := table.cells(row, "bare"))
    }
    both = _common(table.cells("generator", "bare"), *runs.values())
    if not runs or both is None:
        return None
    ours, *theirs = both
    cost = table.meta.cost
    points = []
    for row, run in zip(runs, theirs, strict=True):
        lead = table.interval(paired(run, ours))
        steps = REFINED[row].steps
        assert steps is not None, "a run on labels says how long it is"
        points.append(
            EqualRun(
                steps=steps,
                seconds=cost.refine_seconds.get(row),
                score=_mean(run),
                difference=_round(lead.mean),
                **_ends(lead),
                reaches=lead.mean >= 0,
                level=not lead.below_zero,
            )
        )
    # Rows come in the order of their steps, so the first is the shortest.
    shortest = next((point for point in points if point.reaches), None)
    ratio = pays_back = None
    if shortest and shortest.seconds and cost.synthesis_seconds:
        ratio = _round(shortest.seconds / cost.synthesis_seconds)
        saved = shortest.seconds - cost.synthesis_seconds
        if cost.training_seconds and saved > 0:
            pays_back = math.ceil(cost.training_seconds / saved)
    return EqualScore(
        n_tasks=_count(ours),
        generator=_mean(ours),
        points=tuple(points),
        shortest_steps=shortest.steps if shortest else None,
        level_steps=next((point.steps for point in points if point.level), None),
        over_synthesis=ratio,
        break_even_tasks=pays_back,
    )


def _similarity(table: _Measured, similarities: Mapping[str, float]) -> SimilarityGauge | None:
    """Results by how near a task's prompts are to the nearest training task's."""
    slugs = {s.slug for s in table.scores}
    known = {slug: value for slug, value in similarities.items() if slug in slugs}
    order = sorted(known, key=lambda slug: (known[slug], slug))
    if len(order) < len(_TERCILES):
        return None
    cuts = [round(len(order) * i / 3) for i in range(4)]
    thirds = {label: order[a:b] for label, (a, b) in zip(_TERCILES, pairwise(cuts), strict=True)}
    per_mode = {mode: _per_task(table.cells("generator", mode)) for mode in table.meta.modes}
    return SimilarityGauge(
        terciles=tuple(
            TercileScore(
                tercile=label,
                begin=_round(known[third[0]]),
                end=_round(known[third[-1]]),
                mode=mode,
                row=name,
                n_tasks=_count(mine),
                **table.level(mine),
            )
            for label, third in thirds.items()
            for mode in table.meta.modes
            for name in table.names(mode)
            if (mine := _of_tasks(table.cells(name, mode), third))
        ),
        predicts_gain=table.predicts_gain(known),
        tasks=tuple(
            Similar(
                slug=slug,
                similarity=_round(known[slug]),
                score={mode: scores.get(slug) for mode, scores in per_mode.items()},
            )
            for slug in order
        ),
    )


def _agreement(
    table: _Measured, checks: Mapping[str, Mapping[str, float | None]]
) -> AgreementGauge | None:
    """What adapters gain by how often they agree, without labels, with the instructed model."""
    slugs = {s.slug for s in table.scores}
    mine = {slug: found for slug, found in checks.items() if slug in slugs}
    known = {s: v for s, found in mine.items() if (v := found["agreement"]) is not None}
    if not known:
        return None
    gains = {mode: table.gains(mode) for mode in table.meta.modes}
    per_mode = {mode: _per_task(of) for mode, of in gains.items()}
    return AgreementGauge(
        bands=tuple(
            Gain(
                mode=mode,
                begin=low,
                end=high,
                n_tasks=_count(found),
                **table.level(found, "gain"),
            )
            for low, high in AGREEMENT_BANDS
            for mode in table.meta.modes
            # Both ends count: no share of up to eight prompts is on an end that two bands share.
            if (found := _of_tasks(gains[mode], [s for s, v in known.items() if low <= v <= high]))
        ),
        predicts_gain=table.predicts_gain(known),
        tasks=tuple(
            Agreeing(
                slug=slug,
                agreement=_round(share),
                gain={mode: found.get(slug) for mode, found in per_mode.items()},
            )
            for slug, share in sorted(known.items(), key=lambda pair: (pair[1], pair[0]))
        ),
    )


def _forecast(table: _Measured, sureness: Mapping[str, float | None]) -> ForecastGauge | None:
    """Scores of adapters by how sure, without labels, the instructed model was beforehand."""
    cells = table.cells(FORECAST_ROW, "bare")
    scores = _per_task(cells)
    known = {slug: v for slug, v in sureness.items() if slug in scores and v is not None}
    if not known:
        return None
    return ForecastGauge(
        teacher_sha256=table.meta.teacher_sha256,
        bands=tuple(
            ForecastBand(begin=low, end=high, n_tasks=_count(found), **table.level(found))
            for low, high in SURENESS_BANDS
            if (found := _of_tasks(cells, [s for s, v in known.items() if within(v, low, high)]))
        ),
        predicts_score=table.prediction(cells, known),
        tasks=tuple(
            ForecastTask(slug=slug, sureness=_round(value), score=scores[slug])
            for slug, value in sorted(known.items(), key=lambda pair: (pair[1], pair[0]))
        ),
    )


def _adapter_verdicts(
    table: _Measured, verdicts: Mapping[str, KeptVerdict | None]
) -> VerdictGauge | None:
    """Scores of imprinted adapters by the verdict that users get on them."""
    # Of the first prompt draw alone, whose adapters the verdicts are on.
    items = (score for score in table.items(FORECAST_ROW, "bare") if score.draw == 0)
    found = cells(items, _VALUES["score"])
    scores = _per_task(found)
    known = {s: v for s, v in verdicts.items() if s in scores and v is not None}
    if not known:
        return None
    shares = {slug: v["same"] / v["num_prompts"] for slug, v in known.items()}
    return VerdictGauge(
        teacher_sha256=table.meta.teacher_sha256,
        bands=tuple(
            VerdictBand(verdict=name, n_tasks=_count(mine), **table.level(mine))
            for name in get_args(Degree)
            if (mine := _of_tasks(found, [s for s, v in known.items() if v["verdict"] == name]))
        ),
        predicts_score=table.prediction(found, shares),
        tasks=tuple(
            VerdictTask(slug=slug, score=scores[slug], **known[slug])
            for slug in sorted(known, key=lambda slug: (shares[slug], slug))
        ),
    )


def _failures(table: _Measured, made: str, tasks: Sequence[Task]) -> tuple[Failure, ...]:
    """Draw wrong items of a row by seed, over all tasks and modes."""
    by_slug = {task.info.slug: task for task in tasks}
    # Sorted before drawing: a kill or a cluster changes the order in which scores come.
    wrong = sorted(
        # One draw is enough; others would show an item several times.
        (s for s in table.scores if s.row == made and s.score < WRONG_BELOW and s.draw == 0),
        key=lambda s: (s.mode, s.slug, s.item),
    )
    rng = random.Random(f"{table.meta.seed}:failures")
    found = []
    for score in rng.sample(wrong, min(FAILURES, len(wrong))):
        task = by_slug.get(score.slug)
        example = task.test[score.item] if task else None
        asked = example.prompt if example else ""
        if example and score.mode == "bare":
            asked = example.bare or example.prompt
        found.append(
            Failure(
                mode=score.mode,
                slug=score.slug,
                item=score.item,
                description=task.info.description if task else score.slug,
                asked=asked[:_SHOWN],
                wanted=example.response[:_SHOWN] if example else "",
                got=score.text,
                score=_round(score.score),
            )
        )
    return tuple(found)


def _not_measured(table: _Measured, meta: ReportMeta) -> dict[str, str]:
    measured = {s.row for s in table.scores}
    reasons = dict.fromkeys(ROWS, "not asked for") | dict.fromkeys(meta.rows, "no scores")
    reasons |= meta.left_out
    return {row: reason for row, reason in reasons.items() if row not in measured}


def _known(found: Mapping[K, V | None]) -> dict[K, V]:
    """Leave out what could not be measured."""
    return {key: value for key, value in found.items() if value is not None}


def _of_tasks(of: Iterable[Cell], slugs: Collection[str]) -> tuple[Cell, ...]:
    return tuple(cell for cell in of if cell.task in slugs)


def _common(*rows: Sequence[Cell]) -> list[tuple[Cell, ...]] | None:
    """Cells of the items that all rows have; None if there is none.

    Not only of their tasks: an item without an instruction has a score on full prompts alone.
    """
    items = set.intersection(*({(cell.task, cell.item) for cell in of} for of in rows))
    if not items:
        return None
    return [tuple(cell for cell in of if (cell.task, cell.item) in items) for of in rows]


def _count(of: Iterable[Cell]) -> int:
    """Tasks."""
    return len({cell.task for cell in of})


def _ends(found: Interval) -> dict[str, float]:
    return {"low": _round(found.low), "high": _round(found.high)}


def _share(found: Interval | None) -> dict[str, float | None]:
    if found is None:
        return {"share": None, "low": None, "high": None}
    return {"share": _round(found.mean), **_ends(found)}


def _per_task(of: Iterable[Cell], *, exact: bool = False) -> dict[str, float]:
    return {
        task: value if exact else _round(value)
        for tasks in task_means(of).values()
        for task, value in tasks.items()
    }


def _mean(of: Iterable[Cell]) -> float:
    """Over tasks, of which there is one at least."""
    means = _per_task(of, exact=True).values()
    return _round(sum(means) / len(means))


def _means(items: Sequence[ItemScore]) -> dict[str, Any]:
    """Each value's mean over tasks; None where no item has it."""
    return {
        what: _mean(found) if (found := cells(items, value)) else None
        for what, value in _VALUES.items()
    }


def _round(value: float) -> float:
    # Adding zero turns -0.0 into 0.0.
    return round(value, 4) + 0.0


def _task_rows(scores: Sequence[ItemScore]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str, str], list[ItemScore]] = {}
    for score in scores:
        groups.setdefault((score.row, score.mode, score.slug), []).append(score)
    return [
        {
            "row": row,
            "mode": mode,
            "slug": slug,
            "family": items[0].family,
            "category": items[0].category,
            "holdout": items[0].holdout,
            "n_items": len({s.item for s in items}),
            "draws": len({s.draw for s in items}),
            **_means(items),
        }
        for (row, mode, slug), items in groups.items()
    ]


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    # The csv module ends lines itself. Answers are a model's words, which `cell` keeps from being
    # read as formulas.
    with written_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
