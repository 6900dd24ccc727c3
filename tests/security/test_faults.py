"""Errors that nobody foresaw: a sentence with a reference for people, and no text in the log."""

# ruff: noqa: D102 - the names say it

import errno
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import orjson
import pytest
import torch
from gradio.events import api
from gradio_client import Client
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from dnd_engine.errors import DndError, ExportError, HubError, RemoteError
from dnd_engine.export.place import exported_aside
from dnd_engine.export.registry import export_target
from dnd_engine.library import Library
from dnd_engine.limits import FIXED, PromptLimits, ServerLimits
from dnd_engine.lora.adapter import write_files
from tests.disks import full_at
from tests.loops import run
from tests.serving import fetch, serving
from tests.ui.fake_engine import FakeEngine, handle_of
from tests.ui.orders import make
from ui.canvas import Arrangement, CanvasBucket, CanvasCard
from ui.engine_calls import EngineCalls
from ui.faults import fault_words, public_words
from ui.handlers import Handlers
from ui.owner import Owner
from ui.server.gate import Gate
from ui.server.values import GuardedBlocks
from ui.session_files import SessionFiles
from ui.shared import App
from ui.state import Session

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
        yield Client(url, verbose=False, httpx_kwargs={"timeout": 120})


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "memory of the server is full"),
        (RuntimeError(f"CUDA out of memory. {SECRET}"), "memory of the server is full"),
        (RuntimeError(f"DefaultCPUAllocator: can't allocate memory: {SECRET}"), "memory of the"),
        (RuntimeError(f"MPS backend out of memory {SECRET}"), "memory of the server is full"),
        (RuntimeError(f"CUDA error: CUBLAS_STATUS_ALLOC_FAILED {SECRET}"), "memory of the server"),
        (torch.AcceleratorError(f"CUDA error: out of memory {SECRET}"), "memory of the server is"),
        (torch.AcceleratorError(f"CUDA error: device-side assert {SECRET}"), "graphics card"),
        (ValueError(f"out of memory, CUDA error, no space left {SECRET}"), "Something broke that"),
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
    called = httpx.post(
        f"{client.src}gradio_api/call/chat", json={"data": [SECRET]}, timeout=120
    ).json()
    answer = fetch(f"{client.src}gradio_api/call/chat/{called['event_id']}").text
    assert "`chat` expects 9 value(s), got 1" in answer
    assert SECRET not in answer


def test_a_value_that_is_no_choice_is_refused_and_not_quoted(client: Client) -> None:
    """Gradio quoted it with its type: a body of 30 MB became an answer of 25 MB."""
    config = fetch(f"{client.src}config").json()
    (chosen,) = (
        part["id"] for part in config["components"] if part["props"].get("elem_id") == "dnd-kept"
    )
    event = next(e for e in config["dependencies"] if chosen in e["inputs"])
    data = [SECRET if part == chosen else None for part in event["inputs"]]
    call = {"data": data, "fn_index": event["id"], "session_hash": "choice"}
    httpx.post(f"{client.src}gradio_api/queue/join", json=call, timeout=120).raise_for_status()
    answer = fetch(f"{client.src}gradio_api/queue/data?session_hash=choice").text
    assert "got a value that does not fit. Reload the page" in answer
    assert SECRET not in answer
    assert "<class" not in answer


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
    (back,) = run(echoing.process_api(event, [value]))["data"]
    orjson.dumps(back)


FILE = {"path": f"/cuda error {SECRET}", "meta": {"_type": "gradio.FileData"}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("event", "value"),
    [("chat", FILE), ("keep_answers", -1), ("update_prompts", [[]]), ("js_fn", None)],
)
def test_values_that_do_not_fit_are_refused_and_are_no_faults(
    client: Client, caplog: pytest.LogCaptureFixture, event: str, value: Any
) -> None:
    """A path of others, a wrong type, a wrong shape, and an event that only scripts have."""
    events = fetch(f"{client.src}config").json()["dependencies"]
    found = next(one for one in events if one["api_name"] == event)
    data = [value] * len(found["inputs"])
    call = {"data": data, "fn_index": found["id"], "session_hash": "unfit"}
    httpx.post(f"{client.src}gradio_api/queue/join", json=call, timeout=120).raise_for_status()
    answer = fetch(f"{client.src}gradio_api/queue/data?session_hash=unfit").text
    assert f"`{event}` got a value that does not fit" in answer
    assert "Reference" not in answer
    (logged,) = (one for one in caplog.records if "refused values" in one.getMessage())
    assert logged.levelno == logging.WARNING
    assert logged.getMessage().startswith(f"refused values of {event}: ")


def test_a_disk_that_fails_while_values_are_read_is_a_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(payload: str) -> str:
        raise OSError(errno.ENOSPC, payload)

    with GuardedBlocks() as demo:
        field = gr.Textbox()
        field.input(echo, field, field)
    monkeypatch.setattr(field, "preprocess", fail)
    (event,) = demo.fns.values()
    with pytest.raises(gr.Error, match=r"The disk of the server is full.*Reference"):
        run(demo.process_api(event, [SECRET]))


def test_a_client_that_leaves_during_its_request_is_no_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def route(request: Request) -> Response:
        raise ClientDisconnect

    gate = Gate(Starlette(routes=[Route("/gradio_api/upload", route)]), ServerLimits())
    assert TestClient(gate).get("/gradio_api/upload").status_code == 400
    assert "fault" not in caplog.text


def test_an_error_that_answers_a_call_is_short() -> None:
    def fail() -> None:
        raise gr.Error("x" * 100_000)

    demo = GuardedBlocks()
    with demo:
        api(fail)
    (event,) = demo.fns.values()
    with pytest.raises(gr.Error) as raised:
        run(demo.process_api(event, []))
    assert len(raised.value.message) == FIXED.max_error_chars


class WritingEngine(FakeEngine):
    """An engine that writes as the real one does."""

    def save(self, adapter: Any, path: Path | str) -> Path:
        return write_files(adapter.files(), Path(path))

    def export(self, adapter: Any, format: str, path: Path | str) -> Any:
        with exported_aside(Path(path), export_target(format)) as aside:
            aside.write_text(adapter.sha256)
        return super().export(adapter, format, path)


FULL = "The disk of the server is full. Try again once there is space. Reference: "


def test_a_full_disk_is_told_with_a_reference_and_no_folder_but_to_the_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    handle = handle_of(WritingEngine())
    handle.start()
    assert handle.wait(60)
    files, owner = SessionFiles(tmp_path), Owner(Library(tmp_path / "library"), "key")
    on = Handlers(App(EngineCalls(handle), PromptLimits(), files, tmp_path, owner))
    warned: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda words, title: warned.append(words))
    upload = tmp_path / "a.txt"
    upload.write_text("one")
    cards = (CanvasCard("A", "a.txt", "auto", upload, waiting=True),)
    canvas = Arrangement((CanvasBucket("SQL", 1.0, cards),))

    def words(cookie: str) -> list[str]:
        warned.clear()
        request = gr.Request(session_hash=f"s{cookie}", headers={"cookie": cookie})
        session = on.visit.open(Session(), "en", "", request)["session"]
        make(on, session, canvas, request)
        made = session.made
        assert made is not None
        on.library.keep(session, "mine", False, request)
        on.adapter.set_strength(session, 0.5)
        with full_at(0):
            *_, export = on.export.export(session, "gguf", "", True, "", request)
            kept = on.library.keep(session, "more", False, request)
            renamed = on.library.rename_kept(session, "mine", "other", request)
            zipped = on.adapter.prepare_download(session, request)
            on.app.note(session, made, votes={"won": 1})
            on.synthesis.begin_synthesis(canvas, session)
            list(on.synthesis.synthesize(session, "pool", 0, request))
        assert session.run is not None
        assert len(warned) == 2, "the recipe and the votes"
        return [
            export["export_told"],
            kept["keep_told"],
            renamed["library_told"],
            zipped["warning"],
            *warned,
            session.run.stages.message,
        ]

    caplog.clear()
    for said in words(""):
        assert FULL in said
        assert str(tmp_path) not in said
        assert "visit-" not in said
    assert caplog.text.count("OSError at tests.disks") == 7
    assert str(tmp_path) not in caplog.text
    for said in words("dnd-owner=key"):
        assert "Reference" not in said
        assert str(tmp_path) in said
        assert "No space left on device" in said


@pytest.mark.slow
def test_a_full_disk_is_told_over_the_api_with_a_reference_and_no_folder() -> None:
    with serving(handle_of(WritingEngine())) as url:
        client = Client(url, verbose=False, httpx_kwargs={"timeout": 120})
        buckets = [{"prompts": ["One two three?", "Four five six?"]}]
        with full_at(0), pytest.raises(Exception, match=FULL) as raised:
            client.predict(buckets, api_name="/make_adapter")
        assert "/" not in str(raised.value)
        assert client.predict(buckets, api_name="/make_adapter")["adapter_id"]


@pytest.mark.parametrize("error", [HubError, RemoteError])
def test_what_another_server_refuses_keeps_its_words(error: type[DndError]) -> None:
    found = error("the Hub cannot be reached.")
    found.__cause__ = ConnectionRefusedError("refused")
    assert public_words(found, "push", str) == "the Hub cannot be reached."


def test_words_that_are_no_fault_name_no_folder_either(tmp_path: Path) -> None:
    files = SessionFiles(tmp_path)
    folder = files.folder("s")
    error = ExportError(f"`{folder / 'x.gguf'}` is a folder: no permission in `{folder}`.")
    assert (
        public_words(error, "export", files.redacted)
        == "`x.gguf` is a folder: no permission in `…`."
    )
    error.__cause__ = SafetensorError("I/O error: No space left on device (os error 28)")
    assert FULL in public_words(error, "export", files.redacted)


def test_every_kind_of_fault_has_words_of_its_own() -> None:
    assert len({fault_words(e) for e in (MemoryError(), OSError(errno.EDQUOT, ""), OSError())}) == 3
