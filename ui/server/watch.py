"""Counters of the server in Prometheus's format, without data about visitors."""

import logging
from collections import Counter
from collections.abc import Mapping

from ui.faults import LOST_DEVICE


class Counters:
    """Totals since the start. Not thread-safe: for the thread of the server's event loop."""

    def __init__(self) -> None:
        self.answers: Counter[int] = Counter()
        """Number of answers by HTTP status."""
        self.faults = 0
        self.lost_device = False
        """Whether an error occurred that only a new process recovers from."""

    def numbers(self) -> dict[str, float]:
        """Return all counters by name."""
        answers = {f"answers_{status}": count for status, count in sorted(self.answers.items())}
        return {**answers, "faults": self.faults}

    def text(self, gauges: Mapping[str, float]) -> str:
        """Return all counters in Prometheus's text format.

        Args:
            gauges: Current values by name.
        """
        lines = ["# TYPE dnd_answers_total counter"]
        lines += [
            f'dnd_answers_total{{status="{status}"}} {count}'
            for status, count in sorted(self.answers.items())
        ]
        lines += ["# TYPE dnd_faults_total counter", f"dnd_faults_total {self.faults}"]
        for name, value in gauges.items():
            lines += [f"# TYPE dnd_{name} gauge", f"dnd_{name} {value:g}"]
        return "\n".join(lines) + "\n"


class FaultCounter(logging.Handler):
    """Counts the errors that `ui.faults` logs."""

    def __init__(self, counters: Counters) -> None:
        super().__init__(logging.ERROR)
        self._counters = counters

    def emit(self, record: logging.LogRecord) -> None:
        """Count one error."""
        # `logging` holds the handler's lock here, so any thread may report an error.
        self._counters.faults += 1
        if getattr(record, LOST_DEVICE, False):
            self._counters.lost_device = True
