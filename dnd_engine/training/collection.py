"""A collection: LoRA checkpoints of many tasks from one initialisation, as `dnd collect` leaves it.

Reads, checks and compares; trains nothing. A collection is a folder with `manifest.json`, and per
task and seed the snapshots `<slug>/seed-<n>/step-<nnnn>.safetensors` and `losses.csv`. All runs
start from the same A, and from B zero, so that the weight tokens of different tasks can be compared
cell by cell.
"""

import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import load
from torch import Tensor

from dnd_engine.errors import BaseMismatchError, LayoutMismatchError, TrainingError
from dnd_engine.lora.layout import LoRALayout
from dnd_engine.lora.weight_tokens import detokenize, tokenize
from dnd_engine.models.base import fingerprint_difference
from dnd_engine.tasks.folder import Task, hash_train
from dnd_engine.training.checkpoint import write_tensors
from dnd_engine.training.collection_files import (
    MANIFEST,
    Manifest,
    OtherFormatError,
    Run,
    Snapshot,
    file_name,
    read_losses,
    seconds_of,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cosines:
    """Mean centred cosines of weight tokens: how far apart checkpoints of one and of two tasks lie.

    Centred on the mean of the final checkpoints: without that, the A that all share would make
    everything look the same. With n unrelated tasks the mean between tasks is about -1 / (n - 1).
    """

    within_run: float | None
    """First and last snapshot of one run; None if runs hold one snapshot."""
    across_seeds: float | None
    """Final snapshots of one task under two seeds; None with one seed."""
    between_tasks: float | None
    """Final snapshots of two tasks; None with one task."""


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection on disk; snapshots are read, and their hashes checked, when asked for."""

    path: Path
    layout: LoRALayout
    runs: tuple[Run, ...]
    """By task, then seed."""
    manifest: Manifest

    @classmethod
    def open(cls, path: Path | str) -> "Collection":
        """Read the manifest and see that every file it names is there.

        An unfinished collection opens with the runs that are finished, and a warning.

        Raises:
            TrainingError: If the folder is no collection, from a newer version, or incomplete.
        """
        path = Path(path)
        if not (path / MANIFEST).is_file():
            raise TrainingError(
                f"no collection in `{path}`: `{MANIFEST}` is missing. `dnd collect` makes one."
            )
        try:
            manifest = Manifest.parse((path / MANIFEST).read_bytes())
        except ValueError as error:
            advice = (
                "Use the version of this project that wrote it"
                if isinstance(error, OtherFormatError)
                else "Collect again"
            )
            raise TrainingError(
                f"collection `{path}`: `{MANIFEST}` cannot be read: {error}. {advice}."
            ) from error
        runs = manifest.runs
        if not runs:
            raise TrainingError(
                f"collection `{path}` holds no finished run yet. Continue it with "
                "`dnd collect --resume`."
            )
        # Only whether they exist: hashing all of them would read gigabytes at every start.
        names = [(run.folder / file_name(s.step)) for run in runs for s in run.snapshots]
        if absent := [name for name in names if not (path / name).is_file()]:
            raise TrainingError(
                f"collection `{path}` lacks {len(absent)} of {len(names)} snapshots, the first is "
                f"`{absent[0]}`. Copy it whole, or collect again."
            )
        if len(runs) < manifest.planned:
            logger.warning("collection `%s` holds %d of %d runs", path, len(runs), manifest.planned)
        return cls(path, manifest.layout, runs, manifest)

    @property
    def sha256(self) -> str:
        """Identity of base, start, layout and runs; what else the manifest says leaves no trace."""
        return self._identity(self.runs)

    @property
    def train_runs_sha256(self) -> str:
        """The same without held-out tasks, for what never looks at those."""
        return self._identity(run for run in self.runs if run.split == "train")

    @property
    def slugs(self) -> tuple[str, ...]:
        """Tasks of either split."""
        return tuple(dict.fromkeys(run.slug for run in self.runs))

    @property
    def train_slugs(self) -> tuple[str, ...]:
        """Tasks that a generator may be trained on."""
        return tuple(dict.fromkeys(run.slug for run in self.runs if run.split == "train"))

    def made_otherwise(self, tasks: Iterable[Task]) -> tuple[str, ...]:
        """Slugs of those tasks whose LoRAs were trained on another train side than theirs.

        Test items of today may have been among it. Tasks that the collection lacks do not count.
        """
        trained: dict[str, set[str]] = defaultdict(set)
        for run in self.runs:
            trained[run.slug].add(run.train_sha256)
        return tuple(
            slug
            for task in tasks
            if (slug := task.info.slug) in trained and trained[slug] != {hash_train(task)}
        )

    def snapshots(self, slug: str) -> Float[Tensor, "snapshots tokens rows cols"]:
        """All checkpoints of a task, seed by seed and step by step, as float32 weight tokens.

        Raises:
            TrainingError: If the task is unknown, or a file is not the one that was written.
        """
        tokens = [self.read(run, s) for run in self._runs_of(slug) for s in run.snapshots]
        return torch.stack(tokens)

    def final(self, slug: str) -> Float[Tensor, "tokens rows cols"]:
        """The last checkpoint of a task under its first seed, as float32 weight tokens.

        Raises:
            TrainingError: If the task is unknown, or the file is not the one that was written.
        """
        run = self._runs_of(slug)[0]
        return self.read(run, run.snapshots[-1])

    def mean(self) -> Float[Tensor, "tokens rows cols"]:
        """Mean of the final checkpoints of all `train` tasks; every task and seed has equal weight.

        Raises:
            TrainingError: If the collection has no task of the `train` split.
        """
        runs = [run for run in self.runs if run.split == "train"]
        if not runs:
            raise TrainingError(
                f"collection `{self.path}` has no task of the train split, so it has no mean that "
                "training may see. Collect with --split train or both."
            )
        # One by one, so that memory holds the sum and a single checkpoint.
        total = torch.zeros(self.layout.num_tokens, self.layout.spec.r, self.layout.width)
        for run in runs:
            total += self.read(run, run.snapshots[-1])
        return total / len(runs)

    def seconds(self, run: Run) -> float:
        """What a run took, on whatever machine trained it.

        Raises:
            TrainingError: If `losses.csv` is damaged.
        """
        return seconds_of(read_losses(self.path / run.folder))

    def cosines(self) -> Cosines:
        """Compare the first and the last snapshot of every run with one another.

        Exact, and light on memory: inner products are summed layer by layer.

        Raises:
            TrainingError: If a file is not the one that was written.
        """
        finals = [(run, run.snapshots[-1]) for run in self.runs]
        firsts = [(run, run.snapshots[0]) for run in self.runs]
        # Hashed here, because `_inner_products` reads the files in parts. A set, because a run's
        # only snapshot is both its first and its last.
        for run, snapshot in {*finals, *firsts}:
            _check_hash(self.path / run.folder / file_name(snapshot.step), snapshot.sha256)
        # Row i is the last snapshot of run i, row count + i its first.
        centred = _centre(self._inner_products([*finals, *firsts]), len(finals))
        norms = centred.diagonal().clamp(min=1e-30).sqrt()
        cosine = (centred / norms[:, None] / norms).tolist()
        last, count = range(len(finals)), len(finals)
        pairs = [(i, j) for i in last for j in last if i < j]
        slugs = [run.slug for run in self.runs]
        # A single run is its own mean, so centring leaves zero.
        several = len(finals) > 1 and any(len(run.snapshots) > 1 for run in self.runs)
        return Cosines(
            within_run=_mean([cosine[i][count + i] for i in last]) if several else None,
            across_seeds=_mean([cosine[i][j] for i, j in pairs if slugs[i] == slugs[j]]),
            between_tasks=_mean([cosine[i][j] for i, j in pairs if slugs[i] != slugs[j]]),
        )

    def read(self, run: Run, snapshot: Snapshot) -> Float[Tensor, "tokens rows cols"]:
        """One checkpoint, as float32 weight tokens.

        Raises:
            TrainingError: If the file is not the one that was written.
        """
        path = self.path / run.folder / file_name(snapshot.step)
        try:
            # Parse the bytes that were hashed: the file might be replaced before a second read.
            state = load(_check_hash(path, snapshot.sha256))
            tokens = tokenize(state, self.layout).float()
        except (SafetensorError, LayoutMismatchError) as error:
            raise TrainingError(
                f"snapshot `{path}` does not fit the collection: {error}"
            ) from error
        if not tokens.isfinite().all():
            raise TrainingError(
                f"snapshot `{path}` holds weights that are NaN or infinite. Collect its task again."
            )
        return tokens

    def _identity(self, runs: Iterable[Run]) -> str:
        values = {
            "base": self.manifest.base["fingerprint"],
            "init": self.manifest.init,
            **self.layout.to_json(),
            "runs": [run.to_json() for run in runs],
        }
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def _inner_products(
        self, chosen: Sequence[tuple[Run, Snapshot]]
    ) -> Float[Tensor, "vectors vectors"]:
        """Return the inner products of all pairs of snapshots, in double precision."""
        total = torch.zeros(len(chosen), len(chosen), dtype=torch.float64)
        paths = [self.path / run.folder / file_name(s.step) for run, s in chosen]
        for layer in sorted({t.layer for t in self.layout.targets}):
            keys = [m.key for m in self.layout.matrices() if m.target.layer == layer]
            rows = []
            for path in paths:
                # Reads this layer alone, so that whole snapshots are never in memory together.
                with safe_open(path, framework="pt") as file:
                    rows.append(torch.cat([file.get_tensor(key).flatten() for key in keys]))
            # The shared A is many times larger than what tells tasks apart: float32 would round
            # the difference away.
            matrix = torch.stack(rows).double()
            total += matrix @ matrix.T
        return total

    def _runs_of(self, slug: str) -> tuple[Run, ...]:
        runs = tuple(run for run in self.runs if run.slug == slug)
        if not runs:
            raise TrainingError(
                f"collection `{self.path}` has no task `{slug}`; it has {len(self.slugs)} tasks, "
                f"such as {', '.join(self.slugs[:3])}."
            )
        return runs


def write_snapshot(
    path: Path, tokens: Float[Tensor, "tokens rows cols"], layout: LoRALayout, dtype: torch.dtype
) -> None:
    """Write A and B under PEFT's keys; the file appears whole or not at all.

    Raises:
        TrainingError: If the disk refuses.
    """
    state = {key: value.to(dtype) for key, value in detokenize(tokens, layout).items()}
    write_tensors(path, state, {"format": "pt"})


def check_same_base(path: Path, made_on: Mapping[str, Any], base: Mapping[str, Any]) -> None:
    """Refuse another base than the one a collection was made on; each has an id and a fingerprint.

    Raises:
        BaseMismatchError: With the first differing property as the reason.
    """
    if difference := fingerprint_difference(made_on.get("fingerprint", {}), base["fingerprint"]):
        raise BaseMismatchError(
            f"collection `{path}` was made on {made_on.get('id', 'an unknown base')}, not on "
            f"{base['id']}: {difference}. Name that base, or collect into another folder."
        )


def _check_hash(path: Path, expected: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TrainingError(f"snapshot `{path}` cannot be read: {error}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise TrainingError(
            f"snapshot `{path}` has SHA-256 {found[:12]}…, the manifest says {expected[:12]}…. It "
            "was damaged or replaced; copy the collection again, or collect again."
        )
    return data


def _centre(
    products: Float[Tensor, "vectors vectors"], num_finals: int
) -> Float[Tensor, "vectors vectors"]:
    """Inner products after subtracting the mean of the first `num_finals` vectors from all."""
    # <x - m, y - m> = <x, y> - <x, m> - <m, y> + <m, m>, where m is the mean.
    with_mean = products[:num_finals].mean(dim=0)
    mean_squared = with_mean[:num_finals].mean()
    return products - with_mean[:, None] - with_mean + mean_squared


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
