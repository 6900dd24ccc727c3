"""Reads GGUF files as bases: checks the header, then dequantises to a transformers folder.

Knows llama.cpp's format and transformers' reader of it; does not know where files come from.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

from dnd_engine.errors import AssetError
from dnd_engine.lora.layout import ARCHITECTURES
from dnd_engine.models.memory import check_memory

_MAGIC = b"GGUF"

_REPOSITORY = "general.source.huggingface.repository"
_READ = {
    "general.architecture",
    "general.type",
    _REPOSITORY,
    "split.count",
    "tokenizer.ggml.model",
}
"""Fields that are looked at; the many words of the tokenizer, for one, are not decoded."""

_COPIES = 2
"""Dequantised copies in memory during conversion: one read, one to write."""


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """Contents of a GGUF file's header."""

    num_parameters: int
    hub_id: str | None
    """Hub id of the original model; None if not stated."""


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
        # The reader validates little: a cut header ends in whatever error its parsing meets.
        reader: Any = gguf.GGUFReader(path)
        told = {name: reader.fields[name].contents() for name in reader.fields.keys() & _READ}
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise AssetError(
            f"`{path}` is a damaged GGUF file ({error}). Download it again."
        ) from error
    size = path.stat().st_size
    # The header comes first, so a download that was cut off may have all of it.
    if any(tensor.data_offset + tensor.n_bytes > size for tensor in reader.tensors):
        raise AssetError(f"`{path}` ends before its weights do. Download it again.")
    _check_kind(path, told)
    hub_id = told.get(_REPOSITORY)
    return GGUFHeader(
        num_parameters=sum(int(tensor.n_elements) for tensor in reader.tensors),
        hub_id=hub_id if isinstance(hub_id, str) else None,
    )


def _check_kind(path: Path, told: dict[str, Any]) -> None:
    """Reject anything but a single-file language model that transformers reads and we support."""
    if (kind := told.get("general.type", "model")) != "model":
        raise AssetError(
            f"`{path}` holds a GGUF of the type {kind!r}, expected a model. Name the base's file."
        )
    # `llama-gguf-split --merge` sets it to 0.
    if (parts := told.get("split.count", 1)) not in (0, 1):
        raise AssetError(
            f"`{path}` is one of {parts} parts. Join them with llama.cpp's "
            "`llama-gguf-split --merge`, and name the result."
        )
    ours = {known.gguf for known in ARCHITECTURES.values() if known.gguf}
    can = sorted(ours & set(GGUF_CONFIG_MAPPING))
    if (architecture := told.get("general.architecture")) not in can:
        raise AssetError(
            f"`{path}` is a GGUF of the architecture {architecture!r}; those that can be read are "
            f"{', '.join(can)}. Name the model's Hub id or folder instead."
        )
    if told.get("tokenizer.ggml.model", "none") == "none":
        raise AssetError(f"`{path}` holds no tokenizer. Take a file that llama.cpp can chat with.")


def convert(path: Path, folder: Path, num_parameters: int) -> None:
    """Write a GGUF file as a transformers folder in bfloat16, with its tokenizer.

    Args:
        path: The GGUF file.
        folder: Folder to create.
        num_parameters: Number of parameters, from the header.

    Raises:
        AssetError: If there is too little memory, or transformers cannot read it.
    """
    needed = _COPIES * num_parameters * torch.bfloat16.itemsize
    check_memory(needed, f"converting `{path.name}`")
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(gguf_file=path.name, dequantize=True),
            # The file's folder may hold a config or a tokenizer of something else.
            trust_remote_code=False,
        )
        tokenizer = AutoTokenizer.from_pretrained(
            path.parent, gguf_file=path.name, trust_remote_code=False
        )
    except Exception as error:  # tokenizers raises nothing narrower
        raise AssetError(
            f"transformers cannot read `{path}`: {error}. Name the model's Hub id or folder "
            "instead."
        ) from error
    # transformers refuses `save_pretrained` for a model loaded from GGUF, so copy the weights into
    # a plain one.
    config = model.config
    # The copy is no longer quantised, and loaders would believe a config that says so.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
