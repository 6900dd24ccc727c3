"""The log of a training run, one line a step, and reading it while it grows.

Plain text and plain numbers; knows no tensors, so that who only watches need not load torch.
"""

import json
import math
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from dnd_engine.errors import TrainingError

LOG = "log.jsonl"
RECIPE = "recipe.json"
"""Beside the log from before the first step on: what is trained, and for how many steps."""

COLLAPSED_SHARE = 1e-3
"""Below this share of between-task variance, all tasks get the same adapter. Source: a sound run
rose from 2e-4 at step 15 to 7e-3 at step 60, and long ones end above .1; in the collapsed one it
was a rounding error after 589 steps."""

SMOOTHING_STEPS = 25
"""Span of the moving average that the training loss is drawn with."""

Row = Mapping[str, float]
"""One step: what was measured, by name; `step` and `loss` always."""


class LogReader:
    """Reads a log again and again, each time only what was added.

    A resumed run replaces the file by one without the steps it repeats. Then the whole file is read
    again.

    Args:
        path: The log; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # All visitors of a page read through one object.
        self._lock = threading.Lock()
        self._forget(0)

    def read(self) -> tuple[Row, ...]:
        """All whole lines so far; a last line that is still being written waits for the next time.

        Raises:
            TrainingError: If the file cannot be read, or is no log of a training run.
        """
        with self._lock:
            try:
                # In bytes: `_offset` is compared with the file's size, which text mode cannot do.
                with self._path.open("rb") as file:
                    # Of the open file: a resumed run may put another in its place at any moment.
                    status = os.fstat(file.fileno())
                    if status.st_ino != self._inode or status.st_size < self._offset:
                        self._forget(status.st_ino)
                    file.seek(self._offset)
                    whole, newline, _ = file.read().rpartition(b"\n")
            except FileNotFoundError:
                self._forget(0)
                return ()
            except OSError as error:
                raise TrainingError(f"`{LOG}` cannot be read: {error.strerror}") from error
            self._offset += len(whole) + len(newline)
            self._rows += [row for line in whole.splitlines() if (row := _row(line))]
            if self._offset and not self._rows:
                raise TrainingError(
                    f"`{LOG}` is no log of `dnd train`: expected one JSON object a line, with "
                    "numbers `step` and `loss`."
                )
            return tuple(self._rows)

    def _forget(self, inode: int) -> None:
        self._inode, self._offset = inode, 0
        self._rows: list[Row] = []


def smoothed(values: Sequence[float]) -> list[float]:
    """Exponential moving average, weighted so that early values are not pulled towards the first.

    Source: `pandas.Series.ewm(span=SMOOTHING_STEPS).mean()`.
    """
    decay = 1 - 2 / (SMOOTHING_STEPS + 1)
    total = weight = 0.0
    means = []
    for value in values:
        total, weight = total * decay + value, weight * decay + 1
        means.append(total / weight)
    return means


def _row(line: bytes) -> Row | None:
    """The finite numbers of a line; None if it is no step's."""
    try:
        values = json.loads(line)
        row = {
            name: value
            for name, value in values.items()
            if type(value) in (int, float) and math.isfinite(value)
        }
    except (ValueError, AttributeError, OverflowError, RecursionError):
        # `isfinite` raises OverflowError for integers that no float holds.
        return None
    return row if {"step", "loss"} <= row.keys() else None
