"""The `dnd tasks` commands: list, check, make and fetch task folders."""

from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dnd_engine.cli.common import Json, plain_errors, show
from dnd_engine.tables import aligned

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dnd_engine.tasks.audit import Fault

app = typer.Typer(help="List, check, make and fetch task folders.", no_args_is_help=True)

Folders = Annotated[list[Path], typer.Argument(help="Folders that contain tasks.csv and tasks/.")]


@app.command("list")
@plain_errors
def list_tasks(folders: Folders, as_json: Json = False) -> None:
    """List the tasks in folders."""
    from dnd_engine.tasks.folder import read_index

    index = [info for folder in folders for info in read_index(folder)]
    rows = [(i.slug, i.split, i.metric, i.family, i.licence) for i in index]
    show(
        {"tasks": [asdict(info) for info in index]},
        as_json,
        "\n".join(aligned(rows, "<<<<<", " ")),
    )


@app.command("check")
@plain_errors
def check_tasks(folders: Folders, as_json: Json = False) -> None:
    """Check schema, sizes and labels; the exit code is 1 if a task has errors."""
    from dnd_engine.tasks.audit import audit_tasks
    from dnd_engine.tasks.folder import load_sound_tasks

    found, broken = load_sound_tasks(folders)
    num_tasks = len(found) + len(broken)
    faults = audit_tasks(found)
    errors = broken | _grouped(fault for fault in faults if fault.severity == "error")
    warnings = _grouped(fault for fault in faults if fault.severity == "warning")
    lines = [f"{num_tasks} tasks: {len(errors)} with errors, {len(warnings)} with warnings."]
    for title, group in (("Errors", errors), ("Warnings", warnings)):
        lines += ["", f"{title}:"] if group else []
        lines += [f"{slug}: {words}" for slug, said in group.items() for words in said]
    show(
        {
            "num_tasks": num_tasks,
            "num_train": sum(len(task.train) for task in found),
            "num_test": sum(len(task.test) for task in found),
            "faults": errors,
            "warnings": warnings,
        },
        as_json,
        "\n".join(lines),
    )
    if errors:
        raise typer.Exit(1)


@app.command("make")
@plain_errors
def make_tasks(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    # The lower limits are those of `write_families`, typed in because its import is slow.
    seed: Annotated[int, typer.Option(help="Seed for inputs and wordings.")] = 0,
    train: Annotated[int, typer.Option(min=40, help="Training examples per task.")] = 200,
    test: Annotated[int, typer.Option(min=1, help="Test examples per task.")] = 40,
    operations: Annotated[
        int | None,
        typer.Option(
            min=12,
            help="Number of tasks, sampled by seed, with every kind of holdout; default: all.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a folder of procedural tasks with answers that are correct by construction."""
    from dnd_engine.tasks.families import write_families

    count = write_families(
        out,
        seed=seed,
        train_examples=train,
        test_examples=test,
        num_operations=operations,
    )
    show({"folder": str(out), "num_tasks": count}, as_json, f"{out}: {count} tasks.")


@app.command("fetch")
@plain_errors
def fetch(
    recipes: Annotated[
        list[Path], typer.Argument(metavar="RECIPE...", help="YAML recipes, or folders of them.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    seed: Annotated[int | None, typer.Option(help="Seed for sampling rows.")] = None,
    train: Annotated[
        int | None, typer.Option(help="Maximum number of training examples per task.")
    ] = None,
    test: Annotated[
        int | None, typer.Option(help="Maximum number of test examples per task.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a folder of tasks from Hugging Face datasets or local files, one recipe each."""
    from dnd_engine.tasks.datasets import fetch_tasks, read_dataset_recipes

    found = read_dataset_recipes(recipes, seed=seed, train_examples=train, test_examples=test)
    made, faults = fetch_tasks(found, out)
    warnings = _grouped(faults)
    lines = [f"{task.info.slug}: {len(task.train)} train, {len(task.test)} test" for task in made]
    lines += [f"Warning: {slug}: {words}" for slug, said in warnings.items() for words in said]
    show(
        {
            "folder": str(out),
            "num_tasks": len(made),
            "num_train": sum(len(task.train) for task in made),
            "num_test": sum(len(task.test) for task in made),
            "warnings": warnings,
        },
        as_json,
        "\n".join(lines),
    )


def _grouped(faults: "Iterable[Fault]") -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for fault in faults:
        groups[fault.task].append(fault.words)
    return dict(groups)
