"""Who a request counts for: its address, or the network that one customer has."""

import ipaddress
from collections.abc import Mapping
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
