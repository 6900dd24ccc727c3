"""The teacher of context distillation: the base with the instruction in its input.

A teacher is the base alone or wearing a multi-task LoRA, and reads *full* prompts. What it says of
each answer token is kept once, as its 16 likeliest next tokens and the rest of the mass, so that
students on *bare* inputs can be compared with it at every step for nothing.

Source: Snell et al. 2022, arXiv:2209.15189, for context distillation.
"""

import hashlib
import json
import logging
import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from dnd_engine.errors import TrainingError
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.base import BaseModel, end_tokens
from dnd_engine.models.runtime import Runtime
from dnd_engine.tasks.folder import Example
from dnd_engine.training.batches import TaskPool
from dnd_engine.training.checkpoint import read_cached, read_notes, write_tensors
from dnd_engine.training.examples import EncodedExample, answer_logits, encode_example, pack
from dnd_engine.training.recipe import TrainRecipe

__all__ = ["TeacherAnswers", "ask_teacher", "greedy_answers", "listen"]

logger = logging.getLogger(__name__)

TOP = 16
"""Next tokens that are kept of each position. Source: Doc-to-LoRA keeps as many."""

_ROW_EXAMPLES = 8
"""Examples that share a row when the teacher reads them."""

_ANSWERED_TOGETHER = 64
"""Examples that the teacher answers in one batch: 64 rows take little longer than 8."""

_MAX_ANSWER_TOKENS = 32
_LEAST_PROBABILITY = 0.6
"""Own answers of the teacher are kept if they end within so many tokens, each of this probability
on average. Source: a proposal, untuned."""

_LEAST_EXAMPLES = 4
"""Tasks for which fewer examples are left are not trained on."""


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


def ask_teacher(
    pools: Sequence[TaskPool],
    runtime: Runtime,
    worn: FittedLoRA | None,
    identity: str,
    recipe: TrainRecipe,
) -> tuple[tuple[TaskPool, ...], tuple[TeacherAnswers | None, ...]]:
    """Ask the teacher about `teacher_examples` of every trained task, once.

    Each task's answers are a file of the cache, under a name made of everything they depend on.

    Args:
        pools: All tasks; validating ones pass through.
        runtime: The frozen base.
        worn: The teacher's LoRA; None is the base alone.
        identity: Names base and teacher by their weights.
        recipe: For the number of examples, whether labels are used, the seed and the cache.

    Returns:
        The tasks, cut to the examples that the teacher was asked about (with its own answers in
        place of the references where the recipe says so), and its answers beside each.

    Raises:
        TrainingError: If no task is left, or the disk refuses.
    """
    base = runtime.base
    kept: list[TaskPool] = []
    found: list[TeacherAnswers | None] = []
    for pool in tqdm(pools, desc="Ask the teacher", unit="task", leave=False):
        if pool.role == "validation":
            kept.append(pool)
            found.append(None)
            continue
        chosen = _choose(pool, base, recipe)
        key = json.dumps([identity, recipe.labels, [[e.prompt, e.response] for e in chosen]])
        digest = hashlib.sha256(key.encode()).hexdigest()[:32]
        path = recipe.cache_folder / "teacher" / f"{digest}.safetensors"
        if (tensors := read_cached(path)) is None:
            with runtime.host.wearing(worn), torch.inference_mode():
                asked = chosen if recipe.labels else _answer(chosen, base)
                tensors = asdict(listen(asked, base))
            responses = json.dumps([[e.prompt, e.response] for e in asked])
            write_tensors(path, tensors, {"responses": responses})
        else:
            pairs = json.loads(read_notes(path)["responses"])
            asked = [Example(prompt, response) for prompt, response in pairs]
        if len(asked) >= _LEAST_EXAMPLES:
            kept.append(replace(pool, examples=tuple(asked)))
            found.append(TeacherAnswers(**tensors))
    left_out = len(pools) - len(kept)
    if left_out:
        logger.warning(
            "the teacher has confident answers for too few examples of %d tasks", left_out
        )
    if not any(pool.role == "train" for pool in kept):
        raise TrainingError(
            f"the teacher answered no task with a mean token probability of {_LEAST_PROBABILITY} "
            "or more. Use a better `teacher`, or set `labels: true`."
        )
    return tuple(kept), tuple(found)


def _choose(pool: TaskPool, base: BaseModel, recipe: TrainRecipe) -> list[Example]:
    """A seeded draw of examples that fit even with their instruction."""
    rng = random.Random(f"{recipe.seed}:teacher:{pool.task.info.slug}")
    chosen: list[Example] = []
    for example in rng.sample(pool.examples, len(pool.examples)):
        encoded = encode_example(base.tokenizer, example, "full")
        if encoded is not None and len(encoded.ids) <= recipe.max_tokens:
            chosen.append(example)
        if len(chosen) == recipe.teacher_examples:
            break
    return chosen


def _encode(examples: Sequence[Example], base: BaseModel) -> list[EncodedExample]:
    encoded = (encode_example(base.tokenizer, example, "full") for example in examples)
    return [e for e in encoded if e is not None]


def _rows(examples: Sequence[EncodedExample]) -> Iterator[Sequence[EncodedExample]]:
    for start in range(0, len(examples), _ROW_EXAMPLES):
        yield examples[start : start + _ROW_EXAMPLES]


def listen(examples: Sequence[Example], base: BaseModel) -> TeacherAnswers:
    """What the model, as it stands, says at the answer tokens of full prompts.

    Nobody else may use the base meanwhile; call it in inference mode.
    """
    encoded = _encode(examples, base)
    tokens, log_probs, rest = [], [], []
    for row in _rows(encoded):
        logits, _ = answer_logits(base.model, pack([row]).to(base.device))
        top = logits.log_softmax(dim=-1).topk(TOP, dim=-1)
        tokens.append(top.indices.to(torch.int32).cpu())
        log_probs.append(top.values.cpu())
        rest.append(_log_rest(top.values).cpu())
    lengths = torch.tensor([0, *(len(e.ids) - e.start for e in encoded)])
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
    ids = torch.tensor([(0,) * (length - len(p)) + p for p in prompts], device=base.device)
    mask = torch.tensor(
        [[0] * (length - len(p)) + [1] * len(p) for p in prompts], device=base.device
    )
    out = base.model.generate(  # type: ignore[operator]
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        do_sample=False,
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


def _answer(examples: Sequence[Example], base: BaseModel) -> list[Example]:
    """The model's own greedy answers, where it ends them and is sure of them."""
    own: list[Example] = []
    for start in range(0, len(examples), _ANSWERED_TOGETHER):
        chunk = examples[start : start + _ANSWERED_TOGETHER]
        texts = greedy_answers(chunk, base, _MAX_ANSWER_TOKENS)
        own += [replace(e, response=t) for e, t in zip(chunk, texts, strict=True) if t]
    return [e for e, sure in zip(own, _confidences(own, base), strict=True) if sure]


def _ended(ids: list[int], ends: Collection[int]) -> list[int] | None:
    """The tokens before the first that ends an answer; None if none does."""
    return next((ids[:n] for n, token in enumerate(ids) if token in ends), None)


def _confidences(examples: Sequence[Example], base: BaseModel) -> list[bool]:
    """Whether the mean probability of each answer's tokens reaches the least one."""
    sure: list[bool] = []
    for row in _rows(_encode(examples, base)):
        logits, targets = answer_logits(base.model, pack([row]).to(base.device))
        chances = logits.softmax(dim=-1).gather(1, targets[:, None])[:, 0]
        parts = torch.split(chances, [len(e.ids) - e.start for e in row])
        sure += [float(part.mean()) >= _LEAST_PROBABILITY for part in parts]
    return sure


def _log_rest(log_probs: Float[Tensor, "answer_tokens top"]) -> Float[Tensor, " answer_tokens"]:
    """Log of one minus the mass of the kept tokens, kept from minus infinity."""
    return torch.log1p(-log_probs.exp().sum(dim=-1).clamp(max=1 - 1e-6))
