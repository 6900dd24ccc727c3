"""The examination: a generator against its base and its controls, on new items of given tasks.

Conditions are prompts of a task's train side, scores are of its test side. Every item is answered
under every row (see `baselines`), graded (see `metrics`) and appended to `scores.jsonl` at once. A
second call with the same settings continues; rows, modes and draws may grow between calls.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace

from dnd_engine.cluster import Cluster
from dnd_engine.engine import Engine
from dnd_engine.errors import ConfigError
from dnd_engine.evaluation.baselines import Baselines
from dnd_engine.evaluation.cluster_jobs import measure_elsewhere
from dnd_engine.evaluation.cost import cost_of, read_log
from dnd_engine.evaluation.eval_pass import EvalPass
from dnd_engine.evaluation.items import MAX_TOKENS, EvalItems
from dnd_engine.evaluation.report import build_report, write_report
from dnd_engine.evaluation.result_store import ResultStore, only_evaluation_in
from dnd_engine.evaluation.selection import refuse_trained
from dnd_engine.evaluation.settings import ExaminationConfig
from dnd_engine.files import public_name
from dnd_engine.generator.config import trained_steps
from dnd_engine.generator.report import Cosine, Distances, Report
from dnd_engine.scoring.scores import IMPRINT_ALONE, ROWS, ReportMeta
from dnd_engine.tasks.folder import Task


def examine(
    engine: Engine,
    tasks: Sequence[Task],
    config: ExaminationConfig,
    *,
    trained: Sequence[Task] = (),
    command: str = "",
    data: str = "",
    cluster: Cluster | None = None,
) -> Report:
    """Measure every row on every task; write and return the report.

    Args:
        engine: With the generator to examine; others may use it meanwhile, between batches.
        tasks: All are examined; see `selection`.
        config: What to measure.
        trained: Tasks that the generator was trained on, which its adapters are compared with;
            without them, the collection's LoRAs of training tasks are.
        command: Printed in the report, so that a reader can repeat it.
        data: The tasks in words, likewise.
        cluster: Answer chunks of tasks as jobs there; by default one after the other here.

    Raises:
        ConfigError: If there is nothing to measure, `out` holds scores of other settings or another
            call writes to it, or a task is examined as held out that the generator was trained on
            or chosen by.
        JobError: If the cluster cannot be reached, or lost a job too often.
    """
    started = time.monotonic()
    if not tasks:
        raise ConfigError("no tasks to examine.")
    generator = engine.generator if engine.info.has_generator else None
    if config.split == "heldout":
        refuse_trained(
            tasks,
            {row["task"] for row in engine.seen("data")},
            set(engine.seen("variants")),
            {row["task"] for row in engine.seen("validation_data")},
        )
    # None without runs: a cost that is not known is not zero.
    steps = [step for run in config.runs for step in read_log(run)] or None
    notes = [data] if data else [f"{len(tasks)} tasks."]
    whole = trained_steps(generator.config.training) if generator else None
    if steps and whole and len(steps) != whole:
        notes.append(
            f"The runs named hold {len(steps)} of the generator's {whole} steps; "
            "the cost is of those alone."
        )
    baselines = Baselines(engine, tasks, config, trained)
    reasons = {row: why for row in config.rows if (why := baselines.why_not(row)) is not None}
    rows = tuple(row for row in ROWS if row in config.rows and row not in reasons)
    if not rows:
        words = "; ".join(f"{row} {why}" for row, why in reasons.items())
        raise ConfigError(f"no row can be measured: {words}.")
    all_items = [
        EvalItems.of(task, baselines.tokenizer, limit=config.limit_items, seed=config.seed)
        for task in tasks
    ]
    all_items = [of_task for of_task in all_items if of_task.items]
    if len(all_items) < len(tasks):
        notes.append(
            f"{len(tasks) - len(all_items)} of them have no item of at most {MAX_TOKENS} tokens."
        )
    if not all_items:
        raise ConfigError(
            f"none of the {len(tasks)} tasks has an item of at most {MAX_TOKENS} tokens."
        )
    with only_evaluation_in(config.out):
        store = ResultStore.open(config.out, _hash(engine, config, all_items), all_items)
        store.agree({row: baselines.source(row) for row in rows})
        eval_pass = EvalPass(engine, baselines, store, all_items)
        if cluster is not None:
            measure_elsewhere(cluster, eval_pass, tasks, config, rows)
        # Also after a cluster: jobs do not say why a row lacks tasks, which is found out here.
        eval_pass.fill(rows, config.modes)
        # The folder may hold rows, modes and draws of earlier calls that this report is not about.
        wanted = [
            score
            for score in store.found.scores
            if score.row in rows
            and score.mode in config.modes
            and score.draw < baselines.draws(score.row)
        ]
        lacking = baselines.reasons()
        if not wanted:
            words = "".join(f" {row} lacks {reason}" for row, reason in lacking.items())
            raise ConfigError(
                f"no item could be scored in mode {', '.join(config.modes)} under "
                f"{', '.join(rows)}.{words}"
            )
        found = {score.row for score in wanted}
        # A row that lacks only some tasks has its place in the report; `gaps` tells of it.
        reasons |= {row: why for row, why in lacking.items() if row not in found}
        cosine, between = eval_pass.distances() if "generator" in rows else (Cosine(), Distances())
        meta = ReportMeta(
            command=command,
            seed=config.seed,
            split=config.split,
            generator=generator.name if generator else IMPRINT_ALONE,
            generator_sha256=generator.sha256 if generator else "",
            teacher_sha256=engine.info.teacher_sha256,
            # A base that is a file has no id but a path, and its generator may know it better.
            base=public_name(generator.config.base["id"] if generator else engine.info.base_id),
            rows=rows,
            modes=config.modes,
            data=" ".join([*notes, *baselines.gaps(len(all_items))]),
            left_out=reasons,
            cosine=cosine,
            distances=between,
            cost=cost_of(engine, baselines.collection, store, steps),
            trained_families=tuple(sorted({row["family"] for row in engine.seen("data")})),
        )
        report = build_report(
            wanted,
            meta,
            tasks=tasks,
            found=store.found,
            other_format=[
                task.info.slug
                for task in tasks
                if (source := baselines.wrong_source(task)) is not None
                and source.info.answer_format != task.info.answer_format
            ],
        )
        report = replace(report, seconds=round(time.monotonic() - started, 1))
        write_report(report, wanted, config.out)
    return report


def _hash(engine: Engine, config: ExaminationConfig, all_items: Sequence[EvalItems]) -> str:
    """What stored scores belong to: the generator, the items, and what conditions are drawn from.

    Rows, modes and draws may grow between calls; nothing else may.
    """
    digest = hashlib.sha256()
    values = (
        engine.info.generator_sha256 or "",
        engine.info.base_sha256,
        config.condition_prompts,
        config.seed,
    )
    digest.update(repr(values).encode())
    for of_task in all_items:
        digest.update(repr((of_task.items, of_task.max_new_tokens)).encode())
        digest.update(repr(of_task.task).encode())
    return digest.hexdigest()
