"""Commands about task folders."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dnd_engine.cli.common import (
    Json,
    plain_errors,
    show,
)

__all__ = ["app"]

app = typer.Typer(help="List and check task folders.", no_args_is_help=True)


@app.command("list")
@plain_errors
def list_tasks(
    folder: Annotated[Path, typer.Argument(help="Holds tasks.csv and tasks/.")],
    as_json: Json = False,
) -> None:
    """List the tasks of a folder."""
    from dnd_engine.training.tasks import read_index

    index = read_index(folder)
    show(
        {"tasks": [asdict(info) for info in index]},
        as_json,
        "\n".join(f"{i.slug:36} {i.split:8} {i.metric:7} {i.family:24} {i.licence}" for i in index),
    )


@app.command("check")
@plain_errors
def check_tasks(
    folder: Annotated[Path, typer.Argument(help="Holds tasks.csv and tasks/.")],
    as_json: Json = False,
) -> None:
    """Check schema, sizes and labels; exit code 1 if a task has a defect."""
    from dnd_engine.training.tasks import audit_task, load_tasks

    found = load_tasks(folder)
    faults = {task.info.slug: audit_task(task) for task in found}
    faults = {slug: words for slug, words in faults.items() if words}
    lines = [f"{slug}: {word}" for slug, words in faults.items() for word in words]
    show(
        {
            "num_tasks": len(found),
            "num_train": sum(len(task.train) for task in found),
            "num_test": sum(len(task.test) for task in found),
            "faults": faults,
        },
        as_json,
        "\n".join([f"{len(found)} tasks, {len(faults)} with defects.", *lines]),
    )
    if faults:
        raise typer.Exit(1)
