"""How well an adapter is likely to do, before it is made.

The teacher answers a few prompts with their instruction. How probable it finds its own answers says
how often they are right: a model that knows what is asked has one answer, one that does not has
many. It takes no labels and no adapter. Knows token ids and adapters; gives no verdict.
"""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from dnd_engine.checks.agreement import instructed_answers
from dnd_engine.checks.results import Forecast
from dnd_engine.checks.verdict import are_alike
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.runtime import Runtime

_MAX_PROMPTS = 8
"""A second or two on two CPU cores."""


def forecast(
    runtime: Runtime, teacher: FittedLoRA | None, prompts: Sequence[str]
) -> Forecast | None:
    """Measure how sure a teacher is of its answers to some prompts; None is the base.

    Each prompt is an instruction, a blank line and an input. The first eight that are short enough
    are asked, so their order should not be that of a file.

    Returns:
        The forecast; None if no prompt is short enough and has a blank line.
    """
    answers = instructed_answers(runtime, teacher, prompts, most=_MAX_PROMPTS)
    if not answers:
        return None
    ((_, commonest),) = Counter(answer.ids for answer in answers.values()).most_common(1)
    return Forecast(
        sureness=fmean(answer.sureness for answer in answers.values()),
        num_prompts=len(answers),
        alike=are_alike(commonest / len(answers), len(answers)),
    )
