"""Training is a function of its recipe: same batches, same steps, resumable to the bit."""

import csv
import hashlib
import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

from dnd_engine.encoder import PromptEncoder
from dnd_engine.errors import ConfigError, TaskError, TrainingError
from dnd_engine.generator import GeneratorFolder, check_base
from dnd_engine.lora import LoRAHost
from dnd_engine.models import ENCODERS, BaseModel, fingerprint, resolve
from dnd_engine.training import trainer
from dnd_engine.training.batches import (
    Batch,
    ConditionPool,
    TaskPool,
    build_pools,
    draw_batch,
    validation_batches,
)
from dnd_engine.training.examples import EncodedExample, encode_example, pack, response_losses
from dnd_engine.training.recipe import TrainRecipe
from dnd_engine.training.tasks import (
    Example,
    Task,
    TaskInfo,
    audit_task,
    load_tasks,
    read_index,
)
from dnd_engine.training.trainer import train
from tests.dnd_engine.tiny import CPU, LAYOUT, byte_tokenizer, random_tokens

pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast, but the target dtype is not")

WORDS = [a + b + c for a in "kmprst" for b in "aeiou" for c in "lnx"]
JOBS: dict[str, tuple[str, Callable[[str], str]]] = {
    "first": ("Give the first letter.", lambda w: w[0]),
    "last": ("Give the last letter.", lambda w: w[-1]),
    "upper": ("Write in capitals.", str.upper),
    "length": ("How many letters?", lambda w: str(len(w))),
}


def lines(examples: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(example) + "\n" for example in examples)


def write_tasks(folder: Path, slugs: tuple[str, ...] = tuple(JOBS)) -> Path:
    """A task folder: 30 train and 10 test examples each, all with a bare input."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "tasks.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        columns = "slug,family,category,metric,licence,licence_class,description,split"
        writer.writerow(columns.split(","))
        for slug in slugs:
            row = (slug, slug, "letters", "exact", "MIT", "permissive", JOBS[slug][0], "train")
            writer.writerow(row)
    for number, slug in enumerate(slugs):
        instruction, job = JOBS[slug]
        words = random.Random(number).sample(WORDS, 40)
        examples = [{"prompt": f"{instruction}\n\n{w}", "response": job(w)} for w in words]
        side = folder / "tasks" / slug
        side.mkdir(parents=True)
        (side / "train.jsonl").write_text(lines(examples[:30]))
        (side / "test.jsonl").write_text(lines(examples[30:]))
    return folder


@pytest.fixture(scope="module")
def tasks_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("data") / "letters")


@pytest.fixture(scope="module")
def encoder() -> PromptEncoder:
    return PromptEncoder(resolve("all-minilm-l6-v2", ENCODERS).path, CPU, torch.float32)


@pytest.fixture
def recipe(tasks_folder: Path, tiny_folder: Path, tmp_path: Path) -> TrainRecipe:
    return TrainRecipe(
        tasks=tasks_folder,
        out=tmp_path / "run",
        base=str(tiny_folder),
        stages=((4, 8, 384), (16, 6, 32)),
        steps=6,
        tasks_per_step=2,
        examples_per_task=2,
        pool_prompts=8,
        max_tokens=120,
        validation_examples=2,
        warmup_steps=2,
        validate_every=3,
        checkpoint_every=2,
        decoder_lr=3e-3,
        shared_lr=1e-2,
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, encoder: PromptEncoder) -> None:
    """One resident encoder, the CPU and float32: the same run on every machine."""
    monkeypatch.setattr(trainer, "PromptEncoder", lambda *given: encoder)
    monkeypatch.setattr(trainer, "best_device", lambda: CPU)
    monkeypatch.setattr(trainer, "best_dtype", lambda device: torch.float32)


# Examples, alone and packed

EXAMPLES = [
    Example("Say it twice.\n\nab", "abab"),
    Example("Say it twice.\n\nc", "cc"),
    Example("What is the capital?\n\nFrance, of course", "Paris"),
    Example("No blank line here", "ok"),
    Example("Count.\n\nx\n\ny", "2"),
]


def encoded(mode: str = "full") -> list[EncodedExample]:
    found = [encode_example(byte_tokenizer(), example, mode) for example in EXAMPLES]
    return [example for example in found if example is not None]


def text_of(tokenizer: PreTrainedTokenizerFast, ids: tuple[int, ...]) -> str:
    return tokenizer.decode(list(ids))


def test_an_example_is_a_chat_turn_and_its_answer_with_the_end_of_turn() -> None:
    tokenizer = byte_tokenizer()
    for mode, content in (("full", "Count.\n\nx\n\ny"), ("bare", "x\n\ny")):
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
    with host.wearing(host.fit(tokens)):
        together = response_losses(base.model, pack([full[:2], full[2:4]])).nll
    apart = []
    for group, examples in enumerate((full[:2], full[2:4])):
        with host.wearing(host.fit(tokens[group : group + 1])):
            apart += [response_losses(base.model, pack([[e]])).nll[0] for e in examples]
    torch.testing.assert_close(together, torch.stack(apart), atol=1e-4, rtol=0)
    bare = response_losses(base.model, pack([full[:2], full[2:4]])).nll
    assert ((together - bare).abs() > 1e-2).all()


def test_exact_says_whether_greedy_generation_gives_the_answer(base: BaseModel) -> None:
    """An example whose answer is what the tiny model says, and one with a last token changed."""
    prompt = encoded()[0].ids[: encoded()[0].start]
    out = base.model.generate(
        torch.tensor([prompt]), max_new_tokens=5, min_new_tokens=5, do_sample=False
    )
    said = EncodedExample(tuple(out[0].tolist()), len(prompt))
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


def pools_of(recipe: TrainRecipe) -> tuple[TaskPool, ...]:
    return build_pools(load_tasks(recipe.tasks), byte_tokenizer(), recipe)


def conditions_of(pools: tuple[TaskPool, ...], size: int = 8) -> ConditionPool:
    """Task i's prompts are filled with the number i, its mask is full."""
    tokens = torch.arange(len(pools)).reshape(-1, 1, 1, 1).expand(-1, size, 8, 384)
    return ConditionPool(
        tokens.to(torch.bfloat16).contiguous(),
        torch.ones(len(pools), size, 8, dtype=torch.bool),
        torch.full((len(pools),), size),
        torch.zeros(len(pools), 384),
    )


def same(one: Batch, other: Batch) -> bool:
    assert one.prompts is not None
    assert other.prompts is not None
    return (
        one.tasks == other.tasks
        and torch.equal(one.examples.ids, other.examples.ids)
        and torch.equal(one.prompts, other.prompts)
    )


def test_a_batch_is_a_function_of_seed_and_step(recipe: TrainRecipe) -> None:
    pools = pools_of(recipe)
    conditions = conditions_of(pools)
    reseeded = replace(recipe, seed=1)
    random.seed(0)
    first = [draw_batch(pools, conditions, recipe, step) for step in range(12)]
    random.seed(1)
    again = [draw_batch(pools, conditions, recipe, step) for step in reversed(range(12))][::-1]
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert not any(same(a, b) for a, b in pairwise(first))
    others = [draw_batch(pools, conditions, reseeded, step) for step in range(12)]
    assert not any(same(a, b) for a, b in zip(first, others, strict=True))


def texts_of(batch: Batch) -> list[str]:
    """The examples of a batch, each with the prefix that it shares with the others."""
    packed, number = batch.examples, batch.examples.num_examples
    prefix = packed.ids[0][packed.owner[0] == number]
    rows = [torch.cat([prefix, packed.ids[packed.owner == n]]) for n in range(number)]
    return byte_tokenizer().batch_decode([row.tolist() for row in rows])


def test_every_group_is_conditioned_on_its_own_task(recipe: TrainRecipe) -> None:
    pools = pools_of(recipe)
    seen = set()
    for step in range(20):
        batch = draw_batch(pools, conditions_of(pools), replace(recipe, bare_share=0.0), step)
        assert batch.prompts is not None
        for row, task in enumerate(batch.tasks):
            assert batch.prompts[row].unique().tolist() == [task]
            instruction = JOBS[pools[task].task.info.slug][0]
            mine = texts_of(batch)[2 * row : 2 * row + 2]
            assert all(f"user\n{instruction}\n\n" in text for text in mine)
            seen.add(task)
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 80), (0.5, 40)])
def test_the_bare_share_is_the_share_of_rows_without_instruction(
    recipe: TrainRecipe, share: float, expected: int
) -> None:
    pools = pools_of(recipe)
    bare = 0
    for step in range(20):
        batch = draw_batch(pools, None, replace(recipe, bare_share=share), step)
        bare += sum("\n\n" not in text for text in texts_of(batch))
    assert abs(bare - expected) <= (15 if share == 0.5 else 0)


def test_validation_examples_are_the_last_and_never_drawn(recipe: TrainRecipe) -> None:
    pools = pools_of(recipe)
    for pool in pools:
        held = [encode_example(byte_tokenizer(), e, "bare") for e in pool.task.train[-2:]]
        assert list(pool.validation) == held
        assert not set(pool.validation) & set(pool.bare)
        assert len(pool.full) == len(pool.bare) == 28


def test_wrong_conditions_come_from_another_task_for_the_same_examples(
    recipe: TrainRecipe,
) -> None:
    pools = pools_of(recipe)
    conditions = conditions_of(pools)
    right = list(validation_batches(pools, conditions, recipe))
    wrong = list(validation_batches(pools, conditions, recipe, wrong=True))
    assert sorted(t for batch in right for t in batch.tasks) == [0, 1, 2, 3]
    for a, b in zip(right, wrong, strict=True):
        assert torch.equal(a.examples.ids, b.examples.ids)
        assert not any(x == y for x, y in zip(a.tasks, b.tasks, strict=True))
        assert b.prompts is not None
        assert [int(p.unique()) for p in b.prompts] == list(b.tasks)


def test_prompts_repeat_only_when_a_task_has_too_few(recipe: TrainRecipe) -> None:
    tokens = torch.arange(5.0).reshape(1, 5, 1, 1).to(torch.bfloat16)
    pool = ConditionPool(
        tokens, torch.ones(1, 5, 1, dtype=torch.bool), torch.tensor([3]), torch.zeros(1, 1)
    )
    drawn, _ = pool.draw(0, 3, random.Random(0))
    assert sorted(drawn.flatten().tolist()) == [0, 1, 2]
    drawn, mask = pool.draw(0, 7, random.Random(0))
    counts = [drawn.flatten().tolist().count(row) for row in range(3)]
    assert sum(counts) == 7
    assert max(counts) - min(counts) == 1
    assert mask.shape == (7, 1)


def test_long_examples_and_tasks_that_lack_short_ones_are_left_out(recipe: TrainRecipe) -> None:
    lengths = {len(e.ids) for pool in pools_of(recipe) for e in pool.full}
    assert len(lengths) > 1
    # "How many letters?" and "Write in capitals." make the shortest prompts of the four.
    cut = replace(recipe, max_tokens=sorted(lengths)[0])
    kept = {pool.task.info.slug for pool in pools_of(cut)}
    assert kept
    assert kept < set(JOBS)
    assert pools_of(replace(recipe, examples_per_task=4)) == ()


# Runs


def logged(recipe: TrainRecipe) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (recipe.out / "log.jsonl").read_text().splitlines()]


@pytest.mark.usefixtures("quick")
def test_the_first_loss_is_exactly_the_bases(recipe: TrainRecipe) -> None:
    """The generator starts as the base, so that its loss can only be earned."""
    run = trainer._Run(recipe, resume=False)
    batch = draw_batch(run.pools, run.conditions, recipe, 0)
    bare = response_losses(run.base.model, batch.examples).nll.mean()
    assert torch.equal(run._loss(batch), bare)
    assert run._step(0)["loss"] == round(float(bare), 5)
    assert not torch.equal(run._loss(batch), bare)


@pytest.mark.usefixtures("quick")
def test_a_run_learns_and_leaves_a_generator_for_its_base(
    recipe: TrainRecipe, base: BaseModel
) -> None:
    recipe = replace(recipe, steps=16, checkpoint_every=8, validate_every=8, threads=1)
    result = train(recipe)
    losses = [row["loss"] for row in logged(recipe)]
    assert len(losses) == 16
    assert sum(losses[-4:]) / 4 < 0.8 * sum(losses[:4]) / 4
    assert "validation_loss_wrong_prompts" in logged(recipe)[7]
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
    assert training["recipe"]["tasks"] == "letters"
    assert "out" not in training["recipe"]
    assert training["result"]["validation_loss"] == result.validation_loss
    condition = torch.randn(1, 4, 8, 384)
    tokens = folder.load(CPU, torch.float32)(condition)
    assert not torch.equal(tokens, folder.load(CPU, torch.float32)(-condition))


@pytest.mark.usefixtures("quick")
def test_a_multi_task_lora_ignores_its_condition(recipe: TrainRecipe) -> None:
    result = train(replace(recipe, kind="multi_task_lora", steps=2))
    assert result.validation_loss == result.validation_loss_wrong_prompts
    generator = GeneratorFolder.open(result.generator).load(CPU, torch.float32)
    tokens = generator(torch.randn(2, 4, 8, 384))
    assert torch.equal(tokens[0], tokens[1])
    assert torch.equal(tokens[0], generator.shared)
    b_rows = [m for m in LAYOUT.matrices() if m.side == "B"]
    assert all(tokens[0, m.first_token : m.first_token + m.num_tokens].any() for m in b_rows)


def killed_at(step: int, monkeypatch: pytest.MonkeyPatch, recipe: TrainRecipe) -> None:
    whole_step = trainer._Run._step

    def dying(run: trainer._Run, number: int) -> dict[str, float]:
        if number == step:
            raise KeyboardInterrupt
        return whole_step(run, number)

    with monkeypatch.context() as patch:
        patch.setattr(trainer._Run, "_step", dying)
        with pytest.raises(KeyboardInterrupt):
            train(recipe)


@pytest.mark.usefixtures("quick")
def test_a_killed_run_continues_to_the_very_same_parameters(
    recipe: TrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bitwise on a CPU, optimizer included, and the log holds every step once."""
    whole = replace(recipe, out=tmp_path / "whole")
    train(whole)
    killed_at(5, monkeypatch, recipe)
    assert len(logged(recipe)) == 5
    torch.manual_seed(99)
    train(recipe, resume=True)
    expected = load_file(whole.out / "checkpoint.safetensors")
    found = load_file(recipe.out / "checkpoint.safetensors")
    assert found.keys() == expected.keys()
    assert any(key.startswith("optimizer.") and key.endswith("exp_avg_sq") for key in expected)
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    for name in ("model.safetensors", "config.json", "tasks.json"):
        digests = {
            hashlib.sha256((out / "generator" / name).read_bytes()).hexdigest()
            for out in (whole.out, recipe.out)
        }
        assert len(digests) == 1
    assert [(r["step"], r["loss"]) for r in logged(recipe)] == [
        (r["step"], r["loss"]) for r in logged(whole)
    ]


@pytest.mark.usefixtures("quick")
def test_a_run_killed_before_its_first_checkpoint_starts_anew(
    recipe: TrainRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(recipe, steps=2)
    killed_at(1, monkeypatch, recipe)
    train(recipe, resume=True)
    assert [row["step"] for row in logged(recipe)] == [1, 2]


@pytest.mark.usefixtures("quick")
def test_a_run_folder_is_not_trained_over(recipe: TrainRecipe) -> None:
    recipe = replace(recipe, steps=1)
    train(recipe)
    with pytest.raises(TrainingError, match=r"already holds a run\. Continue it with --resume, or"):
        train(recipe)
    with pytest.raises(
        TrainingError, match=r"checkpoint `.*` belongs to another recipe\. Resume with the recipe t"
    ):
        train(replace(recipe, seed=5), resume=True)
    longer = train(replace(recipe, steps=2), resume=True)
    assert longer.steps == 2
    with pytest.raises(TrainingError, match=r"has already done 2 steps, more than the 1 asked for"):
        train(recipe, resume=True)


@pytest.mark.usefixtures("quick")
def test_a_damaged_checkpoint_is_refused(recipe: TrainRecipe) -> None:
    recipe.out.mkdir()
    (recipe.out / "checkpoint.safetensors").write_bytes(b"half")
    with pytest.raises(TrainingError, match=r"checkpoint `.*` cannot be read: "):
        train(recipe, resume=True)


@pytest.mark.usefixtures("quick")
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


@pytest.mark.usefixtures("quick")
def test_one_task_is_not_enough(recipe: TrainRecipe, tmp_path: Path) -> None:
    alone = write_tasks(tmp_path / "alone", ("first",))
    with pytest.raises(
        TrainingError, match=r"only 1 task\(s\) of .* of at most 120 tokens; training"
    ):
        train(replace(recipe, tasks=alone))


# Recipes


def test_a_recipe_is_read_and_flags_override_it(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "tasks: data\nout: a\nsteps: 7\ndecoder_lr: 1e-3\nstages: [[2, 3, 4], [5, 6, 7]]\n"
        "without_licence_classes: []\n"
    )
    found = TrainRecipe.read(path, out=tmp_path / "b", steps=None, seed=3)
    assert found == TrainRecipe(
        tasks=Path("data"),
        out=tmp_path / "b",
        steps=7,
        decoder_lr=0.001,
        stages=((2, 3, 4), (5, 6, 7)),
        without_licence_classes=(),
        seed=3,
    )


def test_the_shipped_recipe_is_sound(tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "assets" / "recipes" / "smollm2-135m.yaml"
    found = TrainRecipe.read(path, tasks=tmp_path, out=tmp_path)
    assert found.base == "smollm2-135m-instruct"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: 5\n", r"r\.yaml` needs tasks and out\."),
        ("tasks: t\n", r"r\.yaml` needs out\."),
        ("tasks: t\nout: o\nsteps_: 5\n", r"unknown setting\(s\) steps_\. Known are tasks, out, k"),
        ("tasks: t\nout: o\n7: 5\n", r"unknown setting\(s\) 7\."),
        ("tasks: t\nout: o\nsteps: many\n", r"`steps`: expected a whole number, got 'many'"),
        ("tasks: t\nout: o\nsteps: 1.5\n", r"`steps`: expected a whole number, got 1\.5"),
        ("tasks: t\nout: o\nseed: true\n", r"`seed`: expected a whole number, got True"),
        ("tasks: t\nout: o\nsteps: 0\n", r"`steps` must be at least 1, got 0\."),
        ("tasks: t\nout: o\ndecoder_lr: fast\n", r"`decoder_lr`: .*'fast'"),
        (
            "tasks: t\nout: o\ndecoder_lr: .nan\n",
            r"`decoder_lr`: expected a finite number, got nan",
        ),
        ("tasks: t\nout: o\nbare_share: 1.5\n", r"`bare_share` must lie between 0 and 1, got 1\.5"),
        ("tasks: t\nout: o\nkind: lora\n", r"`kind`: expected generator or multi_task_lora, got"),
        (
            "tasks: t\nout: o\nsteps: x\nseed: y\n",
            r"`steps`: expected a whole number, got 'x'; `seed`: expected a whole number, got 'y'",
        ),
        ("tasks: t\nout: o\nbase: 7\n", r"`base`: expected a name, got 7"),
        ("tasks: t\nout: o\nstages: [1, 2]\n", r"`stages`: "),
        ("tasks: t\nout: o\nstages: [[1, 2, x]]\n", r"`stages`: expected a list of \[channels, he"),
        (
            "tasks: t\nout: o\nwithout_licence_classes: x\n",
            r"`without_licence_classes`: expected a",
        ),
        ("- tasks\n", r"r\.yaml` must be a mapping of settings\."),
        ("", r"r\.yaml` must be a mapping of settings\."),
        ("tasks: [\n", r"r\.yaml` cannot be read: "),
    ],
)
def test_a_faulty_recipe_is_refused_by_its_setting(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        TrainRecipe.read(path)


def test_a_missing_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"recipe `.*none\.yaml` cannot be read: .*No such file"):
        TrainRecipe.read(tmp_path / "none.yaml")


# Task folders


def test_a_task_folder_is_read(tasks_folder: Path) -> None:
    tasks = load_tasks(tasks_folder)
    assert [task.info.slug for task in tasks] == list(JOBS)
    assert [(len(task.train), len(task.test)) for task in tasks] == [(30, 10)] * 4
    assert tasks[0].info.licence_class == "permissive"
    example = tasks[2].train[0]
    assert example.bare is not None
    assert example.response == example.bare.upper()


def test_splits_and_licence_classes_filter(tmp_path: Path) -> None:
    folder = write_tasks(tmp_path)
    table = (folder / "tasks.csv").read_text()
    table = table.replace("Give the last letter.,train", "Give the last letter.,heldout")
    table = table.replace("permissive,Write in", "nc-or-research,Write in")
    (folder / "tasks.csv").write_text(table)

    def slugs(**filters: Any) -> list[str]:
        return [task.info.slug for task in load_tasks(folder, **filters)]

    assert slugs(split="heldout") == ["last"]
    assert slugs(split="train", without_licence_classes=("nc-or-research",)) == ["first", "length"]
    with pytest.raises(TaskError, match=r"has no task with split 'heldout' that passes the filte"):
        slugs(split="heldout", without_licence_classes=("permissive",))


HEADER = "slug,family,category,metric,licence,description,split\n"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, r"no `tasks\.csv` in `.*`\. A task folder holds it beside `tasks/`\."),
        ("", r"lacks the column\(s\) slug, family, .*, split\."),
        (
            "slug,family,category\na,b,c\n",
            r"lacks the column\(s\) metric, licence, description, sp",
        ),
        (
            HEADER
            + "../x,f,c,exact,MIT,d,train\n.y,f,c,exact,MIT,d,train\n,f,c,exact,MIT,d,train\n",
            r"line 2: `slug` '\.\./x' is not a plain folder name; line 3: `slug` '\.y' .*; line 4",
        ),
        (
            HEADER + "a,f,c,luck,MIT,d,test\n",
            r"line 2: `split` is 'test', expected train or heldout; line 2: `metric` is 'luck'",
        ),
        (HEADER + "a,f,c,exact\n", r"line 2: `split` is None"),
        (HEADER + "a,f,c,exact,MIT,d,train\n" * 2, r"slug `a` stands twice\."),
        (HEADER + "a,f,c,x,MIT,d,train\n" * 9, r"; and 5 more\."),
    ],
)
def test_all_faults_of_an_index_are_named(tmp_path: Path, table: str | None, message: str) -> None:
    if table is not None:
        (tmp_path / "tasks.csv").write_text(table)
    with pytest.raises(TaskError, match=message):
        read_index(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"train\.jsonl` is missing\."),
        (b"\n\n", r"train\.jsonl`: no examples\."),
        (b"\xff\xfe\xff", r"train\.jsonl` is not UTF-8"),
        (
            b'{"prompt": "a", "response": "b"}\n[1]\n\n'
            b'{"prompt": " ", "response": "b"}\n{"prompt": "a"',
            r"line 2: expected an object, got a list; "
            r"line 4: expected a non-empty string `prompt`; line 5: Expecting",
        ),
        (b'{"prompt": "a", "response": 3}', r"line 1: expected a non-empty string `response`"),
        (
            b'{"prompt": "a", "response": "b", "options": ["b", 1]}',
            r"line 1: expected `options` to be a list of strings",
        ),
        (b"[" * 100_000, r"line 1: "),
        (b"1\n" * 9, r"line 5: .*; and 4 more\."),
    ],
)
def test_all_faults_of_an_example_file_are_named(
    tmp_path: Path, text: bytes | None, message: str
) -> None:
    path = write_tasks(tmp_path, ("first",)) / "tasks" / "first" / "train.jsonl"
    path.unlink()
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(TaskError, match=message):
        load_tasks(tmp_path)


def test_the_bare_input_follows_the_first_blank_line() -> None:
    assert Example("Do.\n\na\n\nb", "x").bare == "a\n\nb"


# Audit


def task(test: list[Example], train: list[Example] | None = None, metric: str = "exact") -> Task:
    info = TaskInfo(
        slug="s",
        family="f",
        category="c",
        metric=metric,
        licence="MIT",
        licence_class="permissive",
        description="d",
        split="train",
    )
    return Task(info, tuple(train or [Example("t", "A", ("A", "B"))]), tuple(test))


def numbered(count: int, answers: str = "AB", options: tuple[str, ...] = ()) -> list[Example]:
    return [Example(f"q{i}", answers[i % len(answers)], options) for i in range(count)]


def test_a_sound_task_passes_the_audit(tasks_folder: Path) -> None:
    assert audit_task(task(numbered(20))) == []
    assert audit_task(task(numbered(20, options=("A", "B")), metric="choice")) == []
    named = {t.info.slug: audit_task(t) for t in load_tasks(tasks_folder)}
    assert named.pop("length") == ["10 of 10 test responses are '3'"]
    assert named == {"first": [], "last": [], "upper": []}


def test_the_audit_finds_an_answer_that_is_always_right() -> None:
    """The released PIQA test labels are all `[A]`: a score on them says nothing."""
    constant = [*numbered(19, "A"), Example("last", "B")]
    assert audit_task(task(constant)) == ["19 of 20 test responses are 'A'"]
    assert audit_task(task([*numbered(18, "A"), *numbered(2, "B")])) == []


def test_the_audit_finds_prompts_on_both_sides() -> None:
    test = numbered(20)
    assert audit_task(task(test, train=test[:3])) == ["3 prompts are in both train and test"]


def test_the_audit_finds_answers_outside_their_options() -> None:
    test = numbered(20, options=("A", "C"))
    assert audit_task(task(test)) == ["test: 10 responses are not among their options"]


def test_the_audit_finds_choices_without_a_choice() -> None:
    faults = audit_task(
        task([*numbered(19, options=("A", "B")), Example("x", "B")], None, "choice")
    )
    assert faults == ["test: a choice task needs two or more options in every line"]
