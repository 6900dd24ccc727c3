"""Lets several models answer in one batch, with strengths that may change during an answer."""

from collections.abc import Callable, Sequence
from collections.abc import Generator as Steps

from dnd_engine.config import Sampling
from dnd_engine.errors import ConfigError
from dnd_engine.lora.adapter import Adapter
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.decode import decode
from dnd_engine.models.replies import Message, Reply
from dnd_engine.synthesis.loaded import Loaded


def compare_models(
    loaded: Loaded,
    conversations: Sequence[Sequence[Message]],
    adapters: Sequence[Adapter | None],
    sampling: Sampling,
    strengths: Sequence[Callable[[], float] | None] | None = None,
) -> Steps[list[Reply], None, None]:
    """Answer as the base and as adapted models; see `Engine.compare`."""
    if not len(conversations) == len(adapters) == len(strengths or adapters) > 0:
        raise ConfigError(
            "expected a conversation, an adapter or None, and a strength if any is given, for "
            f"each of at least one model, got {len(conversations)}, {len(adapters)} and "
            f"{len(strengths or ())}."
        )
    current: list[float | None] | None = None
    active: FittedLoRA | None = None
    asked = strengths or [None] * len(adapters)

    def now_active() -> FittedLoRA | None:
        nonlocal current, active
        now = [
            None if adapter is None else strength() if strength else adapter.strength
            for adapter, strength in zip(adapters, asked, strict=True)
        ]
        # `decode` prepares again for every new object, so an unchanged adapter must be the same
        # one.
        if now != current:
            active, current = loaded.fit_sides(adapters, now), now
        return active

    yield from decode(loaded.runtime, conversations, now_active, sampling)
