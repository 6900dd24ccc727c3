"""Converts the decoders that the paper's authors released as `.pth` files.

A `.pth` file is a pickle, which may run code when it is read. Only this module opens one, with
`weights_only=True`, and it validates all contents. The result is an ordinary generator folder that
no longer needs the file.

Source: names, shapes and encoder settings are those of the authors' code, Liang et al. 2025,
arXiv:2506.16406.
"""

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from dnd_engine.errors import BaseMismatchError, GeneratorError
from dnd_engine.files import sha256_of
from dnd_engine.generator.card import released_card
from dnd_engine.generator.config import (
    RELEASED_BASE,
    RELEASED_ENCODER,
    GeneratorConfig,
    fits_encoder,
)
from dnd_engine.generator.folder import Generator, GeneratorFolder, is_finite, save_generator
from dnd_engine.generator.hyperconv import HyperConvDecoder
from dnd_engine.generator.projection import Projection
from dnd_engine.generator.stage import Stage
from dnd_engine.limits import FIXED
from dnd_engine.lora.layout import BORDER, LoRALayout, LoRASpec
from dnd_engine.models.base import best_dtype, fingerprint, load_base, read_config, resolve_base
from dnd_engine.models.encoder import PromptEncoder
from dnd_engine.models.sources import ENCODERS, ResolvedWeights, first_line, known_name, resolve
from dnd_engine.notes import first_of
from dnd_engine.prompts.words import cut, one_line

_CPU = torch.device("cpu")
_PREFIX = "model."
_NOT_DECODER = "criterion_weight"
"""Weights of the training loss, saved beside the decoder but not needed."""
_PROJECTION = ("down_proj.", "gate_proj.")
"""Prefixes of a projection's weights, saved beside the decoder's."""
_FLOATS = (torch.float32, torch.float16, torch.bfloat16)
_MAX_NAMED = 10
"""Maximum number of names of one kind in a message."""


@dataclass(frozen=True, slots=True)
class ReleasedDecoder:
    """A validated file: stages derived from its shapes, all weights present and finite."""

    path: Path
    features: tuple[Stage, ...]
    kernel_size: int
    weights: Mapping[str, Tensor]
    """Weights by the names of a `HyperConvDecoder`, mapped from the file."""
    reads_tokens: int | None
    """Tokens of a prompt that its projection reads; None without one."""
    projection: Mapping[str, Tensor]
    """Weights by the names of a `Projection`, mapped from the file; empty without one."""


def read_released(path: Path) -> ReleasedDecoder:
    """Read a decoder that the authors' code saved, weights only.

    Raises:
        GeneratorError: If the file is of another kind, has missing or extra entries, or weights of
            the wrong shape or that are not finite. No code in it is run.
    """
    try:
        weights = _state(path)
        projection = {k: v for k, v in weights.items() if k.startswith(_PROJECTION)}
        decoder = {k: v for k, v in weights.items() if k not in projection}
        features, kernel_size = _stages(decoder)
        reads_tokens = _read_length(projection, features[0][1]) if projection else None
        broken = [name for name, weight in weights.items() if not is_finite(weight)]
        if broken:
            raise GeneratorError(f"weights that are NaN or infinite: {_listed(broken)}.")
    except GeneratorError as error:
        raise GeneratorError(
            f"`{path}` is not a decoder released by the paper's authors: {error} "
            "Expected a `.pth` file as their training scripts save it, downloaded whole."
        ) from error
    return ReleasedDecoder(path, features, kernel_size, decoder, reads_tokens, projection)


def convert(
    path: Path,
    out: Path,
    *,
    base: str = RELEASED_BASE,
    encoder: str = RELEASED_ENCODER,
    cache_dir: Path | None = None,
) -> GeneratorFolder:
    """Write a generator folder from a released decoder.

    Args:
        path: The `.pth` file.
        out: The new folder.
        base: The base it was trained for; its fingerprint is stored in the folder.
        encoder: The text encoder it was trained with.
        cache_dir: Cache for converted bases; None is the user's cache folder.

    Raises:
        GeneratorError: If the file is not such a decoder, or `out` exists or cannot be written.
        BaseMismatchError: If the decoder does not fit this base or encoder.
        AssetError: If base or encoder is unavailable, or the base does not fit into memory.
        LayoutError: If the base's architecture is not supported.
    """
    if out.exists():
        raise GeneratorError(f"`{out}` exists. Choose a new folder.")
    # The file first, so that nothing is downloaded for one that is refused.
    decoder = read_released(path)
    read_with = resolve(known_name(encoder, ENCODERS), ENCODERS)
    _check_encoder(decoder, PromptEncoder(read_with.path, _CPU, torch.float32), encoder)
    weights = resolve_base(base, _CPU, best_dtype(_CPU), cache_dir)
    layout = _layout(decoder, read_config(weights.path), base)
    config = GeneratorConfig(
        features=decoder.features,
        kernel_size=decoder.kernel_size,
        layout=layout,
        reads_tokens=decoder.reads_tokens,
        # As in the authors' code: padding is not masked, and the decoder writes the whole adapter.
        tokens="standardised",
        padding="kept",
        delta_scale=1.0,
        base={"id": weights.hub_id, "fingerprint": _fingerprint(weights)},
        encoder={"id": read_with.hub_id, "sha256": read_with.sha256},
        training={
            "kind": "generator",
            "recipe": {"objective": "reconstruction"},
            "released": {"file": path.name, "sha256": sha256_of(path)},
        },
    )
    GeneratorConfig.from_json(config.to_json())  # fail now if the folder could not be opened later
    try:
        save_generator(_generator(config, decoder), out, (), released_card(config))
    except (OSError, SafetensorError) as error:
        raise GeneratorError(f"`{out}` cannot be written: {first_line(error)}") from error
    return GeneratorFolder.open(out)


def _state(path: Path) -> dict[str, Tensor]:
    """Map the decoder's tensors from the file, and check all but their shapes."""
    _check_archive(path)
    try:
        # Memory-mapped: a file of gigabytes takes no memory before its names and shapes are
        # checked. Unpickling an untrusted file can raise any exception.
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        # torch's message names the function that unpickling would have called.
        found = re.search(r"GLOBAL \S+", str(error))
        reason = f"it names {cut(one_line(found[0]), 80)}" if found else type(error).__name__
        raise GeneratorError(
            f"it holds something other than weights ({reason}), and nothing else is read."
        ) from error
    if not isinstance(loaded, dict) or not loaded:
        raise GeneratorError(f"expected a state dict, found {_kind(loaded)}.")
    odd = [f"{k!r} ({_kind(v)})" for k, v in loaded.items() if not _is_weight(k, v)]
    if odd:
        raise GeneratorError(f"expected a state dict of weights, found {_listed(odd)}.")
    # Tensors may share one storage or repeat one number, so a small file can claim any size.
    claimed = sum(value.numel() * value.itemsize for value in loaded.values())
    if claimed > path.stat().st_size:
        raise GeneratorError(
            f"it claims {claimed:,} bytes of weights, more than the whole file holds."
        )
    named = {name.removeprefix(_PREFIX): value.detach() for name, value in loaded.items()}
    named.pop(_NOT_DECODER, None)
    return named


def _check_archive(path: Path) -> None:
    """Check the zip container of a `.pth` file before unpacking anything."""
    if not path.is_file():
        raise GeneratorError("there is no such file.")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, RuntimeError, ValueError) as error:
        raise GeneratorError(f"it is not a zip, which `torch.save` writes ({error}).") from error
    # torch reads the pickle into memory whole, and a compressed entry may grow without end.
    pickles = [entry.file_size for entry in entries if entry.filename.endswith("data.pkl")]
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or len(pickles) != 1 or pickles[0] > FIXED.max_pickle_bytes:
        raise GeneratorError("it is a zip, but not as `torch.save` writes one.")


def _is_weight(name: object, value: object) -> bool:
    return (
        isinstance(name, str)
        and isinstance(value, Tensor)
        # Sparse and meta tensors have a shape without as many numbers behind it.
        and value.layout == torch.strided
        and value.device == _CPU
        and value.dtype in _FLOATS
    )


def _stages(weights: Mapping[str, Tensor]) -> tuple[tuple[Stage, ...], int]:
    """Derive stages and kernel size from some shapes; all names and shapes must then match them."""
    shapes = _shapes(weights)
    # At least one layer, so that the message names what a file of another kind lacks.
    count = max(1, sum(name.endswith(".linear2.weight") for name in shapes))
    # Names depend on the number of layers alone, so any sizes do here.
    _check_names(shapes, _decoder_shapes([(1, 1, 1)] * (count + 1), 1))
    layers = [f"decoder.module_list.{i}" for i in range(count)]
    outputs = [shapes[f"{layer}.linear2.weight"] for layer in layers]
    try:
        # A layer's norm is as large as the plane it reads, and its bias as the plane it writes.
        features = [
            _stage(output[1], shapes[f"{layer}.linear1.norm.weight"])
            for layer, output in zip(layers, outputs, strict=True)
        ]
        features.append(_stage(outputs[-1][0], shapes[f"{layers[-1]}.linear1.bias"]))
        kernel_size = outputs[0][-1]
        expected = _decoder_shapes(features, kernel_size)
    except (IndexError, ValueError, RuntimeError) as error:
        raise GeneratorError("its weights do not have the dimensions of convolutions.") from error
    _check_sizes(shapes, expected)
    return tuple(features), kernel_size


def _read_length(weights: Mapping[str, Tensor], length: int) -> int:
    """Derive how many tokens a projection reads; all its names and shapes must match that."""
    shapes = _shapes(weights)
    with torch.device("meta"):
        _check_names(shapes, _shapes(Projection(1, 1).state_dict()))
        # At least one, and of any dimensions: the check of sizes says what is wrong with them.
        reads_tokens = max([1, *shapes["down_proj.weight"][-1:]])
        _check_sizes(shapes, _shapes(Projection(reads_tokens, length).state_dict()))
    return reads_tokens


def _check_names(found: Mapping[str, object], expected: Mapping[str, object]) -> None:
    missing, unknown = expected.keys() - found.keys(), found.keys() - expected.keys()
    if missing or unknown:
        raise GeneratorError(
            f"weights missing: {_listed(sorted(missing))}; unknown: {_listed(sorted(unknown))}."
        )


def _check_sizes(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]
) -> None:
    wrong = [
        f"{name} is {found[name]}, expected {shape}"
        for name, shape in expected.items()
        if found[name] != shape
    ]
    if wrong:
        raise GeneratorError(f"weights of the wrong shape: {_listed(wrong)}.")


def _stage(channels: int, plane: tuple[int, ...]) -> Stage:
    height, width = plane
    return channels, height, width


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in weights.items()}


def _decoder_shapes(features: Sequence[Stage], kernel_size: int) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of a decoder's weights, without allocating them."""
    with torch.device("meta"):
        return _shapes(HyperConvDecoder(features, kernel_size).state_dict())


def _layout(decoder: ReleasedDecoder, base: Mapping[str, object], named: str) -> LoRALayout:
    grid = decoder.features[-1]
    # A grid with no room for the border fits no layout, and is refused below.
    r = max(1, grid[1] - BORDER)
    # In all LoRAs of the authors, alpha is twice the rank.
    layout = LoRALayout.from_config(base, LoRASpec(r=r, lora_alpha=2 * r))
    if layout.grid("standardised") != grid:
        raise BaseMismatchError(
            f"`{decoder.path}` writes (tokens, rows, columns) {grid}, and a LoRA of rank {r} for "
            f"`{named}` has {layout.grid('standardised')}. Name the base that it was trained for."
        )
    return layout


def _fingerprint(weights: ResolvedWeights) -> dict[str, Any]:
    return fingerprint(load_base(weights, _CPU, best_dtype(_CPU)))


def _check_encoder(decoder: ReleasedDecoder, encoder: PromptEncoder, named: str) -> None:
    _, length, width = decoder.features[0]
    longest, projects = encoder.longest, decoder.reads_tokens is not None
    read = decoder.reads_tokens or length
    if width != encoder.width or not fits_encoder(read, longest, in_pieces=projects):
        tokens = "any number of" if longest is None else f"at most {longest}"
        if longest is not None and projects:
            tokens = f"pieces of {longest}"
        raise BaseMismatchError(
            f"`{decoder.path}` reads {read:,} tokens of a prompt, {width} wide; `{named}` gives "
            f"{tokens} tokens, {encoder.width} wide. Name the encoder that it was trained "
            "with. Only decoders that project what they read can read in pieces."
        )


def _generator(config: GeneratorConfig, decoder: ReleasedDecoder) -> Generator:
    """Build the generator around memory-mapped weights."""
    with torch.device("meta"):
        generator = Generator(config)
    state = {f"decoder.{name}": weight for name, weight in decoder.weights.items()}
    state |= {f"projection.{name}": weight for name, weight in decoder.projection.items()}
    # The authors' decoder does not standardise its input, and has no shared tokens.
    state["shared"] = torch.zeros(config.layout.grid())
    state["condition_mean"] = torch.zeros(config.width)
    state["condition_std"] = torch.ones(config.width)
    # Assigned, not copied, so that the weights stay mapped from the file.
    generator.load_state_dict(state, assign=True)
    return generator


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a {value.dtype} tensor".replace("torch.", "")
    return f"a {type(value).__name__}"


def _listed(names: list[str]) -> str:
    return first_of(names, _MAX_NAMED, write=lambda name: cut(one_line(name), 100)) or "none"
