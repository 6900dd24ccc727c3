"""The `dnd plan` command: what a generator for another base would cost."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from dnd_engine.cli.common import Json, Plot, check_plot, plain_errors, show, write_text
from dnd_engine.errors import ConfigError
from dnd_engine.limits import FIXED


@plain_errors
def plan(
    base: Annotated[
        list[str] | None,
        typer.Option(
            help="Shipped name, Hub id, `config.json` or model folder; may be repeated. "
            "Default: all shipped names."
        ),
    ] = None,
    hardware: Annotated[str, typer.Option(help="Machine of the table.")] = "h100",
    hardware_file: Annotated[
        Path | None, typer.Option(help="Your own table of machines, as YAML.")
    ] = None,
    rank: Annotated[
        int, typer.Option(min=1, max=FIXED.max_layer_size, help="Rank of the LoRA.")
    ] = 4,
    tasks: Annotated[
        int | None, typer.Option(help="Tasks to collect a LoRA for, as the paper does.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of generator training.")] = None,
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """Compute sizes, memory, time and money of a generator for any base.

    Reads configs only, never weights. Each figure is marked as derived or measured.
    """
    from dnd_engine.files import asset_path
    from dnd_engine.lora.layout import LoRASpec
    from dnd_engine.plan.costs import Workload, make_plan
    from dnd_engine.plan.hardware import read_hardware
    from dnd_engine.plan.pictures import draw
    from dnd_engine.plan.shapes import read_shape, shipped_shapes
    from dnd_engine.plan.words import ASSUMPTIONS, listing, table

    check_plot(plot)
    machines = read_hardware(hardware_file)
    if hardware not in machines:
        raise ConfigError(
            f"`hardware` must be one of {', '.join(machines)}, got {hardware!r}. Add machines of "
            "your own with --hardware-file."
        )
    spec = LoRASpec(r=rank, lora_alpha=2 * rank)
    given = {name: v for name, v in (("tasks", tasks), ("steps", steps)) if v is not None}
    work = replace(Workload(), **given)
    runs: dict[str, Any] = {}
    if not given and rank == LoRASpec().r and hardware_file is None:
        # The measured times hold for these settings only; beside others they would mislead.
        runs = yaml.safe_load(asset_path("plan", "measured.yaml").read_text(encoding="utf-8"))
    made = []
    for name in base or shipped_shapes():
        measured = runs.get(read_shape(name, spec).name, {}).get(hardware)
        made.append(make_plan(name, spec, machines[hardware], work, measured))
    if plot is not None:
        write_text(plot, draw(made))
    show(
        {"plans": [one.to_json() for one in made], "assumptions": ASSUMPTIONS},
        as_json,
        listing(made[0]) if len(made) == 1 else table(made),
    )
