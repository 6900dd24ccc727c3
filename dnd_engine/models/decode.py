"""Twin decoding: base and adapted answers from one batch, token by token.

One forward pass per step serves both rows; row 0 wears nothing, row 1 the adapter. Each row samples
with its own generator of the same seed. Knows messages and logits; knows no prompts files.
"""

import time
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import (
    DynamicCache,
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
from dnd_engine.models.base import (
    BaseModel,
    end_tokens,
    last_hidden,
    next_token_logits,
    output_layer,
)
from dnd_engine.models.replies import Message, Reply, StopReason
from dnd_engine.models.runtime import Runtime

__all__ = ["decode"]


def decode(
    runtime: Runtime,
    conversations: Sequence[Sequence[Message]],
    worn: Callable[[], FittedLoRA | None],
    sampling: Sampling,
) -> Iterator[list[Reply]]:
    """Answer one conversation per row, yielding all rows after every token.

    Closing the iterator stops at the next token. The lock is held during forward passes only, so
    that visitors take turns token by token.

    Args:
        runtime: The frozen model.
        conversations: One per row, each ending with the user's message.
        worn: Asked before every token for an adapter of each row, or None; what is read of the
            conversation keeps the keys and values of the adapter it was read with.
        sampling: The same for all rows.

    Raises:
        ChatError: If a conversation is empty, malformed, or too long for the base.
    """
    base = runtime.base
    prompts = [_render(base.tokenizer, messages) for messages in conversations]
    room = int(base.config["max_position_embeddings"]) - sampling.max_new_tokens
    longest = max(map(len, prompts))
    if longest > room:
        raise ChatError(
            f"the conversation is {longest} tokens long; this base reads {room}. "
            "Clear the chat, or shorten the message."
        )
    rows = [_Row(base, prompt, sampling) for prompt in prompts]
    ids, mask = _left_pad(prompts, base.tokenizer.pad_token_id or 0, base.device)
    cache = DynamicCache()
    started = time.monotonic()
    while True:
        wearing = worn()
        with runtime.lock, runtime.host.wearing(wearing):
            logits = _next_logits(base.model, ids, mask, cache)
        for row, row_logits in zip(rows, logits, strict=True):
            row.take(row_logits, started)
        yield [row.reply() for row in rows]
        if all(row.stop_reason for row in rows):
            return
        if mask is None:
            mask = torch.ones_like(ids)
        ids = torch.tensor([[row.ids[-1]] for row in rows], device=base.device)
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)


@torch.inference_mode()
def _next_logits(
    model: nn.Module,
    ids: Int[Tensor, "rows length"],
    mask: Int[Tensor, "rows all_length"] | None,
    cache: DynamicCache,
) -> Float[Tensor, "rows vocabulary"]:
    """Read the prompts, or the one token that each row has written since.

    For one token the mask is always given, and in its final shape: without one, attention runs each
    query head on its own, which on a CPU takes three to six times as long.
    """
    if not cache.get_seq_length():
        return next_token_logits(model, ids, mask, cache)
    assert mask is not None
    hidden = last_hidden(
        model,
        input_ids=ids,
        attention_mask=mask.bool()[:, None, None],
        position_ids=mask.sum(dim=1, keepdim=True) - 1,
        cache=cache,
        use_cache=True,
    )
    logits: Tensor = output_layer(model)(hidden[:, -1])
    return logits


class _Row:
    """One answer being written."""

    def __init__(self, base: BaseModel, prompt: list[int], sampling: Sampling) -> None:
        self.tokenizer = base.tokenizer
        self.sampling = sampling
        self.ids = list(prompt)
        self.start = len(prompt)
        self.stop_reason: StopReason | None = None
        self.first_token_seconds = 0.0
        self.last_token_seconds = 0.0
        self.ends = end_tokens(base)
        self.random = torch.Generator().manual_seed(sampling.seed)
        self.processors = _processors(sampling)

    def take(self, logits: Float[Tensor, " vocabulary"], started: float) -> None:
        """Pick the next token from the row's logits; a finished row ignores them."""
        if self.stop_reason:
            return
        scores = logits[None].float().cpu()
        if self.processors:
            scores = self.processors(torch.tensor([self.ids]), scores)  # type: ignore[arg-type]
        if self.sampling.temperature == 0:
            token = int(scores.argmax())
        else:
            shares = torch.softmax(scores[0], dim=-1)
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
            # The last character may still lack bytes that the next tokens bring. Tokenizers with
            # byte fallback decode each of its bytes to a replacement character.
            text = text.rstrip("\N{REPLACEMENT CHARACTER}")
        later = self.last_token_seconds - self.first_token_seconds
        return Reply(
            text=text,
            num_tokens=self.num_tokens,
            stop_reason=self.stop_reason,
            first_token_seconds=self.first_token_seconds,
            tokens_per_second=(self.num_tokens - 1) / later if later > 0 else 0.0,
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
        raise ChatError("the message is empty. Write one first.")
    text = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
    ids: list[int] = tokenizer(str(text), add_special_tokens=False)["input_ids"]
    return ids


def _left_pad(
    prompts: Sequence[list[int]], fill: int, device: torch.device
) -> tuple[Int[Tensor, "rows length"], Int[Tensor, "rows length"] | None]:
    """Pad on the left; no mask when there is nothing to mask."""
    length = max(map(len, prompts))
    ids = torch.tensor([[fill] * (length - len(p)) + p for p in prompts], device=device)
    if all(len(p) == length for p in prompts):
        return ids, None
    mask = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompts], device=device)
    return ids, mask


def _processors(sampling: Sampling) -> LogitsProcessorList:
    """The library's own, in the order `generate` applies them."""
    found = LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        found.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.temperature > 0:
        if sampling.temperature != 1:
            found.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_k > 0:
            found.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            found.append(TopPLogitsWarper(sampling.top_p))
    return found
