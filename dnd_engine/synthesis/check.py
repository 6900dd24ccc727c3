"""Checks adapters with the loaded models: selects prompts, teachers and reports for each check."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from dnd_engine.checks.forecast import forecast
from dnd_engine.checks.norms import relative_norms, thumbprint
from dnd_engine.checks.registry import run_checks
from dnd_engine.checks.results import Forecast, Inspection
from dnd_engine.checks.subject import Subject
from dnd_engine.checks.verdict import AdapterVerdict
from dnd_engine.generator.report import VerdictGauge
from dnd_engine.lora.adapter import Adapter
from dnd_engine.models.turns import patient
from dnd_engine.prompts.buckets import Bucket, measured_prompts
from dnd_engine.synthesis.imprint import references
from dnd_engine.synthesis.loaded import Loaded


def inspect_adapter(
    loaded: Loaded,
    adapter: Adapter,
    buckets: Sequence[Bucket],
    only: Collection[str] | None = None,
) -> Inspection:
    """Run the registered checks; see `Engine.inspect`."""
    subject = _subject(loaded, adapter, buckets)
    with patient():
        found = run_checks(subject, only)
    return Inspection.of(
        found,
        relative_norms=relative_norms(adapter, loaded.norms),
        nearest_tasks=adapter.nearest_tasks,
        num_prompts=len(subject.prompts),
        strongest=subject.report.strongest_effect if subject.report else None,
    )


def judge_adapter(
    loaded: Loaded, adapter: Adapter, buckets: Sequence[Bucket]
) -> AdapterVerdict | None:
    """Return the verdict on an adapter; see `Engine.verdict`."""
    subject = _subject(loaded, adapter, buckets)
    with patient():
        verdict: AdapterVerdict | None = run_checks(subject, ("verdict",)).get("verdict")
    return verdict


def forecast_bucket(loaded: Loaded, bucket: Bucket) -> Forecast | None:
    """Forecast how well an adapter for a bucket will do; see `Engine.forecast`."""
    teacher = loaded.generator and loaded.generator.fit_teacher()
    if not teacher:
        return None
    # Muted buckets too, which weight 0 would leave out. All prompts, because those without an
    # instruction are skipped later.
    prompts = measured_prompts([replace(bucket, weight=1.0)], most=None)
    with patient():
        return forecast(loaded.runtime, teacher, prompts)


def picture_adapter(loaded: Loaded, adapter: Adapter) -> tuple[tuple[float, ...], ...]:
    """Return a small picture of an adapter's update; see `Engine.thumbprint`."""
    loaded.check_made_here(adapter)
    made = loaded.generator
    mean = None
    if made and loaded.wrote(adapter) and not adapter.is_imprinted:
        # Tokens of an adapter are always on the CPU.
        shared, layout = made.in_all_layers(made.generator.shared.detach().cpu())
        mean = shared if adapter.layout == layout else None
    return thumbprint(adapter, loaded.norms, mean)


def _subject(loaded: Loaded, adapter: Adapter, buckets: Sequence[Bucket]) -> Subject:
    # Another generator's tasks and verdicts say nothing about the reports of this one.
    ours = loaded.wrote(adapter)
    return Subject(
        adapter=adapter,
        runtime=loaded.runtime,
        fitted=loaded.fit(adapter),
        prompts=measured_prompts(buckets),
        labels={p.text: p.label for bucket in buckets for p in bucket.prompts if p.label},
        nearest=adapter.nearest_tasks if ours else (),
        report=loaded.reports.get("heldout"),
        verdict_gauge=_verdict_gauge(loaded) if ours else None,
        references=lambda: references(loaded, adapter, buckets),
        base_answers=loaded.ordinary.answers,
    )


def _verdict_gauge(loaded: Loaded) -> VerdictGauge | None:
    # Written tasks first, by which forecasts go too: nothing like them was trained on.
    reports = [loaded.reports.get(split) for split in ("written", "heldout")]
    gauges = [report.adapter_verdicts for report in reports if report is not None]
    return next((gauge for gauge in gauges if gauge is not None), None)
