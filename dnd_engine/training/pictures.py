"""The curves of a training run, for its folder and for the page that watches it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dnd_engine.charts import Chart, Line, Look, Scale, line_chart, short, svg_file
from dnd_engine.errors import TrainingError
from dnd_engine.files import write_whole
from dnd_engine.training.run_log import COLLAPSED_SHARE
from dnd_engine.training.watch import RunFolder, Training


def _tell(label: str, first: str, begin: int, last: str, end: int) -> str:
    return f"{label}: {first} at step {begin}, {last} at step {end}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveWords:
    """What curves are called, and how their numbers are written."""

    titles: Mapping[str, tuple[str, str]]
    """Title and unit of each chart."""
    lines: Mapping[str, str]
    tell: Callable[[str, str, int, str, int], str] = _tell
    """A line in words: its label, its first value and step, its last."""
    write: Callable[[float], str] = short


_ENGLISH = CurveWords(
    titles={
        "loss": ("Training loss", "nats per answer token; single steps in grey"),
        "seen": ("Validation, tasks in training", "nats per answer token"),
        "families": ("Validation, unseen families", "nats per answer token"),
        "exact": ("Answers exactly right", "share of held-back answers"),
        "share": ("Between-task share", "of the size of adapters, log scale"),
    },
    lines={
        "smooth": "smoothed",
        "right": "right prompts",
        "wrong": "wrong prompts",
        "seen": "in training",
        "families": "unseen families",
        "limit": "collapsed below",
    },
)


def draw_monitors(out: Path) -> None:
    """Draw `monitors.svg` from a run's log.

    Args:
        out: The run folder.

    Raises:
        TrainingError: If the log cannot be read.
        OSError: If the disk refuses the picture.
    """
    seen = RunFolder(out).look()
    if not isinstance(seen, Training) or not seen.rows:
        raise TrainingError(f"`{out}` holds no log of a training run.")
    write_whole(out / "monitors.svg", svg_file(training_charts(seen)))


def training_charts(seen: Training, words: CurveWords = _ENGLISH) -> list[Chart]:
    """Draw what was measured so far; charts without a number yet are left out.

    Args:
        seen: A run with a step or more.
        words: What is written on the charts.
    """
    end = max(seen.total or 0, seen.done)
    smooth = Line(seen.smooth_loss(), "own", words.lines["smooth"])
    # Single steps may jump far out: the scale is that of their mean, and they are cut at its top.
    top = max(value for _, value in smooth.points)
    lines: dict[str, list[Line]] = {
        "loss": [Line(seen.curve("loss"), "noise", style="thin"), smooth],
        "seen": _right_and_wrong(seen, words, "validation_loss", "probe_loss"),
        "families": _right_and_wrong(seen, words, "families_loss", "families_probe_loss"),
        "exact": [
            Line(seen.curve("families_exact"), "also", words.lines["families"], "marked"),
            Line(seen.curve("validation_exact"), "own", words.lines["seen"], "marked"),
        ],
    }
    scales = {"loss": Scale.nice(0, top, words.write), "exact": Scale.share(words.write)}
    # A log scale shows no zero.
    share = [(step, value) for step, value in seen.curve("between_task_share") if value > 0]
    if share:
        bound = [(0, COLLAPSED_SHARE), (end, COLLAPSED_SHARE)]
        least = min(COLLAPSED_SHARE, *(value for _, value in share))
        lines["share"] = [
            Line(bound, "limit", words.lines["limit"]),
            Line(share, "own", style="marked"),
        ]
        scales["share"] = Scale.log(0.99 * least, 1, words.write)
    charts = (curve_chart(key, lines[key], end, words, scales.get(key)) for key in lines)
    return [chart for chart in charts if chart is not None]


def curve_chart(
    key: str, lines: Sequence[Line], end: float, words: CurveWords, y: Scale | None = None
) -> Chart | None:
    """Draw lines over the steps of training; None if nothing of them was measured.

    Args:
        key: Key of the title in `words`.
        lines: From back to front.
        end: The last step that the axis shows; more than is done shows what is still to come.
        words: What is written.
        y: Scale of the values; None begins at zero.
    """
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    top = max(value for line in lines for _, value in line.points)
    title, unit = words.titles[key]
    told = [
        words.tell(
            line.label or title,
            words.write(line.points[0][1]),
            int(line.points[0][0]),
            words.write(line.points[-1][1]),
            int(line.points[-1][0]),
        )
        for line in lines
        if line.look not in ("noise", "limit") and (line.label or len(lines) <= 2)
    ]
    x = Scale(0, end, (0, round(end / 2), end), words.write)
    y = y or Scale.nice(0, top, words.write)
    return line_chart(lines, x, y, f"{title}, {unit}: {'; '.join(told)}").titled(title, unit)


def _right_and_wrong(seen: Training, words: CurveWords, whole: str, few: str) -> list[Line]:
    """Right against wrong prompts: whole validations, and thin the few tasks between them."""
    lines: list[Line] = []
    kinds: tuple[tuple[str, str, Look], ...] = (
        ("_wrong_prompts", "wrong", "other"),
        ("", "right", "own"),
    )
    for suffix, word, look in kinds:
        points, between = seen.curve(whole + suffix), seen.curve(few + suffix)
        label = words.lines[word] if seen.kind not in ("multi_task_lora", "teacher") else ""
        lines += [
            Line(between, look, "" if points else label, "thin"),
            Line(points, look, label, "marked"),
        ]
    return lines
