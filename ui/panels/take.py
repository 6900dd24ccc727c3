"""What to do with the adapter in the bar: keep it, write it for another tool, or push it."""

from dataclasses import dataclass

import gradio as gr

from ui.text import Text

__all__ = ["TakePanel", "take_panel"]


@dataclass(frozen=True, slots=True)
class TakePanel:
    """Components of the panel."""

    box: gr.Row
    name: gr.Textbox
    texts: gr.Checkbox
    keep: gr.Button
    keep_told: gr.HTML
    format: gr.Radio
    hub: gr.Column
    """What a push needs besides."""
    repo: gr.Textbox
    private: gr.Checkbox
    token: gr.Textbox
    export: gr.Button
    export_told: gr.HTML
    usage: gr.Textbox
    file: gr.DownloadButton
    close: gr.Button


def take_panel(text: Text, *, shared: bool) -> TakePanel:
    """Lay out the panel; hidden until it is asked for.

    Args:
        text: The words of the page.
        shared: Whether others are served: no file of a whole model is made for them, and nobody
            pushes with this machine's login.
    """
    formats = [(words, name) for name, words in text.EXPORT_FORMATS.items()]
    if shared:
        formats = [(words, name) for words, name in formats if name != "merged"]
    with gr.Row(
        elem_id="dnd-take", elem_classes="dnd-panel", visible=False, equal_height=False
    ) as box:
        with gr.Column(elem_id="dnd-take-keep", min_width=0):
            _words(text.KEEP_IT, text.KEEP_IT_VISIT if shared else text.KEEP_IT_HERE)
            name = gr.Textbox(
                label=text.ADAPTER_NAME, max_lines=1, max_length=60, elem_id="dnd-keep-name"
            )
            texts = gr.Checkbox(
                False, label=text.KEEP_TEXTS, info=text.KEEP_TEXTS_INFO, elem_id="dnd-keep-texts"
            )
            keep = gr.Button(text.KEEP_NOW, size="md", min_width=0, elem_id="dnd-keep-now")
            keep_told = gr.HTML("", padding=False, elem_id="dnd-keep-told")
        with gr.Column(elem_id="dnd-take-export", min_width=0):
            _words(text.EXPORT, text.EXPORT_SHARED if shared else text.EXPORT_MORE)
            chosen = gr.Radio(
                formats, value="gguf", label=text.EXPORT_FORMAT, elem_id="dnd-export-format"
            )
            with gr.Column(visible=False, elem_id="dnd-hub", min_width=0) as hub:
                repo = gr.Textbox(
                    label=text.HUB_REPO,
                    placeholder=text.HUB_REPO_LIKE,
                    max_lines=1,
                    elem_id="dnd-hub-repo",
                )
                private = gr.Checkbox(
                    True,
                    label=text.HUB_PRIVATE,
                    info=text.HUB_PRIVATE_INFO,
                    elem_id="dnd-hub-private",
                )
                token = gr.Textbox(
                    label=text.HUB_TOKEN,
                    info=text.HUB_TOKEN_VISITOR if shared else text.HUB_TOKEN_OWN,
                    type="password",
                    html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
                    elem_id="dnd-hub-token",
                )
            export = gr.Button(text.EXPORT_DO["gguf"], size="md", min_width=0, elem_id="dnd-export")
            export_told = gr.HTML("", padding=False, elem_id="dnd-export-told")
            file = gr.DownloadButton(
                text.EXPORT_DOWNLOAD,
                visible=False,
                variant="primary",
                size="md",
                elem_id="dnd-export-file",
            )
            usage = gr.Textbox(
                label=text.EXPORT_USAGE,
                visible=False,
                interactive=False,
                lines=1,
                max_lines=16,
                buttons=["copy"],
                elem_id="dnd-export-usage",
            )
        close = gr.Button(text.TAKE_CLOSE, size="md", min_width=0, elem_id="dnd-take-close")
    return TakePanel(
        box=box,
        name=name,
        texts=texts,
        keep=keep,
        keep_told=keep_told,
        format=chosen,
        hub=hub,
        repo=repo,
        private=private,
        token=token,
        export=export,
        export_told=export_told,
        usage=usage,
        file=file,
        close=close,
    )


def _words(title: str, more: str) -> None:
    gr.HTML(
        f"<h2 class='dnd-heading'>{title}</h2><p class='dnd-sub'>{more}</p>",
        padding=False,
        min_width=0,
    )
