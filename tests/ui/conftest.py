import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

from dnd_engine.limits import PromptLimits
from tests.ui.fake_engine import FakeEngine, handle_of
from tests.ui.listed import listed
from ui.canvas import Arrangement, CanvasBucket, CanvasCard
from ui.engine_calls import EngineCalls
from ui.engine_handle import EngineHandle
from ui.handlers import Handlers
from ui.session_files import SessionFiles
from ui.shared import App

OWNERS_KEY = "the-key-of-this-start"


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def handle(engine: FakeEngine) -> EngineHandle:
    handle = handle_of(engine)
    handle.start()
    assert handle.wait(60) is engine
    return handle


@pytest.fixture
def files(tmp_path: Path) -> SessionFiles:
    return SessionFiles(tmp_path / "cache")


@pytest.fixture
def on(handle: EngineHandle, files: SessionFiles, tmp_path: Path) -> Handlers:
    return listed(Handlers(App(EngineCalls(handle), PromptLimits(), files, tmp_path / "cache")))


@pytest.fixture
def request_of() -> Callable[..., gr.Request]:
    """Make a request as the owner's browser sends it; without an owner its cookie means nothing."""

    def make(session_hash: str, **headers: str) -> gr.Request:
        sent = {"host": "127.0.0.1:7860", "cookie": f"dnd-owner-7860={OWNERS_KEY}", **headers}
        return gr.Request(session_hash=session_hash, headers=sent)

    return make


@pytest.fixture
def arrange(tmp_path: Path) -> Callable[..., Arrangement]:
    """Lay files out in buckets: `arrange(SQL={"a.txt": "one"})`."""

    def make(weights: dict[str, float] | None = None, **buckets: dict[str, str]) -> Arrangement:
        made = []
        for bucket, contents in buckets.items():
            cards = []
            for name, content in contents.items():
                path = tmp_path / f"upload-{bucket}-{name.replace('/', '_')}"
                path.write_bytes(content.encode())
                cards.append(CanvasCard(f"{bucket}/{name}", name, "auto", path, waiting=True))
            weight = (weights or {}).get(bucket, 1.0)
            made.append(CanvasBucket(bucket, weight, tuple(cards), id=f"id-{bucket}"))
        return Arrangement(tuple(made))

    return make
