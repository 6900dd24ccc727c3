"""The public facade: one resident base, encoder and generator, and everything done with them.

`files -> Bucket -> Condition -> weight tokens -> Adapter -> chat`. Loaded once; synthesis never
reloads the base, and a change of strength never synthesizes again.
"""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Generator as Steps
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dnd_engine.checks.ablation import (
    MOST_PROMPTS,
    Candidate,
    compare_conditions,
    others,
    shuffled,
    some_prompts,
)
from dnd_engine.checks.effect import effect
from dnd_engine.checks.familiarity import nearest_tasks
from dnd_engine.checks.norms import base_norms, relative_norms, thumbprint
from dnd_engine.checks.ordinary import BaseAnswers, kept_base_answers
from dnd_engine.checks.registry import as_checks, recall, run_checks
from dnd_engine.checks.results import Conditioning, ControlName, Inspection
from dnd_engine.checks.subject import Lessons, Subject
from dnd_engine.checks.verdict import imprinting_of
from dnd_engine.config import (
    MIXES,
    EngineConfig,
    ImprintConfig,
    LabelledConfig,
    MeasureConfig,
    Mix,
    RefineConfig,
    Sampling,
    Teacher,
)
from dnd_engine.errors import (
    AdapterError,
    BaseMismatchError,
    BucketError,
    ConfigError,
    GeneratorError,
    HubError,
    ImprintError,
    RecipeError,
)
from dnd_engine.export.hub import push_files
from dnd_engine.export.place import exported_aside
from dnd_engine.export.registry import export_target
from dnd_engine.export.results import Exported, Pushed
from dnd_engine.export.verify import Verifier
from dnd_engine.generator.config import OBJECTIVES_ON_WEIGHTS, trained_steps
from dnd_engine.generator.folder import GeneratorFolder, check_base, check_encoder
from dnd_engine.generator.info import EngineInfo
from dnd_engine.generator.installed import encoder_name, generator_path
from dnd_engine.generator.report import Report
from dnd_engine.generator.resident import ResidentGenerator
from dnd_engine.imprint.fit import Imprinted, Source, first_layer, imprint, imprint_layout
from dnd_engine.imprint.left_out import leave_out
from dnd_engine.imprint.ordinary import ordinary_metrics
from dnd_engine.imprint.solve import Metric
from dnd_engine.lora.adapter import Adapter, adapter_name, sum_adapters
from dnd_engine.lora.apply import FittedLoRA, LoRAHost
from dnd_engine.lora.provenance import BucketSource, Imprinting, NearestTask, Recipe, Refinement
from dnd_engine.lora.reader import read_adapter
from dnd_engine.lora.seen import Seen, digests, with_met
from dnd_engine.lora.usage import peft_usage
from dnd_engine.measure.results import Measurement, MeasureStep
from dnd_engine.measure.sides import split
from dnd_engine.models.base import (
    BaseModel,
    best_device,
    best_dtype,
    fingerprint,
    load_base,
)
from dnd_engine.models.decode import decode
from dnd_engine.models.encoder import (
    POOLED_LENGTH,
    EncodedPrompts,
    PromptEncoder,
    PromptMemory,
)
from dnd_engine.models.replies import ChatStep, Message, Reply
from dnd_engine.models.runtime import Runtime
from dnd_engine.models.sources import BASES, ENCODERS, ResolvedWeights, cache_folder, resolve
from dnd_engine.models.threads import keep_within_limits
from dnd_engine.models.turns import patient, urgently
from dnd_engine.progress import AnswerCounts, Doing, Progress, finish
from dnd_engine.prompts.buckets import Bucket, check_buckets, draw_prompt_batch, measured_prompts
from dnd_engine.prompts.examples import load_examples
from dnd_engine.prompts.files import PromptFile
from dnd_engine.prompts.split import split_prompt
from dnd_engine.tasks.folder import Example
from dnd_engine.teach.endpoint import Endpoint
from dnd_engine.training.finetune.refine import (
    ASKED_TOGETHER,
    AnswersOf,
    Refined,
    choose,
    propose,
    refine,
)

__all__ = ["Engine"]

_REFINED, _TAUGHT = "-refined", "-taught"
"""At the end of a refined or taught adapter's name, once."""

MAX_ENCODED_PROMPTS = 128
"""Prompts of a bucket that are read at most. Source: the paper's largest prompt batch."""

_TOLD_CHARACTERS = 40
"""Most characters of a teacher's answer in a line about its work."""


class Engine:
    """Resident models and the operations on them; safe to share between threads.

    Make one with `Engine.load`; a process needs no more.
    """

    def __init__(
        self,
        config: EngineConfig,
        base: BaseModel,
        encoder: PromptEncoder,
        encoder_weights: ResolvedWeights,
        folder: GeneratorFolder | None,
        seconds: dict[str, float],
    ) -> None:
        self.config = config
        self._encoder = encoder
        self._runtime = Runtime.of(base)
        self._generator: ResidentGenerator | None = None
        if folder is not None:
            dtype = next(base.model.parameters()).dtype
            self._generator = ResidentGenerator.of(
                folder, folder.load(base.device, dtype), encoder, self._runtime
            )
        self._verifier = Verifier(self._runtime)
        self._metrics: Mapping[int, Metric] | None = None
        self._metrics_lock = threading.Lock()
        self._base_answers: BaseAnswers | None = None
        self._base_answers_lock = threading.Lock()
        self._norms = base_norms(base.model, self._runtime.host.layout)
        self.info = EngineInfo.of(base, encoder_weights, self._generator, seconds)

    @property
    def base(self) -> BaseModel:
        """The frozen base; read-only."""
        return self._runtime.base

    @property
    def runtime(self) -> Runtime:
        """The resident base, with the host that applies adapters and the lock of both."""
        return self._runtime

    @contextmanager
    def exclusive(self) -> Iterator[tuple[BaseModel, LoRAHost]]:
        """Base and host for work of one's own, while no other thread uses them.

        The engine's methods wait until the `with` block ends, so calling one inside it never
        returns. Leave no adapter active.
        """
        with self._runtime.lock:
            yield self.base, self._runtime.host

    @property
    def generator(self) -> GeneratorFolder:
        """The generator that is loaded, as it is on disk: what it was trained on, its card.

        Raises:
            GeneratorError: If there is none, so that adapters are imprinted alone.
        """
        return self._resident().folder

    @property
    def training_data(self) -> list[dict[str, str]]:
        """Tasks that generator and teacher learnt: `task`, `family`, `licence`, `category`."""
        return self.generator.seen("data")

    @property
    def training_variants(self) -> list[str]:
        """Tasks in an answer format or with other labels that it was trained on too.

        They are called `slug~format` and `slug~labels-1`. Empty too where a generator of an
        earlier version does not say.
        """
        return self.generator.seen("variants")

    @property
    def training_steps(self) -> int:
        """Steps that it was trained, those of what it started from included; 0 if unknown."""
        return trained_steps(self.generator.config.training)

    @property
    def learnt_from_checkpoints(self) -> bool:
        """Whether its objective was the weights of LoRA checkpoints, as the paper's is."""
        objective = self.generator.config.training.get("recipe", {}).get("objective")
        return objective in OBJECTIVES_ON_WEIGHTS

    @property
    def validation_data(self) -> list[dict[str, str]]:
        """Tasks that chose the step whose weights these are, as `training_data` names them."""
        return self.generator.seen("validation_data")

    @property
    def card(self) -> str:
        """The generator's card, Markdown with a front matter; empty if there is none."""
        return self._generator.folder.card() if self._generator else ""

    @property
    def reports(self) -> dict[str, Report]:
        """Evaluations of the generator, by split, as its folder holds them now."""
        return self._generator.folder.reports() if self._generator else {}

    @classmethod
    def load(
        cls,
        config: EngineConfig | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> "Engine":
        """Load base, encoder and generator, fetching the embedded base at first use.

        A base without a generator works too: its adapters are imprinted alone (see `synthesize`).

        Args:
            config: What to load; the embedded default if None.
            on_progress: Told of every stage.

        Raises:
            AssetError: If weights cannot be had or are damaged.
            GeneratorError: If the generator is missing or damaged.
            BaseMismatchError: If it is for another base.
        """
        config = config or EngineConfig()
        started = time.monotonic()
        seconds: dict[str, float] = {}

        def report(
            doing: Doing, fraction: float | None, name: str = "", stage: str = "load"
        ) -> None:
            if on_progress is not None:
                on_progress(Progress(stage, fraction, time.monotonic() - started, doing, name))

        def lap(name: str) -> None:
            seconds[name] = round(time.monotonic() - started - sum(seconds.values()), 3)

        # The generator's small files first: a wrong folder is refused before any weights are read.
        path = generator_path(config)
        folder = GeneratorFolder.open(path) if path else None
        keep_within_limits()
        device = best_device(config.device)
        dtype = best_dtype(device)
        weights = resolve(
            config.base,
            BASES,
            config.cache_dir,
            lambda doing, name, fraction: report(doing, fraction, name, "download"),
        )
        lap("fetch")
        report("load_base", 0.1)
        base = load_base(weights, device, dtype)
        if folder:
            check_base(folder.config, weights.hub_id, fingerprint(base))
        lap("base")
        report("load_encoder", 0.6)
        encoder_weights = resolve(encoder_name(config, folder), ENCODERS, config.cache_dir)
        keeps_padding = folder is not None and folder.config.padding == "kept"
        encoder = PromptEncoder(encoder_weights.path, device, dtype, keeps_padding=keeps_padding)
        if folder:
            digest, longest = encoder_weights.sha256, encoder.longest
            check_encoder(folder.config, encoder.width, digest, folder.tasks, longest=longest)
        lap("encoder")
        if folder:
            report("load_generator", 0.9)
        engine = cls(config, base, encoder, encoder_weights, folder, seconds)
        lap("generator")
        report("ready", 1.0)
        return engine

    def warm_up(self) -> None:
        """Make, verify and ask an adapter, for nothing but its side effects.

        What is made once takes longer than a synthesis: the base wrapped by PEFT, and its answers
        to ordinary messages. The first order need not wait for it, nor the first answer for weights
        to be packed.
        """
        example = [load_examples()[0].read()]
        adapter = self._blank(example) if self._generator is None else finish(self._write(example))
        self.verify(adapter, adapter.files())
        hello: Message = {"role": "user", "content": "Hello"}
        for _ in self.compare([[hello]] * 2, [None, adapter], sampling=Sampling(max_new_tokens=3)):
            pass
        self._ordinary_answers()
        if self._generator is None:
            # Every adapter will be imprinted, and would wait for this.
            self._ordinary(ImprintConfig())

    def generate(
        self,
        buckets: Sequence[Bucket],
        *,
        mix: Mix = "pool",
        strength: float = 1.0,
        seed: int = 0,
        imprinted: bool = True,
        teacher: Teacher = "generator",
        memory: PromptMemory | None = None,
    ) -> Adapter:
        """Make an adapter from buckets of prompts; see `synthesize` for the other arguments.

        Args:
            buckets: Named, weighted groups of prompt files.
            mix: How the generator combines them.
            strength: Factor on the result.
            seed: Of the draw of prompts.
            imprinted: Imprint the instructions too. Where that cannot be done, the adapter is the
                generator's, and its `not_imprinted` says why. Without a generator, an adapter is
                imprinted or not made at all.
            teacher: Who answers the whole prompts for the imprint (see `imprint`).
            memory: What was read before.

        Raises:
            BucketError: If no bucket counts, or weights or sizes are out of bounds.
            GeneratorError: If there is no generator and `imprinted` is off.
            ImprintError: If there is no generator and nothing can be imprinted.
        """
        if not imprinted:
            self._resident()
        memory = PromptMemory() if memory is None else memory
        made = finish(
            self.synthesize(buckets, mix=mix, strength=strength, seed=seed, memory=memory)
        )
        if not imprinted or made.is_imprinted:
            return made
        try:
            config = ImprintConfig(seed=seed)
            return finish(self.imprint(made, buckets, config, teacher=teacher, memory=memory))
        except ImprintError as error:
            return replace(made, not_imprinted=str(error))

    def synthesize(
        self,
        buckets: Sequence[Bucket],
        *,
        mix: Mix = "pool",
        strength: float = 1.0,
        seed: int = 0,
        memory: PromptMemory | None = None,
    ) -> Steps[Progress, None, Adapter]:
        """Make an adapter step by step: the generator writes it, and `imprint` may follow.

        Without a generator the instructions are imprinted at once: they are all that makes the
        adapter. Then buckets of positive weight count alone, whatever the mix.

        Args:
            buckets: Named, weighted groups of prompt files.
            mix: `pool` reads all prompts as one condition, drawn in proportion to the weights;
                `sum` makes one adapter per bucket and adds them with the weights.
            strength: Factor on the result.
            seed: Of the draw of prompts.
            memory: What was read before, and need not be read again, where the text encoder makes
                the condition; the adapter is the same, to the last bit.

        Yields:
            Progress through the stages encode, decode and check; without a generator, ask and
            imprint.

        Returns:
            The adapter, by `yield from` or `StopIteration.value`.

        Raises:
            BucketError: If no bucket counts, or weights or sizes are out of bounds.
            ImprintError: If there is no generator and nothing can be imprinted.
        """
        if mix not in MIXES:
            raise ConfigError(f"`mix` must be {' or '.join(MIXES)}, got {mix!r}.")
        if self._generator is None:
            config = ImprintConfig(seed=seed)
            return (yield from self._imprint_alone(buckets, config, mix=mix, strength=strength))
        steps = self._write(buckets, mix=mix, strength=strength, seed=seed, memory=memory)
        return (yield from urgently(self._runtime.lock, steps))

    def _imprint_alone(
        self,
        buckets: Sequence[Bucket],
        config: ImprintConfig,
        *,
        mix: Mix = "pool",
        strength: float = 1.0,
    ) -> Steps[Progress, None, Adapter]:
        """Make an adapter of the base's own answers, without any generator."""
        blank = self._blank(buckets, config, mix)
        made = yield from self.imprint(blank, buckets, config, teacher="base")
        seconds = {"imprint": made.seconds["imprint"], "total": made.seconds["imprint"]}
        return replace(made, seconds=seconds).with_strength(strength)

    def _blank(
        self, buckets: Sequence[Bucket], config: ImprintConfig | None = None, mix: Mix = "pool"
    ) -> Adapter:
        """Make an adapter that changes nothing, with the recipe of one that is imprinted."""
        config = config or ImprintConfig()
        counting = check_buckets(buckets, self.config.limits)
        layout = imprint_layout(self.base.config, config)
        recipe = Recipe(
            base=self.info.base_id,
            base_sha256=self.info.base_sha256,
            mix=mix,
            seed=config.seed,
            buckets=tuple(map(BucketSource.of, counting)),
        )
        num_prompts = len({p.text for b in counting for p in b.prompts})
        return Adapter(
            name=adapter_name([b.name for b in counting]),
            tokens=torch.zeros(layout.grid(), dtype=torch.bfloat16),
            layout=layout,
            base_id=self.info.base_id,
            provenance={**recipe.to_json(), "num_prompts": num_prompts},
            num_prompts=num_prompts,
        )

    def _write(
        self,
        buckets: Sequence[Bucket],
        *,
        mix: Mix = "pool",
        strength: float = 1.0,
        seed: int = 0,
        memory: PromptMemory | None = None,
    ) -> Steps[Progress, None, Adapter]:
        """Let the generator write an adapter; see `synthesize`."""
        generator = self._resident()
        started = time.monotonic()
        counting = check_buckets(buckets, self.config.limits)
        groups = [counting]
        if mix == "sum":
            # A bucket's weight scales its adapter, not its share of a condition.
            groups = [(replace(b, weight=1.0),) for b in counting]
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
            texts = self._drawn(group, seed)
            read |= set(texts)
            if any(bucket.instruction for bucket in group):
                # The files hold the inputs alone, so these are what labelled rows may repeat.
                read |= {split_prompt(text).bare for text in texts}
            encoded.append(self._encode(texts, memory))
        encode_seconds = time.monotonic() - started
        decoded: list[Tensor] = []
        for number, prompts in enumerate(encoded):
            yield Progress("decode", number / len(groups), time.monotonic() - started, "write")
            decoded.append(generator.decode(prompts))
        tokens, kept = decoded[0], None
        layout = generator.layout
        if mix == "sum":
            parts = [Adapter("part", part, layout, self.info.base_id) for part in decoded]
            tokens, kept = sum_adapters(parts, [b.weight for b in counting])
        decode_seconds = time.monotonic() - started - encode_seconds
        yield Progress("check", None, time.monotonic() - started, "compare_tasks")
        pooled = torch.cat([prompts.pooled for prompts in encoded])
        num_prompts = len({p.text for b in counting for p in b.prompts})
        nearest = nearest_tasks(pooled, generator.folder.tasks)
        origin = self._provenance(counting, mix, seed, num_prompts, len(pooled), nearest)
        return Adapter(
            name=adapter_name([b.name for b in counting]),
            tokens=tokens,
            layout=layout,
            base_id=self.info.base_id,
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

    def imprint(
        self,
        adapter: Adapter,
        buckets: Sequence[Bucket],
        config: ImprintConfig | None = None,
        *,
        teacher: Teacher = "generator",
        memory: PromptMemory | None = None,
    ) -> Steps[Progress, None, Adapter]:
        """Write the instructions of prompts into an adapter in closed form, step by step.

        The base answers whole prompts with the generator's teacher active. A regression
        then makes the bare base answer the same to the inputs alone (see `imprint.fit`). Buckets
        of positive weight are fitted together; the result replaces the generator's adapter.
        Closing the iterator cancels.

        Args:
            adapter: As `synthesize` made it of these buckets; it stays as it is.
            buckets: Groups of prompt files. Prompts without a blank line between instruction and
                input take no part.
            config: Rank, limits and seed.
            teacher: `generator` answers with its trained teacher active, or with its adapters if it
                has none, `base` with nothing.
                Then nothing of the generator is in the result. Without a generator it is `base`.
            memory: As for `synthesize`.

        Yields:
            Progress through the stages ask and imprint.

        Returns:
            A new adapter of the same strength, by `yield from` or `StopIteration.value`.

        Raises:
            BucketError: If no bucket counts, or weights or sizes are out of bounds.
            ImprintError: If nothing can be imprinted, or the adapter was trained.
        """
        self._check_made_here(adapter)
        config = config or ImprintConfig()
        if self._generator is None:
            teacher = "base"
        if adapter.was_trained:
            raise ImprintError(
                f"`{adapter.name}` was trained after it was generated, and an imprint would "
                "replace what it learnt. Imprint the adapter it was trained from."
            )
        started = time.monotonic()
        memory = PromptMemory() if memory is None else memory
        counting = [b for b in check_buckets(buckets, self.config.limits) if _imprintable(b)]
        if not counting:
            raise ImprintError(
                "no prompt has an instruction and an input. Write the instruction, a blank line, "
                "then the input; or give the bucket one instruction for all its prompts, with "
                "`--instruction` or on the page under Advanced."
            )
        parts = [leave_out(_imprintable(b), config, len(counting)) for b in counting]
        sources = [
            Source(
                prompts=tuple(fitted),
                teacher=None if teacher == "base" else self._teacher(bucket, config, memory),
                weight=bucket.weight,
            )
            for bucket, (fitted, _) in zip(counting, parts, strict=True)
        ]
        left_out = {text for _, others in parts for text, _ in others}
        steps = imprint(self._runtime, sources, self._ordinary(config), config)
        steps = urgently(self._runtime.lock, steps)
        while True:
            try:
                step = next(steps)
            except StopIteration as stop:
                made: Imprinted = stop.value
                break
            yield Progress(
                step.stage,
                step.done / step.total,
                time.monotonic() - started,
                "ask_with_instruction" if step.stage == "ask" else "fit_layer",
                done=step.done,
                total=step.total,
            )
        found = Imprinting.of(
            config,
            teacher=teacher,
            teacher_sha256="" if teacher == "base" else self._teacher_sha256(config),
            left_out=tuple(sorted(digests(left_out))),
            from_sha256=adapter.with_strength(1).sha256,
            num_prompts=made.num_prompts,
            num_answers=made.num_answers,
            commonest_share=made.commonest_share,
            unfinished=made.unfinished,
            layers=made.layers,
        )
        # Prompts left out were read too: by the generator, and later by the checks.
        read = {text for source in sources for text, _ in source.prompts} | left_out
        for bucket in counting:
            if bucket.instruction:
                read |= {given for _, given in _imprintable(bucket)}
        return replace(
            adapter,
            tokens=made.tokens,
            layout=made.layout,
            provenance=with_met(
                {**adapter.provenance, "imprint": found.to_json()}, read, labels=False
            ),
            seconds={**adapter.seconds, "imprint": time.monotonic() - started},
            kept_energy=None,
        )

    def _teacher(self, bucket: Bucket, config: ImprintConfig, memory: PromptMemory) -> FittedLoRA:
        """Return what answers a bucket's whole prompts for an imprint.

        The generator's trained teacher, else its adapter of this bucket alone.
        """
        generator = self._resident()
        if config.trained_teacher and (trained := generator.fit_teacher()) is not None:
            return trained
        texts = self._drawn([replace(bucket, weight=1.0)], config.seed)
        tokens = generator.decode(self._encode(texts, memory))
        return generator.fit(generator.towards_shared(tokens, config.own_share))

    def _teacher_sha256(self, config: ImprintConfig | RefineConfig) -> str:
        """Return the hash of the trained teacher that answers; empty if none does."""
        if self._generator is None or not config.trained_teacher:
            return ""
        return self._generator.folder.teacher_sha256

    def _ordinary_answers(self) -> BaseAnswers:
        """Return the base's answers to ordinary messages, found once or read from the cache."""
        with self._base_answers_lock:
            if self._base_answers is None:
                cache = cache_folder(self.config.cache_dir) / "ordinary"
                self._base_answers = kept_base_answers(self._runtime, cache)
            return self._base_answers

    def _ordinary(self, config: ImprintConfig) -> Mapping[int, Metric]:
        """Return the penalty of each layer, measured once or read from the cache."""
        with self._metrics_lock:
            first = first_layer(self.base.num_layers, config)
            if self._metrics is None or first not in self._metrics:
                cache = cache_folder(self.config.cache_dir) / "ordinary"
                self._metrics = ordinary_metrics(self._runtime, first, cache)
            return self._metrics

    def regenerate(
        self, recipe: Recipe, paths: Sequence[Path] = ()
    ) -> Steps[Progress, None, Adapter]:
        """Make an adapter again, step by step: synthesis, imprint and refinements, as it had them.

        On the same kind of device the weights are the same, to the last bit: the adapter's `sha256`
        is the recipe's. Another device may round otherwise.

        Args:
            recipe: `Adapter.recipe`, or `read_recipe` of a file.
            paths: Where its prompt files are, by whatever name; folders are searched. Not needed by
                a recipe that holds its texts.

        Yields:
            Progress as `synthesize` and `refine` tell it.

        Returns:
            The adapter, by `yield from` or `StopIteration.value`.

        Raises:
            RecipeError: If another base, encoder or generator is loaded, or prompts are missing.
        """
        parts = ("base", "encoder", "generator") if recipe.generator else ("base",)
        faults = []
        for part in parts:
            wanted, loaded = getattr(recipe, f"{part}_sha256"), getattr(self.info, f"{part}_sha256")
            if wanted != loaded:
                found = f"{getattr(self.info, f'{part}_id')} ({loaded[:12]}…)" if loaded else "none"
                faults.append(
                    f"the recipe needs the {part} {getattr(recipe, part)} (SHA-256 {wanted[:12]}…),"
                    f" loaded is {found}. Load the one it names."
                )
        taught = (recipe.imprint, *recipe.refinements)
        ours = self._generator.folder.teacher_sha256 if self._generator else ""
        for wanted in {step.teacher_sha256 for step in taught if step} - {"", ours}:
            faults.append(
                f"the recipe needs the teacher with the SHA-256 {wanted[:12]}…, the loaded "
                f"generator has {f'{ours[:12]}…' if ours else 'none'}. Load the generator folder "
                "that the adapter was made with."
            )
        if faults:
            raise RecipeError("\n".join(faults))
        if not recipe.has_texts:
            recipe = recipe.with_texts(recipe.find_files(paths, self.config.limits))
        buckets = [source.bucket() for source in recipe.buckets]
        made = yield from self._begin_again(recipe, buckets)
        for step in recipe.refinements:
            for strength in step.folded:
                made = made.with_strength(strength).fold()
            learnt = [source.bucket() for source in step.buckets]
            made = yield from self.refine(made, learnt, step.config)
        for strength in recipe.folded:
            made = made.with_strength(strength).fold()
        return made.with_strength(recipe.strength)

    def _begin_again(
        self, recipe: Recipe, buckets: Sequence[Bucket]
    ) -> Steps[Progress, None, Adapter]:
        """Make what a recipe begins with: a synthesis, an imprint, or both."""
        found = recipe.imprint
        if recipe.generator is None:
            assert found is not None, "`Recipe` refuses one without generator and imprint"
            return (yield from self._imprint_alone(buckets, found.config, mix=recipe.mix))
        made = yield from self._write(buckets, mix=recipe.mix, seed=recipe.seed)
        if found is not None:
            made = yield from self.imprint(made, buckets, found.config, teacher=found.teacher)
        return made

    @staticmethod
    def new_memory() -> PromptMemory:
        """Return an empty memory, to `synthesize` again and again from much the same prompts."""
        return PromptMemory()

    def refine(
        self,
        adapter: Adapter,
        buckets: Sequence[Bucket],
        config: RefineConfig | None = None,
        *,
        enough: Callable[[], bool] | None = None,
    ) -> Steps[Progress, None, Adapter]:
        """Train an adapter on prompts of its own task, step by step; closing the iterator cancels.

        Without labels the base, with the generator's teacher or what all of its adapters share,
        answers the full prompts, and the adapter learns to answer the bare inputs the same way.

        Args:
            adapter: Where to start; it stays as it is.
            buckets: Groups of prompt files; those of positive weight count, all equally. Prompts
                must have a blank line between instruction and input.
            config: How long, how fast, and whether labels are learnt.
            enough: Asked after every step; True ends the training with what was learnt.

        Yields:
            Progress through the stages ask and refine, with a score on prompts held back.

        Returns:
            A new adapter of strength 1, by `yield from` or `StopIteration.value`.

        Raises:
            BucketError: If no bucket counts, or weights or sizes are out of bounds.
            TrainingError: If too few prompts can be learnt from; with labels, labelled ones.
        """
        config = config or RefineConfig()
        started = time.monotonic()
        counting = [b for b in check_buckets(buckets, self.config.limits) if b.weight > 0]
        made = yield from self._train(adapter, _examples(counting), config, None, enough)
        refined = Refinement.of(
            replace(config, stop_after=made.steps if made.steps < config.steps else None),
            from_sha256=adapter.sha256,
            teacher_sha256="" if config.labels else self._teacher_sha256(config),
            num_prompts=len(made.prompts),
            commonest_share=made.commonest_share,
            score=made.score,
            score_before=made.score_before,
            num_held_back=made.num_held_back,
            folded=tuple(adapter.fold().provenance.get("folded", ())),
            buckets=tuple(map(BucketSource.of, counting)),
        )
        origin = dict(adapter.provenance)
        if before := origin.get("refined"):
            origin["refined_before"] = [*origin.get("refined_before", ()), before]
        return replace(
            adapter,
            name=f"{adapter.name.removesuffix(_REFINED)}{_REFINED}",
            tokens=made.tokens.to(torch.bfloat16),
            strength=1.0,
            provenance=with_met(
                {**origin, "folded": [], "refined": refined.to_json()},
                made.prompts,
                labels=config.labels,
                after=adapter.provenance,
            ),
            seconds={**adapter.seconds, "refine": time.monotonic() - started},
            kept_energy=None,
        )

    def teach(
        self,
        adapter: Adapter,
        answers: Mapping[str, str] | Endpoint,
        buckets: Sequence[Bucket] = (),
        config: RefineConfig | None = None,
        *,
        enough: Callable[[], bool] | None = None,
    ) -> Steps[Progress, None, Adapter]:
        """Train an adapter on the answers of a person or of a better model; see `refine`.

        Args:
            adapter: Where to start; it stays as it is.
            answers: By whole prompts, each an instruction, a blank line and an input; or who
                answers the prompts of `buckets`. Training begins with the first of its answers.
            buckets: What an endpoint is asked. Not used with answers.
            config: How long and how fast.
            enough: Asked after every step; True ends the training with what was learnt.

        Yields:
            Progress through the stages ask and refine, with a score on prompts held back.

        Returns:
            A new adapter of strength 1. No recipe makes it again.

        Raises:
            BucketError: If an endpoint is asked and no bucket counts.
            RemoteError: If the endpoint does not answer before training begins; later, the training
                goes on with what came, and the provenance counts the prompts in `num_lost`.
            TrainingError: If too few prompts can be learnt from.
        """
        started = time.monotonic()
        config = config or RefineConfig()
        if isinstance(answers, Endpoint):
            counting = [b for b in check_buckets(buckets, self.config.limits) if b.weight > 0]
            examples, asked = _examples(counting), answers.answers
            trained: dict[str, Any] = {"answers": "teacher", "teacher": answers.model}
            config = replace(config, labels=False)
        else:
            examples = [Example(text, given.strip()) for text, given in answers.items()]
            asked, trained = None, {"answers": "person"}
            config = replace(config, labels=True)
        made = yield from self._train(adapter, examples, config, asked, enough)
        trained |= {
            "labels": True,
            "start": "adapter",
            "from_sha256": adapter.sha256,
            "num_examples": len(made.prompts),
            "steps": made.steps,
            "seed": config.seed,
            "score": made.score,
            "score_before": made.score_before,
            "num_held_back": made.num_held_back,
        }
        if made.num_lost:
            trained["num_lost"] = made.num_lost
        return replace(
            adapter,
            name=f"{adapter.name.removesuffix(_TAUGHT)}{_TAUGHT}",
            tokens=made.tokens.to(torch.bfloat16),
            strength=1.0,
            provenance=with_met(
                {**adapter.provenance, "trained": trained},
                made.prompts,
                labels=True,
                after=adapter.provenance,
            ),
            seconds={**adapter.seconds, "train": time.monotonic() - started},
            checks={},
            kept_energy=None,
        )

    def _train(
        self,
        adapter: Adapter,
        examples: Sequence[Example],
        config: RefineConfig,
        answers: AnswersOf | None,
        enough: Callable[[], bool] | None,
    ) -> Steps[Progress, None, Refined]:
        """Train an adapter's weights, and tell how far it is."""
        self._check_made_here(adapter)
        # Imported here: its metrics load nltk, which nothing else needs.
        from dnd_engine.teach.held_back import score_bare

        started = time.monotonic()
        steps = refine(
            self._runtime,
            adapter.scaled_tokens,
            adapter.layout,
            examples,
            self._fit_asked(config),
            config,
            answers=answers,
            score=partial(score_bare, self._runtime, adapter.layout),
            enough=enough,
        )
        while True:
            try:
                step = next(steps)
            except StopIteration as stop:
                made: Refined = stop.value
                return made
            asking: Doing = "answered" if step.answers else "ask"
            yield Progress(
                step.stage,
                step.done / step.total,
                time.monotonic() - started,
                asking if step.stage == "ask" else "train",
                loss=step.loss,
                seconds_left=step.seconds_left,
                answers=_counted(step.answers) if step.answers else None,
                score=step.score,
                score_before=step.score_before,
                num_held_back=step.num_held_back,
            )

    def propose(
        self, buckets: Sequence[Bucket], *, limit: int = 16, seed: int = 0
    ) -> Steps[Progress, None, dict[str, str]]:
        """Let the base answer some prompts, for a person to correct; see `teach`.

        Args:
            buckets: Groups of prompt files; those of positive weight count.
            limit: Most prompts, drawn by seed.
            seed: Of the draw.

        Yields:
            Progress through the stage ask.

        Returns:
            By whole prompts: their label if they have one, else the answer of the base to the
            prompt with its instruction, empty where it does not end.

        Raises:
            BucketError: If no bucket counts, or weights or sizes are out of bounds.
            TrainingError: If no prompt can be learnt from.
        """
        started = time.monotonic()
        counting = [b for b in check_buckets(buckets, self.config.limits) if b.weight > 0]
        config = RefineConfig(max_prompts=limit, least_prompts=1, seed=seed)
        examples = _examples(counting)
        labels = {example.prompt: example.response for example in examples}
        found = {one.prompt: labels[one.prompt] for one in choose(examples, self.base, config)}
        unknown = [Example(prompt, "") for prompt, label in found.items() if not label]
        rest = iter(unknown)
        for number, answers in enumerate(
            propose(self._runtime, unknown, self._fit_asked(config), config), start=1
        ):
            found |= {next(rest).prompt: answer or "" for answer in answers}
            share = min(1.0, number * ASKED_TOGETHER / len(unknown))
            yield Progress("ask", share, time.monotonic() - started, "ask")
        return found

    def chat(
        self,
        base_messages: Sequence[Message],
        adapted_messages: Sequence[Message] | None = None,
        *,
        adapter: Adapter | None,
        sampling: Sampling | None = None,
    ) -> Steps[ChatStep, None, None]:
        """Answer as the base and as the adapted model, in one batch, token by token.

        Args:
            base_messages: The base's conversation, ending with the user's message.
            adapted_messages: The adapted model's, if its own earlier answers differ.
            adapter: None asks the base alone.
            sampling: The same for both.

        Yields:
            Both answers so far. Closing the iterator stops at the next token.

        Raises:
            ChatError: If a conversation is malformed or too long.
        """
        conversations = [base_messages]
        adapters: list[Adapter | None] = [None]
        if adapter is not None:
            conversations.append(adapted_messages or base_messages)
            adapters.append(adapter)
        for replies in self.compare(conversations, adapters, sampling=sampling):
            yield ChatStep(replies[0], replies[1] if adapter is not None else None)

    def compare(
        self,
        conversations: Sequence[Sequence[Message]],
        adapters: Sequence[Adapter | None],
        *,
        sampling: Sampling | None = None,
        strengths: Sequence[Callable[[], float] | None] | None = None,
    ) -> Steps[list[Reply], None, None]:
        """Answer as several models in one batch, token by token.

        Args:
            conversations: One for each model, ending with the user's message.
            adapters: What is active for each; None is the base.
            sampling: The same for all; each draws the same random numbers.
            strengths: Asked before every token, so that a strength can change while an answer is
                written; None keeps the adapter's own.

        Yields:
            All answers so far, side by side. Closing the iterator stops at the next token.

        Raises:
            ChatError: If a conversation is malformed or too long.
            ConfigError: If a strength is out of bounds.
        """
        current: list[float | None] | None = None
        active: FittedLoRA | None = None
        asked = strengths or [None] * len(adapters)

        def now_active() -> FittedLoRA | None:
            nonlocal current, active
            now = [
                None if adapter is None else strength() if strength else adapter.strength
                for adapter, strength in zip(adapters, asked, strict=True)
            ]
            if now != current:
                active, current = self._fit_sides(adapters, now), now
            return active

        yield from decode(self._runtime, conversations, now_active, sampling or Sampling())

    def inspect(self, adapter: Adapter, buckets: Sequence[Bucket] = ()) -> Inspection:
        """Run the registered checks; effect, agreement and verdict need prompts.

        Whoever chats or synthesizes goes first, from the next forward pass on.

        Args:
            adapter: Any that fits the base.
            buckets: Whose prompts it is measured on: 16 of them, chosen by `measured_prompts`.
        """
        chosen = measured_prompts(buckets)
        report = self.reports.get("heldout")
        subject = Subject(
            adapter=adapter,
            runtime=self._runtime,
            fitted=self._fit_one(adapter),
            prompts=chosen,
            nearest=adapter.nearest_tasks if self._wrote(adapter) else (),
            report=report,
            lessons=lambda: self._lessons(adapter, buckets),
            base_answers=self._ordinary_answers,
        )
        with patient():
            found = run_checks(subject)
        return Inspection.of(
            found,
            relative_norms=relative_norms(adapter, self._norms),
            nearest_tasks=adapter.nearest_tasks,
            num_prompts=len(chosen),
            strongest=report.strongest_effect if report else None,
        )

    def relative_norms(self, adapter: Adapter) -> Mapping[str, tuple[float, ...]]:
        """Measure how large its update is; part of `inspect`, and a moment's work alone.

        Raises:
            BaseMismatchError: If it is for another base.
        """
        self._check_made_here(adapter)
        return relative_norms(adapter, self._norms)

    def thumbprint(self, adapter: Adapter) -> tuple[tuple[float, ...], ...]:
        """Return numbers that tell an adapter from others at a glance; see `checks.norms`.

        Of a generated adapter they show how it differs from what all of its generator share.

        Raises:
            BaseMismatchError: If it is for another base.
        """
        self._check_made_here(adapter)
        made = self._generator
        mean = None
        if made and self._wrote(adapter) and not adapter.is_imprinted:
            # An adapter's tokens are on the CPU, whatever the device of the models.
            mean = made.generator.shared.detach().cpu() if adapter.layout == made.layout else None
        return thumbprint(adapter, self._norms, mean)

    def prove(
        self, adapter: Adapter, buckets: Sequence[Bucket], *, memory: PromptMemory | None = None
    ) -> Steps[Progress, None, Conditioning | None]:
        """Put an adapter beside others of the same generator, on prompts it was made from.

        The wrong adapters come from the other buckets; for a bucket that is alone, from the
        shipped example that is least like it. Whoever chats or synthesizes goes first.

        Args:
            adapter: As `synthesize` made it.
            buckets: What it was made from.
            memory: As for `synthesize`.

        Yields:
            Progress through the stages decode and check.

        Returns:
            The adapter and its controls; None where too few prompts are short and have a blank
            line.

        Raises:
            AdapterError: If it was trained: the others were not.
            BucketError: If no bucket counts, or weights or sizes are out of bounds.
        """
        if adapter.was_trained:
            raise AdapterError(
                f"`{adapter.name}` was trained on these prompts, and adapters made from others were"
                " not. Compare the adapter it was refined from."
            )
        started = time.monotonic()
        counting = check_buckets(buckets, self.config.limits)
        seed, mix = adapter.provenance.get("seed", 0), adapter.provenance.get("mix", "pool")
        imprint = adapter.recipe.imprint if adapter.is_imprinted else None
        teacher: Teacher = imprint.teacher if imprint else "generator"
        shared = self._fit_shared()
        memory = PromptMemory() if memory is None else memory
        elsewhere = () if len(counting) > 1 else (self._unlike(counting[0], seed, memory),)
        pairs = others(counting, elsewhere)
        measured = [some_prompts(mine, MOST_PROMPTS // len(pairs) or 1) for mine, _ in pairs]
        prompts = [prompt for part in measured for prompt in part]
        ends = list(itertools.accumulate(map(len, measured)))
        everyone = range(len(prompts))
        candidates: list[Candidate] = [("adapter", self._fit_one(adapter), everyone)]
        if shared is not None:
            candidates.append(("mean", shared, everyone))
        candidates.append(("base", None, everyone))

        def report(doing: Doing, done: int) -> Progress:
            return Progress("decode", done / (len(pairs) + 1), time.monotonic() - started, doing)

        def put(name: ControlName, source: Sequence[Bucket], numbers: Sequence[int]) -> None:
            try:
                with patient():
                    made = self.generate(
                        source,
                        mix=mix,
                        strength=adapter.strength,
                        seed=seed,
                        imprinted=adapter.is_imprinted,
                        teacher=teacher,
                        memory=memory,
                    )
            except ImprintError:
                # Without a generator, prompts that nothing can be imprinted of make no adapter.
                return
            candidates.append((name, self._fit_one(made), numbers))

        if self._generator is not None:  # shuffled prompts have no instruction to imprint
            yield report("shuffled", 0)
            put("shuffled", shuffled(counting, seed), everyone)
        for number, ((_, wrong), part, end) in enumerate(zip(pairs, measured, ends, strict=True)):
            yield report("wrong", number + 1)
            put("wrong", wrong, range(end - len(part), end))
        yield Progress(
            "check",
            None,
            time.monotonic() - started,
            "compare_adapters",
            num_prompts=len(prompts),
        )
        wrong_from = dict.fromkeys(b.name for _, wrong in pairs for b in wrong)
        if all(name != "wrong" for name, _, _ in candidates):
            wrong_from.clear()
        with patient():
            return compare_conditions(self._runtime, shared, candidates, prompts, [*wrong_from])

    def measure(
        self, adapter: Adapter, labelled: PromptFile, config: MeasureConfig | None = None
    ) -> Steps[MeasureStep, None, Measurement]:
        """Score an adapter on labelled rows, beside the base and what else costs no training.

        Args:
            adapter: Any that fits the base.
            labelled: Prompts with labels. Those that the adapter was made from are not scored.
            config: How many rows are scored, in which modes and by what.

        Yields:
            After every batch, with everything found so far; closing the iterator cancels.

        Returns:
            The whole, by `yield from` or `StopIteration.value`; `train_lora` can add to it.

        Raises:
            MeasureError: If no row is labelled, or none is left to score.
        """
        # Imported here: its metrics load nltk, which nothing else needs.
        from dnd_engine.measure.run import measure

        config = config or MeasureConfig()
        sides = split(labelled, self.base.tokenizer, Seen.by(adapter.provenance), config)
        took = self._synthesis_seconds(adapter, labelled)
        measured = Measurement(
            sides=sides,
            adapter=adapter.name,
            adapter_sha256=adapter.sha256,
            strength=adapter.strength,
            base=self.info.base_id,
            synthesis_seconds=took,
            synthesis_estimated=took is not None and "total" not in adapter.seconds,
            seed=config.seed,
        )
        active, shared = self._fit_one(adapter), self._fit_shared()
        return (yield from measure(self._runtime, active, shared, measured))

    def train_lora(
        self,
        adapter: Adapter,
        measured: Measurement,
        config: LabelledConfig | None = None,
        *,
        warm_start: bool = False,
    ) -> Steps[MeasureStep, None, Measurement]:
        """Train a real LoRA on the rows that were not scored, and score it on the way.

        Args:
            adapter: The one that was measured; the LoRA has its layout.
            measured: Of it, by `measure` or a step of it.
            config: How the LoRA is trained.
            warm_start: Begin from the adapter, instead of from scratch.

        Yields:
            After every step and batch, with everything found so far; closing the iterator cancels.

        Returns:
            What was measured before and now, with the LoRA as an adapter in `trained`.

        Raises:
            TrainingError: If too few rows can be learnt, or a loss is not finite.
            MeasureError: If another adapter was measured.
            BaseMismatchError: If it is for another base.
        """
        self._check_made_here(adapter)
        from dnd_engine.measure.run import train

        return (
            yield from train(
                self._runtime,
                adapter,
                measured,
                config or LabelledConfig(),
                warm_start=warm_start,
                origin={"base": self.info.base_id, "base_sha256": self.info.base_sha256},
            )
        )

    def _wrote(self, adapter: Adapter) -> bool:
        """Whether it is, or was before it learnt more, the work of the generator that is loaded."""
        known = adapter.provenance.get("generator_sha256")
        return known is not None and known == self.info.generator_sha256

    def _synthesis_seconds(self, adapter: Adapter, labelled: PromptFile) -> float | None:
        """What making an adapter took; for one read from a file, what as many prompts take now.

        None if it was not generated here, or was trained some unknown time after that, or the file
        has not as many.
        """
        if "total" in adapter.seconds:
            return sum(adapter.seconds.get(part, 0.0) for part in ("total", "refine", "train"))
        if not self._wrote(adapter) or adapter.was_trained:
            return None
        prompts = labelled.prompts[: adapter.num_prompts]
        if not 0 < len(prompts) == adapter.num_prompts:
            return None
        bucket = Bucket("as many", 1.0, (replace(labelled, prompts=prompts),))
        return self.generate([bucket], imprinted=False).seconds["total"]

    @staticmethod
    def with_checks(
        adapter: Adapter, found: Inspection, proof: Conditioning | None = None
    ) -> Adapter:
        """Return the same adapter with what was measured of it, for its card."""
        return replace(adapter, checks=as_checks(adapter, found, proof))

    def recall(
        self, checks: Mapping[str, Any], nearest: Sequence[NearestTask] = ()
    ) -> tuple[Inspection | None, Conditioning | None]:
        """Read what `inspect` and `prove` found before, from the checks of a kept adapter.

        Raises:
            AdapterError: If they are damaged.
        """
        report = self.reports.get("heldout")
        return recall(checks, nearest, report.strongest_effect if report else None)

    def _unlike(self, bucket: Bucket, seed: int, memory: PromptMemory) -> Bucket:
        """The shipped example whose prompts are least like those of a bucket."""
        examples = [example.read() for example in load_examples()]
        here, *there = (
            nn.functional.normalize(
                self._encode(self._drawn([one], seed), memory).pooled.mean(dim=0), dim=0
            )
            for one in (replace(bucket, weight=1.0), *examples)
        )
        return min(zip(there, examples, strict=True), key=lambda pair: float(pair[0] @ here))[1]

    def effect(self, adapter: Adapter, buckets: Sequence[Bucket]) -> float:
        """Measure how far an adapter moves the base's first answer token.

        Returns:
            Mean KL(adapted ‖ base) over the prompts that `measured_prompts` chooses, in nats.

        Raises:
            BucketError: If no bucket holds prompts and counts.
        """
        if not (chosen := measured_prompts(buckets)):
            raise BucketError(
                "an effect is measured on prompts: expected a bucket with prompts and a weight "
                "other than 0, got none."
            )
        return effect(self._runtime, self._fit_one(adapter), adapter.strength, chosen)

    def rank_tasks(self, buckets: Sequence[Bucket], *, seed: int = 0) -> tuple[NearestTask, ...]:
        """All training tasks, those first whose prompts are most like these.

        An adapter pooled from the same buckets under the same seed names the first five.

        Raises:
            BucketError: If no bucket counts, or weights or sizes are out of bounds.
            GeneratorError: If there is no generator.
        """
        tasks = self._resident().folder.tasks
        texts = self._drawn(check_buckets(buckets, self.config.limits), seed)
        return nearest_tasks(self._encode(texts).pooled, tasks, count=len(tasks))

    def read_adapter(self, path: Path | str) -> Adapter:
        """Read a PEFT LoRA folder or zip made for this base, with all checks.

        Raises:
            AdapterError: If it is damaged or not plain LoRA.
            BaseMismatchError: If it is for another base.
        """
        return read_adapter(Path(path), self.base.config, self.info.base_id)

    def save(self, adapter: Adapter, path: Path | str) -> Path:
        """Write an adapter as a PEFT zip or folder, after proving that stock PEFT reads it.

        Raises:
            VerificationError: If keys are missing or unexpected after reloading, or the reloaded
                model's logits are not the in-memory adapter's. Nothing is written then.
            ExportError: If `path` is neither a zip nor a folder, is taken or cannot be written to.
        """
        self._check_made_here(adapter)
        return self.export(adapter, "peft", path).path

    def export(self, adapter: Adapter, format: str, path: Path | str) -> Exported:
        """Write an adapter for another tool; it appears whole or not at all.

        Args:
            adapter: Its strength is written too.
            format: One of `export.registry.EXPORTS`.
            path: Where to.

        Raises:
            BaseMismatchError: If another base would be written with it.
            ExportError: If `path` is not one for this format or cannot be written to, or llama.cpp
                runs the base in a way that is not known here.
            VerificationError: If what was written does not compute what the adapter does. Nothing
                is kept then.
        """
        path, target = Path(path), export_target(format)
        if target.whole_model:
            # Of another base of the same shapes, everything would fit and be verified.
            self._check_made_here(adapter)
        difference: float | None = None
        with exported_aside(path, target) as aside:
            target.write(adapter, self.base, aside)
            if target.verify is not None:
                difference = target.verify(self._verifier, adapter, aside)
        parts = [path] if path.is_file() else [*path.iterdir()]
        return Exported(
            path=path,
            format=format,
            num_bytes=sum(part.stat().st_size for part in parts),
            usage=target.usage(adapter, str(path)),
            difference=difference,
        )

    def push(
        self, adapter: Adapter, repo_id: str, *, token: str | None = None, private: bool = True
    ) -> Pushed:
        """Upload an adapter's PEFT files to a repository of the Hugging Face Hub.

        Names of buckets and prompt files, their counts and hashes go with it; prompt texts do not.

        Args:
            adapter: Its strength is folded in.
            repo_id: `user/name`; it is made if it does not exist.
            token: Of the Hub, with write access; kept nowhere. None takes this machine's login,
                which is not a visitor's: an app for others must ask for theirs.
            private: Of a new repository; what is to be private is not put into a public one.

        Raises:
            HubError: If there is no token, the name is wrong, the Hub refuses or cannot be
                reached, or the base is a folder on this machine.
            VerificationError: As for `save`.
            BaseMismatchError: If it is for another base.
        """
        self._check_made_here(adapter)
        if Path(adapter.base_id).expanduser().is_dir():
            raise HubError(
                f"the base of `{adapter.name}` is the folder `{adapter.base_id}`, which others do "
                "not have. Name the base by its Hub id, and make the adapter again."
            )
        files = adapter.files(place=repo_id)
        self.verify(adapter, files)
        url, is_private = push_files(files, repo_id, token, private)
        return Pushed(url=url, private=is_private, usage=peft_usage(adapter.base_id, repo_id))

    def verify(self, adapter: Adapter, files: dict[str, bytes]) -> float:
        """Reload written files with stock PEFT on the same base and compare.

        Returns:
            Largest difference of logits, relative to the largest logit.

        Raises:
            VerificationError: If they do not come back as they were written.
        """
        return self._verifier.peft_files(adapter, files)

    def _resident(self) -> ResidentGenerator:
        """Return the generator.

        Raises:
            GeneratorError: If there is none.
        """
        if self._generator is None:
            raise GeneratorError(
                f"no generator is loaded for {self.info.base_id}, so adapters can only be "
                "imprinted. Leave imprint on, name a generator with --generator, or train one with "
                "`dnd train`."
            )
        return self._generator

    def _drawn(self, group: Sequence[Bucket], seed: int) -> list[str]:
        """The prompts of one condition: whole prompt batches, 128 prompts at most."""
        held = min(len({p.text for b in group for p in b.prompts}), MAX_ENCODED_PROMPTS)
        size = self._generator.num_prompts if self._generator else held
        return [prompt.text for prompt in draw_prompt_batch(group, -(-held // size) * size, seed)]

    def _encode(self, texts: Sequence[str], memory: PromptMemory | None = None) -> EncodedPrompts:
        """Encode the prompts of one condition."""
        distinct = list(dict.fromkeys(texts))
        if self._generator is not None:
            memory = PromptMemory() if memory is None else memory
            return self._generator.encode(texts, distinct, memory)
        with self._runtime.lock:
            return self._encoder.encode(distinct, POOLED_LENGTH)

    def _lessons(
        self, adapter: Adapter, buckets: Sequence[Bucket]
    ) -> Iterator[tuple[bool, Lessons]]:
        """Return what taught an adapter, or would: first on prompts it was not fitted to."""
        if (found := imprinting_of(adapter)) is None:
            yield False, [(self._fit_shared(), measured_prompts(buckets))]
            return
        counting = [bucket for bucket in buckets if _imprintable(bucket)]
        teachers: dict[str, FittedLoRA | None] = {}
        for bucket in counting:
            base_taught = found.teacher == "base"
            memory = PromptMemory()
            teachers[bucket.name] = None if base_taught else self._teacher(bucket, found, memory)
        fitted = Seen.by(adapter.provenance).read - frozenset(found.left_out)
        for left_out in (True, False):
            yield (
                left_out,
                [
                    (teachers[bucket.name], texts)
                    for bucket in counting
                    if (
                        texts := [
                            text
                            for text in measured_prompts([replace(bucket, weight=1.0)], most=None)
                            if not (left_out and digests([text]) <= fitted)
                        ]
                    )
                ],
            )

    def _check_made_here(self, adapter: Adapter) -> None:
        """Refuse an adapter of another base; the page may have loaded another since it was made.

        Raises:
            BaseMismatchError: With both names.
        """
        if adapter.base_id != self.info.base_id:
            raise BaseMismatchError(
                f"`{adapter.name}` was made for {adapter.base_id}, and {self.info.base_id} is "
                "loaded. Load its base again, or make an adapter for this one."
            )

    def _fit_one(self, adapter: Adapter) -> FittedLoRA:
        self._check_made_here(adapter)
        return self._runtime.host.fit(adapter.scaled_tokens[None], adapter.layout)

    def _fit_asked(self, config: RefineConfig) -> FittedLoRA | None:
        """Return what answers whole prompts: the trained teacher, else `_fit_shared`."""
        trained = self._generator.fit_teacher() if self._generator else None
        return trained if config.trained_teacher and trained else self._fit_shared()

    def _fit_shared(self) -> FittedLoRA | None:
        """What all of the generator's adapters share: it reads instructions well. None is the base.

        Without a generator, the base itself reads the instruction.
        """
        return self._generator.fit_shared() if self._generator else None

    def _fit_sides(
        self, adapters: Sequence[Adapter | None], strengths: Sequence[float | None]
    ) -> FittedLoRA:
        """One group of rows for each adapter; None stays the base, and so does strength 0."""
        for adapter in filter(None, adapters):
            self._check_made_here(adapter)
        fitted = [
            self._runtime.host.fit(
                adapter.with_strength(strength).scaled_tokens[None], adapter.layout
            )
            if adapter is not None and strength
            else None
            for adapter, strength in zip(adapters, strengths, strict=True)
        ]
        return FittedLoRA.stack(fitted).without_bare()

    def _provenance(
        self,
        buckets: Sequence[Bucket],
        mix: Mix,
        seed: int,
        num_prompts: int,
        num_encoded: int,
        nearest: Sequence[NearestTask],
    ) -> dict[str, Any]:
        """Where an adapter comes from; no texts, no times: equal input gives equal bytes."""
        recipe = Recipe(
            base=self.info.base_id,
            base_sha256=self.info.base_sha256,
            encoder=self.info.encoder_id,
            encoder_sha256=self.info.encoder_sha256,
            generator=self.info.generator_id,
            generator_sha256=self.info.generator_sha256,
            mix=mix,
            seed=seed,
            buckets=tuple(map(BucketSource.of, buckets)),
        )
        return {
            **recipe.to_json(),
            "num_prompts": num_prompts,
            "num_prompts_encoded": num_encoded,
            "nearest_tasks": [asdict(task) for task in nearest],
        }


def _examples(buckets: Sequence[Bucket]) -> list[Example]:
    """Return the distinct prompts of buckets, with their labels."""
    prompts = {p.text: p for b in buckets for p in b.prompts}.values()
    return [Example(p.text, p.label or "") for p in prompts]


def _imprintable(bucket: Bucket) -> list[tuple[str, str]]:
    """Return the prompts of a bucket with their inputs, in an order that files do not decide.

    A bucket of negative weight has none: there is no opposite of an instruction.
    """
    if bucket.weight <= 0:
        return []
    split = ((p.text, split_prompt(p.text).input) for p in bucket.prompts)
    return sorted((text, given) for text, given in split if given is not None)


def _counted(answers: Sequence[str]) -> AnswerCounts:
    counts = Counter(answers)
    ((answer, times),) = counts.most_common(1)
    if len(answer) > _TOLD_CHARACTERS:
        answer = answer[:_TOLD_CHARACTERS].rstrip() + "…"
    return AnswerCounts(answer, times, len(answers), len(counts))
