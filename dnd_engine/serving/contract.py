"""Requirements of vLLM, SGLang, Ray Serve and llama-server for an adapter.

All of them read a plain PEFT LoRA; llama-server reads the same as GGUF. Sources: vLLM's
`lora/peft_helper.py`, `lora/lora_model.py`, its filesystem resolver and `config/lora.py`; SGLang's
documentation of LoRA serving, whose default rank is set to vLLM's in its examples.
"""

import codecs
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safetensors.torch import load

from dnd_engine.errors import PublishError
from dnd_engine.lora.provenance import FILES
from dnd_engine.prompts.words import shorten

_DEFAULT_MAX_RANK = 16
"""Default of vLLM's `--max-lora-rank`."""
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Allowed values of vLLM's `--max-lora-rank`."""
_KEY = re.compile(r"base_model\.model\..+\.lora_([AB])\.weight")
_OFF: Mapping[str, Sequence[Any]] = {
    "bias": ("none", None),
    "use_dora": (False, None),
    "modules_to_save": (None, []),
    "rank_pattern": (None, {}),
    "alpha_pattern": (None, {}),
    "trainable_token_indices": (None, [], {}),
}
"""Settings that these engines refuse or ignore, with the values they must have."""


@dataclass(frozen=True, slots=True)
class Contract:
    """Reasons why the engines cannot serve an adapter."""

    faults: tuple[str, ...]
    warnings: tuple[str, ...]
    """Options that the server must be started with."""

    def demand(self, name: str) -> None:
        """Raise a `PublishError` if an engine would refuse the adapter or ignore part of it."""
        if self.faults:
            raise PublishError(f"`{name}` cannot be served: {'; '.join(self.faults)}.")


def check_files(files: Mapping[str, bytes]) -> Contract:
    """Check an adapter's files, which are what an engine reads."""
    shapes = {key: tuple(tensor.shape) for key, tensor in load(files[FILES[1]]).items()}
    return check_contract(json.loads(files[FILES[0]].removeprefix(codecs.BOM_UTF8)), shapes)


def check_contract(config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> Contract:
    """Check an adapter's config and the shapes of its tensors by key, for all engines."""
    faults, warnings = [], []
    if config.get("peft_type") != "LORA":
        faults.append(f"`peft_type` must be LORA, it is {config.get('peft_type')!r}")
    if not config.get("base_model_name_or_path"):
        faults.append("`base_model_name_or_path` is empty, so no engine can match it to a base")
    for name, allowed in _OFF.items():
        if name in config and config[name] not in allowed:
            value = shorten(repr(config[name]), 80)
            faults.append(f"`{name}` is set to {value}, which engines do not apply")
    r = config.get("r")
    # JSON's `true` becomes a bool, and to Python a bool is an int.
    if isinstance(r, bool) or not isinstance(r, int) or r < 1:
        faults.append(f"`r` must be a whole number above 0, it is {r!r}")
    else:
        faults += _tensor_faults(shapes, r)
        if r > _RANKS[-1]:
            faults.append(f"rank {r} is above {_RANKS[-1]}, the most that vLLM serves")
        elif r > _DEFAULT_MAX_RANK:
            wanted = next(rank for rank in _RANKS if rank >= r)
            warnings.append(
                f"rank {r} is above the servers' default of {_DEFAULT_MAX_RANK}: start the server "
                f"with --max-lora-rank {wanted}"
            )
    return Contract(tuple(faults), tuple(warnings))


def _tensor_faults(shapes: Mapping[str, Sequence[int]], r: int) -> list[str]:
    """List tensors that are not LoRA matrices of this rank, or whose counterpart is missing."""
    matrices = [key for key in shapes if _KEY.fullmatch(key)]
    strays = [key for key in shapes if not _KEY.fullmatch(key)]
    faults = []
    if strays:
        faults.append(f"{len(strays)} tensors are no LoRA matrices ({', '.join(strays[:3])})")
    pairs = {re.sub(r"lora_[AB]", "lora_*", key) for key in matrices}
    halves = [
        key for pair in pairs for side in "AB" if (key := pair.replace("*", side)) not in shapes
    ]
    if halves:
        faults.append(f"{len(halves)} matrices are missing ({', '.join(sorted(halves)[:3])})")
    if not pairs:
        faults.append("it holds no LoRA matrices")
    for key in sorted(matrices):
        shape = list(shapes[key])
        if len(shape) != 2 or shape[0 if "lora_A" in key else 1] != r:
            faults.append(f"`{key}` has shape {shape}, expected rank {r}")
            break
    return faults
