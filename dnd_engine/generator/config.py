"""The contents of a generator's `config.json`: its architecture, base and training.

Checks everything that can be checked without weights, so that a wrong file is refused before
anything is built. Knows shapes and names; builds no module.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from dnd_engine.errors import ConfigError, GeneratorError
from dnd_engine.generator.heads import HeadSettings, head_named
from dnd_engine.limits import FIXED
from dnd_engine.lora.layout import LoRALayout, TokenScheme, whole_number

Padding = Literal["zero", "kept"]
"""How a condition is padded after the end of a prompt: with each channel's mean, or, as in the
paper's code, with the encoder's output for padding."""

OBJECTIVES_ON_WEIGHTS = ("reconstruction",)
"""Objectives that fit the weights of LoRA checkpoints instead of answers."""

RELEASED_BASE = "Qwen/Qwen2.5-0.5B-Instruct"
RELEASED_ENCODER = "sentence-transformers/all-MiniLM-L12-v2"
"""The encoder of the authors' decoders for common-sense tasks."""

FORMAT = 4
"""Version of the folder's format; newer ones are refused. Format 1 has only one head, format 2 only
plain tokens and no padding, format 3 no projection."""
_PROJECTS_SINCE = 4


def fits_encoder(length: int, longest: int | None, *, in_pieces: bool) -> bool:
    """Return whether an encoder can read prompts of a length.

    Args:
        length: Tokens that are read.
        longest: Tokens that the encoder reads at once; None without a limit.
        in_pieces: Whether longer prompts are read in pieces, which must be whole.
    """
    return longest is None or length <= longest or (in_pieces and length % longest == 0)


def complete_options(head: object, options: Mapping[str, Any]) -> dict[str, int]:
    """Check a head's options and fill in its defaults.

    Raises:
        ConfigError: If there is no such head, it has no such option, or a value is out of bounds.
    """
    known = head_named(head).options
    if strays := sorted(set(options) - set(known)):
        raise ConfigError(
            f"the head {head} has no option {', '.join(strays)}; "
            f"it knows {', '.join(known) or 'none'}."
        )
    for name, value in options.items():
        # `isinstance` would let JSON's `true` pass, which is an int in Python.
        if type(value) is not int or not 1 <= value <= FIXED.max_head_option:
            raise ConfigError(
                f"option `{name}` of the head {head} must be a whole number between 1 and "
                f"{FIXED.max_head_option:,}, got {value!r}."
            )
    return {**known, **options}


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorConfig(HeadSettings):
    """All that is needed to rebuild a generator, and where it applies."""

    head: str = "hyperconv"
    """Key of `heads.HEADS`."""
    reads_tokens: int | None = None
    """Tokens of a prompt that are encoded and then projected to the length of a condition. None
    encodes as many as a condition has, and projects nothing."""
    tokens: TokenScheme = "plain"
    """Scheme of the decoder's output; the generator always returns plain tokens."""
    padding: Padding = "zero"
    delta_scale: float = 0.01
    """Factor on the decoder's output before it is added to the shared tokens. It keeps initial
    steps as small as those of an ordinary LoRA."""
    base: Mapping[str, Any] = field(default_factory=dict)
    """`id` and `fingerprint` of the base model (see `models.base.fingerprint`)."""
    encoder: Mapping[str, Any] = field(default_factory=dict)
    """`id` and `sha256` of the text encoder."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """The recipe, its result, the data and their licences."""

    def __post_init__(self) -> None:
        grid = self.layout.grid(self.tokens)
        if len(self.features) < 2 or self.features[-1] != grid:
            raise ConfigError(
                f"the decoder's last stage must be the layout's token grid {grid}, "
                f"got {self.features[-1:]}."
            )
        if not (math.isfinite(self.delta_scale) and self.delta_scale > 0):
            raise ConfigError(f"`delta_scale` must be above 0, got {self.delta_scale}.")
        options = complete_options(self.head, self.head_options)
        object.__setattr__(self, "head_options", options)
        # Heads without stages write the layout's matrices alone, not the border in which a
        # standardised token holds its scale.
        if self.tokens != "plain" and not head_named(self.head).has_stages:
            raise ConfigError(f"the head {self.head} writes plain tokens, got {self.tokens!r}.")

    @property
    def num_prompts(self) -> int:
        """Number of prompts in one condition."""
        return self.features[0][0]

    @property
    def length(self) -> int:
        """Tokens per prompt in a condition."""
        return self.features[0][1]

    @property
    def read_length(self) -> int:
        """Tokens per prompt that are encoded."""
        return self.reads_tokens or self.length

    @property
    def width(self) -> int:
        """Width of a condition's embeddings."""
        return self.features[0][2]

    @property
    def is_lora(self) -> bool:
        """Whether it is one LoRA for all tasks, which does not read its prompts."""
        return bool(self.training.get("kind") == "multi_task_lora")

    def to_json(self) -> dict[str, Any]:
        """Return the contents of `config.json`."""
        # Without a projection, the folder is one of format 3 and is read by earlier versions too.
        projects = self.reads_tokens is not None
        return {
            "format": _PROJECTS_SINCE if projects else _PROJECTS_SINCE - 1,
            "features": [list(stage) for stage in self.features],
            "kernel_size": self.kernel_size,
            "head": self.head,
            "head_options": dict(self.head_options),
            **({"reads_tokens": self.reads_tokens} if projects else {}),
            "tokens": self.tokens,
            "padding": self.padding,
            "delta_scale": self.delta_scale,
            **self.layout.to_json(),
            "base": dict(self.base),
            "encoder": dict(self.encoder),
            "training": dict(self.training),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "GeneratorConfig":
        """Undo `to_json`.

        Raises:
            GeneratorError: If a field is missing, of the wrong kind, or from a newer format.
        """
        try:
            return cls(**_fields(values))
        except KeyError as error:
            raise GeneratorError(f"not a generator's `config.json`: {error} is missing.") from error
        except (GeneratorError, ConfigError) as error:
            raise GeneratorError(f"not a generator's `config.json`: {error}") from error
        # `float` of an integer with hundreds of digits is an OverflowError.
        except (TypeError, ValueError, ArithmeticError) as error:
            raise GeneratorError(f"not a generator's `config.json`: {error!r}.") from error


def trained_steps(training: Mapping[str, Any]) -> int:
    """Return a generator's training steps, including those of the generator it started from.

    Args:
        training: `training` of the config; 0 steps if it does not say.
    """
    result = training.get("result")
    own = result.get("steps") if isinstance(result, dict) else None
    # The config may be a stranger's, and hold anything here.
    return sum(n for n in (own, training.get("steps_before")) if type(n) is int)


def _fields(values: Mapping[str, Any]) -> dict[str, Any]:
    found = values["format"]
    if type(found) is not int or not 1 <= found <= FORMAT:
        raise GeneratorError(f"`format` is {found!r}; this version reads formats 1 to {FORMAT}.")
    # Sizes are bounded before anything is built from them: a stranger's may ask for any amount of
    # memory.
    if len(values["features"]) > FIXED.max_stages:
        raise GeneratorError(
            f"`features` must list at most {FIXED.max_stages} stages, got "
            f"{len(values['features']):,}."
        )
    fields: dict[str, Any] = {
        "features": tuple(
            (whole_number(n, "features"), whole_number(h, "features"), whole_number(w, "features"))
            for n, h, w in values["features"]
        ),
        "kernel_size": whole_number(values["kernel_size"], "kernel_size", FIXED.max_kernel_size),
        "delta_scale": _number(values["delta_scale"], "delta_scale"),
        "layout": LoRALayout.from_json(values),
    }
    for name in ("base", "encoder", "training"):
        fields[name] = _object(values, name)
    _check_origin(fields["base"], fields["encoder"])
    # Earlier versions wrote `condition`, and allowed the base itself as the encoder.
    if (condition := values.get("condition", "encoder")) != "encoder":
        raise GeneratorError(
            f"`condition` must be 'encoder', got {condition!r}: this version reads prompts with "
            "the text encoder only. Use another generator, or train one with `dnd train`."
        )
    # A field that an older format lacks keeps its default, the only kind that there was then.
    if found > 1:
        fields["head"] = values["head"]
        fields["head_options"] = complete_options(values["head"], _object(values, "head_options"))
    if found > 2:
        for name, known in (("tokens", TokenScheme), ("padding", Padding)):
            if values[name] not in get_args(known):
                allowed = ", ".join(get_args(known))
                raise ConfigError(f"`{name}` must be one of {allowed}, got {values[name]!r}.")
            fields[name] = values[name]
    if found >= _PROJECTS_SINCE:
        fields["reads_tokens"] = whole_number(values["reads_tokens"], "reads_tokens")
    return fields


def _check_origin(base: Mapping[str, Any], encoder: Mapping[str, Any]) -> None:
    """Check what is said of base and encoder; a part may be missing, which fits no base."""
    for owner, names in ((base, ("id",)), (encoder, ("id", "sha256"))):
        for name in names:
            if not isinstance(owner.get(name, ""), str):
                raise GeneratorError(f"`{name}` must be a string, got {owner[name]!r}.")
    fingerprint = _object(base, "fingerprint") if "fingerprint" in base else {}
    if "architecture" in fingerprint:
        _object(fingerprint, "architecture")
    norms = fingerprint.get("norms", [])
    if not isinstance(norms, list) or not all(math.isfinite(_number(n, "norms")) for n in norms):
        raise GeneratorError(f"`norms` must be a list of finite numbers, got {norms!r}.")


def _object(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = values[name]
    if not isinstance(value, dict):
        raise GeneratorError(f"`{name}` must be an object, got {value!r}.")
    return value


def _number(value: Any, name: str) -> float:
    if type(value) not in (int, float):
        raise GeneratorError(f"`{name}` must be a number, got {value!r}.")
    return float(value)
