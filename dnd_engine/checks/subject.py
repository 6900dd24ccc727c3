"""The input of a check."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dnd_engine.checks.ordinary import BaseAnswers
from dnd_engine.generator.report import Report, VerdictGauge
from dnd_engine.lora.adapter import Adapter
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.lora.provenance import NearestTask
from dnd_engine.models.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Reference:
    """What an adapter of one bucket should do: answer as its teacher does with the instruction."""

    bucket: str
    """Name; empty for prompts of all buckets."""
    teacher: FittedLoRA | None
    """Adapter that answers whole prompts; None is the base."""
    prompts: Sequence[str]
    """Each an instruction, a blank line and an input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An adapter to be checked, on a base, with the prompts to check it on."""

    adapter: Adapter
    runtime: Runtime
    fitted: FittedLoRA
    """The adapter at its strength, alone."""
    prompts: Sequence[str]
    """Prompts that effects are measured on; empty if unknown."""
    labels: Mapping[str, str]
    """Labels of prompts, by their text; of those that have one."""
    nearest: Sequence[NearestTask]
    """Training tasks most similar to its prompts; empty if another generator made it."""
    report: Report | None
    """Evaluation of the generator on unseen tasks, if it has one."""
    verdict_gauge: VerdictGauge | None
    """How verdicts on the generator's imprints turned out; None if another generator made it."""
    references: Callable[[], Iterator[tuple[bool, Sequence[Reference]]]]
    """Teachers of the adapter, or those it would have: what to compare with, in order, each with
    whether the imprint was not fitted to these prompts."""
    base_answers: Callable[[], BaseAnswers]
    """Returns the base's answers to ordinary messages and to questions with known answers."""
