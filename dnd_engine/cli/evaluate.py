"""The command that examines a generator."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from dnd_engine.cli.common import (
    DEFAULT_BASE,
    BaseOption,
    DeviceOption,
    GeneratorOption,
    Json,
    load_engine,
    plain_errors,
    show,
    typed_arguments,
)
from dnd_engine.config import EngineConfig
from dnd_engine.errors import ConfigError

__all__ = ["evaluate"]


@plain_errors
def evaluate(
    tasks: Annotated[Path, typer.Option(help="Task folder.")],
    out: Annotated[Path, typer.Option(help="Report folder; a second call continues in it.")],
    generator: GeneratorOption = None,
    split: Annotated[str, typer.Option(help="train or heldout.")] = "heldout",
    rows: Annotated[str | None, typer.Option(help="Comma-separated; default: all.")] = None,
    modes: Annotated[str, typer.Option(help="full, bare, or both with a comma.")] = "full,bare",
    multi_task_lora: Annotated[
        Path | None, typer.Option(help="Its folder, for the row of that name.")
    ] = None,
    limit_tasks: Annotated[int | None, typer.Option(help="Tasks, drawn by seed.")] = None,
    limit_items: Annotated[int, typer.Option(help="Test items per task.")] = 10,
    seed: Annotated[int, typer.Option(help="Of items, conditions and intervals.")] = 0,
    card: Annotated[
        bool, typer.Option("--card", help="Also write the result into the generator's card.")
    ] = False,
    base: BaseOption = DEFAULT_BASE,
    device: DeviceOption = None,
    as_json: Json = False,
) -> None:
    """Examine a generator on new items: against its base, its controls, and wrong prompts."""
    from dnd_engine.card import update_card
    from dnd_engine.evaluation.examine import ROWS, ExaminationConfig, examine, report_markdown
    from dnd_engine.training.tasks import SPLITS, load_tasks

    if split not in SPLITS:
        raise ConfigError(f"`split` must be {' or '.join(SPLITS)}, got {split!r}.")
    config = ExaminationConfig(
        out=out,
        rows=ROWS if rows is None else tuple(rows.split(",")),
        modes=tuple(modes.split(",")),  # type: ignore[arg-type]  # checked by the config
        split=split,
        multi_task_lora=multi_task_lora,
        limit_tasks=limit_tasks,
        limit_items=limit_items,
        seed=seed,
    )
    engine = load_engine(EngineConfig(base=base, generator=generator, device=device))
    chosen = load_tasks(tasks, split=split)
    if split == "train":
        # Only tasks the generator was trained on are "seen"; the rest of the split was left out.
        known = {row["task"] for row in engine.training_data}
        chosen = tuple(task for task in chosen if task.info.slug in known)
    report = examine(engine, chosen, config, command=shlex.join(["dnd", *typed_arguments()]))
    if card:
        update_card(engine.info.generator_path, split, report_markdown(report))
    show(report, as_json, report_markdown(report))
