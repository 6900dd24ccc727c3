"""A visit from the opening of its page to its end: begun, brought back, left, deleted."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from ui.frame.events import PageEvents
from ui.shared import App, Updates
from ui.state import Session
from ui.tabs.measure.events import MeasureEvents
from ui.tabs.workbench.adapter.events import AdapterEvents
from ui.tabs.workbench.batch.events import BatchEvents
from ui.tabs.workbench.compare.events import CompareEvents
from ui.tabs.workbench.prompts.events import PromptEvents
from ui.tabs.workbench.runs.events import shown_stages
from ui.tabs.workbench.teach.events import rows
from ui.text import ENGLISH, languages, speaking
from ui.traffic import sender_of

__all__ = ["VisitEvents"]


class VisitEvents:
    """Events of the page's opening and closing."""

    def __init__(
        self,
        app: App,
        page: PageEvents,
        prompts: PromptEvents,
        adapter: AdapterEvents,
        compare: CompareEvents,
        batch: BatchEvents,
        measure: MeasureEvents,
    ) -> None:
        self._app = app
        self._page = page
        self._prompts = prompts
        self._adapter = adapter
        self._compare = compare
        self._batch = batch
        self._measure = measure

    def open(self, session: Session, code: str, key: str, request: gr.Request) -> Updates:
        """Bring back the visit that the browser has the key of, or begin one.

        Args:
            session: The visit that this page would begin.
            code: The language that the page came in; the visit goes on in it.
            key: What the browser kept.
            request: Whose page it is.
        """
        code = code if code in languages() else ENGLISH
        with speaking(code):
            visit, outcome = self._app.visits.open(
                key, request.session_hash or "", session, sender_of(request)
            )
            visit.language = code
            return {
                "session": visit,
                "visit": gr.HTML(visit_key=visit.key, outcome=outcome),
                **self._page.refresh_load(visit),
                **(self._bring_back(visit, request) if outcome == "back" else {}),
            }

    def remember(self, slots: Sequence[str], session: Session, *values: Any) -> Updates:
        """Keep what the visitor has set."""
        session.settings = dict(zip(slots, values, strict=True))
        return {}

    def leave(self, request: gr.Request) -> None:
        """Keep the visit of a page that was closed, for a while."""
        self._app.visits.leave(request.session_hash or "")

    def forget(self, request: gr.Request) -> Updates:
        """Delete the visit at once, with its files."""
        self._app.visits.end(request.session_hash or "")
        return {"visit": gr.HTML(visit_key="", outcome="forgotten")}

    def _bring_back(self, visit: Session, request: gr.Request) -> Updates:
        """Draw all that the visit holds; the canvas then asks what Synthesize would use."""
        updates: Updates = {
            **visit.settings,
            "instruction": visit.instruction,
            **self._prompts.put_back(visit),
            **self._compare.put_back(visit, request),
            **self._batch.put_back(visit, request),
            **rows(visit),
            **self._measure.put_back(visit, request),
            "stages": shown_stages(visit),
        }
        if visit.made is not None:
            updates |= self._adapter.show(visit)
            updates["stages"] = shown_stages(visit)
        return {**updates, **self._compare.switches(visit)}
