"""Weight tokens and LoRA states are the same numbers, there and back."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from dnd_engine.errors import LayoutMismatchError
from dnd_engine.lora.layout import TARGET_MODULES, LoRALayout, LoRASpec, Target
from dnd_engine.lora.weight_tokens import (
    destandardise,
    detokenize,
    standardise,
    tokenize,
    with_zeros,
)
from tests.dnd_engine.tiny import LAYOUT, random_tokens

REFERENCE = Path(__file__).parents[2] / "data" / "qwen2.5-0.5b_tokens_parity.safetensors"


@st.composite
def layout_parts(draw: st.DrawFn) -> tuple[int, list[Target]]:
    """Rank and targets of any few linear layers whose sizes share a width."""
    width = draw(st.sampled_from([1, 2, 3, 8]))
    sizes = st.integers(1, 5).map(lambda n: n * width)
    modules = draw(st.lists(st.sampled_from(TARGET_MODULES), min_size=1, max_size=4, unique=True))
    layers = range(draw(st.integers(1, 3)))
    targets = [Target(i, module, draw(sizes), draw(sizes)) for i in layers for module in modules]
    return draw(st.integers(1, 5)), targets


def laid_out(r: int, targets: list[Target]) -> LoRALayout:
    spec = LoRASpec(r=r, target_modules=tuple(dict.fromkeys(t.module for t in targets)))
    return LoRALayout(spec=spec, targets=tuple(targets))


@given(parts=layout_parts(), dtype=st.sampled_from([torch.float32, torch.bfloat16]))
def test_detokenize_undoes_tokenize_exactly(
    parts: tuple[int, list[Target]], dtype: torch.dtype
) -> None:
    """Round trip, both ways, and every cell of the grid is used once."""
    layout = laid_out(*parts)
    cells = torch.arange(layout.num_parameters) % 251  # exact in bfloat16
    tokens = cells.reshape(layout.num_tokens, layout.spec.r, layout.width).to(dtype)
    state = detokenize(tokens, layout)
    assert sum(value.numel() for value in state.values()) == layout.num_parameters
    back = tokenize(state, layout)
    assert back.dtype == dtype
    assert torch.equal(back, tokens)
    again = detokenize(back, layout)
    assert all(torch.equal(again[key], value) for key, value in state.items())


@given(parts=layout_parts())
def test_states_have_pefts_shapes(parts: tuple[int, list[Target]]) -> None:
    layout = laid_out(*parts)
    state = detokenize(random_tokens(layout), layout)
    for m in layout.matrices():
        r = layout.spec.r
        assert state[m.key].shape == ((r, m.long) if m.side == "A" else (m.long, r))


# Parity with the authors: numbers of their release (see tests/data/README.md), tolerance 1e-5.

AUTHORS = LoRALayout(
    spec=LoRASpec(r=8, lora_alpha=16, target_modules=("q_proj", "k_proj")),
    targets=(Target(0, "q_proj", 896, 896), Target(0, "k_proj", 896, 128)),
)


def authors(kind: str) -> dict[str, torch.Tensor]:
    tensors = load_file(REFERENCE)
    return {k.removeprefix(kind): v for k, v in tensors.items() if k.startswith(kind)}


def test_layers_that_are_left_out_become_zeros() -> None:
    upper = LAYOUT.from_layer(1)
    tokens = random_tokens(upper)
    padded = detokenize(with_zeros(tokens, upper, LAYOUT), LAYOUT)
    kept = detokenize(tokens, upper)
    for key, value in padded.items():
        assert torch.equal(value, kept[key]) if key in kept else not value.any()
    assert with_zeros(tokens, upper, upper) is tokens


def test_tokens_are_the_authors() -> None:
    ours = standardise(tokenize(authors("lora."), AUTHORS))
    assert ours.shape == (22, 10, 130)
    torch.testing.assert_close(ours, authors("tokens")[""], atol=1e-5, rtol=0)


def test_noisy_tokens_become_the_authors_weights() -> None:
    """Noise makes the border cells disagree, so this pins how their codes are averaged."""
    plain = destandardise(authors("noisy_tokens")[""])
    k_proj = plain.new_zeros(8, 8, 128)  # not pinned, but it makes the width 128
    ours = detokenize(torch.cat([plain, k_proj]), AUTHORS)
    expected = authors("detokenized_noisy.")
    assert len(expected) == 2
    for key, value in expected.items():
        torch.testing.assert_close(ours[key], value, atol=1e-5, rtol=0)


@given(
    rows=st.integers(1, 9),
    cols=st.integers(2, 9),
    seed=st.integers(0, 999),
    size=st.sampled_from([0.01, 1.0, 30.0]),
    offset=st.sampled_from([-2.0, 0.0, 0.5]),
)
def test_destandardise_undoes_standardise(
    rows: int, cols: int, seed: int, size: float, offset: float
) -> None:
    """Odd and even sides, since the border alternates by column."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(3, rows, cols, generator=generator) * size + offset
    bordered = standardise(tokens)
    assert bordered.shape == (3, rows + 2, cols + 2)
    inside = bordered[:, :rows, :cols]
    torch.testing.assert_close(inside.mean(dim=(1, 2)), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(inside.std(dim=(1, 2)), torch.ones(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(destandardise(bordered), tokens, atol=1e-4 * (size + 2), rtol=1e-3)


# What does not fit


def test_a_grid_of_another_shape_is_refused() -> None:
    with pytest.raises(
        LayoutMismatchError, match=r"expected weight tokens of shape \(64, 4, 32\), got \(64, 4, 3"
    ):
        detokenize(torch.zeros(64, 4, 31), LAYOUT)


def test_all_keys_that_do_not_fit_are_named() -> None:
    state = detokenize(random_tokens(), LAYOUT)
    keys = list(state)
    del state[keys[0]]
    state[keys[1]] = torch.zeros(4, 64)
    state["base_model.model.lm_head.lora_A.weight"] = torch.zeros(4, 64)
    with pytest.raises(
        LayoutMismatchError,
        match=r"missing base_model\.model\.model\.layers\.0\.self_attn\.q_proj\.lora_A\.weight; "
        r"unexpected base_model\.model\.lm_head\.lora_A\.weight; "
        r".*q_proj\.lora_B\.weight is \(4, 64\), expected \(64, 4\)\.$",
    ):
        tokenize(state, LAYOUT)


def test_many_faults_are_counted_and_five_told() -> None:
    with pytest.raises(LayoutMismatchError, match=r"v_proj\.lora_A\.weight; and 23 more\.$"):
        tokenize({}, LAYOUT)
