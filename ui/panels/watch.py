"""A run of `dnd train` or `dnd collect`, watched: how far it is, and whether it is sound.

For who trains; it is there only if the operator named run folders. The folder's files are written
by a program and may be damaged, so every word of them is escaped.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import gradio as gr

from dnd_engine.training.collection_files import Run
from dnd_engine.training.run_log import COLLAPSED_SHARE
from dnd_engine.training.watch import Collecting, Training, Watched
from ui.curves import Axis, Curve, Look, curves_html, short_number
from ui.markup import esc, icon
from ui.text import Text

__all__ = ["WatchPanel", "all_numbers_html", "watch_html", "watch_panel"]

_REFRESH_SECONDS = 3.0
_LORAS_SHOWN = 60
_CURVES_SHOWN = 8
_ROWS_SHOWN = 200
_LABEL_LENGTH = 16
_LONG_RUN_SHARE = 0.1
"""Source: see `COLLAPSED_SHARE`."""
_BASICS = ("base", "head", "objective", "r", "tasks_per_step", "batch_size", "seed")
"""Of a recipe."""


@dataclass(frozen=True, slots=True)
class WatchPanel:
    """Components of the tab."""

    run: gr.Radio
    view: gr.HTML
    all_box: gr.Accordion
    all_numbers: gr.HTML
    timer: gr.Timer


def watch_panel(text: Text, names: Sequence[str]) -> WatchPanel:
    """Lay out the tab.

    Args:
        text: The words of the page.
        names: Of the runs; which of them is shown can be chosen if there are several.
    """
    run = gr.Radio(
        label=text.WATCH_RUN,
        choices=[(name, index) for index, name in enumerate(names)],
        value=0,
        visible=len(names) > 1,
        elem_id="dnd-watch-run",
    )
    view = gr.HTML("", elem_id="dnd-watch", padding=False)
    # A component of its own, drawn when it is opened: many numbers, and not all are looked at.
    with gr.Accordion(text.WATCH_ALL, open=False, elem_id="dnd-watch-all") as all_box:
        all_numbers = gr.HTML("", padding=False)
    # Ticks only while the tab is open.
    timer = gr.Timer(_REFRESH_SECONDS, active=False)
    return WatchPanel(run, view, all_box, all_numbers, timer)


def watch_html(text: Text, seen: Training | Collecting) -> str:
    """Draw what a folder tells now."""
    parts = [_head_html(text, seen), _state_html(text, seen)]
    if isinstance(seen, Training):
        parts += [_collapse_html(text, seen), _plots_html(text, seen), _numbers_html(text, seen)]
    else:
        parts += [_in_watch_html(text, seen), _loras_html(text, seen), _left_out(text, seen)]
    return "".join(parts)


def all_numbers_html(text: Text, seen: Training | Collecting) -> str:
    """Draw the table of everything, named as the files name it."""
    rows = _log_rows(seen) if isinstance(seen, Training) else _run_rows(seen.runs)
    if not rows:
        return f"<p class='dnd-sub'>{text.WATCH_NOTHING}</p>"
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th scope='col'>{esc(name)}</th>" for name in names)
    body = "".join(
        f"<tr>{''.join(f'<td>{_cell(text, row.get(name))}</td>' for name in names)}</tr>"
        for row in rows
    )
    return (
        f"<div class='dnd-table' tabindex='0' role='region' aria-label='{text.WATCH_ALL}'>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _head_html(text: Text, seen: Watched) -> str:
    basics = [
        f"{esc(name)} <b>{esc(seen.recipe[name])}</b>" for name in _BASICS if name in seen.recipe
    ]
    facts = [text.WATCH_KINDS[seen.kind], *basics]
    if seen.kind != "collection" and not seen.recipe:
        facts.append(text.WATCH_NO_RECIPE)
    return (
        f"<header class='dnd-report-head'><h2>{esc(seen.name)}</h2>"
        f"<p class='dnd-sub'>{' · '.join(facts)}</p></header>"
    )


def _state_html(text: Text, seen: Training | Collecting) -> str:
    title, sentence = text.WATCH_STATES[seen.state]
    words = text.fill(
        sentence,
        ago=text.duration(seen.idle_seconds),
        day=text.day(datetime.fromtimestamp(seen.moved, UTC).astimezone()),
    )
    facts = {"done": _of_all(text, seen)}
    if seen.seconds_left is not None:
        left = text.duration(seen.seconds_left)
        facts["left"] = text.fill(text.WATCH_ABOUT, duration=left)
    if isinstance(seen, Training):
        if seen.stopped_early:
            words = f"{words} {text.WATCH_EARLY}"
        if seen.seconds_per_step is not None:
            facts["pace"] = f"{text.number(seen.seconds_per_step, '.2g')} s"
        if seen.tokens_per_second is not None:
            facts["tokens"] = text.number(seen.tokens_per_second, ",.0f")
    names = {**text.WATCH_FACTS, "done": text.WATCH_DONE[isinstance(seen, Collecting)]}
    shown = "".join(f"<div><dt>{names[k]}</dt><dd>{v}</dd></div>" for k, v in facts.items())
    mark = {
        "starting": icon("dot"),
        "running": "<span class='dnd-ring' aria-hidden='true'></span>",
        "still": icon("warn"),
        "finished": icon("check"),
    }[seen.state]
    bar = ""
    if seen.total is not None:
        share = min(seen.done / seen.total, 1)
        bar = f"<progress max='1' value='{share:.4f}' aria-label='{names['done']}'></progress>"
    return (
        f"<section class='dnd-panel dnd-run is-{seen.state}'><p class='dnd-run-state'>{mark}"
        f"<b>{title}</b> <span>{words}</span></p>{bar}<dl>{shown}</dl></section>"
    )


def _of_all(text: Text, seen: Watched) -> str:
    if seen.total is None:
        return text.number(seen.done)
    return text.fill(text.WATCH_OF, done=text.number(seen.done), total=text.number(seen.total))


def _collapse_html(text: Text, seen: Training) -> str:
    if seen.collapsed_at is None:
        return ""
    words = text.fill(text.WATCH_COLLAPSED, step=seen.collapsed_at)
    return (
        f"<div class='dnd-notice is-warn' role='alert'>{icon('warn')}<div><b>"
        f"{text.WATCH_COLLAPSED_TITLE}</b> {words}</div></div>"
    )


# Curves of a training


def _plots_html(text: Text, seen: Training) -> str:
    if not seen.rows:
        return ""
    lines, end = text.WATCH_LINES, max(seen.total or 0, seen.done)
    loss, smooth = seen.curve("loss"), seen.smooth_loss()
    # Single steps may jump far out; the axis is that of their mean, and they are cut at its top.
    top = max(value for _, value in smooth)
    plots = [
        _plot(
            text,
            "loss",
            [Curve("", loss, "noise", "thin"), Curve(lines["smooth"], smooth, "own")],
            Axis.from_zero(top),
            end,
        )
    ]
    plots += [_validation_plot(text, seen, key, end) for key in ("seen", "families")]
    exact = [
        Curve(lines["families"], seen.curve("families_exact"), "also", "marked"),
        Curve(lines["seen"], seen.curve("validation_exact"), "own", "marked"),
    ]
    plots.append(_plot(text, "exact", exact, Axis.from_zero(1, end=1), end))
    share = [(step, value) for step, value in seen.curve("between_task_share") if value > 0]
    if share:
        bound = Curve(lines["limit"], [(0, COLLAPSED_SHARE), (end, COLLAPSED_SHARE)], "limit")
        values = [COLLAPSED_SHARE, *(value for _, value in share)]
        axis = Axis.log(min(values) * 0.99, 1)
        plots.append(_plot(text, "share", [bound, Curve("", share, "own", "marked")], axis, end))
    notes = [text.WATCH_MARKS] if seen.curve("probe_loss") else []
    if not seen.curve("validation_loss"):
        every = seen.recipe.get("validate_every")
        known = type(every) is int
        notes.append(text.fill(text.WATCH_LATER, step=every) if known else text.WATCH_LATER_UNKNOWN)
    note = f"<p class='dnd-facts'>{' '.join(notes)}</p>" if notes else ""
    return f"<div class='dnd-plots'>{''.join(plots)}</div>{note}"


def _validation_plot(text: Text, seen: Training, key: str, end: float) -> str:
    """Right against wrong prompts: whole validations, and thin the few tasks between them."""
    whole, few = {
        "seen": ("validation_loss", "probe_loss"),
        "families": ("families_loss", "families_probe_loss"),
    }[key]
    curves: list[Curve] = []
    kinds: tuple[tuple[str, str, Look], ...] = (
        ("_wrong_prompts", "wrong", "other"),
        ("", "right", "own"),
    )
    for suffix, word, look in kinds:
        points, between = seen.curve(whole + suffix), seen.curve(few + suffix)
        label = text.WATCH_LINES[word] if seen.kind != "multi_task_lora" else ""
        curves += [
            Curve("" if points else label, between, look, "thin"),
            Curve(label, points, look, "marked"),
        ]
    return _plot(text, key, curves, None, end)


def _plot(text: Text, key: str, curves: Sequence[Curve], axis: Axis | None, end: float) -> str:
    """One picture with its title; empty if nothing of it was measured."""
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return ""
    axis = axis or Axis.from_zero(max(value for curve in curves for _, value in curve.points))
    title, unit = text.WATCH_PLOTS[key]
    told = [
        text.fill(
            text.WATCH_TOLD,
            label=curve.label or title,
            first=short_number(text, curve.points[0][1]),
            begin=int(curve.points[0][0]),
            last=short_number(text, curve.points[-1][1]),
            end=int(curve.points[-1][0]),
        )
        for curve in curves
        if curve.look not in ("noise", "limit") and (curve.label or len(curves) <= 2)
    ]
    drawn = curves_html(text, curves, axis, end, f"{title}, {unit}: {'; '.join(told)}")
    return (
        f"<section class='dnd-panel dnd-plot'><div class='dnd-row'><h3 class='dnd-heading'>{title}"
        f"</h3><span class='dnd-facts'>{unit}</span></div>{drawn}</section>"
    )


def _numbers_html(text: Text, seen: Training) -> str:
    """The last of each number, with what a healthy run looks like."""
    latest = seen.latest()
    bounds = {
        "least": short_number(text, COLLAPSED_SHARE),
        "late": short_number(text, _LONG_RUN_SHARE),
    }
    if seen.rows:
        latest["smooth_loss"] = seen.smooth_loss()[-1]
    lines = []
    for name, (label, healthy) in text.WATCH_NUMBERS.items():
        if name in latest:
            step, value = latest[name]
            words = text.fill(healthy, **bounds)
            lines.append(
                f"<tr><th scope='row'>{label}<small>{words}</small></th>"
                f"<td class='dnd-num'>{short_number(text, value)}</td>"
                f"<td class='dnd-num'>{text.number(step)}</td></tr>"
            )
    if not lines:
        return ""
    head = "".join(f"<th scope='col'>{word}</th>" for word in text.WATCH_COLUMNS)
    return (
        f"<section class='dnd-panel dnd-numbers'><h3 class='dnd-heading'>{text.WATCH_NOW}</h3>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></section>"
    )


def _log_rows(seen: Training) -> list[dict[str, Any]]:
    """Steps at which more than the training loss was measured, the last ones."""
    measured = [row for row in seen.rows if "delta_norm" in row or "validation_loss" in row]
    return [dict(row) for row in measured[-_ROWS_SHOWN:]][::-1]


# A collection


def _in_watch_html(text: Text, seen: Collecting) -> str:
    drawn = [
        Curve(_short(slug), points, "own")
        for (slug, _), rows in seen.curves.items()
        if (points := [(r.step, r.loss) for r in rows if r.loss and math.isfinite(r.loss)])
    ][:_CURVES_SHOWN]
    if seen.state == "finished" or not drawn:
        return ""
    last = max(curve.points[-1][0] for curve in drawn)
    steps = seen.recipe.get("steps")
    return _plot(text, "loras", drawn, None, max(last, steps if type(steps) is int else 0))


def _loras_html(text: Text, seen: Collecting) -> str:
    if not seen.runs:
        return ""
    shown = seen.runs[:_LORAS_SHOWN]
    end = max(max(r.first_validation_loss, r.last_validation_loss) for r in shown)
    axis = Axis.from_zero(end)
    lines = "".join(_lora_html(text, run, axis) for run in shown)
    ticks = "".join(
        f"<span style='left:{axis.place(tick):.2%}'>{axis.label(text, tick)}</span>"
        for tick in axis.ticks
    )
    more = ""
    if len(seen.runs) > len(shown):
        words = text.fill(text.WATCH_MORE, number=len(seen.runs) - len(shown))
        more = f"<p class='dnd-facts'>{words}</p>"
    title, unit = text.WATCH_LORAS
    return (
        f"<section class='dnd-panel dnd-forest dnd-loras'><div class='dnd-row'><h3 "
        f"class='dnd-heading'>{title}</h3><span class='dnd-facts'>{unit}</span></div>"
        f"<p class='dnd-sub'>{text.WATCH_LORAS_HEALTHY}</p><ul>{lines}</ul>"
        f"<div class='dnd-rail-axis' aria-hidden='true'>{ticks}</div>{more}</section>"
    )


def _lora_html(text: Text, run: Run, axis: Axis) -> str:
    before, after = run.first_validation_loss, run.last_validation_loss
    low, high = sorted((axis.place(before), axis.place(after)))
    told = text.fill(text.WATCH_FELL, after=after, before=before)
    return (
        f"<li class='is-generator' title='{esc(run.slug)}'><span>{esc(run.slug)}</span>"
        f"<span class='dnd-rail'><i style='left:{low:.2%};right:{1 - high:.2%}'></i>"
        f"<s style='left:{axis.place(before):.2%}'></s>"
        f"<u style='left:{axis.place(after):.2%}'></u></span>"
        f"<span class='dnd-num'>{told}</span></li>"
    )


def _left_out(text: Text, seen: Collecting) -> str:
    if not seen.left_out:
        return ""
    lines = "".join(
        f"<li><b>{esc(slug)}</b> <span lang='en'>{esc(why)}</span></li>"
        for slug, why in seen.left_out.items()
    )
    return (
        f"<section class='dnd-panel'><h3 class='dnd-heading'>{text.WATCH_LEFT_OUT}</h3>"
        f"<ul class='dnd-faults'>{lines}</ul></section>"
    )


def _run_rows(runs: Iterable[Run]) -> list[dict[str, Any]]:
    left_out = ("train_sha256", "snapshots")
    return [{k: v for k, v in run.to_json().items() if k not in left_out} for run in runs]


# Words


def _short(slug: str) -> str:
    return slug if len(slug) <= _LABEL_LENGTH else f"{slug[: _LABEL_LENGTH - 1]}…"


def _cell(text: Text, value: Any) -> str:
    if type(value) is int:
        return text.number(value)
    if isinstance(value, float):
        return text.number(value, ".4g")
    return "" if value is None else esc(value)
