"""The text files of a collection, and how they are written: what it takes to look at one.

Knows no tensors, so that who only watches need not load torch; `collection` reads the snapshots.
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dnd_engine.errors import TrainingError
from dnd_engine.files import write_whole
from dnd_engine.lora.layout import LoRALayout
from dnd_engine.tasks.folder import is_folder_name

MANIFEST = "manifest.json"
FORMAT = 1
"""Version of the folder's format; a newer one is refused."""


class OtherFormatError(ValueError):
    """A manifest has another version of the format, and need not be damaged."""


@dataclass(frozen=True, slots=True)
class LossRow:
    """One line of `losses.csv`; step 0 is the base before any update."""

    step: int
    loss: float | None = None
    """Nats per answer token on the step's batch, before the step's update."""
    grad_norm: float | None = None
    """Gradient norm of this run's parameters, before clipping."""
    validation_loss: float | None = None
    """Nats per answer token on held-back train examples, after the step's update."""
    validation_exact: float | None = None
    """Share of them whose answer is right in every token."""
    seconds: float | None = None
    """This run's share of the time that step and validation took for all runs in its batch. The
    manifest holds no times, so that the same runs give the same manifest."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One stored checkpoint of a run."""

    step: int
    """Updates done."""
    sha256: str
    """SHA-256 of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the manifest says of one task under one seed."""

    slug: str
    seed: int
    """Seed of the data order. All runs share one initialisation."""
    split: str
    family: str
    category: str
    licence: str
    train_sha256: str
    """Digest of the training examples that the run sampled from."""
    num_examples: int
    """Examples of it that were short enough, validation left out."""
    start: int
    """Step of the first snapshot."""
    start_reason: str
    """`plateau` if the loss had stopped falling, `latest` if the steps ran out first."""
    steps: int
    """Updates done in all."""
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
            ArithmeticError, LookupError, TypeError, ValueError: If `values` are not those of a run.
        """
        slug, seed, files = values["slug"], values["seed"], values["snapshots"]
        # A slug is part of paths: `../x` in a stranger's manifest would lead out of the folder.
        if not isinstance(slug, str) or not is_folder_name(slug):
            raise ValueError(f"`slug` {slug!r} is not a plain folder name")
        # JSON's true and false are whole numbers to Python.
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError(f"`seed` of `{slug}` is {seed!r}, expected a whole number")
        for name in (field.name for field in fields(cls) if field.type in (int, float)):
            if not _is_number(values[name]):
                raise ValueError(f"`{name}` of `{slug}` is {values[name]!r}, expected a number")
        for name in (field.name for field in fields(cls) if field.type is str):
            if not isinstance(values[name], str):
                raise ValueError(f"`{name}` of `{slug}` is {values[name]!r}, expected a string")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What `manifest.json` tells, checked."""

    base: dict[str, Any]
    """Name and fingerprint of the base."""
    init: dict[str, Any]
    """The start that all runs share."""
    layout: LoRALayout
    recipe: dict[str, Any]
    planned: int
    """Number of runs."""
    left_out: dict[str, str]
    """Task to the reason why it is not trained."""
    runs: tuple[Run, ...]
    """The finished ones, by task, then seed."""

    @classmethod
    def parse(cls, data: bytes) -> "Manifest":
        """Read a manifest.

        Raises:
            OtherFormatError: If it has another version of the format.
            ValueError: If it is damaged.
        """
        try:
            values = json.loads(data)
            if values["format"] != FORMAT:
                raise OtherFormatError(
                    f"`format` is {values['format']!r}, this version reads format {FORMAT}"
                )
            base, init = _object(values, "base"), _object(values, "init")
            if not {"seed", "sha256"} <= init.keys():
                raise ValueError(f"`init` is {init!r}, expected `seed` and `sha256`")
            fingerprint = _object(base, "fingerprint")
            _object(fingerprint, "architecture")
            norms = fingerprint["norms"]
            if not isinstance(norms, list) or not all(map(_is_number, norms)):
                raise ValueError(f"`norms` is {norms!r}, expected a list of numbers")
            return cls(
                base=base,
                init=init,
                layout=LoRALayout.from_json(values),
                recipe=_object(values, "recipe"),
                planned=int(values["planned"]),
                left_out={str(slug): str(why) for slug, why in values["left_out"].items()},
                runs=tuple(map(Run.from_json, values["runs"])),
            )
        except (ArithmeticError, LookupError, AttributeError, TypeError, RecursionError) as error:
            # A stranger's may also be nested too deep, or hold numbers too large to count.
            raise ValueError(repr(error)) from error


def _object(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = values[name]
    if not isinstance(value, dict):
        raise TypeError(f"`{name}` is {value!r}, expected an object")
    return value


def _is_number(value: Any) -> bool:
    # JSON's true and false are whole numbers to Python, whose reader accepts NaN and infinity too.
    return type(value) in (int, float) and math.isfinite(value)


def run_folder(slug: str, seed: int) -> Path:
    """Where one run's files lie, inside the collection."""
    return Path(slug) / f"seed-{seed}"


def file_name(step: int) -> str:
    """Return the file name of the snapshot after `step` updates."""
    return f"step-{step:04}.safetensors"


def write_losses(folder: Path, rows: Sequence[LossRow]) -> None:
    """Write `losses.csv`; numbers keep every digit, so a resumed run reads what it wrote."""
    names = [f.name for f in fields(LossRow)]
    lines = [",".join(names)]
    for row in rows:
        values = [getattr(row, name) for name in names]
        # `repr` writes the shortest text that reads back as the same number.
        lines.append(",".join("" if value is None else repr(value) for value in values))
    write_whole(folder / "losses.csv", "\n".join(lines) + "\n")


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
                # Taken out first: what is left in the row becomes keywords.
                int(row.pop("step")),
                **{name: _finite(value) if value else None for name, value in row.items()},
            )
            for row in rows
        )
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise TrainingError(f"loss curve `{path}` cannot be read: {error!r}") from error


def _finite(text: str) -> float:
    if math.isfinite(number := float(text)):
        return number
    raise ValueError(f"{text!r} is no finite number")


def seconds_of(rows: Sequence[LossRow]) -> float:
    """Seconds that a run took: its steps and validations."""
    return sum(row.seconds or 0.0 for row in rows)
