"""The label audit: what makes a score on a task meaningless, found before anyone computes one.

Knows tasks and their texts, and no model. The released data of the paper hold a test side whose
every answer is `[A]`, a train side with inverted labels, answers that no scorer can match, and one
data set under two names; each of these is found here. `conditions` refuses another of its faults:
conditions made of the test questions.

Not found, because nothing in a task's texts shows it: labels that are wrong on both sides in the
same way, and inverted labels where words do not tell the answers apart.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, combinations
from math import sqrt
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from dnd_engine.notes import first_of
from dnd_engine.tasks.conditions import bare_identifies, spaced
from dnd_engine.tasks.folder import Example, Task
from dnd_engine.tasks.rouge_text import rouge_reads

Severity = Literal["error", "warning"]
"""An error makes a score meaningless or impossible; a warning is for the reader of the score."""

_CONSTANT_SHARE = 0.95
"""A side on which one answer is right this often measures, or teaches, nothing."""

_MAJORITY_SHARE = 0.8
"""Above it, always giving one answer looks like skill."""

_REPEATED_SHARE = 0.5
"""Share of duplicate bare inputs above which the bare inputs carry no information."""

_SAME_SHARE = 0.9
"""Share of one task's examples found in another above which both are one dataset."""

_MIN_COUNT = 10
"""Shares of fewer examples say little."""

_MAX_LABELS = 10
"""Tasks with more distinct answers are not treated as classification."""

_CLEAR_Z = 3.0
"""Deviations from chance that count; 1 in 740 by luck."""

_FALSE_ALARMS = 1e-4
"""Share of tasks that may be called inverted by luck. Folders hold hundreds of tasks: at this rate
fewer than one sound folder of 1,000 tasks in ten has one. The price is that 16 items with two
labels show no inversion, however clean it is, and 18 do."""

_HIDDEN = ("-1", "nan", "null")
"""What the labels of a hidden test side turn into."""

_LABEL = re.compile(r"[\[(]?([A-Za-z]|\d)[\])]?[.:]?")
"""An answer that only points at a listed option: `[A]`, `(b)`, `3.`."""

_LISTED = re.compile(r"^\W{0,3}([A-Za-z]|\d)[\]):.]+[ \t]+(\S.*)", re.MULTILINE)
"""A listed option: `A: make tea`, `(b) make tea`. The white space after it is left to `_listed`: a
pattern that looks for it takes quadratic time where a line has much of it inside."""

_CONTROL_TOKEN = re.compile(r"<\|\w+\|>")


@dataclass(frozen=True, slots=True)
class Fault:
    """A defect of one task."""

    task: str
    """Its slug."""
    kind: str
    """A word to group by, such as `constant` or `overlap`."""
    words: str
    severity: Severity


def audit_tasks(tasks: Sequence[Task]) -> list[Fault]:
    """Find the defects of each task, and those that show only beside other tasks.

    A missing bare input is a warning at any share, even when no example has one: such a task is
    left out where only bare inputs are shown, and every score on its full prompts counts.

    Args:
        tasks: All that will be used together; overlap is looked for among these.

    Returns:
        Errors and warnings in the order of the tasks; empty is a pass.
    """
    views = [_View(task) for task in tasks]
    alone = (
        _constant,
        _flipped_majority,
        _options,
        _labels,
        _odd_labels,
        _unmatchable,
        _bare,
        _contradictions,
        _inverted,
    )
    together = (_parted, _overlap, _duplicates, _disagreements)
    faults: dict[str, list[Fault]] = defaultdict(list)
    for fault in chain(
        (fault for view in views for check in alone for fault in check(view)),
        (fault for check in together for fault in check(views)),
    ):
        faults[fault.task].append(fault)
    return [fault for view in views for fault in faults[view.slug]]


class _View:
    """A task with what several checks read of it, computed once."""

    # No dataclass with slots: `cached_property` needs a `__dict__`.
    def __init__(self, task: Task) -> None:
        self.slug = task.info.slug
        self.family = task.info.family
        self.is_trained = task.info.split == "train"
        self.is_of_new_family = task.info.holdout == "family"
        self.metric = task.info.metric
        self.sides: Mapping[str, tuple[Example, ...]] = {"train": task.train, "test": task.test}
        self.all = (*task.train, *task.test)

    def error(self, kind: str, words: str) -> Fault:
        return Fault(self.slug, kind, words, "error")

    def warning(self, kind: str, words: str) -> Fault:
        return Fault(self.slug, kind, words, "warning")

    @cached_property
    def golds(self) -> Mapping[str, Counter[str]]:
        return {side: Counter(e.response for e in found) for side, found in self.sides.items()}

    @cached_property
    def is_closed(self) -> bool:
        """Whether every answer is one of a few, given again and again."""
        # Each answer must come five times on average.
        distinct = set().union(*self.golds.values())
        return len(distinct) <= min(_MAX_LABELS, len(self.all) // 5)

    @cached_property
    def bare_identifies(self) -> bool:
        return bare_identifies(self.all)

    @cached_property
    def choices(self) -> Mapping[str, tuple["_Choice | None", ...]]:
        return {side: tuple(map(_choice, found)) for side, found in self.sides.items()}


@dataclass(frozen=True, slots=True)
class _Choice:
    """An example as a choice between texts, however its prompt words it."""

    question: str
    """Without the listed options."""
    options: tuple[str, ...]
    gold: str
    """One of `options`, unless the label is impossible."""

    @property
    def key(self) -> tuple[str, frozenset[str]]:
        return self.question, frozenset(map(spaced, self.options))


def _choice(example: Example) -> _Choice | None:
    """Resolve `[B]` to the text that the prompt lists under B; None without options."""
    pointer = _LABEL.fullmatch(example.response)
    if pointer:
        listed = _listed(example.prompt)
        if len(listed) > 1 and pointer[1] in listed:
            # Compare the text behind the letter, and the question without the list: copies of a
            # dataset may shuffle its options or letter them differently.
            question = _LISTED.sub("", example.prompt)
            return _Choice(spaced(question), tuple(listed.values()), listed[pointer[1]])
    if example.options:
        return _Choice(spaced(example.prompt), example.options, example.response)
    return None


def _listed(prompt: str) -> dict[str, str]:
    """The options that a prompt lists, by their letter or digit."""
    return {label: text.rstrip() for label, text in _LISTED.findall(prompt)}


def _constant(view: _View) -> Iterator[Fault]:
    """One answer, or one place in the list of options, that is nearly always right."""
    for side, golds in view.golds.items():
        total = golds.total()
        if total < _MIN_COUNT:
            continue
        answer, count = golds.most_common(1)[0]
        if count / total >= _CONSTANT_SHARE:
            said = f"{count} of {total} {side} responses are {_short(answer)}"
            yield view.error("constant", said)
        elif side == "test" and count / total > _MAJORITY_SHARE and view.metric == "choice":
            yield view.warning(
                "majority", f"{count / total:.0%} of the test responses are {_short(answer)}"
            )
        places = Counter(p for e in view.sides[side] if (p := _place(e)) is not None)
        known = places.total()
        # Where every item has the same options, one place is one answer, which is found above.
        if known >= max(_MIN_COUNT, total / 2) and len({e.options for e in view.sides[side]}) > 1:
            place, count = places.most_common(1)[0]
            if count / known >= _CONSTANT_SHARE:
                yield view.error(
                    "constant",
                    f"{side}: the answer is option {place + 1} of those listed in {count} of "
                    f"{known} prompts. Shuffle them",
                )


def _place(example: Example) -> int | None:
    """Return the answer's place among the options that the prompt lists in order, or None."""
    # From the end, because the question may use the words of an option.
    places = [example.prompt.rfind(option) for option in example.options]
    # An option that is not found has -1, and so comes first in ascending order.
    listed = len(places) > 1 and places[0] >= 0 and places == sorted(places)
    if not listed or example.response not in example.options:
        return None
    return example.options.index(example.response)


def _flipped_majority(view: _View) -> Iterator[Fault]:
    """Two labels of which one leads in train and the other in test."""
    train, test = view.golds["train"], view.golds["test"]
    if len(train.keys() | test.keys()) != 2 or min(train.total(), test.total()) < _MIN_COUNT:
        return
    (top, _), (other, count) = train.most_common(1)[0], test.most_common(1)[0]
    before, after = train[other] / train.total(), count / test.total()
    # Standard error of the difference between two shares, at its largest: both are 1/2.
    spread = sqrt(0.25 / train.total() + 0.25 / test.total())
    if top != other and after - before > _CLEAR_Z * spread:
        yield view.warning(
            "flipped_majority",
            f"{_short(other)} is {before:.0%} of the train responses and {after:.0%} of the test "
            "responses: one side may be inverted",
        )


def _options(view: _View) -> Iterator[Fault]:
    """Choices without a choice, and answers outside their options."""
    for side, examples in view.sides.items():
        stray = [e for e in examples if e.options and e.response not in e.options]
        if stray:
            yield view.error(
                "stray_answer",
                f"{side}: {len(stray)} responses are not among their options, such as "
                f"{_short(stray[0].response)}",
            )
        if view.metric == "choice" and any(len(e.options) < 2 for e in examples):
            yield view.error(
                "no_choice", f"{side}: a choice task needs two or more options in every line"
            )
        same = [e for e in examples if len(set(map(spaced, e.options))) < len(e.options)]
        if same:
            yield view.error("equal_options", f"{side}: {len(same)} lines give an option twice")
        near = [e for e in examples if len(set(map(_plain, e.options))) < len(e.options)]
        if len(near) > len(same):
            yield view.warning(
                "equal_options",
                f"{side}: {len(near) - len(same)} lines have options that differ in case only, "
                "which normalised text cannot tell apart",
            )


def _labels(view: _View) -> Iterator[Fault]:
    """Labels that mean "no label", or that one side alone has."""
    for side, golds in view.golds.items():
        # Files with empty responses are not loaded, but tasks made in memory are audited too.
        blank = sum(count for gold, count in golds.items() if not gold.strip())
        if blank:
            yield view.error("hidden_label", f"{side}: {blank} responses are empty")
    # Most free answers are on one side only, which is no fault.
    if not view.is_closed:
        return
    train, test = view.golds["train"], view.golds["test"]
    for side, golds, other in (("train", train, test), ("test", test, train)):
        # A -1 on both sides is a label like any other, as in data on stance.
        for gold in golds:
            if gold not in other and gold.strip().lower() in _HIDDEN:
                yield view.error(
                    "hidden_label",
                    f"{side}: {golds[gold]} labels are {gold!r}, and none of the other side: "
                    "hidden or missing labels",
                )
    unseen = [
        e.response
        for e in view.sides["test"]
        if e.response not in train
        and e.response not in e.prompt  # extracted, not a label
        and e.response.strip().lower() not in _HIDDEN
    ]
    if unseen:
        yield view.warning(
            "unseen_label",
            f"{len(unseen)} test responses are labels that no train example has, such as "
            f"{_short(unseen[0])}",
        )


def _odd_labels(view: _View) -> Iterator[Fault]:
    """A few `[1]` where the other answers are `[A]`, or the other way round."""
    pointers = [(side, _pointer(e)) for side, found in view.sides.items() for e in found]
    kinds = Counter(pointer.isdigit() for _, pointer in pointers if pointer)
    # Where few answers point at an option, `3` may be a number among words.
    if len(kinds) < 2 or kinds.total() < _MAJORITY_SHARE * len(view.all):
        return
    rare, _ = kinds.most_common()[1]
    where = Counter(side for side, pointer in pointers if pointer and pointer.isdigit() == rare)
    yield view.error(
        "odd_label",
        f"{' and '.join(f'{count} {side}' for side, count in where.items())} responses point at "
        f"an option by a {'digit' if rare else 'letter'}, the others do not: a scorer of the "
        "others never credits them",
    )


def _pointer(example: Example) -> str | None:
    """The letter or digit of an answer such as `[A]`, where it points at an option."""
    match = _LABEL.fullmatch(example.response)
    if match is None:
        return None
    # Without brackets or a list, a letter or a digit is an answer by itself.
    bracketed = example.response[0] in "[("
    listed = match[1] in _listed(example.prompt)
    return match[1] if bracketed or listed else None


def _unmatchable(view: _View) -> Iterator[Fault]:
    """References that no output can match under the task's metric."""
    for side, examples in view.sides.items():
        if view.metric == "rouge":
            lost = [e for e in examples if not rouge_reads(e.response)]
            if lost:
                yield view.error(
                    "unmatchable",
                    f"{side}: {len(lost)} responses have few or no letters a to z and digits, "
                    f"which is all that ROUGE reads, such as {_short(lost[0].response)}. Use bleu "
                    "or exact",
                )
        control = [e for e in examples if _CONTROL_TOKEN.search(e.response)]
        if control:
            yield view.error(
                "unmatchable",
                f"{side}: {len(control)} responses hold a chat control token, such as "
                f"{_short(control[0].response)}, which no generated text does",
            )


def _bare(view: _View) -> Iterator[Fault]:
    """Prompts that are not an instruction, a blank line and an input."""
    texts = Counter(spaced(example.bare) for example in view.all if example.bare)
    missing = len(view.all) - texts.total()
    if missing:
        yield view.warning(
            "no_bare_input",
            f"{missing / len(view.all):.0%} of the prompts have no blank line, so no bare input",
        )
    repeated = sum(count for count in texts.values() if count > 1)
    # Where instructions are few, inputs may repeat under another of them.
    enough = texts.total() >= _MIN_COUNT and not view.bare_identifies
    if enough and repeated > _REPEATED_SHARE * texts.total():
        yield view.warning(
            "repeated_bare_input",
            f"{repeated} of {texts.total()} bare inputs repeat, such as "
            f"{_short(texts.most_common(1)[0][0])}: the input is before the blank line",
        )


def _contradictions(view: _View) -> Iterator[Fault]:
    """The same question with the same options, answered differently within the task."""
    same_prompt: dict[Any, set[str]] = defaultdict(set)
    same_input: dict[Any, list[str]] = defaultdict(list)
    # `all` is the sides one after the other, in the order of `choices`.
    for example, choice in zip(view.all, chain(*view.choices.values()), strict=True):
        if choice is None and not view.is_closed:
            continue  # an open question may have many right answers
        gold = spaced(choice.gold if choice else example.response)
        same_prompt[choice.key if choice else spaced(example.prompt)].add(gold)
        if view.bare_identifies and example.bare:
            same_input[_input_key(example.bare, example, choice)].append(gold)
    torn = sum(len(golds) > 1 for golds in same_prompt.values())
    if torn:
        yield view.error(
            "contradiction", f"{torn} questions are answered differently in different lines"
        )
    repeated = [golds for golds in same_input.values() if len(golds) > 1]
    split = sum(len(set(golds)) > 1 for golds in repeated)
    # Prompts that contradict each other do so by their inputs too, and are not reported twice.
    if split and not torn:
        # A few are slips of the annotators; more than half are not.
        inverted = split >= 3 and split > len(repeated) / 2
        yield (view.error if inverted else view.warning)(
            "contradiction",
            f"{split} of {len(repeated)} inputs that come again under another wording have "
            "another answer there" + (": one side may be inverted" if inverted else ""),
        )


def _input_key(text: str, example: Example, choice: _Choice | None) -> tuple[str, frozenset[str]]:
    """A bare input, whatever the order of the options it lists."""
    if choice is None:
        return spaced(text), frozenset()
    # Options read off the prompt are listed in the input too, in an order that does not matter.
    if choice.options != example.options:
        text = _LISTED.sub("", text)
    return spaced(text), frozenset(map(spaced, choice.options))


def _inverted(view: _View) -> Iterator[Fault]:
    """Labels that words predict within one side, but only under other names on the other side.

    That is what inverted, shifted or permuted labels look like. Minimal pairs over the two sides
    also score below chance, but then so do folds of one side, and no fault is found.

    Where words say nothing of the labels of the other side, a task is called inverted by luck at
    most once in 10,000 (`_FALSE_ALARMS`), exactly so for sides of any size (see `_Guesses.luck`).
    Where they say nothing of the side fitted to, the same rate is asked of the folds within it,
    whose guesses are not quite independent: there it is nominal.
    """
    # Options that were shifted on the side fitted to are wrong ones like any other, and teach
    # nothing: so each side is fitted to. Permuted labels can be learned as well as sound ones.
    trials = [_option_trial(view, "train", "test"), _option_trial(view, "test", "train")]
    held = [trial for trial in (trials if any(trials) else [_label_trial(view)]) if trial]
    for trial in held:
        # Each of two trials could be wrong by luck, so they share the rate (Bonferroni).
        other, most = trial.other, _FALSE_ALARMS / len(held)
        if other.recall() >= other.chance or other.luck(renamed=True) > most:
            continue
        # Only now, as this fits five more classifiers.
        own, share, renamed = trial.within(), other.recall(), other.recall(renamed=True)
        gain = own.recall() - own.chance
        # An exchange must bring back half of what words tell within the side; less is noise.
        if own.luck() <= most and renamed - other.chance > gain / 2:
            yield view.error(
                "inverted",
                f"words predict {own.recall():.0%} of the labels within the {trial.side} side and "
                f"{share:.0%} on the other, where chance is {other.chance:.0%} and "
                f"exchanging labels gives {renamed:.0%}: one side is inverted or shifted",
            )
            return


@dataclass(frozen=True, slots=True)
class _Guesses:
    """What a bag-of-words classifier makes of one side."""

    table: Int[np.ndarray, "answers guesses"]
    """Items by right answer and by guess, in one order of labels."""

    @property
    def chance(self) -> float:
        """What `recall` is without knowledge."""
        return 1 / len(self.table)

    def recall(self, *, renamed: bool = False) -> float:
        """Mean share of each answer's items that are guessed, whatever their numbers.

        Args:
            renamed: Under the exchange of labels that suits the guesses best.
        """
        from scipy.optimize import linear_sum_assignment

        counts = self.table.sum(axis=1)
        # Answers without items have shares of 0 and are left out of the mean.
        shares = self.table / np.maximum(counts, 1)[:, None]
        found = shares.diagonal()
        if renamed:
            # The best one-to-one renaming. Its rows come in order, so `counts` still fits.
            found = shares[linear_sum_assignment(shares, maximize=True)]
        return float(found[counts > 0].mean())

    def luck(self, *, renamed: bool = False) -> float:
        """At most how likely it is to guess one answer or more so well without knowledge.

        Fisher's exact test asks of one answer and one guess how many items are both, when guesses
        are dealt to items at random; it holds for any number of items of each. The least of these
        probabilities counts, times their number (Bonferroni).

        Args:
            renamed: Whether answers and guesses have different names, instead of equal ones.
        """
        from scipy.stats import hypergeom

        table = self.table
        # Shapes (n, 1) and (1, n), so that every answer meets every guess.
        answers, guesses = table.sum(axis=1, keepdims=True), table.sum(axis=0, keepdims=True)
        # sf(k - 1) is the probability of k or more.
        probabilities = hypergeom.sf(table - 1, table.sum(), answers, guesses)
        # The diagonal for equal names, everything off it for different ones.
        tried = probabilities[np.eye(len(table), dtype=bool) != renamed]
        return min(1.0, float(tried.min()) * len(tried))


@dataclass(frozen=True, slots=True)
class _Trial:
    """A classifier fitted to one side."""

    side: str
    """The one fitted to."""
    other: _Guesses
    """Guesses on the other side."""
    within: Callable[[], _Guesses]
    """Over five folds of its own side; computed only if the rest calls for it."""


def _label_trial(view: _View) -> _Trial | None:
    """Guess one of a few labels from the input."""
    # Imported on use: Measure asks this module for `unscored` only.
    from sklearn.metrics import confusion_matrix
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    # Five folds need at least five of each label.
    labels = sorted(gold for gold, count in view.golds["train"].items() if count >= _MIN_COUNT)
    texts, golds = {}, {}
    for side, examples in view.sides.items():
        kept = [e for e in examples if e.response in labels]
        texts[side] = [e.bare or e.prompt for e in kept]
        golds[side] = [e.response for e in kept]
    if not view.is_closed or len(labels) < 2 or len(set(golds["test"])) < 2:
        return None

    def within() -> _Guesses:
        folds = StratifiedKFold(5, shuffle=True, random_state=0)
        guessed = cross_val_predict(_classifier(), texts["train"], golds["train"], cv=folds)
        return _Guesses(confusion_matrix(golds["train"], guessed, labels=labels))

    fitted = _classifier().fit(texts["train"], golds["train"])
    guessed = fitted.predict(texts["test"])
    return _Trial(
        "train", _Guesses(confusion_matrix(golds["test"], guessed, labels=labels)), within
    )


def _option_trial(view: _View, side: str, other: str) -> _Trial | None:
    """Guess the place of the right one of options that differ from item to item, by their words."""
    from sklearn.metrics import confusion_matrix
    from sklearn.model_selection import GroupKFold, cross_val_predict

    found = {
        # A gold that comes once, among others: `_options` reports lists that give one twice.
        name: [c for c in choices if c and c.options.count(c.gold) == 1 < len(c.options)]
        for name, choices in view.choices.items()
    }
    # A few lists for all items: their options are labels, which `_label_trial` guesses.
    if len({c.options for c in chain(*found.values())}) <= _MAX_LABELS:
        return None
    # Lists of one length, because in a longer list both guess and answer come later.
    ((number, _),) = Counter(len(c.options) for c in chain(*found.values())).most_common(1)
    found = {
        name: [c for c in choices if len(c.options) == number] for name, choices in found.items()
    }
    if min(map(len, found.values())) < _MIN_COUNT:
        return None
    own = found[side]
    texts = [text for c in own for text in c.options]  # items · options
    right = [text == c.gold for c in own for text in c.options]

    def guesses(choices: Sequence[_Choice], scores: Any) -> _Guesses:
        places = [c.options.index(c.gold) for c in choices]
        # One row per item; in each, the option that looks most like a right one.
        best = scores.reshape(-1, number).argmax(axis=1)
        return _Guesses(confusion_matrix(places, best, labels=range(number)))

    def within() -> _Guesses:
        # All options of an item go into one fold: a wrong one seen in training would narrow down
        # the right one.
        groups = [i for i, c in enumerate(own) for _ in c.options]
        scores = cross_val_predict(
            _classifier(), texts, right, groups=groups, cv=GroupKFold(5), method="predict_log_proba"
        )
        # Column 1 is that of True, the right option.
        return guesses(own, scores[:, 1])

    fitted = _classifier().fit(texts, right)
    scores = fitted.predict_log_proba([text for c in found[other] for text in c.options])[:, 1]
    return _Trial(side, guesses(found[other], scores), within)


def _classifier() -> Any:
    """Naive Bayes over the words of a text, with every label as likely as the next."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    # The default pattern drops punctuation and words of one letter.
    words = CountVectorizer(binary=True, token_pattern=r"\w+|[^\w\s]")
    return make_pipeline(words, MultinomialNB(fit_prior=False))


def _parted(views: Sequence[_View]) -> Iterator[Fault]:
    """Held-out families of which tasks are trained on."""
    trained = {view.family: view.slug for view in views if view.is_trained}
    for view in views:
        if view.is_of_new_family and view.family in trained:
            yield view.error(
                "parted_family",
                f"its family `{view.family}` is held out, but `{trained[view.family]}` of it is "
                "for training",
            )


def _overlap(views: Sequence[_View]) -> Iterator[Fault]:
    """Test prompts that some train side holds."""
    prompts: dict[str, list[str]] = defaultdict(list)
    inputs: dict[str, list[str]] = defaultdict(list)
    for view in views:
        for example in view.sides["train"]:
            prompts[spaced(example.prompt)].append(view.slug)
            if example.bare and view.bare_identifies:
                inputs[_plain(example.bare)].append(view.slug)
    for view in views:
        test = view.sides["test"]
        same = [set(prompts.get(spaced(e.prompt), ())) for e in test]
        own = sum(view.slug in slugs for slugs in same)
        if own:
            yield view.error("overlap", f"{own} prompts are in both train and test")
        others = [slugs - {view.slug} for slugs in same if slugs - {view.slug}]
        if others:
            yield view.error(
                "overlap", f"{len(others)} test prompts are in the train side of {_names(others)}"
            )
        # Inputs whose whole prompt is in that train side were reported above.
        again = [
            slugs
            for example, exact in zip(test, same, strict=True)
            if example.bare
            and view.bare_identifies
            and (slugs := set(inputs.get(_plain(example.bare), ())) - exact)
        ]
        if again:
            yield view.warning(
                "shared_input",
                f"{len(again)} of {len(test)} test inputs are, under another instruction, in the "
                f"train side of {_names(again)}",
            )


def _duplicates(views: Sequence[_View]) -> Iterator[Fault]:
    """Two tasks of the same content under two names."""
    same: set[tuple[int, int]] = set()
    # Whole prompts first: a pair found by them is not reported once more by its inputs.
    for exact in (True, False):
        items = [
            {(spaced(e.prompt if exact else e.bare or e.prompt), spaced(e.response)) for e in v.all}
            for v in views
        ]
        # Count by item, as most pairs of tasks share none.
        owners: dict[tuple[str, str], list[int]] = defaultdict(list)
        for number, content in enumerate(items):
            for item in content:
                owners[item].append(number)
        shared = Counter(pair for found in owners.values() for pair in combinations(found, 2))
        for (one, other), count in sorted(shared.items()):
            # Measured by the smaller task, which may be a part of the larger one.
            least = min(len(items[one]), len(items[other]))
            if least < _MIN_COUNT or count / least < _SAME_SHARE or (one, other) in same:
                continue
            same.add((one, other))
            under = "" if exact else " under another instruction"
            words = (
                f"{count} of its {len(items[other])} examples are those of `{views[one].slug}`"
                f"{under}: one data set under two names"
            )
            yield (views[other].error if exact else views[other].warning)("duplicate", words)


def _disagreements(views: Sequence[_View]) -> Iterator[Fault]:
    """Tasks that answer the same questions, with the same options, differently."""
    asked: dict[Any, dict[int, str]] = defaultdict(dict)
    given: dict[Any, dict[int, str]] = defaultdict(dict)
    for number, view in enumerate(views):
        for example, choice in zip(view.all, chain(*view.choices.values()), strict=True):
            if choice is not None:
                gold = spaced(choice.gold)
                asked[choice.key][number] = gold
                if view.bare_identifies and example.bare:
                    key = _input_key(example.bare, example, choice)
                    # Within a family only: other families ask something else about the same input.
                    given[view.family, key][number] = gold
    for (one, other), (count, differ) in sorted(_compared(asked.values()).items()):
        if differ:
            yield views[other].error(
                "contradiction",
                f"{differ} of the {count} questions that `{views[one].slug}` asks too are answered "
                "differently there",
            )
    for (one, other), (count, differ) in sorted(_compared(given.values()).items()):
        if count >= _MIN_COUNT and differ >= _SAME_SHARE * count:
            yield views[other].warning(
                "opposed",
                f"{differ} of the {count} inputs that it shares with `{views[one].slug}` have "
                "another answer there, with the same options: opposite tasks, or inverted labels",
            )


def _compared(rows: Iterable[Mapping[int, str]]) -> dict[tuple[int, int], tuple[int, int]]:
    """Pair of tasks to (shared questions, those answered differently)."""
    counts: Counter[tuple[int, int]] = Counter()
    differ: Counter[tuple[int, int]] = Counter()
    for row in rows:
        # Sorted, so that two tasks are the same pair in every row.
        for pair in combinations(sorted(row), 2):
            counts[pair] += 1
            differ[pair] += row[pair[0]] != row[pair[1]]
    return {pair: (count, differ[pair]) for pair, count in counts.items()}


def _plain(text: str) -> str:
    """Up to case and white space."""
    return spaced(text).casefold()


def _names(groups: Iterable[Iterable[str]]) -> str:
    """Up to three slugs, the most frequent first."""
    # Sorted, as the order of a set of texts differs between processes.
    counts = Counter(slug for group in groups for slug in sorted(group))
    return first_of([slug for slug, _ in counts.most_common()], 3, write=lambda slug: f"`{slug}`")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
