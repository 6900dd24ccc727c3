"""Makes an adapter from buckets, with generator and imprint, or by imprint alone."""

from collections.abc import Generator as Steps
from collections.abc import Sequence

from dnd_engine.config import MIXES, ImprintConfig, Mix
from dnd_engine.errors import ConfigError
from dnd_engine.lora.adapter import Adapter
from dnd_engine.models.encoder import PromptMemory
from dnd_engine.models.turns import urgently
from dnd_engine.progress import Progress
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.synthesis.imprint import imprint_alone
from dnd_engine.synthesis.loaded import Loaded
from dnd_engine.synthesis.write import write


def synthesize(
    loaded: Loaded,
    buckets: Sequence[Bucket],
    *,
    mix: Mix,
    strength: float,
    seed: int,
    memory: PromptMemory | None,
) -> Steps[Progress, None, Adapter]:
    """Make an adapter step by step; see `Engine.synthesize`."""
    if mix not in MIXES:
        raise ConfigError(f"`mix` must be {' or '.join(MIXES)}, got {mix!r}.")
    if loaded.generator is None:
        config = ImprintConfig(seed=seed)
        return (yield from imprint_alone(loaded, buckets, config, mix=mix, strength=strength))
    lock = loaded.runtime.lock
    steps = write(loaded, buckets, mix=mix, strength=strength, seed=seed, memory=memory)
    # The imprint alone, above, becomes urgent by itself once it has the metrics.
    with lock.awaited():
        return (yield from urgently(lock, steps))
