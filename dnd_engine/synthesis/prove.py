"""The ablation: compares an adapter with controls made from other and from shuffled prompts."""

import itertools
import time
from collections.abc import Callable, Sequence
from collections.abc import Generator as Steps
from dataclasses import replace

from torch import nn

from dnd_engine.checks.ablation import (
    MAX_PROMPTS,
    Candidate,
    compare_conditions,
    others,
    shuffled,
    some_prompts,
)
from dnd_engine.checks.results import Conditioning, ControlName
from dnd_engine.config import Teacher
from dnd_engine.errors import AdapterError, ImprintError
from dnd_engine.lora.adapter import Adapter
from dnd_engine.models.encoder import PromptMemory
from dnd_engine.models.turns import patient
from dnd_engine.progress import Doing, Progress
from dnd_engine.prompts.buckets import Bucket, check_buckets
from dnd_engine.prompts.examples import load_examples
from dnd_engine.synthesis.imprint import reference_of
from dnd_engine.synthesis.loaded import Loaded


def prove(
    loaded: Loaded,
    generate: Callable[..., Adapter],
    adapter: Adapter,
    buckets: Sequence[Bucket],
    memory: PromptMemory | None = None,
) -> Steps[Progress, None, Conditioning | None]:
    """Compare an adapter with its controls, which `generate` makes; see `Engine.prove`."""
    if adapter.was_trained:
        raise AdapterError(
            "`{adapter}` was trained on these prompts, and adapters made from others were not. "
            "Compare the adapter it was taught from.",
            adapter=adapter.name,
        )
    started = time.monotonic()
    counting = check_buckets(buckets, loaded.config.limits)
    # Controls differ from the adapter in their prompts alone: seed, mix, strength and teacher are
    # its own.
    seed, mix = adapter.provenance.get("seed", 0), adapter.provenance.get("mix", "pool")
    imprint = adapter.recipe.imprint if adapter.is_imprinted else None
    teacher: Teacher = imprint.teacher if imprint else "generator"
    if teacher == "generator":
        loaded.resident()  # refuses at once what the first control would need
    shared = loaded.fit_shared()
    memory = PromptMemory() if memory is None else memory
    elsewhere = () if len(counting) > 1 else (_unlike(loaded, counting[0], seed, memory),)
    pairs = others(counting, elsewhere)
    measured = [some_prompts(mine, MAX_PROMPTS // len(pairs) or 1) for mine, _ in pairs]
    ends = list(itertools.accumulate(map(len, measured)))
    everyone = range(ends[-1])
    candidates: list[Candidate] = [("adapter", loaded.fit(adapter), everyone)]
    if shared is not None:
        candidates.append(("mean", shared, everyone))
    candidates.append(("base", None, everyone))

    def report(doing: Doing, done: int) -> Progress:
        return Progress("decode", done / (len(pairs) + 1), time.monotonic() - started, doing)

    def put(name: ControlName, source: Sequence[Bucket], numbers: Sequence[int]) -> bool:
        try:
            # Never across a `yield`: the caller of this generator would become patient too.
            with patient():
                made = generate(
                    source,
                    mix=mix,
                    strength=adapter.strength,
                    seed=seed,
                    imprinted=adapter.is_imprinted,
                    teacher=teacher,
                    memory=memory,
                )
        except ImprintError:
            # Without a generator, prompts without an instruction to imprint make no adapter.
            return False
        if name == "wrong" and adapter.is_imprinted and not made.is_imprinted:
            # With one, they do: an adapter that lacks the imprint, not just these prompts.
            return False
        candidates.append((name, loaded.fit(made), numbers))
        return True

    if loaded.generator is not None:  # shuffled prompts have no instruction to imprint
        yield report("shuffled", 0)
        put("shuffled", shuffled(counting, seed), everyone)
    wrong_from: dict[str, None] = {}
    for number, ((_, wrong), part, end) in enumerate(zip(pairs, measured, ends, strict=True)):
        if not part:
            continue
        yield report("wrong", number + 1)
        if not put("wrong", wrong, range(end - len(part), end)):
            # The control would lack these prompts, and the comparison is over all of them.
            candidates = [found for found in candidates if found[0] != "wrong"]
            wrong_from.clear()
            break
        wrong_from |= dict.fromkeys(bucket.name for bucket in wrong)
    seconds = time.monotonic() - started
    yield Progress("check", None, seconds, "compare_adapters", num_prompts=len(everyone))
    # The shared part would win on answers of its own, so an imprint is judged by its teacher's.
    references = [
        reference_of(loaded, _alone(mine), imprint, part, memory)
        for (mine, _), part in zip(pairs, measured, strict=True)
    ]
    with patient():
        return compare_conditions(loaded.runtime, references, candidates, [*wrong_from])


def _unlike(loaded: Loaded, bucket: Bucket, seed: int, memory: PromptMemory) -> Bucket:
    """Return the shipped example whose prompts are least similar to a bucket's."""
    examples = [example.read() for example in load_examples()]
    here, *there = (
        nn.functional.normalize(
            loaded.encode(loaded.draw([one], seed), memory).pooled.mean(dim=0), dim=0
        )
        for one in (_alone(bucket), *examples)
    )
    return min(zip(there, examples, strict=True), key=lambda pair: float(pair[0] @ here))[1]


def _alone(bucket: Bucket) -> Bucket:
    """Return a bucket to draw from: in a sum its weight may be negative, which a draw refuses."""
    return replace(bucket, weight=1.0)
