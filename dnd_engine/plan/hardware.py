"""Machines and their prices, from a shipped table or the user's own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from dnd_engine.errors import ConfigError
from dnd_engine.files import asset_path
from dnd_engine.recipe_file import read_yaml, validation_words

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Share = Annotated[float, Field(gt=0, le=1)]
_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


# A misspelt key would otherwise leave its default in place unnoticed.
@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """One machine or card."""

    title: str
    tflops: _Positive
    """Peak of dense bfloat16, in 10¹² operations per second."""
    reached_training: _Share
    """Share of the peak reached in training steps."""
    reached_forward: _Share
    """Share of the peak reached in synthesis and imprint."""
    float32_tflops: _Positive | None = None
    """Peak of float32, in which an imprint's regressions are computed; None is a quarter of
    `tflops`, as measured on CPUs without matrix units."""
    layer_milliseconds: _NotNegative = 0.0
    """Minimum time of a layer's forward and backward pass: small layers wait for kernel
    launches."""
    memory_gb: _Positive
    dollars_per_hour: _NotNegative
    packs_weights: bool = False
    """Whether answers come from a packed copy of the linear layers, as on a CPU for all bases
    without sliding windows that are built like Llama."""

    def seconds(
        self, flops: float, layer_passes: float, *, trains: bool, float32_flops: float = 0.0
    ) -> float:
        """Return the time that work takes on this machine.

        Args:
            flops: Operations of the work in bfloat16.
            layer_passes: Number of layer passes, for their minimum time.
            trains: Whether there is a backward pass, which takes twice as long as a forward one.
            float32_flops: Further operations, in float32 and outside the layers.
        """
        speed = self.tflops * 1e12 * (self.reached_training if trains else self.reached_forward)
        least = layer_passes * self.layer_milliseconds / 1000 * (1 if trains else 1 / 3)
        float32_speed = 1e12 * (self.float32_tflops or self.tflops / 4)
        return max(flops / speed, least) + float32_flops / float32_speed


_TABLE = TypeAdapter(dict[str, Hardware])


def read_hardware(path: Path | None = None) -> Mapping[str, Hardware]:
    """Read a table of machines by name, in the format of `assets/plan/hardware.yaml`, the default.

    Raises:
        ConfigError: If the file cannot be read or an entry is wrong, with all faults.
    """
    path = path or asset_path("plan", "hardware.yaml")
    values = read_yaml(path, "hardware table")
    try:
        return _TABLE.validate_python(values)
    except ValidationError as error:
        raise ConfigError(
            f"hardware table `{path}`: {validation_words(error)}. Expected machine names, each "
            "with title, tflops, reached_training, reached_forward, memory_gb and "
            "dollars_per_hour."
        ) from error
