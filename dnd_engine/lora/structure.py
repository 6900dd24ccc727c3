"""Describes any PEFT LoRA on disk, and finds parts of it that do nothing.

Loaders silently ignore what they do not expect: misspelt keys, layers missing from the config, an A
without its B. This module reads files as `reader` does, checks that they are consistent and fit a
base's layout if one is known, and needs no model.
"""

import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from dnd_engine.errors import AdapterError
from dnd_engine.lora.layout import LoRALayout
from dnd_engine.lora.provenance import FILES, validation_words
from dnd_engine.lora.reader import read_files

_KEY = re.compile(r"base_model\.model\.(?P<path>.+)\.lora_(?P<side>[AB])\.weight")
_SHOWN = 3
_CONFIG, _WEIGHTS = FILES[:2]
_LAYER = re.compile(r"model\.layers\.(\d+)\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Config:
    """What is read of `adapter_config.json`, in the types that PEFT writes."""

    peft_type: Any = None
    base_model_name_or_path: str | None = None
    r: int | None = None
    lora_alpha: int | float | None = None
    rank_pattern: dict[str, Any] | None = None
    target_modules: str | list[str] | None = None
    modules_to_save: list[str] | None = None


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
    """Number of adapted linear layers, those with A and B."""
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
    modules: dict[str, int] = {}
    for place in whole:
        name = place.rpartition(".")[2]
        modules[name] = modules.get(name, 0) + 1
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
        modules=modules,
        dtypes=tuple(sorted({str(t.dtype).removeprefix("torch.") for t in state.values()})),
        faults=tuple(_faults(config, whole, layout)),
        does_nothing=tuple(_idle(config, state, pairs, whole, layout, num_zero)),
        checked_against="" if layout is None else base,
    )


def _pairs(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Group A and B by the layer they adapt."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        if match := _KEY.fullmatch(key):
            found.setdefault(match["path"], {})[match["side"]] = tensor
    return found


def _faults(
    config: _Config, whole: Mapping[str, Mapping[str, Tensor]], layout: LoRALayout | None
) -> Iterator[str]:
    # With a pattern, `r` holds for some layers only.
    ranks = [] if config.rank_pattern else [config.r]
    other = [
        place
        for place, pair in whole.items()
        # LoRAs of convolutions have four dimensions.
        if pair["A"].dim() == 2
        and pair["B"].dim() == 2
        and len({pair["A"].shape[0], pair["B"].shape[1], *ranks}) > 1
    ]
    yield from _said(other, f"of another rank than `r` {config.r}")
    yield from _said(
        [
            p
            for p, pair in whole.items()
            if not all(bool(t.isfinite().all()) for t in pair.values())
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


def _idle(
    config: _Config,
    state: Mapping[str, Tensor],
    pairs: Mapping[str, Mapping[str, Tensor]],
    whole: Mapping[str, Mapping[str, Tensor]],
    layout: LoRALayout | None,
    num_zero: int,
) -> Iterator[str]:
    """Yield parts that are accepted but change nothing."""
    # PEFT stores modules that were trained in full, not by LoRA, under their own names.
    saved = config.modules_to_save or []
    strays = [
        key
        for key in state
        if not _KEY.fullmatch(key) and not any(f".{name}." in key for name in saved)
    ]
    yield from _said(strays, "that no loader expects", "key")
    yield from _said([p for p in pairs if p not in whole], "with only A or only B")
    targets = config.target_modules
    yield from _said(
        [place for place in whole if not _is_target(place, targets)],
        "that `target_modules` does not name",
    )
    if isinstance(targets, list):
        unused = [t for t in targets if not any(_is_target(place, [t]) for place in whole)]
        yield from _said(unused, "named in `target_modules` without weights", "module")
    if config.lora_alpha == 0:
        yield "`lora_alpha` is 0, which multiplies everything by 0"
    if whole and num_zero == len(whole):
        yield "A or B is all zeros in every layer, so the base stays as it is"
    if layout is not None:
        layers = 1 + max(target.layer for target in layout.targets)
        missing = [
            place for place in whole if (match := _LAYER.match(place)) and int(match[1]) >= layers
        ]
        yield from _said(missing, f"beyond the base's {layers} layers")


def _is_target(place: str, targets: Sequence[str] | None) -> bool:
    """Return whether PEFT adapts a layer: by the end of its path, or by a regex for all of it."""
    if isinstance(targets, str):
        if targets == "all-linear":
            return True
        try:
            return re.fullmatch(targets, place) is not None
        except (re.error, OverflowError, RecursionError):
            return False
    return any(place == target or place.endswith(f".{target}") for target in targets or ())


def _said(places: Sequence[str], what: str, kind: str = "layer") -> Iterator[str]:
    """Describe several layers in one sentence; nothing if there are none."""
    if places:
        shown = ", ".join(sorted(places)[:_SHOWN])
        more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
        yield f"{len(places)} {kind}{'s' if len(places) > 1 else ''} {what} ({shown}{more})"
