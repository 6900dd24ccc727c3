"""A synthesis or refinement as it runs: what it does and did, on one clock. Nothing invented."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import gradio as gr

from ui.markup import esc, icon
from ui.text import Text

__all__ = ["RunKind", "Stages", "StagesPanel", "stages_panel"]

RunKind = Literal["synthesis", "remix", "remake", "refinement", "measurement", "training"]
"""A remix is a synthesis of what lay on the canvas before, with other weights; a remake carries out
a recipe; a training learns labelled rows beside a measurement."""

_WORTH_TELLING = 0.3
"""Seconds in the queue below which it is not worth a row."""

_Status = Literal["waiting", "running", "done", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class StagesPanel:
    """Components of the stages panel."""

    view: gr.HTML


def stages_panel() -> StagesPanel:
    """Lay out the panel; it shows nothing before the first synthesis."""
    return StagesPanel(view=gr.HTML("", elem_id="dnd-stages", padding=False))


@dataclass(slots=True)
class _Row:
    detail: str
    status: _Status = "waiting"
    begin: float = 0.0
    end: float = 0.0
    fraction: float | None = None


@dataclass(slots=True)
class Stages:
    """The rows of one run and their times."""

    text: Text
    keys: tuple[str, ...]
    kind: RunKind = "synthesis"
    clock: Callable[[], float] = time.perf_counter
    message: str = ""
    """Why it ended early."""
    ended: Literal["", "done", "failed", "stopped"] = ""
    left: str = ""
    """What can be said of the time that is left."""
    _rows: dict[str, _Row] = field(init=False)
    _start: float = field(init=False)
    _end: float | None = None

    def __post_init__(self) -> None:
        self._rows = {key: _Row(self.text.STAGES[key][1]) for key in self.keys}
        self._start = self.clock()

    @property
    def elapsed(self) -> float:
        """Seconds since the start, or what it took."""
        return (self._end if self._end is not None else self.clock()) - self._start

    def enter(self, key: str, detail: str = "", fraction: float | None = None) -> None:
        """Begin a stage, ending the one before; or tell how far the running one is.

        A run that has ended stays as it is, whatever its last step says.
        """
        if self.ended:
            return
        now = self.clock() - self._start
        if key not in self._rows:
            # Unannounced come loading, before all work, and the few-shot prompt, last: there may be
            # no rows for one.
            place = list(self._rows).index("read") if "read" in self._rows else len(self._rows)
            rows = list(self._rows.items())
            rows.insert(place, (key, _Row(self.text.STAGES.get(key, (key, ""))[1])))
            self._rows = dict(rows)
        row = self._rows[key]
        if row.status != "running":
            self._close("done", now)
            waited = self._rows.get("wait")
            if waited is not None and waited.status == "done" and waited.end < _WORTH_TELLING:
                del self._rows["wait"]
            row.status, row.begin = "running", now
        row.detail = detail or row.detail
        row.fraction = fraction

    def finish(self, status: Literal["done", "failed", "stopped"], message: str = "") -> None:
        """End the run; the first end counts."""
        if self.ended:
            return
        self._end = self.clock()
        self._close(status, self._end - self._start)
        self.ended, self.message = status, message

    def _close(self, status: _Status, now: float) -> None:
        for row in self._rows.values():
            if row.status == "running":
                row.status, row.end, row.fraction = status, now, None

    def html(self) -> str:
        """Draw the rows: large while running, folded to one line once done."""
        words = self.text.RUNS[self.kind]
        now = self.elapsed
        scale = _nice(now)
        rows = "".join(self._row_html(key, row, now, scale) for key, row in self._rows.items())
        ticks = "".join(f"<span>{self._tick(scale, i)}</span>" for i in range(6))
        table = (
            f"<div class='dnd-axis' aria-hidden='true'><div>{ticks}</div></div>"
            f"<ol class='dnd-stages'>{rows}</ol>"
        )
        clock = f"<span class='dnd-clock'>{self._seconds(now)}</span>"
        if self.ended == "done":
            return (
                f"<details class='dnd-panel dnd-made'><summary>{words['done']} {clock}</summary>"
                f"{table}</details>"
            )
        if self.kind == "remix" and not self.ended:
            # A moment's work, asked for again and again: one line, so that nothing jumps.
            return (
                f"<section class='dnd-panel dnd-made'><span class='dnd-facts'>{words['running']} "
                f"{clock}</span></section>"
            )
        notice = ""
        if self.ended == "failed":
            notice = (
                f"<div class='dnd-notice is-error' role='alert'>{icon('error')}<div>"
                f"<b>{words['failed']}</b> <span class='dnd-pre'>{esc(self.message)}</span>"
                "</div></div>"
            )
        elif self.ended:
            told = esc(self.message) or words["stopped"]
            notice = f"<div class='dnd-notice' role='alert'>{icon('info')}{told}</div>"
        left = f"<span class='dnd-facts'>{esc(self.left)}</span>" if not self.ended else ""
        return (
            f"<section class='dnd-panel dnd-making'><div class='dnd-making-head'>"
            f"<h2 class='dnd-heading'>{words['running']}</h2><span>{left}{clock}</span></div>"
            f"{notice}{table}</section>"
        )

    def _row_html(self, key: str, row: _Row, now: float, scale: float) -> str:
        end = now if row.status == "running" else row.end
        mark = {
            "waiting": icon("dot"),
            "running": "<span class='dnd-ring' aria-hidden='true'></span>",
            "done": icon("check"),
            "failed": icon("error"),
            "stopped": icon("info"),
        }[row.status]
        seconds = self._seconds(end - row.begin) if row.status != "waiting" else ""
        state = self.text.STAGE_STATES[row.status]
        share = "" if row.fraction is None else f" · {100 * row.fraction:.0f} %"
        bar = ""
        if row.status != "waiting":
            left, width = 100 * row.begin / scale, 100 * max(end - row.begin, 0) / scale
            bar = f"<i style='left:{left:.2f}%;width:max({width:.2f}%,3px)'></i>"
        return (
            f"<li class='is-{row.status}'>{mark}<b>{self.text.STAGES.get(key, (key,))[0]}</b>"
            f"<span class='dnd-stage-detail'>{esc(row.detail)}{share}</span>"
            f"<span class='dnd-num'>{seconds}<span class='dnd-sr'> {state}</span></span>"
            f"<span class='dnd-track' aria-hidden='true'>{bar}</span></li>"
        )

    def _seconds(self, seconds: float) -> str:
        return f"{self.text.number(seconds, '.2f')} s"

    def _tick(self, scale: float, index: int) -> str:
        number = self.text.number(scale * index / 5, "g")
        return f"{number} s" if index == 5 else number


def _nice(seconds: float) -> float:
    """Round up to 1, 2 or 5 times a power of ten, at least one second."""
    seconds = max(seconds, 1.0)
    power: float = 10 ** math.floor(math.log10(seconds))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= seconds)
