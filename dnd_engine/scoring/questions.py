"""Items worded for the base, and the examples that stand before them in a few-shot prompt.

Knows tokenizers and chat templates; knows no models and no adapters.
"""

import random
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from dnd_engine.scoring.answers import Question
from dnd_engine.tasks.folder import Example
from dnd_engine.training.examples import Mode

__all__ = ["ask", "choose_shots"]

_MOST_SHOTS, _SHOT_TOKENS = 8, 768
"""Examples shown at most, and their tokens: as many as the shipped generator reads of one prompt
batch, 48 of each of 16 prompts. What is shown holds answers too, which no condition does."""


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
    for example in rng.sample(pool, min(4 * _MOST_SHOTS, len(pool))):
        text = f"{example.prompt}\n{example.response}"
        size = len(tokenizer(text, add_special_tokens=False)["input_ids"])
        if size <= left and len(shots) < _MOST_SHOTS:
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
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert isinstance(prompt, str)
    end = tokenizer.eos_token_id
    assert isinstance(end, int)

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

    return Question(
        prompt=ids(prompt),
        reference=(*ids(example.response), end),
        options=tuple((*ids(option), end) for option in example.options),
        max_new_tokens=max_new_tokens,
    )


def _content(example: Example, mode: Mode) -> str | None:
    return example.prompt if mode == "full" else example.bare
