"""Refine: the adapter in the bar is trained a little on the prompts it was made from; and Undo."""

from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from dnd_engine.config import RefineConfig
from dnd_engine.prompts.buckets import Bucket
from ui.handlers.base import Updates, told
from ui.handlers.runs import RunHandlers
from ui.spaces import gpu
from ui.stages import Stages
from ui.state import Made, Run, Session

if TYPE_CHECKING:
    from dnd_engine.lora.adapter import Adapter

__all__ = ["GPU_SECONDS", "RefineHandlers"]

GPU_SECONDS = 90
"""Of a borrowed GPU, at most; see `spaces`."""


class RefineHandlers(RunHandlers):
    """Events of the offer to refine, and Undo."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._refine_steps = gpu(self._refine_steps_here, GPU_SECONDS)

    def open_refine(self) -> Updates:
        """Show the offer."""
        return {"refine_box": gr.Row(visible=True)}

    def close_refine(self) -> Updates:
        """Put the offer away."""
        return {"refine_box": gr.Row(visible=False)}

    def begin_refine(self, session: Session, labels: bool) -> Updates:
        """Take the order for the adapter that is in the bar now."""
        made = session.made
        if made is None:
            return {}
        keys = ("wait", "refine", "check") if labels else ("wait", "ask", "refine", "check")
        stages = Stages(keys, "refinement")
        return self._begin(session, Run("refinement", stages, made.buckets, made, labels))

    def refine(self, session: Session, request: gr.Request) -> Iterator[Updates]:
        """Train the adapter, step by step; the one before stays until all is done."""
        run = self._ordered(session, "refinement")
        if run is None:
            return
        yield from self._carry_out(session, run, self._refinement(run), request.session_hash or "")

    def undo(self, session: Session) -> Updates:
        """Go back to the adapter before, as it was; nothing is computed again."""
        made = session.made
        if made is None or made.before is None:
            return {}
        session.made = made.before
        if session.beside is made.before:
            session.beside = None
        return self._show(session)

    def _refinement(self, run: Run) -> Generator[Updates, None, Made]:
        before = run.start
        assert before is not None
        run.stages.enter("refine" if run.labels else "ask")
        yield {"stages": run.stages.html()}
        steps = self._refine_steps(before.adapter, run.buckets, run.labels)
        adapter = yield from self._follow(run, steps)
        return Made(
            original=adapter,
            adapter=adapter,
            made_from=before.made_from,
            buckets=run.buckets,
            stages=run.stages,
            before=before,
        )

    def _refine_steps_here(
        self, adapter: "Adapter", buckets: Sequence[Bucket], labels: bool
    ) -> Iterator[tuple[str, Any]]:
        config = RefineConfig(labels=labels)
        yield from told(self._ready_engine().refine(adapter, buckets, config))
