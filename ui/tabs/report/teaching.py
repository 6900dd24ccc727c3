"""The effect of teaching: score against seconds, for each kind of teacher."""

from dnd_engine.evaluation.pictures import refine_chart
from dnd_engine.generator.report import EqualScore, RefineCurve, RefinePoint, Report, TeachStart
from dnd_engine.wording import WAYS
from ui.markup import quiet, section
from ui.text import N_, _, clock_words, score_number


def teaching_html(report: Report) -> str:
    """Draw score over seconds, and describe the results of each of Teach's three options.

    Empty if no teaching was measured.
    """
    names = {way: _(name) for way, name in WAYS.items()}
    chart = refine_chart(report, names, score_number, clock_words)
    if chart is None or report.refine is None:
        return ""
    more = _(
        "Mean score of {tasks} tasks on bare inputs, by median seconds of training. Each learns "
        "from the adapter's own prompts. From nothing, it starts from an empty LoRA.",
        tasks=report.refine.n_tasks,
    )
    doors = {
        _("The model itself"): _itself(report.refine),
        _("A better model"): _better(report.refine),
        _("I do"): _mine(report.refine, report.equal_score),
    }
    listed = "".join(f"<dt>{who}</dt><dd>{what}</dd>" for who, what in doors.items())
    body = f"{quiet(more)}{chart.html()}<dl class='dnd-doors'>{listed}</dl>"
    return section(_("What teaching brings"), body)


def _itself(found: RefineCurve) -> str:
    """Describe teaching by the model itself, from an adapter and from scratch."""
    sentences = [
        _way(N_("From the generated adapter: {course}."), found, "generator"),
        _way(N_("Imprinted first: {course}."), found, "imprint"),
        _way(N_("From nothing: {course}."), found, "scratch"),
    ]
    if found.teacher is not None:
        words = N_("With the instruction, the model that teaches scores {score} itself.")
        sentences.append(_(words, score=score_number(found.teacher.score)))
    if not _course(found, "imprint"):
        sentences.append(
            _(
                "Teaching by the model itself after an imprint is not in this report; "
                "docs/results.md has it for the shipped generator."
            )
        )
    return " ".join(filter(None, sentences))


def _better(found: RefineCurve) -> str:
    """Describe teaching by the answers of another model."""
    measured = _way(N_("From the imprinted adapter: {course}."), found, "imprint_better")
    limit = _("It depends on the model that you ask: the adapter learns its answers.")
    return " ".join((measured or _("Not measured."), limit))


def _mine(found: RefineCurve, labels: EqualScore | None) -> str:
    """Describe teaching by right answers to the same prompts, from an adapter and from scratch."""
    sentences = []
    if labels is not None and labels.points:
        best = max(labels.points, key=lambda point: point.score)
        sentences.append(
            _(
                "From nothing, on right answers: up to {score} in {seconds:.0f} s.",
                score=score_number(best.score),
                seconds=best.seconds or 0,
            )
        )
        if labels.shortest_steps and labels.over_synthesis:
            sentences.append(
                _(
                    "{steps:d} steps do at least as well as the generated adapter before any "
                    "imprint, and take {times:.0f} times as long as making it.",
                    steps=labels.shortest_steps,
                    times=labels.over_synthesis,
                )
            )
    warm = _way(
        N_("From the imprinted adapter, as Teach does it: {course}."), found, "imprint_labels"
    )
    sentences.append(warm or _("From the imprinted adapter, as Teach does it: not in this report."))
    return " ".join(sentences)


def _way(words: str, found: RefineCurve, start: TeachStart) -> str:
    course = _course(found, start)
    return _(words, course=course) if course else ""


def _course(found: RefineCurve, start: TeachStart) -> str:
    """Format the scores and seconds of one starting point; empty if it was not measured."""
    points: list[RefinePoint] = [p for p in found.points if p.start == start]
    # The point at 0 is the untaught adapter, which says nothing about teaching.
    if not any(p.steps != 0 for p in points):
        return ""
    points.sort(key=lambda point: point.seconds or 0)
    return ", ".join(
        _("{score} at once", score=score_number(p.score))
        if not p.seconds
        else _("{score} in {seconds:.0f} s", score=score_number(p.score), seconds=p.seconds)
        for p in points
    )
