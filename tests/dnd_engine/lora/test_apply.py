"""Adapters act on a base without changing it, a different one for each group of rows."""

import pytest
import torch
from torch import Tensor

from dnd_engine.errors import LayoutMismatchError
from dnd_engine.lora.apply import FittedLoRA, LoRAHost
from dnd_engine.lora.layout import LoRALayout, LoRASpec, Target
from dnd_engine.lora.weight_tokens import detokenize
from dnd_engine.models.base import BaseModel
from tests.dnd_engine.tiny import CONFIG, LAYOUT, delta, ids_of, random_tokens, tiny_llama

IDS = ids_of(["one", "two", "thr", "fou"])


def logits(model: torch.nn.Module, ids: Tensor = IDS) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(input_ids=ids, use_cache=False).logits
    return found


def assert_same(ours: Tensor, expected: Tensor) -> None:
    """To 1e-5 of the largest logit, in float32."""
    torch.testing.assert_close(ours, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


def merged(tokens: Tensor, layout: LoRALayout, ids: Tensor) -> Tensor:
    """Logits of the tiny base with scaling · B·A added to its weights."""
    model = tiny_llama()
    for path, change in delta(detokenize(tokens, layout), layout, torch.float32).items():
        model.get_parameter(f"{path}.weight").add_(change)
    return logits(model, ids)


def test_zero_tokens_leave_the_logits_exactly_unchanged(base: BaseModel) -> None:
    before = logits(base.model)
    host = LoRAHost(base.model, LAYOUT)
    with host.applying(host.fit(torch.zeros(2, 64, 4, 32))):
        assert torch.equal(logits(base.model), before)


def test_applying_is_adding_b_a_for_each_group_of_rows(base: BaseModel) -> None:
    host = LoRAHost(base.model, LAYOUT)
    tokens = torch.stack([random_tokens(seed=1), random_tokens(seed=2)])
    with host.applying(host.fit(tokens)):
        adapted = logits(base.model)
    for group, rows in enumerate((slice(0, 2), slice(2, 4))):
        expected = merged(tokens[group], LAYOUT, IDS[rows])
        assert_same(adapted[rows], expected)
        assert (expected - logits(base.model)[rows]).abs().max() > 0.1


def test_a_group_is_blind_to_the_adapter_of_another(base: BaseModel) -> None:
    host = LoRAHost(base.model, LAYOUT)
    before = logits(base.model)
    tokens = torch.stack([torch.zeros(64, 4, 32), random_tokens()])
    with host.applying(host.fit(tokens)):
        adapted = logits(base.model)
    assert torch.equal(adapted[:2], before[:2])
    assert not torch.isclose(adapted[2:], before[2:]).all()


def test_an_adapter_of_another_rank_and_fewer_modules_can_be_applied(base: BaseModel) -> None:
    spec = LoRASpec(r=2, lora_alpha=3, target_modules=("q_proj", "down_proj"))
    layout = LoRALayout.from_config(CONFIG, spec)
    host = LoRAHost(base.model, LAYOUT)
    tokens = random_tokens(layout)
    with host.applying(host.fit(tokens[None], layout)):
        adapted = logits(base.model)
    assert_same(adapted, merged(tokens, layout, IDS))


def test_the_base_is_untouched_afterwards_even_after_an_error(base: BaseModel) -> None:
    weights = {k: v.clone() for k, v in base.model.state_dict().items()}
    before = logits(base.model)
    host = LoRAHost(base.model, LAYOUT)

    def stopped_midway() -> None:
        with host.applying(host.fit(random_tokens()[None])):
            assert not torch.equal(logits(base.model), before)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped_midway()
    assert torch.equal(logits(base.model), before)
    assert all(torch.equal(weights[k], v) for k, v in base.model.state_dict().items())


def test_gradients_reach_the_tokens_and_not_the_base(base: BaseModel) -> None:
    host = LoRAHost(base.model, LAYOUT)
    tokens = random_tokens()[None].requires_grad_()
    with host.applying(host.fit(tokens)):
        base.model(input_ids=IDS).logits.square().mean().backward()
    assert tokens.grad is not None
    assert tokens.grad.flatten(1).any()
    assert all(parameter.grad is None for parameter in base.model.parameters())


@pytest.mark.parametrize("rows", [1, 2], ids=["one row a group", "two rows a group"])
def test_gradients_are_those_of_separate_low_rank_terms(base: BaseModel, rows: int) -> None:
    """The sum is written into the layer's output; nothing the gradient needs is lost by it."""
    host = LoRAHost(base.model, LAYOUT)
    tokens = torch.stack([random_tokens(seed=1), random_tokens(seed=2)]).requires_grad_()
    ids = IDS[: 2 * rows]
    with host.applying(host.fit(tokens)):
        base.model(input_ids=ids).logits.square().mean().backward()
    found, tokens.grad = tokens.grad, None
    fitted = host.fit(tokens)
    plain = tiny_llama()
    for path, (down, up) in fitted.factors.items():
        plain.get_submodule(path).register_forward_hook(
            lambda _, args, output, down=down, up=up: (
                output
                + args[0] @ down.repeat_interleave(rows, dim=0) @ up.repeat_interleave(rows, dim=0)
            )
        )
    plain(input_ids=ids).logits.square().mean().backward()
    assert found is not None
    assert tokens.grad is not None
    assert tokens.grad.abs().max() > 0.01
    torch.testing.assert_close(found, tokens.grad, atol=1e-6, rtol=1e-4)


# Bare groups


def test_bare_rows_in_front_need_not_be_computed(base: BaseModel) -> None:
    host = LoRAHost(base.model, LAYOUT)
    before = logits(base.model)
    fitted = host.fit(torch.stack([torch.zeros(64, 4, 32), random_tokens()]))
    lean = fitted.without_bare()
    assert lean.num_bare == 1
    assert {len(factor) for pair in lean.factors.values() for factor in pair} == {1}
    with host.applying(fitted):
        full = logits(base.model)
    with host.applying(lean):
        adapted = logits(base.model)
    assert torch.equal(adapted[:2], before[:2])
    assert_same(adapted[2:], full[2:])
    assert not torch.isclose(adapted[2:], before[2:]).all()


def test_only_leading_groups_are_left_out(base: BaseModel) -> None:
    host = LoRAHost(base.model, LAYOUT)
    nothing = torch.zeros(64, 4, 32)
    fitted = host.fit(torch.stack([nothing, random_tokens(), nothing, random_tokens(seed=1)]))
    lean = fitted.without_bare()
    assert lean.num_bare == 1
    with host.applying(fitted):
        full = logits(base.model)
    with host.applying(lean):
        assert_same(logits(base.model), full)


def test_adapters_of_unlike_ranks_and_layers_stand_in_one_batch(base: BaseModel) -> None:
    """Each group's logits are those it has alone, in an order that leaves nothing at the front."""
    host = LoRAHost(base.model, LAYOUT)
    spec = LoRASpec(r=2, lora_alpha=6, target_modules=("q_proj",))
    small = LoRALayout.from_config(CONFIG, spec)
    torch.manual_seed(3)
    tokens = torch.randn(1, small.num_tokens, 2, small.width)
    fitted = [host.fit(random_tokens()[None]), None, host.fit(tokens, small)]
    before = logits(base.model)
    alone = []
    for one in fitted:
        with host.applying(one):
            alone.append(logits(base.model))
    rows = len(before)
    with host.applying(FittedLoRA.stack(fitted)):
        together = logits(base.model, IDS.repeat(3, 1))
    for group, expected in enumerate(alone):
        assert_same(together[group * rows : (group + 1) * rows], expected)
    assert not torch.isclose(alone[0], alone[2]).all()
    assert_same(together[rows : 2 * rows], before)


def test_adapters_that_add_nothing_are_not_computed_at_all(base: BaseModel) -> None:
    host = LoRAHost(base.model, LAYOUT)
    before = logits(base.model)
    lean = host.fit(torch.zeros(2, 64, 4, 32)).without_bare()
    assert (dict(lean.factors), lean.num_bare) == ({}, 2)
    assert lean.without_bare() == lean
    with host.applying(lean):
        assert torch.equal(logits(base.model), before)


def test_a_layout_of_more_layers_is_refused(base: BaseModel) -> None:
    with pytest.raises(
        LayoutMismatchError, match=r"the base has no linear layer `model\.layers\.2\.self_attn\.q_"
    ):
        LoRAHost(base.model, LoRALayout.from_config(CONFIG | {"num_hidden_layers": 3}))


def test_a_layout_of_other_sizes_is_refused(base: BaseModel) -> None:
    layout = LoRALayout(spec=LoRASpec(), targets=(Target(0, "k_proj", 64, 64),))
    with pytest.raises(
        LayoutMismatchError, match=r"k_proj` is 64 to 32, the layout says 64 to 64\."
    ):
        LoRAHost(base.model, layout)
