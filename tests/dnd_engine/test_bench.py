"""The bench measures what it says and divides the right numbers; how fast is not for a test."""

import importlib.util
import json
import math
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import typer
from transformers import PreTrainedTokenizerBase
from typer.testing import CliRunner

from dnd_engine.bench import engine_costs
from dnd_engine.bench.config import SECTIONS, BenchConfig
from dnd_engine.bench.engine_costs import Examination, bytes_per_token
from dnd_engine.bench.growth import GrowthConfig, GrowthPoint, _text_of, growth, growth_svg
from dnd_engine.bench.llama_cpp import LlamaCpp
from dnd_engine.bench.measurement import Measurement, idle_memory, peak_memory, prompt_bucket
from dnd_engine.bench.mixes import (
    MixConfig,
    apartness,
    draw_groups,
    draw_unlike_groups,
    measure_mixes,
    score_bare,
)
from dnd_engine.bench.results import BenchResult, EqualSteps, account, summarise
from dnd_engine.bench.run import _equal_steps, bench
from dnd_engine.bench.training_costs import _made_up_groups
from dnd_engine.checks.results import Ordinary
from dnd_engine.cli import bench as bench_command
from dnd_engine.config import EngineConfig
from dnd_engine.engine import Engine
from dnd_engine.errors import ChatError, ConfigError, LlamaCppError
from dnd_engine.generator.config import GeneratorConfig
from dnd_engine.generator.folder import Generator, save_generator
from dnd_engine.generator.report import EqualScore
from dnd_engine.lora.adapter import Adapter
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.base import fingerprint
from dnd_engine.models.forward import HookedForward
from dnd_engine.models.replies import Reply
from dnd_engine.models.runtime import Runtime
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.scoring.questions import Question, ask
from dnd_engine.tasks.folder import Example, Mode, Task
from dnd_engine.training.recipe import TrainRecipe
from tests.dnd_engine.tiny import CPU, LAYOUT, tiny_base, tiny_llama
from tests.present import present
from tests.reports import report
from tests.task_info import task_info

BESIDE_LLAMA_CPP = importlib.util.find_spec("llama_cpp_py_sync") is not None
"""Whether there is a wheel of llama.cpp for this machine."""
LLAMA_CPP_RATIOS = {"single_over_llama_cpp", "twin_over_llama_cpp"} if BESIDE_LLAMA_CPP else set()

SMALL = BenchConfig(
    rounds=2,
    lora_steps=1,
    lora_examples=2,
    example_tokens=12,
    num_prompts=4,
    imprinted_prompts=(1, 1),
    visitors=2,
    chat_tokens=6,
    examined_items=(2, 3),
    tasks_per_step=2,
    examples_per_task=2,
    own_tokens=(6, 9),
    prefix_tokens=3,
    answer_tokens=2,
    copy_megabytes=1,
    settle_seconds=0.0,
)


@pytest.fixture(scope="module")
def folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained generator for the tiny base."""
    made_for = {"id": "tiny", "fingerprint": fingerprint(tiny_base(tiny_folder))}
    config = GeneratorConfig(
        features=((4, 8, 384), (64, 4, 32)), kernel_size=1, layout=LAYOUT, base=made_for
    )
    path = tmp_path_factory.mktemp("generators") / "tiny"
    save_generator(Generator(config), path, [], "# Card")
    return path


@pytest.fixture(scope="module")
def engine(tiny_folder: Path, folder: Path) -> Engine:
    return Engine.load(EngineConfig(base=str(tiny_folder), generator=folder, device="cpu"))


@pytest.mark.slow  # for the processor time of what it contends with
def test_everything_is_measured_and_is_json(engine: Engine) -> None:
    values = json.loads(json.dumps(bench(engine, SMALL).to_json()))
    assert set(values["ratios"]) == {
        "lora_over_synthesis",
        "lora_over_synthesis_flops",
        "remix_over_synthesis",
        "turned_over_twin",
        "twin_over_single",
        "imprinted_over_single",
        "twin_over_modules",
        "contended_over_alone_twin",
        "contended_over_alone_synthesis",
        "contended_over_alone_training",
        "imprint_over_handed_over",
        "imprint_large_over_small",
        "crowd_over_alone",
        "examination_over_loop",
        "bandwidth_share",
        "train_over_lora_throughput",
        *LLAMA_CPP_RATIOS,
    }
    assert set(values["memory_mb"]) == {"idle", "peak", "peak_training"}
    groups = ("seconds", "ratios", "flops", "tokens_per_second", "ready_parts", "memory_mb")
    for group in groups:
        assert all(value > 0 for value in values[group].values())
    assert values["memory_mb"]["peak"] <= values["memory_mb"]["peak_training"]
    assert values["machine"]["torch_threads"] == torch.get_num_threads()
    assert "scaled up from 2 measured steps" in values["notes"][0]


def test_ready_is_synthesis_and_what_the_page_does_besides(engine: Engine) -> None:
    one = bench(engine, replace(SMALL, rounds=1, only=("synthesis",)))
    assert set(one.ready_parts) == {"encode", "decode", "compare", "save", "norms"}
    assert one.seconds["ready"] == pytest.approx(sum(one.ready_parts.values()))
    assert one.seconds["synthesis"] < one.seconds["ready"]


@pytest.mark.parametrize(
    ("only", "seconds"),
    [
        ("synthesis", {"synthesis", "remix", "ready", "lora_step", "lora_run"}),
        (
            "chat",
            {"chat_single", "chat_twin", "chat_turned", "chat_imprinted", "chat_modules", "copy"},
        ),
        pytest.param(
            "contended",
            {
                f"{name}_{when}"
                for name in ("twin", "synthesis", "training")
                for when in ("alone", "contended")
            },
            marks=pytest.mark.slow,  # for the processor time of what it contends with
        ),
        (
            "imprint",
            {"handed_over_small", "handed_over_large", "imprint_small", "imprint_large"},
        ),
        ("crowd", {"crowd_alone", "crowd_at_once"}),
        ("examination", {"examination", "examination_loop"}),
        ("training", {"train_step", "lora_packed_step", "lora_rows_step"}),
    ],
)
def test_a_section_can_be_measured_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, only: str, seconds: set[str]
) -> None:
    monkeypatch.setattr(LlamaCpp, "where_possible", lambda engine, config: None)
    before = set(psutil.Process().children())  # other tests of this process may have some
    found = bench(engine, replace(SMALL, rounds=1, only=(only,)))
    assert set(found.seconds) == seconds
    assert len(found.notes) == (2 if only == "chat" else 1)
    assert set(psutil.Process().children()) <= before, "what contended has ended"


def test_the_base_is_packed_again_after_its_modules_were_measured(engine: Engine) -> None:
    before = engine.runtime.forward
    bench(engine, replace(SMALL, rounds=1, only=("chat",)))
    assert engine.runtime.forward is before


def test_a_crowd_waits_while_adapters_of_those_before_are_imprinted(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    imprinting = threading.Event()
    imprint, hand_over = Engine.imprint, engine_costs._hand_over
    handed_over = 0

    def imprinted(*args: Any) -> Iterator[object]:
        for step in imprint(*args):
            imprinting.set()
            yield step

    def last_waits(*args: Any) -> Adapter:
        nonlocal handed_over
        handed_over += 1
        if handed_over == 2 * SMALL.visitors:
            assert imprinting.wait(60), "the last visitor's turn came before any imprint"
        return hand_over(*args)

    monkeypatch.setattr(Engine, "imprint", imprinted)
    monkeypatch.setattr(engine_costs, "_hand_over", last_waits)
    engine_costs.crowd(engine, SMALL, 0)
    assert handed_over == 2 * SMALL.visitors


def test_an_examination_is_compared_with_its_items_one_at_a_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[int], bool]] = []

    def noted(runtime: Runtime, asked: Sequence[Sequence[Question]], active: FittedLoRA) -> None:
        assert active.num_groups == len(asked), "each task has its adapter"
        seen.append(([len(group) for group in asked], isinstance(runtime.forward, HookedForward)))

    monkeypatch.setattr("dnd_engine.bench.engine_costs.answer", noted)
    before = engine.runtime.forward
    Examination(engine, SMALL)(4)
    assert seen == [([3, 3], False), ([1], True), ([1], True)]
    assert engine.runtime.forward is before


@pytest.mark.skipif(not BESIDE_LLAMA_CPP, reason="there is no llama.cpp wheel for this machine")
def test_llama_cpp_is_measured_with_and_without_the_adapter(engine: Engine) -> None:
    beside = present(LlamaCpp.where_possible(engine, SMALL))
    assert set(beside(0)) == {"chat_llama_cpp", "chat_llama_cpp_lora"}
    assert all(seconds > 0 for seconds in beside(1).values())


def test_no_peak_counts_the_model_of_llama_cpp(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    def peak(device: torch.device, name: str = "peak") -> dict[str, float]:
        events.append("peak")
        return {name: 1.0}

    def load(*_: object) -> Measurement:
        events.append("llama.cpp")
        return lambda number: {"chat_llama_cpp": 1.0, "chat_llama_cpp_lora": 1.0}

    monkeypatch.setattr("dnd_engine.bench.run.peak_memory", peak)
    monkeypatch.setattr(LlamaCpp, "where_possible", load)
    chat = bench(engine, replace(SMALL, rounds=1, only=("chat",)))
    assert set(chat.memory_mb) == {"idle", "peak"}, "nothing is trained"
    trained = bench(engine, replace(SMALL, rounds=1, only=("chat", "training")))
    assert set(trained.memory_mb) == {"idle", "peak", "peak_training"}
    assert events == ["peak", "llama.cpp", "peak", "peak", "llama.cpp"]


def test_a_cards_memory_is_measured_beside_that_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its peak counts from when all models are loaded: loading may have taken more for a moment."""
    assert set(idle_memory(CPU) | peak_memory(CPU)) == {"idle", "peak"}
    peak = 9_000_000_000

    def reset(device: torch.device) -> None:
        nonlocal peak
        peak = 2_500_000_000

    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 300_000_000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peak)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset)
    card = torch.device("cuda")
    found = idle_memory(card) | peak_memory(card, "peak_training")
    assert (found["cuda_idle"], found["cuda_peak_training"]) == (300.0, 2500.0)
    assert set(found) == {"idle", "cuda_idle", "peak_training", "cuda_peak_training"}
    notes = summarise(rounds(), BenchConfig(), 1, found, {"dtype": "bfloat16"}).notes
    assert "Memory under `cuda_` is what torch allocated on the card" in notes[-1]
    assert not any("`cuda_`" in note for note in summary(rounds()).notes)


@pytest.mark.skipif(not BESIDE_LLAMA_CPP, reason="there is no llama.cpp wheel for this machine")
def test_a_model_that_llama_cpp_does_not_load_is_a_message(engine: Engine) -> None:
    beside = present(LlamaCpp.where_possible(engine, SMALL))
    beside._base.write_bytes(b"no model")
    with pytest.raises(LlamaCppError, match=r"cannot load the base .* Leave it out: uninstall"):
        beside(0)


def test_llama_cpp_is_left_out_where_it_is_not_installed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dnd_engine.bench.llama_cpp._PACKAGE", "no_such_package")
    assert LlamaCpp.where_possible(engine, SMALL) is None


def test_the_engines_base_and_generator_are_left_as_they_were(engine: Engine) -> None:
    model = engine.base.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    bench(engine, replace(SMALL, rounds=1, only=("training",)))
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(parameter.requires_grad for parameter in model.parameters())


# The arithmetic


def rounds(**changes: float) -> list[dict[str, float]]:
    """Two rounds; the second on a machine twice as slow, but for `changes`."""
    first = {
        "synthesis": 0.5,
        "remix": 0.1,
        "ready": 0.9,
        "lora_step": 1.0,
        "chat_single": 0.1,
        "chat_twin": 0.12,
        "chat_imprinted": 0.11,
        "chat_turned": 0.15,
        "chat_modules": 0.3,
        "twin_alone": 0.12,
        "twin_contended": 0.18,
        "synthesis_alone": 0.5,
        "synthesis_contended": 1.0,
        "training_alone": 4.0,
        "training_contended": 6.0,
        "handed_over_small": 0.5,
        "handed_over_large": 0.6,
        "imprint_small": 2.0,
        "imprint_large": 8.0,
        "crowd_alone": 3.0,
        "crowd_at_once": 3.6,
        "examination": 0.05,
        "examination_loop": 0.4,
        "chat_llama_cpp": 0.05,
        "chat_llama_cpp_lora": 0.1,
        "copy": 0.02,
        "train_step": 4.0,
        "lora_packed_step": 3.0,
        "lora_rows_step": 2.0,
    }
    second = {name: 2 * value for name, value in first.items()} | changes
    sizes = {"train.tokens": 1000.0, "lora_packed.tokens": 1000.0, "lora_rows.tokens": 960.0}
    return [{**first, **sizes, "ready.save": 1.0}, {**second, **sizes, "ready.save": 3.0}]


def summary(found: list[dict[str, float]], **fields: Any) -> BenchResult:
    config = replace(BenchConfig(rounds=len(found), copy_megabytes=100), **fields)
    return summarise(found, config, 300_000_000, {}, {"dtype": "bfloat16"})


def test_ratios_compare_within_a_round() -> None:
    found = summary(rounds())
    assert found.ratios["twin_over_single"] == pytest.approx(1.2)
    assert found.ratios["imprinted_over_single"] == pytest.approx(1.1)
    assert found.ratios["twin_over_modules"] == pytest.approx(0.4)
    assert found.ratios["single_over_llama_cpp"] == pytest.approx(2)
    assert found.ratios["twin_over_llama_cpp"] == pytest.approx(0.8)
    assert found.ratios["contended_over_alone_twin"] == pytest.approx(1.5)
    assert found.ratios["contended_over_alone_synthesis"] == pytest.approx(2)
    assert found.ratios["contended_over_alone_training"] == pytest.approx(1.5)
    assert found.ratios["imprint_over_handed_over"] == pytest.approx(4)
    assert found.ratios["imprint_large_over_small"] == pytest.approx(4)
    assert found.ratios["crowd_over_alone"] == pytest.approx(1.2)
    assert found.ratios["examination_over_loop"] == pytest.approx(1 / 8)
    # 300 MB in 0.1 s, against 2 x 100 MB in 0.02 s.
    assert found.ratios["bandwidth_share"] == pytest.approx(3 / 10)
    # 250 tokens/s, against 480 on rows: the faster of the two baselines counts.
    assert found.ratios["train_over_lora_throughput"] == pytest.approx(250 / 480)
    assert summary(rounds(lora_packed_step=1.0)).ratios[
        "train_over_lora_throughput"
    ] == pytest.approx((250 / 480 + 125 / 1000) / 2)
    assert found.ready_parts == {"save": 2.0}
    assert found.seconds["train_step"] == pytest.approx(6.0)


def test_the_lora_run_is_forty_steps_and_says_whether_it_was_measured_whole() -> None:
    found = summary(rounds(), lora_steps=8)
    assert found.seconds["lora_run"] == pytest.approx(40 * 1.5)
    assert found.ratios["lora_over_synthesis"] == pytest.approx(60 / 0.75)
    assert "scaled up from 16 measured steps" in found.notes[0]
    assert "measured whole" in summary(rounds(), lora_steps=20).notes[0]
    full, quick = BenchConfig(), BenchConfig().quick()
    assert full.rounds * full.lora_steps == 40 > quick.rounds * quick.lora_steps


def test_operations_are_counted_as_they_run(engine: Engine) -> None:
    """A LoRA step of twice as many rows does twice as many; a synthesis none of the base's."""
    counted = [
        bench(engine, replace(SMALL, rounds=1, only=("synthesis",), lora_examples=n)).flops
        for n in (2, 4)
    ]
    assert counted[1]["lora_run"] == pytest.approx(2 * counted[0]["lora_run"], rel=0.01)
    assert counted[0]["synthesis"] == counted[1]["synthesis"] > 0


def test_what_training_cost_is_paid_back_by_the_runs_it_saves() -> None:
    flops = {"synthesis": 2e9, "lora_step": 5e8}
    found = account(summary(rounds()), flops, EqualSteps("written", 120, 10), 100)
    assert found.flops["lora_run"] == 40 * 5e8
    assert found.ratios["lora_over_synthesis_flops"] == pytest.approx(10)
    assert found.seconds["lora_equal"] == pytest.approx(10 * 1.5)
    assert found.ratios["lora_equal_over_synthesis"] == pytest.approx(15 / 0.75)
    assert found.seconds["generator_training"] == pytest.approx(100 * 6)
    assert found.ratios["tasks_to_pay_off_lora_run"] == math.ceil(600 / (60 - 0.75))
    assert found.ratios["tasks_to_pay_off_lora_equal"] == math.ceil(600 / (15 - 0.75))
    assert any("100 steps" in note for note in found.notes)
    compared = next(note for note in found.notes if "lora_equal" in note)
    for words in ("`written`", "10 steps", "without imprint", "120 unseen tasks"):
        assert words in compared
    unknown = account(summary(rounds()), flops, None, 0)
    assert "lora_equal" not in unknown.seconds
    assert not any(name.startswith("tasks") for name in unknown.ratios)
    assert unknown.notes == summary(rounds()).notes


def test_training_is_measured_in_the_loaded_generators_own_step() -> None:
    recipe = {"tasks_per_step": 8, "examples_per_task": 3, "row_tokens": 256}
    assert BenchConfig(row_tokens=99).of({"recipe": recipe}) == BenchConfig(
        tasks_per_step=8, examples_per_task=3, row_tokens=99
    )
    assert BenchConfig().of({}).row_tokens == 320


@pytest.mark.parametrize(
    "recipe", [None, [], {"row_tokens": "many"}, {"row_tokens": 0}, {"row_tokens": 10**9}]
)
def test_what_a_folder_says_of_its_steps_is_not_believed_blindly(recipe: object) -> None:
    assert BenchConfig().of({"recipe": recipe}).row_tokens == 320


def test_steps_that_score_as_much_come_from_the_report_of_most_tasks() -> None:
    some = EqualScore(
        n_tasks=1,
        generator=0.1,
        points=(),
        shortest_steps=10,
        level_steps=None,
        over_synthesis=None,
        break_even_tasks=None,
    )
    with_steps = replace(report(), equal_score=some)
    for without in (report(), replace(report(), equal_score=replace(some, shortest_steps=None))):
        assert _equal_steps({"heldout": without}) is None
        found = _equal_steps({"heldout": without, "refine": with_steps})
        assert found == EqualSteps("refine", 1, 10)
    fewer_steps = replace(report(), equal_score=replace(some, n_tasks=120, shortest_steps=5))
    both = {"refine": with_steps, "written": fewer_steps}
    assert _equal_steps(both) == EqualSteps("written", 120, 5)


def test_a_token_reads_all_weights_but_an_embedding_of_its_own() -> None:
    separate = tiny_llama()
    total = sum(p.numel() for p in separate.parameters())
    assert bytes_per_token(separate) == 4 * (total - 260 * 64)
    separate.set_output_embeddings(separate.get_input_embeddings())
    assert bytes_per_token(separate) == 4 * (total - 260 * 64)


# Growth


@pytest.fixture(scope="module")
def points(engine: Engine) -> list[GrowthPoint]:
    """Every kind of work in two small sizes; the prompts are 1 each, as imprint needs on noise."""
    sizes = GrowthConfig(
        prompts=(1,),
        buckets=(1,),
        bucket_prompts=1,
        visitors=(1, 3),
        conversation=(64, 90, 10**6),
        library=(2, 5),
        answer_tokens=4,
    )
    return list(growth(engine, sizes))


def test_every_kind_of_work_is_measured_in_its_sizes(points: list[GrowthPoint]) -> None:
    amounts: dict[str, list[int]] = {}
    for point in points:
        amounts.setdefault(f"{point.work}, {point.unit}", []).append(point.amount)
        assert point.seconds >= 0
    assert amounts == {
        "an adapter written, prompts": [1],
        "its instruction imprinted, prompts": [1],
        "a mix imprinted, buckets": [1],
        "twin chats at once, visitors": [1, 3],
        # 10^6 tokens are more than the base reads.
        "the first token of a twin, tokens of conversation": [64, 90],
        "each further token of a twin, tokens of conversation": [64, 90],
        "a library listed, adapters": [2, 5],
    }


@pytest.mark.parametrize("tokens", [64, 90])
def test_a_conversation_is_about_as_long_as_it_says(engine: Engine, tokens: int) -> None:
    ids = engine.base.chat_ids(_text_of(engine.base, tokens, 0))
    assert tokens - 10 <= len(ids) <= tokens


def test_a_picture_has_a_chart_for_each_kind_of_work(points: list[GrowthPoint]) -> None:
    drawn = growth_svg(points)
    assert drawn.count("class='strong'") == len({point.work for point in points})
    assert "Twin chats at once" in drawn


# Mixes


def _tasks(count: int) -> list[Task]:
    return [
        Task(
            task_info(f"task-{number}", family="words", category="format"),
            train=tuple(Example(f"Repeat word {number}.\n\n{word}", word) for word in "abcd"),
            test=tuple(Example(f"Repeat word {number}.\n\n{word}", word) for word in "efgh"),
        )
        for number in range(count)
    ]


def test_each_task_is_in_one_group_at_most() -> None:
    tasks = _tasks(9)
    groups = draw_groups(tasks, 4, 0)
    drawn = [task.info.slug for group in groups for task in group]
    assert [len(group) for group in groups] == [4, 4]
    assert len(set(drawn)) == 8
    assert draw_groups(tasks, 4, 0) == groups != draw_groups(tasks, 4, 1)


def test_inputs_are_apart_if_their_nearest_are_of_the_same_task() -> None:
    one, other = torch.tensor([[1.0, 0.0], [0.8, 0.6]]), torch.tensor([[0.0, 1.0], [0.1, 0.99]])
    assert apartness([one, other]) == 1
    # Now each task has an input beside one of the other's.
    assert apartness([torch.stack([one[0], other[0]]), torch.stack([one[1], other[1]])]) == 0


def test_unlike_groups_are_those_whose_inputs_are_most_apart() -> None:
    """Tasks of one parity have the same inputs, so a pair of both is the one to find."""
    tasks = _tasks(6)

    def vectors(task: Task) -> torch.Tensor:
        return torch.eye(4)[2 * (int(task.info.slug[-1]) % 2) :][:2]

    groups = draw_unlike_groups(tasks, 2, 3, 0, vectors)
    parities = [{int(task.info.slug[-1]) % 2 for task in group} for group in groups]
    assert parities == [{0, 1}] * 3
    assert len({task.info.slug for group in groups for task in group}) == 6


def test_a_mix_is_compared_with_its_own_tasks_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone, task n scores n; in a mix, half of it. Of three tasks, one is in no pair."""
    made: list[set[str]] = []

    def generate(_: Engine, buckets: Sequence[Bucket], *, seed: int) -> Adapter:
        made.append({bucket.name for bucket in buckets})
        assert all(bucket.num_prompts == 2 for bucket in buckets)
        return adapter

    def score(_: object, __: object, task: Task, num_items: int) -> float:
        assert num_items == 3
        return float(task.info.slug[-1]) / len(made[-1])

    def share(*_: object) -> Ordinary:
        return Ordinary(len(made[-1]), 4, 0.1)

    adapter = engine.generate([prompt_bucket(2, 0)], imprinted=False)
    monkeypatch.setattr(Engine, "generate", generate)
    monkeypatch.setattr("dnd_engine.bench.mixes.score_bare", score)
    monkeypatch.setattr(Engine, "ordinary_answers", lambda _: None)
    monkeypatch.setattr("dnd_engine.bench.mixes.ordinary_share", share)
    tasks = _tasks(3)
    (pair,) = draw_groups(tasks, 2, 0)
    config = MixConfig(num_prompts=2, num_items=3)
    (found,) = measure_mixes(engine, {"pairs": [pair]}, config)
    names = {task.info.slug for task in pair}
    assert made[0] == names
    assert made[1:] == [{task.info.slug} for task in pair]
    assert found.alone == sum(int(name[-1]) for name in names) / 2 == 2 * found.score
    assert (found.ordinary, found.ordinary_alone) == (0.5, 0.25)
    assert (found.kind, found.num_mixes) == ("pairs", 1)


def test_mixes_that_cannot_be_made_are_refused_first() -> None:
    with pytest.raises(ConfigError, match=r"`num_items` must be at least 1, got 0\."):
        MixConfig(num_items=0)
    with pytest.raises(ConfigError, match=r"1 mixes of 4 tasks need 4, got 3\. Give more tasks\."):
        draw_groups(_tasks(3), 4, 0)
    with pytest.raises(ConfigError, match=r"2 mixes of 2 tasks need 4, got 3\. Give more tasks\."):
        draw_unlike_groups(_tasks(3), 2, 2, 0, lambda _: torch.eye(4))


def test_a_task_is_scored_on_its_first_bare_inputs(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = engine.generate([prompt_bucket(2, 0)], imprinted=False)
    fitted = engine.runtime.host.fit(adapter.scaled_tokens[None], adapter.layout)
    asked: list[tuple[str, Mode]] = []

    def heard(
        tokenizer: PreTrainedTokenizerBase, item: Example, mode: Mode, *, max_new_tokens: int
    ) -> Question:
        asked.append((item.response, mode))
        return ask(tokenizer, item, mode, max_new_tokens=max_new_tokens)

    monkeypatch.setattr("dnd_engine.bench.mixes.ask", heard)
    monkeypatch.setattr("dnd_engine.bench.mixes.text_of", lambda tokenizer, answer: "e")
    assert score_bare(engine.runtime, fitted, _tasks(1)[0], 4) == 0.25
    assert score_bare(engine.runtime, fitted, _tasks(1)[0], 1) == 1.0
    assert asked == [(word, "bare") for word in "efghe"]


# What cannot be measured


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"only": ()},
            r"`only` must be some of synthesis, imprint, crowd, chat, .*, contended, got none\.",
        ),
        ({"only": ("speed",)}, r"`only` must be some of .*, got speed\."),
        ({"rounds": 0}, r"`rounds` must be at least 1, got 0\."),
        ({"chat_tokens": 1}, r"`chat_tokens` must be at least 2, got 1\."),
        ({"visitors": 1}, r"`visitors` must be at least 2, got 1\."),
        ({"examined_items": (4, 0)}, r"at least 1 task and 1 item, got \(4, 0\)\."),
        ({"own_tokens": (9, 8)}, r"examples of 9 to 8 and of 64 tokens must have room for an "),
        ({"answer_tokens": 30}, r"examples of 30 to 70 .* must have room for an answer of 30\."),
    ],
)
def test_settings_that_measure_nothing_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BenchConfig(**fields)


def test_a_base_that_says_nothing_cannot_be_timed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = Reply("", 1, "eos", first_token_seconds=0.1, tokens_per_second=0.0)
    monkeypatch.setattr(Engine, "compare", lambda *_, **__: iter([[only]]))
    with pytest.raises(ChatError, match=r"ended ten answers after one token, .* --only synthesis"):
        bench(engine, replace(SMALL, only=("chat",)))


# The command


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> tuple[CliRunner, typer.Typer]:
    """The command on the tiny engine, with small sizes."""
    monkeypatch.setattr(bench_command, "load_engine", lambda config: engine)
    monkeypatch.setattr(BenchConfig, "quick", lambda config: replace(SMALL, only=config.only))
    app = typer.Typer()
    app.command()(bench_command.bench)
    return CliRunner(), app


def test_the_command_prints_one_json_object(run: tuple[CliRunner, typer.Typer]) -> None:
    shown = run[0].invoke(run[1], ["--quick", "--only", "chat", "--json"])
    assert shown.exit_code == 0
    assert set(json.loads(shown.stdout)["ratios"]) == {
        "twin_over_single",
        "imprinted_over_single",
        "twin_over_modules",
        "turned_over_twin",
        "bandwidth_share",
        *LLAMA_CPP_RATIOS,
    }


def test_the_command_says_in_words_what_each_ratio_means(
    run: tuple[CliRunner, typer.Typer], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = replace(
        summary(rounds()),
        memory_mb={"peak_training": 1.0, "cuda_peak_training": 2.0},
        machine={"versions": {"torch": "2.0"}},
    )
    monkeypatch.setattr("dnd_engine.bench.run.bench", lambda engine, config: result)
    shown = run[0].invoke(run[1], ["--quick"]).stdout
    for words in (
        "lora_over_synthesis: a short LoRA run takes",
        "twin_over_single: two answers at once",
        "as a share of a plain LoRA's",
        "  peak_training                 1 MB",
        "  cuda_peak_training            2 MB",
        "torch ",
    ):
        assert words in shown


def test_an_unknown_section_is_a_message(run: tuple[CliRunner, typer.Typer]) -> None:
    shown = run[0].invoke(run[1], ["--only", "speed"])
    assert shown.exit_code == 1
    assert f"`only` must be some of {', '.join(SECTIONS)}, got speed." in shown.stderr


def test_a_measured_step_is_as_large_as_the_recipe_trains(engine: Engine) -> None:
    recipe = TrainRecipe(tasks=(Path("t"),), out=Path("o"))
    config = BenchConfig().of({})
    names = ("tasks_per_step", "examples_per_task", "row_tokens")
    assert [getattr(config, n) for n in names] == [getattr(recipe, n) for n in names]
    groups = _made_up_groups(config, engine.base, random.Random(0))
    assert len(groups) == recipe.tasks_per_step
    for group in groups:
        own = [len(example.ids) - config.prefix_tokens for example in group]
        assert len(own) <= recipe.examples_per_task
        assert recipe.row_tokens - 70 < config.prefix_tokens + sum(own) <= recipe.row_tokens


def test_the_command_lists_and_draws_how_costs_grow(
    run: tuple[CliRunner, typer.Typer],
    points: list[GrowthPoint],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("dnd_engine.bench.growth.growth", lambda engine: points)
    picture = tmp_path / "growth.svg"
    shown = run[0].invoke(run[1], ["--growth", "--plot", str(picture)]).stdout
    assert "twin chats at once, 3 visitors" in shown
    assert picture.read_text().startswith("<svg")
    shown = run[0].invoke(run[1], ["--growth", "--json"]).stdout
    assert len(json.loads(shown)["growth"]) == len(points)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--plot", "growth.svg"], "`--plot` draws what `--growth` measures. Add `--growth`."),
        (["--growth", "--plot", "growth.png"], "`plot` must end in .svg, got `growth.png`."),
        (["--growth", "--quick"], "Leave out `--quick` and `--only`."),
        (["--growth", "--only", "chat"], "Leave out `--quick` and `--only`."),
    ],
)
def test_options_that_do_not_go_together_are_refused_first(
    run: tuple[CliRunner, typer.Typer], options: list[str], message: str
) -> None:
    shown = run[0].invoke(run[1], options)
    assert shown.exit_code == 1
    assert message in shown.stderr
