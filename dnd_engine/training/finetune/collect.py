"""Collects LoRA checkpoints: one LoRA per task, trained on its answers, snapshots near the end.

The material of the paper's objective, weight reconstruction. Every run starts from the same A and
from B zero, and keeps snapshots of consecutive steps. Several tasks train in one batch, each
applying its own LoRA; they share nothing but the time. Which runs there are says `collect_recipe`.

Source: Liang et al. 2025, arXiv:2506.16406, checkpoint collection.
"""

import hashlib
import json
import math
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dnd_engine.charts import Line, Look, Scale, line_chart, svg_file
from dnd_engine.errors import TrainingError
from dnd_engine.files import remove_leftovers
from dnd_engine.lora.layout import LoRALayout, LoRASpec
from dnd_engine.models.base import best_device, best_dtype, fingerprint, load_base
from dnd_engine.models.runtime import Runtime
from dnd_engine.models.sources import BASES, resolve
from dnd_engine.tasks.folder import Mode, Task, hash_train
from dnd_engine.training.checkpoint import load_checkpoint, naming_the_disk, save_checkpoint
from dnd_engine.training.collection import (
    Collection,
    Cosines,
    check_same_base,
    write_snapshot,
)
from dnd_engine.training.collection_files import (
    FORMAT,
    MANIFEST,
    LossRow,
    Run,
    Snapshot,
    file_name,
    read_losses,
    run_folder,
    write_aside,
    write_losses,
)
from dnd_engine.training.examples import EncodedExample, encode_example, pack, response_losses
from dnd_engine.training.finetune.collect_recipe import (
    FREE,
    GROWS,
    CollectRecipe,
    StartReason,
    choose_tasks,
    starts_here,
)
from dnd_engine.training.finetune.steps import shared_start

__all__ = ["CollectResult", "collect"]

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


def collect(recipe: CollectRecipe, *, resume: bool = False) -> CollectResult:
    """Train the LoRAs of a recipe and keep their checkpoints.

    Args:
        recipe: Which tasks, how each is trained, and where to.
        resume: Continue or extend the collection in `recipe.out`; without one, start.

    Raises:
        TrainingError: If the folder holds a collection and `resume` is off, or one that was made
            otherwise; if a loss is no longer finite; if the disk is too small.
        BaseMismatchError: If the collection was made on another base.
        TaskError: If a task folder is malformed.
        AssetError: If the base cannot be loaded.
    """
    with naming_the_disk(recipe.out):
        return _Collector(recipe, resume).finish()


@dataclass(frozen=True, slots=True)
class _Examples:
    """A task's tokenised train side."""

    full: tuple[EncodedExample, ...]
    bare: tuple[EncodedExample, ...]
    validation: tuple[EncodedExample, ...]

    def draw(self, recipe: CollectRecipe, slug: str, seed: int, step: int) -> list[EncodedExample]:
        """The batch of one step: a function of task, seed and step alone."""
        rng = random.Random(f"{seed}:collect:{slug}:{step}")
        return [
            rng.choice(self.bare if self.bare and rng.random() < recipe.bare_share else self.full)
            for _ in range(recipe.batch_size)
        ]


@dataclass(slots=True)
class _Training:
    """One task under one seed while it trains."""

    task: Task
    seed: int
    examples: _Examples
    tokens: nn.Parameter
    recipe: CollectRecipe
    rows: list[LossRow] = field(default_factory=list)
    """From step 0, the base before any update."""
    start: int | None = None
    """Step of the first snapshot, once the rule has spoken."""
    start_reason: StartReason | None = None

    @property
    def slug(self) -> str:
        return self.task.info.slug

    @property
    def losses(self) -> list[float]:
        """Losses of the updates done so far."""
        return [row.loss for row in self.rows if row.loss is not None]

    @property
    def is_done(self) -> bool:
        """Whether the last snapshot's step is done."""
        return (
            self.start is not None
            and self.rows[-1].step >= self.start + self.recipe.num_snapshots - 1
        )

    def add(self, row: LossRow) -> None:
        """Note a step, and ask the rule."""
        self.rows.append(row)
        reason = starts_here(self.losses, self.recipe)
        if self.start is None and reason is not None:
            self.start, self.start_reason = row.step, reason


class _Collector:
    """One call: the frozen base, the manifest, and the runs still to be done."""

    def __init__(self, recipe: CollectRecipe, resume: bool) -> None:
        self.started = time.monotonic()
        self.recipe = recipe
        manifest = recipe.out / MANIFEST
        if manifest.exists() and not resume:
            raise TrainingError(
                f"`{recipe.out}` already holds a collection. Continue it with --resume, or collect "
                "into another folder."
            )
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        self.tasks = choose_tasks(recipe)
        self.device = best_device()
        self.base = load_base(resolve(recipe.base, BASES), self.device, best_dtype(self.device))
        self.layout = LoRALayout.from_config(
            self.base.config, LoRASpec(r=recipe.r, lora_alpha=recipe.lora_alpha)
        )
        self.runtime = Runtime.of(self.base, self.layout)
        self.start = shared_start(self.layout, recipe.init_seed)
        self.manifest = self._new_manifest()
        self.runs: dict[tuple[str, int], Run] = {}
        if manifest.exists():
            self._take_over(manifest)

    def finish(self) -> CollectResult:
        """Train what is not there yet, then compare and draw."""
        recipe = self.recipe
        wanted = [(task, seed) for task in self.tasks for seed in range(recipe.seeds)]
        pending = [(task, seed) for task, seed in wanted if (task.info.slug, seed) not in self.runs]
        recipe.out.mkdir(parents=True, exist_ok=True)
        remove_leftovers(recipe.out)
        self._check_room(len(pending))
        self._write_manifest()
        # Tasks of like length share a batch, which spares padding.
        pending.sort(key=lambda run: (_typical_length(run[0]), run[0].info.slug, run[1]))
        done = len(wanted) - len(pending)
        with tqdm(
            total=len(wanted) * recipe.steps,
            initial=done * recipe.steps,
            desc=f"Collect {len(wanted)} runs",
            unit="step",
        ) as bar:
            for first in range(0, len(pending), recipe.tasks_at_once):
                group = pending[first : first + recipe.tasks_at_once]
                bar.set_postfix(runs=done + first, refresh=False)
                before = bar.n
                self._train_group(self._prepare(group), bar.update)
                self._write_manifest()
                # Runs that ended early, and tasks left out, owe the bar their other steps.
                bar.update(before + len(group) * recipe.steps - bar.n)
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

    @property
    def left_out(self) -> dict[str, str]:
        """Task to the reason why it was not trained."""
        found: dict[str, str] = self.manifest["left_out"]
        return found

    def _new_manifest(self) -> dict[str, Any]:
        recipe = self.recipe
        return {
            "format": FORMAT,
            "base": {
                "id": self.base.weights.hub_id,
                "fingerprint": fingerprint(self.base),
            },
            **self.layout.to_json(),
            "init": {
                "a": "normal, variance 1 / in_features",
                "b": "zero",
                "seed": recipe.init_seed,
                "sha256": hashlib.sha256(self.start.numpy().tobytes()).hexdigest(),
            },
            "rule": {
                "words": "snapshots start when the mean loss of smoothing_steps steps has not "
                "fallen by more than plateau_percent over plateau_steps steps, or at latest_start",
                "smoothing_steps": recipe.smoothing_steps,
                "plateau_steps": recipe.plateau_steps,
                "plateau_percent": recipe.plateau_percent,
                "latest_start": recipe.steps - recipe.num_snapshots + 1,
            },
            "recipe": recipe.to_json(),
            "planned": len(self.tasks) * recipe.seeds,
            "left_out": {},
            "runs": [],
        }

    def _take_over(self, path: Path) -> None:
        """Keep the runs of an earlier call, if this call would make the same ones."""
        out = self.recipe.out
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
            if old["format"] != FORMAT:
                raise ValueError(f"`format` is {old['format']!r}, this version writes {FORMAT}")
            base, recipe, init = old["base"], dict(old["recipe"]), old["init"]
            runs = [Run.from_json(values) for values in old["runs"]]
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise TrainingError(
                f"`{path}` is damaged, or not ours: {error!r}. Collect into another folder."
            ) from error
        check_same_base(out, base, self.base.weights.hub_id, self.manifest["base"]["fingerprint"])
        ours = self.manifest["recipe"]
        differing = [
            f"`{name}` was {recipe.get(name)!r}, is {value!r}"
            for name, value in ours.items()
            if name not in GROWS | FREE | {"base"} and recipe.get(name) != value
        ]
        if differing:
            raise TrainingError(
                f"`{out}` was collected with another recipe: {'; '.join(differing)}. Resume with "
                "that recipe, or collect into another folder."
            )
        if init["sha256"] != self.manifest["init"]["sha256"]:
            raise TrainingError(
                f"`{out}` started from another A: seed {init['seed']} gives other numbers with "
                f"torch {torch.__version__}. Use the torch it began with, or "
                "start a new collection."
            )
        hashes = {task.info.slug: hash_train(task) for task in self.tasks}
        changed = [r.slug for r in runs if hashes.get(r.slug, r.train_sha256) != r.train_sha256]
        if changed:
            raise TrainingError(
                f"`{out}` was collected from other examples of {', '.join(changed[:3])}. Collect "
                "into another folder."
            )
        self.runs = {(run.slug, run.seed): run for run in runs}

    def _write_manifest(self) -> None:
        planned = {(t.info.slug, seed) for t in self.tasks for seed in range(self.recipe.seeds)}
        planned = {key for key in planned | set(self.runs) if key[0] not in self.left_out}
        self.manifest["planned"] = len(planned)
        self.manifest["runs"] = [self.runs[key].to_json() for key in sorted(self.runs)]
        text = json.dumps(self.manifest, indent=1, ensure_ascii=False) + "\n"
        write_aside(self.recipe.out / MANIFEST, text.encode())

    def _check_room(self, num_runs: int) -> None:
        recipe = self.recipe
        size = getattr(torch, recipe.snapshot_dtype).itemsize * self.layout.num_parameters
        # Beside the snapshots, one checkpoint: parameters and two moments in float32, for a moment
        # twice, as the new one is written before the old one goes.
        needed = num_runs * recipe.num_snapshots * size
        needed += 2 * 3 * 4 * self.layout.num_parameters * min(num_runs, recipe.tasks_at_once)
        free = shutil.disk_usage(recipe.out).free
        if needed > free:
            raise TrainingError(
                f"`{recipe.out}` needs {needed / 1e9:.1f} GB for {num_runs} runs of "
                f"{recipe.num_snapshots} snapshots, {free / 1e9:.1f} GB are free. Make room, keep "
                "fewer snapshots, or limit the tasks."
            )

    def _train_group(
        self, trainings: Sequence[_Training], on_steps: Callable[[int], object]
    ) -> None:
        """Train runs side by side until each has its snapshots."""
        recipe = self.recipe
        if not trainings:
            return
        parameters = nn.ParameterList([t.tokens for t in trainings])
        optimizer = torch.optim.AdamW(
            parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        digest = self._digest(trainings)
        checkpoint = recipe.out / f"checkpoint-{digest[:16]}.safetensors"
        done = 0
        if checkpoint.exists():
            done = load_checkpoint(checkpoint, parameters, optimizer, digest)
            for training in trainings:
                for row in read_losses(recipe.out / run_folder(training.slug, training.seed)):
                    if row.step <= done:
                        training.add(row)
                on_steps(len(training.losses))
        else:
            self._add_rows(trainings, 0, [(None, None)] * len(trainings), time.monotonic())
        for step in range(done + 1, recipe.steps + 1):
            active = [t for t in trainings if not t.is_done]
            if not active:
                break
            started = time.monotonic()
            self._add_rows(active, step, self._step(active, optimizer, step), started)
            for training in active:
                if training.start is not None:
                    self._write_snapshot(training, step)
            if step % recipe.checkpoint_every == 0:
                self._write_losses(trainings)
                save_checkpoint(checkpoint, parameters, optimizer, step, digest)
            on_steps(len(active))
        self._write_losses(trainings)
        for training in trainings:
            self.runs[training.slug, training.seed] = self._close(training)

    def _prepare(self, group: Sequence[tuple[Task, int]]) -> list[_Training]:
        """Tokenise; tasks with too few short examples are left out, and said to be."""
        recipe, trainings = self.recipe, []
        for task, seed in group:
            examples = self._encode(task)
            if len(examples.full) < recipe.batch_size or not examples.validation:
                self.left_out[task.info.slug] = (
                    f"{len(examples.full)} train and {len(examples.validation)} validation examples"
                    f" of at most {recipe.max_tokens} tokens; needs {recipe.batch_size} and 1"
                )
                continue
            tokens = nn.Parameter(self.start.to(self.device, copy=True))
            trainings.append(_Training(task, seed, examples, tokens, recipe))
        return trainings

    def _encode(self, task: Task) -> _Examples:
        held = self.recipe.validation_examples

        def encode(side: slice, mode: Mode) -> tuple[EncodedExample, ...]:
            found = (encode_example(self.base.tokenizer, e, mode) for e in task.train[side])
            return tuple(e for e in found if e and len(e.ids) <= self.recipe.max_tokens)

        bare = encode(slice(None, -held), "bare")
        check = encode(slice(-held, None), "bare" if bare else "full")
        return _Examples(encode(slice(None, -held), "full"), bare, check)

    def _digest(self, trainings: Sequence[_Training]) -> str:
        """What a checkpoint belongs to: these runs, side by side, trained this way."""
        how = {k: v for k, v in self.manifest["recipe"].items() if k not in GROWS | FREE}
        who = [(t.slug, t.seed, hash_train(t.task)) for t in trainings]
        text = json.dumps([how, self.manifest["base"], self.manifest["init"], who], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _step(
        self, active: Sequence[_Training], optimizer: torch.optim.Optimizer, step: int
    ) -> list[tuple[float, float]]:
        """One update of every run in `active`; one that is done gets no gradient, and stays.

        Returns:
            Loss and gradient norm of each.
        """
        recipe = self.recipe
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * min(1.0, step / max(1, recipe.warmup_steps))
        batches = [t.examples.draw(recipe, t.slug, t.seed, step) for t in active]
        losses = torch.stack([nll.mean() for nll, _ in self._losses(active, batches)])
        optimizer.zero_grad(set_to_none=True)
        # The sum, so that each run's gradient is that of its own loss.
        losses.sum().backward()
        found = []
        for training, loss in zip(active, losses.tolist(), strict=True):
            norm = nn.utils.clip_grad_norm_([training.tokens], recipe.clip_norm).item()
            if not math.isfinite(loss + norm):
                raise TrainingError(
                    f"`{training.slug}`, step {step}: loss {loss}, gradient norm {norm}. Finished "
                    f"runs in `{recipe.out}` are sound; resume with a task folder that lacks this "
                    "task, or collect into another folder with a lower learning rate."
                )
            found.append((loss, norm))
        optimizer.step()
        return found

    def _add_rows(
        self,
        trainings: Sequence[_Training],
        step: int,
        found: Sequence[tuple[float, float] | tuple[None, None]],
        started: float,
    ) -> None:
        """Note what a step gave, validating where it is time to."""
        for training, (loss, norm) in zip(trainings, found, strict=True):
            training.add(LossRow(step, loss, norm))
        due = [t for t in trainings if t.is_done or step % self.recipe.validate_every == 0]
        for training, (nll, exact) in zip(due, self._validate(due), strict=True):
            training.rows[-1] = replace(
                training.rows[-1], validation_loss=nll, validation_exact=exact
            )
        seconds = round((time.monotonic() - started) / len(trainings), 4)
        for training in trainings:
            training.rows[-1] = replace(training.rows[-1], seconds=seconds)

    @torch.no_grad()
    def _validate(self, trainings: Sequence[_Training]) -> list[tuple[float, float]]:
        """Mean loss and share of exact answers of each run's held-back examples."""
        if not trainings:
            return []
        found = self._losses(trainings, [t.examples.validation for t in trainings])
        return [(float(nll.mean()), float(exact.float().mean())) for nll, exact in found]

    def _losses(
        self, trainings: Sequence[_Training], batches: Sequence[Sequence[EncodedExample]]
    ) -> list[tuple[Tensor, Tensor]]:
        """Per run: loss of each of its examples, and whether its answer is exact."""
        tokens = torch.stack([t.tokens for t in trainings])
        with self.runtime.host.applying(self.runtime.host.fit(tokens)):
            found = response_losses(self.base.model, pack(batches).to(self.device))
        sizes = [len(batch) for batch in batches]
        return list(
            zip(torch.split(found.nll, sizes), torch.split(found.exact, sizes), strict=True)
        )

    def _write_snapshot(self, training: _Training, step: int) -> None:
        path = self.recipe.out / run_folder(training.slug, training.seed) / file_name(step)
        dtype = getattr(torch, self.recipe.snapshot_dtype)
        write_snapshot(path, training.tokens.detach().cpu(), self.layout, dtype)

    def _write_losses(self, trainings: Sequence[_Training]) -> None:
        for training in trainings:
            folder = self.recipe.out / run_folder(training.slug, training.seed)
            write_losses(folder, training.rows)

    def _close(self, training: _Training) -> Run:
        """What the manifest says of a run that is done; its folder holds nothing else."""
        recipe, info = self.recipe, training.task.info
        folder = recipe.out / run_folder(training.slug, training.seed)
        assert training.start is not None
        assert training.start_reason is not None
        steps = range(training.start, training.start + recipe.num_snapshots)
        remove_leftovers(folder)
        for path in set(folder.iterdir()) - {folder / file_name(step) for step in steps}:
            # A killed attempt on hardware that is not exact may have started elsewhere.
            if path.name != "losses.csv":
                path.unlink()
        snapshots = tuple(
            Snapshot(step, hashlib.sha256((folder / file_name(step)).read_bytes()).hexdigest())
            for step in steps
        )
        losses, width = training.losses, recipe.smoothing_steps
        first, last = training.rows[0], training.rows[-1]
        assert first.validation_loss is not None
        assert first.validation_exact is not None
        assert last.validation_loss is not None
        assert last.validation_exact is not None
        return Run(
            slug=training.slug,
            seed=training.seed,
            split=info.split,
            family=info.family,
            category=info.category,
            licence=info.licence,
            train_sha256=hash_train(training.task),
            num_examples=len(training.examples.full),
            start=training.start,
            start_reason=training.start_reason,
            steps=steps[-1],
            seconds=round(sum(row.seconds or 0.0 for row in training.rows), 2),
            first_loss=sum(losses[:width]) / len(losses[:width]),
            last_loss=sum(losses[-width:]) / len(losses[-width:]),
            first_validation_loss=first.validation_loss,
            last_validation_loss=last.validation_loss,
            first_validation_exact=first.validation_exact,
            last_validation_exact=last.validation_exact,
            snapshots=snapshots,
        )


def _typical_length(task: Task) -> float:
    """In characters: known without tokenising a task that is not trained yet."""
    return median(len(e.bare or e.prompt) + len(e.response) for e in task.train)


def _draw_losses(collection: Collection) -> None:
    """Draw all training curves in one picture, with a mark where snapshots start."""
    few = len(collection.runs) <= _MAX_NAMED
    lines = []
    for run in collection.runs:
        rows = collection.losses(run.slug, run.seed)
        losses = [row.loss for row in rows if row.loss is not None]
        name = f"{run.slug}, seed {run.seed}" if run.seed else run.slug
        points = list(enumerate(losses, start=1))
        look: Look = "own" if few else "noise"
        lines.append(Line(points, look, name if few else "", "line" if few else "thin"))
        lines.append(Line([points[run.start - 1]], look))
    end = max(line.points[-1][0] for line in lines)
    top = max(loss for line in lines for _, loss in line.points)
    told = f"Training losses of {len(collection.runs)} LoRAs over {end} steps."
    axis = "step (mark: first snapshot)"
    chart = line_chart(lines, Scale.nice(0, end), Scale.nice(0, top), told, axis=axis)
    drawn = svg_file([chart.titled("Training loss", "nats per answer token")])
    write_aside(collection.path / "losses.svg", drawn.encode())
