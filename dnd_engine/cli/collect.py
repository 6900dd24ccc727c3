"""The `dnd collect` command: trains LoRAs and keeps their checkpoints."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dnd_engine.cli.common import (
    Json,
    RecipeArgument,
    TasksOption,
    ThreadsOption,
    cluster_options,
    plain_errors,
    show,
)
from dnd_engine.cluster import Cluster

if TYPE_CHECKING:
    from dnd_engine.training.finetune.collect import CollectResult


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

    from dnd_engine.training.finetune.collect import collect as run
    from dnd_engine.training.finetune.collect_recipe import CollectRecipe

    transformers_logging.disable_progress_bar()
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
        _words(result),
    )


def _words(result: "CollectResult") -> str:
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
