"""Chats with any server with an OpenAI-compatible API: vLLM, llama-server, Ollama, a provider.

Knows no adapter and no page. `ask` returns the whole answer, `stream` yields it as it is generated.
"""

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from dnd_engine.errors import RemoteError
from dnd_engine.limits import FIXED
from dnd_engine.models.replies import Message
from dnd_engine.notes import Note, noted
from dnd_engine.serving.address import chat_path
from dnd_engine.serving.llama_server import adapter_names
from dnd_engine.serving.server import Reply, Server, cleaned

_DONE = "[DONE]"
LIST_SECONDS = 10.0
"""Timeout for a list of models: somebody is waiting to choose one."""
_OTHER_NAME = "max_completion_tokens"
"""OpenAI's newer models use this name and reject `max_tokens`."""
_END = Reply(200, "")
"""Stands for the end of a stream, and says nothing where there was no line at all."""


@dataclass(frozen=True, slots=True)
class Remote:
    """An answer from a server."""

    text: str
    finish_reason: str
    """`stop`, `length`, or another reason from the server."""


def ask(
    url: str,
    model: str,
    messages: Sequence[Message],
    key: str = "",
    *,
    max_tokens: int = 256,
    temperature: float | None = 0.0,
    extra: Mapping[str, Any] | None = None,
    timeout: float = FIXED.max_reply_seconds,
) -> Remote:
    """Ask for a whole answer.

    Args:
        url: Address of the server, with or without `/v1`; or the full address of its
            `/chat/completions`.
        model: Model name on the server.
        messages: The conversation.
        key: Bearer token; may be empty. Never part of an error message.
        max_tokens: Maximum length of the answer.
        temperature: Sampling temperature; None uses the server's default, the only one that some
            models accept.
        extra: Additional request fields, such as `seed` or llama-server's `lora`.
        timeout: Seconds for the whole answer.

    Raises:
        RemoteError: If no server answers, or it refuses, or answers in another form.
    """
    server = Server(url, timeout, key=key)
    values = _request(model, messages, max_tokens, temperature, extra)
    reply = server.post(chat_path(url), values)
    if _wants_other_name(reply):
        reply = server.post(chat_path(url), _renamed(values))
    return _read(reply, server, model)


def stream(
    url: str,
    model: str,
    messages: Sequence[Message],
    key: str = "",
    *,
    max_tokens: int = 256,
    temperature: float | None = 0.0,
    extra: Mapping[str, Any] | None = None,
    timeout: float = FIXED.max_reply_seconds,
) -> Generator[Remote, None, None]:
    """Stream an answer; for arguments and errors see `ask`.

    Close the generator to disconnect.

    Yields:
        The answer so far, at each line that arrives, also one without text, so that the caller can
        disconnect; `finish_reason` is empty until the last.
    """
    server = Server(url, timeout, key=key)
    values = {**_request(model, messages, max_tokens, temperature, extra), "stream": True}
    lines = server.lines(chat_path(url), values)
    # A refusal is a whole reply before any piece, so the request can be repeated in the other form.
    first = next(lines, _END)
    if isinstance(first, Reply) and _wants_other_name(first):
        lines = server.lines(chat_path(url), _renamed(values))
        first = next(lines, _END)
    if isinstance(first, Reply):  # an error, or a server that does not stream
        yield _read(first, server, model)
        return
    text, reason = "", ""
    with closing(lines):
        line: str | Reply = first
        while not isinstance(line, Reply):
            # Blank lines, comments and event names of the stream carry no text.
            data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
            if data == _DONE:
                break
            if data:
                piece, reason = _piece(data, reason, server, model)
                # May end with half a character, whose other half comes with the next piece.
                text += piece
                if len(text) > FIXED.max_reply_chars:
                    text, reason = text[: FIXED.max_reply_chars], "length"
                    break
            yield Remote(cleaned(text), "")
            line = next(lines, _END)
    # A cut connection and a stream without `[DONE]` look alike; the finish reason tells them apart.
    if not reason:
        raise RemoteError(
            "`{server}` ended its answer as `{model}` in the middle. Ask again, or look into the "
            "server's log.",
            server=server.url,
            model=model,
        )
    yield Remote(cleaned(text), reason)


def list_models(url: str, key: str = "") -> tuple[str, ...]:
    """Return the names of a server's models, and of a llama-server's adapters.

    Raises:
        RemoteError: If there is no such list.
    """
    server = Server(url, LIST_SECONDS, key=key)
    models = [cleaned(str(model["id"])) for model in server.models()]
    # A llama-server has one model.
    adapters = adapter_names(server, models[0]) if len(models) == 1 else []
    return (*models, *map(cleaned, adapters))


def _request(
    model: str,
    messages: Sequence[Message],
    max_tokens: int,
    temperature: float | None,
    extra: Mapping[str, Any] | None,
) -> dict[str, Any]:
    if not model.strip():
        raise RemoteError(
            noted("the server is asked by a model's name. Give one of its /v1/models.")
        )
    heat = {} if temperature is None else {"temperature": temperature}
    values = {"model": model, "messages": list(messages), "max_tokens": max_tokens, **heat}
    return {**values, **(extra or {})}


def _wants_other_name(reply: Reply) -> bool:
    return reply.status == 400 and _OTHER_NAME in reply.message


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    others = {name: value for name, value in values.items() if name != "max_tokens"}
    return {**others, _OTHER_NAME: values["max_tokens"]}


def _read(reply: Reply, server: Server, model: str) -> Remote:
    try:
        if reply.status != 200:
            raise KeyError(reply.status)
        choice = reply.body["choices"][0]
        text = cleaned(_text(choice["message"].get("content")))
        reason = cleaned(str(choice.get("finish_reason") or "stop"))
        if len(text) > FIXED.max_reply_chars:
            text, reason = text[: FIXED.max_reply_chars], "length"
        return Remote(text, reason)
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise _refusal(reply, server, model) from error


def _piece(data: str, reason: str, server: Server, model: str) -> tuple[str, str]:
    """Return the text that an event adds, and the finish reason once there is one."""
    try:
        body = json.loads(data)
        # Some servers write every optional field, if need be as null.
        if body.get("error") is not None:
            raise KeyError("error")
        # Some servers' last event has no choices, only token counts.
        for choice in (body["choices"] or [])[:1]:
            delta = choice.get("delta") or {}
            ended = str(choice.get("finish_reason") or reason)
            return _text(delta.get("content")), cleaned(ended)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _refusal(server.reply(200, data), server, model) from error
    return "", reason


def _text(content: Any) -> str:
    """Return the text of a message's content, which may be a list of parts, some without text.

    Raises:
        AttributeError, TypeError: If it has neither form.
    """
    if not isinstance(content, list):
        return "".join([content or ""])
    return "".join([part.get("text") or "" for part in content])


_WAYS: Mapping[int, Note] = {
    401: noted("Check the key."),
    403: noted("Check the key, and what it may use."),
    404: noted("Check the address, and the model's name against /v1/models."),
    429: noted("It has had too many requests, or the account is empty. Wait, or ask less."),
}
"""What to do about a status."""


def _refusal(reply: Reply, server: Server, model: str) -> RemoteError:
    way = _WAYS.get(reply.status, noted("Expected the answer of an OpenAI-compatible server."))
    if 300 <= reply.status < 400:
        way = noted("Redirects are not followed: give the address that it leads to.")
    return RemoteError(
        noted(
            "`{server}` was asked as model `{model}` and answered {status}: {reply}. {way_out}",
            server=server.url,
            model=model,
            status=reply.status,
            reply=reply.message or noted("nothing"),
            way_out=way,
        ),
        status=reply.status,
        retry_after=reply.retry_after,
    )
