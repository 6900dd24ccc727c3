"""Writes an adapter for mlx-lm, which runs models on Apple GPUs.

The format is that of mlx-lm's own training (`mlx_lm.tuner`). Knows names and shapes of tensors;
knows no model. Imports no torch until it writes, because the registry names its files.
"""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dnd_engine.lora.adapter import Adapter

CONFIG, WEIGHTS = "adapter_config.json", "adapters.safetensors"


def mlx_files(adapter: "Adapter", num_layers: int) -> dict[str, bytes]:
    """Return the two files by name, with A and B transposed and in float32, as mlx-lm needs."""
    from safetensors.torch import save

    layout, state = adapter.layout, adapter.state
    tensors, modules = {}, set()
    for m in layout.matrices():
        tensors[f"{m.target.path}.lora_{m.side.lower()}"] = state[m.key].float().T.contiguous()
        # Paths within one block; mlx-lm adapts the same layers in every block.
        modules.add(m.target.path.split(".", 3)[3])
    config = {
        "fine_tune_type": "lora",
        # The base's; mlx-lm counts adapted layers from the last.
        "num_layers": num_layers,
        # mlx-lm has no defaults for rank, scale and dropout.
        "lora_parameters": {
            "rank": layout.spec.r,
            "scale": layout.spec.scaling,
            "dropout": 0.0,
            "keys": sorted(modules),
        },
    }
    return {CONFIG: json.dumps(config, indent=2).encode(), WEIGHTS: save(tensors)}
