"""The page as a whole: loading the engine, the report card, and the end of a visit."""

import gradio as gr

from ui.handlers.base import HandlerBase, Updates
from ui.panels.header import header_html, load_html
from ui.panels.report import card_markdown, groups, report_html
from ui.state import Session
from ui.text import ENGLISH, _, languages, speaking

__all__ = ["PageHandlers"]


class PageHandlers(HandlerBase):
    """Events of the page and its header."""

    def open_page(self, session: Session, code: str) -> Updates:
        """Begin a visit in its page's language; draw what depends on the engine."""
        session.language = code if code in languages() else ENGLISH
        with speaking(session.language):
            return self.refresh_load()

    def refresh_load(self) -> Updates:
        """Redraw the load state; switch the timer off once there is nothing to wait for."""
        state = self._handle.snapshot()
        engine = self._handle.engine
        return {
            "header": header_html(state, engine.info if engine else None),
            "load_box": gr.Row(visible=state.status != "ready"),
            "load": load_html(state),
            "retry": gr.Button(visible=state.status == "failed"),
            "timer": gr.Timer(active=state.status in ("idle", "loading")),
            "left_pane": gr.skip() if engine is None else self._panes(Session())["left_pane"],
        }

    def retry_load(self) -> Updates:
        """Load again after a failure."""
        self._handle.start()
        return self.refresh_load()

    def report(self, group: str | None, metric: str) -> Updates:
        """Show the generator's report card, when its tab opens."""
        engine = self._handle.engine
        if engine is None:
            return {"report_controls": gr.Row(visible=False), "report_card": self._report_card()}
        found = groups(engine.reports)
        keys = [g.key for g in found]
        group = group if group in keys else next(iter(keys), None)
        return {
            "report_controls": gr.Row(visible=bool(found)),
            "report_group": self._report_groups(group),
            "report_all": gr.Accordion(open=not found),
            "report_card": self._report_card(),
            **self.draw_report(group, metric),
        }

    def draw_report(self, group: str | None, metric: str) -> Updates:
        """Draw the chosen part of the report."""
        engine = self._handle.engine
        chosen = [g for g in groups(engine.reports) if g.key == group] if engine else []
        if engine is None or not chosen:
            return {"report": ""}
        report = engine.reports[chosen[0].split]
        sha256 = engine.info.generator_sha256
        return {"report": report_html(report, chosen[0], metric, sha256)}

    def _report_groups(self, chosen: str | None) -> gr.Radio:
        found = groups(self._ready_engine().reports)
        return gr.Radio(choices=[(group.label(), group.key) for group in found], value=chosen)

    def _report_card(self) -> str:
        engine = self._handle.engine
        if engine is None:
            return _("### Not loaded yet\nThe report card appears when the generator is loaded.")
        return card_markdown(engine.card) or _(
            "### No report yet\nThis generator came without a report card. Run `dnd evaluate` to "
            "examine it on unseen tasks; the result appears here."
        )

    def leave(self, request: gr.Request) -> None:
        """Remove the files of a visit that ended."""
        self._files.remove(request.session_hash or "")
