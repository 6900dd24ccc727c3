"""A server that speaks the OpenAI protocol: requests with readable failures, and one question.

Knows HTTP and answers; knows no adapter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from dnd_engine.errors import PublishError

__all__ = ["Reply", "Said", "Server", "difference"]

_ANSWER_TOKENS = 24
_TOP = 5
_SHOWN = 300
"""Characters of a server's own message that are quoted."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered."""

    status: int
    body: Any
    """JSON, or text where it is none."""

    @property
    def message(self) -> str:
        """The server's own words, short and on one line."""
        body = self.body
        if isinstance(body, dict):
            error = body.get("error", body)
            inner = error.get("message") if isinstance(error, dict) else error
            body = inner or body.get("error_message") or body.get("detail") or body
        words = " ".join(str(body).split())
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
        url: Where the server is, without `/v1`.
        timeout: Seconds to wait for an answer.
    """

    def __init__(self, url: str, timeout: float = 120.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise PublishError(f"`{url}` is no address. Expected http://HOST:PORT.")
        self.url = url.rstrip("/").removesuffix("/v1")
        self._timeout = timeout

    def get(self, path: str) -> Reply:
        """Ask for something.

        Raises:
            PublishError: If no server answers.
        """
        return self._send("GET", path, None)

    def post(self, path: str, values: Any) -> Reply:
        """Send JSON.

        Raises:
            PublishError: If no server answers.
        """
        return self._send("POST", path, values)

    def models(self) -> list[dict[str, Any]]:
        """List what the server offers, as `/v1/models` does.

        Raises:
            PublishError: If there is no such list.
        """
        reply = self.get("/v1/models")
        data = reply.body.get("data") if isinstance(reply.body, dict) else None
        if reply.status != 200 or not isinstance(data, list):
            raise PublishError(
                f"`{self.url}/v1/models` answered {reply.status}: {reply.message}. Expected the "
                "list of an OpenAI-compatible server; check the address and the port."
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
            text = str(choice["message"]["content"])
            told = (choice.get("logprobs") or {}).get("content") or []
            rivals = told[0]["top_logprobs"] if told else []
            return Said(text, {str(one["token"]): float(one["logprob"]) for one in rivals})
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise PublishError(
                f"`{self.url}` was asked as model `{model}` and answered {reply.status}: "
                f"{reply.message}. The adapter is loaded, but it cannot be shown to work."
            ) from error

    def _send(self, method: str, path: str, values: Any) -> Reply:
        try:
            answer = httpx.request(method, self.url + path, json=values, timeout=self._timeout)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PublishError(
                f"no server answers at `{self.url}` ({error or type(error).__name__}). Start it, "
                "or check the address."
            ) from error
        try:
            return Reply(answer.status_code, answer.json())
        except ValueError:
            return Reply(answer.status_code, answer.text)


def difference(one: Said, other: Said) -> float:
    """Return how far two answers are apart: 1 for other words, else the log-probabilities'."""
    if one.text != other.text:
        return 1.0
    shared = one.first.keys() & other.first.keys()
    if not shared:
        return 1.0 if one.first.keys() != other.first.keys() else 0.0
    return max(abs(one.first[token] - other.first[token]) for token in shared)
