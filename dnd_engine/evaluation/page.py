"""A report as people read it: in short for cards and terminals, and as a whole page with pictures.

Every table holds all rows that were measured. Text of tasks and models is escaped. Knows reports,
and no scores.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from dnd_engine.config import Degree
from dnd_engine.generator.report import (
    AgreementGauge,
    EqualScore,
    ForecastGauge,
    OrdinaryShare,
    Prediction,
    RefineCurve,
    Report,
    Share,
    SimilarityGauge,
    SkillShare,
    Verdict,
    VerdictGauge,
)
from dnd_engine.notes import first_of
from dnd_engine.scoring.scores import FORECAST_ROW, made_row
from dnd_engine.scoring.statistics import MIN_UNITS
from dnd_engine.tables import markdown_table
from dnd_engine.tasks.folder import Mode
from dnd_engine.wording import (
    WAYS,
    holdout_label,
    inputs_label,
    mode_label,
    number,
    percent,
    row_label,
    section_label,
    signed,
    span,
)

_CAUTION = (
    "An interval of zero width means that no item differed, not that none could; with fewer than "
    "about eight families intervals hold the truth less often than they say."
)

_CONTRAST_NOTE = (
    "Paired over the same items. The sign test is over tasks, two-sided and exact, and corrected "
    "with Holm's method over the contrasts of this table."
)

_PAPERS_RATIO = (
    "The paper's 12,000 is one synthesis against a LoRA of 300 steps; against one of 50 steps, "
    "which it finds as good, it is 2,500. Neither counts collecting checkpoints or training the "
    "generator. *Break even* does: the number of tasks after which these are paid back, one LoRA "
    "run each, at the speeds above."
)
"""Source: Liang et al. 2025, arXiv:2506.16406, project page and scripts."""


def report_markdown(report: Report) -> str:
    """Write the report in short, without a heading: for a generator's card and the terminal."""
    differences = {
        (c.mode, c.minus): f"{signed(c.difference)} ({span(c)})"
        for c in report.contrasts
        if not c.holdout
    }
    digest = report.generator_sha256
    generator = f"generator `{digest[:12]}`" if digest else "no generator"
    lines = [
        f"{report.data} Score: {report.metric}. Intervals: 95 %, bootstrap over "
        f"{_count(report.n_families, 'family', 'families')}. {_CAUTION}{_few_families(report)}"
        f"{_draws(report)}",
        "",
        # Those of the first mode, and whether one shared LoRA does as well on full prompts.
        *(
            f"- {_verdict_words(report, v)}"
            for v in report.verdicts
            if v.holds is not None
            if not v.name.endswith("_full") or v.name == "beats_multi_task_lora_full"
        ),
        "",
        *markdown_table(
            "inputs | row | score: | 95 % interval | generator minus this | nats a token: | "
            "tasks (families):",
            (
                (
                    *(mode_label(r.mode), row_label(r.row), number(r.score), span(r)),
                    *(differences.get((r.mode, r.row), "-"), _maybe(r.nll)),
                    f"{r.n_tasks} ({r.n_families})",
                )
                for r in report.rows_of()
            ),
        ),
        "",
        *_not_measured_lines(report),
        *_holdouts_table(report),
        *_refine_lines(report.refine),
        *_equal_score_lines(report.equal_score),
        *_facts(report),
        *_verdicts_in_short(report.adapter_verdicts),
        "",
        f"Made by `{report.command}`, seed {report.seed}, {generator}.",
        "",
    ]
    return "\n".join(lines)


def full_page(report: Report, pictures: Mapping[str, str]) -> str:
    """Write the whole report: `REPORT.md`.

    Args:
        report: As built.
        pictures: What each shows, by its name in `plots/` beside the page.
    """

    def section(heading: str, *lines: str, picture: str = "") -> list[str]:
        if not lines:
            return []
        return [f"## {heading}", "", *_picture(pictures, picture), *lines, ""]

    holdouts = report.holdouts if len(report.holdouts) > 1 else ()
    lines = [
        f"# Examination of {report.generator}: {section_label(report.split).lower()}",
        "",
        *section("What was asked", *_asked(report)),
        *section("The answer", *_answer(report)),
        *section("Every row", *_rows_table(report, ""), picture="rows"),
        *_not_measured_lines(report),
        *section(
            "The generator against every other row",
            *(_CONTRAST_NOTE, "", *_contrasts_table(report, "")),
        ),
    ]
    for holdout in holdouts:
        tables = *_rows_table(report, holdout), "", *_contrasts_table(report, holdout)
        lines += section(holdout_label(holdout), *tables)
    lines += [
        *section("By category", *_category_table(report), picture="categories"),
        *section("Further measures", *_facts(report)),
        *section("By similarity to training", *_similarity_lines(report.similarity)),
        *section("By agreement with the instructed model", *_agreement_lines(report.agreement)),
        *section("By how sure the instructed model is", *_forecast_lines(report.forecast)),
        *section("By the verdict on the adapter", *_verdict_gauge_lines(report.adapter_verdicts)),
        # Without the empty line at its end, which a section adds.
        *section("Refine", *_refine_lines(report.refine)[:-1], picture="refine"),
        *section("Cost", *_cost_lines(report)),
        *section("Wrong answers, drawn at random", *_failure_lines(report)),
        *section(
            "Every verdict",
            *markdown_table(
                "verdict | holds | in words",
                (
                    (f"`{v.name}`", _HOLDS[v.holds], _verdict_words(report, v))
                    for v in report.verdicts
                ),
            ),
        ),
        *section(
            "How to repeat it",
            *("```", report.command, "```", ""),
            f"Seed {report.seed}. {_generator_words(report)}. Base `{report.base}`. "
            "`report.json` holds every number above, `report.csv` the means of every task, "
            "`items.csv` every answer.",
        ),
    ]
    return "\n".join(lines)


_HOLDS = {True: "yes", False: "no", None: "open"}


def _asked(report: Report) -> list[str]:
    lines = [
        f"Does this generator, given a handful of a task's prompts, make an adapter for "
        f"`{report.base}` that does the task? {report.data}",
        "",
        f"{_count(report.n_tasks, 'task')} of {_count(report.n_families, 'family', 'families')} "
        "were scored. Conditions are prompts of a task's train side, scores are of its test side. "
        "*Full* sends instruction and input, *bare* the input alone: only there must the adapter "
        f"carry the task. Score: {report.metric}, as a mean over tasks. Intervals are 95 %, by a "
        f"bootstrap whose unit is the family. {_CAUTION}{_few_families(report)}{_draws(report)}",
    ]
    if known := report.trained_families_among_them:
        lines += [
            "",
            f"Training saw other tasks of {len(known)} of these families: {first_of(known, 8)}.",
        ]
    return lines


def _answer(report: Report) -> list[str]:
    # The most telling verdicts come first.
    known = [v for v in report.verdicts if v.holds is not None][:3]
    if not known:
        return ["Too little was measured for an answer. Every verdict below says what it needs."]
    return [f"{n}. {_verdict_words(report, v)}" for n, v in enumerate(known, start=1)]


def _generator_words(report: Report) -> str:
    if not report.generator_sha256:
        return "No generator: imprint alone"
    return f"Generator {report.generator}, SHA-256 `{report.generator_sha256}`"


def _verdict_words(report: Report, verdict: Verdict) -> str:
    """Word a verdict, and name its row where a report judges more than the generator."""
    named = made_row({row.row for row in report.rows}) != "generator"
    about = f"**{_escape(row_label(verdict.row))}.** " if named else ""
    return about + _escape(verdict.words)


def _few_families(report: Report) -> str:
    """Why the verdicts are open, if there are too few families."""
    if report.n_families >= MIN_UNITS:
        return ""
    if report.n_families == 1:
        return " They cover one family, and say nothing about others."
    return (
        f" With fewer than {MIN_UNITS}, luck alone can put one clear of zero, so no difference "
        "decides a verdict here."
    )


def _draws(report: Report) -> str:
    """Say which rows are means over several prompt draws: a difference may be that of one draw."""
    several = report.several_draws
    if not several:
        return ""
    counts = ", ".join(f"{row_label(row)} {draws}" for row, draws in several.items())
    return f" Prompt draws of a task: {counts}; one for every other row."


def _rows_table(report: Report, holdout: str) -> list[str]:
    return markdown_table(
        "inputs | row | score: | 95 % interval | exact: | choice: | right format: | "
        "right content, given format: | nats a token: | tasks (families): | items: | draws:",
        (
            (
                *(mode_label(r.mode), row_label(r.row), number(r.score)),
                span(r) + (" (over items)" if r.unit == "items" else ""),
                *map(_maybe, (r.exact, r.choice, r.format_share, r.content_given_format, r.nll)),
                *(f"{r.n_tasks} ({r.n_families})", str(r.n_items), str(r.draws)),
            )
            for r in report.rows_of(holdout)
        ),
    )


def _contrasts_table(report: Report, holdout: str) -> list[str]:
    found = [c for c in report.contrasts if c.holdout == holdout]
    if not found:
        return ["The generator or everything to compare it with was not measured."]
    return markdown_table(
        "inputs | generator minus | score: | 95 % interval | tasks better, worse | sign test p: | "
        "corrected: | nats a token: | 95 % interval",
        (
            (
                *(mode_label(c.mode), row_label(c.minus), signed(c.difference), span(c)),
                f"{c.better}, {c.worse} of {c.n_tasks}",
                *(_p(c.sign_test_p), _p(c.sign_test_p_holm), signed(c.nll_difference)),
                f"{number(c.nll_low)} to {number(c.nll_high)}",
            )
            for c in found
        ),
    )


def _holdouts_table(report: Report) -> list[str]:
    """Rows by what is new about the tasks; nothing where there is only one kind."""
    if len(report.holdouts) < 2:
        return []
    known = {(r.mode, r.row, r.holdout): f"{number(r.score)} ({span(r)})" for r in report.rows}
    table = markdown_table(
        " | ".join(["inputs", "row", *(f"{holdout_label(h)}:" for h in report.holdouts)]),
        (
            (
                *(mode_label(mode), row_label(row)),
                *(known.get((mode, row, holdout), "-") for holdout in report.holdouts),
            )
            for mode, row in dict.fromkeys((r.mode, r.row) for r in report.rows)
        ),
    )
    return [*table, ""]


def _category_table(report: Report) -> list[str]:
    rows = report.rows_of()
    lines = []
    for mode in dict.fromkeys(r.mode for r in rows):
        mine = [r for r in rows if r.mode == mode]
        table = markdown_table(
            " | ".join(["category", *(f"{row_label(r.row)}:" for r in mine)]),
            (
                (_escape(category), *(_maybe(r.per_category.get(category)) for r in mine))
                for category in sorted({c for r in mine for c in r.per_category})
            ),
        )
        lines += [f"{inputs_label(mode)}, score:", "", *table, ""]
    # Sections end in an empty line of their own.
    return lines[:-1]


def _facts(report: Report) -> list[str]:
    """One line for each further number; numbers that are not there are said not to be."""
    lines = []
    for gap in (gap for gap in report.gaps if not gap.holdout):
        closed = "not known: the gap is not clear, or a row is missing"
        if words := _share_words(gap):
            closed = f"{words} over {_count(gap.n_tasks, 'task')}"
        parts = "".join(
            f"; {holdout_label(part.holdout).lower()} {words}"
            for part in report.gaps
            if part.holdout and part.mode == gap.mode
            if (words := _share_words(part))
        )
        mode = mode_label(gap.mode).lower()
        lines.append(f"- Gap from base to own LoRA closed, {mode}: {closed}{parts}.")
    for mode, gain in report.operation_gain.items():
        left = f"; {len(gain.left_out)} left out" if gain.left_out else ""
        lines.append(
            f"- Gain of right over wrong prompts, {mode_label(mode).lower()}: "
            f"{signed(gain.mean)} nats a token ({span(gain)}), above zero on "
            f"{percent(gain.share_positive)} of {gain.n_tasks} tasks{left}."
        )
    for kept in report.retention.values():
        words = _share_words(kept) or "not known: the latter has too little that is clear to retain"
        lines.append(
            f"- Retention, {row_label(kept.row)} on bare inputs as a share of "
            f"{row_label(kept.teacher)} on full prompts ({number(kept.bare)} of "
            f"{number(kept.full)}) over {_count(kept.n_tasks, 'task')}: {words}."
        )
    for row, alone in report.ordinary.items():
        lines.append(
            f"- Ordinary messages answered as the base does, {row_label(row)}: "
            f"{_share_words(alone)} over {_count(alone.n_tasks, 'task')}."
        )
    for row, right in report.skills.items():
        lines.append(
            f"- Unrelated questions answered right, {row_label(row)}: {_share_words(right)} of "
            f"{right.n_questions} over {_count(right.n_tasks, 'task')}; the base alone "
            f"{percent(right.base)}."
        )
    cosine = report.cosine
    if cosine.different_task is not None:
        lines.append(
            f"- Cosine of ΔW: same task {_long(cosine.same_task)}, different tasks "
            f"{_long(cosine.different_task)}; after subtracting the mean adapter "
            f"{_long(cosine.same_task_centred)} and {_long(cosine.different_task_centred)}."
        )
    else:
        lines.append("- Cosine of ΔW: not measured.")
    distances = report.distances
    if (nearest := distances.nearest) is not None:
        lines.append(
            f"- Distance of ΔW to the nearest training adapter, median: {_maybe(nearest.median)}; "
            f"between training tasks {_maybe(nearest.training_median)} ({distances.n_training} "
            f"{distances.training} for training tasks)."
        )
    else:
        lines.append("- Distance of ΔW to the nearest training adapter: not measured.")
    return lines


def _prediction(predicts_gain: Mapping[Mode, Prediction], name: str) -> list[str]:
    """How well a gauge predicts what an adapter gains over the base."""
    return [
        f"{inputs_label(mode)}: over {found.n_tasks} tasks, {name} and gain over the base have a "
        f"rank correlation of {number(found.rank_correlation)} ({span(found)})."
        for mode, found in predicts_gain.items()
    ]


def _agreement_lines(found: AgreementGauge | None) -> list[str]:
    """What the gauge of the page is, and what it predicted here."""
    if found is None:
        return []
    return [
        "On up to eight of the prompts that an adapter was made from, without labels: does it "
        "answer the bare input as the generator's shared part answers the whole prompt? The page "
        "shows this share for your own prompts, with the gains of this table.",
        "",
        *markdown_table(
            "agreement | inputs | gain over the base: | interval: | tasks:",
            (
                (
                    f"{percent(b.begin)} to {percent(b.end)}",
                    *(mode_label(b.mode), signed(b.gain), span(b), str(b.n_tasks)),
                )
                for b in found.bands
            ),
        ),
        "",
        *_prediction(found.predicts_gain, "agreement"),
    ]


def _forecast_lines(found: ForecastGauge | None) -> list[str]:
    """What the page forecasts before it makes an adapter, and how that turned out here."""
    if found is None:
        return []
    lines = [
        "On up to eight of the prompts, without labels: how probable does the teacher find its own "
        "answers to the whole prompts? The page words its forecast by this share. Score of the row "
        f"{row_label(FORECAST_ROW)} on bare inputs:",
        "",
        *markdown_table(
            "sureness | score: | interval: | tasks:",
            (
                (f"{number(b.begin)} to {number(b.end)}", number(b.score), span(b), str(b.n_tasks))
                for b in found.bands
            ),
        ),
    ]
    if predicts := found.predicts_score:
        lines += [
            "",
            f"Over {predicts.n_tasks} tasks, sureness and score have a rank correlation of "
            f"{number(predicts.rank_correlation)} ({span(predicts)}).",
        ]
    return lines


_DEGREES: Mapping[Degree, str] = {
    "works": "works",
    "in_part": "works in part",
    "does_not": "does not work",
}
"""Verdicts on an adapter without its instruction."""


def _verdict_gauge_lines(found: VerdictGauge | None) -> list[str]:
    """Explain the verdict on a finished adapter, and tabulate scores by it."""
    if found is None:
        return []
    lines = [
        "An imprint leaves up to eight of its prompts out. On these the page judges it, without "
        "labels: does the adapter answer the bare input as the instructed model answers the whole "
        f"prompt? Score of the same adapters, those of the first prompt draw of the row "
        f"{row_label(FORECAST_ROW)}, on bare inputs:",
        "",
        *markdown_table(
            "verdict | score: | interval: | tasks:",
            ((_DEGREES[b.verdict], number(b.score), span(b), str(b.n_tasks)) for b in found.bands),
        ),
    ]
    return lines + (["", _verdicts_predict(predicts)] if (predicts := found.predicts_score) else [])


def _verdicts_in_short(found: VerdictGauge | None) -> list[str]:
    """Say in one line what adapters score by the verdict on them; nothing if it is not known."""
    if found is None:
        return []
    scores = "; ".join(
        f"it {_DEGREES[b.verdict]}, {number(b.score)} ({span(b)}, {_count(b.n_tasks, 'task')})"
        for b in found.bands
    )
    predicts = f" {_verdicts_predict(found.predicts_score)}" if found.predicts_score else ""
    return [
        "- Score on bare inputs by the verdict on the adapter, which is without labels and on "
        f"prompts left out of its imprint: {scores}.{predicts}"
    ]


def _verdicts_predict(found: Prediction) -> str:
    return (
        f"Over {found.n_tasks} tasks, the share of these prompts that are answered as with the "
        f"instruction and the score have a rank correlation of {number(found.rank_correlation)} "
        f"({span(found)})."
    )


def _refine_lines(found: RefineCurve | None) -> list[str]:
    """Quality against seconds, and what is kept of the teacher."""
    if found is None:
        return []
    lines = [
        "Refine trains on the prompts that the adapter was made from, without labels: the "
        "generator's teacher, or else what all its adapters share, reads the full prompt, and the "
        "adapter learns to give the same answer to the bare input. Rows on labels learn the right "
        f"answers instead. Bare inputs, {_count(found.n_tasks, 'task')}; seconds are medians.",
        "",
        *markdown_table(
            "start | row | steps: | seconds: | score: | interval:",
            (
                (
                    WAYS[p.start],
                    row_label(p.row),
                    "as in the product" if p.steps is None else str(p.steps),
                    *(_maybe(p.seconds), number(p.score), span(p)),
                )
                for p in found.points
            ),
        ),
        "",
    ]
    if teacher := found.teacher:
        unknown = "not known: there is no clear level, or Refine's own steps were not measured"
        lines += [
            f"The teacher, with the instruction in its prompt, scores {number(teacher.score)} "
            f"({span(teacher)}) on the same tasks. The refined adapter, on bare inputs, reaches "
            f"this share of it: {_share_words(found.share_of_teacher) or unknown}.",
            "",
        ]
    return lines


def _similarity_lines(found: SimilarityGauge | None) -> list[str]:
    if found is None:
        return []
    table = markdown_table(
        "prompts, to training | similarity | inputs | row | score: | 95 % interval | tasks:",
        (
            (
                *(t.tercile, f"{number(t.begin)} to {number(t.end)}", mode_label(t.mode)),
                *(row_label(t.row), number(t.score), span(t), str(t.n_tasks)),
            )
            for t in found.terciles
        ),
    )
    return [*table, "", *_prediction(found.predicts_gain, "similarity")]


def _cost_lines(report: Report) -> list[str]:
    values = [*_flat(asdict(report.cost))]
    if not values:
        return ["Not measured."]
    equal = _equal_score_lines(report.equal_score)
    return [*markdown_table("what | value:", values), "", *equal, _PAPERS_RATIO]


def _equal_score_lines(found: EqualScore | None) -> list[str]:
    """How long a LoRA must train on labels to do as well as the generator."""
    if found is None:
        return []
    tried = ", ".join(
        f"{number(p.score)} after {p.steps} steps ({_maybe(p.seconds)} s; {signed(p.difference)}, "
        f"{span(p)})"
        for p in found.points
    )
    words = (
        f"On bare inputs of {_count(found.n_tasks, 'task')} the generator scores "
        f"{number(found.generator)}. A LoRA trained on the labels of the same prompts scores "
        f"{tried}. "
    )
    if found.level_steps is not None:
        words += f"After {found.level_steps} steps it is no longer clearly below. "
    if found.shortest_steps is None:
        words += "None of these runs reaches the generator."
    else:
        words += f"Of these runs the shortest that is as good has {found.shortest_steps} steps"
        if found.over_synthesis is not None:
            words += f" and takes {number(found.over_synthesis)} times as long as a synthesis"
        words += "."
    if found.break_even_tasks is not None:
        words += (
            " Compared with such runs, training the generator (collecting left out) is paid back "
            f"after {found.break_even_tasks:,} tasks."
        )
    return [words, ""]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Whatever was measured, groups unfolded."""
    for name, value in values.items():
        words = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{words}, ")
        # Seconds in full, numbers of operations by their power of ten.
        elif isinstance(value, float):
            yield words, f"{value:,.1f}" if 1 <= abs(value) < 1e7 else f"{value:.3g}"
        elif value:
            yield words, f"{value:,}" if isinstance(value, int) else str(value)


def _failure_lines(report: Report) -> list[str]:
    rows = {row.row for row in report.rows}
    made = report.wrong_row
    if made not in rows:
        return [f"Not known: the row “{_escape(row_label(made))}” was not measured."]
    if not report.failures:
        return [f"No answer of “{_escape(row_label(made))}” scored under one half."]
    table = markdown_table(
        "task | inputs | asked | wanted | got | score:",
        (
            (
                *(_escape(f.slug), mode_label(f.mode)),
                *(_code(f.asked), _code(f.wanted), _code(f.got), number(f.score)),
            )
            for f in report.failures
        ),
    )
    return [f"Row: {row_label(made)}.", "", *table]


def _not_measured_lines(report: Report) -> list[str]:
    if not report.not_measured:
        return []
    by_reason: dict[str, list[str]] = {}
    for row, why in report.not_measured.items():
        by_reason.setdefault(why, []).append(row_label(row))
    lines = [f"- {_escape(why)}: {'; '.join(rows)}." for why, rows in by_reason.items()]
    return ["Not measured:", "", *lines, ""]


def _picture(pictures: Mapping[str, str], name: str) -> list[str]:
    if name not in pictures:
        return []
    return [f"![{_escape(pictures[name])}](plots/{name}.svg)", ""]


def _share_words(found: Share | OrdinaryShare | SkillShare) -> str | None:
    if found.share is None or found.low is None or found.high is None:
        return None
    return f"{percent(found.share)} ({percent(found.low)} to {percent(found.high)})"


def _maybe(value: float | None) -> str:
    return "-" if value is None else number(value)


def _long(value: float | None) -> str:
    """Cosines of one task differ from 1 in the fourth place."""
    return "-" if value is None else f"{value:.4f}"


def _p(value: float) -> str:
    return "under .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def _count(value: int, one: str, many: str | None = None) -> str:
    return f"{value} {one if value == 1 else many or f'{one}s'}"


def _escape(text: str) -> str:
    """One line of plain text, safe in a Markdown table."""
    line = " ".join(text.split())
    # The backslash comes first, or those that are added would be escaped again.
    for sign in "\\`*_[]<>|":
        line = line.replace(sign, f"\\{sign}")
    return line


def _code(text: str) -> str:
    """Text of a user or a model as code: shown as it is, on one line."""
    # In a table, a bar ends the cell even inside code.
    line = " ".join(text.strip().replace("\n", " ⏎ ").split()).replace("|", "\\|")
    if not line:
        return "(empty)" if not text else "(blank)"
    # As CommonMark wants it: a fence that does not occur inside, and a space where code begins or
    # ends with a backtick.
    fence = "`"
    while fence in line:
        fence += "`"
    space = " " if line[0] == "`" or line[-1] == "`" else ""
    return f"{fence}{space}{line}{space}{fence}"
