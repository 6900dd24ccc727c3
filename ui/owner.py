"""The owner of this computer, identified by a key that is new at each start.

A page on one's own computer may be behind a proxy or a tunnel, and other accounts of the machine
can open it too. So neither an address nor a header proves anything. The key is only in the printed
address; opening it sets a cookie, which alone opens the owner's library and login.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode

from starlette.requests import cookie_parser

from dnd_engine.library import Library

KEY_PARAMETER = "token"
"""Query parameter with the key, named as in Jupyter."""


@dataclass(frozen=True, slots=True)
class Owner:
    """This computer's user: their library and key."""

    library: Library
    key: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    def address(self, url: str) -> str:
        """Return the address that opens the page with the library."""
        return f"{url.rstrip('/')}/?{urlencode({KEY_PARAMETER: self.key})}"

    def owns(self, headers: Mapping[str, str]) -> bool:
        """Return whether the headers are of a browser that opened the printed address."""
        # Not `SimpleCookie`, which stops at what it cannot read: all apps of a host share its
        # cookies, whatever the port.
        given = cookie_parser(headers.get("cookie", "")).get(_cookie_name(headers))
        return given is not None and self._is_key(given)

    def admit(self, headers: Mapping[str, str], query: str) -> tuple[str, str | None] | None:
        """Check the key in the address of a page that is being opened.

        Returns:
            Redirect target without the key, relative to the page, and the cookie to set, or None
            for a wrong key. None if the address has no key.
        """
        values = parse_qsl(query, keep_blank_values=True)
        keys = [value for name, value in values if name == KEY_PARAMETER]
        if not keys:
            return None
        rest = urlencode([pair for pair in values if pair[0] != KEY_PARAMETER])
        # Without host or path, so that nobody can use it to redirect visitors elsewhere.
        place = f"./?{rest}" if rest else "./"
        if not self._is_key(keys[0]):
            return place, None
        # SameSite=Strict: no request started by another site carries it. A session cookie, because
        # the key ends with this process anyway.
        # Not Secure, because a page on one's own computer is served over plain HTTP.
        return place, f"{_cookie_name(headers)}={self.key}; Path=/; HttpOnly; SameSite=Strict"

    def _is_key(self, given: str) -> bool:
        # As bytes: for texts it refuses what is not ASCII, which a client may send.
        return secrets.compare_digest(given.encode(), self.key.encode())


def _cookie_name(headers: Mapping[str, str]) -> str:
    # Browsers send cookies to every port of a host, so the name contains the port.
    port = headers.get("host", "").rpartition(":")[2]
    return f"dnd-owner-{port}" if port.isascii() and port.isdigit() else "dnd-owner"
