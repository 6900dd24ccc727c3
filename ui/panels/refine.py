"""The offer to refine: what it does in plain words, labels if there are some, start and stop."""

from dataclasses import dataclass

import gradio as gr

from ui.text import Text

__all__ = ["RefinePanel", "refine_panel"]


@dataclass(frozen=True, slots=True)
class RefinePanel:
    """Components of the offer."""

    box: gr.Row
    labels: gr.Checkbox
    start: gr.Button
    stop: gr.Button
    later: gr.Button


def refine_panel(text: Text) -> RefinePanel:
    """Lay out the offer; hidden until it is asked for, or a warning makes it."""
    with gr.Row(
        elem_id="dnd-refine", elem_classes="dnd-panel", visible=False, equal_height=False
    ) as box:
        gr.HTML(
            f"<h2 class='dnd-heading'>{text.REFINE}</h2>"
            f"<p class='dnd-sub'>{text.REFINE_MORE}</p>"
            f"<p class='dnd-facts'>{text.REFINE_NEEDS}</p>",
            elem_id="dnd-refine-words",
            padding=False,
            min_width=0,
        )
        labels = gr.Checkbox(
            False,
            label=text.REFINE_LABELS,
            info=text.REFINE_LABELS_INFO,
            visible=False,
            elem_id="dnd-refine-labels",
        )
        with gr.Row(elem_classes="dnd-buttons"):
            start = gr.Button(
                text.REFINE_START,
                variant="primary",
                size="md",
                min_width=0,
                elem_id="dnd-refine-start",
            )
            stop = gr.Button(
                text.STOP, size="md", min_width=0, visible=False, elem_id="dnd-refine-stop"
            )
            later = gr.Button(text.REFINE_LATER, size="md", min_width=0, elem_id="dnd-refine-later")
    return RefinePanel(box=box, labels=labels, start=start, stop=stop, later=later)
