"""The panel to store the adapter in the bar, export it for another tool, or push it."""

import gradio as gr

from dnd_engine.export.registry import EXPORTS, export_target
from dnd_engine.limits import FIXED
from ui.fields import Textbox
from ui.markup import heading
from ui.panel import Panel, button
from ui.text import _, drawn

HUB = "hub"
"""Pushes the PEFT files to the Hub; offered with the engine's export targets."""


class TakePanel(Panel):
    """The panel, hidden until it is opened.

    Args:
        shared: Whether the page serves others: then whole models are not exported, and this
            machine's login is not used.
    """

    def __init__(self, *, shared: bool) -> None:
        # The PEFT zip has its own button in the bar.
        # Whole models are only hidden here; `ExportEvents` is what refuses them.
        formats = [
            (_(target.title), name)
            for name, target in EXPORTS.items()
            if name != "peft" and not (shared and target.whole_model)
        ]
        formats.append((_("Hugging Face Hub"), HUB))
        with gr.Row(
            elem_id="dnd-take", elem_classes="dnd-panel", visible=False, equal_height=False
        ) as self.take_box:
            with gr.Column(elem_id="dnd-take-keep", min_width=0):
                # Says how long adapters are kept, which depends on the visitor.
                self.keep_head = gr.HTML(
                    drawn(keep_head_html, ends=shared), padding=False, min_width=0
                )
                self.keep_name = Textbox(
                    label=_("Name"),
                    max_lines=1,
                    max_length=FIXED.max_name_chars,
                    elem_id="dnd-keep-name",
                )
                self.keep_texts = gr.Checkbox(
                    label=_("Keep the prompt texts too"),
                    info=_("If unchecked, only names, counts and hashes of the files are kept."),
                    elem_id="dnd-keep-texts",
                )
                self.keep = button(_("Keep this adapter"), "dnd-keep-now")
                self.keep_told = gr.HTML("", padding=False, elem_id="dnd-keep-told")
            with gr.Column(elem_id="dnd-take-export", min_width=0):
                more = [_("For other tools, at the strength that is set now.")]
                more += [no_merging()] if shared else []
                gr.HTML(drawn(heading, _("Export"), *more), padding=False, min_width=0)
                self.export_format = gr.Radio(
                    formats, value=formats[0][1], label=_("Format"), elem_id="dnd-export-format"
                )
                # Additional fields for a push.
                with gr.Column(visible=False, elem_id="dnd-hub", min_width=0) as self.hub:
                    self.hub_repo = Textbox(
                        label=_("Repository"),
                        placeholder=_("user/name"),
                        max_lines=1,
                        elem_id="dnd-hub-repo",
                    )
                    self.hub_private = gr.Checkbox(
                        True,
                        label=_("Private"),
                        info=_("The upload contains names, counts and hashes, never prompt text."),
                        elem_id="dnd-hub-private",
                    )
                    self.hub_token = Textbox(
                        label=_("Token"),
                        info=_("Your own, with write access. Used once and not kept.")
                        if shared
                        else _(
                            "With write access. Used once and not kept. Left empty, the login of "
                            "this computer is used."
                        ),
                        type="password",
                        # A browser should neither store nor fill in a token.
                        html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
                        elem_id="dnd-hub-token",
                    )
                self.export = button(export_do(formats[0][1]), "dnd-export")
                self.export_told = gr.HTML("", padding=False, elem_id="dnd-export-told")
                self.export_file = gr.DownloadButton(
                    _("Download the file"),
                    visible=False,
                    variant="primary",
                    size="md",
                    elem_id="dnd-export-file",
                )
                self.export_usage = Textbox(
                    label=_("How to use it"),
                    visible=False,
                    interactive=False,
                    lines=1,
                    max_lines=16,
                    buttons=["copy"],
                    elem_id="dnd-export-usage",
                )
            self.take_close = button(_("Close"), "dnd-take-close")


def export_do(target: str) -> str:
    """Label the button by its action."""
    return _("Push to the Hub") if target == HUB else _("Export")


def usage_note(target: str) -> str | None:
    """Return what to mind when a file of this format is used."""
    return None if target == HUB else _(export_target(target).note) or None


def keep_head_html(*, ends: bool) -> str:
    """Draw the heading of Keep; `ends` is whether the library ends with the visit."""
    return heading(_("Keep"), where_words(ends=ends))


def where_words(*, ends: bool) -> str:
    """Say how long stored adapters are kept; `ends` as for `keep_head_html`."""
    if ends:
        return _(
            "Adapters are kept for this visit only and deleted when it ends. Download "
            "what you want to keep."
        )
    return _("Adapters are kept in the library on this computer, until they are deleted.")


def no_merging() -> str:
    """Say why merged models are not available."""
    return _(
        "A merged model is as large as its base, so it is made only where the app runs on your own "
        "computer."
    )
