"""The examination: resumable, honest about what it lacks, and able to tell planted frauds.

The base is tiny, and its LoRAs are really trained: every task has one answer word of its own, which
no bare input gives away. A planted engine differs from a real one in the tokens it generates only.
"""

import functools
import json
import math
import random
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from collections.abc import Generator as Steps
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner, Result

from dnd_engine.checks import agreement as agreement_module
from dnd_engine.checks.ordinary import BaseAnswers, base_answers, ordinary_share
from dnd_engine.checks.results import Forecast, Inspection, Ordinary, Skills
from dnd_engine.checks.verdict import AdapterVerdict, Agreement, judge
from dnd_engine.cli import app
from dnd_engine.cluster import Cluster
from dnd_engine.config import EngineConfig, ImprintConfig, RefineConfig, Teacher
from dnd_engine.engine import Engine
from dnd_engine.errors import ConfigError, TrainingError
from dnd_engine.evaluation import baselines as baselines_module
from dnd_engine.evaluation import eval_pass
from dnd_engine.evaluation import examine as examine_module
from dnd_engine.evaluation import report as report_module
from dnd_engine.evaluation.baselines import NEUTRAL_PROMPT, Baselines
from dnd_engine.evaluation.examine import examine
from dnd_engine.evaluation.items import EvalItems
from dnd_engine.evaluation.result_store import ResultStore, only_evaluation_in
from dnd_engine.evaluation.selection import choose_tasks, refuse_trained
from dnd_engine.evaluation.settings import ExaminationConfig
from dnd_engine.evaluation.steering import Steering
from dnd_engine.generator.config import GeneratorConfig
from dnd_engine.generator.folder import (
    Generator,
    GeneratorFolder,
    TaskCentroid,
    save_generator,
    save_teacher,
)
from dnd_engine.generator.hyperconv import HyperConvDecoder
from dnd_engine.generator.report import Report
from dnd_engine.lora.adapter import Adapter
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.lora.provenance import NearestTask
from dnd_engine.models.base import fingerprint
from dnd_engine.models.encoder import PromptEncoder, PromptMemory
from dnd_engine.models.runtime import Runtime
from dnd_engine.models.sources import ENCODERS, resolve
from dnd_engine.progress import Progress
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.split import split_prompt
from dnd_engine.scoring import answers
from dnd_engine.scoring.questions import ask
from dnd_engine.scoring.scores import DEFAULT_ROWS, IMPRINTED, MODES, REFINED, ROWS, ItemScore
from dnd_engine.tasks.folder import Example, Task, load_tasks, write_tasks
from dnd_engine.tasks.formats import ANSWER_FORMATS, formatted
from dnd_engine.teach.local import LocalTeacher
from dnd_engine.training.collection import Collection
from dnd_engine.training.collection_files import LossRow, write_losses
from dnd_engine.training.finetune import collect_runs
from dnd_engine.training.finetune.collect import collect
from dnd_engine.training.finetune.collect_recipe import CollectRecipe
from dnd_engine.training.recipe import TrainRecipe
from dnd_engine.training.trainer import train
from tests.dnd_engine.tiny import CPU, LAYOUT, make_adapter, random_tokens, tiny_base
from tests.imprints import recorded_imprint
from tests.present import present
from tests.task_info import task_info

ANSWERS = {
    "sea": ("train", "Name the fish", "cod"),
    "sky": ("train", "Name the bird", "owl"),
    "wood": ("train", "Name the tree", "elm"),
    "city": ("heldout", "Name the town", "Rom"),
    "coin": ("heldout", "Name the metal", "tin"),
    "meal": ("heldout", "Name the dish", "pie"),
    "song": ("heldout", "Name the tune", "hum"),
    "game": ("heldout", "Name the toy", "top"),
    "room": ("heldout", "Name the seat", "bed"),
    "farm": ("heldout", "Name the pet", "dog"),
}
"""Slug, also the family: split, instruction, and the answer to whatever follows."""

TRAINED = tuple(slug for slug, (split, _, _) in ANSWERS.items() if split == "train")
VARIANTS = tuple(f"else~{name}" for name, found in ANSWER_FORMATS.items() if not found.held_out)
"""Every format that is trained at all, on another task."""
UNSEEN = tuple(slug for slug in ANSWERS if slug not in TRAINED)


def write_words(folder: Path) -> Path:
    rng = random.Random(0)
    tasks = []
    for slug, (split, instruction, answer) in ANSWERS.items():
        inputs = {"".join(rng.choices("abcdefgh", k=5)) for _ in range(40)}
        examples = [Example(f"{instruction}.\n\n{text}", answer) for text in sorted(inputs)[:30]]
        info = task_info(slug, category="words", description=instruction, split=split)
        tasks.append(Task(info, tuple(examples[:24]), tuple(examples[24:])))
    write_tasks(folder, tasks)
    return folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_words(tmp_path_factory.mktemp("data") / "words")


@pytest.fixture(scope="session")
def collection(folder: Path, tiny_folder: Path) -> Path:
    """A LoRA for each task, oracles included, as `dnd collect` trains them."""
    out = folder.parent / "collection"
    recipe = CollectRecipe(
        tasks=(folder,),
        out=out,
        base=str(tiny_folder),
        split="both",
        without_licence_classes=(),
        steps=40,
        batch_size=4,
        bare_share=1.0,
        learning_rate=2e-2,
        validation_examples=2,
        validate_every=40,
        num_snapshots=1,
        checkpoint_every=40,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect_runs, "best_device", lambda: CPU)
        patch.setattr(collect_runs, "best_dtype", lambda device: torch.float32)
        collect(recipe)
    return out


def save(folder: Path, shared: Tensor, tiny_folder: Path, kind: str, tasks: Path) -> Path:
    """A generator that knows the train tasks, with given shared tokens."""
    encoder_weights = resolve("all-minilm-l6-v2", ENCODERS)
    encoder = PromptEncoder(encoder_weights.path, CPU, torch.float32)
    generator = Generator(
        GeneratorConfig(
            features=((4, 8, 384), (16, 6, 32), (64, 4, 32)),
            kernel_size=3,
            layout=LAYOUT,
            base={"id": "tiny", "fingerprint": fingerprint(tiny_base(tiny_folder))},
            encoder={"id": encoder_weights.hub_id, "sha256": encoder_weights.sha256},
            training={
                "kind": kind,
                "data": [
                    {"task": slug, "family": slug, "licence": "MIT", "category": "words"}
                    for slug in TRAINED
                ],
            },
        )
    )
    with torch.no_grad():
        generator.shared.copy_(shared)
        assert isinstance(generator.decoder, HyperConvDecoder)
        generator.decoder.last_convolution.weight.normal_(std=2)
        generator.condition_std.fill_(0.3)
    centroids = [
        TaskCentroid(
            task.info.slug,
            task.info.description,
            tuple(encoder.encode([e.prompt for e in task.train], 8).pooled.mean(dim=0).tolist()),
        )
        for task in load_tasks(tasks, split="train")
    ]
    save_generator(generator, folder, centroids, "")
    return folder


@pytest.fixture(scope="session")
def generator(folder: Path, tiny_folder: Path) -> Path:
    torch.manual_seed(0)
    return save(folder.parent / "generator", random_tokens(), tiny_folder, "generator", folder)


@pytest.fixture(scope="session")
def multi(folder: Path, tiny_folder: Path, collection: Path) -> Path:
    """One LoRA for all tasks: the mean of those of training."""
    mean = Collection.open(collection).mean()
    return save(folder.parent / "multi", mean, tiny_folder, "multi_task_lora", folder)


Plant = Callable[[Sequence[Bucket], Adapter], Tensor]
ImprintPlant = Callable[[Sequence[Bucket], Adapter, Teacher], Tensor]


class PlantedEngine(Engine):
    """A real engine whose adapters are replaced by what `plant` makes of them, where it is set."""

    plant: Plant | None = None

    def synthesize(self, buckets: Sequence[Bucket], **how: Any) -> Steps[Progress, None, Adapter]:
        """As an engine does, but for the tokens."""
        made = yield from super().synthesize(buckets, **how)
        if self.plant is None:
            return made
        return replace(made, tokens=self.plant(buckets, made).to(torch.bfloat16))


def refolder(monkeypatch: pytest.MonkeyPatch, engine: Engine, folder: GeneratorFolder) -> None:
    """Let an engine's generator say something else of itself."""
    resident = replace(engine._loaded.resident(), folder=folder)
    monkeypatch.setattr(engine, "_loaded", replace(engine._loaded, generator=resident))


@pytest.fixture(scope="session")
def loaded(
    generator: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> PlantedEngine:
    config = EngineConfig(
        base=str(tiny_folder),
        generator=generator,
        device="cpu",
        cache_dir=tmp_path_factory.mktemp("cache"),
    )
    engine = PlantedEngine.load(config)
    assert isinstance(engine, PlantedEngine)
    # Rows and tests read the same prompts, and the encoder is a real one.
    encoder = engine._loaded.resident().encoder
    once = functools.cache(encoder.encode)
    vars(encoder)["encode"] = lambda texts, length: once(tuple(texts), length)
    return engine


@pytest.fixture
def engine(loaded: PlantedEngine, few_questions: None) -> PlantedEngine:
    """Without a plant; it asks few questions, but for the planted cases all."""
    loaded.plant = None
    return loaded


@pytest.fixture(scope="session")
def unseen(folder: Path) -> tuple[Task, ...]:
    return choose_tasks([folder], TRAINED, split="heldout")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExaminationConfig:
    """Two quick rows on bare inputs, short answers to compare, and a report without pictures."""
    monkeypatch.setattr(report_module, "draw_pictures", lambda report, out: {})
    monkeypatch.setattr(agreement_module, "_MAX_NEW_TOKENS", 3)
    return ExaminationConfig(
        out=tmp_path / "report",
        rows=("base", "generator"),
        modes=("bare",),
        limit_items=2,
        draws=1,
    )


@dataclass(frozen=True)
class Trial:
    """An engine, the tasks that it is examined on, and what is measured."""

    engine: PlantedEngine
    tasks: tuple[Task, ...]
    config: ExaminationConfig

    @property
    def out(self) -> Path:
        """Folder of the report."""
        return self.config.out

    def changed(self, **settings: Any) -> "Trial":
        """Return the same with other settings."""
        return replace(self, config=replace(self.config, **settings))

    def examine(
        self,
        tasks: Sequence[Task] = (),
        *,
        trained: Sequence[Task] = (),
        cluster: Cluster | None = None,
        **settings: Any,
    ) -> Report:
        """Examine its tasks, or others, with other settings as far as they are given."""
        config = replace(self.config, **settings)
        return examine(self.engine, tasks or self.tasks, config, trained=trained, cluster=cluster)


@pytest.fixture
def trial(engine: PlantedEngine, unseen: tuple[Task, ...], config: ExaminationConfig) -> Trial:
    return Trial(engine, unseen, config)


def baselines_of(engine: Engine, tasks: Sequence[Task], **settings: Any) -> Baselines:
    return Baselines(engine, tasks, ExaminationConfig(out=Path(), **settings))


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]


def keys(out: Path) -> list[tuple[Any, ...]]:
    return [(v["row"], v["mode"], v["draw"], v["slug"], v["item"]) for v in lines(out)]


@pytest.mark.slow
def test_a_cluster_gives_the_scores_of_one_process(
    trial: Trial, cluster_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs of one task each; what is known is not asked again, and needs no cluster."""
    monkeypatch.setattr(eval_pass, "_CHUNK_ITEMS", 2)
    here, there = (trial.changed(out=trial.out / name) for name in ("here", "there"))
    alone = here.examine(trial.tasks[:2])
    there.examine(trial.tasks[:2], rows=("base",))
    together = there.examine(trial.tasks[:2], cluster=Cluster(address=cluster_address))
    assert sorted(keys(there.out)) == sorted(keys(here.out))
    for one, other in zip(in_order(here.out), in_order(there.out), strict=True):
        assert other == one | {"nll": pytest.approx(one["nll"], rel=1e-4)}
    scores = [[(row.row, row.score) for row in report.rows] for report in (together, alone)]
    assert scores[0] == scores[1]
    assert set(together.cost.row_seconds) == {"base", "generator"}
    again = there.examine(trial.tasks[:2], cluster=Cluster(address="nowhere:1"))
    assert again.rows == together.rows


def in_order(out: Path) -> list[dict[str, Any]]:
    return [line for _, line in sorted(zip(keys(out), lines(out), strict=True))]


# Planted generators


def mean_of_training(collection: Collection) -> Plant:
    """What a replication of the paper's generator gave, whatever the prompts."""
    mean = collection.mean()
    return lambda buckets, made: mean


def nearest_of_training(collection: Collection) -> Plant:
    return lambda buckets, made: collection.final(made.nearest_tasks[0].slug)


def own_of_task(collection: Collection) -> Plant:
    """The LoRA of the task whose instruction a prompt begins with; nothing for other prompts."""

    def plant(buckets: Sequence[Bucket], made: Adapter) -> Tensor:
        text = buckets[0].prompts[0].text
        for slug, (_, instruction, _) in ANSWERS.items():
            if text.startswith(instruction):
                return collection.final(slug)
        return torch.zeros_like(made.tokens)

    return plant


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "name"),
    [
        (mean_of_training, "ignores_prompts"),
        (nearest_of_training, "retrieves_nearest"),
        (own_of_task, "matches_oracle"),
        (None, None),
    ],
)
def test_a_planted_generator_is_called_by_its_name(
    plant: Callable[[Collection], Plant] | None,
    name: str | None,
    loaded: PlantedEngine,
    collection: Path,
    multi: Path,
    unseen: tuple[Task, ...],
    config: ExaminationConfig,
) -> None:
    """And by no other; a random generator, which does none of these, is called by none."""
    loaded.plant = None if plant is None else plant(Collection.open(collection))
    # A plant changes nothing of an imprint, and imprints take time: once is enough.
    rows = tuple(row for row in DEFAULT_ROWS if plant is None or row not in IMPRINTED)
    config = replace(config, rows=rows, draws=2, adapters=collection, multi_task_lora=multi)
    report = examine(loaded, unseen, config)
    verdicts = {v.name: v.holds for v in report.verdicts}
    planted = ("ignores_prompts", "retrieves_nearest", "matches_oracle")
    assert {n: verdicts[n] for n in planted} == {n: n == name for n in planted}
    assert {row.row for row in report.rows} == {*rows} - {"trained_teacher"}  # none was trained
    scores = {row.row: row.score for row in report.rows if not row.holdout}
    assert (scores["oracle_lora"], scores["base"], scores["mean_lora"]) == (1, 0, 0)


def of_own_task(collection: Collection) -> ImprintPlant:
    """Carries the task, with the teacher's answers alone."""
    own = own_of_task(collection)
    return lambda buckets, made, teacher: (
        torch.zeros_like(made.tokens) if teacher == "base" else own(buckets, made)
    )


def without_the_teacher(collection: Collection) -> ImprintPlant:
    """As good where the base itself answers: the generator adds nothing."""
    own = own_of_task(collection)
    return lambda buckets, made, teacher: own(buckets, made)


def whatever_the_prompts(collection: Collection) -> ImprintPlant:
    mean = collection.mean()
    return lambda buckets, made, teacher: mean


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "held"),
    [
        (
            of_own_task,
            {"depends_on_prompts", "beats_base", "beats_generator", "beats_imprint"}
            | {"beats_few_shot", "beats_multi_task_lora", "matches_oracle"},
        ),
        (
            without_the_teacher,
            {"depends_on_prompts", "beats_base", "beats_generator"}
            | {"beats_few_shot", "beats_multi_task_lora", "matches_oracle"},
        ),
        (whatever_the_prompts, {"ignores_prompts"}),
    ],
)
def test_a_planted_imprint_is_called_by_its_name(
    trial: Trial,
    plant: Callable[[Collection], ImprintPlant],
    held: set[str],
    collection: Path,
    multi: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And by no other."""
    planted = plant(Collection.open(collection))
    monkeypatch.setattr(trial.engine, "imprint", imprinting([], plant=planted))
    rows = ("base", "few_shot", "multi_task_lora", "generator", *IMPRINTED, "oracle_lora")
    trial = trial.changed(rows=rows, adapters=collection, multi_task_lora=multi)
    report = trial.examine()
    made = {v.name: v.holds for v in report.verdicts if v.row == "generator_imprint"}
    assert made.pop("made_beats_steering_vector") is None, "not measured"
    assert {name.removeprefix("made_") for name, holds in made.items() if holds} == held
    assert None not in made.values()


@pytest.mark.slow
def test_the_refined_row_starts_from_the_generated_adapter_and_its_unlabeled_prompts(
    trial: Trial, collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be refined is left out with the reason, and what refining took is a cost."""
    own = own_of_task(Collection.open(collection))
    given: list[tuple[str, tuple[str, ...]]] = []

    def refine(
        adapter: Adapter, buckets: Sequence[Bucket], settings: RefineConfig
    ) -> Steps[Progress, None, Adapter]:
        prompts = buckets[0].prompts
        assert not settings.labels
        assert {p.label for p in prompts} == {None}
        given.append((adapter.sha256, tuple(p.text for p in prompts)))
        yield Progress("ask", 0.0, 0.0, "ask")
        if len(given) == 1:
            raise TrainingError("teaching needs 8 or more different prompts.")
        seconds = {**adapter.seconds, "refine": 2.5}
        tokens = own(buckets, adapter).to(torch.bfloat16)
        return replace(adapter, tokens=tokens, seconds=seconds)

    monkeypatch.setattr(trial.engine, "refine", refine)
    trial = trial.changed(rows=("generator", "generator_refined"))
    report = trial.examine()
    scores = {row.row: row.score for row in report.rows if not row.holdout}
    assert scores["generator_refined"] == 1 > scores["generator"]
    assert len(given) == len(UNSEEN) == len(set(given))
    sides = [{e.prompt for e in task.train} for task in trial.tasks]
    assert all(any(set(texts) <= side for side in sides) for _, texts in given)
    assert report.cost.refine_seconds == {"generator_refined": 2.5}
    assert f"generator_refined lacks 1 of {len(UNSEEN)} tasks" in report.data
    assert "teaching needs 8 or more" in report.data


@pytest.mark.slow
def test_rows_that_train_from_nothing_start_there_and_see_labels_only_where_they_may(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[tuple[bool, int], dict[str, str | None]] = defaultdict(dict)
    responses = {e.prompt: e.response for task in trial.tasks for e in task.train}

    def refine(
        adapter: Adapter, buckets: Sequence[Bucket], settings: RefineConfig
    ) -> Steps[Progress, None, Adapter]:
        layout = adapter.layout
        made = [m for m in layout.matrices() if m.side == "B"]
        assert made
        assert all(
            not adapter.scaled_tokens[m.first_token : m.first_token + m.num_tokens].any()
            for m in made
        )
        asked[settings.labels, settings.steps] |= {p.text: p.label for p in buckets[0].prompts}
        yield Progress("ask", 0.0, 0.0, "ask")
        return replace(adapter, seconds={**adapter.seconds, "refine": 1.0})

    monkeypatch.setattr(trial.engine, "refine", refine)
    rows = ("base", "shared_lora", "scratch_refined_15", "labelled_5", "labelled_40")
    report = trial.examine(rows=rows)
    assert set(asked) == {(False, 15), (True, 5), (True, 40)}
    assert set(asked[False, 15].values()) == {None}
    assert asked[True, 5] == {text: responses[text] for text in asked[True, 5]} != {}
    scores = {row.row: row.score for row in report.rows if not row.holdout}
    assert scores["labelled_5"] == scores["scratch_refined_15"] == scores["base"]
    assert set(scores) == set(rows)


# Continuing


@pytest.mark.slow
def test_a_second_call_continues_and_rows_modes_and_draws_may_grow(trial: Trial) -> None:
    first = trial.examine(rows=("base",))
    before = (trial.out / "scores.jsonl").read_text()
    assert len(keys(trial.out)) == len(UNSEEN) * 2
    assert {(r.row, r.mode) for r in first.rows} == {("base", "bare")}
    second = trial.examine(modes=("full", "bare"), draws=2)
    found = keys(trial.out)
    assert (trial.out / "scores.jsonl").read_text().startswith(before)
    assert len(found) == len(set(found)) == len(UNSEEN) * 2 * 2 * 3
    assert {(r.row, r.mode, r.draws) for r in second.rows} == {
        ("base", "full", 1),
        ("base", "bare", 1),
        ("generator", "full", 2),
        ("generator", "bare", 2),
    }
    again = trial.examine()
    assert keys(trial.out) == found
    assert {(r.row, r.mode, r.draws) for r in again.rows} == {
        ("base", "bare", 1),
        ("generator", "bare", 1),
    }
    assert again.cosine.different_task is not None


@pytest.mark.slow
def test_a_killed_examination_ends_as_an_unbroken_one(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eval_pass, "_CHUNK_ITEMS", 4)
    whole = trial.changed(out=tmp_path / "whole")
    expected = whole.examine()
    calls = []

    def dying(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return answers.answer(*given)

    with monkeypatch.context() as patch:
        patch.setattr(eval_pass, "answer", dying)
        with pytest.raises(KeyboardInterrupt):
            trial.examine()
    assert len(lines(trial.out)) == 8
    found = trial.examine()
    assert lines(trial.out) == lines(whole.out)
    assert [r.score for r in found.rows] == [r.score for r in expected.rows]


@pytest.mark.slow
@pytest.mark.parametrize("cut", [1, 400])
def test_half_a_line_and_half_a_task_are_forgotten(trial: Trial, cut: int) -> None:
    """One byte off tears the last line; 400 tear the one before too, and its task with it."""
    trial.examine()
    path = trial.out / "scores.jsonl"
    expected = lines(trial.out)
    path.write_bytes(path.read_bytes()[:-cut])
    trial.examine()
    assert sorted(map(json.dumps, lines(trial.out))) == sorted(map(json.dumps, expected))


@pytest.mark.slow
def test_damaged_scores_are_refused(trial: Trial) -> None:
    trial.examine()
    path = trial.out / "scores.jsonl"
    path.write_text("[1]\n" + path.read_text())
    with pytest.raises(
        ConfigError, match=r"holds damaged scores \(TypeError.*\)\. Remove the fold"
    ):
        trial.examine()


def test_a_store_of_an_earlier_version_is_continued_and_one_without_sources_refused(
    trial: Trial,
) -> None:
    trial = trial.changed(rows=("base",))
    trial.examine()
    path = trial.out / "examination.json"
    head = json.loads(path.read_text())
    for name in ("imprint_seconds", "checks", "sureness", "ordinary", "skills"):
        del head[name]
    path.write_text(json.dumps(head))
    before = lines(trial.out)
    (trial.out / "scores.jsonl").write_text(
        "".join(json.dumps({**line, "substituted": None}) + "\n" for line in before)
    )
    trial.examine()
    assert lines(trial.out) == before
    del head["sources"]
    path.write_text(json.dumps(head))
    with pytest.raises(ConfigError, match=r"holds damaged scores \(KeyError\('sources'\)\)\."):
        trial.examine()


OTHER = r"holds scores of other settings, other items or another generator\. Choose another --out"


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"limit_items": 3}, {"condition_prompts": 5}], ids=str
)
def test_scores_of_other_settings_are_refused(trial: Trial, change: dict[str, Any]) -> None:
    trial.examine(rows=("base",))
    with pytest.raises(ConfigError, match=OTHER):
        trial.examine(rows=("base",), **change)


def test_scores_of_other_contents_are_refused(trial: Trial) -> None:
    """Same slugs, same number of items, one other answer."""
    trial = trial.changed(rows=("base",))
    trial.examine()
    first = trial.tasks[0]

    def renewed(examples: Sequence[Example]) -> tuple[Example, ...]:
        return tuple(replace(e, response="new") for e in examples)

    for changed in (
        replace(first, train=renewed(first.train)),
        replace(first, test=renewed(first.test)),
    ):
        with pytest.raises(ConfigError, match=OTHER):
            trial.examine((changed, *trial.tasks[1:]))


def test_a_row_made_of_other_loras_is_refused(
    trial: Trial, multi: Path, tiny_folder: Path, folder: Path, tmp_path: Path
) -> None:
    trial = trial.changed(rows=("multi_task_lora",), multi_task_lora=multi)
    trial.examine()
    other = save(tmp_path / "other", random_tokens(), tiny_folder, "multi_task_lora", folder)
    with pytest.raises(
        ConfigError, match=r"scores of the row multi_task_lora made with another multi-task LoRA\."
    ):
        trial.examine(multi_task_lora=other)


@pytest.mark.slow
def test_a_report_goes_on_with_a_collection_that_was_resumed_for_nothing_or_for_oracles(
    trial: Trial, collection: Path, tmp_path: Path
) -> None:
    """The rows of train LoRAs do not look at oracles; the row of oracles does."""
    folder = shutil.copytree(collection, tmp_path / "collection")
    manifest = json.loads((folder / "manifest.json").read_text())

    def resumed(num_runs: int, threads: int) -> None:
        by_split = sorted(manifest["runs"], key=lambda run: run["split"] != "train")
        changed = {"runs": by_split[:num_runs], "planned": num_runs}
        changed["recipe"] = {**manifest["recipe"], "threads": threads}
        (folder / "manifest.json").write_text(json.dumps(manifest | changed))

    rows = ("mean_lora", "nearest_lora", "oracle_lora")
    trial = trial.changed(rows=rows, adapters=folder)
    resumed(len(ANSWERS) - 1, 0)
    trial.examine()
    resumed(len(ANSWERS) - 1, 4)
    trial.examine()
    resumed(len(ANSWERS), 4)
    trial.examine(rows=rows[:2])
    with pytest.raises(ConfigError, match=r"the row oracle_lora made with other LoRAs"):
        trial.examine()


def test_a_rows_source_counts_from_its_first_score_and_is_told_by_what_the_row_is(
    trial: Trial,
) -> None:
    """A row that was asked for and never scored binds nobody."""
    trial.examine(rows=("base",))
    engine, config = trial.engine, trial.config
    all_items = [
        EvalItems.of(task, engine.base.tokenizer, limit=config.limit_items, seed=config.seed)
        for task in trial.tasks
    ]
    digest = examine_module._hash(engine, config, all_items)

    def opened() -> Any:
        return ResultStore.open(trial.out, digest, all_items)

    rows = ("mean_lora", "generator_refined", "steering_vector")
    opened().agree(dict.fromkeys(rows, "one"))
    store = opened()
    store.agree(dict.fromkeys(rows, "two"))
    (line, *_) = lines(trial.out)
    slug = line["slug"]
    scored = [ItemScore(**v) for v in lines(trial.out) if v["slug"] == slug]
    for row in rows:
        store.add([replace(score, row=row) for score in scored], row, 1.0)
    with pytest.raises(ConfigError, match=r"generator_refined made with another teacher, or o"):
        opened().agree({"generator_refined": "one"})
    with pytest.raises(ConfigError, match=r"steering_vector made with another teacher\. .*leave"):
        opened().agree({"steering_vector": "one"})
    with pytest.raises(ConfigError, match=r"mean_lora made with other LoRAs\. .*name the collect"):
        opened().agree({"mean_lora": "one"})
    opened().agree(dict.fromkeys(rows, "two"))


@pytest.mark.slow
def test_a_kill_between_scores_and_what_is_said_of_them_loses_nothing(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Similarities are found with the scores alone, so they may not be lost after these."""
    whole = trial.examine(out=trial.out / "whole")
    write = ResultStore._write_head
    calls = []

    def dying(store: Any) -> None:
        calls.append(store)
        if len(calls) == 3:  # of the empty store, the base's, the generator's
            raise KeyboardInterrupt
        write(store)

    with monkeypatch.context() as patch:
        patch.setattr(ResultStore, "_write_head", dying)
        with pytest.raises(KeyboardInterrupt):
            trial.examine()
    again = trial.examine()
    assert again.similarity == whole.similarity
    head = json.loads((trial.out / "examination.json").read_text())
    assert set(head["similarities"]) == set(UNSEEN)


# Honesty


@pytest.mark.slow
def test_a_trained_task_is_not_examined_as_held_out(trial: Trial, folder: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"3 of the tasks .* held out are tasks that .* trained on, such as `sea`"
    ):
        trial.examine(load_tasks(folder))
    seen = choose_tasks([folder], TRAINED, split="train")
    report = trial.examine(seen, split="train")
    assert report.split == "train"
    assert report.trained_families_among_them == tuple(sorted(TRAINED))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:In CPU autocast, but the target dtype is not")
def test_what_a_run_was_trained_on_in_which_format_and_chosen_by_is_not_unseen(
    recipe: TrainRecipe, tasks_folder: Path, tiny_folder: Path
) -> None:
    """By what the generator itself says: pairs of known parts are unseen, if not trained."""
    run = replace(recipe, steps=1, format_variants=3, validation_families=("upper",))
    made = train(run).generator
    engine = Engine.load(EngineConfig(base=str(tiny_folder), generator=made, device="cpu"))
    trained = [row["task"] for row in engine.generator.seen("data")]
    variants = engine.generator.seen("variants")
    known = {slug.partition("~")[2] for slug in variants}

    def refuse(tasks: Sequence[Task]) -> None:
        refuse_trained(
            tasks,
            set(trained),
            set(variants),
            {row["task"] for row in engine.generator.seen("validation_data")},
        )

    pairs = choose_tasks(
        [tasks_folder], trained, variants=variants, split="heldout", holdouts=("pair",)
    )
    refuse(pairs)
    assert {task.info.answer_format for task in pairs} <= known
    slug, _, name = variants[0].partition("~")
    tasks = {task.info.slug: task for task in load_tasks(tasks_folder)}
    known_pair = formatted(tasks[slug], name, 0)
    info = replace(known_pair.info, split="heldout", holdout="pair")
    with pytest.raises(ConfigError, match=rf"1 of the tasks .* trained on, such as `{slug}~{name}"):
        refuse([*pairs, replace(known_pair, info=info)])
    others = replace(tasks["upper"], info=replace(tasks["upper"].info, split="heldout"))
    with pytest.raises(
        ConfigError, match=r"1 of .* chose the weights of the generator, such as `up"
    ):
        refuse([others])
    with pytest.raises(ConfigError, match=r"chose the weights of the generator, such as `upper`"):
        examine(engine, [others], ExaminationConfig(out=recipe.out / "report"))


def test_a_task_trained_in_a_format_alone_is_not_unseen(unseen: tuple[Task, ...]) -> None:
    with pytest.raises(ConfigError, match=r"trained on, such as `city`"):
        refuse_trained(unseen, set(), {"city~square"}, set())


def nearest_of(baselines: Baselines, task: Task) -> tuple[NearestTask, ...]:
    found = present(baselines.inspect(task))
    return found.nearest_tasks


def test_other_labels_are_no_known_format(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"a `pair` is a known task in a known answer format"):
        choose_tasks(
            [folder], TRAINED, variants=["sea~labels-1"], split="heldout", holdouts=("pair",)
        )


def test_without_known_formats_there_are_no_pairs(folder: Path) -> None:
    """A format that only other tasks had is not known."""
    pairs = functools.partial(choose_tasks, [folder], TRAINED, split="heldout", holdouts=("pair",))
    with pytest.raises(
        ConfigError, match=r"a `pair` is a known task in a known answer format, and"
    ):
        pairs()
    found = pairs(variants=VARIANTS)
    name = found[0].info.answer_format
    some = pairs(variants=[f"else~{name}"])
    assert {task.info.answer_format for task in some} == {name}
    assert set(some) <= set(found)


def test_two_calls_on_one_folder_do_not_take_each_others_scores_for_damage(trial: Trial) -> None:
    alone = trial.changed(rows=("base",))
    alone.examine()
    before = (trial.out / "scores.jsonl").read_text()
    with (
        only_evaluation_in(trial.out),
        pytest.raises(ConfigError, match=r"another call is writing to `.*`\. Choose another"),
    ):
        alone.examine()
    alone.examine()
    assert (trial.out / "scores.jsonl").read_text() == before


def test_a_report_folder_that_cannot_be_written_to_is_told(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, text: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("dnd_engine.evaluation.result_store.write_whole", refuse)
    with pytest.raises(ConfigError, match=r"cannot be a report folder: Permission denied\. Choose"):
        trial.examine()


def test_a_report_folder_that_is_a_file_is_told(trial: Trial) -> None:
    trial.out.write_text("")
    with pytest.raises(ConfigError, match=r"is a file, not a folder\. Choose another --out"):
        trial.examine()


def test_rows_without_a_source_are_left_out_with_the_reason(trial: Trial) -> None:
    rows = ("base", "mean_lora", "oracle_lora", "multi_task_lora")
    report = trial.examine(rows=rows)
    assert {row.row for row in report.rows} == {"base"}
    assert "--adapters" in report.not_measured["mean_lora"]
    assert "--adapters" in report.not_measured["oracle_lora"]
    assert "--multi-task-lora" in report.not_measured["multi_task_lora"]
    with pytest.raises(
        ConfigError, match=r"no row can be measured: mean_lora needs trained LoRAs: "
    ):
        trial.examine(rows=("mean_lora",))


def test_a_row_that_lacks_tasks_says_so(trial: Trial, collection: Path) -> None:
    renamed = replace(trial.tasks[0], info=replace(trial.tasks[0].info, slug="new"))
    trial = trial.changed(rows=("base", "oracle_lora"), adapters=collection)
    report = trial.examine((renamed, *trial.tasks[1:]))
    counts = {row.row: row.n_tasks for row in report.rows if not row.holdout}
    assert counts == {"base": len(UNSEEN), "oracle_lora": len(UNSEEN) - 1}
    assert f"oracle_lora lacks 1 of {len(UNSEEN)} tasks; `new`: not in the co" in report.data
    alone = trial.changed(out=trial.out / "alone")
    report = alone.examine((renamed,))
    assert report.not_measured["oracle_lora"] == "`new`: not in the collection"


def prompts_given(trial: Trial, tasks: Sequence[Task] = ()) -> list[list[str]]:
    """The prompts of every condition, in the order of synthesis."""
    given: list[list[str]] = []

    def listen(buckets: Sequence[Bucket], made: Adapter) -> Tensor:
        given.append([prompt.text for prompt in buckets[0].prompts])
        return made.tokens

    trial.engine.plant = listen
    trial.examine(tasks)
    return given


@pytest.mark.slow
def test_conditions_are_prompts_of_the_train_side(trial: Trial) -> None:
    """Other ones for every draw, and none that the test side repeats under another instruction."""
    leaky = [
        replace(
            task,
            train=(*task.train, *(replace(e, prompt=f"Do.\n\n{e.bare}") for e in task.test)),
        )
        for task in trial.tasks
    ]
    trial = trial.changed(rows=("generator",), draws=2, condition_prompts=12)
    given = prompts_given(trial, leaky)
    sides = {frozenset(e.prompt for e in task.train): task for task in trial.tasks}
    given, inspected = given[: -len(UNSEEN)], given[-len(UNSEEN) :]
    assert len(given) == 2 * len(UNSEEN)
    assert inspected == given[: len(UNSEEN)], "the first draw is inspected"
    for texts in given:
        assert len(texts) == 12
        assert any(set(texts) <= side for side in sides)
    assert len({frozenset(texts) for texts in given}) == len(given)


@pytest.mark.slow
def test_wrong_prompts_are_another_familys(trial: Trial) -> None:
    rows = ("generator", "generator_wrong", "generator_shuffled", "generator_constant")
    count = len(UNSEEN)
    given = prompts_given(trial.changed(rows=rows))
    right, wrong = given[:count], given[count : 2 * count]
    shuffled, (constant, *inspected) = given[2 * count : 3 * count], given[3 * count :]

    def task_of(texts: Sequence[str]) -> set[str]:
        return {text.partition(".")[0] for text in texts}

    for mine, theirs, mixed in zip(right, wrong, shuffled, strict=True):
        assert len(task_of(mine)) == len(task_of(theirs)) == 1
        assert task_of(mine) != task_of(theirs)
        assert [t.split() for t in mixed] != [t.split() for t in mine]
        assert {tuple(sorted(t.split())) for t in mixed} == {tuple(sorted(t.split())) for t in mine}
    assert constant == [NEUTRAL_PROMPT]
    assert inspected == right


@pytest.mark.slow
def test_wrong_prompts_keep_the_answer_format_where_one_can(trial: Trial, folder: Path) -> None:
    """Where not, the task is left out of the gain of right over wrong prompts."""
    plain = choose_tasks([folder], TRAINED, split="heldout")
    first, second = (formatted(task, "square", 0) for task in plain[:2])
    other = formatted(plain[2], "bold", 0)
    tasks = (first, second, other, *plain[3:])
    baselines = baselines_of(trial.engine, tasks)
    assert baselines.wrong_source(first) == second
    assert baselines.wrong_source(second) == first
    source = present(baselines.wrong_source(plain[3]))
    assert source.info.answer_format == ""
    rows = ("generator", "generator_wrong")
    report = trial.examine(tasks, rows=rows)
    assert report.operation_gain["bare"].left_out == (other.info.slug,)


@pytest.mark.slow
def test_adapters_lie_beside_those_made_for_trained_tasks(
    trial: Trial, folder: Path, collection: Path
) -> None:
    """By the same generator, of their train prompts; else beside a collection's; else nothing."""
    trained = choose_tasks([folder], TRAINED, split="train")
    rows = ("generator",)
    found = trial.examine(rows=rows, trained=trained).distances
    assert (found.training, found.n_training) == ("generated", len(TRAINED))
    page = (trial.out / "REPORT.md").read_text()
    assert f"({len(TRAINED)} generated for training tasks)" in page
    both = trial.changed(rows=rows, adapters=collection)
    assert both.examine(trained=trained).distances.training == "generated"
    assert both.examine().distances.training == "collected"
    # All that the generator was trained on is examined, so nothing can be made of the rest.
    assert both.examine(trained=trial.tasks).distances.training == "collected"
    alone = trial.examine(rows=rows).distances
    assert (alone.n_training, alone.nearest) == (0, None)


@pytest.mark.slow
def test_what_an_inspection_says_of_each_task_reaches_the_report_and_outlives_a_kill(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def inspect(
        adapter: Adapter, buckets: Sequence[Bucket], *, only: tuple[str, ...]
    ) -> Inspection:
        asked.append(len(buckets))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return Inspection(float(len(asked)), {}, adapter.nearest_tasks, 8, Agreement(2, 8))

    monkeypatch.setattr(trial.engine, "inspect", inspect)
    with pytest.raises(KeyboardInterrupt):
        trial.examine()
    report = trial.examine()
    assert len(asked) == len(trial.tasks) + 1, "the first is not asked again"
    found = present(report.agreement)
    assert {t.slug for t in found.tasks} == {task.info.slug for task in trial.tasks}
    assert {t.agreement for t in found.tasks} == {0.25}
    assert [b.n_tasks for b in found.bands] == [len(trial.tasks)]
    assert report.strongest_effect == len(asked)


def test_an_inspection_checks_only_what_the_report_keeps(
    engine: PlantedEngine, unseen: tuple[Task, ...]
) -> None:
    found = present(baselines_of(engine, unseen).inspect(unseen[0]))
    assert present(found.effect) > 0
    assert present(found.agreement).num_prompts > 0
    left = (found.verdict, found.ordinary, found.skills)
    assert left == (None, None, None), "not kept, or measured beside the scores"


def imprinting(
    asked: list[tuple[str, str]],
    left_out: tuple[str, ...] = (),
    plant: ImprintPlant = lambda buckets, made, teacher: -made.tokens,
) -> Callable[..., Steps[Progress, None, Adapter]]:
    """Imprint in a moment, and note each teacher and instruction."""

    def imprint(
        adapter: Adapter,
        buckets: Sequence[Bucket],
        settings: ImprintConfig,
        *,
        teacher: Teacher,
        memory: PromptMemory,
    ) -> Steps[Progress, None, Adapter]:
        yield Progress("ask", 0.0, 0.0, "ask_with_instruction")
        asked.append((teacher, buckets[0].prompts[0].text.partition(".")[0]))
        found = recorded_imprint(settings, teacher=teacher, left_out=left_out)
        return replace(
            adapter,
            tokens=plant(buckets, adapter, teacher).to(torch.bfloat16),
            provenance={**adapter.provenance, "imprint": found.to_json()},
            seconds={**adapter.seconds, "imprint": 1.5},
        )

    return imprint


@pytest.mark.slow
def test_imprinted_rows_are_what_the_engine_makes_of_the_same_prompts(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with its teacher; draws for the row of the generator, and their time is a cost."""
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(trial.engine, "imprint", imprinting(asked))
    report = trial.examine(rows=IMPRINTED, draws=2)
    own = [instruction for _, instruction, _ in ANSWERS.values()][len(TRAINED) :]
    count = len(UNSEEN)
    assert Counter(asked[:count]) == {("base", name): 1 for name in own}
    assert Counter(asked[count : 3 * count]) == {("generator", name): 2 for name in own}
    assert len(asked) == 4 * count
    right = asked[count : 2 * count]
    assert all(a != b for a, b in zip(right, asked[3 * count :], strict=True))
    draws = {row.row: row.draws for row in report.rows}
    assert draws == {"imprint": 1, "generator_imprint": 2, "generator_imprint_wrong": 1}
    assert report.cost.imprint_seconds == dict.fromkeys(IMPRINTED, 1.5)


def give_teacher(
    engine: Engine, folder: Path, tokens: Tensor, monkeypatch: pytest.MonkeyPatch
) -> GeneratorFolder:
    """Let an engine's generator have a trained teacher."""
    save_teacher(engine.generator, folder, tokens, {})
    taught = GeneratorFolder.open(folder)
    monkeypatch.setattr(engine, "info", replace(engine.info, teacher_sha256=taught.teacher_sha256))
    monkeypatch.setattr(PlantedEngine, "generator", taught)
    return taught


@pytest.mark.slow
def test_a_steering_vector_is_made_from_the_prompts_and_the_teacher_of_the_imprint(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is added to the base, and the row is left out without a trained teacher."""
    asked: list[Sequence[tuple[str, str]]] = []
    higher = LAYOUT.with_rank(6)
    tokens = random_tokens(higher, seed=3)
    expected = trial.engine.runtime.host.fit(tokens[None], higher).factors
    strength = 0.0

    def between(
        runtime: Runtime, prompts: Sequence[tuple[str, str]], teacher: FittedLoRA
    ) -> Steering:
        torch.testing.assert_close(teacher.factors, expected, rtol=0.01, atol=0.01)
        asked.append(prompts)
        change = torch.linspace(-1, 1, int(runtime.base.config["hidden_size"]))
        return Steering(1, strength * change)

    monkeypatch.setattr(baselines_module, "steering_between", between)
    trial = trial.changed(rows=("base", "steering_vector"))
    report = trial.examine()
    assert "no trained teacher" in report.not_measured["steering_vector"]
    give_teacher(trial.engine, tmp_path / "taught", tokens, monkeypatch)
    report = trial.examine()
    losses = {row.row: row.nll for row in report.rows}
    # One goes through packed weights, the other through transformers' modules.
    assert losses["steering_vector"] == pytest.approx(losses["base"], abs=0.05)
    baselines = Baselines(trial.engine, trial.tasks, trial.config)
    assert asked == [
        [(text, split_prompt(text).input) for text in baselines._conditions(task, task, 0)]
        for task in trial.tasks
    ]
    strength = 50.0
    report = trial.examine(out=trial.out / "steered")
    steered = {row.row: row.nll for row in report.rows}
    assert present(steered["steering_vector"]) > present(steered["base"]) + 0.1


def test_slow_rows_are_measured_only_when_they_are_named() -> None:
    assert set(ROWS) - set(DEFAULT_ROWS) == {*REFINED, "steering_vector"}


@pytest.mark.slow
def test_every_task_is_forecast_once_by_the_teacher_of_its_imprint(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def forecast(bucket: Bucket) -> Forecast:
        asked.append(len(bucket.prompts))
        return Forecast(sureness=len(asked) / 10, num_prompts=8)

    monkeypatch.setattr(trial.engine, "imprint", imprinting([]))
    monkeypatch.setattr(trial.engine, "forecast", forecast)
    trial = trial.changed(rows=("base",))
    assert trial.examine().forecast is None
    assert asked == [], "nothing of the base is forecast"
    trial = trial.changed(rows=("base", "generator_imprint"))
    found = present(trial.examine().forecast)
    assert len(found.tasks) == len(asked) == len(UNSEEN)
    assert [task.sureness for task in found.tasks] == [n / 10 for n in range(1, len(UNSEEN) + 1)]
    assert trial.examine().forecast == found
    assert len(asked) == len(UNSEEN), "kept with the scores"
    other = replace(trial.engine.info, teacher_sha256="f" * 64)
    monkeypatch.setattr(trial.engine, "info", other)
    with pytest.raises(ConfigError, match="generator_imprint made with another teacher"):
        trial.examine()


@pytest.mark.slow
def test_the_verdict_that_users_get_is_kept_for_every_first_imprint(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the prompts it was made from; a folder of an earlier version gets what it lacks."""
    asked: list[set[str]] = []
    answered = [(0, True), (3, True), (6, True), (6, False)]
    tasks = trial.tasks[: len(answered)]

    def verdict(adapter: Adapter, buckets: Sequence[Bucket]) -> AdapterVerdict | None:
        assert adapter.is_imprinted
        asked.append({prompt.text for prompt in buckets[0].prompts})
        same, left_out = answered[len(asked) - 1]
        return judge(Agreement(same, 6, left_out=left_out))

    monkeypatch.setattr(trial.engine, "imprint", imprinting([], left_out=("a digest",)))
    monkeypatch.setattr(trial.engine, "verdict", verdict)
    trial = trial.changed(rows=("generator_imprint",))
    found = present(trial.examine(tasks).adapter_verdicts)
    baselines = Baselines(trial.engine, tasks, trial.config)
    assert asked == [set(baselines._conditions(task, task, 0)) for task in tasks]
    assert [(t.same, t.num_prompts, t.verdict) for t in found.tasks] == [
        *((0, 6, "does_not"), (3, 6, "in_part"), (6, 6, "works")),
    ], "only of left-out prompts"
    assert [(b.verdict, b.n_tasks) for b in found.bands] == [
        *(("works", 1), ("in_part", 1), ("does_not", 1)),
    ]
    assert trial.examine(tasks).adapter_verdicts == found
    assert len(asked) == len(tasks), "kept with the scores"
    head = json.loads((trial.out / "examination.json").read_text())
    assert set(head.pop("adapter_verdicts")) == {task.info.slug for task in tasks}
    (trial.out / "examination.json").write_text(json.dumps(head))
    asked.clear()
    before = (trial.out / "scores.jsonl").read_text()
    assert trial.examine(tasks).adapter_verdicts == found
    assert (trial.out / "scores.jsonl").read_text() == before
    assert len(asked) == len(tasks)


@pytest.mark.slow
def test_verdicts_are_not_asked_where_no_prompt_was_left_out(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verdict(adapter: Adapter, buckets: Sequence[Bucket]) -> AdapterVerdict:
        raise AssertionError

    monkeypatch.setattr(trial.engine, "imprint", imprinting([]))
    monkeypatch.setattr(trial.engine, "verdict", verdict)
    trial = trial.changed(rows=("imprint", "generator_imprint"))
    assert trial.examine(trial.tasks[:1]).adapter_verdicts is None


@pytest.mark.slow
def test_the_kept_verdict_is_the_one_that_an_inspection_gives(trial: Trial) -> None:
    """A real imprint gets the product's own check, and no other check runs."""
    task = trial.tasks[0]
    report = trial.examine([task], rows=("generator_imprint",))
    (kept,) = present(report.adapter_verdicts).tasks
    texts = Baselines(trial.engine, [task], trial.config)._conditions(task, task, 0)
    bucket = baselines_module._bucket(texts)
    made = trial.engine.generate([bucket], seed=trial.config.seed, imprinted=True)
    told = present(trial.engine.inspect(made, [bucket]).verdict)
    assert told.left_out
    assert (kept.same, kept.num_prompts, kept.verdict) == (
        *(told.same, told.num_prompts, told.degree),
    )
    assert trial.engine.verdict(made, [bucket]) == told


@pytest.mark.slow
def test_what_teaching_adds_to_an_imprint_starts_from_it_and_counts_its_seconds(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled: dict[int, set[bool]] = defaultdict(set)

    def refine(
        adapter: Adapter, buckets: Sequence[Bucket], settings: RefineConfig
    ) -> Steps[Progress, None, Adapter]:
        assert adapter.is_imprinted
        labelled[settings.steps] |= {p.label is not None for p in buckets[0].prompts}
        yield Progress("ask", 0.0, 0.0, "ask")
        return replace(adapter, seconds={**adapter.seconds, "refine": 2.0})

    def teach(
        adapter: Adapter,
        answers: LocalTeacher,
        buckets: Sequence[Bucket],
        settings: RefineConfig,
    ) -> Steps[Progress, None, Adapter]:
        assert adapter.is_imprinted
        assert answers is better
        assert not settings.held_back_share, "scored on items of the task itself"
        labelled[settings.steps] |= {p.label is not None for p in buckets[0].prompts}
        yield Progress("ask", 0.0, 0.0, "ask")
        return replace(adapter, seconds={**adapter.seconds, "train": 6.0})

    better = LocalTeacher(base="smollm2-135m-instruct", device="cpu")
    monkeypatch.setattr(trial.engine, "imprint", imprinting([]))
    monkeypatch.setattr(trial.engine, "refine", refine)
    monkeypatch.setattr(trial.engine, "teach", teach)
    rows = ("generator_imprint", "imprint_refined_15", "imprint_taught_20", "imprint_labelled_40")
    trial = trial.changed(rows=rows, modes=("bare",), draws=1)
    report = trial.examine(trial.tasks[:2], teacher=better)
    assert labelled == {15: {False}, 20: {False}, 40: {True}}
    points = present(report.refine).points
    assert [(p.start, p.steps, p.seconds) for p in points] == [
        ("imprint", 0, 1.5),
        ("imprint", 15, 3.5),
        ("imprint_better", 20, 7.5),
        ("imprint_labels", 40, 3.5),
    ]
    assert report.equal_score is None, "it compares runs from nothing"
    source = Baselines(trial.engine, trial.tasks[:1], replace(trial.config, teacher=better)).source
    assert better.sha256 in source("imprint_taught_20")
    assert better.sha256 not in source("imprint_labelled_40")


def test_a_row_of_a_better_model_is_left_out_without_one(trial: Trial) -> None:
    report = trial.examine(trial.tasks[:1], rows=("base", "imprint_taught_20"))
    assert "--teacher-base" in report.not_measured["imprint_taught_20"]


def test_a_task_that_cannot_be_imprinted_is_missing_with_the_reason(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not scored with the generator's own adapter, which is what the engine falls back to."""
    bare = replace(
        trial.tasks[0],
        train=tuple(replace(e, prompt=e.prompt.replace("\n\n", " ")) for e in trial.tasks[0].train),
    )
    tried: list[str] = []
    imprint = trial.engine.imprint

    def counted(*args: Any, **kwargs: Any) -> Any:
        tried.append("imprint")
        return imprint(*args, **kwargs)

    monkeypatch.setattr(trial.engine, "imprint", counted)
    rows = ("base", "generator_imprint")
    report = trial.examine((bare,), rows=rows)
    assert report.not_measured["generator_imprint"].startswith(
        f"`{bare.info.slug}`: no prompt has an instruction and an input"
    )
    assert len(tried) == 1


def test_a_task_without_bare_inputs_is_asked_only_once(trial: Trial) -> None:
    """It never has bare scores, so another call must not look for them."""
    task = trial.tasks[0]
    whole = replace(
        task, test=tuple(replace(e, prompt=e.prompt.replace("\n\n", " ")) for e in task.test)
    )
    trial = trial.changed(rows=("generator",), modes=("full", "bare"))
    first = trial.examine((whole,))
    assert {row.mode for row in first.rows} == {"full"}
    assert trial.examine((whole,)).rows == first.rows
    head = json.loads((trial.out / "examination.json").read_text())
    assert len(head["synthesis_seconds"]) == 1


def test_imprints_with_other_settings_are_refused(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial.changed(rows=("imprint",))
    made = make_adapter(provenance={"imprint": {}})
    monkeypatch.setattr(trial.engine, "generate", lambda *_, **__: made)
    trial.examine(trial.tasks[:1])
    monkeypatch.setattr(baselines_module, "ImprintConfig", lambda: ImprintConfig(r=4))
    with pytest.raises(ConfigError, match="row imprint made with another teacher, or other set"):
        trial.examine(trial.tasks[:1])


@pytest.mark.slow
def test_ordinary_messages_are_asked_of_the_first_adapters_and_after_a_kill(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that was checked is not checked again."""
    known = trial.engine.ordinary_answers().known
    before = replace(base_answers(trial.engine.runtime, ("Hi", "A good book?")), known=known)
    monkeypatch.setattr(trial.engine, "ordinary_answers", lambda: before)
    asked: list[int] = []

    def share(runtime: Runtime, fitted: FittedLoRA, expected: BaseAnswers) -> Ordinary:
        asked.append(len(expected.questions))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return ordinary_share(runtime, fitted, expected)

    monkeypatch.setattr(eval_pass, "ordinary_share", share)
    trial = trial.changed(draws=2)
    zeros = torch.zeros(LAYOUT.num_tokens, LAYOUT.spec.r, LAYOUT.width)
    trial.engine.plant = lambda buckets, made: zeros
    with pytest.raises(KeyboardInterrupt):
        trial.examine()
    found = trial.examine().ordinary["generator"]
    assert set(asked) == {2}
    assert found.per_task == {task.info.slug: 1.0 for task in trial.tasks}, "zeros change nothing"
    count = len(asked)
    assert trial.examine().ordinary["generator"] == found
    assert len(asked) == count


@pytest.mark.slow
def test_unrelated_questions_are_asked_before_and_after_and_of_a_store_that_lacks_them(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report of an earlier version gets them, and its ordinary messages are not asked again."""
    right = [True] * 18 + [False] * 6
    before = replace(base_answers(trial.engine.runtime, ("Hi", "A good book?")), known=(*right,))
    monkeypatch.setattr(trial.engine, "ordinary_answers", lambda: before)
    asked: list[Sequence[bool]] = []

    def questions(runtime: Runtime, fitted: FittedLoRA, before: Sequence[bool]) -> Skills:
        asked.append(before)
        return Skills(before=18, after=12, lost=7, num_questions=24)

    monkeypatch.setattr(eval_pass, "skills", questions)
    trial = replace(
        trial.changed(rows=("generator",), modes=("bare",), draws=2), tasks=trial.tasks[:3]
    )
    found = trial.examine().skills["generator"]
    assert (found.share, found.base, found.n_questions) == (0.5, 0.75, 24)
    assert found.per_task == {task.info.slug: 0.5 for task in trial.tasks}
    assert asked == [(*right,)] * len(trial.tasks), "once a task, of its first adapter"
    path = trial.out / "examination.json"
    head = json.loads(path.read_text())
    del head["skills"]
    path.write_text(json.dumps(head))
    asked.clear()
    monkeypatch.setattr(eval_pass, "ordinary_share", None)
    assert trial.examine().skills["generator"] == found
    assert len(asked) == len(trial.tasks)


def test_one_family_alone_has_no_wrong_prompts(trial: Trial) -> None:
    report = trial.examine(trial.tasks[:1], rows=("base", "generator_wrong"))
    assert "all tasks examined are of one family" in report.not_measured["generator_wrong"]


def test_the_shots_are_train_examples_with_their_answers(trial: Trial) -> None:
    """As chat turns, in the words of the mode; they fit their share of what the base reads."""
    baselines = baselines_of(trial.engine, trial.tasks)
    task = trial.tasks[0]
    setup = present(baselines.setup("few_shot", task, 0))
    assert setup.tokens is None
    assert 2 <= len(setup.shots) <= 8
    assert set(setup.shots) <= set(task.train)
    item = task.test[0]
    for mode in MODES:
        asked = ask(baselines.tokenizer, item, mode, shots=setup.shots, max_new_tokens=5)
        alone = ask(baselines.tokenizer, item, mode, max_new_tokens=5)
        text = str(baselines.tokenizer.decode(list(asked.prompt)))
        for shot in setup.shots:
            content = shot.prompt if mode == "full" else shot.bare
            assert f"user\n{content}<|im_end|>\n<|im_start|>assistant\n{shot.response}<" in text
        assert text.endswith(str(baselines.tokenizer.decode(list(alone.prompt))))
        assert len(asked.prompt) - len(alone.prompt) < 512 - len(alone.prompt)


def test_the_trained_teacher_is_a_row_of_its_own_where_there_is_one(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial.changed(rows=("base", "trained_teacher"), modes=("full",))
    found = trial.examine()
    assert {row.row for row in found.rows} == {"base"}
    assert "no trained teacher" in found.not_measured["trained_teacher"]
    higher = LAYOUT.with_rank(6)
    tokens = random_tokens(higher, seed=3)
    folder = give_teacher(trial.engine, tmp_path / "taught", tokens, monkeypatch)
    baselines = baselines_of(trial.engine, trial.tasks)
    assert baselines.why_not("trained_teacher") is None
    setup = present(baselines.setup("trained_teacher", trial.tasks[0], 0))
    torch.testing.assert_close(setup.tokens, tokens, rtol=0.01, atol=0.01, check_dtype=False)
    assert setup.layout == higher
    assert baselines.is_common("trained_teacher")
    assert baselines.source("trained_teacher") == folder.teacher_sha256


def tokens_of_nearest(baselines: Baselines, task: Task) -> Tensor:
    return present(present(baselines.setup("nearest_lora", task, 0)).tokens)


def test_the_nearest_lora_is_the_nearest_training_tasks(
    engine: PlantedEngine, unseen: tuple[Task, ...], collection: Path
) -> None:
    opened = Collection.open(collection)
    baselines = baselines_of(engine, unseen, adapters=collection)
    tokens = tokens_of_nearest(baselines, unseen[0])
    assert baselines.setup("generator", unseen[0], 0) is not None
    nearest = nearest_of(baselines, unseen[0])
    assert [near.similarity for near in nearest] == sorted(
        (near.similarity for near in nearest), reverse=True
    )
    assert nearest[0].slug in TRAINED
    assert torch.equal(tokens, opened.final(nearest[0].slug))


@pytest.mark.slow
def test_the_nearest_lora_is_never_the_tasks_own(
    engine: PlantedEngine, folder: Path, collection: Path
) -> None:
    """A seen task is nearest to itself; its own LoRA is another row."""
    opened = Collection.open(collection)
    seen = choose_tasks([folder], TRAINED, split="train")
    baselines = baselines_of(engine, seen, adapters=collection)
    for task in seen:
        slug = task.info.slug
        tokens = tokens_of_nearest(baselines, task)
        first, second, *_ = nearest_of(baselines, task)
        assert first.slug == slug
        assert torch.equal(tokens, opened.final(second.slug))


def test_the_nearest_lora_of_a_task_in_a_format_is_not_that_of_the_task_without(
    engine: PlantedEngine, folder: Path, collection: Path
) -> None:
    task = formatted(choose_tasks([folder], TRAINED, split="train")[0], "square", 0)
    baselines = baselines_of(engine, [task], adapters=collection)
    nearest, second, *_ = nearest_of(baselines, task)
    assert f"{nearest.slug}~square" == task.info.slug
    tokens = tokens_of_nearest(baselines, task)
    assert torch.equal(tokens, Collection.open(collection).final(second.slug))


def test_a_lora_of_another_version_of_a_task_is_not_used(
    trial: Trial, folder: Path, collection: Path
) -> None:
    """It may have been trained on what are test items now."""
    seen = choose_tasks([folder], TRAINED, split="train")
    changed = [replace(seen[0], train=seen[0].train[:-1]), *seen[1:]]
    rows = ("base", "nearest_lora", "mean_lora", "oracle_lora")
    trial = trial.changed(split="train", rows=rows, adapters=collection)
    report = trial.examine(changed)
    counts = {row.row: row.n_tasks for row in report.rows if not row.holdout}
    assert counts["oracle_lora"] == len(seen) - 1
    assert "mean_lora" not in counts
    slug = seen[0].info.slug
    assert f"LoRA of `{slug}` was trained on other examples" in report.data
    assert f"LoRA of `{slug}` was tr" in report.not_measured["mean_lora"]
    known = baselines_of(trial.engine, changed, adapters=collection)
    nearest = {task.info.slug: known.setup("nearest_lora", task, 0) for task in changed}
    assert None in nearest.values(), "the changed task is another's nearest"


def test_the_nearest_lora_is_found_behind_nearer_tasks_that_have_none(
    engine: PlantedEngine,
    unseen: tuple[Task, ...],
    collection: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An adapter names five training tasks; here six without a LoRA lie nearer than any with."""
    opened = Collection.open(collection)
    task = unseen[0]
    baselines = baselines_of(engine, unseen, adapters=collection)
    seen: list[tuple[Sequence[Bucket], Adapter]] = []

    def listen(buckets: Sequence[Bucket], made: Adapter) -> Tensor:
        seen.append((buckets, made))
        return made.tokens

    def is_setup_of(slug: str) -> bool:
        return torch.equal(tokens_of_nearest(baselines, task), opened.final(slug))

    engine.plant = listen
    baselines.setup("generator", task, 0)
    buckets, before = seen[0]
    first, _, last = (near.slug for near in before.nearest_tasks)
    assert engine.rank_tasks(buckets) == before.nearest_tasks
    mine = tuple(engine._loaded.encode(engine._loaded.draw(buckets, 0)).pooled.mean(dim=0).tolist())
    nearer = tuple(TaskCentroid(f"near-{i}", "Without a LoRA", mine) for i in range(6))
    trained = engine.generator
    refolder(monkeypatch, engine, replace(trained, tasks=(*nearer, *trained.tasks)))

    baselines.setup("generator", task, 0)
    _, after = seen[1]
    assert len(after.nearest_tasks) == len(after.provenance["nearest_tasks"]) == 5
    assert not {near.slug for near in after.nearest_tasks} & set(TRAINED)
    assert engine.rank_tasks(buckets)[6:] == before.nearest_tasks
    assert is_setup_of(first)
    baselines.collection = replace(opened, runs=tuple(r for r in opened.runs if r.slug == last))
    assert is_setup_of(last)
    refolder(monkeypatch, engine, replace(trained, tasks=nearer))
    assert baselines.setup("nearest_lora", task, 0) is None
    assert baselines.missing["nearest_lora"][task.info.slug].startswith("no other training task")


def test_a_generator_named_by_a_dot_has_a_report_with_the_name_of_its_folder(
    trial: Trial, generator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(generator)
    refolder(monkeypatch, trial.engine, replace(trial.engine.generator, path=Path()))
    assert trial.examine(trial.tasks[:1], rows=("base",)).generator == "generator"


def test_a_generator_is_no_multi_task_lora(trial: Trial, generator: Path) -> None:
    trial = trial.changed(rows=("multi_task_lora",), multi_task_lora=generator)
    with pytest.raises(
        ConfigError, match=r"is a generator, not a multi-task LoRA\. Train one with"
    ):
        trial.examine()


@pytest.mark.slow
def test_the_same_items_are_asked_in_every_row_and_mode_and_long_ones_in_none(trial: Trial) -> None:
    task = trial.tasks[0]
    long = tuple(replace(e, prompt=f"{'x' * 300}.\n\n{e.bare}") for e in task.test[:4])
    mixed = replace(task, test=(*long, *task.test[4:]))
    blended = trial.changed(modes=MODES, limit_items=6)
    blended.examine((mixed, *trial.tasks[1:]))
    asked: dict[tuple[str, str], set[int]] = {}
    for line in lines(trial.out):
        if line["slug"] == task.info.slug:
            asked.setdefault((line["row"], line["mode"]), set()).add(line["item"])
    assert list(asked.values()) == [set(range(4, len(mixed.test)))] * 4


def test_an_item_score_says_what_was_written(trial: Trial, collection: Path) -> None:
    tasks = [
        replace(
            task,
            info=replace(task.info, metric="choice"),
            test=tuple(replace(e, options=("zzz", e.response)) for e in task.test),
        )
        for task in trial.tasks
    ]
    trial.examine(tasks, rows=("base", "oracle_lora"), adapters=collection)
    for line in lines(trial.out):
        right = line["row"] == "oracle_lora"
        assert (line["exact"], line["score"]) == (right, float(right))
        assert (line["text"] == ANSWERS[line["slug"]][2]) == right
        assert line["format_ok"] is line["content_ok"] is None
        assert line["choice"] is not None
        assert line["choice"] or not right
        assert (line["nll"] < 0.5) == right


# What is examined


def test_held_out_tasks_are_chosen_by_what_is_new(folder: Path) -> None:
    def kinds(**given: Any) -> set[str]:
        chosen = choose_tasks([folder], TRAINED, variants=VARIANTS, **given)
        return {t.info.holdout for t in chosen}

    assert kinds(split="heldout") == {"family"}
    assert kinds(split="heldout", holdouts=("family", "pair")) == {"family", "pair"}
    assert kinds(split="heldout", holdouts=("format",)) == {"format"}
    assert kinds(split="train") == {""}
    with pytest.raises(
        ConfigError, match=r"no tasks to examine: .* split heldout and holdout prim"
    ):
        choose_tasks([folder], TRAINED, split="heldout", holdouts=("primitive",))
    with pytest.raises(ConfigError, match=r"hold none of split train that the generator knows\."):
        choose_tasks([folder], ["else"], split="train")
    with pytest.raises(
        ConfigError, match=r"expected a split of train, heldout and holdouts of fam"
    ):
        choose_tasks([folder], TRAINED, split="heldout", holdouts=("luck",))
    with pytest.raises(ConfigError, match=r"`holdouts` are kinds of held-out tasks\. Leave them o"):
        choose_tasks([folder], TRAINED, split="train", holdouts=("pair",))
    with pytest.raises(ConfigError, match="`limit` must be at least 1, got 0"):
        choose_tasks([folder], TRAINED, split="train", limit=0)


def test_pairs_and_formats_are_made_of_trained_tasks_alone(folder: Path) -> None:
    for name in ("pair", "format"):
        found = choose_tasks(
            [folder], TRAINED, variants=VARIANTS, split="heldout", holdouts=(name,)
        )
        assert {task.info.slug.partition("~")[0] for task in found} <= set(TRAINED)
        assert all(task.info.answer_format for task in found)


def test_seen_tasks_are_those_of_training_as_they_are(folder: Path) -> None:
    """Their variants would multiply them."""
    found = choose_tasks(
        [folder], ["sea", "sky", "gone"], variants=["sea~square", "wood~bold"], split="train"
    )
    assert [task.info.slug for task in found] == ["sea", "sky"]


def test_a_limit_draws_as_many_tasks_of_each_kind_of_novelty(folder: Path) -> None:
    kinds = ("family", "pair", "format")
    known = functools.partial(
        choose_tasks, [folder], TRAINED, variants=VARIANTS, split="heldout", holdouts=kinds
    )
    chosen = known(limit=7)
    assert len({task.info.slug for task in chosen}) == 7
    counts = Counter(task.info.holdout for task in chosen)
    everything = known()
    there = Counter(task.info.holdout for task in everything)
    most = max(counts.values())
    assert all(counts[kind] >= min(there[kind], most - 1) for kind in kinds)


def test_a_limit_draws_tasks_by_seed(folder: Path) -> None:
    def slugs(seed: int) -> list[str]:
        chosen = choose_tasks([folder], TRAINED, split="heldout", limit=3, seed=seed)
        return [task.info.slug for task in chosen]

    assert slugs(0) == slugs(0)
    assert len(slugs(0)) == 3
    assert len({tuple(slugs(seed)) for seed in range(8)}) > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": ("luck",)}, r"`rows` must be some of base, few_shot, .*; got luck\."),
        ({"rows": ()}, r"`rows` must be some of .*; got none\."),
        ({"rows": ("base", "base")}, r"`rows` .*, each once; got base, base\."),
        ({"modes": ("bare", "bare")}, r"`modes` must be some of full, bare, each once; got bare, "),
        ({"split": "test"}, r"`split` must be some of train, heldout, each once; got test\."),
        ({"draws": 0}, r"`draws` must be at least 1, got 0\."),
        ({"limit_items": 0}, r"`limit_items` must be at least 1, got 0\."),
    ],
)
def test_a_setting_out_of_bounds_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ExaminationConfig(out=Path("x"), **change)


# Costs


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["reconstruction", "task_loss"])
def test_the_cost_says_when_a_generator_has_paid_for_itself(
    trial: Trial, collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    """Collecting is a cost of a generator that was trained on the checkpoints, and of no other."""
    from_checkpoints = objective == "reconstruction"
    recipe = {"objective": objective, "collection": "loras" if from_checkpoints else None}
    trained = trial.engine.generator.config
    altered = replace(trained, training={**trained.training, "recipe": recipe})
    refolder(monkeypatch, trial.engine, replace(trial.engine.generator, config=altered))
    run = tmp_path / "run"
    run.mkdir()
    times = {"seconds": 25.0, "watch_seconds": 5.0, "tokens": 100}
    steps = [{"step": n, "loss": 1.0, **times} for n in (1, 2)]
    # The last line as a run leaves it that is killed while it writes.
    (run / "log.jsonl").write_text("".join(json.dumps(s) + "\n" for s in steps) + '{"step": 3, "lo')
    # Small LoRAs are made in no time, so that nothing would ever pay back: hours instead.
    folder = shutil.copytree(collection, tmp_path / "collection")
    for r in Collection.open(collection).runs:
        seconds = 3600.0 if r.split == "train" else 7200.0
        write_losses(folder / r.folder, [LossRow(0, seconds=seconds)])
    report = trial.examine(adapters=folder, runs=(run,))
    cost = report.cost
    assert cost.training_seconds == 60
    # Held-out oracles cost it nothing.
    collected = len(TRAINED) * 3600 if from_checkpoints else None
    assert cost.collection_seconds == collected
    saved = present(cost.lora_seconds) - present(cost.synthesis_seconds)
    assert cost.break_even_tasks == math.ceil((60 + (collected or 0)) / saved)
    assert cost.break_even_tasks == (2 if from_checkpoints else 1)
    assert "encoding prompts" in (trial.out / "REPORT.md").read_text()
    assert set(cost.row_seconds) == {"base", "generator"}
    estimates = cost.estimates_not_measured
    assert estimates["training_flops"] == 4 * trial.engine.info.base_parameters * 200


@pytest.mark.parametrize("log", [None, "", "{}\n", "half\n", "[]\n"])
def test_a_run_without_a_sound_log_is_refused(
    trial: Trial, tmp_path: Path, log: str | None
) -> None:
    if log is not None:
        (tmp_path / "log.jsonl").write_text(log)
    with pytest.raises(
        ConfigError, match=r"is no run folder with a sound `log\.jsonl`: .* --run o"
    ):
        trial.examine(rows=("base",), runs=(tmp_path,))


# The command


def dnd(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.mark.slow
def test_evaluate_writes_a_report_continues_it_and_keeps_it_with_the_generator(
    folder: Path, generator: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    mine = shutil.copytree(generator, tmp_path / "generator")
    (mine / "README.md").write_text("# Card\n")
    arguments = ["evaluate", "--tasks", folder, "--generator", mine, "--base", tiny_folder]
    arguments += ["--out", tmp_path / "report", "--limit-items", 2, "--limit-tasks", 3]
    arguments += ["--rows", "base,generator", "--draws", 1, "--prompts", 7, "--json"]
    first = dnd(*arguments, "--modes", "bare")
    assert first.exit_code == 0, first.stderr
    report = Report.from_json(json.loads(first.stdout))
    assert {(r.row, r.mode) for r in report.rows} == {
        ("base", "bare"),
        ("generator", "bare"),
    }
    assert (
        "3 held-out tasks of words, up to 2 items each, adapters from up to 7 prompts."
        in report.data
    )
    before = (tmp_path / "report" / "scores.jsonl").read_text()
    other = dnd(*arguments, "--prompts", 6)
    assert other.exit_code == 1
    assert "holds scores of other settings" in other.stderr, "adapters from other prompts"
    second = dnd(*arguments, "--card")
    assert second.exit_code == 0, second.stderr
    assert {r["mode"] for r in json.loads(second.stdout)["rows"]} == {"bare", "full"}
    assert (tmp_path / "report" / "scores.jsonl").read_text().startswith(before)
    assert "3 held-out tasks" in (mine / "README.md").read_text()
    kept = json.loads((mine / "reports" / "heldout.json").read_text())
    assert kept["generator_sha256"] == report.generator_sha256
    named = dnd(*arguments, "--card", "--section", "my-own")
    assert named.exit_code == 0, named.stderr
    assert {p.stem for p in (mine / "reports").iterdir()} == {"heldout", "my-own"}
    other = dnd(*arguments, "--seed", "1")
    assert other.exit_code == 1
    assert "holds scores of other settings" in other.stderr


@pytest.mark.slow
def test_the_command_names_the_base_that_teaches(
    folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    """On a base without a generator, where the same base may as well be the better one."""
    arguments = ["evaluate", "--tasks", folder, "--base", tiny_folder, "--generator", "none"]
    arguments += ["--out", tmp_path / "report", "--limit-items", 1, "--limit-tasks", 1]
    arguments += ["--rows", "imprint_taught_20", "--modes", "bare", "--prompts", 8, "--json"]
    without = dnd(*arguments)
    assert without.exit_code == 1
    assert "name one with --teacher-base" in without.stderr
    missing = dnd(*arguments, "--teacher-base", tmp_path / "nowhere")
    assert missing.exit_code == 1
    assert "nowhere" in missing.stderr
    assert "Loading" not in missing.stderr
    # A base of random weights never ends an answer, so none of its answers can be trained on.
    useless = dnd(*arguments, "--teacher-base", tiny_folder)
    assert useless.exit_code == 1
    assert "under imprint_taught_20. imprint_taught_20 lacks `" in useless.stderr
    assert "longer than 192 tokens with their prompt" in useless.stderr


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--rows", "base,luck", "got 'luck'"),
        ("--modes", "half", "expected some of full, bare, got 'half'"),
        ("--split", "test", "expected one of train, heldout, got 'test'"),
        ("--split", "train,heldout", "expected one of train, heldout"),
        ("--holdout", "luck", "expected some of family, primitive, composition, pair, format"),
        ("--draws", "0", "greater than or equal to 1"),
        ("--limit-items", "0", "greater than or equal to 1"),
        ("--section", "mine", "needs --card; got 'mine'"),
    ],
)
def test_unknown_names_are_wrong_usage(option: str, value: str, message: str) -> None:
    result = dnd("evaluate", "--tasks", "nowhere", "--out", "nowhere", option, value)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_a_folder_without_tasks_is_told_before_models_load(tmp_path: Path) -> None:
    result = dnd("evaluate", "--tasks", tmp_path, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "no `tasks.csv` in" in result.stderr
    assert "Loading" not in result.stderr


@pytest.mark.real
@pytest.mark.usefixtures("resident", "few_questions")
def test_the_shipped_generator_is_examined(folder: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", "--tasks", folder, "--out", tmp_path / "report", "--modes", "bare"]
    arguments += [
        "--limit-tasks",
        2,
        "--limit-items",
        2,
        "--rows",
        "base,generator,generator_wrong",
    ]
    result = dnd(*arguments, "--draws", 1, "--json")
    assert result.exit_code == 0, result.stderr
    report = Report.from_json(json.loads(result.stdout))
    assert {(r.row, r.n_items) for r in report.rows if not r.holdout} == {
        ("base", 4),
        ("generator", 4),
        ("generator_wrong", 4),
    }
    assert (tmp_path / "report" / "REPORT.md").exists()
