"""Training is a function of its recipe: same batches, same steps, resumable to the bit."""

import errno
import hashlib
import json
import math
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import psutil
import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from dnd_engine import engine as engine_module
from dnd_engine.cli.train import train as train_command
from dnd_engine.config import EngineConfig
from dnd_engine.engine import Engine
from dnd_engine.errors import (
    AssetError,
    ConfigError,
    GeneratorError,
    LayoutError,
    TrainingError,
)
from dnd_engine.files import CALL_LOCK, only_call_on
from dnd_engine.generator.config import GeneratorConfig
from dnd_engine.generator.folder import Generator, GeneratorFolder, check_base
from dnd_engine.generator.stage import Stage
from dnd_engine.lora.apply import LoRAHost
from dnd_engine.lora.layout import LoRALayout, LoRASpec
from dnd_engine.models.base import BaseModel, fingerprint
from dnd_engine.models.encoder import EncodedPrompts, PromptEncoder
from dnd_engine.plan.decoders import size_of
from dnd_engine.plan.shapes import shipped_shapes
from dnd_engine.prompts.split import split_prompt
from dnd_engine.tasks.folder import Example, Mode, load_tasks
from dnd_engine.tasks.wordings import instruction_digest
from dnd_engine.training import setup, through_imprint, trainer
from dnd_engine.training.batches import (
    Batch,
    ConditionPool,
    Sampler,
    TaskCondition,
    TaskPool,
    build_pools,
    encode_conditions,
    split_families,
)
from dnd_engine.training.checkpoint import naming_the_disk, write_tensors
from dnd_engine.training.examples import EncodedExample, encode_example, pack, response_losses
from dnd_engine.training.monitors import GroupNLL
from dnd_engine.training.pictures import draw_monitors
from dnd_engine.training.recipe import TrainRecipe
from dnd_engine.training.run_log import cut_log
from dnd_engine.training.trainer import CHECKPOINT, train
from dnd_engine.training.watch import RunFolder
from tests.disks import files_up_to, full_at, power_cuts
from tests.dnd_engine.letters import JOBS, logged, write_tasks
from tests.dnd_engine.tiny import (
    CPU,
    LAYOUT,
    bucket,
    byte_tokenizer,
    random_tokens,
    save_tiny,
    save_tiny_encoder,
    stock_answer,
    text_of,
)
from tests.present import present

pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast, but the target dtype is not")


# Examples, alone and packed

EXAMPLES = [
    Example("Say it twice.\n\nab", "abab"),
    Example("Say it twice.\n\nc", "cc"),
    Example("What is the capital?\n\nFrance, of course", "Paris"),
    Example("No blank line here", "ok"),
    Example("Count.\n\nx\n\ny", "2"),
]


def encoded(mode: Mode = "full") -> list[EncodedExample]:
    found = [encode_example(byte_tokenizer(), example, mode) for example in EXAMPLES]
    return [example for example in found if example is not None]


def test_an_example_is_a_chat_turn_and_its_answer_with_the_end_of_turn() -> None:
    tokenizer = byte_tokenizer()
    turns: dict[Mode, str] = {"full": "Count.\n\nx\n\ny", "bare": "x\n\ny"}
    for mode, content in turns.items():
        example = encode_example(tokenizer, EXAMPLES[4], mode)
        assert example is not None
        prompt, answer = example.ids[: example.start], example.ids[example.start :]
        assert text_of(tokenizer, answer) == "2<|im_end|>"
        assert text_of(tokenizer, prompt) == (
            f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"
        )


def test_a_prompt_without_a_blank_line_has_no_bare_input() -> None:
    assert encode_example(byte_tokenizer(), EXAMPLES[3], "bare") is None
    assert Example("Instruction only\n\n  ", "x").bare is None


def test_packed_losses_are_those_of_each_example_alone(base: BaseModel) -> None:
    """Parity with transformers' own loss, in float32 to 1e-4: positions, masks, owners."""
    full, bare = encoded("full"), encoded("bare")
    groups = [full[:3], [full[3]], [bare[2], bare[0], bare[3], full[4]]]
    found = response_losses(base.model, pack(groups))
    for number, example in enumerate(e for group in groups for e in group):
        ids = torch.tensor([example.ids])
        labels = ids.clone()
        labels[:, : example.start] = -100
        out = base.model(input_ids=ids, labels=labels)
        assert float(found.nll[number]) == pytest.approx(float(out.loss), abs=1e-4)
    assert len(found.nll) == 8


def test_packed_groups_wear_their_own_adapters(base: BaseModel) -> None:
    host = LoRAHost(base.model, LAYOUT)
    tokens = torch.stack([random_tokens(seed=1), random_tokens(seed=2)])
    full = encoded()
    with host.applying(host.fit(tokens)):
        together = response_losses(base.model, pack([full[:2], full[2:4]])).nll
    apart = []
    for group, examples in enumerate((full[:2], full[2:4])):
        with host.applying(host.fit(tokens[group : group + 1])):
            apart += [response_losses(base.model, pack([[e]])).nll[0] for e in examples]
    torch.testing.assert_close(together, torch.stack(apart), atol=1e-4, rtol=0)
    bare = response_losses(base.model, pack([full[:2], full[2:4]])).nll
    assert ((together - bare).abs() > 1e-2).all()


def test_exact_says_whether_greedy_generation_gives_the_answer(base: BaseModel) -> None:
    """An example whose answer is what the tiny model says, and one with a last token changed."""
    prompt = encoded()[0].ids[: encoded()[0].start]
    answer = stock_answer(base.model, prompt, max_new_tokens=5, min_new_tokens=5)
    said = EncodedExample((*prompt, *answer), len(prompt))
    other = (said.ids[-1] + 1) % 260
    missed = EncodedExample((*said.ids[:-1], other), len(prompt))
    found = response_losses(base.model, pack([[said, missed], [missed]]))
    assert found.exact.tolist() == [True, False, False]


def test_packing_shares_what_all_examples_begin_with() -> None:
    packed = pack([encoded()[:2], encoded()[2:4]])
    start = len(byte_tokenizer()("<|im_start|>user\n")["input_ids"])
    assert packed.num_examples == 4
    assert (packed.owner == 4).sum(dim=1).tolist() == [start, start]
    longest = max(
        start + sum(len(e.ids) - start for e in group) for group in (encoded()[:2], encoded()[2:4])
    )
    assert packed.ids.shape == (2, longest)


# Batches


def pools_of(recipe: TrainRecipe, validating: tuple[str, ...] = ()) -> tuple[TaskPool, ...]:
    return build_pools(load_tasks(recipe.tasks), byte_tokenizer(), recipe, validating)


def conditions_of(pools: tuple[TaskPool, ...], size: int = 8) -> ConditionPool:
    """Task i's prompts are filled with the number i, its mask is full."""
    return ConditionPool(
        tuple(
            TaskCondition(
                partial(torch.full, (size, 8, 384), float(i), dtype=torch.bfloat16),
                torch.ones(size, 8, dtype=torch.bool),
                torch.zeros(384),
            )
            for i in range(len(pools))
        )
    )


def sampler_of(recipe: TrainRecipe, pools: tuple[TaskPool, ...] | None = None) -> Sampler:
    pools = pools or pools_of(recipe)
    return Sampler(pools, conditions_of(pools), byte_tokenizer(), recipe)


def same(one: Batch, other: Batch) -> bool:
    assert one.examples is not None
    assert other.examples is not None
    return (
        one.tasks == other.tasks
        and torch.equal(one.examples.ids, other.examples.ids)
        and torch.equal(one.prompts, other.prompts)
    )


@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_a_batch_is_a_function_of_seed_and_step(recipe: TrainRecipe, shared: float) -> None:
    recipe = replace(recipe, shared_input_share=shared)
    sampler = sampler_of(recipe)
    random.seed(0)
    first = [sampler.draw(step) for step in range(12)]
    random.seed(1)
    again = [sampler_of(recipe).draw(step) for step in reversed(range(12))][::-1]
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert not any(same(a, b) for a, b in pairwise(first))
    reseeded = sampler_of(replace(recipe, seed=1))
    assert not any(same(a, reseeded.draw(step)) for step, a in enumerate(first))


def texts_of(batch: Batch) -> list[str]:
    """The examples of a batch, each with the prefix that it shares with the others."""
    packed = batch.examples
    assert packed is not None
    number = packed.num_examples
    prefix = packed.ids[0][packed.owner[0] == number]
    rows = [torch.cat([prefix, packed.ids[packed.owner == n]]) for n in range(number)]
    return byte_tokenizer().batch_decode([row.tolist() for row in rows])


def test_every_group_is_conditioned_on_its_own_task(recipe: TrainRecipe) -> None:
    recipe = replace(recipe, bare_share=0.0)
    sampler, pools = sampler_of(recipe), pools_of(recipe)
    seen = set()
    for step in range(20):
        batch = sampler.draw(step)
        for row, task in enumerate(batch.tasks):
            assert batch.prompts[row].unique().tolist() == [task]
            instruction = JOBS[pools[task].task.info.slug][0]
            mine = texts_of(batch)[2 * row : 2 * row + 2]
            assert all(f"user\n{instruction}\n\n" in text for text in mine)
            seen.add(task)
    assert seen == {0, 1, 2, 3}


def test_each_group_holds_examples_of_its_own_task(recipe: TrainRecipe) -> None:
    pools, sampler = pools_of(recipe), sampler_of(recipe)
    for step in range(10):
        for task, inputs in inputs_of(sampler.draw(step)).items():
            assert set(inputs) <= {example.bare for example in pools[task].examples}


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 80), (0.5, 40)])
def test_the_bare_share_is_the_share_of_rows_without_instruction(
    recipe: TrainRecipe, share: float, expected: int
) -> None:
    sampler = sampler_of(replace(recipe, bare_share=share))
    batches = [sampler.draw(step) for step in range(20)]
    bare = sum("\n\n" not in text for batch in batches for text in texts_of(batch))
    assert abs(bare - expected) <= (15 if share == 0.5 else 0)


def test_a_row_holds_as_many_examples_as_its_tokens_allow(recipe: TrainRecipe) -> None:
    """Within the budget, and nearly full; one example always fits."""
    recipe = replace(recipe, examples_per_task=50, row_tokens=300, bare_share=0.0)
    batches = [sampler_of(recipe).draw(step) for step in range(8)]
    for batch in batches:
        assert batch.examples is not None
        filled = (batch.examples.owner >= 0).sum(dim=1)
        assert int(filled.max()) <= 300
        assert int(filled.min()) > 300 - 80
    single = replace(recipe, row_tokens=120, max_tokens=120, examples_per_task=1)
    assert sampler_of(single).draw(0).num_examples == single.tasks_per_step


def test_examples_of_a_row_are_different(recipe: TrainRecipe) -> None:
    sampler = sampler_of(replace(recipe, examples_per_task=20, row_tokens=5000))
    for step in range(5):
        batch = sampler.draw(step)
        assert len(set(texts_of(batch))) == batch.num_examples == 40


def test_validation_examples_are_the_last_and_never_drawn(recipe: TrainRecipe) -> None:
    pools = pools_of(recipe)
    for pool in pools:
        held = [encode_example(byte_tokenizer(), e, "bare") for e in pool.task.train[-2:]]
        assert list(pool.validation) == held
        assert pool.examples == pool.task.train[:-2]
        assert set(pool.prompts) <= {e.prompt for e in pool.examples}
        assert len(pool.prompts) == recipe.pool_prompts


def test_inputs_that_are_held_back_are_not_drawn_in_other_words(
    recipe: TrainRecipe, tmp_path: Path
) -> None:
    """As bare inputs, they were the very sequences that validation reads."""
    folder = write_tasks(tmp_path / "again")
    for slug in JOBS:
        path = folder / "tasks" / slug / "train.jsonl"
        rows = path.read_text().splitlines()
        path.write_text("\n".join([*(row.replace(".", ", please.", 1) for row in rows), *rows]))
    pools = pools_of(replace(recipe, tasks=(folder,)))
    assert [len(pool.examples) for pool in pools] == [56] * 4
    for pool in pools:
        held = {e.bare for e in pool.task.train[-2:]}
        assert len(held) == len(pool.validation) == 2
        assert not held & {e.bare for e in pool.examples}
        assert not held & {Example(prompt, "").bare for prompt in pool.prompts}


def test_tasks_of_validation_families_are_never_drawn(recipe: TrainRecipe) -> None:
    pools = pools_of(recipe, ("last", "upper"))
    assert [pool.role for pool in pools] == ["train", "validation", "validation", "train"]
    sampler = sampler_of(recipe, pools)
    assert {task for step in range(30) for task in sampler.draw(step).tasks} == {0, 3}


def test_held_back_examples_can_be_conditioned_on_another_task(recipe: TrainRecipe) -> None:
    sampler = sampler_of(recipe)
    right = list(sampler.held_back([0, 1, 2, 3], [0, 1, 2, 3]))
    wrong = list(sampler.held_back([0, 1, 2, 3], [1, 2, 3, 0]))
    assert sorted(t for batch in right for t in batch.tasks) == [0, 1, 2, 3]
    for a, b in zip(right, wrong, strict=True):
        assert a.examples is not None
        assert b.examples is not None
        assert torch.equal(a.examples.ids, b.examples.ids)
        assert a.tasks == b.tasks
        assert [int(p.unique()) for p in a.prompts] == list(a.tasks)
        assert [int(p.unique()) for p in b.prompts] == [(t + 1) % 4 for t in b.tasks]


def shared_tasks(folder: Path) -> Path:
    """The four tasks on the very same words, and one on words of its own."""
    write_tasks(folder, (*JOBS, "alone"), words=dict.fromkeys(JOBS, 7))
    return folder


def inputs_of(batch: Batch) -> dict[int, list[str]]:
    """The bare inputs of each group, as the base sees them."""
    assert batch.examples is not None
    inputs: dict[int, list[str]] = {task: [] for task in batch.tasks}
    for number, text in enumerate(texts_of(batch)):
        group = int((batch.examples.owner == number).any(dim=1).nonzero())
        content = text.split("user\n")[1].split("<|im_end|>")[0]
        inputs[batch.tasks[group]].append(content.rpartition("\n\n")[2])
    return inputs


def test_steps_with_shared_inputs_show_all_tasks_the_same_inputs(
    recipe: TrainRecipe, tmp_path: Path
) -> None:
    """So that only the prompts can tell the tasks apart."""
    folder = shared_tasks(tmp_path / "d")
    recipe = replace(recipe, tasks=(folder,), shared_input_share=1.0, tasks_per_step=3)
    sampler = sampler_of(recipe)
    for step in range(30):
        batch = sampler.draw(step)
        assert len(set(batch.tasks) - {4}) == len(batch.tasks) == 3, "task 4 shares no input"
        assert len({tuple(texts) for texts in inputs_of(batch).values()}) == 1


def test_where_too_few_tasks_share_inputs_others_of_the_category_join(
    recipe: TrainRecipe, tmp_path: Path
) -> None:
    """On inputs of their own; a step is never smaller for it."""
    folder = write_tasks(tmp_path / "d", words={"first": 7, "last": 7, "upper": 8, "length": 9})
    words = (folder / "tasks" / "upper" / "train.jsonl").read_text()
    (folder / "tasks" / "upper" / "train.jsonl").write_text(words.replace("\\n\\n", "\\n\\nA"))
    recipe = replace(recipe, tasks=(folder,), shared_input_share=1.0, tasks_per_step=4)
    for step in range(10):
        assert sorted(sampler_of(recipe).draw(step).tasks) == [0, 1, 2, 3]
    nothing = write_tasks(tmp_path / "e", ("first", "alone"), words={"first": 1})
    recipe = replace(recipe, tasks=(nothing,))
    assert {len(sampler_of(recipe).draw(step).tasks) for step in range(5)} == {2}


def test_without_shared_input_steps_tasks_draw_inputs_of_their_own(
    recipe: TrainRecipe, tmp_path: Path
) -> None:
    recipe = replace(recipe, tasks=(shared_tasks(tmp_path / "d"),))
    sampler = sampler_of(recipe)
    for step in range(10):
        first, second = inputs_of(sampler.draw(step)).values()
        assert first != second


def test_prompts_repeat_only_when_a_task_has_too_few() -> None:
    tokens = torch.arange(3.0).reshape(3, 1, 1).to(torch.bfloat16)
    pool = ConditionPool(
        (TaskCondition(lambda: tokens, torch.ones(3, 1, dtype=torch.bool), torch.zeros(1)),)
    )
    drawn, _ = pool.draw(0, 3, random.Random(0))
    assert sorted(drawn.flatten().tolist()) == [0, 1, 2]
    drawn, mask = pool.draw(0, 7, random.Random(0))
    counts = [drawn.flatten().tolist().count(row) for row in range(3)]
    assert sum(counts) == 7
    assert max(counts) - min(counts) == 1
    assert mask.shape == (7, 1)


def test_channel_statistics_are_those_of_all_real_tokens() -> None:
    """They count the tasks asked for, and no padding."""
    generator = torch.Generator().manual_seed(0)
    tasks, real_tokens = [], []
    for size in (5, 3, 4):
        tokens = torch.randn(size, 4, 6, generator=generator).to(torch.bfloat16)
        mask = torch.rand(size, 4, generator=generator) < 0.7
        mask[:, 0] = True
        padded = torch.mul(tokens, mask[..., None])
        tasks.append(TaskCondition(partial(torch.clone, padded), mask, torch.zeros(1)))
        real_tokens.append(tokens[mask])
    pool = ConditionPool(tuple(tasks))
    real = torch.cat([real_tokens[0], real_tokens[2]]).float()
    mean, std = pool.statistics([0, 2])
    torch.testing.assert_close(mean, real.mean(dim=0))
    torch.testing.assert_close(std, real.std(dim=0))


def test_prompts_are_encoded_once_and_read_from_the_cache(
    recipe: TrainRecipe, encoder: PromptEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By any run on the same tasks; other prompts, lengths or readers are encoded again."""
    recipe = replace(recipe, cache=tmp_path / "cache")
    pools, asked, read = pools_of(recipe), [], encoder.encode

    def counting(texts: Sequence[str], length: int, **how: bool) -> EncodedPrompts:
        asked.append(tuple(texts))
        return read(texts, length, **how)

    monkeypatch.setattr(encoder, "encode", counting)

    def encode(pools: Any, identity: str, recipe: TrainRecipe) -> Any:
        return encode_conditions(pools, encoder, identity, recipe)

    first = encode(pools, "a", recipe)
    again = encode(pools, "a", replace(recipe, out=tmp_path / "other"))
    assert asked == [pool.prompts for pool in pools]
    for one, other in zip(first.tasks, again.tasks, strict=True):
        assert torch.equal(one.read(), other.read())
        assert torch.equal(one.mask, other.mask)
    encode(pools, "b", recipe)
    longer = replace(recipe, stages=((4, 6, 384), (16, 6, 32)))
    encode(pools, "a", longer)
    encode(pools_of(replace(recipe, seed=3)), "a", recipe)
    encode(pools, "a", replace(recipe, reads_tokens=8))
    assert len(asked) == 20
    for path in (tmp_path / "cache" / "conditions").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    encode(pools, "a", recipe)
    assert len(asked) == 24, "damaged files are made again"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's list of mappings")
def test_encoded_prompts_stay_out_of_memory(recipe: TrainRecipe, encoder: PromptEncoder) -> None:
    """Pages of 1,000 tasks that stay mapped would be the process's largest part."""
    conditions = encode_conditions(pools_of(recipe), encoder, "a", recipe)
    folder = str(recipe.cache_folder / "conditions")

    def mapped() -> list[str]:
        return [m.path for m in psutil.Process().memory_maps() if m.path.startswith(folder)]

    kept = conditions.tasks[0].read()
    assert mapped(), "they are mapped as long as somebody reads them"
    del kept
    conditions.statistics(range(len(conditions.tasks)))
    conditions.draw(0, 4, random.Random(0))
    assert mapped() == []


def test_encoded_prompts_that_vanish_during_a_run_are_named(
    recipe: TrainRecipe, encoder: PromptEncoder
) -> None:
    conditions = encode_conditions(pools_of(recipe), encoder, "a", recipe)
    shutil.rmtree(recipe.cache_folder)
    with pytest.raises(TrainingError, match=r"cannot be read now\. Continue with --resume"):
        conditions.draw(0, 4, random.Random(0))


def test_long_examples_and_tasks_that_lack_short_ones_are_left_out(recipe: TrainRecipe) -> None:
    pools = pools_of(recipe)
    encoded = [encode_example(byte_tokenizer(), e, "full") for p in pools for e in p.examples]
    lengths = {len(e.ids) for e in encoded if e is not None}
    assert len(lengths) > 1
    # "How many letters?" and "Write in capitals." make the shortest prompts of the four.
    cut = replace(recipe, max_tokens=min(lengths))
    kept = {pool.task.info.slug for pool in pools_of(cut)}
    assert kept
    assert kept < set(JOBS)
    sampler = sampler_of(replace(recipe, max_tokens=max(lengths) - 1, bare_share=0.0))
    for step in range(20):
        assert all(
            len(byte_tokenizer()(t)["input_ids"]) < max(lengths)
            for t in texts_of(sampler.draw(step))
        )
    assert pools_of(replace(recipe, validation_examples=15)) == ()


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.1, 1), (0.5, 2), (0.75, 3)])
def test_a_share_of_families_validates(recipe: TrainRecipe, share: float, count: int) -> None:
    tasks = load_tasks(recipe.tasks)
    chosen = split_families(tasks, share, 0)
    assert len(chosen) == count
    assert chosen == split_families(tasks[::-1], share, 0)
    assert chosen <= set(JOBS)


def test_validation_families_must_exist_and_leave_some_to_train_on(recipe: TrainRecipe) -> None:
    tasks = load_tasks(recipe.tasks)
    assert split_families(tasks, ("first", "last"), 0) == {"first", "last"}
    with pytest.raises(ConfigError, match=r"lost, more are no families .* names 4, such as first"):
        split_families(tasks, ("more", "first", "lost"), 0)
    with pytest.raises(ConfigError, match=r"takes all families; none is left to train on\."):
        split_families(tasks, tuple(JOBS), 0)


# Runs


@pytest.mark.parametrize("head", ["hyperconv", "mlp"])
def test_the_first_loss_is_exactly_the_bases(recipe: TrainRecipe, head: str) -> None:
    """Every generator starts as the base, so that its loss can only be earned."""
    options = {} if head == "hyperconv" else {"hidden": 16}
    run = trainer._Run(replace(recipe, head=head, head_options=options), resume=False)
    batch = run.sampler.draw(0)
    assert batch.examples is not None
    bare = response_losses(run.base.model, batch.examples).nll.mean()
    assert torch.equal(run._loss(batch), bare)
    assert run._step(0)["loss"] == round(float(bare), 5)
    assert not torch.equal(run._loss(batch), bare)


def test_each_step_gives_back_what_it_freed(
    recipe: TrainRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    monkeypatch.setattr(trainer, "give_back", lambda: given.append(1))
    run = trainer._Run(recipe, resume=False)
    for step in range(2):
        run._step(step)
    assert len(given) == 2


@pytest.mark.parametrize("saving", [{"accumulate": 3}, {"accumulate": 2}, {"recompute": True}])
def test_a_step_that_saves_memory_has_the_same_gradient(
    recipe: TrainRecipe, saving: dict[str, Any]
) -> None:
    recipe = replace(recipe, tasks_per_step=3)
    whole, other = (
        trainer._Run(replace(recipe, out=recipe.out / name, **changed), resume=False)
        for name, changed in (("whole", {}), ("other", saving))
    )
    kept = [bytes_kept(run, partial(run._step, 0)) for run in (whole, other)]
    assert kept[1] < 0.8 * kept[0]
    found, expected = other._step(1), whole._step(1)
    assert found["loss"] == pytest.approx(expected["loss"], abs=1e-4)
    for one, same in zip(other._parameters(), whole._parameters(), strict=True):
        torch.testing.assert_close(one.grad, same.grad, atol=1e-4, rtol=1e-3)


def bytes_kept(run: trainer._Run, step: Callable[[], object]) -> int:
    """Most that autograd keeps at once during a step, weights apart."""
    real, kept = run._loss, [0]
    models = (run.base.model, run.generator)
    weights = {p.untyped_storage().data_ptr() for model in models for p in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[-1] += tensor.nbytes
        return tensor

    def loss(batch: Any) -> Tensor:
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            return real(batch)

    with patch.object(run, "_loss", loss):
        step()
    return max(kept)


@pytest.mark.slow
def test_a_run_learns_and_leaves_a_generator_for_its_base(
    recipe: TrainRecipe, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "draw_monitors", draw_monitors)
    recipe = replace(
        recipe, steps=16, checkpoint_every=8, validate_every=8, monitor_every=4, threads=1
    )
    result = train(recipe)
    rows = logged(recipe)
    losses = [row["loss"] for row in rows]
    assert len(losses) == 16
    assert sum(losses[-4:]) / 4 < 0.8 * sum(losses[:4]) / 4
    assert [row["step"] for row in rows if "validation_loss" in row] == [8, 16]
    assert [row["step"] for row in rows if "delta_norm" in row] == [4, 8, 12, 16]
    assert (result.kept_step, result.validation_loss) == (16, rows[-1]["validation_loss"])
    folder = GeneratorFolder.open(result.generator)
    check_base(folder.config, "x", fingerprint(base))
    assert folder.config.features == (*recipe.stages, (64, 4, 32))
    assert [task.slug for task in folder.tasks] == list(JOBS)
    for task in folder.tasks:
        assert math.hypot(*task.centroid) == pytest.approx(1, abs=1e-2)
    training = folder.config.training
    assert training["data"][0] == {
        "task": "first",
        "family": "first",
        "licence": "MIT",
        "category": "letters",
    }
    assert training["recipe"]["tasks"] == ["letters"]
    assert not {"out", "cache"} & set(training["recipe"])
    assert training["result"]["validation_loss"] == result.validation_loss
    condition = torch.randn(1, 4, 8, 384)
    tokens = folder.load(CPU, torch.float32)(condition)
    assert not torch.equal(tokens, folder.load(CPU, torch.float32)(-condition))
    assert (recipe.out / "monitors.svg").stat().st_size > 10_000
    assert list(recipe.out.rglob(".aside-*")) == []


def test_a_multi_task_lora_ignores_its_condition(recipe: TrainRecipe) -> None:
    """And no time is spent on finding that wrong prompts make no difference."""
    result = train(replace(recipe, kind="multi_task_lora", steps=2))
    assert set(result.validation) == {"validation_loss", "validation_exact"}
    assert set(logged(recipe)[-1]) >= {"delta_norm"}
    assert "probe_loss" not in logged(recipe)[-1]
    generator = GeneratorFolder.open(result.generator).load(CPU, torch.float32)
    tokens = generator(torch.randn(2, 4, 8, 384))
    assert torch.equal(tokens[0], tokens[1])
    assert torch.equal(tokens[0], generator.shared)
    b_rows = [m for m in LAYOUT.matrices() if m.side == "B"]
    assert all(tokens[0, m.first_token : m.first_token + m.num_tokens].any() for m in b_rows)


@pytest.mark.slow
def test_a_teacher_is_added_to_its_generator_and_goes_on_from_there(recipe: TrainRecipe) -> None:
    made = train(replace(recipe, out=recipe.out / "made", steps=2)).generator
    (made / "reports").mkdir()
    (made / "reports" / "heldout.json").write_text("{}")
    teaching = replace(recipe, kind="teacher", warm_start=made, bare_share=0.0, steps=2)
    result = train(replace(teaching, out=recipe.out / "taught"))
    assert set(result.validation) == {"validation_loss", "validation_exact"}
    before, after = GeneratorFolder.open(made), GeneratorFolder.open(result.generator)
    assert after.sha256 == before.sha256, "the generator itself is not changed"
    assert not (after.path / "reports").exists(), "they measured the teacher before it"
    shared = after.load(CPU, torch.float32).shared
    teacher = after.load_teacher()
    assert teacher is not None
    assert not torch.equal(teacher.float(), shared)
    assert after.teacher["kind"] == "teacher"
    assert after.teacher["recipe"]["steps"] == 2
    assert before.seen("data") == after.seen("data"), "both learnt the same tasks here"
    again = train(replace(teaching, out=recipe.out / "again", warm_start=result.generator))
    more = GeneratorFolder.open(again.generator)
    assert more.card().count("## Teacher") == 1
    assert "- Training: 4 steps of" in more.card().partition("## Teacher")[2]
    assert more.teacher["steps_before"] == 2
    assert more.teacher_sha256 != after.teacher_sha256


@pytest.mark.slow
def test_a_teacher_is_trained_through_its_imprints(
    recipe: TrainRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = train(replace(recipe, out=recipe.out / "made", steps=2)).generator
    through = replace(
        recipe,
        out=recipe.out / "through",
        kind="teacher",
        objective="imprint",
        warm_start=made,
        bare_share=0.0,
        imprint_prompts=4,
        examples_per_task=2,
        steps=2,
    )
    # So that only what has passed through the regression can lower the loss.
    monkeypatch.setattr(through_imprint, "_INSTRUCTED_WEIGHT", 0.0)
    prepared = setup.prepare(through, recipe.out / "none")
    sampler = Sampler(prepared.pools, prepared.conditions, prepared.runtime.base.tokenizer, through)
    batch, shared = sampler.draw(0, with_examples=False), prepared.generator.shared
    optimizer = torch.optim.Adam([shared], lr=1e-2)
    losses = []
    for _ in range(8):
        loss = prepared.objective.loss(batch, shared.expand(len(batch.tasks), -1, -1, -1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    result = train(through)
    after = GeneratorFolder.open(result.generator)
    assert "through imprints of the teacher's answers" in after.card()
    train(replace(through, out=recipe.out / "stopped", steps=1))
    resumed = train(replace(through, out=recipe.out / "stopped"), resume=True)
    assert GeneratorFolder.open(resumed.generator).teacher_sha256 == after.teacher_sha256


@pytest.mark.slow
def test_a_teacher_may_be_half_of_what_it_started_from(recipe: TrainRecipe) -> None:
    made = train(replace(recipe, out=recipe.out / "made", steps=2)).generator
    start = GeneratorFolder.open(made).load(CPU, torch.float32).shared.detach()
    teaching = replace(recipe, kind="teacher", warm_start=made, bare_share=0.0, steps=2)
    whole, half = (
        present(
            GeneratorFolder.open(
                train(replace(teaching, out=recipe.out / f"{share}", start_share=share)).generator
            ).load_teacher()
        ).float()
        for share in (0.0, 0.5)
    )
    assert not torch.equal(whole, half)
    torch.testing.assert_close(half, (start + whole) / 2, atol=1e-3, rtol=0.02)


@pytest.mark.slow
def test_a_teacher_may_have_a_higher_rank_than_its_generator(recipe: TrainRecipe) -> None:
    made = train(replace(recipe, out=recipe.out / "made", steps=2)).generator
    teaching = replace(recipe, kind="teacher", warm_start=made, bare_share=0.0, steps=2)
    higher = replace(teaching, r=recipe.r + 2, lora_alpha=recipe.lora_alpha * 2)
    with pytest.raises(
        TrainingError, match=r"needs rank 4 or more.*Set `r: 6` and `lora_alpha: 12`"
    ):
        train(replace(higher, out=recipe.out / "scaled"))
    assert not (recipe.out / "scaled" / "recipe.json").exists(), "refused before any work"
    higher = replace(higher, lora_alpha=recipe.lora_alpha * (recipe.r + 2) // recipe.r)
    prepared = setup.prepare(replace(higher, out=recipe.out / "prepared"), recipe.out / "none")
    start = present(prepared.teacher_start)
    rows = recipe.r
    shared = GeneratorFolder.open(made).load(CPU, torch.float32).shared.detach()
    torch.testing.assert_close(start[:, :rows], shared)
    for matrix in prepared.generator.config.layout.matrices():
        new = start[matrix.first_token : matrix.first_token + matrix.num_tokens, rows:]
        assert new.any() == (matrix.side == "A"), "new rows add nothing until they are trained"
    result = train(replace(higher, out=recipe.out / "higher"))
    folder = GeneratorFolder.open(result.generator)
    assert folder.config.layout.spec.r == rows
    assert present(folder.load_teacher()).shape[1] == rows + 2
    lower = replace(teaching, out=recipe.out / "lower", warm_start=result.generator)
    with pytest.raises(
        TrainingError, match=r"needs rank 6 or more.*Set `r: 6` and `lora_alpha: 12`"
    ):
        train(lower)


@pytest.mark.slow
def test_only_upper_layers_are_adapted_where_a_recipe_says_so(
    recipe: TrainRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below, a step needs no gradient, and the adapter of the generator has zeros."""
    upper = replace(recipe, first_layer=1, steps=2)
    run = trainer._Run(upper, resume=False)
    needs: list[bool] = []
    for layer in run.base.model.get_submodule("model.layers").children():
        layer.register_forward_hook(lambda _, __, output: needs.append(output.requires_grad))
    run._loss(run.sampler.draw(0))
    assert needs == [False, True]
    result = train(upper, resume=True)
    assert "from layer 1 on\n" in (result.generator / "README.md").read_text()
    monkeypatch.setattr(engine_module, "best_dtype", lambda device: torch.float32)
    names = EngineConfig(
        base=recipe.base, encoder=recipe.encoder, generator=result.generator, device="cpu"
    )
    engine = Engine.load(names)
    prompts = [f"Give the first letter.\n\n{word}" for word in ("kal", "ten", "pix", "mol")]
    made = engine.generate([bucket("first", prompts)], imprinted=False)
    assert made.layout == LAYOUT
    for key, value in made.state.items():
        assert value.any() == ("layers.1." in key)
    engine.save(made, recipe.out / "upper.zip")  # stock PEFT computes the same
    assert engine.thumbprint(made)


@pytest.mark.slow
def test_layers_that_do_not_fit_a_run_are_refused(recipe: TrainRecipe) -> None:
    with pytest.raises(LayoutError, match=r"no layer from 2 on .* layers are 0 to 1\."):
        train(replace(recipe, first_layer=2))
    made = train(replace(recipe, out=recipe.out / "made", steps=1, first_layer=1)).generator
    teaching = replace(recipe, kind="teacher", warm_start=made, bare_share=0.0, steps=1)
    with pytest.raises(
        TrainingError, match=r"7 from layer 1 on, .* 14 from layer 0 on\. Set `first_layer: 1`\."
    ):
        train(replace(teaching, out=recipe.out / "whole"))
    train(replace(teaching, out=recipe.out / "upper", first_layer=1))


@pytest.mark.slow
def test_a_checkpoint_that_is_older_than_a_setting_had_its_default(
    recipe: TrainRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = TrainRecipe.identity

    def older(self: TrainRecipe) -> dict[str, Any]:
        return {k: v for k, v in identity(self).items() if k != "first_layer"}

    with monkeypatch.context() as patch:
        patch.setattr(TrainRecipe, "identity", older)
        train(replace(recipe, steps=1))
    with pytest.raises(TrainingError, match=r"`first_layer` was 0, is 1"):
        train(replace(recipe, steps=2, first_layer=1), resume=True)
    assert train(replace(recipe, steps=2), resume=True).steps == 2


@pytest.mark.slow
def test_a_run_is_continued_on_a_base_that_has_moved(
    recipe: TrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the checkpoint is of an earlier version, which held the folder as it was typed."""
    identity = TrainRecipe.identity

    def typed(self: TrainRecipe) -> dict[str, Any]:
        return {**identity(self), "base": self.base}

    with monkeypatch.context() as patch:
        patch.setattr(TrainRecipe, "identity", typed)
        train(replace(recipe, steps=1))
    base = shutil.copytree(recipe.base, tmp_path / "moved")
    for steps, name in ((2, str(base)), (3, "moved")):
        monkeypatch.chdir(tmp_path)
        assert train(replace(recipe, steps=steps, base=name), resume=True).steps == steps
    other = save_tiny(tmp_path / "other", seed=1)
    with pytest.raises(TrainingError, match=r"made with other contents of: base \("):
        train(replace(recipe, steps=4, base=str(other)), resume=True)


def test_what_a_run_has_written_needs_no_room_when_it_is_continued(
    recipe: TrainRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(replace(recipe, steps=1))
    weights = GeneratorFolder.open(recipe.out / "generator").load(CPU, torch.float32)
    state = 4 * sum(value.numel() for value in weights.state_dict().values())
    monkeypatch.setattr(setup, "_SPARE_BYTES", 0)
    # Of the four states that are there, each is written beside the old one before it replaces it.
    room = SimpleNamespace(free=4.5 * state)
    monkeypatch.setattr("shutil.disk_usage", lambda path: room)
    train(replace(recipe, steps=2), resume=True)
    room.free = 3.5 * state
    with pytest.raises(TrainingError, match=r"GB free, the run needs about"):
        train(replace(recipe, steps=3), resume=True)


def killed_at(step: int, monkeypatch: pytest.MonkeyPatch, recipe: TrainRecipe) -> None:
    whole_step = trainer._Run._step

    def dying(run: trainer._Run, number: int) -> dict[str, Any]:
        if number == step:
            raise MemoryError
        return whole_step(run, number)

    with monkeypatch.context() as patch:
        patch.setattr(trainer._Run, "_step", dying)
        with pytest.raises(MemoryError):
            train(recipe)


def digests(folder: Path, *names: str) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("head", ["hyperconv", "mlp"])
def test_a_killed_run_continues_to_the_very_same_bytes(
    recipe: TrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str
) -> None:
    """On a CPU: parameters, optimizer, the best weights, the generator, the log."""
    options = {} if head == "hyperconv" else {"hidden": 16}
    recipe = replace(
        recipe,
        head=head,
        head_options=options,
        validation_families=("upper",),
        shared_input_share=0.5,
        monitor_every=2,
        steps=8,
    )
    whole = replace(recipe, out=tmp_path / "whole")
    train(whole)
    killed_at(5, monkeypatch, recipe)
    assert len(logged(recipe)) == 5
    torch.manual_seed(99)
    train(recipe, resume=True)
    names = (
        *("checkpoint.safetensors", "best.safetensors", "generator/model.safetensors"),
        *("generator/config.json", "generator/tasks.json", "generator/README.md"),
    )
    assert digests(recipe.out, *names) == digests(whole.out, *names)
    state = load_file(recipe.out / "checkpoint.safetensors")
    assert any(key.startswith("optimizer.") and key.endswith("exp_avg_sq") for key in state)

    def timeless(run: TrainRecipe) -> list[dict[str, Any]]:
        return [{k: v for k, v in r.items() if "seconds" not in k} for r in logged(run)]

    assert timeless(recipe) == timeless(whole)


@pytest.mark.slow
def test_ctrl_c_finishes_the_step_and_the_run_can_go_on(
    recipe: TrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(recipe, checkpoint_every=100, validate_every=100, steps=4)
    whole = replace(recipe, out=tmp_path / "whole")
    train(whole)
    whole_step = trainer._Run._step

    def interrupted(run: trainer._Run, number: int) -> dict[str, Any]:
        if number == 1:
            signal.raise_signal(signal.SIGINT)
        return whole_step(run, number)

    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(trainer._Run, "_step", interrupted)
        with pytest.raises(
            KeyboardInterrupt, match=r"Stopped after step 2 of 4\. A checkpoint is in `.*`; contin"
        ):
            train(recipe)
    assert signal.getsignal(signal.SIGINT) is handler
    assert [row["step"] for row in logged(recipe)] == [1, 2]
    train(recipe, resume=True)
    name = "checkpoint.safetensors"
    assert digests(recipe.out, name) == digests(whole.out, name)


@pytest.mark.slow
def test_a_run_killed_before_its_first_checkpoint_starts_anew(
    recipe: TrainRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(recipe, steps=2)
    killed_at(1, monkeypatch, recipe)
    train(recipe, resume=True)
    assert [row["step"] for row in logged(recipe)] == [1, 2]


def test_two_calls_do_not_write_into_one_run_folder(recipe: TrainRecipe) -> None:
    with (
        only_call_on(recipe.out),
        pytest.raises(ConfigError, match=r"another call is writing to `.*`\. Choose another --out"),
    ):
        train(recipe)
    assert {path.name for path in recipe.out.iterdir()} == {CALL_LOCK}


@pytest.mark.slow
def test_a_run_folder_is_not_trained_over(recipe: TrainRecipe) -> None:
    recipe = replace(recipe, steps=1)
    train(recipe)
    with pytest.raises(TrainingError, match=r"already holds a run\. Continue it with --resume, or"):
        train(recipe)
    (recipe.out / CHECKPOINT).rename(recipe.out / "away")
    for resume in (False, True):
        with pytest.raises(TrainingError, match=r"folder `generator` and no checkpoint"):
            train(recipe, resume=resume)
    (recipe.out / "away").rename(recipe.out / CHECKPOINT)
    with pytest.raises(
        TrainingError,
        match=r"belongs to another recipe: `clip_norm` was 1\.0, is 2\.0; `seed` was 0, is 5\. Re",
    ):
        train(replace(recipe, seed=5, clip_norm=2.0), resume=True)
    longer_recipe = replace(recipe, steps=2)
    assert train(longer_recipe, resume=True).steps == 2
    with pytest.raises(TrainingError, match=r"has already done 2 steps, more than the 1 asked for"):
        train(recipe, resume=True)
    seen = RunFolder(recipe.out).look()
    assert (seen.kind, seen.state, seen.done, seen.total) == ("generator", "finished", 2, 2)
    assert seen.recipe == json.loads(json.dumps(longer_recipe.to_json()))


def test_a_collection_is_not_trained_into(recipe: TrainRecipe) -> None:
    """Who watches the folder would see the collection, and no picture could be drawn."""
    recipe.out.mkdir(parents=True)
    (recipe.out / "manifest.json").write_text("{}")
    with pytest.raises(
        TrainingError, match=r"holds `manifest\.json`, .* Train into another folder"
    ):
        train(replace(recipe, steps=1))
    assert {path.name for path in recipe.out.iterdir()} - {CALL_LOCK} == {"manifest.json"}


@pytest.mark.slow
def test_a_run_is_not_continued_on_changed_data(
    recipe: TrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One changed answer is enough; the file names are the same."""
    folder = write_tasks(tmp_path / "letters")
    recipe = replace(recipe, tasks=(folder,), steps=1)
    train(recipe)
    path = folder / "tasks" / "first" / "train.jsonl"
    path.write_text(path.read_text().replace('"response": "k"', '"response": "K"', 1))
    monkeypatch.setattr(setup, "encode_conditions", None)  # nothing slow is reached
    with pytest.raises(
        TrainingError, match=r"was made with other contents of: tasks \(their SHA-256 differ\)\. B"
    ):
        train(replace(recipe, steps=2), resume=True)


def test_a_damaged_checkpoint_is_refused(recipe: TrainRecipe) -> None:
    recipe.out.mkdir()
    (recipe.out / "checkpoint.safetensors").write_bytes(b"half")
    with pytest.raises(TrainingError, match=r"checkpoint `.*` cannot be read: "):
        train(recipe, resume=True)


@pytest.mark.parametrize("damage", ["cut", "foreign", "missing"])
def test_best_weights_that_are_damaged_are_looked_for_again(
    recipe: TrainRecipe, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    """The checkpoint beside them is sound."""
    train(replace(recipe, steps=1))
    best = recipe.out / "best.safetensors"
    if damage == "cut":
        best.write_bytes(best.read_bytes()[:100])
    elif damage == "foreign":
        save_file({"x": torch.zeros(1)}, best)
    else:
        best.unlink()
    assert train(replace(recipe, steps=2), resume=True).kept_step == 2
    assert "looking for the best weights again" in caplog.text


def test_a_picture_that_cannot_be_drawn_ends_no_training(
    recipe: TrainRecipe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trainer, "draw_monitors", draw_monitors)
    train(replace(recipe, steps=1))
    (recipe.out / "generator" / "config.json").write_text("{")
    assert train(replace(recipe, steps=2), resume=True).steps == 2
    assert "were not drawn" in caplog.text
    GeneratorFolder.open(recipe.out / "generator")


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_before_it_spoils_the_checkpoint(
    recipe: TrainRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(replace(recipe, steps=2))
    before = (recipe.out / "checkpoint.safetensors").read_bytes()
    monkeypatch.setattr(
        trainer._Run, "_loss", lambda run, batch: run.generator.shared.sum() * float("nan")
    )
    with pytest.raises(
        TrainingError, match=r"step 2: loss nan, .* checkpoint in `.*` is still sound; lower the le"
    ):
        train(recipe, resume=True)
    assert (recipe.out / "checkpoint.safetensors").read_bytes() == before
    with pytest.raises(TrainingError, match=r"step 0: loss nan, .* There is no checkpoint in"):
        train(replace(recipe, out=recipe.out.with_name("new")))


def test_a_disk_that_refuses_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    write_tensors(path, {"a": torch.ones(10)}, {"step": "1"})
    with (
        pytest.raises(
            TrainingError,
            match=r"checkpoint\.safetensors` cannot be written: .*too large.*make room",
        ),
        files_up_to(1000),
    ):
        write_tensors(path, {"a": torch.ones(10_000)}, {"step": "2"})
    assert torch.equal(load_file(path)["a"], torch.ones(10))
    assert list(tmp_path.iterdir()) == [path]


ENDS = ("checkpoint.safetensors", "best.safetensors", "generator/model.safetensors")


@pytest.fixture
def short(recipe: TrainRecipe, tmp_path: Path) -> TrainRecipe:
    """Two steps with a checkpoint after each, trained to the end in `whole`."""
    short = replace(recipe, steps=2, validate_every=1, checkpoint_every=1)
    train(replace(short, out=tmp_path / "whole"))
    return short


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_flush_loses_nothing(short: TrainRecipe, tmp_path: Path) -> None:
    with full_at(10**6) as flushed:
        train(replace(short, out=tmp_path / "counted"))
    assert len(flushed) >= 6
    for number in range(len(flushed)):
        run = replace(short, out=tmp_path / f"full-{number}")
        with full_at(number), pytest.raises(TrainingError, match=r"No space left .*--resume"):
            train(run)
        train(run, resume=True)
        assert digests(run.out, *ENDS) == digests(tmp_path / "whole", *ENDS)


def test_a_log_that_cannot_grow_ends_the_run_in_words(recipe: TrainRecipe) -> None:
    recipe = replace(recipe, steps=2)
    recipe.out.mkdir()
    (recipe.out / "log.jsonl").write_text('{"step": 0, "loss": 1}'.ljust(2_999_999) + "\n")
    with (
        pytest.raises(TrainingError, match=r"run` ended: File too large\. .*--resume"),
        files_up_to(3_000_000),
    ):
        train(recipe, resume=True)


@pytest.mark.slow
def test_a_power_cut_at_any_moment_leaves_a_run_that_goes_on(
    short: TrainRecipe, tmp_path: Path
) -> None:
    run = replace(short, out=tmp_path / "run")
    with power_cuts(run.out, tmp_path / "cuts") as cuts:
        train(run)
    assert len(cuts) >= 6
    for cut in cuts:
        train(replace(run, out=cut), resume=True)
        assert digests(cut, *ENDS) == digests(tmp_path / "whole", *ENDS)
        assert [row["step"] for row in logged(replace(run, out=cut))] == [1, 2]


def test_a_disk_without_room_is_refused_before_anything_is_encoded(
    recipe: TrainRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "encode_conditions", None)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100_000_000))
    with pytest.raises(
        TrainingError,
        match=r"`.*run` has 0\.1 GB free, the run needs about 0\.\d GB there; .*Make room, name an",
    ):
        train(recipe)


def test_sizes_that_do_not_fit_into_memory_are_refused_before_they_are_built(
    recipe: TrainRecipe,
) -> None:
    """Building them ended in a raw error of the allocator."""
    with pytest.raises(AssetError, match=r"training the generator needs about [\d.]+ GB of memory"):
        train(replace(recipe, stages=((4, 8, 384), (16, 60_000, 60_000), (16, 60_000, 60_000))))


@pytest.mark.slow
def test_what_a_cache_lacks_needs_room_on_its_own_disk(
    recipe: TrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache that is there already need not hold this run's prompts."""
    recipe = replace(recipe, steps=1, cache=tmp_path / "cache")
    recipe.cache_folder.mkdir()
    encoded = 4 * 8 * 8 * 384 * 2  # tasks, prompts, length, width, bytes
    room = {"run": 10**12, "cache": encoded - 1}
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=room[path.name]))
        patch.setattr(setup, "_disk", lambda folder: list(room).index(folder.name))
        with pytest.raises(TrainingError, match=r"the disk of `.*cache` has 0\.0 GB free"):
            train(recipe)
        room["cache"] = encoded
        train(recipe)
        room["cache"] = 0
        train(replace(recipe, steps=2), resume=True)


def test_a_log_is_cut_by_its_steps(tmp_path: Path) -> None:
    """Steps that are done again go, and half a line; the first line need not be of step 1."""
    path = tmp_path / "log.jsonl"
    lines = [f'{{"step": {n}, "loss": 1}}\n' for n in (2, 3, 4)]
    path.write_text("".join(lines) + '{"st')
    cut_log(path, 3)
    assert path.read_text() == "".join(lines[:2])
    assert list(tmp_path.iterdir()) == [path]


def test_a_log_survives_a_disk_that_refuses_to_cut_it(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    text = "".join(f'{{"step": {n}, "loss": 1}}\n' for n in range(1, 401))
    path.write_text(text)
    with pytest.raises(OSError, match="File too large"), files_up_to(1000):
        cut_log(path, 300)
    assert path.read_text() == text


def test_one_task_is_not_enough(recipe: TrainRecipe, tmp_path: Path) -> None:
    alone = write_tasks(tmp_path / "alone", ("first",))
    with pytest.raises(
        TrainingError, match=r"only 1 task\(s\) of .* of at most 120 tokens; training"
    ):
        train(replace(recipe, tasks=(alone,)))


def test_stages_that_do_not_fit_the_encoder_are_refused(recipe: TrainRecipe) -> None:
    with pytest.raises(
        TrainingError,
        match=r"`stages` begins with \[4, 8, 100\], but the encoder .*MiniLM-L6-v2 gives embeddin"
        r"gs 384 wide\. Let `stages` begin with \[4, 8, 384\]\.",
    ):
        train(replace(recipe, stages=((4, 8, 100), (16, 6, 32))))


def test_tokens_that_the_encoder_cannot_read_in_whole_pieces_are_refused(
    recipe: TrainRecipe,
) -> None:
    with pytest.raises(
        TrainingError,
        match=r"`reads_tokens` is 1000, and the encoder .*L6-v2 reads 512 tokens at once\. Set it "
        r"to at most 512, or to a multiple of that\.",
    ):
        train(replace(recipe, reads_tokens=1000))
    # Without a projection, such a generator could not be loaded.
    with pytest.raises(
        TrainingError,
        match=r"`stages` begins with 1000 tokens of a prompt, but the encoder .*L6-v2 reads at "
        r"most 512\. Shorten them, or set `reads_tokens`\.",
    ):
        train(replace(recipe, stages=((4, 1000, 384), (16, 6, 32))))


@pytest.mark.slow
def test_a_generator_that_projects_its_prompts_is_trained(
    recipe: TrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From exactly the base, in two runs, to a folder that synthesis writes the same adapter with.

    Prompts of some 25 letters are read in two pieces of 16, and the projection reads 96.
    """
    monkeypatch.setattr(setup, "PromptEncoder", PromptEncoder)
    encoder = save_tiny_encoder(tmp_path / "encoder", longest=16)
    stages = ((4, 12, 16), (16, 6, 32))
    recipe = replace(recipe, encoder=str(encoder), stages=stages, reads_tokens=96)
    run = trainer._Run(recipe, resume=False)
    batch = run.sampler.draw(0)
    assert 16 < batch.prompts.shape[2] < 32, "only what there is of tokens is kept"
    assert torch.equal(
        run._loss(batch), response_losses(run.base.model, present(batch.examples)).nll.mean()
    )
    start = {name: value.clone() for name, value in run.generator.state_dict().items()}
    train(recipe)
    result = train(replace(recipe, steps=8), resume=True)
    assert [row["step"] for row in logged(recipe)] == list(range(1, 9))

    folder = GeneratorFolder.open(result.generator)
    assert folder.config.reads_tokens == 96
    generator = folder.load(CPU, torch.float32)
    learnt = generator.state_dict()["projection.down_proj.weight"]
    assert not torch.equal(learnt, start["projection.down_proj.weight"].bfloat16().float())
    monkeypatch.setattr(engine_module, "best_dtype", lambda device: torch.float32)
    names = EngineConfig(
        base=recipe.base, encoder=recipe.encoder, generator=folder.path, device="cpu"
    )
    prompts = [f"Give the first letter.\n\n{word}" for word in ("kal", "ten", "pix", "mol")]
    made = Engine.load(names).generate([bucket("first", prompts)], imprinted=False)
    whole = PromptEncoder(encoder, CPU, torch.float32).encode(sorted(prompts), 96)
    condition = generator.standardise(whole.tokens, whole.mask)
    expected = generator(condition[None])[0]
    torch.testing.assert_close(made.tokens.float(), expected, atol=1e-4, rtol=0.01)


@pytest.mark.slow
def test_formats_multiply_tasks_and_families_stay_whole(recipe: TrainRecipe) -> None:
    """Variants of a validation family validate too, and data are listed once a task."""
    recipe = replace(recipe, format_variants=2, validation_families=("upper",), steps=2)
    run = trainer._Run(recipe, resume=False)
    for pool in run.pools:
        assert (pool.role == "validation") == (pool.task.info.family == "upper")
    formats = {pool.task.info.answer_format for pool in run.pools}
    assert len(formats) > 2
    assert len(run.pools) > 6
    result = run.finish()
    folder = GeneratorFolder.open(result.generator)
    training = folder.config.training
    assert [row["task"] for row in training["data"]] == ["first", "last", "length"]
    assert [row["task"] for row in training["validation_data"]] == ["upper"]
    assert [task.slug for task in folder.tasks] == ["first", "last", "length"]
    assert training["result"]["variants"] > training["result"]["tasks"] == 3
    trained = [pool.task.info for pool in run.pools if pool.role == "train"]
    assert training["variants"] == sorted(info.slug for info in trained if info.answer_format)
    assert training["result"]["variants"] == 3 + len(training["variants"])


def test_classification_tasks_are_trained_with_other_labels_too(
    recipe: TrainRecipe, tmp_path: Path
) -> None:
    folder = write_tasks(tmp_path / "labels", ("upper", "vowel"))
    run = trainer._Run(replace(recipe, tasks=(folder,), label_variants=2, steps=1), resume=False)
    slugs = ["upper", "vowel", "vowel~labels-1", "vowel~labels-2"]
    assert [pool.task.info.slug for pool in run.pools] == slugs
    training = GeneratorFolder.open(run.finish().generator).config.training
    assert [row["task"] for row in training["data"]] == ["upper", "vowel"]
    assert training["variants"] == slugs[2:]


def test_examples_ask_in_other_wordings_too(recipe: TrainRecipe, tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "worded", ("upper", "vowel"))
    task = next(t for t in load_tasks(folder) if t.info.slug == "upper")
    own = split_prompt(task.train[0].prompt).instruction
    row = {
        "slug": "upper",
        "instruction_sha256": instruction_digest(own),
        "wordings": ["In capitals:"],
    }
    wordings = tmp_path / "wordings.jsonl"
    wordings.write_text(json.dumps(row))
    plain = replace(recipe, tasks=(folder,), steps=1)
    worded = replace(plain, wordings=wordings, out=tmp_path / "other")

    before, run = (trainer._Run(r, resume=False) for r in (plain, worded))

    asked = {split_prompt(e.prompt).instruction for e in run.pools[0].examples}
    assert asked == {own, "In capitals:"}
    assert run.pools[1].examples == before.pools[1].examples
    # Other contents are another run; a path is none.
    assert run.prepared.hashes["tasks"] != before.prepared.hashes["tasks"]
    assert worded.to_json()["wordings"] == "wordings.jsonl"


@pytest.mark.real
def test_the_embedded_base_starts_exact_and_learns(tasks_folder: Path, tmp_path: Path) -> None:
    """In the arithmetic of this machine, bfloat16 where it has it."""
    recipe = TrainRecipe(
        tasks=(tasks_folder,),
        out=tmp_path / "run",
        stages=((4, 8, 384), (16, 4, 192)),
        steps=6,
        tasks_per_step=4,
        examples_per_task=4,
        pool_prompts=8,
        validation_examples=2,
        warmup_steps=1,
    )
    run = trainer._Run(recipe, resume=False)
    batch = run.sampler.draw(0)
    assert batch.examples is not None
    packed = batch.examples.to(run.base.device)
    assert torch.equal(run._loss(batch), response_losses(run.base.model, packed).nll.mean())
    run.finish()
    losses = [row["loss"] for row in logged(recipe)]
    assert losses[-1] < losses[0]
    assert logged(recipe)[-1]["between_task_share"] > 0


# Early stopping


def measured(losses: list[float]) -> Callable[..., list[GroupNLL]]:
    """Validation losses by script, the same for all tasks and prompts."""
    script, now = iter(losses), 9.0

    def measure(run: trainer._Run, tasks: Sequence[int], sources: Sequence[int]) -> list[GroupNLL]:
        nonlocal now
        if tasks == sources and all(run.pools[i].role == "validation" for i in tasks):
            now = next(script)
        return [GroupNLL(now, 0.0) for _ in tasks]

    return measure


@pytest.mark.slow
def test_patience_ends_a_run_and_the_best_weights_are_kept(
    recipe: TrainRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the loss on validation families, in spite of the seen tasks'."""
    recipe = replace(
        recipe,
        validation_families=("upper",),
        steps=50,
        validate_every=2,
        monitor_every=1000,
        patience=3,
    )
    monkeypatch.setattr(trainer._Run, "_measure", measured([5, 4, 4.5, 4.2, 4.1, 1, 1, 1]))
    kept: dict[int, dict[str, Any]] = {}
    save = trainer._Run._save

    def saving(run: trainer._Run) -> None:
        save(run)
        kept[run.done] = load_file(run.checkpoint)

    monkeypatch.setattr(trainer._Run, "_save", saving)
    result = train(recipe)
    assert (result.steps, result.kept_step, result.stopped_early) == (10, 4, True)
    assert result.validation["families_loss"] == 4
    expected = {k[7:]: v for k, v in kept[4].items() if k.startswith("module.")}
    best = load_file(recipe.out / "best.safetensors")
    assert best.keys() == expected.keys()
    assert all(torch.equal(best[k], expected[k]) for k in best)
    folder = GeneratorFolder.open(result.generator)
    shared = folder.load(CPU, torch.float32).shared
    assert torch.equal(shared, best["shared"].to(torch.bfloat16).float())
    again = train(recipe, resume=True)
    assert (again.steps, again.kept_step) == (10, 4), "a finished run is not trained on"
    assert "weights of step 4, the best validation, stopped early" in (
        result.generator / "README.md"
    ).read_text().replace("\n", " ")


@pytest.mark.slow
def test_without_patience_a_run_goes_to_its_end_and_keeps_its_last_weights(
    recipe: TrainRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(recipe, validation_families=("upper",), validate_every=1, monitor_every=1000)
    monkeypatch.setattr(trainer._Run, "_measure", measured([1, *range(2, 9)]))
    result = train(recipe)
    assert (result.steps, result.kept_step, result.stopped_early) == (6, 6, False)
    last = load_file(recipe.out / "checkpoint.safetensors")["module.shared"]
    shared = GeneratorFolder.open(result.generator).load(CPU, torch.float32).shared
    assert torch.equal(shared, last.to(torch.bfloat16).float())


@pytest.mark.slow
def test_a_collapsed_run_says_so(
    recipe: TrainRecipe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All adapters alike: the loss falls, the prompts make no difference."""
    recipe = replace(recipe, steps=4, monitor_every=1)
    tokens = trainer._Run._tokens
    monkeypatch.setattr(
        trainer._Run,
        "_tokens",
        lambda run, prompts, mask: tokens(run, torch.zeros_like(prompts), mask),
    )
    train(recipe)
    assert "COLLAPSED at step 3" in caplog.text
    assert "COLLAPSED at step 2" not in caplog.text, "warming up"
    assert [row.get("warning") for row in logged(recipe)] == [None, None, "collapsed", "collapsed"]


@pytest.mark.slow
def test_a_sound_run_does_not_look_collapsed(recipe: TrainRecipe) -> None:
    recipe = replace(recipe, steps=10, monitor_every=10, validate_every=10, decoder_lr=0.05)
    train(recipe)
    assert not any("warning" in row for row in logged(recipe))
    assert logged(recipe)[-1]["between_task_share"] > 1e-3


# The command


def dnd_train(*arguments: object) -> Any:
    app = typer.Typer()
    app.command()(train_command)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def write_recipe(recipe: TrainRecipe, path: Path, *left: str) -> Path:
    models = {"base": recipe.base, "encoder": recipe.encoder}  # their folders, which no file tells
    whole = {**recipe.to_json(), **models}
    values = {k: v for k, v in whole.items() if k not in left and v is not None}
    path.write_text(json.dumps(values))  # JSON is YAML
    return path


@pytest.mark.slow
def test_the_command_trains_with_flags_over_the_recipe(recipe: TrainRecipe, tmp_path: Path) -> None:
    path = write_recipe(recipe, tmp_path / "r.yaml", "tasks")
    more = write_tasks(tmp_path / "more", ("alone",))
    folders = ("--tasks", recipe.tasks[0], "--tasks", more)
    found = dnd_train(path, *folders, "--out", recipe.out, "--steps", 2, "--json")
    assert found.exit_code == 0, found.output
    values = json.loads(found.stdout)
    assert values["steps"] == values["kept_step"] == 2
    assert values["validation"]["validation_loss"] == values["validation_loss"]
    training = GeneratorFolder.open(Path(values["generator"])).config.training
    assert training["recipe"]["tasks"] == ["letters", "more"]
    assert len(training["data"]) == 5
    again = dnd_train(path, *folders, "--out", recipe.out, "--steps", 2)
    assert again.exit_code == 1
    assert "already holds a run" in again.stderr
    words = dnd_train(path, *folders, "--out", recipe.out, "--steps", 2, "--resume")
    assert "2 steps, weights of step 2. Validation loss" in words.stdout


def test_the_command_says_how_to_go_on_after_ctrl_c(
    recipe: TrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_recipe(recipe, tmp_path / "r.yaml", "tasks")
    whole_step = trainer._Run._step

    def interrupted(run: trainer._Run, number: int) -> dict[str, Any]:
        signal.raise_signal(signal.SIGINT)
        return whole_step(run, number)

    monkeypatch.setattr(trainer._Run, "_step", interrupted)
    found = dnd_train(path, "--tasks", recipe.tasks[0], "--out", recipe.out)
    assert found.exit_code == 130
    assert "Stopped after step 1 of 6. A checkpoint is in" in found.stderr


def test_the_command_says_whether_there_is_a_checkpoint_after_a_second_ctrl_c(
    recipe: TrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_recipe(recipe, tmp_path / "r.yaml", "tasks")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(setup, "encode_conditions", stop)
    found = dnd_train(path, "--tasks", recipe.tasks[0], "--out", recipe.out)
    assert found.exit_code == 130
    assert "Stopped at once. There was no checkpoint yet." in found.stderr
    recipe.out.mkdir(exist_ok=True)
    (recipe.out / CHECKPOINT).touch()
    monkeypatch.setattr(trainer, "train", stop)
    found = dnd_train(path, "--tasks", recipe.tasks[0], "--out", recipe.out)
    assert "Stopped at once. The last checkpoint is kept." in found.stderr


def test_the_seconds_of_a_run_are_those_of_the_whole_call(
    recipe: TrainRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = setup.prepare

    def slow(*given: Any) -> setup.Prepared:
        time.sleep(0.5)
        return prepare(*given)

    monkeypatch.setattr(trainer, "prepare", slow)
    started = time.monotonic()
    seconds = train(replace(recipe, steps=1)).seconds
    assert 0.5 < seconds <= time.monotonic() - started


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "whole: make room and continue"), (errno.EACCES, "whole: continue with")],
)
def test_room_is_asked_for_only_where_it_is_missing(
    tmp_path: Path, number: int, advice: str
) -> None:
    with pytest.raises(TrainingError, match=advice), naming_the_disk(tmp_path):
        raise OSError(number, os.strerror(number))


# Warm starts


@pytest.mark.slow
def test_a_warm_start_goes_on_from_a_generators_weights(
    recipe: TrainRecipe, tmp_path: Path
) -> None:
    first = train(replace(recipe, steps=4))
    warm = replace(recipe, out=tmp_path / "warm", warm_start=first.generator, steps=1)
    run = trainer._Run(warm, resume=False)
    state = GeneratorFolder.open(first.generator).load(CPU, torch.float32).state_dict()
    assert all(torch.equal(v, state[k]) for k, v in run.generator.state_dict().items())
    result = run.finish()
    assert "from the weights of `generator`" in (result.generator / "README.md").read_text()


@pytest.mark.slow
def test_what_a_warm_start_was_trained_on_counts_as_seen(
    recipe: TrainRecipe, tmp_path: Path
) -> None:
    """Else a task that the run itself leaves out could be examined as unseen."""
    first = train(replace(recipe, steps=1))
    folder = write_tasks(tmp_path / "fewer", ("first", "last", "length"))
    warm = replace(recipe, out=tmp_path / "warm", warm_start=first.generator, steps=1)
    result = train(replace(warm, tasks=(folder,)))
    data = GeneratorFolder.open(result.generator).config.training["data"]
    assert sorted(row["task"] for row in data) == ["first", "last", "length", "upper"]


def test_families_that_a_warm_start_has_seen_cannot_validate(
    recipe: TrainRecipe, tmp_path: Path
) -> None:
    first = train(replace(recipe, steps=1))
    warm = replace(recipe, out=tmp_path / "warm", warm_start=first.generator)
    with pytest.raises(TrainingError, match="1 of the validation families, such as `upper`"):
        train(replace(warm, validation_families=("upper",)))


@pytest.mark.parametrize(
    ("notes", "message"),
    [
        ({"data": [{"task": "z", "family": "z"}]}, r"expected `data` .* with task, family, licenc"),
        ({"data": 5}, r"expected `data` of its training to be a list"),
        ({"validation_data": ["z"]}, r"expected `validation_data` of its training to be a list"),
        ({"variants": [["z"]]}, r"expected `variants` of its training to be a list of slugs\."),
    ],
)
def test_a_warm_start_whose_data_cannot_be_added_to_is_refused_before_any_step(
    recipe: TrainRecipe, tmp_path: Path, notes: dict[str, Any], message: str
) -> None:
    """It ended in a KeyError after the last step."""
    first = train(replace(recipe, steps=1)).generator
    config = json.loads((first / "config.json").read_text())
    config["training"] |= notes
    (first / "config.json").write_text(json.dumps(config))
    with pytest.raises(GeneratorError, match=message):
        train(replace(recipe, out=tmp_path / "warm", warm_start=first))
    assert not (tmp_path / "warm" / "log.jsonl").exists()


def test_families_that_an_earlier_teacher_has_seen_cannot_validate(
    recipe: TrainRecipe, tmp_path: Path
) -> None:
    """Its generator may have left them out."""
    first = train(replace(recipe, steps=1, validation_families=("upper",)))
    warm = replace(recipe, kind="teacher", bare_share=0.0, steps=1, warm_start=first.generator)
    taught = train(replace(warm, out=tmp_path / "taught"))
    again = replace(warm, out=tmp_path / "again", warm_start=taught.generator)
    with pytest.raises(TrainingError, match="1 of the validation families, such as `upper`"):
        train(replace(again, validation_families=("upper",)))


@pytest.mark.slow
def test_formats_and_validation_families_of_a_warm_start_count_too(
    recipe: TrainRecipe, tmp_path: Path
) -> None:
    """Families that chose the weights to start from are not unseen because this run has others."""
    recipe = replace(recipe, steps=1)
    first = train(replace(recipe, format_variants=1, validation_families=("upper",)))
    before = GeneratorFolder.open(first.generator).config.training
    folder = write_tasks(tmp_path / "others", ("first", "last", "alone"))
    warm = replace(recipe, out=tmp_path / "warm", warm_start=first.generator, tasks=(folder,))
    result = train(replace(warm, validation_families=("alone",)))
    after = GeneratorFolder.open(result.generator).config.training
    assert [row["task"] for row in after["validation_data"]] == ["alone", "upper"]
    assert after["variants"] == before["variants"] != []


@pytest.mark.slow
def test_a_warm_start_must_fit_the_recipe(
    recipe: TrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(replace(recipe, steps=1))
    warm = replace(recipe, out=tmp_path / "warm", warm_start=first.generator)
    monkeypatch.setattr(setup, "load_tasks", None)  # nothing slow is reached
    with pytest.raises(
        TrainingError,
        match=r"`warm_start` `.*` does not fit the recipe: its `kernel_size` is 3, "
        r"the recipe's 1\. Change the recipe",
    ):
        train(replace(warm, kernel_size=1))
    with pytest.raises(TrainingError, match=r"its `layout` is r 4, alpha 8 on 7 .*'s r 2, alpha 8"):
        train(replace(warm, r=2))
    with pytest.raises(TrainingError, match=r"its `head` is 'hyperconv', the recipe's 'mlp'\."):
        train(replace(warm, head="mlp"))
    with pytest.raises(TrainingError, match=r"its `reads_tokens` is None, the recipe's 96\."):
        train(replace(warm, reads_tokens=96))


# Recipes


def test_a_recipe_is_read_and_flags_override_it(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "tasks: data\nout: a\nsteps: 7\ndecoder_lr: 1e-3\nstages: [[2, 3, 4], [5, 6, 7]]\n"
        "without_licence_classes: []\nhead: mlp\nhead_options: {hidden: 8}\n"
    )
    found = TrainRecipe.read(path, out=tmp_path / "b", steps=None, seed=3)
    assert found == TrainRecipe(
        tasks=(Path("data"),),
        out=tmp_path / "b",
        steps=7,
        decoder_lr=0.001,
        stages=((2, 3, 4), (5, 6, 7)),
        without_licence_classes=(),
        head="mlp",
        head_options={"hidden": 8},
        seed=3,
    )


def test_tasks_are_one_folder_or_several(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("tasks: [a, b/c]\nout: o\n")
    assert TrainRecipe.read(path).tasks == (Path("a"), Path("b/c"))
    assert TrainRecipe.read(path).to_json()["tasks"] == ["a", "c"]


@pytest.mark.parametrize(
    ("text", "expected"), [("[a, b]", ("a", "b")), ("0.1", 0.1), ("0", 0.0), ("[]", ())]
)
def test_validation_families_are_names_or_a_share(
    tmp_path: Path, text: str, expected: object
) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"tasks: t\nout: o\nvalidation_families: {text}\n")
    assert TrainRecipe.read(path).validation_families == expected


RECIPES = Path(__file__).parents[3] / "assets" / "recipes"


@pytest.mark.parametrize(
    "path",
    [RECIPES / "smollm2-135m.yaml", *sorted((RECIPES / "arms").glob("*.yaml"))],
    ids=lambda path: path.stem,
)
def test_every_shipped_recipe_is_sound(tmp_path: Path, path: Path) -> None:
    """Down to the sizes of its generator, on the base it names."""
    found = TrainRecipe.read(path, tasks=tmp_path, out=tmp_path)
    assert found.base == "smollm2-135m-instruct"
    sizes = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30}
    heads = {"num_attention_heads": 9, "num_key_value_heads": 3}
    spec = LoRASpec(r=found.r, lora_alpha=found.lora_alpha)
    layout = LoRALayout.from_config(sizes | heads, spec)
    config = GeneratorConfig(
        features=(*found.stages, (layout.num_tokens, found.r, layout.width)),
        kernel_size=found.kernel_size,
        layout=layout,
        head=found.head,
        head_options=found.head_options,
    )
    assert config.width == 384
    assert sum(p.numel() for p in Generator(config).parameters()) < 9_000_000


PAPERS: Mapping[str, tuple[Stage, int, float, int | None]] = {
    "Qwen/Qwen2.5-0.5B-Instruct": ((4296, 8, 128), 16, 1.1, None),
    "Qwen/Qwen2.5-1.5B-Instruct": ((4508, 16, 256), 32, 1.74, 26_624),
    "Qwen/Qwen2.5-7B-Instruct": ((4928, 16, 512), 32, 1.96, 26_624),
}
"""The paper's decoders: last stage, here without the border; alpha, billions of parameters with the
projection, and the tokens that it reads. Source: the authors' configurations."""


@pytest.mark.parametrize(
    "path", sorted((RECIPES / "bases").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_recipe_for_another_base_fits_its_sizes(tmp_path: Path, path: Path) -> None:
    """Its generator is as large as its comment says; none is built, which would take gigabytes."""
    found = TrainRecipe.read(path, tasks=tmp_path, out=tmp_path)
    config = shipped_shapes()[found.base]
    spec = LoRASpec(r=found.r, lora_alpha=found.lora_alpha)
    layout = LoRALayout.from_config(config, spec)
    features = (*found.stages, (layout.num_tokens, found.r, layout.width))
    made = GeneratorConfig(
        features=features,
        kernel_size=found.kernel_size,
        layout=layout,
        reads_tokens=found.reads_tokens,
    )
    size = size_of(made.features, made.kernel_size, made.reads_tokens).parameters
    if path.stem.endswith("paper"):
        grid, alpha, billions, reads = PAPERS[found.base]
        assert (made.features[-1], found.lora_alpha) == (grid, alpha)
        assert made.reads_tokens == reads
        assert size / 1e9 == pytest.approx(billions, abs=0.02)
        assert f"{billions} B" in path.read_text(encoding="utf-8")
    else:
        assert 4e6 < size < 4e7
    assert "Nobody has trained it" in path.read_text(encoding="utf-8")


def test_the_arms_differ_in_what_is_compared_and_nothing_else(tmp_path: Path) -> None:
    arms = [
        TrainRecipe.read(path, tasks=tmp_path, out=tmp_path).to_json()
        for path in sorted((RECIPES / "arms").glob("*.yaml"))
    ]
    assert len(arms) == 3
    compared = {"objective", "head", "head_options", "stages", "collection"}
    common = [{k: v for k, v in arm.items() if k not in compared} for arm in arms]
    assert all(arm == common[0] for arm in common)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: 5\n", r"r\.yaml` needs tasks and out\."),
        ("tasks: t\n", r"r\.yaml` needs out\."),
        ("tasks: []\nout: o\n", r"`tasks` must name at least one task folder\."),
        ("- tasks\n", r"r\.yaml` must be a mapping of settings\."),
        ("", r"r\.yaml` must be a mapping of settings\."),
        ("tasks: [\n", r"r\.yaml` cannot be read: "),
    ],
)
def test_a_recipe_that_is_no_whole_mapping_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        TrainRecipe.read(path)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("steps_: 5", r"unknown setting\(s\) steps_\. Use any of tasks, out, c"),
        ("7: 5", r"unknown setting\(s\) 7\."),
        ("steps: many", r"`steps`: expected a whole number, got 'many'"),
        ("steps: 1.5", r"`steps`: expected a whole number, got 1\.5"),
        ("seed: true", r"`seed`: expected a whole number, got True"),
        ("steps: 0", r"`steps` must be at least 1, got 0\."),
        ("r: 0", r"`r` must be at least 1, got 0\."),
        ("kernel_size: 2", r"`kernel_size` must be odd and positive, got 2\."),
        ("stages: []", r"`stages` must hold at least one \[channels"),
        ("reads_tokens: 0", r"`reads_tokens` must be at least 1, got 0\."),
        ("threads: 2000", r"`threads` must be between 0 and 1024, got 2000\."),
        ("patience: -1", r"`patience` must be at least 0, got -1\."),
        ("weight_decay: -0.5", r"`weight_decay` must be at least 0, got -0\.5\."),
        ("decoder_lr: fast", r"`decoder_lr`: .*'fast'"),
        ("decoder_lr: 0", r"`decoder_lr` must be above 0, got 0\.0\."),
        ("decoder_lr: .nan", r"`decoder_lr`: expected a finite number, got nan"),
        ("bare_share: 1.5", r"`bare_share` must be between 0 and 1, got 1\.5"),
        ("kind: lora", r"`kind`: expected generator or multi_task_lora or teacher"),
        ("kind: teacher\nbare_share: 0", r"`kind: teacher` needs `warm_start`"),
        ("objective: imprint", r"needs `kind: teacher`, whose answers"),
        ("kind: teacher\nwarm_start: w", r"and `bare_share: 0`, because"),
        (
            "objective: luck",
            r"`objective`: expected task_loss or reconstruction or imprint, got 'l",
        ),
        (
            "objective: reconstruction",
            r"the objective reconstruction needs `collection`, a folder of LoRA checkpoints; `dnd",
        ),
        (
            "objective: reconstruction\ncollection: c\nkind: multi_task_lora",
            r"a multi_task_lora is trained on answers, not by reconstruction; the mean of a coll",
        ),
        *(
            (
                f"objective: reconstruction\ncollection: c\n{setting}",
                r"fits LoRAs that were trained on the tasks as they are: .* Leave out `format_v",
            )
            for setting in ("format_variants: 1", "label_variants: 1", "wordings: w.jsonl")
        ),
        ("head_options: [1]", r"`head_options`: expected names with whole numbers, got \[1\]"),
        ("head_options: {a: b}", r"`head_options`: expected a whole number, got 'b'"),
        (
            "row_tokens: 100",
            r"`row_tokens` must be at least `max_tokens` \(160\), so that one example fits a row",
        ),
        (
            "validation_families: 1.0",
            r"`validation_families` must be names or a share of 0 to below 1, got 1\.0\.",
        ),
        (
            "validation_families: many",
            r"`validation_families`: expected a list of names, got 'many'; or .*'many'",
        ),
        (
            "steps: x\nseed: y",
            r"`steps`: expected a whole number, got 'x'; `seed`: expected a whole number, got 'y'",
        ),
        ("base: 7", r"`base`: expected a name, got 7"),
        ("stages: [1, 2]", r"`stages`: "),
        ("stages: [[1, 2, x]]", r"`stages`: expected a list of \[channels, he"),
        ("without_licence_classes: x", r"`without_licence_classes`: expected a"),
    ],
)
def test_a_faulty_setting_is_named(tmp_path: Path, setting: str, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"tasks: t\nout: o\n{setting}")
    with pytest.raises(ConfigError, match=message):
        TrainRecipe.read(path)


def test_a_missing_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"recipe `.*none\.yaml` cannot be read: .*No such file"):
        TrainRecipe.read(tmp_path / "none.yaml")
