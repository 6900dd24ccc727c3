"""Collects LoRA checkpoints: one LoRA per task, trained on its answers, snapshots near the end.

The material of the paper's objective, weight reconstruction. Every run starts from the same A and
from B zero, and keeps snapshots of consecutive steps. Several tasks train in one batch, each
applying its own LoRA; they share nothing but the time. `collect_recipe` decides which
runs there are.

Source: Liang et al. 2025, arXiv:2506.16406, checkpoint collection.
"""

import json
import platform
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tqdm import tqdm

from dnd_engine.charts import Line, Look, Scale, line_chart, svg_file
from dnd_engine.cluster import Cluster, named_anywhere
from dnd_engine.errors import TrainingError
from dnd_engine.files import only_call_on, remove_leftovers, write_whole
from dnd_engine.tasks.folder import Task, hash_train
from dnd_engine.training.checkpoint import naming_the_disk
from dnd_engine.training.collection import Collection, Cosines, check_same_base
from dnd_engine.training.collection_files import FORMAT, MANIFEST, Manifest, Run, read_losses
from dnd_engine.training.finetune.collect_recipe import FREE, GROWS, CollectRecipe, choose_tasks
from dnd_engine.training.finetune.collect_runs import Group, RunTrainer, TrainedGroup

_MAX_NAMED = 8
"""Curves that a picture can tell apart by colour."""


@dataclass(frozen=True, slots=True)
class CollectResult:
    """What a finished call leaves."""

    out: Path
    runs: tuple[Run, ...]
    """All of the collection, those of earlier calls included."""
    left_out: dict[str, str]
    """Task to the reason why it was not trained."""
    cosines: Cosines
    seconds: float
    """Duration of this call, including loading the base."""


def collect(
    recipe: CollectRecipe, *, resume: bool = False, cluster: Cluster | None = None
) -> CollectResult:
    """Train the LoRAs of a recipe and keep their checkpoints.

    Args:
        recipe: Which tasks, how each is trained, and where to.
        resume: Continue or extend the collection in `recipe.out`; without one, start.
        cluster: Train groups of runs as jobs there, all of which write into `recipe.out`; by
            default one after the other in this process. The collection is the same.

    Raises:
        TrainingError: If the folder holds a collection and `resume` is off, or one that was made
            otherwise; if a loss is no longer finite; if the disk is too small.
        BaseMismatchError: If the collection was made on another base.
        TaskError: If a task folder is malformed.
        AssetError: If the base cannot be loaded.
        ConfigError: If another call is writing to the folder.
        JobError: If the cluster cannot be reached, or lost a job too often.
    """
    with naming_the_disk(recipe.out), only_call_on(recipe.out):
        return _Collector(recipe, resume, cluster).finish()


class _Collector:
    """One call: the manifest, and the runs still to be done."""

    def __init__(self, recipe: CollectRecipe, resume: bool, cluster: Cluster | None) -> None:
        self.started = time.monotonic()
        self.recipe = recipe
        self.cluster = cluster
        manifest = recipe.out / MANIFEST
        if manifest.exists() and not resume:
            raise TrainingError(
                f"`{recipe.out}` already holds a collection. Continue it with --resume, or collect "
                "into another folder."
            )
        # Before the base is loaded, so that a wrong folder is reported at once.
        self.tasks = choose_tasks(recipe)
        self.trainer = RunTrainer(recipe)
        self.manifest = self._new_manifest()
        self.runs: dict[tuple[str, int], Run] = {}
        self.left_out: dict[str, str] = {}
        """Task to the reason why it was not trained."""
        if manifest.exists():
            self._take_over(manifest)

    def finish(self) -> CollectResult:
        """Train what is not there yet, then compare and draw."""
        recipe = self.recipe
        wanted = [(task, seed) for task in self.tasks for seed in range(recipe.seeds)]
        pending = [(task, seed) for task, seed in wanted if (task.info.slug, seed) not in self.runs]
        remove_leftovers(recipe.out)
        self._check_room(len(pending))
        # Before the first run: jobs on other nodes recognise the folder by it.
        self._write_manifest()
        done = len(wanted) - len(pending)
        with tqdm(
            total=len(wanted) * recipe.steps,
            initial=done * recipe.steps,
            desc=f"Collect {len(wanted)} runs",
            unit="step",
        ) as bar:
            bar.set_postfix(runs=done, refresh=False)
            for trained in self._trained(self._groups(wanted), bar):
                self.runs |= {(run.slug, run.seed): run for run in trained.runs}
                self.left_out.update(trained.left_out)
                self._write_manifest()
                # After the manifest: a kill in between leaves a file too many, not a run too few.
                (recipe.out / trained.checkpoint).unlink(missing_ok=True)
                done += trained.size
                bar.set_postfix(runs=done, refresh=False)
                # Runs that ended early, tasks left out, and jobs elsewhere owe the bar their steps.
                bar.update(max(0, done * recipe.steps - bar.n))
        # Left by an earlier call, whose groups were different.
        for stale in recipe.out.glob("checkpoint-*"):
            stale.unlink()
        if not self.runs:
            raise TrainingError(
                f"none of {len(self.tasks)} task(s) could be trained: "
                f"{'; '.join(f'{slug}: {why}' for slug, why in [*self.left_out.items()][:3])}."
            )
        collection = Collection.open(recipe.out)
        _draw_losses(collection)
        return CollectResult(
            recipe.out,
            collection.runs,
            self.left_out,
            collection.cosines(),
            time.monotonic() - self.started,
        )

    def _groups(self, wanted: Sequence[tuple[Task, int]]) -> list[Group]:
        """Runs that share a batch, without those that are done: the same after every stop."""
        # Tasks of similar length together save padding.
        order = sorted(wanted, key=lambda run: (_typical_length(run[0]), run[0].info.slug, run[1]))
        width = self.recipe.tasks_at_once
        # First divided, then freed of finished runs. Otherwise groups would shift after every stop,
        # and none would find its checkpoint.
        chunks = [order[first : first + width] for first in range(0, len(order), width)]
        pending = [
            tuple((task, seed) for task, seed in runs if (task.info.slug, seed) not in self.runs)
            for runs in chunks
        ]
        return [group for group in pending if group]

    def _trained(self, groups: Sequence[Group], bar: "tqdm[Any]") -> Iterator[TrainedGroup]:
        """Train group after group here, or as jobs of a cluster, in the order of their ends."""
        if self.cluster is None:
            # Lazy: the next group begins after the manifest has the last one's runs.
            return map(partial(self.trainer.train, on_steps=bar.update), groups)
        # Workers have another working directory.
        recipe = replace(
            self.recipe,
            out=self.recipe.out.absolute(),
            base=named_anywhere(self.recipe.base),
        )
        return self.cluster.run(partial(_train_elsewhere, recipe), groups)

    def _new_manifest(self) -> dict[str, Any]:
        """The manifest without its runs, which `_write_manifest` adds."""
        recipe = self.recipe
        return {
            "format": FORMAT,
            **self.trainer.origin(),
            "rule": {
                "words": "snapshots start when the mean loss of smoothing_steps steps has not "
                "fallen by more than plateau_percent over plateau_steps steps, or at latest_start",
                "smoothing_steps": recipe.smoothing_steps,
                "plateau_steps": recipe.plateau_steps,
                "plateau_percent": recipe.plateau_percent,
                "latest_start": recipe.steps - recipe.num_snapshots + 1,
            },
            "recipe": recipe.to_json(),
        }

    def _take_over(self, path: Path) -> None:
        """Keep the runs of an earlier call, if this call would make the same ones."""
        out = self.recipe.out
        try:
            old = Manifest.parse(path.read_bytes())
        except (OSError, ValueError) as error:
            raise TrainingError(
                f"`{path}` cannot be continued: {error}. Collect into another folder."
            ) from error
        check_same_base(out, old.base, self.manifest["base"])
        ours = self.manifest["recipe"]
        # A setting that is newer than the collection had its default.
        theirs = {f.name: f.default for f in fields(self.recipe)} | dict(old.recipe)
        # The base is left to its fingerprint: one base may be named in many ways.
        differing = [
            f"`{name}` was {theirs[name]!r}, is {value!r}"
            for name, value in ours.items()
            if name not in GROWS | FREE | {"base"} and theirs[name] != value
        ]
        if differing:
            raise TrainingError(
                f"`{out}` was collected with another recipe: {'; '.join(differing)}. Resume with "
                "that recipe, or collect into another folder."
            )
        if old.init["sha256"] != self.manifest["init"]["sha256"]:
            raise TrainingError(
                f"`{out}` started from another A: seed {old.init['seed']} gives other numbers with "
                f"torch {torch.__version__}. Use the torch it began with, or "
                "start a new collection."
            )
        # Runs of tasks that this call does not name are kept unchecked.
        hashes = {task.info.slug: hash_train(task) for task in self.tasks}
        changed = [r.slug for r in old.runs if hashes.get(r.slug, r.train_sha256) != r.train_sha256]
        if changed:
            raise TrainingError(
                f"`{out}` was collected from other examples of {', '.join(changed[:3])}. Collect "
                "into another folder."
            )
        self.runs = {(run.slug, run.seed): run for run in old.runs}

    def _write_manifest(self) -> None:
        # Runs of earlier calls count, and tasks that could not be trained do not.
        planned = {(t.info.slug, seed) for t in self.tasks for seed in range(self.recipe.seeds)}
        planned = {key for key in planned | set(self.runs) if key[0] not in self.left_out}
        self.manifest["planned"] = len(planned)
        self.manifest["left_out"] = self.left_out = dict(sorted(self.left_out.items()))
        # Sorted, because jobs of a cluster end in any order and the manifest must not differ.
        self.manifest["runs"] = [self.runs[key].to_json() for key in sorted(self.runs)]
        text = json.dumps(self.manifest, indent=1, ensure_ascii=False) + "\n"
        write_whole(self.recipe.out / MANIFEST, text)

    def _check_room(self, num_runs: int) -> None:
        recipe, num_parameters = self.recipe, self.trainer.layout.num_parameters
        size = getattr(torch, recipe.snapshot_dtype).itemsize * num_parameters
        # Beside the snapshots, one checkpoint: parameters and AdamW's two moments in float32, and
        # all twice, because the new file is written before the old one goes.
        needed = num_runs * recipe.num_snapshots * size
        needed += 2 * 3 * 4 * num_parameters * min(num_runs, recipe.tasks_at_once)
        free = shutil.disk_usage(recipe.out).free
        if needed > free:
            raise TrainingError(
                f"`{recipe.out}` needs {needed / 1e9:.1f} GB for {num_runs} runs of "
                f"{recipe.num_snapshots} snapshots, {free / 1e9:.1f} GB are free. Make room, keep "
                "fewer snapshots, or limit the tasks."
            )


def _train_elsewhere(recipe: CollectRecipe, group: Group) -> TrainedGroup:
    """Train a group in another process, perhaps on another machine, as a job of `collect`."""
    try:
        base = Manifest.parse((recipe.out / MANIFEST).read_bytes()).base
    except FileNotFoundError as error:
        raise TrainingError(
            f"`{recipe.out}` on the node {platform.node()} is not the folder of this collection. "
            "Put --out on storage that all nodes see under one path."
        ) from error
    trainer = RunTrainer(recipe)
    check_same_base(recipe.out, base, trainer.origin()["base"])
    # Here too, because from another node only our own errors arrive unchanged.
    with naming_the_disk(recipe.out):
        return trainer.train(group)


def _typical_length(task: Task) -> float:
    """In characters: known without tokenising a task that is not trained yet."""
    return median(len(e.bare or e.prompt) + len(e.response) for e in task.train)


def _draw_losses(collection: Collection) -> None:
    """Draw all training curves in one picture, with a mark where snapshots start."""
    few = len(collection.runs) <= _MAX_NAMED
    lines = []
    for run in collection.runs:
        rows = read_losses(collection.path / run.folder)
        losses = [row.loss for row in rows if row.loss is not None]
        name = f"{run.slug}, seed {run.seed}" if run.seed else run.slug
        points = list(enumerate(losses, start=1))
        look: Look = "own" if few else "noise"
        lines.append(Line(points, look, name if few else "", "line" if few else "thin"))
        lines.append(Line([points[run.start - 1]], look))
    end = max(line.points[-1][0] for line in lines)
    top = max(loss for line in lines for _, loss in line.points)
    summary = f"Training losses of {len(collection.runs)} LoRAs over {end} steps."
    axis = "step (mark: first snapshot)"
    chart = line_chart(lines, Scale.nice(0, end), Scale.nice(0, top), summary, axis=axis)
    drawn = svg_file([chart.titled("Training loss", "nats per answer token")])
    write_whole(collection.path / "losses.svg", drawn)
