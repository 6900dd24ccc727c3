"""The report card: how good the generator is in general. About it, not about your adapter.

Pictures first, numbers second. A report is a file of the generator folder, so nothing in it is
trusted to be whole, and every word of it is escaped.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dnd_engine.charts import Scale, row_chart
from dnd_engine.evaluation.pictures import category_rows, refine_chart, score_row
from ui.markup import esc, icon
from ui.text import N_, _, clock_words, ngettext, number

__all__ = ["Group", "ReportPanel", "card_markdown", "groups", "report_html", "report_panel"]

_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_VERDICTS_SHOWN = 6
_FAILURES_SHOWN = 8


_REPORT_TITLES: Mapping[str, str] = {
    "heldout": N_("How good is this generator on unseen tasks?"),
    "refine": N_("How good is it once refined on the prompts of unseen tasks?"),
    "train": N_("How good is it on tasks it was trained on?"),
}
_REPORT_SPLITS: Mapping[str, str] = {
    "heldout": N_("Unseen tasks"),
    "refine": N_("Unseen tasks, refined"),
    "train": N_("Seen in training"),
}
_REPORT_HOLDOUTS: Mapping[str, str] = {
    "family": N_("New family"),
    "primitive": N_("New operation"),
    "composition": N_("New composition"),
    "pair": N_("New pair of known task and format"),
    "format": N_("Unseen format"),
}
_REPORT_METRICS: Mapping[str, str] = {
    "score": N_("Score"),
    "format_share": N_("Right format"),
    "nll": N_("Loss"),
}
_REPORT_METRIC_NOTES: Mapping[str, str] = {
    "score": N_(
        "The task's own metric, 0 to 1. Marks are means, bars 95 % intervals over families."
    ),
    "format_share": N_("Share of answers in the format asked for, of tasks that have one."),
    "nll": N_("Nats per token of the reference answer. Lower is better."),
}
_REPORT_ROWS: Mapping[str, str] = {
    "base": N_("Base"),
    "few_shot": N_("Base, few-shot prompt"),
    "mean_lora": N_("Mean of training LoRAs"),
    "nearest_lora": N_("Nearest task's LoRA"),
    "multi_task_lora": N_("Multi-task LoRA"),
    "shared_lora": N_("Generator's shared part"),
    "generator_constant": N_("Generator, constant prompt"),
    "generator_wrong": N_("Generator, wrong prompts"),
    "generator_shuffled": N_("Generator, shuffled words"),
    "generator": N_("Generator, right prompts"),
    "imprint": N_("Imprint, without the generator"),
    "generator_imprint_wrong": N_("Imprinted, wrong prompts"),
    "generator_imprint": N_("Generator, imprinted"),
    "generator_refined_15": N_("Refined, 15 steps"),
    "generator_refined_30": N_("Refined, 30 steps"),
    "generator_refined": N_("Generator, refined"),
    "scratch_refined_15": N_("From scratch, 15 steps"),
    "scratch_refined_30": N_("From scratch, 30 steps"),
    "scratch_refined": N_("Refined from scratch"),
    "labelled_5": N_("Own LoRA, 5 steps"),
    "labelled_10": N_("Own LoRA, 10 steps"),
    "labelled_20": N_("Own LoRA, 20 steps"),
    "labelled_40": N_("Own LoRA, 40 steps"),
    "oracle_lora": N_("Own LoRA, trained on labels"),
}
_REPORT_MODES: Mapping[str, tuple[str, str]] = {
    "bare": (
        N_("Bare"),
        N_("only the input is sent: “The film was a delight.”"),
    ),
    "full": (
        N_("Full"),
        N_("the instruction is sent too"),
    ),
}
_REPORT_SECONDS_WAYS: Mapping[str, str] = {
    "generator": N_("Refined"),
    "scratch": N_("From nothing"),
    "labels": N_("On labels"),
    "teacher": N_("Teacher"),
}


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

    def label(self) -> str:
        """As the chooser shows it."""
        split = _(_REPORT_SPLITS.get(self.split, self.split))
        if not self.holdout:
            return split
        part = _(_REPORT_HOLDOUTS.get(self.holdout, self.holdout))
        return part if self.split == "heldout" else f"{split}: {part}"


def report_panel() -> ReportPanel:
    """Lay out the tab."""
    with gr.Row(elem_id="dnd-report-controls", visible=False) as controls:
        group = gr.Radio(label=_("Tasks"), choices=[], elem_id="dnd-report-group")
        metric = gr.Radio(
            label=_("Metric"),
            choices=[(_(label), name) for name, label in _REPORT_METRICS.items()],
            value="score",
            elem_id="dnd-report-metric",
        )
    view = gr.HTML("", elem_id="dnd-report", padding=False)
    # Open until there are pictures to look at first.
    with gr.Accordion(_("All numbers"), elem_id="dnd-report-all") as all_numbers:
        card = gr.Markdown(
            _("### Not loaded yet\nThe report card appears when the generator is loaded."),
            elem_id="dnd-report-card",
            padding=False,
        )
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


def report_html(report: Mapping[str, Any], group: Group, metric: str, sha256: str) -> str:
    """Draw one report.

    Args:
        report: As `report.json` holds it.
        group: Whose rows to draw.
        metric: `score`, `format_share` or `nll`.
        sha256: Of the generator in use.
    """
    try:
        return _report_html(report, group, metric, sha256)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        words = _("A report of this generator cannot be read: {reason}", reason=repr(error))
        return f"<div class='dnd-notice is-error'>{icon('error')}<div>{esc(words)}</div></div>"


def _report_html(report: Mapping[str, Any], group: Group, metric: str, sha256: str) -> str:
    if report["generator_sha256"] != sha256:
        other = _(
            "This report is for another generator. Run `dnd evaluate --card` to examine the one in "
            "use."
        )
        return f"<div class='dnd-notice is-warn'>{icon('warn')}<div>{esc(other)}</div></div>"
    rows = [r for r in _objects(report["rows"]) if str(r.get("holdout") or "") == group.holdout]
    whole = not group.holdout
    parts = [
        _head_html(group, rows, sha256),
        _verdicts_html(_objects(report.get("verdicts"))) if whole else "",
        _plot_html(report if whole else {}, rows, metric),
    ]
    if whole:
        parts.append(_seconds_html(report))
    low = [_categories_html(rows), _failures_html(report)]
    if whole:
        parts.append(f"<div class='dnd-report-pair'>{''.join(low)}</div>")
    parts.append(_foot_html(report))
    return "".join(parts)


def _head_html(
    group: Group,
    rows: Sequence[Mapping[str, Any]],
    sha256: str,
) -> str:
    mine = [r for r in rows if r["row"] == "generator"] or rows
    facts = [f"{_('Generator')} <code>{esc(sha256[:6])}</code>"]
    if mine:
        tasks, items = (max(int(r[key]) for r in mine) for key in ("n_tasks", "n_items"))
        draws = max(int(r.get("draws") or 1) for r in mine)
        facts.append(ngettext("{number} task", "{number} tasks", tasks))
        facts.append(ngettext("{number} item", "{number} items", items))
        facts.append(ngettext("{number} prompt draw", "{number} prompt draws", draws))
    title = _(_REPORT_TITLES.get(group.split, group.label()))
    if group.holdout:
        title = f"{title} {group.label()}"
    about = _("This report is about the generator; the Workbench checks your own prompts.")
    return (
        f"<header class='dnd-report-head'><h2>{esc(title)}</h2>"
        f"<p class='dnd-sub'>{', '.join(facts)}. {about}</p></header>"
    )


def _verdicts_html(verdicts: Sequence[Mapping[str, Any]]) -> str:
    # What was not measured says nothing; it stands among all numbers.
    known = [v for v in verdicts if v["holds"] is not None][:_VERDICTS_SHOWN]
    cards = []
    for verdict in known:
        title, _dot, rest = str(verdict["words"]).partition(". ")
        mark = icon("check" if verdict["good"] else "error")
        cards.append(
            f"<div class='dnd-panel dnd-verdict-card' lang='en'>{mark}"
            f"<div><b>{esc(title.rstrip('.'))}</b><p class='dnd-sub'>{esc(rest)}</p></div></div>"
        )
    return f"<div class='dnd-verdict-cards'>{''.join(cards)}</div>" if cards else ""


def _plot_html(report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], metric: str) -> str:
    modes = [m for m in _REPORT_MODES if any(r["mode"] == m for r in rows)]
    # Losses have no upper end; scores and shares always show the whole axis.
    end = max([1.0, *(float(r["nll"]) for r in rows)]) if metric == "nll" else 1.0
    columns = "".join(
        _mode_html([r for r in rows if r["mode"] == m], m, metric, end) for m in modes
    )
    gap = report.get("gap_closed") or {}
    closed = ", ".join(
        f"<b>{float(share):.0%}</b> {esc(_mode(mode))}"
        for mode, share in gap.items()
        if share is not None
    )
    head = (
        f"<span class='dnd-facts'>{_('Gap from base to own LoRA closed')}: {closed}</span>"
        if closed
        else ""
    )
    return (
        f"<section class='dnd-panel dnd-forest'><div class='dnd-row'>"
        f"<h3 class='dnd-heading'>{_('Baselines, controls and a ceiling')}</h3>{head}</div>"
        f"<div class='dnd-forest-modes'>{columns}</div>"
        f"<p class='dnd-facts'>{_(_REPORT_METRIC_NOTES[metric])}</p></section>"
    )


def _mode_html(rows: Sequence[Mapping[str, Any]], mode: str, metric: str, end: float) -> str:
    by_name = {str(row["row"]): row for row in rows}
    title, example = map(_, _REPORT_MODES[mode])
    drawn = []
    for name, label in _REPORT_ROWS.items():
        if name in by_name and by_name[name].get(metric) is not None:
            row = by_name[name]
            told = f"{_(label)}: {_number(float(row[metric]))}"
            if metric == "score":
                numbers = {k: _number(float(row[k])) for k in ("low", "high")}
                value = _number(float(row["score"]))
                told = _(
                    "{label}: {value}, 95 % interval {low} to {high}",
                    label=_(label),
                    value=value,
                    **numbers,
                )
            drawn.append(score_row(row, _(label), metric=metric, write=_number, told=told))
    scale = Scale(0, end, tuple(end * share for share in (0, 0.25, 0.5, 0.75, 1)), _number)
    summary = f"{title}: {'; '.join(row.told for row in drawn)}"
    return (
        f"<div class='dnd-forest-mode'><p><b>{title}</b> <span class='dnd-facts'>{example}</span>"
        f"</p>{row_chart(drawn, scale, summary).html()}</div>"
    )


def _seconds_html(report: Mapping[str, Any]) -> str:
    """Score over seconds of training: refined from the adapter, from nothing, and on labels."""
    names = {way: _(name) for way, name in _REPORT_SECONDS_WAYS.items()}
    chart = refine_chart(report, names, _number, clock_words)
    if chart is None:
        return ""
    equal = report.get("equal_score") or {}
    short: str = ""
    if equal.get("shortest_steps") and equal.get("over_synthesis"):
        short = _(
            "A LoRA on the labels of the same prompts scores as much as the adapter "
            "after {steps:d} steps, which take {times:.0f} times as long as making it.",
            steps=int(equal["shortest_steps"]),
            times=float(equal["over_synthesis"]),
        )
    more = _(
        "Score on bare inputs over seconds of training, on one core. Refine uses the "
        "adapter's own prompts and no labels; it spends its first seconds asking the "
        "teacher, which is the base with the instruction. From nothing, it starts from an"
        " empty LoRA."
    )
    return (
        f"<section class='dnd-panel'><h3 class='dnd-heading'>{_('What more seconds bring')}</h3>"
        f"<p class='dnd-sub'>{more} {short}</p>{chart.html()}</section>"
    )


def _categories_html(rows: Sequence[Mapping[str, Any]]) -> str:
    def write(own: float, top: float | None) -> str:
        value = _number(own)
        if top is None:
            return value
        return _("{value}, LoRA {ceiling}", value=value, ceiling=_number(top))

    mode, drawn = category_rows(rows, write)
    if not drawn:
        return ""
    title = _("By kind of task")
    told = "; ".join(f"{row.label} {row.value}" for row in drawn)
    chart = row_chart(drawn, Scale.share(_number), f"{title}: {told}")
    note = f"{_mode(mode)}, {_('score')}"
    if any(row.bar for row in drawn):
        note += f"; {_('diamond: own LoRA')}"
    return (
        f"<section class='dnd-panel dnd-forest'><div class='dnd-row'><h3 class='dnd-heading'>"
        f"{title}</h3><span class='dnd-facts'>{note}</span></div>{chart.html()}</section>"
    )


def _failures_html(report: Mapping[str, Any]) -> str:
    failures, left_out = _objects(report.get("failures")), int(report.get("failures_left_out") or 0)
    lines = "".join(
        f"<tr><td>{esc(f.get('description') or f['slug'])}</td>"
        f"<td><code>{esc(f['wanted'])}</code></td><td><code>{esc(f['got'])}</code></td></tr>"
        for f in failures[:_FAILURES_SHOWN]
    )
    note = _("picked at random, not chosen")
    if left_out:
        note += _("; {number} on data that is not ours left out", number=left_out)
    nothing = (
        _("They are in the folder that `dnd evaluate` wrote its report to.")
        if left_out
        else _("No wrong answer was recorded.")
    )
    body = f"<p class='dnd-sub'>{nothing}</p>"
    if lines:
        head = (_("Asked for"), _("Wanted"), _("Got"))
        cells = "".join(f"<th scope='col'>{word}</th>" for word in head)
        body = f"<table><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table>"
    return (
        f"<section class='dnd-panel dnd-failures'><div class='dnd-row'><h3 class='dnd-heading'>"
        f"{_('Where it goes wrong')}</h3><span class='dnd-facts'>{note}</span>"
        f"</div>{body}</section>"
    )


def _foot_html(report: Mapping[str, Any]) -> str:
    facts = []
    saved = _("Operation gain: nats per token that the right prompts save over others")
    for mode, gain in (report.get("operation_gain") or {}).items():
        if gain:
            facts.append(
                f"{saved}, {esc(_mode(mode))}: "
                f"<b>{number(float(gain['mean']), '+.2f')}</b> "
                + _("({low:+.2f} to {high:+.2f})", low=float(gain["low"]), high=float(gain["high"]))
            )
    cosine = report.get("cosine") or {}
    if cosine.get("same_task") is not None and cosine.get("different_task") is not None:
        same, different = float(cosine["same_task"]), float(cosine["different_task"])
        facts.append(
            _(
                "Cosine of weight changes: same task <b>{same:.3f}</b>, different tasks "
                "<b>{different:.3f}</b>",
                same=same,
                different=different,
            )
        )
    lines = "".join(f"<p class='dnd-facts'>{fact}</p>" for fact in facts)
    return (
        f"<section class='dnd-panel dnd-report-foot'>{lines}<p class='dnd-facts'>"
        f"{_('Made by')} <code>{esc(report.get('command', ''))}</code></p></section>"
    )


def _objects(value: Any) -> list[Mapping[str, Any]]:
    """Keep the objects of a JSON list; anything else is no list of objects."""
    return [v for v in value if isinstance(v, Mapping)] if isinstance(value, list) else []


def _mode(mode: str) -> str:
    """Name what is sent, within a sentence."""
    return _(_REPORT_MODES[mode][0]).lower() if mode in _REPORT_MODES else mode


def _number(value: float) -> str:
    """Scores as .14, as the design has them."""
    digits = number(value, ".2f")
    return digits.removeprefix("0") if 0 < value < 1 else digits.rstrip("0").rstrip(",.")
