"""The command that measures an adapter on labelled rows, and trains LoRAs beside it."""

from collections.abc import Generator as Steps
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from dnd_engine.cli.common import (
    AdapterArgument,
    Json,
    LibraryOption,
    engine_options,
    find_adapter,
    find_kept,
    load_engine,
    plain_errors,
    show,
)
from dnd_engine.config import METRICS, EngineConfig, LabelledConfig, MeasureConfig
from dnd_engine.errors import ConfigError, LibraryError, MeasureError
from dnd_engine.files import written_aside
from dnd_engine.progress import finish
from dnd_engine.prompts.files import read_prompt_file

if TYPE_CHECKING:
    from dnd_engine.engine import Engine
    from dnd_engine.library import Library
    from dnd_engine.measure.results import Measurement, MeasureStep

__all__ = ["measure"]

T = TypeVar("T", bound=str)

_LORAS = {"trained_lora": "trained.zip", "warm_lora": "trained-warm.zip"}

_DEFAULT = MeasureConfig()
_TRAINING = LabelledConfig()


@plain_errors
@engine_options
def measure(
    config: EngineConfig,
    adapter: AdapterArgument,
    data: Annotated[Path, typer.Argument(help="Prompts with labels: csv, jsonl, parquet.")],
    train: Annotated[
        bool, typer.Option("--train", help="Also train a LoRA on the other rows, from scratch.")
    ] = False,
    warm_start: Annotated[
        bool, typer.Option("--warm-start", help="Also train one that begins from the adapter.")
    ] = False,
    steps: Annotated[int, typer.Option(help="Training steps.")] = _TRAINING.steps,
    learning_rate: Annotated[
        float, typer.Option(help="Of AdamW, in training.")
    ] = _TRAINING.learning_rate,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the result, items, picture and LoRAs.")
    ] = None,
    limit_items: Annotated[
        int, typer.Option(help="Rows that are scored; at most half of all.")
    ] = _DEFAULT.limit_items,
    modes: Annotated[str, typer.Option(help="bare, full, or both with a comma.")] = ",".join(
        _DEFAULT.modes
    ),
    metric: Annotated[str, typer.Option(help="auto, choice, exact or rouge.")] = _DEFAULT.metric,
    allow_seen: Annotated[
        bool, typer.Option("--allow-seen", help="Score also prompts that the adapter has read.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the two sides, and of training.")] = 0,
    library: LibraryOption = None,
    as_json: Json = False,
) -> None:
    """Score an adapter on labelled rows, beside base and trained LoRA."""
    from dnd_engine.measure.sides import labelled_rows

    (chosen_metric,) = _known("metric", (metric,), METRICS)
    settings = MeasureConfig(
        limit_items=limit_items,
        metric=chosen_metric,
        modes=_known("modes", modes.split(","), _DEFAULT.modes),
        allow_seen=allow_seen,
        seed=seed,
    )
    training = LabelledConfig(steps=steps, learning_rate=learning_rate, seed=seed)
    labelled = read_prompt_file(data, limits=config.limits)
    labelled_rows(labelled)  # a file without labels is refused before models load
    if out is not None and out.exists() and not out.is_dir():
        raise MeasureError(f"`{out}` is a file. Name a folder for the result.")
    find, kept = find_adapter(adapter, library), find_kept(adapter, library)
    engine = load_engine(config)
    worn = find(engine)
    measured = _watch(engine.measure(worn, labelled, settings))
    # Written on the way too: a training that fails must not take the scores with it.
    files = [] if out is None else _write(engine, measured, out)
    _keep_scores(kept, measured)
    for wanted, warm in ((train, False), (warm_start, True)):
        if wanted:
            measured = _watch(engine.train_lora(worn, measured, training, warm_start=warm))
            files = [] if out is None else _write(engine, measured, out)
            _keep_scores(kept, measured)
    values = measured.to_json() | {"files": files}
    show(values, as_json, measured.markdown() + "".join(f"\n{file}" for file in files))


def _known(name: str, values: Sequence[str], known: tuple[T, ...]) -> tuple[T, ...]:
    """Those of `known` that were asked for.

    Raises:
        ConfigError: If others were.
    """
    if strays := [value for value in values if value not in known]:
        raise ConfigError(
            f"`{name}` must be of {', '.join(map(str, known))}; got {', '.join(strays)}."
        )
    return tuple(value for value in known if value in values)


def _watch(steps: "Steps[MeasureStep, None, Measurement]") -> "Measurement":
    """Run an operation to its end, with a bar on stderr."""
    from tqdm import tqdm

    with tqdm(total=1.0, bar_format="{desc} {percentage:3.0f}%|{bar}|") as bar:

        def show_step(step: "MeasureStep") -> None:
            stage = "Train" if step.stage == "train" else "Score"
            bar.set_description_str(f"{stage}: {step.detail}", refresh=False)
            bar.n = step.done / step.total
            bar.refresh()

        return finish(steps, show_step)


def _keep_scores(kept: "tuple[Library, str] | None", measured: "Measurement") -> None:
    """Note the scores with an adapter of the library; one that is gone by now stops nothing."""
    if kept is None:
        return
    library, key = kept
    try:
        library.update(key, scores=measured.scores())
    except LibraryError as error:
        typer.echo(f"The scores were not kept: {error}", err=True)


def _write(engine: "Engine", measured: "Measurement", out: Path) -> list[str]:
    """Write everything that is to be kept; each file appears whole or not at all."""
    import json

    from dnd_engine.charts import svg_file
    from dnd_engine.measure.picture import race_charts

    values = measured.to_json()
    texts = {
        "measurement.json": json.dumps(values, indent=1, ensure_ascii=False) + "\n",
        "measurement.md": measured.markdown(),
        "items.csv": measured.items_csv(),
        "plot.svg": svg_file(race_charts(measured), "Score over the time it takes to get there"),
    }
    try:
        for name, text in texts.items():
            with written_aside(out / name) as aside:
                aside.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise MeasureError(
            f"`{out}` cannot be written to: {error.strerror or error}. Make room, or name another "
            "folder with --out."
        ) from error
    names = [*texts]
    for row, lora in measured.trained.items():
        engine.save(lora, out / _LORAS[row])
        names.append(_LORAS[row])
    return [str(out / name) for name in names]
