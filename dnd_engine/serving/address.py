"""Where a server is: which addresses are taken, and which may be sent a key.

Knows nothing of who asks: a page that serves others asks only servers that its operator named.
"""

import ipaddress
import re
import socket
from urllib.parse import SplitResult, urlsplit, urlunsplit

import httpx

from dnd_engine.errors import RemoteError

__all__ = ["base_url", "chat_path", "check_encrypted"]

_CHAT = "/chat/completions"
_EXPECTED = "Expected http://HOST:PORT or https://HOST"

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


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


def check_encrypted(url: str) -> None:
    """Refuse to send a key over networks that could read it.

    Args:
        url: Address, from `base_url`.

    Raises:
        RemoteError: If it is an unencrypted one outside of this network, or the name has none.
    """
    parts = _split(url)
    assert parts.hostname is not None
    if parts.scheme == "http" and any(one.is_global for one in _addresses(parts.hostname)):
        raise RemoteError(
            f"`{url}` would carry the key unencrypted. Use https, or leave the key out."
        )


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
