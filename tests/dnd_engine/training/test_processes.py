"""Two processes train what one trains: the same batches, the same loss, the same weights."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from dnd_engine.errors import TrainingError
from dnd_engine.training.processes import _UNSUPPORTED, Processes
from dnd_engine.training.recipe import TrainRecipe
from dnd_engine.training.trainer import train
from tests.dnd_engine.tiny import save_tiny, tiny_llama
from tests.dnd_engine.training.two_processes import HELD

ROOT = Path(__file__).parents[3]
LAUNCHERS = {
    "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    "accelerate": [
        *("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"),
        *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
        *("--main_process_port", "0"),
    ],
}


def run(recipe: TrainRecipe, out: Path, *launcher: str, **changes: Any) -> Path:
    """Train in processes of their own, as a user would from a shell."""
    names = (
        *("steps", "tasks_per_step", "examples_per_task", "pool_prompts", "max_tokens"),
        *("row_tokens", "validation_examples", "warmup_steps", "validate_every"),
        *("checkpoint_every", "decoder_lr", "shared_lr", "base"),
    )
    values: dict[str, Any] = {name: getattr(recipe, name) for name in names}
    values |= {"stages": [list(stage) for stage in recipe.stages], "out": str(out)}
    values |= {"tasks": [str(folder) for folder in recipe.tasks], "threads": 1, **changes}
    file = out.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(values))
    script = ["-m", "tests.dnd_engine.training.two_processes"]
    if launcher:
        script = [str(ROOT / "tests/dnd_engine/training/two_processes.py")]
    done = subprocess.run(
        [sys.executable, *launcher, *script, str(file)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "objective"), [("torchrun", "task_loss"), ("accelerate", "imprint")]
)
def test_two_processes_train_what_one_trains(
    recipe: TrainRecipe, launcher: str, objective: str, tmp_path: Path
) -> None:
    """In float32 only the order of additions differs: losses and weights to 1e-4."""
    # Three tasks do not divide by two, so the shares differ in size and must be weighted.
    changes: dict[str, Any] = {"tasks_per_step": 3}
    if objective == "imprint":
        start = train(replace(recipe, out=tmp_path / "start", steps=2)).generator
        changes |= {"kind": "teacher", "objective": objective, "warm_start": str(start)}
        changes |= {"bare_share": 0.0, "imprint_prompts": 4, "examples_per_task": 2}
    alone = run(recipe, tmp_path / "alone", **changes)
    both = run(recipe, tmp_path / "both", *LAUNCHERS[launcher], **changes)
    one, two = log(alone), log(both)
    validated = [step["validation_loss"] for step in one if "validation_loss" in step]
    assert abs(validated[-1] - validated[0]) > 1e-2, "it trains far more than what is tolerated"
    assert [step["step"] for step in two] == [step["step"] for step in one]
    for left, right in zip(one, two, strict=True):
        assert right["loss"] == pytest.approx(left["loss"], abs=1e-4)
        assert right["grad_norm"] == pytest.approx(left["grad_norm"], rel=1e-2, abs=2e-4)
        assert right.get("validation_loss") == pytest.approx(left.get("validation_loss"), abs=1e-4)
    first, second = (load_file(out / "best.safetensors") for out in (alone, both))
    for key, weight in first.items():
        torch.testing.assert_close(second[key], weight, rtol=0, atol=1e-4)
    assert (both / "generator" / "config.json").is_file()


@pytest.mark.real
@pytest.mark.slow
def test_processes_with_a_share_of_the_base_each_train_the_same(
    recipe: TrainRecipe, tmp_path: Path
) -> None:
    """In float32 losses and weights to 1e-4, with blocks that are recomputed."""
    base = save_tiny(tmp_path / "base", num_hidden_layers=4)
    layers = tiny_llama(num_hidden_layers=4).model.layers
    blocks = sum(weight.nbytes for weight in layers.parameters())
    changes = {"base": str(base), "tasks_per_step": 3, "monitor_every": 2, "recompute": True}
    # One task a part in both runs: two parts in the first process, and one in the second.
    alone = run(recipe, tmp_path / "alone", **changes, accumulate=3)
    changes |= {"shard_base": True, "accumulate": 2}
    both = run(recipe, tmp_path / "both", *LAUNCHERS["torchrun"], **changes)
    for left, right in zip(log(alone), log(both), strict=True):
        assert right.keys() == left.keys()
        for name in left.keys() - {"grad_norm", "tokens", "seconds", "watch_seconds"}:
            assert right[name] == pytest.approx(left[name], abs=1e-4), name
    whole, shared = (load_file(out / "best.safetensors") for out in (alone, both))
    for key, weight in whole.items():
        torch.testing.assert_close(shared[key], weight, rtol=0, atol=1e-4)
    assert (both / "generator" / "config.json").is_file()
    (held,) = held_bytes(alone)
    saved = [held - other for other in held_bytes(both)]
    assert saved == pytest.approx([blocks / 2] * 2, rel=0.02), "each holds half of the blocks"


def held_bytes(out: Path) -> list[int]:
    """Return what each process of a run held in tensors between two steps.

    That is the least over all steps: on a busy machine, a block that was gathered for one of them
    may not be free yet.
    """
    return [min(map(int, file.read_text().split())) for file in sorted(out.glob(f"{HELD}.*"))]


def test_a_run_without_a_launcher_is_alone() -> None:
    alone = Processes({})
    assert (alone.count, alone.rank, alone.is_first) == (1, 0, True)
    assert (alone.any(True), alone.any(False), alone.sum(2.5)) == (True, False, 2.5)
    assert alone.of_first(2.5) == 2.5
    parameter = torch.nn.Parameter(torch.ones(2))
    alone.sum_gradients([parameter])
    assert parameter.grad is None
    alone.check("reconstruction", 1)
    with pytest.raises(TrainingError, match=r"`shard_base` splits the base .* one was started"):
        alone.check("task_loss", 2, shard_base=True)


def test_all_processes_take_the_firsts_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.all_reduce", lambda total: total.add_(7.0))
    second = Processes({})
    second._state = SimpleNamespace(process_index=1, num_processes=2, device="cpu")
    assert second.of_first(2.5) == 7.0


def test_processes_stop_early_by_the_firsts_loss(
    recipe: TrainRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own, which rounds otherwise, one would wait for the others' gradients for ever."""
    monkeypatch.setattr(Processes, "of_first", lambda processes, value: 7.0)
    result = train(replace(recipe, steps=4, validate_every=1, patience=1))
    assert (result.steps, result.kept_step, result.stopped_early) == (2, 1, True)


class Several(Processes):
    """Four, without starting them."""

    count = 4


@pytest.mark.parametrize(
    ("objective", "tasks", "message"),
    [
        ("reconstruction", 8, "trains in one process; 4 were started"),
        ("task_loss", 3, "4 processes share 3 tasks a step"),
    ],
)
def test_what_cannot_be_shared_is_refused(objective: str, tasks: int, message: str) -> None:
    several = Several({})
    several.check("task_loss", 4, shard_base=True)
    several.check("imprint", 4)
    with pytest.raises(TrainingError, match=message):
        several.check(objective, tasks)
    with pytest.raises(
        TrainingError, match="`shard_base` cannot be used with `objective: imprint`"
    ):
        several.check("imprint", 4, shard_base=True)


@pytest.mark.parametrize(
    "option", ["use_fsdp", "use_deepspeed", "use_megatron_lm", "use_parallelism_config"]
)
def test_a_launcher_that_splits_the_model_is_refused(option: str) -> None:
    name = f"ACCELERATE_{option.upper()}"
    said = rf"`--{option}` .* \({name}\) splits a model .* set `shard_base: true`"
    with pytest.raises(TrainingError, match=said):
        Processes({name: "true"})
    assert Processes({name: "false"}).count == 1


def test_accelerate_sets_the_variables_that_are_looked_for() -> None:
    """Or an option that it names otherwise would be ignored without a word."""
    from accelerate.utils import launch

    written = Path(launch.__file__).read_text(encoding="utf-8")
    found = set(re.findall(r'"(ACCELERATE_USE_\w+)"\] = "true"', written))
    assert found == set(_UNSUPPORTED)
