"""Pictures of a report, as SVG: drawn from the report alone, with its numbers beside them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from dnd_engine.charts import (
    Chart,
    Line,
    Look,
    Row,
    Scale,
    clock,
    line_chart,
    row_chart,
    svg_file,
)
from dnd_engine.files import write_whole
from dnd_engine.generator.report import EqualRun, RefinePoint, Report, ReportRow, TeachStart
from dnd_engine.scoring.scores import made_row
from dnd_engine.tasks.folder import Mode
from dnd_engine.wording import MODE_NOTES, WAYS, inputs_label, mode_label, number, row_label

Metric = Literal["score", "format_share", "nll"]

Picture = tuple[str, Sequence[Chart]]
"""A heading, which may be empty, and charts side by side."""

_MODES: tuple[Mode, ...] = ("bare", "full")
_MUST_BEAT = (
    "generator_wrong",
    "generator_shuffled",
    "generator_constant",
    "generator_imprint_wrong",
)
"""Rows that the generator and its imprints must beat if prompts matter."""


def draw_pictures(report: Report, folder: Path) -> dict[str, str]:
    """Draw every picture that the report has the numbers for, as `<name>.svg` in a folder.

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
    row: ReportRow,
    label: str,
    *,
    made: str,
    metric: Metric = "score",
    write: Callable[[float], str] = number,
) -> Row | None:
    """Draw a metric of a row of a report; None if it was not measured. Only scores have intervals.

    The row `made`, of what the page makes, is emphasised.
    """
    values = {"score": row.score, "format_share": row.format_share, "nll": row.nll}
    if (value := values[metric]) is None:
        return None
    look: Look = "own" if row.row.startswith("generator") else "base"
    # Controls come from the generator too, but must not look like its adapter.
    look = "other" if row.row in _MUST_BEAT else "labels" if row.row == "oracle_lora" else look
    bar = (row.low, row.high) if metric == "score" else None
    strong = row.row in (made, "oracle_lora")
    return Row(label, write(value), look, bar, marks=[(value, look)], strong=strong)


def category_rows(
    rows: Sequence[ReportRow],
    write: Callable[[float, float | None], str],
    name: Callable[[str], str] = str,
) -> tuple[Mode, str, list[Row]]:
    """Draw what the page makes and a LoRA trained on labels for each kind of task.

    Bare inputs if they were measured: there the prompts must carry the task. `write` formats the
    adapter's score, and the other if there is one.

    Returns:
        The mode, the row of the report that is drawn, and its drawing, the best kind first; empty
        if there is nothing to draw.
    """
    mode: Mode = "bare" if any(r.mode == "bare" for r in rows) else "full"
    found = {r.row: r.per_category for r in rows if r.mode == mode}
    made, top = made_row(found), found.get("oracle_lora", {})
    drawn = []
    for category, own in sorted(found.get(made, {}).items(), key=lambda pair: (-pair[1], pair[0])):
        ceiling = top.get(category)
        marks: list[tuple[float, Look]] = [(own, "own")]
        bar = None
        if ceiling is not None:
            # The adapter's mark comes last, on top.
            marks, bar = [(ceiling, "labels"), *marks], (own, ceiling)
        drawn.append(Row(name(category), write(own, ceiling), "base", bar, marks=marks))
    return mode, made, drawn


def refine_chart(
    report: Report,
    names: Mapping[str, str] = WAYS,
    write: Callable[[float], str] = number,
    time: Callable[[float], str] = clock,
    axis: str = "",
) -> Chart | None:
    """Draw scores on bare inputs over seconds: refined from each start, on labels, the teacher.

    `write` formats scores and `time` seconds; `axis` says what these are.
    """
    found = report.refine
    # A point whose seconds are not known has no place on the axis.
    if found is None or any(p.seconds is None for p in found.points):
        return None
    starts = ("scratch", "generator", "imprint")
    ways: dict[str, Sequence[RefinePoint | EqualRun]] = {
        way: [p for p in found.points if p.start == way] for way in starts
    }
    # Runs on labels begin at points that are measured as starts of other ways.
    if report.equal_score:
        ways["labels"] = [*ways["scratch"][:1], *report.equal_score.points]
    taught: tuple[TeachStart, ...] = ("imprint_better", "imprint_labels")
    for end in taught:
        if after := [p for p in found.points if p.start == end]:
            ways[end] = [*ways["imprint"][:1], *after]
    places = {
        way: sorted((p.seconds, p.score) for p in points if p.seconds is not None)
        for way, points in ways.items()
    }
    longest = max(seconds for points in places.values() for seconds, _ in points)
    lines, bands, parts = [], [], []
    looks: Mapping[str, Look] = {
        "scratch": "other",
        "generator": "own",
        "imprint": "also",
        "labels": "labels",
        "imprint_better": "also",
        "imprint_labels": "labels",
    }
    for way, points in places.items():
        if points:
            lines.append(Line(points, looks[way], names[way], "marked"))
            steps = ", ".join(f"{write(score)} ({time(seconds)})" for seconds, score in points)
            parts.append(f"{names[way]}: {steps}")
    if teacher := found.teacher:
        bands.append((teacher.low, teacher.high))
        level = [(x, teacher.score) for x in (0.0, longest)]
        # The first line is drawn behind all others.
        lines.insert(0, Line(level, "base", names["teacher"], "thin"))
        parts.append(f"{names['teacher']}: {write(teacher.score)}")
    x, y = Scale.nice(0, longest), Scale.share(lambda tick: _without_zeros(write(tick)))
    return line_chart(lines, x, y, "; ".join(parts), bands=bands, axis=axis)


def _rows(report: Report) -> Picture | None:
    """Every row with its interval, one chart for each input mode."""
    rows = report.rows_of()
    names = list(dict.fromkeys(r.row for r in rows))
    made = made_row(names)
    charts: list[Chart] = []
    for mode in _MODES:
        found = {r.row: r for r in rows if r.mode == mode}
        if not found:
            continue
        # Both charts have the same rows and are shown side by side, so only the first names them.
        labels = {name: row_label(name) if not charts else "" for name in names}
        lines = [
            (name in found and score_row(found[name], labels[name], made=made))
            or Row(labels[name], "-", "base")
            for name in names
        ]
        scores = "; ".join(f"{row_label(n)} {number(r.score)}" for n, r in found.items())
        axis = "score: means over tasks, 95 % intervals"
        chart = row_chart(lines, Scale.share(), f"{inputs_label(mode)}: {scores}.", axis)
        charts.append(chart.titled(mode_label(mode), MODE_NOTES[mode]))
    return "Scores of every row", charts


def _categories(report: Report) -> Picture | None:
    """What the page makes, to own LoRA, for each kind of task."""
    mode, made, lines = category_rows(
        report.rows_of(),
        lambda own, top: number(own) + ("" if top is None else f" of {number(top)}"),
    )
    if not lines:
        return None
    scores = "; ".join(f"{row.label} {row.value}" for row in lines)
    name = row_label(made)
    summary = f"Score of “{name}”, and of a LoRA on labels: {scores}."
    chart = row_chart(lines, Scale.share(), summary, "score")
    note = f"{inputs_label(mode).lower()}; disc: {name}, diamond: own LoRA"
    return "", [chart.titled("By kind of task", note)]


def _refine(report: Report) -> Picture | None:
    """Score on bare inputs against seconds of refining, from both starts, and the teacher."""
    if (chart := refine_chart(report, axis="seconds of training, medians")) is None:
        return None
    return "", [chart.titled("What Refine reaches", "bare inputs, means")]


_PICTURES: Mapping[str, Callable[[Report], Picture | None]] = {
    "rows": _rows,
    "categories": _categories,
    "refine": _refine,
}


def _without_zeros(text: str) -> str:
    """Without trailing zeros: .5, 1, +.25."""
    return text.rstrip("0").rstrip(".") if "." in text else text
