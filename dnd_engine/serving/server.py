"""A server that speaks the OpenAI protocol: requests with readable failures, and one question.

Knows HTTP and answers; knows no adapter. Every answer is bounded in time and size, and redirects
are not followed: a server chooses neither how long we wait nor whom we ask.
"""

import json
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from dnd_engine.errors import PublishError, RemoteError
from dnd_engine.limits import FIXED
from dnd_engine.serving.address import base_url, check_encrypted

__all__ = ["Reply", "Said", "Server", "cleaned", "difference"]

_ANSWER_TOKENS = 24
_TOP = 5
_SHOWN = 300
"""Characters of a server's own message that are quoted."""
_CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered."""

    status: int
    body: Any
    """JSON, or text where it is none."""
    retry_after: float | None = None
    """Seconds after which it wants to be asked again, if it said so."""
    key: str = field(default="", repr=False)
    """What was sent, and is not quoted should the server quote it."""

    @property
    def message(self) -> str:
        """The server's own words, short and on one line."""
        body = self.body
        if isinstance(body, dict):
            error = body.get("error", body)
            inner = error.get("message") if isinstance(error, dict) else error
            body = inner or body.get("error_message") or body.get("detail") or body
        words = " ".join(cleaned(str(body)).split())
        words = words.replace(self.key, "…") if self.key else words
        return words if len(words) <= _SHOWN else f"{words[:_SHOWN]}…"


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, and how likely its first token and that one's rivals were."""

    text: str
    first: Mapping[str, float]
    """Token to log-probability; empty if the server gives none."""


class Server:
    """One address.

    Args:
        url: Where the server is, with or without `/v1`.
        timeout: Seconds that one answer may take.
        key: Sent as a bearer token; empty for none.

    Raises:
        RemoteError: If the address or the key is none.
    """

    def __init__(
        self, url: str, timeout: float = FIXED.max_reply_seconds, *, key: str = ""
    ) -> None:
        self.url = base_url(url)
        self._timeout = timeout
        key = key.strip()
        if not key.isascii() or not key.isprintable() or " " in key:
            raise RemoteError("the key holds letters that no key has. Copy it again.")
        self._key = key

    def get(self, path: str) -> Reply:
        """Ask for something.

        Raises:
            RemoteError: If no server answers.
        """
        return self._send("GET", path, None)

    def post(self, path: str, values: Any) -> Reply:
        """Send JSON.

        Raises:
            RemoteError: If no server answers.
        """
        return self._send("POST", path, values)

    def models(self) -> list[dict[str, Any]]:
        """List what the server offers, as `/v1/models` does.

        Raises:
            RemoteError: If there is no such list.
        """
        reply = self.get("/v1/models")
        data = reply.body.get("data") if isinstance(reply.body, dict) else None
        if reply.status != 200 or not isinstance(data, list):
            raise RemoteError(
                f"`{self.url}/v1/models` answered {reply.status}: {reply.message}. Expected the "
                "list of an OpenAI-compatible server; check the address and the port.",
                status=reply.status,
            )
        return [model for model in data if isinstance(model, dict) and "id" in model]

    def ask(self, model: str, question: str, extra: Mapping[str, Any] | None = None) -> Said:
        """Ask one question, greedily.

        Raises:
            PublishError: If the server refuses, or answers in another form.
        """
        values = {
            "model": model,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": _ANSWER_TOKENS,
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
            told = (choice.get("logprobs") or {}).get("content") or []
            rivals = told[0]["top_logprobs"] if told else []
            return Said(text, {str(one["token"]): float(one["logprob"]) for one in rivals})
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise PublishError(
                f"`{self.url}` was asked as model `{model}` and answered {reply.status}: "
                f"{reply.message}. The adapter is loaded, but it cannot be shown to work."
            ) from error

    def lines(self, path: str, values: Any) -> Generator["str | Reply", None, None]:
        """Send JSON, and yield the lines of a stream of events as they come.

        Yields:
            Lines; or one `Reply`, if the server answers with anything but such a stream.

        Raises:
            RemoteError: If no server answers, or takes too long or says too much.
        """
        with self._open("POST", path, values) as (answer, deadline):
            chunks = self._bounded(answer, deadline)
            kind = answer.headers.get("content-type", "")
            if answer.status_code != 200 or not kind.startswith("text/event-stream"):
                yield self._read(answer, b"".join(chunks))
                return
            rest = b""
            for chunk in chunks:
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    yield line.decode(errors="replace").rstrip("\r")
            if rest:
                yield rest.decode(errors="replace")

    def _send(self, method: str, path: str, values: Any) -> Reply:
        with self._open(method, path, values) as (answer, deadline):
            return self._read(answer, b"".join(self._bounded(answer, deadline)))

    def reply(self, status: int, body: Any, retry_after: float | None = None) -> Reply:
        """Return what the server answered, as it may be quoted."""
        return Reply(status, body, retry_after, self._key)

    def _read(self, answer: httpx.Response, data: bytes) -> Reply:
        """Read a whole answer."""
        wait = answer.headers.get("retry-after", "")
        after = float(wait) if wait.isascii() and wait.isdigit() else None
        try:
            return self.reply(answer.status_code, json.loads(data), after)
        except (ValueError, RecursionError):  # no JSON, or brackets without end
            place = answer.headers.get("location", "")
            words = data.decode(errors="replace") or place
            return self.reply(answer.status_code, words, after)

    @contextmanager
    def _open(self, method: str, path: str, values: Any) -> Iterator[tuple[httpx.Response, float]]:
        """Send a request, and yield the answer's beginning and when it must have ended."""
        headers = {"accept-encoding": "identity"}
        if self._key:
            check_encrypted(self.url)
            headers["authorization"] = f"Bearer {self._key}"
        client = httpx.Client(
            timeout=httpx.Timeout(self._timeout, connect=min(self._timeout, _CONNECT_SECONDS)),
            follow_redirects=False,
        )
        deadline = time.monotonic() + self._timeout
        try:
            with (
                client,
                client.stream(method, self.url + path, json=values, headers=headers) as answer,
            ):
                yield answer, deadline
        except httpx.TimeoutException as error:
            raise self._late() from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RemoteError(
                f"no server answers at `{self.url}` ({error or type(error).__name__}). Start it, "
                "or check the address."
            ) from error

    def _bounded(self, answer: httpx.Response, deadline: float) -> Iterator[bytes]:
        size = 0
        for chunk in answer.iter_bytes():
            size += len(chunk)
            if size > FIXED.max_reply_bytes:
                raise RemoteError(
                    f"`{self.url}` answers with more than {FIXED.max_reply_bytes // 1_000_000} MB, "
                    "which no answer of a model takes. Check the address."
                )
            if time.monotonic() > deadline:
                raise self._late()
            yield chunk

    def _late(self) -> RemoteError:
        return RemoteError(
            f"`{self.url}` did not finish its answer in {self._timeout:g} seconds. Ask for a "
            "shorter one, or look into the server's log."
        )


def cleaned(text: str) -> str:
    """Return a text without half characters, which JSON can hold and nothing can send."""
    return text.encode(errors="ignore").decode()


def difference(one: Said, other: Said) -> float:
    """Return how far two answers are apart: 1 for other words, else the log-probabilities'."""
    if one.text != other.text:
        return 1.0
    shared = one.first.keys() & other.first.keys()
    if not shared:
        return 1.0 if one.first.keys() != other.first.keys() else 0.0
    return max(abs(one.first[token] - other.first[token]) for token in shared)
