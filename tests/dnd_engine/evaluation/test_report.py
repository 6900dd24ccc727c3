"""Reports of invented scores: nothing is left out, nothing chosen, the same every time."""

import csv
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dnd_engine.config import SURENESS_BANDS
from dnd_engine.errors import ConfigError
from dnd_engine.evaluation.page import full_page, report_markdown
from dnd_engine.evaluation.report import build_report, write_report
from dnd_engine.evaluation.result_store import Findings, KeptVerdict
from dnd_engine.generator.report import (
    Cosine,
    Cost,
    Distances,
    OrdinaryShare,
    Report,
    ReportRow,
)
from dnd_engine.scoring.scores import DRAWN, ROWS, ItemScore
from tests.dnd_engine.synthetic import COSINE, DISTANCES, checks, meta, scores, similarities, tasks
from tests.present import present

TASKS = tasks(items=4)
SCORES = scores(of=TASKS, draws=2)


@pytest.fixture(scope="session")
def report() -> Report:
    return build_report(
        SCORES,
        meta(),
        tasks=TASKS,
        found=Findings(similarities=similarities(TASKS), checks=checks(TASKS)),
    )


def row(report: Report, name: str, mode: str = "bare", holdout: str = "") -> ReportRow:
    (found,) = [r for r in report.rows if (r.row, r.mode, r.holdout) == (name, mode, holdout)]
    return found


def handmade(*parts: tuple[str, str, int, int, float], **fields: Any) -> list[ItemScore]:
    """Scores of (row, slug, item, draw, score); every task is a family."""
    like = SCORES[0]
    return [
        replace(
            replace(
                like,
                row=name,
                mode="bare",
                slug=slug,
                family=slug,
                item=item,
                draw=draw,
                score=score,
                exact=score == 1,
                holdout="family",
                nll=2 - score,
            ),
            **fields,
        )
        for name, slug, item, draw, score in parts
    ]


def test_every_row_mode_and_holdout_has_its_line(report: Report) -> None:
    keys = {(r.row, r.mode, r.holdout) for r in report.rows}
    assert keys == {
        (name, mode, holdout)
        for name in ROWS
        for mode in ("bare", "full")
        for holdout in ("", "family", "primitive", "composition")
    }
    mine = row(report, "generator")
    assert mine.n_tasks == 40
    assert mine.n_families == 20
    assert mine.n_items == 160
    assert mine.draws == 2
    assert mine.low < mine.score < mine.high
    assert set(mine.per_category) == {"classify", "transform", "lexical", "dates", "sql"}
    assert row(report, "base").draws == 1


def test_means_are_over_tasks_with_draws_and_items_averaged_within() -> None:
    found = handmade(
        ("generator", "a", 0, 0, 1.0),
        ("generator", "a", 0, 1, 0.0),
        ("generator", "a", 1, 0, 0.0),
        ("generator", "a", 1, 1, 0.0),
        ("generator", "b", 0, 0, 1.0),
        ("generator", "b", 0, 1, 1.0),
    )
    line = row(build_report(found, meta(modes=("bare",))), "generator")
    assert line.score == pytest.approx((0.25 + 1) / 2)
    assert line.exact == pytest.approx(line.score)


def test_content_counts_only_where_the_format_was_right() -> None:
    found = [
        *handmade(("generator", "a", 0, 0, 1.0), format_ok=True, content_ok=True),
        *handmade(("generator", "a", 1, 0, 0.0), format_ok=True, content_ok=False),
        *handmade(("generator", "b", 0, 0, 0.0), format_ok=False, content_ok=None),
        *handmade(("generator", "c", 0, 0, 0.0), format_ok=None, content_ok=None, choice=None),
    ]
    line = row(build_report(found, meta(modes=("bare",))), "generator")
    assert line.format_share == pytest.approx(0.5)
    assert line.content_given_format == pytest.approx(0.5)


def test_numbers_that_were_not_measured_are_none_never_zero() -> None:
    found = handmade(
        ("generator", "a", 0, 0, 1.0),
        format_ok=None,
        content_ok=None,
        choice=None,
    )
    made = build_report(
        found, meta(modes=("bare",), cosine=Cosine(), distances=Distances(), cost=Cost())
    )
    line = row(made, "generator")
    assert line.format_share is line.content_given_format is line.choice is None
    assert made.gap_closed == {"bare": None}
    assert made.operation_gain == {}
    assert made.similarity is None
    assert made.retention == {}
    assert made.ordinary == {}
    assert made.skills == {}
    assert made.cosine == Cosine()
    assert line.unit == "items"


def test_seen_tasks_stand_apart_only_beside_unseen_ones() -> None:
    seen = handmade(("generator", "a", 0, 0, 1.0), ("generator", "b", 0, 0, 1.0), holdout="")
    pair = handmade(("generator", "c", 0, 0, 0.0), ("generator", "d", 0, 0, 0.0), holdout="pair")
    frame = meta(modes=("bare",), split="train")
    assert {r.holdout for r in build_report(seen, frame).rows} == {""}
    both = build_report([*seen, *pair], frame)
    assert row(both, "generator", holdout="seen").score == 1
    assert row(both, "generator", holdout="pair").score == 0
    assert row(both, "generator").score == 0.5


def test_contrasts_are_the_generator_minus_every_other_row(report: Report) -> None:
    overall = [c for c in report.contrasts if not c.holdout]
    assert {(c.mode, c.minus) for c in overall} == {
        (mode, name) for mode in ("bare", "full") for name in ROWS if name != "generator"
    }
    for c in overall:
        ours, theirs = row(report, "generator", c.mode), row(report, c.minus, c.mode)
        assert c.difference == pytest.approx(ours.score - theirs.score, abs=2e-4)
        assert c.sign_test_p <= c.sign_test_p_holm <= 1
    assert any(c.sign_test_p < c.sign_test_p_holm for c in overall)


def test_the_share_of_the_gap_is_of_sums_and_has_an_interval(report: Report) -> None:
    base, mine, top = (row(report, name).score for name in ("base", "generator", "oracle_lora"))
    assert report.gap_closed["bare"] == pytest.approx((mine - base) / (top - base), abs=1e-3)
    (gap,) = [g for g in report.gaps if g.mode == "bare" and not g.holdout]
    assert present(gap.low) < present(gap.share) < present(gap.high)


def test_a_gap_says_how_many_tasks_and_which_kinds_it_is_over() -> None:
    """The kind with a ceiling is told apart; the one without counts for neither."""
    rows = [
        (name, f"{kind}-{n}", n, 0, score)
        for kind in ("family", "pair")
        for name, score in (("base", 0.0), ("generator", 0.5), ("oracle_lora", 1.0))
        for n in range(8)
        if (kind, name) != ("pair", "oracle_lora")
    ]
    measured = [replace(s, holdout=s.slug.partition("-")[0]) for s in handmade(*rows)]
    report = build_report(measured, meta(modes=("bare",)))
    told = report_markdown(report)
    assert (
        "closed, bare: 50 % (50 % to 50 %) over 8 tasks; new families 50 % (50 % to 50 %)." in told
    )


def test_the_gain_is_the_loss_under_wrong_prompts_minus_the_loss_under_right_ones() -> None:
    right = handmade(("generator", "a", 0, 0, 0.0), ("generator", "b", 0, 0, 0.0), nll=1.0)
    wrong = [
        *handmade(("generator_wrong", "a", 0, 0, 0.0), nll=1.5),
        *handmade(("generator_wrong", "b", 0, 0, 0.0), nll=0.9),
    ]
    frame = meta(modes=("bare",))
    gain = build_report([*right, *wrong], frame).operation_gain["bare"]
    assert gain.per_task == {"a": 0.5, "b": -0.1}
    assert gain.mean == pytest.approx(0.2)
    assert gain.share_positive == 0.5
    left = build_report([*right, *wrong], frame, other_format={"b"}).operation_gain["bare"]
    assert left.per_task == {"a": 0.5}
    assert left.left_out == ("b",)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "teacher", "teacher_sha256"),
    [
        ("generator", "multi_task_lora", ""),
        ("imprint", "base", ""),
        ("generator_imprint", "generator", ""),
        ("generator_imprint", "trained_teacher", "t" * 64),
    ],
)
def test_retention_is_a_bare_row_over_its_instructed_teacher(
    name: str, teacher: str, teacher_sha256: str
) -> None:
    about = replace(meta(), teacher_sha256=teacher_sha256)
    report = build_report(SCORES, about, tasks=TASKS)
    found = report.retention[name]
    mine, theirs = row(report, name).score, row(report, teacher, "full").score
    assert (found.teacher, found.bare, found.full, found.n_tasks) == (teacher, mine, theirs, 40)
    assert found.share == pytest.approx(mine / theirs, abs=1e-3)
    assert present(found.low) < present(found.share) < present(found.high)


@pytest.mark.slow
def test_a_trained_teacher_that_was_not_measured_is_not_replaced_by_another() -> None:
    without = [score for score in SCORES if score.row != "trained_teacher"]
    about = replace(meta(), teacher_sha256="t" * 64)
    assert "generator_imprint" not in build_report(without, about, tasks=TASKS).retention


def test_retention_is_over_the_tasks_that_both_have() -> None:
    told = [("generator", f"t{n}", 0, 0, 1.0) for n in range(8)]
    bare = [("generator_imprint", f"t{n}", 0, 0, 0.5) for n in range(1, 8)]
    full = [replace(s, mode="full") for s in handmade(*told)]
    found = build_report([*full, *handmade(*bare)], meta()).retention["generator_imprint"]
    assert (found.share, found.n_tasks, found.full) == (0.5, 7, 1.0)


def test_retention_is_over_the_items_that_both_have() -> None:
    """An item without an instruction cannot be asked bare: it would count for one side alone."""
    told = [
        ("generator", f"t{n}", item, 0, float(item < 5)) for n in range(8) for item in range(10)
    ]
    bare = [("generator_imprint", f"t{n}", item, 0, 1.0) for n in range(8) for item in range(5)]
    full = [replace(s, mode="full") for s in handmade(*told)]
    found = build_report([*full, *handmade(*bare)], meta()).retention["generator_imprint"]
    assert (found.share, found.n_tasks, found.full) == (1.0, 8, 1.0)


def test_ordinary_messages_are_told_by_row_over_the_examined_tasks() -> None:
    found = handmade(*((name, f"t{n}", 0, 0, 1.0) for n in range(8) for name in DRAWN))
    shares = {
        "generator": {f"t{n}": 0.25 for n in range(8)},
        "generator_imprint": {"t0": 1.0, "t1": 0.5, "elsewhere": 0.0},
    }
    report = build_report(found, meta(modes=("bare",)), found=Findings(ordinary=shares))
    ours, imprinted = (report.ordinary[name] for name in DRAWN)
    assert (ours.share, ours.low, ours.high, ours.n_tasks) == (0.25, 0.25, 0.25, 8)
    assert imprinted.per_task == {"t0": 1.0, "t1": 0.5}
    told = report_markdown(report)
    assert "answered as the base does, Generator, right prompts: 25 % (25 % to 25 %) over 8" in told
    assert "Unrelated" not in told


def test_an_interval_over_tasks_knows_their_spread_and_not_their_order() -> None:
    found = handmade(*(("generator", f"t{n}", 0, 0, 1.0) for n in range(6)))
    shares = {f"t{n}": n / 6 for n in range(6)}

    def told(families: int, shares: dict[str, float]) -> OrdinaryShare:
        scores = [replace(s, family=f"f{int(s.slug[1:]) % families}") for s in found]
        given = Findings(ordinary={"generator": shares})
        return build_report(scores, meta(modes=("bare",)), found=given).ordinary["generator"]

    for families in (1, 3, 6):
        one = told(families, shares)
        assert one.low < one.share < one.high
        assert told(families, dict(reversed(shares.items()))) == one


def test_unrelated_questions_are_told_by_row_beside_the_base() -> None:
    found = handmade(*((name, f"t{n}", 0, 0, 1.0) for n in range(8) for name in DRAWN))

    def counts(after: int) -> dict[str, int]:
        return {"before": 20, "after": after, "num_questions": 24}

    checked = {
        "generator": {f"t{n}": counts(12) for n in range(8)},
        "generator_imprint": {"t0": counts(18), "t1": counts(20), "elsewhere": counts(0)},
    }
    report = build_report(found, meta(modes=("bare",)), found=Findings(skills=checked))
    ours, imprinted = (report.skills[name] for name in DRAWN)
    assert (ours.share, ours.low, ours.high, ours.n_tasks) == (0.5, 0.5, 0.5, 8)
    assert (ours.base, ours.n_questions) == (0.8333, 24)
    assert imprinted.per_task == {"t0": 0.75, "t1": 0.8333}
    assert (
        "- Unrelated questions answered right, Generator, right prompts: 50 % (50 % to 50 %) of 24 "
        "over 8 tasks; the base alone 83 %."
    ) in report_markdown(report)


def test_refining_is_told_by_seconds_from_both_starts_beside_its_teacher(
    report: Report,
) -> None:
    found = present(report.refine)
    assert [(p.start, p.steps, p.seconds) for p in found.points] == [
        ("generator", 0, 0.0),
        ("scratch", 0, 0.0),
        ("imprint", 0, 7.0),
        ("generator", 15, 16.0),
        ("generator", 30, 26.0),
        ("generator", None, 45.0),
        ("scratch", 15, 16.5),
        ("scratch", 30, 26.5),
        ("scratch", None, 45.5),
        ("imprint", 15, 23.5),
        ("imprint_better", 20, 31.5),
        ("imprint_labels", 20, 25.5),
        ("imprint_labels", 40, 43.5),
    ]
    assert [p.score for p in found.points] == [row(report, p.row).score for p in found.points]
    teacher = row(report, "shared_lora", "full").score
    assert present(found.teacher).score == teacher
    mine = row(report, "generator_refined").score
    assert present(found.share_of_teacher).share == pytest.approx(mine / teacher, abs=1e-3)
    assert "## Refine" in full_page(report, {})


@pytest.mark.slow
def test_what_adapters_share_is_no_teacher_where_another_one_was_trained() -> None:
    about = replace(meta(), teacher_sha256="t" * 64)
    made = build_report(SCORES, about, tasks=TASKS)
    trained = present(made.refine)
    assert present(trained.teacher).score == row(made, "trained_teacher", "full").score
    without = build_report([s for s in SCORES if s.row != "trained_teacher"], about, tasks=TASKS)
    found = present(without.refine)
    assert found.teacher is None
    assert found.share_of_teacher.share is None
    assert "The teacher, with the instruction" not in full_page(without, {})


def test_the_shortest_run_on_labels_that_scores_alike_is_told(report: Report) -> None:
    found = present(report.equal_score)
    assert [(p.steps, p.seconds) for p in found.points] == [
        (5, 4),
        (10, 8),
        (20, 16),
        (40, 32),
    ]
    assert [p.reaches for p in found.points] == [False, False, True, True]
    assert (found.shortest_steps, found.over_synthesis) == (20, 16 / 0.32)
    assert found.break_even_tasks == math.ceil(18000 / (16 - 0.32))
    assert "paid back after 1,148 tasks" in full_page(report, {})
    assert "has 20 steps and takes 50.00 times as long as a synthesis" in full_page(report, {})
    better = scores({"bare": {"generator": 0.9, "labelled_5": 0.1}})
    none = build_report(better, meta(cosine=Cosine(), distances=Distances()))
    assert present(none.equal_score).shortest_steps is None
    assert "None of these runs reaches the generator." in full_page(none, {})


def test_points_of_refining_are_compared_on_the_tasks_that_all_of_them_have() -> None:
    frame = meta(cosine=Cosine(), distances=Distances(), cost=Cost())
    whole = scores({"bare": {"base": 0.1, "generator": 0.3}})
    part = scores({"bare": {"generator_refined": 0.6}}, of=tasks(12))
    found = present(build_report([*whole, *part], frame).refine)
    assert found.n_tasks == 12
    assert [p.row for p in found.points] == ["generator", "base", "generator_refined"]
    slugs = {s.slug for s in part}
    fewer = build_report([*(s for s in whole if s.slug in slugs), *part], frame)
    assert found == fewer.refine
    assert found.teacher is None
    assert {p.seconds for p in found.points} == {0.0, None}
    assert build_report(whole, frame).refine is None


def test_thirds_by_similarity_hold_every_row_and_every_task_once(report: Report) -> None:
    thirds = present(report.similarity).terciles
    assert {t.row for t in thirds} == set(ROWS)
    sizes = [t.n_tasks for t in thirds if (t.row, t.mode) == ("generator", "bare")]
    assert sorted(sizes) == [13, 13, 14]
    ends = [t.begin for t in thirds if (t.row, t.mode) == ("generator", "bare")]
    assert ends == sorted(ends)


def test_the_papers_ratio_stands_beside_measured_costs_with_what_it_leaves_out(
    report: Report,
) -> None:
    told = "Neither counts collecting checkpoints or training the generator."
    assert told in full_page(report, {})
    assert told not in full_page(replace(report, cost=Cost()), {})


def test_similarity_ranks_the_gains_over_the_base(report: Report) -> None:
    found = present(report.similarity)
    predicted = found.predicts_gain["bare"]
    assert predicted.n_tasks == 40
    assert -1 <= predicted.low <= predicted.rank_correlation <= predicted.high <= 1
    assert "have a rank correlation of" in full_page(report, {})


@pytest.mark.slow
def test_gains_are_told_by_agreement_with_the_instructed_model(report: Report) -> None:
    found = present(report.agreement)
    bare = [b for b in found.bands if b.mode == "bare"]
    assert [(b.begin, b.end) for b in bare] == [(0.0, 0.12), (0.12, 0.49), (0.49, 1.0)]
    assert sum(b.n_tasks for b in bare) == len(found.tasks) == 39, "one cannot be asked"
    per_task = {t.slug: t.gain["bare"] for t in found.tasks}
    top = [present(per_task[t.slug]) for t in found.tasks if t.agreement >= 0.5]
    assert bare[2].gain == pytest.approx(sum(top) / len(top), abs=1e-3)
    assert report.strongest_effect == 11.0
    assert -1 <= found.predicts_gain["bare"].rank_correlation <= 1
    assert "agreement and gain over the base have a rank correlation of" in full_page(report, {})
    unknown = build_report(SCORES, meta())
    assert unknown.agreement is None
    assert unknown.strongest_effect is None


@pytest.mark.slow
def test_scores_are_told_by_how_sure_the_instructed_model_is() -> None:
    slugs = ["a", "b", "c", "d"]
    parts = [("generator_imprint", slug, 0, 0, float(n > 1)) for n, slug in enumerate(slugs)]
    sureness: dict[str, float | None] = {"a": 0.0, "b": 0.45, "c": 0.6, "d": 1.0, "unknown": 0.9}
    about = replace(meta(), teacher_sha256="t" * 64)
    found = build_report(handmade(*parts), about, found=Findings(sureness={**sureness, "c": None}))
    assert [task.slug for task in present(found.forecast).tasks] == ["a", "b", "d"]
    found = build_report(handmade(*parts), about, found=Findings(sureness=sureness))
    gauge = present(found.forecast)
    assert gauge.teacher_sha256 == "t" * 64
    assert present(gauge.band_of(0.6)).begin == 0.6
    assert present(gauge.band_of(1.0)).end == 1
    assert [(b.begin, b.score, b.n_tasks) for b in gauge.bands] == [
        (low, score, count)
        for (low, _high), score, count in zip(SURENESS_BANDS, (0, 0, 1), (1, 1, 2), strict=True)
    ]
    assert [(t.slug, t.score) for t in gauge.tasks] == [("a", 0), ("b", 0), ("c", 1), ("d", 1)]
    assert present(gauge.predicts_score).rank_correlation > 0.8
    assert Report.from_json(found.to_json()).forecast == gauge
    assert "Over 4 tasks, sureness and score have a rank correlation of" in full_page(found, {})
    assert build_report(SCORES, meta(), found=Findings(sureness=sureness)).forecast is None, (
        "nothing imprinted"
    )


def test_scores_are_told_by_the_verdict_that_users_get_on_the_same_adapter() -> None:
    slugs = ["a", "b", "c", "d", "e"]
    parts = [("generator_imprint", slug, 0, 0, float(n > 1)) for n, slug in enumerate(slugs)]
    # The verdict is on the first draw's adapter, so the others' scores do not count.
    others = [("generator_imprint", slug, 0, 1, 0.0) for slug in slugs]
    verdicts: dict[str, KeptVerdict | None] = {
        "a": {"same": 0, "num_prompts": 8, "verdict": "does_not"},
        "b": {"same": 7, "num_prompts": 8, "verdict": "does_not"},  # by a poor teacher
        "c": {"same": 5, "num_prompts": 8, "verdict": "in_part"},
        "d": {"same": 8, "num_prompts": 8, "verdict": "works"},
        "e": None,
        "unknown": {"same": 8, "num_prompts": 8, "verdict": "works"},
    }
    about = replace(meta(), teacher_sha256="t" * 64)
    found = build_report(
        handmade(*parts, *others), about, found=Findings(adapter_verdicts=verdicts)
    )
    gauge = present(found.adapter_verdicts)
    assert gauge.teacher_sha256 == "t" * 64
    assert [(b.verdict, b.score, b.n_tasks) for b in gauge.bands] == [
        ("works", 1, 1),
        ("in_part", 1, 1),
        ("does_not", 0, 2),
    ]
    assert present(gauge.band_of("does_not")).n_tasks == 2
    assert [(t.slug, t.same, t.score) for t in gauge.tasks] == [
        *(("a", 0, 0), ("c", 5, 1), ("b", 7, 0), ("d", 8, 1)),
    ]
    ranked = present(gauge.predicts_score)
    assert ranked.rank_correlation == pytest.approx(0.4472, abs=1e-4)
    assert Report.from_json(found.to_json()).adapter_verdicts == gauge
    told = "Over 4 tasks, the share of these prompts that are answered as with the instruction"
    assert told in full_page(found, {})
    assert "| does not work | 0 |" in full_page(found, {})
    short = report_markdown(found)
    assert "it works, 1.00 (1.00 to 1.00, 1 task); it works in part, 1.00" in short
    assert told in short
    before = Report.from_json({**found.to_json(), "adapter_verdicts": None})
    assert "By the verdict" not in full_page(before, {})
    assert "by the verdict" not in report_markdown(before)
    nothing_imprinted = build_report(SCORES[:0] + handmade(("base", "a", 0, 0, 1.0)), meta())
    assert nothing_imprinted.adapter_verdicts is None


@pytest.mark.slow
def test_rows_of_several_prompt_draws_are_told_from_those_of_one(report: Report) -> None:
    assert report.several_draws == dict.fromkeys(DRAWN, 2)
    told = "Prompt draws of a task: Generator, right prompts 2, Generator, imprinted 2; one for"
    for text in (report_markdown(report), full_page(report, {})):
        assert told in text
    once = build_report([s for s in SCORES if s.draw == 0], meta())
    assert "Prompt draws" not in report_markdown(once)


def test_failures_are_wrong_items_drawn_by_seed(report: Report) -> None:
    assert len(report.failures) == 20
    made = [s for s in SCORES if s.row == "generator_refined" and not s.draw]
    assert report.wrong_row == "generator_refined", "taught is what the page makes last"
    by_key = {(s.mode, s.slug, s.item): s for s in made}
    for failure in report.failures:
        source = by_key[failure.mode, failure.slug, failure.item]
        assert source.score == 0
        assert failure.got == source.text
        assert failure.wanted.startswith("answer")
        asked = f"input {failure.item}"
        assert failure.asked == asked or failure.mode == "full"
        assert failure.description.startswith("Invented task")
    alone = [s for s in SCORES if s.row == "generator_refined"]
    again = build_report(alone[::-1], meta(), tasks=TASKS)
    other = build_report(alone, meta(seed=1), tasks=TASKS)
    assert again.failures == report.failures != other.failures
    without = [s for s in SCORES if s.row == "generator"]
    assert len(build_report(without, meta(), tasks=TASKS).failures) == 20


def test_what_a_report_is_about_is_judged_first_and_each_verdict_names_its_row(
    report: Report,
) -> None:
    rows = [verdict.row for verdict in report.verdicts]
    assert rows == sorted(rows, key=["generator_refined", "generator"].index)
    assert set(rows) == {"generator_refined", "generator"}
    text = report_markdown(report)
    assert "- **Generator, refined.** Bare: better than the base. " in text
    assert "- **Generator, right prompts.** Bare: the prompts carry the task. " in text
    # Older versions wrote neither, and judged the generator.
    old = report.to_json()
    del old["failures_row"]
    for verdict in old["verdicts"]:
        del verdict["row"]
    read = Report.from_json(old)
    assert {verdict.row for verdict in read.verdicts} == {"generator"}
    assert read.wrong_row == "generator_imprint"


def test_a_report_without_rows_names_them_with_the_reason(tmp_path: Path) -> None:
    some = [s for s in SCORES if s.row in ("base", "generator")]
    frame = meta(
        rows=("base", "generator"),
        left_out={"nearest_lora": "no collection of training LoRAs was given"},
        cosine=Cosine(),
        distances=Distances(),
        cost=Cost(),
    )
    made = build_report(some, frame)
    assert set(made.not_measured) == set(ROWS) - {"base", "generator"}
    assert made.not_measured["nearest_lora"] == "no collection of training LoRAs was given"
    assert made.not_measured["oracle_lora"] == "not asked for"
    write_report(made, some, tmp_path)
    for text in (report_markdown(made), (tmp_path / "REPORT.md").read_text(encoding="utf-8")):
        assert "- no collection of training LoRAs was given: Nearest task's LoRA.\n" in text
        (rest,) = re.findall(r"^- not asked for: (.*)\.$", text, re.M)
        assert {"Own LoRA, trained on labels", "Mean of training LoRAs"} <= {*rest.split("; ")}
        assert "Cosine of ΔW: not measured." in text
    assert {p.stem for p in (tmp_path / "plots").iterdir()} == {"rows", "categories"}
    assert {v.name for v in made.verdicts if v.holds is not None} == {
        "beats_base",
        "beats_base_full",
    }


def test_a_report_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one score"):
        build_report([], meta())


def test_families_that_training_saw_are_named() -> None:
    alone = [s for s in SCORES if s.row == "base"]
    made = build_report(alone, meta(trained_families=("family-03", "elsewhere")))
    assert made.trained_families_among_them == ("family-03",)


@pytest.fixture(scope="session")
def written(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("written")
    write_report(report, SCORES, out)
    return out


def test_files_are_whole_and_agree(written: Path, report: Report) -> None:
    assert json.loads((written / "report.json").read_text(encoding="utf-8")) == report.to_json()
    with (written / "report.csv").open(encoding="utf-8", newline="") as stream:
        means = list(csv.DictReader(stream))
    assert len(means) == 40 * len(ROWS) * 2
    mine = [float(m["score"]) for m in means if (m["row"], m["mode"]) == ("generator", "bare")]
    assert sum(mine) / 40 == pytest.approx(row(report, "generator").score, abs=1e-3)
    with (written / "items.csv").open(encoding="utf-8", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(SCORES)
    assert not list(written.rglob(".aside-*"))


def test_the_page_holds_every_arm_the_failures_and_how_to_repeat_it(
    written: Path, report: Report
) -> None:
    page = (written / "REPORT.md").read_text(encoding="utf-8")
    for heading in ("What was asked", "The answer", "Every row", "Cost", "How to repeat it"):
        assert f"## {heading}" in page
    assert page.index(report.verdicts[0].words[:30]) < page.index("## Every row")
    for label in ("Generator, wrong prompts", "Own LoRA, trained on labels", "New operations"):
        assert label in page
    assert report.command in page
    assert report.generator_sha256 in page
    for name in ("rows", "categories", "refine"):
        assert f"(plots/{name}.svg)" in page


def test_text_of_models_cannot_break_a_table(written: Path) -> None:
    page = (written / "REPORT.md").read_text(encoding="utf-8")
    part = page.split("## Wrong answers, drawn at random")[1].split("##")[0].strip().splitlines()
    told, *table = [line for line in part if line]
    assert told == "Row: Generator, refined."
    assert len(table) == 22
    assert {line.replace("\\|", "").count("|") for line in table} == {7}
    assert all("``wrong" in line for line in table[2:])


def test_pictures_keep_text_as_text_and_are_the_same_every_time(
    written: Path, report: Report, tmp_path: Path
) -> None:
    write_report(report, SCORES, tmp_path)
    for path in (written / "plots").iterdir():
        assert path.read_bytes() == (tmp_path / "plots" / path.name).read_bytes()
    svg = (written / "plots" / "rows.svg").read_text(encoding="utf-8")
    assert "Generator, right prompts</text>" in svg
    assert "@media (prefers-color-scheme: dark)" in svg
    assert "var(" not in svg, "viewers of files need not know the page's colours"


def test_the_card_is_shorter_has_no_heading_and_holds_every_row(report: Report) -> None:
    card = report_markdown(report)
    assert not [line for line in card.splitlines() if line.startswith("#")]
    assert card.count("Generator, shuffled words") >= 2
    assert "the prompts carry the task" in card
    assert len(card.splitlines()) < len(full_page(report, {}).splitlines()) / 2


@pytest.mark.slow
def test_the_card_and_the_page_say_what_few_families_do_to_intervals(
    report: Report, written: Path
) -> None:
    caution = "with fewer than about eight families intervals hold the truth less often"
    open_words = "With fewer than 6, luck alone can put one clear of zero"
    page = (written / "REPORT.md").read_text(encoding="utf-8")
    for text in (report_markdown(report), page):
        assert caution in text
        assert open_words not in text
    few = tasks(count=6, items=4)
    made = build_report(scores(of=few), meta(), tasks=few)
    assert made.n_families == 3
    for text in (report_markdown(made), full_page(made, {})):
        assert caution in text
        assert open_words in text
        assert "prompts carry the task" not in text.split("## Every verdict")[0]
    assert "too few families" in full_page(made, {})


def test_distances_with_gaps_can_be_told() -> None:
    """One adapter for all tasks leaves nothing to centre, one draw no pair of a task."""
    distances = replace(DISTANCES, nearest=None)
    cosine = replace(COSINE, same_task_centred=None)
    alone = [s for s in SCORES if s.row == "generator"]
    made = build_report(alone, meta(cosine=cosine, distances=distances, cost=Cost()))
    for text in (report_markdown(made), full_page(made, {})):
        assert "Distance of ΔW to the nearest training adapter: not measured." in text
