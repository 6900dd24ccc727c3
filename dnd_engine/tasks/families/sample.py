"""Some operations in place of all, so that a first look at the whole pipeline takes minutes.

Knows what is held out, what a composition is made of and which operations share their inputs, for
these make a small set mean what the whole set means.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import get_args

from dnd_engine.errors import ConfigError
from dnd_engine.tasks.families.operation import Holdout, Operation

MIN_OPERATIONS = 12
"""One held-out operation of each kind, and room for what they need in training."""


def sample_operations(
    operations: Mapping[str, Operation], count: int, seed: int
) -> dict[str, Operation]:
    """Draw operations, so that nothing which the whole set has is missing.

    Every kind of holdout keeps its share, and one operation at least. The parts of a held-out
    composition are trained alone and in another pair each, so that only the pair is new. Of every
    input kind that is trained there are two operations or more, which draw from the same inputs;
    beyond that, input kinds keep their shares.

    Returns:
        Those drawn, in the order of `operations`.

    Raises:
        ConfigError: If so few cannot stand for all, or there are not so many.
    """
    if not MIN_OPERATIONS <= count <= len(operations):
        raise ConfigError(
            f"expected between {MIN_OPERATIONS} and {len(operations)} operations, got {count}. "
            "Fewer would leave out a kind of holdout or what it builds on; leave the number out "
            "for all of them."
        )
    rng = random.Random(f"{seed}:operations")
    held = {
        name: [op for op in operations.values() if op.holdout == name] for name in get_args(Holdout)
    }
    trained = held.pop("")
    drawn: dict[str, Operation] = {}
    for pool in held.values():
        share = max(1, round(count * len(pool) / len(operations)))
        drawn |= {op.name: op for op in _spread(pool, rng)[:share]}
    # Unlike a set, these keep their order, so the draws below are the same in every process.
    parts = dict.fromkeys(part for op in [*drawn.values()] for part in op.parts)
    drawn |= {part: operations[part] for part in parts}
    for part in parts:
        pairs = [op for op in trained if part in op.parts]
        if not any(op.name in drawn for op in pairs):
            pair = rng.choice(pairs)
            drawn[pair.name] = pair
    _fill(drawn, trained, count, rng)
    return {name: op for name, op in operations.items() if name in drawn}


def _fill(
    drawn: dict[str, Operation], trained: Sequence[Operation], count: int, rng: random.Random
) -> None:
    """Add training operations, the input kind next that needs it most."""
    sizes = Counter(op.kind for op in trained)
    numbers = Counter(op.kind for op in trained if op.name in drawn)
    # Shuffled, because `min` below takes the first of equals.
    kinds = rng.sample(list(sizes), len(sizes))
    left = {
        kind: _spread([op for op in trained if op.kind == kind and op.name not in drawn], rng)
        for kind in kinds
    }
    while len(drawn) < count:
        # The last place is for no new kind: its one operation would share its inputs with none.
        is_last = len(drawn) == count - 1
        able = [kind for kind in kinds if left[kind] and (numbers[kind] or not is_last)]
        # First a kind whose one operation shares its inputs with none, then a kind without any,
        # then the one that is furthest below its share.
        kind = min(able, key=lambda k: (numbers[k] != 1, numbers[k] > 0, numbers[k] / sizes[k]))
        op = left[kind].pop(0)
        drawn[op.name] = op
        numbers[kind] += 1


def _spread(operations: Sequence[Operation], rng: random.Random) -> list[Operation]:
    """Shuffle, families in turn."""
    seen: Counter[str] = Counter()
    ranked = []
    for op in rng.sample(operations, len(operations)):
        ranked.append((seen[op.family], op))
        seen[op.family] += 1
    # The sort is stable, so each turn stays shuffled.
    return [op for _, op in sorted(ranked, key=itemgetter(0))]
