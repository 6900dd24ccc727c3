"""The log of a training run, one line a step: reading it while it grows, and cutting it off.

Plain text and plain numbers; knows no tensors, so that who only watches need not load torch.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from dnd_engine.errors import TrainingError
from dnd_engine.files import write_whole

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


def parse_log(data: bytes) -> tuple[Row, ...]:
    """Return the steps of a log, without a last line that is still being written.

    Raises:
        TrainingError: If it is no log of a training run.
    """
    whole, newline, _ = data.rpartition(b"\n")
    rows = tuple(row for line in whole.splitlines() if (row := _row(line)))
    if newline and not rows:
        raise TrainingError(
            f"`{LOG}` is no log of `dnd train`: expected one JSON object a line, with "
            "numbers `step` and `loss`."
        )
    return rows


def cut_log(path: Path, steps: int) -> None:
    """Forget what a killed run logged after its last checkpoint; those steps are done again.

    Half a line too, such as a full disk or a lost machine leaves.
    """
    if path.exists():
        data = path.read_bytes()
        lines = data.split(b"\n")
        kept = [line for line in lines if (row := _row(line)) and row["step"] <= steps]
        if (text := b"".join(line + b"\n" for line in kept)) != data:
            write_whole(path, text)


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
