"""Who owns this computer: a key, new at each start, that only the printed address holds.

A page on one's own computer may stand behind a proxy or a tunnel, and other accounts of the machine
can open it too. So an address alone proves nothing, and neither does a header. Whoever opens the
printed address gets a cookie; the owner's library and login open with that cookie alone.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from dnd_engine.library import Library

__all__ = ["KEY_PARAMETER", "Owner"]

KEY_PARAMETER = "token"
"""The part of the address that holds the key, as Jupyter calls it."""


@dataclass(frozen=True, slots=True)
class Owner:
    """This computer's user: the library, and the key that proves them."""

    library: Library
    key: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    def address(self, url: str) -> str:
        """Return the address that opens the page with the library."""
        return f"{url.rstrip('/')}/?{urlencode({KEY_PARAMETER: self.key})}"

    def owns(self, headers: Mapping[str, str]) -> bool:
        """Whether a request comes from a browser that opened the printed address.

        Args:
            headers: Headers of the request, by lower-case name.
        """
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        cookie = cookies.get(_cookie_name(headers))
        return cookie is not None and self._is_key(cookie.value)

    def admit(self, headers: Mapping[str, str], query: str) -> tuple[str, str | None] | None:
        """Take the key out of the address of a page that is being opened.

        Args:
            headers: Headers of the request, by lower-case name.
            query: Query string of the request.

        Returns:
            Where to go on, relative to the page, and the cookie to set there, or None if the key is
            another one. None if the address has no key.
        """
        values = parse_qsl(query, keep_blank_values=True)
        keys = [value for name, value in values if name == KEY_PARAMETER]
        if not keys:
            return None
        rest = urlencode([pair for pair in values if pair[0] != KEY_PARAMETER])
        # Without a host or a path, so that nobody can send visitors elsewhere with it.
        place = f"./?{rest}" if rest else "./"
        if not self._is_key(keys[0]):
            return place, None
        # Strict: no request that another site starts carries it. A session cookie: the key ends
        # with this process anyway.
        return place, f"{_cookie_name(headers)}={self.key}; Path=/; HttpOnly; SameSite=Strict"

    def _is_key(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self.key.encode())


def _cookie_name(headers: Mapping[str, str]) -> str:
    # Browsers send cookies to every port of a host; the port keeps two servers apart.
    port = headers.get("host", "").rpartition(":")[2]
    return f"dnd-owner-{port}" if port.isascii() and port.isdigit() else "dnd-owner"
