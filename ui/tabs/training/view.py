"""The Training tab: progress and health of a run of `dnd train` or `dnd collect`.

It is shown only if the operator named run folders. Their files may be damaged, so all their text is
escaped.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import gradio as gr

from dnd_engine.charts import Chart, Line, Look, Row, Scale, row_chart
from dnd_engine.prompts.words import cut
from dnd_engine.training.collection_files import Run
from dnd_engine.training.pictures import curve_chart, training_charts
from dnd_engine.training.run_log import COLLAPSED_SHARE
from dnd_engine.training.watch import Collecting, Training, Watched
from ui.markup import RING, esc, facts, icon, prose, quiet, scrolling, section, tab_heading, table
from ui.panel import Panel
from ui.text import N_, _, day, duration, number, short_number

_REFRESH_SECONDS = 3.0
# Bounded, because each refresh sends everything that is drawn again.
_LORAS_SHOWN = 60
_CURVES_SHOWN = 8
_ROWS_SHOWN = 200
_LABEL_LENGTH = 16
_LONG_RUN_SHARE = 0.1
"""See `COLLAPSED_SHARE` for the source."""
_BASICS = ("base", "head", "objective", "r", "tasks_per_step", "batch_size", "seed")
"""Settings of a recipe that the page shows first."""


_WATCH_KINDS: Mapping[str, str] = {
    "generator": N_("Training of a generator"),
    "multi_task_lora": N_("Training of a multi-task LoRA"),
    "teacher": N_("Training of a teacher"),
    "collection": N_("Collection of LoRA checkpoints"),
    "unknown": N_("Training"),
}
_WATCH_STATES: Mapping[str, tuple[str, str]] = {
    "starting": (
        N_("Starting"),
        N_(
            "It has not written a step yet; loading the models and reading the prompts may "
            "take minutes. Last change {ago} ago."
        ),
    ),
    "running": (N_("Running"), N_("Last change {ago} ago.")),
    "still": (
        N_("Not moving"),
        N_(
            "Nothing has changed for {ago}. Either it was stopped, and --resume continues it,"
            " or this step takes unusually long."
        ),
    ),
    "finished": (N_("Finished"), N_("Last change {day}.")),
}
_WATCH_NUMBERS: Mapping[str, tuple[str, str]] = {
    "smooth_loss": (
        N_("Training loss, smoothed"),
        N_(
            "Falls fast at first, then slowly. It falls as smoothly where prompts make no "
            "difference, so read on."
        ),
    ),
    "validation_loss": (
        N_("Validation loss, right prompts"),
        N_(
            "Held-back examples of the tasks in training. Falls with the training loss; if it"
            " rises, the run learns by heart."
        ),
    ),
    "validation_loss_wrong_prompts": (
        N_("Validation loss, wrong prompts"),
        N_(
            "The same examples with adapters made from the prompts of another family. Stays "
            "well above the line before."
        ),
    ),
    "validation_wrong_prompt_gap": (
        N_("Saved by the right prompts"),
        N_("Nats per token. Above 0 and growing; near 0 the prompts make no difference."),
    ),
    "probe_wrong_prompt_gap": (
        N_("Saved by the right prompts, a few tasks"),
        N_("The same on a few tasks that are measured more often, so it shows there first."),
    ),
    "validation_exact": (
        N_("Answers exactly right"),
        N_("Share that is right in every token. Rises late, from 0."),
    ),
    "between_task_share": (
        N_("Between-task share"),
        N_(
            "How much of the adapters differs from task to task. Above {least} after the "
            "warm-up, and above {late} at the end of a long run; below {least} the run has "
            "collapsed."
        ),
    ),
    "delta_norm": (
        N_("Size of the weight change, ‖ΔW‖"),
        N_("Grows, then levels off. If it shoots up, the learning rates are too high."),
    ),
    "families_loss": (
        N_("Unseen families, right prompts"),
        N_("Tasks of families that training never sees. Falls later and less."),
    ),
    "families_wrong_prompt_gap": (
        N_("Unseen families, saved by the right prompts"),
        N_("Above 0: it has learned to read prompts, and not its tasks alone."),
    ),
    "families_exact": (
        N_("Unseen families, exactly right"),
        N_("Near 0 for long; the hardest number here."),
    ),
}


class WatchPanel(Panel):
    """The tab, with a choice of runs if there are several."""

    def __init__(self, names: Sequence[str]) -> None:
        self.watch_run = gr.Radio(
            label=_("Run"),
            choices=[(name, index) for index, name in enumerate(names)],
            value=0,
            visible=len(names) > 1,
            elem_id="dnd-watch-run",
        )
        self.watch = gr.HTML("", elem_id="dnd-watch", padding=False)
        # A component of its own, drawn when it is opened, because there are many numbers.
        with gr.Accordion(
            _("All numbers"), open=False, elem_id="dnd-watch-all"
        ) as self.watch_all_box:
            self.watch_all = gr.HTML("", padding=False)
        # Ticks only while the tab is open.
        self.watch_timer = gr.Timer(_REFRESH_SECONDS, active=False)


def watch_html(seen: Training | Collecting) -> str:
    """Draw the current state of a run folder."""
    parts = [_head_html(seen), _state_html(seen)]
    if isinstance(seen, Training):
        parts += [_collapse_html(seen), _plots_html(seen), _numbers_html(seen)]
    else:
        parts += [_in_watch_html(seen), _loras_html(seen), _left_out(seen)]
    return "".join(parts)


def all_numbers_html(seen: Training | Collecting) -> str:
    """Draw the table of all numbers, by their names in the files."""
    rows = _log_rows(seen) if isinstance(seen, Training) else _run_rows(seen.runs)
    if not rows:
        return quiet(_("Nothing was measured yet."))
    names = list(dict.fromkeys(name for row in rows for name in row))
    body = "".join(
        f"<tr>{''.join(f'<td>{_cell(row.get(name))}</td>' for name in names)}</tr>" for row in rows
    )
    return scrolling(_("All numbers"), table(map(esc, names), body))


def _head_html(seen: Watched) -> str:
    basics = [
        f"{esc(name)} <b>{esc(seen.recipe[name])}</b>" for name in _BASICS if name in seen.recipe
    ]
    parts = [_(_WATCH_KINDS[seen.kind]), *basics]
    if seen.kind != "collection" and not seen.recipe:
        parts.append(_("there is no recipe.json in its folder, so its settings are not known"))
    return tab_heading(esc(seen.name), quiet(" · ".join(parts)))


def _state_html(seen: Training | Collecting) -> str:
    title, sentence = _WATCH_STATES[seen.state]
    words = _(
        sentence,
        ago=duration(seen.idle_seconds),
        day=day(datetime.fromtimestamp(seen.moved, UTC).astimezone()),
    )
    counted = _("LoRAs") if isinstance(seen, Collecting) else _("Steps")
    shown = {counted: _of_all(seen)}
    if seen.seconds_left is not None and seen.state != "still":
        shown[_("Time left")] = _("about {duration}", duration=duration(seen.seconds_left))
    if isinstance(seen, Training):
        if seen.stopped_early:
            early = _("It stopped early: validations brought nothing better.")
            words = f"{words} {early}"
        if seen.seconds_per_step is not None:
            shown[_("A step, validations included")] = f"{number(seen.seconds_per_step, '.2g')} s"
        if seen.tokens_per_second is not None:
            shown[_("Tokens a second")] = number(seen.tokens_per_second, ",.0f")
    lines = "".join(f"<div><dt>{name}</dt><dd>{v}</dd></div>" for name, v in shown.items())
    mark = {
        "starting": icon("dot"),
        "running": RING,
        "still": icon("warn"),
        "finished": icon("check"),
    }[seen.state]
    bar = ""
    if seen.total is not None:
        share = min(seen.done / seen.total, 1)
        bar = f"<progress max='1' value='{share:.4f}' aria-label='{esc(counted)}'></progress>"
    return (
        f"<section class='dnd-panel dnd-run is-{seen.state}'><p class='dnd-run-state'>{mark}"
        f"<b>{_(title)}</b> <span>{words}</span></p>{bar}<dl>{lines}</dl></section>"
    )


def _of_all(seen: Watched) -> str:
    if seen.total is None:
        return number(seen.done)
    return _("{done} of {total}", done=number(seen.done), total=number(seen.total))


def _collapse_html(seen: Training) -> str:
    if seen.collapsed_at is None:
        return ""
    words = _(
        "At step {step}, adapters of different tasks are nearly identical, so the prompts"
        " make no difference. Stop the run. Check the condition first, that is, what the "
        "encoder makes of the prompts, then the learning rates.",
        step=seen.collapsed_at,
    )
    return (
        f"<div class='dnd-notice is-warn' role='alert'>{icon('warn')}<div><b>"
        f"{_('Collapsed.')}</b> {words}</div></div>"
    )


# Curves of a training


def _plots_html(seen: Training) -> str:
    if not seen.rows:
        return ""
    plots = "".join(map(_plot_html, training_charts(seen, _, short_number)))
    notes = (
        [_("Thin lines without marks: a few tasks that are measured between validations.")]
        if seen.curve("probe_loss")
        else []
    )
    if not seen.curve("validation_loss"):
        every = seen.recipe.get("validate_every")
        # The recipe is a file that may hold anything; `isinstance` would take `true` for 1.
        known = type(every) is int
        notes.append(
            _("The first validation comes at step {step}.", step=every)
            if known
            else _("No validation yet.")
        )
    note = facts(" ".join(notes)) if notes else ""
    return f"<div class='dnd-plots'>{plots}</div>{note}"


def _plot_html(chart: Chart) -> str:
    return section(chart.title, chart.html(), "plot", chart.note)


def _numbers_html(seen: Training) -> str:
    """Draw the last value of each number, with its healthy range."""
    latest = seen.latest()
    bounds = {"least": short_number(COLLAPSED_SHARE), "late": short_number(_LONG_RUN_SHARE)}
    if seen.rows:
        latest["smooth_loss"] = seen.smooth_loss()[-1]
    lines = []
    for name, (label, healthy) in _WATCH_NUMBERS.items():
        if name in latest:
            step, value = latest[name]
            lines.append(
                f"<tr><th scope='row'>{_(label)}<small>{_(healthy, **bounds)}</small></th>"
                f"<td class='dnd-num'>{short_number(value)}</td>"
                f"<td class='dnd-num'>{number(step)}</td></tr>"
            )
    if not lines:
        return ""
    columns = (_("What, and how it looks in a healthy run"), _("Now"), _("Step"))
    return section(_("Current values"), table(columns, "".join(lines)), "numbers")


def _log_rows(seen: Training) -> list[dict[str, Any]]:
    """Return the last steps at which more than the training loss was measured."""
    measured = [row for row in seen.rows if "delta_norm" in row or "validation_loss" in row]
    return [dict(row) for row in measured[-_ROWS_SHOWN:]][::-1]


# A collection


def _in_watch_html(seen: Collecting) -> str:
    drawn = [
        Line(points, "own", cut(slug, _LABEL_LENGTH))
        for (slug, _seed), rows in seen.curves.items()
        if (points := [(r.step, r.loss) for r in rows if r.loss is not None])
    ][:_CURVES_SHOWN]
    if seen.state == "finished" or not drawn:
        return ""
    last = max(line.points[-1][0] for line in drawn)
    steps = seen.recipe.get("steps")
    end = max(last, steps if type(steps) is int else 0)
    chart = curve_chart("loras", drawn, end, _, short_number)
    return "" if chart is None else _plot_html(chart)


def _loras_html(seen: Collecting) -> str:
    if not seen.runs:
        return ""
    rows = [_lora_row(run) for run in seen.runs[:_LORAS_SHOWN]]
    top = max(value for row in rows for value, _look in row.marks)
    title, unit = _("Loss before and after"), _("nats per answer token, held-back examples")
    summary = "; ".join(row.tooltip for row in rows)
    chart = row_chart(rows, Scale.nice(0, top, short_number), f"{title}. {summary}")
    more = ""
    if len(seen.runs) > len(rows):
        more = facts(_("{number} more under All numbers.", number=len(seen.runs) - len(rows)))
    healthy = _(
        "Ring: the base. Disc: with the LoRA of the task, after its last step. A disc that stays "
        "at its ring has learned nothing: too few steps, or labels that cannot be learned."
    )
    return section(title, f"{quiet(healthy)}{chart.html()}{more}", "loras", unit)


def _lora_row(run: Run) -> Row:
    before, after = run.first_validation_loss, run.last_validation_loss
    value: str = _("{after:.2f}, was {before:.2f}", after=after, before=before)
    marks: list[tuple[float, Look]] = [(before, "base"), (after, "own")]
    tooltip = f"{run.slug}: {value}"
    return Row(run.slug, value, "own", (after, before), marks=marks, tooltip=tooltip)


def _left_out(seen: Collecting) -> str:
    if not seen.left_out:
        return ""
    lines = "".join(
        f"<li><b>{esc(slug)}</b> <span lang='en'>{prose(why)}</span></li>"
        for slug, why in seen.left_out.items()
    )
    return section(_("Left out"), f"<ul class='dnd-faults'>{lines}</ul>")


def _run_rows(runs: Iterable[Run]) -> list[dict[str, Any]]:
    # Digests and lists, which no column has room for.
    left_out = ("train_sha256", "snapshots")
    return [{k: v for k, v in run.to_json().items() if k not in left_out} for run in runs]


# Words


def _cell(value: Any) -> str:
    if type(value) is int:
        return number(value)
    if isinstance(value, float):
        return number(value, ".4g")
    return "" if value is None else esc(value)
