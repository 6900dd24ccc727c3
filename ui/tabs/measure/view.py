"""The Measure tab: scores on a visitor's labelled rows, as sentences, a table and curves.

Incomplete rows appear only in the table: short items come first, so their scores are too high.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import gradio as gr

from dnd_engine.config import LabelledConfig
from dnd_engine.lora.changes import ChangedBy, changed_by
from dnd_engine.lora.seen import Seen
from dnd_engine.measure.picture import race_charts
from dnd_engine.prompts.files import labelled_suffixes
from dnd_engine.prompts.reading import Choices
from dnd_engine.prompts.words import cut, display_name
from dnd_engine.wording import LINES, NO_INSTRUCTIONS, inputs_label, row_label
from ui.fields import Slider
from ui.markup import (
    TIMES,
    esc,
    facts,
    faults,
    icon,
    label_html,
    none_yet,
    notice,
    prose,
    quiet,
    remark,
    scrolling,
    section,
    tab_heading,
    table,
)
from ui.panel import Panel, button, script
from ui.stages import stages_view
from ui.state import CardReading, Found, Made
from ui.text import (
    N_,
    _,
    clock_words,
    count_prompts,
    drawn,
    ngettext,
    note_words,
    number,
    said,
    score_number,
    script_words,
)

if TYPE_CHECKING:
    from dnd_engine.lora.adapter import Adapter
    from dnd_engine.measure.results import Measurement, RowResult
    from dnd_engine.scoring.statistics import Interval
    from dnd_engine.tasks.folder import Mode

TrainedRow = Literal["trained_lora", "warm_lora"]
"""Row of a LoRA that can be taken as an adapter."""

TRAINED: tuple[TrainedRow, ...] = ("trained_lora", "warm_lora")

_DEFAULT_STEPS, _DEFAULT_ROWS = 40, 40
_MAX_ROWS, _MAX_SHARED_ROWS = 200, 60
_MIN_TO_TRAIN = LabelledConfig().least_examples
"""Minimum number of rows to learn from."""
_MARKS = {"gain": "check", "loss": "warn"}


_MEASURE_METRICS: Mapping[str, str] = {
    "choice": N_("share of answers that begin with the right label"),
    "exact": N_("share of answers that are the label"),
    "rouge": N_("ROUGE-L of answer and label"),
}
_MEASURE_VERDICTS: Mapping[str, str] = {
    "gain": N_("A clear gain over: {rows}."),
    "loss": N_("Clearly worse than: {rows}."),
    "no clear difference": N_("No clear difference from: {rows}."),
    "too few items": N_("Too few rows to compare it with: {rows}."),
}
_MEASURE_TOOK: Mapping[str, str] = {
    "plain": N_("Making the adapter took {seconds:.2f} s, without labels."),
    "labels": N_("Making the adapter took {seconds:.2f} s, its training on answers included."),
    "estimated": N_(
        "Making an adapter from as many prompts takes about {seconds:.2f} s here, without labels."
    ),
}
_FROM_PROMPTS = N_("It was made from prompts alone and knows no labels.")
_FROM_ITSELF = N_("It learnt the model's own answers and knows no labels.")
_LEARNT_FROM: Mapping[ChangedBy, str] = {
    "imprint": _FROM_ITSELF,
    "itself": _FROM_ITSELF,
    "itself_alike": _FROM_ITSELF,
    "labels": N_("It learnt the labels of some prompts."),
    "person": N_("It learnt the answers that a person gave to some prompts."),
    "teacher": N_("It learnt a better model's answers to some prompts."),
}
_MEASURE_HEAD: Mapping[str, str] = {
    "row": N_("Who answers"),
    "score": N_("Score"),
    "interval": N_("95 % interval"),
    "choice": N_("Right label likeliest"),
    "lead": N_("Lead of this adapter"),
    "items": N_("Rows answered"),
    "train": N_("Trained for"),
    # Last, because few know it; its unit is among the notes.
    "nll": N_("Loss on the label (lower is better)"),
}
_MEASURE_KEEPS: Mapping[str, str] = {
    "items": N_("Answers, CSV"),
    "json": N_("JSON"),
    "markdown": N_("Markdown"),
}
_TRAIN_TAKE: Mapping[str, str] = {
    "trained_lora": N_("Take the LoRA from scratch to the Workbench"),
    "warm_lora": N_("Take the LoRA from this adapter to the Workbench"),
}


_KINDS = [f".{suffix}" for suffix in labelled_suffixes()]
"""Endings of files of rows."""


class MeasurePanel(Panel):
    """The tab; fewer rows are scored where the page serves others."""

    PREFIX = "measure_"

    def __init__(self, *, shared: bool) -> None:
        nothing = _(
            "No adapter yet. Make one on the Workbench, or load one from the Library. Then "
            "drop rows with labels here, and compare it with the base and with a LoRA trained"
            " on them."
        )
        rows = _(
            "A file of prompts ({formats}), each with its label in another column. You can choose "
            "the columns below it.",
            formats=", ".join(labelled_suffixes()),
        )
        about = _(
            "Some of your rows score the adapter of the Workbench beside the base, the base with "
            "examples in its prompt, and the part that is the same in every adapter here. A LoRA "
            "can train on the others."
        )
        title = _("What is it worth on your own rows?")
        gr.HTML(drawn(tab_heading, title, drawn(quiet, about)), padding=False)
        self.empty = gr.HTML(drawn(none_yet, nothing), padding=False, elem_id="dnd-measure-empty")
        # Buttons, shown once there is an adapter.
        with gr.Row(
            elem_id="dnd-measure", elem_classes="dnd-panel", visible=False, equal_height=False
        ) as self.order:
            with gr.Column(elem_id="dnd-measure-rows", min_width=0):
                self.of = gr.HTML("", padding=False, elem_id="dnd-measure-of")
                self.file = gr.File(
                    label=_("Rows with labels"),
                    file_types=_KINDS,
                    height=148,
                    elem_id="dnd-measure-file",
                )
                gr.HTML(drawn(_rows_html, rows), padding=False)
                self.told = gr.HTML("", padding=False, elem_id="dnd-measure-told")
                # The same choice as in the canvas's dialog.
                self.columns = gr.HTML(
                    drawn(columns_json, None),
                    html_template="<section class='dnd-columns' hidden></section>",
                    js_on_load=script("words", "columns", "rows"),
                    apply_default_css=False,
                    padding=False,
                    elem_id="dnd-measure-columns",
                )
                self.limit = Slider(
                    1,
                    most_measured(shared=shared),
                    value=_DEFAULT_ROWS,
                    step=1,
                    label=_("Rows to score, at most"),
                    info=_(
                        "At most half of all rows. The rest serve as examples for the base and for "
                        "training, which needs at least {least}.",
                        least=_MIN_TO_TRAIN,
                    ),
                    buttons=[],
                    elem_id="dnd-measure-limit",
                )
                self.seen = gr.Checkbox(
                    label=_("Score prompts it was made from too"),
                    info=_(
                        "Never those whose labels or answers it was taught. It may do better on "
                        "them than on new ones."
                    ),
                    elem_id="dnd-measure-seen",
                )
                self.start = button(
                    _("Measure"), "dnd-measure-start", variant="primary", interactive=False
                )
                self.stop = button(_("Stop"), "dnd-measure-stop", visible=False)
            with gr.Column(elem_id="dnd-measure-train", min_width=0):
                gr.HTML(drawn(_training_html), padding=False, min_width=0)
                self.steps = Slider(
                    1,
                    most_measured(shared=shared),
                    value=_DEFAULT_STEPS,
                    step=1,
                    label=_("Steps"),
                    info=_("Each learns from eight rows."),
                    buttons=[],
                    elem_id="dnd-train-steps",
                )
                self.warm = gr.Checkbox(
                    label=_("Start from this adapter"),
                    info=_("If unchecked, it starts from scratch."),
                    elem_id="dnd-train-warm",
                )
                # Names the adapter and rows that Train would use.
                self.train_of = gr.HTML(
                    drawn(train_of_html, None), padding=False, elem_id="dnd-train-of"
                )
                self.train = button(_("Train"), "dnd-train-start", interactive=False)
                self.train_stop = button(_("Stop"), "dnd-train-stop", visible=False)
        self.stages = stages_view("dnd-measure-stages")
        with gr.Row(visible=False, elem_id="dnd-measure-take") as self.take_row:
            gr.HTML(drawn(label_html, _("Trained here:")), padding=False, min_width=0)
            self.take = {row: button(_(_TRAIN_TAKE[row]), f"dnd-take-{row}") for row in TRAINED}
        self.take_told = gr.HTML("", padding=False, elem_id="dnd-measure-take-told")
        self.found = gr.HTML("", padding=False, elem_id="dnd-measured")
        # A component of its own, because `found` is drawn again at each step, which would fold it.
        with gr.Accordion(
            _("How it was measured, in detail"),
            open=False,
            visible=False,
            elem_id="dnd-measured-notes",
        ) as self.notes_box:
            self.notes = gr.HTML("", padding=False)
        with gr.Row(visible=False, elem_id="dnd-measure-keep") as self.keep_row:
            gr.HTML(drawn(label_html, _("Keep the result:")), padding=False, min_width=0)
            self.keep = {
                name: gr.DownloadButton(_(words), size="sm", elem_id=f"dnd-measured-{name}")
                for name, words in _MEASURE_KEEPS.items()
            }


def most_measured(*, shared: bool) -> int:
    """Return the maximum training steps and scored rows; fewer where the page serves others."""
    return _MAX_SHARED_ROWS if shared else _MAX_ROWS


def _training_html() -> str:
    more = _(
        "It learns the labels of these rows. It is scored after 5, 10, 20, "
        "40 steps and so on, so you see how long training takes to get as far."
    )
    title = _("Train a real LoRA on the other rows")
    return f"<h3 class='dnd-heading'>{title}</h3>{quiet(more)}"


def _rows_html(words: str) -> str:
    """Describe the file of rows; `canvas.js` asks for its endings."""
    return f"<div data-kinds='{','.join(_KINDS)}'>{facts(words)}</div>"


def of_html(made: Made) -> str:
    """Name the adapter to measure, and say what it learnt from."""
    named = facts(f"{_('Adapter on the Workbench')}: {_named(made.adapter)}")
    source = _learnt_words(made.adapter)
    return named + facts(source) if source else named


def columns_json(rows: CardReading | None) -> str:
    """Return columns to choose from, what was chosen, and the words of the script."""
    # All in the value, because a `gr.HTML` that was hidden loses its other properties.
    value: dict[str, Any] = {"words": script_words(), "columns": [], "choices": None}
    if rows is not None:
        value["columns"] = [asdict(one) for one in rows.columns]
        if rows.choices != Choices():
            value["choices"] = asdict(rows.choices)
    return json.dumps(value)


def rows_html(rows: CardReading) -> str:
    """Draw what a file of rows holds, or why it cannot be measured on."""
    name, file = esc(display_name(rows.copy.name)), rows.file
    if rows.error:
        return faults(_("<b>{name}</b> cannot be used here.", name=name), said(rows.error))
    if file is None:
        return remark(
            _("<b>{name}</b>: choose the column that holds the right answers.", name=name)
        )
    words = _(
        "<b>{name}</b>: {prompts}, {labelled} with a label.",
        name=name,
        prompts=count_prompts(len(file.prompts)),
        labelled=sum(bool(prompt.label) for prompt in file.prompts),
    )
    return notice(" ".join([words, *map(prose, map(note_words, file.notes))]))


def can_train(found: Found) -> bool:
    """Return whether enough rows are left to learn from, unless some turn out to be too long."""
    return len(found.measured.sides.train) >= _MIN_TO_TRAIN


def train_of_html(found: Found | None) -> str:
    """Name the adapter and rows that Train would use, or say what it needs first."""
    words = _("Measure the Workbench's adapter on these rows first.")
    if found is not None and not can_train(found):
        words = _(
            "Training needs at least {least} labelled rows that are not scored, but only {left} "
            "are left. Add rows, or measure again with fewer rows to score.",
            least=_MIN_TO_TRAIN,
            left=len(found.measured.sides.train),
        )
    elif found is not None:
        file = f"<b>{esc(found.file.name)}</b>"
        words = _(
            "On the other rows of {file}, compared with {adapter}.",
            file=file,
            adapter=_named(found.adapter),
        )
    return facts(words)


def measured_html(found: Found, now: Made | None) -> str:
    """Draw all results so far, and whether they are for `now`, the adapter in the bar."""
    measured = found.measured
    sides = measured.sides
    title = _("{adapter} on {file}", adapter=esc(measured.adapter), file=esc(sides.file))
    about = [
        _(
            "{scored} of {rows} rows scored, {left} left to learn from",
            scored=len(sides.test),
            rows=sides.num_rows,
            left=len(sides.train),
        ),
        _(_MEASURE_METRICS[sides.metric]),
        _("strength {strength:.2f}", strength=measured.strength),
    ]
    other = ""
    if now is not None and now.adapter.sha256 != measured.adapter_sha256:
        words = _(
            "This result is for {measured}; the Workbench now has {now}. Measure again to see"
            " what that is worth.",
            measured=_named(found.adapter),
            now=_named(now.adapter),
        )
        other = f"<div class='dnd-notice'>{icon('info')}<div>{words}</div></div>"
    modes = [mode for mode in sides.modes if any(r.mode == mode for r in measured.rows)]
    charts = race_charts(
        measured,
        names={key: _(name) for key, name in LINES.items()},
        mode_words=mode_words,
        write=score_number,
        time=clock_words,
        axis="",
    )
    # Below the charts: text in a chart cannot wrap on a phone.
    axis = facts(_("Horizontal axis: time to make it, without scoring (log scale)."))
    curves = "".join(
        f"<figure class='dnd-race-mode'><figcaption aria-hidden='true'>{chart.title}</figcaption>"
        f"{chart.html()}</figure>"
        for chart in charts
    )
    named = f"{title} <code>{esc(measured.adapter_sha256[:8])}</code>"
    verdicts = f"<div aria-live='polite'>{_verdicts_html(found)}</div>"
    body = f"{other}{verdicts}{_table_html(measured, modes)}"
    race = f"<div class='dnd-race-modes'>{curves}</div>{axis}"
    scores = section(named, body, "measured", "; ".join(about))
    return scores + section(_("Score over the time it takes to get there"), race, "race")


def notes_html(measured: "Measurement") -> str:
    """List how it was measured, apart from the results."""
    surprise = _(
        "The loss on the label is in nats per token; one more makes each token 2.7 times less "
        "likely."
    )
    notes = [surprise, *map(note_words, measured.notes)]
    items = "".join(f"<li>{prose(note)}</li>" for note in notes)
    return f"<ul class='dnd-faults'>{items}</ul>"


def mode_words(mode: str) -> str:
    """Name what a mode sends, see `Sides.sent`."""
    return _(inputs_label(mode))


def _named(adapter: "Adapter") -> str:
    strength = number(adapter.strength, ".2f")
    return f"<b>{esc(adapter.name)}</b> <code>{esc(adapter.sha256[:8])}</code> {TIMES} {strength}"


def _verdicts_html(found: Found) -> str:
    """Describe how the adapter compares with other rows, mode by mode."""
    measured = found.measured
    lines = []
    for mode in measured.sides.modes:
        own = measured.row("adapter", mode)
        if own is None:
            continue
        score = _(
            "{mode}: this adapter scores <b>{score}</b> ({low} to {high}).",
            mode=mode_words(measured.sides.sent(mode)),
            **_interval(own.score),
        )
        verdicts = ""
        for verdict, rows in measured.beside(mode).items():
            mark = _MARKS.get(verdict, "info")
            leads = "; ".join(
                _("{label} ({lead}, {low} to {high})", label=_label(row), **_interval(lead))
                for row, lead in rows
            )
            words = _(_MEASURE_VERDICTS[verdict], rows=leads)
            verdicts += f"<span class='is-{mark}'>{icon(mark)}<span>{words}</span></span>"
        verdicts += _doubts_html(measured, mode)
        points = [r for r in measured.rows if (r.row, r.mode) == ("trained_lora", mode)]
        raced = _race(own, [p for p in points if p.steps and measured.is_whole(p)])
        lines.append(f"<li><p>{score}</p>{verdicts}{raced}</li>")
    if not lines:
        return ""
    took, note = measured.synthesis_seconds, ""
    if took is not None:
        how = "labels" if _knows_labels(found.adapter) else "plain"
        words = _MEASURE_TOOK["estimated" if measured.synthesis_estimated else how]
        note = facts(_(words, seconds=took))
    return f"<ul class='dnd-worth'>{''.join(lines)}</ul>{note}"


def _doubts_html(measured: "Measurement", mode: "Mode") -> str:
    """Describe caveats about what the scores can show."""
    doubts = [] if measured.sides.has_instructions else [_(NO_INSTRUCTIONS)]
    if (known := measured.commonest(mode)) is not None and not measured.beats_commonest(mode):
        label, share = known
        doubts.append(
            _(
                "Always answering “{label}” would score {score}.",
                label=esc(cut(label, 60)),
                score=score_number(share),
            )
        )
    if (always := measured.always_answers(mode)) is not None:
        doubts.append(
            _("It gives every row the same answer: “{answer}”.", answer=esc(cut(always, 60)))
        )
    return "".join(
        f"<span class='is-warn'>{icon('warn')}<span>{words}</span></span>" for words in doubts
    )


def _learnt_words(adapter: "Adapter") -> str:
    """Say where an adapter's last answers came from; empty if nothing says so."""
    how = changed_by(adapter.provenance)
    # It still knows labels that it learnt before its last change.
    if how not in ("person", "teacher") and _knows_labels(adapter):
        how = "labels"
    if how is not None:
        return _(_LEARNT_FROM[how])
    return _(_FROM_PROMPTS) if adapter.is_generated else ""


def _knows_labels(adapter: "Adapter") -> bool:
    """Return whether the adapter was trained on labels, rather than generated or refined."""
    # Earlier versions did not record digests of the prompts that they refined on.
    learnt = Seen.by(adapter.provenance).learnt
    return bool(learnt) or changed_by(adapter.provenance) == "labels"


def _race(own: "RowResult", points: Sequence["RowResult"]) -> str:
    """Say when training reached the adapter's score, if it did."""
    if not points:
        return ""
    passed = next((p for p in points if p.score.mean >= own.score.mean), None)
    at = passed or points[-1]
    if passed:
        sentence = ngettext(
            "Training from scratch scored as much after {seconds:.1f} s of training, in {number} "
            "step.",
            "Training from scratch scored as much after {seconds:.1f} s of training, in {number} "
            "steps.",
            at.steps,
            seconds=at.train_seconds,
        )
    else:
        sentence = ngettext(
            "Training from scratch did not score as much in {seconds:.1f} s, in {number} step.",
            "Training from scratch did not score as much in {seconds:.1f} s, in {number} steps.",
            at.steps,
            seconds=at.train_seconds,
        )
    return f"<span>{icon('info')}<span>{sentence}</span></span>"


def _table_html(measured: "Measurement", modes: Sequence["Mode"]) -> str:
    """Draw the table of rows, trained ones at their last point, with right-aligned numbers."""
    options = bool(measured.sides.options)
    columns = [c for c in _MEASURE_HEAD if c != "choice" or options]
    bodies = []
    for mode in modes:
        # The dict keeps the last of several.
        rows = {row.row: row for row in measured.rows if row.mode == mode}
        lines = "".join(_row_html(measured, row, columns) for row in rows.values())
        bodies.append(
            f"<tr><th class='dnd-mode' scope='rowgroup' colspan='{len(columns)}'>"
            f"{mode_words(measured.sides.sent(mode))}</th></tr>{lines}"
        )
    head = [_(_MEASURE_HEAD[column]) for column in columns]
    return scrolling(_("What is it worth on your own rows?"), table(head, *bodies))


def _row_html(measured: "Measurement", row: "RowResult", columns: Sequence[str]) -> str:
    total = len(measured.sides.asked(row.mode))
    items, lead = number(row.num_items), ""
    if not measured.is_whole(row):
        # Short items come first, so a lead on them alone could mislead.
        items = _("{done} of {total}", done=row.num_items, total=total)
    elif row.lead is not None:
        lead = _("{lead} ({low} to {high})", **_interval(row.lead))
    cells = {
        "score": f"<b>{score_number(row.score.mean)}</b>",
        "interval": _("{low} to {high}", **_interval(row.score)),
        "choice": "" if row.choice is None else score_number(row.choice),
        "nll": number(row.nll, ".2f"),
        "lead": lead,
        "items": items,
        "train": f"{number(row.train_seconds, '.1f')} s" if row.train_seconds else "",
    }
    values = "".join(f"<td>{cells[c]}</td>" for c in columns if c != "row")
    return f"<tr class='is-{row.row}'><th scope='row'>{_label(row)}</th>{values}</tr>"


def _label(row: "RowResult") -> str:
    label = _(row_label(row.row))
    if row.row not in TRAINED:
        return label
    return ngettext("{label}, {number} step", "{label}, {number} steps", row.steps, label=label)


def _interval(of: "Interval") -> dict[str, str]:
    return {
        "score": score_number(of.mean),
        "lead": score_number(of.mean, signed=True),
        "low": score_number(of.low),
        "high": score_number(of.high),
    }
