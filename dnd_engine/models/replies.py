"""Messages and answers of a chat, in plain values; imports no torch."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["ChatStep", "Message", "Reply"]

Message = dict[str, str]
"""`role` (system, user or assistant) and `content`, as chat templates take it."""

StopReason = Literal["eos", "length"]


@dataclass(frozen=True, slots=True)
class Reply:
    """One row's answer so far."""

    text: str
    num_tokens: int
    stop_reason: StopReason | None
    first_token_seconds: float
    tokens_per_second: float
    """Over the tokens after the first."""

    @property
    def finished(self) -> bool:
        """Whether the row has ended."""
        return self.stop_reason is not None


@dataclass(frozen=True, slots=True)
class ChatStep:
    """Both answers after one step; `adapted` is None when only the base was asked."""

    base: Reply
    adapted: Reply | None
