"""The server's log: one JSON object per line, of bounded size, without visitors' content.

Our own messages contain no visitor's text. An exception's or a library's message may, so only its
type and its place in the code are logged.
"""

import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from platformdirs import user_log_path

from dnd_engine.limits import FIXED

SERVER_LIMITS, SERVER_COUNTERS = "limits of this server", "counters of this server"
"""Names of the tables of numbers that a server logs."""

_FILES = 3
"""Number of rotated files to keep."""
# The file being written counts too.
_MAX_BYTES = FIXED.max_log_bytes // (_FILES + 1)
_PACKAGES = ("ui", "dnd_engine")
_LIBRARIES = ("asyncio", "uvicorn.error")
"""Loggers of libraries whose messages tell what the server lacks, once they are made `Terse`."""
_REPEAT_SECONDS = 60.0
_WRONG = ("warning", "error", "critical")
_LAST_LINES = 20
"""Maximum number of lines that `last_lines` returns."""


def log_path() -> Path:
    """Return the path of this user's server log."""
    return user_log_path("drag-and-drop-llms", appauthor=False) / "serve.jsonl"


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the JSON line of a record."""
        values: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "from": record.name,
            # A library's message may quote a request.
            "message": record.getMessage() if _is_known(record) else _place(record),
        }
        if (numbers := getattr(record, "numbers", None)) is not None:
            values["numbers"] = numbers
        values |= _error(record)
        # JSON escapes line ends, so that no value can forge a second line.
        return json.dumps(values)


def _is_known(record: logging.LogRecord) -> bool:
    """Return whether a record's message holds no visitor's text: ours, and those made `Terse`."""
    return record.name in _LIBRARIES or record.name.partition(".")[0] in _PACKAGES


def _error(record: logging.LogRecord) -> dict[str, Any]:
    """Return the type of a record's error and where it was raised; empty without one."""
    if not record.exc_info or record.exc_info[0] is None:
        return {}
    # Of the traceback only places: its last line is the exception's message.
    frames = traceback.extract_tb(record.exc_info[2])[-8:]
    places = [f"{Path(f.filename).stem}:{f.lineno} {f.name}" for f in reversed(frames)]
    return {"error": record.exc_info[0].__name__, "at": places}


def _place(record: logging.LogRecord) -> str:
    file = Path(record.pathname)
    return f"{record.levelname.lower()} at {file.parent.name}/{file.stem}:{record.lineno}"


class _OnceAMinute(logging.Filter):
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[str, float] = {}

    def _is_new(self, words: str) -> bool:
        """Return whether this was not said for a minute, and note that it is said now."""
        now = self._clock()
        # A copy, because other threads log as well. Dropping old ones keeps this small.
        said = self._said.copy().items()
        self._said = {one: at for one, at in said if now - at < _REPEAT_SECONDS}
        if words in self._said:
            return False
        self._said[words] = now
        return True


class Rare(_OnceAMinute):
    """Keeps a warning or an error once a minute, and nothing else of other libraries.

    Clients can cause some of them with every request. Those of libraries repeat if they come from
    the same place in the code, ours if they say the same.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log a record."""
        is_known = _is_known(record)
        if record.levelno < logging.WARNING:
            return is_known
        return self._is_new(
            f"{record.getMessage()} {_error(record)}" if is_known else _place(record)
        )


class Terse(_OnceAMinute):
    """Limits a library's message to once a minute, in one line and without values.

    For example, if the process runs out of file descriptors, asyncio logs a traceback for every
    waiting connection.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten a record; return False if it was logged recently."""
        # asyncio writes the values on the lines below the first.
        words = record.getMessage().partition("\n")[0]
        if record.exc_info and record.exc_info[0] is not None:
            words += f" ({record.exc_info[0].__name__})"
        if not self._is_new(words):
            return False
        # A formatter appends a cached `exc_text` even without `exc_info`.
        record.msg, record.args, record.exc_info, record.exc_text = words, (), None, None
        return True


@contextmanager
def logging_to(path: Path | None) -> Iterator[None]:
    """Log this project's messages to a file, and warnings also to stderr, inside the `with` block.

    Warnings of other libraries are logged with their place in the code alone.

    Args:
        path: The log file. With None, or if it cannot be written, log to stderr alone.
    """
    shown = logging.StreamHandler(sys.stderr)
    shown.setLevel(logging.WARNING)
    handlers: list[logging.Handler] = [shown]
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(
                RotatingFileHandler(path, maxBytes=_MAX_BYTES, backupCount=_FILES, encoding="utf-8")
            )
        except OSError as error:
            reason = error.strerror or error
            sys.stderr.write(f"No log at `{path}`: {reason}. Going on without it.\n")
    for handler in handlers:
        handler.setFormatter(JsonLines())
        handler.addFilter(Rare())
    terse = Terse()
    libraries = [logging.getLogger(name) for name in _LIBRARIES]
    for library in libraries:
        # On the logger and not on a handler: what uvicorn writes does not pass ours.
        library.addFilter(terse)
    for name in _PACKAGES:
        logging.getLogger(name).setLevel(logging.INFO)
    # With a handler on it, the root logger gets no other one, which would print what ours leave
    # out: a library's first `logging.warning(...)` adds one if there is none.
    root = logging.getLogger()
    for handler in handlers:
        root.addHandler(handler)
    try:
        yield
    finally:
        # A process may serve several times in turn, as tests do.
        for library in libraries:
            library.removeFilter(terse)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()


def log_numbers(logger: logging.Logger, what: str, numbers: Mapping[str, float]) -> None:
    """Log a table of numbers, such as limits or counters, for `last_numbers`."""
    logger.info("%s", what, extra={"numbers": dict(numbers)})


def last_lines(path: Path) -> list[dict[str, Any]]:
    """Return the last warnings and errors of a log; empty without a log."""
    wrong = (line for line in _backwards(path) if line.get("level") in _WRONG)
    return list(islice(wrong, _LAST_LINES))[::-1]


def last_numbers(path: Path, what: str) -> dict[str, Any]:
    """Return the last table of numbers of this name in a log; may be empty."""
    for line in _backwards(path):
        if line.get("message") == what and isinstance(line.get("numbers"), dict):
            return {"time": line.get("time"), **line["numbers"]}
    return {}


def _backwards(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a log and of its rotated files in reverse order."""
    # `RotatingFileHandler` numbers them from the newest.
    for file in (path, *(Path(f"{path}.{number}") for number in range(1, _FILES + 1))):
        try:
            # Read whole, because rotation keeps each file small.
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return
        for line in reversed(lines):
            try:
                values = json.loads(line)
            except ValueError:
                continue  # truncated when the process was killed
            if isinstance(values, dict):
                yield values
