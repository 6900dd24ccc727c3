"""A GGUF file as a base: weights as the gguf library reads them, one conversion, faults told."""

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize
from huggingface_hub import HfApi, ModelInfo
from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]  # public, not typed
from tokenizers import Tokenizer
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from dnd_engine.config import EngineConfig, Sampling
from dnd_engine.engine import Engine
from dnd_engine.errors import AssetError
from dnd_engine.export import gguf_model
from dnd_engine.lora.layout import LoRALayout
from dnd_engine.models import gguf_file, memory, sources
from dnd_engine.models.base import load_base, resolve_base
from dnd_engine.models.gguf_file import GGUFHeader, read_header
from dnd_engine.models.llama3_positions import factors_of
from dnd_engine.models.sources import BASES, ENCODERS, resolve
from tests.dnd_engine.llama_cpp import llama_cpp
from tests.dnd_engine.tiny import (
    CPU,
    byte_tokenizer,
    make_adapter,
    save_tiny,
    tiny_llama,
    tiny_llama3,
    user,
)

WIDTH, LAYERS = 256, 2
"""A block of k-quants holds 256 weights."""

Q = gguf.GGMLQuantizationType
MIXES: dict[str, dict[str, Q]] = {
    "Q4_K_M": {"ffn_down": Q.Q6_K, "attn_v": Q.Q6_K, "": Q.Q4_K},
    "Q6_K": {"": Q.Q6_K},
    "Q8_0": {"": Q.Q8_0},
}
"""Which tensors a file of that name keeps in which type; the empty name is all others."""


def random_blocks(shape: tuple[int, int], kind: Q, random: np.random.Generator) -> Any:
    """Quantised weights of about the size of real ones.

    The gguf library reads k-quants and writes none, so their blocks are drawn bit by bit, with
    scales that are no NaN.
    """
    if kind == Q.Q8_0:
        return quantize(random.normal(0, 0.1, shape).astype(np.float32), kind)
    per_block, num_bytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (shape[0] * shape[1] // per_block, num_bytes), dtype=np.uint8)
    scale = np.frombuffer(np.float16(0.001).tobytes(), dtype=np.uint8)
    if kind == Q.Q4_K:  # d, dmin, 12 bytes of scales, 128 of weights
        blocks[:, 0:2] = blocks[:, 2:4] = scale
    else:  # Q6_K ends with d
        blocks[:, -2:] = scale
    return blocks.reshape(shape[0], -1)


def write_model(
    path: Path,
    mix: str = "Q8_0",
    *,
    without: str = "",
    surplus: Mapping[str, int] = MappingProxyType({}),
    scaling: Mapping[str, Any] = MappingProxyType({}),
    **fields: Any,
) -> Path:
    """A tiny Qwen2 with a byte tokenizer, as llama.cpp writes models.

    Args:
        path: The file.
        mix: A key of `MIXES`.
        without: The tensor to leave out.
        surplus: Tensors of one axis to add or to replace, by name, and their lengths.
        scaling: The fields of rotary positions, without the architecture.
        fields: Other fields that tests change.
    """
    writer = gguf.GGUFWriter(path, str(fields.pop("architecture", "qwen2")))
    writer.add_type(str(fields.pop("type", "model")))
    writer.add_block_count(int(fields.pop("layers", LAYERS)))
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    tokenizer = byte_tokenizer()
    pieces = [*tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))), "ab"]
    writer.add_vocab_size(len(pieces))
    writer.add_tokenizer_model(str(fields.pop("tokenizer", "gpt2")))
    writer.add_tokenizer_pre(str(fields.pop("split", "qwen2")))
    writer.add_token_list(pieces)
    special = [gguf.TokenType.CONTROL] * 3
    writer.add_token_types([*special, *[gguf.TokenType.NORMAL] * (len(pieces) - 3)])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(2)
    writer.add_bos_token_id(1)
    writer.add_pad_token_id(0)
    writer.add_chat_template(str(tokenizer.chat_template))
    if "hub_id" in fields:
        writer.add_string("general.source.huggingface.repository", str(fields.pop("hub_id")))
    if "parts" in fields:
        writer.add_uint16("split.count", int(fields.pop("parts")))
    for name, value in scaling.items():
        add = writer.add_string if isinstance(value, str) else writer.add_float32
        add(f"{writer.arch}.{name}", value)
    assert not fields
    tensors: dict[str, tuple[Any, Q | None]] = {}
    random = np.random.default_rng(0)
    shapes = {"token_embd": (len(pieces), WIDTH), "output": (len(pieces), WIDTH)}
    norms = ["output_norm"]
    for layer in range(LAYERS):
        at = f"blk.{layer}"
        shapes |= {f"{at}.attn_{n}": (WIDTH // d, WIDTH) for n, d in (("q", 1), ("k", 2), ("v", 2))}
        shapes |= {
            f"{at}.{n}": (WIDTH, WIDTH) for n in ("attn_output", "ffn_gate", "ffn_up", "ffn_down")
        }
        norms += [f"{at}.attn_norm", f"{at}.ffn_norm"]
        for n, size in (("q", WIDTH), ("k", WIDTH // 2), ("v", WIDTH // 2)):
            tensors[f"{at}.attn_{n}.bias"] = (np.full(size, 0.1, dtype=np.float32), None)
    for name in norms:
        tensors[f"{name}.weight"] = (random.uniform(0.5, 1.5, WIDTH).astype(np.float32), None)
    for name, shape in shapes.items():
        kinds = MIXES[mix]
        kind = next((k for part, k in kinds.items() if part and part in name), kinds[""])
        tensors[f"{name}.weight"] = (random_blocks(shape, kind, random), kind)
    for name, length in surplus.items():
        tensors[name] = (np.ones(length, dtype=np.float32), None)
    for name, (values, stored) in tensors.items():
        if name != without:
            writer.add_tensor(name, values, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("mix", MIXES)
def test_dequantised_weights_are_those_of_the_gguf_library(tmp_path: Path, mix: str) -> None:
    path = write_model(tmp_path / "tiny.gguf", mix)
    weights = resolve(str(path), BASES, tmp_path / "cache")
    state = load_base(weights, CPU, torch.bfloat16).model.state_dict()
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, LAYERS)
    ours = {names.get_name(key, try_suffixes=(".weight", ".bias")): key for key in state}
    tensors = gguf.GGUFReader(path).tensors
    assert {str(kind.name) for kind in (t.tensor_type for t in tensors)} > {
        kind.name for kind in MIXES[mix].values()
    }
    assert {tensor.name for tensor in tensors} == set(ours)
    for tensor in tensors:
        expected = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        found = state[ours[tensor.name]]
        assert torch.equal(found, expected.to(torch.bfloat16)), tensor.name
        assert expected.std() > 0.001 or tensor.name.endswith("bias")


def test_a_file_is_converted_once_and_known_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted: list[Path] = []
    real = gguf_file.convert

    def convert(path: Path, folder: Path, header: GGUFHeader) -> None:
        converted.append(path)
        real(path, folder, header)

    monkeypatch.setattr(sources, "convert", convert)
    path = write_model(tmp_path / "tiny.gguf")
    first = resolve(str(path), BASES, tmp_path / "cache")
    moved = path.rename(tmp_path / "renamed.GGUF")
    assert resolve(str(moved), BASES, tmp_path / "cache") == first
    assert first.path.name == f"gguf-{first.sha256[:16]}"
    assert first.hub_id == str(first.path)
    other = resolve(
        str(write_model(tmp_path / "b.gguf", "Q6_K", hub_id="example/model")),
        BASES,
        tmp_path / "cache",
    )
    assert other.hub_id == "example/model"
    assert other.path != first.path
    assert len(converted) == 2
    (first.path / "config.json").write_text("{}")
    resolve(str(moved), BASES, tmp_path / "cache")
    assert len(converted) == 3


def test_a_gguf_file_is_a_base_like_any_other(tmp_path: Path) -> None:
    path = write_model(tmp_path / "tiny.gguf")
    engine = Engine.load(EngineConfig(base=str(path), device="cpu", cache_dir=tmp_path / "cache"))
    assert engine.info.base_path == str(tmp_path / "cache" / engine.base.weights.path.name)
    layout = LoRALayout.from_config(engine.base.config)
    made = make_adapter(layout=layout, base_id=engine.info.base_id)
    *_, step = engine.chat(user("Hi"), adapter=made, sampling=Sampling(max_new_tokens=4))
    assert step.adapted is not None
    assert step.adapted.text != step.base.text
    engine.save(made, tmp_path / "made.zip")
    assert engine.read_adapter(tmp_path / "made.zip").sha256 == made.sha256


# Llama's tokens


def merging_tokenizer() -> PreTrainedTokenizerFast:
    """The byte tokenizer with one merge, and a word that no merge makes."""
    tokenizer = byte_tokenizer()
    saved = json.loads(tokenizer.backend_tokenizer.to_str())
    saved["model"]["vocab"] |= {"ab": len(tokenizer), "cab": len(tokenizer) + 1}
    saved["model"]["merges"] = [["a", "b"]]
    merging = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(saved)))
    merging.chat_template = tokenizer.chat_template
    return merging


@pytest.mark.parametrize("split", ["llama-bpe", "tekken", "smollm", "gpt-2", "phi-2"])
def test_texts_are_cut_into_tokens_as_llama_cpp_cuts_them(
    split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_model, "_split_name", lambda *_: split)
    path, tokenizer = tmp_path / "x.gguf", merging_tokenizer()
    gguf_model.write_model(tiny_llama(vocab_size=261), tokenizer, "tiny", path, "f16")
    found = AutoTokenizer.from_pretrained(resolve(str(path), BASES, tmp_path / "cache").path)
    with llama_cpp(path) as llama:
        for text in ("cab", "cabs, 12345 and it's   3.\n\n", "<|im_start|>tab ABAB"):
            assert found(text, add_special_tokens=False)["input_ids"] == llama.tokenize(text)
    takes_words_whole = found("cab", add_special_tokens=False)["input_ids"] == [260]
    assert takes_words_whole == (split in ("llama-bpe", "tekken"))


# Llama 3's positions


def rounded(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """With weights that a base holds exactly."""
    for weight in model.parameters():
        weight.copy_(weight.bfloat16())
    return model


def llama3(path: Path, change: float = 1.0) -> Path:
    """A tiny Llama 3 as a whole file, its factors multiplied."""
    model = rounded(tiny_llama3(vocab_size=261))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf_model, "factors_of", lambda config: change * factors_of(config))
        gguf_model.write_model(model, merging_tokenizer(), "tiny", path, "f16")
    return path


def test_a_file_of_llama_3_is_read_with_its_stretched_positions(tmp_path: Path) -> None:
    weights = resolve(str(llama3(tmp_path / "x.gguf")), BASES, tmp_path / "cache")
    base = load_base(weights, CPU, torch.float32)
    model = rounded(tiny_llama3(vocab_size=261))
    assert base.config["rope_parameters"] == model.config.rope_parameters
    ids = torch.arange(500)[None] % 256 + 3
    expected = model(input_ids=ids).logits
    found = base.model(input_ids=ids).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)
    plain = rounded(tiny_llama(vocab_size=261))
    assert (plain(input_ids=ids).logits - expected).abs().max() > 1


def test_positions_stretched_in_another_way_are_refused(tmp_path: Path) -> None:
    path = llama3(tmp_path / "x.gguf", change=1.01)
    told = (
        r"x\.gguf` stretches its positions \(`rope_freqs\.weight`\) in another way than Llama 3 d"
    )
    with pytest.raises(AssetError, match=told):
        resolve(str(path), BASES, tmp_path / "cache")


# Files that are no base


def not_gguf(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 a zip")


def cut(path: Path) -> None:
    path.write_bytes(write_model(path).read_bytes()[:-2000])


def cut_header(path: Path) -> None:
    path.write_bytes(write_model(path).read_bytes()[:300])


def broken_text(path: Path) -> None:
    whole = write_model(path, hub_id="example/model").read_bytes()
    path.write_bytes(whole.replace(b"example/model", b"example/\xffodel"))


def header(fields: list[bytes], tensors: list[bytes]) -> bytes:
    """A header by hand: the library writes none that lies."""
    start = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(fields))
    return start + b"".join([*fields, *tensors])


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def field(name: str, value: str) -> bytes:
    return text(name) + struct.pack("<I", 8) + text(value)


def array(kind: int, length: int) -> bytes:
    """The start of an array that is a field."""
    return text("a") + struct.pack("<IIQ", 9, kind, length)


def tensor(*axes: int, number: int | None = None) -> bytes:
    found = struct.pack(f"<I{len(axes)}Q", len(axes) if number is None else number, *axes)
    return text("token_embd.weight") + found + struct.pack("<IQ", 0, 0)


PAST = r"its header goes on past the end of the file"

LLAMA = [field("general.architecture", "llama"), field("tokenizer.ggml.model", "gpt2")]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        # Of 70 bytes; the library would count to 2 to the 40th.
        (header([array(0, 2**40)], []), r"its header lists more than 2,000,000 items"),
        (header([array(0, 1_900_000)], []), PAST),
        (
            header([array(9, 1) + struct.pack("<IQ", 9, 1) * 20_000], []),
            r"an array in it holds arrays",
        ),
        (
            header([text("a") + struct.pack("<IQ", 8, 2**62)], []),
            PAST,
        ),
        (header([text("a") + struct.pack("<I", 77)], []), r"a value in it has the unknown type 77"),
        (header(LLAMA, [tensor(2**33, 2**33)]), r"a tensor in it is larger than the file"),
        (header(LLAMA, [tensor(number=2**31)]), r"a tensor with 2147483648 axes"),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0) + bytes(100),
            PAST,
        ),
        (b"GGUF" + struct.pack("<I", 99), r"version 99, expected 2 or 3"),
    ],
    ids=["array", "short", "nested", "string", "type", "size", "axes", "tensors", "version"],
)
def test_a_header_that_lies_is_refused_at_once(data: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    with pytest.raises(AssetError, match=rf"is a damaged GGUF file \({told}.*\)\. Download it"):
        read_header(path)


def test_a_file_without_weights_is_refused(tmp_path: Path) -> None:
    """Transformers would build a Llama of 32 random layers from it."""
    path = tmp_path / "x.gguf"
    path.write_bytes(header(LLAMA, []))
    with pytest.raises(AssetError, match=r"x\.gguf` holds no weights\. Download it again\."):
        resolve(str(path), BASES, tmp_path / "cache")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            not_gguf,
            r"is no GGUF file: expected it to begin with b'GGUF', got b'PK\\x03\\x04'\. Dow",
        ),
        (cut, r"is a damaged GGUF file|ends before its weights do\. Download it again"),
        (cut_header, r"is a damaged GGUF file \(.*\)\. Download it again"),
        (broken_text, r"is a damaged GGUF file \('utf-8' codec .*\)\. Download it again"),
        (
            lambda path: write_model(path, architecture="mamba"),
            r"a GGUF of the architecture 'mamba'; those that can be read are gemma2, gemma3, ",
        ),
        (
            lambda path: write_model(path, type="adapter"),
            r"a GGUF of the type 'adapter', expected a model\. Name the base's file",
        ),
        (
            lambda path: write_model(path, parts=3),
            r"is one of 3 parts\. Join them with llama\.cpp's `llama-gguf-split --merge`",
        ),
        (lambda path: write_model(path, tokenizer="none"), r"holds no tokenizer\. Take a file"),
        (
            lambda path: write_model(path, split="chatglm-bpe"),
            r"splits texts in a way that transformers does not know \('chatglm-bpe'\), and would",
        ),
    ],
    ids=[
        *("zip", "cut", "cut header", "text", "architecture", "adapter", "part"),
        *("no tokenizer", "split"),
    ],
)
def test_a_wrong_file_is_refused_and_nothing_kept(
    make: Callable[[Path], Any], told: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.gguf"
    make(path)
    with pytest.raises(AssetError, match=told) as caught:
        resolve(str(path), BASES, tmp_path / "cache")
    assert str(path) in str(caught.value)
    assert not (tmp_path / "cache").exists()


# Files whose weights are not those of their architecture


@pytest.mark.parametrize(
    "name",
    ["blk.1.ffn_down.weight", "token_embd.weight", "output_norm.weight", "blk.0.attn_q.bias"],
)
def test_a_missing_tensor_is_named_and_nothing_random_put_in_its_place(
    tmp_path: Path, name: str
) -> None:
    path = write_model(tmp_path / "x.gguf", without=name)
    told = rf"x\.gguf` lacks weights of its architecture \(1: {name}\)\. Download it again\."
    with pytest.raises(AssetError, match=told):
        resolve(str(path), BASES, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("gguf-*/"))


@pytest.mark.parametrize(
    "name",
    ["rope_freqs.weight", "blk.0.attn_output.bias", "blk.0.attn_q_norm.weight", "blk.7.ffn_norm"],
)
def test_a_tensor_that_transformers_would_leave_out_is_named(tmp_path: Path, name: str) -> None:
    path = write_model(tmp_path / "x.gguf", surplus={name: WIDTH})
    told = (
        rf"x\.gguf` holds tensors that transformers would leave out \(1: {name}\), and the base "
        r"would be another model\. Name the model's Hub id or folder instead\."
    )
    with pytest.raises(AssetError, match=told):
        resolve(str(path), BASES, tmp_path / "cache")


def test_a_tensor_of_another_size_than_the_header_says_is_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "x.gguf", surplus={"blk.0.attn_norm.weight": 128})
    told = r"x\.gguf` holds [\d,]+ parameters, expected [\d,]+ for the sizes in its header\. Downl"
    with pytest.raises(AssetError, match=told):
        resolve(str(path), BASES, tmp_path / "cache")


@pytest.mark.parametrize(
    ("scaling", "told"),
    [
        ({"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0}, r"\('yarn', factor 4\.0\)"),
        ({"rope.scaling.factor": 8.0}, r"\('linear', factor 8\.0\)"),
        ({"rope.scale_linear": 2.0}, r"\('linear', factor 2\.0\)"),
    ],
)
def test_scaled_positions_are_refused(tmp_path: Path, scaling: dict[str, Any], told: str) -> None:
    path = write_model(tmp_path / "x.gguf", scaling=scaling)
    told = rf"scales its rotary positions {told}, which transformers does not take over from a GGUF"
    with pytest.raises(AssetError, match=told):
        read_header(path)


@pytest.mark.parametrize(
    "scaling",
    [{"rope.scaling.type": "none", "rope.scaling.factor": 8.0}, {"rope.scaling.factor": 1.0}],
)
def test_a_scaling_that_changes_nothing_is_accepted(
    tmp_path: Path, scaling: dict[str, Any]
) -> None:
    assert read_header(write_model(tmp_path / "x.gguf", scaling=scaling)).architecture == "qwen2"


@pytest.mark.parametrize("layers", [0, 1000, 2**31])
def test_more_layers_than_tensors_are_refused(tmp_path: Path, layers: int) -> None:
    path = write_model(tmp_path / "x.gguf", layers=layers)
    told = rf"states {layers} layers, expected a number from 1 to 27 for its 27 tensors\. Download"
    with pytest.raises(AssetError, match=told):
        read_header(path)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(AssetError, match=r"no GGUF file at `no/such\.gguf`\."):
        resolve("no/such.gguf", BASES)


# Memory


def little(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    class Memory:
        available = free

    monkeypatch.setattr("psutil.virtual_memory", Memory)


def test_a_base_that_does_not_fit_is_refused_with_the_numbers_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_tiny(tmp_path / "base", hidden_size=512, vocab_size=1000)
    little(monkeypatch, 3_000_000)
    numbers = r"needs about 0\.0 GB of memory, and 0\.0 GB are free on cpu\. Choose a smaller model"
    with pytest.raises(AssetError, match=numbers):
        load_base(resolve(str(folder), BASES), CPU, torch.float32)
    needed = memory.weight_bytes(folder, torch.float32)
    assert needed == sum(p.numel() * 4 for p in load_large(folder))
    little(monkeypatch, 2 * needed)
    load_base(resolve(str(folder), BASES), CPU, torch.float32)


def large(folder: Path, num_bytes: int = 4_000_000_000) -> Path:
    """A base whose weights are a hole in the disk, so that it takes no room."""
    save_tiny(folder)
    start = {"dtype": "BF16", "shape": [num_bytes // 2], "data_offsets": [0, num_bytes]}
    told = json.dumps({"model.embed_tokens.weight": start}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(told)) + told)
        file.truncate(8 + len(told) + num_bytes)
    return folder


@pytest.mark.parametrize(
    "told", ["[]", "{", '{"a": {"shape": [Infinity]}}', '{"a": {"shape": ["x"]}}', "[" * 100_000]
)
def test_weights_that_cannot_be_read_count_as_none(tmp_path: Path, told: str) -> None:
    data = struct.pack("<Q", len(told)) + told.encode()
    (tmp_path / "model.safetensors").write_bytes(data)
    assert memory.weight_bytes(tmp_path, torch.float32) == 0


def slow(*_: object, **__: object) -> None:
    pytest.fail("a file was hashed or downloaded before its size was checked")


def test_a_folder_that_does_not_fit_is_refused_before_it_is_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hashing 60 GB takes minutes, without a word."""
    monkeypatch.setattr(sources, "sha256_of", slow)
    # Nor is the file mapped into memory, which the system may refuse for one of this size.
    monkeypatch.setattr(memory, "safe_open", slow, raising=False)
    little(monkeypatch, 1_000_000_000)
    folder = large(tmp_path / "base")
    told = (
        r"base needs about [48]\.[48] GB of memory, and 1\.0 GB are free on cpu\. Choose a smaller"
    )
    with pytest.raises(AssetError, match=told):
        Engine.load(EngineConfig(base=str(folder), device="cpu"))


@pytest.mark.parametrize(
    ("cached", "needed"),
    # The tiny model's config says float32, so its files would take half as much in bfloat16.
    [(False, r"2\.2"), (True, r"4\.4")],
    ids=["not here", "in the cache, offline"],
)
def test_a_base_of_the_hub_that_does_not_fit_is_refused_before_it_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool, needed: str
) -> None:
    folder = large(tmp_path / "base")
    made: Any = ModelInfo  # its constructor has no types
    files = [{"rfilename": f"model-{i}.safetensors", "size": 2_000_000_000} for i in (1, 2)]
    # None of these is loaded.
    files += [
        {"rfilename": name, "size": 9_000_000_000}
        for name in ("pytorch_model.bin", "consolidated.safetensors", "onnx/model.safetensors")
    ]

    def described(api: HfApi, name: str, **_: object) -> Any:
        if cached:
            raise OfflineModeIsEnabled
        return made(id=name, siblings=files)

    monkeypatch.setattr(HfApi, "model_info", described)
    monkeypatch.setattr(sources, "hf_hub_download", lambda name, file: str(folder / file))
    monkeypatch.setattr(
        sources, "snapshot_download", (lambda *_, **__: str(folder)) if cached else slow
    )
    monkeypatch.setattr(sources, "sha256_of", slow)
    little(monkeypatch, 1_000_000_000)
    told = rf"somebody/large needs about {needed} GB of memory, and 1\.0 GB are free on cpu\."
    with pytest.raises(AssetError, match=told):
        resolve_base("somebody/large", CPU, torch.bfloat16)


def test_what_is_loaded_of_a_base_of_the_hub_that_fits_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_tiny(tmp_path / "base")
    made: Any = ModelInfo
    files = [{"rfilename": "model.safetensors", "size": 400_000}]
    described = made(id="somebody/small", siblings=files)
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: described)
    monkeypatch.setattr(sources, "hf_hub_download", lambda name, file: str(folder / file))
    asked = {}

    def download(name: str, **patterns: Any) -> str:
        asked.update(patterns)
        return str(folder)

    monkeypatch.setattr(sources, "snapshot_download", download)
    assert resolve_base("somebody/small", CPU, torch.float32).path == folder
    loaded = ["config.json", "model-00001-of-00002.safetensors", "tokenizer.model"]
    others = ["pytorch_model.bin", "model.gguf", "tf_model.h5", "onnx/model.onnx"]
    others += ["consolidated.safetensors", "consolidated-00001-of-00002.safetensors"]
    assert list(filter_repo_objects([*loaded, *others], **asked)) == loaded


def test_a_model_that_nobody_checks_is_not_asked_about_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as an encoder: without a network, each request may take its whole timeout."""
    folder = save_tiny(tmp_path / "encoder")
    for owner, name in ((HfApi, "model_info"), (sources, "hf_hub_download")):
        monkeypatch.setattr(owner, name, lambda *_, **__: pytest.fail("the Hub was asked"))
    monkeypatch.setattr(sources, "snapshot_download", lambda *_, **__: str(folder))
    assert resolve("somebody/encoder", ENCODERS).path == folder


def test_only_files_that_are_loaded_count(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "base")
    needed = memory.weight_bytes(folder, torch.float32)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "consolidated.safetensors").write_bytes(weights)
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.safetensors").write_bytes(weights)
    assert memory.weight_bytes(folder, torch.float32) == needed > 0
    # Without such a name, any counts.
    (folder / "model.safetensors").unlink()
    assert memory.weight_bytes(folder, torch.float32) == needed


def load_large(folder: Path) -> list[torch.nn.Parameter]:
    from transformers import AutoModelForCausalLM

    return list(AutoModelForCausalLM.from_pretrained(folder).parameters())


def test_a_gguf_that_does_not_fit_is_refused_before_it_is_dequantised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_model(tmp_path / "tiny.gguf")
    num_parameters = read_header(path).num_parameters
    little(monkeypatch, 3 * num_parameters)
    with pytest.raises(AssetError, match=r"converting `tiny\.gguf` needs about .* GB of memory"):
        resolve(str(path), BASES, tmp_path / "cache")
    # Not even the converted base would fit, so the file is not hashed to look for that one.
    little(monkeypatch, 2 * num_parameters)
    monkeypatch.setattr(sources, "sha256_of", slow)
    with pytest.raises(AssetError, match=r"^`tiny\.gguf` needs about .* GB of memory"):
        resolve(str(path), BASES, tmp_path / "cache")
    assert num_parameters > 500_000


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    little(monkeypatch, 10_000)
    assert memory.free_bytes() == 10_000
    (tmp_path / "memory.max").write_text("7000\n")
    (tmp_path / "memory.current").write_text("6000\n")
    # Files that were read, such as weights that were hashed, leave memory when it is needed.
    (tmp_path / "memory.stat").write_text("anon 2000\ninactive_file 4000\n")
    assert memory.free_bytes() == 5_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_bytes() == 10_000


def test_a_limit_in_the_older_layout_of_control_groups_counts_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    little(monkeypatch, 10_000)
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("6000\n")
    (tmp_path / "memory" / "memory.stat").write_text("inactive_file 0\ntotal_inactive_file 4000\n")
    for most, expected in (("7000", 5_000), ("9223372036854771712", 10_000)):
        (tmp_path / "memory" / "memory.limit_in_bytes").write_text(f"{most}\n")
        assert memory.free_bytes() == expected
