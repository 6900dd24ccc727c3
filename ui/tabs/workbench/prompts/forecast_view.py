"""The forecast between canvas and Synthesize: what to expect of each bucket."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dnd_engine.imprint.left_out import MIN_PROMPTS
from dnd_engine.prompts.doubts import seem_english
from dnd_engine.prompts.split import split_prompt
from dnd_engine.wording import listed
from ui.markup import esc, icon, presses, section, why
from ui.text import N_, _, ngettext, note_words, number

if TYPE_CHECKING:
    from dnd_engine.checks.results import Forecast
    from dnd_engine.checks.verdict import Sure
    from dnd_engine.generator.report import ForecastBand, ForecastGauge
    from dnd_engine.prompts.buckets import Bucket
    from ui.canvas import CanvasBucket

_SURE: Mapping["Sure", str] = {
    "sure": N_("Given your instruction, the model is sure of its answers."),
    "partly": N_("Given your instruction, the model is only partly sure of its answers."),
    "unsure": N_("Even given your instruction, the model is unsure of its answers."),
}
_ICONS: Mapping["Sure", str] = {"sure": "check", "partly": "info", "unsure": "warn"}
_LOOKED_AT = 32
"""Prompts of a file whose instructions are compared."""
_MOSTLY_RIGHT, _RARELY_RIGHT = 0.6, 0.3
"""Scores from which on a forecast is good news, and below which it is a warning."""


def forecast_html(
    found: Sequence[tuple["Bucket", "Forecast | None"]],
    gauge: "ForecastGauge | None" = None,
    canvas: Sequence["CanvasBucket"] = (),
) -> str:
    """Draw the forecasts of the buckets on the canvas.

    Args:
        found: Buckets with their forecasts; None if no prompt could be asked.
        gauge: How forecasts by the same model turned out on unseen tasks, if that was measured.
            Without it, nothing is said of the adapter.
        canvas: All buckets on the canvas; if there are several, each has a field for its
            instruction.

    Returns:
        HTML; empty without forecasts.
    """
    if not found:
        return ""
    lines, reasons = [], []
    ids = {bucket.name: bucket.id for bucket in canvas}
    typed = [bucket for bucket, _forecast in found if bucket.instruction]
    for instruction in dict.fromkeys(bucket.instruction for bucket in typed):
        names = [bucket.name for bucket in typed if bucket.instruction == instruction]
        if len(names) > 1:
            lines.append(f"<li>{icon('info')}<div>{_one_for_all(names, ids)}</div>")
    for bucket, forecast in found:
        name = esc(bucket.name)
        of = (
            f"<span class='dnd-forecast-of'>{name}:</span>"
            if max(len(canvas), len(found)) > 1
            else ""
        )
        if bucket.num_without_instruction:
            way = (
                _type_in_bucket(_("Type one there"), ids[bucket.name]) if of else type_instruction()
            )
            lines.append(f"<li>{icon('info')}<div>{of}{_lacking(bucket, way)}</div>")
        if (wordings := _several(bucket)) > 1:
            lines.append(f"<li>{icon('info')}<div>{of}{_apart(bucket, wordings, ids)}</div>")
        if forecast is None:
            continue
        # None if nothing was measured; then only the model's sureness is stated.
        band = gauge.band_of(forecast.sureness) if gauge else None
        said = [_alike(forecast), _expected(band), _language(bucket, forecast), _few(bucket)]
        lines.append(
            f"<li>{icon(_sign(forecast, band))}<div>{of}<b>{_(_SURE[forecast.sure])}</b> "
            f"<span>{' '.join(filter(None, said))}</span></div>"
        )
        reasons.append(f"<p>{f'{name}: ' if of else ''}{_why(forecast, band)}</p>")
    body = f"<ul>{''.join(lines)}</ul>{why(''.join(reasons))}"
    return section(_("Forecast"), body, "forecast")


def type_instruction() -> str:
    """Draw the advice to type an instruction as a link to its field."""
    return presses(
        _("Type one under Advanced"),
        # What is open already is not pressed, which would close it.
        "[data-dnd-folded] .dnd-edit, #dnd-advanced > .label-wrap:not(.open)",
        field="#dnd-instruction textarea",
    )


def _type_in_bucket(words: str, bucket_id: str) -> str:
    """Draw words as a link to the field for a bucket's own instruction."""
    field = _within(bucket_id, ".dnd-own")
    return presses(words, "[data-dnd-folded] .dnd-edit", field=field)


def _within(bucket_id: str, selector: str) -> str:
    """Select a part of a bucket, whose name may change before this is drawn again."""
    # As a string of CSS.
    return esc(f"[data-bucket={json.dumps(bucket_id, ensure_ascii=False)}] {selector}")


def _lacking(bucket: "Bucket", way: str) -> str:
    """Say how many prompts have no instruction, and what to do."""
    bare, total = bucket.num_without_instruction, bucket.num_prompts
    if bare == total:
        words = _("No instruction found.")
        more = _("{way}; without it, this bucket is not imprinted.", way=way)
    else:
        words = _(
            "No instruction in {number} of {total} prompts.",
            number=number(bare),
            total=number(total),
        )
        more = _("{way}; without it, they are not imprinted.", way=way)
    return f"<b>{words}</b> <span>{more}</span>"


def _one_for_all(names: Sequence[str], ids: Mapping[str, str]) -> str:
    """Say that several buckets share the typed instruction."""
    buckets = esc(note_words(listed(names)))
    words = _("The instruction you typed applies to {buckets}.", buckets=buckets)
    way = _type_in_bucket(_("type each one's own in its bucket"), ids[names[0]])
    more = _("If these are different tasks, {way}.", way=way)
    return f"<b>{words}</b> <span>{more}</span>"


def _several(bucket: "Bucket") -> int:
    """Count the instructions of files that have one each; 0 if a file has several wordings."""
    found = set()
    for file in bucket.files:
        parts = (split_prompt(prompt.text) for prompt in file.prompts[:_LOOKED_AT])
        own = {part.instruction for part in parts if part.input is not None}
        if len(own) != 1:
            return 0
        found |= own
    return len(found)


def _apart(bucket: "Bucket", several: int, ids: Mapping[str, str]) -> str:
    """Say that files may be of different tasks, and offer to part them."""
    way = presses(_("give each file its own bucket"), _within(ids[bucket.name], ".dnd-spread"))
    words = _("The files have {number} different instructions.", number=number(several))
    more = _("A bucket is for one task. If these are several, {way}.", way=way)
    return f"<b>{words}</b> <span>{more}</span>"


def _sign(forecast: "Forecast", band: "ForecastBand | None") -> str:
    """Choose the icon by how often adapters were right, else by how sure the model is."""
    if forecast.alike:
        return "warn"
    if not band:
        return _ICONS[forecast.sure]
    if band.score >= _MOSTLY_RIGHT:
        return "check"
    return "info" if band.score >= _RARELY_RIGHT else "warn"


def _expected(band: "ForecastBand | None") -> str:
    """Say in a sentence how often adapters with such a forecast were right."""
    if not band:
        return ""
    return _(
        "On unseen tasks where it was this sure, adapters were right about {score} times in 100.",
        score=round(100 * band.score),
    )


def _language(bucket: "Bucket", forecast: "Forecast") -> str:
    """Name the language as a cause of doubts, if it may be one."""
    if forecast.sure == "sure" or seem_english(prompt.text for prompt in bucket.prompts):
        return ""
    return _("That may be the language: small models know English best.")


def _alike(forecast: "Forecast") -> str:
    """Say that the model gives everything one answer, if so: the adapter would learn that."""
    if not forecast.alike:
        return ""
    return _(
        "It gives one and the same answer to all {number} that were asked, or nearly all.",
        number=forecast.num_prompts,
    )


def _few(bucket: "Bucket") -> str:
    """Say that there are too few prompts to test an adapter on some of them, if so."""
    if bucket.num_prompts >= MIN_PROMPTS:
        return ""
    return ngettext(
        "{number} prompt is too few: the adapter is fitted to it and tested on none. Add some of "
        "the same kind, ideally 16 or more.",
        "{number} prompts are few: the adapter is fitted to all and tested on none. Add some of "
        "the same kind, ideally 16 or more.",
        bucket.num_prompts,
    )


def _why(forecast: "Forecast", band: "ForecastBand | None") -> str:
    asked = ngettext(
        "With your instruction, the model gives its own answer to {number} prompt a probability "
        "of {sureness}.",
        "With your instruction, the model gives its own answers a probability of {sureness}, the "
        "mean of {number} prompts.",
        forecast.num_prompts,
        sureness=number(forecast.sureness, ".2f"),
    )
    if not band:
        return asked
    turned_out = ngettext(
        "On {number} unseen task where it was as sure, the adapter scored {score} without the "
        "instruction.",
        "On {number} unseen tasks where it was as sure, adapters scored {score} without the "
        "instruction (95 % interval {low} to {high}).",
        band.n_tasks,
        score=number(band.score, ".2f"),
        low=number(band.low, ".2f"),
        high=number(band.high, ".2f"),
    )
    return f"{asked} {turned_out}"
