"""Client of an OpenAI-compatible server: requests with readable errors.

Knows HTTP and answers; knows no adapter. Replies are limited in time and size, and redirects are
not followed: a server controls neither how long we wait nor whom we contact.
"""

import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from dnd_engine.errors import PublishError, RemoteError
from dnd_engine.limits import FIXED
from dnd_engine.notes import noted
from dnd_engine.prompts.words import one_line
from dnd_engine.serving.address import base_url, check_encrypted, reason

ANSWER_TOKENS = 24
"""Maximum tokens of an answer that is only compared."""
_TOP = 5
_LEAST = -9999.0
"""Log-probability of a token that is ruled out, where a server says minus infinity: the difference
of two infinities is no number. Source: OpenAI's API and vLLM, which both say -9999."""
_SHOWN = 300
"""Maximum characters of a server's message to quote."""
_CONNECT_SECONDS = 10.0
KEY_REFUSED = (401, 403)
"""Statuses of a server that wants a key, or another one."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's reply."""

    status: int
    body: Any
    """Parsed JSON, or text if it is not JSON."""
    retry_after: float | None = None
    """Seconds after which the server asks to be tried again, if it says so."""
    key: str = field(default="", repr=False)
    """Key of the request, to be removed if the server quotes it."""

    @property
    def message(self) -> str:
        """Return the server's message, short and on one line."""
        body = self.body
        # OpenAI's form is an `error` with or without a `message` inside; SGLang has
        # `error_message`, FastAPI `detail`.
        if isinstance(body, dict):
            error = body.get("error", body)
            inner = error.get("message") if isinstance(error, dict) else error
            body = inner or body.get("error_message") or body.get("detail") or body
        # Escape sequences of a terminal are not for the user.
        words = one_line(" ".join(cleaned(str(body)).split()))
        # Before the cut below, which could leave half of the key.
        words = words.replace(self.key, "…") if self.key else words
        return words if len(words) <= _SHOWN else f"{words[:_SHOWN]}…"


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, with the log-probabilities of its first token and of alternatives."""

    text: str
    first: Mapping[str, float]
    """Log-probability by token; empty if the server gives none."""


class Server:
    """A server at one address, with or without `/v1`.

    It raises a `RemoteError` if the address or the bearer token `key` is invalid. So do its methods
    if no server answers, or a reply takes longer than `timeout` seconds or is too large.
    """

    def __init__(
        self, url: str, timeout: float = FIXED.max_reply_seconds, *, key: str = ""
    ) -> None:
        self.url = base_url(url)
        self._timeout = timeout
        key = key.strip()
        # Keys are printable ASCII without blanks; a line break would begin another header.
        if not key.isascii() or not key.isprintable() or " " in key:
            raise RemoteError(noted("the key holds letters that no key has. Copy it again."))
        self._key = key

    def get(self, path: str) -> Reply:
        """Send a GET request."""
        return self._send("GET", path, None)

    def post(self, path: str, values: Any) -> Reply:
        """Send a POST request with JSON."""
        return self._send("POST", path, values)

    def models(self) -> list[dict[str, Any]]:
        """List the server's models with `/v1/models`.

        Raises:
            RemoteError: If there is no such list.
        """
        reply = self.get("/v1/models")
        data = reply.body.get("data") if isinstance(reply.body, dict) else None
        if reply.status != 200 or not isinstance(data, list):
            way = noted(
                "Expected the list of an OpenAI-compatible server; check the address and the port."
            )
            if reply.status in KEY_REFUSED:
                way = noted("Give the server's key, or check the one you gave.")
            raise RemoteError(
                noted(
                    "`{server}` answered {status}: {reply}. {way_out}",
                    server=f"{self.url}/v1/models",
                    status=reply.status,
                    reply=reply.message,
                    way_out=way,
                ),
                status=reply.status,
            )
        return [model for model in data if isinstance(model, dict) and "id" in model]

    def ask(self, model: str, question: str, extra: Mapping[str, Any] | None = None) -> Said:
        """Ask one question with greedy decoding.

        Raises:
            PublishError: If the server refuses, or answers in another form.
        """
        values = {
            "model": model,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": ANSWER_TOKENS,
            "logprobs": True,
            "top_logprobs": _TOP,
            **(extra or {}),
        }
        reply = self.post("/v1/chat/completions", values)
        try:
            if reply.status != 200:
                raise KeyError(reply.status)
            choice = reply.body["choices"][0]
            text = cleaned(str(choice["message"]["content"]))
            log_probs = (choice.get("logprobs") or {}).get("content") or []
            rivals = log_probs[0]["top_logprobs"] if log_probs else []
            # In this order, `max` takes the bound for NaN too.
            first = {str(one["token"]): max(_LEAST, float(one["logprob"])) for one in rivals}
            return Said(text, first)
        except (
            AttributeError,
            KeyError,
            IndexError,
            TypeError,
            ValueError,
            OverflowError,
        ) as error:
            raise PublishError(
                f"`{self.url}` was asked as model `{one_line(model)}` and answered {reply.status}: "
                f"{reply.message}. The adapter is loaded, but it cannot be shown to work."
            ) from error

    def lines(self, path: str, values: Any) -> Generator["str | Reply", None, None]:
        """Send a POST request with JSON, and yield the lines of the event stream as they arrive.

        Yields:
            Lines; or one `Reply`, if the server does not send an event stream.
        """
        with self._open("POST", path, values) as (answer, chunks):
            kind = answer.headers.get("content-type", "")
            if answer.status_code != 200 or not kind.startswith("text/event-stream"):
                yield self._read(answer, b"".join(chunks))
                return
            rest = b""
            for chunk in chunks:
                # A chunk may end within a line, or within a character: decode whole lines only.
                *whole, rest = (rest + chunk).split(b"\n")
                # A stream may begin with a byte-order mark, which is no part of its first line.
                for line in whole:
                    yield line.decode("utf-8-sig", errors="replace").rstrip("\r")
            if rest:
                yield rest.decode("utf-8-sig", errors="replace")

    def _send(self, method: str, path: str, values: Any) -> Reply:
        with self._open(method, path, values) as (answer, chunks):
            return self._read(answer, b"".join(chunks))

    def reply(self, status: int, body: Any, retry_after: float | None = None) -> Reply:
        """Make a `Reply` that is safe to quote."""
        return Reply(status, body, retry_after, self._key)

    def _read(self, answer: httpx.Response, data: bytes) -> Reply:
        wait = answer.headers.get("retry-after", "")
        # A date is also allowed, and ignored. `isdigit` alone takes ², which `float` refuses.
        after = float(wait) if wait.isascii() and wait.isdigit() else None
        try:
            return self.reply(answer.status_code, json.loads(data), after)
        except (ValueError, RecursionError):  # not JSON, or too deeply nested
            # A redirect often has no text, and its target is what the user needs to know.
            place = answer.headers.get("location", "")
            words = data.decode(errors="replace") or place
            return self.reply(answer.status_code, words, after)

    @contextmanager
    def _open(
        self, method: str, path: str, values: Any
    ) -> Iterator[tuple[httpx.Response, Iterator[bytes]]]:
        """Send a request; the whole response, read in chunks, must arrive before the timeout."""
        # A server may ignore this wish; then `_bounded` refuses its reply.
        headers = {"accept-encoding": "identity"}
        sent = None
        if values is not None:
            headers["content-type"] = "application/json"
            sent = cleaned(json.dumps(values, ensure_ascii=False, allow_nan=False)).encode()
        if self._key:
            check_encrypted(self.url)
            headers["authorization"] = f"Bearer {self._key}"
        client = httpx.Client(
            timeout=httpx.Timeout(self._timeout, connect=min(self._timeout, _CONNECT_SECONDS)),
            follow_redirects=False,
        )
        deadline = time.monotonic() + self._timeout
        in_time = {"trace": _ends_by(deadline)}
        try:
            with (
                client,
                client.stream(
                    method, self.url + path, content=sent, headers=headers, extensions=in_time
                ) as answer,
            ):
                yield answer, self._bounded(answer, deadline)
        except httpx.TimeoutException as error:
            raise self._late() from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RemoteError(
                "no server answers at `{server}` ({reason}). Start it, or check the address.",
                server=self.url,
                reason=reason(error),
            ) from error

    def _bounded(self, answer: httpx.Response, deadline: float) -> Iterator[bytes]:
        # A few kilobytes may hold gigabytes, and httpx decompresses a chunk before we can count it.
        coding = answer.headers.get("content-encoding", "").strip()
        if coding.lower() not in ("", "identity"):
            raise RemoteError(
                "`{server}` compresses its answer with `{coding}`, although it was asked not to. "
                "Turn compression off there, or in the proxy before it.",
                server=self.url,
                coding=coding[:_SHOWN],
            )
        size = 0
        for chunk in answer.iter_raw():
            # A second guard: without a known event, `_ends_by` would limit nothing.
            if time.monotonic() > deadline:
                raise self._late()
            size += len(chunk)
            if size > FIXED.max_reply_bytes:
                raise RemoteError(
                    "`{server}` answers with more than {most} MB, which no answer of a model "
                    "takes. Check the address.",
                    server=self.url,
                    most=FIXED.max_reply_bytes // 1_000_000,
                )
            yield chunk

    def _late(self) -> RemoteError:
        return RemoteError(
            "`{server}` did not finish its answer in {seconds:g} seconds. Ask for a shorter one, "
            "or look into the server's log.",
            server=self.url,
            seconds=self._timeout,
        )


def _ends_by(deadline: float) -> Callable[[str, Mapping[str, Any]], None]:
    """Return an httpx trace hook that stops reading at a deadline.

    httpx limits the wait for the next bytes only. A server could send a byte now and then for ever,
    or `100 Continue`, which httpx skips before the answer begins.
    """

    def trace(event: str, found: Mapping[str, Any]) -> None:
        if not event.endswith(("connect_tcp.complete", "start_tls.complete")):
            return
        # httpcore's stream. That its `read` may be replaced is documented nowhere.
        stream = found["return_value"]
        read = stream.read

        def read_in_time(max_bytes: int, timeout: float | None = None) -> bytes:
            left = deadline - time.monotonic()
            if left <= 0:
                raise httpx.ReadTimeout("the answer takes too long")
            data: bytes = read(max_bytes, left if timeout is None else min(timeout, left))
            return data

        stream.read = read_in_time

    return trace


def cleaned(text: str) -> str:
    """Join the halves of characters, and remove those that are alone.

    JSON and a shell can contain such surrogates, but UTF-8 cannot encode them.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "ignore")


def difference(one: Said, other: Said) -> float:
    """Return the distance of two answers: 1 for different words, else of log-probabilities."""
    if one.text != other.text:
        return 1.0
    shared = one.first.keys() & other.first.keys()
    # No token in common is a difference too, unless neither side has log-probabilities.
    if not shared:
        return 1.0 if one.first.keys() != other.first.keys() else 0.0
    return max(abs(one.first[token] - other.first[token]) for token in shared)
