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

from dnd_engine.models.new_tokens import NewTokens
from dnd_engine.models.packed import PackedForward

_LINGER_SECONDS = 0.02
"""Maximum wait of a pass for a chat of the last one that still samples from it. A chat that misses
a pass waits for half of one on average, which is about as long."""


# Compared by identity, because `==` of two tensors is a tensor and not one truth value.
@dataclass(slots=True, eq=False)
class _Asked:
    """A chat's request for its next logits."""

    chat: object
    forward: PackedForward
    tokens: NewTokens
    thread: int = field(default_factory=threading.get_ident)
    logits: Tensor | None = None
    failed: Exception | None = None

    @property
    def ended(self) -> bool:
        return self.logits is not None or self.failed is not None

    def result(self) -> Tensor:
        if self.failed is not None:
            raise self.failed
        assert self.logits is not None
        return self.logits


class JoinedSteps:
    """The chats of one base. The thread of one of them computes each pass, for all that wait."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[_Asked] = []
        self._has_leader = False
        self._expected: dict[object, int] = {}
        """Chats of the last pass that have not ended, with their threads."""

    @contextmanager
    def chat(self) -> Iterator[object]:
        """Yield a chat's key for `logits`; the others no longer wait for it after the block."""
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
        forward: PackedForward,
        tokens: NewTokens,
        computing: Callable[[], AbstractContextManager[None]],
    ) -> Float[Tensor, "rows vocabulary"]:
        """Return the logits after one new token of each row.

        Args:
            chat: Key from `chat`.
            forward: Forward pass of the base; chats of another one are computed separately.
            tokens: One new token of every row.
            computing: Makes the context in which the base may be used.

        Raises:
            Exception: What the pass raised, in every chat that was part of it.
        """
        asked = _Asked(chat, forward, tokens)
        leads = False
        try:
            with self._changed:
                self._waiting.append(asked)
                self._changed.notify_all()
                # Either a pass of somebody else answers this chat, or the lead becomes free.
                self._changed.wait_for(lambda: asked.ended or not self._has_leader)
                if not asked.ended:
                    # Lead before lingering: nobody else may start a pass meanwhile, and if an
                    # interrupt ends the wait, the `finally` below gives the lead back.
                    leads = self._has_leader = True
                    self._changed.wait_for(self._all_wait, timeout=_LINGER_SECONDS)
            if leads:
                with computing():
                    # Take the requests only now that the base is free: whoever asked while another
                    # pass ran is computed too. `_changed` is free meanwhile, so that chats can ask
                    # for the next pass.
                    _compute(forward, self._take(forward))
        finally:
            with self._changed:
                if leads:
                    self._has_leader = False
                # Only after an interrupt; otherwise a leader has taken the request.
                if asked in self._waiting:
                    self._waiting.remove(asked)
                self._changed.notify_all()
        return asked.result()

    def _all_wait(self) -> bool:
        """Return whether every chat of the last pass waits, so that lingering gains nothing."""
        wait = {asked.chat for asked in self._waiting}
        here = threading.get_ident()  # a chat of this thread cannot ask now
        return all(chat in wait or thread == here for chat, thread in self._expected.items())

    def _take(self, forward: PackedForward) -> list[_Asked]:
        """Return the requests for a forward pass, which wait no longer."""
        with self._changed:
            taken = [asked for asked in self._waiting if asked.forward is forward]
            self._waiting = [asked for asked in self._waiting if asked.forward is not forward]
            self._expected = {asked.chat: asked.thread for asked in taken}
        return taken


@torch.inference_mode()
def _compute(forward: PackedForward, requests: list[_Asked]) -> None:
    try:
        hidden = forward.joined_hidden([asked.tokens for asked in requests])
        logits = forward.logits(torch.cat([states[:, -1] for states in hidden]))
    except BaseException as error:
        # An interrupt is for the thread that it hit.
        failed = (
            error if isinstance(error, Exception) else RuntimeError("The pass was interrupted.")
        )
        for asked in requests:
            asked.failed = failed
        raise
    parts = logits.split([len(states) for states in hidden])
    for asked, own in zip(requests, parts, strict=True):
        asked.logits = own
