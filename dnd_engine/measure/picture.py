"""A measurement as charts: scores over the seconds that it takes to get there."""

from dnd_engine.charts import Band, Chart, Line, Look, Scale, clock, clock_scale, line_chart
from dnd_engine.measure.results import TRAINED, Measurement, RowResult
from dnd_engine.scoring.wording import mode_label, number
from dnd_engine.tasks.folder import Mode

__all__ = ["race_charts"]

_NAMES = {
    "base": "Base",
    "adapter": "This adapter",
    "trained_lora": "LoRA from scratch",
    "warm_lora": "LoRA from this adapter",
}


def race_charts(measured: Measurement) -> list[Chart]:
    """Draw a chart for each mode: the base as a band, the adapter, trainings as lines.

    Args:
        measured: However much is measured so far.
    """
    took = measured.synthesis_seconds
    # Short items are scored first: a row that is not through yet would flatter itself.
    whole = [row for row in measured.rows if measured.is_whole(row)]
    spent = [_spent(row, took) for row in whole if row.train_seconds > 0]
    known = [*spent, *([took] if took else [])] or [1.0]
    x = clock_scale(0.5 * min(known), 2 * max(known))
    charts = []
    for mode in measured.sides.modes:
        if rows := [row for row in whole if row.mode == mode]:
            charts.append(_race(rows, mode, x, took))
    return charts


def _race(rows: list[RowResult], mode: Mode, x: Scale, took: float | None) -> Chart:
    lines, bands, told = [], [], []
    last = {row.row: row for row in rows}  # of a training its last point
    if base := last.get("base"):
        bands.append(Band(base.score.low, base.score.high, "base"))
        lines.append(_level(x, base, "base"))
        told.append(f"base {number(base.score.mean)}")
    if own := last.get("adapter"):
        lines.append(_level(x, own, "own"))
        score = number(own.score.mean)
        if took:
            whiskers = [(own.score.low, own.score.high)]
            lines.append(Line([(took, own.score.mean)], "own", whiskers=whiskers))
            score += f" after {clock(took)}"
        told.append(f"this adapter {score}")
    for name in TRAINED:
        points = [row for row in rows if row.row == name and row.train_seconds > 0]
        if points:
            look: Look = "labels" if name == "trained_lora" else "also"
            places = [(_spent(row, took), row.score.mean) for row in points]
            whiskers = [(row.score.low, row.score.high) for row in points]
            label = f"{_NAMES[name]} {number(places[-1][1])}"
            lines.append(Line(places, look, label, "marked", whiskers))
            steps = ", ".join(f"{number(score)} after {clock(s)}" for s, score in places)
            told.append(f"{_NAMES[name]} {steps}")
    summary = f"{mode_label(mode)} inputs, score over the time it takes: {'; '.join(told)}."
    axis = "time to make it, scoring left out"
    chart = line_chart(lines, x, Scale.share(), summary, bands=bands, axis=axis)
    return chart.titled(f"{mode_label(mode)} inputs", "score and 95 % interval")


def _level(x: Scale, row: RowResult, look: Look) -> Line:
    label = f"{_NAMES[row.row]} {number(row.score.mean)}"
    return Line([(x.low, row.score.mean), (x.high, row.score.mean)], look, label, "thin")


def _spent(row: RowResult, took: float | None) -> float:
    """Seconds until there: a LoRA that begins from the adapter costs what the adapter did, too."""
    return row.train_seconds + ((took or 0.0) if row.row == "warm_lora" else 0.0)
