"""The training loop: from a recipe to a generator folder, resumable at every step.

Each step draws tasks, turns prompts of each into a LoRA, and lowers the recipe's objective (see
`objectives`). For the task loss, the base answers examples of the same tasks with the LoRAs
applied, and the gradient of that loss flows back into the generator.

Source: Liang et al. 2025 for the decoder and for redrawing prompts at every step.
"""

import json
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dnd_engine.errors import DndError, TrainingError
from dnd_engine.files import only_call_on, remove_leftovers
from dnd_engine.generator.card import add_teacher, new_card
from dnd_engine.generator.config import trained_steps
from dnd_engine.generator.folder import GeneratorFolder, TaskCentroid, save_generator, save_teacher
from dnd_engine.models.allocator import give_back
from dnd_engine.models.sharding import shard_base
from dnd_engine.tasks.folder import TaskInfo
from dnd_engine.training.batches import Batch, Role, Sampler
from dnd_engine.training.checkpoint import (
    load_checkpoint,
    naming_the_disk,
    read_cached,
    read_notes,
    save_checkpoint,
    write_tensors,
)
from dnd_engine.training.collection_files import MANIFEST
from dnd_engine.training.examples import response_losses
from dnd_engine.training.monitors import GroupNLL, choose_probe, measure_probe, weight_statistics
from dnd_engine.training.pictures import draw_monitors
from dnd_engine.training.processes import Processes
from dnd_engine.training.recipe import TrainRecipe
from dnd_engine.training.run_log import COLLAPSED_SHARE, LOG, cut_log
from dnd_engine.training.setup import prepare

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.safetensors"
BEST = "best.safetensors"
GENERATOR = "generator"
"""Folder of what was trained."""

_PROBE_TASKS, _PROBE_FAMILY_TASKS = 8, 4
"""Tasks that the monitors look at, trained and of validation families: about the work of one step
of training, forward only."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a finished run leaves."""

    generator: Path
    """Generator folder; of a multi-task LoRA, a generator that ignores its condition; of a teacher,
    that of the warm start with the teacher added."""
    steps: int
    """Steps done."""
    kept_step: int
    """Step whose weights the generator folder holds: with early stopping the one after which the
    validation was best, else the last."""
    stopped_early: bool
    """Whether `patience` ran out."""
    seconds: float
    """Duration of this call."""
    validation_loss: float
    """Nats per answer token on held-back examples of the training tasks, after that step."""
    validation: Mapping[str, float]
    """All measurements of that step by name, including those of validation families."""


def train(recipe: TrainRecipe, *, resume: bool = False) -> TrainResult:
    """Run or continue a recipe to its end.

    Args:
        recipe: What to train, on what, and where to.
        resume: Continue from the run folder's checkpoint; without one, start.

    Raises:
        TrainingError: If the run folder holds another run, sizes do not fit together, the disk
            refuses, or the loss is no longer finite.
        TaskError: If a task folder is malformed.
        AssetError: If base or encoder cannot be loaded.
        BaseMismatchError: If a collection or warm start is another base's.
        ConfigError: If another call is writing to the run folder.
        KeyboardInterrupt: On Ctrl-C, after the step is finished and a checkpoint written.
    """
    # The other processes of a run belong to the same call.
    alone = only_call_on(recipe.out) if Processes().is_first else nullcontext()
    with naming_the_disk(recipe.out), alone:
        return _Run(recipe, resume).finish()


@dataclass(frozen=True, slots=True)
class _Best:
    """The best validation so far."""

    step: int = 0
    loss: float = math.inf
    stale: int = 0
    """Validations since."""
    values: Mapping[str, float] = field(default_factory=dict)


class _Run:
    """One training run: the frozen models, the data, the generator and its optimizer."""

    def __init__(self, recipe: TrainRecipe, resume: bool) -> None:
        self.started = time.monotonic()
        self.recipe = recipe
        self.checkpoint, self.best_file = recipe.out / CHECKPOINT, recipe.out / BEST
        if self.checkpoint.exists() and not resume:
            raise TrainingError(
                f"`{recipe.out}` already holds a run. Continue it with --resume, "
                "or train into another folder."
            )
        # Its last step replaces this folder, whatever that holds.
        if (recipe.out / GENERATOR).exists() and not self.checkpoint.exists():
            raise TrainingError(
                f"`{recipe.out}` holds a folder `{GENERATOR}` and no checkpoint to continue from. "
                "Train into another folder, or move that one."
            )
        # `RunFolder` looks for a manifest first, and would show the collection, not this run.
        if (recipe.out / MANIFEST).exists():
            raise TrainingError(
                f"`{recipe.out}` holds `{MANIFEST}`, so it is the folder of a collection. Train "
                "into another folder."
            )
        self.processes = Processes()
        self.processes.check(recipe.objective, recipe.tasks_per_step, shard_base=recipe.shard_base)
        # The first encodes prompts into the cache, and the others read them there.
        with self.processes.first_goes_first():
            self.prepared = prepare(recipe, self.checkpoint)
        self.runtime = self.prepared.runtime
        if recipe.recompute:
            self.runtime.host.recompute()
        self.base = self.runtime.base
        if recipe.shard_base:
            shard_base(self.base, self.processes.count)
        self.generator, self.pools = self.prepared.generator, self.prepared.pools
        self.objective = self.prepared.objective
        self.sampler = Sampler(self.pools, self.prepared.conditions, self.base.tokenizer, recipe)
        self.optimizer = self._optimizer()
        self.done, self.best = self._restore()
        if self.processes.is_first:
            cut_log(recipe.out / LOG, self.done)
            remove_leftovers(recipe.out)
        self.processes.wait()

    # The loop

    def finish(self) -> TrainResult:
        """Train the remaining steps, validate, write the generator folder."""
        recipe = self.recipe
        steps = range(self.done, recipe.steps)
        first = self.processes.is_first
        bar = tqdm(
            steps,
            initial=self.done,
            total=recipe.steps,
            desc="Train",
            unit="step",
            disable=not first,
        )
        # The other processes go through the same steps, but only the first keeps a log.
        log_path = recipe.out / LOG if first else Path(os.devnull)
        with log_path.open("a", encoding="utf-8") as log, _noting_interrupts() as asked:
            for step in bar:
                if 0 < recipe.patience <= self.best.stale:
                    bar.close()
                    break
                values = self._step(step)
                bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
                last = step + 1 == recipe.steps
                validates = last or (step + 1) % recipe.validate_every == 0
                watched = time.monotonic()
                # In every process: all must agree on the best step, a sharded base runs in all of
                # them together, and it takes no longer.
                if last or (step + 1) % recipe.monitor_every == 0:
                    values |= self._monitor(step + 1)
                if validates:
                    values |= self._validate(step + 1)
                values["watch_seconds"] = round(time.monotonic() - watched, 3)
                log.write(json.dumps(values) + "\n")
                # At once, for those who watch the run.
                log.flush()
                self.done = step + 1
                # The signal reaches the processes at different moments. All must stop after the
                # same step, or those that go on wait for the others' gradients for ever.
                interrupted = self.processes.any(asked.is_set())
                if validates or interrupted or self.done % recipe.checkpoint_every == 0:
                    if first:  # a checkpoint that outlives a power cut needs the steps before it
                        os.fsync(log.fileno())
                    self._save()
                if first and validates:
                    self._draw_monitors()
                if interrupted:
                    raise KeyboardInterrupt(
                        f"Stopped after step {self.done} of {recipe.steps}. A checkpoint is in "
                        f"`{recipe.out}`; continue with the same command and --resume."
                    )
        return self._write()

    def _step(self, step: int) -> dict[str, Any]:
        recipe, started = self.recipe, time.monotonic()
        # From the step alone, so that there is no scheduler whose state a resumed run would need.
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * _schedule(step, recipe)
        batches = self._draw(step, self.processes.rank)
        # A part's mean counts as much as it has examples, or tasks where none are drawn, so that
        # the sum is the mean of all.
        sizes = [batch.num_examples or len(batch.tasks) for batch in batches]
        total = self.processes.sum(sum(sizes))
        self.optimizer.zero_grad(set_to_none=True)
        value = 0.0
        for batch, size in zip(batches, sizes, strict=True):
            loss = self._loss(batch) * (size / total)
            # Part by part, which frees the activations of one before the next begins.
            loss.backward()
            value += loss.item()
        for batch in self._draw_idle(step, len(batches)):
            (0 * self._loss(batch)).backward()
        self.processes.sum_gradients(self._parameters())
        # After the sum, so that every process clips by the norm of the whole gradient.
        norm = nn.utils.clip_grad_norm_(self._parameters(), recipe.clip_norm).item()
        # Before the step: after it, the weights would hold NaN, and the checkpoint too.
        value = self.processes.sum(value)
        if not math.isfinite(value + norm):
            kept = (
                f"The last checkpoint in `{recipe.out}` is still sound"
                if self.checkpoint.exists()
                else f"There is no checkpoint in `{recipe.out}` yet"
            )
            raise TrainingError(
                f"step {step}: loss {value}, gradient norm {norm}. {kept}; lower the learning "
                "rates and start again."
            )
        self.optimizer.step()
        if self.base.device.type == "cpu":
            # Each step has other shapes, so that the gaps between what is in use would grow to more
            # than a gigabyte. It takes at most 4 % of the time; every 8 steps it is of no use.
            give_back()
        return {
            "step": step + 1,
            "loss": round(value, 5),
            "grad_norm": round(norm, 4),
            "tokens": int(self.processes.sum(sum(batch.num_tokens for batch in batches))),
            "seconds": round(time.monotonic() - started, 3),
        }

    def _draw(self, step: int, rank: int) -> list[Batch]:
        """Draw a process's tasks of a step, in parts."""
        parts = self.recipe.accumulate
        drawn = self.sampler.draw_shares(
            step,
            range(rank * parts, (rank + 1) * parts),
            of=self.processes.count * parts,
            with_examples=self.objective.needs_examples,
        )
        # There may be more parts than tasks. A process without any still joins in the sums.
        return [batch for batch in drawn if batch.tasks]

    def _draw_idle(self, step: int, done: int) -> list[Batch]:
        """Draw parts that this process computes for no gradient, after `done` parts of its own.

        All processes run a sharded base together, and the first has the most parts.
        """
        if not self.recipe.shard_base or done == self.recipe.accumulate:
            return []
        return self._draw(step, rank=0)[done:]

    def _loss(self, batch: Batch) -> Tensor:
        return self.objective.loss(batch, self._tokens(batch.prompts, batch.mask))

    def _tokens(self, prompts: Tensor, mask: Tensor) -> Tensor:
        """One adapter's weight tokens per prompt batch."""
        if self.recipe.kind != "generator":
            # A view, not copies: all tasks of the batch have the one adapter.
            return self.generator.shared.expand(len(prompts), -1, -1, -1)
        device = self.base.device
        condition = self.generator.standardise(prompts.to(device), mask.to(device))
        dtype = self.prepared.dtype
        # The weights stay float32, because bfloat16 would round small updates away.
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            tokens: Tensor = self.generator(condition)
        return tokens

    # Watching

    @torch.no_grad()
    def _measure(self, tasks: Sequence[int], sources: Sequence[int]) -> list[GroupNLL]:
        """The held-back examples of some tasks under adapters made from their sources' prompts."""
        found: dict[int, GroupNLL] = {}
        for batch in self.sampler.held_back(tasks, sources):
            assert batch.examples is not None
            with self.runtime.host.applying(
                self.runtime.host.fit(self._tokens(batch.prompts, batch.mask))
            ):
                losses = response_losses(self.base.model, batch.examples.to(self.base.device))
            sizes = [len(self.pools[i].validation) for i in batch.tasks]
            nlls, exacts = torch.split(losses.nll, sizes), torch.split(losses.exact.float(), sizes)
            for task, nll, exact in zip(batch.tasks, nlls, exacts, strict=True):
                found[task] = GroupNLL(float(nll.mean()), float(exact.mean()))
        # `held_back` sorts tasks by length; callers expect their own order.
        return [found[task] for task in tasks]

    def _draw_monitors(self) -> None:
        """Draw the curves so far; what keeps them from being drawn ends no training."""
        try:
            draw_monitors(self.recipe.out)
        except (DndError, OSError) as error:
            logger.warning("the curves in `%s` were not drawn: %s", self.recipe.out, error)

    @torch.no_grad()
    def _monitor(self, step: int) -> dict[str, Any]:
        """What a falling loss does not show, on a few fixed tasks."""
        seen = choose_probe(self.pools, "train", _PROBE_TASKS, self.recipe.seed)
        unseen = choose_probe(self.pools, "validation", _PROBE_FAMILY_TASKS, self.recipe.seed)
        tokens = self._tokens(*self.sampler.conditions((*seen.tasks, *unseen.tasks)))
        weights = weight_statistics(tokens.float(), self.generator.config.layout)
        values: dict[str, Any] = {"delta_norm": round(weights.norm, 5)}
        if self.recipe.kind != "generator":
            return values
        values["between_task_share"] = round(weights.between_share, 7)
        values["between_task_cosine"] = round(weights.cosine, 5)
        values |= measure_probe(seen, self._measure, "probe")
        values |= measure_probe(unseen, self._measure, "families_probe")
        # Adapters begin equal, so during the warm-up this says nothing.
        if step > self.recipe.warmup_steps and weights.between_share < COLLAPSED_SHARE:
            values["warning"] = "collapsed"
            if self.processes.is_first:
                logger.warning(
                    "COLLAPSED at step %d: adapters of different tasks differ by %.1e of their "
                    "squared norm (least %.0e), so the prompts make no difference. Stop the run: "
                    "look at the condition's channels first (outliers, statistics), then at the "
                    "learning rates.",
                    step,
                    weights.between_share,
                    COLLAPSED_SHARE,
                )
        return values

    def _validate(self, step: int) -> dict[str, float]:
        """Measure held-back examples, and keep the weights if they are the best so far.

        With early stopping, selection goes by the validation families where there are any: the
        loss on seen tasks goes on falling long after unseen ones have stopped gaining.
        """
        values: dict[str, float] = {}
        limit, seed = self.recipe.validation_tasks, self.recipe.seed
        sets: tuple[tuple[Role, str], ...] = (("train", "validation"), ("validation", "families"))
        for role, prefix in sets:
            probe = choose_probe(self.pools, role, limit, seed)
            compare = self.recipe.kind == "generator"
            values |= measure_probe(probe, self._measure, prefix, compare=compare)
        # The processes' own may differ in the last digit, and all must stop after the same step.
        loss = self.processes.of_first(values.get("families_loss", values["validation_loss"]))
        # Without early stopping nothing is chosen: the last weights are kept.
        if loss < self.best.loss or self.recipe.patience == 0:
            self.best = _Best(step, loss, 0, values)
            if self.processes.is_first:
                # Before the checkpoint that names its step; `_restore` sees a kill in between.
                write_tensors(self.best_file, self.generator.state_dict(), {"step": str(step)})
        else:
            self.best = replace(self.best, stale=self.best.stale + 1)
        logger.info("step %d: %s", step, values)
        return values

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _optimizer(self) -> torch.optim.AdamW:
        recipe, generator = self.recipe, self.generator
        groups: list[dict[str, Any]] = [
            # No decay: it would pull what all adapters share back to the base.
            {"params": [generator.shared], "peak_lr": recipe.shared_lr, "weight_decay": 0.0}
        ]
        if recipe.kind == "generator":
            groups.append(
                {
                    "params": [p for part in generator.networks for p in part.parameters()],
                    "peak_lr": recipe.decoder_lr,
                    "weight_decay": recipe.weight_decay,
                }
            )
        return torch.optim.AdamW(groups)

    # On disk

    def _save(self) -> None:
        if not self.processes.is_first:
            return
        identity = json.dumps(self.prepared.identity)
        notes = {"identity": identity, "best": json.dumps(asdict(self.best))}
        save_checkpoint(self.checkpoint, self.generator, self.optimizer, self.done, notes)

    def _restore(self) -> tuple[int, _Best]:
        if not self.checkpoint.exists():
            return 0, _Best()
        done = load_checkpoint(self.checkpoint, self.generator, self.optimizer)
        best = _Best(**json.loads(read_notes(self.checkpoint)["best"]))
        if _step_of(self.best_file) != best.step:
            # Killed between writing the one and the other, or the file is damaged.
            logger.warning(
                "`%s` is not from step %d; looking for the best weights again",
                BEST,
                best.step,
            )
            best = _Best()
        return done, best

    def _write(self) -> TrainResult:
        kept = self.best.step
        # A run that is resumed at its end takes no step, and may not have validated there.
        if not kept or (self.recipe.patience == 0 and kept != self.done):
            self._validate(self.done)
            self._save()
        self.processes.wait()  # the first has written it
        state = read_cached(self.best_file)
        if state is None:
            raise TrainingError(
                f"`{self.best_file}` cannot be read. Lower `steps` by one and train into another "
                "folder, or take the checkpoint's weights."
            )
        self.generator.load_state_dict(state)
        folder = self.recipe.out / GENERATOR
        stopped_early = self.done < self.recipe.steps
        if self.processes.is_first:
            self._write_folder(folder, stopped_early)
        self.processes.close()
        return TrainResult(
            folder,
            self.done,
            self.best.step,
            stopped_early,
            time.monotonic() - self.started,
            self.best.values["validation_loss"],
            self.best.values,
        )

    def _write_folder(self, folder: Path, stopped_early: bool) -> None:
        trained = [pool.task.info for pool in self.pools if pool.role == "train"]
        validating = [pool.task.info for pool in self.pools if pool.role == "validation"]
        is_teacher = self.recipe.kind == "teacher"
        # What the warm start has seen counts too, or an examination would take it for new.
        before = self.prepared.teacher_before if is_teacher else self.prepared.inherited
        variants = {info.slug for info in trained if info.variant}
        result = {
            "steps": self.done,
            "kept_step": self.best.step,
            "stopped_early": stopped_early,
            "tasks": len(_data(trained)),
            "variants": len(trained),
            **self.best.values,
        }
        training = {
            "kind": self.recipe.kind,
            "recipe": self.recipe.to_json(),
            "sha256": self.prepared.hashes,
            "data": _joined(_data(trained), before.get("data", ())),
            "variants": sorted(variants.union(before.get("variants", ()))),
            "validation_data": _joined(_data(validating), before.get("validation_data", ())),
            "result": result,
            "steps_before": trained_steps(before),
        }
        if is_teacher:
            assert self.recipe.warm_start is not None, "`TrainRecipe` refuses it"
            taught = GeneratorFolder.open(self.recipe.warm_start)
            start = self.prepared.teacher_start
            assert start is not None
            tokens = self.generator.shared.detach().cpu().lerp(start, self.recipe.start_share)
            save_teacher(taught, folder, tokens, training)
            add_teacher(folder, training)
            return
        self.generator.config = replace(self.generator.config, training=training)
        card = new_card(self.generator.config)
        save_generator(self.generator, folder, self._centroids(), card)

    def _centroids(self) -> list[TaskCentroid]:
        """Only training tasks in their own format, because variants would repeat them."""
        return [
            TaskCentroid(
                pool.task.info.slug,
                pool.task.info.description,
                # A mean of unit vectors is shorter than they are, and similarities are cosines.
                tuple(
                    round(v, 4) for v in nn.functional.normalize(condition.centroid, dim=0).tolist()
                ),
            )
            for pool, condition in zip(self.pools, self.prepared.conditions.tasks, strict=True)
            if pool.role == "train" and not pool.task.info.variant
        ]


def _step_of(best_file: Path) -> int:
    """The step whose weights a file of the best ones holds; 0 if it cannot be read."""
    try:
        return int(read_notes(best_file).get("step", 0))
    except (TrainingError, ValueError):
        return 0


@contextmanager
def _noting_interrupts() -> Iterator[threading.Event]:
    """Note Ctrl-C, so that a step is finished before the run stops; a second one stops at once.

    Outside the main thread signals go elsewhere, and nothing is noted.
    """
    asked = threading.Event()

    def note(_number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        logger.warning("finishing this step, then writing a checkpoint; Ctrl-C again stops at once")

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def _schedule(step: int, recipe: TrainRecipe) -> float:
    """Linear warm-up, then a cosine down to `final_lr_share`."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return recipe.final_lr_share + (1 - recipe.final_lr_share) * (1 + math.cos(math.pi * done)) / 2


def _data(infos: Iterable[TaskInfo]) -> list[dict[str, str]]:
    """One row a task, whatever the number of variants it was shown in."""
    rows = {
        info.plain_slug: {
            "task": info.plain_slug,
            "family": info.family,
            "licence": info.licence,
            "category": info.category,
        }
        for info in infos
    }
    return list(rows.values())


def _joined(
    rows: list[dict[str, str]], inherited: Iterable[Mapping[str, str]]
) -> list[dict[str, str]]:
    """Ours, and what a warm start adds to them."""
    ours = {row["task"] for row in rows}
    return rows + [dict(row) for row in inherited if row["task"] not in ours]
