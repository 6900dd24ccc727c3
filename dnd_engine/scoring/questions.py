"""Formats items and few-shot examples as questions for the base, and defines answers.

Knows tokenizers and chat templates; knows no models and no adapters.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Literal

from dnd_engine.models.chat_format import chat_ids, turn_end
from dnd_engine.tasks.folder import Example, Mode
from dnd_engine.tasks.rouge_text import rouge_reads, rouge_words

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

_MAX_SHOTS, _SHOT_TOKENS = 8, 768
"""Maximum few-shot examples and tokens: as many tokens as the shipped generator reads per prompt
batch (48 of each of 16 prompts). Unlike a condition, the examples include answers."""

_LONG_WORDS = 12
"""Median words of answers above which ROUGE scores them: they almost never match exactly."""


@dataclass(frozen=True, slots=True)
class Question:
    """One item in the base's tokens."""

    prompt: tuple[int, ...]
    """Chat turns, up to the start of the answer."""
    reference: tuple[int, ...]
    """Right answer, end of turn included."""
    options: tuple[tuple[int, ...], ...]
    """Answers to choose from, end of turn included; may be empty."""
    max_new_tokens: int

    @property
    def length(self) -> int:
        """Return the maximum positions in a cache: all offered answers are in it at once."""
        offered = sum(map(len, {self.reference, *self.options}))
        return len(self.prompt) + max(self.max_new_tokens, offered)

    def answered(self, answer: "Answer") -> tuple[int, ...]:
        """Return the tokens of an answer to this question, with the end of turn that it has."""
        # An answer that was cut off has none.
        ended = len(answer.ids) < self.max_new_tokens
        return (*answer.ids, self.reference[-1]) if ended else answer.ids

    def weighing(self, answer: "Answer") -> "Question":
        """Return the question that scores an answer to this one, without generating."""
        return replace(self, reference=self.answered(answer), max_new_tokens=0)


@dataclass(frozen=True, slots=True)
class Answer:
    """The base's answer to one question."""

    nll: float
    """Loss of the reference in nats per token, including the end of turn."""
    option_nlls: tuple[float, ...]
    """Loss of each option. Dividing by the number of tokens normalises the length."""
    ids: tuple[int, ...]
    """Greedily generated tokens, without the end of turn."""
    states: "Float[Tensor, 'blocks answered width'] | None" = field(default=None, compare=False)
    """Block outputs at the positions that predicted the generated tokens, end of turn included;
    None unless they were asked for."""
    log_prob: float | None = field(default=None, compare=False)
    """Log-probability of the generated tokens, with the end of turn unless the answer was cut off;
    None unless it was asked for."""

    @property
    def sureness(self) -> float:
        """Return how probable the model found its whole answer, if that was asked for.

        Of the whole answer: a long one has more places where the model could go another way. Over
        43 written tasks, the rank correlation with scores is .62 by answer and .36 by token.
        """
        assert self.log_prob is not None
        return math.exp(self.log_prob)

    def right_is_likeliest(self, example: Example) -> bool | None:
        """Return whether an example's response is its likeliest option; None without options."""
        likeliest = min(zip(self.option_nlls, example.options, strict=True), default=None)
        return None if likeliest is None else likeliest[1] == example.response


def text_of(tokenizer: "PreTrainedTokenizerBase", answer: Answer) -> str:
    """Return an answer's text."""
    return str(tokenizer.decode(list(answer.ids), skip_special_tokens=True))


def choose_shots(
    tokenizer: "PreTrainedTokenizerBase", pool: Sequence[Example], room: int, rng: random.Random
) -> tuple[Example, ...]:
    """Sample a few short examples, of a pool that is not scored, to show before every item.

    `room` is the number of positions of the base. Empty if no example is short enough.
    """
    # Most of the base's positions stay for the item and its answer.
    left = min(_SHOT_TOKENS, room // 4)
    shots: list[Example] = []
    # More than are shown, because long ones are skipped; not all, because each is tokenised.
    for example in rng.sample(pool, min(4 * _MAX_SHOTS, len(pool))):
        text = f"{example.prompt}\n{example.response}"
        size = len(tokenizer(text, add_special_tokens=False)["input_ids"])
        if size <= left and len(shots) < _MAX_SHOTS:
            shots.append(example)
            left -= size
    return tuple(shots)


def ask(
    tokenizer: "PreTrainedTokenizerBase",
    example: Example,
    mode: Mode,
    *,
    shots: Sequence[Example] = (),
    max_new_tokens: int,
) -> Question:
    """Format one item with the base's chat template and default system prompt.

    The mode is that of item and shots. In bare mode the item must have a bare input, and shots
    without one are dropped.
    """
    turns: list[dict[str, str]] = []
    for shot in shots:
        shown = _content(shot, mode)
        if shown is not None:
            turns.append({"role": "user", "content": shown})
            turns.append({"role": "assistant", "content": shot.response})
    content = _content(example, mode)
    assert content is not None
    turns.append({"role": "user", "content": content})
    end = turn_end(tokenizer)

    # Prompt and answer are tokenised apart, as in training, so that no token spans both.
    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

    return Question(
        prompt=tuple(chat_ids(tokenizer, turns)),
        reference=(*ids(example.response), end),
        options=tuple((*ids(option), end) for option in example.options),
        max_new_tokens=max_new_tokens,
    )


def open_question(tokenizer: "PreTrainedTokenizerBase", text: str, max_new_tokens: int) -> Question:
    """Ask a message whose right answer is not known, so that its loss means nothing."""
    # Every question needs a reference. This one lends its end of turn to `answered`.
    prompt = tuple(chat_ids(tokenizer, [{"role": "user", "content": text}]))
    return Question(prompt, (turn_end(tokenizer),), (), max_new_tokens)


def free_metric(labels: Sequence[str]) -> Literal["exact", "rouge"]:
    """Choose a metric for answers that are not a choice among a few."""
    # ROUGE cannot compare long answers in scripts other than the Latin one.
    words = [rouge_words(label) if rouge_reads(label) else 0 for label in labels]
    return "rouge" if median(words) > _LONG_WORDS else "exact"


def _content(example: Example, mode: Mode) -> str | None:
    return example.prompt if mode == "full" else example.bare
