"""The curves of a training run, for its folder and for the page that watches it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dnd_engine.charts import Chart, Line, Look, Scale, line_chart, short, svg_file
from dnd_engine.errors import TrainingError
from dnd_engine.files import write_whole
from dnd_engine.training.run_log import COLLAPSED_SHARE
from dnd_engine.training.watch import RunFolder, Training
from dnd_engine.wording import N_

Say = Callable[..., str]
"""Says a message with its values: `str.format` in English, `ui.text` in other languages."""

_TITLES: Mapping[str, tuple[str, str]] = {
    "loss": (N_("Training loss"), N_("nats per answer token; single steps in grey")),
    "seen": (N_("Validation, tasks in training"), N_("nats per answer token")),
    "families": (N_("Validation, unseen families"), N_("nats per answer token")),
    "exact": (N_("Answers exactly right"), N_("share of held-back answers")),
    "share": (N_("Between-task share"), N_("of the size of adapters, log scale")),
    "loras": (N_("In training now"), N_("loss of each step, nats per answer token")),
}
"""Title and unit of each chart."""
_LINES: Mapping[str, str] = {
    "smooth": N_("smoothed"),
    "right": N_("right prompts"),
    "wrong": N_("wrong prompts"),
    "seen": N_("in training"),
    "families": N_("unseen families"),
    "limit": N_("collapsed below"),
}
_IN_WORDS = N_("{label}: {first} at step {begin}, {last} at step {end}")


def draw_monitors(out: Path) -> None:
    """Draw `monitors.svg` from the log in a run folder.

    Raises:
        TrainingError: If the log cannot be read.
        OSError: If the disk refuses the picture.
    """
    seen = RunFolder(out).look()
    if not isinstance(seen, Training) or not seen.rows:
        raise TrainingError(f"`{out}` holds no log of a training run.")
    write_whole(out / "monitors.svg", svg_file(training_charts(seen)))


def training_charts(
    seen: Training, say: Say = str.format, write: Callable[[float], str] = short
) -> list[Chart]:
    """Draw what was measured in a step or more; charts without a number yet are left out."""
    end = max(seen.total or 0, seen.done)
    smooth = Line(seen.smooth_loss(), "own", say(_LINES["smooth"]))
    # Single steps may jump far out: the scale is that of their mean, and they are cut at its top.
    top = max(value for _, value in smooth.points)
    lines: dict[str, list[Line]] = {
        "loss": [Line(seen.curve("loss"), "noise", style="thin"), smooth],
        "seen": _right_and_wrong(seen, say, "validation_loss", "probe_loss"),
        "families": _right_and_wrong(seen, say, "families_loss", "families_probe_loss"),
        "exact": [
            Line(seen.curve("families_exact"), "also", say(_LINES["families"]), "marked"),
            Line(seen.curve("validation_exact"), "own", say(_LINES["seen"]), "marked"),
        ],
    }
    scales = {"loss": Scale.nice(0, top, write), "exact": Scale.share(write)}
    # A log scale shows no zero.
    share = [(step, value) for step, value in seen.curve("between_task_share") if value > 0]
    if share:
        bound = [(0, COLLAPSED_SHARE), (end, COLLAPSED_SHARE)]
        least = min(COLLAPSED_SHARE, *(value for _, value in share))
        lines["share"] = [
            Line(bound, "limit", say(_LINES["limit"])),
            Line(share, "own", style="marked"),
        ]
        scales["share"] = Scale.log(0.99 * least, 1, write)
    charts = (curve_chart(key, lines[key], end, say, write, scales.get(key)) for key in lines)
    return [chart for chart in charts if chart is not None]


def curve_chart(
    key: str,
    lines: Sequence[Line],
    end: float,
    say: Say,
    write: Callable[[float], str],
    y: Scale | None = None,
) -> Chart | None:
    """Draw lines over the steps of training; None if nothing of them was measured.

    Args:
        key: Key of the chart's title.
        lines: From back to front.
        end: The last step that the axis shows; more than is done shows what is still to come.
        say: Says what is written.
        write: Writes a number.
        y: Scale of the values; None begins at zero.
    """
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    top = max(value for line in lines for _, value in line.points)
    title, unit = map(say, _TITLES[key])
    parts = [
        say(
            _IN_WORDS,
            label=line.label or title,
            first=write(line.points[0][1]),
            begin=int(line.points[0][0]),
            last=write(line.points[-1][1]),
            end=int(line.points[-1][0]),
        )
        for line in lines
        if line.look not in ("noise", "limit") and (line.label or len(lines) <= 2)
    ]
    # A log may hold step 0 alone, and a scale needs two ends.
    end = max(end, 1)
    x = Scale(0, end, (0, round(end / 2), end), write)
    y = y or Scale.nice(0, top, write)
    return line_chart(lines, x, y, f"{title}, {unit}: {'; '.join(parts)}").titled(title, unit)


def _right_and_wrong(seen: Training, say: Say, whole: str, few: str) -> list[Line]:
    """Right against wrong prompts: whole validations, and thin the few tasks between them."""
    lines: list[Line] = []
    kinds: tuple[tuple[str, str, Look], ...] = (
        ("_wrong_prompts", "wrong", "other"),
        ("", "right", "own"),
    )
    for suffix, word, look in kinds:
        points, between = seen.curve(whole + suffix), seen.curve(few + suffix)
        label = say(_LINES[word]) if seen.kind not in ("multi_task_lora", "teacher") else ""
        lines += [
            Line(between, look, "" if points else label, "thin"),
            Line(points, look, label, "marked"),
        ]
    return lines
