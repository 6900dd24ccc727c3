"""What the checks found about the shipped examples, which the page shows before one is loaded.

`python -m dnd_engine.bench.examples` measures it. Imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from dnd_engine.checks.results import Forecast, Skills
from dnd_engine.checks.verdict import AdapterVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleResult:
    """Forecast and checks of the adapter that an example, or all of them, make by default."""

    verdict: AdapterVerdict
    skills: Skills
    forecast: Forecast | None = None
    """None for several buckets, each of which has its own."""

    @property
    def works(self) -> bool:
        """Return whether it works without the instruction and leaves other answers right."""
        return self.verdict.degree == "works" and self.skills.enough


RESULT = TypeAdapter(ExampleResult)


def measured_result(measured: Mapping[str, Any]) -> ExampleResult:
    """Return what was measured, from the plain values that are kept with the examples."""
    return RESULT.validate_python(measured)
