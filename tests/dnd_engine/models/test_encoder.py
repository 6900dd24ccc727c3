"""The encoder's token embeddings come in the order of the prompts and say where they end."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, RobertaConfig, RobertaModel

from dnd_engine.errors import AssetError
from dnd_engine.limits import FixedLimits
from dnd_engine.models.encoder import EncodedPrompts, PromptEncoder, PromptMemory
from dnd_engine.models.sources import ENCODERS, resolve
from tests.dnd_engine.tiny import CPU, save_tiny_encoder


def rows_of(encoded: EncodedPrompts, rows: list[int]) -> EncodedPrompts:
    return EncodedPrompts(encoded.tokens[rows], encoded.mask[rows], encoded.pooled[rows])


def assert_same(one: EncodedPrompts, other: EncodedPrompts) -> None:
    assert torch.equal(one.tokens, other.tokens)
    assert torch.equal(one.mask, other.mask)
    assert torch.equal(one.pooled, other.pooled)


TEXTS = [f"{'word ' * (i % 7)}number {i}" for i in range(40)]


def test_prompts_keep_their_order_and_do_not_see_each_other(encoder: PromptEncoder) -> None:
    """More than one batch, grouped by length inside."""
    together = encoder.encode(TEXTS, 16)
    assert together.tokens.shape == (40, 16, 384)
    for row in (0, 13, 39):
        assert_same(rows_of(together, [row]), encoder.encode([TEXTS[row]], 16))


def test_a_prompt_reads_alike_to_the_last_bit_in_whichever_company(encoder: PromptEncoder) -> None:
    """Else an adapter would depend on what the visitor had read before."""
    chance = random.Random(0)
    together = encoder.encode(TEXTS, 16)
    for _ in range(5):
        some = chance.sample(range(len(TEXTS)), chance.choice([2, 7, 17, 30]))
        assert_same(rows_of(together, some), encoder.encode([TEXTS[row] for row in some], 16))


@pytest.mark.parametrize("number", [2, 3])
def test_a_prompt_reads_alike_with_any_number_of_threads(
    encoder: PromptEncoder, number: int
) -> None:
    before = torch.get_num_threads()
    read = []
    try:
        for threads in (1, number):
            torch.set_num_threads(threads)
            read.append(encoder.encode(TEXTS, 16))
    finally:
        torch.set_num_threads(before)
    assert_same(*read)


def test_nothing_is_read_twice_with_a_memory(
    encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[list[str]] = []
    encode = PromptEncoder.encode

    def watch(self: PromptEncoder, texts: list[str], length: int) -> EncodedPrompts:
        read.append(list(texts))
        return encode(self, texts, length)

    monkeypatch.setattr(PromptEncoder, "encode", watch)
    memory = PromptMemory()
    assert_same(memory.encode(encoder, TEXTS[:10], 16), encode(encoder, TEXTS[:10], 16))
    assert_same(memory.encode(encoder, TEXTS[5:15], 16), encode(encoder, TEXTS[5:15], 16))
    assert read == [TEXTS[:10], TEXTS[10:15]]
    memory.encode(encoder, TEXTS[:1], 12)  # read to another length, it is something else
    assert read[2:] == [TEXTS[:1]]


def test_a_memory_forgets_what_was_not_asked_for_longest(
    encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dnd_engine.models.encoder.FIXED", FixedLimits(max_encoded_prompts=3))
    memory = PromptMemory()
    memory.encode(encoder, TEXTS[:3], 16)
    memory.encode(encoder, [TEXTS[0], TEXTS[3]], 16)
    assert len(memory) == 3
    assert len(memory.encode(encoder, TEXTS[:8], 16).tokens) == 8  # more than it can hold
    assert len(memory) == 3
    assert memory.num_bytes == 3 * (4 * 16 * 384 + 16 + 4 * 384)
    assert memory.encode(encoder, [], 16).tokens.shape == (0, 16, 384)


def test_a_memory_is_bounded_by_its_bytes_too(
    encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = 4 * 16 * 384 + 16 + 4 * 384
    limits = FixedLimits(max_encoded_bytes=2 * one)
    monkeypatch.setattr("dnd_engine.models.encoder.FIXED", limits)
    memory = PromptMemory()
    assert len(memory.encode(encoder, TEXTS[:3], 16).tokens) == 3
    assert (len(memory), memory.num_bytes) == (2, 2 * one)


def test_embeddings_are_zero_after_the_end_and_pooled_ones_have_unit_length(
    encoder: PromptEncoder,
) -> None:
    found = encoder.encode(["Hi", "A few more words than that"], 12)
    assert found.mask.sum(dim=1).tolist() == [3, 8]
    assert torch.equal(found.tokens.abs().sum(dim=2) > 0, found.mask)
    torch.testing.assert_close(found.pooled.norm(dim=1), torch.ones(2))


def test_padding_is_kept_where_it_is_asked_for_and_prompts_stay_apart() -> None:
    """As the model makes it, at one length; what is pooled is of the tokens alone."""
    folder = resolve("all-minilm-l6-v2", ENCODERS).path
    cpu = torch.device("cpu")
    padding, cutting = (
        PromptEncoder(folder, cpu, torch.float32, keeps_padding=kept) for kept in (True, False)
    )
    memory = PromptMemory()
    found, usual = (memory.encode(one, TEXTS[:3], 20) for one in (padding, cutting))
    ids = padding._model.tokenizer(
        TEXTS[:3], padding="max_length", max_length=20, return_tensors="pt"
    )
    with torch.inference_mode():
        expected = AutoModel.from_pretrained(folder)(**ids).last_hidden_state
    torch.testing.assert_close(found.tokens, expected, atol=1e-4, rtol=0)
    assert found.mask.all()
    assert not usual.mask.all()
    torch.testing.assert_close(found.pooled, usual.pooled, atol=1e-5, rtol=0)


def test_long_prompts_are_cut(encoder: PromptEncoder) -> None:
    long = "one two three four five six seven eight nine"
    found = encoder.encode([long, long + " ten eleven"], 6)
    assert found.mask.all()
    assert torch.equal(found.tokens[0], found.tokens[1])


def test_embeddings_are_those_of_the_stock_library(encoder: PromptEncoder) -> None:
    stock = SentenceTransformer(str(resolve("all-minilm-l6-v2", ENCODERS).path), device="cpu")
    stock.max_seq_length = 16
    found = encoder.encode(TEXTS, 16)
    expected = stock.encode(TEXTS, convert_to_tensor=True)
    torch.testing.assert_close(found.pooled, expected, atol=1e-5, rtol=0)
    for row, tokens in enumerate(stock.encode(TEXTS, output_value="token_embeddings")):
        torch.testing.assert_close(found.tokens[row][found.mask[row]], tokens, atol=1e-4, rtol=0)


LONG = "All the words of a very long letter, of which only the first few are ever read. "


@pytest.mark.parametrize(
    "text",
    [
        LONG * 100,
        LONG[:20] + " " * 2_000 + "and then some",
        "x" * 3_000 + " and then some words",
        "長い手紙。" * 400,
        " " * 5_000,
    ],
    ids=["words", "a wide gap", "one long word", "no spaces", "nothing"],
)
def test_a_very_long_prompt_reads_like_its_whole(encoder: PromptEncoder, text: str) -> None:
    """Only its beginning is tokenised, unless that holds too few tokens."""
    tokenizer = encoder._model.tokenizer
    expected = tokenizer([text], truncation=True, max_length=16)["input_ids"]
    assert encoder._tokenise([text], 16) == expected


def test_only_the_beginning_of_long_prompts_is_tokenised(
    encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    ids = PromptEncoder._ids

    def watch(self: PromptEncoder, texts: list[str], length: int) -> list[list[int]]:
        seen.append(sum(map(len, texts)))
        return ids(self, texts, length)

    monkeypatch.setattr(PromptEncoder, "_ids", watch)
    encoder.encode([LONG * 100, "short"], 16)
    assert sum(seen) < 300


def test_prompts_of_as_many_tokens_share_a_batch(
    encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Characters would not do: a long word may be one token, and a short one several."""
    few = [f"international communication number {i}" for i in range(8)]
    many = [f"a b c d e f g h {i}" for i in range(8)]
    mixed = [text for pair in zip(few, many, strict=True) for text in pair]
    computed: list[int] = []
    forward = SentenceTransformer.forward

    def watch(self: SentenceTransformer, features: dict[str, torch.Tensor]) -> object:
        computed.append(features["input_ids"].numel())
        return forward(self, features)

    monkeypatch.setattr(SentenceTransformer, "forward", watch)
    found = encoder.encode(mixed, 16)
    # Every prompt beside others of the same length, padded to a multiple of eight.
    lengths = found.mask.sum(dim=1)
    assert lengths[0] != lengths[1]
    assert sorted(computed) == sorted(8 * 8 * (-(-int(n) // 8)) for n in lengths[:2])


def test_no_prompts_give_no_embeddings(encoder: PromptEncoder) -> None:
    assert encoder.encode([], 8).tokens.shape == (0, 8, 384)


# Prompts longer than the encoder reads at once


@pytest.fixture(scope="module")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It reads 32 letters at once."""
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder"))


LONGER = ["a", "b" * 30, "c" * 31, "d" * 90, "e f " * 20, "g " * 400]
"""With [CLS] and [SEP]: 3 tokens, a whole piece, one more, and more than are read."""


def in_pieces(folder: Path, texts: list[str], length: int) -> tuple[Tensor, Tensor]:
    """Last hidden states of pieces of 32 ids, as the stock library gives them, and the mask."""
    ids = AutoTokenizer.from_pretrained(folder)(
        texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
    )
    pieces = {name: ids[name].reshape(-1, 32) for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        states = AutoModel.from_pretrained(folder)(**pieces).last_hidden_state
    return states.reshape(len(texts), length, -1), ids["attention_mask"].bool()


@pytest.mark.parametrize("keeps_padding", [True, False])
def test_longer_prompts_are_read_in_pieces(tiny_encoder: Path, keeps_padding: bool) -> None:
    """Each by itself, as by the authors; padding is what the encoder makes of it, or zeros."""
    reader = PromptEncoder(tiny_encoder, CPU, torch.float32, keeps_padding=keeps_padding)
    expected, mask = in_pieces(tiny_encoder, LONGER, 96)
    assert mask.sum(dim=1).tolist() == [3, 32, 33, 92, 42, 96]
    assert not mask.view(-1, 32).any(dim=1).all(), "some pieces are padding alone"
    found = reader.encode(LONGER, 96)
    kept = torch.ones_like(mask) if keeps_padding else mask
    assert torch.equal(found.mask, kept)
    torch.testing.assert_close(found.tokens, expected * kept[..., None], atol=1e-5, rtol=0)
    for states, real, pooled in zip(expected[:, :32], mask[:, :32], found.pooled, strict=True):
        mean = states[real].mean(dim=0)
        torch.testing.assert_close(pooled, mean / mean.norm(), atol=1e-5, rtol=0)
    assert_same(rows_of(found, [5]), rows_of(reader.encode(LONGER[::-1], 96), [0]))


def test_positions_that_an_encoder_counts_past_its_padding_are_not_read(tmp_path: Path) -> None:
    """RoBERTa has more of them than tokens that it reads: one here, where padding is token 0."""
    folder = save_tiny_encoder(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    roberta = {"model_type": "roberta", "max_position_embeddings": 33, "pad_token_id": 0}
    RobertaModel(RobertaConfig(**config | roberta)).save_pretrained(folder)
    reader = PromptEncoder(folder, CPU, torch.float32)
    assert reader.longest == 32
    expected, mask = in_pieces(folder, LONGER, 96)
    found = reader.encode(LONGER, 96)
    torch.testing.assert_close(found.tokens, expected * mask[..., None], atol=1e-5, rtol=0)


@pytest.mark.parametrize("keeps_padding", [True, False])
def test_trimmed_prompts_lack_nothing_but_padding(tiny_encoder: Path, keeps_padding: bool) -> None:
    reader = PromptEncoder(tiny_encoder, CPU, torch.float32, keeps_padding=keeps_padding)
    whole, trimmed = (reader.encode(LONGER[:3], 96, trimmed=cut) for cut in (False, True))
    end = 64 if keeps_padding else 33
    assert trimmed.tokens.shape[1] == end
    assert_same(trimmed, EncodedPrompts(whole.tokens[:, :end], whole.mask[:, :end], whole.pooled))
    rest = reader.padding(96) if keeps_padding else torch.zeros(96, 16)
    assert torch.equal(whole.tokens[:, end:], rest[end:].expand(3, -1, -1))
    assert reader.count_tokens(LONGER, 96) == [3, 32, 33, 92, 42, 96]


def test_nothing_is_attended_to_in_a_piece_of_padding(tiny_encoder: Path) -> None:
    """The authors' code gives zeros there too, on GPUs: see `PromptEncoder`."""
    reader = PromptEncoder(tiny_encoder, CPU, torch.float32, keeps_padding=True)
    model = AutoModel.from_pretrained(tiny_encoder)
    for layer in model.encoder.layer:
        layer.attention.self.register_forward_hook(lambda *given: (0 * given[2][0], None))
    with torch.inference_mode():
        expected = model(torch.zeros(1, 32, dtype=torch.long)).last_hidden_state[0]
    torch.testing.assert_close(reader.padding(80), expected.repeat(3, 1)[:80], atol=1e-5, rtol=0)


def test_pieces_of_padding_cost_nothing(
    tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight prompts of one piece each take one batch, however many tokens might be read."""
    reader = PromptEncoder(tiny_encoder, CPU, torch.float32, keeps_padding=True)
    reader.padding(1)  # once for an encoder
    computed: list[tuple[int, ...]] = []
    forward = SentenceTransformer.forward

    def watch(self: SentenceTransformer, features: dict[str, Tensor]) -> object:
        computed.append(tuple(features["input_ids"].shape))
        return forward(self, features)

    monkeypatch.setattr(SentenceTransformer, "forward", watch)
    found = reader.encode([f"number {i}" for i in range(8)], 26_624)
    assert found.tokens.shape == (8, 26_624, 16)
    assert found.tokens.isfinite().all()
    assert computed == [(8, 32)]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda f: (f / "config.json").write_text("{"), id="half a config"),
        pytest.param(lambda f: (f / "modules.json").write_text("{"), id="half a list of modules"),
        pytest.param(lambda f: (f / "tokenizer.json").unlink(), id="no tokenizer"),
        pytest.param(lambda f: (f / "model.safetensors").write_bytes(b"cut"), id="cut weights"),
    ],
)
def test_a_damaged_encoder_is_refused(damage: Callable[[Path], Any], tmp_path: Path) -> None:
    folder = save_tiny_encoder(tmp_path / "encoder")
    damage(folder)
    with pytest.raises(AssetError, match=r"encoder` is no sentence encoder that can be loaded: "):
        PromptEncoder(folder, CPU, torch.float32)
