"""What happens on each event. Handlers take plain values and a `Session`, and return what changed.

A handler returns a dict of slot name -> new value; `build` knows which component a slot is. So
handlers can be tested as plain functions. Generators among them are generators over the engine's.
"""

import hashlib
import itertools
import json
import queue
import shutil
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.processing_utils import save_file_to_cache

from dnd_engine.asset_files import asset_path
from dnd_engine.buckets import Bucket, check_buckets
from dnd_engine.config import Mix, PromptLimits, Sampling
from dnd_engine.errors import BucketError, ConfigError, DndError, PromptFileError
from dnd_engine.prompts import PromptFile, display_name, one_line, read_prompt_file
from ui import text
from ui.canvas import Arrangement, CanvasCard
from ui.engine_handle import EngineHandle
from ui.markup import esc, icon
from ui.panels.adapter_bar import adapter_html
from ui.panels.checks import checks_html, norms_html, warning_html
from ui.panels.compare import NUM_SUGGESTIONS, head_html, pane_html
from ui.panels.header import header_html, load_html, progress_words
from ui.panels.prompts import Example, example_message, hint_html
from ui.panels.report import report_markdown
from ui.panels.stages import Stages
from ui.spaces import gpu
from ui.state import Made, Reading, Session, SessionFiles, Turn

if TYPE_CHECKING:
    from dnd_engine.engine import Adapter, Engine

__all__ = ["Handlers", "Updates"]

Updates = dict[str, Any]
"""Slot name -> new value."""

_TICK_SECONDS = 0.15
"""How often a running clock is redrawn."""
_STREAM_SECONDS = 0.06
"""Least time between two redraws of a stream: the eye sees no more, and each costs a message."""
_MAX_READINGS = 400
"""Files one visit may have read and kept for Undo."""
_NUM_CHECKED_PROMPTS = 16


class Handlers:
    """The events of the page.

    Args:
        handle: Of the engine, ready or not.
        limits: What files may amount to.
        files: Where visits keep their files.
        cache: Gradio's cache, whose files a canvas may name.
    """

    def __init__(
        self, handle: EngineHandle, limits: PromptLimits, files: SessionFiles, cache: Path
    ) -> None:
        self._handle = handle
        self._limits = limits
        self._files = files
        self._cache = cache
        # On ZeroGPU these run in a worker, which has the engine by fork: never as an argument.
        self._synthesis_steps = gpu(self._synthesis_steps_here)
        self._chat_steps = gpu(self._chat_steps_here)
        self._inspect = gpu(self._inspect_here)
        self._save = gpu(self._save_here)

    # ------------------------------------------------------------------ page and engine

    def open_page(self) -> Updates:
        """Draw what depends on the engine, when a page opens."""
        return self.refresh_load()

    def refresh_load(self) -> Updates:
        """Redraw the load state; switch the timer off once there is nothing to wait for."""
        state = self._handle.snapshot()
        engine = self._handle.engine
        return {
            "header": header_html(state, engine.info if engine else None),
            "load_box": gr.Row(visible=state.status != "ready"),
            "load": load_html(state),
            "retry": gr.Button(visible=state.status == "failed"),
            "timer": gr.Timer(active=state.status in ("idle", "loading")),
            "base_pane": gr.skip() if engine is None else self._panes(Session())["base_pane"],
        }

    def retry_load(self) -> Updates:
        """Load again after a failure."""
        self._handle.start()
        return self.refresh_load()

    def report(self) -> Updates:
        """Read the generator's report card."""
        engine = self._handle.engine
        return {"report": report_markdown(engine.info.generator_path if engine else None)}

    def leave(self, request: gr.Request) -> None:
        """Remove the files of a visit that ended."""
        self._files.remove(request.session_hash or "")

    # ------------------------------------------------------------------ prompts

    def update_prompts(
        self, arrangement: Arrangement, session: Session, request: gr.Request
    ) -> Updates:
        """Read what is new on the canvas, and say what Synthesize would use."""
        fresh: dict[str, Reading] = {}
        for card in arrangement.cards:
            reading = session.readings.get(card.id)
            if reading is None or reading.split != card.split:
                fresh[card.id] = self._read(card, reading, session, request.session_hash or "")
        session.readings.update(fresh)
        session.arrangement = _fingerprint(self._buckets(arrangement, session))
        updates = self._readiness(arrangement, session)
        # Cards still waiting are told again: their answer may have been lost on the way.
        told = {card.id for card in arrangement.cards if card.waiting} | fresh.keys()
        if told:
            updates["inbox"] = {
                "op": "readings",
                "readings": {key: _reading_info(session.readings[key]) for key in told},
            }
        if session.made is not None:
            updates["adapter_facts"] = self._facts(session)
        return updates

    def _read(
        self, card: CanvasCard, before: Reading | None, session: Session, session_hash: str
    ) -> Reading:
        name = display_name(card.name)
        copy = before.copy if before else None
        try:
            if copy is None:
                if len(session.readings) >= _MAX_READINGS:
                    raise PromptFileError(
                        f"{name}: this visit has read {_MAX_READINGS} files, which is the most. "
                        "Reload the page to begin anew."
                    )
                if card.upload is None or not card.upload.is_file():
                    raise PromptFileError(f"{name}: the upload is gone. Drop the file again.")
                # The visit's own copy: uploads are shared by content and swept by age.
                copy = self._files.folder(session_hash) / f"prompts-{len(session.readings)}"
                copy = copy.with_suffix(card.upload.suffix)
                shutil.copyfile(card.upload, copy)
            file = read_prompt_file(copy, name=name, split=card.split, limits=self._limits)
        except PromptFileError as error:
            return Reading(
                split=card.split, copy=copy or Path(), error=_without_name(str(error), name)
            )
        return Reading(split=card.split, copy=copy, file=file)

    def load_examples(
        self, examples: Sequence[Example], session: Session, *, own_weights: bool
    ) -> Updates:
        """Put the files of examples on the canvas."""
        sets = []
        for example in examples:
            session.example_questions[example.bucket] = example.question
            files = []
            for name in example.files:
                source = asset_path("examples", example.id, name)
                # The canvas may name files of the cache only.
                cached = save_file_to_cache(source, cache_dir=str(self._cache))
                size = source.stat().st_size
                data = {"path": cached, "orig_name": name, "size": size}
                files.append({"name": name, "size": size, "file": data})
            sets.append(example_message(example, files, example.weight if own_weights else 1.0))
        return {"inbox": {"op": "load", "sets": sets}}

    def _buckets(self, arrangement: Arrangement, session: Session) -> list[Bucket]:
        """Return the buckets with the files that could be read."""
        return [
            Bucket(
                bucket.name,
                bucket.weight,
                tuple(
                    reading.file
                    for card in bucket.cards
                    if (reading := session.readings.get(card.id)) and reading.file is not None
                ),
            )
            for bucket in arrangement.buckets
        ]

    def _readiness(self, arrangement: Arrangement, session: Session) -> Updates:
        cards = arrangement.cards
        buckets = self._buckets(arrangement, session)
        files = [file for bucket in buckets for file in bucket.files]
        ready = False
        if not arrangement.buckets:
            hint = text.HINT_NO_BUCKET
        elif not cards:
            hint = text.HINT_NO_PROMPTS
        elif not files:
            hint = text.HINT_UNREADABLE
        else:
            try:
                used = check_buckets(buckets, self._limits)
            except BucketError as error:
                hint = str(error)
            else:
                ready = True
                hint = _used_words(used, len(cards) - len(files))
        return {"synthesize": gr.Button(interactive=ready), "hint": hint_html(hint)}

    # ------------------------------------------------------------------ synthesis

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
            stages.enter("read", _used_words(buckets, 0))
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
                made_from=_fingerprint(session.job),
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
            if self._handle.wait(_TICK_SECONDS) is not None:
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

    def _facts(self, session: Session) -> str:
        made = session.made
        assert made is not None
        stale = bool(session.arrangement) and session.arrangement != made.made_from
        return adapter_html(made.adapter, made.norms, stale=stale, num_files=made.num_files)

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

    # ------------------------------------------------------------------ chat

    def ask(self, question: str, session: Session) -> Updates:
        """Take a question: show it on both sides at once, before the queue."""
        question = question.strip()
        if not question:
            return {}
        if session.turns and not session.turns[-1].finished:
            return {}  # one at a time; the words stay in the box
        made = session.made
        turn = Turn(question, waiting="…")
        if made is not None:
            turn.adapter = made.adapter
            turn.label = f"{made.adapter.sha256[:8]} {text.TIMES} {made.adapter.strength:.2f}"
        session.turns.append(turn)
        session.stop_chat = threading.Event()
        return {
            "box": "",
            "send": gr.Button(visible=False),
            "stop_chat": gr.Button(visible=True),
            **self._panes(session),
        }

    def answer(
        self,
        session: Session,
        system: str | None,
        max_tokens: float,
        temperature: float,
        top_p: float,
        top_k: float,
        penalty: float,
        seed: float,
        context: bool,
    ) -> Iterator[Updates]:
        """Stream both answers to the last question."""
        stop = session.stop_chat
        turn = session.turns[-1] if session.turns else None
        if turn is None or stop is None or turn.finished:
            return
        try:
            while self._handle.wait(2 * _TICK_SECONDS) is None:
                if stop.is_set():
                    break
                self._handle.start()
                turn.waiting = progress_words(self._handle.snapshot())
                yield self._panes(session)
            if not stop.is_set():
                sampling = Sampling(
                    max_new_tokens=int(max_tokens),
                    temperature=float(temperature),
                    top_p=float(top_p),
                    top_k=int(top_k),
                    repetition_penalty=float(penalty),
                    seed=int(seed or 0),
                )
                turn.base_label = f"base {self._ready_engine().info.base_sha256[:6]}"
                base, adapted = _messages(session.turns, system or "", context)
                for _ in self._stream(turn, base, adapted, sampling, stop):
                    yield self._panes(session)
        except (DndError, ConfigError) as error:
            turn.error = str(error)
        turn.stopped = turn.stopped or not turn.finished
        yield {**self._panes(session), **_chat_idle()}

    def _stream(
        self,
        turn: Turn,
        base: list[dict[str, str]],
        adapted: list[dict[str, str]],
        sampling: Sampling,
        stop: threading.Event,
    ) -> Iterator[None]:
        steps = self._chat_steps(base, adapted, turn.adapter, sampling)
        shown = 0.0
        try:
            for step in steps:
                turn.base, turn.adapted = step.base, step.adapted
                if stop.is_set():
                    return
                if (now := time.monotonic()) - shown >= _STREAM_SECONDS:
                    shown = now
                    yield None
        finally:
            steps.close()

    def _chat_steps_here(
        self,
        base: list[dict[str, str]],
        adapted: list[dict[str, str]],
        adapter: "Adapter | None",
        sampling: Sampling,
    ) -> Generator[Any, None, None]:
        yield from self._ready_engine().chat(
            base, adapted if adapter is not None else None, adapter=adapter, sampling=sampling
        )

    def stop_chat(self, session: Session) -> Updates:
        """Stop at the next token; the words so far stay."""
        if session.stop_chat is not None:
            session.stop_chat.set()
        if session.turns and not session.turns[-1].finished:
            session.turns[-1].stopped = True
        return {**self._panes(session), **_chat_idle()}

    def clear_chat(self, session: Session) -> Updates:
        """Forget the conversation."""
        if session.stop_chat is not None:
            session.stop_chat.set()
        session.turns = []
        return {**self._panes(session), **_chat_idle()}

    def chat_broke(self, session: Session) -> Updates:
        """Put the buttons back after an error nobody foresaw."""
        if session.turns and not session.turns[-1].finished:
            session.turns[-1].error = text.BROKE
        return {**self._panes(session), **_chat_idle()}

    def suggest(self, index: int, session: Session) -> Updates:
        """Put a suggested question in the box."""
        if index >= len(session.suggestions):
            return {}
        return {"box": session.suggestions[index]}

    def _panes(self, session: Session) -> Updates:
        engine = self._handle.engine
        base_name = engine.info.base_id.rpartition("/")[2] if engine else ""
        made = session.made
        adapted_name = made.adapter.name if made else ""
        has_adapter = made is not None
        return {
            "base_pane": pane_html(session.turns, "base", name=base_name, has_adapter=has_adapter),
            "adapted_pane": pane_html(
                session.turns, "adapted", name=adapted_name, has_adapter=has_adapter
            ),
        }

    def _ready_engine(self) -> "Engine":
        engine = self._handle.engine
        if engine is None:
            raise DndError("The engine is not loaded.")
        return engine


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
            kind, item = out.get(timeout=_TICK_SECONDS)
        except queue.Empty:
            yield None
            continue
        if kind == "error":
            raise item
        if kind == "end":
            return
        yield item


def _reading_info(reading: Reading) -> dict[str, Any]:
    """Describe a reading to the canvas."""
    file = reading.file
    if file is None:
        return {"split": reading.split, "error": reading.error, "num_prompts": 0, "notes": []}
    return {
        "split": reading.split,
        "error": "",
        "num_prompts": len(file.prompts),
        "notes": list(file.notes),
        "preview": _preview(file),
        "question": _split_question(file, reading),
    }


def _preview(file: PromptFile) -> str:
    """Return the beginning of the first prompt: what follows the instruction tells files apart."""
    return _cut(one_line(_bare(file.prompts[0].text).replace("\n", " ")), 90)


def _cut(words: str, limit: int) -> str:
    """Cut the end off a text that is longer than `limit` characters."""
    return words if len(words) <= limit else words[: limit - 1].rstrip() + "…"


def _split_question(file: PromptFile, reading: Reading) -> str:
    """Ask, where a text file of several lines was read as one prompt."""
    if reading.split != "auto" or len(file.prompts) != 1 or "\n" not in file.prompts[0].text:
        return ""
    if reading.copy.suffix.lower() not in (".txt", ".md"):
        return ""
    return "Read as one long prompt. Split by line instead?"


def _without_name(message: str, name: str) -> str:
    """Drop the file's name from its faults: the card shows it already."""
    lines = []
    for line in message.split("\n"):
        bare = line.removeprefix(f"{name}: ").removeprefix(f"{name}, ")
        lines.append(bare[:1].upper() + bare[1:])
    return "\n".join(lines)


def _used_words(buckets: Sequence[Bucket], num_unused: int) -> str:
    files = text.count(sum(len(bucket.files) for bucket in buckets), "file")
    prompts = text.count(sum(bucket.num_prompts for bucket in buckets), "prompt")
    unused = f"; {text.count(num_unused, 'file')} not used" if num_unused else ""
    return f"{files}, {prompts}{unused}"


def _fingerprint(buckets: Sequence[Bucket]) -> str:
    """Name what lies on a canvas, to see whether it changed; order within a bucket is nothing."""
    what = [
        (bucket.name, bucket.weight, sorted((f.sha256, f.split) for f in bucket.files))
        for bucket in buckets
        if bucket.files and bucket.weight != 0
    ]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _some_prompts(buckets: Sequence[Bucket]) -> tuple[str, ...]:
    """Return a few prompts of each bucket in turn, to measure on."""
    pools = [[prompt.text for prompt in bucket.prompts] for bucket in buckets]
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*pools))
    return tuple(itertools.islice((prompt for prompt in in_turn if prompt), _NUM_CHECKED_PROMPTS))


def _bare(prompt: str) -> str:
    """Return what follows the first blank line: the input without its instruction."""
    head, gap, rest = prompt.partition("\n\n")
    return rest.strip() if gap and rest.strip() else head


def _suggestions(buckets: Sequence[Bucket], questions: dict[str, str]) -> list[str]:
    """Return questions worth asking: an example's own first, else an input from each bucket."""
    found = [
        questions.get(bucket.name) or _bare(bucket.prompts[-1].text)
        for bucket in buckets[:NUM_SUGGESTIONS]
    ]
    return list(dict.fromkeys(found))


def _suggestion_buttons(suggestions: Sequence[str]) -> Updates:
    updates: Updates = {"suggestions_row": gr.Row(visible=bool(suggestions))}
    for index in range(NUM_SUGGESTIONS):
        words = suggestions[index] if index < len(suggestions) else ""
        label = _cut(one_line(words.replace("\n", " ")), 60)
        updates[f"suggestion_{index}"] = gr.Button(label, visible=bool(words))
    return updates


def _messages(
    turns: Sequence[Turn], system: str, context: bool
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Build what each side is sent: with context, its own earlier answers."""
    start = [{"role": "system", "content": system.strip()}] if system.strip() else []
    base, adapted = list(start), list(start)
    for turn in turns[:-1] if context else ():
        for messages, reply in ((base, turn.base), (adapted, turn.adapted)):
            if reply is not None and reply.text:
                messages.append({"role": "user", "content": turn.question})
                messages.append({"role": "assistant", "content": reply.text})
    for messages in (base, adapted):
        messages.append({"role": "user", "content": turns[-1].question})
    return base, adapted


def _chat_idle() -> Updates:
    return {"send": gr.Button(visible=True), "stop_chat": gr.Button(visible=False)}


def _error_notice(message: str) -> str:
    return (
        f"<div class='dnd-notice is-error' role='alert'>{icon('error')}"
        f"<span class='dnd-pre'>{esc(message)}</span></div>"
    )
