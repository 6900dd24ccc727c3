"""The owner compares models of another server; nobody else can have this one send requests."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from dnd_engine.config import Sampling
from dnd_engine.library import Library
from dnd_engine.limits import PromptLimits
from dnd_engine.serving.chat import Remote
from dnd_engine.serving.compare import compare_remote
from tests.dnd_engine.serving.chat_server import Handler, running_chat
from tests.present import present
from tests.ui.conftest import OWNERS_KEY
from tests.ui.orders import make
from ui.canvas import Arrangement
from ui.engine_calls import EngineCalls
from ui.engine_handle import EngineHandle
from ui.handlers import Handlers
from ui.owner import Owner
from ui.session_files import SessionFiles
from ui.shared import App
from ui.state import Session
from ui.text import speaking

RequestOf = Callable[[str], gr.Request]
SETTINGS = (None, 16, 0.7, 5, 0.9, 0, 1.0, True)


@pytest.fixture
def own(handle: EngineHandle, files: SessionFiles, tmp_path: Path) -> Handlers:
    owner = Owner(Library(tmp_path / "library"), key=OWNERS_KEY)
    return Handlers(App(EngineCalls(handle), PromptLimits(), files, tmp_path / "cache", owner))


def asked(on: Handlers, session: Session, question: str) -> None:
    on.compare.ask(question, "written", session)
    for _ in on.compare.answer(session, *SETTINGS):
        pass


def test_both_models_of_a_server_answer_side_by_side(own: Handlers, request_of: RequestOf) -> None:
    session, request = Session(), request_of("a")
    with running_chat() as there:
        found = own.remote.find(there.url, "sk-1", request)
        assert (found["remote_base"].value, found["remote_adapter"].value) == ("small", "tuned")
        used = own.remote.use(there.url, "sk-1", "small", "tuned", session, request)
        assert "small" in used["left_pane"]
        assert "tuned" in used["right_pane"]
        asked(own, session, "how many?")
        (turn,) = session.turns
        assert turn.right is not None
        assert (turn.left.reply, turn.right.reply) != (None, None)
        texts = [side.reply and side.reply.text for side in turn.sides.values()]
        assert texts == ["small says how many?", "tuned says how many?"]
        assert turn.complete
        assert {row["model"] for row in there.asked} == {"small", "tuned"}
        assert there.asked[0]["seed"] == 5
        assert there.asked[0]["top_p"] == 0.9
        assert set(there.keys[1:]) == {"Bearer sk-1"}
        own.compare.ask_again(session, "right")
        for _ in own.compare.answer(session, *SETTINGS):
            pass
        assert there.asked[-1]["model"] == "tuned", "the same side of the same server"
        assert there.asked[-1]["seed"] == 6
        asked(own, session, "and now?")
        assert [m["role"] for m in there.asked[-1]["messages"]] == ["user", "assistant", "user"]
        own.remote.use("http://127.0.0.1:9", "sk-2", "small", "tuned", session, request)
        own.compare.ask_again(session)
        list(own.compare.answer(session, *SETTINGS))
        assert set(there.keys[-2:]) == {None}, "the key of another server is not sent"
        own.remote.use(there.url, "sk-1", "small", "tuned", session, request)
        own.remote.leave(session)
        own.compare.ask_again(session)
        list(own.compare.answer(session, *SETTINGS))
        assert set(there.keys[-2:]) == {None}, "the key was forgotten"
        own.remote.use(there.url, "sk-1", "small", "tuned", session, request)
    assert "sk-1" not in repr(session)
    kept = own.compare.answered(session, request)
    whole = Path(kept["keep_json"].value["path"]).read_text()
    assert '"model": "tuned"' in whole
    assert "sk-1" not in whole
    own.compare.put_back(session, request)
    assert session.remote is None, "a page that is opened again has no key"
    asked(own, session, "who are you?")
    assert session.turns[-1].left.label.startswith("base ")
    assert "From here on" in own.compare.panes(session)["left_pane"]


def test_adapters_of_a_llama_server_are_compared_with_its_base(
    own: Handlers, request_of: RequestOf
) -> None:
    """It has no model names for them; left is the base without what the server applies itself."""
    session, request = Session(), request_of("a")
    with running_chat() as there:
        there.models = ["base"]
        there.adapters = [
            {"id": number, "path": path, "scale": 1.0}
            for number, path in enumerate(("/a/sql.gguf", "/a/tone.gguf", "/b/tone.gguf"))
        ]
        found = own.remote.find(there.url, "", request)
        assert (found["remote_base"].value, found["remote_adapter"].value) == (
            "base",
            "base + sql.gguf",
        )
        names = [name for name, _ in found["remote_base"].choices]
        assert names[2:] == ["base + /a/tone.gguf", "base + /b/tone.gguf"]
        own.remote.use(there.url, "", "base", "base + /b/tone.gguf", session, request)
        asked(own, session, "how many?")
        sent = {tuple(one["scale"] for one in row["lora"]): row["model"] for row in there.asked}
        assert sent == {(0, 0, 0): "base", (0, 0, 1): "base"}
        assert session.turns[0].complete
        own.remote.use(there.url, "", "base", "base + old.gguf", session, request)
        asked(own, session, "how many?")
        told = "has not loaded the adapter `old.gguf`; it has sql.gguf, /a/tone.gguf, /b/tone.gguf."
        assert told in session.turns[1].error
        there.adapters, there.models = None, ["small", "small + tuned"]
        there.listed.clear()
        own.remote.use(there.url, "", "small", "small + tuned", session, request)
        asked(own, session, "how many?")
        assert there.asked[-1].keys() & {"lora"} == set()
        assert {row["model"] for row in there.asked[2:]} == {"small", "small + tuned"}
        assert there.listed == ["/lora-adapters"]
        own.remote.use(there.url, "", "small", "small", session, request)
        asked(own, session, "how many?")
        assert len(there.listed) == 1, "names without a file need no question"


def test_a_llama_servers_model_may_be_called_like_one_with_an_adapter(
    own: Handlers, request_of: RequestOf
) -> None:
    session, request = Session(), request_of("a")
    with running_chat() as there:
        there.models = ["a + b.gguf"]
        there.adapters = [{"id": 0, "path": "/l.gguf", "scale": 1.0}]
        own.remote.use(there.url, "", "a + b.gguf", "a + b.gguf + l.gguf", session, request)
        asked(own, session, "how many?")
        sent = {row["lora"][0]["scale"]: row["model"] for row in there.asked}
        assert sent == {0.0: "a + b.gguf", 1.0: "a + b.gguf"}


def test_names_of_a_servers_models_are_in_no_language(own: Handlers, request_of: RequestOf) -> None:
    session, request = Session(), request_of("a")
    with running_chat() as there, speaking("de"):
        own.remote.use(there.url, "", "llama-base", "authentic", session, request)
        asked(own, session, "how many?")
        kept = own.compare.answered(session, request)
        panes = own.compare.panes(session)
    written = Path(kept["keep_markdown"].value["path"]).read_text(encoding="utf-8")
    for name, pane in (("llama-base", "left_pane"), ("authentic", "right_pane")):
        assert f"<code>{name}</code>" in panes[pane]
        assert f"### `{name}`" in written


def test_what_goes_wrong_with_a_server_is_said_in_the_language_of_the_page(
    own: Handlers, request_of: RequestOf
) -> None:
    session, request = Session(), request_of("a")
    with speaking("de"):
        found = own.remote.find("nonsense", "", request)["remote_told"]
        own.remote.use("http://127.0.0.1:9", "", "small", "tuned", session, request)
        asked(own, session, "how many?")
        pane = own.compare.panes(session)["left_pane"]
    assert "<code>nonsense</code> ist keine Adresse. Erwartet wird http://HOST:PORT" in found
    assert "Unter <code>http://127.0.0.1:9</code> antwortet kein Server" in pane
    again = own.compare.panes(session)["left_pane"]
    assert "no server answers at <code>http://127.0.0.1:9</code>" in again, "kept, and said again"


def test_an_adapter_that_was_compared_gives_a_server_no_title(
    own: Handlers, arrange: Callable[..., Arrangement], request_of: RequestOf
) -> None:
    session, request = Session(), request_of("a")
    for name in ("a.txt", "b.txt"):
        make(own, session, arrange(SQL={name: f"{name}\n"}), request)
    titled = "<h3>Other adapter</h3>"
    shown = own.compare.stand_beside(session, session.shelf[0].key)
    assert titled in shown["left_pane"]
    own.compare.choose_mode(session, "told")
    used = own.remote.use("http://127.0.0.1:9", "", "small", "tuned", session, request)
    assert "<h3>Base</h3><span class='dnd-facts'>small</span>" in used["left_pane"]
    assert "Base reads the instruction" in used["compare_head"]
    left = own.remote.leave(session)
    assert titled in left["left_pane"]
    assert "Other adapter reads the instruction" in left["compare_head"]


def test_an_unforeseen_error_of_one_model_ends_the_comparison(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_args: object, **_options: object) -> Iterator[Remote]:
        yield Remote("half", "")
        raise UnicodeError("no such letter")

    monkeypatch.setattr("dnd_engine.serving.compare.stream", fails)
    got: list[Exception] = []

    def read() -> None:
        try:
            list(compare_remote("http://host", "", [("small", [])], Sampling()))
        except UnicodeError as error:
            got.append(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(120)
    assert [str(error) for error in got] == ["no such letter"]


def test_a_server_that_fails_is_told_where_the_answer_would_be(
    own: Handlers, request_of: RequestOf
) -> None:
    def broken(handler: Handler, values: dict[str, Any]) -> None:
        handler.say(500, {"error": {"message": "out of memory"}})

    session, request = Session(), request_of("a")
    with running_chat(broken) as there:
        own.remote.use(there.url, "", "small", "tuned", session, request)
        asked(own, session, "Hi")
    assert "out of memory" in session.turns[0].error
    assert session.turns[0].finished
    assert "cannot be listed" in own.remote.find("localhost", "", request)["remote_told"]
    with running_chat() as there:
        there.models = []
        assert "lists no models" in own.remote.find(there.url, "", request)["remote_told"]
    missing = own.remote.use("", "", "small", "tuned", Session(), request)
    assert "Something is missing" in missing["remote_told"]


def test_stop_ends_the_answer_with_the_words_so_far(own: Handlers, request_of: RequestOf) -> None:
    def endless(handler: Handler, _values: dict[str, Any]) -> None:
        handler.begin(200, "text/event-stream")
        try:
            while True:
                handler.event({"choices": [{"delta": {"content": "word "}}]})
        except OSError:
            pass

    session = Session()
    with running_chat(endless) as there:
        own.remote.use(there.url, "", "small", "tuned", session, request_of("a"))
        own.compare.ask("Hi", "written", session)
        for _ in own.compare.answer(session, *SETTINGS):
            reply = session.turns[0].left.reply
            if reply is not None and reply.text:
                own.compare.stop_chat(session)
    assert session.turns[0].left.stopped
    assert session.turns[0].finished


def test_nobody_but_the_owner_sends_requests_from_here(own: Handlers, on: Handlers) -> None:
    stranger = gr.Request(session_hash="s", headers={"host": "127.0.0.1:7860"})
    session = Session()
    with running_chat() as there:
        for handlers in (own, on):
            handlers.remote.find(there.url, "", stranger)
            handlers.remote.use(there.url, "", "small", "tuned", session, stranger)
        assert session.remote is None
        assert there.asked == []
        assert there.keys == []


@pytest.mark.parametrize("leaves", [True, False])
def test_a_page_that_leaves_while_a_model_thinks_disconnects(
    leaves: bool, own: Handlers, request_of: RequestOf
) -> None:
    ended = threading.Event()

    def think(handler: Handler, _values: dict[str, Any]) -> None:
        handler.begin(200, "text/event-stream")
        try:
            while True:
                handler.event({"choices": [{"delta": {"content": None, "reasoning": "Hm."}}]})
                time.sleep(0.01)
        except OSError:
            ended.set()

    session = Session()
    with running_chat(think) as there:
        own.remote.use(there.url, "", "small", "tuned", session, request_of("a"))
        own.compare.ask("Hi", "written", session)
        steps = own.compare.answer(session, *SETTINGS)
        assert next(steps) == {}, "nothing to draw yet"
        if leaves:
            steps.close()  # type: ignore[attr-defined]  # a generator
        else:
            own.compare.stop_chat(session)
            list(steps)
        assert ended.wait(60)


def test_only_settings_that_differ_from_a_servers_own_are_sent() -> None:
    rows = [("small", [{"role": "user", "content": "Hi"}])]
    with running_chat() as there:
        *_, last = compare_remote(there.url, "", rows, Sampling(max_new_tokens=9))
        (reply,) = present(last)
        assert reply.finished
        assert reply.num_tokens == 3
        sent = there.asked[0]
    assert sent.keys() == {"model", "messages", "max_tokens", "temperature", "stream"}
