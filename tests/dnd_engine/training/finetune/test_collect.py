"""Collections: one LoRA per task from one start, stoppable anywhere, read back strictly."""

import hashlib
import json
import logging
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from typer.testing import CliRunner

from dnd_engine.cli.train import collect as collect_command
from dnd_engine.errors import BaseMismatchError, ConfigError, TrainingError
from dnd_engine.files import CALL_LOCK, only_call_on
from dnd_engine.lora.apply import LoRAHost
from dnd_engine.lora.weight_tokens import detokenize, tokenize
from dnd_engine.models.base import best_dtype, fingerprint
from dnd_engine.tasks.folder import Example, Task, load_tasks, write_tasks
from dnd_engine.training.collection import Collection, check_same_base
from dnd_engine.training.collection_files import (
    MANIFEST,
    LossRow,
    read_losses,
    run_folder,
    write_losses,
)
from dnd_engine.training.examples import encode_example, pack, response_losses
from dnd_engine.training.finetune import collect as collect_module
from dnd_engine.training.finetune import collect_runs
from dnd_engine.training.finetune.collect import collect
from dnd_engine.training.finetune.collect_recipe import CollectRecipe, choose_tasks, starts_here
from dnd_engine.training.finetune.steps import shared_start
from tests.disks import full_at, power_cuts
from tests.dnd_engine.tiny import CPU, LAYOUT, save_tiny, tiny_base
from tests.present import present
from tests.task_info import task_info

WORDS = [a + b + c for a in "kmprst" for b in "aeiou" for c in "lnx"]
JOBS: dict[str, tuple[str, str, Callable[[str], str]]] = {
    "first": ("train", "Give the first letter.", lambda w: w[0]),
    "last": ("train", "Give the last letter.", lambda w: w[-1]),
    "upper": ("train", "Write in capitals, please, and do not forget any.", str.upper),
    "swap": ("heldout", "Swap case.", lambda w: w[::-1]),
}
ROOT = Path(__file__).parents[4]


def write_letters(folder: Path, slugs: tuple[str, ...] = tuple(JOBS), train: int = 30) -> Path:
    """A task folder with bare inputs; `swap` is held out."""
    tasks = []
    for number, slug in enumerate(slugs):
        split, instruction, job = JOBS[slug]
        words = random.Random(number).sample(WORDS, train + 5)
        examples = [Example(f"{instruction}\n\n{w}", job(w)) for w in words]
        info = task_info(slug, category="letters", description=instruction, split=split)
        tasks.append(Task(info, tuple(examples[:train]), tuple(examples[train:])))
    write_tasks(folder, tasks)
    return folder


@pytest.fixture(scope="module", autouse=True)
def exact_arithmetic() -> Iterator[None]:
    """The CPU and float32: the same run on every machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect_runs, "best_device", lambda: CPU)
        patch.setattr(collect_runs, "best_dtype", lambda device: torch.float32)
        yield


@pytest.fixture(scope="module")
def tasks_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_letters(tmp_path_factory.mktemp("data") / "letters")


@pytest.fixture(scope="module")
def shared_recipe(
    tasks_folder: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> CollectRecipe:
    return CollectRecipe(
        tasks=(tasks_folder,),
        out=tmp_path_factory.mktemp("collections") / "whole",
        base=str(tiny_folder),
        split="both",
        steps=8,
        batch_size=3,
        learning_rate=1e-2,
        warmup_steps=2,
        max_tokens=120,
        validation_examples=2,
        validate_every=3,
        num_snapshots=3,
        smoothing_steps=1,
        plateau_steps=2,
        tasks_at_once=3,
        checkpoint_every=2,
        clip_norm=0.5,
    )


@pytest.fixture
def recipe(shared_recipe: CollectRecipe, tmp_path: Path) -> CollectRecipe:
    return replace(shared_recipe, out=tmp_path / "out")


@pytest.fixture(scope="module")
def whole(shared_recipe: CollectRecipe) -> Collection:
    """A finished collection of four tasks under two seeds; tests read it only."""
    collect(replace(shared_recipe, seeds=2))
    return Collection.open(shared_recipe.out)


@pytest.fixture
def copy(whole: Collection, tmp_path: Path) -> Path:
    """The same on the test's own ground, to be damaged."""
    return Path(shutil.copytree(whole.path, tmp_path / "copy"))


def digests(out: Path) -> dict[str, str]:
    """Snapshot to SHA-256."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*.safetensors"))
    }


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


# The start and the rule


def test_every_run_starts_as_the_base_from_the_same_a() -> None:
    start = shared_start(LAYOUT, 3)
    assert torch.equal(start, shared_start(LAYOUT, 3))
    assert not torch.equal(start, shared_start(LAYOUT, 4))
    for m in LAYOUT.matrices():
        rows = start[m.first_token : m.first_token + m.num_tokens]
        expected = m.long**-0.5 if m.side == "A" else 0.0
        assert float(rows.std()) == pytest.approx(expected, rel=0.2)


def test_a_snapshot_is_the_start_and_its_updates(whole: Collection) -> None:
    """At most one learning rate a step, as AdamW moves; B has left zero."""
    for slug in whole.slugs:
        for moved, run in zip(
            whole.snapshots(slug).sub(shared_start(LAYOUT, 0)).split(3),
            [run for run in whole.runs if run.slug == slug],
            strict=True,
        ):
            largest = moved.abs().amax(dim=(1, 2, 3)).tolist()
            for snapshot, distance in zip(run.snapshots, largest, strict=True):
                assert 1e-3 < distance <= 1e-2 * snapshot.step * 1.01
            assert moved.any(dim=0).float().mean() > 0.9


def test_the_learning_rate_warms_up_and_stays(recipe: CollectRecipe) -> None:
    """AdamW's first update moves every cell that has a gradient by the learning rate."""
    collect(replace(recipe, limit_tasks=1, steps=1, num_snapshots=1, warmup_steps=4))
    collection = Collection.open(recipe.out)
    moved = (collection.final(collection.slugs[0]) - shared_start(LAYOUT, 0)).abs()
    assert float(moved.max()) == pytest.approx(recipe.learning_rate / 4, rel=1e-3)


def rule(**numbers: Any) -> CollectRecipe:
    plain = CollectRecipe(tasks=(Path("t"),), out=Path("o"), steps=20, num_snapshots=4)
    return replace(plain, **numbers)


def first_start(losses: list[float], recipe: CollectRecipe) -> tuple[int, str] | None:
    for step in range(1, len(losses) + 1):
        if reason := starts_here(losses[:step], recipe):
            return step, reason
    return None


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([0.9**t for t in range(20)], (17, "latest")),  # falls to the end
        ([0.9**t for t in range(16)], None),  # undecided yet
        ([8.0, 4.0, 2.0, 1.0] + [1.0] * 16, (8, "plateau")),
        ([0.97**t for t in range(20)], (5, "plateau")),  # 3 steps take 8.7 %: less than 10
        ([0.96**t for t in range(20)], (17, "latest")),  # 3 steps take 11.5 %
        ([1.0] * 20, (5, "plateau")),  # as soon as two means can be compared
        ([1.0, 2.0] * 10, (5, "plateau")),
        ([], None),
    ],
)
def test_snapshots_start_where_the_smoothed_loss_stops_falling(
    losses: list[float], expected: tuple[int, str] | None
) -> None:
    recipe = rule(smoothing_steps=2, plateau_steps=3, plateau_percent=10)
    assert first_start(losses, recipe) == expected


def test_the_latest_start_leaves_room_for_all_snapshots() -> None:
    falling = [0.5**t for t in range(6)]
    assert first_start(falling, rule(steps=6, num_snapshots=6)) == (1, "latest")
    assert first_start(falling, rule(steps=6, num_snapshots=1)) == (6, "latest")


# Several at once


@pytest.mark.slow
def test_tasks_at_once_train_exactly_as_one_at_a_time(recipe: CollectRecipe) -> None:
    """Losses, clipped norms, starting steps and weights, to rounding; clipping binds for all."""
    alone = replace(recipe, out=recipe.out / "alone", tasks_at_once=1)
    together = replace(recipe, out=recipe.out / "together", tasks_at_once=4)
    one, many = collect(alone), collect(together)
    assert [(r.slug, r.start, r.steps) for r in one.runs] == [
        (r.slug, r.start, r.steps) for r in many.runs
    ]
    assert len({run.steps for run in many.runs}) > 1  # some left the batch early
    first, second = Collection.open(alone.out), Collection.open(together.out)
    for slug in first.slugs:
        pairs = list(zip(losses(first, slug), losses(second, slug), strict=True))
        for a, b in pairs:
            for name in ("loss", "grad_norm", "validation_loss", "validation_exact"):
                one_value, other = getattr(a, name), getattr(b, name)
                assert one_value == other or one_value == pytest.approx(other, rel=1e-3), name
        assert min(a.grad_norm for a, _ in pairs if a.grad_norm) > recipe.clip_norm
        torch.testing.assert_close(
            first.snapshots(slug), second.snapshots(slug), atol=2e-4, rtol=1e-3
        )


@pytest.mark.slow
def test_each_run_is_clipped_by_its_own_norm(
    recipe: CollectRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A neighbour with a thousandfold loss changes nothing for the others."""
    calm = collect(replace(recipe, out=recipe.out / "calm", tasks_at_once=4, steps=3))
    whole_losses = collect_runs.RunTrainer._losses

    def shout(run: Any, trainings: Any, batches: Any) -> list[tuple[Tensor, Tensor]]:
        found = whole_losses(run, trainings, batches)
        factors = [1000.0 if t.slug == "first" else 1.0 for t in trainings]
        return [(nll * f, exact) for f, (nll, exact) in zip(factors, found, strict=True)]

    monkeypatch.setattr(collect_runs.RunTrainer, "_losses", shout)
    loud = collect(replace(recipe, out=recipe.out / "loud", tasks_at_once=4, steps=3))
    a, b = Collection.open(calm.out), Collection.open(loud.out)
    assert losses(b, "first")[1].loss == pytest.approx(1000 * (losses(a, "first")[1].loss or 0))
    for slug in ("last", "upper", "swap"):
        assert torch.equal(a.snapshots(slug), b.snapshots(slug))


def test_a_seed_changes_the_order_of_the_data_and_not_the_start(whole: Collection) -> None:
    for slug in whole.slugs:
        assert [run.seed for run in whole.runs if run.slug == slug] == [0, 1]
        first, second = losses(whole, slug, 0), losses(whole, slug, 1)
        assert first[0].validation_loss == pytest.approx(second[0].validation_loss, rel=1e-4)
        assert first[1].loss != second[1].loss
        snapshots = whole.snapshots(slug)
        assert not torch.equal(snapshots[2], snapshots[5])


@pytest.mark.slow
def test_training_lowers_the_loss_on_examples_it_never_draws(
    recipe: CollectRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    whole_draw = collect_runs._Examples.draw

    def draw(*arguments: Any) -> Any:
        drawn.extend(found := whole_draw(*arguments))
        return found

    monkeypatch.setattr(collect_runs._Examples, "draw", draw)
    result = collect(replace(recipe, split="train", limit_tasks=1, steps=30, plateau_steps=30))
    (run,) = result.runs
    assert run.last_validation_loss < 0.8 * run.first_validation_loss
    base = tiny_base(Path(recipe.base))
    (task,) = [t for t in load_tasks(recipe.tasks) if t.info.slug == run.slug]
    for mode in ("full", "bare"):
        held = {encode_example(base.tokenizer, e, mode) for e in task.train[-2:]}
        allowed = {encode_example(base.tokenizer, e, mode) for e in task.train[:-2]}
        assert not held & set(drawn)
        assert allowed & set(drawn)
    assert len(drawn) == 3 * run.steps


def test_inputs_that_are_held_back_are_not_drawn_in_other_words(recipe: CollectRecipe) -> None:
    (task, *_) = choose_tasks(recipe)
    again = tuple(replace(e, prompt=f"Please: {e.prompt}") for e in task.train)
    doubled = replace(task, train=again + task.train)
    examples = collect_runs.RunTrainer(recipe)._encode(doubled)
    assert len(examples.full) == 2 * len(task.train) - 4
    assert not set(examples.bare) & set(examples.validation)


@pytest.mark.parametrize(("share", "bare"), [(0.0, 0), (1.0, 24)])
def test_bare_share_is_the_share_of_examples_without_instruction(
    recipe: CollectRecipe, tasks_folder: Path, share: float, bare: int
) -> None:
    recipe = replace(recipe, bare_share=share)
    examples = collect_runs.RunTrainer(recipe)._encode(choose_tasks(recipe)[0])
    drawn = [e for step in range(8) for e in examples.draw(recipe, "x", 0, step)]
    assert sum(example in examples.bare for example in drawn) == bare


def test_validation_is_of_the_base_at_first_and_of_the_final_snapshot_at_last(
    whole: Collection, tasks_folder: Path, tiny_folder: Path
) -> None:
    base = tiny_base(tiny_folder)
    host = LoRAHost(base.model, LAYOUT)
    for task in load_tasks(tasks_folder):
        slug = task.info.slug
        held = [encode_example(base.tokenizer, e, "bare") for e in task.train[-2:]]
        batch = pack([[example for example in held if example is not None]])
        with torch.no_grad():
            before = response_losses(base.model, batch)
            with host.applying(host.fit(whole.final(slug)[None])):
                after = response_losses(base.model, batch)
        rows = losses(whole, slug)
        for row, found in ((rows[0], before), (rows[-1], after)):
            assert row.validation_loss == pytest.approx(float(found.nll.mean()), rel=1e-4)
            assert row.validation_exact == float(found.exact.float().mean())
        validated = [row.step for row in rows if row.validation_loss is not None]
        assert validated == sorted({0, 3, 6, rows[-1].step} & set(range(rows[-1].step + 1)))


# Disk


def test_the_manifest_states_how_the_collection_came_about(
    whole: Collection, shared_recipe: CollectRecipe, tiny_folder: Path
) -> None:
    manifest = json.loads((whole.path / "manifest.json").read_text())
    start = shared_start(LAYOUT, 0)
    assert manifest["init"]["seed"] == 0
    assert manifest["init"]["sha256"] == hashlib.sha256(start.numpy().tobytes()).hexdigest()
    assert manifest["base"]["fingerprint"] == fingerprint(tiny_base(tiny_folder))
    assert manifest["rule"]["latest_start"] == 6
    assert manifest["recipe"] == replace(shared_recipe, seeds=2).to_json()
    assert manifest["recipe"]["tasks"] == ["letters"]
    assert "out" not in manifest["recipe"]
    assert manifest["planned"] == len(manifest["runs"]) == 8
    run = next(r for r in manifest["runs"] if (r["slug"], r["seed"]) == ("swap", 1))
    assert run["split"] == "heldout"
    assert (run["family"], run["licence"]) == ("swap", "MIT")
    assert run["steps"] == run["start"] + 2
    assert run["start_reason"] in ("plateau", "latest")
    files = {f"swap/seed-1/step-{step:04}.safetensors" for step in range(run["start"], 9)}
    assert set(run["snapshots"]) <= files
    assert len(run["snapshots"]) == 3
    assert run["snapshots"].items() <= digests(whole.path).items()


def test_a_run_folder_holds_snapshots_and_the_curve_and_nothing_else(whole: Collection) -> None:
    for run in whole.runs:
        names = {path.name for path in (whole.path / run.folder).iterdir()}
        assert names == {"losses.csv"} | {
            f"step-{step:04}.safetensors" for step in range(run.start, run.steps + 1)
        }
    top = {path.name for path in whole.path.iterdir()}
    assert top - {CALL_LOCK} == {"manifest.json", "losses.svg", *whole.slugs}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_snapshot_holds_a_and_b_under_pefts_keys(recipe: CollectRecipe, dtype: Any) -> None:
    collect(replace(recipe, limit_tasks=1, steps=2, num_snapshots=1, snapshot_dtype=dtype))
    (path,) = recipe.out.rglob("step-*.safetensors")
    state = load_file(path)
    assert set(state) == {m.key for m in LAYOUT.matrices()}
    assert {value.dtype for value in state.values()} == {getattr(torch, dtype)}
    collection = Collection.open(recipe.out)
    final = collection.final(collection.slugs[0])
    assert final.dtype == torch.float32
    assert torch.equal(final, tokenize(state, LAYOUT).float())


def test_a_loss_curve_comes_back_with_every_digit(tmp_path: Path) -> None:
    rows = (
        LossRow(0, None, None, 1 / 3, 0.5, 0.1),
        LossRow(1, 2 / 3, 1e-17),
        LossRow(2, 0.1 + 0.2, 5.0, None, None, 3.0),
    )
    write_losses(tmp_path, rows)
    assert read_losses(tmp_path) == rows
    head = (tmp_path / "losses.csv").read_text().splitlines()[0]
    assert head == "step,loss,grad_norm,validation_loss,validation_exact,seconds"
    (tmp_path / "losses.csv").write_text("step,loss\n1,much\n")
    with pytest.raises(TrainingError, match=r"loss curve `.*losses\.csv` cannot be read: .*'much'"):
        read_losses(tmp_path)


def test_curves_are_drawn(whole: Collection) -> None:
    drawing = (whole.path / "losses.svg").read_text()
    assert "nats per answer token" in drawing
    assert "swap, seed 1" in drawing


# Killed and continued


def die_at(call: int, monkeypatch: pytest.MonkeyPatch, recipe: CollectRecipe, name: str) -> None:
    """Stop the process, as it were, at the n-th call of a method or function."""
    owners = (collect_runs, collect_runs.RunTrainer, collect_module._Collector)
    owner = next(owner for owner in owners if hasattr(owner, name))
    real, calls = getattr(owner, name), 0

    def dying(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dying)
        with pytest.raises(KeyboardInterrupt):
            collect(recipe)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("_step", 1),  # before anything
        ("_step", 2),  # before the first checkpoint
        ("_step", 6),  # after one, in the first group
        ("_step", 11),  # in the second group
        ("write_snapshot", 2),  # between the snapshots of one step
        ("_write_snapshot", 12),
        ("save_checkpoint", 2),  # the curve is written, its checkpoint is not
        ("_close", 2),  # between the entries of a group that is done
        ("_write_manifest", 2),  # after a group, before it is entered
    ],
)
def test_a_killed_collection_continues_to_the_very_same_bytes(
    recipe: CollectRecipe,
    whole: Collection,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    call: int,
) -> None:
    recipe = replace(recipe, seeds=2)
    die_at(call, monkeypatch, recipe, name)
    before = digests(recipe.out)
    (recipe.out / ".aside-killed").mkdir()
    (recipe.out / ".aside-killed" / "lock").touch()  # held by nobody: its process is dead
    torch.manual_seed(99)
    collect(recipe, resume=True)
    found = digests(recipe.out)
    assert found == digests(whole.path)
    # Nothing that was whole is lost or made otherwise; checkpoints go when they are done with.
    kept = {file for file in before if "checkpoint" not in file}
    assert all(found[file] == before[file] for file in kept)
    again = Collection.open(recipe.out)
    for run, other in zip(again.runs, whole.runs, strict=True):
        assert run == other
        rows = zip(
            losses(again, run.slug, run.seed), losses(whole, run.slug, run.seed), strict=True
        )
        assert all(replace(a, seconds=0) == replace(b, seconds=0) for a, b in rows)
    assert not list(recipe.out.rglob(".aside-*"))
    assert not list(recipe.out.glob("checkpoint-*"))


@pytest.fixture
def small(recipe: CollectRecipe, tmp_path: Path) -> CollectRecipe:
    """One task in four steps, collected to the end in `small`."""
    small = replace(recipe, limit_tasks=1, steps=4, num_snapshots=2)
    collect(replace(small, out=tmp_path / "small"))
    return small


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_flush_loses_nothing(
    small: CollectRecipe, tmp_path: Path
) -> None:
    with full_at(10**6) as flushed:
        collect(replace(small, out=tmp_path / "counted"))
    assert len(flushed) >= 6
    for number in range(len(flushed)):
        run = replace(small, out=tmp_path / f"full-{number}")
        with full_at(number), pytest.raises(TrainingError, match=r"No space left .*--resume"):
            collect(run)
        collect(run, resume=True)
        assert digests(run.out) == digests(tmp_path / "small")


@pytest.mark.slow
def test_a_power_cut_at_any_moment_leaves_a_collection_that_goes_on(
    small: CollectRecipe, tmp_path: Path
) -> None:
    with power_cuts(small.out, tmp_path / "cuts") as cuts:
        collect(small)
    assert len(cuts) >= 6
    for cut in cuts:
        collect(replace(small, out=cut), resume=True)
        assert digests(cut) == digests(tmp_path / "small")


def test_a_finished_collection_is_not_trained_again(
    recipe: CollectRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = collect(recipe)
    monkeypatch.setattr(collect_runs.RunTrainer, "_step", None)
    assert collect(recipe, resume=True).runs == first.runs


def test_two_calls_do_not_write_into_one_collection(recipe: CollectRecipe) -> None:
    with (
        only_call_on(recipe.out),
        pytest.raises(ConfigError, match=r"another call is writing to `.*`\. Choose another --out"),
    ):
        collect(recipe)
    assert not (recipe.out / MANIFEST).exists()


@pytest.mark.slow
def test_a_collection_grows_by_tasks_and_seeds(recipe: CollectRecipe) -> None:
    """What was there stays to the byte; a larger limit keeps the tasks of a smaller one."""
    small = collect(replace(recipe, limit_tasks=1))
    before = digests(recipe.out)
    grown = collect(replace(recipe, limit_tasks=3, seeds=2), resume=True)
    assert len(grown.runs) == 6
    assert set(small.runs) <= set(grown.runs)
    assert before.items() <= digests(recipe.out).items()
    smaller = collect(replace(recipe, limit_tasks=1), resume=True)
    assert smaller.runs == grown.runs


def test_only_the_kinds_of_novelty_asked_for_are_collected(recipe: CollectRecipe) -> None:
    both = replace(recipe, split="both")
    kinds = {task.info.holdout for task in choose_tasks(both)}
    assert kinds == {"", "family"}
    for wanted in ("family", "primitive"):
        found = {task.info.holdout for task in choose_tasks(replace(both, holdouts=(wanted,)))}
        assert found == kinds & {"", wanted}
    with pytest.raises(
        ConfigError, match=r"hold no task of split heldout .*: `primitive`\. Choose"
    ):
        collect(replace(recipe, split="heldout", holdouts=("primitive",)))
    assert not (recipe.out / "manifest.json").exists(), "the corrected recipe is not refused"


def test_only_the_tasks_of_named_reports_are_collected(
    recipe: CollectRecipe, tmp_path: Path
) -> None:
    """What an examination made itself, such as a pair, has no task folder and is passed over."""
    everything = load_tasks(recipe.tasks)
    report = tmp_path / "report"
    report.mkdir()
    wanted = everything[0].info.slug
    (report / "report.csv").write_text(f"row,slug\nbase,{wanted}\nbase,{wanted}~square\n")
    result = collect(replace(recipe, split="both", reports=(report,)))
    assert {run.slug for run in result.runs} == {wanted}
    (report / "report.csv").write_text("row,slug\nbase,elsewhere\n")
    with pytest.raises(ConfigError, match=r"report` examined no task of split both that the task"):
        collect(replace(recipe, split="both", reports=(report,)), resume=True)
    (report / "report.csv").write_text("row\nbase\n")
    with pytest.raises(ConfigError, match=r"report` is no report folder with a sound `report.csv`"):
        collect(replace(recipe, split="both", reports=(report,)), resume=True)


@pytest.mark.slow
def test_the_identity_of_a_collection_is_its_runs_and_what_they_start_from(
    recipe: CollectRecipe,
) -> None:
    """Resuming for nothing leaves it as it is; oracles leave that of the train runs."""
    first = Collection.open(collect(replace(recipe, split="train")).out)
    again = replace(recipe, split="train", checkpoint_every=1, limit_tasks=2)
    second = Collection.open(collect(again, resume=True).out)
    assert second.manifest != first.manifest
    assert second.sha256 == first.sha256 == first.train_runs_sha256
    third = Collection.open(collect(replace(recipe, split="both"), resume=True).out)
    assert third.train_runs_sha256 == first.sha256 != third.sha256
    more = Collection.open(collect(replace(recipe, split="train", seeds=2), resume=True).out)
    assert more.train_runs_sha256 != first.sha256
    start = replace(first.manifest, init={**first.manifest.init, "seed": 9})
    assert replace(first, manifest=start).sha256 != first.sha256


def test_a_folder_in_use_is_not_collected_over(recipe: CollectRecipe) -> None:
    collect(replace(recipe, limit_tasks=1))
    with pytest.raises(TrainingError, match=r"already holds a collection\. Continue it with --res"):
        collect(recipe)


def test_another_recipe_is_refused_on_resume(recipe: CollectRecipe) -> None:
    recipe = replace(recipe, limit_tasks=1)
    collect(recipe)
    with pytest.raises(
        TrainingError, match=r"another recipe: `batch_size` was 3, is 4; `learning_rate` was 0\.01"
    ):
        collect(replace(recipe, batch_size=4, learning_rate=0.1), resume=True)
    collect(replace(recipe, checkpoint_every=1, tasks_at_once=1), resume=True)
    # As if `weight_decay` were newer than the collection.
    path = recipe.out / MANIFEST
    manifest = json.loads(path.read_bytes())
    assert manifest["recipe"].pop("weight_decay") == recipe.weight_decay
    path.write_text(json.dumps(manifest))
    collect(recipe, resume=True)


def test_another_base_is_refused_on_resume(recipe: CollectRecipe, tmp_path: Path) -> None:
    recipe = replace(recipe, limit_tasks=1)
    collect(recipe)
    twin = save_tiny(tmp_path / "twin", seed=1)
    with pytest.raises(
        BaseMismatchError, match=r"was made on .*, not on .*twin: it has the same shape"
    ):
        collect(replace(recipe, base=str(twin)), resume=True)
    wide = save_tiny(tmp_path / "wide", intermediate_size=192)
    with pytest.raises(BaseMismatchError, match=r"`intermediate_size` is 192, expected 128\. Name"):
        collect(replace(recipe, base=str(wide)), resume=True)


def test_another_start_is_refused_on_resume(recipe: CollectRecipe) -> None:
    recipe = replace(recipe, limit_tasks=1)
    collect(recipe)
    edit_manifest(recipe.out, lambda m: m["init"].update(sha256="0"))
    with pytest.raises(TrainingError, match=r"started from another A: seed 0 gives other numbers"):
        collect(recipe, resume=True)


def test_changed_examples_are_refused_on_resume(recipe: CollectRecipe, tmp_path: Path) -> None:
    folder = write_letters(tmp_path / "letters", ("first", "last"))
    recipe = replace(recipe, tasks=(folder,))
    collect(recipe)
    path = folder / "tasks" / "last" / "train.jsonl"
    path.write_text(path.read_text().replace("Give", "Write"))
    with pytest.raises(
        TrainingError, match=r"collected from other examples of last\. Collect into"
    ):
        collect(recipe, resume=True)


def test_a_damaged_manifest_is_refused_on_resume(recipe: CollectRecipe) -> None:
    recipe.out.mkdir()
    for text, message in (
        ("{", "Expecting property name"),
        ('{"format": 2}', "`format` is 2, this ver"),
        ("[" * 100_000, "RecursionError"),
    ):
        (recipe.out / "manifest.json").write_text(text)
        with pytest.raises(TrainingError, match=rf"manifest\.json` cannot be contin.*{message}"):
            collect(recipe, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["runs"][0].update(steps=10**30), "OverflowError"),
        (lambda m: m["runs"][0].update(slug=""), "`slug` '' is not a plain folder name"),
        (lambda m: m.update(base="b"), "`base` is 'b', expected an object"),
        (lambda m: m["base"].update(fingerprint={"norms": 5}), r"KeyError\('architecture'\)"),
        (
            lambda m: m["base"]["fingerprint"].update(architecture=[]),
            r"`architecture` is \[\], exp",
        ),
        (
            lambda m: m["base"]["fingerprint"].update(norms=5),
            "`norms` is 5, expected a list of num",
        ),
        (lambda m: m["base"]["fingerprint"].update(norms=["1"]), r"`norms` is \['1'\], expected a"),
        (lambda m: m.update(init=[]), r"`init` is \[\], expected an object"),
        (lambda m: m["init"].pop("sha256"), "expected `seed` and `sha256`"),
    ],
)
def test_a_manifest_of_another_form_is_refused_on_resume(
    recipe: CollectRecipe, copy: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    edit_manifest(copy, change)
    with pytest.raises(TrainingError, match=rf"manifest\.json` cannot be contin.*{message}"):
        collect(replace(recipe, out=copy), resume=True)


# What cannot be trained


def test_a_task_with_too_few_short_examples_is_left_out_and_named(
    recipe: CollectRecipe, tmp_path: Path
) -> None:
    folder = write_letters(tmp_path / "few", ("first", "upper"))
    result = collect(replace(recipe, tasks=(folder,), max_tokens=70))
    assert [run.slug for run in result.runs] == ["first"]
    assert list(result.left_out) == ["upper"]
    assert (
        "0 train and 2 validation examples of at most 70 tokens; needs 3"
        in (result.left_out["upper"])
    )
    assert Collection.open(result.out).manifest.planned == 1


def test_a_collection_of_nothing_is_an_error(recipe: CollectRecipe) -> None:
    with pytest.raises(
        TrainingError, match=r"none of 4 task\(s\) could be trained: .*: 0 train an"
    ):
        collect(replace(recipe, max_tokens=5))


def test_a_loss_that_is_no_number_names_its_task(
    recipe: CollectRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect(replace(recipe, limit_tasks=1))
    before = digests(recipe.out)
    whole_losses = collect_runs.RunTrainer._losses

    def spoil(run: Any, trainings: Any, batches: Any) -> list[tuple[Tensor, Tensor]]:
        found = whole_losses(run, trainings, batches)
        return [(nll * float("nan"), exact) for nll, exact in found]

    monkeypatch.setattr(collect_runs.RunTrainer, "_losses", spoil)
    with pytest.raises(
        TrainingError, match=r"`\w+`, step 1: loss nan, .*resume with a task folder that lacks this"
    ):
        collect(recipe, resume=True)
    assert digests(recipe.out) == before


def test_a_disk_too_small_is_refused_before_training(
    recipe: CollectRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = SimpleNamespace(free=10_000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: full)
    with pytest.raises(
        TrainingError, match=r"needs 0\.0 GB for 4 runs of 3 snapshots, 0\.0 GB are"
    ):
        collect(recipe)
    assert not (recipe.out / "manifest.json").exists()


# Reading


def test_tokens_come_back_seed_by_seed_and_step_by_step(whole: Collection) -> None:
    assert whole.layout == LAYOUT
    assert whole.slugs == tuple(sorted(JOBS))
    assert whole.train_slugs == ("first", "last", "upper")
    for slug in whole.slugs:
        found = whole.snapshots(slug)
        runs = [run for run in whole.runs if run.slug == slug]
        files = [
            whole.path / slug / f"seed-{run.seed}" / f"step-{s.step:04}.safetensors"
            for run in runs
            for s in run.snapshots
        ]
        assert found.shape == (6, LAYOUT.num_tokens, 4, LAYOUT.width)
        for tokens, path in zip(found, files, strict=True):
            state = detokenize(tokens, LAYOUT)
            assert all(torch.equal(state[k], v) for k, v in load_file(path).items())
        assert torch.equal(whole.final(slug), found[2])


def test_the_mean_is_of_finals_of_train_tasks_only(
    whole: Collection, recipe: CollectRecipe
) -> None:
    finals = [whole.snapshots(s)[at] for s in ("first", "last", "upper") for at in (2, 5)]
    torch.testing.assert_close(whole.mean(), torch.stack(finals).mean(dim=0))
    collect(replace(recipe, split="heldout"))
    with pytest.raises(TrainingError, match=r"has no task of the train split, so it has no mean"):
        Collection.open(recipe.out).mean()


def test_centred_cosines_are_those_of_the_flat_weights(whole: Collection) -> None:
    finals = torch.stack([whole.read(r, r.snapshots[-1]) for r in whole.runs]).flatten(1).double()
    firsts = torch.stack(
        [whole.snapshots(slug)[at] for slug in whole.slugs for at in (0, 3)]
    ).flatten(1)
    centre = finals.mean(dim=0)

    def cosine(a: Tensor, b: Tensor) -> float:
        return float(nn.functional.cosine_similarity(a - centre, b - centre, dim=0))

    count = len(finals)
    pairs = [(i, j) for i in range(count) for j in range(i)]
    same = [cosine(finals[i], finals[j]) for i, j in pairs if i // 2 == j // 2]
    other = [cosine(finals[i], finals[j]) for i, j in pairs if i // 2 != j // 2]
    within = [cosine(a, b) for a, b in zip(finals, firsts, strict=True)]
    found = whole.cosines()
    assert found.within_run == pytest.approx(sum(within) / len(within), abs=1e-6)
    assert found.across_seeds == pytest.approx(sum(same) / len(same), abs=1e-6)
    assert found.between_tasks == pytest.approx(sum(other) / len(other), abs=1e-6)
    assert present(found.within_run) > present(found.across_seeds)
    assert present(found.across_seeds) > present(found.between_tasks)


def test_one_snapshot_of_one_task_has_nothing_to_compare(recipe: CollectRecipe) -> None:
    found = collect(replace(recipe, limit_tasks=1, num_snapshots=1, steps=2)).cosines
    assert (found.within_run, found.across_seeds, found.between_tasks) == (None, None, None)


def test_one_run_alone_has_no_cosine_within_it(recipe: CollectRecipe) -> None:
    """Its last snapshot is the mean that is subtracted."""
    settings = replace(recipe, limit_tasks=1, seeds=1, num_snapshots=2, steps=4)
    found = collect(settings)
    assert [len(run.snapshots) for run in Collection.open(settings.out).runs] == [2]
    assert found.cosines.within_run is None


def test_an_unfinished_collection_opens_with_what_it_has(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edit_manifest(copy, lambda m: m["runs"].pop())
    with caplog.at_level(logging.WARNING):
        assert len(Collection.open(copy).runs) == 7
    assert "holds 7 of 8 runs" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format=2), r"`format` is 2, this version reads format 1\."),
        (lambda m: m.pop("layout"), r"`manifest\.json` cannot be read: KeyError\('layout'\)"),
        (lambda m: m.update(layout=[]), r"read: `layout` must list at least one"),
        (lambda m: m["lora"].update(r=0), r"read: `r` must hold whole numb"),
        (lambda m: m.pop("base"), r"read: KeyError\('base'\)"),
        (lambda m: m.update(base={"fingerprint": 1}), r"read: TypeError\('`fingerprint` is 1"),
        (lambda m: m.update(init=[]), r"read: TypeError\('`init` is \[\], expected an object"),
        (lambda m: m.update(runs=[]), r"holds no finished run yet\. Continue it with `dnd coll"),
        (lambda m: m["runs"][0].pop("family"), r"read: KeyError\('family'\)"),
        (lambda m: m["runs"][0].update(slug="../x"), r"`slug` '\.\./x' is not a plain folder"),
        (
            lambda m: m["runs"][0].update(train_sha256=["x"]),
            r"`train_sha256` of `first` is \['x'\], expected a string",
        ),
        (lambda m: m["runs"][0].update(seed="0"), r"`seed` of `first` is '0', expected a whole"),
        (lambda m: m["runs"][0].update(steps=10**12), r"`snapshots` are not those of steps"),
        (
            lambda m: m["runs"][0].update(snapshots={"/etc/passwd": "x"}),
            r"`first`, seed 0: `snapshots` are not those of steps",
        ),
        (lambda m: m["runs"][0].update(snapshots={}), r"`snapshots` are not those of steps"),
    ],
)
def test_a_damaged_manifest_is_refused(
    copy: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    edit_manifest(copy, change)
    with pytest.raises(TrainingError, match=message):
        Collection.open(copy)


def test_a_folder_without_manifest_is_no_collection(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"no collection in `.*`: `manifest\.json` is missing\."
    ):
        Collection.open(tmp_path)


def test_a_missing_snapshot_is_noticed_at_once(copy: Path) -> None:
    next((copy / "last" / "seed-0").glob("step-*")).unlink()
    with pytest.raises(
        TrainingError, match=r"lacks 1 of 24 snapshots, the first is `last/seed-0/s"
    ):
        Collection.open(copy)


def test_a_snapshot_that_is_not_the_one_written_is_refused(copy: Path) -> None:
    collection = Collection.open(copy)
    run = collection.runs[0]
    path = copy / run.folder / f"step-{run.steps:04}.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    for read in (
        lambda: collection.final(run.slug),
        lambda: collection.snapshots(run.slug),
        collection.mean,
        collection.cosines,
    ):
        with pytest.raises(
            TrainingError, match=r"has SHA-256 .*, the manifest says .*damaged or r"
        ):
            read()


def test_a_snapshot_that_holds_no_numbers_is_refused(copy: Path) -> None:
    """Even if the manifest vouches for it: one NaN would spoil all that is trained on it."""
    run = Collection.open(copy).runs[0]
    path = copy / run.folder / f"step-{run.steps:04}.safetensors"
    state = load_file(path)
    next(iter(state.values()))[0, 0] = torch.nan
    save_file(state, path)
    name = f"{run.folder.as_posix()}/{path.name}"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit_manifest(copy, lambda m: m["runs"][0]["snapshots"].update({name: digest}))
    with pytest.raises(TrainingError, match=r"holds weights that are NaN or infinite\. Collect"):
        Collection.open(copy).final(run.slug)


@pytest.mark.parametrize("fault", ["shape", "key", "pickle"])
def test_a_snapshot_that_does_not_fit_the_layout_is_refused(copy: Path, fault: str) -> None:
    """Even if the manifest vouches for it."""
    run = Collection.open(copy).runs[0]
    path = copy / run.folder / f"step-{run.steps:04}.safetensors"
    state = load_file(path)
    key = next(iter(state))
    if fault == "shape":
        state[key] = torch.zeros(2, 2)
    elif fault == "key":
        state["stranger"] = torch.zeros(1)
    save_file(state, path)
    if fault == "pickle":
        torch.save(state, path)
    name = f"{run.folder.as_posix()}/{path.name}"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit_manifest(copy, lambda m: m["runs"][0]["snapshots"].update({name: digest}))
    with pytest.raises(TrainingError, match=r"snapshot `.*` does not fit the collection: "):
        Collection.open(copy).final(run.slug)


def losses(collection: Collection, slug: str, seed: int = 0) -> tuple[LossRow, ...]:
    return read_losses(collection.path / run_folder(slug, seed))


def test_what_a_collection_lacks_is_named(whole: Collection) -> None:
    with pytest.raises(
        TrainingError, match=r"has no task `none`; it has 4 tasks, such as first, l"
    ):
        whole.final("none")


def test_a_collection_knows_its_base(whole: Collection, tiny_folder: Path, tmp_path: Path) -> None:
    made_on, same = whole.manifest.base, fingerprint(tiny_base(tiny_folder))
    check_same_base(whole.path, made_on, {"id": "x", "fingerprint": same})
    other = fingerprint(tiny_base(save_tiny(tmp_path / "other", seed=1)))
    with pytest.raises(
        BaseMismatchError, match=r"not on x: it has the same shape but other weights"
    ):
        check_same_base(whole.path, made_on, {"id": "x", "fingerprint": other})
    with pytest.raises(BaseMismatchError, match=r"was made on an unknown base, not on x"):
        check_same_base(whole.path, {}, {"id": "x", "fingerprint": other})


# Recipes and the command


def test_the_shipped_recipes_are_sound(tmp_path: Path) -> None:
    for name in ("collect-tiny.yaml", "own-lora.yaml"):
        CollectRecipe.read(ROOT / "assets" / "recipes" / name, tasks=[tmp_path], out=tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tasks": ()}, r"`tasks` must name at least one task folder\."),
        ({"steps": 0}, r"`steps` must be at least 1, got 0\."),
        ({"tasks_at_once": 0}, r"`tasks_at_once` must be at least 1, got 0\."),
        ({"holdouts": ("luck",)}, r"`holdouts` must be some of family, .*, got luck\."),
        ({"limit_tasks": -1}, r"`limit_tasks` must be at least 0, got -1\."),
        ({"learning_rate": 0.0}, r"`learning_rate` must be above 0, got 0\.0\."),
        ({"bare_share": 2.0}, r"`bare_share` must be between 0 and 1, got 2\.0\."),
        ({"plateau_percent": 101.0}, r"`plateau_percent` must be between 0 and 100, got 101"),
        ({"num_snapshots": 21}, r"`num_snapshots` is 21, more than the 20 `steps`\."),
        ({"r": 0}, r"`r` must be at least 1, got 0\."),
    ],
)
def test_an_impossible_recipe_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rule(**fields)


def dnd_collect(*arguments: object) -> Any:
    app = typer.Typer()
    app.command()(collect_command)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def write_recipe(recipe: CollectRecipe, path: Path) -> Path:
    left = {"tasks", "without_licence_classes", "limit_tasks", "split", "seeds"}
    whole = {**recipe.to_json(), "base": recipe.base}  # its folder, which no file tells
    values = {k: v for k, v in whole.items() if k not in left}
    path.write_text(json.dumps(values))  # JSON is YAML
    return path


@pytest.mark.slow
def test_the_command_collects_resumes_and_sums_up(recipe: CollectRecipe, tmp_path: Path) -> None:
    more = write_letters(tmp_path / "more", ("swap",))
    some = write_letters(tmp_path / "some", ("first", "last"))
    file = write_recipe(recipe, tmp_path / "r.yaml")
    arguments = [file, "--tasks", some, "--tasks", more, "--out", recipe.out, "--split", "both"]
    made = dnd_collect(*arguments, "--limit-tasks", 2, "--json")
    assert made.exit_code == 0, made.stderr
    values = json.loads(made.stdout)
    assert len(values["runs"]) == 2
    assert values["left_out"] == {}
    assert values["cosines"]["between_tasks"] == pytest.approx(-1)  # two tasks about their mean
    assert "Collect 2 runs: 100%" in made.stderr
    refused = dnd_collect(*arguments)
    assert refused.exit_code == 1
    assert "already holds a collection" in refused.stderr
    said = dnd_collect(*arguments, "--resume", "--threads", 1)
    assert said.exit_code == 0, said.stderr
    for run in Collection.open(recipe.out).runs:
        (line,) = [row for row in said.stdout.splitlines() if row.startswith(f"{run.slug} ")]
        assert f"{run.first_loss:.3f} -> {run.last_loss:6.3f}" in line
        assert f"{run.start:4} ({run.start_reason}" in line
    assert "Centred cosine of weights: first and last snapshot of a run 0." in said.stdout
    assert "two seeds" not in said.stdout


@pytest.mark.real
def test_two_tasks_of_the_real_base_learn_in_three_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect_runs, "best_dtype", best_dtype)
    folder = write_letters(tmp_path / "letters", ("first", "last"))
    result = collect(
        CollectRecipe(
            tasks=(folder,),
            out=tmp_path / "out",
            steps=3,
            num_snapshots=1,
            batch_size=4,
            warmup_steps=0,
            learning_rate=1e-3,
            validation_examples=2,
        )
    )
    assert [run.slug for run in result.runs] == ["first", "last"]
    for run in result.runs:
        assert run.last_validation_loss < run.first_validation_loss
    collection = Collection.open(result.out)
    assert collection.layout.num_tokens == 1590
    assert collection.manifest.base["id"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
