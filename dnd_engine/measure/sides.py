"""Splits labelled rows into a test side and a train side, without leaks between them.

Rows whose prompt or input the adapter has seen, or that repeat a scored one, go to the train side
or are dropped. Knows tokenizers; knows no models.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from dnd_engine.config import MeasureConfig
from dnd_engine.errors import MeasureError
from dnd_engine.lora.seen import Seen, digests, with_inputs
from dnd_engine.notes import Note, joined, noted
from dnd_engine.prompts.files import FORMATS, Prompt, PromptFile, labelled_suffixes
from dnd_engine.prompts.words import quoted, use_formats
from dnd_engine.scoring.questions import ask, free_metric
from dnd_engine.tasks.conditions import bare_identifies, unscored
from dnd_engine.tasks.folder import Example, Mode
from dnd_engine.tasks.rouge_text import rouge_reads

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Metric = Literal["choice", "exact", "rouge"]

_MAX_OPTIONS = 12
"""Maximum number of distinct labels that count as options. Each option is scored for every item."""
_ROWS_PER_OPTION = 3
"""Minimum rows per option: labels that rarely repeat are answers, not options."""
_MARGIN = 8
"""Tokens by which an answer may exceed the longest label."""

_METRICS = {
    "choice": noted(
        "The score is the share of answers that begin with the right label. Case counts only if "
        "two labels differ in nothing else."
    ),
    "exact": noted(
        "The score is the share of answers that are the label, up to white space, the value of "
        "numbers, a final punctuation mark, and the order of lists."
    ),
    "rouge": noted("The score is ROUGE-L of the answer against the label, the mean of F measures."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Rows to score, and rows to train on."""

    file: str
    """Display name."""
    file_sha256: str
    metric: Metric
    options: tuple[str, ...]
    """The distinct labels, if they are few enough to be options."""
    modes: tuple[Mode, ...]
    """Input modes that can be measured."""
    test: tuple[Example, ...]
    lines: tuple[int, ...]
    """Line of each item of `test` in its file."""
    train: tuple[Example, ...]
    max_new_tokens: int
    num_rows: int
    """Number of prompts in the file."""
    num_unlabelled: int
    num_too_long: int
    num_repeated: int
    """Rows that repeat another up to white space, or contain a scored input."""
    num_seen: int
    """Rows among the rest whose prompt or input the adapter has seen."""
    num_seen_scored: int
    """Seen rows that are scored anyway."""
    num_cut: int = 0
    """Scored rows whose label is longer than an answer may be."""
    seen_known: bool
    """Whether the adapter lists the prompts it was made from."""

    def asked(self, mode: Mode) -> list[tuple[int, Example]]:
        """Return items with their lines; in bare mode only those with a removable instruction."""
        found = zip(self.lines, self.test, strict=True)
        return [(n, e) for n, e in found if mode == "full" or e.bare is not None]

    @property
    def has_instructions(self) -> bool:
        """Return whether any scored row has an instruction above its input."""
        return any(example.bare is not None for example in self.test)

    def sent(self, mode: Mode) -> str:
        """Return the key of what a mode sends, for `wording`: `bare`, `full` or `plain`."""
        return mode if self.has_instructions else "plain"

    @property
    def notes(self) -> tuple[Note, ...]:
        """Return sentences to show: how rows were chosen, and caveats."""
        notes = [
            noted(
                "{scored} of {total} rows of {file} are scored, {rest} are left to show and to "
                "train on.",
                scored=len(self.test),
                total=self.num_rows,
                file=self.file,
                rest=len(self.train),
            ),
            _METRICS[self.metric],
        ]
        if self.options:
            notes.append(
                noted(
                    "`Right label likeliest` is how often the right one of {number} labels is the "
                    "likeliest, per token, before anything is written. The score counts what is "
                    "written, so the two can differ.",
                    number=len(self.options),
                )
            )
        left_out = (
            (self.num_unlabelled, noted("{number} without a label", number=self.num_unlabelled)),
            (self.num_too_long, noted("{number} too long", number=self.num_too_long)),
            (self.num_repeated, noted("{number} repeated", number=self.num_repeated)),
        )
        if parts := [words for count, words in left_out if count]:
            notes.append(noted("Left out: {parts}.", parts=joined(parts, ", ")))
        if self.num_cut:
            notes.append(
                noted(
                    "{number} scored labels are longer than the {most} tokens of an answer, so no "
                    "answer can equal them.",
                    number=self.num_cut,
                    most=self.max_new_tokens,
                )
            )
        if self.num_seen_scored:
            notes.append(
                noted(
                    "The adapter was made from the prompts or inputs of {number} scored rows. It "
                    "has not learnt their labels, but other prompts of the task may do worse.",
                    number=self.num_seen_scored,
                )
            )
        elif self.num_seen:
            notes.append(
                noted(
                    "{number} rows are not scored, as the adapter has seen their prompts or "
                    "inputs.",
                    number=self.num_seen,
                )
            )
        if not self.seen_known:
            notes.append(
                noted(
                    "The adapter does not say which prompts it was made from: scored rows may be "
                    "among them."
                )
            )
        return tuple(notes)


def labelled_rows(file: PromptFile) -> list[Prompt]:
    """Return the prompts that have a label.

    Raises:
        MeasureError: If no prompt has a label.
    """
    found = [prompt for prompt in file.prompts if prompt.label]
    suffix = PurePosixPath(file.name).suffix.lower()
    if not found and suffix in FORMATS and not FORMATS[suffix].has_labels:
        raise MeasureError(
            "{name}: expected a label beside each prompt, but {kind} files have no columns. {use}",
            name=file.name,
            kind=suffix[1:],
            use=use_formats(labelled_suffixes()),
        )
    # A column of labels may be there and hold none; and one alone is that of the prompts.
    if not found and len(file.columns) > 1 and all(one.role != "label" for one in file.columns):
        raise MeasureError(
            "{name}: expected a column of labels named `label`, `answer` or `response`, got the "
            "columns {columns}. Rename the one with the right answers to `label`.",
            name=file.name,
            columns=joined([f"`{column.name}`" for column in file.columns], ", "),
        )
    if not found:
        raise MeasureError(
            "{name}: expected a label beside each prompt, got none for {number} prompts. Name a "
            "column of text `label`, `answer` or `response`.",
            name=file.name,
            number=len(file.prompts),
        )
    return found


def split(
    file: PromptFile, tokenizer: "PreTrainedTokenizerBase", seen: Seen, config: MeasureConfig
) -> Sides:
    """Split labelled rows into the two sides, by seed.

    Raises:
        MeasureError: If no row is labelled, none is left to score, or none can be asked in any mode
            of `config`.
    """
    labelled = labelled_rows(file)
    lines = [row.line for row in labelled]
    # An item is known by its line, and those of a zip's files begin again in each.
    if len(set(lines)) < len(lines):
        lines = [*range(1, len(lines) + 1)]
    distinct: dict[str, tuple[int, Example]] = {}
    for line, row in zip(lines, labelled, strict=True):
        example = Example(row.text, row.label or "")
        # Of rows with the same prompt the first one counts, whatever their labels.
        distinct.setdefault(" ".join(row.text.split()), (line, example))
    examples = [example for _, example in distinct.values()]
    sizes = dict(zip(distinct, _sizes(tokenizer, examples), strict=True))
    short = {t: row for t, row in distinct.items() if sum(sizes[t]) <= config.max_tokens}
    hidden = seen.learnt if config.allow_seen else seen.learnt | seen.read
    # By input too, because the adapter may have read it under an instruction that the rows lack, or
    # the other way round; but not where the input is above the blank line and the question below.
    identify = bare_identifies([example for _, example in short.values()])
    marks = {
        text: (with_inputs if identify else digests)([row.prompt])
        for text, (_, row) in short.items()
    }
    # Sorted before shuffling, so that the order of rows in the file does not matter.
    fresh = sorted(text for text in short if not marks[text] & hidden)
    random.Random(f"{config.seed}:measure").shuffle(fresh)
    drawn = fresh[: min(config.limit_items, len(short) // 2)]
    if not drawn:
        all_learnt = all(marks[text] & seen.learnt for text in short)
        raise MeasureError(
            _nothing_left(file, len(labelled), len(short), config, all_learnt=all_learnt)
        )
    # From all rows: among the scored ones, some label may not occur.
    options = _options([example.response for _, example in short.values()])
    test = [short[text] for text in drawn]
    others = [short[text][1] for text in sorted(short.keys() - set(drawn))]
    scored = [example for _, example in test]
    usable = set(unscored((e.prompt for e in others), scored, by_input=identify))
    train = tuple(e for e in others if e.prompt in usable)
    can_leave_out = any(example.bare is not None for _, example in test)
    modes = tuple(m for m in config.modes if m == "full" or can_leave_out)
    if not modes:
        raise MeasureError(
            "{name}: no scored prompt is an instruction, a blank line and an input, so none can "
            "be asked without its instruction. Ask in mode `full`.",
            name=file.name,
        )
    longest = max(sizes[text][1] for text in short)
    max_new_tokens = min(longest + _MARGIN, config.max_new_tokens)
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
        max_new_tokens=max_new_tokens,
        num_rows=len(file.prompts),
        num_unlabelled=len(file.prompts) - len(labelled),
        num_too_long=len(distinct) - len(short),
        num_repeated=len(labelled) - len(distinct) + len(others) - len(train),
        num_seen=sum(bool(marks[text] & known) for text in short),
        num_seen_scored=sum(bool(marks[text] & known) for text in drawn),
        # The end of turn, which sizes count, need not be written.
        num_cut=sum(sizes[text][1] - 1 > max_new_tokens for text in drawn),
        seen_known=seen.known,
    )


def _sizes(
    tokenizer: "PreTrainedTokenizerBase", examples: Sequence[Example]
) -> list[tuple[int, int]]:
    """Count the tokens of each whole prompt and of its label.

    All in one call, because there may be thousands. Counts may be one too high where text meets the
    chat template.
    """
    # What the chat template puts around a prompt, and the end of turn after a label.
    frame = ask(tokenizer, Example("", ""), "full", max_new_tokens=0)
    texts = [[e.prompt for e in examples], [e.response for e in examples]]
    prompts, labels = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in texts)
    return [
        (len(frame.prompt) + len(prompt), len(frame.reference) + len(label))
        for prompt, label in zip(prompts, labels, strict=True)
    ]


def _options(labels: Sequence[str]) -> tuple[str, ...]:
    distinct = sorted(set(labels))
    # One label alone is no choice.
    few = 2 <= len(distinct) <= min(_MAX_OPTIONS, len(labels) / _ROWS_PER_OPTION)
    return tuple(distinct) if few else ()


def _metric(
    file: PromptFile, labels: Sequence[str], options: tuple[str, ...], config: MeasureConfig
) -> Metric:
    if config.metric == "choice" and not options:
        raise MeasureError(
            "{name}: the metric `choice` needs 2 to {most} distinct labels that repeat, got "
            "{found} among {total} rows. Take `exact` or `rouge`.",
            name=file.name,
            most=_MAX_OPTIONS,
            found=len(Counter(labels)),
            total=len(labels),
        )
    chosen: Metric
    if config.metric != "auto":
        chosen = config.metric
    else:
        chosen = "choice" if options else free_metric(labels)
    lost = [label for label in labels if not rouge_reads(label)] if chosen == "rouge" else []
    if lost:
        raise MeasureError(
            "{name}: the metric `rouge` reads only the letters a to z and digits, of which "
            "{number} of {total} labels have few or none, such as {label}. Take `exact`, or leave "
            "those rows out.",
            name=file.name,
            number=len(lost),
            total=len(labels),
            label=quoted([lost[0]]),
        )
    return chosen


def _nothing_left(
    file: PromptFile,
    labelled: int,
    short: int,
    config: MeasureConfig,
    *,
    all_learnt: bool,
) -> Note:
    if short < 2:
        return noted(
            "{name}: expected two or more labelled rows of at most {most} tokens, got {found} of "
            "{total}. Add rows, or shorten them.",
            name=file.name,
            most=config.max_tokens,
            found=short,
            total=labelled,
        )
    if config.allow_seen or all_learnt:
        way_out = noted("Give rows that it has not seen, or make an adapter from part of them.")
    else:
        way_out = noted(
            "Give rows that it has not seen, make an adapter from part of them, or tick “Score "
            "prompts it was made from too” (`--allow-seen`), which adds those whose labels it has "
            "not learnt."
        )
    return noted(
        "{name}: the adapter was made from the prompts or inputs of all {number} labelled rows, so "
        "none is left to score. {way_out}",
        name=file.name,
        number=short,
        way_out=way_out,
    )
