"""The verdict follows from the checks, and says the numbers behind it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from dnd_engine.checks.verdict import (
    AdapterVerdict,
    Agreement,
    Answered,
    BucketShare,
    Labels,
    Teaching,
    are_few,
    judge,
    lowered,
)
from dnd_engine.config import ImprintConfig
from dnd_engine.imprint.left_out import leave_out


def teaching(**changes: Any) -> Teaching:
    values = {"num_prompts": 12, "commonest_share": 0.5, "unfinished": 0, "explained": 0.6}
    return Teaching(**{**values, **changes})


def verdict(same: int, num_prompts: int = 8, **changes: Any) -> AdapterVerdict:
    taught = changes.pop("teaching", teaching())
    return judge(Agreement(same, num_prompts, **{"left_out": True, **changes}), taught)


ALIKE = teaching(commonest_share=1.0)


@pytest.mark.parametrize(
    ("found", "outcome", "warns"),
    [
        (verdict(8), "works", False),
        (verdict(4), "works", False),
        (verdict(3), "with_instruction", True),
        (verdict(0), "with_instruction", True),
        (verdict(0, 2), "with_instruction", True),
        (verdict(8, wavering=4), "works", False),
        (verdict(8, wavering=5), "fails", True),
        (verdict(8, teaching=teaching(commonest_share=0.89)), "works", False),
        (verdict(8, teaching=teaching(commonest_share=0.9)), "fails", True),
        (verdict(8, teaching=teaching(unfinished=12)), "works", False),
        (verdict(3, 3, teaching=teaching(num_prompts=3, commonest_share=1.0)), "works", False),
        (verdict(8, teaching=None), "works", False),
        (verdict(8, teaching=None, commonest_share=0.75), "works", False),
        (verdict(8, teaching=None, commonest_share=1.0), "fails", True),
        (verdict(3, 3, teaching=None, commonest_share=1.0), "works", False),
        (verdict(8, teaching=None, commonest_share=1.0, labels=Labels(8, 8, 8)), "works", False),
        # That of all fitted prompts says more than that of these.
        (verdict(8, commonest_share=1.0), "works", False),
        (verdict(8, repeated=4), "works", False),
        (verdict(8, repeated=5), "fails", True),
        # A long answer is never sure, so that counts only where agreement is low.
        (verdict(8, sureness=0.1), "works", False),
        (verdict(3, sureness=0.1), "fails", True),
        (verdict(3, sureness=0.5), "with_instruction", True),
        # Labels decide, whatever the model says.
        (verdict(8, labels=Labels(1, 1, 8)), "fails", True),
        (verdict(8, labels=Labels(1, 4, 8)), "with_instruction", True),
        (verdict(0, labels=Labels(4, 0, 8)), "works", False),
        (verdict(0, wavering=8, labels=Labels(8, 8, 8)), "works", False),
        (verdict(8, labels=Labels(0, 0, 3)), "works", False),
        # One answer to everything may be right for many without doing the task.
        (verdict(8, teaching=ALIKE, labels=Labels(4, 4, 8)), "fails", True),
        (verdict(8, teaching=ALIKE, labels=Labels(8, 8, 8)), "works", False),
    ],
)
def test_an_adapter_works_alone_or_with_the_instruction_or_not(
    found: AdapterVerdict, outcome: str, warns: bool
) -> None:
    assert (found.outcome, found.warns) == (outcome, warns)


@pytest.mark.parametrize(
    ("found", "degree"),
    [
        (verdict(8), "works"),
        (verdict(6), "works"),
        (verdict(5), "in_part"),
        (verdict(4), "in_part"),
        (verdict(3), "does_not"),
        (verdict(0), "does_not"),
        (verdict(8, repeated=5), "does_not"),
        (verdict(0, labels=Labels(5, 5, 8)), "in_part"),
    ],
)
def test_a_report_groups_verdicts_as_their_words_do(found: AdapterVerdict, degree: str) -> None:
    assert found.degree == degree


def test_the_numbers_behind_it_are_told_in_words() -> None:
    found = verdict(3, wavering=6, teaching=teaching(commonest_share=0.95, unfinished=7))
    assert [str(words) for words in (found.head, *found.reasons)] == [
        "It does not work: teach it.",
        "Of 8 prompts left out of the fit, it answers 3 without the instruction as the model does "
        "with it.",
        "Even with the instruction, the model is unsure of its answer to 6 of 8 prompts.",
        "Even with the instruction, the model gives one and the same answer to 95 % of the "
        "prompts.",
        "With the instruction, 7 of 12 answers were cut off before their end.",
        "The fit predicts 60 % of the change for prompts left out of it.",
    ]
    assert found.causes == found.reasons[1:3]
    assert verdict(3).causes == ()
    assert "It was fitted to all of them" in str(verdict(3, left_out=False).reasons[0])
    (plain,) = verdict(3, left_out=False, teaching=None).reasons
    assert str(plain).startswith("Of 8 prompts, it answers 3 without the instruction")
    assert str(verdict(8, teaching=None, commonest_share=1.0).causes[0]) == (
        "Even with the instruction, the model gives one and the same answer to 100 % of the "
        "prompts."
    )


def test_labels_are_quoted_and_without_any_nobody_knows_whether_it_is_right() -> None:
    wrong = verdict(8, labels=Labels(right=1, right_when_told=2, number=8))
    assert str(wrong.head) == "It does not work: teach it."
    (cause,) = wrong.causes
    assert str(cause) == (
        "By your labels, 1 of 8 answers are right without the instruction, and 2 with it."
    )
    foreign = verdict(8, labels=Labels(0, 0, 8, foreign=True))
    assert str(foreign.causes[1]).startswith("No answer matches any of your labels")
    partly = verdict(8, labels=Labels(5, 5, 8))
    assert str(partly.head).endswith("for some prompts only: 5 of 8.")
    assert partly.caution is None
    assert str(partly.reasons[0]).startswith("By your labels, 5 of 8")
    assert "Of 8 prompts left out of the fit, it answers 8" in str(partly.reasons[1])
    only_told = verdict(8, labels=Labels(0, 8, 8))
    assert str(only_told.head) == "It works only with the instruction."
    assert str(verdict(0).head) == "At best, it works with the instruction."
    assert str(verdict(8).caution) == "Whether its answers are right, only you can tell."
    assert verdict(8).caution in verdict(8).sentences
    assert verdict(0).caution is None


def test_a_model_that_repeats_the_input_or_is_unsure_is_said_to() -> None:
    assert [str(cause) for cause in verdict(8, repeated=5).causes] == [
        "Even with the instruction, the model repeats the input of 5 of 8 prompts."
    ]
    unsure = verdict(1, sureness=0.1)
    assert [str(cause) for cause in unsure.causes] == [
        "Even with the instruction, the model is unsure of its answers.",
        "Where many answers are right, as for a title, it may be unsure and still right: read "
        "some.",
    ]
    assert unsure.is_only_unsure
    # These answers are poor, whatever the task.
    for poor in (verdict(1, wavering=6, repeated=5), verdict(8, labels=Labels(1, 1, 8))):
        assert not poor.is_only_unsure


def test_a_mix_says_the_share_of_each_bucket() -> None:
    parts = (BucketShare("Notes", 2, 3), BucketShare("{Bills}", 0, 4))
    found = verdict(2, 7, by_bucket=parts)
    assert [str(words) for words in found.reasons[1:3]] == ["Notes: 2 of 3.", "{Bills}: 0 of 4."]


def test_the_verdicts_on_eight_left_out_prompts_are_those_that_were_compared_with_scores() -> None:
    for same in (6, 7, 8):
        assert str(verdict(same).head) == "It works without the instruction."
    for same in (4, 5):
        assert "for some prompts only" in str(verdict(same).head)


@pytest.mark.parametrize(("same", "number"), [(1, 1), (2, 2), (3, 3), (3, 4)])
def test_few_prompts_are_said_to_be_few_and_keep_the_band(same: int, number: int) -> None:
    found = verdict(same, number)
    assert found.degree == "works"
    head = f"It seems to work without the instruction, judged on {number} "
    assert str(found.head).startswith(head)
    assert not are_few(4, 4)
    assert not are_few(6, 8)


@pytest.mark.parametrize(
    ("same", "number", "words"),
    [(1, 1, "the one prompt"), (7, 7, "7 of the 7 prompts"), (5, 6, "5 of the 6 prompts")],
)
def test_success_on_fitted_prompts_alone_is_called_that(same: int, number: int, words: str) -> None:
    fitted = verdict(same, number, left_out=False)
    assert str(fitted.head) == f"It works for {words} that it was fitted to; others were not tried."
    assert fitted.only_seems_to_work
    # Labels are not what it was fitted to.
    labels = Labels(same, number, number)
    labelled = verdict(same, number, left_out=False, labels=labels)
    assert ("fitted" in str(labelled.head)) == (number < 4)


def mix(*parts: tuple[int, int], **changes: Any) -> AdapterVerdict:
    named = [BucketShare(name, *part) for name, part in zip("ABC", parts, strict=False)]
    same, number = (sum(counts) for counts in zip(*parts, strict=True))
    return verdict(same, number, by_bucket=tuple(named), **changes)


@pytest.mark.parametrize(
    ("found", "degree", "head"),
    [
        (mix((4, 4), (3, 4)), "works", "."),
        (mix((2, 4), (2, 4)), "in_part", " for some prompts only: 4 of 8."),
        (mix((4, 4), (2, 4)), "in_part", " for A (4 of 4), and for some prompts of B (2 of 4)."),
        (mix((0, 4), (4, 4)), "does_not", " for B (4 of 4), but not for A (0 of 4)."),
        (
            mix((2, 4), (1, 4)),
            "does_not",
            " for some prompts of A (2 of 4), but not for B (1 of 4).",
        ),
        (
            mix((2, 2), (2, 2), (1, 2)),
            "in_part",
            " for A (2 of 2) and B (2 of 2), and for some prompts of C (1 of 2).",
        ),
        (
            mix((2, 2), (1, 2), (0, 2)),
            "does_not",
            " for A (2 of 2), for some prompts of B (1 of 2), but not for C (0 of 2).",
        ),
    ],
)
def test_the_verdict_on_a_mix_follows_its_worst_bucket(
    found: AdapterVerdict, degree: str, head: str
) -> None:
    assert str(found.head) == f"It works without the instruction{head}"
    assert found.degree == degree
    assert found.warns == (degree == "does_not")


def test_one_bucket_of_a_mix_is_judged_as_it_would_be_alone() -> None:
    for number in range(1, 9):
        for same in range(number + 1):
            assert BucketShare("A", same, number).degree == verdict(same, number).degree


def test_labels_decide_on_each_bucket_of_a_mix_too() -> None:
    parts = (
        BucketShare("A", 4, 4, Labels(4, 4, 4)),
        BucketShare("B", 4, 4, Labels(1, 4, 4)),
    )
    found = verdict(8, by_bucket=parts, labels=Labels(5, 8, 8))
    assert str(found.head).endswith(" for A (4 of 4), but not for B (1 of 4).")
    # Earlier versions kept none by bucket, and agreement must not speak for them.
    parts = (BucketShare("A", 4, 4), BucketShare("B", 1, 4))
    assert str(verdict(5, by_bucket=parts, labels=Labels(7, 8, 8)).head).endswith("instruction.")


def test_a_bucket_without_labels_goes_by_agreement_beside_one_with_labels() -> None:
    labels = Labels(4, 4, 4)
    parts = (BucketShare("A", 1, 4, labels), BucketShare("B", 0, 4))
    found = verdict(1, by_bucket=parts, labels=labels)
    assert str(found.head).endswith(" for A (4 of 4), but not for B (0 of 4).")
    assert found.warns
    parts = (BucketShare("A", 1, 4, labels), BucketShare("B", 4, 4))
    found = verdict(5, by_bucket=parts, labels=labels)
    assert str(found.head) == "It works without the instruction."
    assert str(found.caution) == "Whether its answers are right, only you can tell."


@pytest.mark.parametrize(
    ("parts", "head"),
    [
        ((("A", 0, 4), ("B", 4, 4)), "B (4 of 4), but not for A (0 of 4)."),
        ((("A", 0, 5), ("B", 3, 3)), "B (3 of 3), but not for A (0 of 5)."),
        (
            (("A", 0, 2), ("B", 2, 2), ("C", 0, 2)),
            "B (2 of 2), but not for A (0 of 2) and C (0 of 2).",
        ),
    ],
)
def test_a_mix_that_fails_by_its_labels_names_the_bucket_that_works(
    parts: Sequence[tuple[str, int, int]], head: str
) -> None:
    """How many prompts each bucket has does not decide whether its success is named."""
    shares = tuple(
        BucketShare(n, same, number, Labels(same, same, number)) for n, same, number in parts
    )
    same, number = sum(p[1] for p in parts), sum(p[2] for p in parts)
    for poor in ({}, {"repeated": number}):
        found = verdict(same, number, by_bucket=shares, labels=Labels(same, same, number), **poor)
        assert str(found.head) == f"It works without the instruction for {head}"
        assert found.warns


def test_a_bucket_without_labels_works_beside_one_that_fails_by_them() -> None:
    labels = Labels(1, 1, 8)
    parts = (BucketShare("A", 1, 8, labels), BucketShare("B", 8, 8))
    found = verdict(9, 16, by_bucket=parts, labels=labels)
    assert str(found.head).endswith(" for B (8 of 8), but not for A (1 of 8).")
    poor = verdict(9, 16, by_bucket=parts, labels=labels, repeated=9)
    assert str(poor.head) == "It does not work: teach it."


def test_labels_of_fitted_prompts_that_lower_a_mix_are_those_of_its_buckets() -> None:
    parts = (BucketShare("a", 2, 2), BucketShare("b", 1, 1))
    left_out = Agreement(3, 3, left_out=True, by_bucket=parts)
    wrong, right = Labels(1, 1, 4), Labels(4, 4, 4)
    both = (BucketShare("a", 4, 4, wrong), BucketShare("b", 4, 4, right))
    fitted = Agreement(8, 8, labels=Labels(5, 5, 8), by_bucket=both)
    found = judge(lowered(left_out, fitted, None))
    assert [part.labels for part in found.by_bucket] == [wrong, right]
    assert (
        str(found.head)
        == "It works without the instruction for b (4 of 4), but not for a (1 of 4)."
    )
    a, b = (Answered(bucket=n, input="", bare="", instructed="", same=True) for n in "ab")
    only_a = Agreement(4, 4, labels=wrong, answers=(replace(a, label="x"),))
    shown = lowered(replace(left_out, answers=(a, b)), only_a, None).answers
    assert shown == (replace(a, label="x"), b), "nothing of b has a label"
    apart = Agreement(0, 3, left_out=True)
    assert judge(apart).outcome == "with_instruction"
    wrong_teacher = Agreement(8, 8, labels=Labels(1, 2, 8))
    assert judge(lowered(apart, wrong_teacher, None)).outcome == "fails"
    few = Agreement(3, 3, labels=Labels(0, 0, 3))
    assert lowered(left_out, few, None) is left_out, "they are too few as well"


@pytest.mark.parametrize(
    ("found", "labels"),
    [
        (Agreement(6, 8, left_out=True, wavering=8), Labels(5, 5, 8)),
        (Agreement(6, 8, left_out=True, repeated=8), Labels(5, 5, 8)),
        (Agreement(1, 8, left_out=True, wavering=8), Labels(2, 8, 8)),
        (
            Agreement(
                4, 8, left_out=True, by_bucket=(BucketShare("a", 4, 4), BucketShare("b", 0, 4))
            ),
            Labels(5, 5, 8),
        ),
    ],
)
def test_labels_of_fitted_prompts_raise_no_verdict(found: Agreement, labels: Labels) -> None:
    parts = (BucketShare("a", 4, 4, Labels(2, 2, 4)), BucketShare("b", 4, 4, Labels(3, 3, 4)))
    fitted = Agreement(8, 8, labels=labels, by_bucket=parts)
    assert lowered(found, fitted, None) is found


def test_poor_answers_of_the_instructed_model_are_no_bucket_s_success() -> None:
    assert str(mix((4, 4), (1, 4), repeated=5).head) == "It does not work: teach it."


@pytest.mark.parametrize(
    ("num_prompts", "num_sources", "expected"),
    [(7, 1, 0), (8, 1, 2), (16, 1, 4), (32, 1, 8), (400, 1, 8), (32, 4, 2), (32, 8, 2)],
)
def test_a_quarter_of_the_prompts_is_left_out_and_none_of_a_few(
    num_prompts: int, num_sources: int, expected: int
) -> None:
    prompts = [(f"Say.\n\n{n}", str(n)) for n in range(num_prompts)]
    fitted, left_out = leave_out(prompts, ImprintConfig(), num_sources)
    assert len(left_out) == expected
    assert sorted([*fitted, *left_out]) == sorted(prompts)
    assert leave_out(prompts, ImprintConfig(), num_sources) == (fitted, left_out)
    assert leave_out(prompts, ImprintConfig(left_out_share=0), num_sources) == (prompts, [])


@pytest.mark.parametrize(
    ("first", "second", "outcome", "head"),
    [
        (
            BucketShare("A", 4, 4),
            BucketShare("B", 4, 4),
            "works",
            "It works without the instruction for A (4 of 4), but not for B (one answer to all).",
        ),
        (
            BucketShare("A", 2, 4),
            BucketShare("B", 4, 4),
            "with_instruction",
            "It works without the instruction for some prompts of A (2 of 4), but not for B (one "
            "answer to all).",
        ),
        (BucketShare("A", 0, 4), BucketShare("B", 4, 4), "fails", "It does not work: teach it."),
        # By its labels, the one answer is right.
        (
            BucketShare("A", 4, 4, Labels(4, 4, 4)),
            BucketShare("B", 4, 4, Labels(4, 4, 4)),
            "works",
            "It works without the instruction.",
        ),
        (
            BucketShare("A", 4, 4, Labels(4, 4, 4)),
            BucketShare("B", 4, 4, Labels(2, 2, 4)),
            "works",
            "It works without the instruction for A (4 of 4), but not for B (one answer to all).",
        ),
    ],
)
def test_agreeing_with_one_answer_to_all_is_no_success_for_a_bucket(
    first: BucketShare, second: BucketShare, outcome: str, head: str
) -> None:
    """As for a single bucket, in spite of the others and of labels that it is right for."""
    parts = (first, second)
    labels = None
    if first.labels is not None and second.labels is not None:
        right = first.labels.right + second.labels.right
        labels = Labels(right, right, 8)
    same = first.same + second.same
    taught = teaching(one_answer=("B",))
    found = verdict(same, teaching=taught, by_bucket=parts, labels=labels)
    assert (found.outcome, str(found.head)) == (outcome, head)
    told = "gives one and the same answer to nearly all prompts of B." in str(found.sentences)
    assert told == (head != "It works without the instruction.")
