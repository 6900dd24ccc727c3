"""Who a request counts for: its address, or the network that one customer has."""

import ipaddress
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ui.spaces import on_space
from ui.text import _

MAX_ID_CHARS = 100
"""Maximum length of a client's name for its session or upload: Gradio stores thousands of them. Its
own names have about ten characters."""

CALL = "x-dnd-call"
"""Header by which an event knows the MCP request that it is for."""
_open_calls: dict[str, str] = {}
"""Addresses of the clients of MCP requests, by name of the request."""


def sender_of(request: Any) -> str:
    """Return the visitor who sent a request of Starlette or Gradio.

    That is an IPv4 address, or the /64 network of an IPv6 one, which belongs to one customer.
    """
    address = address_of(request)
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address  # not an address: a test client or a socket file
    # A mapped address is that of one IPv4 client, on a socket for both versions.
    if isinstance(found, ipaddress.IPv4Address) or found.ipv4_mapped:
        return address
    # A customer may use any of 2**64 addresses, and each would have a share of its own.
    return str(ipaddress.ip_network((found, 64), strict=False))


def address_of(request: Any) -> str:
    """Return the address that a request came from.

    On a Space every request comes from the Hub's proxy, which appends the address it saw to
    X-Forwarded-For. Elsewhere that header is an unverified claim, so it counts only from a proxy
    that the operator named (see `ui.serve.trusted_proxies`); uvicorn then reads it by itself.
    """
    if on_space():
        # From the right, because the left is whatever the client sent. Private addresses are
        # those of inner proxies.
        headers = getattr(request, "headers", {})
        for entry in reversed(headers.get("x-forwarded-for", "").split(",")):
            try:
                if (seen := ipaddress.ip_address(entry.strip())).is_global:
                    return str(seen)
            except ValueError:
                continue
    client = getattr(request, "client", None)  # Gradio's request of a direct call has no client
    return str(client.host) if client else ""


@contextmanager
def open_call(address: str) -> Iterator[str]:
    """Name an MCP request from an address until it was answered or its client disconnected.

    Gradio's own client, which never leaves, calls the queue for it and passes on its headers.
    """
    name = secrets.token_hex(16)
    _open_calls[name] = address
    try:
        yield name
    finally:
        del _open_calls[name]


def caller_of(headers: Mapping[str, str]) -> str | None:
    """Return the address of the MCP client that a request is for; None for other requests."""
    return _open_calls.get(headers.get(CALL, ""))


def mcp_client_left(request: Any) -> bool:
    """Return whether a request is for an MCP client that disconnected."""
    call = request.headers.get(CALL)
    return call is not None and call not in _open_calls


def unfit_id() -> str:
    """Return the message for a client's name that is empty or too long."""
    return _("session_hash and upload_id: expected 1 to {number} characters.", number=MAX_ID_CHARS)
