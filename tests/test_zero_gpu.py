"""On ZeroGPU all that needs the GPU runs in a forked worker, and everything crosses by pickle."""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dnd_engine.config import (
    EngineConfig,
    LabelledConfig,
    MeasureConfig,
    RefineConfig,
    Sampling,
)
from dnd_engine.engine import Engine
from dnd_engine.errors import HubError, ImprintError
from dnd_engine.lora.adapter import Adapter
from dnd_engine.measure.results import Measurement
from dnd_engine.notes import Note
from dnd_engine.progress import finish
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.files import from_texts
from dnd_engine.teach.endpoint import Endpoint
from dnd_engine.teach.local import LocalTeacher
from tests.dnd_engine.conftest import hub as hub
from tests.dnd_engine.conftest import logged_out as logged_out
from tests.dnd_engine.conftest import tiny_folder as tiny_folder
from tests.dnd_engine.hub_server import TOKEN, Hub
from tests.dnd_engine.serving.chat_server import running_chat
from tests.dnd_engine.test_engine import LETTERS, write_generator
from tests.dnd_engine.tiny import bucket, save_larger
from tests.zero_gpu import fake_spaces
from ui.engine_calls import Done, EngineCalls, Stop
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
    *_earlier, done = (step for step in steps if step is not None)
    assert isinstance(done, Done)
    return done.result


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
    assert names == ["synthesize", "compare", "inspect", "save", "imprint", "prove"]
    assert len({worker for _, worker in marked}) == len(marked), "each in a worker of its own"


def test_a_refusal_crosses_as_itself(calls: EngineCalls, marked: list[tuple[str, int]]) -> None:
    made = result(calls.synthesize((bucket("a", LETTERS),), "pool", 0, calls.ready().new_memory()))
    with pytest.raises(ImprintError, match="no prompt has an instruction"):
        result(calls.imprint(made, (bucket("b", ["one", "two"]),), 0, None))


# On the real small base, whose computations take long enough to be marked


ASKED = "Is the mood glad or sorry?\n\nThe"
SAID = {
    f"{thing} was {said}": mood
    for said, mood in (("good", "glad"), ("bad", "sorry"))
    for thing in ("film", "soup", "trip", "song", "game", "book", "walk", "show", "talk", "cake")
}
FEW_STEPS = partial(
    RefineConfig, steps=2, batch_size=2, max_prompts=8, least_prompts=4, ask_every=0
)


@pytest.fixture(scope="module")
def moods() -> Bucket:
    texts = [f"{ASKED} {said}." for said in SAID]
    file = from_texts(texts, name="moods.jsonl", labels=list(SAID.values()))
    return Bucket("moods", 1.0, (file,))


@pytest.fixture(scope="module")
def written(real_engine: Engine, moods: Bucket) -> Adapter:
    return real_engine.generate([moods], imprinted=False)


@pytest.fixture
def real_calls(
    real_engine: Engine, marked: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> EngineCalls:
    for module in ("dnd_engine.engine", "ui.engine_calls"):
        monkeypatch.setattr(f"{module}.RefineConfig", FEW_STEPS)
    handle = EngineHandle(lambda on_progress: real_engine)
    handle.start()
    assert handle.wait(60) is real_engine
    return EngineCalls(handle)


def taught_by(calls: EngineCalls, adapter: Adapter, bucket: Bucket, answers: Any) -> Adapter:
    taught = result(calls.teach(adapter, [bucket], answers, Stop(), Stop()))
    assert isinstance(taught, Adapter)
    assert taught.tokens.device.type == "cpu"
    assert taught.sha256 != adapter.sha256
    return taught


@pytest.mark.real
def test_what_the_model_proposes_is_corrected_and_taught(
    real_calls: EngineCalls, marked: list[tuple[str, int]], written: Adapter, moods: Bucket
) -> None:
    proposed = result(real_calls.propose([moods], 8))
    assert len(proposed) == 8
    taught = taught_by(real_calls, written, moods, dict.fromkeys(proposed, "glad"))
    here = real_calls.ready().teach(written, dict.fromkeys(proposed, "glad"))
    assert taught.sha256 == finish(here).sha256, "a worker teaches the same, to the last bit"
    assert [name for name, _ in marked] == ["propose", "teach"]


@pytest.mark.real
@pytest.mark.parametrize("answers", ["base", "labels"])
def test_an_adapter_is_taught_and_made_again_from_its_recipe(
    real_calls: EngineCalls,
    marked: list[tuple[str, int]],
    written: Adapter,
    moods: Bucket,
    answers: str,
) -> None:
    taught = taught_by(real_calls, written, moods, answers)
    again = result(real_calls.remake(taught.recipe.with_texts(moods.files), Stop()))
    assert again.sha256 == taught.sha256
    assert [name for name, _ in marked] == ["refine", "regenerate"]


@pytest.mark.real
def test_a_better_model_teaches_from_a_server_or_from_this_computer(
    real_calls: EngineCalls,
    marked: list[tuple[str, int]],
    written: Adapter,
    moods: Bucket,
    tmp_path: Path,
) -> None:
    """The worker gets only the names of both, and asks or loads them itself."""
    local = LocalTeacher(base=str(save_larger(tmp_path / "larger")), device="cpu")
    by_a_base = taught_by(real_calls, written, moods, local)
    with running_chat(lambda handler, values: handler.answer(values, "glad")) as server:
        served = Endpoint(url=server.url, model="small", key="secret", allowed={server.root})
        by_a_server = taught_by(real_calls, written, moods, served)
        assert server.keys[0] == "Bearer secret"
    assert by_a_server.sha256 != by_a_base.sha256
    assert [name for name, _ in marked] == ["teach"] * 2


@pytest.mark.real
def test_an_adapter_is_pushed_and_a_refusal_comes_back_in_its_words(
    real_calls: EngineCalls, marked: list[tuple[str, int]], written: Adapter, hub: Hub
) -> None:
    url, is_private, usage = real_calls.push(written, "me/moods", TOKEN, True)
    assert (url, is_private) == (f"{hub.url}/me/moods", True)
    assert "me/moods" in usage
    assert "adapter_model.safetensors" in hub.files["me/moods"]
    with pytest.raises(HubError, match="the token is not valid") as refused:
        real_calls.push(written, "me/moods", "hf_nobodys", True)
    assert isinstance(refused.value.args[0], Note), "the page can still translate it"
    assert [name for name, _ in marked] == ["push"] * 2


@pytest.mark.real
def test_an_adapter_is_measured_and_a_lora_is_trained_beside_it(
    real_calls: EngineCalls, marked: list[tuple[str, int]], written: Adapter, moods: Bucket
) -> None:
    """The measurement crosses back to the worker, with its answers and the LoRA trained last."""
    (file,) = moods.files
    measured: Measurement | None = None
    for config in (
        MeasureConfig(limit_items=4, modes=("bare",), allow_seen=True),
        LabelledConfig(steps=1, batch_size=2),
        LabelledConfig(steps=2, batch_size=2),
    ):
        for step in real_calls.measure(written, file, config, measured, False, Stop()):
            measured = measured if step is None else step.measured
    assert measured is not None
    assert {row.row for row in measured.rows} >= {"base", "adapter", "shared_lora", "trained_lora"}
    (lora,) = measured.trained.values()
    assert lora.tokens.device.type == "cpu"
    assert lora.sha256 != written.sha256
    assert [name for name, _ in marked] == ["measure", "train_lora", "train_lora"]
