"""The teacher of context distillation: the base with the instruction in its input.

The teacher reads *full* prompts. What it says of each answer token is kept once, as its 16
likeliest next tokens and the rest of the mass, so that a student on *bare* inputs can be compared
with it at every step for nothing.

Source: Snell et al. 2022, arXiv:2209.15189, for context distillation.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dnd_engine.models.base import BaseModel, end_tokens
from dnd_engine.tasks.folder import Example
from dnd_engine.training.examples import EncodedExample, answer_logits, encode_example, pack

__all__ = ["TeacherAnswers", "greedy_answers", "listen", "teacher_divergence"]

TOP = 16
"""Next tokens that are kept of each position. Source: Doc-to-LoRA keeps as many."""

_ROW_EXAMPLES = 8
"""Examples that share a row when the teacher reads them."""


@dataclass(frozen=True, slots=True)
class TeacherAnswers:
    """What the teacher says at the answer tokens of some examples of one task."""

    starts: Int[Tensor, " examples_and_end"]
    """First answer token of each example among all; the end closes the list."""
    tokens: Int[Tensor, "answer_tokens top"]
    """The likeliest next tokens."""
    log_probs: Float[Tensor, "answer_tokens top"]
    rest: Float[Tensor, " answer_tokens"]
    """Log of the mass of all other tokens."""

    def of(self, example: int) -> slice:
        """Where an example's answer tokens lie."""
        return slice(int(self.starts[example]), int(self.starts[example + 1]))


def teacher_divergence(
    logits: Float[Tensor, "answer_tokens vocabulary"],
    tokens: Tensor,
    log_probs: Float[Tensor, "answer_tokens top"],
    rest: Float[Tensor, " answer_tokens"],
) -> Float[Tensor, " answer_tokens"]:
    """KL divergence of the student from the teacher, all tokens not kept counted as one.

    Args:
        logits: The student's.
        tokens: The teacher's likeliest next tokens, (answer tokens, top).
        log_probs: Log-probabilities of these tokens under the teacher.
        rest: Log of the teacher's mass on all others.
    """
    ours = logits.log_softmax(dim=-1).gather(1, tokens)
    # The floor is the teacher's own (see `_log_rest`); it also keeps the gradient finite.
    our_rest = torch.log1p(-ours.exp().sum(dim=-1).clamp(max=1 - 1e-6))
    kept = (log_probs.exp() * (log_probs - ours)).sum(dim=-1)
    return kept + rest.exp() * (rest - our_rest)


def _encode(examples: Sequence[Example], base: BaseModel) -> list[EncodedExample]:
    encoded = (encode_example(base.tokenizer, example, "full") for example in examples)
    return [e for e in encoded if e is not None]


def _rows(examples: Sequence[EncodedExample]) -> Iterator[Sequence[EncodedExample]]:
    for start in range(0, len(examples), _ROW_EXAMPLES):
        yield examples[start : start + _ROW_EXAMPLES]


def listen(examples: Sequence[Example], base: BaseModel) -> TeacherAnswers:
    """Return what the model, in its current state, predicts at the answer tokens of full prompts.

    Nobody else may use the base meanwhile; call it in inference mode.
    """
    encoded = _encode(examples, base)
    tokens, log_probs, rest = [], [], []
    for row in _rows(encoded):
        logits, _ = answer_logits(base.model, pack([row]).to(base.device))
        top = logits.log_softmax(dim=-1).topk(TOP, dim=-1)
        # Half the size of int64, which only `gather` needs.
        tokens.append(top.indices.to(torch.int32).cpu())
        log_probs.append(top.values.cpu())
        rest.append(_log_rest(top.values).cpu())
    lengths = torch.tensor([0, *(len(e.ids) - e.start for e in encoded)])
    # `torch.cat` refuses an empty list, as there would be if no answer has ended.
    empty = torch.zeros(0, TOP)
    return TeacherAnswers(
        starts=lengths.cumsum(dim=0),
        tokens=torch.cat([empty.to(torch.int32), *tokens]),
        log_probs=torch.cat([empty, *log_probs]),
        rest=torch.cat([empty[:, 0], *rest]),
    )


def greedy_answers(
    examples: Sequence[Example], base: BaseModel, max_new_tokens: int
) -> list[str | None]:
    """The model's own greedy answers to full prompts, in one batch.

    Nobody else may use the base meanwhile; call it in inference mode.

    Returns:
        One each; None where the answer is empty or does not end within `max_new_tokens`.
    """
    tokenizer, ends = base.tokenizer, end_tokens(base)
    prompts = [e.ids[: e.start] for e in _encode(examples, base)]
    length = max(map(len, prompts))
    # Padded on the left, so that all answers begin in the same column.
    ids = torch.tensor([(0,) * (length - len(p)) + p for p in prompts], device=base.device)
    mask = torch.tensor(
        [[0] * (length - len(p)) + [1] * len(p) for p in prompts], device=base.device
    )
    out = base.model.generate(  # type: ignore[operator]  # a method; torch's types say tensor
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        # Fills rows that have ended; `_ended` cuts it off.
        pad_token_id=tokenizer.eos_token_id,
        eos_token_id=sorted(ends),
    )
    ended = (_ended(new, ends) for new in out[:, length:].tolist())
    return [
        None
        if ids is None
        else str(tokenizer.decode(ids, skip_special_tokens=True)).strip() or None
        for ids in ended
    ]


def _ended(ids: list[int], ends: Collection[int]) -> list[int] | None:
    """The tokens before the first that ends an answer; None if none does."""
    return next((ids[:n] for n, token in enumerate(ids) if token in ends), None)


def _log_rest(log_probs: Float[Tensor, "answer_tokens top"]) -> Float[Tensor, " answer_tokens"]:
    """Log of one minus the mass of the kept tokens, kept from minus infinity."""
    return torch.log1p(-log_probs.exp().sum(dim=-1).clamp(max=1 - 1e-6))
