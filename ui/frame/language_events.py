"""Switching the language during a visit: redraws everything that handlers have drawn."""

from dataclasses import dataclass

import gradio as gr

from dnd_engine.evaluation.pictures import Metric
from ui.canvas import Arrangement
from ui.frame.events import PageEvents
from ui.shared import Updates
from ui.state import Session
from ui.tabs.library.events import LibraryEvents
from ui.tabs.measure.events import MeasureEvents
from ui.tabs.report.events import ReportEvents
from ui.tabs.workbench.adapter.events import (
    awaits_imprint,
    checked,
    download,
    facts_of,
    undo_words,
)
from ui.tabs.workbench.adapter.norms_view import norms_html
from ui.tabs.workbench.batch.view import batch_html
from ui.tabs.workbench.compare.events import CompareEvents
from ui.tabs.workbench.compare.sides import choosers
from ui.tabs.workbench.compare.votes_view import votes_html
from ui.tabs.workbench.prompts.events import PromptEvents
from ui.tabs.workbench.runs.events import shown_stages
from ui.tabs.workbench.take.view import export_do, usage_note

SAID_AGAIN = (
    *("header", "load", "stages", "synthesize", "hint", "forecast", "left_pane", "right_pane"),
    *("inbox", "votes"),
    *("adapter_facts", "download", "norms", "left_choice", "right_choice", "undo"),
    *("compare_head", "mode", "told_with", "batch_table"),
    *("checks", "warning", "proof", "prove", "export", "keep_head", "keep_told", "teach_told"),
    *("export_told", "export_usage"),
    "teach_base_told",
    *("library_head", "library_told", "library_kept", "library_undo"),
    *("report_group", "report", "report_more", "report_card"),
    *("measure_told", "measure_columns", "measure_of", "measure_stages", "measure_found"),
    *("measure_notes", "measure_train_of"),
)
"""Slots whose words depend on the visit."""


@dataclass(frozen=True, slots=True)
class LanguageEvents:
    """The event of the language switch, which redraws the output of other events."""

    page: PageEvents
    prompts: PromptEvents
    compare: CompareEvents
    library: LibraryEvents
    measure: MeasureEvents
    report: ReportEvents

    def say_again(
        self,
        session: Session,
        arrangement: Arrangement,
        kept: str | None,
        target: str,
        group: str | None,
        metric: Metric,
        request: gr.Request,
    ) -> Updates:
        """Redraw everything that depends on the visit in the current language.

        It opens, closes, chooses and types nothing: `kept`, `target`, `group` and `metric` are what
        is selected in the library, for export and on the report card. Notices of finished actions
        are removed.
        """
        # It also shows, hides and fills components; below only its words are taken.
        listed = self.library.listed(session, request, kept)
        session.compared_as = None
        updates: Updates = {
            **self.page.refresh_load(session, request),
            **self.compare.panes(session),
            **choosers(session),
            "stages": shown_stages(session),
            **self.prompts.readiness(arrangement, session),
            **self.prompts.readings_again(arrangement, session),
            "votes": votes_html(session.turns),
            "batch_table": batch_html(session.batch),
            "export": gr.Button(export_do(target)),
            **self.library.heads(request),
            "keep_told": "",
            # An exported file can still be downloaded; how to use it is code, but for the note.
            "export_told": "",
            "export_usage": gr.Textbox(info=usage_note(target)),
            "teach_told": "",
            "teach_base_told": "",
            "library_told": "",
            **{name: listed[name] for name in ("library_kept", "library_undo") if name in listed},
            **self.report.again(group, metric),
            **self.measure.again(session),
        }
        made = session.made
        if made is not None:
            updates |= {
                "adapter_facts": facts_of(session),
                "download": download(made),
                "undo": gr.Button(undo_words(made)),
                "norms": norms_html(made.norms),
                **self.compare.compared(session),
                **checked(made),
            }
            run = session.run if session.is_busy else None
            if run is not None and run.kind == "imprint" and run.start is made:
                updates |= awaits_imprint()
            if made.proving:  # its steps are drawn by the event that runs
                del updates["proof"], updates["prove"]
        return {name: updates[name] for name in SAID_AGAIN if name in updates}
