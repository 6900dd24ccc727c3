"""Whatever a program sends to the page's routes, the answer is no fault of the server.

By hypothesis and not by schemathesis: the schema of the routes calls an endpoint's arguments a list
of anything, so nearly all requests made from it end at the first check. docs/LOG.md says what it
found, and how to run it by hand when Gradio's version changes.
"""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from dnd_engine.limits import ServerLimits
from tests.fuzz.test_files import VALUE
from tests.serving import serving
from tests.ui.fake_engine import handle_of

pytestmark = pytest.mark.slow

ROUTES = (
    *("/", "/config", "/info", "/theme.css", "/manifest.json", "/robots.txt", "/api", "/metrics"),
    *("/login", "/logout", "/login_check", "/health/live", "/static/x", "/assets/x", "/svelte/x"),
    *("/gradio_api/info", "/gradio_api/upload", "/gradio_api/upload_progress", "/gradio_api/reset"),
    *("/gradio_api/queue/join", "/gradio_api/queue/data", "/gradio_api/queue/status"),
    *("/gradio_api/call/chat", "/gradio_api/call/v2/chat", "/gradio_api/call/generate"),
    *("/gradio_api/run/chat", "/gradio_api/api/chat", "/gradio_api/cancel", "/gradio_api/file=x"),
    *("/gradio_api/heartbeat/x", "/gradio_api/custom_component/x", "/gradio_api/startup-events"),
)
FIELDS = (
    *("data", "fn_index", "session_hash", "event_id", "trigger_id", "event_data", "batched"),
    *("request", "username", "password", "upload_id", "page", "lang", "key"),
)
FORM = "multipart/form-data"
KINDS = (
    *("application/json", "text/plain", f"{FORM}; boundary=b", "x/\N{SNOWMAN}", ""),
    *(FORM, f"{FORM}; boundary=", f'{FORM}; boundary="b', f"{FORM}; boundary={'b' * 300}"),
)
WORDS = st.text(max_size=20)
LONG = "x" * 300
"""Longer than the names that a disk takes."""
PARTS = (
    b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nx\r\n--b--\r\n',
    b'--b\r\nContent-Disposition: form-data; name="files"\r\n\r\nx\r\n--b--\r\n',
    b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nx',
    b"--b\r\nbroken\r\n\r\nx\r\n--b--",
    b"--c\r\n\r\nx\r\n--c--\r\n",
)
ARGUMENTS = VALUE | st.sampled_from(
    [
        *("pool", "sum", "left", "right", "[]", "{}", '{"cards": []}', "<b>", LONG, 1e308, -1),
        *([["left"]], [None] * 3, {"headers": ["a"], "data": [[1]]}, {"path": "/etc/passwd"}),
        {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
        '{"buckets": [{"name": "A", "cards": [{"key": 1}]}]}',
    ]
)
"""What pages send, or nearly so."""


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    limits = ServerLimits(queued_calls=4, sessions=8, sessions_per_visitor=4)
    with (
        serving(handle_of(), server=limits) as url,
        httpx.Client(base_url=url, timeout=60, follow_redirects=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def events(client: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/config").json()["dependencies"]
    return found


@st.composite
def requests(draw: st.DrawFn) -> httpx.Request:
    """One request: a route that exists or nearly so, and values of any kind."""
    part = st.just("") | (WORDS | st.just(LONG)).map(lambda x: quote("/" + x))
    path = draw(st.sampled_from(ROUTES)) + draw(part)
    values = draw(st.dictionaries(st.sampled_from(FIELDS) | WORDS, VALUE, max_size=5))
    try:
        body = json.dumps(values | {"data": draw(st.lists(VALUE, max_size=9) | VALUE)}).encode()
    except ValueError:  # an integer of more digits than Python writes
        body = b'{"data": [%s]}' % (b"9" * 5000)
    query = draw(st.dictionaries(st.sampled_from(FIELDS), WORDS | st.integers(), max_size=3))
    return httpx.Request(
        draw(st.sampled_from(("GET", "POST", "POST", "POST", "HEAD", "PUT", "DELETE", "OPTIONS"))),
        path,
        params={name: str(value) for name, value in query.items()},
        content=draw(st.just(body) | st.sampled_from(PARTS) | st.binary(max_size=60)),
        headers=[(b"content-type", draw(st.sampled_from(KINDS)).encode())],
    )


def of(path: str, body: bytes) -> httpx.Request:
    """A request that was a fault once."""
    return httpx.Request("POST", path, content=body, headers={"content-type": "application/json"})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(requests())
@example(of("/gradio_api/queue/join", b'{"data": NaN}'))
@example(of("/gradio_api/queue/join", b'{"data": [], "fn_index": 0, "session_hash": ""}'))
@example(of("/gradio_api/reset", b"1e999999"))
@example(of("/gradio_api/call/chat", b"[" * 100_000))
def test_no_request_is_a_fault_of_the_server(client: httpx.Client, sent: httpx.Request) -> None:
    request = client.build_request(
        sent.method, str(sent.url), content=sent.content, headers=sent.headers
    )
    answer = client.send(request, stream=True)
    try:
        assert answer.status_code != httpx.codes.INTERNAL_SERVER_ERROR, answer.read()
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            assert b"Traceback" not in answer.read()
            assert b"Reference:" not in answer.read()
    finally:
        answer.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data())
def test_no_arguments_of_an_event_are_a_fault_of_the_server(
    client: httpx.Client, events: list[dict[str, Any]], drawn: st.DataObject
) -> None:
    event = drawn.draw(st.sampled_from(events))
    count = len(event["inputs"]) + drawn.draw(st.sampled_from([0, 0, 0, -1, 1]))
    call = {
        "data": [drawn.draw(ARGUMENTS) for _ in range(count)],
        "fn_index": event["id"],
        "session_hash": "fuzz",
        "event_data": drawn.draw(st.none() | ARGUMENTS),
        "trigger_id": drawn.draw(st.none() | st.integers()),
    }
    assert "Reference:" not in answered(client, call), event["api_name"]


def answered(client: httpx.Client, call: dict[str, Any]) -> str:
    """Call an event, and return its answer or refusal."""
    try:
        body = json.dumps(call)
    except ValueError:  # an integer of more digits than Python writes
        assume(False)
    kind = {"content-type": "application/json"}
    sent = client.post("/gradio_api/queue/join", content=body, headers=kind)
    assert sent.status_code != httpx.codes.INTERNAL_SERVER_ERROR, sent.text
    if sent.status_code != httpx.codes.OK:
        return sent.text
    with client.stream("GET", "/gradio_api/queue/data?session_hash=fuzz") as stream:
        for line in stream.iter_lines():
            if "process_completed" in line or "close_stream" in line:
                return line
    return ""


def test_page_and_queue_still_serve(client: httpx.Client) -> None:
    assert client.get("/config").status_code == httpx.codes.OK
    assert client.get("/health/ready").json() == {"status": "ready"}
    asked = client.post("/gradio_api/call/list_adapters", json={"data": []})
    assert asked.status_code == httpx.codes.OK, asked.text
    answer = client.get(f"/gradio_api/call/list_adapters/{asked.json()['event_id']}")
    assert "`list_adapters` expects 1 value(s)" in answer.text
