"""What a generator is trained for, behind one interface.

*Task loss*: the answers' loss, end to end through the frozen base. *Reconstruction*: the paper's,
generated weight tokens against a checkpoint's. *Imprint*, of a teacher: see `through_imprint`.

Source: Charakorn et al. 2025 (Text-to-LoRA), arXiv:2506.06105, for task loss against
reconstruction; Liang et al. 2025, arXiv:2506.16406, for reconstruction.
"""

import hashlib
import random
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from dnd_engine.errors import TrainingError
from dnd_engine.generator.folder import Generator
from dnd_engine.models.runtime import Runtime
from dnd_engine.training.batches import Batch, TaskPool
from dnd_engine.training.collection import Collection
from dnd_engine.training.examples import response_losses
from dnd_engine.training.pairs import open_pairs, token_scales
from dnd_engine.training.recipe import TrainRecipe
from dnd_engine.training.through_imprint import ImprintLoss


class TaskLoss:
    """Mean over examples of the loss per answer token: long answers do not outvote short ones."""

    needs_examples = True
    """Whether batches must hold examples; objectives on weights do without."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def loss(self, batch: Batch, tokens: Float[Tensor, "tasks tokens rows cols"]) -> Tensor:
        """Nats per answer token."""
        assert batch.examples is not None
        runtime = self._runtime
        # Without the lock: nobody else uses the base of a training process.
        with runtime.host.applying(runtime.host.fit(tokens)):
            return response_losses(
                runtime.base.model, batch.examples.to(runtime.base.device)
            ).nll.mean()


class Reconstruction:
    """The paper's: squared error of standardised weight tokens, weighted token by token.

    Each target token is standardised by its own deviation, as the authors' are. Ours are plain, so
    the generated token is taken through the same standardisation instead of predicting its scale.
    Training starts in the gauge of the collection.

    Args:
        collection: A collection of the generator's layout, checked against the base.
        pools: The tasks; of each trained one, the collection has checkpoints. They are read now,
            which may be slow.
        recipe: For the seed and the cache.
        identity: Hash of the collection.

    Raises:
        TrainingError: If some were trained on other examples than the task folders hold now.
    """

    needs_examples = False

    def __init__(
        self,
        collection: Collection,
        pools: Sequence[TaskPool],
        recipe: TrainRecipe,
        identity: str,
    ) -> None:
        tasks = [pool.task for pool in pools if pool.role == "train"]
        if changed := collection.made_otherwise(tasks):
            raise TrainingError(
                f"the collection `{collection.path}` was trained on other examples of "
                f"{len(changed)} task(s): {', '.join(f'`{slug}`' for slug in changed[:3])}"
                f"{', ...' if len(changed) > 3 else ''}. Train on the task folders that it was "
                "made from, or collect from these into another folder."
            )
        # The cache holds means over these tasks, so its name depends on them too.
        trained = [task.info.slug for task in tasks]
        identity = hashlib.sha256("\0".join((identity, *trained)).encode()).hexdigest()
        self.pairs = open_pairs(collection, trained, recipe.cache_folder, identity)
        self._seed = recipe.seed
        self._slugs = tuple(pool.task.info.slug for pool in pools)

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

    def loss(self, batch: Batch, tokens: Float[Tensor, "tasks tokens rows cols"]) -> Tensor:
        """Weighted mean squared error; 1 is about what predicting each token's mean costs."""
        targets = self._targets(batch, tokens)
        scales = token_scales(targets, self.pairs.floor.to(tokens))
        # Standardising would subtract the same mean from both, so the difference needs none.
        errors = ((tokens - targets) / scales[:, :, None, None]).square().mean(dim=(2, 3))
        return (errors * self.pairs.criterion.to(tokens)).mean()

    def _targets(self, batch: Batch, tokens: Tensor) -> Float[Tensor, "tasks tokens rows cols"]:
        # Seeded by the step, so that a resumed run draws the same snapshots.
        rng = random.Random(f"{self._seed}:{batch.step}:snapshots")
        return self.pairs.draw([self._slugs[i] for i in batch.tasks], rng).to(tokens)


Objective = TaskLoss | Reconstruction | ImprintLoss
