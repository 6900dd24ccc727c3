"""What an operator can see of the server: health, metrics and counters, nothing about visitors."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from dnd_engine.server_log import SERVER_COUNTERS, log_numbers
from ui.faults import LOST_DEVICE
from ui.server.routes import READING, path_of

logger = logging.getLogger(__name__)

_LOG_SECONDS = 300.0


class Counters(logging.Handler):
    """Totals since the start. As a log handler, it counts the errors that `ui.faults` logs.

    Not thread-safe otherwise: for the thread of the server's event loop.
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.answers: Counter[int] = Counter()
        """Number of answers by HTTP status."""
        self.faults = 0
        self.lost_device = False
        """Whether an error occurred that only a new process recovers from."""

    def emit(self, record: logging.LogRecord) -> None:
        """Count one error."""
        # `logging` holds the handler's lock here, so any thread may report an error.
        self.faults += 1
        if getattr(record, LOST_DEVICE, False):
            self.lost_device = True

    def numbers(self) -> dict[str, float]:
        """Return all counters by name."""
        answers = {f"answers_{status}": count for status, count in sorted(self.answers.items())}
        return {**answers, "faults": self.faults}

    def text(self, gauges: Mapping[str, float]) -> str:
        """Return all counters and the current gauges in Prometheus's text format."""
        lines = ["# TYPE dnd_answers_total counter"]
        lines += [
            f'dnd_answers_total{{status="{status}"}} {count}'
            for status, count in sorted(self.answers.items())
        ]
        lines += ["# TYPE dnd_faults_total counter", f"dnd_faults_total {self.faults}"]
        for name, value in gauges.items():
            lines += [f"# TYPE dnd_{name} gauge", f"dnd_{name} {value:g}"]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Watch:
    """Health and metrics for the server's operator."""

    status: Callable[[], str]
    """Returns the engine's state: idle, loading, ready or failed."""
    gauges: Callable[[], Mapping[str, float]]
    metrics: bool = False
    """Whether to serve `/metrics`."""
    counters: Counters = field(default_factory=Counters)

    async def log(self) -> None:
        """Log the counters every few minutes until cancelled, and once more at the end."""
        try:
            while True:
                await asyncio.sleep(_LOG_SECONDS)
                self._log()
        finally:
            self._log()

    def _log(self) -> None:
        log_numbers(logger, SERVER_COUNTERS, {**self.counters.numbers(), **self.gauges()})

    def answer(self, request: Request) -> Response | None:
        """Return the response to a request for health or metrics; None for others."""
        path = path_of(request) if request.method in READING else ""
        if path == "/health/live":
            return JSONResponse({"status": "live"})
        if path == "/health/ready":
            # Report a lost device as a failure, so that a supervisor restarts the process.
            status = "failed" if self.counters.lost_device else self.status()
            ready = status == "ready"
            return JSONResponse(
                {"status": status}, HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
            )
        if path == "/metrics" and self.metrics:
            return PlainTextResponse(
                self.counters.text(self.gauges()), media_type="text/plain; version=0.0.4"
            )
        return None
