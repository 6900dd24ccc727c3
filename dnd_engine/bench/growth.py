"""How seconds and memory grow with the work: prompts, buckets, visitors, conversation, library.

Each size is measured once, smallest first, so the figures are rougher than the ratios of `bench`.
"""

import os
import random
import shutil
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from tqdm import tqdm

from dnd_engine.bench.measurement import (
    instructed_bucket,
    prompt_bucket,
    resident_megabytes,
    seconds_per_token,
    timed,
)
from dnd_engine.charts import Chart, Line, Scale, clock, line_chart, svg_file
from dnd_engine.config import ImprintConfig, Sampling
from dnd_engine.engine import Engine
from dnd_engine.library import Library
from dnd_engine.lora.adapter import Adapter
from dnd_engine.models.base import BaseModel
from dnd_engine.models.replies import Reply
from dnd_engine.progress import finish
from dnd_engine.prompts.buckets import Bucket

_QUESTION = "Tell me a long story about dragons."


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthConfig:
    """The sizes to measure."""

    prompts: tuple[int, ...] = (16, 128, 1_000, 10_000)
    buckets: tuple[int, ...] = (1, 4, 16, 32)
    """Numbers of buckets. Each has `bucket_prompts` prompts, and all are imprinted together."""
    bucket_prompts: int = 16
    visitors: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Numbers of simultaneous twin chats."""
    conversation: tuple[int, ...] = (64, 512, 2_048, 7_900)
    """Tokens of context before the answer. Sizes beyond the base's limit are skipped."""
    library: tuple[int, ...] = (10, 100, 1_000, 10_000)
    """Numbers of adapters in the library."""
    answer_tokens: int = 16
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthPoint:
    """One measurement of one kind of work at one size."""

    work: str
    """The kind of work, in words."""
    unit: str
    """What `amount` counts."""
    amount: int
    seconds: float
    memory_mb: float
    """Resident memory afterwards, minus that before the first size of this work."""


@dataclass(frozen=True, slots=True)
class _Work:
    name: str
    unit: str
    amounts: Sequence[int]
    run: Callable[[int], object]
    """Does the work of an amount. A number that it returns counts as its seconds."""


def growth(engine: Engine, config: GrowthConfig | None = None) -> Iterator[GrowthPoint]:
    """Measure each size of each kind of work in turn.

    Yields:
        One point per size, grouped by kind of work.
    """
    config = config or GrowthConfig()
    adapter = engine.generate([prompt_bucket(16, config.seed)], imprinted=False)
    with _libraries(adapter, config.library) as libraries:
        works = [
            *_making(engine, adapter, config),
            *_chatting(engine, adapter, config),
            _Work("a library listed", "adapters", config.library, lambda n: libraries[n].entries()),
        ]
        total = sum(len(work.amounts) for work in works)
        with tqdm(total=total, desc="Growth", unit="size") as bar:
            for work in works:
                before = resident_megabytes()
                for amount in work.amounts:
                    with timed(torch.device(engine.info.device)) as spent:
                        found = work.run(amount)
                    seconds = found if isinstance(found, float) else spent[0]
                    del found  # or what it made would count as memory
                    yield GrowthPoint(
                        work=work.name,
                        unit=work.unit,
                        amount=amount,
                        seconds=seconds,
                        memory_mb=round(resident_megabytes() - before, 1),
                    )
                    bar.update()


def _making(engine: Engine, adapter: Adapter, config: GrowthConfig) -> Iterator[_Work]:
    """Make adapters from more and more prompts, then from more and more buckets."""
    seed = config.seed
    read = {n: prompt_bucket(n, seed) for n in config.prompts}
    fitted = {n: instructed_bucket(n, seed) for n in config.prompts}
    names = [f"bench {number}" for number in range(max(config.buckets, default=0))]
    several = [instructed_bucket(config.bucket_prompts, seed, name) for name in names]

    def write(number: int) -> None:
        engine.generate([read[number]], imprinted=False)

    def imprint(buckets: Sequence[Bucket]) -> None:
        finish(engine.imprint(adapter, buckets, ImprintConfig(seed=seed)))

    yield _Work("an adapter written", "prompts", config.prompts, write)
    yield _Work(
        "its instruction imprinted", "prompts", config.prompts, lambda n: imprint([fitted[n]])
    )
    yield _Work("a mix imprinted", "buckets", config.buckets, lambda n: imprint(several[:n]))


def _chatting(engine: Engine, adapter: Adapter, config: GrowthConfig) -> Iterator[_Work]:
    """Time twin chats for more and more visitors, then after longer and longer conversations."""
    tokens, device = config.answer_tokens, torch.device(engine.info.device)
    limit = int(engine.base.config["max_position_embeddings"]) - tokens
    lengths = [n for n in config.conversation if n <= limit]
    texts = {n: _text_of(engine.base, n, config.seed) for n in lengths}

    def answer(text: str, tokens: int) -> Iterator[Sequence[Reply]]:
        messages = [{"role": "user", "content": text}]
        sampling = Sampling(max_new_tokens=tokens)
        return engine.compare([messages, messages], [None, adapter], sampling=sampling)

    def together(visitors: int) -> None:
        with ThreadPoolExecutor(visitors) as pool:
            list(pool.map(lambda _: list(answer(_QUESTION, tokens)), range(visitors)))

    yield _Work("twin chats at once", "visitors", config.visitors, together)
    unit = "tokens of conversation"
    yield _Work("the first token of a twin", unit, lengths, lambda n: list(answer(texts[n], 1)))
    yield _Work(
        "each further token of a twin",
        unit,
        lengths,
        lambda n: seconds_per_token(answer(texts[n], tokens), device),
    )


def growth_svg(points: Sequence[GrowthPoint]) -> str:
    """Draw one chart for each kind of work, both axes logarithmic."""
    charts = [
        _chart(name, list(group)) for name, group in groupby(points, lambda point: point.work)
    ]
    return svg_file(charts)


def _chart(work: str, points: Sequence[GrowthPoint]) -> Chart:
    # A logarithmic axis has no place for 0.
    amounts, seconds = [p.amount for p in points], [max(p.seconds, 1e-4) for p in points]
    x, y = Scale.log(amounts[0], amounts[-1]), Scale.log(min(seconds), max(seconds), clock)
    values = ", ".join(f"{a:,}: {clock(s)}" for a, s in zip(amounts, seconds, strict=True))
    line = Line(list(zip(amounts, seconds, strict=True)), "own", style="marked")
    unit = points[0].unit
    return line_chart([line], x, y, f"{work}, by {unit}. {values}", axis=unit).titled(
        work.capitalize(), "seconds"
    )


def _text_of(base: BaseModel, tokens: int, seed: int) -> str:
    """Return a message of about this many tokens, chat template included."""
    words = random.Random(seed).choices(("the", "city", "was", "long", "kind"), k=tokens)
    # Exact to a 64th of the length, so that few candidates are tokenised.
    lengths = range(0, tokens, max(1, tokens // 64))

    def message(count: int) -> str:
        return " ".join([*words[:count], _QUESTION])

    # Search for the largest number of words that fits; more words always give more tokens.
    fits = bisect_right(lengths, tokens, key=lambda count: len(base.chat_ids(message(count))))
    return message(lengths[max(fits - 1, 0)])


@contextmanager
def _libraries(adapter: Adapter, sizes: Sequence[int]) -> Iterator[dict[int, Library]]:
    """Make libraries of many adapters that share one adapter's files on disk."""
    with tempfile.TemporaryDirectory() as root:
        found: dict[int, Library] = {}
        for size in sizes:
            library = found[size] = Library(Path(root) / str(size))
            first = library.path(library.add(adapter).name)
            for number in range(1, size):
                # Hard links, because 10,000 copies would fill gigabytes. Keys are 12 hex digits.
                shutil.copytree(first, first.with_name(f"{number:012x}"), copy_function=os.link)
        yield found
