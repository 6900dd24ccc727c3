"""Curves over training steps, as inline SVG under HTML words.

The SVG is stretched to its box and its strokes are not, so that words and marks keep their size on
a phone, and colours are those of the page, light or dark.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self, TypeVar

from ui.markup import esc
from ui.text import number

__all__ = ["Axis", "Curve", "Look", "apart", "curves_html", "short_number"]

T = TypeVar("T")

Look = Literal["own", "also", "other", "limit", "noise"]
"""What comes from the adapter, a second kind of that, what it is compared with, a bound, and single
steps behind a mean of theirs."""

_WIDTH, _HEIGHT = 1000, 100
_BUCKETS = 240
"""A long curve is drawn by the ends of so many stretches: more, a screen does not show."""
_MOST_MARKS = 40
_SMALLEST_WRITTEN_OUT = -3
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_LABEL_SHARE = 0.12
"""Least distance of two labels, as a share of the height."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One line: what was measured at which step."""

    label: str
    """At its end; empty for a line that needs none."""
    points: Sequence[tuple[float, float]]
    look: Look
    style: Literal["line", "marked", "thin"] = "line"
    """`marked` shows each point, if they are few."""


@dataclass(frozen=True, slots=True)
class Axis:
    """How high a value stands."""

    low: float
    high: float
    ticks: tuple[float, ...]
    is_log: bool = False

    @classmethod
    def from_zero(cls, highest: float, end: float | None = None) -> Self:
        """From 0 to a round number, or to `end`."""
        top = end or max(highest, 0.01)
        step = _nice(top / 4)
        count = math.ceil(top / step - 1e-9)
        return cls(0, count * step, tuple(i * step for i in range(count + 1)))

    @classmethod
    def log(cls, lowest: float, highest: float) -> Self:
        """Whole powers of ten around what is there."""
        low, high = math.floor(math.log10(lowest)), math.ceil(math.log10(highest))
        ticks = tuple(10.0**power for power in range(low, max(high, low + 1) + 1))
        return cls(ticks[0], ticks[-1], ticks, is_log=True)

    def label(self, tick: float) -> str:
        """A tick as it is written: small powers by their exponent."""
        power = round(math.log10(tick)) if self.is_log else 0
        if power < _SMALLEST_WRITTEN_OUT:
            return f"10{str(power).translate(_SUPERSCRIPTS)}"
        return short_number(tick)

    def place(self, value: float) -> float:
        """From 0, the bottom, to 1."""
        if self.is_log:
            value, low, high = (math.log10(max(v, 1e-12)) for v in (value, self.low, self.high))
        else:
            low, high = self.low, self.high
        return min(max((value - low) / (high - low), 0.0), 1.0)


def curves_html(curves: Sequence[Curve], axis: Axis, end: float, told: str) -> str:
    """Draw curves over steps 0 to `end`.

    Args:
        curves: Drawn in this order, labels at their ends.
        axis: Of the values.
        end: The last step that the axis shows; more than is done shows what is still to come.
        told: The picture in words.
    """
    lines, marks, ends = [], [], []
    for curve in curves:
        thinned = _thinned(curve.points)
        places = [(x / end, axis.place(y)) for x, y in thinned]
        path = "L".join(f"{_WIDTH * x:.1f} {_HEIGHT * (1 - y):.2f}" for x, y in places)
        is_marked = curve.style == "marked" and len(places) <= _MOST_MARKS
        lines.append(f"<path class='is-{curve.look} is-{curve.style}' d='M{path}'/>")
        if is_marked or len(places) == 1:  # one point alone makes no line
            marks += [
                f"<u class='is-{curve.look}' style='left:{x:.2%};top:{1 - y:.2%}'></u>"
                for x, y in places
            ]
        if curve.label and places:
            ends.append((places[-1][1], (curve.label, curve.look)))
    grid = "".join(
        f"<path d='M0 {_HEIGHT * (1 - axis.place(tick)):.2f}H{_WIDTH}'/>" for tick in axis.ticks
    )
    values = "".join(
        f"<span style='top:{1 - axis.place(tick):.2%}'>{axis.label(tick)}</span>"
        for tick in axis.ticks
    )
    labels = "".join(
        f"<b class='is-{look}' style='top:{1 - y:.2%}'>{esc(label)}</b>"
        for y, (label, look) in apart(ends, _LABEL_SHARE)
    )
    steps = "".join(
        f"<span style='left:{share:.0%}'>{number(round(share * end))}</span>"
        for share in (0, 0.5, 1)
    )
    return (
        f"<div class='dnd-curves' role='img' aria-label='{esc(told)}'>"
        f"<div class='dnd-curves-values'>{values}</div><div class='dnd-curves-box'>"
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' preserveAspectRatio='none' aria-hidden='true'>"
        f"<g class='dnd-curves-grid'>{grid}</g>{''.join(lines)}</svg>{''.join(marks)}</div>"
        f"<div class='dnd-curves-ends'>{labels}</div><div class='dnd-curves-steps'>{steps}</div>"
        "</div>"
    )


def short_number(value: float) -> str:
    """Three figures that matter, and .14 for 0.14, as the design has them."""
    digits = number(value, ".0f") if abs(value) >= 1000 else number(value, ".3g")
    sign = "-" if value < 0 else ""
    return sign + digits.removeprefix(sign).removeprefix("0") if 0 < abs(value) < 1 else digits


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The lowest and the highest of each stretch, in their order, and the last."""
    if len(points) <= 2 * _BUCKETS:
        return list(points)
    size = math.ceil(len(points) / _BUCKETS)
    kept = []
    for begin in range(0, len(points), size):
        stretch = points[begin : begin + size]
        kept += sorted({min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])})
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def apart(ends: Sequence[tuple[float, T]], spacing: float) -> list[tuple[float, T]]:
    """Move labels up until none lies on another, and all down if that lifts them out at the top.

    Args:
        ends: Height, 0 to 1, and what stands there.
        spacing: Least distance of two, as a share of the height.

    Returns:
        The same with their new heights, the lowest first.
    """
    placed: list[tuple[float, T]] = []
    for y, label in sorted(ends, key=lambda end: end[0]):
        least = placed[-1][0] + spacing if placed else 0.0
        placed.append((max(y, least), label))
    excess = max(0.0, placed[-1][0] - 1) if placed else 0.0
    return [(y - excess, label) for y, label in placed]


def _nice(value: float) -> float:
    """Round up to 1, 2, 2.5 or 5 times a power of ten."""
    power: float = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= value * (1 - 1e-9))
