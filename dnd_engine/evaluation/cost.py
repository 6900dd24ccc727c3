"""What a generator cost and saves, beside what an examination took."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from dnd_engine.engine import Engine
from dnd_engine.errors import ConfigError, TrainingError
from dnd_engine.evaluation.result_store import ResultStore
from dnd_engine.generator.config import OBJECTIVES_ON_WEIGHTS
from dnd_engine.generator.report import Cost
from dnd_engine.training.collection import Collection
from dnd_engine.training.run_log import LOG, Row, parse_log


def cost_of(
    engine: Engine,
    collection: Collection | None,
    store: ResultStore,
    steps: Sequence[Row] | None,
) -> Cost:
    """What things took; training and LoRAs as their own folders say, on whatever machine that was.

    Collecting cost a generator that was trained on checkpoints the runs of train tasks, of all
    seeds, as training draws from all; held-out oracles are no part of it. To any other generator a
    collection is there for comparison alone. Training leaves out encoding prompts, which no
    log holds; the report says so.

    Estimates count 2 floating point operations per parameter and token of a forward pass, and as
    many again for a backward pass through frozen weights.
    """
    training_seconds = collection_seconds = lora_seconds = None
    synthesis_seconds = break_even = None
    if store.found.synthesis_seconds:
        synthesis_seconds = round(statistics.median(store.found.synthesis_seconds), 3)
    per_token = 4 * engine.info.base_parameters
    estimates: dict[str, float] = {}
    if steps is not None:
        # Validations and monitors are part of what training took.
        training_seconds = round(sum(s["seconds"] + s.get("watch_seconds", 0) for s in steps), 1)
        estimates["training_flops"] = float(per_token * sum(int(s["tokens"]) for s in steps))
    if collection is not None:
        runs, recipe = collection.runs, collection.manifest.recipe
        taken = [collection.seconds(run) for run in runs]
        training = {}
        if engine.info.has_generator:
            training = engine.generator.config.training.get("recipe", {})
        if training.get("objective") in OBJECTIVES_ON_WEIGHTS:
            of_training = zip(runs, taken, strict=True)
            collection_seconds = round(sum(s for r, s in of_training if r.split == "train"), 1)
        lora_seconds = round(statistics.mean(taken), 2)
        # As if every batch were full of the longest examples, hence `at_most`.
        tokens = recipe["batch_size"] * recipe["max_tokens"]
        estimates["lora_flops_at_most"] = float(
            per_token * tokens * statistics.mean(run.steps for run in runs)
        )
    if synthesis_seconds is not None and training_seconds is not None and lora_seconds is not None:
        # Each task saves a LoRA run, and costs a synthesis instead.
        saved = lora_seconds - synthesis_seconds
        if saved > 0:
            break_even = math.ceil((training_seconds + (collection_seconds or 0.0)) / saved)
    return Cost(
        row_seconds=dict(store.found.seconds),
        synthesis_seconds=synthesis_seconds,
        imprint_seconds=_medians(store.found.imprint_seconds),
        refine_seconds=_medians(store.found.refine_seconds),
        training_seconds=training_seconds,
        training_leaves_out="" if steps is None else "encoding prompts",
        collection_seconds=collection_seconds,
        lora_seconds=lora_seconds,
        break_even_tasks=break_even,
        estimates_not_measured=estimates,
    )


def _medians(taken: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {row: round(statistics.median(seconds), 2) for row, seconds in taken.items()}


def read_log(run: Path) -> tuple[Row, ...]:
    """The steps that a run logged, without a last line that a killed run left unfinished.

    Raises:
        ConfigError: If the folder holds no log of ours.
    """
    try:
        steps = parse_log((run / LOG).read_bytes())
        if not steps or not all({"seconds", "tokens"} <= step.keys() for step in steps):
            raise ValueError("a step lacks `seconds` or `tokens`, or there is none")
    except (OSError, ValueError, TrainingError) as error:
        raise ConfigError(
            f"`{run}` is no run folder with a sound `{LOG}`: {error}. Name the folder that "
            "`dnd train` wrote to, or leave --run out."
        ) from error
    return steps
