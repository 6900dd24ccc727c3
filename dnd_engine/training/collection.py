"""A collection: LoRA checkpoints of many tasks from one initialisation, as `dnd collect` leaves it.

Reads, checks and compares; trains nothing. A collection is a folder with `manifest.json`, and per
task and seed the snapshots `<slug>/seed-<n>/step-<nnnn>.safetensors` and `losses.csv`. All runs
start from the same A, and from B zero, so that the weight tokens of different tasks can be compared
cell by cell.
"""

import csv
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import load
from torch import Tensor

from dnd_engine.adapter import Adapter, write_files
from dnd_engine.errors import BaseMismatchError, LayoutMismatchError, TrainingError
from dnd_engine.layout import LoRALayout
from dnd_engine.models import fingerprint_difference
from dnd_engine.training.checkpoint import write_tensors
from dnd_engine.training.tasks import Task, hash_train
from dnd_engine.weight_tokens import detokenize, tokenize

__all__ = [
    "Collection",
    "Cosines",
    "LossRow",
    "Run",
    "Snapshot",
    "check_same_base",
    "file_name",
    "read_losses",
    "run_folder",
    "write_aside",
    "write_losses",
    "write_snapshot",
]

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
FORMAT = 1
"""Version of the folder's format; a newer one is refused."""


@dataclass(frozen=True, slots=True)
class LossRow:
    """One line of `losses.csv`; step 0 is the base before any update."""

    step: int
    loss: float | None = None
    """Nats per answer token on the step's batch, before the step's update."""
    grad_norm: float | None = None
    """Of this run's parameters, before clipping."""
    validation_loss: float | None = None
    """Nats per answer token on held-back train examples, after the step's update."""
    validation_exact: float | None = None
    """Share of them whose answer is right in every token."""
    seconds: float | None = None
    """This run's share of the time that the step took for all runs in its batch."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One stored checkpoint of a run."""

    step: int
    """Updates done."""
    sha256: str
    """Of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the manifest says of one task under one seed."""

    slug: str
    seed: int
    """Of the order of the data; the initialisation is everyone's."""
    split: str
    family: str
    category: str
    licence: str
    train_sha256: str
    """Of the train side that the run drew from."""
    num_examples: int
    """Examples of it that were short enough, validation left out."""
    start: int
    """Step of the first snapshot."""
    start_reason: str
    """`plateau` if the loss had stopped falling, `latest` if the steps ran out first."""
    steps: int
    """Updates done in all."""
    seconds: float
    """Its steps and validations; where runs share a batch, each counts its share."""
    first_loss: float
    last_loss: float
    """Mean training loss of the first and of the last `smoothing_steps`."""
    first_validation_loss: float
    last_validation_loss: float
    first_validation_exact: float
    last_validation_exact: float
    snapshots: tuple[Snapshot, ...]

    @property
    def folder(self) -> Path:
        """Where its files lie, inside the collection."""
        return run_folder(self.slug, self.seed)

    def to_json(self) -> dict[str, Any]:
        """As the manifest holds it."""
        files = {(self.folder / file_name(s.step)).as_posix(): s.sha256 for s in self.snapshots}
        return {**asdict(self), "snapshots": files}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Run":
        """Undo `to_json`; file names are derived again, never trusted.

        Raises:
            KeyError, TypeError, ValueError: If `values` are not those of a run.
        """
        slug, seed, files = values["slug"], values["seed"], values["snapshots"]
        if not isinstance(slug, str) or Path(slug).name != slug or slug.startswith("."):
            raise ValueError(f"`slug` {slug!r} is not a plain folder name")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError(f"`seed` of `{slug}` is {seed!r}, expected a whole number")
        steps = range(values["start"], values["steps"] + 1)
        # Lengths first: steps of a damaged manifest may span more than memory holds.
        names = [(run_folder(slug, seed) / file_name(s)).as_posix() for s in steps[: len(files)]]
        if not files or len(files) != len(steps) or set(files) != set(names):
            raise ValueError(
                f"`{slug}`, seed {seed}: `snapshots` are not those of steps {values['start']} "
                f"to {values['steps']}"
            )
        snapshots = tuple(
            Snapshot(step, str(files[name])) for step, name in zip(steps, names, strict=True)
        )
        kept = {f.name: values[f.name] for f in fields(cls)}
        return cls(**{**kept, "snapshots": snapshots})


@dataclass(frozen=True, slots=True)
class Cosines:
    """Mean centred cosines of weight tokens: how far apart checkpoints of one and of two tasks lie.

    Centred on the mean of the final checkpoints: without that, the A that all share would make
    everything look alike. With n unrelated tasks the mean between tasks is about -1 / (n - 1).
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
    manifest: dict[str, Any]

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
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            if manifest["format"] != FORMAT:
                raise TrainingError(
                    f"collection `{path}`: `format` is {manifest['format']!r}; this version reads "
                    f"format {FORMAT}."
                )
            layout = LoRALayout.from_json(manifest)
            runs = tuple(Run.from_json(values) for values in manifest["runs"])
            planned = int(manifest["planned"])
        except (KeyError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
            raise TrainingError(
                f"collection `{path}`: `{MANIFEST}` is damaged: {error!r}. Collect again."
            ) from error
        if not runs:
            raise TrainingError(
                f"collection `{path}` holds no finished run yet. Continue it with "
                "`dnd collect --resume`."
            )
        names = [(run.folder / file_name(s.step)) for run in runs for s in run.snapshots]
        if absent := [name for name in names if not (path / name).is_file()]:
            raise TrainingError(
                f"collection `{path}` lacks {len(absent)} of {len(names)} snapshots, the first is "
                f"`{absent[0]}`. Copy it whole, or collect again."
            )
        if len(runs) < planned:
            logger.warning("collection `%s` holds %d of %d runs", path, len(runs), planned)
        return cls(path, layout, runs, manifest)

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
        return tuple(slug for slug in self.slugs if self.split(slug) == "train")

    def split(self, slug: str) -> str:
        """`train` or `heldout`."""
        return self._runs_of(slug)[0].split

    def seeds(self, slug: str) -> tuple[int, ...]:
        """Seeds that a task was trained under."""
        return tuple(run.seed for run in self._runs_of(slug))

    def made_otherwise(self, tasks: Iterable[Task]) -> tuple[str, ...]:
        """Slugs of those tasks whose LoRAs were trained on another train side than theirs.

        Test items of today may have been among it. Tasks that the collection lacks do not count.
        """
        trained = {(run.slug, run.train_sha256) for run in self.runs}
        known = [task for task in tasks if task.info.slug in set(self.slugs)]
        return tuple(
            task.info.slug
            for task in known
            if {digest for slug, digest in trained if slug == task.info.slug} != {hash_train(task)}
        )

    def snapshots(self, slug: str) -> Float[Tensor, "snapshots tokens rows cols"]:
        """All checkpoints of a task, seed by seed and step by step, as float32 weight tokens.

        Raises:
            TrainingError: If the task is unknown, or a file is not the one that was written.
        """
        tokens = [self.read(run, s) for run in self._runs_of(slug) for s in run.snapshots]
        return torch.stack(tokens)

    def final(self, slug: str, seed: int = 0) -> Float[Tensor, "tokens rows cols"]:
        """The last checkpoint of a task, as float32 weight tokens.

        Raises:
            TrainingError: If task or seed is unknown, or the file is not the one written.
        """
        run = self._run(slug, seed)
        return self.read(run, run.snapshots[-1])

    def mean(self) -> Float[Tensor, "tokens rows cols"]:
        """Mean of the final checkpoints of all `train` tasks; every task and seed counts alike.

        Raises:
            TrainingError: If the collection has no task of the `train` split.
        """
        runs = [run for run in self.runs if run.split == "train"]
        if not runs:
            raise TrainingError(
                f"collection `{self.path}` has no task of the train split, so it has no mean that "
                "training may see. Collect with --split train or both."
            )
        total = torch.zeros(self.layout.num_tokens, self.layout.spec.r, self.layout.width)
        for run in runs:
            total += self.read(run, run.snapshots[-1])
        return total / len(runs)

    def losses(self, slug: str, seed: int = 0) -> tuple[LossRow, ...]:
        """The loss curve of a run.

        Raises:
            TrainingError: If task or seed is unknown, or `losses.csv` is damaged.
        """
        return read_losses(self.path / self._run(slug, seed).folder)

    def check_base(self, base_id: str, fingerprint: Mapping[str, Any]) -> None:
        """Refuse a base that the checkpoints were not trained on.

        Args:
            base_id: Names the base in the message.
            fingerprint: From `models.fingerprint`.

        Raises:
            BaseMismatchError: With the first differing property as the reason.
        """
        check_same_base(self.path, self.manifest["base"], base_id, fingerprint)

    def export(self, slug: str, step: int, path: Path | str, *, seed: int = 0) -> Path:
        """Write one snapshot as a folder, or a .zip, that stock PEFT opens; in bfloat16.

        Raises:
            TrainingError: If there is no such snapshot.
            AdapterError: If `path` cannot be written to, or holds something else.
        """
        run = self._run(slug, seed)
        found = [s for s in run.snapshots if s.step == step]
        if not found:
            first, last = run.snapshots[0].step, run.snapshots[-1].step
            raise TrainingError(
                f"`{slug}`, seed {seed}, has no snapshot of step {step}; it has {first} to {last}."
            )
        adapter = Adapter(
            name=f"{slug}-seed-{seed}-step-{step}",
            tokens=self.read(run, found[0]).to(torch.bfloat16),
            layout=self.layout,
            base_id=self.manifest["base"]["id"],
            provenance={
                "task": slug,
                "seed": seed,
                "step": step,
                "snapshot_sha256": found[0].sha256,
                "licence": run.licence,
            },
        )
        files = adapter.files() | {"README.md": _card(adapter, run).encode()}
        return write_files(files, Path(path))

    def cosines(self) -> Cosines:
        """Compare the first and the last snapshot of every run with one another.

        Exact, and light on memory: inner products are summed layer by layer.

        Raises:
            TrainingError: If a file is not the one that was written.
        """
        finals = [(run, run.snapshots[-1]) for run in self.runs]
        firsts = [(run, run.snapshots[0]) for run in self.runs]
        for run, snapshot in {*finals, *firsts}:
            _check_hash(self.path / run.folder / file_name(snapshot.step), snapshot.sha256)
        centred = _centre(self._inner_products([*finals, *firsts]), len(finals))
        norms = centred.diagonal().clamp(min=1e-30).sqrt()
        cosine = (centred / norms[:, None] / norms).tolist()
        last, count = range(len(finals)), len(finals)
        pairs = [(i, j) for i in last for j in last if i < j]
        slugs = [run.slug for run in self.runs]
        # One run alone is its own mean, and centred it is nothing.
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
            state = load(_check_hash(path, snapshot.sha256))
            return tokenize(state, self.layout).float()
        except (SafetensorError, LayoutMismatchError) as error:
            raise TrainingError(
                f"snapshot `{path}` does not fit the collection: {error}"
            ) from error

    def _identity(self, runs: Iterable[Run]) -> str:
        values = {
            "base": self.manifest["base"]["fingerprint"],
            "init": self.manifest["init"],
            **self.layout.to_json(),
            "runs": [run.to_json() for run in runs],
        }
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def _inner_products(
        self, chosen: Sequence[tuple[Run, Snapshot]]
    ) -> Float[Tensor, "vectors vectors"]:
        """Of the weights of every two snapshots, in double precision."""
        total = torch.zeros(len(chosen), len(chosen), dtype=torch.float64)
        paths = [self.path / run.folder / file_name(s.step) for run, s in chosen]
        for layer in sorted({t.layer for t in self.layout.targets}):
            keys = [m.key for m in self.layout.matrices() if m.target.layer == layer]
            rows = []
            for path in paths:
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

    def _run(self, slug: str, seed: int) -> Run:
        runs = {run.seed: run for run in self._runs_of(slug)}
        if seed not in runs:
            raise TrainingError(
                f"collection `{self.path}` has no seed {seed} of `{slug}`; it has "
                f"{', '.join(map(str, runs))}."
            )
        return runs[seed]


def run_folder(slug: str, seed: int) -> Path:
    """Where one run's files lie, inside the collection."""
    return Path(slug) / f"seed-{seed}"


def file_name(step: int) -> str:
    """Of the snapshot after `step` updates."""
    return f"step-{step:04}.safetensors"


def write_snapshot(
    path: Path, tokens: Float[Tensor, "tokens rows cols"], layout: LoRALayout, dtype: torch.dtype
) -> None:
    """Write A and B under PEFT's keys; the file appears whole or not at all.

    Raises:
        TrainingError: If the disk refuses.
    """
    state = {key: value.to(dtype) for key, value in detokenize(tokens, layout).items()}
    write_tensors(path, state, {"format": "pt"})


def write_losses(folder: Path, rows: Sequence[LossRow]) -> None:
    """Write `losses.csv`; numbers keep every digit, so a resumed run reads what it wrote."""
    names = [f.name for f in fields(LossRow)]
    lines = [",".join(names)]
    for row in rows:
        values = [getattr(row, name) for name in names]
        lines.append(",".join("" if value is None else repr(value) for value in values))
    write_aside(folder / "losses.csv", ("\n".join(lines) + "\n").encode())


def read_losses(folder: Path) -> tuple[LossRow, ...]:
    """Undo `write_losses`.

    Raises:
        TrainingError: If the file is missing or no such table.
    """
    path = folder / "losses.csv"
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        return tuple(
            LossRow(
                int(row.pop("step")),
                **{name: float(value) if value else None for name, value in row.items()},
            )
            for row in rows
        )
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise TrainingError(f"loss curve `{path}` cannot be read: {error!r}") from error


def write_aside(path: Path, data: bytes) -> None:
    """Write a file beside its place, then rename.

    Raises:
        TrainingError: If the disk refuses.
    """
    aside = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(data)
        os.replace(aside, path)
    except OSError as error:
        raise TrainingError(
            f"`{path}` cannot be written: {error.strerror or error}. What was written before is "
            "whole; make room and continue with --resume."
        ) from error


def check_same_base(
    path: Path, made_on: Mapping[str, Any], base_id: str, fingerprint: Mapping[str, Any]
) -> None:
    """Refuse another base than the one a collection was made on.

    Raises:
        BaseMismatchError: With the first differing property as the reason.
    """
    if difference := fingerprint_difference(made_on.get("fingerprint", {}), fingerprint):
        raise BaseMismatchError(
            f"collection `{path}` was made on {made_on.get('id', 'an unknown base')}, not on "
            f"{base_id}: {difference}. Name that base, or collect into another folder."
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
    with_mean = products[:num_finals].mean(dim=0)
    mean_squared = with_mean[:num_finals].mean()
    return products - with_mean[:, None] - with_mean + mean_squared


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _card(adapter: Adapter, run: Run) -> str:
    """What an exported snapshot is: trained on answers, unlike a generated adapter."""
    return "\n".join(
        [
            "---",
            f"base_model: {adapter.base_id}",
            "library_name: peft",
            "pipeline_tag: text-generation",
            "tags: [lora]",
            "---",
            "",
            f"# {adapter.name}",
            "",
            f"A LoRA trained on the labelled examples of the task `{run.slug}` ({run.licence}), "
            f"{adapter.provenance['step']} steps, one checkpoint of a collection.",
            "",
            f"Loss on held-back examples: {run.first_validation_loss:.3f} before, "
            f"{run.last_validation_loss:.3f} nats per answer token after {run.steps} steps.",
            "",
        ]
    )
