"""A frozen base, the host that applies adapters to it, and the lock that guards both.

They belong together: an adapter that is active while another thread runs the base would change that
thread's answers. Knows no prompts and no files.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from dnd_engine.lora.apply import LoRAHost
from dnd_engine.lora.layout import LoRALayout
from dnd_engine.models.base import BaseModel
from dnd_engine.models.forward import Forward, HookedForward
from dnd_engine.models.joined_steps import JoinedSteps
from dnd_engine.models.packed import PackedForward, refusal
from dnd_engine.models.threads import Threads
from dnd_engine.models.turns import TurnLock

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Runtime:
    """A base with its host and lock; one per resident model."""

    base: BaseModel
    host: LoRAHost
    """Applies adapters to the base."""
    lock: TurnLock = field(default_factory=TurnLock)
    """Guards base and host. Hold it for one batch, token or training step at a time, and never
    while waiting for something else. A single-threaded process need not hold it."""

    threads: Threads = field(default_factory=Threads)
    """Number of threads for chat while other processes compute."""
    joined: JoinedSteps = field(default_factory=JoinedSteps, init=False, repr=False)
    """The next tokens of chats that run at the same time."""
    _forward: Forward | None = field(default=None, init=False, repr=False)

    @property
    def forward(self) -> Forward:
        """Forward pass without gradients; chosen, and packed, on first use.

        Hold the lock while using it.
        """
        if self._forward is None:
            if (reason := refusal(self.base.model)) is None:
                self._forward = PackedForward(self.base)
            else:
                _log.info("The base runs through transformers' modules: %s.", reason)
                self._forward = HookedForward(self.base, self.host.applying)
        return self._forward

    @contextmanager
    def through(self, forward: Forward) -> Iterator[None]:
        """Use another forward pass inside the `with` block, for comparison."""
        before, self._forward = self._forward, forward
        try:
            yield
        finally:
            self._forward = before

    @contextmanager
    def one_token(self) -> Iterator[None]:
        """Compute one token of a chat inside the `with` block, on as many threads as pay off."""
        # In this order: torch has one number of threads, so only the lock's holder may set it.
        with self.lock, self.threads.that_pay():
            yield

    def __post_init__(self) -> None:
        # A host of another model would adapt that model, and this base would answer unadapted.
        assert self.host.model is self.base.model

    @classmethod
    def of(cls, base: BaseModel, layout: LoRALayout | None = None) -> "Runtime":
        """Prepare a base for adapters.

        Args:
            base: The frozen base. Its linear layers get hooks, which do nothing until an adapter is
                active.
            layout: Layers that adapters may change; None means all that a generator can change.

        Raises:
            LayoutMismatchError: If the base lacks a layer of the layout.
        """
        return cls(base, LoRAHost(base.model, layout or LoRALayout.from_config(base.config)))
