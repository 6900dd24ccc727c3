"""An adapter for MLX: mlx-lm, which loads it, computes what the engine computes."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from mlx_lm.tuner.utils import load_adapters
from mlx_lm.utils import load_model

from dnd_engine.export.registry import EXPORTS
from dnd_engine.lora.layout import LoRALayout, LoRASpec
from dnd_engine.models.runtime import Runtime
from tests.dnd_engine.tiny import CONFIG, LAYOUT, make_adapter, tiny_base

IDS = [[3, 70, 80, 90, 100]]
LIKE_AN_IMPRINT = LoRALayout.from_config(
    CONFIG, LoRASpec(r=3, lora_alpha=5, target_modules=("down_proj",))
)


def mlx_logits(base: Path, adapter: Path | None = None) -> "np.ndarray[Any, Any]":
    model, _config = load_model(base)
    if adapter is not None:
        model = load_adapters(model, str(adapter))
    model.eval()
    return np.array(model(mx.array(IDS)).astype(mx.float32))


@pytest.mark.parametrize("layout", [LAYOUT, LIKE_AN_IMPRINT], ids=["all modules", "imprint"])
def test_mlx_lm_computes_what_the_adapter_does(
    tiny_folder: Path, tmp_path: Path, layout: LoRALayout
) -> None:
    base = tiny_base(tiny_folder)
    adapter = make_adapter(layout=layout, strength=0.5)
    EXPORTS["mlx"].write(adapter, base, tmp_path / "adapter")
    host = Runtime.of(base).host
    with torch.inference_mode():
        plain = base.model(input_ids=torch.tensor(IDS)).logits.numpy()
        with host.applying(host.fit(adapter.scaled_tokens[None], layout)):
            adapted = base.model(input_ids=torch.tensor(IDS)).logits.numpy()
    assert np.abs(mlx_logits(tiny_folder) - plain).max() < 1e-3
    assert np.abs(mlx_logits(tiny_folder, tmp_path / "adapter") - adapted).max() < 1e-3
    assert np.abs(adapted - plain).max() > 0.1


def test_its_command_names_base_and_folder() -> None:
    told = EXPORTS["mlx"].usage(make_adapter(), "my adapter.zip")
    assert told == "mlx_lm.chat --model example/tiny-llama --adapter-path 'my adapter'"
