"""The checks panel: whether to trust the adapter, lines of the checks first, then the evidence."""

import math
from typing import TYPE_CHECKING, Literal

import gradio as gr

from dnd_engine.checks.registry import CHECKS
from dnd_engine.lora.changes import ChangedBy
from ui.markup import RING, error_notice, esc, evidence, facts, icon, label_html, quiet, why
from ui.panel import Panel, button
from ui.tabs.workbench.adapter.check_lines import NO_EFFECT, check_lines
from ui.tabs.workbench.adapter.proof_view import proof_html
from ui.text import _, count_prompts, drawn, ngettext, note_words, number

if TYPE_CHECKING:
    from dnd_engine.checks.results import Inspection


class ChecksPanel(Panel):
    """The checks, and the ablation below them."""

    def __init__(self) -> None:
        self.checks = gr.HTML(drawn(checks_html, "none"), elem_id="dnd-checks", padding=False)
        # Hidden until there is an adapter.
        with gr.Column(
            elem_id="dnd-proof", elem_classes="dnd-panel", visible=False, min_width=0
        ) as self.proof_box:
            self.proof = gr.HTML(drawn(proof_html, None), padding=False, min_width=0)
            self.prove = button(_("Find out"), "dnd-prove")


def checks_html(
    state: Literal["none", "waiting", "running", "failed", "done"],
    inspection: "Inspection | None" = None,
    message: str = "",
    *,
    changed_by: ChangedBy | None = None,
    has_prompts: bool = True,
) -> str:
    """Draw the panel in one of its states."""
    head, body = "", ""
    if state == "none":
        none = _(
            "No adapter yet. Here you will see whether it changes the model, whether it carries "
            "your instruction, and where the weights changed."
        )
        body = quiet(none)
    elif state == "waiting":
        body = quiet(_("Measured as soon as the instruction is imprinted. You can chat meanwhile."))
    elif state == "running":
        now = _("Measuring on your prompts. You can chat meanwhile.")
        if not has_prompts:
            now = _("Measuring on messages unlike its prompts. You can chat meanwhile.")
        body = quiet(f"{RING} {now}")
    elif state == "failed":
        body = error_notice(message, _("Could not be measured."))
    elif inspection is not None:
        on = _("on {prompts} of yours", prompts=count_prompts(inspection.num_prompts))
        head = label_html(on if inspection.num_prompts else "")
        if inspection.effect is None:
            unknown = _(
                "It came without its prompts, so it cannot be measured on them here. Chat to see"
                " what it does."
            )
            body = quiet(unknown)
        body += _lines_html(inspection, changed_by)
        expected = _expectation_html(inspection, changed_by)
        body += why(f"{expected}{_effect_html(inspection.effect)}{_nearest_html(inspection)}")
    return (
        f"<section class='dnd-panel dnd-checks' aria-live='polite'><div class='dnd-row'>"
        f"<h2 class='dnd-heading'>{_('Checks')}</h2>{head}</div>{body}</section>"
    )


def _lines_html(inspection: "Inspection", changed_by: ChangedBy | None) -> str:
    lines = []
    for line in check_lines(inspection, changed_by=changed_by):
        kind = " class='is-doubt'" if line.doubt else ""
        lines.append(
            f"<li{kind}>{icon(line.mark)}<div><b>{line.title}</b><span>{line.more}</span></div>"
            f"<b class='dnd-num'>{line.value}</b></li>"
        )
    for name, result in inspection.more.items():
        said = " ".join(map(note_words, CHECKS[name].words(result)))
        lines.append(f"<li>{icon('info')}<div><b>{esc(said)}</b></div></li>")
    return f"<ul class='dnd-verdicts'>{''.join(lines)}</ul>"


def _expectation_html(inspection: "Inspection", changed_by: ChangedBy | None) -> str:
    """Describe how similar adapters did in the generator's evaluation on unseen tasks."""
    if (precedent := inspection.precedent) is not None:
        return facts(note_words(precedent.sentence))
    found = inspection.outlook
    # An outlook is of adapters before any imprint, but earlier versions kept one of others, too.
    if found is None or changed_by is not None:
        return ""
    words = _(
        "On {n_tasks} with about as much agreement, adapters changed the score by "
        "{gain:+.2f} ({low:+.2f} to {high:+.2f}) without the instruction.",
        n_tasks=_unseen_tasks(found.n_tasks),
        gain=found.gain,
        low=found.low,
        high=found.high,
    )
    if found.rank_correlation is not None:
        words += " " + _(
            "Rank correlation of agreement and gain: {correlation:+.2f}.",
            correlation=found.rank_correlation,
        )
    return facts(words)


def _unseen_tasks(count: int) -> str:
    # Translators: follows a preposition, as in "On 5 unseen tasks".
    return ngettext("{number} unseen task", "{number} unseen tasks", count)


def _effect_html(effect: float | None) -> str:
    if effect is None:
        return ""

    # In per cent of the width: a logarithmic scale of five decades, clipped at both ends.
    def place(value: float) -> float:
        return 20 * (math.log10(min(max(value, 0.001), 100)) + 3)

    ticks = "".join(
        f"<span style='left:{place(tick):.1f}%'>{number(tick, 'g')}</span>"
        for tick in (0.001, 0.01, 0.1, 1, 10, 100)
    )
    more = _("KL from base to adapted, nats on the next token of your own prompts.")
    scale = (
        f"<div class='dnd-scale' role='img' "
        f"aria-label='{esc(_('Effect {effect:.3g} nats', effect=effect))}'>"
        f"<i class='dnd-noise' style='width:{place(NO_EFFECT):.1f}%'></i>"
        f"<i class='dnd-here' style='left:{place(effect):.1f}%'></i></div>"
        f"<div class='dnd-ticks' aria-hidden='true'>{ticks}</div>"
        f"<div class='dnd-ends' aria-hidden='true'><span>{_('no effect')}</span>"
        f"<span>{_('strong')}</span></div>"
    )
    return evidence(_("Effect on the model"), f"{facts(more)}{scale}")


def _nearest_html(inspection: "Inspection") -> str:
    if not inspection.nearest_tasks:
        return ""
    rows = "".join(
        # English data, which no catalogue has.
        f"<li><span lang='en' title='{esc(task.slug)}'>{esc(task.description or task.slug)}</span>"
        "<i aria-hidden='true'>"
        f"<i style='width:{100 * min(max(task.similarity, 0), 1):.0f}%'></i></i>"
        f"<span class='dnd-num'>{number(task.similarity, '.2f')}</span></li>"
        for task in inspection.nearest_tasks[:5]
    )
    words: str = ""
    if (near := inspection.familiarity) is not None:
        words = _(
            "In its evaluation, the nearest training task of {n_tasks} was at {lowest:.2f} to "
            "{highest:.2f}.",
            n_tasks=_unseen_tasks(near.n_tasks),
            lowest=near.lowest,
            highest=near.highest,
        )
        if near.rank_correlation is not None:
            words += " " + _(
                "That says this much about the gain: a rank correlation of {correlation:+.2f} "
                "({low:+.2f} to {high:+.2f}), where 0 is nothing.",
                correlation=near.rank_correlation,
                low=near.low,
                high=near.high,
            )
        words = facts(words)
    nearest = f"<ul class='dnd-nearest'>{rows}</ul>{words}"
    return evidence(_("Nearest training tasks, cosine"), nearest)
