"""SVG charts, for standalone files and for the page, light or dark.

Horizontal positions are shares of the width, so a chart fills its container while text and marks
keep their size. A look encodes where a number comes from; `STYLE` maps looks to colours. Knows
lines, bars and words; knows no report and no language.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import Literal, TypeVar

T = TypeVar("T")

Look = Literal["own", "also", "labels", "base", "other", "limit", "noise"]
"""Origin of a number: the adapter; a second kind of adapter; training on labels; the base and other
baselines; controls; a bound; raw steps behind their mean."""

_STRETCHES = 240
"""Number of intervals that a long line is reduced to, by their extremes: a screen shows no more."""
# On a plot of 300 pixels, more marks of 8 pixels would touch and hide their line.
_MAX_MARKS = 40
_MIN_WRITTEN_POWER = -3
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_ROW, _LINE, _CHARACTER = 26, 15, 7
"""Pixels: height of a row, height of a line of text, width of an average character."""
_PLOT, _HEIGHT, _AXIS, _TOP, _GAP = 300, 170, 40, 52, 20
"""Pixels in files: width and height of a plot, room below and above it, gap between plots."""
_COLUMNS = 2
"""Charts per row in files."""
# The last three are 1, 10 and 100 days.
_SECONDS = (1e-3, 0.01, 0.1, 1, 10, 60, 600, 3600, 86_400, 864_000, 8_640_000)
_FINE_SECONDS = (
    *(size * unit for unit in (1e-3, 0.01, 0.1) for size in (1, 2, 5)),
    *(size * unit for unit in (1, 60) for size in (1, 2, 5, 10, 20, 30)),
    *(size * unit for unit in (3600, 86_400) for size in (1, 2, 5, 10)),
)
"""Ticks of a short range."""

# `non-scaling-stroke`, because `line_chart` draws paths in a stretched viewBox, which would stretch
# the width of their strokes too.
STYLE = """
.dnd-chart text { font: 12px Arial, Helvetica, sans-serif; fill: var(--dnd-text); }
.dnd-chart .strong { font-weight: 700; }
.dnd-chart .tick, .dnd-chart .note { fill: var(--dnd-text3); font-size: 11px; }
.dnd-chart .grid { stroke: var(--dnd-line); }
.dnd-chart .axis { stroke: var(--dnd-edge); }
.dnd-chart .own-row { fill: var(--dnd-accent-soft); }
.dnd-chart path, .dnd-chart line { fill: none; vector-effect: non-scaling-stroke; }
.dnd-chart .line { stroke-width: 1.75; stroke-linejoin: round; }
.dnd-chart .thin { stroke-width: 1; }
.dnd-chart .whisker { opacity: 0.55; }
.dnd-chart .band { opacity: 0.6; fill: var(--dnd-line); }
.dnd-chart :is(path, line, circle):is(.is-own, .is-also) { stroke: var(--dnd-accent); }
.dnd-chart :is(path, line, circle).is-labels { stroke: var(--dnd-text); }
.dnd-chart :is(path, line, circle):is(.is-base, .is-other) { stroke: var(--dnd-text3); }
.dnd-chart :is(path, line, circle).is-limit { stroke: var(--dnd-warn); }
.dnd-chart .is-noise { stroke: var(--dnd-edge); opacity: 0.45; }
.dnd-chart .line.is-also { stroke-dasharray: 2 4; }
.dnd-chart .line.is-other { stroke-dasharray: 6 4; }
.dnd-chart .line.is-limit { stroke-dasharray: 2 4; }
.dnd-chart .mark { stroke-width: 2; fill: var(--dnd-surface); }
.dnd-chart .mark.is-own { fill: var(--dnd-accent); }
.dnd-chart .mark.is-labels { fill: var(--dnd-text); }
.dnd-chart text:is(.is-own, .is-also) { fill: var(--dnd-accent); }
.dnd-chart text:is(.is-base, .is-other) { fill: var(--dnd-text2); }
.dnd-chart text.is-limit { fill: var(--dnd-warn); }
"""
"""Colours refer to the page's CSS variables; `svg_file` replaces them by literal colours."""

COLOURS: Mapping[str, tuple[str, str]] = {
    "surface": ("#fff", "#15181d"),
    "line": ("#dcdcd5", "#2b3038"),
    "edge": ("#84888f", "#717886"),
    "text": ("#15171c", "#eceef1"),
    "text2": ("#4a4f59", "#b6bcc6"),
    "text3": ("#646973", "#939aa6"),
    "accent": ("#2348d1", "#8eaaff"),
    "accent-soft": ("#e8edfc", "#1a2444"),
    "warn": ("#7e4400", "#f2be6a"),
}
"""Light and dark value of each variable in `STYLE`; the page takes its colours from here, too."""


def short(value: float) -> str:
    """Format with three significant figures, without a leading zero."""
    # From 999.5 on, three significant figures would be 1e+03; beyond a trillion nobody counts them.
    digits = format(value, ",.0f" if 999.5 <= abs(value) < 1e12 else ".3g")
    return digits.replace("0.", ".", 1) if 0 < abs(value) < 1 else digits


def clock(seconds: float) -> str:
    """Format seconds in a fitting unit of time."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{short(seconds / size)} {unit}"
    # Zero is 0 s, not 0 ms; and 999.5 ms are 1 s already.
    is_short = 0 < seconds < 0.9995
    return f"{seconds * 1000:.3g} ms" if is_short else f"{seconds:.2g} s"


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to positions along an axis."""

    low: float
    high: float
    ticks: tuple[float, ...]
    write: Callable[[float], str] = short
    is_log: bool = False

    @classmethod
    def nice(cls, low: float, high: float, write: Callable[[float], str] = short) -> "Scale":
        """Make a scale around `low` and `high` that begins and ends at round numbers."""
        # Equal bounds would leave no step to round.
        high = max(high, low + max(0.01, abs(low) * 1e-9))
        step = _round_up((high - low) / 4)
        # Without the tolerance, rounding errors would add an interval beyond a bound that is round.
        begin, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        ticks = tuple(i * step for i in range(begin, end + 1))
        return cls(ticks[0], ticks[-1], ticks, write)

    @classmethod
    def share(cls, write: Callable[[float], str] = short) -> "Scale":
        """Make a scale from 0 to 1 that is never cropped."""
        return cls(0, 1, (0, 0.25, 0.5, 0.75, 1), write)

    @classmethod
    def log(cls, low: float, high: float, write: Callable[[float], str] = short) -> "Scale":
        """Make a logarithmic scale of whole powers of ten around `low` and `high`."""
        begin, end = math.floor(math.log10(low)), math.ceil(math.log10(high))
        # Both bounds may be the same power of ten, and a scale needs two ends.
        ticks = tuple(10.0**power for power in range(begin, max(end, begin + 1) + 1))
        return cls(ticks[0], ticks[-1], ticks, write, is_log=True)

    def label(self, tick: float) -> str:
        """Format a tick; small powers are shown by their exponent."""
        power = round(math.log10(tick)) if self.is_log else 0
        if power < _MIN_WRITTEN_POWER:
            return f"10{str(power).translate(_SUPERSCRIPTS)}"
        return self.write(tick)

    def place(self, value: float) -> float:
        """Return a value's position, 0 at the low end to 1 at the high end."""
        low, high = self.low, self.high
        if self.is_log:
            # Zero has no logarithm; like all values below the low end, it is drawn there.
            value, low, high = (math.log10(max(v, 1e-12)) for v in (value, low, high))
        return min(max((value - low) / (high - low), 0.0), 1.0)


def clock_scale(low: float, high: float, write: Callable[[float], str] = clock) -> Scale:
    """Make a logarithmic scale of seconds whose ticks are round times, if it has two or more."""
    for times in (_SECONDS, _FINE_SECONDS):
        ticks = tuple(time for time in times if low <= time <= high)
        # A single one does not show how long the axis is.
        if len(ticks) > 1:
            return Scale(low, high, ticks, write, is_log=True)
    return Scale(low, high, (low, high), write, is_log=True)


@dataclass(frozen=True, slots=True)
class Line:
    """A data series."""

    points: Sequence[tuple[float, float]]
    look: Look
    label: str = ""
    """Label at the right end; may be empty."""
    style: Literal["line", "marked", "thin"] = "line"
    """`marked` adds a mark per point if there are few."""
    whiskers: Sequence[tuple[float, float]] = ()
    """Low and high end of each point's interval."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a row chart: a name, bars, marks and a number."""

    label: str
    value: str
    look: Look
    bar: tuple[float, float] | None = None
    marks: Sequence[tuple[float, Look]] = ()
    strong: bool = False
    tooltip: str = ""
    """Tooltip text."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawn chart, not yet placed in a file or page."""

    kind: Literal["rows", "lines"]
    body: str = field(repr=False)
    height: int
    """Height of the plot in pixels, without the axis."""
    left: int
    """Pixels reserved for labels left of the plot."""
    right: int
    summary: str
    """Text alternative for screen readers."""
    axis: str
    """Label of the horizontal axis."""
    title: str = ""
    note: str = ""

    def titled(self, title: str, note: str = "") -> "Chart":
        """Return the chart with a title, for files; a page has its own headings."""
        return replace(self, title=title, note=note)

    def html(self) -> str:
        """Return an HTML element that fills the width of its container."""
        # The SVG is as wide as the plot alone. Labels overflow into the padding that app.css makes
        # of the two widths. `escape` also replaces the quotes that end an attribute here.
        axis = _AXIS if self.axis else _AXIS // 2
        return (
            f"<div class='dnd-chart is-{self.kind}' style='--left:{self.left}px;"
            f"--right:{self.right}px'><svg role='img' width='100%' height='{self.height + axis}' "
            f"overflow='visible' aria-label='{escape(self.summary)}'>{self.body}</svg></div>"
        )


def row_chart(rows: Sequence[Row], scale: Scale, summary: str, axis: str = "") -> Chart:
    """Draw rows from top to bottom that share one scale, whose label is `axis`."""
    height = _ROW * len(rows)
    # Widths are estimated: nothing that writes SVG as text can measure a font.
    left = 12 + round(_CHARACTER * max((len(row.label) for row in rows), default=0))
    right = 12 + round(_CHARACTER * max((len(row.value) for row in rows), default=0))
    parts = [_vertical_grid(scale, height)]
    for number, row in enumerate(rows):
        middle = _ROW * number + _ROW // 2
        strong = " strong" if row.strong else ""
        tooltip = f"<title>{escape(row.tooltip)}</title>" if row.tooltip else ""
        # SVG paints in order, so the highlight comes first. It stays out of the rail, which app.css
        # moves on narrow screens, and its part behind the name is apart, to be hidden there.
        marks = [
            f"<rect class='own-row label' x='-{left}' y='{middle - _ROW // 2}' width='{left}' "
            f"height='{_ROW}'/><rect class='own-row' x='0' y='{middle - _ROW // 2}' width='100%' "
            f"height='{_ROW}'/>"
            if row.strong and row.look == "own"
            else ""
        ]
        if row.bar is not None:
            x1, x2 = (_percent(scale.place(value)) for value in row.bar)
            marks.append(
                # Dashes tell lines of a line chart apart; a bar is solid whatever its look.
                f"<line class='line is-{row.look}' style='stroke-dasharray:none' x1='{x1}' "
                f"x2='{x2}' y1='{middle}' y2='{middle}'/>"
            )
        marks += [_mark(look, scale.place(at), middle) for at, look in row.marks]
        parts.append(
            # Text is placed by its baseline: 4 pixels lower, it is centred.
            f"<g class='row'>{tooltip}{marks[0]}"
            f"<text class='name{strong}' x='-10' y='{middle + 4}' text-anchor='end'>"
            f"{escape(row.label)}</text><g class='rail'>{''.join(marks[1:])}</g>"
            f"<text class='value{strong}' x='100%' dx='10' y='{middle + 4}'>{escape(row.value)}"
            "</text></g>"
        )
    parts.append(_below(scale, height, axis))
    return Chart("rows", "".join(parts), height, left, right, summary, axis)


def line_chart(
    lines: Sequence[Line],
    x: Scale,
    y: Scale,
    summary: str,
    *,
    bands: Sequence[tuple[float, float]] = (),
    axis: str = "",
) -> Chart:
    """Draw lines from back to front over two scales, labels at their right ends.

    The bands are intervals behind all lines; `axis` is the label of the horizontal scale.
    """
    # SVG counts downwards, hence 1 - y here and below.
    places = {tick: _HEIGHT * (1 - y.place(tick)) for tick in y.ticks}
    left = 14 + round(_CHARACTER * max(len(y.label(tick)) for tick in y.ticks))
    right = 14 + round(_CHARACTER * max((len(line.label) for line in lines), default=0))
    parts, ends = [], []
    for band in bands:
        bottom, top = (_HEIGHT * (1 - y.place(end)) for end in band)
        parts.append(f"<rect class='band' width='100%' y='{top:.2f}' height='{bottom - top:.2f}'/>")
    for tick, place in places.items():
        kind = "axis" if tick == 0 else "grid"
        parts.append(
            f"<line class='{kind}' x1='0' x2='100%' y1='{place:.2f}' y2='{place:.2f}'/>"
            f"<text class='tick' x='-8' y='{place + 4:.2f}' text-anchor='end'>"
            f"{escape(y.label(tick))}</text>"
        )
    for line in lines:
        # A path alone may lose points: each whisker is a number of its own.
        points = line.points if line.whiskers else _thinned(line.points)
        at = [(x.place(a), y.place(b)) for a, b in points]
        # No whiskers at all are fine; too few are a mistake.
        for (share, _), whisker in zip(at, line.whiskers, strict=bool(line.whiskers)):
            low, high = (_HEIGHT * (1 - y.place(v)) for v in whisker)
            parts.append(
                f"<line class='whisker is-{line.look}' x1='{_percent(share)}' "
                f"x2='{_percent(share)}' y1='{low:.2f}' y2='{high:.2f}'/>"
            )
        if len(at) > 1:
            # A path takes no percentages, so it is 1,000 wide here, and stretched to fit.
            path = "L".join(f"{1000 * a:.1f} {_HEIGHT * (1 - b):.2f}" for a, b in at)
            thin = " thin" if line.style == "thin" else ""
            parts.append(
                f"<svg width='100%' height='{_HEIGHT}' viewBox='0 0 1000 {_HEIGHT}' "
                f"preserveAspectRatio='none' overflow='visible'>"
                f"<path class='line{thin} is-{line.look}' d='M{path}'/></svg>"
            )
        # A single point draws no line.
        if len(at) == 1 or (line.style == "marked" and len(at) <= _MAX_MARKS):
            marks = "".join(_mark(line.look, a, _HEIGHT * (1 - b)) for a, b in at)
            parts.append(f"<g>{marks}</g>")
        if line.label and at:
            ends.append((at[-1][1], line))
    for place, line in apart(ends, _LINE / _HEIGHT):
        parts.append(
            f"<text class='end is-{line.look}' x='100%' dx='9' y='{_HEIGHT * (1 - place) + 4:.1f}'>"
            f"{escape(line.label)}</text>"
        )
    parts.append(_below(x, _HEIGHT, axis))
    return Chart("lines", "".join(parts), _HEIGHT, left, right, summary, axis)


def svg_file(charts: Sequence[Chart], heading: str = "") -> str:
    """Lay out charts in one SVG file, two per row."""
    parts, width, top = [], 0, 40 if heading else 8
    for begin in range(0, len(charts), _COLUMNS):
        line, x = charts[begin : begin + _COLUMNS], 8
        for chart in line:
            parts.append(
                f"<g><text class='strong' x='{x}' y='{top + 16}'>{escape(chart.title)}</text>"
                f"<text class='note' x='{x}' y='{top + 33}'>{escape(chart.note)}</text>"
                f"<svg x='{x + chart.left}' y='{top + _TOP}' width='{_PLOT}' "
                f"height='{chart.height + _AXIS}' overflow='visible'>{chart.body}</svg></g>"
            )
            x += chart.left + _PLOT + max(chart.right, _GAP) + _GAP
        width, top = max(width, x), top + _TOP + max(c.height for c in line) + _AXIS
    head = f"<text class='strong' x='8' y='24'>{escape(heading)}</text>" if heading else ""
    summaries = escape(" ".join(chart.summary for chart in charts))
    return (
        # A media query also works in a file shown as an image, so one file serves light and dark
        # pages.
        f"<svg xmlns='http://www.w3.org/2000/svg' class='dnd-chart' role='img' width='{width}' "
        f"height='{top + 4}' viewBox='0 0 {width} {top + 4}'>"
        f"<title>{escape(heading or charts[0].title)}</title><desc>{summaries}</desc>"
        f"<style>{_coloured(0)}@media (prefers-color-scheme: dark) {{ {_coloured(1)}}}</style>"
        "<rect class='paper' width='100%' height='100%'/>"
        f"{head}{''.join(parts)}</svg>\n"
    )


def apart(ends: Sequence[tuple[float, T]], spacing: float) -> list[tuple[float, T]]:
    """Move labels up until none covers another, and all down if that lifts them out at the top.

    Returns:
        Labels with their new heights, as shares like the old ones and `spacing`, lowest first.
    """
    placed: list[tuple[float, T]] = []
    for y, label in sorted(ends, key=lambda end: end[0]):
        least = placed[-1][0] + spacing if placed else 0.0
        placed.append((max(y, least), label))
    excess = max(0.0, placed[-1][0] - 1) if placed else 0.0
    return [(y - excess, label) for y, label in placed]


def _coloured(scheme: Literal[0, 1]) -> str:
    """Replace variables in `STYLE` by literal colours: not every SVG viewer supports variables."""
    style = f".paper {{ fill: var(--dnd-surface); }}{STYLE}"
    for name, colours in COLOURS.items():
        style = style.replace(f"var(--dnd-{name})", colours[scheme])
    return style


def _mark(look: Look, x: float, y: float) -> str:
    if look in ("other", "labels"):
        # Paths take no percentages, but an <svg> around one does.
        shape = "M-4 -4L4 4M-4 4L4 -4" if look == "other" else "M0 -5L5 0L0 5L-5 0Z"
        drawn = f"<path class='mark is-{look}' d='{shape}'/>"
        return f"<svg x='{_percent(x)}' y='{y:.2f}' overflow='visible'>{drawn}</svg>"
    return f"<circle class='mark is-{look}' cx='{_percent(x)}' cy='{y:.2f}' r='4'/>"


def _vertical_grid(scale: Scale, height: int) -> str:
    return "".join(
        f"<line class='grid' x1='{(at := _percent(scale.place(tick)))}' x2='{at}' y1='0' "
        f"y2='{height}'/>"
        for tick in scale.ticks
    )


def _below(scale: Scale, height: int, axis: str) -> str:
    ticks = "".join(
        f"<text class='tick' x='{_percent(scale.place(tick))}' y='{height + 15}' "
        f"text-anchor='middle'>{escape(scale.label(tick))}</text>"
        for tick in scale.ticks
    )
    return (
        f"<line class='axis' x1='0' x2='100%' y1='{height}' y2='{height}'/>{ticks}"
        f"<text class='note' x='0' y='{height + 31}'>{escape(axis)}</text>"
    )


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keep each interval's lowest and highest point, in order, and the last point."""
    if len(points) <= 2 * _STRETCHES:
        return list(points)
    size = math.ceil(len(points) / _STRETCHES)
    kept = []
    for begin in range(0, len(points), size):
        stretch = points[begin : begin + size]
        # A set, as both may be one point; sorted, because lines go from left to right.
        kept += sorted({min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])})
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _round_up(value: float) -> float:
    """Round up to 1, 2, 2.5 or 5 times a power of ten."""
    power: float = 10.0 ** math.floor(math.log10(value))
    # The tolerance keeps a value that is round already.
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= value * (1 - 1e-9))


def _percent(share: float) -> str:
    return f"{share:.2%}"
