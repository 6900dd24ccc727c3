"""Reads exported files back with stock PEFT, over the resident base's own tensors."""

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel
from torch import nn

from dnd_engine.models.runtime import Runtime

_CONFIG = "adapter_config.json"


class StockPEFT:
    """A PEFT model that shares the resident base's tensors.

    Wrapping a base takes PEFT longer than loading an adapter, and depends on the config alone. So
    the last wrapped model is cached and reused for the next adapter of the same config, which
    overwrites the weights.

    Args:
        runtime: The resident model.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = threading.Lock()
        self._model: PeftModel | None = None
        self._config = b""

    @contextmanager
    def reading(self, folder: Path) -> Iterator[tuple[PeftModel, Any]]:
        """Yield a PEFT model with the adapter of a folder, and PEFT's load result for its keys.

        Use the model only inside the `with` block: the next adapter is loaded into the same one.
        """
        # Held while the caller uses the model, because the next adapter overwrites it.
        with self._lock:
            config = (folder / _CONFIG).read_bytes()
            if self._model is None or config != self._config:
                # Freed first, and not left half made if wrapping fails.
                self._model, self._config = None, config
                with self._runtime.lock:
                    twin = _sharing_copy(self._runtime.base.model)
                self._model = PeftModel(
                    twin, PeftConfig.from_pretrained(str(folder)), autocast_adapter_dtype=False
                )
            model = self._model
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    # Fill with NaN, so that a key missing from the files cannot keep an earlier
                    # value.
                    nn.init.constant_(parameter, float("nan"))
            yield model, model.load_adapter(folder, "default", autocast_adapter_dtype=False)


def _sharing_copy(model: nn.Module) -> nn.Module:
    """Return a second model object over the same tensors, without our hooks, for PEFT to wrap."""
    tensors = [*model.parameters(), *model.buffers()]
    # Tensors in the memo are taken over instead of copied.
    twin = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    for module in twin.modules():
        # The copied hooks would add our active adapter to PEFT's.
        module._forward_hooks.clear()
    return twin
