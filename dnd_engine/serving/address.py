"""Server addresses: which are valid, and which may receive a key.

Does not know the user: a page that serves others must itself restrict which servers it contacts.
"""

import ipaddress
import re
import socket
from urllib.parse import SplitResult, urlsplit, urlunsplit

import httpx

from dnd_engine.errors import RemoteError
from dnd_engine.notes import noted

_CHAT = "/chat/completions"
_EXPECTED = noted("Expected http://HOST:PORT or https://HOST.")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def base_url(url: str) -> str:
    """Strip `/v1` and `/chat/completions` from an address.

    Raises:
        RemoteError: If it is not the address of a server.
    """
    parts = _split(url)
    path = parts.path.rstrip("/").removesuffix(_CHAT).removesuffix("/v1").rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def chat_path(url: str) -> str:
    """Return the path of the chat endpoint after `base_url`.

    An address that ends in `/chat/completions` is used as is: not every provider has `/v1`.
    """
    path = urlsplit(url.strip()).path.rstrip("/")
    whole = path.endswith(_CHAT) and not path.endswith(f"/v1{_CHAT}")
    return _CHAT if whole else f"/v1{_CHAT}"


def check_encrypted(url: str) -> None:
    """Check that a key would not cross other networks unencrypted to an address of `base_url`.

    Raises:
        RemoteError: If the address is unencrypted and outside of this network, or its name cannot
            be resolved.
    """
    parts = _split(url)
    assert parts.hostname is not None
    # One public address is enough, because the connection may use any that the name has.
    if parts.scheme == "http" and any(one.is_global for one in _addresses(parts.hostname)):
        raise RemoteError(
            "`{url}` would carry the key unencrypted. Use https, or leave the key out.", url=url
        )


def reason(error: Exception) -> str:
    """Return what a network error says, without the system's number in front."""
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__


def _split(url: str) -> SplitResult:
    """Parse an address; errors do not quote parts that may be a password or a key."""
    if not url.strip():
        raise RemoteError("the address is empty. {expected}", expected=_EXPECTED)
    shown = re.split(r"[?#]", url.strip())[0]
    try:
        parts = urlsplit(url.strip())
        _ = parts.port  # raises for an invalid port, as the next line does for an invalid name
        # DNS needs international names in their ASCII form.
        netloc = httpx.URL(urlunsplit((*parts[:2], "", "", ""))).netloc.decode()
    except (ValueError, httpx.InvalidURL):
        parts, netloc = None, ""
    # In an address that could not be parsed, any `@` may end a password.
    if "@" in (url if parts is None or not parts.netloc else parts.netloc):
        raise RemoteError(
            noted(
                "the address holds a name or a password. Expected http://HOST:PORT or "
                "https://HOST, and give the key."
            )
        )
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise RemoteError("`{url}` is no address. {expected}", url=shown, expected=_EXPECTED)
    if parts.query or parts.fragment:
        raise RemoteError(
            "`{url}` has a `?` or `#`. Expected http://HOST:PORT or https://HOST, without them.",
            url=shown,
        )
    return parts._replace(netloc=netloc)


def _addresses(hostname: str) -> list[_Address]:
    try:
        found = socket.getaddrinfo(hostname, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise RemoteError(
            "no server is called `{name}` ({reason}). Check the address.",
            name=hostname,
            reason=reason(error),
        ) from error
    # A link-local IPv6 address may name its interface, as in `fe80::1%eth0`.
    return [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]
