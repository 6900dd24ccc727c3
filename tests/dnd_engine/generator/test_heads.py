"""Every head starts at the base, writes each matrix where the layout says, and can be learnt."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from dnd_engine.errors import ConfigError, LayoutMismatchError
from dnd_engine.generator.config import GeneratorConfig, complete_options
from dnd_engine.generator.folder import Generator, GeneratorFolder, save_generator
from dnd_engine.generator.heads import HEADS
from dnd_engine.generator.hyperconv import HyperConvDecoder
from dnd_engine.generator.mlp import MLPHead, pool_condition
from dnd_engine.lora.apply import LoRAHost
from dnd_engine.lora.layout import LoRALayout, LoRASpec
from dnd_engine.models.base import BaseModel
from tests.dnd_engine import tiny
from tests.dnd_engine.tiny import CPU, LAYOUT, ids_of

CONDITION = (3, 4, 8)
SMALL = {"hyperconv": {}, "mlp": {"hidden": 16}}
FIVE_LAYERS = LoRALayout.from_config(tiny.CONFIG | {"num_hidden_layers": 5}, LoRASpec(r=2))
SMOLLM2 = LoRALayout.from_config(
    {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    }
)


def config(head: str, layout: LoRALayout = LAYOUT, **options: int) -> GeneratorConfig:
    grid = (layout.num_tokens, layout.spec.r, layout.width)
    return GeneratorConfig(
        features=(CONDITION, (8, 4, 8), grid),
        kernel_size=3,
        layout=layout,
        head=head,
        head_options=SMALL[head] | options,
    )


def decoder_of(config: GeneratorConfig) -> torch.nn.Module:
    decoder = Generator(config).decoder
    assert isinstance(decoder, torch.nn.Module)
    return decoder


def full_size(head: str) -> GeneratorConfig:
    grid = (SMOLLM2.num_tokens, SMOLLM2.spec.r, SMOLLM2.width)
    stages = ((16, 48, 384), (32, 24, 256), (64, 12, 192), (128, 4, 192))
    return GeneratorConfig(features=(*stages, grid), kernel_size=3, layout=SMOLLM2, head=head)


def shaken(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """With every parameter moved away from its start."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# At the start


@pytest.mark.parametrize("head", HEADS)
def test_an_untrained_generator_is_exactly_the_base(base: BaseModel, head: str) -> None:
    ids = ids_of(["one", "two"])
    before = base.model(input_ids=ids).logits
    host = LoRAHost(base.model, LAYOUT)
    tokens = Generator(config(head))(torch.randn(2, *CONDITION))
    with host.applying(host.fit(tokens)):
        assert torch.equal(base.model(input_ids=ids).logits, before)


@pytest.mark.parametrize("head", HEADS)
def test_heads_write_nothing_at_the_start(head: str) -> None:
    assert not decoder_of(config(head))(torch.randn(2, *CONDITION)).any()


# Sizes


def test_all_heads_are_of_one_size_on_the_embedded_base() -> None:
    """Counted from the layout; about 6 to 7 million, so that heads are compared and not sizes."""
    cells = SMOLLM2.spec.r * SMOLLM2.width
    sizes = {m.num_tokens for m in SMOLLM2.matrices()}
    assert sizes == {1, 3, 8}

    def trunk(hidden: int) -> int:
        embeddings = (30 + 7 + 2) * hidden
        read = (384 + 1) * hidden + 2 * hidden
        block = 2 * hidden + 2 * (hidden + 1) * hidden
        return read + embeddings + 2 * block + 2 * hidden

    expected = {
        "mlp": trunk(512) + (512 + 1) * sum(sizes) * cells,
    }
    found = {head: count(decoder_of(full_size(head))) for head in HEADS}
    assert found == expected | {"hyperconv": found["hyperconv"]}
    assert found["hyperconv"] == count(HyperConvDecoder(full_size("hyperconv").features, 3))
    assert all(5.9e6 < number < 7e6 for number in found.values()), found


# What they write


@pytest.mark.parametrize("layout", [LAYOUT, FIVE_LAYERS], ids=["two layers", "five"])
def test_the_mlp_writes_each_matrix_into_its_own_tokens(layout: LoRALayout) -> None:
    head = shaken(decoder_of(config("mlp", layout)))
    assert isinstance(head, MLPHead)
    condition = torch.randn(2, *CONDITION)
    tokens, features = head(condition), head.trunk(condition)
    for number, m in enumerate(layout.matrices()):
        expected = head.outputs[str(m.num_tokens)](features[:, number])
        found = tokens[:, m.first_token : m.first_token + m.num_tokens]
        torch.testing.assert_close(found.flatten(1), expected)


@pytest.mark.parametrize("head", HEADS)
def test_other_prompts_give_other_weights(head: str) -> None:
    decoder = shaken(decoder_of(config(head)))
    tokens = decoder(torch.randn(2, *CONDITION))
    assert (tokens[0] - tokens[1]).abs().max().item() > 1e-4


@pytest.mark.parametrize("head", HEADS)
def test_tasks_of_a_batch_do_not_see_each_other(head: str) -> None:
    decoder = shaken(decoder_of(config(head)))
    condition = torch.randn(3, *CONDITION)
    together = decoder(condition)
    for row in range(3):
        alone = decoder(condition[row : row + 1])[0]
        torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_a_condition_of_another_shape_is_refused(head: str) -> None:
    with pytest.raises(
        LayoutMismatchError, match=r"\(prompts, length, width\) \(3, 4, 8\), got \(3, 5, 8\)\."
    ):
        decoder_of(config(head))(torch.zeros(1, 3, 5, 8))


# Pooling


def test_the_mean_is_over_real_tokens_only() -> None:
    condition = torch.zeros(1, 2, 4, 3)
    condition[0, 0, :1] = 6.0
    condition[0, 1, :2] = torch.tensor([[1.0, -2.0, 0.0], [2.0, 2.0, 3.0]])
    assert pool_condition(condition).tolist() == [[3.0, 2.0, 3.0]]


def test_more_padding_changes_nothing() -> None:
    condition = torch.randn(2, 3, 4, 8)
    longer = torch.cat([condition, torch.zeros(2, 3, 5, 8)], dim=2)
    torch.testing.assert_close(pool_condition(longer), pool_condition(condition))


def test_no_token_at_all_gives_zeros() -> None:
    assert not pool_condition(torch.zeros(1, 2, 4, 8)).any()


# Learning


def deltas(tokens: Tensor, count: int | None = None) -> Tensor:
    """(batch, cells) of the ΔW that tokens make in the first layers: what a base feels.

    A change of one side alone is not felt while the other is zero.
    """
    matrices = tuple(LAYOUT.matrices())
    found = []
    for down, up in list(zip(matrices[::2], matrices[1::2], strict=True))[:count]:
        a = tokens[:, down.first_token : down.first_token + down.num_tokens]
        b = tokens[:, up.first_token : up.first_token + up.num_tokens]
        found.append(torch.einsum("btrc,bsrd->btcsd", a, b).flatten(1))
    return torch.cat(found, dim=1)


@pytest.mark.parametrize("head", HEADS)
def test_gradients_reach_every_part_by_the_third_step(head: str) -> None:
    """What starts at zero on both sides of a product would stay there for ever."""
    torch.manual_seed(0)
    generator = Generator(config(head))
    condition = torch.randn(2, *CONDITION)
    target = torch.randn_like(deltas(generator(condition)))
    optimizer = torch.optim.SGD(generator.parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        (deltas(generator(condition)) - target).square().sum().backward()
        optimizer.step()
    still = [
        name
        for name, parameter in generator.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert still == []
    assert all(parameter.isfinite().all() for parameter in generator.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_every_head_can_learn_to_tell_two_tasks_apart(head: str) -> None:
    """Opposite changes for two conditions: the shared tokens alone could do no better than 1."""
    torch.manual_seed(0)
    generator = Generator(config(head))
    condition = torch.randn(2, *CONDITION)
    target = torch.full_like(deltas(generator(condition), 1), 0.2)
    target[1] *= -1
    optimizer = torch.optim.Adam(generator.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (deltas(generator(condition), 1) - target).square().sum()
        loss.backward()
        optimizer.step()
    assert loss.item() / float(target.square().sum()) < 0.3


# On disk


@pytest.mark.parametrize("head", HEADS)
def test_every_head_comes_back_from_its_folder_and_computes_in_bfloat16(
    head: str, tmp_path: Path
) -> None:
    generator = Generator(config(head))
    shaken(generator)
    save_generator(generator, tmp_path / "g", [], "")
    opened = GeneratorFolder.open(tmp_path / "g")
    assert opened.config == generator.config
    condition = torch.randn(2, *CONDITION)
    exact = opened.load(CPU, torch.float32)(condition)
    torch.testing.assert_close(exact, generator(condition), atol=0.02, rtol=0.02)
    quick = opened.load(CPU, torch.bfloat16)(condition.to(torch.bfloat16))
    assert quick.dtype == torch.float32
    torch.testing.assert_close(quick, exact, atol=0.05, rtol=0.05)


# Options


def test_options_left_out_are_filled_in() -> None:
    """So that a later version with other defaults rebuilds the same head."""
    assert full_size("hyperconv").head_options == {}
    assert full_size("mlp").to_json()["head_options"] == {"hidden": 512}


@pytest.mark.parametrize(
    ("head", "options", "message"),
    [
        ("mlp", {"atoms": 4}, r"the head mlp has no option atoms; it knows hidden\."),
        ("hyperconv", {"hidden": 4}, r"the head hyperconv has no option hidden; it knows none\."),
        ("mlp", {"hidden": 0}, r"`hidden` of the head mlp must be .* between 1 and 8,192, got 0"),
        ("mlp", {"hidden": 8193}, r"`hidden` of the head mlp must be .* between 1 and 8,192, got"),
        ("mlp", {"hidden": "64"}, r"must be a whole number between 1 and 8,192, got '64'"),
        ("cnn", {}, r"`head` must be one of hyperconv, mlp, got 'cnn'\."),
        ("mlp", {"hidden": True}, r"must be a whole number between 1 and 8,192, got True"),
    ],
)
def test_wrong_options_are_refused(head: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        complete_options(head, options)


def test_a_config_checks_its_options() -> None:
    with pytest.raises(ConfigError, match=r"the head mlp has no option atoms"):
        config("mlp", atoms=4)
