"""The report card: how good the generator is in general. About it, not about your adapter.

Pictures first, drawn as CSS rows so that they stay sharp, follow dark mode and keep their text size
on a phone; numbers second. A report is a file of the generator folder, so nothing in it is trusted
to be whole, and every word of it is escaped.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ui.curves import Axis, Curve, Look, curves_html
from ui.markup import esc, icon
from ui.text import Text

__all__ = ["Group", "ReportPanel", "card_markdown", "groups", "report_html", "report_panel"]

_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_CONTROLS = ("generator_wrong", "generator_shuffled", "generator_constant")
_VERDICTS_SHOWN = 6
_FAILURES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class ReportPanel:
    """Components of the report card."""

    controls: gr.Row
    group: gr.Radio
    metric: gr.Radio
    view: gr.HTML
    all_numbers: gr.Accordion
    card: gr.Markdown


@dataclass(frozen=True, slots=True)
class Group:
    """A set of tasks that a report judges: a split, or what is new about a part of it."""

    split: str
    holdout: str
    """Empty for the whole split."""

    @property
    def key(self) -> str:
        """As the chooser holds it."""
        return f"{self.split}/{self.holdout}"

    def label(self, text: Text) -> str:
        """As the chooser shows it."""
        split = text.REPORT_SPLITS.get(self.split, self.split)
        if not self.holdout:
            return split
        part = text.REPORT_HOLDOUTS.get(self.holdout, self.holdout)
        return (
            part if self.split == "heldout" else text.fill(text.REPORT_PART, split=split, part=part)
        )


def report_panel(text: Text) -> ReportPanel:
    """Lay out the tab."""
    with gr.Row(elem_id="dnd-report-controls", visible=False) as controls:
        group = gr.Radio(label=text.REPORT_GROUP, choices=[], elem_id="dnd-report-group")
        metric = gr.Radio(
            label=text.REPORT_METRIC,
            choices=[(label, name) for name, label in text.REPORT_METRICS.items()],
            value="score",
            elem_id="dnd-report-metric",
        )
    view = gr.HTML("", elem_id="dnd-report", padding=False)
    # Open until there are pictures to look at first.
    with gr.Accordion(text.REPORT_ALL, elem_id="dnd-report-all") as all_numbers:
        card = gr.Markdown(text.REPORT_LOADING, elem_id="dnd-report-card", padding=False)
    return ReportPanel(controls, group, metric, view, all_numbers, card)


def card_markdown(card: str) -> str:
    """A generator's card without its front matter."""
    return _FRONT_MATTER.sub("", card, count=1)


def groups(reports: Mapping[str, Mapping[str, Any]]) -> list[Group]:
    """What can be chosen: every examination, and its parts where it has several."""
    found = []
    for split in sorted(reports):  # "heldout" before "train": the harder question first
        rows = reports[split].get("rows")
        parts = {str(row.get("holdout") or "") for row in _objects(rows)} - {""}
        found += [Group(split, ""), *(Group(split, p) for p in sorted(parts) if len(parts) > 1)]
    return found


def report_html(
    text: Text, report: Mapping[str, Any], group: Group, metric: str, sha256: str
) -> str:
    """Draw one report.

    Args:
        text: The words of the page.
        report: As `report.json` holds it.
        group: Whose rows to draw.
        metric: `score`, `format_share` or `nll`.
        sha256: Of the generator in use.
    """
    try:
        return _report_html(text, report, group, metric, sha256)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        words = text.fill(text.REPORT_UNREADABLE, reason=repr(error))
        return f"<div class='dnd-notice is-error'>{icon('error')}<div>{esc(words)}</div></div>"


def _report_html(
    text: Text, report: Mapping[str, Any], group: Group, metric: str, sha256: str
) -> str:
    if report["generator_sha256"] != sha256:
        return (
            f"<div class='dnd-notice is-warn'>{icon('warn')}<div>{esc(text.REPORT_OTHER)}"
            "</div></div>"
        )
    rows = [r for r in _objects(report["rows"]) if str(r.get("holdout") or "") == group.holdout]
    whole = not group.holdout
    parts = [
        _head_html(text, group, rows, sha256),
        _verdicts_html(_objects(report.get("verdicts"))) if whole else "",
        _plot_html(text, report if whole else {}, rows, metric),
    ]
    if whole:
        parts.append(_seconds_html(text, report))
    low = [_categories_html(text, rows), _failures_html(text, report)]
    if whole:
        parts.append(f"<div class='dnd-report-pair'>{''.join(low)}</div>")
    parts.append(_foot_html(text, report))
    return "".join(parts)


def _head_html(
    text: Text,
    group: Group,
    rows: Sequence[Mapping[str, Any]],
    sha256: str,
) -> str:
    mine = [r for r in rows if r["row"] == "generator"] or rows
    facts = [f"{text.CHIP_GENERATOR} <code>{esc(sha256[:6])}</code>"]
    if mine:
        facts.append(text.count(max(int(r["n_tasks"]) for r in mine), "task"))
        facts.append(text.count(max(int(r["n_items"]) for r in mine), "item"))
        facts.append(text.count(max(int(r.get("draws") or 1) for r in mine), "draw"))
    title = text.REPORT_TITLES.get(group.split, group.label(text))
    if group.holdout:
        title = f"{title} {group.label(text)}"
    return (
        f"<header class='dnd-report-head'><h2>{esc(title)}</h2>"
        f"<p class='dnd-sub'>{', '.join(facts)}. {text.REPORT_ABOUT}</p></header>"
    )


def _verdicts_html(verdicts: Sequence[Mapping[str, Any]]) -> str:
    # What was not measured says nothing; it stands among all numbers.
    known = [v for v in verdicts if v["holds"] is not None][:_VERDICTS_SHOWN]
    cards = []
    for verdict in known:
        title, _, rest = str(verdict["words"]).partition(". ")
        mark = icon("check" if verdict["good"] else "error")
        cards.append(
            f"<div class='dnd-panel dnd-verdict-card' lang='en'>{mark}"
            f"<div><b>{esc(title.rstrip('.'))}</b><p class='dnd-sub'>{esc(rest)}</p></div></div>"
        )
    return f"<div class='dnd-verdict-cards'>{''.join(cards)}</div>" if cards else ""


def _plot_html(
    text: Text, report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], metric: str
) -> str:
    modes = [m for m in text.REPORT_MODES if any(r["mode"] == m for r in rows)]
    # Losses have no upper end; scores and shares always show the whole axis.
    end = max([1.0, *(float(r["nll"]) for r in rows)]) if metric == "nll" else 1.0
    columns = "".join(
        _mode_html(text, [r for r in rows if r["mode"] == m], m, metric, end) for m in modes
    )
    gap = report.get("gap_closed") or {}
    closed = ", ".join(
        f"<b>{float(share):.0%}</b> {esc(_mode(text, mode))}"
        for mode, share in gap.items()
        if share is not None
    )
    head = f"<span class='dnd-facts'>{text.REPORT_GAP}: {closed}</span>" if closed else ""
    return (
        f"<section class='dnd-panel dnd-forest'><div class='dnd-row'>"
        f"<h3 class='dnd-heading'>{text.REPORT_PLOT}</h3>{head}</div>"
        f"<div class='dnd-forest-modes'>{columns}</div>"
        f"<p class='dnd-facts'>{text.REPORT_METRIC_NOTES[metric]}</p></section>"
    )


def _mode_html(
    text: Text, rows: Sequence[Mapping[str, Any]], mode: str, metric: str, end: float
) -> str:
    by_name = {str(row["row"]): row for row in rows}
    title, example = text.REPORT_MODES[mode]
    lines = [
        _line_html(text, name, label, by_name[name], metric, end)
        for name, label in text.REPORT_ROWS.items()
        if name in by_name and by_name[name].get(metric) is not None
    ]
    ticks = "".join(
        f"<span style='left:{share:.0%}'>{_number(text, share * end)}</span>"
        for share in (0, 0.25, 0.5, 0.75, 1)
    )
    return (
        f"<div class='dnd-forest-mode'><p><b>{title}</b> <span class='dnd-facts'>{example}</span>"
        f"</p><ul>{''.join(lines)}</ul>"
        f"<div class='dnd-rail-axis' aria-hidden='true'>{ticks}</div></div>"
    )


def _line_html(
    text: Text, name: str, label: str, row: Mapping[str, Any], metric: str, end: float
) -> str:
    value = float(row[metric])
    kind = "generator" if name.startswith("generator") else "baseline"
    kind = "control" if name in _CONTROLS else "ceiling" if name == "oracle_lora" else kind
    bar = ""
    told = f"{label}: {_number(text, value)}"
    if metric == "score":
        low, high = float(row["low"]), float(row["high"])
        bar = f"<i style='left:{_place(low, end)};right:{_place(end - high, end)}'></i>"
        numbers = {k: _number(text, v) for k, v in (("value", value), ("low", low), ("high", high))}
        told = text.fill(text.REPORT_INTERVAL, label=label, **numbers)
    return (
        f"<li class='is-{kind}' title='{esc(told)}'><span>{esc(label)}</span>"
        f"<span class='dnd-rail'>{bar}<u style='left:{_place(value, end)}'></u></span>"
        f"<span class='dnd-num'>{_number(text, value)}</span></li>"
    )


def _seconds_html(text: Text, report: Mapping[str, Any]) -> str:
    """Score over seconds of training: refined from the adapter, from nothing, and on labels."""
    refined = report.get("refine") or {}
    if not refined:
        return ""
    ways = ("generator", "scratch")
    found = {way: [p for p in _objects(refined["points"]) if p["start"] == way] for way in ways}
    equal = report.get("equal_score") or {}
    found["labels"] = [*found["scratch"][:1], *_objects(equal.get("points"))]
    looks: Mapping[str, Look] = {"generator": "own", "scratch": "also", "labels": "other"}
    curves, told = [], []
    for way, points in found.items():
        places = sorted((float(p["seconds"]), float(p["score"])) for p in points)
        if len(places) < 2:
            continue
        label = text.REPORT_SECONDS_WAYS[way]
        curves.append(Curve(label, places, looks[way], "marked"))
        values = (text.fill("{x:.0f} s {y}", x=x, y=_number(text, y)) for x, y in places)
        told.append(f"{label}: {', '.join(values)}")
    end = max(x for curve in curves for x, _ in curve.points)
    if teacher := refined.get("teacher"):
        height = float(teacher["score"])
        label = text.REPORT_SECONDS_WAYS["teacher"]
        curves.append(Curve(label, [(0, height), (end, height)], "limit", "thin"))
        told.append(f"{label}: {_number(text, height)}")
    drawn = curves_html(text, curves, Axis.from_zero(1.0, 1.0), end, "; ".join(told))
    short = ""
    if equal.get("shortest_steps") and equal.get("over_synthesis"):
        short = text.fill(
            text.REPORT_SECONDS_EQUAL,
            steps=int(equal["shortest_steps"]),
            times=float(equal["over_synthesis"]),
        )
    return (
        f"<section class='dnd-panel'><h3 class='dnd-heading'>{text.REPORT_SECONDS}</h3>"
        f"<p class='dnd-sub'>{text.REPORT_SECONDS_MORE} {short}</p>{drawn}</section>"
    )


def _categories_html(text: Text, rows: Sequence[Mapping[str, Any]]) -> str:
    """Bare if it was measured: there the prompts must carry the task."""
    mode = "bare" if any(r["mode"] == "bare" for r in rows) else "full"
    by_name = {str(r["row"]): r for r in rows if r["mode"] == mode}
    mine = by_name.get("generator", {}).get("per_category") or {}
    ceiling = by_name.get("oracle_lora", {}).get("per_category") or {}
    if not mine:
        return ""
    lines = []
    for category, value in sorted(mine.items(), key=lambda item: -float(item[1])):
        own, top = float(value), ceiling.get(category)
        marks = f"<u style='left:{_place(own, 1)}'></u>"
        told = _number(text, own)
        if top is not None:
            low, high = sorted((own, float(top)))
            marks = (
                f"<i style='left:{_place(low, 1)};right:{_place(1 - high, 1)}'></i>{marks}"
                f"<s style='left:{_place(float(top), 1)}'></s>"
            )
            told = text.fill(
                text.REPORT_CATEGORIES_OF, value=told, ceiling=_number(text, float(top))
            )
        lines.append(
            f"<li class='is-generator'><span>{esc(category)}</span>"
            f"<span class='dnd-rail'>{marks}</span><span class='dnd-num'>{told}</span></li>"
        )
    note = f"{_mode(text, mode)}, {text.REPORT_CATEGORIES_MORE}"
    if ceiling:
        note += f"; {text.REPORT_CATEGORIES_DIAMOND}"
    return (
        f"<section class='dnd-panel dnd-forest'><div class='dnd-row'><h3 class='dnd-heading'>"
        f"{text.REPORT_CATEGORIES}</h3><span class='dnd-facts'>{note}</span></div>"
        f"<ul>{''.join(lines)}</ul></section>"
    )


def _failures_html(text: Text, report: Mapping[str, Any]) -> str:
    failures, left_out = _objects(report.get("failures")), int(report.get("failures_left_out") or 0)
    lines = "".join(
        f"<tr><td>{esc(f.get('description') or f['slug'])}</td>"
        f"<td><code>{esc(f['wanted'])}</code></td><td><code>{esc(f['got'])}</code></td></tr>"
        for f in failures[:_FAILURES_SHOWN]
    )
    note = text.REPORT_FAILURES_MORE
    if left_out:
        note += text.fill(text.REPORT_FAILURES_LEFT_OUT, number=left_out)
    nothing = text.REPORT_FAILURES_ELSEWHERE if left_out else text.REPORT_NO_FAILURES
    body = f"<p class='dnd-sub'>{nothing}</p>"
    if lines:
        head = (text.REPORT_ASKED, text.REPORT_WANTED, text.REPORT_GOT)
        cells = "".join(f"<th scope='col'>{word}</th>" for word in head)
        body = f"<table><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table>"
    return (
        f"<section class='dnd-panel dnd-failures'><div class='dnd-row'><h3 class='dnd-heading'>"
        f"{text.REPORT_FAILURES}</h3><span class='dnd-facts'>{note}</span>"
        f"</div>{body}</section>"
    )


def _foot_html(text: Text, report: Mapping[str, Any]) -> str:
    facts = []
    for mode, gain in (report.get("operation_gain") or {}).items():
        if gain:
            facts.append(
                f"{text.REPORT_GAIN}, {esc(_mode(text, mode))}: "
                f"<b>{text.number(float(gain['mean']), '+.2f')}</b> "
                + text.fill(
                    text.REPORT_GAIN_INTERVAL, low=float(gain["low"]), high=float(gain["high"])
                )
            )
    cosine = report.get("cosine") or {}
    if cosine.get("same_task") is not None and cosine.get("different_task") is not None:
        same, different = float(cosine["same_task"]), float(cosine["different_task"])
        facts.append(text.fill(text.REPORT_COSINE, same=same, different=different))
    lines = "".join(f"<p class='dnd-facts'>{fact}</p>" for fact in facts)
    return (
        f"<section class='dnd-panel dnd-report-foot'>{lines}<p class='dnd-facts'>"
        f"{text.REPORT_COMMAND} <code>{esc(report.get('command', ''))}</code></p></section>"
    )


def _objects(value: Any) -> list[Mapping[str, Any]]:
    """Keep the objects of a JSON list; anything else is no list of objects."""
    return [v for v in value if isinstance(v, Mapping)] if isinstance(value, list) else []


def _place(value: float, end: float) -> str:
    return f"{min(max(value / end, 0.0), 1.0):.1%}"


def _mode(text: Text, mode: str) -> str:
    """Name what is sent, within a sentence."""
    return text.REPORT_MODES[mode][0].lower() if mode in text.REPORT_MODES else mode


def _number(text: Text, value: float) -> str:
    """Scores as .14, as the design has them."""
    digits = text.number(value, ".2f")
    return digits.removeprefix("0") if 0 < value < 1 else digits.rstrip("0").rstrip(",.")
