"""What synthesis, chat and training cost here, each beside what it is compared with.

Everything of a ratio is measured in turns in one run, so that a busy machine slows both sides. The
numbers are of this machine and this moment; the ratios travel better. Needs no task folder: prompts
and examples are made up, in the shapes that training has. Knows the engine and stock PEFT; knows no
quality.
"""

import itertools
import math
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch
from jaxtyping import Bool, Int
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from dnd_engine.config import Sampling, check_least
from dnd_engine.engine import Engine
from dnd_engine.errors import ChatError, ConfigError
from dnd_engine.generator.config import GeneratorConfig, trained_steps
from dnd_engine.generator.folder import Generator
from dnd_engine.generator.report import Report
from dnd_engine.lora.adapter import Adapter
from dnd_engine.models.attention import as_argument, masks_for
from dnd_engine.models.base import BaseModel, best_dtype, last_hidden, load_base, logits_of
from dnd_engine.models.forward import HookedForward, PackedForward
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.files import from_texts
from dnd_engine.training.examples import EncodedExample, PackedExamples, pack, response_losses
from dnd_engine.training.recipe import TrainRecipe

__all__ = [
    "SECTIONS",
    "BenchConfig",
    "BenchResult",
    "account",
    "bench",
    "bytes_per_token",
    "summarise",
]

SECTIONS = ("synthesis", "chat", "training", "contended")

_LORA_STEPS = 40
"""Steps of the LoRA run that synthesis is compared with. Source: procedural tasks are learnt in 40
steps of 8 examples (feasibility runs)."""

_RECIPE: Mapping[str, Any] = {f.name: f.default for f in fields(TrainRecipe)}

_BUSY = 2
"""Processes that contend for the cores."""

_STEP = ("tasks_per_step", "examples_per_task", "row_tokens")
"""Sizes of a training step."""

_MOST_OF_A_STEP = 16
"""A folder may say that its training steps were this many times as large as usual; what is beyond
is not believed, for it would fill the memory."""

_WORDS = ("the", "film", "letter", "city", "was", "long", "kind", "in", "and", "never", "early")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchConfig:
    """What is measured, and how long it may take."""

    only: tuple[str, ...] = SECTIONS
    """Some of `SECTIONS`."""
    rounds: int = 5
    """Every measurement is taken once a round; medians are reported. One round before is thrown
    away."""
    lora_steps: int = 8
    """Steps of the LoRA run in a round. Five rounds of 8 are the whole run of 40; fewer are scaled
    up to it, and the result says so."""
    lora_examples: int = 8
    """Examples in each of these steps."""
    example_tokens: int = 64
    """Tokens of such an example; also of a row where training is compared with ordinary rows."""
    num_prompts: int = 128
    """Prompts of the synthesis; all are as long as the encoder reads."""
    chat_tokens: int = 32
    """Tokens of an answer at most."""
    tasks_per_step: int = 0
    examples_per_task: int = 0
    """At most."""
    row_tokens: int = 0
    """As many examples of a task as fit so many tokens are taken. 0, for these three, is what the
    loaded generator was trained with, or the recipe's default where it does not say."""
    own_tokens: tuple[int, int] = (30, 70)
    """Least and most tokens of a training example after the prefix that all share."""
    prefix_tokens: int = 24
    """How much of that prefix is the chat template's system prompt."""
    answer_tokens: int = 8
    """Tokens of an answer, the only ones with a loss."""
    copy_megabytes: int = 256
    """Size of the copy that memory bandwidth is measured with, far beyond any cache."""
    settle_seconds: float = 1.0
    """How long busy processes run before something is measured beside them."""
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.only if name not in SECTIONS]
        if unknown or not self.only:
            raise ConfigError(
                f"`only` must be some of {', '.join(SECTIONS)}, got {', '.join(unknown) or 'none'}."
            )
        counts = ("rounds", "lora_steps", "lora_examples", "num_prompts")
        check_least(self, 1, *counts, "answer_tokens", "copy_megabytes")
        check_least(self, 0, *_STEP)
        check_least(self, 2, "chat_tokens")
        shortest = min(self.own_tokens[0], self.example_tokens - 1)
        if shortest <= self.answer_tokens or self.own_tokens[1] < self.own_tokens[0]:
            raise ConfigError(
                f"examples of {self.own_tokens[0]} to {self.own_tokens[1]} and of "
                f"{self.example_tokens} tokens must have room for an answer of "
                f"{self.answer_tokens}."
            )

    def of(self, training: Mapping[str, Any]) -> "BenchConfig":
        """With the sizes of a training step filled in.

        Args:
            training: What a generator's folder says of its training; may be empty.
        """
        recipe = training.get("recipe")
        theirs = recipe if isinstance(recipe, dict) else {}
        found: dict[str, Any] = {}
        for name in _STEP:
            value, usual = theirs.get(name), _RECIPE[name]
            sound = type(value) is int and 1 <= value <= _MOST_OF_A_STEP * usual
            found[name] = getattr(self, name) or (value if sound else usual)
        return replace(self, **found)

    def quick(self) -> "BenchConfig":
        """The same with fewer rounds, and a LoRA run scaled up from four steps."""
        return replace(self, rounds=2, lora_steps=2, chat_tokens=16)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """Measured costs; `to_json` is what `dnd bench --json` prints."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Medians. Chat per token, training per step, `lora_run` for all its steps; `lora_equal` for as
    many as the generator's report says it takes to score as much, `generator_training` for as many
    as the loaded generator was trained."""
    ratios: dict[str, float] = field(default_factory=dict)
    """Medians over the rounds of the ratio within a round; but `lora_over_synthesis` is the LoRA
    run's mean over synthesis's median, since a run pays for its slow steps too."""
    flops: dict[str, float] = field(default_factory=dict)
    """Floating point operations, counted as torch runs them, once: a synthesis and the LoRA run.
    Elementwise operations do not count, nor does the CPU's fused
    attention, which torch has no formula for."""
    tokens_per_second: dict[str, float] = field(default_factory=dict)
    """Positions of the base computed in training, padding included; tokens written in chat."""
    ready_parts: dict[str, float] = field(default_factory=dict)
    """Seconds of each part of `ready`, medians: prompts read, weights written, training tasks
    compared with; the zip written and read back by stock PEFT; norms by layer."""
    memory_mb: dict[str, float] = field(default_factory=dict)
    """Resident memory of the process: `idle` with everything loaded, `peak` after synthesis and
    chat, `peak_training` after all."""
    machine: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What must be known to read the numbers."""

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def bench(engine: Engine, config: BenchConfig | None = None) -> BenchResult:
    """Measure what the configuration asks for.

    Training is measured with a new generator of the loaded one's sizes; the engine's own weights
    are not touched.

    Raises:
        ChatError: If the base ends every answer at once, so that chat cannot be timed.
    """
    loaded = _generator_config(engine)
    config = (config or BenchConfig()).of(loaded.training)
    equal_steps = _equal_steps(engine.reports)
    # Steps on weights are not the steps measured here.
    end_to_end = _objective(loaded.training) == "task_loss"
    steps = trained_steps(loaded.training) if end_to_end else 0
    with engine.exclusive() as (base, _):
        # What is read of it outside never changes: device, sizes, where it was loaded from.
        machine = _machine(base)
    memory = {"idle": _resident_megabytes()}
    resident: list[_Measurement] = []
    if "synthesis" in config.only:
        resident.append(_Synthesis(engine, config))
    if "chat" in config.only:
        resident += [_Chat(engine, config), _Copy(base, config)]
    if "contended" in config.only:
        resident.append(_Contended(engine, config))
    for measurement in resident:
        measurement(-1)
    if resident:
        memory["peak"] = _peak_megabytes()
    measurements = list(resident)
    if {"synthesis", "training"} & set(config.only):
        stock = _StockLoRA(engine, base)
        if "synthesis" in config.only:
            measurements.append(_LoRARun(stock, config))
        if "training" in config.only:
            measurements.append(_Training(engine, stock, config))
        for measurement in measurements[len(resident) :]:
            measurement(-1)
    flops = {name: count for m in measurements for name, count in m.flops().items()}
    rounds: list[dict[str, float]] = []
    for number in tqdm(range(config.rounds), desc="Bench", unit="round"):
        # There and back again, so that nothing always follows the same neighbour.
        order = measurements if number % 2 == 0 else measurements[::-1]
        rounds.append({})
        for measurement in order:
            rounds[-1] |= measurement(number)
    if len(measurements) > len(resident):
        memory["peak_training"] = _peak_megabytes()
    result = summarise(rounds, config, bytes_per_token(base.model), memory, machine)
    return account(result, flops, equal_steps, steps)


def account(
    result: BenchResult, flops: Mapping[str, float], equal_steps: int | None, steps: int
) -> BenchResult:
    """Add what follows from the times: operations, the run that scores as much, what training cost.

    Args:
        result: With seconds measured.
        flops: Of a synthesis and of a LoRA step, if measured.
        equal_steps: Steps of the shortest LoRA run that scores as the generator; None if unknown.
        steps: Steps that the loaded generator was trained end to end; 0 if unknown, or if it was
            trained otherwise.
    """
    seconds, ratios, notes = dict(result.seconds), dict(result.ratios), list(result.notes)
    counted: dict[str, float] = {}
    if flops:
        counted = {
            "synthesis": flops["synthesis"],
            "lora_run": flops["lora_step"] * _LORA_STEPS,
        }
        ratios["lora_over_synthesis_flops"] = counted["lora_run"] / counted["synthesis"]
        if equal_steps is not None:
            seconds["lora_equal"] = seconds["lora_run"] / _LORA_STEPS * equal_steps
            ratios["lora_equal_over_synthesis"] = seconds["lora_equal"] / seconds["synthesis"]
            notes.append(
                f"The generator's report says that a LoRA trained for {equal_steps} steps on the "
                "labels of the same prompts scores as its adapters do, on unseen tasks and bare "
                "inputs; `lora_equal` is so many of these steps."
            )
    if "train_step" in seconds and steps:
        seconds["generator_training"] = seconds["train_step"] * steps
        notes.append(
            f"The generator was trained for {steps} steps, end to end: no LoRAs had to be "
            "collected. `generator_training` is so many of the steps measured here, which are as "
            "large as those of its last run."
        )
        for name in ("lora_run", "lora_equal"):
            saved = seconds[name] - seconds["synthesis"] if name in seconds else 0
            if saved > 0:
                break_even = seconds["generator_training"] / saved
                ratios[f"tasks_to_pay_off_{name}"] = math.ceil(break_even)
    return replace(result, seconds=seconds, ratios=ratios, flops=counted, notes=tuple(notes))


def summarise(
    rounds: Sequence[Mapping[str, float]],
    config: BenchConfig,
    token_bytes: int,
    memory: dict[str, float],
    machine: dict[str, Any],
) -> BenchResult:
    """Medians and ratios of raw rounds.

    Args:
        rounds: What each measurement gave, by name; `.tokens` and `ready.` names are explained by
            the measurements below.
        config: Which sections there are, and their sizes.
        token_bytes: Weights that the base reads for one token.
        memory: As in the result.
        machine: Likewise.
    """
    names = [name for name in rounds[0] if "." not in name]
    seconds = {name: median(r[name] for r in rounds) for name in names}
    speeds: dict[str, float] = {}
    ratios: dict[str, float] = {}
    notes: list[str] = []
    if "synthesis" in config.only:
        steps = config.rounds * config.lora_steps
        # Not the median: a run pays for its slow steps too.
        seconds["lora_run"] = sum(r["lora_step"] for r in rounds) / len(rounds) * _LORA_STEPS
        ratios["lora_over_synthesis"] = seconds["lora_run"] / seconds["synthesis"]
        ratios["remix_over_synthesis"] = median(r["remix"] / r["synthesis"] for r in rounds)
        how = "measured whole" if steps >= _LORA_STEPS else f"scaled up from {steps} measured steps"
        notes.append(
            f"The LoRA run is {_LORA_STEPS} steps of {config.lora_examples} examples of "
            f"{config.example_tokens} tokens with stock PEFT, {how}; synthesis reads "
            f"{config.num_prompts} prompts, and a remix draws again from those it read. `ready` "
            "is all that the page does between the click and an adapter to use: synthesis, the zip "
            "read back by stock PEFT, norms by layer."
        )
    if "chat" in config.only:
        ratios["twin_over_single"] = median(r["chat_twin"] / r["chat_single"] for r in rounds)
        ratios["turned_over_twin"] = median(r["chat_turned"] / r["chat_twin"] for r in rounds)
        copied = 2 * config.copy_megabytes * 1_000_000
        ratios["bandwidth_share"] = median(
            (token_bytes / r["chat_single"]) / (copied / r["copy"]) for r in rounds
        )
        notes.append(
            f"Chat is greedy, seconds per token after the first, both answers of a twin counting "
            f"as one token; turned is a twin whose strength changes at every token. A token reads "
            f"{token_bytes / 1e6:.0f} MB of weights; bandwidth is "
            f"that of a {config.copy_megabytes} MB copy, read and write counted."
        )
        if "chat_modules" in rounds[0]:
            ratios["twin_over_modules"] = median(r["chat_twin"] / r["chat_modules"] for r in rounds)
            notes.append(
                "`chat_modules` is the same twin through transformers' own modules, as bases run "
                "whose weights cannot be packed."
            )
    if "contended" in config.only:
        for name in ("twin", "synthesis"):
            ratios[f"contended_over_alone_{name}"] = median(
                r[f"{name}_contended"] / r[f"{name}_alone"] for r in rounds
            )
        notes.append(
            f"Contended is beside {_BUSY} processes that do nothing but compute, in turn with the "
            "same without them."
        )
    if "training" in config.only:
        sides = ("train", "lora_packed", "lora_rows")
        rates = [{s: r[f"{s}.tokens"] / r[f"{s}_step"] for s in sides} for r in rounds]
        speeds |= {side: median(rate[side] for rate in rates) for side in sides}
        ratios["train_over_lora_throughput"] = median(
            rate["train"] / max(rate["lora_packed"], rate["lora_rows"]) for rate in rates
        )
        notes.append(
            f"Training steps have {config.tasks_per_step} tasks of up to "
            f"{config.examples_per_task} examples in {config.row_tokens} tokens. The "
            "LoRA they are compared with is stock PEFT in the base's dtype, with the same rank and "
            "targets, the same loss and AdamW: on the same packed batch "
            f"(lora_packed), and on ordinary rows of {config.example_tokens} tokens with as many "
            "positions (lora_rows); the ratio is to the faster one in each round."
        )

    ready = [name for name in rounds[0] if name.startswith("ready.")]
    return BenchResult(
        seconds=seconds,
        ratios=ratios,
        tokens_per_second=speeds,
        ready_parts={n.removeprefix("ready."): median(r[n] for r in rounds) for n in ready},
        memory_mb=memory,
        machine=machine,
        notes=tuple(notes),
    )


def bytes_per_token(model: nn.Module) -> int:
    """Weights read to write one token: all of them, but of the input embedding one row."""
    total = sum(p.numel() * p.element_size() for p in model.parameters())
    embedding: Tensor = model.get_input_embeddings().weight  # type: ignore[operator]  # a method; torch's types say tensor
    if model.get_output_embeddings().weight is not embedding:  # type: ignore[operator]  # a method; torch's types say tensor
        total -= embedding.numel() * embedding.element_size()
    return total


class _Measurement(ABC):
    """Something that is measured once a round."""

    @abstractmethod
    def __call__(self, number: int) -> dict[str, float]:
        """Measure, given the round's number, -1 for the one thrown away.

        Names without a dot are seconds; `side.tokens` are positions computed, `ready.name` seconds
        of a part of the way to an adapter that is ready.
        """

    def flops(self) -> dict[str, float]:
        """Floating point operations of what is compared; empty where they say nothing."""
        return {}


class _Synthesis(_Measurement):
    """Prompts to an adapter, models loaded, and to one that the page shows as ready."""

    def __init__(self, engine: Engine, config: BenchConfig) -> None:
        self._engine = engine
        self._device = torch.device(engine.info.device)
        self._bucket = _prompt_bucket(config.num_prompts, config.seed)

    def __call__(self, number: int) -> dict[str, float]:
        engine, memory = self._engine, self._engine.new_memory()
        with _timed(self._device) as spent:
            made = engine.generate([self._bucket], seed=number + 1, imprinted=False, memory=memory)
        with _timed(self._device) as mixed:
            engine.generate([self._bucket], seed=number + 2, imprinted=False, memory=memory)
        with tempfile.TemporaryDirectory() as folder, _timed(self._device) as saved:
            engine.save(made, Path(folder) / "bench.zip")
        with _timed(self._device) as sized:
            engine.relative_norms(made)
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

    def flops(self) -> dict[str, float]:
        return {
            "synthesis": _counted(lambda: self._engine.generate([self._bucket], imprinted=False))
        }


class _Chat(_Measurement):
    """Seconds per token of one answer, of two at once, and with another strength at each token."""

    def __init__(self, engine: Engine, config: BenchConfig) -> None:
        self._engine = engine
        self._device = torch.device(engine.info.device)
        self._sampling = Sampling(max_new_tokens=config.chat_tokens)
        self._adapter = engine.generate(
            [_prompt_bucket(config.num_prompts, config.seed)], imprinted=False
        )

    def __call__(self, number: int) -> dict[str, float]:
        runtime = self._engine.runtime
        found = {
            "chat_single": self._per_token([None], number),
            "chat_twin": self.twin(number),
            "chat_turned": self._per_token([None, self._adapter], number, turned=True),
        }
        if isinstance(runtime.forward, PackedForward):
            modules = HookedForward(runtime.base, runtime.host.applying, "the bench compares both")
            with runtime.through(modules):
                found["chat_modules"] = self.twin(number)
        return found

    def twin(self, number: int) -> float:
        """Seconds per token of a base and an adapter at once."""
        return self._per_token([None, self._adapter], number)

    def _per_token(
        self, adapters: list[Adapter | None], number: int, *, turned: bool = False
    ) -> float:
        for attempt in range(10):
            question = f"Tell me a long story about {number + 2 + 100 * attempt} dragons."
            strengths = itertools.cycle((0.9, 1.1)).__next__ if turned else None
            steps = self._engine.compare(
                [[{"role": "user", "content": question}] for _ in adapters],
                adapters,
                sampling=self._sampling,
                strengths=[strengths if adapter else None for adapter in adapters],
            )
            next(steps)
            with _timed(self._device) as spent:
                count = sum(1 for _ in steps)
            if count:
                return spent[0] / count
        raise ChatError(
            "the base ended ten answers after one token, so chat cannot be timed. Leave it out: "
            "--only synthesis,training."
        )


class _Contended(_Measurement):
    """A twin's token and a synthesis, alone and beside processes that keep the cores busy."""

    def __init__(self, engine: Engine, config: BenchConfig) -> None:
        self._engine = engine
        self._chat = _Chat(engine, config)
        self._bucket = _prompt_bucket(config.num_prompts, config.seed)
        self._device = torch.device(engine.info.device)
        self._settle_seconds = config.settle_seconds

    def __call__(self, number: int) -> dict[str, float]:
        found = {f"{name}_alone": value for name, value in self._measured(number).items()}
        with _busy_loops(_BUSY, self._settle_seconds):
            found |= {f"{name}_contended": value for name, value in self._measured(number).items()}
        return found

    def _measured(self, number: int) -> dict[str, float]:
        with _timed(self._device) as spent:
            self._engine.generate([self._bucket], seed=number + 1, imprinted=False)
        return {"twin": self._chat.twin(number), "synthesis": spent[0]}


@contextmanager
def _busy_loops(count: int, settle_seconds: float) -> Iterator[None]:
    """Processes that compute without end, for the time of the `with` block."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        # Until they have started, and their use of the cores can be seen.
        time.sleep(settle_seconds)
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


class _Copy(_Measurement):
    """A large copy in memory: what decoding could reach at best."""

    def __init__(self, base: BaseModel, config: BenchConfig) -> None:
        size = config.copy_megabytes * 1_000_000
        self._source = torch.zeros(size, dtype=torch.uint8, device=base.device)
        self._target = torch.empty_like(self._source)

    def __call__(self, _number: int) -> dict[str, float]:
        found = []
        for _ in range(3):
            with _timed(self._source.device) as spent:
                self._target.copy_(self._source)
            found.append(spent[0])
        # The fastest: a limit is what the machine can do, not what it did while disturbed.
        return {"copy": min(found)}


@dataclass(frozen=True, slots=True)
class _PlainRows:
    """Token rows as a LoRA run reads them."""

    ids: Int[Tensor, "rows length"]
    positions: Int[Tensor, "rows length"]
    visible: Bool[Tensor, "rows 1 length length"] | None
    """None is causal."""
    predicts: Bool[Tensor, "rows length"]

    @classmethod
    def made_up(
        cls, rows: int, length: int, answer: int, base: BaseModel, rng: random.Random
    ) -> "_PlainRows":
        """Causal rows without padding, each with an answer at its end."""
        ids = torch.tensor([_token_ids(base, length, rng) for _ in range(rows)])
        predicts = torch.zeros(rows, length, dtype=torch.bool)
        predicts[:, -1 - answer : -1] = True
        positions = torch.arange(length).expand(rows, -1)
        device = base.device
        return cls(ids.to(device), positions.to(device), None, predicts.to(device))

    @classmethod
    def packed(cls, batch: PackedExamples) -> "_PlainRows":
        """The rows of a packed batch."""
        return cls(batch.ids, batch.positions, batch.visible, batch.predicts)


class _StockLoRA:
    """One LoRA trained as PEFT does it, on a second, untouched copy of the base."""

    def __init__(self, engine: Engine, base: BaseModel) -> None:
        spec = _generator_config(engine).layout.spec
        self.device = base.device
        self.base = load_base(base.weights, base.device, best_dtype(base.device))
        # Adapters in the base's dtype: float32 ones, PEFT's default, are a third slower here.
        model = get_peft_model(
            self.base.model,
            LoraConfig(
                r=spec.r, lora_alpha=spec.lora_alpha, target_modules=list(spec.target_modules)
            ),
            autocast_adapter_dtype=False,
        )
        self._model: Any = model.get_base_model()
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(self._parameters)

    def _mask(self, batch: _PlainRows, visible: Tensor) -> Tensor | dict[str, Tensor]:
        model = self.base.model
        return as_argument(model, masks_for(model, visible, batch.positions, batch.positions))

    def step(self, batch: _PlainRows) -> float:
        """Seconds of one training step; logits and loss at answer positions only, as ours."""
        with _timed(self.device) as spent:
            hidden = last_hidden(
                self._model,
                input_ids=batch.ids,
                position_ids=batch.positions,
                attention_mask=None if batch.visible is None else self._mask(batch, batch.visible),
                use_cache=False,
            )
            logits = logits_of(self._model, hidden[batch.predicts]).float()
            targets = batch.ids.roll(-1, dims=1)[batch.predicts]
            loss = nn.functional.cross_entropy(logits, targets)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self._parameters, 1.0)
            self._optimizer.step()
        return spent[0]


class _LoRARun(_Measurement):
    """Some steps of the LoRA that synthesis replaces."""

    def __init__(self, stock: _StockLoRA, config: BenchConfig) -> None:
        self._stock = stock
        self._config = config

    def __call__(self, number: int) -> dict[str, float]:
        config, spent = self._config, 0.0
        rng = random.Random(f"{config.seed}:bench:lora:{number}")
        # The round thrown away needs to warm up only.
        steps = 1 if number < 0 else config.lora_steps
        for _ in range(steps):
            spent += self._stock.step(self._batch(rng))
        return {"lora_step": spent / steps}

    def flops(self) -> dict[str, float]:
        batch = self._batch(random.Random(f"{self._config.seed}:bench:lora:flops"))
        return {"lora_step": _counted(lambda: self._stock.step(batch))}

    def _batch(self, rng: random.Random) -> _PlainRows:
        config = self._config
        return _PlainRows.made_up(
            config.lora_examples,
            config.example_tokens,
            config.answer_tokens,
            self._stock.base,
            rng,
        )


class _Training(_Measurement):
    """One end-to-end step of a generator, and one of a stock LoRA on as many positions."""

    def __init__(self, engine: Engine, stock: _StockLoRA, config: BenchConfig) -> None:
        self._engine = engine
        self._stock = stock
        self._config = config
        self._device = stock.device
        torch.manual_seed(config.seed)
        self._generator = Generator(_generator_config(engine)).to(self._device)
        self._parameters = list(self._generator.parameters())
        self._optimizer = torch.optim.AdamW(self._parameters)

    def __call__(self, number: int) -> dict[str, float]:
        config = self._config
        rng = random.Random(f"{config.seed}:bench:training:{number}")
        batch = pack(_made_up_groups(config, self._stock.base, rng)).to(self._device)
        positions = batch.ids.numel()
        rows = max(1, round(positions / config.example_tokens))
        plain = _PlainRows.made_up(
            rows, config.example_tokens, config.answer_tokens, self._stock.base, rng
        )
        turns: list[Callable[[], dict[str, float]]] = [
            lambda: self._step(batch),
            lambda: {"lora_packed_step": self._stock.step(_PlainRows.packed(batch))},
            lambda: {"lora_rows_step": self._stock.step(plain)},
        ]
        rng.shuffle(turns)
        found = {
            "train.tokens": float(positions),
            "lora_packed.tokens": float(positions),
            "lora_rows.tokens": float(plain.ids.numel()),
        }
        for turn in turns:
            found |= turn()
        return found

    def _step(self, batch: PackedExamples) -> dict[str, float]:
        """The trainer's step, with the same arithmetic."""
        config, generator = self._config, self._generator
        shape = (config.tasks_per_step, *generator.config.features[0])
        prompts = torch.randn(shape, device=self._device)
        mask = torch.ones(shape[:-1], dtype=torch.bool, device=self._device)
        dtype = best_dtype(self._device)
        mixed = torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32)
        with _timed(self._device) as spent:
            with mixed:
                tokens = generator(generator.standardise(prompts, mask))
            with self._engine.exclusive() as (base, host), host.applying(host.fit(tokens)):
                loss = response_losses(base.model, batch).nll.mean()
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self._parameters, 1.0)
            self._optimizer.step()
        return {"train_step": spent[0]}


def _equal_steps(reports: Mapping[str, Report]) -> int | None:
    """Steps of the shortest LoRA run that scores as much on unseen tasks, as a report says."""
    for name in ("heldout", "refine"):
        report = reports.get(name)
        if report and report.equal_score and report.equal_score.shortest_steps:
            return report.equal_score.shortest_steps
    return None


def _objective(training: Mapping[str, Any]) -> str:
    recipe = training.get("recipe")
    return str(recipe.get("objective")) if isinstance(recipe, dict) else ""


@contextmanager
def _timed(device: torch.device) -> Iterator[list[float]]:
    """Seconds of the `with` block, as the list's one entry once it has ended."""
    spent: list[float] = []
    _synchronise(device)
    started = time.perf_counter()
    yield spent
    _synchronise(device)
    spent.append(time.perf_counter() - started)


def _counted(run: Callable[[], object]) -> float:
    """Floating point operations of a call, as torch counts them."""
    counter = FlopCounterMode(display=False)
    with counter:
        run()
    return float(counter.get_total_flops())


def _synchronise(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()


def _generator_config(engine: Engine) -> GeneratorConfig:
    return engine.generator.config


def _prompt_bucket(num_prompts: int, seed: int) -> Bucket:
    """Distinct prompts longer than the encoder reads."""
    rng = random.Random(f"{seed}:bench:prompts")
    texts = [f"{i}: {' '.join(rng.choices(_WORDS, k=60))}" for i in range(1, num_prompts + 1)]
    return Bucket("bench", 1.0, (from_texts(texts, name="bench"),))


def _made_up_groups(
    config: BenchConfig, base: BaseModel, rng: random.Random
) -> list[list[EncodedExample]]:
    """Examples as one training step draws them, of random tokens."""
    prefix = _token_ids(base, config.prefix_tokens, rng)
    groups = []
    for _ in range(config.tasks_per_step):
        lengths: list[int] = []
        for _ in range(config.examples_per_task):
            length = rng.randint(*config.own_tokens)
            if lengths and config.prefix_tokens + sum(lengths) + length > config.row_tokens:
                break
            lengths.append(length)
        groups.append(
            [
                EncodedExample(
                    (*prefix, *_token_ids(base, length, rng)),
                    config.prefix_tokens + length - config.answer_tokens,
                )
                for length in lengths
            ]
        )
    return groups


def _token_ids(base: BaseModel, count: int, rng: random.Random) -> list[int]:
    return rng.choices(range(base.config["vocab_size"]), k=count)


def _resident_megabytes() -> float:
    resident: int = psutil.Process().memory_info().rss
    return round(resident / 1e6, 1)


def _peak_megabytes() -> float:
    """Most memory the process has had resident since it began."""
    if sys.platform == "win32":
        peak = psutil.Process().memory_info().peak_wset
    else:
        import resource

        # Kilobytes, but on macOS bytes.
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return round(peak / 1e6, 1)


def _machine(base: BaseModel) -> dict[str, Any]:
    """What the numbers hold for; nothing that names the machine or its owner."""
    device = base.device
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "load_average": round(psutil.getloadavg()[0], 2),
        "torch_threads": torch.get_num_threads(),
        "device": str(device),
        "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "dtype": str(best_dtype(device)).removeprefix("torch."),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers", "peft")},
        },
    }
