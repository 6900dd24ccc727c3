"""Frozen settings, made at the edge (app, CLI, test) and passed down as arguments.

Knows no torch and reads no environment. Every default carries its reason.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dnd_engine.errors import ConfigError

__all__ = [
    "EngineConfig",
    "ExportFormat",
    "ImprintConfig",
    "LabelledConfig",
    "MeasureConfig",
    "Mix",
    "PromptLimits",
    "RefineConfig",
    "Sampling",
    "Teacher",
    "check_between",
    "check_least",
    "check_positive",
]

Mix = Literal["pool", "sum"]
"""How buckets are combined: one condition of all prompts, or a weighted sum of adapters."""

Teacher = Literal["generator", "base"]
"""What answers whole prompts for an imprint: the base with the generator's adapters, or alone."""

ExportFormat = Literal["peft", "merged", "gguf"]
"""How an adapter is written: for PEFT, merged into its base for transformers, for llama.cpp."""

AGREEMENT_BANDS = ((0.0, 0.12), (0.12, 0.49), (0.49, 1.0))
"""Shares of prompts answered as the instructed model does, by which reports tell gains and windows
judge: of eight prompts none, one to three, four or more."""

MIXES: tuple[Mix, ...] = ("pool", "sum")
EXPORT_FORMATS: tuple[ExportFormat, ...] = ("peft", "merged", "gguf")

AnyMetric = Literal["auto", "choice", "exact", "rouge"]
METRICS: tuple[AnyMetric, ...] = ("auto", "choice", "exact", "rouge")
"""How labelled rows are scored (see `measure.sides`); `auto` chooses by the labels."""


def check_least(settings: object, least: float, *names: str) -> None:
    """Refuse settings that are less than `least`, or no number."""
    for name in names:
        if not (value := getattr(settings, name)) >= least:
            raise ConfigError(f"`{name}` must be at least {least}, got {value}.")


def check_between(settings: object, least: float, most: float, *names: str) -> None:
    """Refuse settings outside of `least` to `most`."""
    for name in names:
        if not least <= (value := getattr(settings, name)) <= most:
            raise ConfigError(f"`{name}` must lie between {least} and {most}, got {value}.")


def check_positive(settings: object, *names: str) -> None:
    """Refuse settings that are zero or less."""
    for name in names:
        if not (value := getattr(settings, name)) > 0:
            raise ConfigError(f"`{name}` must be above 0, got {value}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLimits:
    """What a set of prompt files may amount to."""

    max_files: int = 60
    """Files in all buckets together."""
    max_file_bytes: int = 5_000_000
    """Bytes of one file; a prompt list of this size holds tens of thousands of prompts."""
    max_total_bytes: int = 25_000_000
    """Bytes of all files together."""
    max_prompts: int = 20_000
    """Prompts of one file after cleaning. More than a condition can ever sample."""
    max_prompt_chars: int = 8_000
    """Characters of one prompt; the encoder reads only the first few hundred."""

    def __post_init__(self) -> None:
        check_least(self, 1, *self.__slots__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the twin chat picks its next token; the same settings and seed hold for both rows."""

    max_new_tokens: int = 128
    """Tokens per answer, at most."""
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    """Probability mass kept; 1 keeps all."""
    top_k: int = 0
    """Candidates kept; 0 keeps all."""
    repetition_penalty: float = 1.0
    """Divides the logits of tokens already present (Keskar et al. 2019); 1 is off."""
    seed: int = 0
    """Seeds each row's own generator, so both rows draw the same random numbers."""

    def __post_init__(self) -> None:
        check_between(self, 1, 4096, "max_new_tokens")
        check_between(self, 0.0, 5.0, "temperature")
        check_between(self, 0.01, 1.0, "top_p")
        check_between(self, 0, 1000, "top_k")
        check_between(self, 0.5, 3.0, "repetition_penalty")
        check_between(self, 0, 2**31 - 1, "seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImprintConfig:
    """How instructions are imprinted in closed form (see `imprint.fit`)."""

    r: int = 16
    """Rank of the update, on `down_proj` alone. Serving engines take 16 by default."""
    first_layer_share: float = 0.4
    """Layers below this share of the depth stay as they are: 0 to 11 of the embedded base's 30."""
    ridge: float = 0.03
    """Weight of the penalty (see `imprint.solve`). From .003 to .3 results were the same."""
    full_weight: float = 0.5
    """Weight of the prompts read with their instruction, beside 1 for their bare inputs."""
    max_prompts: int = 128
    """Prompts that are fitted, drawn by seed, shared among the buckets."""
    max_tokens: int = 384
    """Longer prompts are left out."""
    max_answer_tokens: int = 24
    """Longer answers are cut: their beginnings carry the instruction."""
    seed: int = 0
    """Of the choice of prompts and of the tokens matched in long answers."""

    def __post_init__(self) -> None:
        # Bounded above too: a stranger's recipe may hold these.
        check_between(self, 1, 64, "r")
        check_between(self, 0, 0.99, "first_layer_share")
        check_between(self, 1e-6, 1e3, "ridge")
        check_between(self, 0, 10, "full_weight")
        check_between(self, 1, 1024, "max_prompts")
        check_between(self, 8, 4096, "max_tokens")
        check_between(self, 1, 256, "max_answer_tokens")
        check_between(self, 0, 2**31 - 1, "seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class RefineConfig:
    """How an adapter is refined on prompts of its own task (see `training.finetune.refine`)."""

    steps: int = 60
    """About .7 s each on two CPU cores."""
    batch_size: int = 8
    """Prompts in one step."""
    learning_rate: float = 1e-3
    warmup_steps: int = 5
    clip_norm: float = 1.0
    full_share: float = 0.2
    """Share of the lessons that show the student the full prompt, so that it keeps working."""
    max_prompts: int = 64
    """Prompts that are learnt from, drawn by seed."""
    least_prompts: int = 8
    """Fewer would be learnt by heart."""
    max_tokens: int = 192
    """Longer prompts are left out: they would make every step of theirs slow."""
    max_answer_tokens: int = 48
    """The teacher's answers that do not end within these are left out."""
    labels: bool = False
    """Learn the prompts' own labels instead of the teacher's answers."""
    seed: int = 0
    """Of the choice of prompts and of their order."""

    def __post_init__(self) -> None:
        counts = ("steps", "batch_size", "warmup_steps", "max_prompts", "least_prompts")
        # Bounded above too: a stranger's recipe may hold these.
        check_between(self, 1, 1000, *counts, "max_tokens", "max_answer_tokens")
        check_between(self, 1e-7, 100, "learning_rate", "clip_norm")
        check_between(self, 0, 1, "full_share")
        check_least(self, self.least_prompts, "max_prompts")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureConfig:
    """How an adapter is measured on labelled rows (see `measure`)."""

    limit_items: int = 40
    """Rows that are scored; at most half of all, so that others are left to show and to train on.
    Forty tell a gain of .3 from none."""
    metric: AnyMetric = "auto"
    """`auto` is `choice` for few distinct labels, `rouge` for long answers, else `exact`."""
    modes: tuple[Literal["full", "bare"], ...] = ("bare", "full")
    """What the model is sent: the whole prompt, or its input without the instruction."""
    max_tokens: int = 384
    """Rows whose prompt and answer are longer are left out: they would make every batch slow."""
    max_new_tokens: int = 96
    """Of a written answer, at most."""
    allow_seen: bool = False
    """Score also prompts that the adapter was made from; it has never read their labels. Rows whose
    labels it learnt are not scored in any case."""
    seed: int = 0
    """Of the two sides, of the examples shown, and of the intervals."""

    def __post_init__(self) -> None:
        check_least(self, 1, "limit_items", "max_tokens", "max_new_tokens")
        if not self.modes or len(set(self.modes)) < len(self.modes):
            raise ConfigError(
                "`modes` must be of bare and full, each once; got "
                f"{', '.join(self.modes) or 'none'}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledConfig:
    """How a LoRA is trained on labels, the plain way (see `training.finetune.lessons`).

    The recipe of the LoRAs that `dnd collect` trains for reports. Its learning rate is held, so
    every step is the end of a run of that length.
    """

    steps: int = 80
    batch_size: int = 8
    learning_rate: float = 5e-4
    warmup_steps: int = 5
    clip_norm: float = 1.0
    full_share: float = 0.3
    """Share of the examples that show the whole prompt; those without a blank line always do."""
    max_tokens: int = 256
    """Longer examples are left out."""
    least_examples: int = 8
    """Fewer would be learnt by heart."""
    seed: int = 0
    """Of the first A and of the order of examples."""

    def __post_init__(self) -> None:
        counts = ("steps", "batch_size", "warmup_steps", "max_tokens", "least_examples")
        check_least(self, 1, *counts)
        check_between(self, 1e-7, 100, "learning_rate", "clip_norm")
        check_between(self, 0, 1, "full_share")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Which base, encoder and generator an `Engine` keeps resident, and where."""

    base: str = "smollm2-135m-instruct"
    """A name of the embedded registry, a Hub id, or a local folder (see `models.sources`)."""
    encoder: str = "all-minilm-l6-v2"
    """Likewise. The generator states which encoder it was trained with."""
    generator: Path | None = None
    """Generator folder; None takes the one shipped for `base`."""
    device: str | None = None
    """`cpu`, `cuda`, `mps`; None picks the best one present."""
    cache_dir: Path | None = None
    """Where dequantised weights are kept; None takes the user's cache folder."""
    limits: PromptLimits = field(default_factory=PromptLimits)
