"""Limits on request bodies: size, structure, number of files, memory and time."""

import asyncio
from collections.abc import Callable

from python_multipart.multipart import parse_options_header
from starlette.types import Message, Receive

from dnd_engine.limits import FIXED
from ui.server.shares import HeldBytes

MIN_CHARGED = 64_000
"""Minimum bytes charged per uploaded file: small files take more disk space than their size."""


class ChargedFiles:
    """Counts the files of an upload, because Gradio accepts a thousand per request.

    Args:
        content_type: Content-Type header, which contains the boundary between files.
        charge: Charges a number of bytes; returns False if refused.
        paid: Bytes charged already.
    """

    def __init__(self, content_type: str, charge: Callable[[int], bool], paid: int) -> None:
        # Parse the header as Gradio does, or a crafted one could give each of us another boundary.
        boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
        self._mark = b"\r\n--" + boundary  # one follows each part
        self._charge, self._paid = charge, paid
        self._files, self._rest = 0, b""

    def take(self, data: bytes) -> bool:
        """Charge the files that end in this chunk; return False if refused."""
        data = self._rest + data
        self._files += data.count(self._mark)
        self._rest = data[1 - len(self._mark) :]  # a boundary may be split between chunks
        owed = self._files * MIN_CHARGED - self._paid
        if owed > 0 and not self._charge(owed):
            return False
        self._paid += max(owed, 0)
        return True


class BoundedBody:
    """A body that is cut off at its limits, as if the client had disconnected.

    An empty list is two bytes of JSON but takes 64 in memory, so limiting bytes is not enough:
    brackets and commas are counted too, including those in strings.

    Args:
        receive: ASGI `receive` of the whole body.
        most: Maximum bytes.
        held: Counter of its bytes in memory. An upload takes none: it is written to disk.
        seconds: Maximum time until it has arrived; not for an upload, which may be large.
        files: Counter of its files; None for a body that is not an upload.
    """

    def __init__(
        self,
        receive: Receive,
        most: int,
        held: HeldBytes,
        seconds: float,
        files: ChargedFiles | None = None,
    ) -> None:
        self._receive, self._held, self._files = receive, held, files
        self._due = None if files is not None else asyncio.get_running_loop().time() + seconds
        self._taken = self._brackets = self._commas = 0
        self.most = most
        self.too_large = False
        self.too_many = False
        """Whether an upload had more files than could be charged."""
        self.too_fine = False
        """Whether JSON had too many lists, objects or items."""
        self.too_slow = False
        self.without_room = False
        """Whether its bytes found no room in memory beside those of other bodies."""

    async def receive(self) -> Message:
        """Return the next chunk, or a disconnect at a limit."""
        try:
            async with asyncio.timeout_at(self._due):
                message = await self._receive()
        except TimeoutError:
            self.too_slow = True
            return {"type": "http.disconnect"}
        if not message.get("more_body"):
            self._due = None  # what follows is the wait for a disconnect
        data = message.get("body", b"")
        self._taken += len(data)
        self.too_large = self._taken > self.most
        if self._files is None:
            self._count_parts(data)
            # For good, even if another body ends while this one is being refused.
            self.without_room |= not self._held.grow(self._taken)
        elif not self.too_many:
            self.too_many = not self._files.take(data)
        return {"type": "http.disconnect"} if self.is_cut else message

    @property
    def is_cut(self) -> bool:
        """Return whether the body was cut off."""
        return any((self.too_large, self.too_many, self.too_fine, self.too_slow, self.without_room))

    def _count_parts(self, data: bytes) -> None:
        self._brackets += data.count(b"[") + data.count(b"{")
        self._commas += data.count(b",")
        self.too_fine = (
            self._brackets > FIXED.max_json_brackets or self._commas > FIXED.max_json_commas
        )
