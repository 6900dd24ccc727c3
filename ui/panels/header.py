"""The top of the page: what this is, which models are loaded, and how far loading is."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import gradio as gr

from ui.engine_handle import LoadState
from ui.markup import esc, icon
from ui.text import LANGUAGES, Text

if TYPE_CHECKING:
    from dnd_engine.generator.info import EngineInfo

__all__ = ["Header", "header_html", "header_panel", "load_html", "progress_words"]

_LOGO = (
    '<svg class="dnd-logo" viewBox="0 0 22 22" aria-hidden="true">'
    + "".join(
        f'<rect x="{x * 7.5}" y="{y * 7.5}" width="6.5" height="6.5" rx="1.2" class="h{level}"/>'
        for y, row in enumerate(((1, 2, 4), (0, 3, 2), (2, 3, 1)))
        for x, level in enumerate(row)
    )
    + "</svg>"
)


@dataclass(frozen=True, slots=True)
class Header:
    """Components of the header."""

    title: gr.HTML
    load_box: gr.Row
    load: gr.HTML
    retry: gr.Button
    timer: gr.Timer


def header_panel(text: Text) -> Header:
    """Lay out the header."""
    title = gr.HTML(header_html(text, LoadState("idle"), None), elem_id="dnd-header", padding=False)
    with gr.Row(elem_id="dnd-load", visible=False) as load_box:
        load = gr.HTML(padding=False, elem_id="dnd-load-text")
        retry = gr.Button(text.RETRY, visible=False, size="sm", elem_id="dnd-retry")
    # Ticks until the engine is ready; `refresh_load` then switches it off for good.
    timer = gr.Timer(0.7)
    return Header(title=title, load_box=load_box, load=load, retry=retry, timer=timer)


def header_html(text: Text, state: LoadState, info: "EngineInfo | None") -> str:
    """Draw the title line with its chips."""
    chips: list[str] = []
    if info is not None:
        base = info.base_id.rpartition("/")[2]
        chips.append(f"<span class='dnd-chip'>{text.CHIP_BASE} <b>{esc(base)}</b></span>")
        chips.append(
            f"<span class='dnd-chip'>{text.CHIP_GENERATOR} "
            f"<code title='{esc(info.generator_id)}'>{esc(info.generator_sha256[:6])}</code></span>"
        )
    device = esc(info.device.upper()) + " · " if info is not None else ""
    words = {
        "ready": text.DEVICE_READY,
        "failed": text.DEVICE_FAILED,
    }.get(state.status, text.DEVICE_LOADING)
    chips.append(
        f"<span class='dnd-chip dnd-chip-device is-{state.status}'>"
        f"<i aria-hidden='true'></i>{device}{words}</span>"
    )
    return (
        f"<header class='dnd-header'>{_LOGO}<h1>{text.TITLE}</h1><p>{text.TAGLINE}</p>"
        f"<div class='dnd-chips'>{''.join(chips)}</div>{_tools_html(text)}</header>"
    )


def _tools_html(text: Text) -> str:
    """Draw the switch of languages, and what opens the list of keys."""
    links = "".join(
        f"<a href='./?lang={code}' lang='{code}' hreflang='{code}' title='{other.SWITCH_MORE}'"
        f"{' aria-current=page' if other is text else ''} aria-label='{other.NAME}'>"
        f"{other.SHORT}</a>"
        for code, other in LANGUAGES.items()
    )
    return (
        f"<div class='dnd-page-tools'><nav class='dnd-languages' aria-label='{text.SWITCH}'>{links}"
        f"</nav><button type='button' class='dnd-button dnd-keys-open' aria-haspopup='dialog' "
        f"title='{text.KEYS_OPEN}' aria-label='{text.KEYS_OPEN}'>?</button></div>"
    )


def progress_words(text: Text, state: LoadState) -> str:
    """Say how far loading is, in one line."""
    progress = state.progress
    words = text.LOADING
    if progress is None:
        return f"{words} …"
    if progress.stage == "download":
        words = text.DOWNLOADING
    share = "" if progress.fraction is None else f" {progress.fraction:.0%}".replace("%", " %")
    detail = text.step(progress.detail)
    return f"{words} …{share}, {detail}" if detail else f"{words} …{share}"


def load_html(text: Text, state: LoadState) -> str:
    """Draw the line about loading; empty once the engine is ready."""
    if state.status == "ready":
        return ""
    if state.status == "failed":
        return (
            f"<div class='dnd-notice is-error' role='alert'>{icon('error')}<div>"
            f"<b>{text.LOAD_FAILED}</b> <span class='dnd-pre'>{esc(state.message)}</span>"
            "</div></div>"
        )
    fraction = state.progress.fraction if state.progress else None
    bar = (
        f"<progress max='1' value='{fraction:.3f}' aria-label='{text.LOADING}'></progress>"
        if fraction is not None
        else ""
    )
    seconds = f"{state.progress.elapsed_seconds:.0f} s" if state.progress else ""
    return (
        "<div class='dnd-notice'><span class='dnd-ring' aria-hidden='true'></span>"
        f"<div><b>{esc(progress_words(text, state))}</b> <span>{text.LOAD_HINT}</span></div>"
        f"{bar}<span class='dnd-num'>{seconds}</span></div>"
    )
