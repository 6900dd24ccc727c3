"""What a generator is trained for, behind one interface.

*Task loss*: the answers' loss, end to end through the frozen base. *Reconstruction*: the paper's,
generated weight tokens against a checkpoint's. *ΔW error*: the same, but of the change that a
checkpoint makes, which does not care how it is factored. *Distillation*: on the bare input, agree
with a teacher that reads the instruction.

Source: Charakorn et al. 2025 (Text-to-LoRA), arXiv:2506.06105, for task loss against
reconstruction; Liang et al. 2025, arXiv:2506.16406, for reconstruction.
"""

import hashlib
import random
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dnd_engine.errors import TrainingError
from dnd_engine.generator.folder import Generator
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.lora.delta import delta_products
from dnd_engine.models.runtime import Runtime
from dnd_engine.training.batches import Batch, Drawn, TaskPool
from dnd_engine.training.collection import Collection
from dnd_engine.training.examples import answer_logits, response_losses
from dnd_engine.training.pairs import Pairs, open_pairs, token_scales
from dnd_engine.training.recipe import TrainRecipe
from dnd_engine.training.teacher import TeacherAnswers, ask_teacher

__all__ = [
    "DeltaError",
    "Distillation",
    "Objective",
    "Reconstruction",
    "TaskLoss",
    "teacher_divergence",
    "with_checkpoints",
]


@runtime_checkable
class Objective(Protocol):
    """One number to lower, for a batch and the weight tokens generated for it."""

    needs_examples: bool
    """Whether batches must hold examples; objectives on weights do without."""

    def prepare(self, pools: Sequence[TaskPool]) -> tuple[TaskPool, ...]:
        """Do what is done once before training, which may be slow; leave out unusable tasks."""
        ...

    def initialise(self, generator: Generator) -> None:
        """Move the start of training, if the objective has a better one; still exactly the base."""
        ...

    def loss(self, batch: Batch, tokens: Float[Tensor, "tasks tokens rows cols"]) -> Tensor:
        """The loss of a batch, differentiable in `tokens`."""
        ...


class TaskLoss:
    """Mean over examples of the loss per answer token: long answers do not outvote short ones."""

    needs_examples = True

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def prepare(self, pools: Sequence[TaskPool]) -> tuple[TaskPool, ...]:
        """Nothing to prepare."""
        return tuple(pools)

    def initialise(self, generator: Generator) -> None:
        """The generator's own start."""

    def loss(self, batch: Batch, tokens: Float[Tensor, "tasks tokens rows cols"]) -> Tensor:
        """Nats per answer token."""
        assert batch.examples is not None
        runtime = self._runtime
        with runtime.host.wearing(runtime.host.fit(tokens)):
            return response_losses(
                runtime.base.model, batch.examples.to(runtime.base.device)
            ).nll.mean()


def with_checkpoints(pools: Sequence[TaskPool], collection: Collection) -> tuple[TaskPool, ...]:
    """Leave out trained tasks without checkpoints; validating ones need none."""
    collected = set(collection.train_slugs)
    return tuple(p for p in pools if p.role == "validation" or p.task.info.slug in collected)


class _OfCheckpoints:
    """What the two objectives on weights share: pairs, and a start in the gauge of the collection.

    Args:
        collection: Of the generator's layout, and checked against the base.
        recipe: For the seed and the cache.
        identity: Of the collection, by its hash.
    """

    needs_examples = False

    def __init__(self, collection: Collection, recipe: TrainRecipe, identity: str) -> None:
        self._collection = collection
        self._recipe = recipe
        self._identity = identity
        self._pairs: Pairs | None = None
        self._slugs: tuple[str, ...] = ()

    @property
    def pairs(self) -> Pairs:
        """Opened by `prepare`."""
        assert self._pairs is not None, "`prepare` comes first"
        return self._pairs

    def prepare(self, pools: Sequence[TaskPool]) -> tuple[TaskPool, ...]:
        """Leave out trained tasks without checkpoints; validating ones need none.

        Raises:
            TrainingError: If fewer than two tasks have checkpoints, or some were trained on other
                examples than the task folders hold now.
        """
        kept = with_checkpoints(pools, self._collection)
        trained = [p.task.info.slug for p in kept if p.role == "train"]
        if len(trained) < 2:
            raise TrainingError(
                f"the collection `{self._collection.path}` has checkpoints of {len(trained)} of "
                "the tasks; training needs two or more. Collect more tasks, or name the task "
                "folders that it was made from."
            )
        tasks = [pool.task for pool in kept if pool.role == "train"]
        if changed := self._collection.made_otherwise(tasks):
            raise TrainingError(
                f"the collection `{self._collection.path}` was trained on other examples of "
                f"{len(changed)} task(s): {', '.join(f'`{slug}`' for slug in changed[:3])}"
                f"{', ...' if len(changed) > 3 else ''}. Train on the task folders that it was "
                "made from, or collect from these into another folder."
            )
        identity = _digest(self._identity, *trained)
        self._pairs = open_pairs(self._collection, trained, self._recipe.cache_folder, identity)
        self._slugs = tuple(pool.task.info.slug for pool in kept)
        return kept

    def initialise(self, generator: Generator) -> None:
        """Take over the A that all checkpoints started from, nearly; B stays zero.

        The same change has many factors A and B, and regressing one of them only works from about
        where the checkpoints began.
        """
        layout, mean = generator.config.layout, self.pairs.mean
        with torch.no_grad():
            for m in layout.matrices():
                if m.side == "A":
                    rows = slice(m.first_token, m.first_token + m.num_tokens)
                    generator.shared[rows] = mean[rows].to(generator.shared)

    def _targets(self, batch: Batch, tokens: Tensor) -> Float[Tensor, "tasks tokens rows cols"]:
        rng = random.Random(f"{self._recipe.seed}:{batch.step}:snapshots")
        return self.pairs.draw([self._slugs[i] for i in batch.tasks], rng).to(tokens)


class Reconstruction(_OfCheckpoints):
    """The paper's: squared error of standardised weight tokens, weighted token by token.

    Each target token is standardised by its own deviation, as the authors' are. Ours are plain, so
    the generated token is taken through the same standardisation instead of predicting its scale.
    """

    def loss(self, batch: Batch, tokens: Float[Tensor, "tasks tokens rows cols"]) -> Tensor:
        """Weighted mean squared error; 1 is about what predicting each token's mean costs."""
        targets = self._targets(batch, tokens)
        scales = token_scales(targets, self.pairs.floor.to(tokens))
        errors = ((tokens - targets) / scales[:, :, None, None]).square().mean(dim=(2, 3))
        return (errors * self.pairs.criterion.to(tokens)).mean()


class DeltaError(_OfCheckpoints):
    """Squared error of ΔW = scaling · B·A, in shares of each layer's mean squared ΔW.

    Through inner products of ΔWs, so no ΔW is ever made.
    """

    def prepare(self, pools: Sequence[TaskPool]) -> tuple[TaskPool, ...]:
        """Besides the pairs, measure the checkpoints' own ΔWs."""
        kept = super().prepare(pools)
        trained = [pool.task.info.slug for pool in kept if pool.role == "train"]
        layout, total = self._collection.layout, torch.tensor(0.0)
        for slug in trained:
            final = self._collection.final(slug, self._collection.seeds(slug)[0])[None]
            total = total + delta_products(final, final, layout)[0]
        self._norms = (total / len(trained)).clamp(min=1e-12)
        return kept

    def loss(self, batch: Batch, tokens: Float[Tensor, "tasks tokens rows cols"]) -> Tensor:
        """Mean over layers; 1 is what no adapter at all costs."""
        layout, targets = self._collection.layout, self._targets(batch, tokens)
        errors = (
            delta_products(tokens, tokens, layout)
            - 2 * delta_products(tokens, targets, layout)
            + delta_products(targets, targets, layout)
        )
        # Rounding can leave the smallest below zero.
        return (errors.clamp(min=0) / self._norms.to(tokens)).mean()


class Distillation:
    """Bare inputs: the teacher's next tokens and the answers; full prompts: the answers.

    Args:
        runtime: The student's and the teacher's base.
        worn: The teacher's LoRA; None is the base alone.
        identity: Names base and teacher by their weights.
        recipe: For the mixture and what is asked of the teacher.
    """

    needs_examples = True

    def __init__(
        self,
        runtime: Runtime,
        worn: FittedLoRA | None,
        identity: str,
        recipe: TrainRecipe,
    ) -> None:
        self._runtime = runtime
        self._worn = worn
        self._identity = identity
        self._recipe = recipe
        self._answers: tuple[TeacherAnswers | None, ...] = ()

    def prepare(self, pools: Sequence[TaskPool]) -> tuple[TaskPool, ...]:
        """Ask the teacher, or read what it said."""
        kept, self._answers = ask_teacher(
            pools, self._runtime, self._worn, self._identity, self._recipe
        )
        return kept

    def initialise(self, generator: Generator) -> None:
        """The generator's own start."""

    def loss(self, batch: Batch, tokens: Float[Tensor, "tasks tokens rows cols"]) -> Tensor:
        """Nats per answer token, mean over examples."""
        assert batch.examples is not None
        runtime = self._runtime
        examples = batch.examples.to(runtime.base.device)
        with runtime.host.wearing(runtime.host.fit(tokens)):
            logits, targets = answer_logits(runtime.base.model, examples)
        owner = examples.owner[examples.predicts]
        counts = torch.bincount(owner, minlength=len(batch.drawn))
        token_loss = nn.functional.cross_entropy(logits, targets, reduction="none")
        asked = torch.tensor([_was_asked(d) for d in batch.drawn], device=logits.device)
        taught = asked[owner]
        if taught.any():
            divergence = teacher_divergence(logits[taught], *self._said(batch, logits))
            mixed = (1 - self._recipe.kl_share) * token_loss[taught]
            token_loss = token_loss.masked_scatter(
                taught, mixed + self._recipe.kl_share * divergence
            )
        sums = token_loss.new_zeros(len(batch.drawn)).index_add(0, owner, token_loss)
        return (sums / counts).mean()

    def _said(self, batch: Batch, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The teacher's tokens, their log-probabilities and the rest, at all bare answers."""
        parts = []
        for drawn in batch.drawn:
            if drawn.mode == "bare" and drawn.example is not None:
                answers = self._answers[drawn.pool]
                assert answers is not None
                at = answers.of(drawn.example)
                parts.append((answers.tokens[at], answers.log_probs[at], answers.rest[at]))
        tokens, log_probs, rest = (torch.cat(column) for column in zip(*parts, strict=True))
        device = logits.device
        return tokens.long().to(device), log_probs.to(device), rest.to(device)


def _was_asked(drawn: Drawn) -> bool:
    """Whether the teacher's answer counts: bare inputs, and none made for the occasion."""
    return drawn.mode == "bare" and drawn.example is not None


def teacher_divergence(
    logits: Float[Tensor, "answer_tokens vocabulary"],
    tokens: Tensor,
    log_probs: Float[Tensor, "answer_tokens top"],
    rest: Float[Tensor, " answer_tokens"],
) -> Float[Tensor, " answer_tokens"]:
    """KL divergence of the student from the teacher, all tokens not kept counted as one.

    Args:
        logits: The student's.
        tokens: The teacher's likeliest next tokens, (answer tokens, top).
        log_probs: Theirs under the teacher.
        rest: Log of the teacher's mass on all others.
    """
    ours = logits.log_softmax(dim=-1).gather(1, tokens)
    # The floor is the teacher's own (see `teacher`); it also keeps the gradient finite.
    our_rest = torch.log1p(-ours.exp().sum(dim=-1).clamp(max=1 - 1e-6))
    kept = (log_probs.exp() * (log_probs - ours)).sum(dim=-1)
    return kept + rest.exp() * (rest - our_rest)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
