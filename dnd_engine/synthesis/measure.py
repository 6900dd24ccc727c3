"""Measures an adapter on labelled rows with the loaded models, and trains a LoRA to compare with.

The measurement itself is `dnd_engine.measure`.
"""

from collections.abc import Callable
from collections.abc import Generator as Steps
from dataclasses import replace

from dnd_engine.config import LabelledConfig, MeasureConfig
from dnd_engine.lora.adapter import Adapter
from dnd_engine.lora.seen import Seen
from dnd_engine.measure.results import Measurement, MeasureStep
from dnd_engine.measure.sides import split
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.files import PromptFile
from dnd_engine.synthesis.loaded import Loaded


def measure_adapter(
    loaded: Loaded,
    generate: Callable[..., Adapter],
    adapter: Adapter,
    labelled: PromptFile,
    config: MeasureConfig,
) -> Steps[MeasureStep, None, Measurement]:
    """Score an adapter on labelled rows; see `Engine.measure`."""
    # Lazy, because its metrics load nltk, which nothing else needs.
    from dnd_engine.measure.run import measure

    sides = split(labelled, loaded.base.tokenizer, Seen.by(adapter.provenance), config)
    took = _synthesis_seconds(loaded, generate, adapter, labelled)
    measured = Measurement(
        sides=sides,
        adapter=adapter.name,
        adapter_sha256=adapter.sha256,
        strength=adapter.strength,
        base=loaded.info.base_id,
        synthesis_seconds=took,
        synthesis_estimated=took is not None and adapter.making_seconds is None,
        seed=config.seed,
    )
    active, shared = loaded.fit(adapter), loaded.fit_shared()
    return (yield from measure(loaded.runtime, active, shared, measured))


def train_on_measured(
    loaded: Loaded,
    adapter: Adapter,
    measured: Measurement,
    config: LabelledConfig,
    *,
    warm_start: bool,
) -> Steps[MeasureStep, None, Measurement]:
    """Train a LoRA on the rows that were not scored; see `Engine.train_lora`."""
    loaded.check_made_here(adapter)
    from dnd_engine.measure.run import train

    origin = {"base": loaded.info.base_id, "base_sha256": loaded.info.base_sha256}
    steps = train(loaded.runtime, adapter, measured, config, warm_start=warm_start, origin=origin)
    return (yield from steps)


def _synthesis_seconds(
    loaded: Loaded, generate: Callable[..., Adapter], adapter: Adapter, labelled: PromptFile
) -> float | None:
    """Return how long making an adapter took, or estimate it for one read from a file.

    The estimate times a synthesis of as many prompts. None if the adapter was not generated,
    was imprinted or trained for an unknown time, or the file has too few prompts.
    """
    if (took := adapter.making_seconds) is not None:
        return took
    # A synthesis is over at once; an imprint would hold up the measurement without a word.
    if not loaded.wrote(adapter) or adapter.is_imprinted or adapter.was_trained:
        return None
    prompts = labelled.prompts[: adapter.num_prompts]
    if not 0 < len(prompts) == adapter.num_prompts:
        return None
    bucket = Bucket("as many", 1.0, (replace(labelled, prompts=prompts),))
    return generate([bucket], imprinted=False).making_seconds
