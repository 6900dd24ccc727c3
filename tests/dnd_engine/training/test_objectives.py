"""Objectives measure what they say, step by step against slow and plain calculations."""

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dnd_engine.errors import BaseMismatchError, TrainingError
from dnd_engine.generator.folder import GeneratorFolder
from dnd_engine.lora.delta import delta_gram, delta_products
from dnd_engine.lora.weight_tokens import detokenize, standardise
from dnd_engine.models.base import BaseModel
from dnd_engine.models.runtime import Runtime
from dnd_engine.tasks.folder import load_tasks
from dnd_engine.training import objectives, setup, teacher, trainer
from dnd_engine.training.batches import TaskPool, build_pools
from dnd_engine.training.collection import Collection
from dnd_engine.training.examples import answer_logits, encode_example, pack, response_losses
from dnd_engine.training.finetune import collect as collect_module
from dnd_engine.training.finetune.collect import collect
from dnd_engine.training.finetune.collect_recipe import CollectRecipe
from dnd_engine.training.objectives import (
    DeltaError,
    Distillation,
    Reconstruction,
    teacher_divergence,
)
from dnd_engine.training.pairs import open_pairs, token_scales
from dnd_engine.training.recipe import TrainRecipe
from dnd_engine.training.teacher import TeacherAnswers, ask_teacher
from dnd_engine.training.trainer import train
from tests.dnd_engine.letters import JOBS, logged, write_tasks
from tests.dnd_engine.tiny import CPU, LAYOUT, byte_tokenizer, delta, random_tokens, save_tiny

pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast, but the target dtype is not")


@pytest.fixture(autouse=True)
def quick_everywhere(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Collections too are made on the CPU in float32."""
    monkeypatch.setattr(collect_module, "best_device", lambda: CPU)
    monkeypatch.setattr(collect_module, "best_dtype", lambda device: torch.float32)


@pytest.fixture(scope="module")
def collection(
    tasks_folder: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Collection:
    """Three snapshots of each of the four tasks; `best_device` is patched only per test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect_module, "best_device", lambda: CPU)
        patch.setattr(collect_module, "best_dtype", lambda device: torch.float32)
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


# ΔW by inner products


def slow_deltas(tokens: Tensor) -> list[dict[str, Tensor]]:
    return [delta(detokenize(one, LAYOUT), LAYOUT) for one in tokens]


def test_inner_products_are_those_of_the_explicit_deltas() -> None:
    """Per layer, scaling included."""
    one = torch.stack([random_tokens(seed=1), random_tokens(seed=2)])
    other = torch.stack([random_tokens(seed=3), random_tokens(seed=4)])
    found = delta_products(one, other, LAYOUT)
    expected = [
        [float((a[t.path] * b[t.path]).sum()) for t in LAYOUT.targets]
        for a, b in zip(slow_deltas(one), slow_deltas(other), strict=True)
    ]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-6)


# Reconstruction


def pools_of(recipe: TrainRecipe) -> tuple[TaskPool, ...]:
    return build_pools(load_tasks(recipe.tasks), byte_tokenizer(), recipe)


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


def test_the_delta_error_does_not_care_how_a_change_is_factored(
    recipe: TrainRecipe, collection: Collection
) -> None:
    """Zero for the target under another basis of the rank; one for no adapter at all."""
    recipe = replace(recipe, objective="delta_w", collection=collection.path)
    run, batch = batch_of(recipe)
    objective = run.objective
    assert isinstance(objective, DeltaError)
    targets = objective._targets(batch, torch.zeros(1))
    basis = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0))).Q
    turned = (basis @ targets) * 1.0
    assert float(objective.loss(batch, turned)) < 1e-4
    nothing = float(objective.loss(batch, torch.zeros_like(targets)))
    norms = delta_products(targets, targets, LAYOUT) / objective._norms
    assert nothing == pytest.approx(float(norms.mean()), rel=1e-4)
    assert 0.2 < nothing < 2
    explicit = []
    for ours, theirs in zip(slow_deltas(turned + 0.01), slow_deltas(targets), strict=True):
        explicit.append([float((ours[p] - theirs[p]).square().sum()) for p in ours])
    expected = (torch.tensor(explicit) / objective._norms).mean()
    assert float(objective.loss(batch, turned + 0.01)) == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("objective", ["reconstruction", "delta_w"])
def test_a_run_on_checkpoints_starts_as_the_base_and_comes_nearer_to_them(
    recipe: TrainRecipe, collection: Collection, objective: Any
) -> None:
    """In the gauge of the collection: A is the checkpoints', B zero."""
    recipe = replace(
        recipe,
        objective=objective,
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


def test_tasks_without_checkpoints_are_left_out(
    recipe: TrainRecipe, collection: Collection, tmp_path: Path
) -> None:
    """Under the task loss too, where a collection is named, so that both see the same tasks."""
    recipe = replace(recipe, objective="reconstruction", collection=collection.path)
    more = replace(recipe, format_variants=2)
    for arm in (more, replace(more, objective="task_loss")):
        run = trainer._Run(replace(arm, out=tmp_path / arm.objective), resume=False)
        assert [pool.task.info.slug for pool in run.pools] == list(JOBS)
    kept = objectives.Reconstruction(collection, recipe, "x")
    with pytest.raises(
        TrainingError, match=r"has checkpoints of 1 of the tasks; training needs two or more\. Coll"
    ):
        kept.prepare(pools_of(recipe)[:1])


def test_a_collection_must_fit_recipe_and_base(
    recipe: TrainRecipe, collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(recipe, objective="delta_w", collection=collection.path)
    monkeypatch.setattr(setup, "load_tasks", None)  # nothing slow is reached
    with pytest.raises(
        TrainingError, match=r"has LoRAs of r 4, alpha 8 on 7 .*, the recipe asks for r 2, alpha 8"
    ):
        train(replace(recipe, r=2))
    other = save_tiny(tmp_path / "other", seed=1)
    with pytest.raises(BaseMismatchError, match=r"was made on .*, not on .*"):
        train(replace(recipe, base=str(other)))


# Distillation


def small_answers(base: BaseModel, recipe: TrainRecipe, **fields: Any) -> Any:
    recipe = replace(recipe, objective="distillation", **fields)
    return ask_teacher(pools_of(recipe), Runtime.of(base, LAYOUT), None, "base", recipe)


def test_the_teachers_tokens_are_those_of_full_prompts(
    base: BaseModel, recipe: TrainRecipe
) -> None:
    """Against a forward pass over one example alone."""
    pools, answers = small_answers(base, recipe, teacher_examples=5)
    assert [len(pool.examples) for pool in pools] == [5] * 4
    for pool, said in zip(pools, answers, strict=True):
        for number, example in enumerate(pool.examples):
            encoded = encode_example(base.tokenizer, example, "full")
            assert encoded is not None
            logits = base.model(input_ids=torch.tensor([encoded.ids])).logits[0]
            expected = logits[encoded.start - 1 : -1].log_softmax(dim=-1)
            at = said.of(number)
            assert said.tokens[at].shape == (len(encoded.ids) - encoded.start, 16)
            top = expected.topk(16)
            torch.testing.assert_close(said.log_probs[at], top.values, atol=1e-3, rtol=0)
            rest = (1 - top.values.exp().sum(dim=1)).clamp(min=1e-6).log()
            torch.testing.assert_close(said.rest[at], rest, atol=1e-2, rtol=1e-2)


def test_the_teacher_is_asked_once(
    base: BaseModel, recipe: TrainRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept by content: another teacher or other examples are asked again."""
    first, said = small_answers(base, recipe, teacher_examples=5)
    calls = []
    listen = teacher.listen
    monkeypatch.setattr(teacher, "listen", lambda *given: calls.append(1) or listen(*given))
    again, said_again = small_answers(base, recipe, teacher_examples=5)
    assert calls == []
    assert [p.examples for p in again] == [p.examples for p in first]
    assert all(torch.equal(a.rest, b.rest) for a, b in zip(said, said_again, strict=True))
    small_answers(base, recipe, teacher_examples=6)
    assert len(calls) == 4
    runtime = Runtime.of(base, LAYOUT)
    ask_teacher(pools_of(recipe), runtime, None, "b", replace(recipe, teacher_examples=5))
    assert len(calls) == 8


def test_a_students_divergence_counts_the_rest_as_one_token() -> None:
    """Against the plain sum over a small vocabulary; zero for the teacher itself."""
    generator = torch.Generator().manual_seed(0)
    teachers, students = torch.randn(2, 5, 40, generator=generator).log_softmax(dim=-1)
    top = teachers.topk(16)
    rest = (1 - top.values.exp().sum(dim=1)).log()
    found = teacher_divergence(students, top.indices, top.values, rest)
    expected = []
    for p, q, kept in zip(teachers.exp(), students.exp(), top.indices, strict=True):
        others = [i for i in range(40) if i not in kept.tolist()]
        merged_p = torch.cat([p[kept], p[others].sum()[None]])
        merged_q = torch.cat([q[kept], q[others].sum()[None]])
        expected.append((merged_p * (merged_p / merged_q).log()).sum())
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-4, rtol=1e-4)
    same = teacher_divergence(teachers, top.indices, top.values, rest)
    torch.testing.assert_close(same, torch.zeros(5), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kl_share", [0.0, 0.4, 1.0])
def test_distillation_mixes_divergence_on_bare_inputs_with_the_task_loss(
    recipe: TrainRecipe, kl_share: float
) -> None:
    """Example by example, alone; full prompts keep the task loss."""
    recipe = replace(
        recipe,
        objective="distillation",
        kl_share=kl_share,
        teacher_examples=6,
        bare_share=0.5,
        tasks_per_step=4,
    )
    run, batch = batch_of(recipe, step=3)
    assert {d.mode for d in batch.drawn} == {"bare", "full"}
    objective = run.objective
    assert isinstance(objective, Distillation)
    tokens = torch.zeros(4, 64, 4, 32)
    expected = []
    for drawn in batch.drawn:
        assert drawn.example is not None
        example = run.pools[drawn.pool].examples[drawn.example]
        encoded = encode_example(run.base.tokenizer, example, drawn.mode)
        assert encoded is not None
        packed = pack([[encoded]])
        nll = response_losses(run.base.model, packed).nll[0]
        if drawn.mode == "bare":
            said = objective._answers[drawn.pool]
            assert isinstance(said, TeacherAnswers)
            at = said.of(drawn.example)
            logits, _ = answer_logits(run.base.model, packed)
            parts = (said.tokens[at].long(), said.log_probs[at], said.rest[at])
            divergence = teacher_divergence(logits, *parts).mean()
            nll = (1 - kl_share) * nll + kl_share * divergence
        expected.append(nll)
    found = float(objective.loss(batch, tokens))
    assert found == pytest.approx(float(torch.stack(expected).mean()), abs=1e-4)


def test_a_run_learns_from_a_multi_task_lora(recipe: TrainRecipe, tmp_path: Path) -> None:
    lora = train(replace(recipe, out=tmp_path / "lora", kind="multi_task_lora", steps=6))
    recipe = replace(
        recipe,
        objective="distillation",
        teacher=lora.generator,
        teacher_examples=8,
        steps=16,
        kl_share=1.0,
        bare_share=1.0,
        validate_every=16,
    )
    result = train(recipe)
    losses = [row["loss"] for row in logged(recipe)]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    training = GeneratorFolder.open(result.generator).config.training
    assert training["recipe"]["teacher"] == "generator"
    assert training["sha256"]["teacher"] == GeneratorFolder.open(lora.generator).sha256
    card = (result.generator / "README.md").read_text()
    assert "context distillation" in card
    with pytest.raises(
        TrainingError, match=r"is a generator, not a multi-task LoRA\. Train one wi"
    ):
        train(replace(recipe, out=tmp_path / "b", teacher=result.generator))


def test_without_labels_the_teachers_own_answers_are_learnt(
    base: BaseModel, recipe: TrainRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedy, ended, confident; references are not looked at."""
    monkeypatch.setattr(teacher, "_LEAST_PROBABILITY", 0.0)
    monkeypatch.setattr(teacher, "_LEAST_EXAMPLES", 1)
    monkeypatch.setattr(teacher, "_ended", lambda ids, end: ids[:3])
    pools, answers = small_answers(base, recipe, labels=False, teacher_examples=5)
    originals = {pool.task.info.slug: pool for pool in pools_of(recipe)}
    checked = 0
    for pool, said in zip(pools, answers, strict=True):
        prompts = {e.prompt: e.response for e in originals[pool.task.info.slug].examples}
        for number, example in enumerate(pool.examples):
            assert example.response != prompts[example.prompt]
            encoded = encode_example(base.tokenizer, example, "full")
            assert encoded is not None
            # What is kept first is what was said, where decoding and encoding agree.
            first = said.tokens[said.of(number)][0, 0]
            out = base.model.generate(
                torch.tensor([encoded.ids[: encoded.start]]), max_new_tokens=1, do_sample=False
            )
            assert int(first) == int(out[0, -1])
            checked += 1
    assert checked > 5


def test_a_teacher_that_is_never_sure_is_refused(base: BaseModel, recipe: TrainRecipe) -> None:
    with pytest.raises(
        TrainingError, match=r"the teacher answered no task with a mean token probability of 0\.6 o"
    ):
        small_answers(base, recipe, labels=False, teacher_examples=5)
