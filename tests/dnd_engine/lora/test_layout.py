"""A base's config alone says where every LoRA matrix sits in the token grid."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from dnd_engine.errors import ConfigError, LayoutError
from dnd_engine.lora.layout import TARGET_MODULES, LoRALayout, LoRASpec


def qwen(hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
    }


SMOLLM2 = qwen(576, 1536, 30, 9, 3)


@pytest.mark.parametrize(
    ("config", "r", "num_tokens", "width", "num_parameters"),
    [
        pytest.param(qwen(896, 4864, 24, 14, 2), 8, 4296, 128, 4_399_104, id="Qwen2.5-0.5B"),
        pytest.param(qwen(1536, 8960, 28, 12, 2), 16, 4508, 256, 18_464_768, id="Qwen2.5-1.5B"),
        pytest.param(qwen(2048, 11008, 36, 16, 2), 16, 7308, 256, 29_933_568, id="Qwen2.5-VL-3B"),
        pytest.param(qwen(3584, 18944, 28, 28, 4), 16, 4928, 512, 40_370_176, id="Qwen2.5-7B"),
        pytest.param(SMOLLM2, 4, 1590, 192, 1_221_120, id="SmolLM2-135M"),
    ],
)
def test_the_authors_grids_follow_from_the_configs(
    config: dict[str, Any], r: int, num_tokens: int, width: int, num_parameters: int
) -> None:
    """Source: the authors' tables of tokens and their published adapters' sizes."""
    layout = LoRALayout.from_config(config, LoRASpec(r=r, lora_alpha=2 * r))
    assert (layout.num_tokens, layout.width) == (num_tokens, width)
    assert layout.num_parameters == num_parameters


def test_matrices_fill_the_grid_without_gap_in_the_authors_order() -> None:
    layout = LoRALayout.from_config(SMOLLM2)
    matrices = list(layout.matrices())
    assert [(m.target.module, m.side) for m in matrices[:14]] == [
        (module, side) for module in TARGET_MODULES for side in "AB"
    ]
    assert TARGET_MODULES[:4] == ("q_proj", "k_proj", "v_proj", "o_proj")
    assert TARGET_MODULES[4:] == ("up_proj", "gate_proj", "down_proj")
    assert [m.target.layer for m in matrices] == sorted(m.target.layer for m in matrices)
    at = 0
    for m in matrices:
        assert m.first_token == at
        assert m.num_tokens * layout.width == m.long
        at += m.num_tokens
    assert at == layout.num_tokens


def test_keys_are_pefts() -> None:
    keys = [m.key for m in LoRALayout.from_config(SMOLLM2).matrices()]
    assert keys[0] == "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    assert keys[-1] == "base_model.model.model.layers.29.mlp.down_proj.lora_B.weight"
    assert len(set(keys)) == len(keys) == 30 * 7 * 2


def test_only_the_target_modules_are_laid_out_whatever_their_order() -> None:
    spec = LoRASpec(target_modules=("v_proj", "q_proj"))
    layout = LoRALayout.from_config(SMOLLM2, spec)
    assert [t.module for t in layout.targets[:2]] == ["q_proj", "v_proj"]
    assert len(layout.targets) == 60


def test_a_named_head_size_wins_over_the_quotient() -> None:
    """Qwen3 and Gemma have heads that are wider or narrower than hidden / heads."""
    config = qwen(1024, 3072, 1, 16, 8) | {"head_dim": 128}
    shapes = {
        t.module: (t.in_features, t.out_features) for t in LoRALayout.from_config(config).targets
    }
    assert shapes["q_proj"] == (1024, 2048)
    assert shapes["k_proj"] == (1024, 1024)
    assert shapes["o_proj"] == (2048, 1024)


def test_without_kv_heads_every_head_has_its_own() -> None:
    config = {k: v for k, v in SMOLLM2.items() if k != "num_key_value_heads"}
    assert LoRALayout.from_config(config).targets[1].out_features == 576


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None}, r"needs a positive integer `hidden_size`, got None\. Supported a"),
        ({"intermediate_size": "1536"}, r"positive integer `intermediate_size`, got '1536'"),
        ({"num_hidden_layers": 0}, r"positive integer `num_hidden_layers`, got 0"),
        ({"num_attention_heads": True}, r"positive integer `num_attention_heads`, got True"),
        ({"num_key_value_heads": -1}, r"positive integer `num_key_value_heads`, got -1"),
        ({"num_hidden_layers": 32_000_000}, r"states 32,000,000 in `num_hidden_layers`, expected"),
        ({"intermediate_size": 10**400}, r"states 10,000,.* in `intermediate_size`, .* 65,536\."),
        ({"hidden_size": 577}, r"`hidden_size` 577 is not divisible by `num_attention_heads` 9"),
        ({"hidden_size": 577, "head_dim": None}, r"and the config names no `head_dim`"),
    ],
)
def test_a_config_that_cannot_be_laid_out_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        LoRALayout.from_config(SMOLLM2 | change)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"r": 0}, r"`r` must be at least 1, got 0\."),
        ({"lora_alpha": 0}, r"`lora_alpha` must be at least 1, got 0\."),
        ({"target_modules": ()}, r"`target_modules` must be some of q_proj, .*, got none\."),
        ({"target_modules": ("q_proj", "lm_head")}, r"`target_modules` .* got q_proj, lm_head\."),
    ],
)
def test_a_spec_that_is_no_lora_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LoRASpec(**fields)


def test_a_layout_may_begin_at_a_higher_layer() -> None:
    layout = LoRALayout.from_config(SMOLLM2)
    upper = layout.from_layer(20)
    assert {target.layer for target in upper.targets} == set(range(20, 30))
    assert upper.grid() == (layout.num_tokens // 3, *layout.grid()[1:])
    assert LoRALayout.from_json(upper.to_json()) == upper
    assert layout.from_layer(0) == layout
    with pytest.raises(
        LayoutError, match=r"no layer from 30 on can be adapted: the base's layers are 0 to 29\."
    ):
        layout.from_layer(30)


@pytest.mark.parametrize("modules", [TARGET_MODULES, ("q_proj", "v_proj")])
def test_a_layout_comes_back_from_its_json(modules: tuple[str, ...]) -> None:
    spec = LoRASpec(r=8, lora_alpha=4, target_modules=modules)
    layout = LoRALayout.from_config(SMOLLM2, spec)
    stored = json.dumps({"format": 1, **layout.to_json()})
    assert LoRALayout.from_json(json.loads(stored)) == layout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(layout=[]), r"`layout` must list at least one adapted layer"),
        (
            lambda v: v["layout"].append(v["layout"][0]),
            r"`layout` must list at least one adapted",
        ),
        (lambda v: v["layout"][0].__setitem__(3, 0), r"`layout` must hold whole .* got 0\."),
        (lambda v: v["lora"].update(r=0), r"`r` must hold whole numbers between 1 and 65,536, got"),
        (lambda v: v["lora"].update(lora_alpha=8.0), r"`lora_alpha` must hold whole .* got 8\.0\."),
        (
            lambda v: v["lora"].update(target_modules=["k_proj"]),
            r"`layout` names 'q_proj', which `target_modules` does not\.",
        ),
    ],
)
def test_a_damaged_layout_is_refused(change: Callable[[dict[str, Any]], Any], message: str) -> None:
    values = json.loads(json.dumps(LoRALayout.from_config(SMOLLM2).to_json()))
    change(values)
    with pytest.raises(ConfigError, match=message):
        LoRALayout.from_json(values)
