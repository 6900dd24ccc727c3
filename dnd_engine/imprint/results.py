"""Progress of an imprint. Imports no torch, so that pages can show it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class ImprintStep:
    """Progress of an imprint."""

    stage: Literal["ask", "imprint"]
    done: int
    """Number of prompts asked, or of layers fitted."""
    total: int
