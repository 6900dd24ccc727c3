"""Pictures of a report, as SVG: drawn from the report alone, with its numbers beside them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dnd_engine.charts import (
    Band,
    Chart,
    Line,
    Look,
    Row,
    Scale,
    clock,
    clock_scale,
    line_chart,
    row_chart,
    svg_file,
)
from dnd_engine.files import write_whole
from dnd_engine.scoring.wording import CONTROLS, mode_label, number, percent, row_label, signed

__all__ = ["category_rows", "draw_pictures", "refine_chart", "score_row"]

Picture = tuple[str, Sequence[Chart]]
"""A heading, which may be empty, and charts side by side."""

_MODES = ("bare", "full")
_COSINES = {
    "same_task": "Same task, other prompts",
    "different_task": "Different tasks",
    "same_task_centred": "Same task, centred",
    "different_task_centred": "Different tasks, centred",
}


def draw_pictures(report: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Draw every picture that the report has the numbers for, as `<name>.svg`.

    Args:
        report: As built.
        folder: Made if missing.

    Returns:
        What each picture shows, for those who cannot see it, by name.
    """
    drawn = {}
    for name, draw in _PICTURES.items():
        if (made := draw(report)) is not None:
            heading, charts = made
            write_whole(folder / f"{name}.svg", svg_file(charts, heading))
            drawn[name] = " ".join([f"{heading}."] * bool(heading) + [c.summary for c in charts])
    return drawn


def score_row(
    row: Mapping[str, Any],
    label: str,
    *,
    metric: str = "score",
    write: Callable[[float], str] = number,
    told: str = "",
) -> Row:
    """Draw a row of a report: only scores have intervals.

    Args:
        row: Of `report["rows"]`.
        label: Its name.
        metric: What to show of it.
        write: Writes a number.
        told: The row in words.
    """
    name, value = str(row["row"]), float(row[metric])
    look: Look = "own" if name.startswith("generator") else "base"
    look = "other" if name in CONTROLS else "labels" if name == "oracle_lora" else look
    bar = (float(row["low"]), float(row["high"])) if metric == "score" else None
    strong = name in ("generator", "oracle_lora")
    return Row(label, write(value), look, bar, marks=[(value, look)], strong=strong, told=told)


def category_rows(
    rows: Sequence[Mapping[str, Any]], write: Callable[[float, float | None], str]
) -> tuple[str, list[Row]]:
    """Draw the generator and a LoRA trained on labels for each kind of task.

    Bare inputs if they were measured: there the prompts must carry the task.

    Args:
        rows: Of a report.
        write: Writes the generator's score, and the other if there is one.

    Returns:
        The mode, and the rows, the best first; none if there is nothing to draw.
    """
    mode = "bare" if any(r["mode"] == "bare" for r in rows) else "full"
    found = {str(r["row"]): r.get("per_category") or {} for r in rows if r["mode"] == mode}
    top = {name: float(score) for name, score in found.get("oracle_lora", {}).items()}
    drawn = []
    for category, score in sorted(
        found.get("generator", {}).items(), key=lambda pair: (-float(pair[1]), pair[0])
    ):
        own, ceiling = float(score), top.get(category)
        marks: list[tuple[float, Look]] = [(own, "own")]
        bar = None
        if ceiling is not None:
            marks, bar = [(ceiling, "labels"), *marks], (own, ceiling)
        drawn.append(Row(str(category), write(own, ceiling), "base", bar, marks=marks))
    return mode, drawn


def refine_chart(
    report: Mapping[str, Any],
    names: Mapping[str, str],
    write: Callable[[float], str] = number,
    time: Callable[[float], str] = clock,
    axis: str = "",
) -> Chart | None:
    """Draw scores on bare inputs over seconds: refined from both starts, on labels, the teacher.

    Args:
        report: As built.
        names: Of `scratch`, `generator`, `labels` and `teacher`.
        write: Writes a score.
        time: Writes seconds.
        axis: What these are.
    """
    found = report.get("refine")
    if not found or any(p["seconds"] is None for p in found["points"]):
        return None
    ways: dict[str, list[Mapping[str, Any]]] = {
        way: [p for p in found["points"] if p["start"] == way] for way in ("scratch", "generator")
    }
    learnt = (report.get("equal_score") or {}).get("points") or ()
    ways["labels"] = [*ways["scratch"][:1], *learnt] if learnt else []
    longest = max(float(p["seconds"]) for points in ways.values() for p in points)
    lines, bands, told = [], [], []
    looks: Mapping[str, Look] = {"scratch": "other", "generator": "own", "labels": "labels"}
    for way, points in ways.items():
        places = sorted((float(p["seconds"]), float(p["score"])) for p in points)
        if places:
            lines.append(Line(places, looks[way], names[way], "marked"))
            steps = ", ".join(f"{write(score)} ({time(seconds)})" for seconds, score in places)
            told.append(f"{names[way]}: {steps}")
    if teacher := found["teacher"]:
        score, ends = float(teacher["score"]), (0.0, longest)
        bands.append(Band(float(teacher["low"]), float(teacher["high"]), "base"))
        lines.insert(0, Line([(x, score) for x in ends], "base", names["teacher"], "thin"))
        told.append(f"{names['teacher']}: {write(score)}")
    x, y = Scale.nice(0, longest), Scale.share(lambda tick: _without_zeros(write(tick)))
    return line_chart(lines, x, y, "; ".join(told), bands=bands, axis=axis)


def _rows(report: Mapping[str, Any]) -> Picture | None:
    """Every row with its interval, one chart for each input mode."""
    rows = [r for r in report["rows"] if not r["holdout"]]
    names = list(dict.fromkeys(r["row"] for r in rows))
    notes = {"bare": "only the input is sent", "full": "the instruction is sent too"}
    charts: list[Chart] = []
    for mode in _modes(rows):
        found = {r["row"]: r for r in rows if r["mode"] == mode}
        labels = {name: row_label(name) if not charts else "" for name in names}
        lines = [
            score_row(found[name], labels[name])
            if name in found
            else Row(labels[name], "-", "base")
            for name in names
        ]
        told = "; ".join(f"{row_label(n)} {number(r['score'])}" for n, r in found.items())
        axis = "score: means over tasks, 95 % intervals"
        chart = row_chart(lines, Scale.share(), f"{mode_label(mode)} inputs: {told}.", axis)
        charts.append(chart.titled(mode_label(mode), notes[mode]))
    return "Scores of every row", charts


def _categories(report: Mapping[str, Any]) -> Picture | None:
    """Generator to own LoRA, for each kind of task."""
    mode, lines = category_rows(
        [r for r in report["rows"] if not r["holdout"]],
        lambda own, top: number(own) + ("" if top is None else f" of {number(top)}"),
    )
    if not lines:
        return None
    told = "; ".join(f"{row.label} {row.value}" for row in lines)
    summary = f"Score of the generator, and of a LoRA on labels: {told}."
    chart = row_chart(lines, Scale.share(), summary, "score")
    note = f"{mode_label(mode).lower()} inputs; disc: generator, diamond: own LoRA"
    return "", [chart.titled("By kind of task", note)]


def _gain(report: Mapping[str, Any]) -> Picture | None:
    """What the right prompts gain over another task's, task by task."""
    gains = report["operation_gain"]
    modes = [m for m in _MODES if m in gains]
    if not modes:
        return None
    values = [v for m in modes for v in (0, gains[m]["high"], *gains[m]["per_task"].values())]
    y = Scale.nice(min(values), max(values), _signed_tick)
    charts = []
    for mode in modes:
        gain = gains[mode]
        order = list(enumerate(sorted(gain["per_task"].values())))
        end = len(order)
        above = [(i, v) for i, v in order if v > 0]
        below = [(i, v) for i, v in order if v <= 0]
        chart = line_chart(
            [
                Line([(-1, gain["mean"]), (end, gain["mean"])], "own", style="thin"),
                Line(below, "other", style="dots", whiskers=[(0, v) for _, v in below]),
                Line(above, "own", style="dots", whiskers=[(0, v) for _, v in above]),
            ],
            Scale(-1, end, ()),
            y,
            f"{mode_label(mode)} {signed(gain['mean'])} nats a token, above zero on "
            f"{percent(gain['share_positive'])} of {gain['n_tasks']} tasks.",
            bands=[Band(gain["low"], gain["high"], "own")],
            axis=f"{end} tasks, sorted; nats a reference token",
        )
        note = (
            f"mean {signed(gain['mean'])} ({number(gain['low'])} to {number(gain['high'])}); "
            f"above 0 on {percent(gain['share_positive'])}"
        )
        charts.append(chart.titled(mode_label(mode), note))
    return "Gain of the right prompts over another task's", charts


def _cosines(report: Mapping[str, Any]) -> Picture | None:
    """Cosines of adapters of one task and of two tasks: whole distributions."""
    given = report["distances"].get("distributions") or {}
    found = {n: given[n]["values"] for n in _COSINES if n in given and given[n]["n"]}
    if not found:
        return None
    low = min(0.0, *(v for values in found.values() for v in values))
    lines = []
    for name, values in found.items():
        quarter, middle = (len(values) - 1) // 4, values[len(values) // 2]
        look: Look = "own" if name.startswith("same") else "base"
        lines.append(
            Row(
                _COSINES[name],
                f"{middle:.3f}".replace("0.", ".", 1),
                look,
                bar=(values[0], values[-1]),
                thick=(values[quarter], values[-1 - quarter]),
                marks=[(middle, look)],
            )
        )
    told = "; ".join(f"{row.label.lower()} {row.value}" for row in lines)
    chart = row_chart(
        lines,
        Scale.nice(low, 1, _tick),
        f"Cosines of ΔW between generated adapters, medians: {told}.",
        "all pairs: line whole range, bar middle half, disc median",
    )
    return "", [chart.titled("Cosine of ΔW", "between two generated adapters")]


def _similarity(report: Mapping[str, Any]) -> Picture | None:
    """Score against similarity to the nearest training task."""
    found = report["similarity"]
    if found is None:
        return None
    places = [t["similarity"] for t in found["tasks"]]
    x = Scale.nice(min(places), max(places), _tick)
    charts = []
    for mode in _MODES:
        thirds = [t for t in found["terciles"] if t["mode"] == mode and t["row"] == "generator"]
        dots = [(t["similarity"], t["score"].get(mode)) for t in found["tasks"]]
        known = [(at, score) for at, score in dots if score is not None]
        if not known:
            continue
        told = "; ".join(f"{t['tercile']} {number(t['score'])}" for t in thirds)
        chart = line_chart(
            [*_steps(thirds, "score"), Line(known, "own", style="dots")],
            x,
            Scale.share(),
            f"{mode_label(mode)}: {told}.",
            bands=_bands(thirds),
            axis="similarity of prompts to the nearest training task",
        )
        note = "a dot is a task; thirds of the tasks, means and 95 % intervals"
        charts.append(chart.titled(mode_label(mode), note))
    return "Generator's score by similarity to training", charts


def _agreement(report: Mapping[str, Any]) -> Picture | None:
    """Gain over the base against agreement with the instructed model, bare inputs."""
    found = report["agreement"] or {"tasks": (), "bands": ()}
    dots = [(t["agreement"], t["gain"].get("bare")) for t in found["tasks"]]
    known = [(share, gain) for share, gain in dots if gain is not None]
    if not known:
        return None
    bands = [b for b in found["bands"] if b["mode"] == "bare"]
    values = [0, *(gain for _, gain in known), *(b["low"] for b in bands)]
    told = "; ".join(
        f"{percent(b['from'])} to {percent(b['to'])} agreement, gain {signed(b['gain'])} on "
        f"{b['n_tasks']} tasks"
        for b in bands
    )
    chart = line_chart(
        [*_steps(bands, "gain"), Line(known, "own", style="dots")],
        Scale.share(),
        Scale.nice(min(values), max(values), _signed_tick),
        f"Gain over the base by agreement with the instructed model: {told}.",
        bands=_bands(bands),
        axis="share of prompts answered as the instructed model does",
    )
    return "", [chart.titled("Gain by agreement", "over the base, bare inputs; a dot is a task")]


def _refine(report: Mapping[str, Any]) -> Picture | None:
    """Score on bare inputs against seconds of refining, from both starts, and the teacher."""
    names = {
        "scratch": "From nothing",
        "generator": "From the adapter",
        "labels": "On labels",
        "teacher": "Teacher, full prompts",
    }
    chart = refine_chart(report, names, axis="seconds of training, medians")
    title = "What Refine reaches"
    return None if chart is None else ("", [chart.titled(title, "bare inputs, means")])


def _cost(report: Mapping[str, Any]) -> Picture | None:
    """Seconds, on a logarithmic axis."""
    times = [(name, value) for name, value in _seconds(report["cost"]) if value > 0]
    if not times:
        return None
    scale = clock_scale(0.5 * min(v for _, v in times), 2 * max(v for _, v in times))
    lines = [Row(name, clock(value), "own", thick=(scale.low, value)) for name, value in times]
    told = "; ".join(f"{row.label}: {row.value}" for row in lines)
    chart = row_chart(lines, scale, f"Seconds of each step. {told}.")
    return "", [chart.titled("What it costs", "time, logarithmic")]


_PICTURES: Mapping[str, Callable[[Mapping[str, Any]], Picture | None]] = {
    "rows": _rows,
    "categories": _categories,
    "gain": _gain,
    "cosines": _cosines,
    "similarity": _similarity,
    "agreement": _agreement,
    "refine": _refine,
    "cost": _cost,
}


def _modes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [mode for mode in _MODES if any(r["mode"] == mode for r in rows)]


def _steps(parts: Sequence[Mapping[str, Any]], name: str) -> list[Line]:
    """A level line for each part of the tasks."""
    return [Line([(p["from"], p[name]), (p["to"], p[name])], "own") for p in parts]


def _bands(parts: Sequence[Mapping[str, Any]]) -> list[Band]:
    return [Band(p["low"], p["high"], "own", (p["from"], p["to"])) for p in parts]


def _seconds(
    cost: Mapping[str, Any], prefix: str = "", inside: bool = False
) -> Iterator[tuple[str, float]]:
    """All numbers whose name, or whose group's name, says seconds; rows by their label."""
    for name, value in cost.items():
        timed = inside or "seconds" in name
        told = " ".join(name.replace("seconds", "").replace("lora", "LoRA").split("_"))
        words = f"row: {row_label(name)}" if prefix == "row" else f"{prefix} {told}"
        words = " ".join(words.split())
        if isinstance(value, Mapping):
            yield from _seconds(value, words, timed)
        elif timed and isinstance(value, int | float) and not isinstance(value, bool):
            words = words or name
            yield words[0].upper() + words[1:], float(value)


def _tick(value: float) -> str:
    return _without_zeros(number(value))


def _signed_tick(value: float) -> str:
    return _without_zeros(signed(value))


def _without_zeros(text: str) -> str:
    """Without trailing zeros: .5, 1, +.25."""
    return text.rstrip("0").rstrip(".") if "." in text else text
