"""Labelled rows -> a side that is scored and a side that may be shown and learnt, without a leak.

A row is on the train side, or nowhere, if the adapter has seen its prompt, or if its prompt or bare
input is scored. Knows tokenizers; knows no models.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from transformers import PreTrainedTokenizerBase

from dnd_engine.config import MeasureConfig
from dnd_engine.errors import MeasureError
from dnd_engine.lora.seen import Seen, digest
from dnd_engine.prompts.files import Prompt, PromptFile
from dnd_engine.scoring.questions import ask, free_metric
from dnd_engine.tasks.audit import unscored
from dnd_engine.tasks.folder import Example, Mode

__all__ = ["Metric", "Sides", "labelled_rows", "split"]

Metric = Literal["choice", "exact", "rouge"]

_MAX_OPTIONS = 12
"""Distinct labels that count as few; each is weighed for every item."""
_ROWS_PER_OPTION = 3
"""Minimum rows per option: labels that rarely repeat are answers, not options."""
_MARGIN = 8
"""Tokens that an answer may be longer than the longest label."""

_METRICS = {
    "choice": "the share of answers that begin with the right label, case aside",
    "exact": "the share of answers that are the label, up to white space, the value of numbers, a "
    "final punctuation mark, and the order of lists",
    "rouge": "ROUGE-L of the answer against the label, the mean of F measures",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """What is scored and what is not."""

    file: str
    """Display name."""
    file_sha256: str
    metric: Metric
    options: tuple[str, ...]
    """The distinct labels, if they are few."""
    modes: tuple[Mode, ...]
    """Those that can be asked."""
    test: tuple[Example, ...]
    lines: tuple[int, ...]
    """Line of each item of `test` in its file."""
    train: tuple[Example, ...]
    max_new_tokens: int
    num_rows: int
    """Prompts of the file."""
    num_unlabelled: int
    num_too_long: int
    num_repeated: int
    """Rows that repeat another up to white space, or hold a scored input."""
    num_seen: int
    """Rows that the adapter has seen, among those that are left."""
    num_seen_scored: int
    """Those of them that are scored anyway."""
    seen_known: bool
    """Whether the adapter says what it was made from."""

    def asked(self, mode: Mode) -> list[tuple[int, Example]]:
        """Items with their lines; in bare mode those that have an instruction to leave out."""
        found = zip(self.lines, self.test, strict=True)
        return [(n, e) for n, e in found if mode == "full" or e.bare is not None]

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences to show: how the rows were taken, and what a reader must know."""
        told = [
            f"{len(self.test)} of {self.num_rows} rows of {self.file} are scored, "
            f"{len(self.train)} are left to show and to train on.",
            f"The score is {_METRICS[self.metric]}.",
        ]
        if self.options:
            told.append(
                f"`Right label likeliest` is how often the right one of {len(self.options)} labels "
                "is the likeliest, per token, before anything is written. The score counts what is "
                "written, so the two can differ."
            )
        left_out = (
            (self.num_unlabelled, "without a label"),
            (self.num_too_long, "too long"),
            (self.num_repeated, "repeated"),
        )
        if parts := [f"{count} {why}" for count, why in left_out if count]:
            told.append(f"Left out: {', '.join(parts)}.")
        if self.num_seen_scored:
            told.append(
                f"The adapter was made from {self.num_seen_scored} of the scored prompts. It has "
                "not read their labels, but other prompts of the task may do worse."
            )
        elif self.num_seen:
            told.append(f"{self.num_seen} rows are not scored, as the adapter has seen them.")
        if not self.seen_known:
            told.append(
                "The adapter does not say which prompts it was made from: scored rows may be among "
                "them."
            )
        return tuple(told)


def labelled_rows(file: PromptFile) -> list[Prompt]:
    """The prompts that have a label.

    Raises:
        MeasureError: If none has.
    """
    found = [prompt for prompt in file.prompts if prompt.label]
    if not found:
        raise MeasureError(
            f"{file.name}: expected a label beside each prompt, got none for {len(file.prompts)} "
            "prompts. Name a column of text `label`, `answer` or `response`."
        )
    return found


def split(
    file: PromptFile, tokenizer: PreTrainedTokenizerBase, seen: Seen, config: MeasureConfig
) -> Sides:
    """Deal labelled rows to the two sides, by seed.

    Args:
        file: With labels.
        tokenizer: The base's.
        seen: What the adapter has seen.
        config: How many are scored, and by what.

    Raises:
        MeasureError: If no row is labelled, none is left to score, or none can be asked in any mode
            of `config`.
    """
    labelled = labelled_rows(file)
    distinct: dict[str, tuple[int, Example]] = {}
    for row in labelled:
        example = Example(row.text, row.label or "")
        distinct.setdefault(" ".join(row.text.split()), (row.line, example))
    examples = [example for _, example in distinct.values()]
    sizes = dict(zip(distinct, _sizes(tokenizer, examples), strict=True))
    short = {t: row for t, row in distinct.items() if sum(sizes[t]) <= config.max_tokens}
    hidden = seen.learnt if config.allow_seen else seen.learnt | seen.read
    fresh = sorted(text for text in short if digest(text) not in hidden)
    random.Random(f"{config.seed}:measure").shuffle(fresh)
    drawn = fresh[: min(config.limit_items, len(short) // 2)]
    if not drawn:
        raise MeasureError(_nothing_left(file, len(labelled), len(short), len(fresh), config))
    options = _options([example.response for _, example in short.values()])
    test = [short[text] for text in drawn]
    others = [short[text][1] for text in sorted(short.keys() - set(drawn))]
    usable = set(unscored((e.prompt for e in others), [e for _, e in test]))
    train = tuple(e for e in others if e.prompt in usable)
    can_leave_out = any(example.bare is not None for _, example in test)
    modes = tuple(m for m in config.modes if m == "full" or can_leave_out)
    if not modes:
        raise MeasureError(
            f"{file.name}: no scored prompt is an instruction, a blank line and an input, so none "
            "can be asked without its instruction. Ask in mode `full`."
        )
    longest = max(sizes[text][1] for text in short)
    known = seen.read | seen.learnt
    return Sides(
        file=file.name,
        file_sha256=file.sha256,
        metric=_metric(file, [e.response for _, e in short.values()], options, config),
        options=options,
        modes=modes,
        test=tuple(replace(example, options=options) for _, example in test),
        lines=tuple(line for line, _ in test),
        train=train,
        max_new_tokens=min(longest + _MARGIN, config.max_new_tokens),
        num_rows=len(file.prompts),
        num_unlabelled=len(file.prompts) - len(labelled),
        num_too_long=len(distinct) - len(short),
        num_repeated=len(labelled) - len(distinct) + len(others) - len(train),
        num_seen=sum(digest(text) in known for text in short),
        num_seen_scored=sum(digest(text) in known for text in drawn),
        seen_known=seen.known,
    )


def _sizes(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example]
) -> list[tuple[int, int]]:
    """Tokens of each whole prompt and of its label.

    All at once, as there may be thousands; where texts meet the chat template, a token may be
    counted too many.
    """
    frame = ask(tokenizer, Example("", ""), "full", max_new_tokens=0)
    texts = [[e.prompt for e in examples], [e.response for e in examples]]
    prompts, labels = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in texts)
    return [
        (len(frame.prompt) + len(prompt), len(frame.reference) + len(label))
        for prompt, label in zip(prompts, labels, strict=True)
    ]


def _options(labels: Sequence[str]) -> tuple[str, ...]:
    distinct = sorted(set(labels))
    few = 2 <= len(distinct) <= min(_MAX_OPTIONS, len(labels) / _ROWS_PER_OPTION)
    return tuple(distinct) if few else ()


def _metric(
    file: PromptFile, labels: Sequence[str], options: tuple[str, ...], config: MeasureConfig
) -> Metric:
    if config.metric == "choice" and not options:
        raise MeasureError(
            f"{file.name}: the metric `choice` needs 2 to {_MAX_OPTIONS} distinct labels that "
            f"repeat, got {len(Counter(labels))} among {len(labels)} rows. Take `exact` or `rouge`."
        )
    if config.metric != "auto":
        return config.metric
    if options:
        return "choice"
    return free_metric(labels)


def _nothing_left(
    file: PromptFile, labelled: int, short: int, fresh: int, config: MeasureConfig
) -> str:
    if short < 2:
        return (
            f"{file.name}: expected two or more labelled rows of at most {config.max_tokens} "
            f"tokens, got {short} of {labelled}. Add rows, or shorten them."
        )
    assert fresh == 0
    way_out = "Give rows that it has not seen, or make an adapter from part of them"
    if not config.allow_seen:
        way_out += ", or allow seen prompts, whose labels it has not read"
    return (
        f"{file.name}: the adapter was made from all {short} labelled prompts, so none is left to "
        f"score. {way_out}."
    )
