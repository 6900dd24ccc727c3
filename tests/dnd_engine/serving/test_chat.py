"""Any OpenAI-compatible server can be asked, and none can have us wait or ask elsewhere."""

import codecs
import gzip
import socket
import time
from typing import Any

import pytest

from dnd_engine.errors import PublishError, RemoteError
from dnd_engine.limits import FixedLimits
from dnd_engine.serving import chat, server
from dnd_engine.serving.address import base_url
from dnd_engine.serving.chat import Remote, ask, list_models, stream
from tests.dnd_engine.serving.chat_server import Handler, running_chat
from tests.serving import free_port
from tests.until import until

MESSAGES = [{"role": "user", "content": "two words"}]


def _last(streamed: bool, url: str, key: str = "", **more: Any) -> Remote:
    """The whole answer, asked for in one of the two ways."""
    if streamed:
        *_, last = stream(url, "small", MESSAGES, key, **more)
        return last
    return ask(url, "small", MESSAGES, key, **more)


def test_an_answer_comes_whole_and_as_it_is_written() -> None:
    with running_chat() as there:
        whole = ask(there.root, "small", MESSAGES, "secret", extra={"seed": 3})
        assert whole == Remote("small says two words", "stop")
        assert there.keys == ["Bearer secret"]
        assert there.asked[0]["seed"] == 3
        assert there.asked[0]["temperature"] == 0
        steps = list(stream(there.url, "tuned", MESSAGES, temperature=None))
        assert list(dict.fromkeys(steps)) == [
            Remote("", ""),
            Remote("tuned", ""),
            Remote("tuned says", ""),
            Remote("tuned says two", ""),
            Remote("tuned says two words", ""),
            Remote("tuned says two words", "stop"),
        ]
        assert there.keys[1] is None
        assert "temperature" not in there.asked[1]
        assert list_models(there.url) == ("small", "tuned")


@pytest.mark.parametrize("ending", ["", "/", "/chat/completions"])
def test_an_address_is_taken_with_or_without_its_end(ending: str) -> None:
    with running_chat() as there:
        assert ask(there.url + ending, "small", MESSAGES).text == "small says two words"
    with running_chat(prefix="/paas/v4") as there:
        full = f"{there.url}/chat/completions"
        assert ask(full, "small", MESSAGES).text == "small says two words"


def test_a_server_that_does_not_stream_is_read_whole() -> None:
    def whole(handler: Handler, values: dict[str, Any]) -> None:
        handler.answer({**values, "stream": False}, "at once", "length")

    with running_chat(whole) as there:
        assert list(stream(there.url, "small", MESSAGES)) == [Remote("at once", "length")]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_model_that_calls_the_length_otherwise_is_asked_its_way(streamed: bool) -> None:
    def picky(handler: Handler, values: dict[str, Any]) -> None:
        if "max_tokens" in values:
            message = "Unsupported parameter: use 'max_completion_tokens' instead."
            return handler.say(400, {"error": {"message": message}})
        return handler.answer(values, f"up to {values['max_completion_tokens']}")

    with running_chat(picky) as there:
        assert _last(streamed, there.url, max_tokens=7).text == "up to 7"


def _status(status: int, **headers: str) -> Any:
    def script(handler: Handler, _values: dict[str, Any]) -> None:
        message = f"no\nmore of {handler.headers['authorization']}"
        handler.say(status, {"error": {"message": message}}, **headers)

    return script


def _deep(handler: Handler, values: dict[str, Any]) -> None:
    handler.begin(200, "text/event-stream" if values.get("stream") else "application/json")
    handler.write(b"data: " * bool(values.get("stream")) + b"[" * 100_000)


def _cut(handler: Handler, values: dict[str, Any]) -> None:
    if not values.get("stream"):
        return handler.say(200, {"choices": []})
    handler.begin(200, "text/event-stream")
    return handler.event({"choices": [{"delta": {"content": "half"}}]})


def _empty(handler: Handler, values: dict[str, Any]) -> None:
    handler.begin(200, "text/event-stream" if values.get("stream") else "application/json")


def _broken(handler: Handler, values: dict[str, Any]) -> None:
    if not values.get("stream"):
        return handler.say(200, "<html>")
    handler.begin(200, "text/event-stream")
    return handler.event({"error": {"message": "out of memory"}})


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("script", "message"),
    [
        (_status(401), r"answered 401: no more of Bearer …\. Check the key"),
        (_status(404), "against /v1/models"),
        (_status(429, retry_after="7"), "too many requests"),
        (_status(302, location="http://127.0.0.1:1/"), "Redirects are not followed"),
        (_status(500), "answered 500"),
        (_cut, "answered 200|in the middle"),
        (_broken, "<html>|out of memory"),
        (_empty, "answered 200: nothing"),
        (_deep, r"answered 200: \[\[\["),
    ],
)
def test_a_failure_says_what_the_server_said(script: Any, message: str, streamed: bool) -> None:
    with running_chat(script) as there:
        with pytest.raises(RemoteError, match=message) as caught:
            _last(streamed, there.url, " sk-hidden\n")
        assert len(there.asked) == 1, "nobody else was asked"
    assert "sk-hidden" not in str(caught.value)
    if caught.value.status == 429:
        assert caught.value.retry_after == 7


@pytest.mark.parametrize("streamed", [False, True])
def test_half_characters_of_an_answer_go(streamed: bool) -> None:
    def halved(handler: Handler, values: dict[str, Any]) -> None:
        handler.answer(values, "half\ud83d a\udc00 word", "st\ud83dop")

    with running_chat(halved) as there:
        assert _last(streamed, there.url) == Remote("half a word", "stop")


@pytest.mark.parametrize("streamed", [False, True])
def test_half_characters_of_a_question_go(streamed: bool) -> None:
    """A shell passes bytes that are no UTF-8 as such."""
    messages = [{"role": "user", "content": "two\udcff words"}]
    with running_chat() as there:
        if streamed:
            *_, last = stream(there.url, "sm\udcffall", messages)
        else:
            last = ask(there.url, "sm\udcffall", messages)
    assert last == Remote("small says two words", "stop")


def test_a_log_probability_that_no_float_holds_is_refused() -> None:
    def huge(handler: Handler, _values: dict[str, Any]) -> None:
        first = [{"token": "a", "logprob": -(10**400)}]
        logprobs = {"content": [{"token": "a", "top_logprobs": first}]}
        handler.say(200, {"choices": [{"message": {"content": "a"}, "logprobs": logprobs}]})

    with running_chat(huge) as there, pytest.raises(PublishError, match="cannot be shown to work"):
        server.Server(there.root).ask("small", "two words")


_PARTS = [
    [{"type": "text", "text": "half"}, {"type": "text", "text": " a word"}],
    [{"type": "thinking", "thinking": []}, {"type": "text", "text": "half a word"}],
]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("content", _PARTS)
def test_an_answer_in_parts_is_put_together(streamed: bool, content: Any) -> None:
    def parts(handler: Handler, _values: dict[str, Any]) -> None:
        said: dict[str, Any] = {"content": content}
        choice = {"delta" if streamed else "message": said, "finish_reason": "stop"}
        if not streamed:
            return handler.say(200, {"choices": [choice], "error": None})
        handler.begin(200, "text/event-stream")
        return handler.event({"choices": [choice], "error": None})

    with running_chat(parts) as there:
        assert _last(streamed, there.url) == Remote("half a word", "stop")


@pytest.mark.parametrize("content", [{"text": "a"}, 5, ["a"]])
@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_of_another_form_is_refused(content: Any, streamed: bool) -> None:
    def other(handler: Handler, _values: dict[str, Any]) -> None:
        choice = {"delta": {"content": content}, "message": {"content": content}}
        handler.begin(200, "text/event-stream" if streamed else "application/json")
        handler.event({"choices": [choice]})

    with running_chat(other) as there, pytest.raises(RemoteError):
        _last(streamed, there.url)


def test_a_stream_may_begin_with_a_mark_halve_characters_and_end_with_nulls() -> None:
    def odd(handler: Handler, _values: dict[str, Any]) -> None:
        handler.begin(200, "text/event-stream")
        handler.write(codecs.BOM_UTF8)
        for piece in ("\ud83d", "\ude00", "\ud83d"):
            handler.event({"choices": [{"delta": {"content": piece}}], "error": None})
        handler.event({"choices": [{"delta": None, "finish_reason": "stop"}]})
        handler.event({"choices": None, "usage": {"total_tokens": 3}})

    with running_chat(odd) as there:
        assert _last(True, there.url) == Remote("😀", "stop")


def test_the_key_is_not_quoted_where_the_words_are_cut() -> None:
    def echo(handler: Handler, _values: dict[str, Any]) -> None:
        handler.say(400, {"detail": "x" * 290 + handler.headers["authorization"]})

    with running_chat(echo) as there, pytest.raises(RemoteError) as caught:
        ask(there.url, "small", MESSAGES, "sk-hidden-for-ever")
    assert "sk-" not in str(caught.value)


def _drip(handler: Handler, values: dict[str, Any]) -> None:
    handler.begin(200, "text/event-stream" if values.get("stream") else "application/json")
    while True:  # until whoever asked hangs up
        handler.event({"choices": [{"delta": {"content": "word "}}]})
        time.sleep(0.02)


@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_ends_in_time_and_size(streamed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends a word now and then never trips a timeout between two of them."""
    with running_chat(_drip) as there:
        with pytest.raises(RemoteError, match=r"did not finish its answer in 0\.2 seconds"):
            _last(streamed, there.url, timeout=0.2)
        monkeypatch.setattr(server, "FIXED", FixedLimits(max_reply_bytes=200))
        with pytest.raises(RemoteError, match="no answer of a model takes"):
            _last(streamed, there.url)


@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_ends_in_time_although_httpx_names_its_events_otherwise(
    streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_ends_by", lambda _deadline: lambda _event, _found: None)
    monkeypatch.setattr(server, "FIXED", FixedLimits(max_reply_bytes=10_000))
    with (
        running_chat(_drip) as there,
        pytest.raises(RemoteError, match=r"did not finish its answer in 0\.2 seconds"),
    ):
        _last(streamed, there.url, timeout=0.2)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_server_that_never_begins_its_answer_is_given_up(streamed: bool) -> None:
    """Before an answer, a server may say `100 Continue` as often as it likes."""

    def stall(handler: Handler, _values: dict[str, Any]) -> None:
        while True:  # until whoever asked hangs up
            handler.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    with (
        running_chat(stall) as there,
        pytest.raises(RemoteError, match=r"did not finish its answer in 0\.2 seconds"),
    ):
        _last(streamed, there.url, timeout=0.2)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_compressed_answer_is_refused(streamed: bool) -> None:
    """64 kB on the wire, compressed twice, may be gigabytes before anybody has counted them."""

    def compressed(handler: Handler, _values: dict[str, Any]) -> None:
        kind = "text/event-stream" if streamed else "application/json"
        handler.begin(200, kind, content_encoding="gzip, gzip")
        handler.write(gzip.compress(gzip.compress(b" " * 1000)))

    with (
        running_chat(compressed) as there,
        pytest.raises(RemoteError, match="compresses its answer with `gzip, gzip`"),
    ):
        _last(streamed, there.url)


@pytest.mark.parametrize("coding", ["", "Identity"])
def test_an_answer_that_is_said_to_be_not_compressed_is_read(coding: str) -> None:
    def plain(handler: Handler, _values: dict[str, Any]) -> None:
        message = {"content": "small say"}
        handler.say(200, {"choices": [{"message": message}]}, content_encoding=coding)

    with running_chat(plain) as there:
        assert ask(there.url, "small", MESSAGES).text == "small say"


def test_an_endless_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "FIXED", FixedLimits(max_reply_chars=9))
    with running_chat() as there:
        *_, last = stream(there.url, "small", MESSAGES)
        assert last == Remote("small say", "length")
        assert ask(there.url, "small", MESSAGES).text == "small say"


def test_hanging_up_ends_the_stream() -> None:
    ended: list[bool] = []

    def long(handler: Handler, _values: dict[str, Any]) -> None:
        handler.begin(200, "text/event-stream")
        try:
            while True:
                handler.event({"choices": [{"delta": {"content": "word " * 100}}]})
                time.sleep(0.01)
        except OSError:
            ended.append(True)

    with running_chat(long) as there:
        steps = stream(there.url, "small", MESSAGES)
        next(steps)
        steps.close()
        until(lambda: bool(ended))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (" ", "the address is empty"),
        ("localhost:8000", "is no address"),
        ("ftp://host/v1", "is no address"),
        ("http://", "is no address"),
        ("http://host:many", "is no address"),
        ("http://me:pass@host", "holds a name or a password"),
        ("ftp://me:pass@host", "holds a name or a password"),
        ("http://me:pass@host:many", "holds a name or a password"),
        ("http://me:pass/more@host", "holds a name or a password"),
        ("me:pass@host", "holds a name or a password"),
        ("http://host/v1?key=pass", "`http://host/v1` has a `\\?` or `#`"),
        ("http://host:many?key=pass", "`http://host:many` is no address"),
        ("http://bü cher.example", "is no address"),
    ],
)
def test_an_address_that_is_none_is_refused(url: str, message: str) -> None:
    with pytest.raises(RemoteError, match=message) as caught:
        ask(url, "small", MESSAGES)
    assert "pass" not in str(caught.value).replace("a password", "")


def test_a_name_in_other_letters_goes_as_dns_has_it() -> None:
    assert base_url("https://bücher.example:80/v1") == "https://xn--bcher-kva.example:80"


def test_a_server_that_is_not_there_is_named() -> None:
    there = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(RemoteError, match=rf"answers at `{there}` \(Connection refused\)"):
        ask(there, "small", MESSAGES)


def test_a_name_that_nobody_has_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_args: Any, **_options: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(RemoteError, match=r"is called `nobody` \(Name or service not known\)"):
        ask("http://nobody", "small", MESSAGES, "key")


def test_a_key_or_a_model_that_is_none_is_refused() -> None:
    with pytest.raises(RemoteError, match="letters that no key has"):
        ask("http://localhost", "small", MESSAGES, "two\r\nlines")
    with pytest.raises(RemoteError, match="by a model's name"):
        ask("http://localhost", " ", MESSAGES)


def test_a_key_goes_unencrypted_to_no_public_address(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: found)
    with pytest.raises(RemoteError, match="would carry the key unencrypted"):
        ask("http://ai.example", "small", MESSAGES, "secret")
