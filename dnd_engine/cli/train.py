"""The `dnd train` command: trains a generator."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dnd_engine.cli.common import (
    INTERRUPTED,
    Json,
    RecipeArgument,
    TasksOption,
    ThreadsOption,
    plain_errors,
    show,
)


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
    """Train a generator, or the multi-task LoRA it must beat."""
    from dnd_engine.training.recipe import TrainRecipe
    from dnd_engine.training.trainer import train as run

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
    try:
        result = run(settings, resume=resume)
    except KeyboardInterrupt as stop:
        # The trainer says where it stopped. A second Ctrl-C stops it anywhere, without a message.
        typer.echo(str(stop) or "Stopped at once. The last checkpoint is kept.", err=True)
        raise typer.Exit(INTERRUPTED) from stop
    if int(os.environ.get("RANK", "0")) > 0:
        return  # one of several processes; only the first reports
    wrong = result.validation.get("validation_loss_wrong_prompts")
    compared = "" if wrong is None else f", {wrong:.3f} with prompts of another family"
    show(
        {**asdict(result), "generator": str(result.generator)},
        as_json,
        f"{result.generator}: {result.steps} steps, weights of step {result.kept_step}. Validation "
        f"loss {result.validation_loss:.3f} with the right prompts{compared}.",
    )
