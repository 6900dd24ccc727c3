"""The `dnd bench` command: measures speed and memory on this machine."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dnd_engine.cli.common import (
    Json,
    Plot,
    check_plot,
    engine_options,
    load_engine,
    plain_errors,
    show,
    write_text,
)
from dnd_engine.config import EngineConfig, ImprintConfig
from dnd_engine.errors import ConfigError

if TYPE_CHECKING:
    from dnd_engine.bench.results import BenchResult

_MEANINGS = {
    "lora_over_synthesis": "a short LoRA run takes this many times as long as synthesis",
    "lora_over_synthesis_flops": "and needs this many times as many operations",
    "lora_equal_over_synthesis": "the same for the shortest LoRA run with an equal score",
    "tasks_to_pay_off_lora_run": "short LoRA runs that together cost as much as its training",
    "tasks_to_pay_off_lora_equal": "the same for the shortest LoRA runs with an equal score",
    "twin_over_single": "two answers at once take this many times as long per token as one",
    "twin_over_modules": "and this share of the time that transformers' own modules take",
    "imprinted_over_single": "with an imprinted adapter, two take this many times as long as one",
    "single_over_llama_cpp": "one answer takes this many times as long per token as in llama.cpp",
    "twin_over_llama_cpp": "and two at once as one with and one without adapter there, in turn",
    "examination_over_loop": "an evaluation takes this share of a plain loop's time per item",
    "contended_over_alone_twin": "a twin token takes this many times as long beside busy processes",
    "contended_over_alone_synthesis": "and so does a synthesis",
    "contended_over_alone_training": "and a training step",
    "imprint_over_handed_over": "imprint takes this many times as long as what precedes it",
    "imprint_large_over_small": "imprinting a bucket of 128 prompts, of which "
    f"{ImprintConfig().max_bucket_prompts} are fitted, takes this many times as long as one of 16",
    "crowd_over_alone": "the last of six visitors at once waits this many times as long as all six "
    "take one by one",
    "turned_over_twin": "and this many times as long again if the strength changes at every token",
    "remix_over_synthesis": "remixing takes this share of the time of the first synthesis",
    "bandwidth_share": "share of memory bandwidth used by one chat",
    "train_over_lora_throughput": "training speed of the generator, as a share of a plain LoRA's",
}


@plain_errors
@engine_options
def bench(
    models: EngineConfig,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Fewer rounds; the time of the LoRA run is extrapolated."),
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(
            help="Any of synthesis,imprint,crowd,chat,examination,training,contended; default: all."
        ),
    ] = None,
    growing: Annotated[
        bool,
        typer.Option(
            "--growth",
            help="Measure instead how seconds and memory grow with prompts, buckets, visitors, "
            "conversation and library.",
        ),
    ] = False,
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """Measure the speed of synthesis, imprint, chat and training."""
    if growing:
        if quick or only is not None:
            raise ConfigError("`--growth` measures one thing. Leave out `--quick` and `--only`.")
        _show_growth(models, plot, as_json)
        return
    if plot is not None:
        raise ConfigError("`--plot` draws what `--growth` measures. Add `--growth`.")
    from dnd_engine.bench.config import SECTIONS, BenchConfig
    from dnd_engine.bench.run import bench as measure

    chosen = SECTIONS if only is None else tuple(only.split(","))
    config = BenchConfig(only=chosen)
    engine = load_engine(models)
    result = measure(engine, config.quick() if quick else config)
    show(result.to_json(), as_json, _words(result))


def _show_growth(models: EngineConfig, plot: Path | None, as_json: bool) -> None:
    """Measure how costs grow, and draw it if asked."""
    from dnd_engine.bench.growth import growth, growth_svg

    check_plot(plot)
    points = list(growth(load_engine(models)))
    if plot is not None:
        write_text(plot, growth_svg(points))
    lines = [f"{'seconds':>10} {'more MB':>9}  work"]
    for point in points:
        work = f"{point.work}, {point.amount:,} {point.unit}"
        lines.append(f"{point.seconds:10.3f} {point.memory_mb:9.1f}  {work}")
    show({"growth": [asdict(point) for point in points]}, as_json, "\n".join(lines))


def _words(result: "BenchResult") -> str:
    """Format the ratios with their meanings, then everything else, one line each."""
    machine = dict(result.machine)
    versions = ", ".join(f"{name} {number}" for name, number in machine.pop("versions").items())
    lines = [f"{v:8.3f}  {name}: {_MEANINGS[name]}" for name, v in result.ratios.items()]
    for title, unit, values in (
        ("Seconds", "s", result.seconds),
        ("Floating point operations", "", result.flops),
        ("Tokens per second", "/s", result.tokens_per_second),
        ("Parts of `ready`", "s", result.ready_parts),
        ("Memory (resident, mapped files included)", "MB", result.memory_mb),
    ):
        if values:
            lines += ["", f"{title}:"]
            lines += [f"  {name:20} {value:10.4g} {unit}" for name, value in values.items()]
    lines += ["", *result.notes, ""]
    lines.append(", ".join(f"{name} {value}" for name, value in machine.items() if value))
    return "\n".join([*lines, versions])
