"""Charts of a measurement: scores over the seconds needed to reach them."""

from collections.abc import Callable, Mapping

from dnd_engine.charts import Chart, Line, Look, Scale, clock, clock_scale, line_chart
from dnd_engine.measure.results import Measurement, Row, RowResult
from dnd_engine.wording import LINES, mode_label, number

_LEVELS: Mapping[Row, Look] = {"base": "base", "adapter": "own"}
_TRAININGS: Mapping[Row, Look] = {"trained_lora": "labels", "warm_lora": "also"}


def race_charts(
    measured: Measurement,
    *,
    names: Mapping[str, str] = LINES,
    mode_words: Callable[[str], str] = mode_label,
    write: Callable[[float], str] = number,
    time: Callable[[float], str] = clock,
    axis: str = "time to make it, scoring left out",
) -> list[Chart]:
    """Draw a chart per mode: the base as a band, the adapter, and training runs as lines.

    The measurement may be incomplete. `mode_words` labels what a mode sends (see `Sides.sent`),
    `write` formats a score and `time` seconds.
    """
    took = measured.synthesis_seconds
    # Short items are scored first, so an incomplete row would look too good.
    whole = [row for row in measured.rows if measured.is_whole(row)]
    spent = [_spent(row, took) for row in whole if row.train_seconds > 0]
    # Before anything was timed, levels span whatever the scale is.
    known = [*spent, *([took] if took else [])] or [1.0]
    x = clock_scale(0.5 * min(known), 2 * max(known), time)
    charts = []
    for mode in measured.sides.modes:
        last = {row.row: row for row in whole if row.mode == mode}
        lines, bands, parts = [], [], []
        for name, look in _LEVELS.items():
            if row := last.get(name):
                label = f"{names[name]} {write(row.score.mean)}"
                level = [(x.low, row.score.mean), (x.high, row.score.mean)]
                lines.append(Line(level, look, label, "thin"))
                parts.append(f"{label} ({time(took)})" if look == "own" and took else label)
        if base := last.get("base"):
            bands.append((base.score.low, base.score.high))
        if (own := last.get("adapter")) and took:
            points = [(took, own.score.mean)]
            lines.append(Line(points, "own", whiskers=[(own.score.low, own.score.high)]))
        for name, look in _TRAININGS.items():
            # A logarithmic axis has no place for step 0, which took no time.
            rows = [r for r in whole if (r.row, r.mode) == (name, mode) and r.train_seconds > 0]
            if rows:
                points = [(_spent(row, took), row.score.mean) for row in rows]
                whiskers = [(row.score.low, row.score.high) for row in rows]
                label = f"{names[name]} {write(points[-1][1])}"
                lines.append(Line(points, look, label, "marked", whiskers))
                steps = ", ".join(f"{write(score)} ({time(at)})" for at, score in points)
                parts.append(f"{label}: {steps}")
        if lines:
            title = mode_words(measured.sides.sent(mode))
            summary = f"{title}: {'; '.join(parts)}"
            chart = line_chart(lines, x, Scale.share(write), summary, bands=bands, axis=axis)
            charts.append(chart.titled(title))
    return charts


def _spent(row: RowResult, took: float | None) -> float:
    """Return the total seconds; a LoRA that starts from the adapter includes the adapter's."""
    return row.train_seconds + ((took or 0.0) if row.row == "warm_lora" else 0.0)
