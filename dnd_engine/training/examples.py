"""Examples as the base reads them: chat-formatted token ids, and their loss under an adapter.

Training and evaluation both use it, so both see the same prompt format: the base's own chat
template with its default system prompt, because that is what adapters meet where they are used.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from dnd_engine.lora.apply import recomputes
from dnd_engine.models.attention import as_argument, attends_plainly, masks_for
from dnd_engine.models.base import last_hidden, logit_cap, logits_of, output_layer
from dnd_engine.models.chat_format import chat_ids, turn_end
from dnd_engine.models.new_tokens import shared_length
from dnd_engine.tasks.folder import Example, Mode
from dnd_engine.training.attention import attending_in_blocks
from dnd_engine.training.token_loss import token_losses


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """Token ids of a chat turn and its reference answer."""

    ids: tuple[int, ...]
    start: int
    """Index of the answer's first token; the answer ends with the end-of-turn token."""


@dataclass(frozen=True, slots=True)
class ResponseLosses:
    """What one forward pass says of each example's reference answer."""

    nll: Float[Tensor, " examples"]
    """Mean negative log-likelihood per answer token, in nats; differentiable."""
    exact: Bool[Tensor, " examples"]
    """Whether every answer token, the end of turn included, is the most likely one. Equal to exact
    match of greedy generation, at the price of one forward pass."""


def encode_example(
    tokenizer: PreTrainedTokenizerBase, example: Example, mode: Mode
) -> EncodedExample | None:
    """Format and tokenise one example; None if `mode` is bare and it has no bare input."""
    content = example.prompt if mode == "full" else example.bare
    if content is None:
        return None
    ids = chat_ids(tokenizer, [{"role": "user", "content": content}])
    # Tokenised apart: joined with the prompt, tokens might merge across the border, which never
    # happens when an answer is generated.
    answer = tokenizer(example.response, add_special_tokens=False)["input_ids"]
    return EncodedExample((*ids, *answer, turn_end(tokenizer)), len(ids))


def encode_short(
    tokenizer: PreTrainedTokenizerBase, examples: Iterable[Example], mode: Mode, max_tokens: int
) -> tuple[EncodedExample, ...]:
    """Encode the examples that can be shown in a mode and have at most `max_tokens` tokens."""
    encoded = (encode_example(tokenizer, example, mode) for example in examples)
    return tuple(e for e in encoded if e is not None and len(e.ids) <= max_tokens)


@dataclass(frozen=True, slots=True)
class PackedExamples:
    """Groups of examples as one row each, sharing the tokens they all begin with.

    Every chat turn opens with the same system prompt, about half of a short example. A group has
    one adapter, so its examples can share that prefix: they follow it one after the other, each at
    the positions it would have alone, and see the prefix and themselves only.
    """

    ids: Int[Tensor, "groups length"]
    positions: Int[Tensor, "groups length"]
    visible: Bool[Tensor, "groups 1 length length"]
    """Which keys (last axis) a query may look at."""
    predicts: Bool[Tensor, "groups length"]
    """Positions whose next token belongs to an answer."""
    owner: Int[Tensor, "groups length"]
    """Number of the example, counted through all groups, that a position belongs to."""
    num_examples: int

    def to(self, device: torch.device) -> "PackedExamples":
        """The same batch on a device."""
        names = ("ids", "positions", "visible", "predicts", "owner")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def pack(groups: Sequence[Sequence[EncodedExample]]) -> PackedExamples:
    """Pack groups of examples, padding the rows to the longest."""
    everyone = [example for group in groups for example in group]
    # Without the prompt's last token, which predicts the answer's first: each example needs a
    # position of its own for that.
    shared = shared_length([e.ids[: e.start - 1] for e in everyone])
    length = max(shared + sum(len(e.ids) - shared for e in group) for group in groups)
    ids = torch.zeros(len(groups), length, dtype=torch.long)
    positions = torch.zeros_like(ids)
    predicts = torch.zeros_like(ids, dtype=torch.bool)
    owner = torch.full_like(ids, -1)
    # The prefix has a number that no example has; -1 stays for padding.
    owner[:, :shared] = len(everyone)
    positions[:, :shared] = torch.arange(shared)
    number = 0
    for row, group in enumerate(groups):
        ids[row, :shared] = torch.tensor(group[0].ids[:shared])
        at = shared
        for example in group:
            rest = slice(at, at + len(example.ids) - shared)
            ids[row, rest] = torch.tensor(example.ids[shared:])
            positions[row, rest] = torch.arange(shared, len(example.ids))
            # From the prompt's last token, which predicts the answer's first, to the last but one.
            predicts[row, at + example.start - 1 - shared : rest.stop - 1] = True
            owner[row, rest] = number
            at, number = rest.stop, number + 1
    query, key = owner[:, :, None], owner[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    # Padding sees padding, so that softmax has a key for every query.
    visible = causal & ((query == key) | (key == len(everyone)))
    return PackedExamples(ids, positions, visible[:, None], predicts, owner, number)


def answer_logits(
    model: nn.Module, batch: PackedExamples
) -> tuple[Float[Tensor, "answer_tokens vocabulary"], Int[Tensor, " answer_tokens"]]:
    """Logits at the positions that predict answer tokens, in float32, and those tokens.

    Nowhere else: over a vocabulary of 49,152 they would cost as much as several layers. The order
    is example by example, as in the batch.
    """
    hidden, targets = _answer_states(model, batch)
    return logits_of(model, hidden).float(), targets


def response_losses(model: nn.Module, batch: PackedExamples) -> ResponseLosses:
    """Score the reference answers of a batch under the adapters that are currently applied."""
    hidden, targets = _answer_states(model, batch)
    token_nll, hits = token_losses(hidden, output_layer(model).weight, targets, logit_cap(model))
    owner = batch.owner[batch.predicts]
    zeros = token_nll.new_zeros(batch.num_examples)
    # Never 0, because every answer has its end of turn.
    counts = zeros.index_add(0, owner, torch.ones_like(token_nll))
    nll = zeros.index_add(0, owner, token_nll) / counts
    return ResponseLosses(nll, zeros.index_add(0, owner, (~hits).float()) == 0)


def _answer_states(
    model: nn.Module, batch: PackedExamples
) -> tuple[Float[Tensor, "answer_tokens width"], Int[Tensor, " answer_tokens"]]:
    """Last hidden states at the positions that predict answer tokens, and those tokens."""
    with _attention(model, batch) as attention:
        hidden = last_hidden(
            model, input_ids=batch.ids, position_ids=batch.positions, use_cache=False, **attention
        )
    # `roll` puts the first token of a row behind its last, where nothing is predicted.
    return hidden[batch.predicts], batch.ids.roll(-1, dims=1)[batch.predicts]


def _attention(model: nn.Module, batch: PackedExamples) -> AbstractContextManager[dict[str, Any]]:
    """The model's own attention; where a CPU computes a gradient, the faster one in blocks."""
    # Never without a gradient, so that no score depends on how training is made fast.
    in_blocks = batch.ids.device.type == "cpu" and torch.is_grad_enabled()
    # Attention in blocks knows no windows and no capped scores. And a base that recomputes its
    # layers does so in the backward pass, when its own attention is back in place.
    if in_blocks and attends_plainly(model) and not recomputes(model):
        shared = int((batch.owner[0] == batch.num_examples).sum())
        return attending_in_blocks(model, batch.owner, shared)
    masks = masks_for(model, batch.visible, batch.positions, batch.positions)
    return nullcontext({"attention_mask": as_argument(model, masks)})
