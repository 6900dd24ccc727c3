"""A tiny random Llama with a byte tokenizer, and adapters for it: the models are not the point.

Beside it a tiny text encoder, for what would take the real one too long.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    GenerationMixin,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from dnd_engine.lora.adapter import Adapter
from dnd_engine.lora.layout import LoRALayout, LoRASpec
from dnd_engine.models.base import BaseModel, load_base
from dnd_engine.models.sources import DEFAULT_ENCODER, ENCODERS, resolve
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.files import from_texts

CPU = torch.device("cpu")

CONFIG: dict[str, Any] = {
    "vocab_size": 260,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
BASE_ID = "example/tiny-llama"
LAYOUT = LoRALayout.from_config(CONFIG, LoRASpec(r=4, lora_alpha=8))

_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per UTF-8 byte, and ChatML."""
    specials = ["<pad>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate([*specials, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<pad>",
        additional_special_tokens=["<|im_start|>"],
    )
    fast.chat_template = _CHATML
    return fast


def tiny_llama(seed: int = 0, **sizes: int) -> LlamaForCausalLM:
    """Random, with weights large enough that its logits differ clearly from token to token."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        **(CONFIG | sizes), initializer_range=0.3, pad_token_id=0, bos_token_id=1, eos_token_id=2
    )
    model = LlamaForCausalLM(config)
    for name, weight in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    model.requires_grad_(False).eval()
    return model


def tiny_llama3(**sizes: int) -> LlamaForCausalLM:
    """Positions stretched as those of Llama 3.2, and the weights of `tiny_llama`."""
    plain = tiny_llama(**sizes)
    config = plain.config
    config.max_position_embeddings = 131_072
    config.rope_parameters = {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    model = LlamaForCausalLM(config)
    model.load_state_dict(plain.state_dict())
    model.requires_grad_(False).eval()
    return model


def stock_answer(model: nn.Module, prompt: Sequence[int], **options: Any) -> list[int]:
    """New tokens of transformers' own greedy generation, which ours is held to."""
    assert isinstance(model, GenerationMixin)
    ids = torch.tensor([prompt])
    out = model.generate(
        inputs=ids, attention_mask=torch.ones_like(ids), do_sample=False, **options
    )
    assert isinstance(out, Tensor)
    new: list[int] = out[0, len(prompt) :].tolist()
    return new


def text_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], **options: bool) -> str:
    """The text of one row of tokens; `decode` takes many rows too."""
    text = tokenizer.decode(list(ids), **options)
    assert isinstance(text, str)
    return text


def save_tiny(folder: Path, seed: int = 0, **sizes: int) -> Path:
    """A model folder, as transformers writes it."""
    tiny_llama(seed, **sizes).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def save_larger(folder: Path) -> Path:
    """A base with other weights and more layers, whose answers are short: many tokens end them."""
    model = tiny_llama(seed=5, num_hidden_layers=3)
    model.generation_config.eos_token_id = [2, *range(3, CONFIG["vocab_size"], 4)]
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def save_tiny_encoder(folder: Path, width: int = 16, longest: int = 32) -> Path:
    """A random BERT of the parts of MiniLM, which reads a letter a token."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    pieces = [*specials, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=longest,
        # Large, so that outputs differ clearly with the place and with what is attended to.
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), specials, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    stock = resolve(DEFAULT_ENCODER, ENCODERS).path
    for name in ("modules.json", "sentence_bert_config.json"):
        shutil.copy(stock / name, folder / name)
    (folder / "1_Pooling").mkdir()
    pooling = json.loads((stock / "1_Pooling" / "config.json").read_text())
    pooling["word_embedding_dimension"] = width
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


def tiny_base(folder: Path) -> BaseModel:
    """A base of its own, since hosts hang their hooks on it."""
    loaded = load_base(resolve(str(folder), {}), CPU, torch.float32)
    return replace(loaded, weights=replace(loaded.weights, hub_id=BASE_ID))


def random_tokens(layout: LoRALayout = LAYOUT, seed: int = 0, size: float = 0.1) -> Tensor:
    """(tokens, r, width), every cell random, B's too."""
    generator = torch.Generator().manual_seed(seed)
    shape = (layout.num_tokens, layout.spec.r, layout.width)
    return torch.randn(shape, generator=generator) * size


def make_adapter(seed: int = 0, layout: LoRALayout = LAYOUT, **fields: Any) -> Adapter:
    """A random adapter of the tiny base."""
    tokens = random_tokens(layout, seed).to(torch.bfloat16)
    return replace(Adapter("tiny", tokens, layout, BASE_ID), **fields)


def bucket(name: str, texts: Sequence[str], weight: float = 1.0) -> Bucket:
    """A bucket of one file, or of none."""
    return Bucket(name, weight, (from_texts(texts, name="a.txt"),) if texts else ())


def delta(
    state: Mapping[str, Tensor], layout: LoRALayout, dtype: torch.dtype = torch.float64
) -> dict[str, Tensor]:
    """Layer path to ΔW = scaling · B·A, explicitly."""
    prefix = "base_model.model."
    return {
        t.path: layout.spec.scaling
        * state[f"{prefix}{t.path}.lora_B.weight"].to(dtype)
        @ state[f"{prefix}{t.path}.lora_A.weight"].to(dtype)
        for t in layout.targets
    }


def user(text: str) -> list[dict[str, str]]:
    """A conversation of one message."""
    return [{"role": "user", "content": text}]


def ids_of(texts: Sequence[str]) -> Tensor:
    """(rows, length) byte tokens of texts of one length."""
    return torch.tensor(byte_tokenizer()(list(texts))["input_ids"])
