"""The adapter, the steering vector or the examples that the base answers with under each row.

| row | what |
| --- | --- |
| base | nothing |
| few_shot | nothing; labelled train examples stand as chat turns before the item |
| mean_lora | the mean of the LoRAs of all training tasks |
| multi_task_lora | one LoRA trained on all training tasks |
| nearest_lora | of the LoRAs of training tasks, the one whose prompts are most like this task's |
| shared_lora | what all of the generator's adapters share: Refine's teacher if none was trained |
| trained_teacher | the one that answers whole prompts for imprint and Refine, if there is one |
| generator | the adapter made from the task's own prompts |
| generator_wrong | made from prompts of another family, in the same answer format if one has it |
| generator_shuffled | made from the task's own prompts, the words of each shuffled |
| generator_constant | made from one neutral sentence, the same for every task |
| imprint | what the base does with the instruction, imprinted; nothing of the generator |
| generator_imprint | as `imprint`, of what the base does with the generator's teacher |
| generator_imprint_wrong | as `generator_imprint`, from the prompts of `generator_wrong` |
| steering_vector | no adapter; what the instruction changes on average, added at one layer |
| generator_refined | the generator's, refined on these prompts; `_15` and `_30` stop early |
| imprint_refined_15 | the imprinted adapter, refined on these prompts |
| imprint_taught_20 | likewise, on a better model's answers to them |
| scratch_refined | as these, but from a LoRA that changes nothing yet |
| labelled_N | a LoRA trained for N steps on the same prompts and their labels |
| imprint_labelled_N | likewise, from the imprinted adapter |
| oracle_lora | a LoRA trained on the task's own labelled examples |

Prompts come from train sides only, and what the scored side repeats is taken out. A row whose
source is not given is left out with the reason; nothing is filled in. To add a row, name it in
`wording.ROWS` and write its method in `Baselines`.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from dnd_engine.checks.ablation import shuffle_words
from dnd_engine.checks.results import Forecast, Inspection
from dnd_engine.checks.verdict import AdapterVerdict, imprinting_of
from dnd_engine.config import ImprintConfig, RefineConfig, Teacher
from dnd_engine.engine import Engine
from dnd_engine.errors import ConfigError, TrainingError
from dnd_engine.evaluation.settings import ExaminationConfig
from dnd_engine.evaluation.steering import DEPTH, Steering, steering_between
from dnd_engine.generator.folder import GeneratorFolder, check_base
from dnd_engine.lora.adapter import Adapter
from dnd_engine.lora.layout import LoRALayout
from dnd_engine.models.base import fingerprint
from dnd_engine.progress import finish
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.files import from_texts
from dnd_engine.prompts.split import split_prompt
from dnd_engine.scoring.questions import choose_shots
from dnd_engine.scoring.scores import DRAWN, IMPRINTED, REFINED, Refining
from dnd_engine.tasks.conditions import check_conditions, unscored
from dnd_engine.tasks.folder import Example, Task
from dnd_engine.training.collection import Collection, check_same_base
from dnd_engine.training.finetune.steps import shared_start

NEUTRAL_PROMPT = "Please answer."
"""The only prompt of `generator_constant`: says nothing of any task."""

_WITHOUT_GENERATOR = frozenset(
    {"base", "few_shot", "mean_lora", "multi_task_lora", "imprint", "oracle_lora"}
    # Training on others' answers can start from what the base imprints of its own.
    | {row for row, how in REFINED.items() if how.start == "imprint" and how.answers != "own"}
)
"""Rows of a base that has no generator."""

_MAX_TRAINED = 256
"""Training tasks that adapters are made of: a minute or two."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What the base answers one task with: an adapter, a steering vector, examples, or nothing."""

    tokens: Float[Tensor, "tokens rows cols"] | None = None
    """Plain weight tokens; None for the bare base."""
    layout: LoRALayout | None = None
    steering: Steering | None = None
    """Added to the bare base's states; None for nothing."""
    shots: tuple[Example, ...] = ()
    """Examples that stand before every item."""
    synthesis_seconds: float | None = None
    """What making it took, where a generator made it."""
    imprint_seconds: float | None = None
    """What imprinting it took on top."""
    refine_seconds: float | None = None
    """What refining it took on top."""
    imprinted: Adapter | None = None
    """The adapter with its provenance, where an imprint made it: what a verdict is given on."""


class _Missing(Exception):
    """Why a row cannot be measured on one task; never leaves this module."""


class Baselines:
    """Makes the setup of every row and task.

    Args:
        engine: With the generator to examine.
        tasks: All that are examined; wrong prompts are those of another one.
        config: Says where trained LoRAs are, and how prompts are drawn.
        trained: Tasks that the generator was trained on, to say how near to theirs its adapters
            for other tasks lie.

    Raises:
        ConfigError: If a folder holds something else.
        BaseMismatchError: If it was made for another base.
    """

    def __init__(
        self,
        engine: Engine,
        tasks: Sequence[Task],
        config: ExaminationConfig,
        trained: Sequence[Task] = (),
    ) -> None:
        self.engine = engine
        self.tasks = tasks
        self.config = config
        self.seed = config.seed
        self.trained = trained
        self.fingerprint = fingerprint(engine.base)
        self.tokenizer = engine.base.tokenizer
        self.room = int(engine.base.config["max_position_embeddings"])
        self.collection = self._open_collection(config.adapters) if config.adapters else None
        self._made_otherwise = (
            () if self.collection is None else self.collection.made_otherwise(tasks)
        )
        multi = config.multi_task_lora
        self.multi = self._open_multi(multi) if multi else None
        self.missing: dict[str, dict[str, str]] = {}
        """Row to the tasks it lacks, and why."""
        self._common: dict[str, Setup] = {}
        self._makers: Mapping[str, Callable[[Task, int], Setup]] = {
            "base": lambda task, draw: Setup(),
            "few_shot": lambda task, draw: Setup(shots=self._shots(task)),
            "mean_lora": lambda task, draw: self._mean(),
            "multi_task_lora": lambda task, draw: self._shared(self.multi),
            "nearest_lora": lambda task, draw: self._nearest(task),
            "generator": self._right,
            "generator_wrong": self._wrong,
            "generator_shuffled": self._shuffled,
            "generator_constant": lambda task, draw: _setup_of(self._synthesize([NEUTRAL_PROMPT])),
            "imprint": lambda task, draw: self._imprinted(task, task, draw, "base"),
            "generator_imprint": lambda task, draw: self._imprinted(task, task, draw),
            "generator_imprint_wrong": lambda task, draw: self._imprinted(
                self._other_family(task), task, draw
            ),
            "steering_vector": self._steered,
            "shared_lora": lambda task, draw: self._shared(self.engine.generator),
            "trained_teacher": lambda task, draw: Setup(*self._load_teacher()),
            **{row: partial(self._refined, how) for row, how in REFINED.items()},
            "oracle_lora": lambda task, draw: self._trained(task.info.slug),
        }

    def why_not(self, row: str) -> str | None:
        """The reason why a row cannot be measured at all; None if it can."""
        if row in ("mean_lora", "nearest_lora", "oracle_lora"):
            if self.collection is None:
                return "needs trained LoRAs: name a collection with --adapters"
            # Oracles are LoRAs of the examined tasks, which may all be held out.
            if row != "oracle_lora" and not self.collection.train_slugs:
                return "the collection holds no LoRA of a training task"
        if row == "multi_task_lora" and self.multi is None:
            return "needs its folder: name it with --multi-task-lora"
        # Before what an option could name: without a generator, that would not be enough.
        if row not in _WITHOUT_GENERATOR and not self.engine.info.has_generator:
            return "needs a generator"
        if row in REFINED and REFINED[row].answers == "better" and self.config.teacher is None:
            return "needs a better model: name one with --teacher-base"
        needs_teacher = row in ("trained_teacher", "steering_vector")
        if needs_teacher and not self.engine.info.teacher_sha256:
            return "the generator has no trained teacher"
        return None

    def draws(self, row: str) -> int:
        """How often a row is measured, with other prompts each time."""
        return self.config.draws if row in DRAWN else 1

    def is_common(self, row: str) -> bool:
        """Whether all tasks have the same adapter under a row, and no examples."""
        loras = ("mean_lora", "multi_task_lora", "shared_lora", "trained_teacher")
        return row in ("base", "generator_constant", *loras)

    def source(self, row: str) -> str:
        """What a row is made of apart from the decoder, as a hash or in words; empty for none."""
        if row in ("mean_lora", "nearest_lora") and self.collection is not None:
            # These rows never look at oracles: a collection that gains some is the same source.
            return self.collection.train_runs_sha256
        if row == "oracle_lora" and self.collection is not None:
            return self.collection.sha256
        if row == "multi_task_lora" and self.multi is not None:
            return self.multi.sha256
        # A generator folder may get another teacher, which only these rows ask.
        teacher = self.engine.info.teacher_sha256
        if row == "trained_teacher":
            return teacher
        if row in IMPRINTED:
            # The settings as a whole: a default that changes makes another row, too.
            return f"{ImprintConfig()!r} {teacher if row != 'imprint' else ''}".strip()
        if row == "steering_vector":
            return f"{DEPTH} {teacher}"
        if row in REFINED:
            how = REFINED[row]
            # Labels and a better model spare the teacher, but the imprint before them asks it.
            asked = [teacher] if how.answers == "own" or how.start == "imprint" else []
            if how.answers == "better" and self.config.teacher is not None:
                asked.append(self.config.teacher.sha256)
            return " ".join(filter(None, [repr(self._refine_config(how, 0)), *asked]))
        return ""

    def setup(self, row: str, task: Task, draw: int) -> Setup | None:
        """Make the setup of a task under a row; None, with the reason noted, if there is none."""
        if self.is_common(row) and row in self._common:
            return self._common[row]
        try:
            made = self._makers[row](task, draw)
        except _Missing as reason:
            self.missing.setdefault(row, {})[task.info.slug] = str(reason)
            return None
        if self.is_common(row):
            self._common[row] = made
        return made

    def reasons(self) -> dict[str, str]:
        """Row to why it lacks tasks, by the example of one of them."""
        return {
            row: f"`{slug}`: {reason}"
            for row, tasks in self.missing.items()
            for slug, reason in list(tasks.items())[:1]
        }

    def gaps(self, num_tasks: int) -> list[str]:
        """A sentence for every row that lacks tasks."""
        return [
            f"The row {row} lacks {len(self.missing[row])} of {num_tasks} tasks; {reason}."
            for row, reason in self.reasons().items()
        ]

    def training_adapters(
        self, layout: LoRALayout
    ) -> tuple[dict[str, Float[Tensor, "tokens rows cols"]], Literal["", "generated", "collected"]]:
        """What generated adapters are compared with, if anything, and where it comes from.

        What the generator makes of up to 256 tasks that it was trained on; examined ones are left
        out, in whatever variant, or the nearest would be they themselves. Where such tasks are not
        given, the collection's LoRAs of training tasks, if they are of one layout with the
        generator's. In bfloat16, as there may be hundreds.
        """
        if made := self._of_trained_tasks():
            return made, "generated"
        if self.collection is None or self.collection.layout != layout:
            return {}, ""
        collected = {
            slug: self.collection.final(slug).to(torch.bfloat16)
            for slug in self.collection.train_slugs
        }
        return collected, "collected"

    def _of_trained_tasks(self) -> dict[str, Float[Tensor, "tokens rows cols"]]:
        rng = random.Random(f"{self.seed}:trained")
        examined = {task.info.plain_slug for task in self.tasks}
        others = [task for task in self.trained if task.info.slug not in examined]
        chosen = rng.sample(others, min(_MAX_TRAINED, len(others)))
        made = {}
        for task in tqdm(chosen, desc="Training tasks", unit="task", leave=False):
            # Sorted, because the order of a set of strings differs between processes.
            texts = sorted({example.prompt for example in task.train})
            texts = rng.sample(texts, min(self.config.condition_prompts, len(texts)))
            # As in the row `generator`; an imprint has a layout of its own.
            made[task.info.slug] = self._synthesize(texts).scaled_tokens.to(torch.bfloat16)
        return made

    def inspect(self, task: Task) -> Inspection | None:
        """What the adapter of a task's first prompt draw does to these; None without prompts.

        Only what a report keeps is checked. What the adapter does to other answers is measured
        beside its scores.
        """
        try:
            texts = self._conditions(task, task, 0)
        except _Missing:
            return None
        made, bucket = self._generate(task, texts, 0), _bucket(texts)
        return self.engine.inspect(made, [bucket], only=("effect", "agreement"))

    def verdict(self, task: Task, imprinted: Adapter) -> AdapterVerdict | None:
        """Return the verdict that users see on the imprint of a task's first prompt draw.

        None if no prompt was left out of the imprint.
        """
        imprinting = imprinting_of(imprinted)
        if imprinting is None or not imprinting.left_out:
            return None
        bucket = _bucket(self._conditions(task, task, 0))
        verdict = self.engine.verdict(imprinted, [bucket])
        return verdict if verdict is not None and verdict.left_out else None

    def forecast(self, task: Task) -> Forecast | None:
        """Forecast from a task's first prompt draw; None without prompts, or a trained teacher."""
        try:
            texts = self._conditions(task, task, 0)
        except _Missing:
            return None
        return self.engine.forecast(_bucket(texts))

    def wrong_source(self, task: Task) -> Task | None:
        """Whose prompts are the wrong ones: a task of another family, None if there is none.

        In the same answer format where possible, so that the operation makes the difference.
        """
        others = [other for other in self.tasks if other.info.family != task.info.family]
        similar = [other for other in others if other.info.answer_format == task.info.answer_format]
        # Seeded by the task alone: all rows of wrong prompts, and the report, must find the same.
        rng = random.Random(f"{self.seed}:wrong:{task.info.slug}")
        return rng.choice(similar or others) if others else None

    # Trained LoRAs

    def _mean(self) -> Setup:
        assert self.collection is not None
        for slug in self.collection.train_slugs:
            self._check_examples(slug)
        return Setup(self.collection.mean(), self.collection.layout)

    def _trained(self, slug: str) -> Setup:
        assert self.collection is not None
        if slug not in self.collection.slugs:
            raise _Missing("not in the collection")
        self._check_examples(slug)
        return Setup(self.collection.final(slug), self.collection.layout)

    def _check_examples(self, slug: str) -> None:
        """Refuse a LoRA of an examined task that another version of it was trained on.

        What is on the task's test side now may have been among its examples then.
        """
        if slug in self._made_otherwise:
            raise _Missing(
                f"the collection's LoRA of `{slug}` was trained on other examples than the task "
                "folder holds now; collect it again"
            )

    def _nearest(self, task: Task) -> Setup:
        """The most similar task that the collection has, itself never; formats count as one.

        Of all training tasks: none of the few that an adapter names need have a LoRA.
        """
        assert self.collection is not None
        own = {task.info.slug, task.info.slug.partition("~")[0]}
        known = set(self.collection.train_slugs) - own
        bucket = _bucket(self._conditions(task, task, 0))
        for near in self.engine.rank_tasks([bucket], seed=self.seed):
            # The collection may have the task in this format, or only the task without one.
            for name in (near.slug, near.slug.partition("~")[0]):
                if name in known:
                    return self._trained(name)
        raise _Missing("no other training task of the generator is in the collection")

    # Generated adapters

    def _right(self, task: Task, draw: int) -> Setup:
        return _setup_of(self._generate(task, self._conditions(task, task, draw), draw))

    def _wrong(self, task: Task, draw: int) -> Setup:
        source = self._other_family(task)
        return _setup_of(self._generate(task, self._conditions(source, task, draw), draw))

    def _imprinted(
        self, source: Task, task: Task, draw: int, teacher: Teacher = "generator"
    ) -> Setup:
        """What `Engine.generate` gives of a source's prompts, if it could imprint them."""
        made = self._imprint(task, self._conditions(source, task, draw), draw, teacher)
        return replace(_setup_of(made), imprinted=made)

    def _imprint(
        self, task: Task, texts: Sequence[str], draw: int, teacher: Teacher = "generator"
    ) -> Adapter:
        check_conditions(texts, task.test)
        made = self.engine.generate(
            [_bucket(texts)], seed=self.seed + draw, imprinted=True, teacher=teacher
        )
        # `generate` falls back to the generator's own adapter, which is another row.
        if not made.is_imprinted:
            raise _Missing(made.not_imprinted.rstrip("."))
        return made

    def _steered(self, task: Task, draw: int) -> Setup:
        """The change that the prompts and the trained teacher of `generator_imprint` make."""
        texts = self._conditions(task, task, draw)
        check_conditions(texts, task.test)
        split = [(text, split_prompt(text).input) for text in texts]
        pairs = [(text, given) for text, given in split if given is not None]
        if not pairs:
            raise _Missing("no prompt has an instruction and an input")
        tokens, layout = self._load_teacher()
        runtime = self.engine.runtime
        teacher = runtime.host.fit(tokens[None], layout)
        return Setup(steering=steering_between(runtime, pairs, teacher))

    def _other_family(self, task: Task) -> Task:
        source = self.wrong_source(task)
        if source is None:
            raise _Missing("all tasks examined are of one family")
        return source

    def _shuffled(self, task: Task, draw: int) -> Setup:
        rng = random.Random(f"{self.seed}:shuffle:{task.info.slug}:{draw}")
        texts = [shuffle_words(text, rng) for text in self._conditions(task, task, draw)]
        return _setup_of(self._generate(task, texts, draw))

    def _shared(self, folder: GeneratorFolder | None) -> Setup:
        """What a generator's adapters share: all that a multi-task LoRA has learnt."""
        assert folder is not None
        generator = folder.load(torch.device("cpu"), torch.float32)
        return Setup(generator.shared.detach(), folder.config.layout)

    def _load_teacher(self) -> tuple[Float[Tensor, "tokens rows cols"], LoRALayout]:
        folder = self.engine.generator
        tokens = folder.load_teacher()
        assert tokens is not None  # `why_not` names the reason otherwise
        return tokens, folder.config.layout.with_rank(tokens.shape[1])

    def _refined(self, how: Refining, task: Task, draw: int) -> Setup:
        """Trained on the very prompts that the adapter was made from."""
        texts = self._conditions(task, task, draw)
        labels = {e.prompt: e.response for e in task.train} if how.answers == "labels" else {}
        # An adapter is made even to start from scratch: `refine` needs its layout and provenance.
        make = self._imprint if how.start == "imprint" else self._generate
        adapter = make(task, texts, draw)
        if how.start == "scratch":
            tokens = shared_start(adapter.layout, self.seed).to(adapter.tokens)
            adapter = replace(adapter, tokens=tokens, strength=1.0)
        buckets, config = [_bucket(texts, labels)], self._refine_config(how, draw)
        better = self.config.teacher if how.answers == "better" else None
        steps = (
            self.engine.teach(adapter, better, buckets, config)
            if better
            else self.engine.refine(adapter, buckets, config)
        )
        try:
            refined = finish(steps)
        except TrainingError as error:
            raise _Missing(str(error)) from error
        return Setup(
            refined.scaled_tokens,
            refined.layout,
            imprint_seconds=adapter.seconds.get("imprint"),
            refine_seconds=refined.seconds["train" if better else "refine"],
        )

    def _refine_config(self, how: Refining, draw: int) -> RefineConfig:
        # A report's rows are scored on items of the task itself, so nothing is held back.
        usual = RefineConfig(held_back_share=0, ask_every=0)
        config = replace(usual, seed=self.seed + draw, steps=how.steps or usual.steps)
        if how.answers == "labels":
            # As short a run as can be: it is what a synthesis is compared with.
            config = replace(config, labels=True, full_share=0.0, warmup_steps=1)
        return config

    def _conditions(self, source: Task, scored: Task, draw: int) -> list[str]:
        """Prompts of a task's train side that hold no item of the scored task's test side."""
        usable = unscored((example.prompt for example in source.train), scored.test)
        if not usable:
            raise _Missing(f"all train prompts of `{source.info.slug}` repeat scored items")
        # The row is no part of the seed: compared rows, and `inspect`, draw the same prompts.
        rng = random.Random(f"{self.seed}:condition:{source.info.slug}:{draw}")
        return rng.sample(usable, min(self.config.condition_prompts, len(usable)))

    def _generate(self, task: Task, texts: Sequence[str], draw: int) -> Adapter:
        # `_conditions` has taken such prompts out. One that got through would spoil every score of
        # the row, so it is refused.
        check_conditions(texts, task.test)
        return self._synthesize(texts, draw)

    def _synthesize(self, texts: Sequence[str], draw: int = 0) -> Adapter:
        return self.engine.generate([_bucket(texts)], seed=self.seed + draw, imprinted=False)

    # Examples shown first

    def _shots(self, task: Task) -> tuple[Example, ...]:
        """Short train examples."""
        usable = set(unscored((example.prompt for example in task.train), task.test))
        pool = [example for example in task.train if example.prompt in usable]
        rng = random.Random(f"{self.seed}:shots:{task.info.slug}")
        if not (shots := choose_shots(self.tokenizer, pool, self.room, rng)):
            raise _Missing("no train example is short enough to be shown")
        return shots

    # Sources

    def _open_collection(self, folder: Path) -> Collection:
        collection = Collection.open(folder)
        ours = {"id": self.engine.info.base_id, "fingerprint": self.fingerprint}
        check_same_base(folder, collection.manifest.base, ours)
        return collection

    def _open_multi(self, path: Path) -> GeneratorFolder:
        folder = GeneratorFolder.open(path)
        if not folder.config.is_lora:
            raise ConfigError(
                f"`{path}` is a generator, not a multi-task LoRA. Train one with "
                "`dnd train --kind multi_task_lora`."
            )
        check_base(folder.config, self.engine.info.base_id, self.fingerprint)
        return folder


def _setup_of(adapter: Adapter) -> Setup:
    return Setup(
        adapter.scaled_tokens,
        adapter.layout,
        synthesis_seconds=adapter.seconds.get("total"),
        imprint_seconds=adapter.seconds.get("imprint"),
    )


def _bucket(texts: Sequence[str], labels: Mapping[str, str] | None = None) -> Bucket:
    given = None if labels is None else [labels.get(text) for text in texts]
    return Bucket("examined", 1.0, (from_texts(texts, name="examined", labels=given),))
