"""The report card: how good the generator is in general. About it, not about your adapter."""

import re
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from ui import text

__all__ = ["ReportPanel", "report_markdown", "report_panel"]

_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ReportPanel:
    """Components of the report card."""

    card: gr.Markdown


def report_panel() -> ReportPanel:
    """Lay out the tab."""
    return ReportPanel(
        card=gr.Markdown(
            text.REPORT_LOADING, elem_id="dnd-report", elem_classes="dnd-panel", padding=False
        )
    )


def report_markdown(generator: Path | None) -> str:
    """Read the card of a generator folder."""
    if generator is None:
        return text.REPORT_LOADING
    card = generator / "README.md"
    if not card.is_file():
        return text.REPORT_NONE
    return _FRONT_MATTER.sub("", card.read_text(encoding="utf-8"), count=1)
