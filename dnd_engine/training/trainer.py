"""End-to-end training: the task loss, through the frozen base, into the decoder.

Each step draws tasks, turns prompts of each into a LoRA, runs the base wearing them on examples of
the same tasks, and sends the gradient of the answers' loss back into the generator. No checkpoints
of task LoRAs are needed. Source: Charakorn et al. 2025 (Text-to-LoRA) for the objective, Liang et
al. 2025 for the decoder and for redrawing prompts at every step.
"""

import hashlib
import json
import logging
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from dnd_engine.card import new_card
from dnd_engine.encoder import PromptEncoder
from dnd_engine.errors import TrainingError
from dnd_engine.generator import Generator, GeneratorConfig, TaskCentroid, save_generator
from dnd_engine.layout import LoRALayout, LoRASpec
from dnd_engine.lora import LoRAHost
from dnd_engine.models import (
    BASES,
    ENCODERS,
    BaseModel,
    ResolvedWeights,
    best_device,
    best_dtype,
    fingerprint,
    load_base,
    resolve,
)
from dnd_engine.training.batches import (
    Batch,
    ConditionPool,
    TaskPool,
    build_conditions,
    build_pools,
    draw_batch,
    validation_batches,
)
from dnd_engine.training.checkpoint import load_checkpoint, save_checkpoint
from dnd_engine.training.examples import response_losses
from dnd_engine.training.recipe import TrainRecipe
from dnd_engine.training.tasks import load_tasks

__all__ = ["TrainResult", "train"]

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a finished run leaves."""

    generator: Path
    """Generator folder; of a multi-task LoRA, a generator that ignores its condition."""
    steps: int
    seconds: float
    validation_loss: float
    """Nats per answer token on held-back examples of the training tasks."""
    validation_loss_wrong_prompts: float


def train(recipe: TrainRecipe, *, resume: bool = False) -> TrainResult:
    """Run or continue a recipe to its end.

    Args:
        recipe: What to train, on what, and where to.
        resume: Continue from the run folder's checkpoint; without one, start.

    Raises:
        TrainingError: If the run folder holds another run, or the loss is no longer finite.
        TaskError: If the task folder is malformed.
        AssetError: If base or encoder cannot be loaded.
    """
    return _Run(recipe, resume).finish()


class _Run:
    """One training run: the frozen models, the data, the generator and its optimizer."""

    def __init__(self, recipe: TrainRecipe, resume: bool) -> None:
        self.recipe = recipe
        recipe.out.mkdir(parents=True, exist_ok=True)
        self.checkpoint = recipe.out / CHECKPOINT
        if self.checkpoint.exists() and not resume:
            raise TrainingError(
                f"`{recipe.out}` already holds a run. Continue it with --resume, "
                "or train into another folder."
            )
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        self.device = best_device()
        dtype = best_dtype(self.device)
        self.autocast_dtype = dtype
        self.base = load_base(resolve(recipe.base, BASES), self.device, dtype)
        encoder_weights = resolve(recipe.encoder, ENCODERS)
        tasks = load_tasks(
            recipe.tasks,
            split="train",
            without_licence_classes=recipe.without_licence_classes,
        )
        self.pools = build_pools(tasks, self.base.tokenizer, recipe)
        if len(self.pools) < 2:
            raise TrainingError(
                f"only {len(self.pools)} task(s) of `{recipe.tasks}` have enough examples of at "
                f"most {recipe.max_tokens} tokens; training needs two or more."
            )
        encoder = PromptEncoder(encoder_weights.path, self.device, dtype)
        self.conditions = self._conditions(encoder, encoder_weights)
        torch.manual_seed(recipe.seed)
        self.generator = Generator(
            _generator_config(recipe, self.base, encoder_weights, self.pools)
        ).to(self.device)
        self.generator.set_condition_statistics(*self.conditions.statistics())
        self.host = LoRAHost(self.base.model, self.generator.config.layout)
        self.optimizer = self._optimizer()
        self.recipe_hash = _hash_recipe(recipe)
        self.done = 0
        if self.checkpoint.exists():
            self.done = load_checkpoint(
                self.checkpoint, self.generator, self.optimizer, self.recipe_hash
            )
            if self.done > recipe.steps:
                raise TrainingError(
                    f"`{recipe.out}` has already done {self.done} steps, more than the "
                    f"{recipe.steps} asked for."
                )
        _cut_log(recipe.out / "log.jsonl", self.done)

    def finish(self) -> TrainResult:
        """Train the remaining steps, validate, write the generator folder."""
        recipe, started = self.recipe, time.monotonic()
        steps = range(self.done, recipe.steps)
        bar = tqdm(steps, initial=self.done, total=recipe.steps, desc="Train", unit="step")
        log = (recipe.out / "log.jsonl").open("a", encoding="utf-8")
        with log:
            for step in bar:
                values = self._step(step)
                bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
                last = step + 1 == recipe.steps
                if not last and (step + 1) % recipe.validate_every == 0:
                    values |= self._validate()
                log.write(json.dumps(values) + "\n")
                log.flush()
                if last or (step + 1) % recipe.checkpoint_every == 0:
                    save_checkpoint(
                        self.checkpoint,
                        self.generator,
                        self.optimizer,
                        step + 1,
                        self.recipe_hash,
                    )
        return self._write(time.monotonic() - started)

    def _step(self, step: int) -> dict[str, float]:
        recipe, started = self.recipe, time.monotonic()
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * _schedule(step, recipe)
        batch = draw_batch(self.pools, self.conditions, recipe, step)
        loss = self._loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self._parameters(), recipe.clip_norm).item()
        nats = loss.item()
        if not math.isfinite(nats + norm):
            raise TrainingError(
                f"step {step}: loss {nats}, gradient norm {norm}. The last checkpoint in "
                f"`{recipe.out}` is still sound; lower the learning rates and start anew."
            )
        self.optimizer.step()
        return {
            "step": step + 1,
            "loss": round(nats, 5),
            "grad_norm": round(norm, 4),
            "tokens": batch.num_tokens,
            "seconds": round(time.monotonic() - started, 3),
        }

    def _loss(self, batch: Batch) -> Tensor:
        """Mean over examples of the loss per answer token: long answers do not outvote short."""
        with self.host.wearing(self.host.fit(self._tokens(batch))):
            return response_losses(self.base.model, batch.examples.to(self.device)).nll.mean()

    def _tokens(self, batch: Batch) -> Tensor:
        """One adapter's weight tokens per task of the batch."""
        if self.recipe.kind == "multi_task_lora":
            return self.generator.shared.expand(len(batch.tasks), -1, -1, -1)
        assert batch.prompts is not None
        assert batch.mask is not None
        condition = self.generator.standardise(
            batch.prompts.to(self.device), batch.mask.to(self.device)
        )
        with torch.autocast(self.device.type, self.autocast_dtype):
            tokens: Tensor = self.generator(condition)
        return tokens

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        values = {}
        for name, wrong in (("validation_loss", False), ("validation_loss_wrong_prompts", True)):
            losses = []
            for batch in validation_batches(self.pools, self.conditions, self.recipe, wrong=wrong):
                losses += [float(self._loss(batch))] * len(batch.tasks)
            values[name] = round(sum(losses) / len(losses), 5)
        logger.info("%s", values)
        return values

    def _write(self, seconds: float) -> TrainResult:
        checks = self._validate()
        config = self.generator.config
        result = {"steps": self.recipe.steps, "tasks": len(self.pools), **checks}
        self.generator.config = replace(config, training={**config.training, "result": result})
        folder = self.recipe.out / "generator"
        centroids = nn.functional.normalize(self.conditions.centroids, dim=1)
        tasks = [
            TaskCentroid(
                pool.task.info.slug,
                pool.task.info.description,
                tuple(round(v, 4) for v in centroid.tolist()),
            )
            for pool, centroid in zip(self.pools, centroids, strict=True)
        ]
        save_generator(self.generator, folder, tasks, new_card(self.generator.config, result))
        return TrainResult(
            folder,
            self.recipe.steps,
            seconds,
            checks["validation_loss"],
            checks["validation_loss_wrong_prompts"],
        )

    def _conditions(self, encoder: PromptEncoder, weights: ResolvedWeights) -> ConditionPool:
        """Encoded prompts, kept beside the run so that a resumed one starts at once."""
        names = "\n".join(p.task.info.slug for p in self.pools)
        recipe = self.recipe
        drawn = (recipe.pool_prompts, recipe.stages[0], recipe.seed, recipe.validation_examples)
        values = (weights.sha256, names, *drawn)
        digest = hashlib.sha256(repr(values).encode()).hexdigest()[:16]
        path = self.recipe.out / f"conditions-{digest}.safetensors"
        if path.exists():
            return ConditionPool(**load_file(path))
        pool = build_conditions(self.pools, encoder, self.recipe)
        tensors = {name: getattr(pool, name) for name in ConditionPool.__slots__}
        save_file(tensors, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)
        return pool

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _optimizer(self) -> torch.optim.AdamW:
        recipe, generator = self.recipe, self.generator
        groups: list[dict[str, Any]] = [
            {"params": [generator.shared], "peak_lr": recipe.shared_lr, "weight_decay": 0.0}
        ]
        if recipe.kind == "generator":
            groups.append(
                {
                    "params": list(generator.decoder.parameters()),
                    "peak_lr": recipe.decoder_lr,
                    "weight_decay": recipe.weight_decay,
                }
            )
        return torch.optim.AdamW(groups)


def _cut_log(path: Path, steps: int) -> None:
    """Forget what a killed run logged after its last checkpoint; those steps are done again."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(lines[:steps]), encoding="utf-8")


def _schedule(step: int, recipe: TrainRecipe) -> float:
    """Linear warm-up, then a cosine down to `final_lr_share`."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return recipe.final_lr_share + (1 - recipe.final_lr_share) * (1 + math.cos(math.pi * done)) / 2


def _generator_config(
    recipe: TrainRecipe,
    base: BaseModel,
    encoder: ResolvedWeights,
    pools: tuple[TaskPool, ...],
) -> GeneratorConfig:
    layout = LoRALayout.from_config(base.config, LoRASpec(r=recipe.r, lora_alpha=recipe.lora_alpha))
    data = [
        {"task": i.slug, "family": i.family, "licence": i.licence, "category": i.category}
        for i in (pool.task.info for pool in pools)
    ]
    return GeneratorConfig(
        features=(*recipe.stages, (layout.num_tokens, recipe.r, layout.width)),
        kernel_size=recipe.kernel_size,
        layout=layout,
        base={"id": base.weights.hub_id, "fingerprint": fingerprint(base)},
        encoder={"id": encoder.hub_id, "sha256": encoder.sha256},
        training={"kind": recipe.kind, "recipe": recipe.to_json(), "data": data},
    )


def _hash_recipe(recipe: TrainRecipe) -> str:
    """What a checkpoint belongs to; lengths, intervals and threads may change in a resumed run."""
    values = recipe.to_json()
    for name in ("steps", "threads", "validate_every", "checkpoint_every"):
        del values[name]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
