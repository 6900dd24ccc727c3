"""The command that trains a generator."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dnd_engine.cli.common import (
    Json,
    plain_errors,
    show,
)

__all__ = ["train"]


@plain_errors
def train(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe; flags override it.")],
    tasks: Annotated[Path | None, typer.Option(help="Task folder.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder.")] = None,
    kind: Annotated[str | None, typer.Option(help="generator or multi_task_lora.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    as_json: Json = False,
) -> None:
    """Train a generator, or the multi-task LoRA it must beat."""
    from dnd_engine.training.recipe import TrainRecipe
    from dnd_engine.training.trainer import train as run

    overrides = {"tasks": tasks, "out": out, "kind": kind}
    overrides |= {"steps": steps, "seed": seed, "threads": threads}  # type: ignore[dict-item]
    result = run(TrainRecipe.read(recipe, **overrides), resume=resume)
    show(
        {**asdict(result), "generator": str(result.generator)},
        as_json,
        f"{result.generator}: {result.steps} steps. Validation loss {result.validation_loss:.3f} "
        f"with the right prompts, {result.validation_loss_wrong_prompts:.3f} with another task's.",
    )
