"""A report as people read it: in short for cards and terminals, and as a whole page with pictures.

Every table holds all rows that were measured. Text of tasks and models is escaped. Knows the
mapping that `report.build_report` makes, and no scores.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dnd_engine.scoring.statistics import MIN_UNITS
from dnd_engine.scoring.wording import holdout_label, mode_label, number, percent, row_label, signed

__all__ = ["full_page", "report_markdown"]

_SPLITS = {"heldout": "unseen tasks", "train": "seen tasks, new items"}

_CAUTION = (
    "An interval of zero width means that no item differed, not that none could; with fewer than "
    "about eight families intervals hold the truth less often than they say."
)

_CONTRAST_NOTE = (
    "Paired over the same items. The sign test is over tasks, two-sided and exact, and corrected "
    "with Holm's method over the contrasts of this table."
)


def report_markdown(report: Mapping[str, Any]) -> str:
    """Tell the report in short, without a heading: for a generator's card and the terminal.

    Args:
        report: As built.
    """
    lines = [
        f"{report['data']} Score: {report['metric']}. Intervals: 95 %, bootstrap over "
        f"{_count(report['n_families'], 'family', 'families')}. {_CAUTION}{_few_families(report)}",
        "",
        *_verdict_lines(report),
        "",
        *_short_table(report),
        "",
        *_not_measured_lines(report),
        *_holdouts_table(report),
        *([*_refine_lines(report), ""] if report["refine"] else []),
        *_equal_score_lines(report),
        *_facts(report),
        "",
        f"Made by `{report['command']}`, seed {report['seed']}, generator "
        f"`{report['generator_sha256'][:12]}`.",
        "",
    ]
    return "\n".join(lines)


def full_page(report: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    """Tell the whole report: `REPORT.md`.

    Args:
        report: As built.
        pictures: What each shows, by its name in `plots/` beside the page.
    """
    lines = [
        f"# Examination of {report['generator']}: {_SPLITS.get(report['split'], report['split'])}",
        "",
        "## What was asked",
        "",
        *_asked(report),
        "",
        "## The answer",
        "",
        *_answer(report),
        "",
    ]
    groups = list(dict.fromkeys(row["holdout"] for row in report["rows"]))
    lines += ["## Every row", "", *_picture(pictures, "rows"), *_rows_table(report, ""), ""]
    lines += _not_measured_lines(report)
    lines += ["## The generator against every other row", "", _CONTRAST_NOTE, ""]
    lines += [*_contrasts_table(report, ""), ""]
    if len(groups) > 2:
        for group in groups[1:]:
            lines += [f"## {holdout_label(group)}", "", *_rows_table(report, group), ""]
            lines += [*_contrasts_table(report, group), ""]
    lines += ["## By category", "", *_picture(pictures, "categories"), *_category_table(report), ""]
    lines += ["## Further measures", "", *_facts(report), ""]
    for name in ("gain", "cosines"):
        lines += _picture(pictures, name)
    if report["similarity"] is not None:
        lines += ["## By similarity to training", "", *_picture(pictures, "similarity")]
        lines += [
            *_similarity_table(report),
            "",
            *_prediction(report["similarity"], "similarity"),
            "",
        ]
    if report["agreement"] is not None:
        lines += ["## By agreement with the instructed model", "", *_picture(pictures, "agreement")]
        lines += [*_agreement_lines(report), ""]
    if report["refine"] is not None:
        lines += ["## Refine", "", *_picture(pictures, "refine"), *_refine_lines(report), ""]
    lines += ["## Cost", "", *_picture(pictures, "cost"), *_cost_table(report), ""]
    lines += ["## Wrong answers, drawn at random", "", *_failure_lines(report), ""]
    lines += ["## Every verdict", "", *_all_verdicts(report), ""]
    lines += ["## How to repeat it", "", *_repeat(report), ""]
    return "\n".join(lines)


def _asked(report: Mapping[str, Any]) -> list[str]:
    lines = [
        f"Does this generator, given a handful of a task's prompts, make an adapter for "
        f"`{report['base']}` that does the task? {report['data']}",
        "",
        f"{_count(report['n_tasks'], 'task')} of "
        f"{_count(report['n_families'], 'family', 'families')} were scored. Conditions are prompts "
        "of a task's train side, scores are of its test side. *Full* sends instruction and input, "
        "*bare* the input alone: only there must the adapter carry the task. Score: "
        f"{report['metric']}, as a mean over tasks. Intervals are 95 %, by a bootstrap whose unit "
        f"is the family. {_CAUTION}{_few_families(report)}",
    ]
    if known := report["trained_families_among_them"]:
        shown = ", ".join(known[:8]) + (" and more" if len(known) > 8 else "")
        lines += ["", f"Training saw other tasks of {len(known)} of these families: {shown}."]
    return lines


def _answer(report: Mapping[str, Any]) -> list[str]:
    known = [v for v in report["verdicts"] if v["holds"] is not None][:3]
    if not known:
        return ["Too little was measured for an answer. Every verdict below says what it needs."]
    return [f"{n}. {_escape(v['words'])}" for n, v in enumerate(known, start=1)]


def _few_families(report: Mapping[str, Any]) -> str:
    """Why the verdicts are open, where that is for want of families."""
    count = report["n_families"]
    if count >= MIN_UNITS:
        return ""
    if count == 1:
        return " Of one family, they tell nothing about others."
    return (
        f" With fewer than {MIN_UNITS}, luck alone can put one clear of zero, so no difference "
        "decides a verdict here."
    )


def _verdict_lines(report: Mapping[str, Any]) -> list[str]:
    """Those of the first mode, and whether one shared LoRA does as well on full prompts."""
    return [
        f"- {_escape(v['words'])}"
        for v in report["verdicts"]
        if v["holds"] is not None
        and (not v["name"].endswith("_full") or v["name"] == "beats_multi_task_lora_full")
    ]


def _short_table(report: Mapping[str, Any]) -> list[str]:
    """Every row, and how the generator differs from it."""
    differences = {
        (c["mode"], c["minus"]): f"{signed(c['difference'])} ({_between(c)})"
        for c in report["contrasts"]
        if not c["holdout"]
    }
    return _table(
        (
            "inputs",
            "row",
            "score:",
            "95 % interval",
            "generator minus this",
            "nats a token:",
            "tasks (families):",
        ),
        [
            (
                mode_label(r["mode"]),
                row_label(r["row"]),
                number(r["score"]),
                _between(r),
                differences.get((r["mode"], r["row"]), "-"),
                number(r["nll"]),
                f"{r['n_tasks']} ({r['n_families']})",
            )
            for r in report["rows"]
            if not r["holdout"]
        ],
    )


def _all_verdicts(report: Mapping[str, Any]) -> list[str]:
    told = {True: "yes", False: "no", None: "open"}
    return _table(
        ("verdict", "holds", "in words"),
        [(f"`{v['name']}`", told[v["holds"]], _escape(v["words"])) for v in report["verdicts"]],
    )


def _rows_table(report: Mapping[str, Any], group: str) -> list[str]:
    measured = ("exact", "choice", "format_share", "content_given_format", "nll")
    return _table(
        (
            "inputs",
            "row",
            "score:",
            "95 % interval",
            "exact:",
            "choice:",
            "right format:",
            "right content, given format:",
            "nats a token:",
            "tasks (families):",
            "items:",
            "draws:",
        ),
        [
            (
                mode_label(r["mode"]),
                row_label(r["row"]),
                number(r["score"]),
                _between(r) + (" (over items)" if r["unit"] == "items" else ""),
                *(_maybe(r[name]) for name in measured),
                f"{r['n_tasks']} ({r['n_families']})",
                str(r["n_items"]),
                str(r["draws"]),
            )
            for r in report["rows"]
            if r["holdout"] == group
        ],
    )


def _contrasts_table(report: Mapping[str, Any], group: str) -> list[str]:
    found = [c for c in report["contrasts"] if c["holdout"] == group]
    if not found:
        return ["The generator or everything to compare it with was not measured."]
    return _table(
        (
            "inputs",
            "generator minus",
            "score:",
            "95 % interval",
            "tasks better, worse",
            "sign test p:",
            "corrected:",
            "nats a token:",
            "95 % interval",
        ),
        [
            (
                mode_label(c["mode"]),
                row_label(c["minus"]),
                signed(c["difference"]),
                _between(c),
                f"{c['better']}, {c['worse']} of {c['n_tasks']}",
                _p(c["sign_test_p"]),
                _p(c["sign_test_p_holm"]),
                signed(c["nll_difference"]),
                f"{number(c['nll_low'])} to {number(c['nll_high'])}",
            )
            for c in found
        ],
    )


def _holdouts_table(report: Mapping[str, Any]) -> list[str]:
    """Rows by what is new about the tasks; nothing where there is only one kind."""
    groups = list(dict.fromkeys(r["holdout"] for r in report["rows"]))[1:]
    if len(groups) < 2:
        return []
    by_key = {(r["mode"], r["row"], r["holdout"]): r for r in report["rows"]}
    keys = dict.fromkeys((r["mode"], r["row"]) for r in report["rows"])
    return [
        *_table(
            ("inputs", "row", *(f"{holdout_label(g)}:" for g in groups)),
            [
                (
                    mode_label(mode),
                    row_label(row),
                    *(
                        f"{number(found['score'])} ({_between(found)})"
                        if (found := by_key.get((mode, row, group)))
                        else "-"
                        for group in groups
                    ),
                )
                for mode, row in keys
            ],
        ),
        "",
    ]


def _category_table(report: Mapping[str, Any]) -> list[str]:
    rows = [r for r in report["rows"] if not r["holdout"]]
    lines = []
    for mode in dict.fromkeys(r["mode"] for r in rows):
        mine = [r for r in rows if r["mode"] == mode]
        categories = sorted({c for r in mine for c in r["per_category"]})
        lines += [
            f"{mode_label(mode)} inputs, score:",
            "",
            *_table(
                ("category", *(f"{row_label(r['row'])}:" for r in mine)),
                [
                    (_escape(c), *(_maybe(r["per_category"].get(c)) for r in mine))
                    for c in categories
                ],
            ),
            "",
        ]
    return lines[:-1]


def _facts(report: Mapping[str, Any]) -> list[str]:
    """One line for each further number; numbers that are not there are said not to be."""
    lines = []
    for gap in report["gaps"]:
        if not gap["holdout"]:
            told = "not known: the gap is not clear, or a row is missing"
            if words := _share_words(gap):
                told = f"{words} over {_count(gap['n_tasks'], 'task')}"
            parts = [
                f"; {holdout_label(part['holdout']).lower()} {words}"
                for part in report["gaps"]
                if part["holdout"] and part["mode"] == gap["mode"]
                if (words := _share_words(part))
            ]
            lines.append(
                f"- Gap from base to own LoRA closed, {mode_label(gap['mode']).lower()}: {told}"
                f"{''.join(parts)}."
            )
    for mode, gain in report["operation_gain"].items():
        left = f"; {len(gain['left_out'])} left out" if gain["left_out"] else ""
        lines.append(
            f"- Gain of right over wrong prompts, {mode_label(mode).lower()}: "
            f"{signed(gain['mean'])} nats a token ({_between(gain)}), above zero on "
            f"{percent(gain['share_positive'])} of {gain['n_tasks']} tasks{left}."
        )
    for mode, found in report["substitution"].items():
        lines.append(
            f"- Answers that a trained operation would give instead, {mode_label(mode).lower()}: "
            f"{percent(found['share'])} ({percent(found['low'])} to {percent(found['high'])}) of "
            f"{found['n_items']} items of procedural tasks."
        )
    for kept in report["retention"].values():
        told = _share_words(kept) or "not known: the latter has too little that is clear to retain"
        lines.append(
            f"- Retention, {row_label(kept['row'])} on bare inputs as a share of "
            f"{row_label(kept['teacher'])} on full prompts ({_maybe(kept['bare'])} of "
            f"{_maybe(kept['full'])}) over {_count(kept['n_tasks'], 'task')}: {told}."
        )
    for row, found in report["ordinary"].items():
        lines.append(
            f"- Ordinary messages answered as the base does, {row_label(row)}: "
            f"{_share_words(found)} over {_count(found['n_tasks'], 'task')}."
        )
    cosine = report["cosine"]
    if cosine["different_task"] is not None:
        lines.append(
            f"- Cosine of ΔW: same task {_long(cosine['same_task'])}, different tasks "
            f"{_long(cosine['different_task'])}; after subtracting the mean adapter "
            f"{_long(cosine['same_task_centred'])} and {_long(cosine['different_task_centred'])}."
        )
    else:
        lines.append("- Cosine of ΔW: not measured.")
    for name, words in (
        ("nearest", "Distance of ΔW to the nearest training adapter"),
        ("outside_span", "Share of ΔW's norm outside the span of the training adapters"),
    ):
        if found := report["distances"].get(name):
            mine, theirs = (found[k]["values"] for k in ("distribution", "leave_one_out"))
            made = report["distances"].get("training") == "generated"
            which = f"{report['distances']['n_training']} {'generated' if made else 'collected'}"
            lines.append(
                f"- {words}, median: {number(_middle(mine))}; between training tasks "
                f"{number(_middle(theirs))} ({which} for training tasks)."
            )
        else:
            lines.append(f"- {words}: not measured.")
    return lines


def _prediction(gauge: Mapping[str, Any], name: str) -> list[str]:
    """How far a gauge foretells what an adapter gains over the base."""
    return [
        f"{mode_label(mode)} inputs: over {found['n_tasks']} tasks, {name} and gain over the "
        f"base have a rank correlation of {number(found['rank_correlation'])} ({_between(found)})."
        for mode, found in gauge["predicts_gain"].items()
    ]


def _agreement_lines(report: Mapping[str, Any]) -> list[str]:
    """The window's gauge: what it is, what it was worth here."""
    return [
        "On up to eight of the prompts that an adapter was made from, without labels: does it "
        "answer the bare input as the generator's shared part answers the whole prompt? The window "
        "tells this share of a user's own prompts, with the gains of this table.",
        "",
        *_table(
            ("agreement", "inputs", "gain over the base:", "interval:", "tasks:"),
            [
                (
                    f"{percent(b['from'])} to {percent(b['to'])}",
                    mode_label(b["mode"]),
                    signed(b["gain"]),
                    _between(b),
                    str(b["n_tasks"]),
                )
                for b in report["agreement"]["bands"]
            ],
        ),
        "",
        *_prediction(report["agreement"], "agreement"),
    ]


def _refine_lines(report: Mapping[str, Any]) -> list[str]:
    """Quality against seconds, and what is kept of the teacher."""
    found = report["refine"]
    lines = [
        "Refine trains on the prompts that the adapter was made from, without labels: a teacher, "
        "the generator's shared part, reads the full prompt, and the adapter learns to answer the "
        f"bare input alike. Bare inputs, {_count(found['n_tasks'], 'task')}; seconds are medians.",
        "",
        *_table(
            ("from", "row", "steps:", "seconds:", "score:", "interval:"),
            [
                (
                    _STARTS[p["start"]],
                    row_label(p["row"]),
                    "as in the product" if p["steps"] is None else str(p["steps"]),
                    _maybe(p["seconds"]),
                    number(p["score"]),
                    _between(p),
                )
                for p in found["points"]
            ],
        ),
    ]
    if teacher := found["teacher"]:
        unknown = "not known: there is no clear level, or Refine's own steps were not measured"
        told = _share_words(found["share_of_teacher"]) or unknown
        lines += [
            "",
            f"The teacher, told the instruction, scores {number(teacher['score'])} "
            f"({_between(teacher)}) on the same tasks. The refined adapter reaches of it, on bare "
            f"inputs: {told}.",
        ]
    return lines


_STARTS = {"generator": "the generated adapter", "scratch": "nothing"}


def _similarity_table(report: Mapping[str, Any]) -> list[str]:
    return _table(
        (
            "prompts, to training",
            "similarity",
            "inputs",
            "row",
            "score:",
            "95 % interval",
            "tasks:",
        ),
        [
            (
                t["tercile"],
                f"{number(t['from'])} to {number(t['to'])}",
                mode_label(t["mode"]),
                row_label(t["row"]),
                number(t["score"]),
                _between(t),
                str(t["n_tasks"]),
            )
            for t in report["similarity"]["terciles"]
        ],
    )


_PAPERS_RATIO = (
    "The paper's 12,000 is one synthesis against a LoRA of 300 steps; against one of 50 steps, "
    "which it finds as good, it is 2,500. Neither counts collecting checkpoints or training the "
    "generator. *Break even* does: the number of tasks after which these are paid back, one LoRA "
    "run each, at the speeds above."
)
"""Source: Liang et al. 2025, arXiv:2506.16406, project page and scripts."""


def _cost_table(report: Mapping[str, Any]) -> list[str]:
    if not report["cost"]:
        return ["Not measured."]
    return [
        *_table(("what", "value:"), [*_flat(report["cost"])]),
        "",
        *_equal_score_lines(report),
        _PAPERS_RATIO,
    ]


def _equal_score_lines(report: Mapping[str, Any]) -> list[str]:
    """How long a LoRA must train on labels to do as well as the generator."""
    found = report["equal_score"]
    if found is None:
        return []
    tried = ", ".join(
        f"{_maybe(p['score'])} after {p['steps']} steps ({_maybe(p['seconds'])} s; "
        f"{signed(p['difference'])}, {_between(p)})"
        for p in found["points"]
    )
    told = (
        f"On bare inputs of {_count(found['n_tasks'], 'task')} the generator scores "
        f"{_maybe(found['generator'])}. A LoRA trained on the labels of the same prompts scores "
        f"{tried}. "
    )
    if found["level_steps"] is not None:
        told += f"After {found['level_steps']} steps it is no longer clearly below. "
    if found["shortest_steps"] is None:
        told += "None of these runs reaches the generator."
    elif found["over_synthesis"] is None:
        told += f"The shortest run that is as good has {found['shortest_steps']} steps."
    else:
        told += (
            f"The shortest run that is as good has {found['shortest_steps']} steps and takes "
            f"{number(found['over_synthesis'])} times as long as a synthesis."
        )
    if found["break_even_tasks"] is not None:
        told += (
            f" Against such runs, training the generator (collecting left out) is paid back after "
            f"{found['break_even_tasks']:,} tasks."
        )
    return [told, ""]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in values.items():
        words = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{words}, ")
        else:
            yield _escape(words), _escape(_amount(value))


def _amount(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.1f}" if 1 <= abs(value) < 1e7 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _failure_lines(report: Mapping[str, Any]) -> list[str]:
    if not report["failures"]:
        return ["No answer of the generator scored under one half."]
    return _table(
        ("task", "inputs", "asked", "wanted", "got", "score:"),
        [
            (
                _escape(f["slug"]),
                mode_label(f["mode"]),
                _code(f["asked"]),
                _code(f["wanted"]),
                _code(f["got"]),
                number(f["score"]),
            )
            for f in report["failures"]
        ],
    )


def _not_measured_lines(report: Mapping[str, Any]) -> list[str]:
    if not report["not_measured"]:
        return []
    told = [f"- {row_label(row)}: {_escape(why)}." for row, why in report["not_measured"].items()]
    return ["Not measured:", "", *told, ""]


def _repeat(report: Mapping[str, Any]) -> list[str]:
    return [
        "```",
        report["command"],
        "```",
        "",
        f"Seed {report['seed']}. Generator {report['generator']}, SHA-256 "
        f"`{report['generator_sha256']}`. Base `{report['base']}`. `report.json` holds every "
        "number above, `report.csv` the means of every task, `items.csv` every answer.",
    ]


def _picture(pictures: Mapping[str, str], name: str) -> list[str]:
    if name not in pictures:
        return []
    return [f"![{_escape(pictures[name])}](plots/{name}.svg)", ""]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay out a Markdown table; columns whose head ends in a colon are numbers."""
    return [
        f"| {' | '.join(cell.removesuffix(':') for cell in head)} |",
        f"| {' | '.join('---:' if cell.endswith(':') else '---' for cell in head)} |",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _share_words(found: Mapping[str, Any]) -> str | None:
    if found["share"] is None:
        return None
    return f"{percent(found['share'])} ({percent(found['low'])} to {percent(found['high'])})"


def _between(found: Mapping[str, Any]) -> str:
    return f"{number(found['low'])} to {number(found['high'])}"


def _maybe(value: float | None) -> str:
    return "-" if value is None else number(value)


def _long(value: float | None) -> str:
    """Cosines of one task differ from 1 in the fourth place."""
    return "-" if value is None else f"{value:.4f}"


def _p(value: float) -> str:
    return "under .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def _middle(values: Sequence[float]) -> float:
    return values[len(values) // 2]


def _count(value: int, one: str, many: str | None = None) -> str:
    return f"{value} {one if value == 1 else many or f'{one}s'}"


def _escape(text: str) -> str:
    """One line of plain text, safe in a Markdown table."""
    line = " ".join(text.split())
    for sign in "\\`*_[]<>|":
        line = line.replace(sign, f"\\{sign}")
    return line


def _code(text: str) -> str:
    """Text of a user or a model as code: shown as it is, on one line."""
    line = " ".join(text.strip().replace("\n", " ⏎ ").split()).replace("|", "\\|")
    if not line:
        return "(empty)" if not text else "(blank)"
    fence = "`"
    while fence in line:
        fence += "`"
    space = " " if line[0] == "`" or line[-1] == "`" else ""
    return f"{fence}{space}{line}{space}{fence}"
