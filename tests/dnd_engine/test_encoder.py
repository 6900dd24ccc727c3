"""The encoder's token embeddings come in the order of the prompts and say where they end."""

import pytest
import torch

from dnd_engine.encoder import PromptEncoder
from dnd_engine.models import ENCODERS, resolve
from tests.dnd_engine.tiny import CPU

TEXTS = [f"{'word ' * (i % 7)}number {i}" for i in range(40)]


@pytest.fixture(scope="module")
def encoder() -> PromptEncoder:
    return PromptEncoder(resolve("all-minilm-l6-v2", ENCODERS).path, CPU, torch.float32)


def test_prompts_keep_their_order_and_do_not_see_each_other(encoder: PromptEncoder) -> None:
    """More than one batch, sorted by length inside."""
    together = encoder.encode(TEXTS, 16)
    assert together.tokens.shape == (40, 16, 384)
    for row in (0, 13, 39):
        alone = encoder.encode([TEXTS[row]], 16)
        torch.testing.assert_close(together.tokens[row], alone.tokens[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(together.pooled[row], alone.pooled[0], atol=1e-5, rtol=0)
        assert torch.equal(together.mask[row], alone.mask[0])


def test_embeddings_are_zero_after_the_end_and_pooled_ones_have_unit_length(
    encoder: PromptEncoder,
) -> None:
    found = encoder.encode(["Hi", "A few more words than that"], 12)
    assert found.mask.sum(dim=1).tolist() == [3, 8]
    assert torch.equal(found.tokens.abs().sum(dim=2) > 0, found.mask)
    torch.testing.assert_close(found.pooled.norm(dim=1), torch.ones(2))


def test_long_prompts_are_cut(encoder: PromptEncoder) -> None:
    long = "one two three four five six seven eight nine"
    found = encoder.encode([long, long + " ten eleven"], 6)
    assert found.mask.all()
    assert torch.equal(found.tokens[0], found.tokens[1])
