"""The queue of runs, in order of request, with estimates of their duration.

The page shows this to waiting visitors and refreshes it each second. Estimates are means of recent
runs on this server; without any, none is given.
"""

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ui.engine_calls import Stop
from ui.stages import RunKind, Stages
from ui.text import _, drawn, ngettext, number

LANE_OF: Mapping[RunKind, str] = {
    "synthesis": "engine",
    "remix": "engine",
    "imprint": "imprint",
    "remake": "refine",
    "refinement": "refine",
    "measurement": "measure",
    "training": "measure",
}
"""Lane of the queue (`engine_calls.LANES`) by kind of run, for its events and its estimates."""

_REMEMBERED = 8
"""Number of recent runs of a kind in an estimate."""

_FORGOTTEN_SECONDS = 120.0
"""Time after which a waiting run whose page no longer asks is abandoned: the page was closed.

A page asks each second, and one in the background at least each minute.
"""


@dataclass(slots=True)
class _Place:
    """Place of a run in the queue."""

    run: Stages
    asked: float = 0.0
    """Age of the run in seconds when its page last asked."""


class Order(Protocol):
    """A requested run, of the Workbench or of Measure."""

    stages: Stages
    stop: Stop


class Line:
    """The unfinished runs of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: list[_Place] = []
        self._took: dict[RunKind, deque[float]] = {}

    def join(self, run: Stages) -> str:
        """Queue a run, and describe what is ahead of it; empty if nothing is."""
        with self._lock:
            self._places.append(_Place(run))
        return self.ahead_of(run)

    def join_instead(self, earlier: Order | None, order: Order) -> None:
        """Queue a run in place of the visit's earlier one, which stops, and show it as waiting."""
        if earlier is not None:
            earlier.stop.set()
            earlier.stages.finish("stopped")  # if it is queued, nothing else would end it
        order.stages.enter("wait", self.join(order.stages))

    def still_waits(self, order: Order) -> bool:
        """Return whether a run is queued, and show what is ahead of it now."""
        if not order.stages.waits:
            return False
        order.stages.wait(self.ahead_of(order.stages))
        return True

    def ahead_of(self, run: Stages) -> str:
        """Describe what is ahead of a run now; empty if nothing is."""
        with self._lock:
            self._leave_ended()
            index = next((i for i, place in enumerate(self._places) if place.run is run), None)
            # It ended or was forgotten: everybody else would count as ahead of it.
            if index is None:
                return ""
            self._places[index].asked = run.elapsed
            before = [place.run for place in self._places[:index]]
            lane = LANE_OF[run.kind]
            left = [self._left(other) for other in before if LANE_OF[other.kind] == lane]
        if not left:
            return ""
        # One unknown run makes the sum a guess, so none is given.
        seconds = None if None in left else sum(value for value in left if value is not None)
        return drawn(_ahead_words, len(left), seconds)

    def _leave_ended(self) -> None:
        waiting = []
        for place in self._places:
            run = place.run
            if run.ended == "done":
                self._took.setdefault(run.kind, deque(maxlen=_REMEMBERED)).append(run.worked)
            # A run that works is not forgotten, however long it takes.
            elif not run.ended and (run.worked or run.elapsed - place.asked < _FORGOTTEN_SECONDS):
                waiting.append(place)
        self._places = waiting

    def _left(self, run: Stages) -> float | None:
        """Return the estimated seconds left of a run; None without measurements of its kind."""
        took = self._took.get(run.kind)
        return max(0.0, sum(took) / len(took) - run.worked) if took else None


def _ahead_words(num_ahead: int, seconds: float | None) -> str:
    words = ngettext("{number} ahead of you", "{number} ahead of you", num_ahead)
    if seconds is None:
        return words
    return _("{ahead}, about {seconds} s", ahead=words, seconds=number(max(1, round(seconds))))
