"""What the engine computes for page and API, with its threads, lanes and steps.

Handlers use an `EngineCalls` and know nothing about threads. Apart from `ui.engine_thread` and
`ui.engine_handle`, which it is built on, only this module does, and only it marks functions that
need a GPU on ZeroGPU.
"""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from dnd_engine.config import (
    NO_GENERATOR,
    EngineConfig,
    ImprintConfig,
    LabelledConfig,
    MeasureConfig,
    Mix,
    RefineConfig,
    Sampling,
)
from dnd_engine.errors import DndError
from dnd_engine.lora.provenance import Recipe
from dnd_engine.progress import Progress
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.files import PromptFile
from dnd_engine.serving.compare import compare_remote
from dnd_engine.teach.local import BetterModel, LocalTeacher
from ui.engine_handle import EngineHandle, LoadState
from ui.engine_thread import TICK_SECONDS as TICK_SECONDS
from ui.engine_thread import Stop as Stop
from ui.spaces import borrows_gpu, gpu
from ui.text import _

if TYPE_CHECKING:
    from dnd_engine.checks.results import Conditioning, Forecast, Inspection
    from dnd_engine.engine import Engine
    from dnd_engine.generator.installed import Availability, Choice
    from dnd_engine.lora.adapter import Adapter
    from dnd_engine.measure.results import Measurement, MeasureStep
    from dnd_engine.models.encoder import PromptMemory
    from dnd_engine.models.replies import Message, Reply

    Row = tuple[list[Message], Adapter | None]

Answers = Literal["base", "labels"] | Mapping[str, str] | BetterModel
"""Source of the answers that an adapter is taught: base, labels, a person's by prompt, or a better
model."""

LANES: Mapping[str, Mapping[str, Any]] = {
    # Syntheses and short calls, one at a time.
    "engine": {"concurrency_id": "engine", "concurrency_limit": 1},
    # What a program asks for with one call, imprint and checks included, takes a minute.
    "api": {"concurrency_id": "api", "concurrency_limit": 1},
    # Answers of several visitors share forward passes: eight take as long as three in a row would.
    # On ZeroGPU each would run in a process of its own.
    "chat": {"concurrency_id": "chat", "concurrency_limit": 1 if borrows_gpu() else 8},
    # A lane of its own: it takes most of a minute, and others can use the engine between its steps.
    "refine": {"concurrency_id": "refine", "concurrency_limit": 1},
    # Up to forty answers each, in the same passes.
    "batch": {"concurrency_id": "batch", "concurrency_limit": 1 if borrows_gpu() else 4},
    # A lane of its own, so that its seconds do not wait for the minutes of a refinement.
    "imprint": {"concurrency_id": "imprint", "concurrency_limit": 1},
    # A lane of its own: a training run takes minutes on few cores.
    "measure": {"concurrency_id": "measure", "concurrency_limit": 1},
    # The adapter is usable before its checks, so the next visitor's synthesis must not wait.
    "check": {"concurrency_id": "check", "concurrency_limit": 1},
    # Before anything is asked for, so that it may wait for everything else.
    "forecast": {"concurrency_id": "forecast", "concurrency_limit": 1},
    # Writing files and uploads need the engine only for a moment.
    "export": {"concurrency_id": "export", "concurrency_limit": 2},
    # Reading prompt files does not need the engine.
    "read": {"concurrency_id": "read", "concurrency_limit": 4},
}
"""The lanes of Gradio's queue, as arguments of an event."""

_MAKE_GPU_SECONDS = 40
_REFINE_GPU_SECONDS = 90
_MEASURE_GPU_SECONDS = 180
"""Maximum seconds a GPU is borrowed, if the default is too short; see `spaces.gpu`."""
_STREAM_SECONDS = 0.3
"""Minimum time between two redraws of a stream: on two cores shared with the browser, each redraw
costs half a token's time."""

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class Done(Generic[_Found]):
    """The end of an operation, with its result."""

    result: _Found


_Work = Generator[Progress | Done[_Found], None, None]
"""The steps of an operation, and finally its end."""
Ticking = Generator[Progress | Done[_Found] | None, None, None]
"""The same, with None for each tick without a step, so that a clock can be redrawn."""


class EngineCalls:
    """Calls the engine for handlers, from any thread.

    Short calls return their result. Longer ones are iterators that end early when a `Stop` is set.
    All raise `DndError` if the engine does, or if it is not loaded.
    """

    def __init__(self, handle: EngineHandle) -> None:
        self._handle = handle
        self._run = handle.thread.run
        self.ticking = handle.thread.ticking
        # On ZeroGPU these run in a worker that gets the engine by fork, so it must not be an
        # argument.
        self._call = gpu(self._call_here)
        self._stream = gpu(self._stream_here)
        self._work = gpu(self._work_here)
        self._making = gpu(self._work_here, _MAKE_GPU_SECONDS)
        self._refining = gpu(self._work_here, _REFINE_GPU_SECONDS)
        self._measuring = gpu(self._stream_here, _MEASURE_GPU_SECONDS)

    # ------------------------------------------------------------------ the engine itself

    @property
    def engine(self) -> "Engine | None":
        """The engine, if it is ready."""
        return self._handle.engine

    def ready(self) -> "Engine":
        """Return the engine, for what it knows, reads or writes in the caller's own thread.

        What it computes is asked of the methods below.

        Raises:
            DndError: If the engine is not loaded.
        """
        engine = self._handle.engine
        if engine is None:
            raise DndError(_("The engine is not loaded."))
        return engine

    def start(self) -> None:
        """Begin to load the engine, or try again after a failure."""
        self._handle.start()

    @property
    def config(self) -> EngineConfig:
        """Configuration of the models that are loaded, or will be."""
        return self._handle.config

    def switch(self, choice: "Choice") -> None:
        """Load other models instead.

        Raises:
            ConfigError: If models are being loaded.
        """
        # None would select the generator that is shipped for the base.
        generator = choice.generator or NO_GENERATOR
        self._handle.switch(replace(self.config, base=choice.base, generator=generator))

    def choices(self) -> "tuple[list[Choice], Choice]":
        """List the installed bases and generators, and the loaded choice."""
        from dnd_engine.generator.installed import installed, loaded_choice  # imports torch

        return installed(self.config), loaded_choice(self.config)

    def availability(self, choice: "Choice", *, ask_hub: bool = False) -> "Availability":
        """Find out the size and download of a choice.

        Raises:
            DndError: If there is no such base.
        """
        from dnd_engine.generator.installed import availability

        found = availability(choice.base, self.config.cache_dir, ask_hub=ask_hub)
        if not choice.encoder:
            return found
        encoder = availability(choice.encoder, self.config.cache_dir, ask_hub=ask_hub)
        return found.with_part(encoder)

    def local_teacher(self, base: str) -> tuple[LocalTeacher, int | None]:
        """Return a base on this computer as a teacher, and the size of its weights on disk.

        Raises:
            DndError: If it has no name, or is not here: nothing is downloaded for it.
        """
        from dnd_engine.generator.installed import availability

        config = self.config
        teacher = LocalTeacher(base=base, cache_dir=config.cache_dir, device=config.device)
        found = availability(base, config.cache_dir)
        if found.download_bytes != 0:
            raise DndError(
                _(
                    "`{base}` is not on this computer. Load it once with “Change models” above, "
                    "which downloads it, or name a folder or a GGUF file.",
                    base=base,
                )
            )
        return teacher, found.num_bytes

    def load_state(self) -> LoadState:
        """Return the state of loading."""
        return self._handle.snapshot()

    def until_ready(self, stop: Stop | None = None, *, ticks: int = 1) -> Iterator[LoadState]:
        """Yield the state of loading until the engine is ready or `stop` is set.

        Raises:
            DndError: If loading failed.
        """
        while stop is None or not stop.is_set():
            if self._handle.wait(ticks * TICK_SECONDS) is not None:
                return
            # Until somebody starts it, `wait` returns at once, and this loop would spin.
            self._handle.start()
            yield self._handle.snapshot()

    def loaded(self, seconds: float) -> "Engine":
        """Wait for the engine and return it.

        Raises:
            DndError: If loading failed or takes longer than `seconds`.
        """
        self._handle.start()
        self._handle.wait(seconds)
        return self.ready()

    # ------------------------------------------------------------------ short calls

    def inspect(self, adapter: "Adapter", buckets: Sequence[Bucket]) -> "Inspection":
        """Measure an adapter on prompts."""
        found: Inspection = self._run(self._call, "inspect", adapter, buckets)
        return found

    def forecast(self, bucket: Bucket) -> "Forecast | None":
        """Forecast how well an adapter for a bucket will do.

        None on ZeroGPU: it would spend a visitor's GPU time before they ask for anything.
        """
        if borrows_gpu():
            return None
        return self._run(lambda: self.ready().forecast(bucket))

    def read_ahead(
        self,
        buckets: Sequence[Bucket],
        mix: Mix,
        seed: int,
        memory: "PromptMemory",
        goes_on: Callable[[], bool],
    ) -> None:
        """Encode prompts before an adapter is asked for; not on ZeroGPU, as in `forecast`."""
        if not borrows_gpu():
            self._run(
                lambda: self.ready().read_ahead(
                    buckets, mix=mix, seed=seed, memory=memory, goes_on=goes_on
                )
            )

    def norms(self, adapter: "Adapter") -> "Mapping[str, tuple[float, ...]]":
        """Measure the size of an adapter's update by layer."""
        # Without a mark: adapters are on the CPU.
        return self._run(lambda: self.ready().relative_norms(adapter))

    def thumbprint(self, adapter: "Adapter") -> "tuple[tuple[float, ...], ...]":
        """Return a small picture of an adapter's update."""
        return self._run(lambda: self.ready().thumbprint(adapter))

    def save(self, adapter: "Adapter", path: Path) -> Path:
        """Write an adapter as a zip, verified with stock PEFT."""
        written: Path = self._run(self._call, "save", adapter, path)
        return written

    def push(
        self, adapter: "Adapter", repo: str, token: str | None, private: bool
    ) -> tuple[str, bool, str]:
        """Push an adapter to the Hub; return its URL, whether it is private, and example code."""
        pushed = self._call("push", adapter, repo, token=token, private=private)
        return pushed.url, pushed.private, pushed.usage

    # ------------------------------------------------------------------ step by step

    def synthesize(
        self,
        buckets: tuple[Bucket, ...],
        mix: Mix,
        seed: int,
        memory: "PromptMemory",
        stop: Stop | None = None,
    ) -> "Ticking[Adapter]":
        """Make an adapter from prompts."""
        steps = self._work("synthesize", buckets, mix=mix, seed=seed, memory=memory)
        return self.ticking(steps, stop)

    def imprint(
        self,
        adapter: "Adapter",
        buckets: Sequence[Bucket],
        seed: int,
        memory: "PromptMemory | None",
        stop: Stop | None = None,
    ) -> "Ticking[Adapter]":
        """Imprint the instruction of prompts into an adapter."""
        config = ImprintConfig(seed=seed)
        return self.ticking(self._work("imprint", adapter, buckets, config, memory=memory), stop)

    def make(
        self,
        buckets: tuple[Bucket, ...],
        mix: Mix,
        seed: int,
        imprint: bool,
        memory: "PromptMemory",
    ) -> "Ticking[Adapter]":
        """Make an adapter from prompts, and imprint them into it if possible and asked for."""
        steps = self._making("make", buckets, mix=mix, seed=seed, imprinted=imprint, memory=memory)
        return self.ticking(steps)

    @property
    def stop_keeps(self) -> bool:
        """Whether a stopped training run can keep its result; not if it is in another process."""
        return not borrows_gpu()

    def teach(
        self,
        adapter: "Adapter",
        buckets: Sequence[Bucket],
        answers: Answers,
        enough: Stop,
        stop: Stop,
    ) -> "Ticking[Adapter]":
        """Train an adapter a little.

        `enough` ends the training and keeps the result, `stop` discards it. A person's answers come
        with their prompts, in place of those of `buckets`.
        """
        ends = enough.is_set if self.stop_keeps else None
        if isinstance(answers, str):
            config = RefineConfig(labels=answers == "labels")
            steps = self._refining("refine", adapter, buckets, config, enough=ends)
        else:
            steps = self._refining("teach", adapter, answers, buckets, enough=ends)
        # Waiting for a better model must not block the engine's own thread.
        return self.ticking(steps, stop, beside=isinstance(answers, BetterModel))

    def propose(self, buckets: Sequence[Bucket], limit: int) -> Ticking[dict[str, str]]:
        """Let the base answer some prompts, for a person to correct."""
        return self.ticking(self._work("propose", buckets, limit=limit))

    def remake(self, recipe: Recipe, stop: Stop) -> "Ticking[Adapter]":
        """Recreate an adapter from a recipe."""
        return self.ticking(self._refining("regenerate", recipe), stop)

    def prove(
        self, adapter: "Adapter", buckets: Sequence[Bucket], memory: "PromptMemory | None"
    ) -> "Ticking[Conditioning | None]":
        """Compare an adapter with controls made from another task's prompts, among others.

        The result is None if its prompts are too few.
        """
        return self.ticking(self._work("prove", adapter, buckets, memory=memory))

    def compare(
        self,
        rows: "Sequence[Row]",
        sampling: Sampling,
        strengths: Sequence[Callable[[], float] | None] | None = None,
        stop: Stop | None = None,
    ) -> "Generator[list[Reply] | None, None, None]":
        """Answer conversations in one batch, each with its adapter.

        Args:
            rows: Conversations and adapters; None for the base.
            sampling: Shared by all.
            strengths: Called at every token for the strength of each adapter.
            stop: Ends all answers.

        Yields:
            Some intermediate replies, and the final ones.
        """
        # A worker on a borrowed GPU cannot see the slider.
        seen = None if borrows_gpu() else strengths
        stop = stop or Stop()
        # The engine's thread does not wait for the page, so that drawing delays no token.
        replies = self._stream(
            "compare",
            [messages for messages, _adapter in rows],
            [adapter for _messages, adapter in rows],
            sampling=sampling,
            strengths=seen,
        )
        return self.ticking(_some(replies, stop), stop)

    def compare_remote(
        self,
        url: str,
        key: str,
        rows: "Sequence[tuple[str, list[Message]]]",
        sampling: Sampling,
        stop: Stop,
    ) -> "Generator[list[Reply] | None, None, None]":
        """Answer conversations with models of another server, in parallel.

        Raises:
            DndError: If the server does not answer.
        """
        # It waits for the network, so it does not need the engine's thread.
        return self.ticking(compare_remote(url, key, rows, sampling), stop, beside=True)

    def measure(
        self,
        adapter: "Adapter",
        file: PromptFile,
        config: MeasureConfig | LabelledConfig,
        measured: "Measurement | None",
        warm_start: bool,
        stop: Stop,
    ) -> "Iterator[MeasureStep | None]":
        """Measure an adapter on labelled rows, or train a LoRA for comparison."""
        if isinstance(config, MeasureConfig):
            steps = self._measuring("measure", adapter, file, config)
        else:
            steps = self._measuring("train_lora", adapter, measured, config, warm_start=warm_start)
        return self.ticking(steps, stop)

    def beside(self, steps: Iterator[Any]) -> Iterator[Any]:
        """Run steps in their own thread: they take long but need the engine only for moments."""
        return self.ticking(steps, beside=True)

    def result(self, steps: Ticking[_Found], left: Callable[[], bool]) -> _Found:
        """Run an operation to its end, and return its result.

        Raises:
            DndError: As `last` does, or if the process ends.
        """
        done = self.last(steps, left)
        if not isinstance(done, Done):
            raise DndError(_("Ended early: the app is shutting down."))
        found: _Found = done.result
        return found

    def last(self, steps: Generator[_Found | None, None, None], left: Callable[[], bool]) -> _Found:
        """Run all steps of a method of this class, and return the last one.

        Raises:
            DndError: If the process ends, or `left` says that the caller has disconnected; the
                steps are then cancelled.
        """
        found: _Found | None = None
        # Closing the iterator ends the computation at its next step.
        with closing(steps):
            for step in steps:
                if left():
                    raise DndError(_("Ended early: the caller left."))
                found = found if step is None else step
        if found is None:
            raise DndError(_("Ended early: the app is shutting down."))
        return found

    # ------------------------------------------------------------------ inside the engine's process

    def _call_here(self, method: str, *args: Any, **named: Any) -> Any:
        return getattr(self.ready(), method)(*args, **named)

    def _stream_here(self, method: str, *args: Any, **named: Any) -> Generator[Any, None, None]:
        yield from self._call_here(method, *args, **named)

    def _work_here(self, method: str, *args: Any, **named: Any) -> _Work[Any]:
        # The result as an item, because only items reach the page from a worker.
        yield Done((yield from self._call_here(method, *args, **named)))


def _some(
    steps: "Generator[list[Reply], None, None]", stop: Stop
) -> "Iterator[list[Reply] | None]":
    """Yield the first and last step and some in between, and None while a prompt is read."""
    due, replies = 0.0, None
    # A caller that leaves this stream must end the engine's work too.
    with closing(steps):
        for replies in steps:
            if stop.is_set():
                return
            if not any(reply.num_tokens for reply in replies):
                # A part of a long prompt was read: nothing to show, but a caller may leave here.
                yield None
                continue
            if (now := time.monotonic()) >= due:
                due = now + _STREAM_SECONDS
                yield replies
                # So that the end yields the last replies once, and only if they were not shown.
                replies = None
    if replies is not None:
        yield replies
