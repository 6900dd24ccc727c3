"""Describes any PEFT LoRA on disk, and finds parts of it that do nothing.

Loaders silently ignore what they do not expect: misspelt keys, layers missing from the config, an A
without its B. This module reads files as `reader` does, checks that they are consistent and fit a
base's layout if one is known, and needs no model. PEFT is the loader whose rules it follows.
"""

import codecs
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from peft.tuners.tuners_utils import check_target_module_exists
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from dnd_engine.errors import AdapterError
from dnd_engine.limits import FIXED
from dnd_engine.lora.layout import OUTPUT_LAYER, OUTSIDE_BLOCKS, LoRALayout
from dnd_engine.lora.provenance import FILES
from dnd_engine.lora.reader import read_files
from dnd_engine.notes import first_of
from dnd_engine.recipe_file import validation_words

_PREFIX = r"base_model\.model\."
_KEY = re.compile(_PREFIX + r"(?P<path>.+)\.lora_(?:(?P<side>[AB])\.weight|embedding_(?P<of>[AB]))")
_MAGNITUDE = re.compile(_PREFIX + r"(.+)\.lora_magnitude_vector(?:\.weight)?")
_BIAS_OF_B = re.compile(_PREFIX + r"(.+)\.lora_B\.bias")
_TOKENS = re.compile(_PREFIX + r".+\.token_adapter\.trainable_tokens_delta")
_EMBEDDING = re.compile(_PREFIX + r".+\.lora_embedding_[AB]")
_EMBEDDINGS = "|".join(path.rpartition(".")[2] for path in OUTSIDE_BLOCKS)
_BASE = re.compile(
    _PREFIX + rf"(?!.*\.lora_)(?:.+\.bias|(?:.+\.)?(?:{_EMBEDDINGS})(?:\.base_layer)?\.weight)"
)
"""Parameters of the base that PEFT saves beside a LoRA, and replaces when it loads one."""
_SHOWN = 3
_CONFIG, _WEIGHTS = FILES[:2]
_Value = TypeVar("_Value")
_BAD_PATTERN = (re.error, OverflowError, RecursionError)
"""Errors of a text that is no regular expression, or of one too long to be one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Config:
    """What is read of `adapter_config.json`, in the types that PEFT writes."""

    peft_type: Any = None
    base_model_name_or_path: str | None = None
    r: int | None = None
    lora_alpha: int | float | None = None
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, int | float] | None = None
    target_modules: str | list[str] | None = None
    target_parameters: list[str] | None = None  # PEFT's functions read it
    exclude_modules: str | list[str] | None = None
    layers_to_transform: int | list[int] | None = None
    layers_pattern: str | list[str] | None = None
    modules_to_save: list[str] | None = None
    trainable_token_indices: Any = None
    use_dora: bool | None = None
    lora_bias: bool | None = None

    def rank(self, place: str) -> int | None:
        """Return the rank that PEFT gives a layer."""
        return _by_pattern(self.rank_pattern, place, self.r)

    def alpha(self, place: str) -> float | None:
        """Return the alpha that PEFT gives a layer."""
        return _by_pattern(self.alpha_pattern, place, self.lora_alpha)


_READ_CONFIG = TypeAdapter(_Config)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterStructure:
    """The parts of an adapter, and their faults."""

    base: str
    """Base named in its config; may be empty."""
    r: int | None
    lora_alpha: float | None
    num_keys: int
    num_parameters: int
    num_layers: int
    """Number of adapted layers, those with A and B."""
    num_zero: int
    """Number of these whose A or B is all zeros, so they leave the base as it is. Not a fault if
    others change it: an imprint leaves most layers alone on purpose."""
    modules: Mapping[str, int]
    """Number of adapted layers by the last part of their path."""
    dtypes: tuple[str, ...]
    faults: tuple[str, ...]
    """Parts that a loader refuses or computes wrongly."""
    does_nothing: tuple[str, ...]
    """Parts that a loader silently ignores, or that cannot change an answer."""
    peft_only: tuple[str, ...]
    """Parts that PEFT uses, but not the engines that people serve with."""
    checked_against: str
    """Base whose layers were compared; empty if its sizes are unknown."""

    @property
    def works(self) -> bool:
        """Return whether every part can take effect."""
        return not self.faults and not self.does_nothing


def read_structure(path: Path, layout: LoRALayout | None = None) -> AdapterStructure:
    """Read an adapter's files.

    Args:
        path: PEFT folder or zip for any base.
        layout: All adaptable layers of the base, at any rank; None if unknown.

    Raises:
        AdapterError: If the files are missing, damaged, too large or pickles.
    """
    files = read_files(path)
    try:
        # Editors on Windows may begin a file with a byte order mark.
        text = files[_CONFIG].removeprefix(codecs.BOM_UTF8)
        config = _READ_CONFIG.validate_json(text, strict=True)
        state = load(files[_WEIGHTS])
    except (ValueError, SafetensorError, KeyError, RuntimeError) as error:
        fault = str(error)
        if isinstance(error, ValidationError):
            fault = f"`{_CONFIG}`: {validation_words(error, depth=1)}"
        raise AdapterError(
            f"`{path}` is damaged: {fault}. Copy it again, or save it again with PEFT."
        ) from error
    if config.peft_type != "LORA":
        raise AdapterError(f"`{path}` is no LoRA: its `peft_type` is {config.peft_type!r}.")
    pairs = _pairs(state)
    whole = {place: pair for place, pair in pairs.items() if set(pair) == {"A", "B"}}
    num_zero = sum(any(not bool(t.any()) for t in pair.values()) for pair in whole.values())
    base = config.base_model_name_or_path or ""
    return AdapterStructure(
        base=base,
        r=config.r,
        lora_alpha=config.lora_alpha,
        num_keys=len(state),
        num_parameters=sum(tensor.numel() for tensor in state.values()),
        num_layers=len(whole),
        num_zero=num_zero,
        modules=dict(Counter(place.rpartition(".")[2] for place in whole)),
        dtypes=tuple(sorted({str(t.dtype).removeprefix("torch.") for t in state.values()})),
        faults=tuple(_faults(config, state, whole, layout)),
        does_nothing=tuple(_idle(config, state, pairs, whole, layout, num_zero)),
        peft_only=tuple(
            sentence
            for what, keys in _peft_only(config, state, whole).items()
            for sentence in _said(keys, what, "key")
        ),
        checked_against="" if layout is None else base,
    )


def _pairs(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Group A and B by the layer they adapt."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        if match := _KEY.fullmatch(key):
            found.setdefault(match["path"], {})[match["side"] or match["of"]] = tensor
    return found


def _faults(
    config: _Config,
    state: Mapping[str, Tensor],
    whole: Mapping[str, Mapping[str, Tensor]],
    layout: LoRALayout | None,
) -> Iterator[str]:
    other = [
        place
        for place, pair in whole.items()
        # LoRAs of convolutions have four dimensions.
        if pair["A"].dim() == 2
        and pair["B"].dim() == 2
        and len({pair["A"].shape[0], pair["B"].shape[1], config.rank(place)}) > 1
    ]
    flat = [p for p, pair in whole.items() if min(t.dim() for t in pair.values()) < 2]
    yield from _said(flat, "whose A or B is no matrix")
    by_pattern = " or `rank_pattern`" if config.rank_pattern else ""
    yield from _said(other, f"of another rank than `r` {config.r}{by_pattern}")
    yield from _said(
        [
            p
            for p, pair in whole.items()
            # As float32: torch has no such test for some kinds of eight bits.
            if not all(bool(t.float().isfinite().all()) for t in pair.values())
        ],
        "with values that are not finite",
    )
    targets = () if layout is None else layout.targets
    sizes = {t.path: ((t.in_features,), (t.out_features,)) for t in targets}
    yield from _said(
        [
            place
            for place, pair in whole.items()
            # All sizes but the rank, so that a tensor of fewer or more dimensions differs too.
            if place in sizes and (pair["A"].shape[1:], pair["B"].shape[:-1]) != sizes[place]
        ],
        "of another size than the base's",
    )
    if not whole:
        yield "it adapts no layer at all"
    unsaved = [n for n in config.modules_to_save or [] if not any(_is_saved(k, [n]) for k in state)]
    yield from _said(unsaved, "named in `modules_to_save` without weights", "module")
    if config.trainable_token_indices and not any(_TOKENS.fullmatch(key) for key in state):
        yield "`trainable_token_indices` is set, and there are no trained tokens"
    if config.use_dora:
        scaled = {match[1] for key in state if (match := _MAGNITUDE.fullmatch(key))}
        yield from _said(
            [place for place in whole if place not in scaled],
            "without the magnitude that `use_dora` needs",
        )
    if isinstance(config.target_modules, str) and config.layers_to_transform is not None:
        yield "`layers_to_transform` is set, which PEFT refuses if `target_modules` is a text"
    patterns = [*(config.rank_pattern or {}), *(config.alpha_pattern or {})]
    yield from _said([p for p in patterns if _pattern(p) is None], "that cannot be read", "pattern")


def _idle(
    config: _Config,
    state: Mapping[str, Tensor],
    pairs: Mapping[str, Mapping[str, Tensor]],
    whole: Mapping[str, Mapping[str, Tensor]],
    layout: LoRALayout | None,
    num_zero: int,
) -> Iterator[str]:
    """Yield parts that are accepted but change nothing."""
    used = {key for keys in _peft_only(config, state, whole).values() for key in keys}
    strays = [key for key in state if not _KEY.fullmatch(key) and key not in used]
    yield from _said(strays, "that no loader expects", "key")
    yield from _said([p for p in pairs if p not in whole], "with only A or only B")
    targets = config.target_modules
    named = [place for place in whole if _is_target(place, targets)]
    yield from _said(
        [place for place in whole if place not in named], "that `target_modules` does not name"
    )
    limits = ("exclude_modules", "layers_to_transform", "modules_to_save")
    yield from _said(
        [place for place in named if not _is_left(place, config)],
        f"that {' or '.join(f'`{name}`' for name in limits if getattr(config, name))} leaves out",
    )
    if isinstance(targets, list):
        unused = [t for t in targets if not any(_is_target(place, [t]) for place in whole)]
        yield from _said(unused, "named in `target_modules` without weights", "module")
    yield from _said(
        [place for place in whole if config.alpha(place) == 0],
        "multiplied by 0, by `lora_alpha` or `alpha_pattern`",
    )
    if whole and num_zero == len(whole):
        yield "A or B is all zeros in every layer, so the base stays as it is"
    if layout is not None:
        known = {*OUTSIDE_BLOCKS, *(target.path for target in layout.targets)}
        yield from _said([p for p in whole if p not in known], "that the base does not have")


def _peft_only(
    config: _Config, state: Mapping[str, Tensor], whole: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, list[str]]:
    """Return the keys that PEFT uses although they are no LoRA of a linear layer, by kind."""
    found: dict[str, list[str]] = {}
    for key in state:
        magnitude, bias = _MAGNITUDE.fullmatch(key), _BIAS_OF_B.fullmatch(key)
        if config.use_dora and magnitude and magnitude[1] in whole:
            kind = "of DoRA"
        elif config.lora_bias and bias and bias[1] in whole:
            kind = "of a bias of B"
        elif _TOKENS.fullmatch(key) and config.trainable_token_indices:
            kind = "of trained tokens"
        elif _EMBEDDING.fullmatch(key):
            kind = "of a LoRA of embeddings"
        elif not _KEY.fullmatch(key) and _is_saved(key, config.modules_to_save or []):
            kind = "of modules trained in full"
        elif _BASE.fullmatch(key):
            kind = "in place of the base's own"
        else:
            continue
        found.setdefault(kind, []).append(key)
    return found


def _is_saved(key: str, names: Sequence[str]) -> bool:
    """Return whether a key belongs to a module of `modules_to_save`.

    PEFT matches names by how a path ends, and stores such modules under their own paths.
    """
    return any(f"{name}." in key for name in names)


def _by_pattern(patterns: Mapping[str, _Value] | None, place: str, default: _Value) -> _Value:
    """Return a layer's value as PEFT does: by the first pattern that fits, else the default."""
    for text, value in (patterns or {}).items():
        pattern = _pattern(text)
        if pattern is not None and pattern.match(place):
            return value
    return default


# Each layer is compared with each pattern. Python keeps 512 of them, PEFT's way of asking compiles
# more than that again for every layer, and a large base has a pattern for each of its 560.
@lru_cache(FIXED.max_adapter_tensors)
def _pattern(text: str) -> re.Pattern[str] | None:
    """Return a pattern as PEFT reads it; None if it cannot be read."""
    try:
        return re.compile(rf"(.*\.)?({text})$")
    except _BAD_PATTERN:
        return None


def _is_left(place: str, config: _Config) -> bool:
    """Return whether PEFT adapts a layer that `target_modules` names, by its other settings."""
    targets = config.target_modules
    if isinstance(targets, str) and targets.lower() == "all-linear":
        # PEFT replaces this word by the names of all such layers.
        config = replace(config, target_modules=[place])
    try:
        return bool(check_target_module_exists(config, place))
    except _BAD_PATTERN:
        return False


def _is_target(place: str, targets: str | list[str] | None) -> bool:
    """Return whether PEFT adapts a layer: by the end of its path, or by a regex for all of it."""
    if isinstance(targets, str) and targets.lower() == "all-linear":
        # PEFT leaves out the layer that makes the model's output.
        return place != OUTPUT_LAYER
    return bool(targets) and _is_left(place, _Config(target_modules=targets))


def _said(places: Sequence[str], what: str, kind: str = "layer") -> Iterator[str]:
    """Describe several layers in one sentence; nothing if there are none."""
    if places:
        shown = first_of(sorted(places), _SHOWN)
        yield f"{len(places)} {kind}{'s' if len(places) > 1 else ''} {what} ({shown})"
