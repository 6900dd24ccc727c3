"""Imprint: follows each synthesis, and replaces the generated adapter."""

from collections.abc import Generator, Iterator
from dataclasses import replace

import gradio as gr

from dnd_engine.errors import ImprintError
from ui.shared import App, Updates
from ui.stages import Stages
from ui.state import Made, Run, Session
from ui.tabs.workbench.adapter.events import awaits_imprint, facts_of, offered, undoable
from ui.tabs.workbench.runs.events import RunEvents, Stopped


class ImprintEvents:
    """Events of the imprint, which follows a synthesis or is requested later."""

    def __init__(self, app: App, runs: RunEvents) -> None:
        self._app = app
        self._runs = runs

    def begin_imprint(self, session: Session, wanted: bool) -> Updates:
        """Request an imprint of the adapter that was just synthesized, if there is one."""
        run, made = session.run, session.made
        if run is None or made is None:
            return {}
        if run.kind in ("synthesis", "remix") and run.stages.ended == "done" and not run.shown:
            # This event follows an earlier run, that was stopped. The one of this run comes once
            # its adapter is shown, which an imprint that begins now would prevent.
            return {}
        # Whatever happens next, the page may offer an imprint from now on, also of an adapter that
        # another one has replaced in the bar meanwhile.
        for one in (made, *session.shelf):
            if one is made or one.stages is run.stages:
                one.settling = False
        teachable: Updates = {"teach_open": gr.Button(interactive=not session.is_busy)}
        if made.original.is_imprinted:
            return teachable  # without a generator, the synthesis was already an imprint
        if run.kind not in ("synthesis", "remix") or made.stages is not run.stages:
            return teachable  # stopped, failed, or another was requested meanwhile
        if not wanted:
            return {**teachable, **offered(session), **undoable(made)}
        begun = self._begin(session, made, run.question, remixes=run.remixes)
        return {**begun, **awaits_imprint()}

    def order(self, session: Session) -> Updates:
        """Request an imprint of the adapter in the bar that was stopped, undone or disabled."""
        made = session.made
        if made is None or not made.can_be_imprinted:
            return {}
        return self._begin(session, made, "")

    def _begin(
        self, session: Session, made: Made, question: str, *, remixes: bool = False
    ) -> Updates:
        stages = Stages(("wait", "ask", "imprint", "check"), "imprint", in_one_line=remixes)
        run = Run("imprint", stages, made.buckets, made, question=question, remixes=remixes)
        return self._runs.begin(session, run)

    def imprint(self, session: Session, request: gr.Request) -> Iterator[Updates]:
        """Imprint step by step; the generated adapter stays until all is done."""
        run = self._runs.ordered(session, "imprint")
        if run is None:
            return
        work = self._imprinting(session, run)
        yield from self._runs.carry_out(session, run, work, request)

    def _imprinting(self, session: Session, run: Run) -> Generator[Updates, None, Made]:
        before = run.start
        assert before is not None
        run.stages.enter("ask")
        yield {"stages": run.stages.html()}
        # Not the page's seed, which may have changed since the synthesis.
        seed = before.original.provenance["seed"]
        steps = self._app.calls.imprint(
            before.original, run.buckets, seed, session.memory, run.stop
        )
        try:
            adapter = yield from self._runs.follow(run, steps)
        except ImprintError as error:
            # Not a failure: these prompts have nothing to imprint. The adapter says why.
            before.original = replace(before.original, not_imprinted=str(error))
            before.adapter = before.original.with_strength(before.adapter.strength)
            # The page goes back to how the adapter was made, and shows no run that was stopped. One
            # from the library was not made here.
            run.stages = before.stages or Stages((), ended="done")
            if session.made is before:
                yield {"adapter_facts": facts_of(session)}
            raise Stopped from error
        return Made(
            original=adapter,
            # The visitor may have moved the slider while the generated adapter was in the bar.
            adapter=adapter.with_strength(before.adapter.strength),
            made_from=before.made_from,
            buckets=run.buckets,
            stages=run.stages,
            before=before,
        )
