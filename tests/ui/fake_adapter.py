"""An adapter without weights: what the page shows of one, and files that can be opened."""

# ruff: noqa: D101, D102 - the real adapter describes them

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dnd_engine.lora.provenance import NearestTask, Recipe
from dnd_engine.notes import Note

if TYPE_CHECKING:
    from torch import Tensor

    from dnd_engine.lora.adapter import Adapter
    from dnd_engine.lora.layout import LoRALayout
else:
    # The types are held to the real ones, but loading torch takes longer than these tests.
    Adapter = object

BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"


def digest(text: str) -> str:
    """Return what stands for the hash of weights."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, eq=False, kw_only=True)
class FakeAdapter(Adapter):
    name: str
    sha256: str
    num_prompts: int
    tokens: "Tensor" = field(init=False, repr=False)
    layout: "LoRALayout" = field(init=False, repr=False)
    base_id: str = BASE
    r: int = 4
    num_parameters: int = 1_221_120
    num_bytes: int = 2_442_240
    seconds: Mapping[str, float] = field(
        default_factory=lambda: {"encode": 0.31, "decode": 0.12, "total": 0.43}
    )
    strength: float = 1.0
    provenance: Mapping[str, Any] = field(default_factory=dict)
    nearest_tasks: tuple[NearestTask, ...] = ()
    kept_energy: float | None = None
    checks: Mapping[str, Any] = field(default_factory=dict)
    not_imprinted: str = ""
    skipped_buckets: tuple[Note, ...] = ()

    @property
    def is_imprinted(self) -> bool:
        return "imprint" in self.provenance

    @property
    def is_generated(self) -> bool:
        return "generator_sha256" in self.provenance

    @property
    def making_seconds(self) -> float | None:
        if "total" not in self.seconds:
            return None
        later = ("imprint", "refine", "train") if self.is_generated else ("refine", "train")
        return self.seconds["total"] + sum(self.seconds.get(step, 0.0) for step in later)

    @property
    def was_trained(self) -> bool:
        return "refined" in self.provenance or "trained" in self.provenance

    def with_strength(self, strength: float) -> "FakeAdapter":
        root = self.provenance["root"]
        sha256 = root if strength == 1 else digest(f"{root} {strength}")
        return replace(self, strength=strength, sha256=sha256)

    @property
    def recipe(self) -> Recipe:
        return Recipe.from_json(
            {**self.provenance, "strength": self.strength, "sha256": self.sha256}
        )

    def files(self, place: str = "here") -> dict[str, bytes]:
        origin = {**self.provenance, "strength": self.strength, "sha256": self.sha256}
        config = {"peft_type": "LORA", "r": self.r, "base_model_name_or_path": BASE}
        return {
            "adapter_config.json": json.dumps(config).encode(),
            "adapter_model.safetensors": self.sha256.encode(),
            "README.md": f"# adapter\n{dict(self.checks)}".encode(),
            "provenance.json": json.dumps(origin).encode(),
        }
