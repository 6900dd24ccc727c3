"""The `dnd evaluate` command: evaluates a generator on unseen tasks."""

import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

from dnd_engine.cli.common import (
    Json,
    cluster_options,
    engine_options,
    known,
    load_engine,
    one_of,
    plain_errors,
    show,
    typed_arguments,
)
from dnd_engine.cluster import Cluster
from dnd_engine.config import EngineConfig
from dnd_engine.files import check_folder
from dnd_engine.teach.local import LocalTeacher


@plain_errors
@cluster_options
@engine_options
def evaluate(
    models: EngineConfig,
    cluster: Cluster | None,
    tasks: Annotated[list[Path], typer.Option(help="Task folder; may be repeated.")],
    out: Annotated[Path, typer.Option(help="Report folder; a second call resumes it.")],
    split: Annotated[
        str, typer.Option(help="heldout, or train: new items of training tasks.")
    ] = "heldout",
    holdout: Annotated[
        str | None,
        typer.Option(
            help="Kinds of held-out tasks, comma-separated: family, primitive, composition, pair, "
            "format; default: those in the folders. Pairs and formats are made on the fly."
        ),
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated; default: all except those that train and the steering vector."
        ),
    ] = None,
    modes: Annotated[str, typer.Option(help="full, bare or full,bare.")] = "full,bare",
    limit_tasks: Annotated[
        int | None,
        typer.Option(min=1, help="Number of tasks, sampled by seed, the same for each kind."),
    ] = None,
    limit_items: Annotated[int, typer.Option(min=1, help="Test items per task.")] = 10,
    draws: Annotated[
        int,
        typer.Option(
            min=1, help="Prompt draws for generator and generator_imprint; other rows use one."
        ),
    ] = 3,
    prompts: Annotated[
        int, typer.Option(min=1, help="Prompts of a task to make an adapter from, at most.")
    ] = 64,
    adapters: Annotated[
        Path | None, typer.Option(help="Collection of trained LoRAs, for the rows that use one.")
    ] = None,
    teacher_base: Annotated[
        str | None,
        typer.Option(
            metavar="BASE",
            help="Larger base that answers for the row imprint_taught_20: Hub id, "
            "folder or GGUF file.",
        ),
    ] = None,
    multi_task_lora: Annotated[
        Path | None, typer.Option(help="Folder of the multi-task LoRA, for the row of that name.")
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(
            help="Run folder of the generator, for the cost of training; repeat for its warm start."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed for items, conditions and intervals.")] = 0,
    card: Annotated[
        bool, typer.Option("--card", help="Also write the report into the generator's folder.")
    ] = False,
    section: Annotated[
        str | None,
        typer.Option(help="With --card: which section of the card to write; default: the split."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare a generator with its base, controls and wrong prompts.

    Without a generator, imprint alone is compared with the base.
    """
    from dnd_engine.evaluation.examine import examine
    from dnd_engine.evaluation.page import report_markdown
    from dnd_engine.evaluation.selection import choose_tasks
    from dnd_engine.evaluation.settings import ExaminationConfig
    from dnd_engine.generator.card import check_card, save_report, update_card
    from dnd_engine.scoring.scores import DEFAULT_ROWS, MODES, ROWS
    from dnd_engine.tasks.folder import HOLDOUTS, SPLITS, Task, load_tasks

    split = one_of("split", split, SPLITS)
    holdouts = () if holdout is None else known("holdout", holdout, HOLDOUTS)
    # Kinds of novelty mean nothing for tasks that were trained on.
    if holdouts and split == "train":
        raise typer.BadParameter("only works with --split heldout.", param_hint="'--holdout'")
    if section is not None and not (card and re.fullmatch(r"[a-z][a-z0-9-]*", section)):
        raise typer.BadParameter(
            f"must be lowercase letters, digits and dashes, and needs --card; got {section!r}.",
            param_hint="'--section'",
        )
    better: LocalTeacher | None = None
    if teacher_base is not None:
        better = LocalTeacher(base=teacher_base, cache_dir=models.cache_dir, device=models.device)
    config = ExaminationConfig(
        out=out,
        rows=DEFAULT_ROWS if rows is None else known("rows", rows, ROWS),
        modes=known("modes", modes, MODES),
        split=split,
        limit_items=limit_items,
        draws=draws,
        condition_prompts=prompts,
        adapters=adapters,
        teacher=better,
        multi_task_lora=multi_task_lora,
        runs=tuple(run or ()),
        seed=seed,
    )
    # What can be refused is refused before models load: a wrong place, task file or base.
    check_folder(out)
    stored = load_tasks(tasks)
    if better:
        better.check()
    engine = load_engine(models)
    if card and not engine.info.has_generator:
        raise typer.BadParameter(
            f"writes into a generator's folder, and {engine.info.base_id} has none.",
            param_hint="'--card'",
        )
    if card:
        check_card(engine.generator.path)
    learnt = [row["task"] for row in engine.seen("data")]
    chosen = choose_tasks(
        tasks,
        learnt,
        variants=engine.seen("variants"),
        split=split,
        holdouts=holdouts,
        limit=limit_tasks,
        seed=seed,
    )
    what = "training tasks" if split == "train" else "held-out tasks"
    kinds = f" ({', '.join(holdouts)})" if holdouts else ""
    data = (
        f"{len(chosen)} {what}{kinds} of {', '.join(folder.name for folder in tasks)}, "
        f"up to {limit_items} items each, adapters from up to {prompts} prompts."
    )
    command = shlex.join(["dnd", *typed_arguments()])
    trained: list[Task] = []
    # The generator's adapters for trained tasks are compared with those for unseen ones.
    if "generator" in config.rows and engine.info.has_generator:
        trained = [task for task in stored if task.info.slug in learnt]
    report = examine(
        engine, chosen, config, trained=trained, command=command, data=data, cluster=cluster
    )
    if card:
        update_card(engine.generator.path, section or split, report_markdown(report))
        save_report(engine.generator.path, section or split, report)
    show(report.to_json(), as_json, report_markdown(report))
