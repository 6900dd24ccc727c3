"""llama.cpp itself, through its own library, and GGUF files of bases for it.

A base is written in float32, so that both sides compute with the same weights in the same
precision: quantised ones would be multiplied with activations rounded to 8 bits.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor, nn

ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "gemma2": gguf.MODEL_ARCH.GEMMA2,
    "gemma3_text": gguf.MODEL_ARCH.GEMMA3,
    "smollm3": gguf.MODEL_ARCH.SMOLLM3,
    "phi3": gguf.MODEL_ARCH.PHI3,
}
PAIRED = ("llama", "mistral", "smollm3")
"""Whose converter reorders the rows of queries and keys."""

_ERROR = 4
"""llama.cpp's level of log messages; below it, it tells of every layer."""


def write_base(model: nn.Module, path: Path) -> Path:
    """A base as GGUF in float32, without a vocabulary: tests speak in token ids."""
    config: Any = model.config
    architecture = ARCHITECTURES[config.model_type]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope.get("full_attention", rope)["rope_theta"])
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    if window := getattr(config, "sliding_window", None):
        writer.add_sliding_window(window)
    if cap := getattr(config, "attn_logit_softcapping", None):
        writer.add_attn_logit_softcapping(cap)
    if cap := getattr(config, "final_logit_softcapping", None):
        writer.add_final_logit_softcapping(cap)
    if config.model_type == "phi3":
        writer.add_rope_scaling_orig_ctx_len(config.max_position_embeddings)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("none")
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for key, value in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        *_, module, kind = key.split(".")
        weight = value.float()
        if "gemma" in config.model_type and "norm" in key:
            weight = weight + 1
        if config.model_type in PAIRED and module in heads:
            # Row i of a head's first half goes to 2i, row i of its second half to 2i + 1.
            half = len(weight) // heads[module] // 2
            order = [
                head * 2 * half + i + side * half
                for head in range(heads[module])
                for i in range(half)
                for side in (0, 1)
            ]
            weight = weight[order]
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        writer.add_tensor(
            f"{name}.{kind}" if not str(name).endswith(kind) else str(name), weight.numpy()
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@cache
def _bindings() -> tuple[Any, Any, Any]:
    """The library, its C types, and what it calls with its log, which must live as long."""
    module = pytest.importorskip(
        "llama_cpp_py_sync._cffi_bindings", reason="there is no llama.cpp wheel for this machine"
    )
    lib, ffi = module.get_lib(), module.get_ffi()

    @ffi.callback("void(enum ggml_log_level, const char *, void *)")  # type: ignore[untyped-decorator]  # cffi's
    def log_errors(level: int, text: Any, _user_data: Any) -> None:
        if level == _ERROR:
            sys.stderr.write(ffi.string(text).decode())

    lib.llama_log_set(log_errors, ffi.NULL)
    return lib, ffi, log_errors


class LlamaCpp:
    """A model in llama.cpp, which may have one adapter active."""

    def __init__(self, model: Any, adapter: Any) -> None:
        self._model = model
        self._adapter = adapter
        lib, *_ = _bindings()
        self._num_tokens = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))

    def tokenize(self, text: str) -> list[int]:
        """The text as llama.cpp cuts it, special tokens by their names."""
        lib, ffi, _ = _bindings()
        vocabulary, data = lib.llama_model_get_vocab(self._model), text.encode()
        found = ffi.new("llama_token[]", len(data) + 1)
        count = lib.llama_tokenize(vocabulary, data, len(data), found, len(data) + 1, False, True)
        assert count >= 0
        return list(found[0:count])

    def logits(self, ids: Sequence[int], answer: Sequence[int] = ()) -> Tensor:
        """(1 + answer, vocabulary): what follows `ids`, and each token of `answer` after them."""
        lib, ffi, _ = _bindings()
        params = lib.llama_context_default_params()
        params.n_ctx = params.n_batch = 512
        params.n_threads = params.n_threads_batch = 1
        # Keys and values in 16 bits, the default, would be the largest difference to transformers.
        params.type_k = params.type_v = gguf.GGMLQuantizationType.F32
        params.flash_attn_type = 0
        context = lib.llama_init_from_model(self._model, params)
        assert context != ffi.NULL
        try:
            if self._adapter is not None:
                adapters = ffi.new("struct llama_adapter_lora *[]", [self._adapter])
                scales = ffi.new("float[]", [1.0])
                assert lib.llama_set_adapters_lora(context, adapters, 1, scales) == 0
            rows = []
            for part in (list(ids), *([token] for token in answer)):
                tokens = ffi.new("llama_token[]", part)
                assert lib.llama_decode(context, lib.llama_batch_get_one(tokens, len(part))) == 0
                found = ffi.buffer(lib.llama_get_logits_ith(context, -1), 4 * self._num_tokens)
                rows.append(torch.from_numpy(np.frombuffer(bytes(found), dtype=np.float32).copy()))
            return torch.stack(rows)
        finally:
            lib.llama_free(context)


@contextmanager
def llama_cpp(base: Path, adapter: Path | None = None) -> Iterator[LlamaCpp]:
    """Load a base, and an adapter for it, as `llama-cli -m base --lora adapter` does."""
    lib, ffi, _ = _bindings()
    params = lib.llama_model_default_params()
    model = lib.llama_model_load_from_file(str(base).encode(), params)
    assert model != ffi.NULL, f"llama.cpp does not load {base}"
    try:
        lora = None
        if adapter is not None:
            lora = lib.llama_adapter_lora_init(model, str(adapter).encode())
            assert lora != ffi.NULL, f"llama.cpp does not load {adapter}"
        yield LlamaCpp(model, lora)
    finally:
        lib.llama_model_free(model)
