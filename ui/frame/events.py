"""Events of the header: the state of loading."""

import gradio as gr

from ui.frame.view import header_html, load_html
from ui.shared import App, Updates
from ui.state import Session
from ui.tabs.workbench.compare.events import CompareEvents


class PageEvents:
    """Events of the header."""

    def __init__(self, app: App, compare: CompareEvents) -> None:
        self._app = app
        self._compare = compare

    def refresh_load(self, session: Session, request: gr.Request) -> Updates:
        """Redraw the state of loading; stop the timer once there is nothing to wait for."""
        state = self._app.calls.load_state()
        engine = self._app.calls.engine
        return {
            "header": header_html(
                state, engine.info if engine else None, can_choose=self._app.is_own(request)
            ),
            "load_box": gr.Row(visible=state.status != "ready"),
            "load": load_html(state),
            "retry": gr.Button(visible=state.status == "failed"),
            "timer": gr.Timer(active=state.status in ("idle", "loading")),
            # Its title has the base's hash, which is not known before.
            "left_pane": gr.skip() if engine is None else self._compare.panes(session)["left_pane"],
        }

    def retry_load(self, session: Session, request: gr.Request) -> Updates:
        """Retry loading after a failure."""
        self._app.calls.start()
        return self.refresh_load(session, request)
