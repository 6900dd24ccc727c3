"""The speed of llama.cpp on the same base and adapter, through a Python package that contains it.

The package is no dependency of this project, so the comparison is left out where it is missing.
Knows only the C functions that it calls.
"""

import importlib.util
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dnd_engine.bench.config import BenchConfig
from dnd_engine.bench.measurement import prompt_bucket, story_question, timed
from dnd_engine.engine import Engine
from dnd_engine.errors import ExportError, LlamaCppError

_PACKAGE = "llama_cpp_py_sync"
"""From `pip install llama-cpp-py-sync`; a test dependency."""


@cache
def _bindings() -> tuple[Any, Any, Any]:
    """Return the library, its C types, and its silent log, which must live as long."""
    module = import_module(f"{_PACKAGE}._cffi_bindings")
    lib, ffi = module.get_lib(), module.get_ffi()
    silent = ffi.callback("void(enum ggml_log_level, const char *, void *)", lambda *_: None)
    lib.llama_log_set(silent, ffi.NULL)
    return lib, ffi, silent


def _check(done: bool, what: str) -> None:
    if not done:
        raise LlamaCppError(
            f"llama.cpp cannot {what}. Leave it out: uninstall `llama-cpp-py-sync`, or install a "
            "version whose llama.cpp does."
        )


class LlamaCpp:
    """Seconds per token of llama.cpp, alone and with an adapter.

    Its base is in float16; ours is in the CPU's `best_dtype`. llama.cpp applies an adapter to all
    sequences of a context, so a twin would be two contexts in turn.

    Raises:
        ExportError: If the base cannot be written for llama.cpp.
    """

    def __init__(self, engine: Engine, config: BenchConfig) -> None:
        from dnd_engine.export.gguf import write_gguf
        from dnd_engine.export.gguf_model import write_model

        self._engine = engine
        self._num_tokens = config.chat_tokens
        # Removed with this object.
        self._folder = tempfile.TemporaryDirectory()
        self._base = Path(self._folder.name) / "base.gguf"
        self._lora = Path(self._folder.name) / "lora.gguf"
        adapter = engine.generate([prompt_bucket(config.num_prompts, config.seed)], imprinted=False)
        base = engine.base
        with engine.runtime.lock:
            write_model(base.model, base.tokenizer, "bench", self._base, "f16")
            write_gguf(adapter, base.config, self._lora)
        self._lib, self._ffi, _ = _bindings()

    @classmethod
    def where_possible(cls, engine: Engine, config: BenchConfig) -> "LlamaCpp | None":
        """Return the measurement; None without the package, on a GPU, or for other bases."""
        if importlib.util.find_spec(_PACKAGE) is None or engine.base.device.type != "cpu":
            return None
        try:
            return cls(engine, config)
        except ExportError:
            return None

    def __call__(self, number: int) -> dict[str, float]:
        """Time one answer of the base, and one with the adapter.

        Raises:
            LlamaCppError: If llama.cpp cannot load the model or the adapter, or cannot answer.
        """
        ids = self._engine.base.chat_ids(story_question(number + 2))
        with self._model() as (model, lora):
            return {
                "chat_llama_cpp": self._per_token(model, None, ids),
                "chat_llama_cpp_lora": self._per_token(model, lora, ids),
            }

    @contextmanager
    def _model(self) -> Iterator[tuple[Any, Any]]:
        lib, ffi = self._lib, self._ffi
        model = lib.llama_model_load_from_file(
            str(self._base).encode(), lib.llama_model_default_params()
        )
        _check(model != ffi.NULL, "load the base that was written for it")
        try:
            lora = lib.llama_adapter_lora_init(model, str(self._lora).encode())
            _check(lora != ffi.NULL, "load the adapter that was written for it")
            yield model, lora
        finally:
            lib.llama_model_free(model)

    def _per_token(self, model: Any, lora: Any, ids: Sequence[int]) -> float:
        """Answer greedily, and time the tokens after the first, past the end of a turn, too."""
        lib, ffi = self._lib, self._ffi
        params = lib.llama_context_default_params()
        params.n_ctx = params.n_batch = len(ids) + self._num_tokens
        params.n_threads = params.n_threads_batch = torch.get_num_threads()
        context = lib.llama_init_from_model(model, params)
        _check(context != ffi.NULL, f"make a context of {params.n_ctx} tokens")
        width = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))

        def likeliest_after(tokens: Sequence[int]) -> int:
            held = ffi.new("llama_token[]", list(tokens))  # the batch only points to it
            batch = lib.llama_batch_get_one(held, len(tokens))
            _check(lib.llama_decode(context, batch) == 0, f"read {len(tokens)} tokens")
            logits = ffi.buffer(lib.llama_get_logits_ith(context, -1), 4 * width)
            return int(np.frombuffer(logits, dtype=np.float32).argmax())

        try:
            if lora is not None:
                loras = ffi.new("struct llama_adapter_lora *[]", [lora])
                scales = ffi.new("float[]", [1.0])
                applied = lib.llama_set_adapters_lora(context, loras, 1, scales) == 0
                _check(applied, "apply the adapter that it loaded")
            token = likeliest_after(ids)
            with timed(torch.device("cpu")) as spent:
                for _ in range(self._num_tokens - 1):
                    token = likeliest_after([token])
            return spent[0] / (self._num_tokens - 1)
        finally:
            lib.llama_free(context)
