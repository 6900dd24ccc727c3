"""Reads GGUF files as bases: checks the header, then dequantises to a transformers folder.

Knows llama.cpp's format and transformers' reader of it; does not know where files come from.
"""

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import gguf
import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.integrations.ggml import GGUF_CONFIG_MAPPING
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from dnd_engine.errors import AssetError
from dnd_engine.limits import FIXED
from dnd_engine.lora.layout import ARCHITECTURES
from dnd_engine.models.llama3_positions import FACTORS, stretch
from dnd_engine.models.memory import check_memory
from dnd_engine.notes import first_of

# transformers asks for this map once for each module of a model, and gets the same one each time:
# a third of the processor time of an export.
gguf.get_tensor_name_map = cache(gguf.get_tensor_name_map)


class _Reader(gguf.GGUFReader):
    """Slices a plain array: numpy runs Python for each slice of a mapped one.

    A header has a slice for every word of its tokenizer. 49,152 words take .5 s instead of 1.7.
    """

    @property
    def data(self) -> Any:
        """The file's bytes, still mapped."""
        return self._bytes

    @data.setter
    def data(self, mapped: Any) -> None:
        self._bytes: Any = mapped.view(np.ndarray)


# transformers reads with this class, too: once for a config, once for weights.
gguf.GGUFReader = _Reader  # type: ignore[misc]  # the same class to its users

_MAGIC = b"GGUF"

_SPLIT = "tokenizer.ggml.pre"
_REPOSITORY = "general.source.huggingface.repository"
_READ = {
    "general.architecture",
    "general.type",
    _REPOSITORY,
    "split.count",
    "tokenizer.ggml.model",
    _SPLIT,
}
"""Fields that are read; the many words of the tokenizer, for one, are not decoded."""

_LAYERS, _SCALING = "block_count", "rope.scaling.type"
_SCALING_FACTORS = ("rope.scaling.factor", "rope.scale_linear")
_READ_OF_ARCHITECTURE = (f".{_LAYERS}", f".{_SCALING}", *(f".{name}" for name in _SCALING_FACTORS))
"""Ends of the names of more fields that are read; the names begin with the architecture."""

_VERSIONS = (2, 3)
"""Version 1 has other lengths, and big-endian files have numbers that match neither."""

_MAX_AXES = 4
"""Axes of a tensor; llama.cpp has no more."""

_ARRAY, _STRING = gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.STRING

_WIDTHS: dict[int, int] = {
    kind: np.dtype(of).itemsize for kind, of in gguf.GGUFReader.gguf_scalar_to_np.items()
}
"""Bytes of a number or a truth value, by its type."""

_CUT = "its header goes on past the end of the file"

_LIKE_GPT2 = ("gpt-2", "phi-2", "smollm")
"""Ways to split texts before merges that transformers does not list, and does as GPT-2 does.
SmolLM2 splits digits, too, which its merges never join."""

_WHOLE_WORDS = (
    *("llama3", "llama-v3", "llama-bpe", "tekken", "falcon3", "falcon-h1", "pixtral", "midm-2.0"),
    *("lfm2", "jina-v5-nano"),
)
"""Ways to split texts after which a known word is one token, whatever the merges. Source:
llama.cpp's `llama-vocab.cpp`, and `ignore_merges` in the models' own `tokenizer.json`."""

_MAX_FACTORS = 1024
"""Half the width of a head, for which a file may hold factors; no head is as wide."""

_COPIES = 2
"""Dequantised copies in memory during conversion: one read, one to write."""


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """Contents of a GGUF file's header."""

    architecture: str
    """llama.cpp's name for it."""
    tensors: frozenset[str]
    """Names of the weights."""
    num_parameters: int
    hub_id: str | None
    """Hub id of the original model; None if not stated."""
    keeps_words: bool = False
    """Whether a known word is one token, whatever the merges."""
    position_factors: tuple[float, ...] = ()
    """Factors of `llama3_positions`; empty if there are none."""


def read_header(path: Path) -> GGUFHeader:
    """Read and check a GGUF file's header, without its weights.

    Raises:
        AssetError: If the file is incomplete or not GGUF, has no language model with a tokenizer,
            or its architecture is not supported.
    """
    with path.open("rb") as stream:
        if (found := stream.read(4)) != _MAGIC:
            raise AssetError(
                f"`{path}` is no GGUF file: expected it to begin with {_MAGIC!r}, got {found!r}. "
                "Download it again, or name a model folder."
            )
        try:
            _LengthCheck(stream, path.stat().st_size).run()
        except ValueError as error:
            raise _damaged(path, error) from error
    try:
        # The reader validates little: a bad header ends in whatever error its parsing meets.
        reader: Any = gguf.GGUFReader(path)
        metadata = {
            name: field.contents()
            for name, field in reader.fields.items()
            if name in _READ or name.endswith(_READ_OF_ARCHITECTURE)
        }
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise _damaged(path, error) from error
    size = path.stat().st_size
    # The header comes first, so a download that was cut off may have all of it.
    if any(tensor.data_offset + tensor.n_bytes > size for tensor in reader.tensors):
        raise AssetError(f"`{path}` ends before its weights do. Download it again.")
    _check_kind(path, metadata)
    if not reader.tensors:
        raise AssetError(f"`{path}` holds no weights. Download it again.")
    hub_id = metadata.get(_REPOSITORY)
    architecture = str(metadata["general.architecture"])
    _check_layers(path, metadata.get(f"{architecture}.{_LAYERS}"), len(reader.tensors))
    _check_positions(path, architecture, metadata)
    return GGUFHeader(
        architecture=architecture,
        tensors=frozenset(tensor.name for tensor in reader.tensors),
        num_parameters=sum(int(tensor.n_elements) for tensor in reader.tensors),
        hub_id=hub_id if isinstance(hub_id, str) else None,
        keeps_words=metadata.get(_SPLIT) in _WHOLE_WORDS,
        position_factors=_position_factors(reader),
    )


def _position_factors(reader: Any) -> tuple[float, ...]:
    for tensor in reader.tensors:
        is_float = tensor.tensor_type == gguf.GGMLQuantizationType.F32
        if tensor.name == FACTORS and is_float and tensor.n_elements <= _MAX_FACTORS:
            return tuple(tensor.data.ravel().tolist())
    return ()


def _damaged(path: Path, error: Exception) -> AssetError:
    return AssetError(f"`{path}` is a damaged GGUF file ({error}). Download it again.")


class _LengthCheck:
    """Walks through a header and compares every length and number in it with the file's size.

    The gguf library compares none: it reads on past the end of the file for as long as a number
    says, and descends into arrays until Python's stack is full.
    """

    def __init__(self, stream: BinaryIO, num_bytes: int) -> None:
        self._stream, self._num_bytes = stream, num_bytes
        self._num_items = 0

    def run(self) -> None:
        """Raise ValueError if a length or number cannot be true."""
        if (version := self._number(4)) not in _VERSIONS:
            raise ValueError(f"version {version}, expected 2 or 3")
        num_tensors, num_fields = self._number(8), self._number(8)
        for _ in range(num_fields):
            self._count(1)
            self._skip_string()
            self._skip_values(self._number(4))
        for _ in range(num_tensors):
            self._count(1)
            self._skip_string()
            if (num_axes := self._number(4)) > _MAX_AXES:
                raise ValueError(f"a tensor with {num_axes} axes")
            # Quantised weights have more than one bit each.
            if math.prod(self._number(8) for _ in range(num_axes)) > 8 * self._num_bytes:
                raise ValueError("a tensor in it is larger than the file")
            self._skip(4 + 8)  # type, offset

    def _number(self, num_bytes: int) -> int:
        if len(found := self._stream.read(num_bytes)) < num_bytes:
            raise ValueError(_CUT)
        return int.from_bytes(found, "little")

    def _skip(self, num_bytes: int) -> None:
        if num_bytes > self._num_bytes - self._stream.tell():
            raise ValueError(_CUT)
        self._stream.seek(num_bytes, 1)

    def _count(self, num_items: int) -> None:
        self._num_items += num_items
        if self._num_items > FIXED.max_gguf_items:
            raise ValueError(f"its header lists more than {FIXED.max_gguf_items:,} items")

    def _skip_string(self) -> None:
        self._skip(self._number(8))

    def _skip_values(self, kind: int, num_values: int = 1) -> None:
        if kind in _WIDTHS:
            self._skip(num_values * _WIDTHS[kind])
        elif kind == _STRING:
            for _ in range(num_values):
                self._skip_string()
        elif kind == _ARRAY:
            kind, num_values = self._number(4), self._number(8)
            if kind == _ARRAY:
                raise ValueError("an array in it holds arrays")
            self._count(num_values)
            self._skip_values(kind, num_values)
        else:
            raise ValueError(f"a value in it has the unknown type {kind}")


def _check_kind(path: Path, metadata: dict[str, Any]) -> None:
    """Reject anything but a single-file language model that transformers reads and we support."""
    if (kind := metadata.get("general.type", "model")) != "model":
        raise AssetError(
            f"`{path}` holds a GGUF of the type {_short(kind)}, expected a model. Name the base's "
            "file."
        )
    # `llama-gguf-split --merge` sets it to 0.
    if (parts := metadata.get("split.count", 1)) not in (0, 1):
        raise AssetError(
            f"`{path}` is one of {_short(parts)} parts. Join them with llama.cpp's "
            "`llama-gguf-split --merge`, and name the result."
        )
    ours = {known.gguf for known in ARCHITECTURES.values() if known.gguf}
    can = sorted(ours & set(GGUF_CONFIG_MAPPING))
    if (architecture := metadata.get("general.architecture")) not in can:
        raise AssetError(
            f"`{path}` is a GGUF of the architecture {_short(architecture)}; those that can be "
            f"read are {', '.join(can)}. Name the model's Hub id or folder instead."
        )
    if metadata.get("tokenizer.ggml.model", "none") == "none":
        raise AssetError(f"`{path}` holds no tokenizer. Take a file that llama.cpp can chat with.")
    split = metadata.get(_SPLIT)
    if split is not None and split not in (*GGUF_PRE_TOKENIZER_SPLITS, *_LIKE_GPT2):
        raise AssetError(
            f"`{path}` splits texts in a way that transformers does not know ({_short(split)}), "
            "and would read other tokens. Name the model's Hub id or folder instead."
        )


def _check_layers(path: Path, layers: object, num_tensors: int) -> None:
    """Reject a number of layers for which there are no weights, before a model is built for it."""
    most = min(num_tensors, FIXED.max_layers)
    if not isinstance(layers, int) or not 1 <= layers <= most:
        raise AssetError(
            f"`{path}` states {_short(layers)} layers, expected a number from 1 to {most} for its "
            f"{num_tensors} tensors. Download it again."
        )


def _check_positions(path: Path, architecture: str, metadata: dict[str, Any]) -> None:
    """Reject scaled positions, which transformers reads from no GGUF of a supported architecture.

    As in llama.cpp, a factor without a type scales linearly, and 0 is no factor.
    """
    named = [
        metadata[key] for name in _SCALING_FACTORS if (key := f"{architecture}.{name}") in metadata
    ]
    kind, factor = metadata.get(f"{architecture}.{_SCALING}", "linear"), next(iter(named), 1)
    if kind == "none" or (kind == "linear" and factor in (0, 1)):
        return
    raise AssetError(
        f"`{path}` scales its rotary positions ({_short(kind)}, factor {_short(factor)}), which "
        "transformers does not take over from a GGUF file. Name the model's Hub id or folder "
        "instead."
    )


def _short(value: object) -> str:
    return repr(value)[:60]


def config_of(path: Path, header: GGUFHeader) -> Any:
    """Return transformers' config of a GGUF file, with the positions that transformers leaves out.

    Raises:
        AssetError: If a Llama's positions are stretched in an unknown way.
    """
    # The file's folder may hold the code of something else.
    config: Any = AutoConfig.from_pretrained(
        path.parent, gguf_file=path.name, trust_remote_code=False
    )
    # `_check_tensors` refuses the factors of other architectures.
    if header.position_factors and config.model_type == "llama":
        try:
            stretch(config, torch.tensor(header.position_factors))
        except ValueError as error:
            raise AssetError(
                f"`{path}` stretches its positions (`{FACTORS}`) in another way than Llama 3 does, "
                "which cannot be read from a GGUF file. Name the model's Hub id or folder instead."
            ) from error
    return config


def load(path: Path, config: Any, dtype: torch.dtype) -> tuple[Any, list[str]]:
    """Load a model from a GGUF file with transformers, dequantised.

    Returns:
        The model, and the names of the weights that the file lacks, which are random.
    """
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        config=config,
        dtype=dtype,
        quantization_config=GgufConfig(gguf_file=path.name, dequantize=True),
        output_loading_info=True,
        trust_remote_code=False,
    )
    model, report = loaded
    return model, sorted(report["missing_keys"])


def convert(path: Path, folder: Path, header: GGUFHeader) -> None:
    """Write a GGUF file as a new transformers folder in bfloat16, with its tokenizer.

    Raises:
        AssetError: If there is too little memory, transformers cannot read it, or the weights are
            not those of its architecture.
    """
    needed = _COPIES * header.num_parameters * torch.bfloat16.itemsize
    check_memory(needed, f"converting `{path.name}`")
    try:
        config = config_of(path, header)
        with torch.device("meta"):
            shapes = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        _check_tensors(path, header, shapes)
        model, missing = load(path, config, torch.bfloat16)
        tokenizer = AutoTokenizer.from_pretrained(
            path.parent, gguf_file=path.name, trust_remote_code=False
        )
    except AssetError:
        raise
    except Exception as error:  # tokenizers raises nothing narrower
        raise AssetError(
            f"transformers cannot read `{path}`: {error}. Name the model's Hub id or folder "
            "instead."
        ) from error
    if missing:
        raise _lacking(path, missing)
    # transformers refuses `save_pretrained` for a model loaded from GGUF, so copy the weights into
    # a plain one.
    config = model.config
    # The copy is no longer quantised, and loaders would believe a config that says so.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, trust_remote_code=False)
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    plain.save_pretrained(folder)
    if header.keeps_words:
        # transformers leaves it out.
        tokenizer.backend_tokenizer.model.ignore_merges = True
    tokenizer.save_pretrained(folder)


def _check_tensors(path: Path, header: GGUFHeader, model: Any) -> None:
    """Compare a file's tensors with those of a model of its config.

    transformers fills missing weights with random numbers, and leaves out those that it does not
    know, such as `rope_factors_long.weight`, which scales the positions of Phi. Either way the base
    would be another model.
    """
    (kind,) = (kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == header.architecture)
    names = gguf.get_tensor_name_map(kind, model.config.num_hidden_layers)
    suffixes = (".weight", ".bias")
    needed = {
        name for key in model.state_dict() if (name := names.get_name(key, try_suffixes=suffixes))
    }
    if model.config.tie_word_embeddings:
        needed.discard("output.weight")
    # In transformers, they are no weights, but part of the config.
    if header.position_factors and model.config.model_type == "llama":
        needed.add(FACTORS)
    if missing := sorted(needed - header.tensors):
        raise _lacking(path, missing)
    if surplus := sorted(header.tensors - needed):
        raise AssetError(
            f"`{path}` holds tensors that transformers would leave out ({len(surplus)}: "
            f"{_few(surplus)}), and the base would be another model. Name the model's Hub id or "
            "folder instead."
        )
    expected = sum(weight.numel() for weight in model.parameters()) + len(header.position_factors)
    if expected != header.num_parameters:
        raise AssetError(
            f"`{path}` holds {header.num_parameters:,} parameters, expected {expected:,} for the "
            "sizes in its header. Download it again."
        )


def _lacking(path: Path, missing: list[str]) -> AssetError:
    return AssetError(
        f"`{path}` lacks weights of its architecture ({len(missing)}: {_few(missing)}). Download "
        "it again."
    )


def _few(names: list[str]) -> str:
    return first_of(names, 3, write=lambda name: name[:60])
