"""A teacher behind an address: what it is asked, what is believed, and whom nobody may ask."""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from dnd_engine.errors import ConfigError, RemoteError
from dnd_engine.tasks.folder import Example
from dnd_engine.teach.endpoint import Endpoint, origin
from tests.dnd_engine.serving.chat_server import Handler, Script, running_chat
from tests.serving import free_port
from tests.until import until

EXAMPLES = [Example(f"Say it.\n\n{n}", "") for n in range(20)]
KEY = "sk-very-secret"


def last(server: Handler, values: dict[str, Any]) -> None:
    """Answer with the prompt's last line."""
    server.answer(values, values["messages"][-1]["content"].rpartition("\n")[2])


def asked(script: Script, **settings: Any) -> list[str | None]:
    """What a server answers to one prompt."""
    with running_chat(script) as server:
        endpoint = Endpoint(url=server.url, model="wise", **settings)
        return [text for part in endpoint.answers(EXAMPLES[:1]) for text in part]


def saying(text: str, reason: str = "stop") -> Script:
    return lambda server, values: server.answer(values, text, reason)


def failing(status: int, words: Any, when: Callable[[dict[str, Any]], bool]) -> Script:
    """Refuse some requests, and answer the others."""

    def script(server: Handler, values: dict[str, Any]) -> None:
        if when(values):
            server.say(status, {"error": {"message": words}}, retry_after="0")
        else:
            last(server, values)

    return script


def test_all_prompts_are_answered_in_their_order_and_the_key_goes_along() -> None:
    with running_chat(last) as server:
        endpoint = Endpoint(url=server.url, model="wise", key=KEY)
        assert server.asked == []
        parts = list(endpoint.answers(EXAMPLES))
    assert [text for part in parts for text in part] == [str(n) for n in range(20)]
    assert len(parts) > 1
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert all(values["model"] == "wise" and not values["temperature"] for values in server.asked)
    assert KEY not in repr(endpoint)


def test_nothing_is_asked_any_more_once_the_answers_are_closed() -> None:
    closed = threading.Event()

    def some(server: Handler, values: dict[str, Any]) -> None:
        if len(server.server.asked) > 20:
            closed.wait(60)
        last(server, values)

    with running_chat(some) as server:
        steps = Endpoint(url=server.url, model="wise").answers(EXAMPLES * 10)
        next(steps)
        steps.close()
        closed.set()
        until(lambda: not any("teacher" in thread.name for thread in threading.enumerate()))
        assert len(server.asked) < 40


def test_an_answer_is_what_follows_the_thoughts_and_one_that_was_cut_off_is_none() -> None:
    assert asked(saying("<think>Hm.\n</think>\n\n yes ")) == ["yes"]
    assert asked(saying("Hm.\n</think>\n\nyes")) == ["yes"], "the prompt began the thoughts"
    assert asked(saying("It says `<think>` and `</think>`.")) == [
        "It says `<think>` and `</think>`."
    ]
    assert asked(saying("<think>Hm. So ye")) == [None]
    assert asked(saying("<think>Hm.</think>")) == [None]
    assert asked(saying("  ")) == [None]


@pytest.mark.parametrize(
    "reason", ["length", "max_tokens", "model_length", "content_filter", "tool_calls", "error"]
)
def test_an_answer_that_did_not_end_is_none(reason: str) -> None:
    assert asked(saying("It goes on and", reason)) == [None]


@pytest.mark.parametrize("text", ["word " * 30_000, f"<think>{'hm ' * 50_000}</think>yes"])
def test_an_answer_of_which_only_the_beginning_is_read_is_none(text: str) -> None:
    assert asked(saying(text)) == [None]


@pytest.mark.parametrize("number", [0, 2, 19])
def test_a_prompt_that_is_refused_costs_no_other_its_answer(number: int) -> None:
    """A content filter, for one, or a prompt that is too long."""

    def is_it(values: dict[str, Any]) -> bool:
        return bool(values["messages"][-1]["content"] == EXAMPLES[number].prompt)

    with running_chat(failing(400, "content filter", is_it)) as server:
        parts = Endpoint(url=server.url, model="wise").answers(EXAMPLES)
        texts = [text for part in parts for text in part]
    assert texts == [None if n == number else str(n) for n in range(20)]


def test_a_server_that_fails_gives_what_it_answered_before() -> None:
    def from_tenth(values: dict[str, Any]) -> bool:
        return int(values["messages"][-1]["content"].rpartition("\n")[2]) >= 10

    with running_chat(failing(422, "no more", from_tenth)) as server:
        parts = Endpoint(url=server.url, model="wise").answers(EXAMPLES)
        assert [*next(parts), *next(parts)] == [str(n) for n in range(10)]
        with pytest.raises(RemoteError, match="answered 422: no more"):
            next(parts)


def test_a_server_that_fails_for_a_moment_is_asked_again() -> None:
    fails = iter([True, False])
    assert asked(failing(502, "restarting", lambda _body: next(fails))) == ["0"]


def test_a_busy_server_is_left_alone_after_another_refusal() -> None:
    """Requests that wait to be repeated are not."""

    def script(server: Handler, values: dict[str, Any]) -> None:
        if values["messages"][-1]["content"] == EXAMPLES[0].prompt:
            until(lambda: len(server.server.asked) > 3)
            server.say(401, {"error": {"message": "no"}})
        else:
            server.say(429, {"error": {"message": "slow down"}}, retry_after="0.3")

    with running_chat(script) as server:
        with pytest.raises(RemoteError, match="answered 401"):
            list(Endpoint(url=server.url, model="wise").answers(EXAMPLES))
        until(lambda: not any("teacher" in thread.name for thread in threading.enumerate()))
        assert len(server.asked) <= 8


def test_a_process_ends_while_its_teacher_hangs() -> None:
    ended = threading.Event()

    def hang(_server: Handler, _values: dict[str, Any]) -> None:
        ended.wait(60)

    with running_chat(hang) as server:
        code = (
            "from dnd_engine.tasks.folder import Example\n"
            "from dnd_engine.teach.endpoint import Endpoint\n"
            "import threading\n"
            f"steps = Endpoint(url={server.url!r}, model='wise', timeout_seconds=600).answers\n"
            "answers = steps([Example('Say it.', '')])\n"
            "threading.Thread(target=lambda: next(answers), daemon=True).start()\n"
            "while not any(t.name == 'teacher' for t in threading.enumerate()): pass\n"
        )
        try:
            subprocess.run([sys.executable, "-c", code], timeout=50, check=True)
        finally:
            ended.set()


def test_a_model_that_takes_no_temperature_is_asked_without() -> None:
    refusal = failing(400, "`temperature` is not supported.", lambda body: "temperature" in body)
    assert asked(refusal) == ["0"]


def test_a_busy_server_is_asked_again_and_in_the_end_told() -> None:
    busy = iter([True, False])
    assert asked(failing(429, "Slow down.", lambda _body: next(busy))) == ["0"]
    with pytest.raises(RemoteError, match=r"answered 429: Slow down\.\. It has had too many"):
        asked(failing(429, "Slow down.", lambda _body: True))


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, r"answered 404: not so. Check the address, and the model's name"),
        (401, r"answered 401: not so. Check the key"),
        (307, r"answered 307: not so. Redirects are not followed"),
        (500, r"answered 500: not so. Expected the answer of an OpenAI-compatible server"),
        (200, r"answered 200: not so. Expected the answer of an OpenAI-compatible server"),
    ],
)
def test_what_is_no_answer_is_told(status: int, message: str) -> None:
    with pytest.raises(RemoteError, match=message):
        asked(failing(status, "not so", lambda _body: True))


def test_a_redirect_is_not_followed() -> None:
    with running_chat(last) as inner:

        def redirect(server: Handler, _values: dict[str, Any]) -> None:
            server.say(307, {}, location=f"{inner.url}/chat/completions")

        with pytest.raises(RemoteError, match="Redirects are not followed"):
            asked(redirect, key=KEY)
        assert inner.asked == []


def test_a_server_that_quotes_the_key_does_not_bring_it_into_the_error_or_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(RemoteError, match="answered 401: wrong key: …") as found:
        asked(failing(401, f"wrong key: {KEY}", lambda _body: True), key=KEY)
    assert KEY not in str(found.value)
    assert KEY not in caplog.text


def test_a_server_that_is_slow_or_not_there_is_told() -> None:
    with pytest.raises(RemoteError, match=r"did not finish its answer in 0\.2 seconds"):
        asked(lambda *_: time.sleep(0.5), timeout_seconds=0.2)
    nobody = Endpoint(url=f"http://127.0.0.1:{free_port()}", model="wise", key=KEY)
    with pytest.raises(RemoteError, match="no server answers at"):
        list(nobody.answers(EXAMPLES))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "localhost:8080"}, "is no address"),
        ({"url": "file:///etc/passwd"}, "is no address"),
        ({"url": "http://me:word@host/v1"}, "holds a name or a password"),
        ({"model": " "}, "needs the name of a model"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_sent(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(RemoteError, match=message):
        Endpoint(**{"url": "https://api.example.com/v1", "model": "wise", **settings})
    with pytest.raises(ConfigError, match="`timeout_seconds` must be between"):
        Endpoint(url="https://api.example.com/v1", model="wise", timeout_seconds=0)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com.evil.net/v1",
        "http://api.example.com/v1",
        "https://api.example.com:8443/v1",
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1:7860",
    ],
)
def test_a_shared_server_asks_only_servers_on_its_list(url: str) -> None:
    allowed = ["https://api.example.com"]
    assert origin("https://API.example.com:443/v1") == allowed[0]
    Endpoint(url="https://api.example.com:443/v1", model="wise", allowed=allowed)
    with pytest.raises(RemoteError, match=r"may not be asked.*Allowed: https://api\.example\.com"):
        Endpoint(url=url, model="wise", allowed=allowed)
    with pytest.raises(RemoteError, match="Allowed: none"):
        Endpoint(url="https://api.example.com/v1", model="wise", allowed=())
