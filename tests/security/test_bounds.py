"""What visitors can take of the server's memory, disk and time, and what the others keep."""

import asyncio
import ctypes
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock
from urllib.parse import urlsplit

import gradio as gr
import httpx
import numpy as np
import psutil
import pytest
from gradio.utils import get_upload_folder
from starlette.requests import Request

from dnd_engine.limits import PromptLimits, ServerLimits
from dnd_engine.models import allocator
from tests.loops import run
from tests.security.conftest import SMALL
from tests.serving import serving
from tests.test_docs import ROOT
from tests.ui.fake_engine import FakeEngine, handle_of
from tests.until import until
from ui import serve
from ui.build import build_ui
from ui.engine_calls import LANES
from ui.server.gradio_private.calls import Calls
from ui.server.gradio_private.pages import Page, Pages
from ui.server.shares import BODY_KEY, HeldBytes, Share
from ui.session_files import SessionFiles
from ui.state import Answer, Session, Turn
from ui.visits import Visits

PAGE = {"x-gradio-user": "app"}
"""Headers by which Gradio's page says that a call is its own."""
BARE_SCOPE = {"type": "http", "headers": [], "query_string": b"", "client": ("", 1)}
"""Scope of a request that did not pass the gate."""


def join(client: httpx.Client, event: int, session: str, *data: Any) -> httpx.Response:
    body = {"data": [*data], "fn_index": event, "session_hash": session}
    return client.post("/gradio_api/queue/join", json=body)


def event_named(client: httpx.Client, name: str) -> int:
    events = client.get("/config").json()["dependencies"]
    number: int = next(event["id"] for event in events if event["api_name"] == name)
    return number


# ------------------------------------------------------------------------------ the queue


def test_one_address_cannot_shut_out_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = "/gradio_api/call/chat"
    body = {"data": ["What?", "", "", 512, 0.0, 1.0, 0, 1.0, 0]}
    # Behind a proxy on this computer, which says who each visitor is.
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "127.0.0.1")
    here = [{"x-forwarded-for": f"203.0.113.{n}"} for n in range(2)]
    engine = FakeEngine()
    with (
        serving(handle_of(engine), server=SMALL) as url,
        engine.pace.held("chat"),
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        answers = [client.post(ask, json=body, headers=here[0]) for _ in range(6)]
        most = SMALL.queued_calls_per_visitor
        assert [a.status_code for a in answers] == [200] * most + [429] * (6 - most)
        assert "calls from your address" in answers[-1].json()["detail"]
        assert answers[-1].headers["retry-after"]
        assert client.post(ask, json=body, headers=here[1]).status_code == 200


@pytest.mark.slow
def test_a_full_queue_says_what_to_do() -> None:
    most = LANES["chat"]["concurrency_limit"]
    full = ServerLimits(queued_calls=2, queued_calls_per_visitor=most + 4)
    engine = FakeEngine()
    with (
        serving(handle_of(engine), server=full) as url,
        engine.pace.held("chat"),
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        body = {"data": ["What?", "", "", 512, 0.0, 1.0, 0, 1.0, 0]}
        answers: list[httpx.Response] = []
        for _ in range(most):
            answers.append(client.post("/gradio_api/call/chat", json=body))
            until(lambda: len(engine.asked) == len(answers))  # it has begun and waits no more
        answers += [client.post("/gradio_api/call/chat", json=body) for _ in range(3)]
        assert [a.status_code for a in answers] == [*[200] * (most + 2), 503]
        assert "Try again in a minute" in answers[-1].json()["detail"]
        page = {**PAGE, "accept-language": "de"}
        told = client.post("/gradio_api/call/chat", json=body, headers=page)
        assert told.status_code == 429, "or the page would show Gradio's own words"
        assert "In einer Minute" in told.json()["detail"]


def test_an_event_that_does_not_exist_is_no_crash(
    client: httpx.Client, capfd: pytest.CaptureFixture[str]
) -> None:
    answers = [join(client, number, "hash") for number in (-1, 10**6, 2**70)]
    for path in ("run/predict", "api/predict", "call/nothing", "run/nothing"):
        for number in (10**6, None):
            body: dict[str, Any] = {"data": [], "fn_index": number}
            answers.append(client.post(f"/gradio_api/{path}", json=body))
    for answer in answers:
        assert answer.status_code == 404
        assert "no event of that name or number" in answer.json()["detail"]
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("path", ["queue/data?session_hash=nobody", "call/chat/nothing"])
def test_who_listens_for_a_call_that_is_not_there_is_told_so(
    client: httpx.Client, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection had been broken off, which looked like a fault of the network."""
    answer = client.get(f"/gradio_api/{path}")
    assert answer.status_code == 200
    assert '"session_not_found":true' in answer.text or "event: error" in answer.text
    assert "fault" not in caplog.text


@pytest.mark.parametrize("body", [{}, {"message": "a", "unknown": 1}, {"seed": []}])
@pytest.mark.parametrize("name", ["0", "nothing", "chat"])
def test_arguments_by_name_that_do_not_fit_are_refused(
    client: httpx.Client, name: str, body: dict[str, Any]
) -> None:
    answer = client.post(f"/gradio_api/call/v2/{name}", json=body)
    assert answer.status_code == 400
    assert "arguments by name" in answer.json()["detail"]


def test_a_page_that_does_not_exist_is_not_found(client: httpx.Client) -> None:
    for page in ("nothing", "!\u0094", "../a"):
        assert client.get("/", params={"page": page}).status_code == 404


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"data": [' + b"9" * 5000 + b'], "fn_index": 0}', b"\xff", b""]
)
def test_a_body_that_is_no_json_is_refused(client: httpx.Client, body: bytes) -> None:
    kind = {"content-type": "application/json"}
    answer = client.post("/gradio_api/queue/join", content=body, headers=kind)
    assert answer.status_code in (400, 422)


@pytest.mark.slow
def test_a_call_whose_caller_left_ends_soon_and_the_next_one_is_answered() -> None:
    engine = FakeEngine()
    with (
        serving(handle_of(engine)) as url,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        chat = event_named(client, "chat")
        with engine.pace.held("chat"):  # only who ends it ends it
            endless = join(client, chat, "gone", *CHAT)
            assert endless.status_code == 200
            with client.stream("GET", "/gradio_api/queue/data?session_hash=gone") as stream:
                next(line for line in stream.iter_lines() if "process_starts" in line)
            assert engine.closed_chats == 0
            until(lambda: engine.closed_chats == 1)
        assert join(client, chat, "next", "What?", "", "", 8, 0, 1, 0, 1, 0).status_code == 200
        with client.stream("GET", "/gradio_api/queue/data?session_hash=next") as stream:
            last = next(line for line in stream.iter_lines() if "process_completed" in line)
        assert json.loads(last.removeprefix("data:"))["success"] is True


CHAT = ("What?", "", "", 512, 0, 1, 0, 1, 0)


def post_chat(client: httpx.Client, address: int, *, message: str = "What?") -> str:
    """Ask over the API, from an address of one's own; return the path of the answer."""
    path, headers = "/gradio_api/call/chat", {"x-forwarded-for": f"203.0.113.{address}"}
    answer = client.post(path, json={"data": [message, *CHAT[1:]]}, headers=headers)
    assert answer.status_code == 200, answer.text
    return f"{path}/{answer.json()['event_id']}"


@contextmanager
def held_chats(limits: ServerLimits | None = None) -> Iterator[tuple[FakeEngine, httpx.Client]]:
    """Serve an engine whose chats end only when somebody ends them, or with the block."""
    engine = FakeEngine()
    with (
        serving(handle_of(engine), server=limits or ServerLimits()) as url,
        httpx.Client(base_url=url, timeout=120) as client,
        engine.pace.held("chat"),
    ):
        yield engine, client


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Calls]:
    """Return the calls of each server that is started, behind a proxy that says whose they are."""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "127.0.0.1")
    made: list[Calls] = []

    def make(*arguments: Any) -> Calls:
        made.append(Calls(*arguments))
        return made[-1]

    monkeypatch.setattr("ui.server.gate.Calls", make)
    return made


def pass_time(calls: list[Calls], seconds: float) -> None:
    """Let calls and answers be older by so much, however slow the machine is."""
    now = calls[0]._clock() + seconds
    calls[0]._clock = lambda: now


def await_sweeps(calls: list[Calls], number: int) -> None:
    begun = calls[0].num_sweeps
    until(lambda: calls[0].num_sweeps >= begun + number)


@pytest.mark.slow
@pytest.mark.parametrize("by", ["the API", "a page"])
def test_a_call_that_nobody_listens_to_gives_up_its_place(by: str, calls: list[Calls]) -> None:
    """Eight such calls held all places of the chat until their natural end."""
    places = LANES["chat"]["concurrency_limit"]
    with held_chats() as (engine, client):
        chat = event_named(client, "chat")
        left = []
        for number in range(places + 2):
            if by == "the API":
                left.append(post_chat(client, 1))
            else:
                page = f"page-{number}"
                assert join(client, chat, page, *CHAT).status_code == 200
                left.append(f"/gradio_api/queue/data?session_hash={page}")
        until(lambda: len(engine.asked) == places)
        assert engine.closed_chats == 0
        pass_time(calls, 31)
        until(lambda: engine.closed_chats == places)
        for path in left:
            assert "Nobody listened for the answer" in client.get(path).text
        with client.stream("GET", post_chat(client, 2)):
            until(lambda: len(engine.asked) == places + 1)
    assert len(engine.asked) == places + 1, "those that waited did not begin"


@pytest.mark.slow
def test_who_listens_waits_as_long_as_it_takes_and_may_fetch_late(calls: list[Calls]) -> None:
    engine = FakeEngine()
    with (
        serving(handle_of(engine)) as url,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        late = post_chat(client, 1)
        until(lambda: calls[0].gauges()["answers_waiting"] == 1)
        with ExitStack() as held:
            held.enter_context(engine.pace.held("chat"))
            with client.stream("GET", post_chat(client, 2)) as stream:
                until(lambda: len(engine.asked) == 2)
                pass_time(calls, 200)
                await_sweeps(calls, 2)
                assert engine.closed_chats == 1
                held.close()
                assert "event: complete" in stream.read().decode()
        assert "event: complete" in client.get(late).text
        until(lambda: calls[0].gauges()["answers_waiting"] == 0)


@pytest.mark.slow
def test_answers_that_nobody_fetches_are_few_and_go_soon(calls: list[Calls]) -> None:
    """Gradio keeps them for ever, and an entry for each session that ever called."""
    few = ServerLimits(answers=4, answers_per_visitor=2, answer_seconds=600)
    with (
        serving(handle_of(), server=few) as url,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        queue = calls[0]._queue

        def ended(path: str) -> bool:
            return path.rpartition("/")[2] not in queue.event_ids_to_events

        def ask(*addresses: int) -> list[str]:
            paths = [post_chat(client, address) for address in addresses]
            until(lambda: all(map(ended, paths)))
            return paths

        others = ask(2)
        paths = ask(1, 1, 1, 1)
        until(lambda: len(calls[0]._calls) == 3)
        assert ["event: complete" in client.get(path).text for path in paths[:2]] == [False] * 2
        assert all("event: complete" in client.get(path).text for path in paths[2:] + others)
        until(lambda: not queue.pending_messages_per_session)
        assert "event: error" in client.get(others[0]).text, "it was fetched"
        ask(1, 1, 2, 2, 3, 3)
        until(lambda: len(calls[0]._calls) == 4)
        assert {call.visitor[-1] for call in calls[0]._calls.values()} == {"1", "2", "3"}
        pass_time(calls, 601)
        until(lambda: not queue.pending_event_ids_session)
        assert not queue.pending_messages_per_session
        assert not calls[0]._calls


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["answers_bytes", "answers_per_visitor_bytes"])
def test_answers_that_nobody_fetches_are_small_together(limit: str, calls: list[Calls]) -> None:
    with (
        serving(handle_of(), server=ServerLimits.of([f"{limit}=1"])) as url,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        path = post_chat(client, 1)
        until(lambda: not calls[0]._calls)
        assert "event: error" in client.get(path).text


@pytest.mark.slow
def test_a_long_answer_on_its_way_is_not_dropped_for_its_size(calls: list[Calls]) -> None:
    """Whoever listens on a slow line may still have its last message to come."""
    with (
        serving(handle_of(), server=ServerLimits(answers_per_visitor_bytes=1)) as url,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        # As if somebody listened: what a client has not read yet is not for the server to know.
        with calls[0].listening("/gradio_api/queue/data", "page"):
            assert join(client, event_named(client, "chat"), "page", *CHAT).status_code == 200
            until(lambda: calls[0].gauges()["answers_waiting"] == 1)
            swept = calls[0].num_sweeps
            until(lambda: calls[0].num_sweeps > swept + 2)
            assert calls[0].gauges()["answers_waiting"] == 1
        until(lambda: not calls[0]._calls)


@pytest.mark.slow
def test_one_session_keeps_few_answers_too(calls: list[Calls]) -> None:
    few = ServerLimits(answers_per_visitor=2)
    with (
        serving(handle_of(), server=few) as url,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        chat, queue = event_named(client, "chat"), calls[0]._queue
        for _ in range(5):
            assert join(client, chat, "page", *CHAT).status_code == 200
            until(lambda: not queue.event_ids_to_events)
        until(lambda: calls[0].gauges()["answers_waiting"] == 2)
        answer = client.get("/gradio_api/queue/data?session_hash=page").text
        assert answer.count("process_completed") == 2
        assert '"close_stream"' in answer


@pytest.mark.slow
def test_nothing_stays_of_a_page_that_left_during_a_call(calls: list[Calls]) -> None:
    """Gradio kept its session and the id of the call that ran for ever."""
    with held_chats() as (engine, client):
        chat, queue = event_named(client, "chat"), calls[0]._queue
        assert join(client, chat, "gone", *CHAT).status_code == 200
        with client.stream("GET", "/gradio_api/queue/data?session_hash=gone") as stream:
            next(line for line in stream.iter_lines() if "process_starts" in line)
        until(lambda: engine.closed_chats == 1)
        until(lambda: not queue.pending_event_ids_session)
        assert not queue.pending_messages_per_session


@pytest.mark.slow
def test_a_stream_that_closes_leaves_another_of_its_page_alone(calls: list[Calls]) -> None:
    """A page may open one while it closes the other, and was told 404."""
    address = "/gradio_api/queue/data?session_hash=page"
    engine = FakeEngine()
    with (
        serving(handle_of(engine), server=ServerLimits()) as url,
        httpx.Client(base_url=url, timeout=120) as client,
        ExitStack() as streams,
    ):
        with engine.pace.held("chat"):
            assert join(client, event_named(client, "chat"), "page", *CHAT).status_code == 200
            second = streams.enter_context(client.stream("GET", address))
            with client.stream("GET", address):
                until(lambda: calls[0]._listeners.amounts["page"] == 2)
            until(lambda: calls[0]._listeners.amounts["page"] == 1)
        lines = list(second.iter_lines())
    assert any("process_completed" in line for line in lines)
    assert not any("unexpected_error" in line for line in lines)


@pytest.mark.slow
def test_addresses_take_turns(calls: list[Calls]) -> None:
    """A call of an address that has few goes before the tenth of one that has many."""
    places = LANES["chat"]["concurrency_limit"]
    many = ServerLimits(queued_calls_per_visitor=places + 3)
    with held_chats(many) as (engine, client):
        for number in range(places):
            post_chat(client, 1, message=f"first {number}")
            until(lambda: len(engine.asked) == number + 1)  # noqa: B023 - called at once
        for address, message in ((1, "A"), (1, "B"), (1, "C"), (2, "D"), (2, "E"), (3, "F")):
            post_chat(client, address, message=message)
        waiting = calls[0]._queue.event_queue_per_concurrency_id["chat"].queue
        order = [event.data.data[0] for event in waiting if event.data is not None]
        assert order == ["D", "F", "A", "E", "B", "C"]


def test_a_call_that_did_not_pass_the_gate_is_not_queued(demo: gr.Blocks) -> None:
    """Nobody would know of it, nor of the memory of its body."""
    calls, queue = Calls(demo, ServerLimits()), demo._queue
    calls._push = push = AsyncMock()  # in place of Gradio's own
    body = SimpleNamespace(session_hash="page", fn_index=next(iter(demo.fns)))
    with pytest.raises(KeyError, match=BODY_KEY):
        run(queue.push(body, Request(BARE_SCOPE), None))  # type: ignore[arg-type]
    push.assert_not_called()


def test_a_call_on_its_way_into_the_queue_keeps_its_stream(demo: gr.Blocks) -> None:
    """A sweep just then had forgotten the session, and its page was answered 404."""
    calls = Calls(demo, ServerLimits())
    queue = demo._queue
    body = SimpleNamespace(session_hash="page", fn_index=next(iter(demo.fns)))
    request = Request({**BARE_SCOPE, BODY_KEY: HeldBytes(Share(), "")})

    async def push(**_arguments: Any) -> tuple[bool, str, str]:
        queue.pending_messages_per_session["page"] = asyncio.Queue()
        calls.sweep()
        return True, "", "success"

    calls._push = push  # type: ignore[assignment]  # as Gradio's own, at its slowest
    run(queue.push(body, request, None))  # type: ignore[arg-type]
    assert "page" in queue.pending_messages_per_session
    calls.sweep()
    assert "page" not in queue.pending_messages_per_session, "nobody listens to it"


@pytest.mark.slow
def test_the_stream_of_a_page_outlasts_its_calls_for_a_while(calls: list[Calls]) -> None:
    """Gradio closed it with the last answer, and the next call could be lost (docs/LOG.md)."""
    with (
        serving(handle_of()) as url,
        httpx.Client(base_url=url, timeout=120, headers=PAGE) as client,
    ):
        chat = event_named(client, "chat")
        pass_time(calls, 0)
        assert join(client, chat, "page", *CHAT).status_code == 200
        with client.stream("GET", "/gradio_api/queue/data?session_hash=page") as stream:
            lines = stream.iter_lines()
            for _ in range(3):
                assert any("process_completed" in line for line in lines)
                assert join(client, chat, "page", *CHAT).status_code == 200
            assert any("process_completed" in line for line in lines)
            pass_time(calls, 4)
            assert any("close_stream" in line for line in lines), "a browser has few connections"
            assert "".join(lines) == ""


@pytest.mark.slow
def test_a_stream_ends_soon_where_calls_give_up_sooner(calls: list[Calls]) -> None:
    with (
        serving(handle_of(), server=ServerLimits(unattended_seconds=1)) as url,
        httpx.Client(base_url=url, timeout=120, headers=PAGE) as client,
    ):
        assert join(client, event_named(client, "chat"), "page", *CHAT).status_code == 200
        answer = client.get("/gradio_api/queue/data?session_hash=page").text
        assert "process_completed" in answer
        assert "close_stream" in answer


@pytest.mark.slow
def test_a_session_without_a_name_stops_nobody(calls: list[Calls]) -> None:
    """Two calls behind another one ended the queue for everybody, and `/health` said ready."""
    engine = FakeEngine()
    with (
        serving(handle_of(engine), server=SMALL) as url,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        chat = event_named(client, "chat")
        with engine.pace.held("chat"):
            first = post_chat(client, 1)
            refused = [join(client, chat, "", *CHAT) for _ in range(2)]
        assert [answer.status_code for answer in refused] == [400, 400]
        assert "expected 1 to 100 characters" in refused[0].json()["detail"]
        assert "event: complete" in client.get(first).text
        assert "event: complete" in client.get(post_chat(client, 1)).text
        until(lambda: client.get("/health/ready").json() == {"status": "ready"})
        calls[0]._queue.stopped = True
        assert client.get("/health/ready").status_code == 503


@pytest.mark.slow
def test_thousands_of_sessions_end_neither_the_queue_nor_its_sweeps(calls: list[Calls]) -> None:
    """Gradio keeps the messages of 2,000, and dropped those of calls that ran or waited."""
    with held_chats() as (engine, client):
        queue = calls[0]._queue
        slow = post_chat(client, 1)
        until(lambda: len(engine.asked) == 1)
        for number in range(2_100):
            queue.pending_messages_per_session[f"other-{number}"] = asyncio.Queue()
        assert slow.rpartition("/")[2] in queue.pending_messages_per_session
        del queue.pending_messages_per_session[slow.rpartition("/")[2]]
        pass_time(calls, 31)
        await_sweeps(calls, 2)
        assert not queue.pending_messages_per_session
        until(lambda: engine.closed_chats == 1)
        with client.stream("GET", post_chat(client, 2)):
            until(lambda: len(engine.asked) == 2)


@pytest.mark.slow
def test_an_address_keeps_few_idle_sessions(calls: list[Calls]) -> None:
    few = ServerLimits(sessions_per_visitor=3)
    with (
        serving(handle_of(), server=few) as url,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        chat, queue = event_named(client, "chat"), calls[0]._queue
        pass_time(calls, 0)
        for number in range(6):
            assert join(client, chat, f"page-{number}", *CHAT).status_code == 200
            data = client.get(f"/gradio_api/queue/data?session_hash=page-{number}").text
            assert "process_completed" in data
            pass_time(calls, 0.1)
        pass_time(calls, 4)
        until(lambda: len(queue.pending_messages_per_session) == 3)
        assert set(queue.pending_messages_per_session) == {"page-3", "page-4", "page-5"}


@pytest.mark.slow
def test_a_stream_may_open_after_all_answers_came(calls: list[Calls]) -> None:
    """So it does if they overtake the reply to their call; the page was answered 404."""
    with (
        serving(handle_of()) as url,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        chat, queue = event_named(client, "chat"), calls[0]._queue
        assert join(client, chat, "page", *CHAT).status_code == 200
        first = client.get("/gradio_api/queue/data?session_hash=page").text
        assert "process_completed" in first
        until(lambda: not calls[0]._calls)
        await_sweeps(calls, 2)
        with client.stream("GET", "/gradio_api/queue/data?session_hash=page") as stream:
            assert join(client, chat, "page", *CHAT).status_code == 200
            answer = stream.read().decode()
        assert "process_completed" in answer
        assert 'session_not_found":true' not in answer
        pass_time(calls, 31)
        until(lambda: not queue.pending_messages_per_session)


# ------------------------------------------------------------------------------ bodies


ROOMY = ServerLimits(request_bytes=300_000, bodies_per_visitor_bytes=300_000, bodies_bytes=500_000)
"""Room for one body of 200 kB per address, and for two in all."""
LONG = {"data": [*CHAT, "x" * 264_000]}


def ask_long(client: httpx.Client, address: int) -> int:
    """Ask with a body of 200 kB that count; return the status."""
    headers = {"x-forwarded-for": f"203.0.113.{address}"}
    return client.post("/gradio_api/call/chat", json=LONG, headers=headers).status_code


@contextmanager
def withheld(url: str, size: int) -> Iterator[socket.socket]:
    """Send a body except for its last byte."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port)) as sender:
        head = f"POST /gradio_api/queue/join HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"
        sender.sendall(head.encode() + b" " * (size - 1))
        yield sender


@pytest.mark.slow
def test_bodies_that_do_not_end_leave_room_for_others(calls: list[Calls]) -> None:
    """Thirty of 31 MB held a gigabyte for as long as their senders liked."""
    with (
        serving(handle_of(), server=ROOMY) as url,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        home = {"x-forwarded-for": "127.0.0.1"}
        with withheld(url, 264_000):
            answer = httpx.Response(200)

            def is_refused() -> bool:
                nonlocal answer
                path = "/gradio_api/queue/join"
                answer = client.post(path, content=b" " * 264_000, headers=home)
                return answer.status_code == 429

            until(is_refused)
            assert "Too many large requests at once" in answer.json()["detail"]
            assert ask_long(client, 1) == 200
            small = client.post("/gradio_api/call/chat", json={"data": [*CHAT]}, headers=home)
            assert small.status_code == 200
        until(lambda: not is_refused())


def test_a_body_that_has_ended_counts_nothing_any_more() -> None:
    memory = Share(100_000, 100_000)
    held = HeldBytes(memory, "somebody")
    assert held.grow(150_000)
    held.release()
    assert held.grow(160_000)
    assert HeldBytes(memory, "somebody").grow(164_000)
    assert not HeldBytes(memory, "somebody").grow(164_001)


@pytest.mark.slow
def test_a_body_has_a_time_to_arrive_in() -> None:
    with (
        serving(handle_of(), server=ServerLimits(body_seconds=1)) as url,
        withheld(url, 1_000) as sender,
    ):
        sender.settimeout(60)
        answer = sender.recv(10_000).decode()
        assert answer.startswith("HTTP/1.1 408")
        assert "did not arrive within 1 seconds" in answer + sender.recv(10_000).decode()


@pytest.mark.slow
def test_the_bodies_of_calls_count_until_these_end(calls: list[Calls]) -> None:
    engine = FakeEngine()
    with (
        serving(handle_of(engine), server=ROOMY) as url,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        with engine.pace.held("chat"):
            asked = [ask_long(client, address) for address in (1, 1, 2, 3)]
            assert asked == [200, 429, 200, 429]
        until(lambda: ask_long(client, 1) == 200)


@pytest.mark.slow
def test_a_call_keeps_nothing_that_nobody_reads(calls: list[Calls]) -> None:
    with held_chats() as (_, client):
        chat = event_named(client, "chat")
        body = {"data": [*CHAT], "fn_index": chat, "session_hash": "a", "event_data": ["junk"]}
        assert client.post("/gradio_api/queue/join", json=body).status_code == 200
        (event,) = calls[0]._queue.event_ids_to_events.values()
        assert event.data is not None
        assert event.data.data == [*CHAT]
        assert event.data.event_data is None
        assert not vars(event.request).keys() & {"_body", "_json"}


# ------------------------------------------------------------------------------ pages


class Clock:
    """Time that passes when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        self.now += 0.001
        return self.now


@pytest.fixture
def demo() -> gr.Blocks:
    return build_ui(handle_of(), PromptLimits())


def test_pages_are_few_and_those_in_use_stay(demo: gr.Blocks) -> None:
    pages = Pages(demo, ServerLimits(sessions=4), Clock())
    pages.attended.take("visitor")
    pages["visitor"], pages["closed"]
    for number in range(20):  # a flood of sessions without a browser
        pages[f"flood-{number}"]
        assert len(pages.session_data) <= 4
    assert "visitor" in pages
    assert "closed" not in pages
    pages.attended.give_back("visitor")
    for number in range(4):
        pages[f"more-{number}"]
    assert "visitor" not in pages


def test_a_page_goes_soon_after_its_tab_and_leaves_its_visit(
    demo: gr.Blocks, tmp_path: Path
) -> None:
    clock = Clock()
    pages = Pages(demo, ServerLimits(closed_seconds=60, session_seconds=600), clock)
    (state,) = (b for b in demo.blocks.values() if isinstance(b, gr.State))
    folder = tmp_path / "visit"
    folder.mkdir()
    pages["a"][state._id] = Session(folder=folder)
    pages["a"].is_closed = True
    pages["a"]  # by an event of the page's end
    pages["b"]
    pages.delete_all_expired_state()
    assert "a" in pages
    clock.now += 61
    pages.delete_all_expired_state()
    assert "a" not in pages
    assert folder.exists()  # `ui.visits` keeps it, and says how long
    assert "b" in pages
    pages["b"].is_closed = True
    pages.attended.take("b")  # it had only lost its connection
    clock.now += 61
    pages.delete_all_expired_state()
    assert "b" in pages
    clock.now += 600
    pages.delete_all_expired_state()
    assert not pages.session_data


@pytest.mark.slow
def test_a_page_that_ends_its_connection_goes_also_on_the_server() -> None:
    server = ServerLimits(closed_seconds=1)
    options = serve.launch_options(PromptLimits(), server=server, metrics=True)
    with (
        serving(handle_of(), server=server, app_kwargs=options["app_kwargs"]) as url,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        events = client.get("/config").json()["dependencies"]
        opened = next(e for e in events if "load" in [target[1] for target in e["targets"]])
        nothing = [None, *[""] * (len(opened["inputs"]) - 1)]
        body = {"data": nothing, "fn_index": opened["id"], "session_hash": "a"}

        def pages() -> str:
            lines = client.get("/metrics").text.splitlines()
            return next(line for line in lines if line.startswith("dnd_pages ")).split()[1]

        with client.stream("GET", "/gradio_api/heartbeat/a"):
            assert client.post("/gradio_api/run/predict", json=body).status_code == 200
            assert pages() == "1"
        until(lambda: pages() == "0")


def test_visits_that_never_close_their_page_are_bounded_and_those_with_work_stay(
    tmp_path: Path,
) -> None:
    visits = Visits(SessionFiles(tmp_path), ServerLimits(sessions=3, left_visits=2), Clock())
    worked, _ = visits.open("", "worked", Session(turns=[Turn("What?", Answer(""))]))
    for number in range(30):
        visits.open("", f"flood-{number}", Session())
        assert len(visits._visits) <= 6
    assert visits.open(worked.key, "again", Session())[1] == "back"


def test_a_page_neither_makes_nor_holds_a_copy_of_the_whole_configuration(
    demo: gr.Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gr.Textbox, "get_config", None)
    page = Page(demo)
    textbox = next(b for b in demo.blocks.values() if isinstance(b, gr.Textbox))
    page[textbox._id] = gr.Textbox("new", render=False)
    page._update_config(textbox._id)
    page._update_value_in_config(textbox._id, "newer")
    assert not any(page.config_values.values())
    assert page[textbox._id].value == "new"


@pytest.mark.slow
def test_an_address_keeps_so_many_pages_connected() -> None:
    few = ServerLimits(sessions_per_visitor=2)
    with (
        serving(handle_of(), server=few) as url,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        beat = "/gradio_api/heartbeat/"
        with client.stream("GET", f"{beat}a") as one, client.stream("GET", f"{beat}b") as two:
            assert one.status_code == two.status_code == 200
            refused = client.get(f"{beat}c")
            assert refused.status_code == 429
            assert "Close some" in refused.json()["detail"]

        def is_let_in() -> bool:
            with client.stream("GET", f"{beat}c") as again:
                return again.status_code == 200

        until(is_let_in)  # as soon as the server has seen that the others are gone


@pytest.mark.slow
def test_nothing_grows_over_300_visits() -> None:
    """Each visit had cost 1 MB that was never given back."""
    server = ServerLimits(sessions=20, left_visits=20, closed_seconds=1)
    process = psutil.Process()
    with (
        serving(handle_of(), server=server) as url,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        events = client.get("/config").json()["dependencies"]
        opened = next(e for e in events if "load" in [target[1] for target in e["targets"]])
        nothing = [None, *[""] * (len(opened["inputs"]) - 1)]

        def visits(first: int, count: int) -> tuple[float, int, int, int]:
            for number in range(first, first + count):
                hashed = f"visit-{number}"
                body = {"data": nothing, "fn_index": opened["id"], "session_hash": hashed}
                assert client.post("/gradio_api/run/predict", json=body).status_code == 200
                with client.stream("GET", f"/gradio_api/heartbeat/{hashed}"):
                    pass
            held = sum(1 for _ in Path(get_upload_folder()).rglob("*"))
            return (
                process.memory_info().rss / 1e6,
                process.num_threads(),
                process.num_fds(),
                held,
            )

        # By the first time everything was loaded.
        sizes = [visits(0, 120), *(visits(first, 50) for first in range(120, 420, 50))]
    memory, *others = np.array(sizes).T
    assert memory[-1] - memory[0] <= 300 * 0.05, memory
    for name, counts in zip(("threads", "open files", "files"), others, strict=True):
        # Pages that are not gone yet come and go, so the trend counts: one that stays in 30 visits
        # is too much.
        slope = np.polyfit(np.arange(len(counts)) * 50, counts, 1)[0]
        assert slope <= 1 / 30, f"{name}: {counts}"


@pytest.mark.slow
def test_what_a_killed_server_left_goes_at_the_next_start_in_a_folder_of_ones_own_too(
    tmp_path: Path,
) -> None:
    place = tmp_path / "another disk"
    start = (
        "import os\nfrom pathlib import Path\nfrom ui.serve import own_cache\n"
        "own_cache()\nown_cache()\n"
        "(Path(os.environ['GRADIO_TEMP_DIR']) / 'visit').write_text('a prompt')\n"
    )
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(place)}
    for end, left in (("os._exit(9)", 1), ("", 0)):
        subprocess.run([sys.executable, "-c", start + end], cwd=ROOT, env=environment, check=False)
        assert len(list(place.rglob("visit"))) == left
    assert list(place.iterdir()) == []


def test_threads_share_two_arenas_unless_somebody_chose_another_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[int, int]] = []
    libc = SimpleNamespace(mallopt=lambda *option: asked.append(option))
    monkeypatch.setattr("ctypes.CDLL", lambda _name: libc)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    allocator.share_arenas()
    assert asked == []
    monkeypatch.delenv("MALLOC_ARENA_MAX")
    allocator.share_arenas()
    assert asked == [(-8, 2)]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
def test_memory_that_was_freed_between_what_is_in_use_is_given_back() -> None:
    # Of a size that comes from the heap, whose end the C library gives back by itself.
    libc, size, process = ctypes.CDLL(None), 100_000, psutil.Process()
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    blocks = [libc.malloc(size) for _ in range(1000)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    used = set(blocks[::20])
    for block in blocks:
        if block not in used:
            libc.free(block)
    before = process.memory_info().rss
    allocator.give_back()
    assert before - process.memory_info().rss > 0.8 * size * len(blocks)
    for block in used:
        libc.free(block)


def test_a_c_library_without_these_settings_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _name: SimpleNamespace())
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    allocator.share_arenas()
    allocator.give_back()


def test_compiled_kernels_are_few_unless_somebody_chose_another_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    serve._keep_few_kernels()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "7"
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY")
    serve._keep_few_kernels()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "128"
