"""Messages and answers of a chat, in plain values; imports no torch."""

from dataclasses import dataclass
from typing import Literal

Message = dict[str, str]
"""`role` (system, user or assistant) and `content`, as in chat templates."""

StopReason = Literal["eos", "length"]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer so far."""

    text: str
    num_tokens: int
    stop_reason: StopReason | None
    first_token_seconds: float
    tokens_per_second: float
    """Speed after the first token."""

    @property
    def finished(self) -> bool:
        """Return whether the answer has ended."""
        return self.stop_reason is not None


@dataclass(frozen=True, slots=True)
class ChatStep:
    """Both answers after one step; `adapted` is None if only the base answers."""

    base: Reply
    adapted: Reply | None
