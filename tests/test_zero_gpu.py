"""On ZeroGPU all that needs the GPU runs in a forked worker, and everything crosses by pickle."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dnd_engine.config import EngineConfig, Sampling
from dnd_engine.engine import Engine
from dnd_engine.errors import ImprintError
from dnd_engine.lora.adapter import Adapter
from tests.dnd_engine.conftest import tiny_folder as tiny_folder
from tests.dnd_engine.test_engine import LETTERS, write_generator
from tests.dnd_engine.tiny import bucket
from tests.zero_gpu import fake_spaces
from ui.engine_calls import EngineCalls, Stop
from ui.engine_handle import EngineHandle


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What ran in a worker."""
    found: list[tuple[str, int]] = []
    monkeypatch.setenv("SPACES_ZERO_GPU", "1")
    monkeypatch.setitem(sys.modules, "spaces", fake_spaces(found))
    return found


@pytest.fixture
def calls(tiny_folder: Path, tmp_path: Path, marked: list[tuple[str, int]]) -> EngineCalls:
    folder = write_generator(tiny_folder, tmp_path / "generator", size=0.1)
    config = EngineConfig(
        base=str(tiny_folder), generator=folder, device="cpu", cache_dir=tmp_path / "cache"
    )
    handle = EngineHandle(lambda on_progress: Engine.load(config, on_progress))
    handle.start()
    assert handle.wait(60) is not None
    return EngineCalls(handle)


def result(steps: Iterator[Any]) -> Any:
    """The last of what was reported; ticks are None."""
    found = [step for step in steps if step is not None]
    return found[-1][1]


@pytest.mark.slow
def test_what_the_page_asks_crosses_both_ways(
    calls: EngineCalls, marked: list[tuple[str, int]], tmp_path: Path
) -> None:
    buckets = (bucket("letters", LETTERS),)
    memory = calls.ready().new_memory()
    made = result(calls.synthesize(buckets, "pool", 0, memory))
    assert isinstance(made, Adapter)
    assert made.tokens.device.type == "cpu"
    here = calls.ready().generate(buckets, imprinted=False)
    assert made.sha256 == here.sha256, "a worker's adapter is the same, to the last bit"
    replies: Any = None
    asked = [([{"role": "user", "content": "Hi"}], one) for one in (None, made)]
    for step in calls.compare(asked, Sampling(max_new_tokens=4), [None, lambda: 1.0], Stop()):
        replies = step or replies
    assert [reply.num_tokens > 0 for reply in replies] == [True, True]
    assert calls.inspect(made, buckets).num_prompts > 0
    assert calls.save(made, tmp_path / "made.zip").stat().st_size > 0
    imprinted = result(calls.imprint(made, buckets, 0, memory))
    assert imprinted.is_imprinted
    assert result(calls.prove(made, buckets, memory)) is not None
    names = [name for name, _ in marked]
    assert names == [
        *("_synthesize_here", "_compare_here", "_inspect_here", "_save_here"),
        *("_imprint_here", "_prove_here"),
    ]
    assert len({worker for _, worker in marked}) == len(marked), "each in a worker of its own"


def test_a_refusal_crosses_as_itself(calls: EngineCalls, marked: list[tuple[str, int]]) -> None:
    made = result(calls.synthesize((bucket("a", LETTERS),), "pool", 0, calls.ready().new_memory()))
    with pytest.raises(ImprintError, match="no prompt has an instruction"):
        result(calls.imprint(made, (bucket("b", ["one", "two"]),), 0, None))
