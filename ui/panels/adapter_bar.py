"""The adapter of this visit: its fingerprint, facts, strength and zip, and the way to refine it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gradio as gr

from ui.markup import esc, icon
from ui.panels.checks import heat_levels
from ui.text import Text

if TYPE_CHECKING:
    from dnd_engine.lora.adapter import Adapter

__all__ = ["AdapterBar", "adapter_bar", "adapter_html", "fingerprint"]


@dataclass(frozen=True, slots=True)
class AdapterBar:
    """Components of the adapter bar."""

    box: gr.Row
    facts: gr.HTML
    shelf: gr.Dropdown
    """The adapters of this visit, once there are two."""
    strength: gr.Slider
    download: gr.DownloadButton
    take: gr.Button
    """Opens what `panels.take` lays out."""
    refine: gr.Button
    """Opens the offer; see `panels.refine`."""
    undo: gr.Button
    warning: gr.HTML


def adapter_bar(text: Text) -> AdapterBar:
    """Lay out the bar; hidden until there is an adapter."""
    with gr.Row(
        elem_id="dnd-adapter", elem_classes="dnd-panel", visible=False, equal_height=False
    ) as box:
        facts = gr.HTML(elem_id="dnd-adapter-facts", padding=False, min_width=0)
        shelf = gr.Dropdown(
            label=text.SHELF, visible=False, scale=0, min_width=0, elem_id="dnd-shelf"
        )
        strength = gr.Slider(
            -0.5,
            2.0,
            value=1.0,
            step=0.05,
            label=text.STRENGTH,
            info=text.STRENGTH_INFO,
            buttons=[],
            elem_id="dnd-strength",
        )
        with gr.Row(elem_classes="dnd-buttons"):
            download = gr.DownloadButton(
                text.PREPARING,
                interactive=False,
                variant="primary",
                size="md",
                elem_id="dnd-download",
            )
            take = gr.Button(text.TAKE, size="md", min_width=0, elem_id="dnd-take-open")
            refine = gr.Button(text.REFINE, size="md", min_width=0, elem_id="dnd-refine-open")
            undo = gr.Button(text.UNDO, size="md", min_width=0, visible=False, elem_id="dnd-undo")
    warning = gr.HTML("", elem_id="dnd-warning", padding=False)
    return AdapterBar(
        box=box,
        facts=facts,
        shelf=shelf,
        strength=strength,
        download=download,
        take=take,
        refine=refine,
        undo=undo,
        warning=warning,
    )


def adapter_html(
    text: Text,
    adapter: "Adapter",
    norms: Mapping[str, Sequence[float]],
    *,
    stale: bool,
    num_files: int,
) -> str:
    """Draw what was made."""
    seconds = adapter.seconds.get("total", sum(adapter.seconds.values()))
    made = text.fill(text.MADE_IN, seconds=seconds)
    refined = adapter.provenance.get("refined")
    if refined and "refine" in adapter.seconds:
        then = text.REFINED_ON_LABELS_IN if refined["labels"] else text.REFINED_IN
        made += ", " + text.fill(then, seconds=adapter.seconds["refine"])
    if "train" in adapter.seconds:
        trained = text.fill(text.TRAINED_IN, seconds=adapter.seconds["train"])
        made = f"{made}, {trained}" if "total" in adapter.seconds else trained
    prompts, files = text.count(adapter.num_prompts, "prompt"), text.count(num_files, "file")
    if num_files:
        prompts = text.fill(text.MADE_FROM, prompts=prompts, files=files)
    facts = [
        prompts if adapter.num_prompts else text.PROMPTS_UNKNOWN,
        # A file from elsewhere does not say how long it took.
        *([made] if seconds else []),
        text.fill(text.RANK, rank=adapter.r),
        text.size(adapter.num_bytes),
        text.count(adapter.num_parameters, "parameter"),
    ]
    notes = []
    if adapter.kept_energy is not None:
        notes.append(text.fill(text.CUT_BACK, rank=adapter.r, share=100 * adapter.kept_energy))
    if adapter.strength > 1.5:
        notes.append(text.STRENGTH_STRONG)
    if stale:
        notes.append(text.STALE)
    lines = "".join(f"<p class='dnd-note'>{icon('info')}{esc(note)}</p>" for note in notes)
    whole_hash = text.fill(text.HASH, sha256=esc(adapter.sha256))
    return (
        f"<div class='dnd-adapter'>{fingerprint(text, norms)}<div>"
        f"<h2 class='dnd-heading'>{esc(adapter.name)} "
        f"<code title='{whole_hash}'>{esc(adapter.sha256[:8])}</code></h2>"
        f"<p class='dnd-facts'>{' · '.join(facts)}</p>{lines}</div></div>"
    )


def fingerprint(text: Text, norms: Mapping[str, Sequence[float]]) -> str:
    """Draw the weight-change map small: how to tell one adapter from another at a glance."""
    rows = heat_levels(norms)
    if not rows:
        return ""
    width = max(len(levels) for _, levels in rows)
    cells = "".join(
        f'<rect x="{4 * x}" y="{4 * y}" width="3.4" height="3.4" class="h{level}"/>'
        for y, (_, levels) in enumerate(rows)
        for x, level in enumerate(levels)
    )
    return (
        f'<svg class="dnd-fingerprint" viewBox="0 0 {4 * width} {4 * len(rows)}" '
        f'preserveAspectRatio="none" role="img" aria-label="{text.FINGERPRINT}">{cells}</svg>'
    )
