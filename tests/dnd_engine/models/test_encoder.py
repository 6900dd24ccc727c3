"""The encoder's token embeddings come in the order of the prompts and say where they end."""

import random

import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel

from dnd_engine.limits import FixedLimits
from dnd_engine.models.encoder import EncodedPrompts, PromptEncoder, PromptMemory
from dnd_engine.models.sources import ENCODERS, resolve


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
    few = [f"international communication number {i}" for i in range(16)]
    many = [f"a b c d e f g h {i}" for i in range(16)]
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
    assert sorted(computed) == sorted(16 * 8 * (-(-int(n) // 8)) for n in lengths[:2])


def test_no_prompts_give_no_embeddings(encoder: PromptEncoder) -> None:
    assert encoder.encode([], 8).tokens.shape == (0, 8, 384)
