"""Gradient steps on weight tokens: where they start, what they draw, when they are scored.

Knows no prompts and no files.
"""

import random

import torch
from jaxtyping import Float
from torch import Tensor

from dnd_engine.lora.layout import LoRALayout
from dnd_engine.tasks.folder import Mode

_FIRST_POINT = 5
"""Steps before a training is scored for the first time; then after twice as many, and so on."""


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
