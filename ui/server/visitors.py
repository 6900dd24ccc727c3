"""Recent usage by each visitor: sums over a sliding window, by address."""

import ipaddress
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from ui.spaces import on_space


def visitor_of(address: str, headers: Mapping[str, str]) -> str:
    """Return the address that identifies the visitor of a request.

    On a Space every request comes from the Hub's proxy, which appends the address it saw to
    X-Forwarded-For. Elsewhere that header is an unverified claim, so it counts only from a proxy
    that the operator named (see `ui.serve.trusted_proxies`).

    Args:
        address: Address of the connection.
        headers: Headers of the request, by lower-case name.
    """
    return _network_of(_address_behind(address, headers))


def sender_of(request: Any) -> str:
    """Return the visitor who sent a request of Starlette or Gradio."""
    return _network_of(address_of(request))


def address_of(request: Any) -> str:
    """Return the address of a request, as `visitor_of` finds it."""
    client = getattr(request, "client", None)  # Gradio's request of a direct call has no client
    return _address_behind(client.host if client else "", getattr(request, "headers", {}))


def _address_behind(address: str, headers: Mapping[str, str]) -> str:
    # Elsewhere uvicorn reads the header by itself, and only from a proxy that is trusted.
    if on_space():
        # From the right, because the left is whatever the client sent. Private addresses are
        # those of inner proxies.
        for entry in reversed(headers.get("x-forwarded-for", "").split(",")):
            try:
                if (seen := ipaddress.ip_address(entry.strip())).is_global:
                    return str(seen)
            except ValueError:
                continue
    return address


def _network_of(address: str) -> str:
    """Return an IPv4 address, or the /64 network of an IPv6 one, which belongs to one customer."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address  # not an address: a test client or a socket file
    # A mapped address is that of one IPv4 client, on a socket for both versions.
    if isinstance(found, ipaddress.IPv4Address) or found.ipv4_mapped:
        return address
    # A customer may use any of 2**64 addresses, and each would have a share of its own.
    return str(ipaddress.ip_network((found, 64), strict=False))


class SlidingSum:
    """Amounts per visitor within a sliding window. Not thread-safe: for the server's event loop.

    Args:
        seconds: Length of the window.
        most_each: Maximum per visitor.
        most: Maximum of all visitors; None for no limit.
        clock: Clock in seconds.
    """

    def __init__(
        self,
        seconds: float,
        most_each: int,
        most: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds, self._most_each, self._most = seconds, most_each, most
        self._clock = clock
        self._taken: deque[tuple[float, str, int]] = deque()
        self._by_visitor: dict[str, int] = {}
        self._total = 0

    def take(self, visitor: str, amount: int = 1) -> bool:
        """Count an amount and return True, or count nothing and return False."""
        self._forget()
        mine = self._by_visitor.get(visitor, 0) + amount
        if mine > self._most_each:
            return False
        if self._most is not None and self._total + amount > self._most:
            return False
        self._taken.append((self._clock(), visitor, amount))
        self._by_visitor[visitor] = mine
        self._total += amount
        return True

    def _forget(self) -> None:
        since = self._clock() - self._seconds
        while self._taken and self._taken[0][0] <= since:
            _, visitor, amount = self._taken.popleft()
            self._total -= amount
            left = self._by_visitor[visitor] - amount
            # Entries of 0 go, or the table would grow with every address.
            if left:
                self._by_visitor[visitor] = left
            else:
                del self._by_visitor[visitor]
