"""Bodies of requests as they arrive: where one ends, and how many files it brings."""

from collections.abc import Callable

from python_multipart.multipart import parse_options_header
from starlette.types import Message, Receive

from dnd_engine.limits import FIXED

__all__ = ["MIN_CHARGED", "BoundedBody", "ChargedFiles"]

MIN_CHARGED = 64_000
"""Bytes that each uploaded file counts at least: small ones cost the disk more than their size."""


class ChargedFiles:
    """Counts the files of an upload, of which Gradio takes a thousand at once.

    Args:
        content_type: The header, which says what is between two files.
        charge: Takes a number of bytes, or refuses it.
        paid: Bytes that are charged already.
    """

    def __init__(self, content_type: str, charge: Callable[[int], bool], paid: int) -> None:
        # Read as Gradio reads it, or a header could tell the two of us different things.
        boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
        self._mark = b"\r\n--" + boundary  # one after each part
        self._charge, self._paid = charge, paid
        self._files, self._rest = 0, b""

    def take(self, data: bytes) -> bool:
        """Charge the files that end in some bytes; False if they are refused."""
        data = self._rest + data
        self._files += data.count(self._mark)
        self._rest = data[1 - len(self._mark) :]  # a mark may be cut in two
        owed = self._files * MIN_CHARGED - self._paid
        if owed > 0 and not self._charge(owed):
            return False
        self._paid += max(owed, 0)
        return True


class BoundedBody:
    """A body that ends where it brings too much, as if the sender had left.

    An empty list, two bytes of JSON, takes 64 in memory, so bytes alone do not bound a body that is
    no upload: its brackets and commas are counted, those in strings included.

    Args:
        receive: Brings the whole body.
        most: Bytes that it may have.
        files: Counts its files; None for a body that is no upload.
    """

    def __init__(self, receive: Receive, most: int, files: ChargedFiles | None = None) -> None:
        self._receive, self._files = receive, files
        self._taken = self._brackets = self._commas = 0
        self.most = most
        self.too_large = False
        self.too_many = False
        """Of an upload: more files than may be charged."""
        self.too_fine = False
        """Of JSON: more lists, objects or items than it may hold."""

    async def receive(self) -> Message:
        """Bring the next part, or say that the sender left."""
        message = await self._receive()
        data = message.get("body", b"")
        self._taken += len(data)
        self.too_large = self._taken > self.most
        if self._files is None:
            self._count_parts(data)
        elif not self.too_many:
            self.too_many = not self._files.take(data)
        return {"type": "http.disconnect"} if self.is_cut else message

    @property
    def is_cut(self) -> bool:
        """Whether it ended before its end."""
        return self.too_large or self.too_many or self.too_fine

    def _count_parts(self, data: bytes) -> None:
        self._brackets += data.count(b"[") + data.count(b"{")
        self._commas += data.count(b",")
        self.too_fine = (
            self._brackets > FIXED.max_json_brackets or self._commas > FIXED.max_json_commas
        )
