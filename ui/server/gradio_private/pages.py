"""Open pages: how many there are, and when one is dropped."""

import time
from collections.abc import Callable
from http import HTTPStatus
from types import SimpleNamespace

import gradio as gr
from fastapi import HTTPException
from gradio.state_holder import SessionState, StateHolder

from dnd_engine.limits import ServerLimits
from ui.server.shares import Share
from ui.server.visitors import MAX_ID_CHARS, unfit_id


class Page(SessionState):
    """The server's state of one open page."""

    used: float
    """Time of its last request."""

    def __init__(self, blocks: gr.Blocks) -> None:
        # Gradio copies the configuration of every component, .7 MB per visitor, and that of one
        # again whenever it changes. The copies are for links that restore a page, and the gate
        # closes those. So the first are of no component here, and the others are empty.
        none = SimpleNamespace(default_config=blocks.default_config, blocks={})
        super().__init__(none)  # type: ignore[arg-type]
        self.blocks_config.config_for_block = lambda *_: {}  # type: ignore[method-assign]


class Pages(StateHolder):
    """The open pages, limited in number, and dropped soon after their tab was closed.

    Gradio's own holder keeps 10,000 pages, open or closed, until others need their place.
    """

    def __init__(
        self,
        blocks: gr.Blocks,
        limits: ServerLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Gradio's
        self.set_blocks(blocks)
        self._limits, self._clock = limits, clock
        self.attended = Share()
        """Connections of browsers, by page."""

    def __getitem__(self, session_id: str) -> SessionState:
        """Return the page of a session; a new one may replace the least recently used."""
        page = self.session_data.get(session_id)
        if page is None:
            if len(session_id) > MAX_ID_CHARS:
                raise HTTPException(HTTPStatus.BAD_REQUEST, unfit_id())
            while len(self.session_data) >= self._limits.sessions:
                self._drop(min(self.session_data, key=self._missed))
            page = self.session_data[session_id] = Page(self.blocks)
        assert isinstance(page, Page)
        page.used = self._clock()
        return page

    def gauges(self) -> dict[str, float]:
        """Return the numbers of pages, and of connected ones."""
        return {"pages": len(self.session_data), "pages_connected": len(self.attended.amounts)}

    def delete_all_expired_state(self) -> None:
        """Drop pages that were closed or unused for long. Gradio calls this every second."""
        now = self._clock()
        # A copy, because `_drop` removes entries.
        for session_id, page in list(self.session_data.items()):
            assert isinstance(page, Page)
            # Gradio sets `is_closed` when a connection ends; a page that lost it makes another.
            closed = page.is_closed and session_id not in self.attended.amounts
            most = self._limits.closed_seconds if closed else self._limits.session_seconds
            if now - page.used > most:
                self._drop(session_id)

    def _missed(self, session_id: str) -> tuple[bool, float]:
        """Sort key of dropping pages: disconnected ones first, then the least recently used."""
        page = self.session_data[session_id]
        assert isinstance(page, Page)
        return session_id in self.attended.amounts, page.used

    def _drop(self, session_id: str) -> None:
        self.delete_state(session_id)  # also removes its files
        del self.session_data[session_id]
