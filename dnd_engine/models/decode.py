"""Twin decoding: generates base and adapted answers in one batch, token by token.

One forward pass per step serves both rows; row 0 is the base, row 1 the adapter. Each row has its
own random generator with the same seed. Knows messages and logits; knows no prompt files.
"""

import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from dnd_engine.config import Sampling
from dnd_engine.errors import ChatError
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.base import BaseModel, end_tokens
from dnd_engine.models.chat_format import chat_ids
from dnd_engine.models.forward import Forward
from dnd_engine.models.key_values import KeyValues
from dnd_engine.models.new_tokens import NewTokens, left_padded
from dnd_engine.models.packed import PackedForward
from dnd_engine.models.replies import Message, Reply, StopReason
from dnd_engine.models.runtime import Runtime
from dnd_engine.models.turns import is_patient
from dnd_engine.notes import noted

_MAX_CHARS_PER_TOKEN = 100
"""Upper bound: English has about four, and the longest tokens are runs of blanks."""

_READ_AT_ONCE = 512
"""Tokens of a prompt in one forward pass: 1.3 to 4.5 s beside other work on two cores. Other work
runs in between, and the answer can be stopped."""


def decode(
    runtime: Runtime,
    conversations: Sequence[Sequence[Message]],
    active: Callable[[], FittedLoRA | None],
    sampling: Sampling,
) -> Generator[list[Reply], None, None]:
    """Answer one conversation per row, yielding all rows after every token.

    Also after each part of a long prompt that was read, when no row has a token yet. Closing the
    iterator stops at the next token. The lock is held only during forward passes. Chats that run at
    the same time share passes, if these are packed, and otherwise take turns token by token. Checks
    wait until all answers are complete, and training before each of its steps.

    Args:
        runtime: The frozen model.
        conversations: One per row, each ending with the user's message.
        active: Called before every token; returns an adapter per row, or None. Earlier tokens keep
            the keys and values of the adapter they were read with.
        sampling: Sampling settings, shared by all rows.

    Raises:
        ChatError: If a conversation is empty, malformed, or too long for the base, or if an adapter
            makes the logits overflow.
    """
    base = runtime.base
    _check_length(conversations, int(base.config["max_position_embeddings"]))
    prompts = [_render(base.tokenizer, messages) for messages in conversations]
    room = int(base.config["max_position_embeddings"]) - sampling.max_new_tokens
    longest = max(map(len, prompts))
    if room < longest <= room + sampling.max_new_tokens:
        raise ChatError(
            "the conversation is {longest} tokens long and the answer may have {most}; this base "
            "reads {positions} in all. Lower the maximum length of an answer, or clear the chat.",
            longest=longest,
            most=sampling.max_new_tokens,
            positions=room + sampling.max_new_tokens,
        )
    if longest > room:
        raise ChatError(
            "the conversation is {longest} tokens long; this base reads {positions}. Clear the "
            "chat, or shorten the message.",
            longest=longest,
            positions=room + sampling.max_new_tokens,
        )
    rows = [_Row(base, prompt, sampling) for prompt in prompts]
    ids, real = left_padded(prompts, base.device, base.tokenizer.pad_token_id or 0)
    mask = None if real.all() else real
    # Before the lock, so that the first token's time includes the wait for it.
    started = time.monotonic()
    with runtime.lock.urgent(chats=True), runtime.joined.chat() as chat:
        with runtime.lock:
            # The first use packs the weights, which only one thread may do.
            forward = runtime.forward
        past = forward.new_cache(len(rows))
        fitted: FittedLoRA | None = None
        prepared: Any = None
        while True:
            # The strength may change during an answer. Preparing costs more than a token, so do it
            # only when the adapter changed.
            if (now := active()) is not fitted:
                fitted, prepared = now, forward.prepare(now)
            # The lock is released after every token, so that other work can run in between.
            *parts, ids = ids.split(_READ_AT_ONCE, dim=1)
            for part in parts:
                with runtime.one_token():
                    forward.hidden(_new_tokens(part, mask, past, prepared))
                yield [row.reply() for row in rows]
            tokens = _new_tokens(ids, mask, past, prepared)
            logits = _next_logits(runtime, chat, forward, tokens)
            for row, row_logits in zip(rows, logits, strict=True):
                row.take(row_logits, started)
            yield [row.reply() for row in rows]
            if all(row.stop_reason for row in rows):
                return
            # A finished row repeats its last token: its logits are ignored, and the batch keeps
            # its shape.
            ids = torch.tensor([[row.ids[-1]] for row in rows], device=base.device)
            if mask is not None:
                mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)


@torch.inference_mode()
def _next_logits(
    runtime: Runtime, chat: object, forward: Forward, tokens: NewTokens
) -> Float[Tensor, "rows vocabulary"]:
    """Read the prompts, or the rows' latest tokens together with those of other chats.

    Only a packed pass reads the weights once for all chats. Patient work would hold up the others.
    """
    is_next = tokens.past.length and tokens.ids.shape[1] == 1
    if is_next and isinstance(forward, PackedForward) and not is_patient():
        return runtime.joined.logits(chat, forward, tokens, runtime.one_token)
    with runtime.one_token():
        return forward.logits(forward.hidden(tokens)[:, -1])


@torch.inference_mode()
def _new_tokens(
    ids: Int[Tensor, "rows new"],
    mask: Bool[Tensor, "rows all_length"] | None,
    past: KeyValues,
    prepared: Any,
) -> NewTokens:
    """Return new tokens with their positions and the earlier tokens that each may attend to.

    Args:
        ids: Ids of new tokens, padded on the left.
        mask: True for real tokens, past and perhaps later ones included; None if there is no
            padding.
        past: Keys and values of past tokens.
        prepared: Adapters of the rows, from `forward.prepare`.
    """
    length, new = past.length + ids.shape[1], ids.shape[1]
    if mask is None and (new == 1 or not past.length):
        positions = torch.arange(past.length, length, device=ids.device).expand(len(ids), -1)
        return NewTokens(ids, positions, None, past, prepared)
    if mask is None:
        mask = torch.ones(len(ids), length, dtype=torch.bool, device=ids.device)
    mask = mask[:, :length]
    # Count from each row's first real token, so that padding shifts no position.
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -new:]
    # Padding attends to itself: a position that attends to nothing would become NaN.
    itself = torch.eye(length, dtype=torch.bool, device=ids.device)[-new:]
    causal = torch.ones(new, length, dtype=torch.bool, device=ids.device).tril(length - new)
    visible = ((mask[:, None] & causal) | itself)[:, None]
    return NewTokens(ids, positions, visible, past, prepared)


class _Row:
    """One answer in progress."""

    def __init__(self, base: BaseModel, prompt: list[int], sampling: Sampling) -> None:
        self.tokenizer = base.tokenizer
        self.sampling = sampling
        self.ids = list(prompt)
        self.start = len(prompt)
        self.stop_reason: StopReason | None = None
        self.first_token_seconds = 0.0
        self.last_token_seconds = 0.0
        self.ends = end_tokens(base)
        # One random generator per row with the same seed: both models draw the same numbers, so
        # differences between their answers come from the adapter.
        self.random = torch.Generator().manual_seed(sampling.seed)
        self.processors = _processors(sampling)

    def take(self, logits: Float[Tensor, " vocabulary"], started: float) -> None:
        """Sample the next token from the row's logits; a finished row ignores them."""
        if self.stop_reason:
            return
        # Sample on the CPU, where a seed gives the same answer on every device.
        scores = logits[None].float().cpu()
        # argmax would pick a token silently, and sampling would end in an error of torch's own.
        _check_finite(scores)
        if self.processors:
            scores = self.processors(torch.tensor([self.ids]), scores)  # type: ignore[arg-type]  # typed for LongTensor
        if self.sampling.temperature == 0:
            token = int(scores.argmax())
        else:
            shares = torch.softmax(scores[0], dim=-1)
            # Again, because a low temperature makes very large scores infinite.
            _check_finite(shares)
            token = int(torch.multinomial(shares, 1, generator=self.random))
        now = time.monotonic() - started
        self.first_token_seconds = self.first_token_seconds or now
        self.last_token_seconds = now
        self.ids.append(token)
        if token in self.ends:
            self.stop_reason = "eos"
        elif self.num_tokens >= self.sampling.max_new_tokens:
            self.stop_reason = "length"

    @property
    def num_tokens(self) -> int:
        return len(self.ids) - self.start

    def reply(self) -> Reply:
        text = str(self.tokenizer.decode(self.ids[self.start :], skip_special_tokens=True))
        if not self.stop_reason:
            # The last character may still lack bytes of the next tokens. Tokenizers with byte
            # fallback decode each such byte to a replacement character.
            text = text.rstrip("\N{REPLACEMENT CHARACTER}")
        later = self.last_token_seconds - self.first_token_seconds
        return Reply(
            text=text,
            num_tokens=self.num_tokens,
            stop_reason=self.stop_reason,
            first_token_seconds=self.first_token_seconds,
            tokens_per_second=(self.num_tokens - 1) / later if later > 0 else 0.0,
        )


def _check_finite(scores: Float[Tensor, "*shape"]) -> None:
    # One pass; a NaN becomes both of them.
    if not all(end.isfinite() for end in scores.aminmax()):
        raise ChatError(
            noted(
                "the answer cannot go on: the scores of the next token are NaN or infinite. The "
                "adapter's weights or its strength are too large for this base. Lower the "
                "strength, or use another adapter."
            )
        )


def _check_length(conversations: Sequence[Sequence[Message]], positions: int) -> None:
    """Reject conversations that cannot fit, before tokenising: megabytes would take seconds."""
    for messages in conversations:
        for message in messages:
            if not isinstance(message.get("content", ""), str):
                raise ChatError(
                    "the `content` of a message must be a text, got {kind}.",
                    kind=type(message["content"]).__name__,
                )
    longest = max(sum(len(m.get("content", "")) for m in messages) for messages in conversations)
    most = positions * _MAX_CHARS_PER_TOKEN
    if longest > most:
        raise ChatError(
            "the conversation is {longest} characters long; this base reads {positions} tokens, "
            "so at most {most} characters. Clear the chat, or shorten the message.",
            longest=longest,
            positions=positions,
            most=most,
        )


def _render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    if not messages or messages[-1].get("role") != "user":
        raise ChatError("a conversation must end with a message of role `user`.")
    for message in messages:
        if message.get("role") not in ("system", "user", "assistant"):
            raise ChatError(
                f"unknown role {message.get('role')!r}; expected system, user or assistant."
            )
    if not messages[-1].get("content", "").strip():
        raise ChatError(noted("the message is empty. Write one first."))
    # No tokenizer can encode a lone surrogate, which JSON and a shell may contain.
    readable = [
        {**m, "content": m.get("content", "").encode(errors="replace").decode()} for m in messages
    ]
    return chat_ids(tokenizer, readable)


def _processors(sampling: Sampling) -> LogitsProcessorList:
    """Return transformers' logits processors, in the order that `generate` applies them."""
    found = LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        found.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    # The rest leaves the largest score the largest, so greedy decoding skips it.
    if sampling.temperature > 0:
        if sampling.temperature != 1:
            found.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_k > 0:
            found.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            found.append(TopPLogitsWarper(sampling.top_p))
    return found
