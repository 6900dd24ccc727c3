"""Common parts of all runs: request, stages, Stop, failure and the resulting adapter."""

import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import gradio as gr

from dnd_engine.errors import DndError
from ui.engine_calls import TICK_SECONDS, Done, Ticking
from ui.markup import sentence
from ui.progress import step_words
from ui.shared import App, Updates, broke
from ui.stages import RunKind
from ui.state import Made, Run, Session
from ui.tabs.workbench.adapter.events import (
    AdapterEvents,
    bar,
    checked,
    facts_of,
    offered,
    undoable,
    unjudged,
)
from ui.text import _, drawn, duration

if TYPE_CHECKING:
    from dnd_engine.lora.adapter import Adapter
    from dnd_engine.progress import Progress


class Stopped(Exception):
    """The visitor pressed Stop or requested something else."""


class RunEvents:
    """A visit has one run at a time: a new request stops the running one."""

    def __init__(self, app: App, adapter: AdapterEvents) -> None:
        self._app = app
        self._adapter = adapter

    def stop_run(self, session: Session) -> Updates:
        """Stop at the next step; a queued run never starts."""
        run = session.run
        if run is None or run.stages.ended:
            return {}
        run.stop.set()
        # At once, although the current step still runs: only the first end counts.
        run.stages.finish("stopped")
        return over(session, run)

    def show_run(self, session: Session, kind: RunKind | None = None) -> Updates:
        """Show the resulting adapter, and restore the buttons.

        A separate event, because the cost of each redraw during a run grows with its outputs, and
        these are many.

        Args:
            session: The visit.
            kind: What was carried out before this event. A stopped imprint's must not show the
                synthesis that came after it: what follows that would not wait for it.
        """
        run, made = session.run, session.made
        if run is None or run.shown or not run.stages.ended:
            return {}  # another run was requested meanwhile, and will show this later
        if kind == "imprint" and run.kind != "imprint":
            return {}
        run.shown = True
        before = session.drawn
        # The answer to Stop has restored the buttons. This one may be slow, and would take the next
        # run's Stop away.
        updates = {} if run.stop.is_set() else over(session, run)
        if made is not None and made is not session.drawn:
            shown = self._adapter.show_remixed if run.remixes else self._adapter.show
            updates = {**updates, **shown(session), "stages": shown_stages(session)}
            if session.turns and not session.turns[-1].finished:
                # Its answers draw the panes; arriving late, these would take their place for good.
                del updates["left_pane"], updates["right_pane"]
            if run.kind == "imprint" and before is run.start:
                # It keeps its name, and so what was typed meanwhile to keep it under.
                del updates["keep_name"], updates["keep_texts"]
            if made.settling:
                # The imprint that follows would close *Teach* again.
                updates["teach_open"] = gr.Button(visible=bool(made.buckets), interactive=False)
        elif made is not None and run.kind == "imprint":
            # The checks waited for the imprint. If another adapter was selected meanwhile, the
            # imprinted one is on the shelf.
            updates |= self._adapter.show_unchanged(session)
            updates["stages"] = shown_stages(session)
        elif made is not None and made.inspection is None:
            # The page may still say that they wait for an imprint, which this run has ended.
            updates |= checked(made)
        if run.kind in ("synthesis", "remix") and run.stages.ended == "done":
            updates["inbox"] = {"op": "fold"}
        return updates

    def still_waits(self, session: Session) -> Updates:
        """Show what is ahead of a queued run, and about how long that takes."""
        run = session.run
        if run is None or not self._app.line.still_waits(run):
            return {}
        return {"stages": run.stages.html()}

    def run_broke(self, session: Session) -> Updates:
        """Restore the buttons after an unexpected error."""
        run = session.run
        if run is None:
            return {}
        run.stages.finish("failed", broke())
        return over(session, run)

    def begin(self, session: Session, run: Run) -> Updates:
        """Accept a request: show stages and Stop at once, before the queue."""
        self._app.line.join_instead(session.run, run)
        session.run = run
        box: Updates = {"teach_box": gr.Column(visible=run.kind == "refinement")}
        # Opened or offered again after a remix, it stays where it is.
        return {"stages": run.stages.html(), **({} if run.remixes else box), **_buttons(run.kind)}

    def ordered(self, session: Session, *kinds: RunKind) -> Run | None:
        """Return the requested run that waits to be carried out, if it is of these kinds."""
        run = session.run
        # A stopped run stays in Gradio's queue, and gets its turn.
        return run if run is not None and run.kind in kinds and not run.stages.ended else None

    def carry_out(
        self, session: Session, run: Run, work: Generator[Updates, None, Made], request: gr.Request
    ) -> Iterator[Updates]:
        """Carry out a run and check its result, which becomes the visit's adapter."""
        # Kept here, because an imprint that finds nothing to do replaces the stages of its run.
        stages = run.stages
        try:
            made = yield from work
            stages.left = ""
            stages.enter("check")
            for _tick in self._app.calls.ticking(
                self._adapter.verify(session, made, request), run.stop
            ):
                yield {"stages": stages.html()}
            # Stop ends the ticks early and without an error, so check whether it was pressed.
            if run.stop.is_set():
                raise Stopped
        except GeneratorExit:
            # The page was closed, and with it Gradio's stream.
            stages.interrupt()
            raise
        except Stopped:
            stages.finish("stopped")
        except DndError as error:
            stages.finish("failed", sentence(self._app.error_words(session, error, run.kind)))
        else:
            stages.finish("done")
            if run.kind == "imprint":
                _keep_strength(made, run.start)
            if run.kind == "imprint" and session.made is not run.start:
                # It was not requested explicitly, so it must not replace an adapter selected
                # meanwhile.
                session.shelve(made)
            else:
                session.take(made)
            # Send the main result at once, the rest a round trip later.
            yield {"stages": shown_stages(session), **bar(session), **unjudged(session)}
        # Gradio sends the last item of a stream again when it ends, so it must be the current
        # state, and must not undo a strength that was moved meanwhile.
        yield {"stages": shown_stages(session)}

    def follow(self, run: Run, steps: "Ticking[Adapter]") -> Generator[Updates, None, "Adapter"]:
        """Draw the engine's progress; see `EngineCalls`."""
        adapter: Adapter | None = None
        shown = 0.0
        for step in steps:
            if isinstance(step, Done):
                adapter = step.result
            elif step is not None:
                run.learning |= run.kind == "refinement" and step.stage == "refine"
                # A text with counts needs no progress bar.
                share = step.fraction if step.done is None else None
                run.stages.enter(step.stage, drawn(step_words, step), share)
                run.stages.left = _left_words(step)
            # Drawing takes longer than a short stage, and would delay the next.
            if (now := time.monotonic()) - shown >= TICK_SECONDS:
                shown = now
                yield {"stages": run.stages.html()}
        if adapter is None or run.stop.is_set():
            raise Stopped
        return adapter

    def until_ready(self, run: Run) -> Iterator[Updates]:
        """Wait for the engine, which may still be downloading, with progress in the stages."""
        self._app.calls.start()
        for state in self._app.calls.until_ready(run.stop):
            if state.progress is None:
                run.stages.enter("load")
            else:
                run.stages.enter(
                    "download" if state.progress.stage == "download" else "load",
                    drawn(step_words, state.progress),
                    state.progress.fraction,
                )
            yield {"stages": run.stages.html()}
        if run.stop.is_set():
            raise Stopped


def over(session: Session, run: Run) -> Updates:
    """Restore the buttons."""
    if run.kind == "imprint":
        session.undo_awaits = False
    # `offered` is last: it may show `imprint_now`, which `_buttons` hides.
    return {
        "stages": run.stages.html(),
        **_buttons(None),
        **offered(session),
        # The canvas may have changed during a run, and no remix follows one that failed.
        **({} if session.made is None else {"adapter_facts": facts_of(session)}),
        **({} if session.made is None else undoable(session.made)),
    }


def shown_stages(session: Session) -> str:
    """Return the stages to show: those of the run until it is done, then of the adapter."""
    run, made = session.run, session.made
    if run is not None and run.stages.ended != "done":
        return run.stages.html()
    return made.stages.html() if made is not None and made.stages is not None else ""


def _left_words(progress: "Progress") -> str:
    """Describe the time left; empty if nobody knows it."""
    if progress.seconds_left is None:
        return ""
    return _("about {duration} left", duration=duration(progress.seconds_left))


def _keep_strength(made: Made, before: Made | None) -> None:
    """Keep the earlier adapter's strength, which may have changed during the check."""
    assert before is not None
    if made.adapter.strength != before.adapter.strength:
        made.adapter = made.original.with_strength(before.adapter.strength)
        made.archive = None


def _buttons(running: RunKind | None) -> Updates:
    """Enable the buttons that may be pressed now."""
    making, refining = running in ("synthesis", "remix", "remake"), running == "refinement"
    return {
        # Also while an imprint or a teaching runs, which a new synthesis then stops.
        "synthesize": gr.Button(visible=not making),
        "stop_synthesis": gr.Button(visible=making),
        "stop_imprint": gr.Button(visible=running == "imprint"),
        "imprint_now": gr.Button(visible=False),
        "teach_open": gr.Button(interactive=running is None),
        "undo": gr.Button(interactive=running is None),
        "teach_labels": gr.Checkbox(interactive=running is None),
        "teach_doors": gr.Column(visible=not refining),
        "teach_propose": gr.Button(interactive=running is None),
        "teach_start": gr.Button(visible=not refining),
        "teach_later": gr.Button(visible=not refining),
        # Its label may still be the one that `TeachEvents.stop` sets.
        "teach_stop": gr.Button(_("Stop"), visible=refining, interactive=True),
    }
