"""Items worded for the base, few-shot examples before them, and what an answer consists of.

Knows tokenizers and chat templates; knows no models and no adapters.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from transformers import PreTrainedTokenizerBase

from dnd_engine.models.chat_format import chat_text, turn_end
from dnd_engine.tasks.folder import Example, Mode

__all__ = ["Answer", "Question", "ask", "choose_shots", "free_metric"]

_MAX_SHOTS, _SHOT_TOKENS = 8, 768
"""Examples shown at most, and their tokens: as many as the shipped generator reads of one prompt
batch, 48 of each of 16 prompts. What is shown holds answers too, which no condition does."""

_LONG_WORDS = 12
"""Answers with a longer median are almost never matched exactly, so ROUGE scores them."""


@dataclass(frozen=True, slots=True)
class Question:
    """One item as the base reads it."""

    prompt: tuple[int, ...]
    """Chat turns, up to where the answer begins."""
    reference: tuple[int, ...]
    """The right answer, end of turn included."""
    options: tuple[tuple[int, ...], ...]
    """All answers to choose from, likewise; empty where there is no choice."""
    max_new_tokens: int

    @property
    def length(self) -> int:
        """Positions that it needs in a cache at most: all offered answers stand there at once."""
        offered = sum(map(len, {self.reference, *self.options}))
        return len(self.prompt) + max(self.max_new_tokens, offered)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the base made of one question."""

    nll: float
    """Loss of the reference in nats per token, including the end of turn."""
    option_nlls: tuple[float, ...]
    """The same for each option. Dividing by the number of tokens normalises the length."""
    ids: tuple[int, ...]
    """Greedily generated, the end of turn left out."""


def choose_shots(
    tokenizer: PreTrainedTokenizerBase, pool: Sequence[Example], room: int, rng: random.Random
) -> tuple[Example, ...]:
    """Draw a few short examples to be shown before every item.

    Args:
        tokenizer: The base's.
        pool: Labelled examples, none of them scored.
        room: Positions that the base has.
        rng: Draws them.

    Returns:
        None at all if none is short enough.
    """
    left = min(_SHOT_TOKENS, room // 4)
    shots: list[Example] = []
    for example in rng.sample(pool, min(4 * _MAX_SHOTS, len(pool))):
        text = f"{example.prompt}\n{example.response}"
        size = len(tokenizer(text, add_special_tokens=False)["input_ids"])
        if size <= left and len(shots) < _MAX_SHOTS:
            shots.append(example)
            left -= size
    return tuple(shots)


def ask(
    tokenizer: PreTrainedTokenizerBase,
    example: Example,
    mode: Mode,
    *,
    shots: Sequence[Example] = (),
    max_new_tokens: int,
) -> Question:
    """Word one item for the base: its own chat template, and its default system prompt.

    Args:
        tokenizer: The base's.
        example: In bare mode, one that has a bare input.
        mode: What is shown of the item and of the shots; shots without a bare input fall out.
        shots: Turns that stand before it.
        max_new_tokens: Of the written answer.
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
    prompt = chat_text(tokenizer, turns)
    end = turn_end(tokenizer)

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

    return Question(
        prompt=ids(prompt),
        reference=(*ids(example.response), end),
        options=tuple((*ids(option), end) for option in example.options),
        max_new_tokens=max_new_tokens,
    )


def free_metric(labels: Sequence[str]) -> Literal["exact", "rouge"]:
    """Choose how answers are scored that are no choice among a few."""
    # ROUGE reads no other letters: long answers in another script would score 0 under it.
    words = [len(re.findall("[a-z0-9]+", label.lower())) for label in labels]
    return "rouge" if median(words) > _LONG_WORDS else "exact"


def _content(example: Example, mode: Mode) -> str | None:
    return example.prompt if mode == "full" else example.bare
