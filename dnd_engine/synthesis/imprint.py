"""Imprints the instructions of buckets: selects teachers and left-out prompts, stores the result.

The regression itself is `dnd_engine.imprint`.
"""

import time
from collections.abc import Generator as Steps
from collections.abc import Iterator, Sequence
from dataclasses import replace

from dnd_engine.checks.subject import Reference
from dnd_engine.checks.verdict import are_alike, imprinting_of
from dnd_engine.config import ImprintConfig, Mix, Teacher, check_teacher
from dnd_engine.errors import ImprintError
from dnd_engine.imprint.fit import Imprinted, ImprintStep, Source, imprint
from dnd_engine.imprint.left_out import leave_out
from dnd_engine.lora.adapter import Adapter
from dnd_engine.lora.provenance import Imprinting
from dnd_engine.lora.seen import Seen, digests, with_met
from dnd_engine.models.encoder import PromptMemory
from dnd_engine.models.turns import urgently
from dnd_engine.notes import Note, counted, noted
from dnd_engine.progress import Progress, each_as
from dnd_engine.prompts.buckets import Bucket, check_buckets, measured_prompts
from dnd_engine.prompts.split import split_prompt
from dnd_engine.synthesis.loaded import Loaded
from dnd_engine.synthesis.write import blank


def imprint_adapter(
    loaded: Loaded,
    adapter: Adapter,
    buckets: Sequence[Bucket],
    config: ImprintConfig,
    *,
    teacher: Teacher = "generator",
    memory: PromptMemory | None = None,
) -> Steps[Progress, None, Adapter]:
    """Write the instructions of prompts into an adapter; see `Engine.imprint`."""
    check_teacher(teacher)
    loaded.check_made_here(adapter)
    if loaded.generator is None:
        teacher = "base"
    if adapter.was_trained:
        raise ImprintError(
            "`{adapter}` was trained after it was generated, and an imprint would replace what it "
            "learnt. Imprint the adapter it was trained from.",
            adapter=adapter.name,
        )
    started = time.monotonic()
    checked = check_buckets(buckets, loaded.config.limits)
    counting = [(bucket, pairs) for bucket in checked if (pairs := _imprintable(bucket))]
    if not counting:
        raise ImprintError(
            noted(
                "no prompt has an instruction and an input. Write the instruction, a blank line, "
                "then the input; or give all of them one instruction."
            )
        )
    parts = [leave_out(pairs, config, len(counting)) for _, pairs in counting]
    sources = [
        Source(
            prompts=tuple(fitted),
            teacher=None if teacher == "base" else loaded.fit_teacher(bucket, config, memory),
            weight=bucket.weight,
        )
        for (bucket, _), (fitted, _) in zip(counting, parts, strict=True)
    ]
    # What one bucket leaves out may be fitted with another, which has the same prompt.
    left_out = digests(text for _, others in parts for text, _ in others)
    left_out -= digests(text for fitted, _ in parts for text, _ in fitted)
    made = yield from _solve(loaded, sources, config, started)
    fitted = {b.name: num for (b, _), num in zip(counting, made.num_by_source, strict=True)}
    skipped = [_skipped(bucket, config) for bucket in checked if not fitted.get(bucket.name)]
    for (bucket, _), (_, others), number in zip(
        counting, parts, made.too_long_by_source, strict=True
    ):
        ids = (loaded.base.chat_ids(text) for text, _ in others)
        too_long = number + sum(len(row) > config.max_tokens for row in ids)
        if too_long and fitted[bucket.name]:
            skipped.append(_too_long(bucket, too_long, config))
    shares = zip(counting, made.commonest_by_source, strict=True)
    alike = tuple(b.name for (b, _), share in shares if are_alike(share, fitted[b.name]))
    found = Imprinting.of(
        config,
        teacher=teacher,
        teacher_sha256="" if teacher == "base" else loaded.teacher_sha256(config),
        left_out=tuple(sorted(left_out)),
        # A recipe sets the strength at its end, so it imprints at strength 1.
        from_sha256=adapter.with_strength(1).sha256,
        num_prompts=made.num_prompts,
        num_answers=made.num_answers,
        commonest_share=made.commonest_share,
        one_answer=alike if len(counting) > 1 else (),
        unfinished=made.unfinished,
        layers=made.layers,
    )
    # Left-out prompts count as seen too: the generator reads them, and later the checks.
    read = {text for _, pairs in counting for text, _ in pairs}
    took = time.monotonic() - started
    return adapter.with_tokens(
        made.tokens,
        layout=made.layout,
        provenance=with_met({**adapter.provenance, "imprint": found.to_json()}, read, labels=False),
        # It starts afresh, so without a generator's weights before it, it is the whole.
        seconds={**adapter.seconds, "imprint": took}
        | ({} if adapter.is_generated else {"total": took}),
        # An earlier imprint may have failed, on other prompts.
        not_imprinted="",
        skipped_buckets=tuple(skipped),
    )


def _solve(
    loaded: Loaded, sources: Sequence[Source], config: ImprintConfig, started: float
) -> Steps[Progress, None, Imprinted]:
    """Query the teachers and fit the layers, as urgent work that lets first adapters go before."""

    def measuring(share: float) -> Progress:
        return Progress("ask", share, time.monotonic() - started, "measure_ordinary")

    # The penalties come before the work counts as urgent: patient work may be taking a step of the
    # same measurement, and takes none while anything is urgent.
    penalties = yield from each_as(loaded.ordinary.penalties(config, len(sources)), measuring)
    lock = loaded.runtime.lock
    steps = urgently(lock, imprint(loaded.runtime, sources, penalties, config))

    def words(step: ImprintStep) -> Progress:
        lock.wait_for_awaited()  # between two steps, so without holding the lock
        return Progress(
            step.stage,
            step.done / step.total,
            time.monotonic() - started,
            "ask_with_instruction" if step.stage == "ask" else "fit_layer",
            done=step.done,
            total=step.total,
        )

    return (yield from each_as(steps, words))


def imprint_alone(
    loaded: Loaded,
    buckets: Sequence[Bucket],
    config: ImprintConfig,
    *,
    mix: Mix = "pool",
    strength: float = 1.0,
) -> Steps[Progress, None, Adapter]:
    """Make an adapter from the base's own answers, without a generator."""
    start = blank(loaded, buckets, config, mix)
    made = yield from imprint_adapter(loaded, start, buckets, config, teacher="base")
    return made.with_strength(strength)


def reference_of(
    loaded: Loaded,
    bucket: Bucket,
    found: Imprinting | None,
    prompts: Sequence[str],
    memory: PromptMemory | None = None,
) -> Reference:
    """Return the teacher whose answers to prompts of a bucket an adapter is held against.

    `found` is how it was imprinted. If it was not, it is held against the shared part.
    """
    if found is None:
        return Reference(bucket.name, loaded.fit_shared(), prompts)
    teacher = None if found.teacher == "base" else loaded.fit_teacher(bucket, found, memory)
    return Reference(bucket.name, teacher, prompts)


def references(
    loaded: Loaded, adapter: Adapter, buckets: Sequence[Bucket]
) -> Iterator[tuple[bool, Sequence[Reference]]]:
    """Return the adapter's teachers with prompts, first with prompts it was not fitted to."""
    if (found := imprinting_of(adapter)) is None:
        yield False, [Reference("", loaded.fit_shared(), measured_prompts(buckets))]
        return
    if loaded.generator is None and found.teacher != "base":
        return  # its teacher came with its generator
    taught = [
        reference_of(loaded, bucket, found, measured_prompts([bucket], most=None))
        for bucket in buckets
        if _imprintable(bucket)
    ]
    # Prompts that it never read test it just as left-out ones do, so only fitted ones are excluded.
    fitted = Seen.by(adapter.provenance).read - frozenset(found.left_out)
    for left_out in (True, False):
        kept = [
            replace(reference, prompts=texts)
            for reference in taught
            if (
                texts := [
                    text
                    for text in reference.prompts
                    if not (left_out and digests([text]) <= fitted)
                ]
            )
        ]
        yield left_out, kept


def _imprintable(bucket: Bucket) -> list[tuple[str, str]]:
    """Return a bucket's prompts with their inputs, in an order that does not depend on the files'.

    Empty for a negative weight, because an instruction has no opposite.
    """
    if bucket.weight <= 0:
        return []
    split = ((p.text, split_prompt(p.text).input) for p in bucket.prompts)
    return sorted((text, given) for text, given in split if given is not None)


def _skipped(bucket: Bucket, config: ImprintConfig) -> Note:
    """Say why a bucket was left out, beside others that were imprinted."""
    if bucket.weight < 0:
        return noted(
            "Bucket `{bucket}` was not imprinted: its weight is negative, and an instruction has "
            "no opposite.",
            bucket=bucket.name,
        )
    if bucket.num_without_instruction == bucket.num_prompts:
        return noted(
            "Bucket `{bucket}` was not imprinted: none of its prompts has an instruction.",
            bucket=bucket.name,
        )
    return noted(
        "Bucket `{bucket}` was not imprinted: its prompts are too long (the limit is about {words} "
        "words), or the model answers nothing to them.",
        bucket=bucket.name,
        words=_max_words(config),
    )


def _too_long(bucket: Bucket, number: int, config: ImprintConfig) -> Note:
    return counted(
        "{number} prompt of bucket `{bucket}` was too long to be imprinted; the limit is about "
        "{words} words.",
        "{number} prompts of bucket `{bucket}` were too long to be imprinted; the limit is about "
        "{words} words.",
        number,
        bucket=bucket.name,
        words=_max_words(config),
    )


def _max_words(config: ImprintConfig) -> int:
    return config.max_tokens * 3 // 4
