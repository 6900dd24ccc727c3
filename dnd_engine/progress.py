"""Progress of long operations, which are generators: they yield steps and return a result."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

Step = TypeVar("Step")
Made = TypeVar("Made")
Said = TypeVar("Said")

ProgressStage = Literal["download", "load", "encode", "decode", "check", "ask", "refine", "imprint"]
"""The stage that an operation is in."""

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
    # `decode` and `check` of an ablation: the prompts its controls are made from
    "shuffled",
    "wrong",
    "compare_adapters",
    # the checks after a synthesis, which yield no steps of their own
    "run_checks",
    # `ask` and `refine`
    "ask",
    "answered",
    "train",
    # `ask` and `imprint`
    "measure_ordinary",
    "ask_with_instruction",
    "fit_layer",
]
"""What an operation is currently doing."""


@dataclass(frozen=True, slots=True)
class AnswerCounts:
    """A summary of the teacher's answers, so that the user can judge if they are worth learning."""

    commonest: str
    """The most common answer on one line, truncated if long."""
    count: int
    """How often the most common answer occurs."""
    total: int
    distinct: int


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of an operation, as values. The CLI and the page each turn them into words."""

    stage: ProgressStage
    fraction: float | None
    """Share of the stage that is done, 0 to 1; None if unknown."""
    elapsed_seconds: float
    """Seconds since the operation began."""
    doing: Doing
    name: str = ""
    """The file being downloaded or the bucket being read; empty for all buckets."""
    done: int | None = None
    """Number of prompts answered or layers fitted, out of `total`."""
    total: int | None = None
    num_prompts: int | None = None
    """Number of prompts that adapters are compared on."""
    loss: float | None = None
    """Loss of a training step, in nats per answer token."""
    seconds_left: float | None = None
    """Estimated time left in training."""
    answers: AnswerCounts | None = None
    """Summary of the teacher's answers, before the first step of training."""
    score: float | None = None
    """Latest training score on the validation prompts, 0 to 1."""
    score_before: float | None = None
    """Score on them before the first step."""
    num_held_back: int = 0
    by_itself: bool = False
    """Whether the scores compare with the model's own answers, right or wrong."""


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
    "run_checks": "Comparing its answers with those of the base",
    "ask": "Asking the teacher: {done} of {total} prompts",
    "measure_ordinary": "Once per base model: measuring its ordinary answers",
    "ask_with_instruction": "Asking with the instruction: {done} of {total} prompts",
    "fit_layer": "Layer {done} of {total}",
}


def in_english(progress: Progress) -> str:
    """Describe a step in one line, for the command line."""
    if progress.answers is not None:
        counts = progress.answers
        more = f", {counts.distinct} different answers" if counts.distinct > 1 else ""
        return f"“{counts.commonest}” to {counts.count} of {counts.total} prompts{more}"
    if progress.loss is not None:
        words = f"Loss {progress.loss:.3f}, {progress.seconds_left or 0:.0f} s left"
        if progress.score is not None and progress.score_before is not None:
            words += (
                f"; on {progress.num_held_back} prompts held back {progress.score:.2f}, "
                f"{progress.score_before:.2f} before"
            )
        return words
    return _ENGLISH[progress.doing].format(
        name=progress.name or "all prompts",
        done=progress.done,
        total=progress.total,
        num_prompts=progress.num_prompts,
    )


def duration(seconds: float) -> str:
    """Format a time for people: 42 s, 7 min, 2 h 10 min."""
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def each_as(
    steps: Generator[Step, None, Made], words: Callable[[Step], Said]
) -> Generator[Said, None, Made]:
    """Run an operation step by step, convert each step, and return the operation's result."""
    # By hand: `yield from` could not convert the steps, and a `for` loop would drop the result.
    while True:
        try:
            step = next(steps)
        except StopIteration as stop:
            made: Made = stop.value
            return made
        yield words(step)


def finish(
    steps: Generator[Step, None, Made], on_step: Callable[[Step], object] | None = None
) -> Made:
    """Run an operation to its end, and return its result. `on_step` is called with each step."""
    while True:
        try:
            step = next(steps)
        except StopIteration as stop:
            made: Made = stop.value
            return made
        if on_step is not None:
            on_step(step)
