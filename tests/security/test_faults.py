"""Errors that nobody foresaw: a sentence with a reference for people, and no text in the log."""

# ruff: noqa: D102 - the names say it

import asyncio
import errno
import logging
import re
from collections.abc import Iterator
from typing import Any

import gradio as gr
import httpx
import orjson
import pytest
from gradio.events import api
from gradio_client import Client
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from dnd_engine.limits import ServerLimits
from tests.serving import serving
from tests.ui.fake_engine import FakeEngine, handle_of
from ui.faults import GuardedBlocks, fault_words
from ui.gate import Gate

SECRET = "the visitor's secret /home/someone/secret"


class FailingEngine(FakeEngine):
    """An engine whose answers end in an error that a test chooses."""

    error: BaseException | None = None

    def compare(self, *args: Any, **kwargs: Any) -> Any:
        if self.error is not None:
            raise self.error
        return super().compare(*args, **kwargs)


@pytest.fixture(scope="module")
def engine() -> FailingEngine:
    return FailingEngine()


@pytest.fixture(scope="module")
def client(engine: FailingEngine) -> Iterator[Client]:
    with serving(handle_of(engine)) as url:
        yield Client(url, verbose=False)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "memory of the server is full"),
        (RuntimeError(f"CUDA out of memory. {SECRET}"), "memory of the server is full"),
        (RuntimeError(f"DefaultCPUAllocator: can't allocate memory: {SECRET}"), "memory of the"),
        (RuntimeError(f"CUDA error: device-side assert {SECRET}"), "graphics card"),
        (OSError(errno.ENOSPC, SECRET), "disk of the server is full"),
        (ZeroDivisionError(SECRET), "Something broke that should not have"),
        (KeyError(SECRET), "Something broke that should not have"),
        (SystemExit(SECRET), "Something broke that should not have"),
        (AssertionError(), "Something broke that should not have"),
    ],
    ids=repr,
)
def test_a_fault_is_a_sentence_with_a_reference_and_the_next_request_works(
    client: Client,
    engine: FailingEngine,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    error: BaseException,
    told: str,
) -> None:
    engine.error = error
    try:
        with caplog.at_level(logging.INFO), pytest.raises(Exception, match=told) as raised:
            client.predict("What? tell nobody", api_name="/chat")
    finally:
        engine.error = None
    words = str(raised.value)
    assert SECRET not in words
    reference = re.search(r"Reference: ([0-9a-f]{8})\.", words)
    assert reference is not None
    assert reference[1] in caplog.text
    assert type(error).__name__ in caplog.text
    assert "compare" in caplog.text, "the log has the place"
    printed = "".join(capfd.readouterr())
    for text in (caplog.text, printed):
        assert SECRET not in text
        assert "tell nobody" not in text
    assert client.predict("What?", api_name="/chat")["base"]["text"]


def test_a_value_that_an_event_cannot_take_is_not_printed(
    client: Client, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Exception, match="temperature"):
        client.predict("What?", temperature=SECRET, api_name="/chat")
    printed = "".join(capfd.readouterr())
    assert SECRET not in printed + caplog.text
    assert "Traceback" not in printed


def test_a_call_with_too_few_values_is_told_so_and_quotes_none(client: Client) -> None:
    called = httpx.post(f"{client.src}gradio_api/call/chat", json={"data": [SECRET]}).json()
    answer = httpx.get(f"{client.src}gradio_api/call/chat/{called['event_id']}", timeout=120).text
    assert "`chat`: expected 9 values, got 1" in answer
    assert SECRET not in answer


def test_a_fault_in_a_route_is_a_sentence_with_a_reference_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The server's own words for it were "Internal Server Error"."""

    async def route(request: Request) -> Response:
        raise ZeroDivisionError(SECRET)

    routes = [Route("/gradio_api/file={name:path}", route)]
    answer = TestClient(Gate(Starlette(routes=routes), ServerLimits())).get(
        f"/gradio_api/file={SECRET}"
    )
    assert answer.status_code == 500
    assert "in /gradio_api/file: ZeroDivisionError" in caplog.text
    reference = re.search(r"Reference: ([0-9a-f]{8})\.", answer.json()["detail"])
    assert reference is not None
    assert reference[1] in caplog.text
    logged = "".join(record.getMessage() for record in caplog.records if record.name == "ui.faults")
    assert "secret" not in answer.text + logged


def test_a_500_that_is_no_fault_is_passed_on() -> None:
    async def route(request: Request) -> Response:
        return Response("said so", 500)

    gate = Gate(Starlette(routes=[Route("/a", route)]), ServerLimits())
    assert TestClient(gate).get("/a").text == "said so"


JSON = st.recursive(
    st.text(st.characters(codec=None)) | st.integers(-(10**400), 10**400) | st.none(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec=None)), inner),
    max_leaves=6,
)


def echo(value: Any) -> Any:
    return value


@pytest.fixture(scope="module")
def echoing() -> gr.Blocks:
    demo = GuardedBlocks()
    with demo:
        api(echo)
    return demo


@given(value=JSON)
def test_whatever_a_client_sends_can_be_sent_back(echoing: gr.Blocks, value: Any) -> None:
    (event,) = echoing.fns.values()
    (back,) = asyncio.run(echoing.process_api(event, [value]))["data"]
    orjson.dumps(back)


def test_every_kind_of_fault_has_words_of_its_own() -> None:
    assert len({fault_words(e) for e in (MemoryError(), OSError(errno.EDQUOT, ""), OSError())}) == 3
