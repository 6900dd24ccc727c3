"""Pairs of operations, one after the other: which are trained, and which are held out.

Parts stand in stages, and a part is followed by one of a later stage; some orders are followed by
a selection. A pair of primitives is held out as a whole, in either order, while both
primitives are trained in other pairs.
"""

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import product

from dnd_engine.tasks.families.operation import Operation
from dnd_engine.tasks.families.scopes import TextFunction
from dnd_engine.tasks.families.wording import Phrases

_STAGES: tuple[tuple[str, ...], ...] = (
    (  # plain texts: select, order, change words, finish
        "first-2 first-3 last-2 last-3 drop-first drop-last drop-second vowel-keep vowel-drop",
        "reverse sort-up sort-down swap-ends swap-first-two",
        "upper-each-word upper-first-word upper-last-word lower-each-word title-each-word "
        "title-last-word mark-quotes-each-word mark-square-last-word mark-underscores-each-word "
        "mark-angles-first-word add-hash-each-word add-bang-each-word add-no-first-word "
        "replace-blank-first-word replace-fruit-last-word",
        "join-hyphen join-slash join-comma join-and join-plus join-newline template-see "
        "template-about template-not template-need",
    ),
    (  # lines
        "line-drop-first line-drop-last",
        "line-reverse line-sort line-swap",
        "upper-first-word-of-each-line upper-last-word-of-each-line title-last-word-of-each-line "
        "add-hash-last-word-of-each-line first-1-each-line drop-first-each-line reverse-each-line",
        "line-join-comma line-join-bar line-join-semicolon line-prefix-numbers line-prefix-dash "
        "line-prefix-quote line-suffix-semicolon",
    ),
    (  # comma-separated lists
        "item-drop-first item-drop-last",
        "item-reverse item-sort item-swap",
        "upper-first-word-of-each-item title-first-word-of-each-item "
        "add-bang-last-word-of-each-item drop-last-each-item last-1-each-item",
        "item-join-semicolon item-join-slash item-join-and item-join-or item-join-lines "
        "item-list-dash item-list-numbers",
    ),
)
_LESS = frozenset(
    {
        ("swap-first-two", "drop-second"),
        ("swap-first-two", "first-2"),
        ("line-reverse", "line-drop-first"),
        ("line-reverse", "line-drop-last"),
        ("item-reverse", "item-drop-first"),
        ("item-reverse", "item-drop-last"),
        ("reverse", "first-3"),
        ("reverse", "last-3"),
        # Two words have one other order only.
        *product(("first-2", "last-2"), _STAGES[0][1].split()),
    }
)
"""Pairs that amount to something simpler, or to another pair."""
HELD_OUT_PAIRS = frozenset(
    frozenset(pair.split())
    for pair in (
        "first upper",
        "first join",
        "last mark",
        "last reverse",
        "drop title",
        "drop swap",
        "drop template",
        "vowel add",
        "vowel join",
        "reverse upper",
        "reverse template",
        "sort mark",
        "sort join",
        "swap add",
        "swap lower",
        "upper template",
        "add join",
        "replace join",
        "mark template",
        "line-pick line-join",
        "line-order line-prefix",
        "upper line-join",
        "item-pick item-join",
        "item-order upper",
        "item-order line-prefix",
    )
)
"""Primitives that are never composed in training, in either order."""
_JOINERS = (
    "{a}, then {b}",
    "first {a}, then {b}",
    "{a} and after that {b}",
    "{a}; next, {b}",
    "{a}, and afterwards {b}",
)
_TEST_JOINER = "begin like this: {a}; continue like this: {b}"
# Maximum number of trained compositions per part, and of held-out ones per pair of primitives.
_PER_PART, _PER_PAIR = 4, 2


def compositions(operations: Mapping[str, Operation]) -> Iterator[Operation]:
    """Compose a fixed choice of pairs of the operations, which are given by name."""
    pairs = [
        (operations[f"op-{first}"], operations[f"op-{second}"])
        for first, second in _candidates()
        if (first, second) not in _LESS
    ]
    # Two variants of one primitive are no pair of primitives.
    pairs = [(a, b) for a, b in pairs if a.family != b.family]
    # The same for every seed: stored tasks name their operation, so it must always exist.
    random.Random("compositions").shuffle(pairs)
    uses: Counter[str | frozenset[str]] = Counter()
    for a, b in pairs:
        both = frozenset({a.family, b.family})
        is_held_out = both in HELD_OUT_PAIRS
        # Training spreads over parts, the held-out side over pairs of primitives.
        counted = (both,) if is_held_out else (a.name, b.name)
        if max(uses[key] for key in counted) < (_PER_PAIR if is_held_out else _PER_PART):
            uses.update(counted)
            yield _composition(a, b, is_held_out)


def _candidates() -> Iterator[tuple[str, str]]:
    for names in _STAGES:
        stages = [stage.split() for stage in names]
        for i, stage in enumerate(stages):
            for later in stages[i + 1 :]:
                yield from ((a, b) for a in stage for b in later)
        # Selecting after ordering keeps other words than selecting before it.
        yield from ((a, b) for a in stages[1] for b in stages[0])


def _composition(first: Operation, second: Operation, held_out: bool) -> Operation:
    run = _after(first.run, second.run)
    return Operation(
        name=f"{first.name}-then-{second.name.removeprefix('op-')}",
        family=f"composition-{first.family}-{second.family}",
        category=second.category,
        kind=first.kind,
        phrases=_phrases(first.phrases, second.phrases),
        answer=lambda item: run(item.text),
        run=run,
        holdout="composition" if held_out else "",
        parts=(first.name, second.name),
    )


def _after(first: TextFunction | None, second: TextFunction | None) -> TextFunction:
    # For the type checker: the parts are operations of primitives, which all have `run`.
    assert first is not None
    assert second is not None

    def run(text: str) -> str | None:
        between = first(text)
        if between is None or between == text:
            return None
        done = second(between)
        # A step that changes nothing would hide that it was asked for.
        return None if done == between else done

    return run


def _phrases(first: Phrases, second: Phrases) -> Phrases:
    """The parts' verbs, each time another pair and joined in another way."""
    # Without the last groups, which are the test side's.
    seen = tuple(
        (joiner.format(a=first[i % (len(first) - 1)][0], b=second[i % (len(second) - 1)][0]),)
        for i, joiner in enumerate(_JOINERS)
    )
    return (*seen, (_TEST_JOINER.format(a=first[-1][0], b=second[-1][0]),))
