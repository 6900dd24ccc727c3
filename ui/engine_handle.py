"""The one engine of this process: loaded in its own thread, so the page is usable at once.

Its owner may exchange it for one with other models; what is being computed ends with the old one.

The engine, and with it torch, is imported by that thread alone.
"""

import gc
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dnd_engine.config import EngineConfig
from dnd_engine.errors import ConfigError, DndError
from ui.engine_thread import EngineThread
from ui.spaces import borrows_gpu

if TYPE_CHECKING:
    from dnd_engine.engine import Engine
    from dnd_engine.progress import Progress

__all__ = ["EngineHandle", "LoadState"]

logger = logging.getLogger(__name__)

_END_SECONDS = 10.0
"""How long a switch waits for the step that is computed."""

_Load = Callable[[Callable[["Progress"], None]], "Engine"]


@dataclass(frozen=True, slots=True)
class LoadState:
    """How far the engine is, at one moment."""

    status: Literal["idle", "loading", "ready", "failed"]
    progress: "Progress | None" = None
    """The last step reported, while loading."""
    message: str = ""
    """Why it failed."""


class EngineHandle:
    """Starts, watches and hands out the engine.

    Args:
        load: Makes the engine and reports progress; runs in the engine's thread.
        config: What it loads.
        shared: Whether the page serves others, who do not read which files there are.
    """

    def __init__(
        self, load: _Load, config: EngineConfig | None = None, *, shared: bool = False
    ) -> None:
        self._load, self._shared = load, shared
        self.config = config or EngineConfig()
        """What is loaded, or will be."""
        self.thread = EngineThread()
        """In which the engine is loaded and computes."""
        self._changed = threading.Condition()
        self._state = LoadState("idle")
        self._engine: Engine | None = None
        self._error: DndError | None = None
        self._tried = False

    @classmethod
    def of(cls, config: EngineConfig, *, shared: bool = False) -> "EngineHandle":
        """Make a handle that will load the engine of a config."""
        return cls(_loader(config), config, shared=shared)

    def switch(self, config: EngineConfig) -> None:
        """Let go of the engine with all that runs on it, and load another.

        Raises:
            ConfigError: If one is being loaded.
        """
        with self._changed:
            if self._state.status == "loading":
                raise ConfigError("the models are still loading. Wait until they are ready.")
            self._load, self.config = _loader(config), config
            self._engine = self._error = None
            self._state = LoadState("loading")
        # Whoever computes holds the engine, and there may be no room for two.
        self.thread.dismiss(_END_SECONDS)
        self.thread.start(self._run)

    def start(self) -> None:
        """Begin to load; also tries again after a failure. Does nothing while loading or ready."""
        with self._changed:
            if self._state.status in ("loading", "ready"):
                return
            self._state = LoadState("loading")
            self._error = None
        self.thread.start(self._run)

    def snapshot(self) -> LoadState:
        """Return how far the load is."""
        with self._changed:
            return self._state

    @property
    def engine(self) -> "Engine | None":
        """The engine, if it is ready."""
        with self._changed:
            return self._engine

    def wait(self, timeout: float) -> "Engine | None":
        """Return the engine, or None if it is not ready after `timeout` seconds.

        Raises:
            DndError: What the load failed with.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._state.status in ("ready", "failed", "idle"), timeout=timeout
            )
            if self._error is not None:
                raise self._error
            return self._engine

    def _run(self) -> None:
        if self._tried:
            gc.collect()  # the engine before this one goes first: there may be no room for two
        self._tried = True
        try:
            engine = self._load(self._report)
        except DndError as error:
            if not self.thread.ending.is_set():
                logger.warning("The engine did not load: %s", error)
            self._fail(_reported(error) if self._shared else error)
        except Exception as error:  # noqa: BLE001 - a thread has no caller, and the page must tell
            self._fail(_reported(error))
        else:
            self._warm_up(engine)
            self._finish(LoadState("ready"), engine=engine)

    def _warm_up(self, engine: "Engine") -> None:
        if borrows_gpu():
            return  # it is there in marked functions alone
        try:
            engine.warm_up()
        except Exception:  # no visitor ordered this: only the log can say it
            # An order that fails the same way shows its error; an error that got out of here
            # would leave the page loading for ever.
            logger.exception("The engine did not warm up; the first order will take longer")

    def _report(self, progress: "Progress") -> None:
        if self.thread.ending.is_set():
            raise DndError("The process ends.")
        with self._changed:
            self._state = LoadState("loading", progress)

    def _fail(self, error: DndError) -> None:
        self._finish(LoadState("failed", message=str(error)), error=error)

    def _finish(
        self, state: LoadState, *, engine: "Engine | None" = None, error: DndError | None = None
    ) -> None:
        with self._changed:
            self._state, self._engine, self._error = state, engine, error
            self._changed.notify_all()


def _loader(config: EngineConfig) -> _Load:
    """Return what loads the engine of a config."""

    def load(on_progress: Callable[["Progress"], None]) -> "Engine":
        from dnd_engine.engine import Engine

        return Engine.load(config, on_progress)

    return load


def _reported(error: Exception) -> DndError:
    """Log an error, and return a sentence with its reference."""
    from ui.faults import report_fault  # Gradio, which `dnd --help` does without

    return DndError(report_fault(error, "load"))
