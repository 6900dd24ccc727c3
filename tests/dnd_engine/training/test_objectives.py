"""Objectives measure what they say, step by step against slow and plain calculations."""

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dnd_engine.errors import BaseMismatchError, TrainingError
from dnd_engine.lora.delta import delta_gram
from dnd_engine.lora.weight_tokens import standardise
from dnd_engine.training import setup, trainer
from dnd_engine.training.collection import Collection
from dnd_engine.training.finetune import collect_runs
from dnd_engine.training.finetune.collect import collect
from dnd_engine.training.finetune.collect_recipe import CollectRecipe
from dnd_engine.training.objectives import Reconstruction
from dnd_engine.training.pairs import open_pairs, token_scales
from dnd_engine.training.recipe import Objective, TrainRecipe
from dnd_engine.training.trainer import train
from tests.dnd_engine.letters import JOBS, logged, write_tasks
from tests.dnd_engine.tiny import CPU, LAYOUT, random_tokens, save_tiny

pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast, but the target dtype is not")


@pytest.fixture(autouse=True)
def quick_everywhere(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Collections too are made on the CPU in float32."""
    monkeypatch.setattr(collect_runs, "best_device", lambda: CPU)
    monkeypatch.setattr(collect_runs, "best_dtype", lambda device: torch.float32)


@pytest.fixture(scope="session")
def collection(
    tasks_folder: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Collection:
    """Three snapshots of each of the four tasks; `best_device` is patched only per test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect_runs, "best_device", lambda: CPU)
        patch.setattr(collect_runs, "best_dtype", lambda device: torch.float32)
        out = tmp_path_factory.mktemp("collection")
        collect(
            CollectRecipe(
                tasks=(tasks_folder,),
                out=out / "c",
                base=str(tiny_folder),
                steps=8,
                batch_size=3,
                learning_rate=1e-2,
                warmup_steps=2,
                max_tokens=120,
                validation_examples=2,
                num_snapshots=3,
                smoothing_steps=1,
                plateau_steps=2,
            )
        )
    return Collection.open(out / "c")


# Reconstruction


def batch_of(recipe: TrainRecipe, step: int = 0) -> Any:
    run = trainer._Run(recipe, resume=False)
    return run, run.sampler.draw(step, with_examples=run.objective.needs_examples)


def test_criterion_weights_are_the_movement_of_standardised_entries(
    collection: Collection, tmp_path: Path
) -> None:
    """As in the authors' release: deviation over snapshots, averaged per token, mean one."""
    pairs = open_pairs(collection, ("first", "last"), tmp_path, "x")
    weights = []
    for slug in ("first", "last"):
        inside = torch.stack([standardise(t)[:, :4, :32] for t in collection.snapshots(slug)])
        movement = inside.std(dim=0, correction=0).mean(dim=(1, 2))
        weights.append(movement / movement.mean())
    expected = torch.stack(weights).mean(dim=0)
    torch.testing.assert_close(pairs.criterion, expected / expected.mean(), rtol=1e-3, atol=1e-4)
    assert float(pairs.criterion.mean()) == pytest.approx(1, abs=1e-5)
    finals = (collection.final("first") + collection.final("last")) / 2
    torch.testing.assert_close(pairs.mean, finals)
    again = open_pairs(collection, ("first", "last"), tmp_path, "x")
    assert torch.equal(again.criterion, pairs.criterion)


def test_pairs_draw_any_snapshot_of_the_task(collection: Collection, tmp_path: Path) -> None:
    pairs = open_pairs(collection, ("first", "last"), tmp_path, "x")
    snapshots = {slug: collection.snapshots(slug) for slug in ("first", "last")}
    seen = set()
    for seed in range(30):
        drawn = pairs.draw(("last", "first"), random.Random(seed))
        again = pairs.draw(("last", "first"), random.Random(seed))
        assert torch.equal(drawn, again)
        for slug, tokens in zip(("last", "first"), drawn, strict=True):
            seen |= {(slug, n) for n, s in enumerate(snapshots[slug]) if torch.equal(s, tokens)}
    assert len(seen) == 6


def test_a_snapshot_is_checked_when_it_is_first_drawn_whatever_is_cached(
    collection: Collection, tmp_path: Path
) -> None:
    """What another call left in the cache says nothing of the files of today."""
    folder = shutil.copytree(collection.path, tmp_path / "copy")
    copied, cache = Collection.open(folder), tmp_path / "cache"
    open_pairs(copied, ("first", "last"), cache, "x")
    pairs = open_pairs(copied, ("first", "last"), cache, "x")
    drawn = pairs.draw(("last",), random.Random(0))
    assert torch.equal(drawn, pairs.draw(("last",), random.Random(0)))
    for path in folder.glob("first/*/*.safetensors"):
        shutil.copy(next(folder.glob("last/*/*.safetensors")), path)
    with pytest.raises(TrainingError, match=r"`.*first.*` has SHA-256 .*, the manifest says"):
        pairs.draw(("first",), random.Random(0))


def test_checkpoints_of_another_version_of_the_tasks_are_refused(
    recipe: TrainRecipe, collection: Collection, tmp_path: Path
) -> None:
    folder = write_tasks(tmp_path / "letters")
    recipe = replace(
        recipe, objective="reconstruction", collection=collection.path, tasks=(folder,)
    )
    trainer._Run(replace(recipe, out=tmp_path / "same"), resume=False)
    path = folder / "tasks" / "first" / "train.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(
        TrainingError,
        match=r"was trained on other examples of 1 task\(s\): `first`\. Train on the task folders",
    ):
        trainer._Run(recipe, resume=False)


@pytest.mark.slow
def test_a_collection_may_be_resumed_for_nothing_while_it_is_trained_on(
    recipe: TrainRecipe, collection: Collection, tmp_path: Path
) -> None:
    """What its manifest says of the call that made it is no part of what is trained on."""
    folder = shutil.copytree(collection.path, tmp_path / "copy")
    recipe = replace(recipe, objective="reconstruction", collection=folder, steps=1)
    train(recipe)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["recipe"]["threads"], manifest["planned"] = 4, 9
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert train(replace(recipe, steps=2), resume=True).steps == 2


def test_a_collection_that_chose_the_tasks_is_needed_to_resume(
    recipe: TrainRecipe, collection: Collection
) -> None:
    recipe = replace(recipe, objective="task_loss", collection=collection.path, steps=1)
    train(recipe)
    assert train(replace(recipe, steps=2), resume=True).steps == 2
    with pytest.raises(TrainingError, match=r"made with other contents of: collected_tasks \("):
        train(replace(recipe, collection=None, steps=3), resume=True)


def test_reconstruction_is_the_weighted_error_of_standardised_tokens(
    recipe: TrainRecipe, collection: Collection
) -> None:
    recipe = replace(recipe, objective="reconstruction", collection=collection.path)
    run, batch = batch_of(recipe)
    assert batch.examples is None
    objective = run.objective
    assert isinstance(objective, Reconstruction)
    tokens = torch.stack([random_tokens(seed=s) for s in range(2)])
    targets = objective._targets(batch, tokens)
    scales = token_scales(targets, objective.pairs.floor)
    terms = []
    for task in range(2):
        for t in range(LAYOUT.num_tokens):
            mean, std = targets[task, t].mean(), scales[task, t]
            error = ((tokens[task, t] - mean) / std - (targets[task, t] - mean) / std) ** 2
            terms.append(objective.pairs.criterion[t] * error.mean())
    assert float(objective.loss(batch, tokens)) == pytest.approx(
        float(torch.stack(terms).mean()), rel=1e-4
    )
    assert float(objective.loss(batch, targets)) == 0
    floor = token_scales(torch.zeros_like(targets), objective.pairs.floor)
    assert (floor > 0).all(), "a token that no task trained is not divided by zero"


@pytest.mark.slow
def test_a_run_on_checkpoints_starts_as_the_base_and_comes_nearer_to_them(
    recipe: TrainRecipe, collection: Collection
) -> None:
    """In the gauge of the collection: A is the checkpoints', B zero."""
    recipe = replace(
        recipe,
        objective="reconstruction",
        collection=collection.path,
        steps=40,
        tasks_per_step=4,
        validate_every=40,
        monitor_every=40,
        shared_lr=3e-3,
        decoder_lr=3e-3,
    )
    run = trainer._Run(recipe, resume=False)
    tokens = run._tokens(*run.sampler.conditions([0, 1])).detach()
    assert float(delta_gram(tuple(tokens), LAYOUT).abs().max()) == 0
    a_rows = [m for m in LAYOUT.matrices() if m.side == "A"]
    mean = collection.mean()
    for m in a_rows:
        rows = slice(m.first_token, m.first_token + m.num_tokens)
        assert torch.allclose(run.generator.shared[rows], mean[rows])
    result = run.finish()
    losses = [row["loss"] for row in logged(recipe)]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    assert {"tokens": 0}.items() <= logged(recipe)[0].items()
    assert "validation_loss" in result.validation
    assert "checkpoints" in (result.generator / "README.md").read_text()


@pytest.mark.slow
def test_tasks_without_checkpoints_are_left_out(
    recipe: TrainRecipe, collection: Collection, tmp_path: Path
) -> None:
    """Under the task loss too, where a collection is named, so that both see the same tasks."""
    more = write_tasks(tmp_path / "more", ("alone", "vowel"))
    recipe = replace(recipe, collection=collection.path, tasks=(*recipe.tasks, more))
    objectives: tuple[Objective, ...] = ("reconstruction", "task_loss")
    for objective in objectives:
        arm = replace(recipe, objective=objective, out=tmp_path / objective)
        run = trainer._Run(arm, resume=False)
        assert [pool.task.info.slug for pool in run.pools] == list(JOBS)
    varied = replace(arm, format_variants=1, out=tmp_path / "varied")
    run = trainer._Run(varied, resume=False)
    slugs = {pool.task.info.slug for pool in run.pools}
    assert slugs > set(JOBS), "variants of tasks that have checkpoints are trained on"
    assert {pool.task.info.plain_slug for pool in run.pools} == set(JOBS)


@pytest.mark.parametrize("objective", ["task_loss", "reconstruction"])
def test_a_collection_of_other_tasks_is_refused(
    objective: Any, recipe: TrainRecipe, collection: Collection, tmp_path: Path
) -> None:
    tasks = write_tasks(tmp_path / "tasks", ("first", "alone", "vowel"))
    recipe = replace(recipe, objective=objective, collection=collection.path, tasks=(tasks,))
    with pytest.raises(
        TrainingError, match=r"has checkpoints of 1 of the tasks; training needs two or more\. Coll"
    ):
        train(recipe)


def test_a_collection_must_fit_recipe_and_base(
    recipe: TrainRecipe, collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(recipe, objective="reconstruction", collection=collection.path)
    monkeypatch.setattr(setup, "load_tasks", None)  # nothing slow is reached
    with pytest.raises(
        TrainingError, match=r"has LoRAs of r 4, alpha 8 on 7 .*, the recipe asks for r 2, alpha 8"
    ):
        train(replace(recipe, r=2))
    other = save_tiny(tmp_path / "other", seed=1)
    with pytest.raises(BaseMismatchError, match=r"was made on .*, not on .*"):
        train(replace(recipe, base=str(other)))
