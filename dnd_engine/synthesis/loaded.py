"""The loaded models of an engine, and what all operations need from them."""

import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dnd_engine.checks.ordinary import BaseAnswers, kept_base_answers
from dnd_engine.config import EngineConfig, ImprintConfig, RefineConfig
from dnd_engine.errors import BaseMismatchError, GeneratorError
from dnd_engine.generator.info import EngineInfo
from dnd_engine.generator.report import Report
from dnd_engine.generator.resident import ResidentGenerator
from dnd_engine.imprint.fit import first_layer
from dnd_engine.imprint.ordinary import ordinary_penalties
from dnd_engine.imprint.solve import Penalty
from dnd_engine.lora.adapter import Adapter
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.base import BaseModel
from dnd_engine.models.encoder import POOLED_LENGTH, EncodedPrompts, PromptEncoder, PromptMemory
from dnd_engine.models.runtime import Runtime
from dnd_engine.prompts.buckets import Bucket, draw_prompt_batch

MAX_ENCODED_PROMPTS = 128
"""Maximum prompts to read per bucket. Source: the paper's largest prompt batch."""


class OrdinaryBaseline:
    """A base's behaviour on ordinary messages, computed once or read from the cache."""

    def __init__(self, runtime: Runtime, cache: Path) -> None:
        self._runtime = runtime
        self._cache = cache
        self._answers: BaseAnswers | None = None
        # Held while computing, so that a second thread waits instead of computing the same.
        self._answers_lock = threading.Lock()
        self._penalties: Mapping[int, Penalty] = {}
        self._measurements: dict[int, Generator[float, None, Mapping[int, Penalty]]] = {}
        """Unfinished measurements by first layer."""
        self._penalties_lock = threading.Lock()

    def answers(self) -> BaseAnswers:
        """Return the base's answers to them."""
        with self._answers_lock:
            if self._answers is None:
                self._answers = kept_base_answers(self._runtime, self._cache)
            return self._answers

    def penalties(
        self, config: ImprintConfig, num_buckets: int = 1
    ) -> Generator[float, None, Mapping[int, Penalty]]:
        """Find the penalty on changing each layer's output on them.

        Args:
            config: Settings; only the first layers are used.
            num_buckets: Number of buckets that are imprinted together.

        Yields:
            Share of the measurement that is done; nothing if it was done before.

        Returns:
            The penalties by layer, by `yield from` or `StopIteration.value`.
        """
        first = first_layer(self._runtime.base.num_layers, config, num_buckets)
        # Penalties from a lower first layer include those of all higher ones.
        while first not in self._penalties:
            # Everybody who needs the penalties takes steps of one measurement, so that nobody waits
            # for one who is paused, or who gives way to other work: patient work gives way before
            # it takes the lock, and not while it holds it if somebody waits for the penalties.
            self._runtime.lock.wait_for_urgent()
            with self._runtime.lock.hurrying(), self._penalties_lock:
                if first in self._penalties:
                    break
                if first not in self._measurements:
                    steps = ordinary_penalties(self._runtime, first, self._cache)
                    self._measurements[first] = steps
                try:
                    share = next(self._measurements[first])
                except BaseException as ended:
                    del self._measurements[first]
                    if not isinstance(ended, StopIteration):
                        raise
                    self._penalties = {**self._penalties, **ended.value}
                    break
            yield share
        return self._penalties


@dataclass(frozen=True, slots=True)
class Loaded:
    """Base, encoder and, if there is one, generator."""

    config: EngineConfig
    runtime: Runtime
    encoder: PromptEncoder
    generator: ResidentGenerator | None
    info: EngineInfo
    ordinary: OrdinaryBaseline
    norms: Mapping[str, float]
    """Norms of the base's weights that adapters change, from `checks.norms.base_norms`."""

    @property
    def base(self) -> BaseModel:
        """The frozen base."""
        return self.runtime.base

    @property
    def reports(self) -> dict[str, Report]:
        """The generator's evaluations by split, read from its folder now."""
        return self.generator.folder.reports() if self.generator else {}

    def resident(self) -> ResidentGenerator:
        """Return the generator, or raise a `GeneratorError`."""
        if self.generator is None:
            raise GeneratorError(
                "no generator is loaded for {base}, so adapters can only be imprinted. Leave "
                "imprint on, name a generator with --generator, or train one with `dnd train`.",
                base=self.info.base_id,
            )
        return self.generator

    # Reading prompts

    def draw(self, group: Sequence[Bucket], seed: int) -> list[str]:
        """Sample the prompts of one condition: whole prompt batches, at most 128 prompts."""
        held = min(len({p.text for b in group for p in b.prompts}), MAX_ENCODED_PROMPTS)
        # Without a generator nothing is decoded, so there is one batch of any size.
        size = self.generator.num_prompts if self.generator else held
        return [prompt.text for prompt in draw_prompt_batch(group, -(-held // size) * size, seed)]

    def encode(self, texts: Sequence[str], memory: PromptMemory | None = None) -> EncodedPrompts:
        """Encode the prompts of one condition."""
        distinct = list(dict.fromkeys(texts))
        if self.generator is not None:
            memory = PromptMemory() if memory is None else memory
            return self.generator.encode(texts, distinct, memory)
        with self.runtime.lock:
            # Only the pooled embeddings are used then, to compare prompts.
            return self.encoder.encode(distinct, POOLED_LENGTH)

    # Applying adapters

    def check_made_here(self, adapter: Adapter) -> None:
        """Raise a `BaseMismatchError` for an adapter of another base.

        The page may have switched bases since it was made.
        """
        if adapter.base_id != self.info.base_id:
            raise BaseMismatchError(
                "`{adapter}` was made for {base}, and {loaded} is loaded. Load its base again, or "
                "make an adapter for this one.",
                adapter=adapter.name,
                base=adapter.base_id,
                loaded=self.info.base_id,
            )

    def wrote(self, adapter: Adapter) -> bool:
        """Return whether the loaded generator made the adapter, even if it was trained since."""
        known = adapter.provenance.get("generator_sha256")
        return known is not None and known == self.info.generator_sha256

    def fit(self, adapter: Adapter) -> FittedLoRA:
        """Convert an adapter, at its strength, to the form that the base's host applies."""
        self.check_made_here(adapter)
        return self.runtime.host.fit(adapter.scaled_tokens[None], adapter.layout)

    def fit_sides(
        self, adapters: Sequence[Adapter | None], strengths: Sequence[float | None]
    ) -> FittedLoRA:
        """Make one group of rows per adapter; None and strength 0 stay the base."""
        # Also those at strength 0, which `fit` would not see.
        for adapter in filter(None, adapters):
            self.check_made_here(adapter)
        fitted = [
            self.fit(adapter.with_strength(strength)) if adapter is not None and strength else None
            for adapter, strength in zip(adapters, strengths, strict=True)
        ]
        return FittedLoRA.stack(fitted).without_bare()

    def fit_shared(self) -> FittedLoRA | None:
        """Return the part that all generated adapters share, which follows instructions well.

        None, the base itself, without a generator.
        """
        return self.generator.fit_shared() if self.generator else None

    # Teachers

    def fit_asked(self, config: RefineConfig) -> FittedLoRA | None:
        """Return the model that answers whole prompts: the trained teacher, else `fit_shared`."""
        trained = self.generator.fit_teacher() if self.generator else None
        return trained if config.trained_teacher and trained else self.fit_shared()

    def fit_teacher(
        self, bucket: Bucket, config: ImprintConfig, memory: PromptMemory | None = None
    ) -> FittedLoRA:
        """Return the model that answers a bucket's whole prompts for an imprint.

        It is the generator's trained teacher, else its adapter for this bucket alone.
        """
        generator = self.resident()
        if config.trained_teacher and (trained := generator.fit_teacher()) is not None:
            return trained
        texts = self.draw([bucket], config.seed)
        tokens = generator.decode(self.encode(texts, memory))
        return generator.fit(generator.towards_shared(tokens, config.own_share))

    def teacher_sha256(self, config: ImprintConfig | RefineConfig) -> str:
        """Return the hash of the trained teacher; empty if it is not used."""
        if self.generator is None or not config.trained_teacher:
            return ""
        return self.generator.folder.teacher_sha256
