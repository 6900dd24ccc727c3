"""Pictures of a report, as SVG: drawn from the report alone, with its numbers beside them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

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
from dnd_engine.generator.report import (
    Cost,
    EqualRun,
    Gain,
    RefinePoint,
    Report,
    ReportRow,
    TercileScore,
)
from dnd_engine.scoring.scores import made_row
from dnd_engine.tasks.folder import Mode
from dnd_engine.wording import (
    MODE_NOTES,
    WAYS,
    inputs_label,
    mode_label,
    number,
    percent,
    row_label,
    signed,
    span,
)

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
_COSINES = {
    "same_task": "Same task, other prompts",
    "different_task": "Different tasks",
    "same_task_centred": "Same task, centred",
    "different_task_centred": "Different tasks, centred",
}


def draw_pictures(report: Report, folder: Path) -> dict[str, str]:
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
    row: ReportRow,
    label: str,
    *,
    made: str,
    metric: Metric = "score",
    write: Callable[[float], str] = number,
) -> Row | None:
    """Draw a row of a report: only scores have intervals.

    Args:
        row: To draw.
        label: Its name.
        made: Row of what the page makes, which is emphasised.
        metric: What to show of it.
        write: Writes a number.

    Returns:
        None if the metric was not measured.
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

    Bare inputs if they were measured: there the prompts must carry the task.

    Args:
        rows: Rows of a report.
        write: Writes the adapter's score, and the other if there is one.
        name: Names a kind of task.

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

    Args:
        report: As built, or read.
        names: As `WAYS`.
        write: Writes a score.
        time: Writes seconds.
        axis: What these are.
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
    if warm := [p for p in found.points if p.start == "imprint_labels"]:
        ways["imprint_labels"] = [*ways["imprint"][:1], *warm]
    places = {
        way: sorted((p.seconds, p.score) for p in points if p.seconds is not None)
        for way, points in ways.items()
    }
    longest = max(seconds for points in places.values() for seconds, _ in points)
    lines, bands, told = [], [], []
    looks: Mapping[str, Look] = {
        "scratch": "other",
        "generator": "own",
        "imprint": "also",
        "labels": "labels",
        "imprint_labels": "labels",
    }
    for way, points in places.items():
        if points:
            lines.append(Line(points, looks[way], names[way], "marked"))
            steps = ", ".join(f"{write(score)} ({time(seconds)})" for seconds, score in points)
            told.append(f"{names[way]}: {steps}")
    if teacher := found.teacher:
        bands.append(Band(teacher.low, teacher.high, "base"))
        level = [(x, teacher.score) for x in (0.0, longest)]
        # The first line is drawn behind all others.
        lines.insert(0, Line(level, "base", names["teacher"], "thin"))
        told.append(f"{names['teacher']}: {write(teacher.score)}")
    x, y = Scale.nice(0, longest), Scale.share(lambda tick: _without_zeros(write(tick)))
    return line_chart(lines, x, y, "; ".join(told), bands=bands, axis=axis)


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
        told = "; ".join(f"{row_label(n)} {number(r.score)}" for n, r in found.items())
        axis = "score: means over tasks, 95 % intervals"
        chart = row_chart(lines, Scale.share(), f"{inputs_label(mode)}: {told}.", axis)
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
    told = "; ".join(f"{row.label} {row.value}" for row in lines)
    name = row_label(made)
    summary = f"Score of “{name}”, and of a LoRA on labels: {told}."
    chart = row_chart(lines, Scale.share(), summary, "score")
    note = f"{inputs_label(mode).lower()}; disc: {name}, diamond: own LoRA"
    return "", [chart.titled("By kind of task", note)]


def _gain(report: Report) -> Picture | None:
    """What the right prompts gain over another task's, task by task."""
    gains = report.operation_gain
    modes = [m for m in _MODES if m in gains]
    if not modes:
        return None
    values = [
        v for m in modes for v in (0, gains[m].low, gains[m].high, *gains[m].per_task.values())
    ]
    # One scale for both modes, so that heights can be compared.
    y = Scale.nice(min(values), max(values), _signed_tick)
    charts = []
    for mode in modes:
        gain = gains[mode]
        order = list(enumerate(sorted(gain.per_task.values())))
        end = len(order)
        above = [(i, v) for i, v in order if v > 0]
        below = [(i, v) for i, v in order if v <= 0]
        chart = line_chart(
            [
                Line([(-1, gain.mean), (end, gain.mean)], "own", style="thin"),
                # A whisker from zero to each dot makes gains and losses read as lengths.
                Line(below, "other", style="dots", whiskers=[(0, v) for _, v in below]),
                Line(above, "own", style="dots", whiskers=[(0, v) for _, v in above]),
            ],
            # Tasks are drawn at x = 0 to end - 1, with a margin of 1 on either side.
            Scale(-1, end, ()),
            y,
            f"{mode_label(mode)} {signed(gain.mean)} nats a token, above zero on "
            f"{percent(gain.share_positive)} of {gain.n_tasks} tasks.",
            bands=[Band(gain.low, gain.high, "own")],
            axis=f"{end} tasks, sorted; nats a reference token",
        )
        note = f"mean {signed(gain.mean)} ({span(gain)}); above 0 on {percent(gain.share_positive)}"
        charts.append(chart.titled(mode_label(mode), note))
    return "Gain of the right prompts over another task's", charts


def _cosines(report: Report) -> Picture | None:
    """Cosines of adapters of one task and of two tasks: whole distributions."""
    given = report.distances.distributions
    found = {name: given[name] for name in _COSINES if name in given and given[name].n}
    if not found:
        return None
    low = min(0.0, *(v for of in found.values() for v in of.values))
    lines = []
    for name, distribution in found.items():
        values, middle = distribution.values, distribution.median
        # Quantiles are evenly spaced, so these are the quartiles.
        quarter = (len(values) - 1) // 4
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


def _similarity(report: Report) -> Picture | None:
    """Score against similarity to the nearest training task."""
    found = report.similarity
    if found is None:
        return None
    places = [task.similarity for task in found.tasks]
    x = Scale.nice(min(places), max(places), _tick)
    charts = []
    for mode in _MODES:
        thirds = [t for t in found.terciles if t.mode == mode and t.row == "generator"]
        dots = [
            (task.similarity, score)
            for task in found.tasks
            if (score := task.score.get(mode)) is not None
        ]
        if not dots:
            continue
        told = "; ".join(f"{t.tercile} {number(t.score)}" for t in thirds)
        chart = line_chart(
            [*_steps((t, t.score) for t in thirds), Line(dots, "own", style="dots")],
            x,
            Scale.share(),
            f"{mode_label(mode)}: {told}.",
            bands=_bands(thirds),
            axis="similarity of prompts to the nearest training task",
        )
        note = "a dot is a task; thirds of the tasks, means and 95 % intervals"
        charts.append(chart.titled(mode_label(mode), note))
    return "Generator's score by similarity to training", charts


def _agreement(report: Report) -> Picture | None:
    """Gain over the base against agreement with the instructed model, bare inputs."""
    if report.agreement is None:
        return None
    dots = [
        (task.agreement, gain)
        for task in report.agreement.tasks
        if (gain := task.gain.get("bare")) is not None
    ]
    if not dots:
        return None
    bands = [b for b in report.agreement.bands if b.mode == "bare"]
    values = [0.0, *(gain for _, gain in dots), *(v for b in bands for v in (b.low, b.high))]
    told = "; ".join(
        f"{percent(b.begin)} to {percent(b.end)} agreement, gain {signed(b.gain)} on "
        f"{b.n_tasks} tasks"
        for b in bands
    )
    chart = line_chart(
        [*_steps((b, b.gain) for b in bands), Line(dots, "own", style="dots")],
        Scale.share(),
        Scale.nice(min(values), max(values), _signed_tick),
        f"Gain over the base by agreement with the instructed model: {told}.",
        bands=_bands(bands),
        axis="share of prompts answered as the instructed model does",
    )
    return "", [chart.titled("Gain by agreement", "over the base, bare inputs; a dot is a task")]


def _refine(report: Report) -> Picture | None:
    """Score on bare inputs against seconds of refining, from both starts, and the teacher."""
    chart = refine_chart(report, axis="seconds of training, medians")
    title = "What Refine reaches"
    return None if chart is None else ("", [chart.titled(title, "bare inputs, means")])


def _cost(report: Report) -> Picture | None:
    """Seconds, on a logarithmic axis."""
    times = [(name, value) for name, value in _seconds(report.cost) if value > 0]
    if not times:
        return None
    scale = clock_scale(0.5 * min(v for _, v in times), 2 * max(v for _, v in times))
    # Bars begin at the low end: a logarithmic axis has no zero.
    lines = [Row(name, clock(value), "own", thick=(scale.low, value)) for name, value in times]
    told = "; ".join(f"{row.label}: {row.value}" for row in lines)
    chart = row_chart(lines, scale, f"Seconds of each step. {told}.")
    return "", [chart.titled("What it costs", "time, logarithmic")]


_PICTURES: Mapping[str, Callable[[Report], Picture | None]] = {
    "rows": _rows,
    "categories": _categories,
    "gain": _gain,
    "cosines": _cosines,
    "similarity": _similarity,
    "agreement": _agreement,
    "refine": _refine,
    "cost": _cost,
}


def _steps(parts: Iterable[tuple[Gain | TercileScore, float]]) -> list[Line]:
    """A level line for each part of the tasks."""
    return [Line([(part.begin, level), (part.end, level)], "own") for part, level in parts]


def _bands(parts: Sequence[Gain | TercileScore]) -> list[Band]:
    return [Band(p.low, p.high, "own", (p.begin, p.end)) for p in parts]


def _seconds(cost: Cost) -> Iterator[tuple[str, float]]:
    """All times with their names; those of rows by the row's label."""
    for name, value in asdict(cost).items():
        words = name.removesuffix("_seconds").replace("lora", "LoRA")
        words = words[0].upper() + words[1:]
        if name.endswith("_seconds") and isinstance(value, Mapping):
            yield from ((f"{words}: {row_label(row)}", seconds) for row, seconds in value.items())
        elif name.endswith("_seconds") and value is not None:
            yield words, value


def _tick(value: float) -> str:
    return _without_zeros(number(value))


def _signed_tick(value: float) -> str:
    return _without_zeros(signed(value))


def _without_zeros(text: str) -> str:
    """Without trailing zeros: .5, 1, +.25."""
    return text.rstrip("0").rstrip(".") if "." in text else text
