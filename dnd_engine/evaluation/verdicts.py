"""What an examination comes to, in plain words: from scores and distances alone, by fixed rules.

A verdict holds, does not hold, or is open: because what it needs was not measured, because fewer
families than `MIN_UNITS` (or items, where there is one family) could be compared, so that luck
alone can decide, or because the numbers leave it undecided. All differences are paired over the
same items, with intervals over families (see `statistics`). "Clear of zero" means that the 95 %
interval does not reach it. The thresholds below and `MIN_UNITS` are all there are.

Bare inputs are judged first where they were measured: only there must the prompts carry the task.
Verdicts on full prompts then have names that end in `_full`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from dnd_engine.evaluation import evidence
from dnd_engine.generator.report import Cosine, Distances, Verdict
from dnd_engine.notes import Note, noted
from dnd_engine.scoring.scores import ItemScore
from dnd_engine.scoring.statistics import (
    MIN_UNITS,
    Cell,
    Interval,
    cells,
    interval,
    paired,
    share_of_gap,
    task_means,
)
from dnd_engine.tasks.folder import Mode
from dnd_engine.wording import (
    N_,
    ROWS,
    holdout_label,
    listed,
    mode_label,
    number,
    percent,
    row_label,
    signed,
)

SAME_ITEM = 1e-3
"""Two rows are identical if every item's loss is this near (nats) and every item's score equal."""

SAME_SCORE, SAME_NLL = 0.02, 0.05
"""Two rows are equal if their difference is not clear of zero, or its interval is within this
margin: a steady difference that nobody would notice is none."""

SMALL_GAIN = 0.05
"""A lead in score that is clear of zero but smaller than this is worded as a small one."""

ALIKE_COSINE = 0.1
"""Adapters ignore the task if two prompt batches of one task give centred cosines at most this much
above those of two tasks."""

NEAR_TRAINING = 0.25
"""A generator retrieves if its adapters lie nearer to a training adapter than this share of the
distance between a training task and its nearest other one (medians)."""

ORACLE_SHORTFALL = 0.05
"""A generator matches the oracle if its whole interval is above this far below it; an interval
that is only too wide to tell is no match."""

SOLVED_SHARE = 0.5
"""Share of the gap between base and oracle from which unseen tasks count as solved."""

_OTHERS: Mapping[str, Note] = {
    "base": noted("the base"),
    "generator": noted("the generator alone"),
    "imprint": noted("an imprint without the generator"),
    "steering_vector": noted("a steering vector"),
    "few_shot": noted("labelled examples in the prompt"),
    "multi_task_lora": noted("one LoRA for all tasks"),
    "nearest_lora": noted("the nearest training task's LoRA"),
}
"""Rows that the judged one is compared with, in words."""
_BETTER = N_("better than {other}")
_WORSE = N_("clearly worse than {other}")
_NEITHER = N_("no clear gain over {other}")

_NEW: Mapping[str, Note] = {
    "family": noted("new families"),
    "primitive": noted("new operations"),
}
"""Holdouts in which nothing about the operation was seen, in words."""
_SOLVED = N_("it solves {tasks}")
_IN_PART = N_("{tasks} are learnt in part")
_FAILED = N_("it fails on {tasks}")

COMPOSED: Mapping[str, Note] = {
    note: note
    for note in (
        *(noted(m, other=other) for m in (_BETTER, _WORSE, _NEITHER) for other in _OTHERS.values()),
        *(
            noted(m, tasks=tasks)
            for m in (_SOLVED, _IN_PART, _FAILED)
            for tasks in (*_NEW.values(), listed([*_NEW.values()]))
        ),
    )
}
"""Findings that are made of parts, by their English text, which is all that a report keeps. The
page translates them by these, and the others by their whole text."""


def judge(
    scores: Sequence[ItemScore],
    cosine: Cosine,
    distances: Distances,
    *,
    seed: int,
    row: str = "generator",
    other_format: Collection[str] = (),
) -> tuple[Verdict, ...]:
    """Call an examination by name.

    Args:
        scores: Scores of all rows and modes.
        cosine: Cosines of generated adapters, as `distances.measure_distances` found them.
        distances: What else it found.
        seed: Seeds the intervals.
        row: Row to judge. Others than the generator's are compared with it, the base and trained
            LoRAs, under names that begin with `made_`.
        other_format: Tasks whose wrong prompts ask for another answer format; `gain_on_unseen`
            leaves them out, since there a format could be told apart instead of a task.

    Returns:
        The most telling first. Without any score, none.
    """
    found = {score.mode for score in scores}
    modes: list[Mode] = [mode for mode in ("bare", "full") if mode in found]
    verdicts: list[list[Verdict]] = []
    for mode in modes:
        left_out = frozenset(other_format)
        rules = _RULES if row == "generator" else _MADE_RULES
        evidence = _Evidence(scores, mode, cosine, distances, seed, left_out, row)
        suffix = "" if mode == modes[0] else "_full"
        verdicts.append(
            [
                evidence.verdict(f"{name}{suffix}", bad=name in _BAD, finding=rule(evidence))
                for name, rule in rules.items()
                if name != f"made_beats_{row}"
                # Not every row has a control with another task's prompts.
                and (rule not in (_depends_on_prompts, _ignores_prompts) or f"{row}_wrong" in ROWS)
            ]
        )
    if len(verdicts) < 2:
        return tuple(verdicts[0]) if verdicts else ()
    first, second = verdicts
    # Full prompts are where users would send the instruction anyway, so whether one shared LoRA
    # does as well there is clear early.
    lift = [v for v in second if v.name == "beats_multi_task_lora_full"]
    return (*first[:2], *lift, *first[2:], *(v for v in second if v not in lift))


@dataclass(frozen=True, slots=True)
class _Finding:
    holds: bool | None
    title: str
    numbers: str = ""
    barely: bool = False
    """Holds, but too small to be good news."""


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What was measured in one mode."""

    scores: Sequence[ItemScore]
    mode: Mode
    cosine: Cosine
    distances: Distances
    seed: int
    other_format: frozenset[str]
    row: str = "generator"
    """Row that is judged, by the rules that are not about the generator alone."""
    known: dict[tuple[str, str], tuple[Cell, ...]] = field(default_factory=dict)
    """Cells already taken: most rules ask for the same few."""

    def verdict(self, name: str, *, bad: bool, finding: _Finding) -> Verdict:
        words = f"{mode_label(self.mode)}: {finding.title}. {finding.numbers}".strip()
        # A bad thing that does not hold is good news.
        undecided = finding.holds is None or finding.barely
        good = None if undecided else finding.holds != bad
        return Verdict(
            name=name, holds=finding.holds, good=good, mode=self.mode, row=self.row, words=words
        )

    def missing(self, *rows: str) -> list[str]:
        measured = {s.row for s in self.scores if s.mode == self.mode}
        return [row for row in rows if row not in measured]

    def cells(self, row: str, what: str = "score") -> tuple[Cell, ...]:
        if (row, what) not in self.known:
            mine = (s for s in self.scores if s.row == row and s.mode == self.mode)
            self.known[row, what] = cells(mine, lambda s: s.score if what == "score" else s.nll)
        return self.known[row, what]

    def level(self, row: str) -> Interval:
        return interval(self.cells(row), seed=self.seed)

    def level_words(self, row: str) -> Note:
        found = self.level(row)
        return noted(evidence.LEVEL, row=row_label(row), **_values(found))

    def difference(self, row: str, other: str, what: str = "score") -> Interval | None:
        """None where the rows have no item in common."""
        both = paired(self.cells(row, what), self.cells(other, what))
        return interval(both, seed=self.seed) if both else None

    def identical(self, row: str, other: str) -> bool:
        losses = paired(self.cells(row, "nll"), self.cells(other, "nll"))
        points = paired(self.cells(row), self.cells(other))
        return (
            # `all` of nothing is true, but rows without a common item are not identical.
            bool(losses)
            and all(abs(c.value) <= SAME_ITEM for c in losses)
            and all(c.value == 0 for c in points)
        )

    def equal(self, row: str, other: str) -> bool:
        pairs = (("score", SAME_SCORE), ("nll", SAME_NLL))
        return all(
            (found := self.difference(row, other, what)) is not None and _is_small(found, margin)
            for what, margin in pairs
        )


def _is_small(found: Interval, margin: float) -> bool:
    # However wide it is: an interval that reaches zero shows no difference.
    reaches_zero = not (found.above_zero or found.below_zero)
    return reaches_zero or (-margin <= found.low and found.high <= margin)


def _unknown(question: str, why: str) -> _Finding:
    return _Finding(None, f"not known whether {question}", why)


def _open(question: str, missing: Sequence[str]) -> _Finding:
    return _unknown(question, f"Not measured: {listed([*missing])}.")


def _too_few(question: str, numbers: str, *found: Interval | None) -> _Finding | None:
    """Open where luck alone could decide one of the differences; else None."""
    small = [one for one in found if one is not None and one.too_few]
    if not small:
        return None
    least = min(small, key=lambda one: one.units)
    return _open_for_few(question, least.units, least.unit, numbers)


def _open_for_few(question: str, units: int, unit: str, numbers: str = "") -> _Finding:
    why = f"It takes {MIN_UNITS} {unit} to rule out luck, and {units} could be compared."
    return _unknown(f"{question}: too few {unit}", f"{numbers} {why}".strip())


def _depends_on_prompts(e: _Evidence) -> _Finding:
    wrong, constant = f"{e.row}_wrong", f"{e.row}_constant"
    if missing := e.missing(e.row, wrong):
        return _open("the prompts matter", missing)
    controls = [c for c in (wrong, constant) if not e.missing(c)]
    levels = listed([e.level_words(c) for c in controls])
    said = [noted(evidence.WITH_CONTROLS, level=e.level_words(e.row), levels=levels)]
    missing_rows = [row_label(row) for row in e.missing(constant) if row in ROWS]
    said += [noted(evidence.NOT_MEASURED, row=row) for row in missing_rows]
    numbers = " ".join(said)
    # Against both: wrong prompts may do harm, so a lead over them alone does not show that right
    # ones help. Losses are subtracted the other way round, because less is better.
    points = [e.difference(e.row, control) for control in controls]
    losses = [e.difference(control, e.row, "nll") for control in controls]
    if few := _too_few("the prompts matter", numbers, *points):
        return few
    if all(found is not None and found.above_zero for found in points):
        differences = listed([_difference(found) for found in points if found is not None])
        small = any(found is not None and found.mean < SMALL_GAIN for found in points)
        clear, barely = (
            (N_("the prompts carry the task"), N_("the prompts barely carry the task"))
            if e.mode == "bare"
            else (N_("the prompts help"), N_("the prompts barely help"))
        )
        title = barely if small else clear
        more = noted(evidence.BY_SEVERAL, differences=differences)
        return _Finding(True, title, f"{numbers} {more}", barely=small)
    if all(found is not None and found.above_zero for found in losses):
        differences = listed([_difference(found) for found in losses if found is not None])
        more = noted(evidence.LIKELIER_ONLY, differences=differences)
        return _Finding(
            False,
            N_("the prompts make right answers likelier, but no more of them come out"),
            f"{numbers} {more}",
        )
    return _Finding(False, N_("no sign that the prompts matter"), numbers)


def _beats(other: str, e: _Evidence) -> _Finding:
    """Compare the row that is judged with another."""
    name = _OTHERS[other]
    question = f"it beats {name}"
    if missing := e.missing(e.row, other):
        return _open(question, missing)
    found = e.difference(e.row, other)
    if found is None:
        return _unknown(question, "The rows share no items.")
    ours = "Generator" if e.row == "generator" else row_label(e.row)
    scores = noted(
        evidence.BOTH,
        row=ours,
        mean=number(e.level(e.row).mean),
        other=row_label(other),
        other_mean=number(e.level(other).mean),
    )
    numbers = f"{scores} {noted(evidence.BY, difference=_difference(found))}"
    if few := _too_few(question, numbers, found):
        return few
    if found.above_zero:
        return _Finding(True, noted(_BETTER, other=name), numbers)
    title = noted(_WORSE if found.below_zero else _NEITHER, other=name)
    return _Finding(False, title, numbers)


def _gain_on_unseen(e: _Evidence) -> _Finding:
    question = "the right prompts help on unseen tasks"
    if missing := e.missing("generator", "generator_wrong"):
        return _open(question, missing)
    unseen = {s.slug for s in e.scores if s.holdout} - e.other_format
    gains = [
        cell
        # Wrong minus right, because a lower loss is better.
        for cell in paired(e.cells("generator_wrong", "nll"), e.cells("generator", "nll"))
        if cell.task in unseen
    ]
    if not gains:
        return _open(question, ["unseen tasks whose wrong prompts share their answer format"])
    found = interval(gains, seed=e.seed)
    tasks = [value for means in task_means(gains).values() for value in means.values()]
    share = sum(value > 0 for value in tasks) / len(tasks)
    numbers = noted(
        evidence.GAIN,
        difference=_difference(found),
        share=percent(share),
        number=str(len(tasks)),
    )
    if few := _too_few(question, numbers, found):
        return few
    if found.above_zero:
        return _Finding(True, N_("the right prompts help on unseen tasks"), numbers)
    title = N_("no clear gain from the right prompts on unseen tasks")
    return _Finding(False, N_("the right prompts hurt") if found.below_zero else title, numbers)


def _solves_unseen(e: _Evidence) -> _Finding:
    question = "it solves tasks with nothing seen of their operation"
    if missing := e.missing("base", "generator", "oracle_lora"):
        return _open(question, missing)
    # Compared on kinds of tasks that have both, or the two numbers would be of different tasks.
    trained = {s.holdout for s in e.scores if s.row == "oracle_lora"} & _NEW.keys()
    new = [s for s in e.scores if s.holdout in trained]
    if not new:
        return _open(question, [holdout_label(h).lower() for h in _NEW])
    # With a cache of its own: that of `e` holds cells of all tasks.
    part = replace(e, scores=new, known={})
    if missing := part.missing("base", "generator", "oracle_lora"):
        return _open(question, missing)
    base = part.cells("base")
    gained, whole = paired(part.cells("generator"), base), paired(part.cells("oracle_lora"), base)
    families = {cell.family for cell in gained} & {cell.family for cell in whole}
    # `share_of_gap` is content with two families.
    if len(families) < MIN_UNITS:
        return _open_for_few(question, len(families), "families")
    gap = share_of_gap(gained, whole, seed=e.seed)
    if gap is None:
        return _unknown(
            question, "There is no clear gap between the base and a LoRA trained on labels."
        )
    tasks = listed([words for holdout, words in _NEW.items() if holdout in trained])
    formats = [s for s in new if s.row == "generator" and s.mode == e.mode]
    asked = [s for s in formats if s.format_ok is not None]
    closed = noted(
        evidence.GAP,
        level=part.level_words("generator"),
        mean=number(part.level("oracle_lora").mean),
        share=percent(gap.mean),
        share_low=percent(gap.low),
        share_high=percent(gap.high),
    )
    said = [closed]
    if asked:
        right = sum(bool(s.format_ok) for s in asked) / len(asked)
        said += [noted(evidence.FORMAT, share=percent(right))]
    numbers = " ".join(said)
    if gap.mean >= SOLVED_SHARE and gap.low > 0:
        return _Finding(True, noted(_SOLVED, tasks=tasks), numbers)
    return _Finding(False, noted(_IN_PART if gap.low > 0 else _FAILED, tasks=tasks), numbers)


def _matches_oracle(e: _Evidence) -> _Finding:
    question = "it matches a LoRA trained on labels"
    if missing := e.missing(e.row, "oracle_lora", "multi_task_lora"):
        return _open(question, missing)
    short = e.difference(e.row, "oracle_lora")
    lead = e.difference(e.row, "multi_task_lora")
    if short is None or lead is None:
        return _unknown(question, "No items are shared.")
    match = noted(
        evidence.MATCH,
        level=e.level_words(e.row),
        other_level=e.level_words("oracle_lora"),
        difference=_difference(short),
    )
    over = noted(evidence.OVER, row=row_label("multi_task_lora"), difference=_difference(lead))
    numbers = f"{match} {over}"
    if few := _too_few(question, numbers, short, lead):
        return few
    # A test of non-inferiority: with few tasks, "no clear difference" would hold for any adapter.
    reaches = short.low >= -ORACLE_SHORTFALL
    if reaches and lead.above_zero:
        return _Finding(True, N_("as good as a LoRA trained on labels"), numbers)
    # Level, but so is an adapter that reads no prompts.
    if reaches:
        title = N_("level with a LoRA trained on labels, and so is one LoRA for all tasks")
        return _Finding(False, title, numbers)
    if short.below_zero:
        return _Finding(False, N_("below a LoRA trained on labels"), numbers)
    return _unknown(
        question, f"{numbers} A match has its whole interval above {signed(-ORACLE_SHORTFALL)}."
    )


def _ignores_prompts(e: _Evidence) -> _Finding:
    question = "the prompts are ignored"
    wrong = f"{e.row}_wrong"
    if missing := e.missing(e.row, wrong):
        return _open(question, missing)
    # Before any interval: equal item by item, it needs no test.
    if e.identical(e.row, wrong):
        return _Finding(
            True,
            N_("the prompts are ignored"),
            evidence.ALL_THE_SAME,
        )
    points = e.difference(e.row, wrong)
    losses = e.difference(wrong, e.row, "nll")
    if points is None or losses is None:
        return _unknown(question, "No items are shared.")
    numbers = noted(
        evidence.RIGHT_MINUS_WRONG,
        difference=_difference(points),
        other_difference=_difference(losses),
    )
    if few := _too_few(question, numbers, points, losses):
        return few
    if not e.equal(e.row, wrong):
        return _Finding(False, N_("the prompts are not ignored"), numbers)
    # Adapters that differ may still score alike. Cosines are of the generator's own adapters.
    alike, cosines = _alike(e.cosine if e.row == "generator" else Cosine())
    if alike is None:
        return _unknown(question, f"{numbers} {cosines}")
    if alike:
        return _Finding(True, N_("the prompts are ignored"), f"{numbers} {cosines}")
    title = N_("the prompts change the adapter, not what it does")
    return _Finding(False, title, f"{numbers} {cosines}")


def _alike(cosine: Cosine) -> tuple[bool | None, str]:
    """Whether adapters of two tasks are as similar as two of one task."""
    if cosine.different_task is None:
        return None, "The cosine of ΔW was not measured."
    if cosine.different_task_centred is None:
        # Centring has left nothing (see `distances`).
        return True, evidence.ONE_ADAPTER
    if cosine.same_task_centred is None:
        return None, "One prompt draw per task: nothing to compare the cosine of ΔW with."
    same, other = cosine.same_task_centred, cosine.different_task_centred
    words = noted(evidence.COSINES, mean=number(same), other_mean=number(other))
    return same - other <= ALIKE_COSINE, words


def _retrieves_nearest(e: _Evidence) -> _Finding:
    question = "it only retrieves the nearest training adapter"
    if missing := e.missing("generator", "nearest_lora"):
        return _open(question, missing)
    if e.identical("generator", "nearest_lora"):
        return _Finding(
            True,
            N_("it retrieves the nearest training adapter"),
            evidence.ALL_AS_NEAREST,
        )
    points = e.difference("generator", "nearest_lora")
    losses = e.difference("generator", "nearest_lora", "nll")
    if points is None or losses is None:
        return _unknown(question, "No items are shared.")
    numbers: str = noted(
        evidence.MINUS_NEAREST,
        difference=_difference(points),
        other_difference=_difference(losses),
    )
    if few := _too_few(question, numbers, points, losses):
        return few
    if not e.equal("generator", "nearest_lora"):
        return _Finding(False, N_("it does not merely retrieve"), numbers)
    nearest = e.distances.nearest
    if nearest is None or nearest.ratio is None:
        return _unknown(question, f"{numbers} The distance of ΔW to training was not measured.")
    numbers = f"{numbers} {noted(evidence.DISTANCE, mean=number(nearest.ratio))}"
    if nearest.ratio < NEAR_TRAINING:
        return _Finding(True, N_("it retrieves the nearest training adapter"), numbers)
    title = N_("as good as the nearest training LoRA, but not a copy of it")
    return _Finding(False, title, numbers)


def _difference(found: Interval) -> Note:
    of_items = found.unit == "items"
    message = evidence.DIFFERENCE_OF_ITEMS if of_items else evidence.DIFFERENCE
    return noted(message, **{**_values(found), "mean": signed(found.mean)})


def _values(found: Interval) -> dict[str, str]:
    return {"mean": number(found.mean), "low": number(found.low), "high": number(found.high)}


_RULES: Mapping[str, Callable[[_Evidence], _Finding]] = {
    "depends_on_prompts": _depends_on_prompts,
    "beats_multi_task_lora": partial(_beats, "multi_task_lora"),
    "gain_on_unseen": _gain_on_unseen,
    "solves_unseen": _solves_unseen,
    "better_than_nearest": partial(_beats, "nearest_lora"),
    "matches_oracle": _matches_oracle,
    "beats_base": partial(_beats, "base"),
    "ignores_prompts": _ignores_prompts,
    "retrieves_nearest": _retrieves_nearest,
}
"""In the order in which they are shown."""

_MADE_RULES: Mapping[str, Callable[[_Evidence], _Finding]] = {
    "made_depends_on_prompts": _depends_on_prompts,
    "made_beats_base": _RULES["beats_base"],
    "made_beats_generator": partial(_beats, "generator"),
    "made_beats_imprint": partial(_beats, "imprint"),
    "made_beats_steering_vector": partial(_beats, "steering_vector"),
    "made_beats_few_shot": partial(_beats, "few_shot"),
    "made_beats_multi_task_lora": _RULES["beats_multi_task_lora"],
    "made_matches_oracle": _matches_oracle,
    "made_ignores_prompts": _ignores_prompts,
}
"""For what is made of the generator's adapter: imprinted or taught."""

_BAD = ("ignores_prompts", "retrieves_nearest", "made_ignores_prompts")
