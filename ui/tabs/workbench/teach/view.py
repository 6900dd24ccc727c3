"""The panel that teaches an adapter: by the model itself, a better model or the visitor."""

from collections.abc import Sequence
from typing import Literal

import gradio as gr

from ui.fields import Textbox
from ui.markup import facts, heading, quiet
from ui.panel import Panel, button
from ui.tabs.workbench.teach.answers import AnswerFields
from ui.text import N_, _, drawn

PROPOSED_TOGETHER = 16
"""Number of answers proposed at once: as many as can be read in a minute.

Five everyday tasks went from .53 to .63 with this many on a busy machine (docs/LOG.md), which does
not show that they suffice; the .70 of docs/results.md took 64.
"""

Door = Literal["itself", "better", "mine"]
"""The teacher."""

Place = Literal["server", "local"]
"""Where a better model is."""

_DOES = {
    "itself": N_(
        "The model reads each of your prompts with the instruction, and the adapter learns to give "
        "the same answers without it. Where the model is wrong even with the instruction, the "
        "adapter learns that mistake. With the shipped model, this improved adapters without an "
        "imprint; to imprinted ones it added little."
    ),
    "better": N_(
        "A better model answers your prompts, and the adapter learns its answers. Your prompts are "
        "sent to the server that you name here as soon as you press Start, and to no other."
    ),
    "local": N_(
        "A larger model on this computer answers your prompts, and the adapter learns its answers. "
        "Your prompts stay on this computer. Start loads the model beside yours until all is "
        "answered, so both must fit into memory."
    ),
    "mine": N_(
        "The adapter learns right answers: the labels of your files, or a few answers that you "
        "correct. This works best where the model does not know the task."
    ),
}


class TeachPanel(Panel):
    """The panel, hidden until it is opened, also by a warning.

    Args:
        shared: Whether the page serves others.
        teachers: Servers that visitors may then use.
        stop_keeps: Whether a stopped training can keep its result.
    """

    PREFIX = "teach_"

    def __init__(self, *, shared: bool, teachers: Sequence[str], stop_keeps: bool) -> None:
        choices = [
            (_("I do"), "mine"),
            (_("A better model"), "better"),
            (_("The model itself"), "itself"),
        ]
        # Visitors may only use servers on the operator's list.
        if shared and not teachers:
            del choices[1]
        with gr.Column(elem_id="dnd-teach", elem_classes="dnd-panel", visible=False) as self.box:
            words = drawn(_offer_html, stop_keeps)
            gr.HTML(words, elem_id="dnd-teach-words", padding=False, min_width=0)
            # All fields of a request; hidden during a run, which is drawn below.
            with gr.Column(min_width=0, elem_id="dnd-teach-doors") as self.doors:
                # Measured in docs/results.md, "Teach, after an imprint".
                self.door = gr.Radio(
                    choices,
                    value="mine",
                    label=_("Who teaches?"),
                    info=_("Right answers teach by far the most, and only you know them."),
                    elem_id="dnd-teach-door",
                )
                with gr.Column(min_width=0, elem_id="dnd-teach-mine") as self.mine:
                    _does("mine")
                    self.labels = gr.Checkbox(
                        label=_("Learn from the labels"),
                        info=_("Your files have some. If off, you correct answers here."),
                        visible=False,
                        elem_id="dnd-teach-labels",
                    )
                    self.propose = button(_("Propose answers"), "dnd-teach-propose")
                    # What Start lacks, until answers are proposed.
                    with gr.Column(min_width=0, elem_id="dnd-teach-first") as self.first:
                        needs = _("Start needs answers: propose some first, then correct them.")
                        gr.HTML(drawn(facts, needs), padding=False)
                    with gr.Column(
                        visible=False, min_width=0, elem_id="dnd-teach-rows"
                    ) as self.rows:
                        correct = _(
                            "Correct what is wrong. Where your files have labels, these are filled "
                            "in. An answer that you empty is left out. Press Propose answers again "
                            "for more, equally many of each bucket."
                        )
                        gr.HTML(drawn(quiet, correct), padding=False)
                        self.answers = AnswerFields(elem_id="dnd-teach-answers")
                # Fields for a better model.
                with gr.Column(
                    visible=False, min_width=0, elem_id="dnd-teach-better"
                ) as self.better:
                    # Where it is; hidden on a page for others, who name no files of this
                    # computer.
                    self.place = gr.Radio(
                        [(_("On a server"), "server"), (_("On this computer"), "local")],
                        value="server",
                        label=_("Where is it?"),
                        visible=not shared,
                        elem_id="dnd-teach-place",
                    )
                    with gr.Column(min_width=0, elem_id="dnd-teach-server") as self.server:
                        _does("better")
                        self._lay_out_server(teachers if shared else ())
                    with gr.Column(
                        visible=False, min_width=0, elem_id="dnd-teach-local"
                    ) as self.local:
                        _does("local")
                        # Name of a base on this computer.
                        self.base = Textbox(
                            "",  # a hidden field without a value would give None
                            label=_("Hub id, folder or GGUF file"),
                            max_lines=1,
                            elem_id="dnd-teach-base",
                        )
                        # Not in `told`, where an answer that comes late would stay below
                        # another teacher's fields.
                        self.base_told = gr.HTML("", padding=False, elem_id="dnd-teach-base-told")
                with gr.Column(visible=False, min_width=0) as self.itself:
                    _does("itself")
                self.told = gr.HTML("", padding=False, elem_id="dnd-teach-told")
            with gr.Row(elem_classes="dnd-buttons"):
                self.start = button(_("Start"), "dnd-teach-start", variant="primary")
                self.stop = button(_("Stop"), "dnd-teach-stop", visible=False)
                self.later = button(_("Not now"), "dnd-teach-later")

    def _lay_out_server(self, teachers: Sequence[str]) -> None:
        """Lay out the fields of a server; the allowed one is preselected."""
        info = _("Any server with the OpenAI protocol: llama-server, Ollama, vLLM or a hosted one.")
        if teachers:
            info = _("This page may ask: {servers}", servers=", ".join(teachers))
        with gr.Row():
            self.url = Textbox(
                f"{teachers[0]}/v1" if teachers else "",
                label=_("Address"),
                info=info,
                placeholder=_("such as http://localhost:11434/v1"),
                max_lines=1,
                min_width=260,
                scale=2,
                elem_id="dnd-teach-url",
            )
            self.model = Textbox(
                label=_("Model"),
                info=_("As the server calls it."),
                max_lines=1,
                max_length=200,
                min_width=160,
                elem_id="dnd-teach-model",
            )
            self.key = Textbox(
                label=_("Key"),
                info=_("If it needs one. Used once and not kept."),
                type="password",
                min_width=160,
                # A browser should neither store nor fill in a key.
                html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
                elem_id="dnd-teach-key",
            )


def _does(teacher: Door | Literal["local"]) -> None:
    """Describe a teacher."""
    gr.HTML(drawn(quiet, _(_DOES[teacher])), padding=False)


def _offer_html(stop_keeps: bool) -> str:
    # 60 steps: 20 to 30 s on labels; docs/results.md has 89 s on the model's own answers.
    does = _(
        "Trains this adapter a little further. With the shipped model, that takes half a minute "
        "to two minutes on a CPU. A few prompts are held back to show how well it goes. It may "
        "harm answers to other questions; the checks that follow say how many."
    )
    keeps = [_("Stop keeps what was learnt.")] if stop_keeps else []
    more = " ".join([does, *keeps, _("Undo goes back.")])
    # The 8 is `RefineConfig.least_prompts`.
    needs = _(
        "It needs at least 8 prompts, each with an instruction and an input, or with a label."
    )
    return heading(_("Teach"), more) + facts(needs)
