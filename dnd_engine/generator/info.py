"""Description of the loaded models, in plain values; imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dnd_engine.generator.folder import GeneratorFolder
    from dnd_engine.models.base import BaseModel
    from dnd_engine.models.sources import ResolvedWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """Description of the loaded models, for the page and `dnd info`.

    A base without a generator has None or an empty text in the fields about generators.
    """

    base_id: str
    base_path: str
    base_sha256: str
    base_parameters: int
    encoder_id: str
    encoder_path: str
    encoder_sha256: str
    generator_id: str | None = None
    generator_path: Path | None = None
    generator_sha256: str | None = None
    teacher_sha256: str = ""
    """SHA-256 of the teacher, which answers whole prompts for imprints; empty if there is none."""
    device: str
    seconds: dict[str, float]

    @property
    def has_generator(self) -> bool:
        """Whether a generator is loaded; without one, adapters are made by imprint alone."""
        return self.generator_id is not None

    @classmethod
    def of(
        cls,
        base: "BaseModel",
        encoder: "ResolvedWeights",
        folder: "GeneratorFolder | None",
        seconds: dict[str, float],
    ) -> "EngineInfo":
        """Describe the models that an engine has loaded."""
        return cls(
            base_id=base.weights.hub_id,
            base_path=str(base.weights.path),
            base_sha256=base.weights.sha256,
            base_parameters=sum(p.numel() for p in base.model.parameters()),
            encoder_id=encoder.hub_id,
            encoder_path=str(encoder.path),
            encoder_sha256=encoder.sha256,
            generator_id=None if folder is None else folder.name,
            generator_path=None if folder is None else folder.path,
            generator_sha256=None if folder is None else folder.sha256,
            teacher_sha256="" if folder is None else folder.teacher_sha256,
            device=str(base.device),
            seconds=seconds,
        )
