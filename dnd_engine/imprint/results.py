"""How far an imprint is. Loads without torch, so that pages can show it."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["ImprintStep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImprintStep:
    """How far an imprint is."""

    stage: Literal["ask", "imprint"]
    done: int
    """Prompts asked, or layers fitted."""
    total: int
