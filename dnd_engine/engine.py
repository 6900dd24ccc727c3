"""The public facade: one resident base, encoder and generator, and everything done with them.

`files -> Bucket -> Condition -> weight tokens -> Adapter -> chat`. Models are loaded once:
synthesis never reloads the base, and a change of strength needs no new synthesis.
"""

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Generator as Steps
from dataclasses import replace
from pathlib import Path
from typing import Any

from dnd_engine.checks.familiarity import nearest_tasks
from dnd_engine.checks.norms import base_norms, relative_norms
from dnd_engine.checks.ordinary import BaseAnswers
from dnd_engine.checks.registry import as_checks, recall
from dnd_engine.checks.results import Conditioning, Forecast, Inspection
from dnd_engine.checks.verdict import AdapterVerdict
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
from dnd_engine.errors import ConfigError, HubError, ImprintError
from dnd_engine.export.hub import push_files
from dnd_engine.export.place import exported_aside
from dnd_engine.export.registry import Exported, Pushed, export_target
from dnd_engine.export.verify import Verifier
from dnd_engine.files import expanded
from dnd_engine.generator.folder import GeneratorFolder, check_base, check_encoder
from dnd_engine.generator.info import EngineInfo
from dnd_engine.generator.installed import encoder_name, generator_path
from dnd_engine.generator.report import Report
from dnd_engine.generator.resident import ResidentGenerator
from dnd_engine.limits import check_seed
from dnd_engine.lora.adapter import Adapter
from dnd_engine.lora.provenance import NearestTask, Recipe
from dnd_engine.lora.reader import read_adapter
from dnd_engine.lora.usage import peft_usage
from dnd_engine.measure.results import Measurement, MeasureStep
from dnd_engine.models.base import (
    BaseModel,
    best_device,
    best_dtype,
    fingerprint,
    load_base,
    resolve_base,
)
from dnd_engine.models.encoder import PromptEncoder, PromptMemory
from dnd_engine.models.replies import ChatStep, Message, Reply
from dnd_engine.models.runtime import Runtime
from dnd_engine.models.sources import ResolvedWeights, cache_folder, resolve_encoder
from dnd_engine.models.threads import keep_within_limits
from dnd_engine.models.turns import patient, urgently
from dnd_engine.progress import Doing, Progress, ProgressStage, finish
from dnd_engine.prompts.buckets import Bucket, check_buckets
from dnd_engine.prompts.examples import load_examples
from dnd_engine.prompts.files import PromptFile
from dnd_engine.synthesis.check import (
    forecast_bucket,
    inspect_adapter,
    judge_adapter,
    picture_adapter,
)
from dnd_engine.synthesis.compare import compare_models
from dnd_engine.synthesis.imprint import imprint_adapter, imprint_alone
from dnd_engine.synthesis.learn import propose_answers, refine_adapter, teach_adapter
from dnd_engine.synthesis.loaded import Loaded, OrdinaryBaseline
from dnd_engine.synthesis.measure import measure_adapter, train_on_measured
from dnd_engine.synthesis.prove import prove
from dnd_engine.synthesis.regenerate import regenerate
from dnd_engine.synthesis.write import blank, read_ahead, write
from dnd_engine.teach.local import BetterModel


class Engine:
    """Resident models and the operations on them; safe to share between threads.

    Create one per process with `Engine.load`. These rules hold for all methods:

    - A method that returns `Steps` works step by step: it yields the state so far, and returns its
      result by `yield from` or `StopIteration.value` (`progress.finish` runs it to its end).
      Closing the iterator cancels.
    - An adapter that you pass is never modified. A method that computes with it raises
      `BaseMismatchError` if it was made for another base.
    - `buckets` are named, weighted groups of prompt files. A method that needs them raises
      `BucketError` if all are empty or muted, or weights or sizes are out of bounds.
    - Prompts are sampled by `seed`. `strength` is a factor on ΔW.
    - `on_progress` is called with each step. `enough` is called after every step of training;
      returning True ends it early.
    - `memory` caches encoded prompts for later calls with similar prompts (see `new_memory`). It
      does not change a result, not even by a bit.
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
        runtime = Runtime.of(base)
        generator: ResidentGenerator | None = None
        if folder is not None:
            dtype = next(base.model.parameters()).dtype
            loaded = folder.load(base.device, dtype)
            teacher = folder.load_teacher()
            generator = ResidentGenerator(folder, loaded, encoder, runtime, teacher)
        self.info = EngineInfo.of(base, encoder_weights, folder, seconds)
        ordinary = OrdinaryBaseline(runtime, cache_folder(config.cache_dir) / "ordinary")
        norms = base_norms(base.model, runtime.host.layout)
        self._loaded = Loaded(config, runtime, encoder, generator, self.info, ordinary, norms)
        self._verifier = Verifier(runtime)

    @property
    def config(self) -> EngineConfig:
        """The configuration passed to `load`."""
        return self._loaded.config

    @property
    def base(self) -> BaseModel:
        """The frozen base; do not modify it."""
        return self._loaded.runtime.base

    @property
    def runtime(self) -> Runtime:
        """The resident base, its `LoRAHost`, and the lock for both.

        The engine's methods take the lock themselves, so calling one while holding it deadlocks.
        """
        return self._loaded.runtime

    @property
    def generator(self) -> GeneratorFolder:
        """The loaded generator's folder, with its training data and card.

        Raises:
            GeneratorError: If there is none and adapters are made by imprint alone.
        """
        return self._loaded.resident().folder

    def seen(self, name: str) -> list[Any]:
        """Return the `data`, `validation_data` or `variants` that the generator's training saw.

        Empty without a generator.
        """
        return self.generator.seen(name) if self.info.has_generator else []

    @property
    def card(self) -> str:
        """The generator's model card, Markdown with front matter; may be empty."""
        return self._loaded.generator.folder.card() if self._loaded.generator else ""

    @property
    def reports(self) -> dict[str, Report]:
        """The generator's evaluations by split, read from its folder now."""
        return self._loaded.reports

    @classmethod
    def load(
        cls,
        config: EngineConfig | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> "Engine":
        """Load base, encoder and generator, downloading the embedded base on first use.

        A base without a generator works too: its adapters are made by imprint alone (see
        `synthesize`).

        Raises:
            AssetError: If weights are unavailable or damaged.
            GeneratorError: If the generator is missing or damaged.
            BaseMismatchError: If the generator is for another base.
        """
        config = config or EngineConfig()
        started = time.monotonic()
        seconds: dict[str, float] = {}

        def report(
            doing: Doing, fraction: float | None, name: str = "", stage: ProgressStage = "load"
        ) -> None:
            if on_progress is not None:
                on_progress(Progress(stage, fraction, time.monotonic() - started, doing, name))

        def lap(name: str) -> None:
            # The laps so far add up to the time at which this one began.
            seconds[name] = round(time.monotonic() - started - sum(seconds.values()), 3)

        # The generator's small files first: a wrong folder is refused before any weights are read.
        path = generator_path(config)
        folder = GeneratorFolder.open(path) if path else None
        keep_within_limits()
        device = best_device(config.device)
        dtype = best_dtype(device)
        weights = resolve_base(
            config.base,
            device,
            dtype,
            config.cache_dir,
            lambda doing, name, fraction: report(doing, fraction, name, "download"),
        )
        lap("fetch")
        report("load_base", 0.1)
        base = load_base(weights, device, dtype)
        if folder:
            # A wrong base is refused before encoder and generator are loaded.
            check_base(folder.config, weights.hub_id, fingerprint(base))
        lap("base")
        report("load_encoder", 0.6)
        encoder_weights = resolve_encoder(encoder_name(config, folder), dtype, config.cache_dir)
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
        """Make, verify and query a throwaway adapter to fill all caches.

        One-time work takes longer than a synthesis: wrapping the base with PEFT, its answers to
        ordinary messages, packing weights. After this call, the first user need not wait for it.
        """
        example = [load_examples()[0].read()]
        loaded = self._loaded
        if loaded.generator is None:
            adapter = blank(loaded, example, ImprintConfig())
        else:
            adapter = finish(write(loaded, example))
        self.verify(adapter, adapter.files())
        hello: Message = {"role": "user", "content": "Hello"}
        for _ in self.compare([[hello]] * 2, [None, adapter], sampling=Sampling(max_new_tokens=3)):
            pass
        self.ordinary_answers()

    def measure_ordinary(self) -> Iterator[None]:
        """Measure the base's layers on ordinary messages, as patient work, step by step.

        Otherwise the first imprint does it. It takes 16 s for the embedded base on two cores, once
        per base: later starts read it from the cache.
        """
        steps = self._loaded.ordinary.penalties(ImprintConfig())
        while True:
            with patient():
                if next(steps, None) is None:
                    return
            yield

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
        on_progress: Callable[[Progress], object] | None = None,
    ) -> Adapter:
        """Make an adapter from buckets of prompts: `synthesize`, then `imprint`.

        With `imprinted`, the instructions are imprinted too, with the answers of `teacher` (see
        `imprint`). If that fails, the result is the generated adapter, and its `not_imprinted`
        gives the reason. Without a generator, such a failure raises.

        Raises:
            GeneratorError: If there is no generator and `imprinted` is off.
            ImprintError: If there is no generator and nothing can be imprinted.
        """
        steps = self.make(
            buckets,
            mix=mix,
            strength=strength,
            seed=seed,
            imprinted=imprinted,
            teacher=teacher,
            memory=memory,
        )
        return finish(steps, on_progress)

    def make(
        self,
        buckets: Sequence[Bucket],
        *,
        mix: Mix = "pool",
        strength: float = 1.0,
        seed: int = 0,
        imprinted: bool = True,
        teacher: Teacher = "generator",
        memory: PromptMemory | None = None,
    ) -> Steps[Progress, None, Adapter]:
        """Make an adapter as `generate` does, step by step.

        Yields:
            Progress, as `synthesize` and `imprint` do.

        Raises:
            GeneratorError: If there is no generator and `imprinted` is off.
            ImprintError: If there is no generator and nothing can be imprinted.
        """
        if not imprinted:
            # Raises without a generator, before anything is computed.
            self._loaded.resident()
        memory = PromptMemory() if memory is None else memory
        made = yield from self.synthesize(
            buckets, mix=mix, strength=strength, seed=seed, memory=memory
        )
        # Without a generator, `synthesize` has imprinted already.
        if not imprinted or made.is_imprinted:
            return made
        try:
            config = ImprintConfig(seed=seed)
            return (yield from self.imprint(made, buckets, config, teacher=teacher, memory=memory))
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
        """Make an adapter with the generator; `imprint` may follow.

        Without a generator, the adapter is made by imprint alone. Only buckets of positive weight
        are then used, and `mix` is ignored. Otherwise `pool` reads all prompts as one condition,
        drawn in proportion to the weights; `sum` makes one adapter per bucket and adds them with
        the weights.

        Yields:
            Progress through the stages encode, decode and check; without a generator, ask and
            imprint.

        Raises:
            ImprintError: If there is no generator and nothing can be imprinted.
        """
        if mix not in MIXES:
            raise ConfigError(f"`mix` must be {' or '.join(MIXES)}, got {mix!r}.")
        check_seed(seed)
        loaded = self._loaded
        if loaded.generator is None:
            config = ImprintConfig(seed=seed)
            return (yield from imprint_alone(loaded, buckets, config, mix=mix, strength=strength))
        steps = write(loaded, buckets, mix=mix, strength=strength, seed=seed, memory=memory)
        # The imprint alone, above, becomes urgent by itself once it has the penalties.
        with loaded.runtime.lock.awaited():
            return (yield from urgently(loaded.runtime.lock, steps))

    def read_ahead(
        self,
        buckets: Sequence[Bucket],
        *,
        mix: Mix = "pool",
        seed: int = 0,
        memory: PromptMemory,
        goes_on: Callable[[], bool] = lambda: True,
    ) -> None:
        """Encode the prompts that `synthesize` would draw, so that it finds them in `memory`.

        Encoding takes two fifths of its time. Chats and syntheses take priority. Does nothing
        without a generator. `goes_on` is asked before each 32 prompts, and False ends it.
        """
        if self._loaded.generator is not None:
            read_ahead(self._loaded, buckets, mix, seed, memory, goes_on)

    def imprint(
        self,
        adapter: Adapter,
        buckets: Sequence[Bucket],
        config: ImprintConfig | None = None,
        *,
        teacher: Teacher = "generator",
        memory: PromptMemory | None = None,
    ) -> Steps[Progress, None, Adapter]:
        """Write the instructions of prompts into an adapter in closed form.

        The base answers whole prompts with the generator's teacher active. A regression
        then makes the bare base answer the same to the inputs alone (see `imprint.fit`). Buckets
        of positive weight are fitted together; the result replaces the generator's adapter.

        Args:
            adapter: Adapter that `synthesize` made from these buckets.
            buckets: Prompts; those without a blank line between instruction and input take no part.
            config: Rank, limits and seed.
            teacher: Model that answers whole prompts. `generator` uses its trained teacher, or its
                adapters without one; `base` uses no adapter, so the result owes nothing to the
                generator. Without a generator it is `base`.
            memory: Cache of encoded prompts.

        Yields:
            Progress through the stages ask and imprint.

        Returns:
            A new adapter of the same strength.

        Raises:
            ImprintError: If nothing can be imprinted, or the adapter was trained.
        """
        return imprint_adapter(
            self._loaded,
            adapter,
            buckets,
            config or ImprintConfig(),
            teacher=teacher,
            memory=memory,
        )

    def regenerate(
        self, recipe: Recipe, paths: Sequence[Path] = ()
    ) -> Steps[Progress, None, Adapter]:
        """Recreate an adapter from its recipe: synthesis, imprint and refinements.

        On the same kind of device the weights are bit-identical, and the adapter's `sha256` is the
        recipe's. Other devices may round differently.

        Args:
            recipe: `Adapter.recipe`, or `read_recipe` of a file.
            paths: Prompt files under any name, and folders to search. Not needed if the recipe
                contains its texts.

        Yields:
            Progress, as `synthesize`, `imprint` and `refine` do.

        Raises:
            RecipeError: If another base, encoder or generator is loaded, or prompts are missing.
        """
        return regenerate(self._loaded, recipe, paths)

    @staticmethod
    def new_memory() -> PromptMemory:
        """Return an empty cache of encoded prompts, to pass as `memory`."""
        return PromptMemory()

    def refine(
        self,
        adapter: Adapter,
        buckets: Sequence[Bucket],
        config: RefineConfig | None = None,
        *,
        enough: Callable[[], bool] | None = None,
    ) -> Steps[Progress, None, Adapter]:
        """Train an adapter on prompts of its own task.

        Without labels, a teacher answers the full prompts (the base with the generator's trained
        teacher or the part that its adapters share), and the adapter learns to give the same
        answers to the bare inputs. Each prompt needs a blank line between instruction and input.
        Buckets of positive weight are used, all equally.

        Yields:
            Progress through the stages ask and refine, with a score on validation prompts.

        Returns:
            A new adapter of strength 1.

        Raises:
            TrainingError: If too few prompts are usable; with labels, too few labelled ones.
        """
        return refine_adapter(self._loaded, adapter, buckets, config or RefineConfig(), enough)

    def teach(
        self,
        adapter: Adapter,
        answers: Mapping[str, str] | BetterModel,
        buckets: Sequence[Bucket] = (),
        config: RefineConfig | None = None,
        *,
        enough: Callable[[], bool] | None = None,
    ) -> Steps[Progress, None, Adapter]:
        """Train an adapter on the answers of a person or of a better model; see `refine`.

        Args:
            adapter: Starting point.
            answers: Answers by whole prompt, each an instruction, a blank line and an input; or a
                better model that answers the prompts of `buckets`: an `Endpoint`, or a
                `LocalTeacher`, which is loaded beside the base while it answers. Training starts
                with its first answers.
            buckets: Prompts for a better model. Not needed, and unused, if answers are given.
            config: Steps and learning rate.
            enough: Called after every step; returning True ends the training early.

        Yields:
            Progress through the stages ask and refine, with a score on validation prompts.

        Returns:
            A new adapter of strength 1. It has no recipe.

        Raises:
            AssetError: If a local teacher is not there, or does not fit into memory.
            LayoutError: If the architecture of a local teacher is not supported.
            RemoteError: If the endpoint fails before training begins. Later failures only reduce
                the data; the provenance counts those prompts in `num_lost`.
            TrainingError: If too few prompts are usable.
        """
        return teach_adapter(
            self._loaded, adapter, answers, buckets, config or RefineConfig(), enough
        )

    def propose(
        self, buckets: Sequence[Bucket], *, limit: int = 16, seed: int = 0
    ) -> Steps[Progress, None, dict[str, str]]:
        """Let the base answer at most `limit` prompts, for a person to correct; see `teach`.

        The generator's trained teacher is active meanwhile, if there is one. A limit is from 1 to
        1,000. Buckets of positive weight are used.

        Yields:
            Progress through the stage ask.

        Returns:
            Answers by whole prompt: the label if there is one, else the model's answer to the
            prompt with its instruction, or an empty string if that answer is cut off.

        Raises:
            ConfigError: If the limit or the seed is out of range.
            TrainingError: If no prompt is usable.
        """
        return propose_answers(self._loaded, buckets, limit=limit, seed=seed)

    def chat(
        self,
        messages: Sequence[Message],
        *,
        adapter: Adapter | None,
        sampling: Sampling | None = None,
    ) -> Steps[ChatStep, None, None]:
        """Answer as the base and as the adapted model, in one batch.

        Without an adapter, only the base answers. The conversation ends with the user's message.

        Yields:
            Both answers so far, after every token, and after each part of a long prompt.

        Raises:
            ChatError: If the conversation is malformed or too long.
        """
        adapters = [None] if adapter is None else [None, adapter]
        for replies in self.compare([messages] * len(adapters), adapters, sampling=sampling):
            yield ChatStep(replies[0], replies[1] if adapter is not None else None)

    def compare(
        self,
        conversations: Sequence[Sequence[Message]],
        adapters: Sequence[Adapter | None],
        *,
        sampling: Sampling | None = None,
        strengths: Sequence[Callable[[], float] | None] | None = None,
    ) -> Steps[list[Reply], None, None]:
        """Answer as several models in one batch.

        Args:
            conversations: One per model, ending with the user's message.
            adapters: Adapter of each model; None is the base.
            sampling: Sampling settings, shared by all; each model draws the same random numbers.
            strengths: Called before every token, so that strengths can change during an answer;
                None keeps the adapter's own.

        Yields:
            All answers so far, side by side, after every token, and after each part of a long
            prompt.

        Raises:
            ChatError: If a conversation is malformed or too long.
            ConfigError: If a strength is out of bounds, or not every model has a conversation, an
                adapter and, where given, a strength.
        """
        return compare_models(
            self._loaded, conversations, adapters, sampling or Sampling(), strengths
        )

    def forecast(self, bucket: Bucket) -> Forecast | None:
        """Forecast, before anything is made, how well an adapter for a bucket will do.

        Measures how sure the generator's trained teacher is of its answers to eight prompts, chosen
        by `measured_prompts`; a report says how such forecasts turned out. Prompts that are not an
        instruction and an input are not asked. Chats and syntheses take priority.

        Returns:
            The forecast; None without a trained teacher, or if no prompt can be asked.
        """
        return forecast_bucket(self._loaded, bucket)

    def inspect(
        self,
        adapter: Adapter,
        buckets: Sequence[Bucket] = (),
        *,
        only: Collection[str] | None = None,
    ) -> Inspection:
        """Run the registered checks; effect, agreement and verdict need prompts.

        Where these have labels, the verdict goes by them. Chats and syntheses take priority from
        the next forward pass on.

        Args:
            adapter: Any adapter that fits the base.
            buckets: Prompts to measure on: 16 of them, chosen by `measured_prompts`.
            only: Names of the checks to run; those that they need run too. None for all.

        Raises:
            ConfigError: If `only` names an unknown check.
        """
        return inspect_adapter(self._loaded, adapter, buckets, only)

    def verdict(self, adapter: Adapter, buckets: Sequence[Bucket]) -> AdapterVerdict | None:
        """Return the verdict of `inspect`, at the cost of it alone.

        None without suitable prompts, or if the adapter was trained.
        """
        return judge_adapter(self._loaded, adapter, buckets)

    def ordinary_answers(self) -> BaseAnswers:
        """Return the base's answers to ordinary messages and unrelated questions, asked once."""
        return self._loaded.ordinary.answers()

    def relative_norms(self, adapter: Adapter) -> Mapping[str, tuple[float, ...]]:
        """Measure the size of an adapter's update by layer; a cheap part of `inspect`."""
        self._loaded.check_made_here(adapter)
        return relative_norms(adapter, self._loaded.norms)

    def thumbprint(self, adapter: Adapter) -> tuple[tuple[float, ...], ...]:
        """Return a small picture of an adapter's update; see `checks.norms`.

        For a generated adapter, it shows the difference from the part that all its generator's
        adapters share.
        """
        return picture_adapter(self._loaded, adapter)

    def prove(
        self, adapter: Adapter, buckets: Sequence[Bucket], *, memory: PromptMemory | None = None
    ) -> Steps[Progress, None, Conditioning | None]:
        """Compare an adapter with controls from its generator, on the buckets it was made from.

        Wrong adapters come from the other buckets; for a single bucket, from the least similar
        shipped example. Chats and syntheses take priority.

        Yields:
            Progress through the stages decode and check.

        Returns:
            The comparison; None if too few prompts are short enough and have a blank line.

        Raises:
            AdapterError: If the adapter was trained, since its controls were not.
        """
        return prove(self._loaded, self.generate, adapter, buckets, memory)

    def measure(
        self, adapter: Adapter, labelled: PromptFile, config: MeasureConfig | None = None
    ) -> Steps[MeasureStep, None, Measurement]:
        """Score an adapter on labelled rows, beside the base and other training-free baselines.

        By default, those that the adapter was made from are not scored.

        Yields:
            All results so far, after every batch.

        Returns:
            The measurement; `train_lora` can extend it.

        Raises:
            MeasureError: If no row is labelled, or no row is left to score.
        """
        return measure_adapter(
            self._loaded, self.generate, adapter, labelled, config or MeasureConfig()
        )

    def train_lora(
        self,
        adapter: Adapter,
        measured: Measurement,
        config: LabelledConfig | None = None,
        *,
        warm_start: bool = False,
    ) -> Steps[MeasureStep, None, Measurement]:
        """Train a LoRA on the rows that were not scored, and score it at intervals.

        It has the layout of the adapter, and starts from scratch or, with `warm_start`, from it.
        The measurement comes from `measure` or one of its steps.

        Yields:
            All results so far, after every step and batch.

        Returns:
            The extended measurement, with the LoRA as an adapter in `trained`.

        Raises:
            TrainingError: If too few rows are usable, or a loss is not finite.
            MeasureError: If another adapter was measured.
        """
        return train_on_measured(
            self._loaded, adapter, measured, config or LabelledConfig(), warm_start=warm_start
        )

    @staticmethod
    def with_checks(
        adapter: Adapter, found: Inspection, proof: Conditioning | None = None
    ) -> Adapter:
        """Return a copy of the adapter with its measurements, for its card."""
        return replace(adapter, checks=as_checks(adapter, found, proof))

    def recall(
        self, checks: Mapping[str, Any], nearest: Sequence[NearestTask] = ()
    ) -> tuple[Inspection | None, Conditioning | None]:
        """Restore the results of `inspect` and `prove` from the checks of a stored adapter.

        What no card says is not stored, such as the norms of single layers.

        Raises:
            AdapterError: If the checks are damaged.
        """
        report = self.reports.get("heldout")
        return recall(checks, nearest, report.strongest_effect if report else None)

    def rank_tasks(self, buckets: Sequence[Bucket], *, seed: int = 0) -> tuple[NearestTask, ...]:
        """Rank all training tasks by similarity of their prompts to these.

        The first five are those that an adapter pooled from the same buckets and seed lists.

        Raises:
            GeneratorError: If there is no generator.
        """
        tasks = self._loaded.resident().folder.tasks
        texts = self._loaded.draw(check_buckets(buckets, self.config.limits), seed)
        return nearest_tasks(self._loaded.encode(texts).pooled, tasks, count=len(tasks))

    def read_adapter(self, path: Path | str) -> Adapter:
        """Read a PEFT LoRA folder or zip made for this base, with all checks.

        Raises:
            AdapterError: If the files are damaged or not plain LoRA.
            BaseMismatchError: If the adapter is for another base.
        """
        return read_adapter(Path(path), self.base.config, self.info.base_id)

    def save(self, adapter: Adapter, path: Path | str) -> Path:
        """Write an adapter as a PEFT zip or folder, after verifying that stock PEFT reads it.

        Raises:
            VerificationError: If keys are missing or unexpected after reloading, or the reloaded
                model's logits are not the in-memory adapter's. Nothing is written then.
            ExportError: If `path` is neither a zip nor a folder, is taken or cannot be written to.
        """
        self._loaded.check_made_here(adapter)
        return self.export(adapter, "peft", path).path

    def export(self, adapter: Adapter, format: str, path: Path | str) -> Exported:
        """Write an adapter at its strength for another tool, atomically.

        The formats are those of `export.registry.EXPORTS`.

        Raises:
            BaseMismatchError: If the format contains the base, and the adapter is for another.
            ExportError: If `path` does not suit this format or cannot be written to, the base's
                conversion for llama.cpp is not supported, or the format needs a tool that is
                missing or fails.
            VerificationError: If the written files compute something else than the adapter. Nothing
                is kept then.
        """
        path, target = Path(path), export_target(format)
        target.check_installed()
        if target.whole_model:
            # A different base of the same shapes would pass verification, so compare the ids.
            self._loaded.check_made_here(adapter)
        difference: float | None = None
        with exported_aside(path, target) as aside:
            target.write(adapter, self.base, aside)
            if target.verify is not None:
                # Before the block ends: a file that fails never takes its place.
                difference = target.verify(self._verifier, adapter, aside)
            if target.quantise is not None:
                # Last: beside the rounding of four bits, a wrong file would not stand out.
                target.quantise(aside)
                difference = self._verifier.gguf_model(adapter, aside, tolerance=math.inf)
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

        The upload contains names, counts and hashes of buckets and prompt files, never prompt text.

        Args:
            adapter: The adapter; its strength is folded in.
            repo_id: `user/name`; created if it does not exist.
            token: Hub token with write access; never stored. None uses this machine's login, so an
                app for visitors must ask for theirs.
            private: Whether a new repository is private. A private upload to a public repository is
                refused.

        Raises:
            HubError: If there is no token, the name is wrong, the Hub refuses or cannot be
                reached, or the base is a folder on this machine.
            VerificationError: If stock PEFT does not read the files back, as in `save`.
        """
        self._loaded.check_made_here(adapter)
        if expanded(adapter.base_id).is_dir():
            raise HubError(
                "the base of `{adapter}` is the folder `{base}`, which others do not have. Name "
                "the base by its Hub id, and make the adapter again.",
                adapter=adapter.name,
                base=adapter.base_id,
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
            VerificationError: If the reloaded adapter differs from the original.
        """
        return self._verifier.peft_files(adapter, files)
