"""Frozen settings. The app, the CLI or a test creates them and passes them down as arguments.

Imports no torch and reads no environment variables. Each default states its reason.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dnd_engine.errors import ConfigError
from dnd_engine.limits import PromptLimits, check_between, check_least, check_seed

Mix = Literal["pool", "sum"]
"""How buckets are combined: one condition from all prompts, or a weighted sum of adapters."""

Teacher = Literal["generator", "base"]
"""Model that answers full prompts for an imprint: the base with the generator's trained teacher
(or, without one, its generated adapters), or the base alone."""

# A path, because `--generator none` reaches the settings as one.
NO_GENERATOR = Path("none")
"""In place of a generator folder: make adapters by imprint alone."""

# Just below 1/8 and 4/8, so that no share of eight prompts falls on a border.
AGREEMENT_BANDS = ((0.0, 0.12), (0.12, 0.49), (0.49, 1.0))
"""Bands of agreement: the share of prompts that the adapter answers as the instructed model does.

Reports group gains by band, and the page chooses its verdict by band. With eight prompts the bands
are none, one to three, and four or more."""

Degree = Literal["works", "in_part", "does_not"]
"""Band of the verdict on an adapter without its instruction: it works, works for some prompts only,
or for few at best. Reports group scores by it."""

SURENESS_BANDS = ((0.0, 0.3), (0.3, 0.6), (0.6, 1.0))
"""Bands of sureness: the mean probability that the instructed model gives its own answers.

Reports group scores by band, and the page says by band how sure the model is. Chosen on the
validation families of the shipped generator's teacher and the everyday tasks (see docs/LOG.md)."""

MIXES: tuple[Mix, ...] = ("pool", "sum")
TEACHERS: tuple[Teacher, ...] = ("generator", "base")

AnyMetric = Literal["auto", "choice", "exact", "rouge"]
METRICS: tuple[AnyMetric, ...] = ("auto", "choice", "exact", "rouge")
"""How labelled rows are scored (see `measure.sides`); `auto` chooses by the labels."""

MIN_TEMPERATURE = 0.01
"""Smallest temperature above 0: it is almost greedy, and logits divided by much less overflow."""


def check_teacher(teacher: str) -> None:
    """Raise a ConfigError if an imprint knows no such teacher."""
    if teacher not in TEACHERS:
        raise ConfigError(f"`teacher` must be {' or '.join(TEACHERS)}, got {teacher!r}.")


def check_strength(strength: float) -> None:
    """Raise a ConfigError if an adapter cannot have this strength."""
    # Written so that NaN is refused too.
    if not -10 <= strength <= 10:
        raise ConfigError(f"`strength` must be between -10 and 10, got {strength}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Sampling settings for chat, shared by base and adapted model."""

    max_new_tokens: int = 128
    """Maximum number of tokens per answer."""
    temperature: float = 0.0
    """0 means greedy decoding; otherwise at least `MIN_TEMPERATURE`."""
    top_p: float = 1.0
    """Probability mass to keep; 1 keeps all tokens."""
    top_k: int = 0
    """Number of candidates to keep; 0 keeps all."""
    repetition_penalty: float = 1.0
    """Divides the logits of tokens already present (Keskar et al. 2019); 1 turns it off."""
    seed: int = 0
    """Seeds a random generator per row, so both rows draw the same numbers."""

    def __post_init__(self) -> None:
        # Upper bounds matter: these values come from visitors and callers of the API.
        check_between(self, 1, 4096, "max_new_tokens")
        check_between(self, 0.0, 5.0, "temperature")
        if 0 < self.temperature < MIN_TEMPERATURE:
            raise ConfigError(
                f"`temperature` must be 0 or at least {MIN_TEMPERATURE}, got {self.temperature}. "
                "0 always takes the likeliest token."
            )
        check_between(self, 0.01, 1.0, "top_p")
        check_between(self, 0, 1000, "top_k")
        check_between(self, 0.5, 3.0, "repetition_penalty")
        check_seed(self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImprintConfig:
    """How instructions are imprinted in closed form (see `imprint.fit`)."""

    r: int = 16
    """Rank of the update, which changes only `down_proj`. Serving engines accept 16 by default."""
    first_layer_share: float = 0.4
    """Layers below this share of the depth are not changed: 0 to 11 of the embedded base's 30."""
    mix_first_layer_share: float = 0.55
    """The same for several buckets, whose inputs lower layers do not tell apart: 0 to 15 of 30."""
    ridge: float = 0.03
    """Minimum weight of the penalty (see `imprint.solve`)."""
    ordinary_change: float = 0.02
    """Limit of the mean squared change of a layer's outputs on ordinary messages, relative to the
    outputs. The ridge grows to keep it, mostly for many prompts or long answers."""
    full_weight: float = 0.5
    """Weight of prompts with their instruction. Bare inputs have weight 1."""
    max_prompts: int = 128
    """Number of prompts to fit, sampled by seed and divided among the buckets."""
    max_bucket_prompts: int = 64
    """Number of prompts of one bucket to fit. With 128 the score is about the same, in twice the
    time."""
    max_tokens: int = 384
    """Longer prompts are skipped."""
    max_answer_tokens: int = 24
    """Longer answers are cut, because the beginning of an answer carries the instruction."""
    trained_teacher: bool = True
    """Whether the generator's trained teacher answers whole prompts, if it has one."""
    own_share: float = 0.5
    """Without a trained teacher, the share of the generated adapter's own part while it answers;
    the rest is the part that all adapters share. Half follows unseen instructions better than all
    or nothing."""
    left_out_share: float = 0.25
    """Share of a bucket's prompts that are not fitted, so that the imprint can be tested on them: 2
    to 8 prompts, and none if the bucket has fewer than 8."""
    seed: int = 0
    """Seed for sampling prompts and for choosing the tokens to match in long answers."""

    def __post_init__(self) -> None:
        # Upper bounds matter: these values may come from a stranger's recipe.
        check_between(self, 1, 64, "r")
        check_between(self, 0, 0.99, "first_layer_share", "mix_first_layer_share")
        check_between(self, 1e-6, 1e3, "ridge")
        check_between(self, 1e-4, 1e6, "ordinary_change")
        check_between(self, 0, 10, "full_weight")
        check_between(self, 1, 1024, "max_prompts", "max_bucket_prompts")
        check_between(self, 8, 4096, "max_tokens")
        check_between(self, 1, 256, "max_answer_tokens")
        check_between(self, 0, 1, "own_share")
        check_between(self, 0, 0.5, "left_out_share")
        check_seed(self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefineConfig:
    """How an adapter is refined on prompts of its own task (see `training.finetune.refine`)."""

    steps: int = 60
    """About .7 s each on two CPU cores."""
    batch_size: int = 8
    """Prompts per step."""
    learning_rate: float = 1e-3
    warmup_steps: int = 5
    clip_norm: float = 1.0
    full_share: float = 0.2
    """Share of examples that keep the instruction, so that full prompts keep working."""
    max_prompts: int = 64
    """Number of prompts to train on, sampled by seed."""
    least_prompts: int = 8
    """Minimum number of prompts. With fewer, the adapter would memorise them."""
    max_tokens: int = 192
    """Longer prompts are skipped, because one of them slows down its whole batch."""
    max_answer_tokens: int = 48
    """Prompts are skipped if the teacher's answer does not end within this length."""
    labels: bool = False
    """Train on the prompts' labels instead of the teacher's answers."""
    trained_teacher: bool = True
    """Whether the generator's trained teacher answers, if it has one. Otherwise the part that all
    of the generator's adapters share does."""
    held_back_share: float = 0.25
    """Share of the prompts that are not trained on, so that scores on them show progress: 2 to 8
    prompts."""
    hold_back_unfitted: bool = True
    """After an imprint, hold back prompts that it was not fitted to, as far as there are any. On
    fitted ones, the score before would be too good to be improved."""
    each_bucket: bool = True
    """Whether prompts are drawn from each bucket in turn, so that all buckets count equally."""
    learn_whole: bool = True
    """With labels, learn prompts without an instruction, too."""
    ask_every: int = 5
    """Steps between two batches of questions to the teacher. Training begins with the first answers
    instead of waiting for all; 0 asks all questions first."""
    stop_after: int | None = None
    """Stop after this many of `steps`, without changing the learning rate schedule; None runs
    all."""
    seed: int = 0
    """Seed for sampling and ordering the prompts."""

    def __post_init__(self) -> None:
        counts = ("steps", "batch_size", "warmup_steps", "max_prompts", "least_prompts")
        # Upper bounds matter: these values may come from a stranger's recipe.
        check_between(self, 1, 1000, *counts, "max_tokens", "max_answer_tokens")
        check_between(self, 0, 1000, "ask_every")
        check_between(self, 0, 0.5, "held_back_share")
        if self.stop_after is not None:
            check_between(self, 1, self.steps, "stop_after")
        check_between(self, 1e-7, 100, "learning_rate", "clip_norm")
        check_between(self, 0, 1, "full_share")
        check_seed(self.seed)
        check_least(self, self.least_prompts, "max_prompts")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureConfig:
    """How an adapter is measured on labelled rows (see `measure`)."""

    limit_items: int = 40
    """Number of rows to score, at most half of all rows. The rest serve as few-shot examples and
    training data. Forty rows are enough to detect a gain of .3."""
    metric: AnyMetric = "auto"
    """`auto` is `choice` for few distinct labels, `rouge` for long answers, else `exact`."""
    modes: tuple[Literal["full", "bare"], ...] = ("bare", "full")
    """What the model gets: the full prompt, or its input without the instruction."""
    max_tokens: int = 384
    """Rows with more tokens are skipped, because one of them slows down its whole batch."""
    max_new_tokens: int = 96
    """Maximum length of a generated answer."""
    allow_seen: bool = False
    """Also score prompts the adapter was made from. It has not seen their labels. Rows whose labels
    it was trained on are never scored."""
    seed: int = 0
    """Seed for the split, the few-shot examples and the intervals."""

    def __post_init__(self) -> None:
        # No upper bounds: no file contains these values, and the page limits the number of rows.
        check_least(self, 1, "limit_items", "max_tokens", "max_new_tokens")
        check_seed(self.seed)
        if not self.modes or len(set(self.modes)) < len(self.modes):
            raise ConfigError(
                "`modes` must be `bare`, `full` or both, each at most once; got "
                f"{', '.join(self.modes) or 'none'}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledConfig:
    """How a LoRA is trained on labels (see `training.finetune.lessons`).

    `dnd collect` uses the same recipe for the LoRAs in reports. The learning rate stays constant
    after warm-up, so the weights at each step equal those of a run that ends there.
    """

    steps: int = 80
    batch_size: int = 8
    learning_rate: float = 5e-4
    warmup_steps: int = 5
    clip_norm: float = 1.0
    full_share: float = 0.3
    """Share of examples that keep the instruction. Prompts without a blank line are always kept
    whole."""
    max_tokens: int = 256
    """Longer examples are skipped."""
    least_examples: int = 8
    """Minimum number of examples. With fewer, the LoRA would memorise them."""
    seed: int = 0
    """Seed for the initial A and the order of examples."""

    def __post_init__(self) -> None:
        counts = ("steps", "batch_size", "warmup_steps", "max_tokens", "least_examples")
        check_least(self, 1, *counts)
        check_between(self, 1e-7, 100, "learning_rate", "clip_norm")
        check_between(self, 0, 1, "full_share")
        check_seed(self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Which base, encoder and generator an `Engine` loads, and on which device."""

    base: str = "smollm2-135m-instruct"
    """The name of an embedded model, a Hub id, a local folder or a GGUF file (see
    `models.sources`)."""
    encoder: str | None = None
    """Encoder, named like `base`. None selects the one the generator was trained with, or the
    embedded one without a generator."""
    generator: Path | None = None
    """Generator folder. None selects the one shipped for `base`; a base without one works by
    imprint alone. `NO_GENERATOR` does so with any base."""
    device: str | None = None
    """`cpu`, `cuda` or `mps`. None selects the best available device."""
    cache_dir: Path | None = None
    """Where dequantised weights are cached. None selects the user's cache folder."""
    limits: PromptLimits = field(default_factory=PromptLimits)
