"""Another language in the middle of a visit: what handlers have drawn is drawn again."""

import gradio as gr

from dnd_engine.evaluation.pictures import Metric
from ui.canvas import Arrangement
from ui.handlers.adapter import checked, download, undo_words
from ui.handlers.base import Updates
from ui.handlers.chat import ChatHandlers
from ui.handlers.export import ExportHandlers, Target
from ui.handlers.library import LibraryHandlers
from ui.handlers.measure import MeasureHandlers
from ui.handlers.page import PageHandlers
from ui.handlers.prompts import PromptHandlers
from ui.handlers.runs import shown_stages
from ui.panels.checks import norms_html
from ui.panels.compare import head_html
from ui.panels.take import EXPORT_DO
from ui.panels.votes import votes_html
from ui.state import Session
from ui.text import _

__all__ = ["SAID_AGAIN", "LanguageHandlers"]

SAID_AGAIN = (
    *("header", "load", "stages", "synthesize", "hint", "left_pane", "right_pane", "votes"),
    *("adapter_facts", "download", "norms", "compare_head", "shelf", "beside", "undo"),
    *("checks", "warning", "proof", "prove", "export", "keep_told"),
    *("library_told", "library_kept", "library_undo"),
    *("report_group", "report", "report_card"),
    *("measure_told", "measure_of", "measure_stages", "measure_found", "measure_train_of"),
)
"""Slots whose words depend on the visit."""


class LanguageHandlers(
    PageHandlers, PromptHandlers, LibraryHandlers, MeasureHandlers, ExportHandlers, ChatHandlers
):
    """The event of the switch."""

    def say_again(
        self,
        session: Session,
        arrangement: Arrangement,
        kept: str | None,
        target: Target,
        group: str | None,
        metric: Metric,
        request: gr.Request,
    ) -> Updates:
        """Draw all that depends on the visit, in the language that is spoken now.

        Nothing is opened, closed, chosen or typed by this. Lines that tell of something done go.

        Args:
            session: The visit.
            arrangement: What lies on the canvas.
            kept: The adapter chosen in the library.
            target: The export format chosen.
            group: What is chosen of the report card; None until its tab was opened.
            metric: Likewise.
            request: Whose visit it is.
        """
        listed = self._listed(session, request, kept)
        updates: Updates = {
            **self.refresh_load(),
            **self._panes(session),
            "stages": shown_stages(session),
            **self._readiness(arrangement, session),
            "votes": votes_html(session.turns),
            "export": gr.Button(_(EXPORT_DO[target])),
            "keep_told": "",
            "library_told": "",
            **{name: listed[name] for name in ("library_kept", "library_undo") if name in listed},
            "report_card": self._report_card(),
            **self._measure_again(session),
        }
        if group is not None:
            updates |= {"report_group": self._report_groups(group)}
            updates |= self.draw_report(group, metric)
        made = session.made
        if made is not None:
            updates |= {
                "adapter_facts": self._facts(session),
                "download": download(made),
                "undo": gr.Button(undo_words(made)),
                "norms": norms_html(made.norms),
                "compare_head": head_html(has_adapter=True),
                **self._choosers(session, made),
                **checked(made),
            }
        return {name: updates[name] for name in SAID_AGAIN if name in updates}
