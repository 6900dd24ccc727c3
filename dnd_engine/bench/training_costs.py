"""Costs of training: a step of a generator, a stock LoRA, and the LoRA run that synthesis saves."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from dnd_engine.bench.config import BenchConfig
from dnd_engine.bench.measurement import counted, timed, token_ids
from dnd_engine.engine import Engine
from dnd_engine.generator.folder import Generator
from dnd_engine.models.attention import as_argument, masks_for
from dnd_engine.models.base import BaseModel, best_dtype, last_hidden, load_base, logits_of
from dnd_engine.training.examples import EncodedExample, PackedExamples, pack, response_losses


@dataclass(frozen=True, slots=True)
class _PlainRows:
    """Token rows as a LoRA run reads them."""

    ids: Int[Tensor, "rows length"]
    positions: Int[Tensor, "rows length"]
    visible: Bool[Tensor, "rows 1 length length"] | None
    """Attention mask; None means causal."""
    predicts: Bool[Tensor, "rows length"]

    @classmethod
    def made_up(
        cls, rows: int, length: int, answer: int, base: BaseModel, rng: random.Random
    ) -> "_PlainRows":
        """Make random causal rows without padding, each ending with an answer."""
        ids = torch.tensor([token_ids(base, length, rng) for _ in range(rows)])
        predicts = torch.zeros(rows, length, dtype=torch.bool)
        # Each position predicts the next token, so this is one to the left of the answer.
        predicts[:, -1 - answer : -1] = True
        positions = torch.arange(length).expand(rows, -1)
        device = base.device
        return cls(ids.to(device), positions.to(device), None, predicts.to(device))


class StockLoRA:
    """A LoRA trained as PEFT does it, on a second, unmodified copy of the base."""

    def __init__(self, engine: Engine) -> None:
        base = engine.base
        spec = engine.generator.config.layout.spec
        self.device = base.device
        self.base = load_base(base.weights, base.device, best_dtype(base.device))
        # Keep adapters in the base's dtype: in float32, PEFT's default, a step takes a third
        # longer.
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

    def step(self, batch: _PlainRows | PackedExamples) -> float:
        """Time one training step, with logits and loss at answer positions only, as in ours."""
        model, visible, positions = self.base.model, batch.visible, batch.positions
        with timed(self.device) as spent:
            mask = None
            if visible is not None:
                mask = as_argument(model, masks_for(model, visible, positions, positions))
            hidden = last_hidden(
                self._model,
                input_ids=batch.ids,
                position_ids=positions,
                attention_mask=mask,
                use_cache=False,
            )
            logits = logits_of(self._model, hidden[batch.predicts]).float()
            # `roll` wraps around at the last position, which predicts nothing.
            targets = batch.ids.roll(-1, dims=1)[batch.predicts]
            loss = nn.functional.cross_entropy(logits, targets)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self._parameters, 1.0)
            self._optimizer.step()
        return spent[0]


def lora_run(stock: StockLoRA, config: BenchConfig, number: int) -> dict[str, float]:
    """Take the mean time of a few steps of the LoRA run that synthesis replaces."""
    rng = random.Random(f"{config.seed}:bench:lora:{number}")
    # The discarded round only warms up.
    steps = 1 if number < 0 else config.lora_steps
    spent = sum(stock.step(_lora_batch(stock, config, rng)) for _ in range(steps))
    return {"lora_step": spent / steps}


def lora_step_flops(stock: StockLoRA, config: BenchConfig) -> float:
    """Count the operations of one such step."""
    batch = _lora_batch(stock, config, random.Random(f"{config.seed}:bench:lora:flops"))
    return counted(lambda: stock.step(batch))


def _lora_batch(stock: StockLoRA, config: BenchConfig, rng: random.Random) -> _PlainRows:
    rows, length, answer = config.lora_examples, config.example_tokens, config.answer_tokens
    return _PlainRows.made_up(rows, length, answer, stock.base, rng)


class GeneratorStep:
    """One end-to-end training step of a new generator with the loaded one's sizes."""

    def __init__(self, engine: Engine, config: BenchConfig) -> None:
        self._engine = engine
        self._config = config
        self._device = engine.base.device
        torch.manual_seed(config.seed)
        self._generator = Generator(engine.generator.config).to(self._device)
        self._parameters = list(self._generator.parameters())
        self._optimizer = torch.optim.AdamW(self._parameters)

    def batch(self, number: int) -> PackedExamples:
        """Draw a batch of random tokens, shaped like one training step's."""
        rng = random.Random(f"{self._config.seed}:bench:training:{number}")
        return pack(_made_up_groups(self._config, self._engine.base, rng)).to(self._device)

    def step(self, batch: PackedExamples) -> float:
        """Time the trainer's own step, with the same arithmetic."""
        config, generator = self._config, self._generator
        sizes = generator.config
        shape = (config.tasks_per_step, sizes.num_prompts, sizes.read_length, sizes.width)
        # Random features, because the cost of a step depends on shapes alone.
        prompts = torch.randn(shape, device=self._device)
        mask = torch.ones(shape[:-1], dtype=torch.bool, device=self._device)
        dtype = best_dtype(self._device)
        mixed = torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32)
        with timed(self._device) as spent:
            with mixed:
                tokens = generator(generator.standardise(prompts, mask))
            # Hooks act in the forward pass alone, so the gradient needs no lock.
            runtime = self._engine.runtime
            with runtime.lock, runtime.host.applying(runtime.host.fit(tokens)):
                loss = response_losses(runtime.base.model, batch).nll.mean()
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self._parameters, 1.0)
            self._optimizer.step()
        return spent[0]


def training(
    own: GeneratorStep, stock: StockLoRA, config: BenchConfig, number: int
) -> dict[str, float]:
    """Time a generator step, and a stock LoRA step on as many positions, in random order."""
    batch = own.batch(number)
    positions = batch.ids.numel()
    rng = random.Random(f"{config.seed}:bench:rows:{number}")
    rows = max(1, round(positions / config.example_tokens))
    plain = _PlainRows.made_up(rows, config.example_tokens, config.answer_tokens, stock.base, rng)
    turns: dict[str, Callable[[], float]] = {
        "train_step": lambda: own.step(batch),
        "lora_packed_step": lambda: stock.step(batch),
        "lora_rows_step": lambda: stock.step(plain),
    }
    order = rng.sample(sorted(turns), len(turns))
    return {
        "train.tokens": float(positions),
        "lora_packed.tokens": float(positions),
        "lora_rows.tokens": float(plain.ids.numel()),
        **{name: turns[name]() for name in order},
    }


def _made_up_groups(
    config: BenchConfig, base: BaseModel, rng: random.Random
) -> list[list[EncodedExample]]:
    """Make groups of random tokens, shaped like one training step's."""
    # One for all tasks, like the system prompt, which packed rows hold once.
    prefix = token_ids(base, config.prefix_tokens, rng)
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
                    (*prefix, *token_ids(base, length, rng)),
                    config.prefix_tokens + length - config.answer_tokens,
                )
                for length in lengths
            ]
        )
    return groups
