"""Leaves prompts out of an imprint's fit, so that it can be tested on them.

Knows texts only, and imports no torch.
"""

import random
from collections.abc import Sequence

from dnd_engine.config import ImprintConfig

MIN_PROMPTS = 8
"""With fewer prompts, the fit needs them all."""

_MIN_LEFT_OUT, _MAX_LEFT_OUT = 2, 8
"""Minimum left out per bucket, and maximum of all buckets together, which is one batch of answers.
The minimum wins: 16 buckets leave out 32."""


def leave_out(
    prompts: Sequence[tuple[str, str]], config: ImprintConfig, num_sources: int
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Split the prompts of a bucket into fitted and left-out ones.

    Args:
        prompts: Whole prompts with their inputs, in an order that does not depend on the files'.
        config: Share to leave out, and the seed.
        num_sources: Number of buckets that are fitted together.

    Returns:
        Both parts, in the order of the prompts.
    """
    if len(prompts) < MIN_PROMPTS or config.left_out_share == 0:
        return list(prompts), []
    most = max(_MIN_LEFT_OUT, _MAX_LEFT_OUT // num_sources)
    count = min(max(int(len(prompts) * config.left_out_share), _MIN_LEFT_OUT), most)
    chosen = set(random.Random(f"{config.seed}:left out").sample(range(len(prompts)), count))
    return (
        [pair for number, pair in enumerate(prompts) if number not in chosen],
        [pair for number, pair in enumerate(prompts) if number in chosen],
    )
