"""Imprint: follows each synthesis by itself, and replaces the adapter that the generator wrote."""

from collections.abc import Generator, Iterator
from dataclasses import replace

import gradio as gr

from dnd_engine.errors import ImprintError
from ui.shared import App, Updates
from ui.stages import Stages
from ui.state import Made, Run, Session
from ui.tabs.workbench.adapter.checks_view import checks_html
from ui.tabs.workbench.adapter.events import facts_of
from ui.tabs.workbench.runs.events import RunEvents, Stopped

__all__ = ["ImprintEvents"]


class ImprintEvents:
    """What follows when a synthesis is done."""

    def __init__(self, app: App, runs: RunEvents) -> None:
        self._app = app
        self._runs = runs

    def begin_imprint(self, session: Session, wanted: bool) -> Updates:
        """Order it for what was just synthesized; nothing, if no adapter came of that."""
        run, made = session.run, session.made
        if not wanted or run is None or made is None:
            return {}
        if made.original.is_imprinted:
            return {}  # without a generator, the synthesis was an imprint
        if run.kind not in ("synthesis", "remix") or made.stages is not run.stages:
            return {}  # stopped, failed, or another was ordered meanwhile
        stages = Stages(("wait", "ask", "imprint", "check"), "imprint")
        following = Run("imprint", stages, made.buckets, made, question=run.question)
        updates = self._runs.begin(session, following)
        # Measured once, when it is known which adapter it will be.
        return {**updates, "checks": checks_html("waiting")}

    def imprint(self, session: Session, request: gr.Request) -> Iterator[Updates]:
        """Imprint step by step; the generator's adapter stays until all is done."""
        run = self._runs.ordered(session, "imprint")
        if run is None:
            return
        work = self._imprinting(session, run)
        yield from self._runs.carry_out(session, run, work, request.session_hash or "")

    def _imprinting(self, session: Session, run: Run) -> Generator[Updates, None, Made]:
        before = run.start
        assert before is not None
        run.stages.enter("ask")
        yield {"stages": run.stages.html()}
        seed = before.original.provenance["seed"]
        steps = self._app.calls.imprint(
            before.original, run.buckets, seed, session.memory, run.stop
        )
        try:
            adapter = yield from self._runs.follow(run, steps)
        except ImprintError as error:
            # Not a failure: these prompts leave nothing to imprint. The adapter says why.
            before.original = replace(before.original, not_imprinted=str(error))
            before.adapter = before.original.with_strength(before.adapter.strength)
            assert before.stages is not None
            run.stages = before.stages
            if session.made is before:
                yield {"adapter_facts": facts_of(session)}
            raise Stopped from error
        return Made(
            original=adapter,
            adapter=adapter.with_strength(before.adapter.strength),
            made_from=before.made_from,
            buckets=run.buckets,
            stages=run.stages,
            before=before,
        )
