"""The report of an examination: one mapping made from item scores, and the files that tell it.

Every row that was measured stands in every table, whatever it says; rows that were not are named
with the reason; wrong answers are drawn by seed, never chosen. Knows no models, measures nothing.
"""

import csv
import json
import math
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from dnd_engine.config import AGREEMENT_BANDS
from dnd_engine.errors import ConfigError
from dnd_engine.evaluation.page import full_page, report_markdown
from dnd_engine.evaluation.pictures import draw_pictures
from dnd_engine.evaluation.verdicts import judge
from dnd_engine.files import write_whole, written_aside
from dnd_engine.scoring.scores import DRAWN, REFINED, ROWS, ItemScore, ReportMeta
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
from dnd_engine.tasks.folder import Mode, Task

__all__ = ["build_report", "report_markdown", "write_report"]

FAILURES = 20
"""Wrong items shown."""

WRONG_BELOW = 0.5
"""An item is wrong if its score is under this: any miss of an exact task, a poor overlap else."""

_SHOWN = 300
"""Characters of a prompt shown with a failure."""

_ORDER: tuple[Mode, ...] = ("bare", "full")

_TERCILES = ("least similar", "middle", "most similar")

_RETENTIONS = {
    "generator": ("generator", "multi_task_lora"),
    "imprint": ("imprint", "base"),
    "generator_imprint": ("generator_imprint", "generator"),
}
"""Rows on bare inputs, and what they are to retain: their teachers on full prompts."""

Value = Callable[[ItemScore], float | None]

_VALUES: Mapping[str, Value] = {
    "score": lambda s: s.score,
    "exact": lambda s: s.exact,
    "format_share": lambda s: s.format_ok,
    "content_given_format": lambda s: s.content_ok,
    "choice": lambda s: s.choice,
    "nll": lambda s: s.nll,
    "substituted": lambda s: s.substituted,
}
"""What is averaged, under the names of the report."""


def build_report(
    scores: Sequence[ItemScore],
    meta: ReportMeta,
    *,
    tasks: Sequence[Task] = (),
    similarities: Mapping[str, float] | None = None,
    checks: Mapping[str, Mapping[str, float | None]] | None = None,
    ordinary: Mapping[str, Mapping[str, float]] | None = None,
    other_format: Collection[str] = (),
) -> dict[str, Any]:
    """Turn item scores into what `report.json` holds.

    Means are over tasks, with items and prompt draws averaged within; intervals are 95 %, by a
    bootstrap over families. Numbers that were not measured are None.

    Args:
        scores: Of all rows and modes.
        meta: What the scores do not say.
        tasks: The examined tasks; without them, failures do not say what was asked and wanted.
        similarities: Task to the similarity of its prompts to the nearest training task's.
        checks: Task to what an inspection of its adapter says: `agreement` and `effect`.
        ordinary: Row to task to the share of ordinary messages that its adapter leaves alone.
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
    distances = dict(meta.distances)
    cosine = distances.pop("cosine", None) or {}
    gaps = [_gap(table, mode, group) for group in groups for mode in meta.modes]
    effects = [v for found in (checks or {}).values() if (v := found["effect"]) is not None]
    verdicts = judge(scores, meta.distances, seed=meta.seed, other_format=other_format)
    return {
        "command": meta.command,
        "seed": meta.seed,
        "split": meta.split,
        "data": meta.data,
        "metric": "each task's own metric on greedily generated text, 0 to 1",
        "generator": meta.generator,
        "generator_sha256": meta.generator_sha256,
        "base": meta.base,
        "n_tasks": len({s.slug for s in scores}),
        "n_families": len({s.family for s in scores}),
        "trained_families_among_them": sorted(
            {s.family for s in scores} & set(meta.trained_families)
        ),
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "rows": [
            row
            for group in groups
            for mode in meta.modes
            for name in table.names(mode)
            if (row := _row(table, name, mode, group)) is not None
        ],
        "not_measured": _not_measured(table, meta),
        "contrasts": [c for group in groups for c in _contrasts(table, group)],
        "gap_closed": {g["mode"]: g["share"] for g in gaps if not g["holdout"]},
        "gaps": gaps,
        "operation_gain": {
            mode: gain
            for mode in meta.modes
            if (gain := _operation_gain(table, mode, other_format)) is not None
        },
        "substitution": {
            mode: found for mode in meta.modes if (found := _substitution(table, mode)) is not None
        },
        "retention": {
            name: found
            for name, (row, teacher) in _RETENTIONS.items()
            if (found := _retention(table, row, teacher)) is not None
        },
        "ordinary": _ordinary(table, ordinary or {}),
        "refine": _refine(table),
        "equal_score": _equal_score(table),
        "similarity": _similarity(table, similarities),
        "agreement": _agreement(table, checks or {}),
        "strongest_effect": max(effects, default=None),
        "cosine": {
            name: cosine.get(name)
            for name in (
                "same_task",
                "different_task",
                "same_task_centred",
                "different_task_centred",
            )
        },
        "distances": distances,
        "cost": dict(meta.cost),
        "failures": _failures(table, tasks),
    }


def write_report(report: Mapping[str, Any], scores: Sequence[ItemScore], out: Path) -> None:
    """Write the report as JSON, tables, pictures and a page to read; each aside, then renamed.

    Args:
        report: As built.
        scores: What it was built from, for the tables.
        out: Folder; made if missing. It gets `report.json`, `report.csv` (means per task, row and
            mode), `items.csv` (every item), `REPORT.md` and `plots/`.
    """
    pictures = draw_pictures(report, out / "plots")
    write_whole(out / "report.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    _write_csv(out / "report.csv", _task_rows(scores))
    _write_csv(out / "items.csv", [asdict(score) for score in scores])
    write_whole(out / "REPORT.md", full_page(report, pictures))


@dataclass(frozen=True, slots=True)
class _Measured:
    """Scores by row and mode."""

    scores: Sequence[ItemScore]
    meta: ReportMeta

    def names(self, mode: Mode) -> list[str]:
        found = {s.row for s in self.scores if s.mode == mode}
        order = [*ROWS, *self.meta.rows]
        return sorted(found, key=lambda row: order.index(row) if row in order else len(order))

    def items(self, row: str, mode: Mode, group: str = "") -> list[ItemScore]:
        return [
            s
            for s in self.scores
            if s.row == row and s.mode == mode and (not group or (s.holdout or "seen") == group)
        ]

    def cells(self, row: str, mode: Mode, group: str = "", what: str = "score") -> tuple[Cell, ...]:
        return cells(self.items(row, mode, group), _VALUES[what])


def _groups(scores: Sequence[ItemScore]) -> list[str]:
    """All tasks together, then each kind of novelty; seen tasks apart only beside unseen ones."""
    kinds = sorted({s.holdout for s in scores})
    return [""] if kinds == [""] else ["", *(kind or "seen" for kind in kinds)]


def _row(table: _Measured, name: str, mode: Mode, group: str) -> dict[str, Any] | None:
    items = table.items(name, mode, group)
    if not items:
        return None
    found = interval(cells(items, _VALUES["score"]), seed=table.meta.seed)
    draws = sorted({s.draw for s in items})
    per_draw = [cells((s for s in items if s.draw == draw), _VALUES["score"]) for draw in draws]
    categories = sorted({s.category for s in items})
    return {
        "row": name,
        "mode": mode,
        "split": table.meta.split,
        "holdout": group,
        "score": _round(found.mean),
        "low": _round(found.low),
        "high": _round(found.high),
        "unit": found.unit,
        "n_tasks": len({s.slug for s in items}),
        "n_families": len({s.family for s in items}),
        "n_items": len({(s.slug, s.item) for s in items}),
        "draws": len(draws),
        "per_draw": [_mean(of) for of in per_draw],
        **{
            what: _mean(cells(items, _VALUES[what]))
            for what in ("exact", "format_share", "content_given_format", "choice", "nll")
        },
        "per_category": {
            c: _mean(cells((s for s in items if s.category == c), _VALUES["score"]))
            for c in categories
        },
    }


def _contrasts(table: _Measured, group: str) -> list[dict[str, Any]]:
    """The generator minus every other row; sign tests are corrected over the group's contrasts."""
    found: list[dict[str, Any]] = []
    for mode in table.meta.modes:
        ours = table.cells("generator", mode, group)
        losses = table.cells("generator", mode, group, "nll")
        for name in table.names(mode):
            pairs = paired(ours, table.cells(name, mode, group))
            if name == "generator" or not pairs:
                continue
            score = interval(pairs, seed=table.meta.seed)
            loss = interval(
                paired(losses, table.cells(name, mode, group, "nll")), seed=table.meta.seed
            )
            means = [m for tasks in task_means(pairs).values() for m in tasks.values()]
            found.append(
                {
                    "mode": mode,
                    "holdout": group,
                    "minus": name,
                    "difference": _round(score.mean),
                    "low": _round(score.low),
                    "high": _round(score.high),
                    "n_tasks": len(means),
                    "better": sum(m > 0 for m in means),
                    "worse": sum(m < 0 for m in means),
                    "sign_test_p": sign_test(means),
                    "nll_difference": _round(loss.mean),
                    "nll_low": _round(loss.low),
                    "nll_high": _round(loss.high),
                }
            )
    corrected = holm([c["sign_test_p"] for c in found])
    return [c | {"sign_test_p_holm": p} for c, p in zip(found, corrected, strict=True)]


def _gap(table: _Measured, mode: Mode, group: str) -> dict[str, Any]:
    base = table.cells("base", mode, group)
    gained = paired(table.cells("generator", mode, group), base)
    whole = paired(table.cells("oracle_lora", mode, group), base)
    found = share_of_gap(gained, whole, seed=table.meta.seed)
    tasks = {cell.task for cell in gained} & {cell.task for cell in whole}
    return {"mode": mode, "holdout": group, "n_tasks": len(tasks), **_share(found)}


def _operation_gain(
    table: _Measured, mode: Mode, other_format: Collection[str]
) -> dict[str, Any] | None:
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
    found = interval(pairs, seed=table.meta.seed)
    per_task = {t: _round(v) for tasks in task_means(pairs).values() for t, v in tasks.items()}
    return {
        "mean": _round(found.mean),
        "low": _round(found.low),
        "high": _round(found.high),
        "share_positive": _round(sum(v > 0 for v in per_task.values()) / len(per_task)),
        "n_tasks": len(per_task),
        "left_out": sorted(set(other_format) & {s.slug for s in table.scores}),
        "per_task": per_task,
    }


def _substitution(table: _Measured, mode: Mode) -> dict[str, Any] | None:
    """How often the generator's answer is what a trained operation gives instead."""
    known = table.cells("generator", mode, what="substituted")
    if not known:
        return None
    found = interval(known, seed=table.meta.seed)
    return {
        "share": _round(found.mean),
        "low": _round(found.low),
        "high": _round(found.high),
        "n_tasks": len({c.task for c in known}),
        "n_items": len(known),
    }


def _retention(table: _Measured, row: str, teacher: str) -> dict[str, Any] | None:
    """A row on bare inputs as a share of its teacher, which reads the instruction too."""
    sides = table.cells(row, "bare"), table.cells(teacher, "full")
    common = set.intersection(*({cell.task for cell in of} for of in sides))
    ours, theirs = ([cell for cell in of if cell.task in common] for of in sides)
    if not common:
        return None
    return {
        **_share(share_of_gap(ours, theirs, seed=table.meta.seed)),
        "row": row,
        "bare": _mean(ours),
        "teacher": teacher,
        "full": _mean(theirs),
        "n_tasks": len(common),
    }


def _ordinary(
    table: _Measured, ordinary: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, Any]]:
    """Share of ordinary messages that a row's adapters leave alone, over the examined tasks."""
    families = {score.slug: score.family for score in table.scores}
    measured = {
        row: [
            Cell(families[slug], slug, 0, share)
            for slug, share in ordinary.get(row, {}).items()
            if slug in families
        ]
        for row in DRAWN
        if row in table.meta.rows
    }
    found = {}
    for row, of in measured.items():
        if of:
            level = interval(of, seed=table.meta.seed)
            found[row] = {
                "share": _round(level.mean),
                "low": _round(level.low),
                "high": _round(level.high),
                "n_tasks": len(of),
                "per_task": {cell.task: _round(cell.value) for cell in sorted(of)},
            }
    return found


def _refine(table: _Measured) -> dict[str, Any] | None:
    """What refining reaches on bare inputs against what it takes, beside its teacher.

    The teacher is the generator's shared part, told the instruction. Only tasks that every point
    has been measured on count, so that two points differ in nothing else.
    """
    starts = {"generator": "generator", "scratch": "base"}
    unlabelled = [row for row, how in REFINED.items() if not how.labels]
    found = {row: table.cells(row, "bare") for row in (*starts.values(), *unlabelled)}
    found = {row: mine for row, mine in found.items() if mine}
    if not found.keys() & REFINED.keys():
        return None
    teacher = table.cells("shared_lora", "full")
    sets = [{cell.task for cell in mine} for mine in (*found.values(), teacher) if mine]
    common = set.intersection(*sets)

    def among(of: Sequence[Cell]) -> list[Cell]:
        return [cell for cell in of if cell.task in common]

    def point(row: str, start: str, steps: int | None, seconds: float | None) -> dict[str, Any]:
        level = interval(among(found[row]), seed=table.meta.seed)
        numbers = {"score": level.mean, "low": level.low, "high": level.high}
        numbers = {name: _round(value) for name, value in numbers.items()}
        return {"row": row, "start": start, "steps": steps, "seconds": seconds, **numbers}

    if not common:
        return None
    spent = table.meta.cost.get("refine_seconds") or {}
    points = [point(row, start, 0, 0.0) for start, row in starts.items() if row in found]
    points += [
        point(row, how.start, how.steps, spent.get(row))
        for row, how in REFINED.items()
        if row in found
    ]
    kept = None
    if teacher and "generator_refined" in found:
        refined = among(found["generator_refined"])
        kept = share_of_gap(refined, among(teacher), seed=table.meta.seed)
    level = interval(among(teacher), seed=table.meta.seed) if teacher else None
    return {
        "n_tasks": len(common),
        "points": points,
        "teacher": level
        and {"score": _round(level.mean), "low": _round(level.low), "high": _round(level.high)},
        "share_of_teacher": _share(kept),
    }


def _equal_score(table: _Measured) -> dict[str, Any] | None:
    """The shortest LoRA run on labels that scores as the generator does on bare inputs.

    A run reaches the generator if its mean does; it is level if it is not clearly below, which a
    shorter run may be by luck.
    """
    ours = table.cells("generator", "bare")
    runs = {row: table.cells(row, "bare") for row, how in REFINED.items() if how.labels}
    runs = {row: mine for row, mine in runs.items() if mine}
    if not ours or not runs:
        return None
    common = {c.task for c in ours}.intersection(*({c.task for c in run} for run in runs.values()))
    if not common:
        return None

    def among(of: Sequence[Cell]) -> list[Cell]:
        return [cell for cell in of if cell.task in common]

    spent = table.meta.cost.get("refine_seconds") or {}
    points = []
    for row, run in runs.items():
        lead = interval(paired(among(run), among(ours)), seed=table.meta.seed)
        points.append(
            {
                "steps": REFINED[row].steps,
                "seconds": spent.get(row),
                "score": _mean(among(run)),
                "difference": _round(lead.mean),
                "low": _round(lead.low),
                "high": _round(lead.high),
                "reaches": lead.mean >= 0,
                "level": not lead.below_zero,
            }
        )
    shortest = next((point for point in points if point["reaches"]), None)
    level = next((point for point in points if point["level"]), None)
    seconds = shortest and shortest["seconds"]
    synthesis = table.meta.cost.get("synthesis_seconds")
    training = table.meta.cost.get("training_seconds")
    saved = seconds - synthesis if seconds and synthesis else 0
    return {
        "n_tasks": len(common),
        "generator": _mean(among(ours)),
        "points": points,
        "shortest_steps": shortest and shortest["steps"],
        "level_steps": level and level["steps"],
        "over_synthesis": _round(seconds / synthesis) if seconds and synthesis else None,
        "break_even_tasks": math.ceil(training / saved) if training and saved > 0 else None,
    }


def _similarity(
    table: _Measured, similarities: Mapping[str, float] | None
) -> dict[str, Any] | None:
    """Results by how near a task's prompts are to the nearest training task's."""
    slugs = {s.slug for s in table.scores}
    known = {slug: value for slug, value in (similarities or {}).items() if slug in slugs}
    order = sorted(known, key=lambda slug: (known[slug], slug))
    if len(order) < len(_TERCILES):
        return None
    cuts = [round(len(order) * i / 3) for i in range(4)]
    thirds = [(label, order[a:b]) for label, (a, b) in zip(_TERCILES, pairwise(cuts), strict=True)]
    per_mode = {mode: _per_task(table.cells("generator", mode)) for mode in table.meta.modes}
    return {
        "terciles": [
            {**_third(third, known), "mode": mode, "row": name, **found}
            for third in thirds
            for mode in table.meta.modes
            for name in table.names(mode)
            if (found := _mean_of(table.cells(name, mode), third[1], "score", table.meta.seed))
        ],
        "gains": [
            {**_third(third, known), "mode": mode, **found}
            for third in thirds
            for mode in table.meta.modes
            if (found := _mean_of(_gains(table, mode), third[1], "gain", table.meta.seed))
        ],
        "predicts_gain": {
            mode: found
            for mode in table.meta.modes
            if (found := _prediction(_gains(table, mode), known, table.meta.seed)) is not None
        },
        "tasks": [
            {
                "slug": slug,
                "similarity": _round(known[slug]),
                "score": {mode: scores.get(slug) for mode, scores in per_mode.items()},
            }
            for slug in order
        ],
    }


def _agreement(
    table: _Measured, checks: Mapping[str, Mapping[str, float | None]]
) -> dict[str, Any] | None:
    """What adapters gain by how often they agree, without labels, with the instructed model."""
    slugs = {s.slug for s in table.scores}
    mine = {slug: found for slug, found in checks.items() if slug in slugs}
    known = {s: v for s, found in mine.items() if (v := found["agreement"]) is not None}
    if not known:
        return None
    gains = {mode: _gains(table, mode) for mode in table.meta.modes}
    bands = {
        (low, high): [slug for slug, share in known.items() if low <= share <= high]
        for low, high in AGREEMENT_BANDS
    }
    per_mode = {mode: _per_task(of) for mode, of in gains.items()}
    return {
        "bands": [
            {"mode": mode, "from": low, "to": high, **found}
            for (low, high), tasks in bands.items()
            for mode in table.meta.modes
            if (found := _mean_of(gains[mode], tasks, "gain", table.meta.seed))
        ],
        "predicts_gain": {
            mode: found
            for mode in table.meta.modes
            if (found := _prediction(gains[mode], known, table.meta.seed)) is not None
        },
        "tasks": [
            {
                "slug": slug,
                "agreement": _round(share),
                "gain": {mode: found.get(slug) for mode, found in per_mode.items()},
            }
            for slug, share in sorted(known.items(), key=lambda pair: (pair[1], pair[0]))
        ],
    }


def _gains(table: _Measured, mode: Mode) -> tuple[Cell, ...]:
    """What the generator's adapters add to the base."""
    return paired(table.cells("generator", mode), table.cells("base", mode))


def _per_task(of: Iterable[Cell]) -> dict[str, float]:
    return {
        task: _round(value) for tasks in task_means(of).values() for task, value in tasks.items()
    }


def _third(third: tuple[str, Sequence[str]], known: Mapping[str, float]) -> dict[str, Any]:
    label, slugs = third
    return {"tercile": label, "from": _round(known[slugs[0]]), "to": _round(known[slugs[-1]])}


def _mean_of(
    of: Sequence[Cell], slugs: Sequence[str], name: str, seed: int
) -> dict[str, Any] | None:
    """Mean and interval over some tasks; None if none of them was measured."""
    mine = [c for c in of if c.task in slugs]
    if not mine:
        return None
    found = interval(mine, seed=seed)
    return {
        name: _round(found.mean),
        "low": _round(found.low),
        "high": _round(found.high),
        "n_tasks": len({c.task for c in mine}),
    }


def _prediction(
    gains: Sequence[Cell], known: Mapping[str, float], seed: int
) -> dict[str, Any] | None:
    """How well a gauge orders tasks by what their adapters gain: rank correlation."""
    pairs = {
        family: [(known[task], value) for task, value in tasks.items() if task in known]
        for family, tasks in task_means(gains).items()
    }
    found = rank_correlation(pairs, seed=seed)
    if found is None:
        return None
    return {
        "rank_correlation": _round(found.mean),
        "low": _round(found.low),
        "high": _round(found.high),
        "n_tasks": sum(map(len, pairs.values())),
    }


def _failures(table: _Measured, tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """Draw wrong items of the generator by seed, over all tasks and modes alike."""
    by_slug = {task.info.slug: task for task in tasks}
    wrong = sorted(
        (s for s in table.scores if s.row == "generator" and s.score < WRONG_BELOW and s.draw == 0),
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
            {
                "mode": score.mode,
                "slug": score.slug,
                "item": score.item,
                "description": task.info.description if task else score.slug,
                "asked": asked[:_SHOWN],
                "wanted": example.response[:_SHOWN] if example else "",
                "got": score.text,
                "score": _round(score.score),
            }
        )
    return found


def _not_measured(table: _Measured, meta: ReportMeta) -> dict[str, str]:
    measured = {s.row for s in table.scores}
    reasons = dict.fromkeys(ROWS, "not asked for") | dict.fromkeys(meta.rows, "no scores")
    reasons |= meta.left_out
    return {row: reason for row, reason in reasons.items() if row not in measured}


def _share(found: Interval | None) -> dict[str, float | None]:
    if found is None:
        return {"share": None, "low": None, "high": None}
    return {"share": _round(found.mean), "low": _round(found.low), "high": _round(found.high)}


def _mean(of: Iterable[Cell]) -> float | None:
    """Over tasks."""
    means = [value for tasks in task_means(of).values() for value in tasks.values()]
    return _round(sum(means) / len(means)) if means else None


def _round(value: float) -> float:
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
            **{what: _mean(cells(items, value)) for what, value in _VALUES.items()},
        }
        for (row, mode, slug), items in groups.items()
    ]


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with written_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
