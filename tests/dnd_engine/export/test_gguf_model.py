"""Whole models as GGUF: llama.cpp loads them, cuts texts alike, and computes what the base does."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.integrations.gguf.gguf_tokenizer_mapping import (
    GGUF_PRE_TOKENIZER_SPLITS as PATTERNS,
)

from dnd_engine.config import EngineConfig
from dnd_engine.engine import Engine
from dnd_engine.errors import ExportError, VerificationError
from dnd_engine.export import gguf_model, llama_quantize
from dnd_engine.export.gguf_model import write_model
from dnd_engine.export.ollama import modelfile
from dnd_engine.lora.layout import LoRALayout, LoRASpec
from tests.dnd_engine.export.test_export import ANSWER, PROMPT, following, tiny_qwen
from tests.dnd_engine.llama_cpp import llama_cpp
from tests.dnd_engine.test_engine import write_generator
from tests.dnd_engine.tiny import (
    CONFIG,
    byte_tokenizer,
    make_adapter,
    tiny_llama,
    tiny_llama3,
)

TEXTS = ("hello there", "<|im_start|>user\nIt's 2026, naïve…<|im_end|>\n", "  two  spaces\t\n\n")


@pytest.fixture(scope="module")
def engine(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = write_generator(tiny_folder, tmp_path_factory.mktemp("generators") / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dnd_engine.engine.best_dtype", lambda device: torch.float32)
        return Engine.load(EngineConfig(base=str(tiny_folder), generator=folder, device="cpu"))


def tiny_qwen3() -> Qwen3ForCausalLM:
    """Random; heads wider than the hidden size is divided into, norms on queries and keys."""
    torch.manual_seed(0)
    config = Qwen3Config(**CONFIG, head_dim=32, initializer_range=0.3)
    model = Qwen3ForCausalLM(config)
    model.requires_grad_(False).eval()
    return model


@pytest.mark.parametrize("make", [tiny_llama, tiny_qwen, tiny_qwen3])
@pytest.mark.parametrize(("precision", "tolerance"), [("f16", 0.05), ("q8_0", 0.8)])
def test_llama_cpp_computes_what_the_model_does(
    make: Any, precision: Any, tolerance: float, tmp_path: Path
) -> None:
    """Logits reach 30: float16 rounds to 3 decimal figures, Q8_0 to 2."""
    model = make()
    write_model(model, byte_tokenizer(), "tiny", tmp_path / "model.gguf", precision)
    expected = following(model, PROMPT, ANSWER)
    with llama_cpp(tmp_path / "model.gguf") as llama:
        found = llama.logits(PROMPT, ANSWER)
        assert [llama.tokenize(text) for text in TEXTS] == [
            byte_tokenizer()(text)["input_ids"] for text in TEXTS
        ]
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def test_llama_cpp_stretches_positions_as_llama_3_does(tmp_path: Path) -> None:
    """Seen far from the beginning: the stretched pairs turn once in thousands of tokens."""
    far, model = PROMPT * 40, tiny_llama3()
    expected = following(model, far, ANSWER)
    write_model(model, byte_tokenizer(), "tiny", tmp_path / "stretched.gguf", "f16")
    model.config.rope_parameters = {"rope_type": "default", "rope_theta": 500_000.0}
    write_model(model, byte_tokenizer(), "tiny", tmp_path / "plain.gguf", "f16")
    found = {}
    for name in ("stretched", "plain"):
        with llama_cpp(tmp_path / f"{name}.gguf") as llama:
            found[name] = llama.logits(far, ANSWER)
    torch.testing.assert_close(found["stretched"], expected, rtol=0, atol=0.05)
    assert (found["plain"] - expected).abs().max() > 1


def test_quantised_files_are_smaller_and_say_what_they_are(tmp_path: Path) -> None:
    sizes = []
    for precision in ("f16", "q8_0"):
        path = tmp_path / f"{precision}.gguf"
        write_model(tiny_llama(), byte_tokenizer(), "tiny", path, precision)
        sizes.append(path.stat().st_size)
    assert sizes[1] < 0.7 * sizes[0]
    reader = GGUFReader(tmp_path / "q8_0.gguf")
    kinds = {tensor.name: tensor.tensor_type for tensor in reader.tensors}
    assert kinds["blk.0.attn_q.weight"] == GGMLQuantizationType.Q8_0
    assert kinds["blk.0.attn_norm.weight"] == GGMLQuantizationType.F32
    assert reader.fields["tokenizer.chat_template"].contents() == byte_tokenizer().chat_template


@pytest.mark.parametrize("format", ["merged-gguf", "merged-gguf-q8", "ollama"])
def test_a_merged_file_holds_base_and_adapter(format: str, engine: Engine, tmp_path: Path) -> None:
    adapter = make_adapter(base_id=engine.info.base_id, strength=1.5)
    place = tmp_path / ("model" if format == "ollama" else "model.gguf")
    exported = engine.export(adapter, format, place)
    assert exported.difference is not None
    # Eight bits of random weights: .115 of the largest logit; sixteen: under .01.
    assert exported.difference < (0.02 if format == "merged-gguf" else 0.2)
    file = place / "model.gguf" if format == "ollama" else place
    active = engine.runtime.host.fit(adapter.scaled_tokens[None], adapter.layout)
    with engine.runtime.host.applying(active):
        expected = following(engine.base.model, PROMPT, ANSWER)
    plain = following(engine.base.model, PROMPT, ANSWER)
    with llama_cpp(file) as llama:
        found = llama.logits(PROMPT, ANSWER)
    assert (found - expected).abs().max() < 0.3 * (plain - expected).abs().max()


def test_four_bits_hold_base_and_adapter_and_are_verified_before(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounded to four bits, a wrong file would not stand out."""
    adapter = make_adapter(base_id=engine.info.base_id, strength=1.5)
    whole = engine.export(adapter, "merged-gguf", tmp_path / "whole.gguf")
    path = tmp_path / "folder" / "small.gguf"
    exported = engine.export(adapter, "merged-gguf-q4_k_m", path)
    assert whole.difference is not None
    assert exported.difference is not None
    assert exported.difference > 10 * whole.difference
    assert exported.num_bytes == path.stat().st_size < 0.5 * whole.num_bytes
    with llama_cpp(path) as llama, llama_cpp(whole.path) as exact:
        found, expected = llama.logits(PROMPT), exact.logits(PROMPT)
    assert (found - expected).norm() < 0.5 * expected.norm()
    monkeypatch.setattr(gguf_model, "interleave", lambda rows, heads: rows)
    path.unlink()
    with pytest.raises(VerificationError, match="verify failed: the reloaded model"):
        engine.export(adapter, "merged-gguf-q4_k_m", path)
    assert list(path.parent.iterdir()) == []


def test_four_bits_without_a_quantiser_are_refused_before_anything_is_written(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_quantize, "PACKAGE", "no_such_package")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(gguf_model, "write_model", pytest.fail)
    adapter = make_adapter(base_id=engine.info.base_id)
    with pytest.raises(ExportError, match="pip install llama-cpp-py-sync"):
        engine.export(adapter, "merged-gguf-q4_k_m", tmp_path / "small.gguf")


def test_the_base_file_takes_the_adapter_file(engine: Engine, tmp_path: Path) -> None:
    adapter = make_adapter(base_id=engine.info.base_id)
    base = engine.export(adapter, "base-gguf", tmp_path / "base.gguf").path
    lora = engine.export(adapter, "gguf", tmp_path / "lora.gguf").path
    active = engine.runtime.host.fit(adapter.scaled_tokens[None], adapter.layout)
    plain = following(engine.base.model, PROMPT, ANSWER)
    with engine.runtime.host.applying(active):
        adapted = following(engine.base.model, PROMPT, ANSWER)
    for file, expected in ((None, plain), (lora, adapted)):
        with llama_cpp(base, file) as llama:
            found = llama.logits(PROMPT, ANSWER)
        torch.testing.assert_close(found, expected, rtol=0, atol=0.1)


def test_a_wrong_file_is_not_kept(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_model, "interleave", lambda rows, heads: rows)
    adapter = make_adapter(base_id=engine.info.base_id)
    with pytest.raises(VerificationError, match="verify failed"):
        engine.export(adapter, "merged-gguf", tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()


def stretched() -> LlamaForCausalLM:
    model = tiny_llama()
    model.config.rope_parameters = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}
    return model


def other_type() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=260, n_embd=8, n_layer=1, n_head=2))


@pytest.mark.parametrize(
    ("make", "message"), [(stretched, "stretches its positions"), (other_type, "'gpt2'")]
)
def test_a_base_that_cannot_be_written_is_refused(make: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        write_model(make(), byte_tokenizer(), "tiny", tmp_path / "a.gguf", "f16")


def test_a_tokenizer_of_another_kind_is_refused(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(ExportError, match="cuts texts into tokens"):
        write_model(tiny_llama(), tokenizer, "tiny", tmp_path / "a.gguf", "f16")


def split_at(pattern: str) -> dict[str, Any]:
    return {
        "pretokenizers": [{"type": "Split", "pattern": {"Regex": pattern}}, {"type": "ByteLevel"}]
    }


@pytest.mark.parametrize(
    ("pre_tokenizer", "ignores_merges", "name"),
    [
        ({"type": "ByteLevel"}, False, "gpt-2"),
        (
            {
                "pretokenizers": [
                    {"type": "Digits", "individual_digits": True},
                    {"type": "ByteLevel"},
                ]
            },
            False,
            "smollm",
        ),
        ({"pretokenizers": [{"type": "Digits"}, {"type": "ByteLevel"}]}, False, None),
        (split_at(PATTERNS["llama-bpe"]), True, "llama-bpe"),
        (split_at(PATTERNS["llama-bpe"]), False, "smaug-bpe"),
        (split_at(PATTERNS["qwen2"]), False, "qwen2"),
        (split_at(PATTERNS["qwen2"]), True, None),
        (split_at(PATTERNS["tekken"]), True, "tekken"),
        (split_at(PATTERNS["gpt-4o"]), False, None),
        (split_at(r"\p{L}+|\p{N}| ?[^\s]+"), False, None),
        ({"type": "Metaspace"}, False, None),
        (None, False, None),
    ],
    ids=str,
)
def test_the_way_of_splitting_texts_is_recognised(
    pre_tokenizer: Any, ignores_merges: bool, name: str | None
) -> None:
    assert gguf_model._split_name(pre_tokenizer, ignores_merges) == name


@pytest.mark.parametrize("ignores_merges", [True, False])
@pytest.mark.parametrize("kind", ["llama-bpe", "qwen2", "tekken"])
def test_llama_cpp_cuts_texts_as_transformers_does(
    tmp_path: Path, kind: str, ignores_merges: bool
) -> None:
    """Fragments of the patterns are alike, and merges matter where a word is a token of its own."""
    specials = ["<pad>", "<|im_start|>", "<|im_end|>"]
    pieces = [*specials, *sorted(pre_tokenizers.ByteLevel.alphabet()), "oW", "abc"]
    vocab = {piece: number for number, piece in enumerate(pieces)}
    made = Tokenizer(models.BPE(vocab=vocab, merges=[("o", "W")], ignore_merges=ignores_merges))
    pattern = Regex(PATTERNS[kind])
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|im_end|>", pad_token="<pad>"
    )
    file = tmp_path / "a.gguf"
    if (kind, ignores_merges) in (("qwen2", True), ("tekken", False)):
        with pytest.raises(ExportError, match="cuts texts into tokens"):
            write_model(tiny_llama(vocab_size=len(pieces)), tokenizer, "tiny", file, "f16")
        return
    write_model(tiny_llama(vocab_size=len(pieces)), tokenizer, "tiny", file, "f16")
    with llama_cpp(file) as llama:
        for text in ("HelloWorld", "fooWord 12345", "abc"):
            assert llama.tokenize(text) == tokenizer(text)["input_ids"]


def test_a_tokenizer_of_more_tokens_than_embeddings_is_refused(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    few = tiny_llama(vocab_size=len(tokenizer) - 1)
    with pytest.raises(ExportError, match=r"has a token \d+, and the base embeddings for \d+ only"):
        write_model(few, tokenizer, "tiny", tmp_path / "a.gguf", "f16")


def test_a_modelfile_writes_turns_as_the_base_does() -> None:
    """Ollama is not at hand, so its template is filled in here by hand, turn by turn."""
    tokenizer = byte_tokenizer()
    assert isinstance(tokenizer.chat_template, str)
    tokenizer.chat_template = (
        "{% if messages[0].role != 'system' %}<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}"
        + tokenizer.chat_template
    )
    text = modelfile(tokenizer)
    template = re.search(r'TEMPLATE """(.*?)"""', text, flags=re.DOTALL)
    system = re.search(r'SYSTEM """(.*?)"""', text, flags=re.DOTALL)
    assert template is not None
    assert system is not None
    turns = [("system", system[1]), ("user", "Hello")]
    opening, each, closing = re.split(r"\{\{- range .Messages \}\}|\{\{ end \}\}", template[1])
    filled = opening + "".join(
        each.replace("{{ .Role }}", role).replace("{{ .Content }}", said) for role, said in turns
    )
    assert filled + closing == tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}], add_generation_prompt=True, tokenize=False
    )
    assert text.startswith("FROM ./model.gguf\n")
    assert "PARAMETER stop <|im_end|>" in text


def test_a_modelfile_begins_the_text_and_the_answer_as_the_base_does() -> None:
    """With a token before all turns, and with thinking left out, as in chat."""
    tokenizer = byte_tokenizer()
    assert isinstance(tokenizer.chat_template, str)
    tokenizer.chat_template = (
        "<pad>"
        + tokenizer.chat_template
        + "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
    )
    template = re.search(r'TEMPLATE """(.*?)"""', modelfile(tokenizer), flags=re.DOTALL)
    assert template is not None
    assert template[1].startswith("<pad>{{- range .Messages }}")
    assert template[1].endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_a_modelfile_leaves_other_templates_to_ollama() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    assert modelfile(tokenizer) == "FROM ./model.gguf\nPARAMETER temperature 0\n"


def test_the_layout_of_a_wide_head_is_written_too(tmp_path: Path) -> None:
    """Qwen3's queries are wider than its hidden size."""
    layout = LoRALayout.from_config({**CONFIG, "head_dim": 32}, LoRASpec())
    assert layout.targets[0].out_features == 4 * 32
    write_model(tiny_qwen3(), byte_tokenizer(), "tiny", tmp_path / "model.gguf", "f16")
    fields = GGUFReader(tmp_path / "model.gguf").fields
    assert fields["qwen3.attention.key_length"].contents() == 32
    assert json.dumps(fields["tokenizer.ggml.pre"].contents()) == '"gpt-2"'
