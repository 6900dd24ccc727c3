"""What one visit and all visits together may have read."""

from collections.abc import Callable
from pathlib import Path

import gradio as gr

from dnd_engine.config import PromptLimits
from ui.canvas import Arrangement
from ui.engine_calls import EngineCalls
from ui.engine_handle import EngineHandle
from ui.handlers import App, Handlers
from ui.limits import ServerLimits
from ui.state import Session, SessionFiles


def test_the_bytes_of_a_visit_and_of_all_visits_are_bounded(
    handle: EngineHandle,
    arrange: Callable[..., Arrangement],
    request_of: Callable[[str], gr.Request],
    files: SessionFiles,
    tmp_path: Path,
) -> None:
    few = ServerLimits(readings_per_visit_bytes=100, readings_bytes=250, readings_per_visit=3)
    on = Handlers(App(EngineCalls(handle), PromptLimits(), files, tmp_path, server=few))

    def read(session: Session, visit: str, number: int, size: int) -> str:
        canvas = arrange(A={f"{number}.txt": "x" * size})
        on.prompts.update_prompts(canvas, session, request_of(visit))
        return session.readings[f"A/{number}.txt"].error

    one, two, three = Session(), Session(), Session()
    assert read(one, "1", 1, 60) == ""
    assert "removed ones count" in read(one, "1", 2, 60), "the first is on the canvas no more"
    assert read(one, "1", 3, 30) == ""
    assert "which is the limit" in read(one, "1", 4, 1)
    assert read(two, "2", 1, 99) == ""
    assert "other visits" in read(three, "3", 1, 90)
    files.remove("1")
    assert read(three, "3", 2, 90) == "", "who leaves makes room"
