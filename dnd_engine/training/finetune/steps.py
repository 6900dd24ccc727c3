"""Gradient steps on the weight tokens of one LoRA: where they start, what they draw, how they go.

Refining and training on labels differ in what a step learns, which is a function given to
`descend`. Knows no prompts and no files.
"""

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dnd_engine.errors import TrainingError
from dnd_engine.lora.layout import LoRALayout
from dnd_engine.models.turns import TurnLock
from dnd_engine.tasks.folder import Mode

__all__ = [
    "Descent",
    "check_points",
    "descend",
    "draw_lessons",
    "shared_start",
    "trainable_start",
]

_FIRST_POINT = 5
"""Steps before a training is scored for the first time; then after twice as many, and so on."""


@dataclass(frozen=True, slots=True)
class Descent:
    """One step that was done."""

    step: int
    """From 1."""
    loss: float
    """Before the update."""
    seconds: float
    """What it took, waiting for others left out."""
    tokens: Float[Tensor, "tokens rows cols"]
    """After the update, float32, on the base's device. The next step changes them: copy to keep."""


def check_points(steps: int) -> tuple[int, ...]:
    """Steps after which a training is scored: 5, 10, 20, 40 and so on, and the last."""
    points = []
    point = _FIRST_POINT
    while point < steps:
        points.append(point)
        point *= 2
    return (*points, steps)


def shared_start(layout: LoRALayout, seed: int) -> Float[Tensor, "tokens rows cols"]:
    """The weight tokens that every run starts from: A ~ N(0, 1 / in_features), B zero.

    As in a fresh `Generator`, so that both have the same start. Sampled on the CPU, so that the
    device does not matter.
    """
    rng = torch.Generator().manual_seed(seed)
    tokens = torch.zeros(layout.num_tokens, layout.spec.r, layout.width)
    for m in layout.matrices():
        if m.side == "A":
            rows = tokens[m.first_token : m.first_token + m.num_tokens]
            rows.normal_(std=m.long**-0.5, generator=rng)
    return tokens


def trainable_start(
    tokens: Float[Tensor, "tokens rows cols"], layout: LoRALayout, seed: int
) -> Float[Tensor, "tokens rows cols"]:
    """Return the same adapter with a gradient everywhere.

    An imprint leaves A and B of the lower layers at zero, where both gradients are zero too.
    Their A is drawn as for a fresh LoRA; B stays zero, so nothing that the adapter does changes.
    """
    drawn, start = shared_start(layout, seed), tokens.clone()
    matrices = tuple(layout.matrices())
    # A and B alternate in a layout.
    for down, up in zip(matrices[0::2], matrices[1::2], strict=True):
        a, b = (slice(m.first_token, m.first_token + m.num_tokens) for m in (down, up))
        if not start[a].any() and not start[b].any():
            start[a] = drawn[a].to(start)
    return start


def draw_lessons(
    count: int, step: int, *, batch_size: int, full_share: float, seed: int
) -> list[tuple[int, Mode]]:
    """Lessons of one step: every epoch in an order of its own, each shown full or bare."""
    size = min(count, batch_size)
    drawn: list[tuple[int, Mode]] = []
    # Derived from the step's number alone, with no state in between: lessons may be added there.
    for place in range(step * size, (step + 1) * size):
        epoch, at = divmod(place, count)
        order = list(range(count))
        random.Random(f"{seed}:refine:{epoch}").shuffle(order)
        rng = random.Random(f"{seed}:refine:{place}:mode")
        drawn.append((order[at], "full" if rng.random() < full_share else "bare"))
    return drawn


def descend(
    start: Float[Tensor, "tokens rows cols"],
    loss: Callable[[nn.Parameter, int], Tensor],
    lock: TurnLock,
    *,
    name: str,
    steps: int,
    learning_rate: Callable[[int], float],
    clip_norm: float,
) -> Iterator[Descent]:
    """Train weight tokens with AdamW, step by step; closing the iterator cancels.

    Args:
        start: Where to start, on the base's device; not changed.
        loss: Loss of the tokens at a step, from 0.
        lock: Guards the base; held while a loss and its gradient are computed, not between.
        name: Name of the operation, for its error.
        steps: How many.
        learning_rate: Learning rate at a step, from 0.
        clip_norm: Maximum norm of the gradient.

    Yields:
        After every step.

    Raises:
        TrainingError: If the loss or its gradient is not finite.
    """
    # `copy`, because `to` returns a float32 `start` itself, and updates are in place.
    tokens = nn.Parameter(start.detach().to(torch.float32, copy=True))
    optimizer = torch.optim.AdamW([tokens], weight_decay=0.0)
    for step in range(steps):
        rate = learning_rate(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with lock:
            started = time.monotonic()
            value = loss(tokens, step)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
        # The lock is free already: from here on only the tokens are touched.
        norm = nn.utils.clip_grad_norm_([tokens], clip_norm).item()
        found = value.item()
        # The sum is finite only if both are. Before the update, which would spoil the tokens.
        if not math.isfinite(found + norm):
            raise TrainingError(
                f"{name}, step {step + 1}: loss {found}, gradient norm {norm}. Lower the learning "
                f"rate (here {rate:g}), or start from another adapter."
            )
        optimizer.step()
        yield Descent(step + 1, found, time.monotonic() - started, tokens.detach())
