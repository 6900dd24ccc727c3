"""Drag-and-Drop LLMs: unlabeled prompts in, a LoRA adapter out.

The names below are the public API. They load lazily, so that reading a prompt file does not import
torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dnd_engine.config import EngineConfig, Sampling
    from dnd_engine.engine import Engine
    from dnd_engine.errors import DndError
    from dnd_engine.library import Library
    from dnd_engine.limits import PromptLimits
    from dnd_engine.lora.adapter import Adapter
    from dnd_engine.lora.provenance import Recipe, read_recipe
    from dnd_engine.progress import Progress
    from dnd_engine.prompts.buckets import Bucket
    from dnd_engine.prompts.files import Prompt, PromptFile, read_prompt_file

# Where each name lives. The imports above tell type checkers what `__getattr__` returns.
_HOMES = {
    "Adapter": "lora.adapter",
    "Bucket": "prompts.buckets",
    "DndError": "errors",
    "Engine": "engine",
    "EngineConfig": "config",
    "Library": "library",
    "Progress": "progress",
    "Prompt": "prompts.files",
    "PromptFile": "prompts.files",
    "PromptLimits": "limits",
    "Recipe": "lora.provenance",
    "Sampling": "config",
    "read_prompt_file": "prompts.files",
    "read_recipe": "lora.provenance",
}

__all__ = [
    "Adapter",
    "Bucket",
    "DndError",
    "Engine",
    "EngineConfig",
    "Library",
    "Progress",
    "Prompt",
    "PromptFile",
    "PromptLimits",
    "Recipe",
    "Sampling",
    "read_prompt_file",
    "read_recipe",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module `dnd_engine` has no attribute {name!r}")
    return getattr(import_module(f"dnd_engine.{_HOMES[name]}"), name)
