"""Joins the next tokens of chats that run at the same time into one forward pass.

On a CPU most of a token's time goes into reading the base's weights, and once read they serve every
row. So a chat that asks for its next token while another one computes joins the pass after that.
Knows threads and tokens; knows no conversations.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from dnd_engine.models.forward import Forward
from dnd_engine.models.new_tokens import NewTokens

__all__ = ["JoinedSteps"]

_LINGER_SECONDS = 0.02
"""How long a pass waits for a chat that was part of the last one and still samples from it: half of
a pass, which is what going without it would cost."""


@dataclass(slots=True, eq=False)
class _Asked:
    """A chat's request for its next logits."""

    chat: object
    forward: Forward
    tokens: NewTokens
    thread: int = field(default_factory=threading.get_ident)
    logits: Tensor | None = None
    error: BaseException | None = None

    @property
    def ended(self) -> bool:
        return self.logits is not None or self.error is not None

    def result(self) -> Tensor:
        if self.error is not None:
            raise self.error
        assert self.logits is not None
        return self.logits


class JoinedSteps:
    """The chats of one base. The thread of one of them computes each pass, for all that wait."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[_Asked] = []
        self._led = False
        self._expected: dict[object, int] = {}
        """Chats of the last pass that have not ended, with their threads."""

    @contextmanager
    def chat(self) -> Iterator[object]:
        """Return a chat's key for `logits`; the others no longer wait for it after the block."""
        key = object()
        try:
            yield key
        finally:
            with self._changed:
                self._expected.pop(key, None)
                self._changed.notify_all()

    def logits(
        self,
        chat: object,
        forward: Forward,
        tokens: NewTokens,
        computing: Callable[[], AbstractContextManager[None]],
    ) -> Float[Tensor, "rows vocabulary"]:
        """Return the logits after one new token of each row.

        Args:
            chat: Key from `chat`.
            forward: Forward pass of the base; chats of another one are computed separately.
            tokens: One new token of every row.
            computing: Context in which the base may be used.
        """
        asked = _Asked(chat, forward, tokens)
        with self._changed:
            self._waiting.append(asked)
            self._changed.notify_all()
            self._changed.wait_for(lambda: asked.ended or not self._led)
            if asked.ended:
                return asked.result()
            self._led = True
            self._changed.wait_for(self._all_wait, timeout=_LINGER_SECONDS)
        try:
            with computing():
                _compute(forward, self._take(forward))
        finally:
            with self._changed:
                self._led = False
                if asked in self._waiting:
                    self._waiting.remove(asked)
                self._changed.notify_all()
        return asked.result()

    def _all_wait(self) -> bool:
        """Return whether no chat of the last pass may be about to ask."""
        wait = {asked.chat for asked in self._waiting}
        here = threading.get_ident()  # a chat of this thread cannot ask now
        return all(chat in wait or thread == here for chat, thread in self._expected.items())

    def _take(self, forward: Forward) -> list[_Asked]:
        """Return the requests for a forward pass, which wait no longer."""
        with self._changed:
            taken = [asked for asked in self._waiting if asked.forward is forward]
            self._waiting = [asked for asked in self._waiting if asked.forward is not forward]
            self._expected = {asked.chat: asked.thread for asked in taken}
        return taken


@torch.inference_mode()
def _compute(forward: Forward, step: list[_Asked]) -> None:
    try:
        hidden = forward.next_hidden([asked.tokens for asked in step])
        logits = forward.logits(torch.cat([states[:, -1] for states in hidden]))
    except BaseException as error:  # noqa: BLE001 - raised again in the thread of each chat
        for asked in step:
            asked.error = error
        return
    parts = logits.split([len(states) for states in hidden])
    for asked, own in zip(step, parts, strict=True):
        asked.logits = own
