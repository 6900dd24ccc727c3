"""Formats conversations with a base's chat template, in the same way everywhere.

Two defaults of some templates are overridden: today's date, which would make adapters differ from
day to day, and thinking, which would use up the whole answer.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from dnd_engine.errors import AssetError, ChatError
from dnd_engine.notes import noted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_DATE = "26 Jul 2024"
"""Date for templates that include one: Llama 3.2's own default."""

_TODAY = re.compile(r"""strftime_now\(\s*(['"]).*?\1\s*\)""")

_PLACEHOLDER = "ANSWER"

_TEMPLATE_FAULTS = (TemplateError, TypeError, ValueError)
"""What templates raise: their own errors, those of their values, and that none is the default."""


def _template(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return the base's template, with a fixed date."""
    return _TODAY.sub(f"'{_DATE}'", tokenizer.get_chat_template())


def _formatted(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Mapping[str, str]],
    *,
    prompting: bool = False,
) -> str:
    text = tokenizer.apply_chat_template(
        [dict(message) for message in messages],
        tokenize=False,
        enable_thinking=False,
        chat_template=_template(tokenizer),
        add_generation_prompt=prompting,
    )
    return str(text)


def chat_text(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Mapping[str, str]]) -> str:
    """Format a conversation, up to the start of the next answer.

    Raises:
        ChatError: If the base's template refuses it, as Gemma's does with a system message.
    """
    try:
        return _formatted(tokenizer, messages, prompting=True)
    except _TEMPLATE_FAULTS as error:
        raise ChatError(
            "the base's chat template refuses this conversation: {reason}. Send it without a "
            "system prompt, and let user and assistant take turns.",
            reason=str(error),
        ) from error


def chat_ids(
    tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Mapping[str, str]]
) -> list[int]:
    """Tokenise a conversation, up to the start of the next answer; see `chat_text`."""
    # The template has written all special tokens; the tokenizer would add another at the start.
    ids: list[int] = tokenizer(chat_text(tokenizer, messages), add_special_tokens=False)[
        "input_ids"
    ]
    return ids


# Of one tokenizer only, since it keeps that alive: other models may have been loaded since.
@lru_cache(maxsize=1)
def turn_end(tokenizer: "PreTrainedTokenizerBase") -> int:
    """Return the token that the chat template puts after an answer.

    It may differ from the tokenizer's end-of-text token, as in Gemma and Phi-3.

    Raises:
        AssetError: If the template refuses an answer, or nothing says how an answer ends.
    """
    exchange = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": _PLACEHOLDER},
    ]
    try:
        text = _formatted(tokenizer, exchange)
    except _TEMPLATE_FAULTS as error:
        raise AssetError(
            "the base's chat template refuses a question with its answer: {reason}. Choose an "
            "instruction-tuned base.",
            reason=str(error),
        ) from error
    _, found, after = text.rpartition(_PLACEHOLDER)
    # A template that leaves out the answer says nothing about its end.
    after = after.strip() if found else ""
    # A template may put more after an answer than the end token. That token need not be
    # declared special; being an added one is enough.
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    ids: list[int] = tokenizer(after, add_special_tokens=False)["input_ids"]
    end = next((token for token in ids if token in special), tokenizer.eos_token_id)
    if not isinstance(end, int):
        raise AssetError(
            noted(
                "neither the base's chat template nor its tokenizer says which token ends an "
                "answer. Set `eos_token` in its `tokenizer_config.json`, or choose another base."
            )
        )
    return end
