"""The life of a visit: opened, restored, left, deleted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ui.frame.events import PageEvents
from ui.server.visitors import sender_of
from ui.shared import App, Updates
from ui.state import Session
from ui.tabs.library.events import LibraryEvents
from ui.tabs.measure.events import MeasureEvents
from ui.tabs.workbench.adapter.events import AdapterEvents
from ui.tabs.workbench.batch.events import BatchEvents
from ui.tabs.workbench.compare.events import CompareEvents
from ui.tabs.workbench.prompts.events import PromptEvents
from ui.tabs.workbench.runs.events import shown_stages
from ui.tabs.workbench.teach.events import rows
from ui.text import ENGLISH, languages, speaking


@dataclass(frozen=True, slots=True)
class VisitEvents:
    """Events when the page opens and closes."""

    app: App
    page: PageEvents
    prompts: PromptEvents
    adapter: AdapterEvents
    compare: CompareEvents
    batch: BatchEvents
    measure: MeasureEvents
    library: LibraryEvents

    def open(self, session: Session, code: str, key: str, request: gr.Request) -> Updates:
        """Restore the visit of the browser's key, or start a new one.

        The visit continues in the language of the page as it was served, which is `code`.
        """
        # Both come from a client, and so may be anything.
        code = code if code in languages() else ENGLISH
        key = key if isinstance(key, str) else ""
        # Until now the visit speaks English, as every new one does.
        with speaking(code):
            visit, outcome = self.app.visits.open(
                key, request.session_hash or "", session, sender_of(request)
            )
            visit.language = code
            visit.own = self.app.is_own(request)
            updates = {
                "session": visit,
                "visit": gr.HTML(visit_key=visit.key, outcome=outcome),
                **self.page.refresh_load(visit, request),
                **self.library.heads(request),
                **(self._bring_back(visit, request) if outcome == "back" else {}),
                **self.library.look(visit, request),
            }
            # Several of these draw what is above the chat, each only what the one before did not.
            visit.compared_as = None
            return {**updates, **self.compare.compared(visit)}

    def remember(self, slots: Sequence[str], session: Session, *values: Any) -> Updates:
        """Store the visitor's settings."""
        session.settings = dict(zip(slots, values, strict=True))
        return {}

    def leave(self, request: gr.Request) -> None:
        """Keep the visit of a closed page for a while."""
        self.app.visits.leave(request.session_hash or "")

    def forget(self, request: gr.Request) -> Updates:
        """Delete the visit and its files at once."""
        self.app.visits.end(request.session_hash or "")
        return {"visit": gr.HTML(visit_key="", outcome="forgotten")}

    def _bring_back(self, visit: Session, request: gr.Request) -> Updates:
        """Redraw everything of the visit; the canvas then requests what Synthesize would use."""
        updates: Updates = {
            **visit.settings,
            "instruction": visit.instruction,
            **self.prompts.put_back(visit),
            **self.compare.put_back(visit, request),
            **self.batch.put_back(visit, request),
            **rows(visit),
            **self.measure.put_back(visit, request),
            "stages": shown_stages(visit),
        }
        if visit.made is not None:
            updates |= self.adapter.show(visit)
            # `show` draws those of the adapter, and an interrupted run would not be seen.
            updates["stages"] = shown_stages(visit)
        return {**updates, **self.compare.switches(visit)}
