"""Synthesis, the checks after it, the adapter's strength, and its zip."""

import itertools
import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from dnd_engine.buckets import Bucket, check_buckets
from dnd_engine.config import Mix
from dnd_engine.errors import DndError
from dnd_engine.prompts import one_line
from ui import text
from ui.canvas import Arrangement
from ui.handlers.base import (
    TICK_SECONDS,
    HandlerBase,
    Updates,
    bare,
    cut,
    fingerprint,
    used_words,
)
from ui.markup import esc, icon
from ui.panels.checks import checks_html, norms_html, warning_html
from ui.panels.compare import NUM_SUGGESTIONS, head_html
from ui.panels.stages import Stages
from ui.spaces import gpu
from ui.state import Made, Session

if TYPE_CHECKING:
    from dnd_engine.adapter import Adapter

__all__ = ["SynthesisHandlers"]

_NUM_CHECKED_PROMPTS = 16
"""Prompts an adapter's effect is measured on; the engine takes no more."""


class SynthesisHandlers(HandlerBase):
    """Events of the action bar and the adapter bar."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # On ZeroGPU these run in a worker, which has the engine by fork: never as an argument.
        self._synthesis_steps = gpu(self._synthesis_steps_here)
        self._inspect = gpu(self._inspect_here)
        self._save = gpu(self._save_here)

    def begin_synthesis(self, arrangement: Arrangement, session: Session) -> Updates:
        """Take the order: show the stages and Stop at once, before the queue."""
        stages = Stages(keys=("wait", "read", "encode", "decode", "check"))
        stages.enter("wait")
        session.stop_synthesis = threading.Event()
        session.job = tuple(self._buckets(arrangement, session))
        session.stages = stages
        return {
            "stages": stages.html(),
            "synthesize": gr.Button(visible=False),
            "stop_synthesis": gr.Button(visible=True, interactive=True),
        }

    def synthesize(
        self, session: Session, mix: Mix, seed: float, request: gr.Request
    ) -> Iterator[Updates]:
        """Make the adapter, stage by stage."""
        stages, stop = session.stages, session.stop_synthesis
        if stages is None or stop is None or stages.ended:
            return
        try:
            yield from self._wait_for_engine(stages, stop)
            stages.enter("read")
            yield {"stages": stages.html()}
            buckets = check_buckets(session.job, self._limits)
            stages.enter("read", used_words(buckets, 0))
            adapter: Adapter | None = None
            for step in _ticking(self._synthesis_steps(buckets, mix, int(seed or 0)), stop):
                if step is None:
                    yield {"stages": stages.html()}
                elif step[0] == "progress":
                    stages.enter(step[1].stage, step[1].detail, step[1].fraction)
                    yield {"stages": stages.html()}
                else:
                    adapter = step[1]
            if adapter is None or stop.is_set():
                raise _Stopped
            made = Made(
                original=adapter,
                adapter=adapter,
                made_from=fingerprint(session.job),
                prompts=_some_prompts(buckets),
                num_files=sum(len(bucket.files) for bucket in buckets),
            )
            stages.enter("check")
            yield {"stages": stages.html()}
            for _ in _ticking(self._finish_check(made, request.session_hash or ""), stop):
                yield {"stages": stages.html()}
            if stop.is_set():
                raise _Stopped
        except _Stopped:
            stages.finish("stopped", text.STOPPED)
            yield self._synthesis_over(stages)
            return
        except DndError as error:
            stages.finish("failed", str(error))
            yield self._synthesis_over(stages)
            return
        stages.finish("done")
        session.made = made
        session.suggestions = _suggestions(buckets, session.example_questions)
        yield {
            **self._synthesis_over(stages),
            **self._adapter_ready(session),
            "strength": 1.0,
            "inbox": {"op": "fold"},
        }

    def synthesis_broke(self, session: Session) -> Updates:
        """Put the buttons back after an error nobody foresaw."""
        stages = session.stages or Stages(keys=())
        if not stages.ended:
            stages.finish("failed", text.BROKE)
        return self._synthesis_over(stages)

    def stop_synthesis(self, session: Session) -> Updates:
        """Stop at the next step; one that still waits in the queue never starts."""
        if session.stop_synthesis is not None:
            session.stop_synthesis.set()
        if session.stages is None or session.stages.ended:
            return {}
        session.stages.finish("stopped", text.STOPPED)
        return self._synthesis_over(session.stages)

    def check(self, session: Session) -> Updates:
        """Measure the adapter on some of the visit's own prompts."""
        made = session.made
        if made is None or made.inspection is not None:
            return {}
        try:
            made.inspection = self._inspect(made.original, made.prompts)
        except DndError as error:
            return {"checks": checks_html("failed", message=str(error))}
        if session.made is not made:
            return {}
        warning = warning_html(made.inspection)
        return {
            "checks": checks_html("done", made.inspection),
            "warning": warning,
            "download": self._download(made),
        }

    def set_strength(self, session: Session, strength: float) -> Updates:
        """Scale the adapter; the next message uses it. Nothing is synthesized again."""
        made = session.made
        if made is None or abs(made.adapter.strength - strength) < 1e-9:
            return {}
        made.adapter = made.original.with_strength(float(strength))
        made.archive = None
        return {"adapter_facts": self._facts(session), "download": self._download(made)}

    def prepare_download(self, session: Session, request: gr.Request) -> Updates:
        """Write and verify the zip of the adapter at its present strength."""
        made = session.made
        if made is None or made.archive is not None:
            return {}
        wanted = made.adapter
        try:
            archive = self._save(wanted, self._archive_path(wanted, request.session_hash or ""))
        except DndError as error:
            return {
                "download": gr.DownloadButton(text.DOWNLOAD_FAILED, interactive=False),
                "warning": _error_notice(str(error)),
            }
        if made.adapter is not wanted:
            return {}  # the slider moved on; its own event follows
        made.archive = archive
        return {"download": self._download(made)}

    def _wait_for_engine(self, stages: Stages, stop: threading.Event) -> Iterator[Updates]:
        self._handle.start()
        while True:
            if stop.is_set():
                raise _Stopped
            if self._handle.wait(TICK_SECONDS) is not None:
                return
            state = self._handle.snapshot()
            if state.progress is None:
                stages.enter("load")
            else:
                stages.enter(
                    "download" if state.progress.stage == "download" else "load",
                    state.progress.detail,
                    state.progress.fraction,
                )
            yield {"stages": stages.html()}

    def _synthesis_steps_here(
        self, buckets: tuple[Bucket, ...], mix: Mix, seed: int
    ) -> Iterator[tuple[str, Any]]:
        steps = self._ready_engine().synthesize(buckets, mix=mix, strength=1.0, seed=seed)
        while True:
            try:
                yield "progress", next(steps)
            except StopIteration as done:
                yield "adapter", done.value
                return

    def _finish_check(self, made: Made, session_hash: str) -> Iterator[None]:
        """Verify the zip and read the norms: nothing is shown before it can be trusted."""
        made.archive = self._save(made.adapter, self._archive_path(made.adapter, session_hash))
        yield None
        made.norms = self._inspect(made.original, ()).relative_norms

    def _inspect_here(self, adapter: "Adapter", prompts: Sequence[str]) -> Any:
        return self._ready_engine().inspect(adapter, prompts)

    def _save_here(self, adapter: "Adapter", path: Path) -> Path:
        return self._ready_engine().save(adapter, path)

    def _archive_path(self, adapter: "Adapter", session_hash: str) -> Path:
        safe = "".join(c if c.isalnum() and c.isascii() else "-" for c in adapter.name).strip("-")
        name = f"{safe[:40] or 'adapter'}-{adapter.sha256[:8]}.zip"
        return self._files.folder(session_hash) / name

    def _synthesis_over(self, stages: Stages) -> Updates:
        return {
            "stages": stages.html(),
            "synthesize": gr.Button(visible=True),
            "stop_synthesis": gr.Button(visible=False),
        }

    def _adapter_ready(self, session: Session) -> Updates:
        made = session.made
        assert made is not None
        return {
            "adapter_box": gr.Row(visible=True),
            "adapter_facts": self._facts(session),
            "download": self._download(made),
            "warning": "",
            "checks": checks_html("running"),
            "norms": norms_html(made.norms),
            "compare_head": head_html(has_adapter=True),
            **self._panes(session),
            **_suggestion_buttons(session.suggestions),
        }

    def _download(self, made: Made) -> gr.DownloadButton:
        if made.archive is None:
            return gr.DownloadButton(text.PREPARING, value=None, interactive=False)
        doubtful = made.inspection is not None and bool(warning_html(made.inspection))
        return gr.DownloadButton(
            text.DOWNLOAD_ANYWAY if doubtful else text.DOWNLOAD,
            value=str(made.archive),
            interactive=True,
            variant="secondary" if doubtful else "primary",
        )


class _Stopped(Exception):
    """The visitor pressed Stop."""


def _ticking(steps: Iterator[Any], stop: threading.Event) -> Iterator[Any]:
    """Run an iterator in a thread; yield its items as they come, and None while it is silent.

    Ends early when `stop` is set. The step that is running then ends unseen, and is the last.
    """
    out: queue.Queue[tuple[str, Any]] = queue.Queue()

    def run() -> None:
        try:
            for item in steps:
                out.put(("item", item))
                if stop.is_set():
                    break
        except BaseException as error:  # noqa: BLE001 - raised again below, in the handler
            out.put(("error", error))
        else:
            out.put(("end", None))
        finally:
            close = getattr(steps, "close", None)
            if close is not None:
                close()

    threading.Thread(target=run, name="engine-steps", daemon=True).start()
    while not stop.is_set():
        try:
            kind, item = out.get(timeout=TICK_SECONDS)
        except queue.Empty:
            yield None
            continue
        if kind == "error":
            raise item
        if kind == "end":
            return
        yield item


def _some_prompts(buckets: Sequence[Bucket]) -> tuple[str, ...]:
    """Return a few prompts of each bucket in turn, to measure on."""
    pools = [[prompt.text for prompt in bucket.prompts] for bucket in buckets]
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*pools))
    return tuple(itertools.islice((prompt for prompt in in_turn if prompt), _NUM_CHECKED_PROMPTS))


def _suggestions(buckets: Sequence[Bucket], questions: dict[str, str]) -> list[str]:
    """Return questions worth asking: an example's own first, else an input from each bucket."""
    found = [
        questions.get(bucket.name) or bare(bucket.prompts[-1].text)
        for bucket in buckets[:NUM_SUGGESTIONS]
    ]
    return list(dict.fromkeys(found))


def _suggestion_buttons(suggestions: Sequence[str]) -> Updates:
    updates: Updates = {"suggestions_row": gr.Row(visible=bool(suggestions))}
    for index in range(NUM_SUGGESTIONS):
        words = suggestions[index] if index < len(suggestions) else ""
        label = cut(one_line(words.replace("\n", " ")), 60)
        updates[f"suggestion_{index}"] = gr.Button(label, visible=bool(words))
    return updates


def _error_notice(message: str) -> str:
    return (
        f"<div class='dnd-notice is-error' role='alert'>{icon('error')}"
        f"<span class='dnd-pre'>{esc(message)}</span></div>"
    )
