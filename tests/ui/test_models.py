"""The owner changes the models of a running page; nobody else does."""

import itertools
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import gradio as gr
import pytest

from dnd_engine.config import NO_GENERATOR, EngineConfig
from dnd_engine.errors import AssetError, DndError
from dnd_engine.library import Library
from dnd_engine.limits import PromptLimits
from dnd_engine.models.sources import BASES
from tests.present import present
from tests.ui.conftest import OWNERS_KEY
from tests.ui.fake_engine import FakeEngine
from ui.engine_calls import EngineCalls
from ui.engine_handle import EngineHandle
from ui.engine_thread import Stop
from ui.frame.models_view import OTHER
from ui.handlers import Handlers
from ui.owner import Owner
from ui.session_files import SessionFiles
from ui.shared import App
from ui.state import Session

RequestOf = Callable[[str], gr.Request]
EMBEDDED = "smollm2-135m-instruct"


@pytest.fixture
def may_end() -> Event:
    """Loading ends only while it is set, as it is at first."""
    event = Event()
    event.set()
    return event


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, may_end: Event) -> list[EngineConfig]:
    """What a switch loads, in order."""
    asked: list[EngineConfig] = []

    def loader(config: EngineConfig) -> Callable[..., Any]:
        def load(on_progress: object) -> FakeEngine:
            asked.append(config)
            assert may_end.wait(30)
            if config.base == "broken":
                raise AssetError("no such model.")
            return FakeEngine()

        return load

    monkeypatch.setattr("ui.engine_handle._loader", loader)
    monkeypatch.setattr("dnd_engine.generator.installed._cached_bases", lambda: iter(()))
    return asked


@pytest.fixture
def own(handle: EngineHandle, files: SessionFiles, tmp_path: Path) -> Handlers:
    handle.config = EngineConfig(device="cpu", cache_dir=tmp_path / "cache")
    owner = Owner(Library(tmp_path / "library"), key=OWNERS_KEY)
    return Handlers(App(EngineCalls(handle), PromptLimits(), files, tmp_path / "cache", owner))


@pytest.mark.slow
def test_a_choice_says_what_it_takes_and_is_loaded_without_a_restart(
    own: Handlers,
    handle: EngineHandle,
    loaded: list[EngineConfig],
    may_end: Event,
    request_of: RequestOf,
) -> None:
    before, session = handle.engine, Session()
    updates = own.models.open(session, request_of("a"))
    assert updates["models_box"].visible is True
    choices = dict(updates["models_choice"].choices)
    assert list(choices) == [
        "SmolLM2-135M-Instruct: generator and imprint",
        "Qwen2.5-Coder-0.5B-Instruct: one LoRA for all tasks, and imprint",
        "SmolLM2-135M-Instruct: imprint alone",
        "Qwen2.5-Coder-0.5B-Instruct: imprint alone",
        "Another base",
    ]
    megabytes = f"{BASES[EMBEDDED].download_bytes / 1e6:.1f} MB"
    assert f"{megabytes} must be downloaded first" in updates["models_told"]
    assert updates["models_load"].value == f"Download {megabytes} and load"
    lora = choices["Qwen2.5-Coder-0.5B-Instruct: one LoRA for all tasks, and imprint"]
    said = own.models.choose(lora, "", request_of("a"))["models_told"]
    assert "trained to follow instructions" in said
    assert "LoRA 19.1 MB. Not all of it is on this computer." in said
    alone = choices["SmolLM2-135M-Instruct: imprint alone"]
    assert "No generator" in own.models.choose(alone, "", request_of("a"))["models_told"]
    may_end.clear()
    updates = own.models.load(alone, "", "", session, request_of("a"))
    may_end.set()
    assert updates["models_box"].visible is False
    assert updates["timer"].active is True
    assert handle.wait(60) is not before
    assert [(one.base, one.generator) for one in loaded] == [(EMBEDDED, NO_GENERATOR)]
    assert loaded[0].device == "cpu", "all else stays as the app was started"
    assert own.models.open(session, request_of("a"))["models_choice"].value == alone


@pytest.mark.slow
def test_another_base_is_typed_and_looked_up_before_it_is_downloaded(
    own: Handlers,
    handle: EngineHandle,
    loaded: list[EngineConfig],
    request_of: RequestOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nothing = own.models.choose(OTHER, "  ", request_of("a"))
    assert nothing["models_base"].visible is True
    assert nothing["models_load"].interactive is False
    (tmp_path / "model.safetensors").write_bytes(b"x" * 1_500_000)
    here = own.models.choose(OTHER, str(tmp_path), request_of("a"))["models_told"]
    assert "base 1.5 MB. Nothing to download" in here
    assert own.models.choose(OTHER, "a/base", request_of("a"))["models_load"].value == "Look up"
    from dnd_engine.generator.installed import Availability

    monkeypatch.setattr(
        "dnd_engine.generator.installed._on_hub",
        lambda base: Availability(num_bytes=90_000_000, download_bytes=91_000_000),
    )
    asked = own.models.load(OTHER, "a/base", "", Session(), request_of("a"))
    assert asked["models_load"].value == "Download 91.0 MB and load"
    assert not loaded, "the owner has not seen the size yet"
    looked_up = asked["models_looked_up"]
    own.models.load(OTHER, "a/base", looked_up, Session(), request_of("a"))
    handle.wait(60)
    assert [one.base for one in loaded] == ["a/base"]


@pytest.mark.slow
def test_a_base_that_is_none_is_told_and_leaves_the_models(
    own: Handlers, handle: EngineHandle, loaded: list[EngineConfig], request_of: RequestOf
) -> None:
    before = handle.engine
    updates = own.models.load(OTHER, "/no/such", "", Session(), request_of("a"))
    assert "No model at" in updates["models_told"]
    for _enter in range(2):
        updates = own.models.load(OTHER, "no/such", "", Session(), request_of("a"))
        assert "neither here nor does the Hub say" in updates["models_told"]
        assert "models_looked_up" not in updates, "Enter would load what nobody found"
    assert handle.engine is before


@pytest.mark.slow
def test_models_that_do_not_load_say_so_and_others_can_be_chosen(
    own: Handlers, handle: EngineHandle, loaded: list[EngineConfig], request_of: RequestOf
) -> None:
    own.models.load(OTHER, "broken", "broken", Session(), request_of("a"))
    with pytest.raises(DndError, match="no such model"):
        handle.wait(60)
    header = own.page.refresh_load(Session(), request_of("a"))["header"]
    assert "dnd-models-open" in header
    own.models.load(OTHER, "good", "good", Session(), request_of("a"))
    assert handle.wait(60) is not None


@pytest.mark.slow
def test_what_runs_on_the_engine_ends_before_another_is_loaded(
    own: Handlers, handle: EngineHandle, loaded: list[EngineConfig], request_of: RequestOf
) -> None:
    ended: list[int] = []

    def steps() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            ended.append(len(loaded))

    running = handle.thread.ticking(steps(), Stop())
    next(running)
    own.models.load(OTHER, "good", "good", Session(), request_of("a"))
    with pytest.raises(DndError, match="other models are loaded"):
        list(running)
    assert handle.wait(60) is not None
    assert (ended, len(loaded)) == ([0], 1), "its engine went first"
    assert list(handle.thread.ticking(iter([1]), Stop())) == [1]


@pytest.mark.slow
def test_the_engine_that_is_replaced_leaves_memory_before_the_next_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left: list[bool] = []

    def replace(config: EngineConfig) -> Callable[..., Any]:
        def load(on_progress: object) -> FakeEngine:
            left.append(earlier() is None)
            return FakeEngine()

        return load

    monkeypatch.setattr("ui.engine_handle._loader", replace)
    handle = EngineHandle(lambda on_progress: FakeEngine())
    handle.start()
    earlier = weakref.ref(present(handle.wait(60)))
    handle.switch(EngineConfig())
    assert handle.wait(60) is not None
    assert left == [True]


@pytest.mark.slow
def test_others_cannot_change_the_models(
    own: Handlers, on: Handlers, handle: EngineHandle, loaded: list[EngineConfig]
) -> None:
    stranger = gr.Request(session_hash="s", headers={"host": "127.0.0.1:7860"})
    opened = own.models.open(Session(), stranger)
    assert opened.keys() == own.page.refresh_load(Session(), stranger).keys()
    assert "dnd-models-open" not in opened["header"]
    assert "Opened without its key" in opened["load"]
    assert own.models.choose(OTHER, "/etc", stranger) == {}
    assert own.models.load(OTHER, "good", "good", Session(), stranger) == {}
    assert on.models.load(OTHER, "good", "good", Session(), stranger) == {}
    assert not loaded
    assert "dnd-models-open" not in on.page.refresh_load(Session(), stranger)["header"]
