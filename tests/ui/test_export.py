"""Export and push as plain functions, with an engine without models."""

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from dnd_engine.export.registry import EXPORTS
from dnd_engine.library import Library
from dnd_engine.limits import PromptLimits
from dnd_engine.notes import noted
from tests.ui.conftest import OWNERS_KEY
from tests.ui.fake_engine import FakeEngine
from tests.ui.listed import listed
from tests.ui.orders import make
from ui.canvas import Arrangement
from ui.engine_calls import EngineCalls
from ui.engine_handle import EngineHandle
from ui.handlers import Handlers
from ui.owner import Owner
from ui.session_files import SessionFiles
from ui.shared import App, Updates
from ui.state import Session
from ui.tabs.workbench.take.view import TakePanel

Arrange = Callable[..., Arrangement]
RequestOf = Callable[[str], gr.Request]
Export = Callable[..., list[Updates]]


@pytest.fixture
def at_home(handle: EngineHandle, files: SessionFiles, tmp_path: Path) -> Handlers:
    library = Library(tmp_path / "library")
    app = App(
        EngineCalls(handle), PromptLimits(), files, tmp_path / "cache", Owner(library, OWNERS_KEY)
    )
    return listed(Handlers(app))


@pytest.fixture
def session(on: Handlers, arrange: Arrange, request_of: RequestOf) -> Session:
    session = Session()
    make(on, session, arrange(SQL={"a.txt": "one\n"}), request_of("s"))
    return session


@pytest.fixture
def export(session: Session, request_of: RequestOf) -> Export:
    def run(on: Handlers, target: Any, repo: str = "", token: str = "") -> list[Updates]:
        return list(on.export.export(session, target, repo, True, token, request_of("s")))

    return run


def test_a_gguf_is_offered_with_its_command_line(on: Handlers, export: Export) -> None:
    begun, *_, done = export(on, "gguf")
    assert begun["export"].interactive is False
    assert done["export"].interactive is True
    path = Path(done["export_file"].value["path"])
    assert path.is_file()
    assert done["export_usage"].value == f"llama-cli -m base.gguf --lora {path.name}"
    assert path.name in done["export_told"]


def test_downloads_of_one_adapter_have_names_of_their_own(
    at_home: Handlers, export: Export
) -> None:
    """The base's is that which the command for the adapter names."""
    formats = ("gguf", "base-gguf", "merged-gguf", "merged-gguf-q8")
    done = [export(at_home, format)[-1] for format in formats]
    names = [Path(one["export_file"].value["path"]).name for one in done]
    assert names[1] == "base.gguf"
    assert "-m base.gguf" in done[0]["export_usage"].value
    assert names[2].endswith("-merged-gguf.gguf")
    assert len(set(names)) == len(names)
    for name, one in zip(names, done, strict=True):
        assert name in one["export_usage"].value


def test_a_tick_after_the_result_takes_nothing_away(
    on: Handlers, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on.app.calls, "beside", lambda steps: [None, *steps, None])
    done = export(on, "gguf")[-1]
    assert done["export_file"].visible is True
    assert "is ready" in done["export_told"]


def test_an_error_nobody_foresaw_gives_the_buttons_back(at_home: Handlers) -> None:
    for name, updates in (
        ("export", at_home.export.export_broke()),
        ("library_load", at_home.library.load_broke()),
    ):
        assert updates[name].interactive is True
        assert any("Something broke" in told for told in updates.values() if isinstance(told, str))


def test_a_merged_model_is_a_zip_and_for_the_own_computer_alone(
    on: Handlers, at_home: Handlers, export: Export, engine: FakeEngine
) -> None:
    refused = export(on, "merged")[-1]
    assert "only where the app runs" in refused["export_told"]
    assert engine.exports == []
    for _ in range(2):  # and again
        done = export(at_home, "merged")[-1]
    path = Path(done["export_file"].value["path"])
    folder = path.stem
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [f"{folder}/model.safetensors"]
    assert not path.with_suffix("").exists()
    assert f'from_pretrained("{folder}")' in done["export_usage"].value


def test_an_export_that_fails_says_why(on: Handlers, session: Session, export: Export) -> None:
    on.adapter.set_strength(session, 2.0)
    done = export(on, "gguf")[-1]
    assert "Not exported." in done["export_told"]
    assert "logits differ" in done["export_told"]
    assert done["export"].interactive is True


def test_what_was_exported_goes_when_the_strength_changes(
    on: Handlers, session: Session, export: Export
) -> None:
    assert export(on, "gguf")[-1]["export_file"].visible is True
    updates = on.adapter.set_strength(session, 0.5)
    assert updates["export_file"].visible is False
    assert updates["export_usage"].visible is False


@pytest.mark.parametrize("target", ["gguf", "hub"])
def test_what_was_exported_stays_when_the_checks_end_meanwhile(
    on: Handlers,
    session: Session,
    export: Export,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
) -> None:
    def beside(steps: Iterator[Updates]) -> Iterator[Updates]:
        yield from steps
        assert on.adapter.check(session)

    assert session.made is not None
    session.made.inspection = None
    monkeypatch.setattr(on.app.calls, "beside", beside)
    done = export(on, target, "me/it", "hf_secret")[-1]
    assert done["export_told"]
    assert done["export_usage"].visible is True


def test_an_export_that_another_strength_overtook_says_so(
    on: Handlers,
    session: Session,
    export: Export,
    request_of: RequestOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def beside(steps: Iterator[Updates]) -> Iterator[Updates]:
        yield from steps
        on.adapter.set_strength(session, 0.7)

    monkeypatch.setattr(on.app.calls, "beside", beside)
    first, *_, done = export(on, "gguf")
    assert "The adapter changed meanwhile" in done["export_told"]
    assert done["export_file"].visible is False
    # Its result would appear under another format.
    assert (first["export_format"].interactive, done["export_format"].interactive) == (False, True)


def test_the_format_asks_for_what_it_needs(on: Handlers, request_of: RequestOf) -> None:
    def chosen(target: str) -> Updates:
        return on.export.choose_format(target, request_of("s"))

    assert chosen("hub")["hub"].visible is True
    assert chosen("hub")["export"].value == "Push to the Hub"
    assert chosen("gguf")["hub"].visible is False


def test_what_a_page_without_the_key_lacks_is_said_before_the_export(
    on: Handlers, at_home: Handlers, request_of: RequestOf
) -> None:
    stranger = gr.Request(session_hash="s", headers={"host": "127.0.0.1:7860"})
    for target, lacks in {
        "merged": "only where the app runs on your own",
        "hub": "a token",
    }.items():
        told = at_home.export.choose_format(target, stranger)["export_told"]
        assert lacks in told
        assert "the address that the app printed" in told
        for handlers in (on, at_home):
            assert not handlers.export.choose_format(target, request_of("s"))["export_told"]
    assert not at_home.export.choose_format("gguf", stranger)["export_told"]


def test_what_this_computer_lacks_is_said_before_the_export(
    at_home: Handlers, export: Export, engine: FakeEngine, request_of: RequestOf, monkeypatch: Any
) -> None:
    lacking = replace(EXPORTS["merged-gguf"], missing=lambda: noted("Run `pip install it`."))
    monkeypatch.setitem(EXPORTS, "four", lacking)
    told = at_home.export.choose_format("four", request_of("s"))["export_told"]
    assert "Run <code>pip install it</code>." in told
    refused = export(at_home, "four")[-1]["export_told"]
    assert "Not exported." in refused
    assert "Run <code>pip install it</code>." in refused
    assert engine.exports == []


def test_a_token_is_passed_on_cleared_at_once_and_kept_nowhere(
    on: Handlers, session: Session, export: Export, engine: FakeEngine
) -> None:
    begun, *_, done = export(on, "hub", "me/it", " hf_secret ")
    assert begun["hub_token"] == ""
    assert engine.pushes == [("me/it", "hf_secret", True)]
    assert "Pushed, private" in done["export_told"]
    assert done["export_usage"].value == "load('me/it')"
    # The note on a file that was exported before goes.
    assert done["export_usage"].constructor_args["info"] is None
    assert "hf_secret" not in repr([getattr(session, f.name) for f in fields(session)])
    refused = export(on, "hub", "me/it", "hf_wrong")
    assert "Not pushed" in refused[-1]["export_told"]
    assert "hf_wrong" not in repr(refused)


@pytest.mark.parametrize("token", ["", "  ", "\n"])
def test_a_visitor_never_pushes_with_the_login_of_the_machine(
    on: Handlers, at_home: Handlers, export: Export, engine: FakeEngine, token: str
) -> None:
    refused = export(on, "hub", "me/it", token)[-1]
    assert "token of your own" in refused["export_told"]
    assert engine.pushes == []
    export(at_home, "hub", "me/it", token)
    assert engine.pushes == [("me/it", None, True)]


def test_a_registered_export_is_on_the_page(
    at_home: Handlers, export: Export, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXPORTS, "other", replace(EXPORTS["gguf"], title="Other", note="Mind it."))
    with gr.Blocks():
        choices = TakePanel(shared=True).export_format.choices
    assert ("Other", "other") in choices
    assert "merged" not in [name for _title, name in choices]
    done = export(at_home, "other")[-1]
    assert engine.exports[-1][1] == "other"
    assert done["export_usage"].info == "Mind it."
    assert Path(done["export_file"].value["path"]).suffix == ".gguf"
