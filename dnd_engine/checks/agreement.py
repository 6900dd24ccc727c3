"""Whether an adapter carries its instruction: it answers without, the model answers with it.

A teacher answers the whole prompt: the imprint's teacher, else the model with the part that all of
a generator's adapters share. The adapter answers the bare input. Where both answers are equal, the
adapter does not need the instruction. This needs no labels, and over unseen tasks it predicts an
adapter's gain (a report says how well). Where prompts have labels, it also counts right answers.
Knows token ids and adapters; gives no verdict.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean

from dnd_engine.checks.subject import Reference
from dnd_engine.checks.verdict import Agreement, Answered, BucketShare, Labels, are_alike
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.base import BaseModel
from dnd_engine.models.runtime import Runtime
from dnd_engine.prompts.split import split_prompt
from dnd_engine.scoring.answers import answer_batch
from dnd_engine.scoring.metrics import exact_match
from dnd_engine.scoring.questions import Answer, Question, open_question, text_of

_MAX_PROMPTS = 8
"""Two batches of this many answers take one to two seconds on two CPU cores."""
_MAX_TOKENS = 384
"""Longer prompts are skipped, as by imprint (`ImprintConfig.max_tokens`)."""
_MAX_NEW_TOKENS = 24
"""Tokens to compare: the beginnings of long answers."""
_MAX_CHOICES = 20
"""Most different labels that may be the names of classes."""
_UNSURE = 0.7
"""Loss in nats per token of an answer under its own model, above which the model is unsure."""


def agreement(
    runtime: Runtime,
    adapter: FittedLoRA,
    references: Sequence[Reference],
    *,
    left_out: bool = False,
    labels: Mapping[str, str] | None = None,
) -> Agreement | None:
    """Compare greedy answers to the first few prompts that have a removable instruction.

    Args:
        runtime: The frozen base; its lock is held for one batch at a time.
        adapter: Adapter that answers bare inputs.
        references: Buckets with their teachers and prompts. They share the limit on prompts.
        left_out: Whether an imprint was fitted to other prompts.
        labels: Right answers by prompt; not every prompt needs one.

    Returns:
        The agreement; None if no prompt is short enough and has a blank line.
    """
    # At least one prompt for each teacher, however many there are.
    most = max(1, _MAX_PROMPTS // max(1, len(references)))
    pairs: list[_Pair] = []
    parts: list[BucketShare] = []
    answers: list[Answered] = []
    for reference in references:
        of_bucket = _ask(runtime, adapter, reference, most)
        if of_bucket:
            same = sum(pair.mine.ids == pair.instructed.ids for pair in of_bucket)
            right = _by_labels(runtime.base, of_bucket, labels or {}, reference.prompts)
            alike = are_alike(_commonest_share(of_bucket), len(of_bucket))
            parts.append(BucketShare(reference.bucket, same, len(of_bucket), right, alike))
            pairs += of_bucket
            answers += (
                _answered(runtime.base, reference.bucket, pair, labels or {}) for pair in of_bucket
            )
    if not pairs:
        return None
    # The base's sureness of its answers was never compared with scores.
    sure = [pair.instructed.sureness for pair in pairs if not pair.by_base]
    return Agreement(
        same=sum(part.same for part in parts),
        num_prompts=len(pairs),
        left_out=left_out,
        wavering=sum(pair.wavers for pair in pairs),
        by_bucket=tuple(parts) if len(parts) > 1 else (),
        repeated=sum(_repeats(runtime.base, pair) for pair in pairs),
        commonest_share=_commonest_share(pairs),
        sureness=fmean(sure) if len(sure) == len(pairs) else None,
        labels=_by_labels(
            runtime.base,
            pairs,
            labels or {},
            [p for reference in references for p in reference.prompts],
        ),
        answers=tuple(answers),
    )


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two answers to a prompt: the adapter's without the instruction, its teacher's with it."""

    prompt: str
    mine: Answer
    instructed: Answer
    by_base: bool
    """Whether the base is the teacher."""

    @property
    def wavers(self) -> bool:
        """Return whether the teacher is unsure of its own answer, by the token."""
        assert self.instructed.log_prob is not None
        # An answer that was cut off lacks its end of turn.
        length = min(len(self.instructed.ids) + 1, _MAX_NEW_TOKENS)
        return -self.instructed.log_prob / length > _UNSURE


def _ask(runtime: Runtime, adapter: FittedLoRA, reference: Reference, most: int) -> list[_Pair]:
    instructed = instructed_answers(runtime, reference.teacher, reference.prompts, most=most)
    if not instructed:
        return []
    asked = [reference.prompts[number] for number in instructed]
    mine = answer_batch(runtime, bare_questions(runtime.base, asked), adapter)
    return [
        _Pair(*one, by_base=reference.teacher is None)
        for one in zip(asked, mine, instructed.values(), strict=True)
    ]


def _commonest_share(pairs: Sequence[_Pair]) -> float:
    """Return the share of the teacher's most common answer."""
    ((_, commonest),) = Counter(pair.instructed.ids for pair in pairs).most_common(1)
    return commonest / len(pairs)


def _repeats(base: BaseModel, pair: _Pair) -> bool:
    """Return whether the teacher only repeats the input."""
    given = split_prompt(pair.prompt).bare.casefold().strip()
    return _text(base, pair.instructed).rstrip(".!?") == given.rstrip(".!?")


def _by_labels(
    base: BaseModel, pairs: Sequence[_Pair], labels: Mapping[str, str], prompts: Sequence[str]
) -> Labels | None:
    """Count right answers to the prompts whose label is short enough to be compared.

    `pairs` are of the prompts that were asked; `prompts` are all those of the same buckets.
    """
    known = [
        (pair, label)
        for pair in pairs
        if (label := _comparable(base, labels.get(pair.prompt))) is not None
    ]
    if not known:
        return None

    def foreign() -> bool:
        given = [labels[prompt].casefold() for prompt in {*prompts} if prompt in labels]
        choices = {*given}
        # Where each prompt has a label of its own, one is seldom the answer to another prompt.
        if len(choices) > min(_MAX_CHOICES, len(given) // 2):
            return False
        answers = {_text(base, one) for pair, _ in known for one in (pair.mine, pair.instructed)}
        return not any(exact_match(a, c, literal=False) for a in answers for c in choices)

    return Labels(
        right=sum(_is_right(base, pair.mine, label, pair.prompt) for pair, label in known),
        right_when_told=sum(
            _is_right(base, pair.instructed, label, pair.prompt) for pair, label in known
        ),
        number=len(known),
        foreign=foreign(),
    )


def _comparable(base: BaseModel, label: str | None) -> str | None:
    """Return a label if it is short enough to be compared with the beginning of an answer."""
    if label is None:
        return None
    tokens = base.tokenizer.encode(label, add_special_tokens=False)
    return label if len(tokens) <= _MAX_NEW_TOKENS else None


def _is_right(base: BaseModel, answered: Answer, label: str, prompt: str) -> bool:
    # All in lower case: where all three share their words, order matters.
    return exact_match(_text(base, answered), label.casefold(), prompt.casefold(), literal=False)


def _answered(base: BaseModel, bucket: str, pair: _Pair, labels: Mapping[str, str]) -> Answered:
    label = _comparable(base, labels.get(pair.prompt))
    return Answered(
        bucket=bucket,
        input=split_prompt(pair.prompt).bare,
        bare=_beginning(base, pair.mine),
        instructed=_beginning(base, pair.instructed),
        same=pair.mine.ids == pair.instructed.ids,
        label=label,
        right=label is not None and _is_right(base, pair.mine, label, pair.prompt),
    )


def _beginning(base: BaseModel, answered: Answer) -> str:
    """Return an answer's text, with a mark where it goes on."""
    text = text_of(base.tokenizer, answered).strip()
    return f"{text} …" if len(answered.ids) >= _MAX_NEW_TOKENS else text


def _text(base: BaseModel, answered: Answer) -> str:
    """Return an answer's text. In lower case, since a label's case is seldom what matters."""
    return text_of(base.tokenizer, answered).casefold().strip()


def instructed_answers(
    runtime: Runtime,
    teacher: FittedLoRA | None,
    prompts: Sequence[str],
    most: int | None = None,
) -> dict[int, Answer]:
    """Answer whole prompts greedily.

    Returns:
        Answers by index of the prompt, with their probability, for the first `most` prompts that
        are short enough and have a blank line.
    """
    asked = (
        (number, _question(runtime.base, prompt))
        for number, prompt in enumerate(prompts)
        if split_prompt(prompt).input is not None
    )
    # Lazily: of thousands of prompts, only those up to the last chosen one are tokenised.
    short = (pair for pair in asked if len(pair[1].prompt) <= _MAX_TOKENS)
    chosen = dict(islice(short, most))
    if not chosen:
        return {}
    answers = answer_batch(runtime, [*chosen.values()], teacher, log_probs=True)
    return dict(zip(chosen, answers, strict=True))


def bare_questions(
    base: BaseModel, prompts: Sequence[str], answers: Sequence[Answer] | None = None
) -> list[Question]:
    """Build questions from prompts, each with a blank line, without their instruction.

    With answers, the questions compute the loss of these and generate nothing. Without, their
    loss means nothing.
    """
    questions = [_question(base, split_prompt(prompt).bare) for prompt in prompts]
    if answers is None:
        return questions
    return [one.weighing(given) for one, given in zip(questions, answers, strict=True)]


def _question(base: BaseModel, text: str) -> Question:
    return open_question(base.tokenizer, text, _MAX_NEW_TOKENS)
