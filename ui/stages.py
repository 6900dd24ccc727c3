"""The stages of a run that makes an adapter, with measured times."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import gradio as gr

from dnd_engine.measure.results import Row
from dnd_engine.progress import ProgressStage
from ui.markup import RING, error_notice, esc, icon, prose
from ui.panel import Panel, script
from ui.text import N_, _, drawn, number, said

RunKind = Literal[
    "synthesis", "remix", "imprint", "remake", "refinement", "measurement", "training"
]
"""A remix is a synthesis with other weights; a remake follows a recipe; a training uses labelled
rows beside a measurement."""

StageKey = ProgressStage | Row | Literal["wait", "read", "train"]
"""A stage of a run: one of the engine's, a row of a measurement, or one of the page's own."""

_WORTH_TELLING = 0.3
"""Seconds of waiting in the queue below which no row is shown."""

_BESIDE: Mapping[StageKey, str] = {
    "wait": N_("{time} waiting for the engine"),
    "download": N_("{time} downloading"),
    "load": N_("{time} loading models"),
    "check": N_("{time} verifying the file"),
}
"""Stages whose time an adapter does not count as its own."""

_Status = Literal["waiting", "running", "done", "failed", "stopped"]


_STAGES: Mapping[StageKey, tuple[str, str]] = {
    "wait": (N_("Queue"), N_("Waiting for the engine")),
    "download": (N_("Download"), N_("Base model and text encoder, once")),
    "load": (N_("Load"), N_("Base model, encoder, generator")),
    "read": (N_("Read prompts"), ""),
    "encode": (N_("Encode"), N_("Prompts through the text encoder")),
    "decode": (N_("Decode"), N_("Weight tokens to a LoRA")),
    "ask": (N_("Ask"), N_("The base answers your full prompts")),
    "imprint": (N_("Imprint"), N_("Into the weights, layer by layer")),
    "refine": (N_("Teach"), N_("Training on your prompts")),
    "check": (N_("Check"), N_("Reload with stock PEFT, compare")),
    "base": (N_("Base"), N_("The frozen model answers")),
    "adapter": (N_("This adapter"), N_("Answers with the adapter")),
    "shared_lora": (N_("Shared part"), N_("Answers with what all adapters share")),
    "few_shot": (N_("Few-shot"), N_("The base answers after labelled rows")),
    "train": (N_("Train"), N_("AdamW on the labelled rows")),
}
_STAGE_STATES: Mapping[_Status, str] = {
    "waiting": N_("waiting"),
    "running": N_("running"),
    "done": N_("done"),
    "failed": N_("failed"),
    "stopped": N_("stopped"),
}
_RUNS: Mapping[RunKind, Mapping[str, str]] = {
    "synthesis": {
        "running": N_("Making the adapter"),
        "done": N_("How it was made"),
        "stopped": N_("Stopped. No new adapter was made; prompts and an earlier adapter stay."),
        "failed": N_("No adapter was made."),
    },
    "remix": {
        "running": N_("Remixing"),
        "done": N_("How it was mixed"),
        "stopped": N_("Stopped. The adapter is unchanged."),
        "failed": N_("Remix failed; the adapter is unchanged."),
    },
    "imprint": {
        "running": N_("Imprinting the instruction"),
        "done": N_("How it was imprinted"),
        "stopped": N_("Stopped. The adapter is unchanged."),
        "failed": N_("Imprinting failed; the adapter is unchanged."),
    },
    "remake": {
        "running": N_("Making the adapter of the recipe"),
        "done": N_("How it was made again"),
        "stopped": N_("Stopped. The adapter is unchanged."),
        "failed": N_("Not made again."),
    },
    "refinement": {
        "running": N_("Teaching the adapter"),
        "done": N_("How it was taught"),
        "stopped": N_("Stopped. The adapter is unchanged."),
        "failed": N_("Teaching failed; the adapter is unchanged."),
    },
    "measurement": {
        "running": N_("Measuring the adapter"),
        "done": N_("How it was measured"),
        "stopped": N_("Stopped. Results so far are below."),
        "failed": N_("Measuring did not finish."),
    },
    "training": {
        "running": N_("Training a LoRA"),
        "done": N_("How it was trained"),
        "stopped": N_("Stopped. The last scored LoRA and its curve are below."),
        "failed": N_("Training did not finish."),
    },
}


_LONG: frozenset[RunKind] = frozenset(
    {"imprint", "remake", "refinement", "measurement", "training"}
)
"""Runs that take long enough to offer a notification."""


class StagesPanel(Panel):
    """The stages of the last run, empty before the first synthesis."""

    def __init__(self) -> None:
        self.stages = stages_view("dnd-stages")
        # Stops the imprint, which has no panel of its own.
        self.stop_imprint = gr.Button(
            _("Stop"), size="md", visible=False, elem_id="dnd-imprint-stop"
        )


def stages_view(elem_id: str) -> gr.HTML:
    """Lay out the component that draws a run's stages and notifies of its end.

    Returns:
        Component that sends the event `waits` each second while the run is queued.
    """
    view = gr.HTML("", elem_id=elem_id, padding=False, js_on_load=script("waiting"))
    # Apart from the stages: what is redrawn under a pointer cannot be pressed.
    gr.HTML(
        drawn(_notify_html),
        elem_classes="dnd-notify-box",
        padding=False,
        apply_default_css=False,
        js_on_load=script("storage", "notify"),
    )
    return view


@dataclass(slots=True)
class _Row:
    detail: str
    status: _Status = "waiting"
    begin: float = 0.0
    end: float = 0.0
    fraction: float | None = None


@dataclass(slots=True)
class Stages:
    """The stages of one run and their times."""

    keys: tuple[StageKey, ...]
    kind: RunKind = "synthesis"
    clock: Callable[[], float] = time.perf_counter
    message: str = ""
    """Reason of an early end."""
    ended: Literal["", "done", "failed", "stopped"] = ""
    left: str = ""
    """Text about the time left."""
    in_one_line: bool = False
    """Whether one line shows it while it runs."""
    _rows: dict[StageKey, _Row] = field(init=False)
    _start: float = field(init=False)
    _end: float | None = None
    _began: float | None = None
    """Seconds from the start until the queue was over."""

    def __post_init__(self) -> None:
        self._rows = {key: _Row(_stage(key)[1]) for key in self.keys}
        self._start = self.clock()

    @property
    def elapsed(self) -> float:
        """Return the seconds since the start, or the total once ended."""
        return (self._end if self._end is not None else self.clock()) - self._start

    @property
    def waits(self) -> bool:
        """Return whether the run is queued."""
        row = self._rows.get("wait")
        return row is not None and row.status == "running"

    @property
    def worked(self) -> float:
        """Return the seconds since its turn came; 0 while queued."""
        return 0.0 if self._began is None else self.elapsed - self._began

    def announce(self, *keys: StageKey) -> None:
        """Announce the next stages, replacing those that have not started."""
        begun = {key: row for key, row in self._rows.items() if row.status != "waiting"}
        self._rows = begun | {key: _Row(_stage(key)[1]) for key in keys}

    def enter(self, key: StageKey, detail: str = "", fraction: float | None = None) -> None:
        """Start a stage and end the one before, or update the running one.

        Ignored once the run has ended.
        """
        if self.ended:
            return
        now = self.clock() - self._start
        if key not in self._rows:
            # Two stages are unannounced: loading, before all work, and the few-shot prompt, last,
            # for which rows may be missing.
            rows = list(self._rows.items())
            waiting = (n for n, (_key, row) in enumerate(rows) if row.status == "waiting")
            place = next(waiting, len(rows)) if key in ("load", "download") else len(rows)
            rows.insert(place, (key, _Row(_stage(key)[1])))
            self._rows = dict(rows)
        if key != "wait" and self._began is None:
            self._began = now
        row = self._rows[key]
        if row.status != "running":
            self._close("done", now)
            waited = self._rows.get("wait")
            # In an empty queue the wait is a flash that says nothing.
            if waited is not None and waited.status == "done" and waited.end < _WORTH_TELLING:
                del self._rows["wait"]
            row.status, row.begin = "running", now
        row.detail = detail or row.detail
        row.fraction = fraction

    def wait(self, ahead: str) -> None:
        """Show what is ahead of the run in the queue; nothing if empty."""
        if (row := self._rows.get("wait")) is not None:  # its turn may have come meanwhile
            row.detail = ahead or _stage("wait")[1]

    def finish(self, status: Literal["done", "failed", "stopped"], message: str = "") -> None:
        """End the run; only the first call counts."""
        # Stop and the run itself may both end it, and whichever is first says how.
        if self.ended:
            return
        if status == "failed" and self.waits:
            # It was refused at its turn, before its first step: not the queue failed.
            self.enter(next(key for key in self.keys if key != "wait"))
        self._end = self.clock()
        self._close(status, self._end - self._start)
        self.ended, self.message = status, message

    def interrupt(self) -> None:
        """End the run when its page was closed: nobody would see its end."""
        self.finish("stopped", _("Interrupted when the page was left. Start it again."))

    def _close(self, status: _Status, now: float) -> None:
        for row in self._rows.values():
            if row.status == "running":
                row.status, row.end, row.fraction = status, now, None

    def html(self) -> str:
        """Draw the rows: large while running, folded to one line once done.

        While it runs, `data-doing` names the activity for the header's chip (see `assets/page.js`).
        """
        words = {state: _(message) for state, message in _RUNS[self.kind].items()}
        now = self.elapsed
        scale = _nice(now)
        rows = "".join(self._row_html(key, row, now, scale) for key, row in self._rows.items())
        ticks = "".join(f"<span>{self._tick(scale, i)}</span>" for i in range(6))
        table = (
            f"<div class='dnd-axis' aria-hidden='true'><div>{ticks}</div></div>"
            f"<ol class='dnd-stages'>{rows}</ol>"
        )
        clock = f"<span class='dnd-clock'>{self._seconds(now)}</span>"
        doing = "" if self.ended else f" data-doing='{'waiting' if self.waits else self.kind}'"
        if self.ended == "done":
            return (
                f"<details class='dnd-panel dnd-made'><summary>{words['done']} {clock}"
                f"{self._beside_html()}</summary>{table}</details>"
            )
        if self.in_one_line and not self.ended:
            # It is repeated often. In as much space as when it is done, so that the page does not
            # jump.
            return (
                f"<section class='dnd-panel dnd-made'{doing}><div class='dnd-now'>"
                f"{words['running']} {clock}{self._now_html()}</div></section>"
            )
        notice = ""
        if self.ended == "failed":
            notice = error_notice(said(self.message), words["failed"])
        elif self.ended:
            reason = prose(said(self.message)) or words["stopped"]
            notice = f"<div class='dnd-notice' role='alert'>{icon('info')}{reason}</div>"
        long = " is-long" if self.kind in _LONG else ""
        left = f"<span class='dnd-facts'>{esc(said(self.left))}</span>" if not self.ended else ""
        return (
            f"<section class='dnd-panel dnd-making{long}'{doing}><div class='dnd-making-head'>"
            f"<h2 class='dnd-heading'>{words['running']}</h2><span>{left}{clock}</span></div>"
            f"{notice}{table}</section>"
        )

    def _now_html(self) -> str:
        """Name what a long run does now, and the time left; a short one would only flicker."""
        running = [row.detail for row in self._rows.values() if row.status == "running"]
        parts = [said(words) for words in (*running, self.left) if words]
        return f" · {esc(' · '.join(parts))}" if parts and self.kind in _LONG else ""

    def _beside_html(self) -> str:
        """Account for what the clock has beyond the times in the adapter's facts."""
        took = {key: row.end - row.begin for key, row in self._rows.items() if row.status == "done"}
        parts = [
            # As exact as the clock, so that no part looks longer than the whole.
            _(words, time=self._seconds(took[key]))
            for key, words in _BESIDE.items()
            if round(took.get(key, 0))
        ]
        if not parts:
            return ""
        return f"<span class='dnd-facts'>, {_('of which {parts}', parts=', '.join(parts))}</span>"

    def _row_html(self, key: StageKey, row: _Row, now: float, scale: float) -> str:
        end = now if row.status == "running" else row.end
        mark = {
            "waiting": icon("dot"),
            "running": RING,
            "done": icon("check"),
            "failed": icon("error"),
            "stopped": icon("info"),
        }[row.status]
        seconds = self._seconds(end - row.begin) if row.status != "waiting" else ""
        state = _(_STAGE_STATES[row.status])
        # In words: the detail may end in a score, which is a share of something else.
        share = ""
        if row.fraction is not None:
            done = _("{share:.0f} % done", share=100 * row.fraction)
            share = f" · <span class='dnd-unbroken'>{done}</span>"
        bar = ""
        if row.status != "waiting":
            left, width = 100 * row.begin / scale, 100 * max(end - row.begin, 0) / scale
            # A stage of milliseconds stays visible.
            bar = f"<i style='left:{left:.2f}%;width:max({width:.2f}%,3px)'></i>"
        return (
            f"<li class='is-{row.status}'>{mark}<b>{_stage(key)[0]}</b>"
            f"<span class='dnd-stage-detail'>{esc(said(row.detail))}{share}</span>"
            f"<span class='dnd-num'>{seconds}<span class='dnd-sr'> {state}</span></span>"
            f"<span class='dnd-track' aria-hidden='true'>{bar}</span></li>"
        )

    def _seconds(self, seconds: float) -> str:
        return f"{number(seconds, '.2f')} s"

    def _tick(self, scale: float, index: int) -> str:
        tick = number(scale * index / 5, "g")
        return f"{tick} s" if index == 5 else tick


def _notify_html() -> str:
    """Offer a notification at the end; `assets/notify.js` chooses which text to show."""
    return (
        "<button type='button' class='dnd-link dnd-notify'>"
        f"<span class='dnd-notify-ask'>{_('Notify me when it ends')}</span>"
        f"<span class='dnd-notify-on'>{_('You will be notified')}</span></button>"
    )


def _stage(key: StageKey) -> tuple[str, str]:
    """Return the name of a stage, and its initial text."""
    title, detail = _STAGES.get(key, (key, ""))
    return _(title), _(detail)


def _nice(seconds: float) -> float:
    """Round up to 1, 2 or 5 times a power of ten, at least one second."""
    seconds = max(seconds, 1.0)
    power: float = 10 ** math.floor(math.log10(seconds))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= seconds)
