"""The decoder is the paper's: the authors' weights give the authors' numbers."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dnd_engine.errors import ConfigError, LayoutMismatchError
from dnd_engine.generator.hyperconv import HyperConvDecoder

DATA = Path(__file__).parents[2] / "data"
STAGES = [(4, 6, 5), (3, 7, 8)]


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_the_authors_weights_give_the_authors_output(case: str) -> None:
    """Source: the authors' release (see tests/data/README.md). Tolerance 1e-5."""
    meta = json.loads((DATA / "hyperconv_parity.json").read_text())[case]
    tensors = load_file(DATA / "hyperconv_parity.safetensors")
    prefix = f"{case}.weights."
    weights = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    decoder = HyperConvDecoder(meta["features"], meta["kernel_size"])
    decoder.load_state_dict(weights)
    assert list(decoder.state_dict()) == meta["keys"]
    output = decoder(tensors[f"{case}.condition"])
    torch.testing.assert_close(output, tensors[f"{case}.output"], atol=1e-5, rtol=0)


def test_equal_stages_add_their_input() -> None:
    decoder = HyperConvDecoder([(4, 6, 5), (4, 6, 5)], 3)
    for parameter in decoder.parameters():
        torch.nn.init.zeros_(parameter)
    condition = torch.randn(2, 4, 6, 5)
    assert torch.equal(decoder(condition), condition)


def test_unequal_stages_add_nothing() -> None:
    decoder = HyperConvDecoder([(4, 6, 5), (4, 6, 6)], 3)
    for parameter in decoder.parameters():
        torch.nn.init.zeros_(parameter)
    assert not decoder(torch.randn(2, 4, 6, 5)).any()


def test_the_last_convolution_makes_the_tokens() -> None:
    decoder = HyperConvDecoder([*STAGES, (9, 2, 4)], 3)
    condition = torch.randn(1, 4, 6, 5)
    assert decoder(condition).shape == (1, 9, 2, 4)
    assert decoder(condition).any()
    for parameter in decoder.last_convolution.parameters():
        torch.nn.init.zeros_(parameter)
    assert not decoder(condition).any()


def test_conditions_of_a_batch_do_not_mix() -> None:
    decoder = HyperConvDecoder(STAGES, 3)
    conditions = torch.randn(3, 4, 6, 5)
    apart = torch.cat([decoder(c[None]) for c in conditions])
    torch.testing.assert_close(decoder(conditions), apart, atol=1e-6, rtol=0)


@pytest.mark.parametrize("stages", [STAGES, [(4, 6, 5), (4, 6, 5)]], ids=["other", "equal"])
def test_a_mean_is_that_of_what_each_condition_gives(stages: list[tuple[int, int, int]]) -> None:
    decoder = HyperConvDecoder(stages, 3)
    conditions = torch.randn(3, 4, 6, 5)
    expected = decoder(conditions).mean(dim=0, keepdim=True)
    torch.testing.assert_close(decoder.mean(conditions), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "features", [[], [(4, 6, 5)], [(4, 6, 5), (3, 7)], [(4, 6, 5), (3, 7, 0)], [(1, 1, -1)] * 2]
)
def test_stages_that_make_no_decoder_are_refused(features: list[tuple[int, ...]]) -> None:
    with pytest.raises(ConfigError, match=r"`features` must be two or more \(channels, height, w"):
        HyperConvDecoder(features, 3)


@pytest.mark.parametrize("kernel_size", [-1, 0, 2, 4])
def test_a_kernel_without_a_centre_is_refused(kernel_size: int) -> None:
    with pytest.raises(ConfigError, match=rf"`kernel_size` must be odd .*, got {kernel_size}\."):
        HyperConvDecoder(STAGES, kernel_size)


@pytest.mark.parametrize("shape", [(1, 5, 6, 5), (1, 4, 5, 6), (1, 4, 6, 4)])
def test_a_condition_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        LayoutMismatchError,
        match=r"expected a condition of \(prompts, length, width\) \(4, 6, 5\), got \(\d, \d, \d\)",
    ):
        HyperConvDecoder(STAGES, 3)(torch.zeros(shape))
