"""What an adapter keeps of its imprint, for tests that make none."""

from typing import Any

from dnd_engine.config import ImprintConfig
from dnd_engine.lora.provenance import Imprinting


def recorded_imprint(config: ImprintConfig | None = None, **found: Any) -> Imprinting:
    """Return the record of an imprint of 24 prompts."""
    usual: dict[str, Any] = {
        "from_sha256": "",
        "num_prompts": 24,
        "num_answers": 1,
        "commonest_share": 0.5,
        "unfinished": 0,
        "layers": (0.5,),
    }
    return Imprinting.of(config or ImprintConfig(), **usual | found)
