"""The page as a whole: loading the engine, the report card, and the end of a visit."""

import gradio as gr

from dnd_engine.errors import GeneratorError
from dnd_engine.evaluation.pictures import Metric
from ui.handlers.base import HandlerBase, Updates
from ui.panels.header import header_html, load_html
from ui.panels.report import card_markdown, groups, report_html, unreadable_html
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

    def report(self, group: str | None, metric: Metric) -> Updates:
        """Show the generator's report card, when its tab opens."""
        engine = self._handle.engine
        if engine is None:
            return {"report_controls": gr.Row(visible=False), "report_card": self._report_card()}
        card = {"report_card": self._report_card()}
        try:
            reports = engine.reports
        except GeneratorError as error:
            return {
                "report_controls": gr.Row(visible=False),
                "report": unreadable_html(str(error)),
                "report_all": gr.Accordion(open=True),
                **card,
            }
        keys = [g.key for g in groups(reports)]
        group = group if group in keys else next(iter(keys), None)
        return {
            "report_controls": gr.Row(visible=bool(keys)),
            "report_group": self._report_groups(group),
            "report_all": gr.Accordion(open=not keys),
            **card,
            **self.draw_report(group, metric),
        }

    def draw_report(self, group: str | None, metric: Metric) -> Updates:
        """Draw the chosen part of the report."""
        engine = self._handle.engine
        reports = engine.reports if engine else {}
        chosen = next((g for g in groups(reports) if g.key == group), None)
        if engine is None or chosen is None:
            return {"report": ""}
        sha256 = engine.info.generator_sha256
        return {"report": report_html(reports[chosen.split], chosen, metric, sha256)}

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
