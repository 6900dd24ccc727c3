"""What a check has to work with."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dnd_engine.checks.ordinary import BaseAnswers
from dnd_engine.generator.report import Report
from dnd_engine.lora.adapter import Adapter
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.lora.provenance import NearestTask
from dnd_engine.models.runtime import Runtime

__all__ = ["Lessons", "Subject"]

Lessons = Sequence[tuple[FittedLoRA | None, Sequence[str]]]
"""Teachers, each with the prompts that it answers with their instruction; None is the base."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An adapter to be checked, on a base, with the prompts to check it on."""

    adapter: Adapter
    runtime: Runtime
    fitted: FittedLoRA
    """The adapter at its strength, alone."""
    prompts: Sequence[str]
    """What effects are measured on; empty if the prompts are unknown."""
    nearest: Sequence[NearestTask]
    """Training tasks most like its prompts; empty if another generator wrote it."""
    report: Report | None
    """How the generator did on unseen tasks, if it was evaluated."""
    lessons: Callable[[], Iterator[tuple[bool, Lessons]]]
    """What taught the adapter, or would: lessons to try in this order, each with whether an imprint
    was fitted to other prompts."""
    base_answers: Callable[[], BaseAnswers]
    """How the base answers ordinary messages, and questions with known answers."""
