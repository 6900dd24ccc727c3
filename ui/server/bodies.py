"""Limits on request bodies: size, structure, number of files, memory and time."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from python_multipart.multipart import parse_options_header
from starlette.requests import Request
from starlette.types import Message, Receive

from dnd_engine.limits import FIXED, ServerLimits
from ui.server.refusals import Refusal
from ui.server.routes import READING, UPLOAD, path_of
from ui.server.shares import BODY_KEY, HeldBytes, Share, SlidingShare
from ui.server.visitors import sender_of
from ui.text import _

MIN_CHARGED = 64_000
"""Minimum bytes charged per uploaded file: small files take more disk space than their size."""
_DISCONNECT: Message = {"type": "http.disconnect"}


class Bodies:
    """The bodies of all requests that arrive, and the size of recent uploads."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        # One of the largest fits, also if an operator raises that limit alone.
        each = max(limits.bodies_per_visitor_bytes, limits.request_bytes)
        self._memory = Share(each, max(limits.bodies_bytes, each))
        uploads = Share(limits.uploads_per_visitor_bytes, limits.uploads_bytes)
        self._uploads = SlidingShare(uploads, limits.upload_seconds)

    def check(self, request: Request) -> Refusal | None:
        """Refuse a body by the length that it states, and an upload also by recent ones."""
        if request.method in READING:
            return None
        try:
            length = int(request.headers.get("content-length", "0"))
        except ValueError:
            length = -1
        if length < 0:
            return Refusal(HTTPStatus.BAD_REQUEST, _("Content-Length: expected a number of bytes."))
        if length > (most := self._most_bytes(request)):
            return _too_large(most)
        if not path_of(request).startswith(UPLOAD):
            return None
        if "content-length" not in request.headers:
            return Refusal(HTTPStatus.LENGTH_REQUIRED, _("Uploads must state their length."))
        return self._charge(sender_of(request), max(length, MIN_CHARGED))

    def receive(self, request: Request, receive: Receive) -> "BoundedBody":
        """Return the body of a request that `check` let pass."""
        visitor, files = sender_of(request), None
        held = request.scope[BODY_KEY] = HeldBytes(self._memory, visitor)
        if request.method not in READING and path_of(request).startswith(UPLOAD):
            # A number by now, which is charged already.
            paid = max(int(request.headers.get("content-length", "0")), MIN_CHARGED)
            kind = request.headers.get("content-type", "")
            files = ChargedFiles(kind, lambda owed: self._charge(visitor, owed), paid)
        most, seconds = self._most_bytes(request), self._limits.body_seconds
        return BoundedBody(receive, most, held, seconds, files)

    def _most_bytes(self, request: Request) -> int:
        upload = path_of(request).startswith(UPLOAD)
        # Besides the file, a form contains its name.
        return self._limits.upload_bytes + 100_000 if upload else self._limits.request_bytes

    def _charge(self, visitor: str, num_bytes: int) -> Refusal | None:
        """Count bytes of an upload."""
        if self._uploads.take(visitor, num_bytes):
            return None
        words = _(
            "Too much was uploaded lately. Wait {number} minutes, and upload again.",
            number=self._limits.upload_seconds // 60,
        )
        return Refusal(HTTPStatus.TOO_MANY_REQUESTS, words)


class ChargedFiles:
    """Counts the files of an upload, because Gradio accepts a thousand per request.

    Its Content-Type, `kind`, has the boundary between files; `charge` may refuse their bytes, of
    which some are `paid` already.
    """

    def __init__(self, kind: str, charge: Callable[[int], Refusal | None], paid: int) -> None:
        # Parse the header as Gradio does, or a crafted one could give each of us another boundary.
        boundary = parse_options_header(kind)[1].get(b"boundary", b"")
        self._mark = b"\r\n--" + boundary  # one follows each part
        self._charge, self._paid = charge, paid
        self._files, self._rest = 0, b""

    def take(self, data: bytes) -> Refusal | None:
        """Charge the files that end in this chunk."""
        data = self._rest + data
        self._files += data.count(self._mark)
        self._rest = data[1 - len(self._mark) :]  # a boundary may be split between chunks
        owed = max(0, self._files * MIN_CHARGED - self._paid)
        refusal = self._charge(owed) if owed else None
        self._paid += 0 if refusal else owed
        return refusal


class BoundedBody:
    """A body cut off after `most` bytes or `seconds`, as if the client had disconnected.

    An empty list is two bytes of JSON but takes 64 in memory, so limiting bytes is not enough:
    brackets and commas are counted too, including those in strings. An upload, which has `files`,
    has no time limit, and takes nothing of `held`, because it is written to disk.
    """

    def __init__(
        self, receive: Receive, most: int, held: HeldBytes, seconds: int, files: ChargedFiles | None
    ) -> None:
        self._receive, self._most, self._held = receive, most, held
        self._seconds, self._files = seconds, files
        self._due = None if files is not None else asyncio.get_running_loop().time() + seconds
        self._taken = self._brackets = self._commas = 0
        self.refusal: Refusal | None = None
        """Why it was cut off; None if it was not."""

    async def receive(self) -> Message:
        """Return the next chunk, or a disconnect at a limit."""
        try:
            async with asyncio.timeout_at(self._due):
                message = await self._receive()
        except TimeoutError:
            self.refusal = self.refusal or self._too_slow()
            return _DISCONNECT
        if not message.get("more_body"):
            self._due = None  # what follows is the wait for a disconnect
        self.refusal = self.refusal or self._take(message.get("body", b""))
        return _DISCONNECT if self.refusal else message

    def release(self) -> None:
        """Let its memory count no longer, unless a call in the queue keeps it."""
        if not self._held.is_handed_over:
            self._held.release()

    def _take(self, data: bytes) -> Refusal | None:
        """Count a chunk; return why the body ends with it, if it does."""
        self._taken += len(data)
        over = _too_large(self._most) if self._taken > self._most else None
        if self._files is not None:
            return self._files.take(data) or over
        self._brackets += data.count(b"[") + data.count(b"{")
        self._commas += data.count(b",")
        if self._brackets > FIXED.max_json_brackets or self._commas > FIXED.max_json_commas:
            words = _(
                "The request has too many lists or items: expected at most {brackets} opening "
                "brackets and {commas} commas. Send the prompts in several calls, or as files.",
                brackets=FIXED.max_json_brackets,
                commas=FIXED.max_json_commas,
            )
            return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, words)
        if not self._held.grow(self._taken):
            words = _("Too many large requests at once. Wait for the others to end, and try again.")
            return Refusal(HTTPStatus.TOO_MANY_REQUESTS, words)
        return over

    def _too_slow(self) -> Refusal:
        words = _(
            "The request did not arrive within {number} seconds. Send the prompts in several "
            "calls, or as files.",
            number=self._seconds,
        )
        return Refusal(HTTPStatus.REQUEST_TIMEOUT, words)


def _too_large(most: int) -> Refusal:
    words = _("The request is too large: expected at most {number} MB.", number=most // 1_000_000)
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, words)
