"""The `dnd refine` command: trains an adapter further on prompts of its own task."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dnd_engine.cli.adapters import read_buckets
from dnd_engine.cli.common import (
    BucketOption,
    Json,
    LibraryOption,
    engine_options,
    find_adapter,
    load_engine,
    plain_errors,
    show,
)
from dnd_engine.config import EngineConfig, RefineConfig
from dnd_engine.lora.provenance import taught_alike
from dnd_engine.progress import finish, in_english

if TYPE_CHECKING:
    from dnd_engine.progress import Progress

__all__ = ["refine"]

_DEFAULT = RefineConfig()


@plain_errors
@engine_options
def refine(
    config: EngineConfig,
    adapter: Annotated[
        str,
        typer.Argument(help="Adapter to start from: PEFT folder or zip, or a name in the library."),
    ],
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Prompt files; each prompt is an instruction, a blank line and an input."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="A .zip or folder to write.")] = Path("refined.zip"),
    bucket: BucketOption = None,
    steps: Annotated[int, typer.Option(help="Training steps.")] = _DEFAULT.steps,
    learning_rate: Annotated[
        float, typer.Option(help="Learning rate of AdamW.")
    ] = _DEFAULT.learning_rate,
    labels: Annotated[
        bool,
        typer.Option(
            "--labels", help="Train on the label column instead of the teacher's answers."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed for sampling and ordering prompts.")] = 0,
    library: LibraryOption = None,
    as_json: Json = False,
) -> None:
    """Train an adapter briefly on prompts of its own task."""
    from tqdm import tqdm

    settings = RefineConfig(steps=steps, learning_rate=learning_rate, labels=labels, seed=seed)
    read = find_adapter(adapter, library)
    buckets = read_buckets(files or [], bucket or [], config)
    started = time.monotonic()
    engine = load_engine(config)
    load_seconds = time.monotonic() - started
    start = read(engine)
    with tqdm(total=1.0, bar_format="{desc} {percentage:3.0f}%|{bar}| {postfix}") as bar:

        def show_progress(progress: "Progress") -> None:
            bar.set_description("Ask the teacher" if progress.stage == "ask" else "Refine")
            bar.set_postfix_str(in_english(progress))
            bar.n = progress.fraction or 0.0
            bar.refresh()

        made = finish(engine.refine(start, buckets, settings), show_progress)
    started = time.monotonic()
    path = engine.save(made, out)
    seconds = {
        "load": load_seconds,
        "refine": made.seconds["refine"],
        "write": time.monotonic() - started,
    }
    learnt_from = [b for b in buckets if b.weight > 0]
    before, after = (engine.effect(a, learnt_from) for a in (start, made))
    refined = made.provenance["refined"]
    num_prompts, commonest_share = refined["num_prompts"], refined["commonest_share"]
    if taught_alike(refined):
        typer.echo(
            f"The base gave the same answer to {commonest_share:.0%} of the prompts, and the "
            "adapter learnt it. If it is wrong, the base cannot do the task: use --labels.",
            err=True,
        )
    show(
        {
            "adapter": str(path),
            "sha256": made.sha256,
            "from_sha256": start.sha256,
            "num_prompts": num_prompts,
            "commonest_share": commonest_share,
            "labels": labels,
            "seconds": {name: round(value, 4) for name, value in seconds.items()},
            "effect": after,
            "effect_before": before,
        },
        as_json,
        f"{path}: refined on {num_prompts} {'labelled ' if labels else ''}prompts in "
        f"{seconds['refine']:.0f} s. Effect {before:.3f} before, {after:.3f} nats after. "
        f"SHA-256 {made.sha256[:12]}.",
    )
