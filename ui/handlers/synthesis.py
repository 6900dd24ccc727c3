"""Synthesis: prompts in, adapter out."""

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from dnd_engine.config import Mix
from dnd_engine.prompts.buckets import Bucket, check_buckets
from ui.canvas import Arrangement
from ui.engine_thread import TICK_SECONDS
from ui.handlers.base import Updates, fingerprint, told, used_words
from ui.handlers.runs import RunHandlers, Stopped
from ui.progress import step_words
from ui.spaces import gpu
from ui.stages import RunKind, Stages
from ui.state import Made, Run, Session
from ui.text import drawn

if TYPE_CHECKING:
    from dnd_engine.models.encoder import PromptMemory

__all__ = ["SynthesisHandlers"]


class SynthesisHandlers(RunHandlers):
    """Events of the action bar."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # On ZeroGPU it runs in a worker, which has the engine by fork: never as an argument.
        self._synthesis_steps = gpu(self._synthesis_steps_here)

    def begin_synthesis(
        self, arrangement: Arrangement, session: Session, *, kind: RunKind = "synthesis"
    ) -> Updates:
        """Take the order for what lies on the canvas now; a remix has read it before."""
        stages = Stages(("wait", "read", "encode", "decode", "check"), kind)
        buckets = tuple(self._buckets(arrangement, session))
        return self._begin(session, Run(kind, stages, buckets))

    def synthesize(
        self, session: Session, mix: Mix, seed: float, request: gr.Request
    ) -> Iterator[Updates]:
        """Make the adapter, stage by stage."""
        run = self._ordered(session, "synthesis", "remix")
        if run is None:
            return
        work = self._synthesis(session, run, mix, int(seed or 0))
        yield from self._carry_out(session, run, work, request.session_hash or "")

    def _synthesis(
        self, session: Session, run: Run, mix: Mix, seed: int
    ) -> Generator[Updates, None, Made]:
        stages = run.stages
        yield from self._wait_for_engine(run)
        stages.enter("read")
        buckets = check_buckets(run.buckets, self._limits)
        stages.enter("read", drawn(used_words, buckets, 0))
        if session.memory is None:
            session.memory = self._ready_engine().new_memory()
        steps = self._synthesis_steps(buckets, mix, seed, session.memory)
        adapter = yield from self._follow(run, steps)
        return Made(
            original=adapter,
            adapter=adapter,
            made_from=fingerprint(run.buckets),
            buckets=buckets,
            stages=stages,
        )

    def _wait_for_engine(self, run: Run) -> Iterator[Updates]:
        stages = run.stages
        self._handle.start()
        while True:
            if run.stop.is_set():
                raise Stopped
            if self._handle.wait(TICK_SECONDS) is not None:
                return
            state = self._handle.snapshot()
            if state.progress is None:
                stages.enter("load")
            else:
                stages.enter(
                    "download" if state.progress.stage == "download" else "load",
                    drawn(step_words, state.progress),
                    state.progress.fraction,
                )
            yield {"stages": stages.html()}

    def _synthesis_steps_here(
        self, buckets: tuple[Bucket, ...], mix: Mix, seed: int, memory: "PromptMemory"
    ) -> Iterator[tuple[str, Any]]:
        engine = self._ready_engine()
        yield from told(engine.synthesize(buckets, mix=mix, seed=seed, memory=memory))
