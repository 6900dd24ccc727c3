"""The page as a whole: loading the engine, the report card, and the end of a visit."""

import gradio as gr

from ui.handlers.base import HandlerBase, Updates
from ui.panels.header import header_html, load_html
from ui.panels.report import report_markdown
from ui.state import Session

__all__ = ["PageHandlers"]


class PageHandlers(HandlerBase):
    """Events of the page and its header."""

    def open_page(self) -> Updates:
        """Draw what depends on the engine, when a page opens."""
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
            "base_pane": gr.skip() if engine is None else self._panes(Session())["base_pane"],
        }

    def retry_load(self) -> Updates:
        """Load again after a failure."""
        self._handle.start()
        return self.refresh_load()

    def report(self) -> Updates:
        """Read the generator's report card."""
        engine = self._handle.engine
        return {"report": report_markdown(engine.info.generator_path if engine else None)}

    def leave(self, request: gr.Request) -> None:
        """Remove the files of a visit that ended."""
        self._files.remove(request.session_hash or "")
