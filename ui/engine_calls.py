"""Everything the page and the API ask of the engine: in which thread, which lane and which steps.

Handlers take an `EngineCalls` and know nothing of threads. With `ui.engine_thread` and
`ui.engine_handle`, which it is built on, this is the only module of the window that does, and the
only one that marks what needs a GPU on ZeroGPU.
"""

import functools
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.files import PromptFile
from dnd_engine.serving.compare import compare_remote
from dnd_engine.teach.endpoint import Endpoint
from ui.engine_handle import EngineHandle, LoadState
from ui.engine_thread import TICK_SECONDS, Stop
from ui.spaces import borrows_gpu, gpu
from ui.text import _

if TYPE_CHECKING:
    from dnd_engine.checks.results import Inspection
    from dnd_engine.engine import Engine
    from dnd_engine.generator.installed import Availability, Choice
    from dnd_engine.lora.adapter import Adapter
    from dnd_engine.measure.results import Measurement, MeasureStep
    from dnd_engine.models.encoder import PromptMemory
    from dnd_engine.models.replies import Message, Reply

    Row = tuple[list[Message], Adapter | None]

__all__ = ["LANES", "TICK_SECONDS", "Answers", "EngineCalls", "Stop"]

Answers = Literal["base", "labels"] | Mapping[str, str] | Endpoint
"""What an adapter is taught: answers of the base, labels, a person's by prompt, or a teacher's."""

LANES: Mapping[str, Mapping[str, Any]] = {
    # One engine, one at a time.
    "engine": {"concurrency_id": "engine", "concurrency_limit": 1},
    # One at a time too, but in a lane of its own: it takes most of a minute, and lets others use
    # the engine between its steps.
    "refine": {"concurrency_id": "refine", "concurrency_limit": 1},
    # Likewise: up to forty answers, between whose tokens others have a turn.
    "batch": {"concurrency_id": "batch", "concurrency_limit": 1},
    # Likewise; its seconds do not wait for the minutes of a refinement.
    "imprint": {"concurrency_id": "imprint", "concurrency_limit": 1},
    # Likewise; a training takes minutes where cores are few.
    "measure": {"concurrency_id": "measure", "concurrency_limit": 1},
    # Checks follow an adapter that can be used already: the next visitor's synthesis comes first.
    "check": {"concurrency_id": "check", "concurrency_limit": 1},
    # Files are written and uploads run beside the engine, which they need for a moment only.
    "export": {"concurrency_id": "export", "concurrency_limit": 2},
    # Prompt files are read without the engine.
    "read": {"concurrency_id": "read", "concurrency_limit": 4},
}
"""The lanes of Gradio's queue, as arguments of an event."""

_REFINE_GPU_SECONDS = 90
_MEASURE_GPU_SECONDS = 180
"""How long a GPU is borrowed at most, where the default is too short; see `spaces.gpu`."""
_STREAM_SECONDS = 0.3
"""Least time between two redraws of a stream: where the browser shares two cores with the engine,
each costs half a token's time."""

_Tagged = Iterator[tuple[str, Any]]
"""Pairs of `progress` and a step, and at the end one of `result` and the result."""
_Ticking = Generator[tuple[str, Any] | None, None, None]
"""The same with None wherever nothing came for a tick, so that a clock can be redrawn."""


class EngineCalls:
    """Asks the engine on behalf of handlers, whichever thread they run in.

    Calls of a moment return their result. Longer ones are iterators that end early when a `Stop`
    is set. All of them raise `DndError` where the engine does, or if it is not loaded.

    Args:
        handle: Holds the engine, ready or not.
    """

    def __init__(self, handle: EngineHandle) -> None:
        self._handle = handle
        self.ticking = handle.thread.ticking
        # On ZeroGPU these run in a worker, which has the engine by fork: never as an argument.
        run = handle.thread.run
        self._inspect = functools.partial(run, gpu(self._inspect_here))
        self._norms = functools.partial(run, self._norms_here)  # on the CPU, where adapters are
        self._thumbprint = functools.partial(run, self._thumbprint_here)
        self._save = functools.partial(run, gpu(self._save_here))
        self._push = gpu(self._push_here)
        self._synthesize = gpu(self._synthesize_here)
        self._imprint = gpu(self._imprint_here)
        self._teach = gpu(self._teach_here, _REFINE_GPU_SECONDS)
        self._propose = gpu(self._propose_here)
        self._remake = gpu(self._remake_here, _REFINE_GPU_SECONDS)
        self._prove = gpu(self._prove_here)
        self._compare = gpu(self._compare_here)
        self._measure = gpu(self._measure_here, _MEASURE_GPU_SECONDS)

    # ------------------------------------------------------------------ the engine itself

    @property
    def engine(self) -> "Engine | None":
        """The engine, if it is ready."""
        return self._handle.engine

    def ready(self) -> "Engine":
        """Return the engine.

        Raises:
            DndError: It is not loaded.
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
        """What is loaded, or will be."""
        return self._handle.config

    def switch(self, choice: "Choice") -> None:
        """Load other models in place of these.

        Raises:
            ConfigError: If some are being loaded.
        """
        generator = choice.generator or NO_GENERATOR
        self._handle.switch(replace(self.config, base=choice.base, generator=generator))

    def choices(self) -> "tuple[list[Choice], Choice]":
        """List the bases and generators that are installed, and which of them is loaded."""
        from dnd_engine.generator.installed import installed, loaded_choice  # torch comes with it

        return installed(self.config), loaded_choice(self.config)

    def availability(self, choice: "Choice", *, ask_hub: bool = False) -> "Availability":
        """Find out what a choice takes.

        Raises:
            DndError: If there is no such base.
        """
        from dnd_engine.generator.installed import availability

        found = availability(choice.base, self.config.cache_dir, ask_hub=ask_hub)
        if not choice.encoder:
            return found
        encoder = availability(choice.encoder, self.config.cache_dir, ask_hub=ask_hub)
        return found.with_part(encoder)

    def load_state(self) -> LoadState:
        """Return how far the load is."""
        return self._handle.snapshot()

    def until_ready(self, stop: Stop | None = None, *, ticks: int = 1) -> Iterator[LoadState]:
        """Yield how far the load is until the engine is ready, or until `stop` is set.

        Raises:
            DndError: What the load failed with.
        """
        while stop is None or not stop.is_set():
            if self._handle.wait(ticks * TICK_SECONDS) is not None:
                return
            self._handle.start()
            yield self._handle.snapshot()

    def loaded(self, seconds: float) -> "Engine":
        """Return the engine once it is loaded, waiting so long at most.

        Raises:
            DndError: What the load failed with, or that it takes longer.
        """
        self._handle.start()
        self._handle.wait(seconds)
        return self.ready()

    # ------------------------------------------------------------------ of a moment

    def inspect(self, adapter: "Adapter", buckets: Sequence[Bucket]) -> "Inspection":
        """Measure an adapter on prompts."""
        found: Inspection = self._inspect(adapter, buckets)
        return found

    def norms(self, adapter: "Adapter") -> "Mapping[str, tuple[float, ...]]":
        """Measure the sizes of an adapter's weights."""
        found: Mapping[str, tuple[float, ...]] = self._norms(adapter)
        return found

    def thumbprint(self, adapter: "Adapter") -> "tuple[tuple[float, ...], ...]":
        """Return numbers that tell an adapter from others at a glance."""
        found: tuple[tuple[float, ...], ...] = self._thumbprint(adapter)
        return found

    def save(self, adapter: "Adapter", path: Path) -> Path:
        """Write an adapter as a zip that stock PEFT has opened."""
        saved: Path = self._save(adapter, path)
        return saved

    def push(
        self, adapter: "Adapter", repo: str, token: str | None, private: bool
    ) -> tuple[str, bool, str]:
        """Push an adapter to the Hub.

        Returns:
            Address, whether it is private, and how it is used.
        """
        return self._push(adapter, repo, token, private)

    # ------------------------------------------------------------------ step by step

    def synthesize(
        self,
        buckets: tuple[Bucket, ...],
        mix: Mix,
        seed: int,
        memory: "PromptMemory",
        stop: Stop | None = None,
    ) -> _Ticking:
        """Make an adapter of prompts."""
        return self._in_ticks(self._synthesize(buckets, mix, seed, memory), stop)

    def imprint(
        self,
        adapter: "Adapter",
        buckets: Sequence[Bucket],
        seed: int,
        memory: "PromptMemory | None",
        stop: Stop | None = None,
    ) -> _Ticking:
        """Imprint the instruction of prompts into an adapter."""
        return self._in_ticks(self._imprint(adapter, buckets, seed, memory), stop)

    @property
    def stop_keeps(self) -> bool:
        """Whether a training can be ended with what it has learnt: not in another process."""
        return not borrows_gpu()

    def teach(
        self,
        adapter: "Adapter",
        buckets: Sequence[Bucket],
        answers: Answers,
        enough: Stop,
        stop: Stop,
    ) -> _Ticking:
        """Train an adapter a little.

        Args:
            adapter: Where to start.
            buckets: Whose prompts are learnt, unless there are answers of a person.
            answers: What is learnt: the base's own answers, the labels, a person's or a teacher's.
            enough: Ends the training with what was learnt.
            stop: Ends it with nothing.
        """
        steps = self._teach(adapter, buckets, answers, enough if self.stop_keeps else None)
        # Who waits for a server must not keep the engine's own thread.
        return self.ticking(steps, stop, beside=isinstance(answers, Endpoint))

    def propose(self, buckets: Sequence[Bucket], limit: int, stop: Stop) -> _Ticking:
        """Let the base answer some prompts, for a person to correct."""
        return self._in_ticks(self._propose(buckets, limit), stop)

    def remake(self, recipe: Recipe, stop: Stop) -> _Ticking:
        """Carry out a recipe."""
        return self._in_ticks(self._remake(recipe), stop)

    def prove(
        self, adapter: "Adapter", buckets: Sequence[Bucket], memory: "PromptMemory | None"
    ) -> _Ticking:
        """Compare an adapter with others, made from other prompts than its own."""
        return self._in_ticks(self._prove(adapter, buckets, memory), None)

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
            strengths: Asked for the strength of each adapter at every token.
            stop: Ends the answers.

        Yields:
            Some of the replies on the way, and the last ones.
        """
        # A worker on a borrowed GPU sees nothing of the slider.
        seen = None if borrows_gpu() else strengths
        stop = stop or Stop()
        # The engine's thread does not wait for the page: drawing holds up no token.
        return self.ticking(_some(self._compare(rows, sampling, seen), stop), stop)

    def compare_remote(
        self,
        url: str,
        key: str,
        rows: "Sequence[tuple[str, list[Message]]]",
        sampling: Sampling,
        stop: Stop,
    ) -> "Generator[list[Reply] | None, None, None]":
        """Answer conversations by models of another server, each in its own time.

        Raises:
            DndError: If the server does not answer.
        """
        # It waits for the network, which is no work for the engine's thread.
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
        """Measure an adapter on labelled rows, or train a LoRA beside what was measured."""
        steps = self._measure(adapter, file, config, measured, warm_start)
        return self.ticking(steps, stop)

    def beside(self, steps: Iterator[Any]) -> Iterator[Any]:
        """Run steps in a thread of their own: they take long and need the engine for moments."""
        return self.ticking(steps, Stop(), beside=True)

    def last(self, steps: Generator[Any, None, None], left: Callable[[], bool]) -> Any:
        """Take all steps, and return the last one.

        Args:
            steps: Steps of this class; None is a tick.
            left: Whether whoever ordered them has gone away.

        Raises:
            DndError: They have, and the steps were ended early.
        """
        found = None
        # Closing the ticks ends the computation at its next step.
        with closing(steps):
            for step in steps:
                if left():
                    raise DndError(_("Ended early: the caller left."))
                found = found if step is None else step
        return found

    def _in_ticks(self, steps: _Tagged, stop: Stop | None) -> _Ticking:
        return self.ticking(steps, stop or Stop())

    # ------------------------------------------------------------------ where the engine is

    def _inspect_here(self, adapter: "Adapter", buckets: Sequence[Bucket]) -> "Inspection":
        return self.ready().inspect(adapter, buckets)

    def _norms_here(self, adapter: "Adapter") -> "Mapping[str, tuple[float, ...]]":
        return self.ready().relative_norms(adapter)

    def _thumbprint_here(self, adapter: "Adapter") -> "tuple[tuple[float, ...], ...]":
        return self.ready().thumbprint(adapter)

    def _save_here(self, adapter: "Adapter", path: Path) -> Path:
        return self.ready().save(adapter, path)

    def _push_here(
        self, adapter: "Adapter", repo: str, token: str | None, private: bool
    ) -> tuple[str, bool, str]:
        pushed = self.ready().push(adapter, repo, token=token, private=private)
        return pushed.url, pushed.private, pushed.usage

    def _synthesize_here(
        self, buckets: tuple[Bucket, ...], mix: Mix, seed: int, memory: "PromptMemory"
    ) -> _Tagged:
        yield from _tagged(self.ready().synthesize(buckets, mix=mix, seed=seed, memory=memory))

    def _imprint_here(
        self,
        adapter: "Adapter",
        buckets: Sequence[Bucket],
        seed: int,
        memory: "PromptMemory | None",
    ) -> _Tagged:
        config = ImprintConfig(seed=seed)
        yield from _tagged(self.ready().imprint(adapter, buckets, config, memory=memory))

    def _teach_here(
        self,
        adapter: "Adapter",
        buckets: Sequence[Bucket],
        answers: Answers,
        enough: Stop | None,
    ) -> _Tagged:
        engine, ends = self.ready(), None if enough is None else enough.is_set
        if isinstance(answers, str):
            config = RefineConfig(labels=answers == "labels")
            yield from _tagged(engine.refine(adapter, buckets, config, enough=ends))
        else:
            yield from _tagged(engine.teach(adapter, answers, buckets, enough=ends))

    def _propose_here(self, buckets: Sequence[Bucket], limit: int) -> _Tagged:
        yield from _tagged(self.ready().propose(buckets, limit=limit))

    def _remake_here(self, recipe: Recipe) -> _Tagged:
        yield from _tagged(self.ready().regenerate(recipe))

    def _prove_here(
        self, adapter: "Adapter", buckets: Sequence[Bucket], memory: "PromptMemory | None"
    ) -> _Tagged:
        yield from _tagged(self.ready().prove(adapter, buckets, memory=memory))

    def _compare_here(
        self,
        rows: "Sequence[Row]",
        sampling: Sampling,
        strengths: Sequence[Callable[[], float] | None] | None,
    ) -> "Generator[list[Reply], None, None]":
        conversations = [messages for messages, _adapter in rows]
        adapters = [adapter for _messages, adapter in rows]
        yield from self.ready().compare(
            conversations, adapters, sampling=sampling, strengths=strengths
        )

    def _measure_here(
        self,
        adapter: "Adapter",
        file: PromptFile,
        config: MeasureConfig | LabelledConfig,
        measured: "Measurement | None",
        warm_start: bool,
    ) -> "Iterator[MeasureStep]":
        engine = self.ready()
        if isinstance(config, MeasureConfig):
            yield from engine.measure(adapter, file, config)
        else:
            assert measured is not None
            yield from engine.train_lora(adapter, measured, config, warm_start=warm_start)


def _tagged(steps: Generator[Any, None, Any]) -> _Tagged:
    """Yield what a generator of the engine yields and returns, as pairs that can be pickled."""
    try:
        while True:
            try:
                yield "progress", next(steps)
            except StopIteration as done:
                yield "result", done.value
                return
    finally:
        steps.close()


def _some(steps: "Generator[list[Reply], None, None]", stop: Stop) -> "Iterator[list[Reply]]":
    """Pass on the first step, the last, and some between."""
    due, replies = 0.0, None
    with closing(steps):
        for replies in steps:
            if stop.is_set():
                return
            if (now := time.monotonic()) >= due:
                due = now + _STREAM_SECONDS
                yield replies
                replies = None
    if replies is not None:
        yield replies
