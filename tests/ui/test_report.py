"""The report card as plain functions: pictures, words and what was not measured."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from dnd_engine.errors import GeneratorError
from dnd_engine.evaluation.page import report_markdown
from dnd_engine.evaluation.pictures import Metric
from dnd_engine.files import asset_path
from dnd_engine.generator.report import (
    ForecastBand,
    ForecastGauge,
    OrdinaryShare,
    Prediction,
    RefinePoint,
    Report,
    SkillShare,
    TeachStart,
    VerdictBand,
    VerdictGauge,
)
from dnd_engine.wording import CATEGORIES, ROWS
from tests.present import present
from tests.reports import SHA, report
from tests.ui.fake_engine import FakeEngine
from ui.handlers import Handlers
from ui.markup import esc
from ui.state import Session
from ui.tabs.report.forecast import forecast_html
from ui.tabs.report.lead import lead
from ui.tabs.report.side_effects import side_effects_html
from ui.tabs.report.teaching import teaching_html
from ui.tabs.report.view import Group, card_markdown, groups, report_html
from ui.text import _, languages, speaking


def whole_report(*told: Any) -> str:
    """Both halves of a drawn report, between which the page has its choices."""
    return "".join(report_html(*told))


@pytest.mark.parametrize("changes", [{}, {"failures": ()}], ids=["some shown", "none shown"])
def test_wrong_answers_that_are_left_out_are_counted_and_not_called_none(
    changes: dict[str, Any],
) -> None:
    def drawn(**more: Any) -> str:
        made = replace(report(), **changes, **more)
        return whole_report(made, Group("heldout", ""), "score", SHA)

    told = "4 on data that is not ours left out"
    assert told not in drawn()
    assert told in drawn(failures_left_out=4)
    assert (
        "They are in the folder that <code>dnd evaluate</code> wrote its report to."
        in drawn(failures_left_out=4)
    ) == bool(changes)
    assert "No wrong answer was recorded." not in drawn(failures_left_out=4)


def shipped(name: str) -> Report:
    path = asset_path("generators", "smollm2-135m-instruct", "reports", f"{name}.json")
    return Report.from_json(json.loads(path.read_text(encoding="utf-8")))


def test_the_shipped_report_draws_what_seconds_bring() -> None:
    found = shipped("refine")
    drawn = whole_report(found, Group("refine", ""), "score", found.generator_sha256)
    assert found.equal_score is not None
    steps = found.equal_score.shortest_steps
    assert f"{steps} steps do at least as well as the generated adapter before any" in drawn
    for name in (
        "From the adapter: .12 (0 s)",
        "From nothing: .03 (0 s)",
        "On labels: .03 (0 s)",
        "Teacher: .25",
        "From the generated adapter: .12 at once",
        "up to .72 in 19 s",
        "Teaching by the model itself after an imprint is not in this report",
        "From the imprinted adapter, as Teach does it: not in this report.",
    ):
        assert name in drawn
    bare = replace(found, refine=None)
    assert "What teaching brings" not in whole_report(
        bare, Group("refine", ""), "score", found.generator_sha256
    )


def test_each_door_of_teach_is_told_with_what_was_measured_of_it() -> None:
    found = shipped("refine")
    starts: tuple[tuple[str, TeachStart, int, float, float], ...] = (
        ("generator_imprint", "imprint", 0, 8.0, 0.3),
        ("imprint_refined_15", "imprint", 15, 40.0, 0.4),
        ("imprint_taught_20", "imprint_better", 20, 60.0, 0.5),
        ("imprint_labelled_20", "imprint_labels", 20, 30.0, 0.8),
    )
    imprinted = [
        RefinePoint(
            row=row, start=start, steps=steps, seconds=seconds, score=score, low=0.0, high=1.0
        )
        for row, start, steps, seconds, score in starts
    ]
    before = present(found.refine)
    curve = replace(before, points=(*before.points, *imprinted))
    drawn = teaching_html(replace(found, refine=curve))
    assert "Imprinted first: .30 in 8 s, .40 in 40 s." in drawn
    assert "From the imprinted adapter, as Teach does it: .80 in 30 s." in drawn
    assert "Imprinted, on labels: .30 (8 s), .80 (30 s)" in drawn
    assert "From the imprinted adapter: .50 in 60 s. It depends on the model" in drawn
    assert "ot measured" not in drawn
    assert "Not measured. It depends on the model" in teaching_html(found)


def test_a_report_says_how_often_a_forecast_would_have_been_right() -> None:
    found = shipped("heldout")
    told = forecast_html(found)
    similarity, agreement = present(found.similarity), present(found.agreement)
    gains = {t.slug: t.gain["bare"] for t in agreement.tasks}
    near = sorted(similarity.tasks, key=lambda t: -t.similarity)
    hits = [(gains[t.slug] or 0) > 0 for t in near if t.slug in gains]
    half = len(hits) // 2
    assert f"are to those of training: no. On the {half} tasks" in told
    assert f"beat the base {sum(hits[:half])} times; on the other" in told
    assert told in whole_report(found, Group("heldout", ""), "score", found.generator_sha256)
    sure = replace(similarity.predicts_gain["bare"], low=0.1)
    forecast = replace(found, similarity=replace(similarity, predicts_gain={"bare": sure}))
    assert "of training: a little." in forecast_html(forecast)
    assert forecast_html(replace(found, agreement=None)) == ""


def test_a_report_says_how_forecasts_before_synthesize_turned_out() -> None:
    low = ForecastBand(begin=0.0, end=0.25, score=0.05, low=0.0, high=0.1, n_tasks=1)
    high = ForecastBand(begin=0.7, end=1.0, score=0.75, low=0.6, high=0.9, n_tasks=7)
    ranked = Prediction(rank_correlation=0.62, low=0.2, high=0.9, n_tasks=8)
    gauge = ForecastGauge(teacher_sha256="", bands=(low, high), predicts_score=ranked, tasks=())
    told = forecast_html(replace(shipped("heldout"), agreement=None, forecast=gauge))
    assert "where the model is unsure of its answers, .05 (1 task); where it is sure, .75" in told
    assert "partly" not in told, "no task has that forecast"
    assert "sure the model is, and score: rank correlation +.62 (.20 to .90) over 8" in told
    written = shipped("written")
    drawn = whole_report(written, Group("written", ""), "score", written.generator_sha256)
    assert "where it is sure, " in drawn, "the card of the shipped generator has it"


def test_a_report_says_how_verdicts_on_left_out_prompts_turned_out() -> None:
    low = VerdictBand(verdict="does_not", score=0.05, low=0.0, high=0.1, n_tasks=1)
    high = VerdictBand(verdict="works", score=0.75, low=0.6, high=0.9, n_tasks=7)
    ranked = Prediction(rank_correlation=0.62, low=0.2, high=0.9, n_tasks=8)
    gauge = VerdictGauge(teacher_sha256="", bands=(high, low), predicts_score=ranked, tasks=())
    found = replace(shipped("heldout"), forecast=None, adapter_verdicts=gauge)
    told = forecast_html(found)
    assert "where it says that the adapter works, .75 (7 tasks); where" in told
    assert "does not work without the instruction, .05 (1 task)." in told
    assert "some prompts only" not in told, "no task has that verdict"
    assert "with the instruction, and score: rank correlation +.62 (.20 to .90) over 8" in told
    assert "check after Synthesize" not in told, "that is of adapters before their imprint"
    assert Report.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_a_report_says_what_else_adapters_change_and_nothing_where_that_was_not_measured() -> None:
    found = report()
    group = Group("heldout", "")
    assert side_effects_html(found) == ""
    assert "What else" not in whole_report(found, group, "score", SHA)
    level: dict[str, Any] = {"n_tasks": 2, "per_task": {"a": 0.5, "b": 0.75}}
    kept = OrdinaryShare(share=0.9, low=0.8, high=0.95, **level)
    right = SkillShare(share=0.625, low=0.5, high=0.75, base=0.83, n_questions=24, **level)
    both = replace(found, ordinary={"generator": kept}, skills={"generator": right})
    told = side_effects_html(both)
    assert "90 % of ordinary messages are answered as the base does (80 % to 95 %)." in told
    assert "answered right (50 % to 75 %); the base alone: 83 %." in told
    assert told in whole_report(both, group, "score", SHA)
    assert told not in whole_report(both, Group("heldout", "family"), "score", SHA)
    older = side_effects_html(replace(both, skills={}))
    assert "90 %" in older
    assert "unrelated" not in older, "reports from before it was measured"
    assert Report.from_json(json.loads(json.dumps(both.to_json()))) == both


def test_kinds_of_task_have_names_in_every_language() -> None:
    for name in ("heldout", "refine", "train", "written"):
        assert {k for row in shipped(name).rows for k in row.per_category} <= {*CATEGORIES}
    written = shipped("written")
    rows = tuple(replace(row, per_category={"magic": 0.5}) for row in written.rows)
    own = replace(written, rows=rows)
    with speaking("de"):
        drawn = whole_report(written, Group("written", ""), "score", written.generator_sha256)
        assert ">magic<" in whole_report(own, Group("written", ""), "score", own.generator_sha256)
    assert ">Grammatik<" in drawn
    assert ">grammar<" not in drawn


def test_a_report_emphasises_what_the_page_makes() -> None:
    """Taught adapters, else imprinted ones, where a report has them; else the generator's own."""
    for name, label in (
        ("refine", "Generator, refined"),
        ("written", "Generator, imprinted"),
        ("train", "Generator, right prompts"),
    ):
        found = shipped(name)
        drawn = whole_report(found, Group(name, ""), "score", found.generator_sha256)
        assert f"<span class='dnd-facts'>{label}, Bare inputs, score" in drawn
        emphasised = re.findall(r"class='name strong'[^>]*>([^<]+)", drawn)
        assert set(emphasised) - {"Own LoRA, trained on labels"} == {label}


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("written", "<p class='dnd-facts'>Generator, imprinted</p>"),
        ("refine", "<p class='dnd-facts'>Generator, refined</p>"),
        ("train", "<b>"),
    ],
)
def test_verdicts_begin_with_what_the_page_is_about_and_name_their_row(
    name: str, first: str
) -> None:
    found = shipped(name)
    drawn = whole_report(found, Group(name, ""), "score", found.generator_sha256)
    cards = drawn.split("dnd-verdict-card'>")[1:]
    assert cards[0].split("</svg><div>")[1].startswith(first)
    if name == "refine":
        assert any("<p class='dnd-facts'>Generator, right prompts</p>" in card for card in cards)
    for card in cards:
        if "barely" in card:
            assert "dnd-icon-info" in card, "neither good nor bad news"


@pytest.mark.parametrize("name", ["written", "heldout", "train", "refine"])
def test_what_a_verdict_found_is_said_in_the_language_of_the_page(name: str) -> None:
    found = shipped(name)
    with speaking("de"):
        drawn = whole_report(found, Group(name, ""), "score", found.generator_sha256)
    findings = re.findall(r"</svg><div>(?:<p class='dnd-facts'>[^<]+</p>)?<b>([^<]+)</b>", drawn)
    assert findings
    english = {esc(v.words.partition(". ")[0].partition(": ")[2]) for v in found.verdicts}
    for finding in findings:
        mode, _colon, words = finding.partition(": ")
        assert mode in ("Nur Eingabe", "Voll")
        assert words not in english
    assert "lang='en'" not in drawn
    behind = re.findall(r"<summary>Warum\?</summary><p class='dnd-sub'>([^<]+)", drawn)
    assert len(behind) >= len(findings) / 2
    for words in behind:
        assert not re.search(r"(^|\s)[-+]?\d*\.\d| to | nats|Difference", words)
    strange = replace(found.verdicts[0], holds=True, words="Bare: of {another} version. 1.")
    newer = replace(found, verdicts=(strange,))
    other = whole_report(newer, Group(name, ""), "score", found.generator_sha256)
    assert "<b>Bare: of {another} version</b>" in other
    assert "<div lang='en'><p class='dnd-sub'>1.</p></div>" in other


def test_wrong_answers_are_never_called_another_rows() -> None:
    found = shipped("refine")
    drawn = whole_report(found, Group("refine", ""), "score", found.generator_sha256)
    wrong = drawn.split("Where it goes wrong")[1]
    assert "Generator, right prompts, picked at random" in wrong
    assert "Generator, refined" not in wrong


def test_a_metric_that_was_not_measured_says_so_instead_of_empty_axes() -> None:
    found = shipped("written")
    drawn = whole_report(found, Group("written", ""), "format_share", found.generator_sha256)
    forest = drawn.split("dnd-forest-modes")[1].split("</section>")[0]
    assert "<svg" not in forest
    assert forest.count("Not measured for these tasks.") == 2
    assert "ceiling" not in drawn, "no LoRA was trained on labels of these tasks"


def test_a_part_of_a_report_opens_with_what_its_adapters_score() -> None:
    found = shipped("heldout")
    drawn = whole_report(found, Group("heldout", "composition"), "score", found.generator_sha256)
    assert (
        "On this kind of task, an adapter is right about 0 times in 100 without being told what to "
        "do. The base model alone: 0." in drawn
    )


@pytest.mark.parametrize("metric", ["score", "format_share", "nll"])
@pytest.mark.parametrize("name", ["heldout", "refine", "train"])
def test_every_part_of_the_shipped_reports_is_drawn(name: str, metric: Metric) -> None:
    found = shipped(name)
    for group in groups({name: found}):
        drawn = whole_report(found, group, metric, found.generator_sha256)
        assert esc(found.command) in drawn
        # Of some splits no task asks for a format.
        assert ("<circle" in drawn) or metric == "format_share"


def test_the_report_card_has_its_front_matter_cut_off() -> None:
    assert card_markdown("---\nlicense: mit\n---\n# Card\n") == "# Card\n"


def test_every_split_and_every_part_of_it_can_be_chosen_the_harder_first() -> None:
    """A part that is the whole does not stand apart."""
    whole = report()
    one_part = replace(whole, rows=tuple(r for r in whole.rows if r.holdout != "family"))
    found = groups({"train": report("train"), "heldout": whole, "refine": one_part})
    assert [g.key for g in found] == [
        "heldout/",
        "heldout/family",
        "heldout/primitive",
        "refine/",
        "train/",
        "train/family",
        "train/primitive",
    ]
    labels = [g.label() for g in found]
    assert labels[1:4] == ["New families", "New operations", "Unseen tasks, taught"]
    assert labels[-1] == "Seen tasks, new items: New operations"


def test_names_of_rows_in_a_strangers_report_are_only_ever_text() -> None:
    whole = report()
    hostile = replace(
        whole,
        rows=(*whole.rows, replace(whole.rows[-1], row="generator_imprint", holdout="")),
        verdicts=tuple(replace(verdict, row="<img src=x>") for verdict in whole.verdicts),
        failures_row="<img src=x>",
    )
    html = whole_report(hostile, Group("heldout", ""), "score", SHA)
    assert "<img" not in html
    assert html.count("&lt;img src=x&gt;") >= 2
    page = report_markdown(hostile)
    assert page.count("<img") == page.count(r"\<img") > 0


def test_a_report_is_drawn_with_every_row_and_its_words_escaped() -> None:
    html = whole_report(report(), Group("heldout", ""), "score", SHA)
    for words in (
        *("Base", "Base, few-shot prompt", "Mean of training LoRAs", "Nearest task's LoRA"),
        *("Multi-task LoRA", "Own LoRA, trained on labels"),
    ):
        assert esc(words) in html
    assert "17 %</b> bare" in html
    assert "+.80</b> (.30 to 1.20)" in html
    assert "same task <b>.999</b>, different tasks <b>.79</b>" in html
    assert "Sets of prompts per task: Generator, right prompts 3; one for every other row." in html
    assert "Baselines, controls and a ceiling" in html
    assert "the prompts carry the task" in html
    assert "&lt;b&gt;blue&lt;/b&gt;-door" in html
    assert "Not measured" not in html
    assert "cx='14.00%'" in html


def test_a_report_card_opens_with_what_a_layman_understands() -> None:
    """Only with what the report that is shown has measured."""
    whole = report()
    told = "but like it in kind, an adapter is right about 14 times in 100"
    first, more = report_html(whole, Group("heldout", ""), "score", SHA)
    assert "dnd-forest-mode" in first
    assert "dnd-verdict-card" not in first, "it comes after the first chart and the choices"
    assert "dnd-verdict-card" in more
    html = first + more
    assert html.index(told) < html.index("19 tasks")
    in_part = "Longer answers count in part, by how many words match."
    assert in_part not in html, "only whole matches count in these tasks"
    partly = replace(whole, rows=tuple(replace(r, exact=r.score / 2) for r in whole.rows))
    assert in_part in report_html(partly, Group("heldout", ""), "score", SHA)[0]
    assert re.search(r"sets? of prompts per task", html)
    assert "The base model alone: 0. A LoRA trained on labels of the task: 83." in html
    few = [replace(r, n_tasks=5) if r.row == "oracle_lora" else r for r in whole.rows]
    assert "on 5 of 19 tasks: 83." in lead(replace(whole, rows=tuple(few)), "heldout")

    def without(row: str) -> str:
        rows = tuple(r for r in whole.rows if r.row != row)
        return lead(replace(whole, rows=rows), "heldout")

    assert "LoRA" not in without("oracle_lora")
    oracle = next(r for r in whole.rows if r.row == "oracle_lora" and r.mode == "bare")

    def labelled(**changes: Any) -> str:
        rows = [r for r in whole.rows if r.row != "oracle_lora"]
        rows += [replace(oracle, row="labelled_10", score=0.5)]
        rows += [replace(oracle, row="labelled_20", **changes)]
        return lead(replace(whole, rows=tuple(rows)), "heldout")

    assert "trained on the right answers to the same prompts: 83." in labelled()
    assert "LoRA" not in labelled(n_tasks=5), "fewer tasks have another mean"
    written = shipped("written")
    trained = "alone: 0. A LoRA trained on the right answers to the same prompts: 70."
    assert trained in lead(written, "written")
    rows = tuple(row for row in written.rows if not row.row.startswith("labelled_"))
    examples = "alone: 0. The base model with a few right answers in its prompt: 47."
    assert examples in lead(replace(written, rows=rows), "written")
    assert "base model" not in without("base")
    assert without("generator") == ""
    full = tuple(r for r in whole.rows if r.mode == "full")
    assert lead(replace(whole, rows=full), "train") == ""
    found = shipped("refine")
    bare = {r.row: r.score for r in found.rows_of() if r.mode == "bare"}
    times = round(100 * bare["generator_refined"])
    assert f"taught on their prompts is right about {times} times" in lead(found, "refine")


def test_losses_are_drawn_on_an_axis_that_holds_them_all() -> None:
    html = whole_report(report(), Group("heldout", "primitive"), "nll", SHA)
    # Up to 5.1, on an axis that ends at a round number.
    assert "cx='85.00%'" in html
    assert re.findall(r"class='tick'[^>]*>([^<]+)<", html)[:4] == ["0", "2", "4", "6"]
    assert "the prompts carry" not in html


def test_a_report_of_another_generator_is_not_drawn() -> None:
    drawn = whole_report(report(generator_sha256="f" * 64), Group("heldout", ""), "score", SHA)
    assert "This report is for another generator" in drawn
    assert "dnd-forest" not in drawn


def test_a_damaged_report_says_so_beside_the_card(
    on: Handlers, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(self: FakeEngine) -> Any:
        raise GeneratorError("`heldout.json`: this is <no> sound report.")

    monkeypatch.setattr(FakeEngine, "reports", property(damaged), raising=False)
    drawn = on.report.report(Session(own=True), None, "score")
    assert (
        "cannot be read: <code>heldout.json</code>: this is &lt;no&gt; sound report."
        in drawn["report"]
    )
    assert drawn["report_card"]
    assert drawn["report_all"].open
    # The generator's folder is no business of other visitors.
    drawn = on.report.report(Session(), None, "score")
    assert "Reference: " in drawn["report"]
    assert "heldout.json" not in drawn["report"]


@pytest.mark.parametrize("code", languages())
def test_names_of_rows_leave_room_for_the_picture(code: str) -> None:
    """Two pictures beside each other have 590 pixels each on a desk, and a character about 7."""
    with speaking(code):
        assert max(len(_(words)) for words in ROWS.values()) <= 40
