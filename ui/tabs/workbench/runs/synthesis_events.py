"""Synthesis: prompts in, adapter out."""

from collections.abc import Generator, Iterator

import gradio as gr

from dnd_engine.config import Mix
from dnd_engine.prompts.buckets import check_buckets
from ui.canvas import Arrangement
from ui.shared import App, Updates, fingerprint, used_words
from ui.stages import RunKind, Stages
from ui.state import Made, Run, Session
from ui.tabs.workbench.adapter.events import facts_of
from ui.tabs.workbench.prompts.events import buckets_on
from ui.tabs.workbench.runs.events import RunEvents
from ui.text import drawn


class SynthesisEvents:
    """Events of the action bar."""

    def __init__(self, app: App, runs: RunEvents) -> None:
        self._app = app
        self._runs = runs

    def begin_remix(self, arrangement: Arrangement, session: Session) -> Updates:
        """Remix at once, unless that would take away what teaching has made, or end it."""
        if session.made is not None and session.made.adapter.was_trained:
            return {}
        run = session.run if session.is_busy else None
        if run is not None and run.kind in ("refinement", "remake"):
            # No remix will fit the adapter to the canvas.
            return {} if session.made is None else {"adapter_facts": facts_of(session)}
        return self.begin_synthesis(arrangement, session, kind="remix")

    def begin_synthesis(
        self, arrangement: Arrangement, session: Session, *, kind: RunKind = "synthesis"
    ) -> Updates:
        """Accept a request for the current canvas; a remix has read it before."""
        remixes = kind == "remix"
        stages = Stages(("wait", "read", "encode", "decode", "check"), kind, in_one_line=remixes)
        # As of now: the canvas may change while the run is queued.
        buckets = tuple(buckets_on(arrangement, session))
        # The event that reads the canvas may come later, and the new adapter would look outdated.
        session.canvas_fingerprint = fingerprint(buckets)
        return self._runs.begin(session, Run(kind, stages, buckets, remixes=remixes))

    def begin_shown(self, arrangement: Arrangement, session: Session) -> Updates:
        """Accept Show me's request; its question belongs to this run.

        Events of a stopped run still fire one after another, and must not use the question.
        """
        updates = self.begin_synthesis(arrangement, session)
        assert session.run is not None
        session.run.question, session.to_show = session.to_show, ""
        return updates

    def synthesize(
        self, session: Session, mix: Mix, seed: float, request: gr.Request
    ) -> Iterator[Updates]:
        """Make the adapter, stage by stage."""
        run = self._runs.ordered(session, "synthesis", "remix")
        if run is None:
            return
        # An empty seed field gives None.
        work = self._synthesis(session, run, mix, int(seed or 0))
        yield from self._runs.carry_out(session, run, work, request)

    def _synthesis(
        self, session: Session, run: Run, mix: Mix, seed: int
    ) -> Generator[Updates, None, Made]:
        stages = run.stages
        yield from self._runs.until_ready(run)
        if not self._app.calls.ready().info.has_generator:
            # Without a generator, an imprint alone makes the adapter.
            stages.announce("read", "ask", "imprint", "check")
        stages.enter("read")
        # Checked again, because a disabled button stops only a browser.
        buckets = check_buckets(run.buckets, self._app.limits)
        stages.enter("read", drawn(used_words, buckets, 0))
        if session.memory is None:
            session.memory = self._app.calls.ready().new_memory()
        steps = self._app.calls.synthesize(buckets, mix, seed, session.memory, run.stop)
        adapter = yield from self._runs.follow(run, steps)
        return Made(
            original=adapter,
            adapter=adapter,
            made_from=fingerprint(run.buckets),
            buckets=buckets,
            stages=stages,
            settling=True,
        )
