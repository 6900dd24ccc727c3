"""Fixtures of the engine's tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from dnd_engine.models.base import BaseModel
from dnd_engine.models.encoder import PromptEncoder
from dnd_engine.models.runtime import Runtime
from dnd_engine.models.sources import ENCODERS, resolve
from dnd_engine.training import setup, trainer
from dnd_engine.training.recipe import TrainRecipe
from tests.dnd_engine.hub_server import Hub, running_hub
from tests.dnd_engine.letters import write_tasks
from tests.dnd_engine.tiny import CPU, LAYOUT, save_tiny, tiny_base


@pytest.fixture
def answers_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a fifth of the tokens end an answer.

    Few answers of random weights end with the one token that should, and which ones do depends on
    the last bit of a sum.
    """
    monkeypatch.setattr("dnd_engine.scoring.answers.end_tokens", lambda _: set(range(2, 260, 5)))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base on disk; tests read it only."""
    return save_tiny(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture
def base(tiny_folder: Path) -> BaseModel:
    """A tiny base of the test's own, in float32."""
    return tiny_base(tiny_folder)


@pytest.fixture
def runtime(base: BaseModel) -> Runtime:
    """That base, ready for adapters of the tiny layout."""
    return Runtime.of(base, LAYOUT)


@pytest.fixture(scope="session")
def tasks_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small tasks on made-up words."""
    return write_tasks(tmp_path_factory.mktemp("data") / "letters")


@pytest.fixture(scope="session")
def encoder() -> PromptEncoder:
    """The real text encoder, in float32."""
    return PromptEncoder(resolve("all-minilm-l6-v2", ENCODERS).path, CPU, torch.float32)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, encoder: PromptEncoder) -> None:
    """One resident encoder, the CPU, float32 and no pictures: the same run on every machine."""
    monkeypatch.setattr(setup, "PromptEncoder", lambda *given: encoder)
    monkeypatch.setattr(setup, "best_device", lambda: CPU)
    monkeypatch.setattr(setup, "best_dtype", lambda device: torch.float32)
    monkeypatch.setattr(trainer, "draw_monitors", lambda out: None)


@pytest.fixture
def recipe(tasks_folder: Path, tiny_folder: Path, tmp_path: Path, quick: None) -> TrainRecipe:
    """Six steps on the tiny base, in a run that is `quick`."""
    return TrainRecipe(
        tasks=(tasks_folder,),
        out=tmp_path / "run",
        base=str(tiny_folder),
        stages=((4, 8, 384), (16, 6, 32)),
        steps=6,
        tasks_per_step=2,
        examples_per_task=2,
        pool_prompts=8,
        max_tokens=120,
        row_tokens=200,
        validation_examples=2,
        warmup_steps=2,
        validate_every=3,
        checkpoint_every=2,
        decoder_lr=3e-3,
        shared_lr=1e-2,
    )


@pytest.fixture
def logged_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody is logged in to the model hub, whoever runs the tests."""
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, logged_out: None) -> Iterator[Hub]:
    """A small hub that huggingface_hub is pointed at, as HF_ENDPOINT does."""
    with running_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        # Xet stores what LFS did, in a protocol of its own; the Hub takes both.
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield hub


_SMALL = 80 * 2**20
"""Bytes of a node's object store: nearly the least that Ray takes."""


@pytest.fixture(scope="session")
def cluster_address() -> Iterator[str]:
    """A Ray cluster of two nodes of one CPU each, without dashboard or statistics."""
    from ray.cluster_utils import Cluster as Nodes

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # A crowded machine is no reason to end a job, or to count a node as dead.
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")
        patch.setenv("RAY_health_check_timeout_ms", "120000")
        patch.setenv("RAY_health_check_failure_threshold", "30")
        one: dict[str, Any] = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": _SMALL}
        head = {**one, "include_dashboard": False}
        nodes: Any = Nodes(initialize_head=True, head_node_args=head)
        try:
            nodes.add_node(**one | {"num_gpus": 1})
            nodes.wait_for_nodes(timeout=300)
            yield str(nodes.address)
        finally:
            nodes.shutdown()
