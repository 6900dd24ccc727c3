"""Stock PEFT over the resident base's own tensors: reads back the files that were written."""

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel
from torch import nn

from dnd_engine.models.runtime import Runtime

__all__ = ["StockPEFT"]

_CONFIG = "adapter_config.json"


class StockPEFT:
    """A PEFT model beside the resident base, which it shares its tensors with.

    Wrapping a base's layers takes PEFT longer than reading an adapter into them, and depends on the
    configuration alone. So the last wrapped model is kept, and reads the next adapter of the same
    configuration; its earlier weights are gone by then.

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
        """A PEFT model with the adapter of a folder, and what PEFT says of its keys.

        The model is lent for the `with` block: the next adapter goes into the same one.
        """
        with self._lock:
            config = (folder / _CONFIG).read_bytes()
            if self._model is None or config != self._config:
                self._model, self._config = None, config
                with self._runtime.lock:
                    twin = _sharing_copy(self._runtime.base.model)
                self._model = PeftModel(
                    twin, PeftConfig.from_pretrained(str(folder)), autocast_adapter_dtype=False
                )
            model = self._model
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    # What the files do not set must not pass for what they do.
                    nn.init.constant_(parameter, float("nan"))
            yield model, model.load_adapter(folder, "default", autocast_adapter_dtype=False)


def _sharing_copy(model: nn.Module) -> nn.Module:
    """A second model object over the same tensors, without our hooks, for PEFT to rebuild."""
    tensors = [*model.parameters(), *model.buffers()]
    twin = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    for module in twin.modules():
        module._forward_hooks.clear()
    return twin
