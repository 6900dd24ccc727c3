"""The command that measures what things cost on this machine."""

from typing import TYPE_CHECKING, Annotated

import typer

from dnd_engine.cli.common import (
    Json,
    engine_options,
    load_engine,
    plain_errors,
    show,
)
from dnd_engine.config import EngineConfig

if TYPE_CHECKING:
    from dnd_engine.bench import BenchResult

__all__ = ["bench"]

_MEANINGS = {
    "lora_over_synthesis": "a short LoRA run takes this many times as long as synthesis",
    "lora_over_synthesis_flops": "and does this many times as many operations",
    "lora_equal_over_synthesis": "the shortest LoRA run that scores alike: as many times as long",
    "tasks_to_pay_off_lora_run": "tasks after which short LoRA runs would have cost its training",
    "tasks_to_pay_off_lora_equal": "the same, of the shortest runs that score alike",
    "twin_over_single": "two answers at once take this many times as long as one, per token",
    "turned_over_twin": "and this many times as long again if the strength changes at each token",
    "remix_over_synthesis": "mixing anew takes this share of the time of a first synthesis",
    "bandwidth_share": "of memory bandwidth used by one chat",
    "train_over_lora_throughput": "of a plain LoRA's training speed reached by a generator's",
}


@plain_errors
@engine_options
def bench(
    models: EngineConfig,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer rounds; the LoRA run is scaled up.")
    ] = False,
    only: Annotated[
        str | None, typer.Option(help="Some of synthesis,chat,training; default: all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure synthesis, chat and training beside their alternatives."""
    from dnd_engine.bench import SECTIONS, BenchConfig
    from dnd_engine.bench import bench as measure

    chosen = SECTIONS if only is None else tuple(only.split(","))
    config = BenchConfig(only=chosen)
    engine = load_engine(models)
    result = measure(engine, config.quick() if quick else config)
    show(result.to_json(), as_json, _words(result))


def _words(result: "BenchResult") -> str:
    """Ratios with their meanings, then everything else, a line each."""
    machine = dict(result.machine)
    versions = ", ".join(f"{name} {number}" for name, number in machine.pop("versions").items())
    lines = [f"{v:8.3f}  {name}: {_MEANINGS[name]}" for name, v in result.ratios.items()]
    for title, unit, values in (
        ("Seconds", "s", result.seconds),
        ("Floating point operations", "", result.flops),
        ("Tokens per second", "/s", result.tokens_per_second),
        ("Parts of `ready`", "s", result.ready_parts),
        ("Memory", "MB", result.memory_mb),
    ):
        if values:
            lines += ["", f"{title}:"]
            lines += [f"  {name:20} {value:10.4g} {unit}" for name, value in values.items()]
    lines += ["", *result.notes, ""]
    lines.append(", ".join(f"{name} {value}" for name, value in machine.items() if value))
    return "\n".join([*lines, versions])
