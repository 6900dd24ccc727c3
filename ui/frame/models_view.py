"""The model chooser: base and generator, their sizes and downloads."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import gradio as gr

from ui.fields import Textbox
from ui.markup import esc, heading, quiet
from ui.panel import Panel
from ui.text import N_, _, drawn
from ui.text.numbers import size

if TYPE_CHECKING:
    from dnd_engine.generator.installed import Availability, Choice

OTHER = ""
"""Choice of a typed base."""


class ModelsPanel(Panel):
    """The chooser under the header, hidden until the owner opens it."""

    PREFIX = "models_"

    def __init__(self) -> None:
        with gr.Column(elem_id="dnd-models", elem_classes="dnd-panel", visible=False) as self.box:
            gr.HTML(drawn(_head_html), padding=False)
            self.choice = gr.Radio([], label=_("Base and generator"), elem_id="dnd-models-choice")
            # Name of an unlisted base.
            self.base = Textbox(
                label=_("Hub id, folder or GGUF file"),
                visible=False,
                elem_id="dnd-models-base",
            )
            self.told = gr.HTML(padding=False, elem_id="dnd-models-told")
            with gr.Row():
                self.load = gr.Button(
                    _("Load"), variant="primary", size="md", scale=0, elem_id="dnd-models-load"
                )
                self.close = gr.Button(_("Close"), size="md", scale=0, elem_id="dnd-models-close")
        # The base whose size was looked up on the Hub.
        self.looked_up = gr.State("")


def _head_html() -> str:
    more = _("Loading others ends what is running. Adapters work only with their own base.")
    return f"<div class='dnd-row'>{heading(_('Models'), more)}</div>"


def choice_words(choice: "Choice", choices: "Sequence[Choice]") -> str:
    """Name a choice by its base and its generator."""
    if choice.generator is None:
        return _("{base}: imprint alone", base=choice.base_name)
    rivals = [other for other in choices if other.generator and other.base == choice.base]
    name = f" {choice.generator.name}" if len(rivals) > 1 else ""
    words = N_("{base}: generator{name} and imprint")
    if choice.is_lora:
        words = N_("{base}: one LoRA for all tasks{name}, and imprint")
    return _(words, base=choice.base_name, name=name)


def load_words(found: "Availability | None") -> str:
    """Label the button by its action."""
    if found is None or found.download_bytes is None:
        return _("Look up")
    if found.download_bytes:
        return _("Download {size} and load", size=size(found.download_bytes))
    return _("Load")


def told_html(choice: "Choice", found: "Availability") -> str:
    """Describe a choice: generator, size and download."""
    if choice.is_lora:
        parts = _(
            "A LoRA that was trained to follow instructions answers your prompts, and the "
            "instruction is imprinted from its answers."
        )
        held = [_("LoRA {size}", size=size(choice.generator_bytes))]
    elif choice.generator is not None:
        parts = _("A generator writes the adapter, then the instruction is imprinted into it.")
        held = [_("generator {size}", size=size(choice.generator_bytes))]
    else:
        parts = _(
            "No generator: adapters are imprinted from the base's own answers. Prompts need an "
            "instruction and an input. The first adapter takes longer."
        )
        held = []
    if found.num_bytes is not None:
        held.insert(0, _("base {size}", size=size(found.num_bytes)))
    if found.download_bytes is None:
        here = _("Not all of it is on this computer. Look up asks the Hub how large the rest is.")
    elif found.download_bytes:
        here = _("{size} must be downloaded first.", size=size(found.download_bytes))
    else:
        here = _("Nothing to download.")
    sizes = f"{', '.join(held)}. " if held else ""
    return quiet(parts) + quiet(f"<code>{esc(choice.base)}</code>: {sizes}{here}")
