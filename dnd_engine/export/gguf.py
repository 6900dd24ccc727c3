"""Writes an adapter as GGUF, for llama.cpp's `--lora` with any GGUF file of the base.

The format matches llama.cpp's `convert_lora_to_gguf.py`. Knows names and shapes of tensors; knows
no model.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import gguf
import numpy as np
from jaxtyping import Float
from torch import Tensor

from dnd_engine.errors import ExportError
from dnd_engine.lora.adapter import Adapter
from dnd_engine.lora.layout import ARCHITECTURES
from dnd_engine.notes import noted

BY_NAME = {name: architecture for architecture, name in gguf.MODEL_ARCH_NAMES.items()}
"""Architectures by llama.cpp's names."""
CONVERT_MERGED = noted(
    "Export `merged` instead, and convert that with llama.cpp's convert_hf_to_gguf.py."
)


def write_gguf(adapter: Adapter, config: Mapping[str, Any], path: Path) -> None:
    """Write A and B of every layer in float32, which holds them exactly; B has the strength.

    Raises:
        ExportError: If this architecture's conversion for llama.cpp is not supported.
    """
    known = ARCHITECTURES.get(str(config.get("model_type")))
    if known is None or known.gguf is None:
        can = ", ".join(name for name, one in ARCHITECTURES.items() if one.gguf)
        raise ExportError(
            "GGUF adapters can be written for {known} bases; {model} is {architecture}. {way_out}",
            known=can,
            model=adapter.base_id,
            architecture=repr(config.get("model_type")),
            way_out=CONVERT_MERGED,
        )
    architecture = BY_NAME[known.gguf]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    # llama.cpp divides this by the rank, which it reads off the tensors.
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(adapter.layout.spec.lora_alpha))
    writer.add_name(adapter.name)
    names = gguf.get_tensor_name_map(architecture, config["num_hidden_layers"])
    heads = config["num_attention_heads"]
    heads_of = {"q_proj": heads, "k_proj": config.get("num_key_value_heads") or heads}
    state = adapter.state
    for m in adapter.layout.matrices():
        tensor = state[m.key].float()
        # Only B makes rows of queries and keys; A reads hidden states, whose order is the same.
        if m.side == "B" and m.target.module in heads_of and known.gguf_pairs:
            tensor = interleave(tensor, heads_of[m.target.module])
        name = names.get_name(m.target.path)
        assert name is not None, f"gguf does not name {m.target.path}"
        writer.add_tensor(f"{name}.weight.lora_{m.side.lower()}", tensor.contiguous().numpy())
    write_out(writer)


class _Tensor(np.ndarray[Any, Any]):
    """An array that is written whole or raises the operating system's error.

    numpy writes through its own buffer. On a full disk it reports only a count, or silently drops
    the last small tensors.
    """

    def tofile(self, file: BinaryIO) -> None:  # type: ignore[override]  # files only, no separator
        file.write(np.ascontiguousarray(self).data)


def write_out(writer: gguf.GGUFWriter) -> None:
    """Write everything added to a writer.

    Raises:
        OSError: If the disk refuses a write.
    """
    for tensors in writer.tensors:
        for info in tensors.values():
            assert info.tensor is not None
            info.tensor = info.tensor.view(_Tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def interleave(up: Float[Tensor, "out r"], heads: int) -> Float[Tensor, "out r"]:
    """Reorder each head's rows from two halves to pairs.

    A rotary embedding rotates pairs of numbers. Hugging Face stores a pair half a head apart,
    llama.cpp's `llama` side by side; its converter reorders the base's rows the same way.
    """
    out, r = up.shape
    return up.reshape(heads, 2, out // heads // 2, r).transpose(1, 2).reshape(out, r)
