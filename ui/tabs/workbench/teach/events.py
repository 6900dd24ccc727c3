"""Refine: the adapter in the bar is trained a little on the prompts it was made from; and Undo."""

from collections.abc import Generator, Iterator

import gradio as gr

from ui.shared import App, Updates
from ui.stages import Stages
from ui.state import Made, Run, Session
from ui.tabs.workbench.adapter.events import AdapterEvents
from ui.tabs.workbench.runs.events import RunEvents

__all__ = ["TeachEvents"]


class TeachEvents:
    """Events of the offer to refine, and Undo."""

    def __init__(self, app: App, adapter: AdapterEvents, runs: RunEvents) -> None:
        self._app = app
        self._adapter = adapter
        self._runs = runs

    def open(self) -> Updates:
        """Show the offer."""
        return {"teach_box": gr.Row(visible=True)}

    def close(self) -> Updates:
        """Put the offer away."""
        return {"teach_box": gr.Row(visible=False)}

    def begin(self, session: Session, labels: bool) -> Updates:
        """Take the order for the adapter that is in the bar now."""
        made = session.made
        if made is None:
            return {}
        keys = ("wait", "refine", "check") if labels else ("wait", "ask", "refine", "check")
        stages = Stages(keys, "refinement")
        return self._runs.begin(session, Run("refinement", stages, made.buckets, made, labels))

    def teach(self, session: Session, request: gr.Request) -> Iterator[Updates]:
        """Train the adapter, step by step; the one before stays until all is done."""
        run = self._runs.ordered(session, "refinement")
        if run is None:
            return
        yield from self._runs.carry_out(
            session, run, self._refinement(run), request.session_hash or ""
        )

    def undo(self, session: Session) -> Updates:
        """Go back to the adapter before, as it was; nothing is computed again."""
        made = session.made
        if made is None or made.before is None:
            return {}
        session.made = made.before
        if session.beside is made.before:
            session.beside = None
        return self._adapter.show(session)

    def _refinement(self, run: Run) -> Generator[Updates, None, Made]:
        before = run.start
        assert before is not None
        run.stages.enter("refine" if run.labels else "ask")
        yield {"stages": run.stages.html()}
        steps = self._app.calls.refine(before.adapter, run.buckets, run.labels, run.stop)
        adapter = yield from self._runs.follow(run, steps)
        return Made(
            original=adapter,
            adapter=adapter,
            made_from=before.made_from,
            buckets=run.buckets,
            stages=run.stages,
            before=before,
        )
