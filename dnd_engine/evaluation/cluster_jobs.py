"""Answers the items of an examination as jobs on a cluster, a chunk of tasks each.

A job loads models of its own, gets what is known of its tasks, and returns what it found. It keeps
no files, so nodes share no folder except those of a generator or of LoRAs that you name.
"""

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from dnd_engine.cluster import Cluster, named_anywhere
from dnd_engine.config import EngineConfig
from dnd_engine.engine import Engine
from dnd_engine.errors import ConfigError
from dnd_engine.evaluation.baselines import Baselines
from dnd_engine.evaluation.eval_pass import EvalPass, chunks
from dnd_engine.evaluation.items import EvalItems
from dnd_engine.evaluation.result_store import Findings, ResultStore
from dnd_engine.evaluation.settings import ExaminationConfig
from dnd_engine.files import scratch_folder
from dnd_engine.tasks.folder import Task
from dnd_engine.teach.local import LocalTeacher


@dataclass(frozen=True, slots=True)
class _Job:
    """A chunk of tasks, and what is measured of them already."""

    all_items: tuple[EvalItems, ...]
    known: Findings


@dataclass(frozen=True, slots=True)
class _Examination:
    """What all jobs share."""

    models: EngineConfig
    weights: tuple[str, str, str]
    """Hashes of generator, teacher and base: those on another machine may be others."""
    tasks: tuple[Task, ...]
    """All that are examined: some rows take the prompts of another one."""
    config: ExaminationConfig
    rows: tuple[str, ...]


def measure_elsewhere(
    cluster: Cluster,
    eval_pass: EvalPass,
    tasks: Sequence[Task],
    config: ExaminationConfig,
    rows: Sequence[str],
) -> None:
    """Fill the store of a pass by jobs; each chunk is kept as it comes.

    Raises:
        ConfigError: If a node has other weights.
        JobError: If the cluster cannot be reached, or lost a job too often.
    """
    engine, store = eval_pass.engine, eval_pass.store
    shared = _Examination(
        replace(
            # Jobs run in folders of their own, where a relative path names something else.
            engine.config,
            base=named_anywhere(engine.config.base),
            generator=_absolute(engine.config.generator),
            cache_dir=_absolute(engine.config.cache_dir),
        ),
        _weights(engine),
        tuple(tasks),
        replace(
            config,
            adapters=_absolute(config.adapters),
            multi_task_lora=_absolute(config.multi_task_lora),
            teacher=_anywhere(config.teacher),
            # What training cost is computed by the caller, so nodes need not see its logs.
            runs=(),
        ),
        tuple(rows),
    )
    jobs = [
        _Job(tuple(chunk), store.known({of_task.slug for of_task in chunk}))
        for chunk in chunks(eval_pass.all_items)
        # Where nothing is lacking, no job is needed, and no cluster.
        if any(eval_pass.lacks(rows, config.modes, of_task) for of_task in chunk)
    ]
    with tqdm(total=len(jobs), desc="Examine on the cluster", unit="job") as bar:
        for found in cluster.run(partial(_measure, shared), jobs):
            store.absorb(found)
            bar.update()


def _measure(shared: _Examination, job: _Job) -> Findings:
    """Do one job, in another process and perhaps on another machine."""
    engine = Engine.load(shared.models)
    if _weights(engine) != shared.weights:
        raise ConfigError(
            f"the node {platform.node()} has other weights of the generator, its teacher or the "
            "base than the machine that examines. Install the same version, or name folders that "
            "all nodes see."
        )
    # Without the trained tasks: only the caller compares adapters with those made for them.
    baselines = Baselines(engine, shared.tasks, shared.config)
    with scratch_folder() as folder:
        # The store ends with the job, so no later call compares its settings.
        store = ResultStore.open(folder / "report", "", job.all_items)
        store.agree({row: baselines.source(row) for row in shared.rows})
        store.absorb(job.known)
        eval_pass = EvalPass(engine, baselines, store, job.all_items)
        eval_pass.fill(shared.rows, shared.config.modes)
        # What was known goes back too; `absorb` skips what its store has.
        return store.found


def _weights(engine: Engine) -> tuple[str, str, str]:
    return engine.info.generator_sha256 or "", engine.info.teacher_sha256, engine.info.base_sha256


def _anywhere(teacher: LocalTeacher | None) -> LocalTeacher | None:
    if teacher is None:
        return None
    return replace(
        teacher, base=named_anywhere(teacher.base), cache_dir=_absolute(teacher.cache_dir)
    )


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()
