"""What is loaded, in plain values; imports no torch."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["EngineInfo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What is loaded, for people and for `dnd info`."""

    base_id: str
    base_path: str
    base_sha256: str
    base_parameters: int
    encoder_id: str
    encoder_path: str
    encoder_sha256: str
    generator_id: str
    generator_path: Path
    generator_sha256: str
    generator_parameters: int
    head: str
    """Kind of decoder (see `heads`)."""
    condition: str
    """What reads the prompts: `encoder` or `base`."""
    device: str
    r: int
    num_training_tasks: int
    prompt_batch_size: int
    seconds: dict[str, float]
