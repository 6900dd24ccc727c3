"""The offer to refine: what it does in plain words, labels if there are some, start and stop."""

from dataclasses import dataclass
from typing import ClassVar

import gradio as gr

from ui.markup import facts, heading
from ui.text import _, drawn

__all__ = ["TeachPanel", "teach_panel"]


@dataclass(frozen=True, slots=True)
class TeachPanel:
    """Components of the offer."""

    PREFIX: ClassVar[str] = "teach_"

    box: gr.Row
    labels: gr.Checkbox
    start: gr.Button
    stop: gr.Button
    later: gr.Button


def teach_panel() -> TeachPanel:
    """Lay out the offer; hidden until it is asked for, or a warning makes it."""
    with gr.Row(
        elem_id="dnd-teach", elem_classes="dnd-panel", visible=False, equal_height=False
    ) as box:
        gr.HTML(
            drawn(_offer_html),
            elem_id="dnd-teach-words",
            padding=False,
            min_width=0,
        )
        labels = gr.Checkbox(
            False,
            label=_("Learn from the labels"),
            info=_("Your files have some. Off, the base's own answers are learnt."),
            visible=False,
            elem_id="dnd-teach-labels",
        )
        with gr.Row(elem_classes="dnd-buttons"):
            start = gr.Button(
                _("Start refining"),
                variant="primary",
                size="md",
                min_width=0,
                elem_id="dnd-teach-start",
            )
            stop = gr.Button(
                _("Stop"), size="md", min_width=0, visible=False, elem_id="dnd-teach-stop"
            )
            later = gr.Button(_("Not now"), size="md", min_width=0, elem_id="dnd-teach-later")
    return TeachPanel(box=box, labels=labels, start=start, stop=stop, later=later)


def _offer_html() -> str:
    does = _(
        "Trains this adapter for a minute or two on your own prompts, without labels: the"
        " base model reads each full prompt and teaches the adapter to answer without the"
        " instruction. Where the base is wrong even with the instruction, it teaches that"
        " mistake."
    )
    needs = _("It needs a blank line between instruction and input, in 8 prompts or more.")
    return heading(_("Refine"), does) + facts(needs)
