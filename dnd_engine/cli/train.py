"""Commands that build a generator: `dnd collect`, `train`, `watch` and `convert`."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dnd_engine.cli.common import (
    INTERRUPTED,
    BaseOption,
    CacheOption,
    Json,
    cluster_options,
    plain_errors,
    show,
)
from dnd_engine.cluster import Cluster
from dnd_engine.errors import ConfigError, UnknownSettingsError
from dnd_engine.generator.config import RELEASED_BASE, RELEASED_ENCODER
from dnd_engine.progress import duration

if TYPE_CHECKING:
    from dnd_engine.training.finetune.collect import CollectResult
    from dnd_engine.training.watch import Collecting, Training

RecipeArgument = Annotated[Path, typer.Argument(help="YAML recipe; options override it.")]
TasksOption = Annotated[list[Path] | None, typer.Option(help="Task folder; may be repeated.")]
ThreadsOption = Annotated[int | None, typer.Option(help="Number of CPU threads.")]

_FOLLOW_SECONDS = 5.0


@plain_errors
@cluster_options
def collect(
    cluster: Cluster | None,
    recipe: RecipeArgument,
    tasks: TasksOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the collection.")] = None,
    holdout: Annotated[
        str | None,
        typer.Option(help="Kinds of held-out tasks, comma-separated, as in `dnd evaluate`."),
    ] = None,
    report: Annotated[
        list[Path] | None,
        typer.Option(
            help="Report folder of `dnd evaluate`: collect only the tasks it evaluated that are "
            "also in --tasks; may be repeated."
        ),
    ] = None,
    limit_tasks: Annotated[
        int | None, typer.Option(help="Number of tasks, sampled by seed.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="train, heldout or both.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Runs per task.")] = None,
    threads: ThreadsOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue or extend the collection in --out.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train one LoRA per task and keep its last checkpoints."""
    from transformers.utils import logging as transformers_logging

    from dnd_engine.training.collection_files import MANIFEST
    from dnd_engine.training.finetune.collect import collect as run
    from dnd_engine.training.finetune.collect_recipe import CollectRecipe
    from dnd_engine.training.recipe import TrainRecipe

    transformers_logging.disable_progress_bar()
    with _naming_command(recipe, "train", TrainRecipe):
        chosen = CollectRecipe.read(
            recipe,
            tasks=tasks or None,
            out=out,
            holdouts=None if holdout is None else tuple(holdout.replace(" ", "").split(",")),
            reports=report or None,
            limit_tasks=limit_tasks,
            split=split,
            seeds=seeds,
            threads=threads,
        )
    _warn_nothing_to_resume(chosen.out, MANIFEST, resume)
    result = run(chosen, resume=resume, cluster=cluster)
    show(
        {
            "collection": str(result.out),
            "runs": [r.to_json() for r in result.runs],
            "left_out": result.left_out,
            "cosines": asdict(result.cosines),
            "seconds": round(result.seconds, 1),
        },
        as_json,
        _collected(result),
    )


@contextmanager
def _naming_command(path: Path, command: str, kind: type) -> Iterator[None]:
    """Say so if a recipe that is read is one of another command.

    Args:
        path: The recipe.
        command: The other command.
        kind: A dataclass of the settings of its recipes.

    Raises:
        ConfigError: If all settings that are unknown here are known there.
    """
    try:
        yield
    except UnknownSettingsError as error:
        if not {field.name for field in fields(kind)}.issuperset(error.names):
            raise
        raise ConfigError(
            f"recipe `{path}` is one of `dnd {command}`: its setting(s) {', '.join(error.names)} "
            f"belong there. Run `dnd {command}` with it, or name another recipe."
        ) from error


def _warn_nothing_to_resume(out: Path, sign: str, resume: bool) -> None:
    """Warn that --resume finds no run, because --out may be mistyped.

    Args:
        out: The run folder.
        sign: Name of the file by which a run can be resumed.
        resume: Whether that was asked for.
    """
    if resume and not (out / sign).exists():
        typer.echo(f"`{out}` holds no run to resume, so a new one begins.", err=True)


def _collected(result: "CollectResult") -> str:
    """Format a line per run, then the similarity of the checkpoints."""
    lines = [f"{'task':36} seed  steps  snapshots from       loss          validation: loss, exact"]
    lines += [
        f"{r.slug:36} {r.seed:4} {r.steps:6}  {r.start:4} ({r.start_reason:7})  "
        f"{r.first_loss:6.3f} -> {r.last_loss:6.3f}  "
        f"{r.first_validation_loss:6.3f} -> {r.last_validation_loss:6.3f}, "
        f"{r.first_validation_exact:.2f} -> {r.last_validation_exact:.2f}"
        for r in result.runs
    ]
    lines += [f"left out: {slug}: {why}" for slug, why in result.left_out.items()]
    cosines = {
        "first and last snapshot of a run": result.cosines.within_run,
        "two seeds of a task": result.cosines.across_seeds,
        "two tasks": result.cosines.between_tasks,
    }
    known = [f"{name} {value:.3f}" for name, value in cosines.items() if value is not None]
    if known:
        lines.append(f"Centred cosine of weights: {', '.join(known)}.")
    lines.append(f"{result.out}: {len(result.runs)} runs, {result.seconds:.0f} s.")
    return "\n".join(lines)


@plain_errors
def train(
    recipe: RecipeArgument,
    tasks: TasksOption = None,
    out: Annotated[Path | None, typer.Option(help="Run folder.")] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Cache for encoded prompts; runs on the same data can share it."),
    ] = None,
    kind: Annotated[str | None, typer.Option(help="generator, multi_task_lora or teacher.")] = None,
    objective: Annotated[
        str | None, typer.Option(help="task_loss, reconstruction or imprint.")
    ] = None,
    collection: Annotated[
        Path | None, typer.Option(help="LoRA checkpoints from `dnd collect`, for reconstruction.")
    ] = None,
    warm_start: Annotated[
        Path | None, typer.Option(help="Generator folder to take the initial weights from.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed for the whole run.")] = None,
    threads: ThreadsOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    as_json: Json = False,
) -> None:
    """Train a generator, a teacher for imprint, or a baseline LoRA."""
    from dnd_engine.training.finetune.collect_recipe import CollectRecipe
    from dnd_engine.training.recipe import TrainRecipe
    from dnd_engine.training.trainer import CHECKPOINT
    from dnd_engine.training.trainer import train as run

    with _naming_command(recipe, "collect", CollectRecipe):
        settings = TrainRecipe.read(
            recipe,
            tasks=tasks,
            out=out,
            cache=cache,
            kind=kind,
            objective=objective,
            collection=collection,
            warm_start=warm_start,
            steps=steps,
            seed=seed,
            threads=threads,
        )
    is_first = int(os.environ.get("RANK", "0")) == 0
    if is_first:  # of several processes, only the first reports
        _warn_nothing_to_resume(settings.out, CHECKPOINT, resume)
    try:
        result = run(settings, resume=resume)
    except KeyboardInterrupt as stop:
        # The trainer says where it stopped. A second Ctrl-C stops it anywhere, without a message.
        kept = (
            "The last checkpoint is kept."
            if (settings.out / CHECKPOINT).exists()
            else "There was no checkpoint yet."
        )
        typer.echo(str(stop) or f"Stopped at once. {kept}", err=True)
        raise typer.Exit(INTERRUPTED) from stop
    if not is_first:
        return
    wrong = result.validation.get("validation_loss_wrong_prompts")
    compared = "" if wrong is None else f", {wrong:.3f} with prompts of another family"
    show(
        {**asdict(result), "generator": str(result.generator)},
        as_json,
        f"{result.generator}: {result.steps} steps, weights of step {result.kept_step}. Validation "
        f"loss {result.validation_loss:.3f} with the right prompts{compared}.",
    )


@plain_errors
def watch(
    run: Annotated[Path, typer.Argument(help="The --out folder of `dnd train` or `dnd collect`.")],
    follow: Annotated[
        bool, typer.Option("--follow", help="Print again after each change, until the run ends.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the progress of a run; with --json every number."""
    from dnd_engine.training.watch import RunFolder

    folder = RunFolder(run)
    printed = None
    while True:
        seen = folder.look()
        # Not all of `seen`, which also says how long nothing has changed, and so always differs.
        if printed != (seen.state, seen.moved):
            show(_progress_json(seen), as_json, _progress(seen))
            printed = (seen.state, seen.moved)
        if not follow or seen.state == "finished":
            return
        time.sleep(_FOLLOW_SECONDS)


def _progress_json(seen: "Training | Collecting") -> dict[str, Any]:
    """Return all values except the training curves, which are files in the run folder."""
    from dnd_engine.training.watch import Training

    values = {f.name: getattr(seen, f.name) for f in fields(seen)}
    if isinstance(seen, Training):
        del values["rows"]
        latest = seen.latest().items()
        values["latest"] = {name: {"step": s, "value": v} for name, (s, v) in latest}
        values["smoothed_loss"] = seen.smooth_loss()[-1][1] if seen.rows else None
    else:
        values["curves"] = [
            {"slug": slug, "seed": seed, **asdict(rows[-1])}
            for (slug, seed), rows in seen.curves.items()
        ]
        values["runs"] = [run.to_json() for run in seen.runs]
    return values


def _progress(seen: "Training | Collecting") -> str:
    from dnd_engine.training.watch import Training

    idle = duration(seen.idle_seconds)
    state = {
        "starting": f"has not written a step yet; its folder last changed {idle} ago",
        "running": f"running, last change {idle} ago",
        "still": f"no change for {idle}",
        "finished": "finished",
    }[seen.state]
    things = "steps" if isinstance(seen, Training) else "LoRAs"
    of_all = "" if seen.total is None else f" of {seen.total:,}"
    facts = [f"{seen.done:,}{of_all} {things}"]
    if seen.seconds_left is not None:
        facts.append(f"{duration(seen.seconds_left)} left at this pace")
    if isinstance(seen, Training):
        if seen.tokens_per_second is not None:
            facts.append(f"{seen.tokens_per_second:.0f} tokens a second")
        if seen.stopped_early:
            facts.append("stopped early, because validation did not improve")
        if seen.collapsed_at is not None:
            facts.append("collapsed: adapters of different tasks are nearly the same")
    head = f"{seen.name} ({seen.kind.replace('_', ' ')}): {state}"
    return f"{head}\n{', '.join(facts)}"


@plain_errors
def convert(
    file: Annotated[Path, typer.Argument(help="The .pth file; it is read as weights alone.")],
    out: Annotated[Path, typer.Option(help="New generator folder.")],
    base: BaseOption = RELEASED_BASE,
    encoder: Annotated[
        str, typer.Option(help="Text encoder it was trained with: Hub id or folder.")
    ] = RELEASED_ENCODER,
    cache_dir: CacheOption = None,
    as_json: Json = False,
) -> None:
    """Convert a decoder that the paper's authors released (.pth)."""
    from dnd_engine.generator.released import convert as run

    made = run(file, out, base=base, encoder=encoder, cache_dir=cache_dir)
    show(
        {"generator": str(made.path), "sha256": made.sha256, "base": made.config.base["id"]},
        as_json,
        f"{made.path}: the authors' decoder for {made.config.base['id']}. Use it with --base "
        f"{base} --generator {made.path}.",
    )
