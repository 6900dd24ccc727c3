"""The server chooser: its address and the two models to compare."""

import gradio as gr

from ui.fields import Textbox
from ui.markup import esc, notice, quiet
from ui.panel import Panel, button
from ui.state import RemoteSide
from ui.text import _, drawn


class RemotePanel(Panel):
    """The chooser, initially closed; not offered on a page that serves others."""

    PREFIX = "remote_"

    def __init__(self, *, shared: bool) -> None:
        with gr.Accordion(
            _("Compare models of a server"),
            open=False,
            # Only hidden: `RemoteEvents` refuses everybody but the owner.
            visible=not shared,
            elem_id="dnd-remote",
            elem_classes="dnd-panel",
        ):
            about = _(
                "Any OpenAI-compatible server answers: vLLM, SGLang, llama-server, Ollama, a "
                "provider. Your questions go to it. The key stays in memory and ends with this "
                "visit."
            )
            gr.HTML(drawn(quiet, about), padding=False)
            with gr.Row():
                self.url = Textbox(
                    label=_("Address, such as http://localhost:8000/v1"), elem_id="dnd-remote-url"
                )
                self.key = Textbox(
                    label=_("Key, if it wants one"),
                    type="password",
                    # A browser should neither store nor fill in a key.
                    html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
                    elem_id="dnd-remote-key",
                )
            with gr.Row():
                self.base = gr.Dropdown(
                    [],
                    label=_("Left: the base"),
                    allow_custom_value=True,
                    elem_id="dnd-remote-base",
                )
                self.adapter = gr.Dropdown(
                    [],
                    label=_("Right: the adapter"),
                    allow_custom_value=True,
                    elem_id="dnd-remote-adapter",
                )
            with gr.Row():
                self.find = _button(_("List models"), "find")
                self.use = _button(_("Compare these"), "use")
                self.leave = _button(_("Back to this app's models"), "leave", visible=False)
            self.told = gr.HTML(padding=False, elem_id="dnd-remote-told")


def _button(words: str, name: str, *, visible: bool = True) -> gr.Button:
    return button(words, f"dnd-remote-{name}", scale=0, min_width=230, visible=visible)


def remote_words(sides: tuple[RemoteSide, RemoteSide]) -> str:
    """Name the models that answer from now on."""
    left, right = (f"<code>{esc(side.model)}</code>" for side in sides)
    url = f"<code>{esc(sides[0].url)}</code>"
    return notice(_("{url} answers now: {left} and {right}.", url=url, left=left, right=right))
