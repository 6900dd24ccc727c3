"""Scores an adapter during training, on the bare inputs of validation prompts.

Knows weight tokens and examples; knows no training.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from dnd_engine.lora.layout import LoRALayout
from dnd_engine.models.runtime import Runtime
from dnd_engine.scoring.answers import answer
from dnd_engine.scoring.metrics import Grader
from dnd_engine.scoring.questions import ask, free_metric, text_of
from dnd_engine.tasks.folder import Example

_MARGIN = 8
"""Tokens by which an answer may exceed the longest reference."""


def score_bare(
    runtime: Runtime,
    layout: LoRALayout,
    tokens: Float[Tensor, "tokens rows cols"],
    examples: Sequence[Example],
) -> list[float]:
    """Let an adapter answer inputs without their instruction, and compare with the responses.

    An example without an instruction is asked whole. The lock is held during the answers.

    Returns:
        For each example whether the answer is right, as 0 or 1; for long ones, ROUGE-L.
    """
    tokenizer = runtime.base.tokenizer
    wanted = [example.response for example in examples]
    longest = max(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in wanted)
    questions = [
        ask(tokenizer, e, "full" if e.bare is None else "bare", max_new_tokens=longest + _MARGIN)
        for e in examples
    ]
    with runtime.lock.after_chats(lets_in=True):
        (answers,) = answer(runtime, [questions], runtime.host.fit(tokens[None], layout))
    grader = Grader(free_metric(wanted))
    pairs = zip(examples, answers, strict=True)
    return [grader.grade(example, text_of(tokenizer, one)).score for example, one in pairs]
