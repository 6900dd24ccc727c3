"""What the folder of `dnd train` or `dnd collect` tells of its run, while it moves and after.

Only looks: reads the text files that the run leaves, plain numbers and words, and writes nothing.
Whether the process lives cannot be seen from a folder, so a run counts as running for as long as
its files move at the pace they moved before.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from dnd_engine.errors import TrainingError
from dnd_engine.files import CALL_LOCK, is_leftover
from dnd_engine.notes import first_of
from dnd_engine.training.collection_files import (
    MANIFEST,
    LossRow,
    Manifest,
    Run,
    read_losses,
    run_folder,
    seconds_of,
)
from dnd_engine.training.run_log import COLLAPSED_SHARE, LOG, RECIPE, Row, parse_log, smoothed

RunKind = Literal["generator", "multi_task_lora", "teacher", "collection", "unknown"]
RunState = Literal["starting", "running", "still", "finished"]
"""`starting`: no step is done yet. `still`: nothing has moved for longer than it should take."""

_RECENT_STEPS = 50
"""Steps that the pace is measured on."""
_MIN_PATIENCE_SECONDS = 120.0
"""No run is called still before that: a validation, or a plot, may take longer than any step."""
_FEW_NAMES = 6
_CONFIG, _TEACHER = Path("generator") / "config.json", Path("generator") / "teacher.json"
"""What `dnd train` writes last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """Facts about any run."""

    name: str
    """Name of its folder."""
    kind: RunKind
    state: RunState
    recipe: Mapping[str, Any]
    """As the run wrote it, so nothing in it is to be trusted; empty if it wrote none."""
    done: int
    """Steps of a training run, tasks of a collection."""
    total: int | None
    """None if the folder does not say."""
    moved: float
    """When its files last changed, in seconds since the epoch."""
    idle_seconds: float
    """How long ago that was."""
    seconds_left: float | None
    """At the recent pace; None if nothing is known of it, or nothing is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training(Watched):
    """A run of `dnd train`."""

    rows: tuple[Row, ...]
    """The log."""
    stopped_early: bool
    """Whether it is finished because validations brought nothing better."""
    seconds_per_step: float | None
    tokens_per_second: float | None
    """Tokens of training text per second."""

    @property
    def collapsed_at(self) -> int | None:
        """The last monitored step, if adapters of different tasks were nearly the same there."""
        looks = self.curve("between_task_share")
        warmup = _count(self.recipe.get("warmup_steps")) or 0
        if looks and looks[-1][0] > warmup and looks[-1][1] < COLLAPSED_SHARE:
            return looks[-1][0]
        return None

    def curve(self, name: str) -> list[tuple[int, float]]:
        """Steps at which something was measured, and what was found."""
        return [(int(row["step"]), row[name]) for row in self.rows if name in row]

    def smooth_loss(self) -> list[tuple[int, float]]:
        """The training loss as a moving average."""
        steps = [int(row["step"]) for row in self.rows]
        return list(zip(steps, smoothed([row["loss"] for row in self.rows]), strict=True))

    def latest(self) -> dict[str, tuple[int, float]]:
        """All that was measured, by name: the last step at which it was, and what was found."""
        return {name: (int(row["step"]), row[name]) for row in self.rows for name in row}


@dataclass(frozen=True, slots=True, kw_only=True)
class Collecting(Watched):
    """A run of `dnd collect`."""

    runs: tuple[Run, ...]
    """Finished LoRAs."""
    curves: Mapping[tuple[str, int], tuple[LossRow, ...]]
    """Those in training, by task and seed, as far as they were written down."""
    left_out: Mapping[str, str]
    """Task to the reason why it is not trained."""


class RunFolder:
    """A folder to look at again and again; a file is read again once it has changed.

    Args:
        path: Folder that `dnd train` or `dnd collect` writes to, or will: it may be empty yet.
        clock: Seconds since the epoch.

    Raises:
        TrainingError: If there is no such folder, or it holds something else.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        # `resolve` would show where a link leads, and `absolute` keeps `..`.
        self.name = Path(os.path.abspath(path)).name  # noqa: PTH100
        """To show; where the folder is stays with whoever named it."""
        self._path = path
        self._clock = clock
        self._read: dict[Path, tuple[tuple[int, int], Any]] = {}
        self._taken: dict[Path, float] = {}
        """Seconds of each finished LoRA."""
        if not path.is_dir():
            raise TrainingError(
                f"no folder `{path}`. Expected the --out folder of `dnd train` or `dnd collect`."
            )
        found = sorted(p.name for p in path.iterdir() if not is_leftover(p))
        # Before the first step there may be what was encoded for it, and what is being written.
        others = [n for n in found if n not in ("cache", CALL_LOCK)]
        if others and not {LOG, RECIPE, MANIFEST} & set(others):
            raise TrainingError(
                f"`{path}` is no folder of a run: expected `{LOG}` or `{RECIPE}` of `dnd train`, "
                f"or `{MANIFEST}` of `dnd collect`, found {first_of(others, _FEW_NAMES)}. "
                "Name the folder that was given as --out."
            )
        # Look at once, so that a folder that cannot be read is refused here.
        self.look()

    def look(self) -> Training | Collecting:
        """What the folder tells now.

        Raises:
            TrainingError: If a file of the run cannot be read, or is not ours. The message names
                no folder.
        """
        try:
            if (self._path / MANIFEST).exists():
                return self._look_at_collection()
            return self._look_at_training()
        except OSError as error:
            raise TrainingError(
                "the folder of the run `{run}` cannot be read: {reason}. Put it back where it was.",
                run=self.name,
                reason=error.strerror or str(error),
            ) from error
        except ArithmeticError as error:
            raise TrainingError(
                "the folder of the run `{run}` holds a number that is too large ({reason}). Bring "
                "back the files that the run wrote.",
                run=self.name,
                reason=str(error),
            ) from error

    def _look_at_training(self) -> Training:
        rows: tuple[Row, ...] = self._parsed(Path(LOG), parse_log) or ()
        recipe = _mapping(self._parsed(Path(RECIPE)))
        config = _mapping(self._parsed(_CONFIG)).get("training")
        # Beside a teacher, `config.json` is a copy that tells how its generator was trained.
        trained = _mapping(self._parsed(_TEACHER) if recipe.get("kind") == "teacher" else config)
        recipe = recipe or _mapping(trained.get("recipe"))
        result = _mapping(trained.get("result"))
        done = int(rows[-1]["step"]) if rows else 0
        total = _count(recipe.get("steps"))
        # A finished run may be resumed with more steps; its generator is that of an earlier end.
        stopped_early = result.get("stopped_early") is True
        finished = (
            bool(rows) and result.get("steps") == done and (stopped_early or done >= (total or 0))
        )
        moved = self._moved((self._path / LOG, self._path / RECIPE))
        idle = max(0.0, self._clock() - moved)
        recent = rows[-_RECENT_STEPS:]
        seconds = [row["seconds"] for row in recent if "seconds" in row]
        # Few steps validate, so this is averaged over all steps, not the recent ones.
        watching = [row.get("watch_seconds", 0.0) for row in rows]
        pace = fmean(seconds) + fmean(watching) if seconds else None
        # A run that still moves may at any time take as long as its longest step took.
        longest = max(map(_seconds, rows), default=0.0)
        tokens = sum(row.get("tokens", 0) for row in recent)
        left = pace * (total - done) if pace and total and total > done else None
        return Training(
            name=self.name,
            kind=_kind(recipe, rows),
            state=_state(bool(rows), finished, idle, 3 * longest),
            recipe=recipe,
            done=done,
            total=total,
            moved=moved,
            idle_seconds=idle,
            seconds_left=None if finished else _known(left),
            rows=rows,
            stopped_early=finished and stopped_early,
            seconds_per_step=pace,
            tokens_per_second=tokens / sum(seconds) if tokens and sum(seconds) else None,
        )

    def _look_at_collection(self) -> Collecting:
        manifest: Manifest | None = self._parsed(Path(MANIFEST), Manifest.parse)
        if manifest is None:
            raise TrainingError(
                "`{file}` is gone: expected a run in `{folder}`.",
                file=MANIFEST,
                folder=str(self._path),
            )
        runs, recipe, total = manifest.runs, manifest.recipe, _count(manifest.planned)
        curves = self._curves({run.folder for run in runs})
        written = [run_folder(*key) / "losses.csv" for key in curves]
        moved = self._moved(self._path / name for name in (Path(MANIFEST), *written))
        idle = max(0.0, self._clock() - moved)
        spent = sum(map(seconds_of, curves.values()))
        steps = sum(run.steps for run in runs) + sum(rows[-1].step for rows in curves.values())
        pace = (sum(map(self._seconds_of, runs)) + spent) / steps if steps else None
        # Runs end after their last snapshot, mostly before `steps`.
        each = fmean(run.steps for run in runs) if runs else _count(recipe.get("steps"))
        left = None
        if pace and each and total and total > len(runs):
            left = max(0.0, pace * each * (total - len(runs)) - spent)
        # Of tasks that share a batch, steps are written down together.
        together = (_count(recipe.get("tasks_at_once")) or 1) * (
            _count(recipe.get("checkpoint_every")) or 1
        )
        finished = bool(runs) and total is not None and len(runs) >= total
        return Collecting(
            name=self.name,
            kind="collection",
            state=_state(bool(runs or curves), finished, idle, 3 * (pace or 0.0) * together),
            recipe=recipe,
            done=len(runs),
            total=total,
            moved=moved,
            idle_seconds=idle,
            seconds_left=_known(left),
            runs=runs,
            curves=curves,
            left_out=manifest.left_out,
        )

    def _seconds_of(self, run: Run) -> float:
        """What a finished LoRA took."""
        if run.folder not in self._taken:
            self._taken[run.folder] = seconds_of(self._losses(run.folder))
        return self._taken[run.folder]

    def _losses(self, folder: Path) -> tuple[LossRow, ...]:
        try:
            return read_losses(self._path / folder)
        except TrainingError as error:
            name = (folder / "losses.csv").as_posix()
            raise TrainingError("`{file}` cannot be read, or is damaged.", file=name) from error

    def _curves(self, finished: set[Path]) -> dict[tuple[str, int], tuple[LossRow, ...]]:
        """Curves of LoRAs still in training, which the manifest does not list yet."""
        curves = {}
        for path in sorted(self._path.glob("*/seed-*/losses.csv")):
            slug, seed = path.parts[-3], path.parts[-2].removeprefix("seed-")
            # `isdecimal`, because `int` refuses what `isdigit` allows, such as `²`.
            if not seed.isdecimal() or run_folder(slug, int(seed)) in finished:
                continue
            if rows := self._losses(path.parent.relative_to(self._path)):
                curves[slug, int(seed)] = rows
        return curves

    def _parsed(self, name: Path, parse: Callable[[bytes], Any] = json.loads) -> Any:
        """Return a file's contents, read again if it has changed; None if it is missing."""
        path = self._path / name
        try:
            # Before reading: if the file is replaced in between, the next look finds another stamp.
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if name not in self._read or self._read[name][0] != stamp:
                self._read[name] = stamp, parse(path.read_bytes())
            return self._read[name][1]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            words = error.strerror if isinstance(error, OSError) else None
            reason = words or str(error)
            raise TrainingError(
                "`{file}` cannot be read: {reason}", file=name.as_posix(), reason=reason
            ) from error

    def _moved(self, paths: Iterable[Path]) -> float:
        """When the newest of some files was written; of none, when the folder changed."""
        times = [path.stat().st_mtime for path in paths if path.exists()]
        return max(times, default=0.0) or self._path.stat().st_mtime


def _state(has_begun: bool, finished: bool, idle: float, patience: float) -> RunState:
    if finished:
        return "finished"
    if not has_begun:
        return "starting"
    return "still" if idle > max(_MIN_PATIENCE_SECONDS, patience) else "running"


def _seconds(row: Row) -> float:
    return row.get("seconds", 0.0) + row.get("watch_seconds", 0.0)


def _kind(recipe: Mapping[str, Any], rows: Sequence[Row]) -> RunKind:
    """What is trained; a run that wrote no recipe beside its log tells it by its monitors."""
    if recipe.get("kind") in ("generator", "multi_task_lora", "teacher"):
        return recipe["kind"]  # type: ignore[no-any-return]  # checked above
    return "generator" if any("between_task_share" in row for row in rows) else "unknown"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: Any) -> int | None:
    # JSON has whole numbers of any length, and those that no float holds cannot be calculated with.
    return value if type(value) is int and 0 < value <= sys.maxsize else None


def _known(seconds: float | None) -> float | None:
    """Seconds, unless they grew to infinity."""
    return seconds if seconds is not None and math.isfinite(seconds) else None
