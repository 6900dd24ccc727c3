"""Trains the LoRAs of some tasks side by side, in one batch, and keeps their snapshots.

Every run starts from the same A and from B zero. Runs share nothing but the time, and a group of
them needs nothing of another group: it can be trained in another process or on another machine.
`collect` forms the groups.
"""

import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from dnd_engine.errors import TrainingError
from dnd_engine.files import is_leftover, remove_leftovers, sha256_of
from dnd_engine.lora.layout import LoRALayout, LoRASpec
from dnd_engine.models.base import best_device, best_dtype, fingerprint, load_base, resolve_base
from dnd_engine.models.runtime import Runtime
from dnd_engine.tasks.folder import Task, hash_train, held_back
from dnd_engine.training.checkpoint import load_checkpoint, save_checkpoint
from dnd_engine.training.collection import write_snapshot
from dnd_engine.training.collection_files import (
    LossRow,
    Run,
    Snapshot,
    file_name,
    read_losses,
    run_folder,
    write_losses,
)
from dnd_engine.training.examples import EncodedExample, encode_short, pack, response_losses
from dnd_engine.training.finetune.collect_recipe import (
    FREE,
    GROWS,
    CollectRecipe,
    StartReason,
    starts_here,
)
from dnd_engine.training.finetune.steps import shared_start

Group = Sequence[tuple[Task, int]]
"""Tasks, each under a seed, that train in one batch."""


@dataclass(frozen=True, slots=True)
class TrainedGroup:
    """What became of a group."""

    size: int
    checkpoint: str
    """Name of the file that it would have continued from."""
    runs: tuple[Run, ...]
    left_out: Mapping[str, str]
    """Task to the reason why it was not trained."""


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


class RunTrainer:
    """The frozen base, and the start that all runs share.

    Raises:
        AssetError: If the base cannot be loaded.
    """

    def __init__(self, recipe: CollectRecipe) -> None:
        self.recipe = recipe
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        self.device = best_device()
        dtype = best_dtype(self.device)
        self.base = load_base(resolve_base(recipe.base, self.device, dtype), self.device, dtype)
        self.layout = LoRALayout.from_config(
            self.base.config, LoRASpec(r=recipe.r, lora_alpha=recipe.lora_alpha)
        )
        self.runtime = Runtime.of(self.base, self.layout)
        self.start = shared_start(self.layout, recipe.init_seed)

    def origin(self) -> dict[str, Any]:
        """What the manifest says of the base and of the start."""
        return {
            "base": {"id": self.base.weights.hub_id, "fingerprint": fingerprint(self.base)},
            **self.layout.to_json(),
            "init": {
                "a": "normal, variance 1 / in_features",
                "b": "zero",
                "seed": self.recipe.init_seed,
                "sha256": hashlib.sha256(self.start.numpy().tobytes()).hexdigest(),
            },
        }

    def train(
        self, group: Group, on_steps: Callable[[int], object] = lambda steps: None
    ) -> TrainedGroup:
        """Train runs side by side until each has its snapshots.

        A group that was stopped continues from its checkpoint. `on_steps` gets the number of steps
        just done, those of all runs together.
        """
        trainings, left_out = self._prepare(group)
        checkpoint = f"checkpoint-{self._digest(trainings)[:16]}.safetensors"
        if trainings:
            self._train(trainings, checkpoint, on_steps)
        runs = tuple(map(self._close, trainings))
        return TrainedGroup(len(group), checkpoint, runs, left_out)

    def _train(
        self, trainings: Sequence[_Training], name: str, on_steps: Callable[[int], object]
    ) -> None:
        recipe = self.recipe
        checkpoint = recipe.out / name
        parameters = nn.ParameterList([t.tokens for t in trainings])
        # AdamW works entry by entry, so one optimizer serves runs that share nothing.
        optimizer = torch.optim.AdamW(
            parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        done = 0
        if checkpoint.exists():
            done = load_checkpoint(checkpoint, parameters, optimizer)
            for training in trainings:
                # The curve may be ahead of the checkpoint. Adding its rows asks the rule again,
                # which finds the same start.
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
                # The curve first: resuming drops surplus rows, but cannot make up missing ones.
                self._write_losses(trainings)
                save_checkpoint(checkpoint, parameters, optimizer, step)
            on_steps(len(active))
        self._write_losses(trainings)

    def _prepare(self, group: Group) -> tuple[list[_Training], dict[str, str]]:
        """Tokenise; tasks with too few short examples are left out, and said to be."""
        recipe, trainings, left_out = self.recipe, [], {}
        for task, seed in group:
            examples = self._encode(task)
            if len(examples.full) < recipe.batch_size or not examples.validation:
                left_out[task.info.slug] = (
                    f"{len(examples.full)} train and {len(examples.validation)} validation examples"
                    f" of at most {recipe.max_tokens} tokens; needs {recipe.batch_size} and 1"
                )
                continue
            tokens = nn.Parameter(self.start.to(self.device, copy=True))
            trainings.append(_Training(task, seed, examples, tokens, recipe))
        return trainings, left_out

    def _encode(self, task: Task) -> _Examples:
        tokenizer, limit = self.base.tokenizer, self.recipe.max_tokens
        trained, held = held_back(task, self.recipe.validation_examples)
        bare = encode_short(tokenizer, trained, "bare", limit)
        check = encode_short(tokenizer, held, "bare" if bare else "full", limit)
        full = encode_short(tokenizer, trained, "full", limit)
        return _Examples(full, bare, check)

    def _digest(self, trainings: Sequence[_Training]) -> str:
        """What a checkpoint belongs to: these runs, side by side, trained this way."""
        how = {k: v for k, v in self.recipe.to_json().items() if k not in GROWS | FREE}
        who = [(t.slug, t.seed, hash_train(t.task)) for t in trainings]
        origin = self.origin()
        text = json.dumps([how, origin["base"], origin["init"], who], sort_keys=True)
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
        # First, because the rule decides whether this is a run's last step, which is validated.
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
            # A power cut may leave a leftover that has lost its lock, which goes when it is old.
            if path.name != "losses.csv" and not is_leftover(path):
                path.unlink()
        # Read back, because a resumed run has not written all of them itself.
        snapshots = tuple(Snapshot(step, sha256_of(folder / file_name(step))) for step in steps)
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
            first_loss=sum(losses[:width]) / len(losses[:width]),
            last_loss=sum(losses[-width:]) / len(losses[-width:]),
            first_validation_loss=first.validation_loss,
            last_validation_loss=last.validation_loss,
            first_validation_exact=first.validation_exact,
            last_validation_exact=last.validation_exact,
            snapshots=snapshots,
        )
