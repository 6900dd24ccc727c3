"""Whatever a program sends to the page's routes, the answer is no fault of the server.

By hypothesis and not by schemathesis: the schema of the routes calls an endpoint's arguments a list
of anything, so nearly all requests made from it end at the first check. docs/LOG.md says what it
found, and how to run it by hand when Gradio's version changes.
"""

import json
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
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
KINDS = ("application/json", "text/plain", "multipart/form-data; boundary=b", "x/\N{SNOWMAN}", "")
WORDS = st.text(max_size=20)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    limits = ServerLimits(queued_calls=4, sessions=8, sessions_per_visitor=4)
    with (
        serving(handle_of(), server=limits) as url,
        httpx.Client(base_url=url, timeout=60, follow_redirects=False) as client,
    ):
        yield client


@st.composite
def requests(draw: st.DrawFn) -> httpx.Request:
    """One request: a route that exists or nearly so, and values of any kind."""
    path = draw(st.sampled_from(ROUTES)) + draw(st.just("") | WORDS.map(lambda x: quote("/" + x)))
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
        content=draw(st.just(body) | st.binary(max_size=60)),
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
    finally:
        answer.close()


def test_page_and_queue_still_serve(client: httpx.Client) -> None:
    assert client.get("/config").status_code == httpx.codes.OK
    assert client.get("/health/ready").json() == {"status": "ready"}
    asked = client.post("/gradio_api/call/list_adapters", json={"data": []})
    assert asked.status_code == httpx.codes.OK, asked.text
    answer = client.get(f"/gradio_api/call/list_adapters/{asked.json()['event_id']}")
    assert "`list_adapters` expects 1 value(s)" in answer.text
