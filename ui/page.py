"""Connects components to handlers by the names of their slots; see `ui.panel`."""

import functools
import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from ui.engine_calls import LANES
from ui.handlers import Handlers
from ui.language import language_of
from ui.panel import SlotError
from ui.server.visitors import sender_of
from ui.shared import Updates
from ui.state import Session
from ui.text import _, speaking
from ui.visits import Visits

_QUIET: Mapping[str, Any] = {
    # Gradio would dim all outputs while an event runs.
    "show_progress": "hidden",
    # Hidden or not, at each message of any event Gradio's page sets the status of every component
    # that ever was an output, and reads the values of everything inside. With nothing to set it on,
    # a step of a run costs the browser a fraction.
    "show_progress_on": (),
    "api_visibility": "private",
}
AT_ONCE: Mapping[str, Any] = {**_QUIET, "queue": False}
"""Outside of the queue, so that Stop is answered while a run has its lane."""

Event = Callable[..., Any] | Sequence[Callable[..., Any]]
"""What starts a handler, such as `button.click` or `work.then`, or any of several."""
_Handler = Callable[..., Any]
_Inputs = Component | Sequence[Component]
_SENT = "_sent"
"""Parameter for the request that `by_slot` adds to those of a handler."""


class UnlistedSlotError(SlotError):
    """A handler updated a slot that its event does not list: a bug."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The laid-out page, for wiring its parts."""

    demo: gr.Blocks
    on: Handlers
    session: gr.State
    slots: Mapping[str, Block]
    """Components that handlers can update, by name."""

    def at_once(
        self, event: Event, handler: _Handler, slots: str, inputs: _Inputs = (), **how: Any
    ) -> Any:
        """Run a handler as soon as an event happens, outside of the queue.

        The handler takes the values of the inputs and returns new ones by slot. `slots` names those
        that it may update, separated by spaces. Gradio drops what a handler says with `gr.Info` and
        `gr.Warning` there.
        """
        return self._wire(event, handler, slots, inputs, **AT_ONCE, **how)

    def then_at_once(self, work: Any, handler: _Handler, slots: str, inputs: _Inputs = ()) -> Any:
        """Run a handler outside of the queue each time that work has ended."""
        return self.at_once(work.then, handler, slots, inputs, trigger_mode="multiple")

    def queued(
        self,
        event: Event,
        handler: _Handler,
        slots: str,
        inputs: _Inputs = (),
        *,
        lane: str = "",
        **how: Any,
    ) -> Any:
        """Run a handler in the queue, in a lane of `engine_calls.LANES` if it needs one."""
        lanes = LANES[lane] if lane else {}
        return self._wire(event, handler, slots, inputs, **_QUIET, **lanes, **how)

    def then_queued(
        self, order: Any, handler: _Handler, slots: str, inputs: _Inputs, *, lane: str
    ) -> Any:
        """Carry out in the queue what was ordered.

        An order right after Stop waits until the earlier work ends, and is not dropped.
        """
        return self.queued(
            order.then, handler, slots, inputs, lane=lane, trigger_mode="always_last"
        )

    def _wire(
        self, event: Event, handler: _Handler, slots: str, inputs: _Inputs, **how: Any
    ) -> Any:
        chosen = {name: self.slots[name] for name in slots.split()}  # removes duplicates
        taken = [inputs] if isinstance(inputs, Component) else inputs
        events = event if isinstance(event, Sequence) else [event]
        # By default Gradio drops what is chosen or typed while an earlier answer is on its way.
        if any(getattr(one, "event_name", "") == "input" for one in events):
            how = {"trigger_mode": "always_last", **how}
        start = functools.partial(gr.on, event) if isinstance(event, Sequence) else event
        return start(
            fn=by_slot(handler, chosen, self.on.app.visits),
            # Handlers run in the visit's language, so the visit is an input of every event.
            inputs=[self.session, *taken],
            outputs=list(chosen.values()),
            **how,
        )


def by_slot(
    handler: Callable[..., Any], slots: Mapping[str, Block], visits: Visits
) -> Callable[..., Any]:
    """Adapt a handler that returns slot -> value to Gradio's list of outputs.

    The function takes the visit and the request before the handler's own arguments, gives the
    handler the visit of the page, which `visits` know, and runs it in its language. Other slots
    keep their values. It raises `UnlistedSlotError` if the handler updates an unlisted one.
    """
    names = tuple(slots)

    def spread(updates: Updates) -> Any:
        if unlisted := updates.keys() - slots.keys():
            raise UnlistedSlotError(
                f"`{function.__qualname__}` updates {', '.join(sorted(unlisted))}, which its event "
                f"does not list. Add it to the event, or leave it out. Listed: {', '.join(names)}."
            )
        values = [updates.get(name, gr.skip()) for name in names]
        # Gradio takes one output as a bare value.
        return values[0] if len(values) == 1 else values

    # Gradio inspects the signature, to pass the request.
    function = handler.func if isinstance(handler, functools.partial) else handler
    signature = inspect.signature(handler)
    first = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in ("visit", _SENT)
    ]
    signature = signature.replace(parameters=[*first, *signature.parameters.values()])

    def shown(given: Session, sent: gr.Request, args: Sequence[Any]) -> tuple[Session, list[Any]]:
        visit = visits.of_page(given, sent.session_hash or "", sender_of(sent))
        return visit, [visit if arg is given else arg for arg in args]

    def stream(given: Session, sent: gr.Request, *taken: Any, **kwargs: Any) -> Iterator[Any]:
        silent = True
        visit, args = shown(given, sent, taken)
        if not _may_go_on(visit, sent, args):
            yield spread({})
            return
        # A closed page closes this stream, which must end the handler's work at once.
        with closing(handler(*args, **kwargs)) as steps:
            while True:
                # At each step, because the language may change, and each step may run in its own
                # context.
                with speaking(visit.language):
                    updates = next(steps, None)
                if updates is None:
                    break
                silent = False
                yield spread(updates)
        if silent:
            yield spread({})  # Gradio clears every output of a generator that yields nothing

    def call(given: Session, sent: gr.Request, *taken: Any, **kwargs: Any) -> Any:
        visit, args = shown(given, sent, taken)
        if not _may_go_on(visit, sent, args):
            return spread({})
        with speaking(visit.language):
            return spread(handler(*args, **kwargs))

    adapted: Any = stream if inspect.isgeneratorfunction(function) else call
    functools.update_wrapper(adapted, function)
    adapted.__signature__ = signature
    adapted.__annotations__ = {**adapted.__annotations__, _SENT: gr.Request}
    adapted.slots = names
    return adapted  # type: ignore[no-any-return]  # `Any`, since functions take any attribute


def _may_go_on(visit: Session, sent: gr.Request, args: Sequence[Any]) -> bool:
    """Return whether a page may still change its visit; handlers without one may always run.

    Raises:
        gr.Error: If the visit was deleted. For one that moved to another tab, the page itself shows
        that.
    """
    # Every event of a page keeps its visit alive.
    visit.used = time.monotonic()
    if not visit.over or not any(arg is visit for arg in args):
        return True
    if visit.over == "ended":
        assert sent.request is not None, "an event without a request"
        # What is left of the visit has forgotten its own.
        with speaking(language_of(sent.request)):
            raise gr.Error(_("This visit has ended. Reload the page to begin a new one."))
    return False
