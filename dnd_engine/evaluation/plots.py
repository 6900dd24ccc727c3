"""Pictures of a report, as PNG and SVG: drawn from the report alone, with its numbers beside them.

Hollow circle: base and baselines. Cross: controls. Accent disc: the generator. Black diamond: a
LoRA trained on labels. A bar is a 95 % interval. Axes of scores go from 0 to 1, never cropped.

Figures are made without pyplot, so nothing outlives a call. SVG keeps text as text, and the same
report gives the same bytes.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from dnd_engine.scoring.wording import CONTROLS, mode_label, number, percent, row_label, signed

__all__ = ["Plot", "draw_measurement", "draw_plots", "save_picture"]

TEXT, TEXT_2, TEXT_3 = "#15171C", "#4A4F59", "#646973"
LINE, EDGE, BAND = "#DCDCD5", "#84888F", "#EFEFEA"
ACCENT, ACCENT_SOFT = "#2348D1", "#E8EDFC"
"""The window's tokens, light: cobalt is what comes from a generated adapter, grey is the base."""

_STYLE: Mapping[str, Any] = {
    "font.family": ["sans-serif"],
    "font.sans-serif": ["Liberation Sans", "Arial", "Helvetica", "DejaVu Sans"],
    "font.size": 9,
    "text.color": TEXT,
    "axes.labelcolor": TEXT_3,
    "axes.edgecolor": EDGE,
    "xtick.color": TEXT_3,
    "ytick.color": TEXT,
    "axes.linewidth": 0.8,
    "text.parse_math": False,  # a dollar sign in a category is a dollar sign
    "svg.fonttype": "none",
    "svg.hashsalt": "dnd",
}

_ROW_INCHES = 0.27
_DPI = 160
_QUARTERS = (0, 0.25, 0.5, 0.75, 1)
_TICKS = (1e-4, 1e-3, 0.01, 0.1, 1, 10, 60, 600, 3600, 86_400, 864_000, 8_640_000)
"""Seconds at which a clock has a round number."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture, as `<name>.png` and `<name>.svg`."""

    name: str
    summary: str
    """What it shows, for those who cannot see it."""


def draw_plots(report: Mapping[str, Any], folder: Path) -> tuple[Plot, ...]:
    """Draw every picture that the report has the numbers for.

    Args:
        report: As built.
        folder: Made if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    # The context's own type spells out every key there is.
    with mpl.rc_context(dict(_STYLE)):  # type: ignore[arg-type]
        for name, draw in _PICTURES.items():
            made = draw(report)
            if made is not None:
                figure, summary = made
                _save(figure, folder, name)
                drawn.append(Plot(name, summary))
    return tuple(drawn)


Picture = tuple[Figure, str]


def draw_measurement(measured: Mapping[str, Any]) -> Picture:
    """Draw what was measured on a user's own rows: scores over the seconds that they cost.

    Args:
        measured: As `Measurement.to_json` gives it, of however much is measured so far.

    Returns:
        The figure, and what it shows, for those who cannot see it.
    """
    with mpl.rc_context(dict(_STYLE)):  # type: ignore[arg-type]
        return _measured(measured)


def save_picture(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure as `<name>.png` and `<name>.svg`, into a folder that exists."""
    with mpl.rc_context(dict(_STYLE)):  # type: ignore[arg-type]
        _save(figure, folder, name)


def _rows(report: Mapping[str, Any]) -> Picture | None:
    """Every row with its interval, one panel for each input mode."""
    rows = [r for r in report["rows"] if not r["holdout"]]
    modes = [m for m in ("bare", "full") if any(r["mode"] == m for r in rows)]
    names = list(dict.fromkeys(r["row"] for r in rows))
    left = _margin([row_label(n) for n in names])
    figure = _figure(left + 0.15 + 3.0 * len(modes), 1.0 + _ROW_INCHES * len(names))
    panels = _panels(figure, len(modes), left=left, right=0.15, top=0.48, bottom=0.52, gap=0.15)
    for axes, mode in zip(panels, modes, strict=True):
        found = {r["row"]: r for r in rows if r["mode"] == mode}
        _score_axis(axes, len(names))
        for place, name in enumerate(names):
            if name == "generator":
                axes.axhspan(place - 0.45, place + 0.45, color=ACCENT_SOFT, lw=0, zorder=0)
            if name in found:
                _mark(
                    axes, name, place, found[name]["score"], found[name]["low"], found[name]["high"]
                )
            told = number(found[name]["score"]) if name in found else "-"
            _value(axes, place, told, bold=name in _STRONG)
        note = {"bare": "only the input is sent", "full": "the instruction is sent too"}[mode]
        _title(axes, mode_label(mode), note)
    _labels(panels[0], [(row_label(n), n in _STRONG) for n in names])
    panels[0].set_xlabel("score: means over tasks, 95 % intervals", loc="left")
    told = "; ".join(
        f"{row_label(r['row'])}, {mode_label(r['mode']).lower()}: {number(r['score'])}"
        for r in rows
    )
    return figure, f"Scores of every row. {told}."


def _categories(report: Mapping[str, Any]) -> Picture | None:
    """Generator to own LoRA, for each kind of task."""
    mode, found = _primary(report)
    mine = found.get("generator", {}).get("per_category") or {}
    top = found.get("oracle_lora", {}).get("per_category") or {}
    if not mine:
        return None
    order = sorted(mine, key=lambda c: (-mine[c], c))
    left = _margin(order)
    figure = _figure(left + 4.2, 1.0 + _ROW_INCHES * len(order))
    (axes,) = _panels(figure, 1, left=left, right=0.15, top=0.48, bottom=0.5)
    _score_axis(axes, len(order))
    for place, category in enumerate(order):
        own, ceiling = mine[category], top.get(category)
        if ceiling is not None:
            axes.plot(
                [own, ceiling], [place, place], color=LINE, lw=3, solid_capstyle="butt", zorder=1
            )
            _mark(axes, "oracle_lora", place, ceiling)
        _mark(axes, "generator", place, own)
        told = number(own) + (f" of {number(ceiling)}" if ceiling is not None else "")
        _value(axes, place, told)
    _labels(axes, [(c, False) for c in order])
    key = "disc generator, diamond own LoRA" if top else "generator"
    _title(axes, "By kind of task", f"{mode_label(mode).lower()} inputs; {key}")
    axes.set_xlabel("score", loc="left")
    told = "; ".join(
        f"{c} {number(mine[c])}" + (f" of {number(top[c])}" if c in top else "") for c in order
    )
    return (
        figure,
        f"Score of the generator, and of a LoRA trained on labels, by kind of task. {told}.",
    )


def _gain(report: Mapping[str, Any]) -> Picture | None:
    """What the right prompts gain over another task's, task by task."""
    gains = report["operation_gain"]
    modes = [m for m in ("bare", "full") if m in gains]
    if not modes:
        return None
    figure = _figure(max(5.4, 1.2 + 3.1 * len(modes)), 2.9)
    panels = _panels(figure, len(modes), left=0.65, right=0.2, top=0.72, bottom=0.45, gap=0.45)
    values = [v for m in modes for v in (*gains[m]["per_task"].values(), 0.0, gains[m]["high"])]
    room = 0.06 * (max(values) - min(values) or 1)
    for axes, mode in zip(panels, modes, strict=True):
        gain = gains[mode]
        order = sorted(gain["per_task"].values())
        axes.axhspan(gain["low"], gain["high"], color=ACCENT_SOFT, lw=0, zorder=0)
        axes.axhline(gain["mean"], color=ACCENT, lw=1, zorder=1)
        axes.axhline(0, color=EDGE, lw=1, zorder=1)
        axes.vlines(range(len(order)), 0, order, color=LINE, lw=1, zorder=2)
        for sign, colour in ((True, ACCENT), (False, TEXT_3)):
            here = [(i, v) for i, v in enumerate(order) if (v > 0) is sign]
            axes.plot(
                [i for i, _ in here],
                [v for _, v in here],
                "o" if sign else "x",
                color=colour,
                ms=3.5,
                zorder=3,
            )
        axes.set_ylim(min(values) - room, max(values) + room)
        axes.set_xlim(-1, len(order))
        axes.xaxis.set_major_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(_signed_tick))
        axes.tick_params(axis="y", colors=TEXT_3, length=0)
        axes.grid(axis="y", color=LINE, lw=0.6, zorder=0)
        axes.set_axisbelow(True)
        axes.set_xlabel(f"{len(order)} tasks, sorted", loc="left")
        _bare_spines(axes)
        axes.spines["bottom"].set_visible(False)  # the line at zero is the axis
        _title(
            axes,
            mode_label(mode),
            f"mean {signed(gain['mean'])} ({number(gain['low'])} to {number(gain['high'])}); "
            f"above 0 on {percent(gain['share_positive'])}",
        )
    _heading(figure, "Gain of the right prompts over another task's", "nats a reference token")
    told = "; ".join(
        f"{mode_label(m).lower()} {signed(gains[m]['mean'])} nats a token, above zero on "
        f"{percent(gains[m]['share_positive'])} of {gains[m]['n_tasks']} tasks"
        for m in modes
    )
    return figure, f"Gain of the right prompts over another task's, by task: {told}."


def _cosines(report: Mapping[str, Any]) -> Picture | None:
    """How alike adapters of one task and of two tasks are: whole distributions."""
    found = {
        name: values
        for name, values in (report["distances"].get("distributions") or {}).items()
        if values["n"]
    }
    if not found:
        return None
    order = [name for name in _COSINES if name in found]
    margin = _margin(list(_COSINES.values()))
    figure = _figure(margin + 4.3, 1.1 + _ROW_INCHES * len(order))
    (axes,) = _panels(figure, 1, left=margin, right=0.15, top=0.48, bottom=0.52)
    axes.set_ylim(len(order) - 0.4, -0.6)
    low = min([0.0, *(v for name in order for v in found[name]["values"])])
    left = -1.0 if low < -0.5 else -0.5 if low < 0 else 0.0
    axes.set_xlim(left - 0.02, 1 + 0.17 * (1 - left))  # values stand right of 1
    axes.xaxis.set_major_locator(FixedLocator([x / 4 for x in range(int(left * 4), 5)]))
    axes.xaxis.set_major_formatter(FuncFormatter(_tick))
    _plain_axis(axes)
    axes.spines["bottom"].set_bounds(left, 1)
    for place, name in enumerate(order):
        values = found[name]["values"]
        colour = ACCENT if name.startswith("same") else TEXT_3
        quarter = (len(values) - 1) // 4
        axes.plot([values[0], values[-1]], [place] * 2, color=colour, lw=1, zorder=2)
        axes.plot(
            [values[quarter], values[-1 - quarter]],
            [place] * 2,
            color=colour,
            lw=5,
            alpha=0.45,
            solid_capstyle="butt",
            zorder=2,
        )
        middle = values[len(values) // 2]
        axes.plot([middle], [place], "o", color=colour, ms=6, zorder=3)
        _value(axes, place, f"{middle:.3f}".replace("0.", ".", 1))
    _labels(axes, [(f"{_COSINES[n]}", False) for n in order])
    _title(axes, "Cosine of ΔW", "between two generated adapters")
    axes.set_xlabel("all pairs: line whole range, bar middle half, disc median", loc="left")
    told = "; ".join(f"{_COSINES[n].lower()} {found[n]['values'][10]:.3f}" for n in order)
    return figure, f"Cosines of ΔW between generated adapters, medians: {told}."


def _similarity(report: Mapping[str, Any]) -> Picture | None:
    """Score against similarity to the nearest training task."""
    found = report["similarity"]
    if found is None:
        return None
    modes = [m for m in ("bare", "full") if any(m in t["score"] for t in found["tasks"])]
    figure = _figure(max(5.4, 1.2 + 3.1 * len(modes)), 3.0)
    panels = _panels(figure, len(modes), left=0.55, right=0.2, top=0.72, bottom=0.52, gap=0.35)
    places = [t["similarity"] for t in found["tasks"]]
    room = 0.04 * (max(places) - min(places) or 1)
    for axes, mode in zip(panels, modes, strict=True):
        for tercile in found["terciles"]:
            if tercile["mode"] == mode and tercile["row"] == "generator":
                ends = [tercile["from"], tercile["to"]]
                axes.fill_between(ends, tercile["low"], tercile["high"], color=ACCENT_SOFT, lw=0)
                axes.plot(ends, [tercile["score"]] * 2, color=ACCENT, lw=2)
        known = [t for t in found["tasks"] if t["score"].get(mode) is not None]
        axes.plot(
            [t["similarity"] for t in known],
            [t["score"][mode] for t in known],
            "o",
            color=ACCENT,
            alpha=0.55,
            ms=4,
            mew=0,
        )
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlim(min(places) - room, max(places) + room)
        axes.yaxis.set_major_locator(FixedLocator(_QUARTERS))
        axes.yaxis.set_major_formatter(FuncFormatter(_tick))
        axes.xaxis.set_major_formatter(FuncFormatter(_tick))
        axes.grid(axis="y", color=LINE, lw=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(colors=TEXT_3, length=0)
        axes.set_xlabel("similarity of prompts to the nearest training task", loc="left")
        _bare_spines(axes)
        _title(axes, mode_label(mode), "thirds of the tasks, means and 95 % intervals")
    _heading(figure, "Generator's score by similarity to training", "a dot is a task")
    told = "; ".join(
        f"{t['tercile']}, {mode_label(t['mode']).lower()}: {number(t['score'])}"
        for t in found["terciles"]
        if t["row"] == "generator"
    )
    return figure, f"The generator's score by similarity to the nearest training task. {told}."


def _cost(report: Mapping[str, Any]) -> Picture | None:
    """Seconds, on a logarithmic axis."""
    times = [(name, value) for name, value in _seconds(report["cost"]) if value > 0]
    if not times:
        return None
    left = _margin([name for name, _ in times])
    figure = _figure(left + 4.2, 0.95 + _ROW_INCHES * len(times))
    (axes,) = _panels(figure, 1, left=left, right=0.15, top=0.42, bottom=0.42)
    start = max(tick for tick in _TICKS if tick < min(v for _, v in times) or tick == _TICKS[0])
    axes.set_xscale("log")
    axes.set_xlim(start, 10 * max(v for _, v in times))  # the last bar's value stands there
    axes.set_ylim(len(times) - 0.4, -0.6)
    axes.xaxis.set_major_locator(FixedLocator(_TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: _duration(v)))
    _plain_axis(axes)
    for place, (_, value) in enumerate(times):
        axes.plot([start, value], [place] * 2, color=ACCENT, lw=7, solid_capstyle="butt", zorder=2)
        axes.annotate(
            _duration(value),
            (value, place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
        )
    _labels(axes, [(name, False) for name, _ in times])
    _title(axes, "What it costs", "time, logarithmic")
    told = "; ".join(f"{name}: {_duration(value)}" for name, value in times)
    return figure, f"Seconds of each step. {told}."


def _agreement(report: Mapping[str, Any]) -> Picture | None:
    """Gain over the base against agreement with the instructed model, bare inputs."""
    found = report["agreement"]
    known = [t for t in (found or {}).get("tasks", ()) if t["gain"].get("bare") is not None]
    if not known:
        return None
    figure = _figure(5.4, 3.0)
    (axes,) = _panels(figure, 1, left=0.6, right=0.2, top=0.48, bottom=0.52)
    bands = [b for b in found["bands"] if b["mode"] == "bare"]
    for band in bands:
        ends = [band["from"], band["to"]]
        axes.fill_between(ends, band["low"], band["high"], color=ACCENT_SOFT, lw=0)
        axes.plot(ends, [band["gain"]] * 2, color=ACCENT, lw=2)
    spots = Counter((t["agreement"], t["gain"]["bare"]) for t in known)
    for (share, gain), count in spots.items():
        # Many tasks share a spot: the disc's area is their number.
        axes.plot([share], [gain], "o", color=ACCENT, alpha=0.45, ms=4 * count**0.5, mew=0)
    axes.axhline(0, color=EDGE, lw=0.8)
    axes.set_xlim(-0.05, 1.05)
    axes.xaxis.set_major_locator(FixedLocator(_QUARTERS))
    axes.xaxis.set_major_formatter(FuncFormatter(_tick))
    axes.yaxis.set_major_formatter(FuncFormatter(_signed_tick))
    axes.grid(axis="y", color=LINE, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=TEXT_3, length=0)
    axes.set_xlabel("share of prompts answered as the instructed model does", loc="left")
    _bare_spines(axes)
    _title(axes, "Gain by agreement", "over the base, bare inputs; a disc's area is its tasks")
    told = "; ".join(
        f"{percent(b['from'])} to {percent(b['to'])} agreement, gain {signed(b['gain'])} on "
        f"{b['n_tasks']} tasks"
        for b in bands
    )
    return figure, f"Gain over the base by agreement with the instructed model. {told}."


def _refine(report: Mapping[str, Any]) -> Picture | None:
    """Score on bare inputs against seconds of refining, from both starts, and the teacher."""
    found = report["refine"]
    if found is None or any(p["seconds"] is None for p in found["points"]):
        return None
    figure = _figure(5.4, 3.0)
    (axes,) = _panels(figure, 1, left=0.55, right=0.2, top=0.48, bottom=0.52)
    longest = max(p["seconds"] for p in found["points"])
    axes.set_xlim(-0.03 * longest, 1.45 * longest)  # lines are named right of their ends
    axes.set_ylim(-0.03, 1.03)
    ends_of: dict[str, tuple[float, float, str]] = {}
    if teacher := found["teacher"]:
        ends = [0, longest]
        axes.fill_between(ends, teacher["low"], teacher["high"], color=BAND, lw=0)
        axes.plot(ends, [teacher["score"]] * 2, color=EDGE, lw=1)
        ends_of["Teacher, full prompts"] = (longest, teacher["score"], TEXT_3)
    told = []
    for start, label in (("scratch", "From nothing"), ("generator", "From the adapter")):
        points = sorted(
            (p for p in found["points"] if p["start"] == start), key=lambda p: p["seconds"]
        )
        if not points:
            continue
        colour = ACCENT if start == "generator" else TEXT_3
        places, values = [p["seconds"] for p in points], [p["score"] for p in points]
        axes.vlines(places, [p["low"] for p in points], [p["high"] for p in points], color=colour)
        filled = colour if start == "generator" else "white"
        axes.plot(places, values, "o-", color=colour, mfc=filled, ms=6, lw=1.5)
        ends_of[label] = (places[-1], values[-1], colour)
        steps = [f"{number(v)} after {_duration(s)}" for s, v in zip(places, values, strict=True)]
        told.append(f"{label.lower()} {', '.join(steps)}")
    _name_lines(axes, ends_of)
    axes.yaxis.set_major_locator(FixedLocator(_QUARTERS))
    axes.yaxis.set_major_formatter(FuncFormatter(_tick))
    axes.grid(axis="y", color=LINE, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=TEXT_3, length=0)
    axes.set_xlabel("seconds of refining, medians", loc="left")
    _bare_spines(axes)
    _title(axes, "What Refine reaches", "bare inputs, means and 95 % intervals")
    teacher = found["teacher"]
    above = f" The teacher scores {number(teacher['score'])} on full prompts." if teacher else ""
    return figure, f"Score on bare inputs against seconds of refining: {'; '.join(told)}.{above}"


def _measured(measured: Mapping[str, Any]) -> Picture:
    """One panel for each mode: base as a line, the adapter where it stands, trainings as curves."""
    counts = [(r["mode"], r["n_items"]) for r in measured["rows"]]
    most = {mode: max(n for m, n in counts if m == mode) for mode, _ in counts}
    # Short items are scored first: a row that is not through yet would flatter itself.
    whole = [r for r in measured["rows"] if r["n_items"] == most[r["mode"]]]
    modes = list(dict.fromkeys(r["mode"] for r in whole)) or ["full"]
    took = measured["synthesis_seconds"]
    spent = [r["train_seconds"] for r in whole if r["train_seconds"] > 0]
    known = [*spent, *([took] if took else [])] or [1.0]
    left, right = 0.5 * min(known), 2 * max(known)
    figure = _figure(max(5.4, 1.2 + 4.0 * len(modes)), 3.2)
    panels = _panels(figure, len(modes), left=0.55, right=1.9, top=0.48, bottom=0.52, gap=1.7)
    told = []
    for axes, mode in zip(panels, modes, strict=True):
        rows = [r for r in whole if r["mode"] == mode]
        axes.set_xscale("log")
        axes.set_xlim(left, right)
        axes.set_ylim(-0.03, 1.03)
        ends: dict[str, tuple[float, float, str]] = {}
        found = {r["row"]: r for r in rows}  # of a training its last point
        if base := found.get("base"):
            axes.axhspan(base["low"], base["high"], color=BAND, lw=0)
            axes.axhline(base["score"], color=EDGE, lw=1)
            ends["Base"] = (right, base["score"], TEXT_3)
            told.append(f"{mode_label(mode).lower()} base {number(base['score'])}")
        own = found.get("adapter")
        if own:
            axes.axhline(own["score"], color=ACCENT, lw=1, ls=":")
            if took:
                axes.vlines([took], own["low"], own["high"], color=ACCENT)
                axes.plot([took], [own["score"]], "o", color=ACCENT, ms=8, zorder=4)
            ends["This adapter"] = (right, own["score"], ACCENT)
            after = f" after {_duration(took)}" if took else ""
            told.append(f"{mode_label(mode).lower()} this adapter {number(own['score'])}{after}")
        for row, name, colour in (
            ("trained_lora", "LoRA from scratch", TEXT),
            ("warm_lora", "LoRA from this adapter", ACCENT),
        ):
            before = (took or 0.0) if row == "warm_lora" else 0.0
            points = [r for r in rows if r["row"] == row and r["train_seconds"] > 0]
            if not points:
                continue
            places = [before + r["train_seconds"] for r in points]
            scores = [r["score"] for r in points]
            axes.vlines(places, [r["low"] for r in points], [r["high"] for r in points], colour)
            axes.plot(places, scores, "D-", color=colour, mfc="white", ms=5, lw=1.5, zorder=3)
            ends[name] = (right, scores[-1], colour)
            steps = ", ".join(
                f"{number(r['score'])} after {_duration(s)}"
                for s, r in zip(places, points, strict=True)
            )
            told.append(f"{mode_label(mode).lower()} {name} {steps}")
        _name_lines(axes, ends)
        axes.xaxis.set_major_locator(FixedLocator(_TICKS))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _duration(value)))
        axes.yaxis.set_major_locator(FixedLocator(_QUARTERS))
        axes.yaxis.set_major_formatter(FuncFormatter(_tick))
        axes.grid(axis="y", color=LINE, lw=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(colors=TEXT_3, length=0)
        axes.set_xlabel("time to make it, scoring left out", loc="left")
        _bare_spines(axes)
        _title(axes, f"{mode_label(mode)} inputs", "score and 95 % interval")
    return figure, f"Score over the time it takes to get there: {'; '.join(told)}."


def _name_lines(axes: Axes, ends: Mapping[str, tuple[float, float, str]]) -> None:
    """Name lines where they end, one name above the other where ends are close."""
    below = -1.0
    for text, (x, y, colour) in sorted(ends.items(), key=lambda end: end[1][1]):
        below = max(y, below + 0.075)  # the height of a line of text
        axes.annotate(
            text,
            (x, below),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            annotation_clip=False,  # names of lines that end at the top stand above it
        )


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

_COSINES = {
    "same_task": "Same task, other prompts",
    "different_task": "Different tasks",
    "same_task_centred": "Same task, centred",
    "different_task_centred": "Different tasks, centred",
}

_STRONG = ("generator", "oracle_lora")


def _primary(report: Mapping[str, Any]) -> tuple[Any, dict[str, Mapping[str, Any]]]:
    """Bare rows if there are any: there the prompts must carry the task."""
    rows = [r for r in report["rows"] if not r["holdout"]]
    mode = "bare" if any(r["mode"] == "bare" for r in rows) else "full"
    return mode, {r["row"]: r for r in rows if r["mode"] == mode}


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


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


# Drawing


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _margin(labels: Sequence[str]) -> float:
    """Inches that the longest label needs, at the size of the style."""
    return 0.35 + 0.072 * max(len(label) for label in labels)


def _panels(
    figure: Figure,
    count: int,
    *,
    left: float,
    right: float,
    top: float,
    bottom: float,
    gap: float = 0.0,
) -> list[Axes]:
    """Place panels side by side; all sizes in inches, so that text never moves with the data."""
    width, height = figure.get_size_inches()
    each = (width - left - right - gap * (count - 1)) / count
    return [
        figure.add_axes(
            (
                (left + i * (each + gap)) / width,
                bottom / height,
                each / width,
                (height - top - bottom) / height,
            )
        )
        for i in range(count)
    ]


def _tick(value: float, _place: int | None) -> str:
    return _short(number(value))


def _signed_tick(value: float, _place: int | None) -> str:
    return _short(signed(value))


def _short(text: str) -> str:
    """Without trailing zeros: .5, 1, +.25."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def _score_axis(axes: Axes, lines: int) -> None:
    axes.set_xlim(-0.02, 1.2)  # values stand right of 1
    axes.set_ylim(lines - 0.4, -0.6)
    axes.xaxis.set_major_locator(FixedLocator(_QUARTERS))
    axes.xaxis.set_major_formatter(FuncFormatter(_tick))
    _plain_axis(axes)
    axes.spines["bottom"].set_bounds(0, 1)


def _plain_axis(axes: Axes) -> None:
    axes.yaxis.set_major_locator(NullLocator())
    axes.grid(axis="x", color=LINE, lw=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", length=0)
    _bare_spines(axes)


def _bare_spines(axes: Axes) -> None:
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(EDGE)


def _mark(
    axes: Axes,
    row: str,
    place: int,
    value: float,
    low: float | None = None,
    high: float | None = None,
) -> None:
    kind = "control" if row in CONTROLS else "generator" if row.startswith("generator") else row
    colour = {"generator": ACCENT, "oracle_lora": TEXT}.get(kind, TEXT_3)
    if low is not None and high is not None:
        axes.plot(
            [low, high], [place, place], color=colour, lw=1.8, solid_capstyle="butt", zorder=2
        )
    shape: dict[str, Any] = {"marker": "o", "ms": 6.5, "mfc": "white", "mew": 1.5}
    if kind == "control":
        shape = {"marker": "x", "ms": 5.5, "mew": 1.8}
    elif kind == "generator":
        shape = {"marker": "o", "ms": 7.5}
    elif kind == "oracle_lora":
        shape = {"marker": "D", "ms": 5.5}
    axes.plot([value], [place], ls="none", color=colour, zorder=3, clip_on=False, **shape)


def _value(axes: Axes, place: int, text: str, *, bold: bool = False) -> None:
    axes.annotate(
        text,
        (1, place),
        xycoords=("axes fraction", "data"),
        xytext=(-2, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        weight="bold" if bold else "normal",
    )


def _labels(axes: Axes, labels: Sequence[tuple[str, bool]]) -> None:
    for place, (label, bold) in enumerate(labels):
        axes.annotate(
            label,
            (0, place),
            xycoords=("axes fraction", "data"),
            xytext=(-8, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            weight="bold" if bold else "normal",
            annotation_clip=False,
        )


def _title(axes: Axes, title: str, note: str) -> None:
    first = axes.annotate(
        title,
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 8),
        textcoords="offset points",
        weight="bold",
        va="bottom",
    )
    axes.annotate(
        note,
        (1, 0),
        xycoords=first,
        xytext=(8, 0),
        textcoords="offset points",
        color=TEXT_3,
        va="bottom",
        size=8,
    )


def _heading(figure: Figure, title: str, note: str) -> None:
    height = figure.get_size_inches()[1]
    first = figure.text(0.01, 1 - 0.1 / height, title, weight="bold", size=10.5, va="top")
    figure.axes[0].annotate(
        note,
        (1, 0),
        xycoords=first,
        xytext=(8, 0),
        textcoords="offset points",
        color=TEXT_3,
        va="bottom",
        size=8,
    )


def _save(figure: Figure, folder: Path, name: str) -> None:
    for kind, extra in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        aside = folder / f"{name}.{kind}.partial"
        figure.savefig(aside, format=kind, dpi=_DPI, metadata=extra)
        aside.replace(folder / f"{name}.{kind}")
