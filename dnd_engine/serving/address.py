"""Where a server is: which addresses are taken, and which a visitor may not have us reach.

A page that serves others must not become a way into its own network, so `public_only` resolves
the name, refuses any address that is not public, and hands back the very address to connect to:
a name that answers differently the second time leads nowhere else.
"""

import ipaddress
import re
import socket
from dataclasses import dataclass, replace
from urllib.parse import SplitResult, urlsplit, urlunsplit

import httpx

from dnd_engine.errors import RemoteError

__all__ = ["Target", "base_url", "chat_path", "resolve"]

_CHAT = "/chat/completions"
_EXPECTED = "Expected http://HOST:PORT or https://HOST"

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Target:
    """What a request connects to."""

    url: str
    host: str
    """The `Host` header."""
    name: str
    """What the server's certificate must be made out to."""


def base_url(url: str) -> str:
    """Return an address without `/v1` and what follows it.

    Raises:
        RemoteError: If it is no address of a server.
    """
    parts = _split(url)
    path = parts.path.rstrip("/").removesuffix(_CHAT).removesuffix("/v1").rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def chat_path(url: str) -> str:
    """Return the path of the chat endpoint after `base_url`.

    An address that ends in `/chat/completions` is taken as it is: not every provider has `/v1`.
    """
    path = urlsplit(url.strip()).path.rstrip("/")
    whole = path.endswith(_CHAT) and not path.endswith(f"/v1{_CHAT}")
    return _CHAT if whole else f"/v1{_CHAT}"


def resolve(url: str, *, public_only: bool, has_key: bool) -> Target:
    """Return what to connect to.

    Args:
        url: Address, from `base_url`.
        public_only: Whether addresses of this computer and its network are refused.
        has_key: Whether the request carries a key, which no network should read.

    Raises:
        RemoteError: If the address is refused, or the name has none.
    """
    parts = _split(url)
    assert parts.hostname is not None
    in_clear = has_key and parts.scheme == "http"
    target = Target(url, parts.netloc, parts.hostname)
    if not public_only and not in_clear:
        return target
    found = _addresses(parts.hostname)
    if in_clear and any(address.is_global for address in found):
        raise RemoteError(
            f"`{url}` would carry the key unencrypted. Use https, or leave the key out."
        )
    if not public_only:
        return target
    if not all(_is_public(address) for address in found):
        raise RemoteError(
            f"`{url}` is an address of this server's own network, which this page does not reach. "
            "Give a public address, or run the app on your own computer."
        )
    literal = f"[{found[0]}]" if found[0].version == 6 else str(found[0])
    netloc = literal if parts.port is None else f"{literal}:{parts.port}"
    return replace(target, url=urlunsplit(parts._replace(netloc=netloc)))


def _split(url: str) -> SplitResult:
    """Take an address apart; what may be a password or a key in it is not quoted."""
    shown = re.split(r"[?#]", url.strip())[0]
    try:
        parts = urlsplit(url.strip())
        _ = parts.port  # raises for a port that is none, as the next line does for a name
        # Names in other letters than English ones go as DNS has them.
        netloc = httpx.URL(urlunsplit((*parts[:2], "", "", ""))).netloc.decode()
    except (ValueError, httpx.InvalidURL):
        parts, netloc = None, ""
    if "@" in (url if parts is None or not parts.netloc else parts.netloc):
        raise RemoteError(f"the address holds a name or a password. {_EXPECTED}, and give the key.")
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise RemoteError(f"`{shown}` is no address. {_EXPECTED}.")
    if parts.query or parts.fragment:
        raise RemoteError(f"`{shown}` has a `?` or `#`. {_EXPECTED}, without them.")
    return parts._replace(netloc=netloc)


def _addresses(hostname: str) -> list[_Address]:
    try:
        found = socket.getaddrinfo(hostname, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise RemoteError(
            f"no server is called `{hostname}` ({error}). Check the address."
        ) from error
    return [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]


def _is_public(address: _Address) -> bool:
    mapped = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    return address.is_global and not address.is_multicast and (not mapped or mapped.is_global)
