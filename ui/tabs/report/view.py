"""The report card: how good the generator is in general, not a particular adapter.

One sentence first, then charts, then numbers. A report is an untrusted file of the generator's
folder, so all its text is escaped.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import gradio as gr

from dnd_engine.charts import Scale, row_chart
from dnd_engine.evaluation.evidence import read_back
from dnd_engine.evaluation.pictures import Metric, category_rows, score_row
from dnd_engine.evaluation.verdicts import COMPOSED
from dnd_engine.generator.report import Report, ReportRow, Verdict
from dnd_engine.scoring.scores import made_row
from dnd_engine.tasks.folder import Mode
from dnd_engine.wording import (
    CATEGORIES,
    METRICS,
    MODE_NOTES,
    MODES,
    ROWS,
    SECTIONS,
    holdout_label,
    inputs_label,
    mode_label,
    percent,
    row_label,
    section_label,
)
from ui.markup import (
    esc,
    facts,
    icon,
    label_html,
    none_yet,
    prose,
    quiet,
    section,
    tab_heading,
    table,
    why,
)
from ui.panel import Panel
from ui.tabs.report.forecast import forecast_html
from ui.tabs.report.lead import lead
from ui.tabs.report.side_effects import side_effects_html
from ui.tabs.report.teaching import teaching_html
from ui.text import N_, _, localized, ngettext, note_words, score_number, short_number

_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_DECIMAL = re.compile(r"[-+]?\d*\.\d+")
_VERDICTS_SHOWN = 6
_MARKS = {True: "check", False: "error", None: "info"}
"""Icon of a verdict, by whether it is good; a small effect of the prompts is neither."""
_FAILURES_SHOWN = 8


_TITLES: Mapping[str, str] = {
    "written": N_("How good are adapters on unseen tasks?"),
    "heldout": N_("How good is this generator on unseen tasks?"),
    "refine": N_("How good is it once taught on the prompts of unseen tasks?"),
    "train": N_("How good is it on tasks it was trained on?"),
}
_METRIC_NOTES: Mapping[str, str] = {
    "score": N_(
        "The task's own metric, 0 to 1. Marks are means, bars 95 % intervals over families."
    ),
    "format_share": N_("Share of answers in the format asked for, of tasks that have one."),
    "nll": N_(
        "How surprising the model finds the reference answer, in nats per token; one more makes "
        "each token 2.7 times less likely. Lower is better."
    ),
}


class ReportPanel(Panel):
    """The tab."""

    def __init__(self) -> None:
        # The sentence and the first chart, which a newcomer should see before any choice.
        self.report = gr.HTML("", elem_id="dnd-report", elem_classes="dnd-report", padding=False)
        with gr.Row(elem_id="dnd-report-controls", visible=False) as self.report_controls:
            self.report_metric = gr.Radio(
                label=_("Metric"),
                choices=[(_(label), name) for name, label in METRICS.items()],
                value="score",
                elem_id="dnd-report-metric",
            )
            self.report_group = gr.Radio(
                label=_("Other reports"), choices=[], elem_id="dnd-report-group"
            )
        self.report_more = gr.HTML(
            "", elem_id="dnd-report-more", elem_classes="dnd-report", padding=False
        )
        # Open by default if there are no charts to look at first.
        with gr.Accordion(_("All numbers"), elem_id="dnd-report-all") as self.report_all:
            self.report_card = gr.Markdown(
                _("### Not loaded yet\nThe report card appears when the generator is loaded."),
                elem_id="dnd-report-card",
                padding=False,
            )


@dataclass(frozen=True, slots=True)
class Group:
    """A set of tasks in a report: a split, or its part with one kind of novelty."""

    split: str
    holdout: str
    """Kind of novelty; empty for the whole split."""

    @property
    def key(self) -> str:
        """Value in the chooser."""
        return f"{self.split}/{self.holdout}"

    def label(self) -> str:
        """Label in the chooser."""
        split = _(section_label(self.split))
        if not self.holdout:
            return split
        part = _(holdout_label(self.holdout))
        return part if self.split == "heldout" else f"{split}: {part}"


def card_markdown(card: str) -> str:
    """Return a generator's card without its front matter."""
    return _FRONT_MATTER.sub("", card, count=1)


def groups(reports: Mapping[str, Report]) -> list[Group]:
    """Return the choices: every evaluation, and its parts if it has several."""
    found = []
    # The hardest first, then unknown ones of other generators' cards.
    for split in (*(s for s in SECTIONS if s in reports), *sorted({*reports} - {*SECTIONS})):
        parts = sorted(reports[split].holdouts)
        found += [Group(split, ""), *(Group(split, part) for part in parts if len(parts) > 1)]
    return found


def unreadable_html(reason: str) -> str:
    """Say why no report can be drawn."""
    words = _("A report of this generator cannot be read: {reason}", reason=reason)
    return f"<div class='dnd-notice is-error'>{icon('error')}<div>{prose(words)}</div></div>"


def report_html(report: Report, group: Group, metric: Metric, sha256: str) -> tuple[str, str]:
    """Draw a metric for a group of a report's tasks; `sha256` is that of the loaded generator.

    Returns:
        The sentence with the first chart, and everything else.
    """
    # A folder may still hold the report of weights that were replaced.
    if report.generator_sha256 != sha256:
        other = _(
            "This report is for another generator. Run `dnd evaluate --card` to examine the one in "
            "use."
        )
        return f"<div class='dnd-notice is-warn'>{icon('warn')}<div>{prose(other)}</div></div>", ""
    rows = report.rows_of(group.holdout)
    head = _head_html(group, rows, sha256, lead(report, group.split, group.holdout))
    gap_closed = {} if group.holdout else report.gap_closed
    more = []
    if not group.holdout:
        low = f"{_categories_html(rows)}{_failures_html(report)}"
        more = [
            _verdicts_html(report.verdicts, made_row({r.row for r in rows})),
            side_effects_html(report),
            teaching_html(report),
            forecast_html(report) if group.split in ("heldout", "written") else "",
            f"<div class='dnd-report-pair'>{low}</div>",
        ]
    return head + _plot_html(gap_closed, rows, metric), "".join([*more, _foot_html(report)])


def _head_html(group: Group, rows: Sequence[ReportRow], sha256: str, first: str) -> str:
    made = made_row({r.row for r in rows})
    mine = [r for r in rows if r.row == made] or rows
    counts = [f"{_('Generator')} <code>{esc(sha256[:6])}</code>"]
    if mine:
        tasks, items = max(r.n_tasks for r in mine), max(r.n_items for r in mine)
        counts.append(ngettext("{number} task", "{number} tasks", tasks))
        counts.append(ngettext("{number} item", "{number} items", items))
        draws = max(r.draws for r in mine)
        counts.append(
            ngettext("{number} set of prompts per task", "{number} sets of prompts per task", draws)
        )
    title = _(_TITLES.get(group.split, group.label()))
    if group.holdout:
        title = f"{title} {group.label()}"
    about = _("This report is about the generator; the Workbench checks your own prompts.")
    opening = f"<p class='dnd-lead'>{esc(first)}</p>" if first else ""
    below = quiet(f"{', '.join(counts)}. {about}")
    return tab_heading(esc(title), f"{opening}{below}")


def _verdicts_html(verdicts: Sequence[Verdict], made: str) -> str:
    # Skip what was not measured; it is listed among all numbers. First what the page is about.
    known = [v for v in verdicts if v.holds is not None]
    known = sorted(known, key=lambda v: v.row != made)[:_VERDICTS_SHOWN]
    cards = []
    for verdict in known:
        # The first sentence is the finding, the others are its numbers.
        title, _dot, rest = verdict.words.partition(". ")
        mark = icon(_MARKS[verdict.good])
        # Where the page is about more than the generator's own adapter, each card says its row.
        about = facts(esc(_(row_label(verdict.row)))) if made != "generator" else ""
        cards.append(
            f"<div class='dnd-panel dnd-verdict-card'>{mark}<div>{about}"
            f"<b>{esc(_finding_words(title, verdict.mode))}</b>{_evidence_html(rest)}</div></div>"
        )
    if not cards:
        return ""
    modes = _("Bare: only the input is sent. Full: the instruction is sent too.")
    return f"{facts(modes)}<div class='dnd-verdict-cards'>{''.join(cards)}</div>"


def _finding_words(title: str, mode: Mode) -> str:
    """Translate what a verdict found, which a report holds in English, behind its mode."""
    label = mode_label(mode)
    finding = title.rstrip(".").removeprefix(f"{label}: ")
    composed = COMPOSED.get(finding)
    # Those of another version may be in no catalogue; they stay English.
    return f"{_(label)}: {_(finding) if composed is None else note_words(composed)}"


def _evidence_html(numbers: str) -> str:
    """Fold away the numbers behind a verdict, translated unless they are of another version."""
    if not numbers:
        return ""
    evidence = read_back(numbers)
    if evidence is None:
        return why(f"<div lang='en'>{quiet(esc(numbers))}</div>")
    words = _DECIMAL.sub(lambda found: localized(found[0]), note_words(evidence))
    return why(quiet(esc(words)))


def _plot_html(
    gap_closed: Mapping[Mode, float | None], rows: Sequence[ReportRow], metric: Metric
) -> str:
    modes = [m for m in MODES if any(r.mode == m for r in rows)]
    # Losses have no upper end; scores and shares always show the whole axis.
    losses = [r.nll for r in rows if r.nll is not None and metric == "nll"]
    scale = Scale.nice(0, max([1.0, *losses]), short_number)
    columns = "".join(_mode_html([r for r in rows if r.mode == m], m, metric, scale) for m in modes)
    closed = ", ".join(
        f"<b>{percent(share)}</b> {esc(_mode(mode))}"
        for mode, share in gap_closed.items()
        if share is not None
    )
    # Only some reports have a LoRA trained on labels, beyond which nothing is expected.
    has_ceiling = any(r.row == "oracle_lora" for r in rows)
    title = _("Baselines, controls and a ceiling") if has_ceiling else _("Baselines and controls")
    gap = _("Gap from base to own LoRA closed, on tasks that have one")
    body = f"<div class='dnd-forest-modes'>{columns}</div>{facts(_(_METRIC_NOTES[metric]))}"
    return section(title, body, "forest", f"{gap}: {closed}" if closed else "")


def _mode_html(rows: Sequence[ReportRow], mode: str, metric: Metric, scale: Scale) -> str:
    title, note = _(mode_label(mode)), _(MODE_NOTES[mode])
    by_name = {row.row: row for row in rows}
    made, drawn = made_row(by_name), []
    # In the order of the table, baselines first.
    for row in (by_name[name] for name in ROWS if name in by_name):
        label = _(row_label(row.row))
        bar = score_row(row, label, made=made, metric=metric, write=score_number)
        if bar is None:
            continue
        tooltip = f"{label}: {bar.value}"
        if metric == "score":
            tooltip = _(
                "{label}: {value}, 95 % interval {low} to {high}",
                label=label,
                value=bar.value,
                low=score_number(row.low),
                high=score_number(row.high),
            )
        drawn.append(replace(bar, tooltip=tooltip))
    summary = f"{title}: {'; '.join(row.tooltip for row in drawn)}"
    chart = row_chart(drawn, scale, summary).html() if drawn else ""
    return (
        f"<div class='dnd-forest-mode'><p><b>{title}</b> {label_html(note)}</p>"
        f"{chart or none_yet(_('Not measured for these tasks.'))}</div>"
    )


def _categories_html(rows: Sequence[ReportRow]) -> str:
    def write(own: float, top: float | None) -> str:
        value = score_number(own)
        if top is None:
            return value
        return _("{value}, LoRA {ceiling}", value=value, ceiling=score_number(top))

    mode, made, drawn = category_rows(rows, write, _category)
    if not drawn:
        return ""
    title = _("By kind of task")
    values = "; ".join(f"{row.label} {row.value}" for row in drawn)
    chart = row_chart(drawn, Scale.share(short_number), f"{title}: {values}")
    note = f"{_(row_label(made))}, {_(inputs_label(mode))}, {_('score')}"
    if any(row.bar for row in drawn):
        note += f"; {_('diamond: own LoRA')}"
    return section(title, chart.html(), "forest", note)


def _failures_html(report: Report) -> str:
    left_out = report.failures_left_out
    lines = "".join(
        f"<tr><td>{esc(f.description or f.slug)}</td>"
        f"<td><code>{esc(f.wanted)}</code></td><td><code>{esc(f.got)}</code></td></tr>"
        for f in report.failures[:_FAILURES_SHOWN]
    )
    row = esc(_(row_label(report.wrong_row)))
    note = _("{row}, picked at random, not chosen", row=row)
    if left_out:
        note += _("; {number} on data that is not ours left out", number=left_out)
    nothing = (
        _("They are in the folder that `dnd evaluate` wrote its report to.")
        if left_out
        else _("No wrong answer was recorded.")
    )
    body = quiet(prose(nothing))
    if lines:
        body = table((_("Asked for"), _("Wanted"), _("Got")), lines)
    return section(_("Where it goes wrong"), body, "failures", note)


def _foot_html(report: Report) -> str:
    saved = _(
        "Operation gain: nats per token that the right prompts save over others; one nat makes "
        "each token 2.7 times as likely"
    )
    sentences = [
        f"{saved}, {esc(_mode(mode))}: <b>{score_number(gain.mean, signed=True)}</b> "
        + _("({low} to {high})", low=score_number(gain.low), high=score_number(gain.high))
        for mode, gain in report.operation_gain.items()
    ]
    if report.several_draws:
        drawn = (f"{_(row_label(row))} {number}" for row, number in report.several_draws.items())
        sentences.append(
            _(
                "Sets of prompts per task: {rows}; one for every other row.",
                rows=esc(", ".join(drawn)),
            )
        )
    same, different = report.cosine.same_task, report.cosine.different_task
    if same is not None and different is not None:
        sentences.append(
            _(
                "Cosine of weight changes: same task <b>{same}</b>, different tasks "
                "<b>{different}</b>",
                # Cosines of one task differ from 1 in the third place.
                same=short_number(same),
                different=short_number(different),
            )
        )
    sentences.append(f"{_('Made by')} <code>{esc(report.command)}</code>")
    return (
        f"<details class='dnd-panel dnd-report-foot'><summary>{_('How it was measured')}</summary>"
        f"{''.join(map(facts, sentences))}</details>"
    )


def _category(name: str) -> str:
    """Name a kind of task; other generators' reports may have kinds of their own."""
    return _(name) if name in CATEGORIES else name


def _mode(mode: Mode) -> str:
    """Name the input of a mode within a sentence."""
    label = _(mode_label(mode))
    return label[:1].lower() + label[1:]  # a noun inside keeps its capital in German
