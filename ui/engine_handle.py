"""The engine of this process, loaded in its own thread so that the page is usable at once.

The owner may replace it by one with other models; running computations are then cancelled.

Only that thread imports the engine, and with it torch.
"""

import gc
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dnd_engine.config import EngineConfig
from dnd_engine.errors import ConfigError, DndError
from dnd_engine.models.allocator import give_back, importing
from ui.engine_thread import EngineThread
from ui.faults import report_fault
from ui.spaces import borrows_gpu

if TYPE_CHECKING:
    from dnd_engine.engine import Engine
    from dnd_engine.progress import Progress

logger = logging.getLogger(__name__)

_END_SECONDS = 10.0
"""Maximum wait of a switch for the step being computed."""

_Load = Callable[[Callable[["Progress"], None]], "Engine"]


@dataclass(frozen=True, slots=True)
class LoadState:
    """State of the engine at one moment."""

    status: Literal["idle", "loading", "ready", "failed"]
    progress: "Progress | None" = None
    """The last step reported, while loading."""
    engine: "Engine | None" = None
    error: DndError | None = None
    """Reason of the failure."""


class EngineHandle:
    """Loads the engine and provides access to it.

    Args:
        load: Creates the engine and reports progress, in the engine's thread.
        config: Configuration to load.
        shared: Whether the page serves others, who must not learn which files exist.
    """

    def __init__(
        self, load: _Load, config: EngineConfig | None = None, *, shared: bool = False
    ) -> None:
        self._load, self._shared = load, shared
        self.config = config or EngineConfig()
        """Configuration of the models that are loaded, or will be."""
        self.thread = EngineThread()
        """Thread that loads the engine and computes."""
        self._changed = threading.Condition()
        self._state = LoadState("idle")
        self._tried = False

    @classmethod
    def of(cls, config: EngineConfig, *, shared: bool = False) -> "EngineHandle":
        """Create a handle for an engine with this configuration."""
        return cls(_loader(config), config, shared=shared)

    def switch(self, config: EngineConfig) -> None:
        """Cancel everything on the engine, and load another one.

        Raises:
            ConfigError: If an engine is being loaded.
        """
        with self._changed:
            if self._state.status == "loading":
                raise ConfigError("the models are still loading. Wait until they are ready.")
            self._load, self.config = _loader(config), config
            # From here on nothing new finds the old engine, while its last steps end.
            self._state = LoadState("loading")
        # A running step still references the engine, and two may not fit into memory.
        self.thread.dismiss(_END_SECONDS)
        self.thread.start(self._run)

    def start(self) -> None:
        """Start loading, or retry after a failure. Does nothing while loading or ready."""
        with self._changed:
            if self._state.status in ("loading", "ready"):
                return
            self._state = LoadState("loading")
        self.thread.start(self._run)

    def snapshot(self) -> LoadState:
        """Return the state of loading."""
        with self._changed:
            return self._state

    @property
    def engine(self) -> "Engine | None":
        """The engine, if it is ready."""
        return self.snapshot().engine

    def wait(self, timeout: float) -> "Engine | None":
        """Return the engine, or None if it is not ready after `timeout` seconds.

        Raises:
            DndError: If loading failed.
        """
        with self._changed:
            # While idle, waiting would be in vain.
            self._changed.wait_for(
                lambda: self._state.status in ("ready", "failed", "idle"), timeout=timeout
            )
            if self._state.error is not None:
                # It is raised to everybody who waits. Each time its traceback would grow by the
                # frames of the caller, and would keep what these hold, such as visits.
                raise self._state.error.with_traceback(None)
            return self._state.engine

    def _run(self) -> None:
        if self._tried:
            gc.collect()  # free the earlier engine first: two may not fit into memory
        self._tried = True
        try:
            engine = self._load(self._report)
        except DndError as error:
            if not self.thread.ending.is_set():
                logger.warning("The engine did not load: %s", error)
            # The message may name folders, which are no business of strangers.
            self._fail(_reported(error) if self._shared else error)
        except Exception as error:  # noqa: BLE001 - a thread has no caller, and the page must tell
            self._fail(_reported(error))
        else:
            self._warm_up(engine)
            # A method of the engine would keep it in memory while the next one is loaded.
            self.thread.prepare = engine.runtime.threads.use_all
            give_back()  # reading weights and vocabularies frees some 20 MB again
            self._finish(LoadState("ready", engine=engine))
            if not borrows_gpu():
                self.thread.start(lambda: self._measure(engine), beside=True)

    def _measure(self, engine: "Engine") -> None:
        """Do what the first imprint would wait for, while the visitor is still choosing files."""
        try:
            for _ in engine.measure_ordinary():
                if self.thread.ending.is_set() or self.engine is not engine:
                    return
            give_back()
        except Exception:  # of any model; nobody waits for this, so the log has it
            logger.exception("Ordinary answers were not measured; the first imprint will do it")

    def _warm_up(self, engine: "Engine") -> None:
        if borrows_gpu():
            return  # on ZeroGPU, the GPU exists only inside marked functions
        try:
            engine.warm_up()
        except Exception:  # of any model; nobody waits for this, so the log has it
            # A later call that fails the same way shows its error; an exception that escaped here
            # would leave the page loading for ever.
            logger.exception("The engine did not warm up; the first order will take longer")

    def _report(self, progress: "Progress") -> None:
        if self.thread.ending.is_set():
            # This ends a download or conversion, for which an ending process would have to wait.
            raise DndError("The process ends.")
        with self._changed:
            self._state = LoadState("loading", progress)

    def _fail(self, error: DndError) -> None:
        self._finish(LoadState("failed", error=error))

    def _finish(self, state: LoadState) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()


def _loader(config: EngineConfig) -> _Load:
    """Return a function that loads an engine with this configuration."""

    def load(on_progress: Callable[["Progress"], None]) -> "Engine":
        with importing("torch"):
            from dnd_engine.engine import Engine

        return Engine.load(config, on_progress)

    return load


def _reported(error: Exception) -> DndError:
    """Log an error, and return a message with its reference."""
    return DndError(report_fault(error, "load"))
