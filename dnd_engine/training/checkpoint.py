"""Training state on disk: parameters and AdamW moments in one safetensors file.

Randomness is derived from (seed, step), so a step number is all that a resumed run needs besides.
"""

import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dnd_engine.errors import TrainingError

__all__ = ["load_checkpoint", "save_checkpoint"]


def save_checkpoint(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, step: int, recipe_hash: str
) -> None:
    """Write the state after `step` steps; the file is replaced in one move."""
    names = {id(p): name for name, p in module.named_parameters()}
    tensors: dict[str, Tensor] = {f"module.{k}": v for k, v in module.state_dict().items()}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            tensors[f"optimizer.{names[id(parameter)]}.{key}"] = torch.as_tensor(value)
    aside = path.with_suffix(".partial")
    save_file(
        {k: v.detach().contiguous() for k, v in tensors.items()},
        aside,
        metadata={"step": str(step), "recipe": recipe_hash},
    )
    os.replace(aside, path)


def load_checkpoint(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, recipe_hash: str
) -> int:
    """Restore module and optimizer in place; returns the steps done.

    Raises:
        TrainingError: If the file is damaged or belongs to another recipe.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # no mapping
    except (SafetensorError, OSError) as error:
        raise TrainingError(f"checkpoint `{path}` cannot be read: {error}") from error
    if metadata.get("recipe") != recipe_hash:
        raise TrainingError(
            f"checkpoint `{path}` belongs to another recipe. Resume with the recipe that made it, "
            "or train into another folder."
        )
    prefix = "module."
    module.load_state_dict(
        {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    )
    for name, parameter in module.named_parameters():
        prefix = f"optimizer.{name}."
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if state:
            # AdamW counts its steps on the CPU and keeps its moments beside the parameter.
            optimizer.state[parameter] = {
                k: v if k == "step" else v.to(parameter.device) for k, v in state.items()
            }
    return int(metadata["step"])
