"""How well results can be predicted: before an adapter is made, and from the checks afterwards."""

from collections.abc import Mapping, Sequence

from dnd_engine.checks.verdict import Sure, sure_of
from dnd_engine.config import AGREEMENT_BANDS, Degree
from dnd_engine.generator.report import ForecastGauge, Prediction, Report, VerdictGauge
from ui.markup import quiet, section, why
from ui.text import N_, _, ngettext, score_number

_PARTLY, _CARRIES = (low for low, _high in AGREEMENT_BANDS[1:])


def forecast_html(report: Report) -> str:
    """Describe how often a prediction would have been right on a report's tasks.

    A task counts as a gain if the adapter beat the base on bare inputs. Empty without such gains.
    """
    agreement, similarity, gauge = report.agreement, report.similarity, report.forecast
    verdicts = report.adapter_verdicts
    lines, reasons = [], []
    if gauge or verdicts:
        agreement = None  # of adapters before their imprint, which these are not about
    if gauge:
        lines.append(_turned_out(gauge))
        if gauge.predicts_score:
            reasons.append(
                _correlation(_("How sure the model is, and score"), gauge.predicts_score)
            )
    if verdicts:
        lines.append(_hit_rate(verdicts))
        if verdicts.predicts_score:
            what = _("Answers to left-out prompts as with the instruction, and score")
            reasons.append(_correlation(what, verdicts.predicts_score))
    tasks = agreement.tasks if agreement else ()
    gained = {t.slug: gain > 0 for t in tasks if (gain := t.gain.get("bare")) is not None}
    before = similarity.predicts_gain.get("bare") if similarity and agreement else None
    if similarity and before:
        # The most similar first, so that the first half is the near one.
        ranked = sorted(similarity.tasks, key=lambda task: -task.similarity)
        lines.append(_before([gained[t.slug] for t in ranked if t.slug in gained], before))
        reasons.append(_correlation(_("Similarity to training prompts, and gain"), before))
    if agreement and (after := agreement.predicts_gain.get("bare")):
        places = [(t.agreement, gained[t.slug]) for t in agreement.tasks if t.slug in gained]
        lines.append(_after(places, after))
        reasons.append(_correlation(_("Agreement with the instructed model, and gain"), after))
    if not lines:
        return ""
    sentences = "".join(map(quiet, lines))
    return section(_("Can you tell beforehand?"), f"{sentences}{why(' '.join(reasons))}")


_TURNED_OUT: Mapping[Sure, str] = {
    "unsure": N_("where the model is unsure of its answers, {score}"),
    "partly": N_("where it is partly sure, {score}"),
    "sure": N_("where it is sure, {score}"),
}


def _turned_out(found: ForecastGauge) -> str:
    """Describe how adapters did, by what the page would have said beforehand."""
    parts = (
        _scored(_TURNED_OUT[sure_of(band.begin)], band.score, band.n_tasks) for band in found.bands
    )
    return _(
        "From the forecast before Synthesize, mean score of adapters: {parts}.",
        parts="; ".join(parts),
    )


_HIT_RATE: Mapping[Degree, str] = {
    "works": N_("where it says that the adapter works, {score}"),
    "in_part": N_("where it says that it works for some prompts only, {score}"),
    "does_not": N_("where it says that it does not work without the instruction, {score}"),
}


def _hit_rate(found: VerdictGauge) -> str:
    """Describe how adapters did, by what the page says of them once they are made."""
    parts = (_scored(_HIT_RATE[band.verdict], band.score, band.n_tasks) for band in found.bands)
    return _(
        "From the verdict after the imprint, which tries the adapter on prompts left out of it, "
        "mean score of adapters: {parts}.",
        parts="; ".join(parts),
    )


def _scored(words: str, score: float, n_tasks: int) -> str:
    tasks = ngettext(" ({number} task)", " ({number} tasks)", n_tasks)
    return _(words, score=score_number(score)) + tasks


def _before(ranked: Sequence[bool], found: Prediction) -> str:
    """Describe the prediction from prompts: gains of the tasks most similar to training."""
    half = len(ranked) // 2
    words = N_(
        "From how similar your prompts are to those of training: no. On the {near} tasks with the "
        "most similar prompts, the adapter beat the base {near_gains} times; on the other {far}, "
        "{far_gains} times."
    )
    # Only an interval above zero is more than chance.
    if found.low > 0:
        words = N_(
            "From how similar your prompts are to those of training: a little. On the {near} tasks "
            "with the most similar prompts, the adapter beat the base {near_gains} times; on the "
            "other {far}, {far_gains} times."
        )
    near, far = ranked[:half], ranked[half:]
    counts = {"near": len(near), "far": len(far), "near_gains": sum(near), "far_gains": sum(far)}
    return _(words, **counts)


def _after(places: Sequence[tuple[float, bool]], found: Prediction) -> str:
    """Describe the prediction from the first check: gains of tasks by agreement."""
    carries = [gain for share, gain in places if share >= _CARRIES]
    never = [gain for share, gain in places if share < _PARTLY]
    between = [gain for share, gain in places if _PARTLY <= share < _CARRIES]
    words = N_("From the check after Synthesize: no. {counts}")
    if found.low > 0:
        words = N_("From the check after Synthesize: to some degree. {counts}")
    counts = _(
        "Where it said that the adapter carries the instruction, the adapter beat the base on "
        "{carries_gains} of {carries} tasks; in part, on {between_gains} of {between}; not at all, "
        "on {never_gains} of {never}.",
        carries=len(carries),
        carries_gains=sum(carries),
        between=len(between),
        between_gains=sum(between),
        never=len(never),
        never_gains=sum(never),
    )
    return _(words, counts=counts)


def _correlation(what: str, found: Prediction) -> str:
    return _(
        "{what}: rank correlation {correlation} ({low} to {high}) over {tasks} tasks.",
        what=what,
        correlation=score_number(found.rank_correlation, signed=True),
        low=score_number(found.low),
        high=score_number(found.high),
        tasks=found.n_tasks,
    )
