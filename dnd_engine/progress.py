"""Operations that are generators: they yield how far they are, and return what they made."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

__all__ = ["AnswerCounts", "Doing", "Progress", "duration", "finish", "in_english"]

Step = TypeVar("Step")
Made = TypeVar("Made")


Doing = Literal[
    # stage `download`, then `load`
    "fetch",
    "download",
    "convert",
    "load_base",
    "load_encoder",
    "load_generator",
    "ready",
    # `encode`, `decode` and `check` of a synthesis
    "read",
    "write",
    "compare_tasks",
    # `decode` and `check` of an ablation: which prompts the others are made from
    "shuffled",
    "wrong",
    "compare_adapters",
    # `ask` and `refine`
    "ask",
    "answered",
    "train",
    # `ask` and `imprint`
    "ask_with_instruction",
    "fit_layer",
]
"""What an operation does at the moment."""


@dataclass(frozen=True, slots=True)
class AnswerCounts:
    """What a teacher answered: whether it is worth learning, a person sees at a glance."""

    commonest: str
    """On one line, its end cut off if it is long."""
    count: int
    """Of the commonest answer."""
    total: int
    distinct: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an operation is, in values. The command line and the page each put them in words."""

    stage: str
    """`download`, `load`, `encode`, `decode`, `check`, `ask`, `refine` or `imprint`."""
    fraction: float | None
    """Of the stage, 0 to 1; None if it cannot be known."""
    elapsed_seconds: float
    """Since the operation began."""
    doing: Doing
    name: str = ""
    """Of what is fetched, or of the bucket that is read; empty for all buckets."""
    done: int | None = None
    """Prompts asked, or layers fitted, of `total`."""
    total: int | None = None
    num_prompts: int | None = None
    """That adapters are compared on."""
    loss: float | None = None
    """Of a training step, nats per answer token."""
    seconds_left: float | None = None
    """Of the training, estimated."""
    answers: AnswerCounts | None = None
    """The teacher's, once all are given."""


_ENGLISH: Mapping[Doing, str] = {
    "fetch": "Fetching {name}",
    "download": "Downloading {name}",
    "convert": "Converting the base model",
    "load_base": "Loading the base model",
    "load_encoder": "Loading the text encoder",
    "load_generator": "Loading the generator",
    "ready": "Ready",
    "read": "Reading {name}",
    "write": "Writing weights",
    "compare_tasks": "Comparing with training tasks",
    "shuffled": "Shuffled prompts",
    "wrong": "Wrong prompts",
    "compare_adapters": "On {num_prompts} prompts",
    "ask": "Asking the teacher",
    "ask_with_instruction": "Asking with the instruction: {done} of {total} prompts",
    "fit_layer": "Layer {done} of {total}",
}


def in_english(progress: Progress) -> str:
    """Say what is being done, in one line for the command line."""
    if progress.answers is not None:
        told = progress.answers
        more = f", {told.distinct} different answers" if told.distinct > 1 else ""
        return f"“{told.commonest}” to {told.count} of {told.total} prompts{more}"
    if progress.loss is not None:
        return f"Loss {progress.loss:.3f}, {progress.seconds_left or 0:.0f} s left"
    return _ENGLISH[progress.doing].format(
        name=progress.name or "all prompts",
        done=progress.done,
        total=progress.total,
        num_prompts=progress.num_prompts,
    )


def duration(seconds: float) -> str:
    """A time as people say it: 42 s, 7 min, 2 h 10 min."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def finish(
    steps: Generator[Step, None, Made], on_step: Callable[[Step], object] | None = None
) -> Made:
    """Run an operation to its end.

    Args:
        steps: The operation, not yet ended.
        on_step: Told of every step.

    Returns:
        What it made.
    """
    while True:
        try:
            step = next(steps)
        except StopIteration as stop:
            made: Made = stop.value
            return made
        if on_step is not None:
            on_step(step)
