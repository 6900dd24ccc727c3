"""Every adapter that is written obeys the rules of the engines that people serve with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load

from dnd_engine.config import EngineConfig
from dnd_engine.engine import Engine
from dnd_engine.errors import PublishError
from dnd_engine.lora.adapter import Adapter
from dnd_engine.lora.layout import TARGET_MODULES, LoRALayout, LoRASpec
from dnd_engine.serving.contract import check_contract
from tests.dnd_engine.test_engine import write_generator
from tests.dnd_engine.tiny import CONFIG, bucket, make_adapter

PROMPTS = [f"Answer with one word.\n\nparcel {i}" for i in range(8)]


def parts(adapter: Adapter) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    files = adapter.files()
    tensors = load(files["adapter_model.safetensors"])
    config = json.loads(files["adapter_config.json"])
    return config, {key: tuple(tensor.shape) for key, tensor in tensors.items()}


@given(
    r=st.integers(1, 16),
    modules=st.sets(st.sampled_from(TARGET_MODULES), min_size=1),
    strength=st.floats(-10, 10),
)
def test_any_adapter_of_ours_is_served_as_it_is(r: int, modules: set[str], strength: float) -> None:
    targets = tuple(name for name in TARGET_MODULES if name in modules)
    layout = LoRALayout.from_config(CONFIG, LoRASpec(r=r, lora_alpha=8, target_modules=targets))
    adapter = make_adapter(layout=layout, strength=strength)
    checked = check_contract(*parts(adapter))
    assert checked.faults == checked.warnings == ()


@pytest.mark.slow
def test_what_the_engine_makes_is_served_as_it_is(tiny_folder: Path, tmp_path: Path) -> None:
    """Generated, mixed as a sum, and imprinted: each comes with another layout or rank."""
    folder = write_generator(tiny_folder, tmp_path / "generator")
    engine = Engine.load(EngineConfig(base=str(tiny_folder), generator=folder, device="cpu"))
    two = [bucket("a", PROMPTS), bucket("b", [text[::-1] for text in PROMPTS])]
    for adapter in (
        engine.generate(two[:1], imprinted=False),
        engine.generate(two, mix="sum", imprinted=False),
        engine.generate(two[:1]),
    ):
        checked = check_contract(*parts(adapter))
        assert checked.faults == checked.warnings == ()


def test_a_high_rank_says_what_to_start_the_server_with() -> None:
    layout = LoRALayout.from_config(CONFIG, LoRASpec(r=20, lora_alpha=8))
    checked = check_contract(*parts(make_adapter(layout=layout)))
    assert checked.faults == ()
    assert "--max-lora-rank 32" in checked.warnings[0]


KEY = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"

WRONG: list[tuple[Mapping[str, Any], Mapping[str, Any], str]] = [
    ({"peft_type": "IA3"}, {}, "`peft_type` must be LORA"),
    ({"base_model_name_or_path": ""}, {}, "is empty"),
    ({"use_dora": True}, {}, "`use_dora` is set"),
    ({"bias": "all"}, {}, "`bias` is set"),
    ({"modules_to_save": ["lm_head"]}, {}, "`modules_to_save` is set"),
    ({"rank_pattern": {"q_proj": 2}}, {}, "`rank_pattern` is set"),
    ({"r": 0}, {}, "`r` must be a whole number"),
    ({"r": True}, {}, "`r` must be a whole number"),
    ({"r": 600}, {}, "the most that vLLM serves"),
    ({}, {"base_model.model.lm_head.weight": (4, 4)}, "1 tensors are no LoRA matrices"),
    ({}, {KEY: None}, "1 matrices are missing"),
    ({}, {KEY: (8, 64)}, "expected rank 4"),
    ({}, {KEY: ()}, "expected rank 4"),
]


@pytest.mark.parametrize(("setting", "tensor", "message"), WRONG)
def test_what_an_engine_would_refuse_or_ignore_is_a_fault(
    setting: Mapping[str, Any], tensor: Mapping[str, Any], message: str
) -> None:
    config, shapes = parts(make_adapter())
    assert KEY in shapes
    merged = {key: shape for key, shape in (shapes | dict(tensor)).items() if shape is not None}
    checked = check_contract(config | dict(setting), merged)
    assert message in "; ".join(checked.faults)
    with pytest.raises(PublishError, match="`mine` cannot be served"):
        checked.demand("mine")


def test_a_long_setting_is_shortened() -> None:
    config, shapes = parts(make_adapter())
    ranks = {f"model.layers.{i}.self_attn.q_proj": 2 for i in range(80)}
    checked = check_contract(config | {"rank_pattern": ranks}, shapes)
    (fault,) = checked.faults
    assert "`rank_pattern` is set to {'model.layers.0.self_attn" in fault
    assert "…" in fault
    assert len(fault) < 150
