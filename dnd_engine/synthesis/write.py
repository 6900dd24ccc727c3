"""Generates an adapter: encodes prompts, decodes weights, finds the nearest training tasks."""

import time
from collections.abc import Callable, Sequence
from collections.abc import Generator as Steps
from dataclasses import asdict, replace

import torch
from torch import Tensor

from dnd_engine.checks.familiarity import nearest_tasks
from dnd_engine.config import ImprintConfig, Mix
from dnd_engine.imprint.fit import imprint_layout
from dnd_engine.lora.adapter import Adapter, adapter_name, sum_adapters
from dnd_engine.lora.provenance import BucketSource, Recipe
from dnd_engine.lora.seen import with_met
from dnd_engine.models.encoder import EncodedPrompts, PromptMemory
from dnd_engine.models.turns import patient
from dnd_engine.progress import Progress
from dnd_engine.prompts.buckets import Bucket, check_buckets
from dnd_engine.synthesis.loaded import Loaded

_PROMPTS_AHEAD = 32
"""Prompts that are encoded ahead at a time, some .1 s of two cores."""


def write(
    loaded: Loaded,
    buckets: Sequence[Bucket],
    *,
    mix: Mix = "pool",
    strength: float = 1.0,
    seed: int = 0,
    memory: PromptMemory | None = None,
) -> Steps[Progress, None, Adapter]:
    """Generate an adapter; see `Engine.synthesize`."""
    generator = loaded.resident()
    started = time.monotonic()
    counting = check_buckets(buckets, loaded.config.limits)
    groups = _conditions(counting, mix)
    encoded: list[EncodedPrompts] = []
    read: set[str] = set()
    for number, group in enumerate(groups):
        yield Progress(
            "encode",
            number / len(groups),
            time.monotonic() - started,
            "read",
            "" if mix == "pool" else group[0].name,
        )
        texts = loaded.draw(group, seed)
        read |= set(texts)
        encoded.append(loaded.encode(texts, memory))
    encode_seconds = time.monotonic() - started
    decoded: list[Tensor] = []
    for number, prompts in enumerate(encoded):
        yield Progress("decode", number / len(groups), time.monotonic() - started, "write")
        decoded.append(generator.decode(prompts))
    tokens, kept = decoded[0], None
    layout = generator.layout
    if mix == "sum":
        parts = [Adapter("part", part, layout, loaded.info.base_id) for part in decoded]
        tokens, kept = sum_adapters(parts, [b.weight for b in counting])
    tokens, layout = generator.in_all_layers(tokens)
    decode_seconds = time.monotonic() - started - encode_seconds
    yield Progress("check", None, time.monotonic() - started, "compare_tasks")
    pooled = torch.cat([prompts.pooled for prompts in encoded])
    nearest = nearest_tasks(pooled, generator.folder.tasks)
    num_prompts = _num_prompts(counting)
    origin = {
        **_recipe(loaded, counting, mix, seed, written=True).to_json(),
        "num_prompts": num_prompts,
        "num_prompts_encoded": len(pooled),
        "nearest_tasks": [asdict(task) for task in nearest],
    }
    return Adapter(
        name=adapter_name([b.name for b in counting]),
        tokens=tokens,
        layout=layout,
        base_id=loaded.info.base_id,
        strength=strength,
        provenance=with_met(origin, read, labels=False),
        num_prompts=num_prompts,
        seconds={
            "encode": encode_seconds,
            "decode": decode_seconds,
            "total": time.monotonic() - started,
        },
        nearest_tasks=nearest,
        kept_energy=kept,
    )


def read_ahead(
    loaded: Loaded,
    buckets: Sequence[Bucket],
    mix: Mix,
    seed: int,
    memory: PromptMemory,
    goes_on: Callable[[], bool],
) -> None:
    """Encode the prompts that `write` would draw; see `Engine.read_ahead`."""
    counting = check_buckets(buckets, loaded.config.limits)
    drawn = [text for group in _conditions(counting, mix) for text in loaded.draw(group, seed)]
    texts = list(dict.fromkeys(drawn))
    with patient():
        # In parts, because whoever is urgent waits for one of them.
        for start in range(0, len(texts), _PROMPTS_AHEAD):
            if not goes_on():
                return
            loaded.encode(texts[start : start + _PROMPTS_AHEAD], memory)


def _conditions(buckets: Sequence[Bucket], mix: Mix) -> list[Sequence[Bucket]]:
    """Return the buckets of each condition."""
    if mix == "pool":
        return [buckets]
    # The weight scales this bucket's adapter in the sum, so it must not also affect sampling.
    return [(replace(bucket, weight=1.0),) for bucket in buckets]


def blank(
    loaded: Loaded, buckets: Sequence[Bucket], config: ImprintConfig, mix: Mix = "pool"
) -> Adapter:
    """Make an adapter that changes nothing, with the recipe of one made by imprint alone."""
    counting = check_buckets(buckets, loaded.config.limits)
    layout = imprint_layout(loaded.base.config, config)
    recipe = _recipe(loaded, counting, mix, config.seed, written=False)
    num_prompts = _num_prompts(counting)
    return Adapter(
        name=adapter_name([b.name for b in counting]),
        tokens=torch.zeros(layout.grid(), dtype=torch.bfloat16),
        layout=layout,
        base_id=loaded.info.base_id,
        provenance={**recipe.to_json(), "num_prompts": num_prompts},
        num_prompts=num_prompts,
    )


def _num_prompts(buckets: Sequence[Bucket]) -> int:
    return len({p.text for b in buckets for p in b.prompts})


def _recipe(
    loaded: Loaded, buckets: Sequence[Bucket], mix: Mix, seed: int, *, written: bool
) -> Recipe:
    """Make an adapter's recipe, without texts and times: equal input gives equal bytes.

    `written` tells if the generator was used; not so for an adapter made by imprint alone.
    """
    info = loaded.info
    return Recipe(
        base=info.base_id,
        base_sha256=info.base_sha256,
        encoder=info.encoder_id if written else None,
        encoder_sha256=info.encoder_sha256 if written else None,
        generator=info.generator_id if written else None,
        generator_sha256=info.generator_sha256 if written else None,
        mix=mix,
        seed=seed,
        buckets=tuple(map(BucketSource.of, buckets)),
    )
