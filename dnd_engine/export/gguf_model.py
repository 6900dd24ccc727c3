"""A whole model as one GGUF file: the base, or the base with an adapter merged in.

For llama.cpp and Ollama. Weights are float16 or Q8_0; `quantise` makes 4-bit files from float16.
Knows tensors, names and tokenizers; knows no adapter.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
from gguf import GGMLQuantizationType
from torch import nn
from transformers import PreTrainedTokenizerBase
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from dnd_engine.errors import ExportError
from dnd_engine.export.gguf import BY_NAME, CONVERT_MERGED, interleave, write_out
from dnd_engine.lora.layout import ARCHITECTURES
from dnd_engine.models.llama3_positions import FACTORS, LLAMA3, factors_of

Precision = Literal["f16", "q8_0"]

_TYPES = {
    "f16": (GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "q8_0": (GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}
_WHOLE = ("llama", "qwen2", "qwen3")
"""Architectures, by llama.cpp's names, that it runs without settings beyond those written here."""


def write_model(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    path: Path,
    precision: Precision,
) -> None:
    """Write a transformers model on the CPU, with its tokenizer and chat template.

    The precision is that of matrices; vectors stay float32.

    Raises:
        ExportError: If this architecture's or tokenizer's conversion for llama.cpp is not
            supported.
    """
    config: Mapping[str, Any] = model.config.to_dict()  # type: ignore[operator, union-attr]  # a method; torch's types say tensor
    architecture = _architecture(config, name)
    matrices, file_type = _TYPES[precision]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_file_type(file_type)
    _write_sizes(writer, config)
    _write_tokenizer(writer, tokenizer, int(config["vocab_size"]), name)
    names = gguf.get_tensor_name_map(architecture, config["num_hidden_layers"])
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    tied = config.get("tie_word_embeddings", False)
    for key, tensor in model.state_dict().items():
        place, _, kind = key.rpartition(".")
        found = names.get_name(place)
        if found == "output" and tied:
            continue  # llama.cpp falls back to the embeddings
        if found is None:
            raise ExportError(
                "llama.cpp has no tensor for `{key}` of {model}. {way_out}",
                key=key,
                model=name,
                way_out=CONVERT_MERGED,
            )
        module, value = place.rpartition(".")[2], tensor.float()
        if ARCHITECTURES[str(config["model_type"])].gguf_pairs and module in heads:
            # A bias is reordered like a matrix of one column.
            value = interleave(value.reshape(len(value), -1), heads[module]).reshape(value.shape)
        _add(writer, f"{found}.{kind}", value.contiguous().numpy(), matrices)
    if _rope_type(config) == LLAMA3:
        writer.add_tensor(FACTORS, factors_of(model.config).numpy())
    write_out(writer)


def _architecture(config: Mapping[str, Any], name: str) -> gguf.MODEL_ARCH:
    known = ARCHITECTURES.get(str(config.get("model_type")))
    if known is None or known.gguf not in _WHOLE:
        can = ", ".join(key for key, one in ARCHITECTURES.items() if one.gguf in _WHOLE)
        raise ExportError(
            "whole models can be written as GGUF for {known} bases; {model} is {architecture}. "
            "{way_out}",
            known=can,
            model=name,
            architecture=repr(config.get("model_type")),
            way_out=CONVERT_MERGED,
        )
    way = _rope_type(config)
    if way != "default" and (config["model_type"], way) != ("llama", LLAMA3):
        raise ExportError(
            "{model} stretches its positions ({way}), which cannot be written as GGUF here. "
            "{way_out}",
            model=name,
            way=way,
            way_out=CONVERT_MERGED,
        )
    return BY_NAME[known.gguf]


def _rope_type(config: Mapping[str, Any]) -> str:
    """Return transformers' name for how positions are stretched; `default` if they are not."""
    return str((config.get("rope_parameters") or {}).get("rope_type", "default"))


def _write_sizes(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    heads = config["num_attention_heads"]
    # In Qwen3, heads may be wider than the hidden size divided by their number.
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])


def _write_tokenizer(
    writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerBase, size: int, name: str
) -> None:
    """Write a byte-level BPE tokenizer in llama.cpp's format."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    saved = json.loads(backend.to_str()) if backend is not None else {}
    model = saved.get("model", {})
    split = _split_name(saved.get("pre_tokenizer"), bool(model.get("ignore_merges")))
    if model.get("type") != "BPE" or split is None:
        raise ExportError(
            "{model} cuts texts into tokens in a way that is not known here, so its tokenizer "
            "cannot be written as GGUF. {way_out}",
            model=name,
            way_out=CONVERT_MERGED,
        )
    numbers = (*model["vocab"].values(), *(added["id"] for added in saved["added_tokens"]))
    if (most := max(numbers, default=-1)) >= size:
        raise ExportError(
            "the tokenizer of {model} has a token {number}, and the base embeddings for {size} "
            "only, so llama.cpp could not read the file.",
            model=name,
            number=most,
            size=size,
        )
    # A base may have more embeddings than tokens, and llama.cpp needs a name for each.
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [gguf.TokenType.UNUSED] * size
    for token, number in model["vocab"].items():
        tokens[number], types[number] = token, gguf.TokenType.NORMAL
    for added in saved["added_tokens"]:
        kind = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        tokens[added["id"]], types[added["id"]] = added["content"], kind
    # llama.cpp's name for any byte-level BPE.
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    # A merge is a pair in newer `tokenizer.json` files, and one string in older ones.
    merges = [one if isinstance(one, str) else " ".join(one) for one in model["merges"]]
    if merges:
        writer.add_token_merges(merges)
    else:
        # llama.cpp needs this array, and an empty one has no type in GGUF. This entry merges
        # nothing.
        writer.add_token_merges([f"{tokens[0]} {tokens[0]}"])
    for number, add in (
        (tokenizer.bos_token_id, writer.add_bos_token_id),
        (tokenizer.eos_token_id, writer.add_eos_token_id),
        (tokenizer.pad_token_id, writer.add_pad_token_id),
    ):
        if isinstance(number, int):
            add(number)
    # The chat template writes the beginning-of-text token.
    writer.add_add_bos_token(False)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


_PATTERNS = {
    (GGUF_PRE_TOKENIZER_SPLITS["llama-bpe"], True): "llama-bpe",
    # The same pattern, for vocabularies whose tokens are all reached by merges.
    (GGUF_PRE_TOKENIZER_SPLITS["llama-bpe"], False): "smaug-bpe",
    (GGUF_PRE_TOKENIZER_SPLITS["qwen2"], False): "qwen2",
    (GGUF_PRE_TOKENIZER_SPLITS["tekken"], True): "tekken",
}
"""Pattern, and whether whole words that are tokens need no merges, to llama.cpp's name."""


def _split_name(pre_tokenizer: Any, ignores_merges: bool) -> str | None:
    """Return llama.cpp's name for a pre-tokenizer; None if unknown."""
    if not isinstance(pre_tokenizer, dict):
        return None
    steps = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    # llama.cpp has its patterns built in and finds them by name; with a wrong name, it would split
    # texts differently.
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"]:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits"):
        return "smollm"
    if kinds == ["Split", "ByteLevel"]:
        # The whole pattern: others have parts in common with these.
        pattern = str(steps[0].get("pattern", {}).get("Regex", ""))
        return _PATTERNS.get((pattern, ignores_merges))
    return None


def _add(
    writer: gguf.GGUFWriter, name: str, value: np.ndarray, matrices: GGMLQuantizationType
) -> None:
    if value.ndim < 2:
        writer.add_tensor(name, value)
        return
    # Q8_0 has one scale for 32 numbers of a row. Rows whose length is no multiple of 32 stay
    # float16.
    block = gguf.GGML_QUANT_SIZES[matrices][0]
    kind = matrices if value.shape[-1] % block == 0 else GGMLQuantizationType.F16
    writer.add_tensor(name, gguf.quantize(value, kind), raw_dtype=kind)
