"""The forecast between canvas and Synthesize: what to expect of each bucket."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ui.markup import esc, icon
from ui.text import N_, _, number

if TYPE_CHECKING:
    from dnd_engine.checks.results import Chance, Forecast
    from dnd_engine.generator.report import ForecastGauge

__all__ = ["forecast_html"]

_WORDS: Mapping["Chance", tuple[str, str, str]] = {
    "good": (
        "check",
        N_("Good chance"),
        N_("With your instruction, the model is sure of its answers."),
    ),
    "uncertain": (
        "info",
        N_("Uncertain"),
        N_("With your instruction, the model is not quite sure of its answers."),
    ),
    "little": (
        "warn",
        N_("Expect little"),
        N_("Even with your instruction, the model guesses."),
    ),
}
"""Icon, forecast and reason."""


def forecast_html(
    found: Sequence[tuple[str, "Forecast"]], gauge: "ForecastGauge | None" = None
) -> str:
    """Draw the forecasts of the buckets on the canvas.

    Args:
        found: Names of buckets, with their forecasts.
        gauge: How such forecasts turned out on unseen tasks, if that was measured.

    Returns:
        HTML; empty without forecasts.
    """
    if not found:
        return ""
    lines, why = [], []
    for name, forecast in found:
        mark, chance, reason = _WORDS[forecast.chance]
        of = f"<span class='dnd-forecast-of'>{esc(name)}:</span>" if len(found) > 1 else ""
        lines.append(f"<li>{icon(mark)}<div>{of}<b>{_(chance)}.</b> <span>{_(reason)}</span></div>")
        why.append(f"<p>{f'{esc(name)}: ' if of else ''}{_why(forecast, gauge)}</p>")
    return (
        f"<section class='dnd-panel dnd-forecast'><h3 class='dnd-heading'>{_('Forecast')}</h3>"
        f"<ul>{''.join(lines)}</ul><details class='dnd-fold'><summary>{_('Why?')}</summary>"
        f"{''.join(why)}</details></section>"
    )


def _why(forecast: "Forecast", gauge: "ForecastGauge | None") -> str:
    words = _(
        "Asked with your instruction, the model gives its own answer a probability of {sureness} "
        "(mean of {number} prompts).",
        sureness=number(forecast.sureness, ".2f"),
        number=forecast.num_prompts,
    )
    band = gauge and next((b for b in gauge.bands if b.begin <= forecast.sureness <= b.end), None)
    if not band:
        return words
    then = _(
        "On {tasks} unseen tasks with such a forecast, adapters were right {score} times in 100 "
        "without the instruction ({low} to {high}).",
        tasks=band.n_tasks,
        score=round(100 * band.score),
        low=round(100 * band.low),
        high=round(100 * band.high),
    )
    return f"{words} {then}"
