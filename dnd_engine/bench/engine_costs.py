"""Costs of the resident engine: synthesis, imprint, chat, evaluation, and work beside others."""

import itertools
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from dnd_engine.bench.config import BUSY, BenchConfig
from dnd_engine.bench.measurement import (
    counted,
    instructed_bucket,
    prompt_bucket,
    seconds_per_token,
    story_question,
    timed,
)
from dnd_engine.bench.training_costs import GeneratorStep
from dnd_engine.config import ImprintConfig, Sampling
from dnd_engine.engine import Engine
from dnd_engine.errors import ChatError
from dnd_engine.lora.adapter import Adapter
from dnd_engine.models.encoder import PromptMemory
from dnd_engine.models.forward import HookedForward
from dnd_engine.models.packed import PackedForward
from dnd_engine.progress import finish
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.scoring.answers import answer, batches
from dnd_engine.scoring.questions import ask
from dnd_engine.tasks.folder import Example

_OPTIONS = 4
"""Answers of an examined item to choose from, the right one included."""

_MAX_NEW_TOKENS = 16
"""About what evaluated tasks allow: eight tokens more than their longest answer."""

Asked = Sequence[tuple[int, int]]
"""Questions of one task, each as the numbers of task and question."""


def bytes_per_token(model: nn.Module) -> int:
    """Return the bytes of weights read per token: all but the input embedding's unused rows."""
    total = sum(p.numel() * p.element_size() for p in model.parameters())
    embedding: Tensor = model.get_input_embeddings().weight  # type: ignore[operator]  # a method; torch's types say tensor
    # A tied embedding is the output layer as well, which reads every row.
    if model.get_output_embeddings().weight is not embedding:  # type: ignore[operator]  # a method; torch's types say tensor
        total -= embedding.numel() * embedding.element_size()
    return total


def synthesis(engine: Engine, config: BenchConfig, number: int) -> dict[str, float]:
    """Make, mix again, save and compare one adapter, as the page does before it is ready."""
    device, memory = torch.device(engine.info.device), engine.new_memory()
    bucket = prompt_bucket(config.num_prompts, config.seed)
    with timed(device) as spent:
        # The discarded round has number -1, and seeds begin at 0.
        made = engine.generate([bucket], seed=number + 1, imprinted=False, memory=memory)
    # Another draw from the same prompts, which `memory` holds encoded.
    with timed(device) as mixed:
        engine.generate([bucket], seed=number + 2, imprinted=False, memory=memory)
    with tempfile.TemporaryDirectory() as folder, timed(device) as saved:
        engine.save(made, Path(folder) / "bench.zip")
    with timed(device) as sized:
        engine.relative_norms(made)
        engine.thumbprint(made)
    parts = {
        "encode": made.seconds["encode"],
        "decode": made.seconds["decode"],
        "compare": spent[0] - made.seconds["encode"] - made.seconds["decode"],
        "save": saved[0],
        "norms": sized[0],
    }
    return {
        "synthesis": spent[0],
        "remix": mixed[0],
        "ready": sum(parts.values()),
        **{f"ready.{name}": seconds for name, seconds in parts.items()},
    }


def synthesis_flops(engine: Engine, config: BenchConfig) -> float:
    """Count the operations of one synthesis."""
    bucket = prompt_bucket(config.num_prompts, config.seed)
    return counted(lambda: engine.generate([bucket], imprinted=False))


def imprint(engine: Engine, config: BenchConfig, number: int) -> dict[str, float]:
    """Make an adapter and imprint it, on few and on many prompts: chat may begin in between."""
    device, found = torch.device(engine.info.device), dict[str, float]()
    for size, num_prompts in zip(("small", "large"), config.imprinted_prompts, strict=True):
        bucket, memory = instructed_bucket(num_prompts, config.seed), engine.new_memory()
        with timed(device) as written:
            made = _hand_over(engine, bucket, number, memory)
        with timed(device) as imprinted:
            finish(engine.imprint(made, [bucket], ImprintConfig(seed=number + 1), memory=memory))
        found |= {f"handed_over_{size}": written[0], f"imprint_{size}": imprinted[0]}
    return found


def _hand_over(
    engine: Engine, bucket: Bucket, number: int, memory: PromptMemory | None = None
) -> Adapter:
    """Make an adapter and verify its files: chat begins when stock PEFT has read them back."""
    made = engine.generate([bucket], seed=number + 1, imprinted=False, memory=memory)
    engine.verify(made, made.files())
    return made


def crowd(engine: Engine, config: BenchConfig, number: int) -> dict[str, float]:
    """Hand adapters over to visitors one by one, then to all who ask at once.

    As on the page, weights are written for one visitor after the other. Beside that, what was
    handed over is imprinted, also one after the other.
    """
    device, size = torch.device(engine.info.device), config.imprinted_prompts[0]
    names = [f"visitor {visitor}" for visitor in range(config.visitors)]
    buckets = [instructed_bucket(size, config.seed, name) for name in names]
    with timed(device) as alone:
        for bucket in buckets:
            _hand_over(engine, bucket, number)
    served = threading.Event()

    def imprint_until_served(made: Adapter, bucket: Bucket) -> None:
        with closing(engine.imprint(made, [bucket], ImprintConfig(seed=number + 1))) as steps:
            for _ in steps:
                if served.is_set():
                    return

    with ThreadPoolExecutor(1) as writing, ThreadPoolExecutor(1) as imprinting:
        with timed(device) as at_once:
            waiting = [writing.submit(_hand_over, engine, bucket, number) for bucket in buckets]
            begun = [
                imprinting.submit(imprint_until_served, asked.result(), bucket)
                for asked, bucket in zip(waiting, buckets, strict=True)
            ]
        served.set()
        for run in begun:
            run.result()
    return {"crowd_alone": alone[0], "crowd_at_once": at_once[0]}


class Chat:
    """Seconds per token for one answer, for two at once, and for two with changing strength."""

    def __init__(self, engine: Engine, config: BenchConfig) -> None:
        self._engine = engine
        self._device = torch.device(engine.info.device)
        self._sampling = Sampling(max_new_tokens=config.chat_tokens)
        self._adapter = engine.generate(
            [prompt_bucket(config.num_prompts, config.seed)], imprinted=False
        )
        # What the page chats with in the end: fewer layers change.
        self._imprinted = engine.generate(
            [instructed_bucket(config.imprinted_prompts[0], config.seed)]
        )

    def __call__(self, number: int) -> dict[str, float]:
        """Time one answer, two, and two whose strength changes."""
        runtime = self._engine.runtime
        found = {
            "chat_single": self._per_token([None], number),
            "chat_twin": self.twin(number),
            "chat_turned": self._per_token([None, self._adapter], number, turned=True),
        }
        # Where a base answers nothing, `generate` returns the generator's own adapter.
        if self._imprinted.is_imprinted:
            found["chat_imprinted"] = self._per_token([None, self._imprinted], number)
        # Otherwise the twin above ran through the modules already.
        if isinstance(runtime.forward, PackedForward):
            modules = HookedForward(runtime.base, runtime.host.applying)
            with runtime.through(modules):
                found["chat_modules"] = self.twin(number)
        return found

    def twin(self, number: int) -> float:
        """Return the seconds per token when base and adapter answer together."""
        return self._per_token([None, self._adapter], number)

    def _per_token(
        self, adapters: list[Adapter | None], number: int, *, turned: bool = False
    ) -> float:
        # Some questions are answered with one token, which leaves nothing to time: ask others.
        for attempt in range(10):
            question = story_question(number + 2 + 100 * attempt)
            # Alternating, so that the adapter is fitted again at every token.
            strengths = itertools.cycle((0.9, 1.1)).__next__ if turned else None
            steps = self._engine.compare(
                [[{"role": "user", "content": question}] for _ in adapters],
                adapters,
                sampling=self._sampling,
                strengths=[strengths if adapter else None for adapter in adapters],
            )
            if seconds := seconds_per_token(steps, self._device):
                return seconds
        raise ChatError(
            "the base ended ten answers after one token, so chat cannot be timed. Leave it out: "
            "--only synthesis,training."
        )


class Examination:
    """Seconds per item, with an adapter for each task as in the row `generator`."""

    def __init__(self, engine: Engine, config: BenchConfig) -> None:
        self._runtime = engine.runtime
        num_tasks, num_items = config.examined_items
        names = [f"task {number}" for number in range(1, num_tasks + 1)]
        buckets = [instructed_bucket(num_items, config.seed, name) for name in names]
        made = [engine.generate([bucket], imprinted=False) for bucket in buckets]
        self._layout = made[0].layout
        self._tokens = torch.stack([adapter.scaled_tokens.float() for adapter in made])
        tokenizer = self._runtime.base.tokenizer
        self._questions = [
            [
                ask(tokenizer, _item(prompt.text), "full", max_new_tokens=_MAX_NEW_TOKENS)
                for prompt in bucket.prompts
            ]
            for bucket in buckets
        ]

    def __call__(self, number: int) -> dict[str, float]:
        """Time all items in batches, and one of each task alone through transformers' modules."""
        runtime, questions = self._runtime, self._questions
        together = list(batches(questions, shared=False))
        alone = [[[(task, number % len(asked))]] for task, asked in enumerate(questions)]
        modules = HookedForward(runtime.base, runtime.host.applying)
        found = {"examination": self._per_item(together)}
        with runtime.through(modules):
            found["examination_loop"] = self._per_item(alone)
        return found

    def _per_item(self, work: Sequence[Sequence[Asked]]) -> float:
        with timed(self._runtime.base.device) as spent:
            for batch in work:
                tasks = [part[0][0] for part in batch]
                fitted = self._runtime.host.fit(self._tokens[tasks], self._layout)
                asked = [[self._questions[task][item] for task, item in part] for part in batch]
                answer(self._runtime, asked, fitted)
        return spent[0] / sum(len(part) for batch in work for part in batch)


def _item(prompt: str) -> Example:
    """Make an item from a prompt that asks for the last word of its line."""
    options = tuple(dict.fromkeys(prompt.split()[::-1]))[:_OPTIONS]
    return Example(prompt, options[0], options)


class Contended:
    """A twin chat's token, a synthesis and a training step, alone and beside busy processes."""

    def __init__(self, engine: Engine, config: BenchConfig) -> None:
        self._engine = engine
        self._config = config
        self._chat = Chat(engine, config)
        self._training = GeneratorStep(engine, config)

    def __call__(self, number: int) -> dict[str, float]:
        """Measure without and with the busy processes."""
        found = {f"{name}_alone": value for name, value in self._measured(number).items()}
        with _busy_loops(BUSY, self._config.settle_seconds):
            found |= {f"{name}_contended": value for name, value in self._measured(number).items()}
        return found

    def _measured(self, number: int) -> dict[str, float]:
        bucket = prompt_bucket(self._config.num_prompts, self._config.seed)
        with timed(torch.device(self._engine.info.device)) as spent:
            self._engine.generate([bucket], seed=number + 1, imprinted=False)
        return {
            "twin": self._chat.twin(number),
            "synthesis": spent[0],
            "training": self._training.step(self._training.batch(number)),
        }


@contextmanager
def _busy_loops(count: int, settle_seconds: float) -> Iterator[None]:
    """Run processes that compute endlessly for the duration of the `with` block."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        # Wait until they have started and actually occupy the cores.
        time.sleep(settle_seconds)
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


class Copy:
    """A large memory copy: the upper bound for decoding speed."""

    def __init__(self, engine: Engine, config: BenchConfig) -> None:
        size = config.copy_megabytes * 1_000_000
        self._source = torch.zeros(size, dtype=torch.uint8, device=engine.base.device)
        self._target = torch.empty_like(self._source)

    def __call__(self, _number: int) -> dict[str, float]:
        """Return the fastest of three copies."""
        found = []
        for _ in range(3):
            with timed(self._source.device) as spent:
                self._target.copy_(self._source)
            found.append(spent[0])
        # The fastest, because an upper bound is what the machine can do when nothing disturbs it.
        return {"copy": min(found)}
