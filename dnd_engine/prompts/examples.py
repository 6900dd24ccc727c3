"""The example prompt files shipped with the app. The checks also use them as wrong prompts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dnd_engine.files import asset_path
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.files import read_prompt_file


@dataclass(frozen=True, slots=True)
class ExampleBucket:
    """A set of prompt files of one task."""

    id: str
    bucket: str
    files: tuple[str, ...]
    num_prompts: int
    weight: float
    """Weight when all examples are loaded together."""
    question: str
    """A question to try with the adapter."""
    measured: Mapping[str, Any]
    """What its adapter's forecast and checks found; `checks.examples` reads it."""

    def read(self) -> Bucket:
        """Read its files into a bucket."""
        paths = [asset_path("examples", self.id, name) for name in self.files]
        return Bucket(self.bucket, 1.0, tuple(read_prompt_file(path) for path in paths))


TOGETHER = "together.json"
"""File of what was measured of all examples in one adapter, in the form of `measured`."""


def load_examples() -> tuple[ExampleBucket, ...]:
    """Return the shipped examples."""
    listed = json.loads(asset_path("examples", "examples.json").read_text(encoding="utf-8"))
    return tuple(ExampleBucket(**{**entry, "files": tuple(entry["files"])}) for entry in listed)


def measured_together() -> Mapping[str, Any]:
    """Return what was measured of all examples in one adapter, each at its own weight."""
    measured: dict[str, Any] = json.loads(
        asset_path("examples", TOGETHER).read_text(encoding="utf-8")
    )
    return measured
