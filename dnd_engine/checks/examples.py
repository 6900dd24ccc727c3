"""What the checks found about the shipped examples, which the page shows before one is loaded.

`python -m dnd_engine.bench.examples` measures it. Imports no torch.
"""

from dataclasses import dataclass

from pydantic import TypeAdapter

from dnd_engine.checks.results import Forecast, Skills
from dnd_engine.checks.verdict import AdapterVerdict
from dnd_engine.prompts.examples import ExampleBucket


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleResult:
    """Forecast and checks of the adapter that an example makes by default."""

    forecast: Forecast
    verdict: AdapterVerdict
    skills: Skills

    @property
    def works(self) -> bool:
        """Return whether it works without the instruction and leaves other answers right."""
        verdict = self.verdict
        return verdict.outcome == "works" and not verdict.works_partly and self.skills.enough


RESULT = TypeAdapter(ExampleResult)


def measured_result(example: ExampleBucket) -> ExampleResult:
    """Return what was measured for a shipped example."""
    return RESULT.validate_python(example.measured)
