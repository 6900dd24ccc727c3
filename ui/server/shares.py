"""How much of the server each visitor may take, and all of them together.

Counts recent uploads and logins, bodies in memory, and open connections and streams. Not
thread-safe: for the server's event loop.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable

BODY_KEY = "dnd.body"
"""Key of a request's `HeldBytes` in its scope."""
_FREE = 64_000
"""Bytes of each body that count for nothing, so that small requests pass while others are large.
The server buffers that much of any request."""


class Share:
    """Amounts that visitors, pages or sessions hold until they give them back.

    By default, neither the amount of a holder nor that of all is limited; both are only counted.
    """

    def __init__(self, most_each: float = math.inf, most: float = math.inf) -> None:
        self._most_each, self._most = most_each, most
        self.amounts: Counter[str] = Counter()
        """Amount by holder, of those who hold any."""
        self._total = 0

    def take(self, holder: str, amount: int = 1) -> bool:
        """Count an amount and return True, or count nothing and return False."""
        mine, total = self.amounts[holder] + amount, self._total + amount
        if mine > self._most_each or total > self._most:
            return False
        self.amounts[holder], self._total = mine, total
        return True

    def give_back(self, holder: str, amount: int = 1) -> None:
        """Count an amount no longer."""
        self._total -= amount
        self.amounts[holder] -= amount
        if not self.amounts[holder]:
            del self.amounts[holder]  # or the table would grow with every address


class SlidingShare:
    """Amounts that count for some seconds after visitors took them; nothing else uses the share."""

    def __init__(
        self, share: Share, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._share, self._seconds, self._clock = share, seconds, clock
        self._taken: deque[tuple[float, str, int]] = deque()

    def take(self, visitor: str, amount: int = 1) -> bool:
        """Count an amount and return True, or count nothing and return False."""
        now = self._clock()
        while self._taken and self._taken[0][0] <= now - self._seconds:
            self._share.give_back(*self._taken.popleft()[1:])
        if not self._share.take(visitor, amount):
            return False
        self._taken.append((now, visitor, amount))
        return True


class HeldBytes:
    """The bytes of one body, which count until it is released."""

    def __init__(self, share: Share, visitor: str) -> None:
        self._share, self._visitor, self._num_bytes = share, visitor, 0
        self._released = False
        self.is_handed_over = False
        """Whether a call in the queue keeps the body when its request ends."""

    def grow(self, num_bytes: int) -> bool:
        """Count a body that has this many bytes by now; return False if there is no room."""
        more = max(0, num_bytes - _FREE) - self._num_bytes
        if self._released or more <= 0:
            return True
        if not self._share.take(self._visitor, more):
            return False
        self._num_bytes += more
        return True

    def release(self) -> None:
        """Count nothing any more, whatever still arrives."""
        self._released = True
        self._share.give_back(self._visitor, self._num_bytes)
        self._num_bytes = 0
