"""The top of the page: title, loaded models and state of loading."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import gradio as gr

from ui.engine_handle import LoadState
from ui.fields import Textbox
from ui.frame.keys_view import keys_panel
from ui.markup import RING, error_notice, esc
from ui.panel import Panel
from ui.progress import step_words
from ui.text import N_, _, drawn, language, languages, note_words

if TYPE_CHECKING:
    from dnd_engine.generator.info import EngineInfo

_DOING: Mapping[str, str] = {
    "answering": N_("Answering"),
    "waiting": N_("In the queue"),
    "synthesis": N_("Synthesizing"),
    "remix": N_("Remixing"),
    "imprint": N_("Imprinting"),
    "remake": N_("Synthesizing"),
    "refinement": N_("Teaching"),
    "measurement": N_("Measuring"),
    "training": N_("Training"),
    "checking": N_("Checking"),
}
"""Activities of the engine for this page; `assets/page.js` passes the current one to the chip."""

_LOGO = (
    '<svg class="dnd-logo" viewBox="0 0 22 22" aria-hidden="true">'
    + "".join(
        f'<rect x="{x * 7.5}" y="{y * 7.5}" width="6.5" height="6.5" rx="1.2" class="h{level}"/>'
        for y, row in enumerate(((1, 2, 4), (0, 3, 2), (2, 3, 1)))
        for x, level in enumerate(row)
    )
    + "</svg>"
)


class Frame(Panel):
    """The header above the tabs, and invisible components of the page."""

    def __init__(self) -> None:
        # The language of the page as it was served, which the visit continues in. Drawn like a
        # text, so that the configuration of each language brings its own code.
        self.language = Textbox(drawn(lambda: language().code), visible=False)
        self.header = gr.HTML(
            drawn(header_html, LoadState("idle"), None), elem_id="dnd-header", padding=False
        )
        with gr.Row(elem_id="dnd-load", visible=False) as self.load_box:
            self.load = gr.HTML(padding=False, elem_id="dnd-load-text")
            self.retry = gr.Button(_("Retry"), visible=False, size="sm", elem_id="dnd-retry")
        # Ticks until the engine is ready; `refresh_load` then stops it for good.
        self.timer = gr.Timer(0.7)
        # Shortcuts, and the event of the language switch.
        self.keys = keys_panel()


def header_html(state: LoadState, info: "EngineInfo | None", *, can_choose: bool = False) -> str:
    """Draw the title line with its chips, and for the owner the button of the model chooser."""
    chips: list[str] = []
    # Models that are loading cannot be switched.
    if can_choose and state.status in ("ready", "failed"):
        chips.append(
            "<button type='button' class='dnd-chip dnd-models-open' "
            f"aria-haspopup='true'>{_('Change models')}</button>"
        )
    if info is not None:
        base = info.base_id.rpartition("/")[2]
        chips.append(f"<span class='dnd-chip'>{_('Base')} <b>{esc(base)}</b></span>")
        chips.append(_generator_chip(info))
    device = esc(info.device.upper()) + " · " if info is not None else ""
    words = {"ready": _("Ready"), "failed": _("Failed")}.get(state.status, _("Loading"))
    # The script sees what goes on, but knows no languages.
    doing = esc(json.dumps({name: _(message) for name, message in _DOING.items()}))
    chips.append(
        f"<span class='dnd-chip dnd-chip-device is-{state.status}' data-doing-words='{doing}'>"
        f"<i aria-hidden='true'></i>{device}<span>{words}</span></span>"
    )
    return (
        f"<header class='dnd-header'>{_LOGO}<h1>{_('Drag-and-Drop LLMs')}</h1>"
        f"<p>{_('Prompts in, LoRA adapter out.')}</p>"
        f"<div class='dnd-chips'>{''.join(chips)}</div>{_tools_html()}</header>"
    )


def _generator_chip(info: "EngineInfo") -> str:
    """Name the generator that makes adapters, or say that there is none."""
    if info.generator_id is None or info.generator_sha256 is None:
        why = esc(
            _(
                "This base has no generator. Adapters are made from its own answers to your "
                "prompts, in closed form."
            )
        )
        return f"<span class='dnd-chip' title='{why}'>{_('Imprint alone')}</span>"
    return (
        f"<span class='dnd-chip'>{_('Generator')} "
        f"<code title='{esc(info.generator_id)}'>{esc(info.generator_sha256[:6])}</code></span>"
    )


def _tools_html() -> str:
    """Draw the language switch and the button for the list of shortcuts."""
    keys = esc(_("Keyboard shortcuts"))
    links = "".join(
        f"<a href='./?lang={code}' lang='{code}' hreflang='{code}' data-lang='{code}'"
        f"{' aria-current=page' if other is language() else ''} "
        f"aria-label='{esc(other.name)} ({code.upper()})'>"
        f"{code.upper()}</a>"
        for code, other in languages().items()
    )
    return (
        f"<div class='dnd-page-tools'><nav class='dnd-languages' "
        f"aria-label='{esc(_('Language'))}'>{links}</nav>"
        f"<button type='button' class='dnd-button dnd-keys-open' aria-haspopup='dialog' "
        f"title='{keys}' aria-label='{keys}'>?</button></div>"
    )


def progress_words(state: LoadState) -> str:
    """Describe the state of loading in one line."""
    progress = state.progress
    words = _("Loading the base model")
    if progress is None:
        return f"{words} …"
    if progress.stage == "download":
        words = _("Downloading the base model")
    share = "" if progress.fraction is None else f" {progress.fraction:.0%}".replace("%", " %")
    detail = step_words(progress)
    return f"{words} …{share}, {detail}" if detail else f"{words} …{share}"


def load_html(state: LoadState) -> str:
    """Draw the line about loading; empty once the engine is ready."""
    if state.status == "ready":
        return ""
    if state.status == "failed":
        return error_notice(note_words(str(state.error)), _("The base model did not load."))
    fraction = state.progress.fraction if state.progress else None
    bar, label = "", esc(_("Loading the base model"))
    if fraction is not None:
        bar = f"<progress max='1' value='{fraction:.3f}' aria-label='{label}'></progress>"
    seconds = f"{state.progress.elapsed_seconds:.0f} s" if state.progress else ""
    return (
        f"<div class='dnd-notice'>{RING}<div><b>{esc(progress_words(state))}</b> "
        f"<span>{_('You can drop and arrange prompt files meanwhile.')}</span></div>"
        f"{bar}<span class='dnd-num'>{seconds}</span></div>"
    )
