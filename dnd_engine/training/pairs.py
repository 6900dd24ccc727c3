"""Prompt-checkpoint pairs: which LoRA checkpoint is paired with a task's prompts at each step.

The paper pairs a prompt batch, redrawn at every access, with one snapshot of the same task's run.
Knows weight tokens and collections; knows no prompts and no losses.

Source: Liang et al. 2025, arXiv:2506.16406, and the released `register.py`.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from dnd_engine.errors import LayoutMismatchError, TrainingError
from dnd_engine.lora.weight_tokens import tokenize
from dnd_engine.training.checkpoint import read_cached, write_tensors
from dnd_engine.training.collection import Collection
from dnd_engine.training.collection_files import file_name

_STD_FLOOR_SHARE = 0.1
"""A token's deviation is taken as at least this share of its mean over all tasks, and that as at
least the same share of all tokens' mean: a token that a task barely trained would otherwise
outweigh the rest."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """The checkpoints of some tasks of a collection, and what their errors are measured in."""

    collection: Collection
    criterion: Float[Tensor, " tokens"]
    """Weight of each token, 1 on average: how much its standardised entries move over the
    snapshots of a run, averaged over tasks. Source: the authors' `criterion_weight`."""
    floor: Float[Tensor, " tokens"]
    """Least deviation that a token is standardised with."""
    mean: Float[Tensor, "tokens rows cols"]
    """Mean of the tasks' last snapshots."""
    _checked: set[Path] = field(default_factory=set, init=False, repr=False, compare=False)
    """Files whose hash was right when they were first drawn."""

    def draw(
        self, slugs: Sequence[str], rng: random.Random
    ) -> Float[Tensor, "tasks tokens rows cols"]:
        """A random snapshot of each task, of any of its seeds.

        Raises:
            TrainingError: If a snapshot is not the one that was written, or is gone.
        """
        return torch.stack([self._read(slug, rng) for slug in slugs])

    def _read(self, slug: str, rng: random.Random) -> Float[Tensor, "tokens rows cols"]:
        choices = [(r, s) for r in self.collection.runs if r.slug == slug for s in r.snapshots]
        run, snapshot = rng.choice(choices)
        path = self.collection.path / run.folder / file_name(snapshot.step)
        if path not in self._checked:
            # Once a file: hashing all of them on opening would read gigabytes that a cached
            # criterion does without, and hashing at every step would slow each down.
            tokens = self.collection.read(run, snapshot)
            self._checked.add(path)
            return tokens
        try:
            return tokenize(load_file(path), self.collection.layout).float()
        except (OSError, SafetensorError, LayoutMismatchError) as error:
            raise TrainingError(
                f"snapshot `{path}` can no longer be read: {error}. The collection must stay in "
                "place while it is trained on."
            ) from error


def open_pairs(collection: Collection, slugs: Sequence[str], cache: Path, identity: str) -> Pairs:
    """Read every snapshot of some tasks once, for the weights of the criterion.

    Where the result is cached, no snapshot is read; `Pairs.draw` checks each at its first draw.
    `identity`, a hash of collection and tasks, names the cached result.

    Raises:
        TrainingError: If a snapshot that is read is not the one that was written, or the disk
            refuses.
    """
    path = cache / f"pairs-{identity[:32]}.safetensors"
    if (cached := read_cached(path)) is not None:
        return Pairs(collection, **cached)
    count = collection.layout.num_tokens
    criterion, std = torch.zeros(count), torch.zeros(count)
    mean = torch.zeros(count, collection.layout.spec.r, collection.layout.width)
    for slug in tqdm(slugs, desc="Read checkpoints", unit="task", leave=False):
        snapshots = collection.snapshots(slug)
        per_token = snapshots.std(dim=(2, 3))
        centred = snapshots - snapshots.mean(dim=(2, 3), keepdim=True)
        standardised = centred / per_token.clamp(min=1e-8)[:, :, None, None]
        # Without correction, so that a single snapshot moves by 0 and not by NaN.
        movement = standardised.std(dim=0, correction=0).mean(dim=(1, 2))
        # Relative to the task's own mean, so that each task counts the same.
        criterion += movement / movement.mean().clamp(min=1e-12)
        std += per_token.mean(dim=0)
        mean += collection.final(slug)
    if not criterion.any():
        # One snapshot a task: nothing moves, so no token can be weighted above another.
        criterion = torch.ones(count)
    tensors = {
        "criterion": criterion / criterion.mean(),
        # `std` is still a sum over the tasks here.
        "floor": _STD_FLOOR_SHARE * torch.maximum(std, _STD_FLOOR_SHARE * std.mean()) / len(slugs),
        "mean": mean / len(slugs),
    }
    write_tensors(path, tensors, {"identity": identity})
    return Pairs(collection, **tensors)


def token_scales(
    target: Float[Tensor, "tasks tokens rows cols"], floor: Float[Tensor, " tokens"]
) -> Float[Tensor, "tasks tokens"]:
    """Deviation that each target token is standardised with, as the authors' tokens are."""
    return torch.maximum(target.std(dim=(2, 3)), floor)
