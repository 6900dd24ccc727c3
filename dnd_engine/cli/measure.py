"""The `dnd measure` command: compares an adapter with trained LoRAs on labelled rows."""

from collections.abc import Generator as Steps
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dnd_engine.cli.common import (
    AdapterArgument,
    Json,
    LibraryOption,
    engine_options,
    find_adapter,
    find_kept,
    known,
    load_engine,
    one_of,
    plain_errors,
    show,
)
from dnd_engine.config import METRICS, EngineConfig, LabelledConfig, MeasureConfig
from dnd_engine.errors import LibraryError, MeasureError
from dnd_engine.files import expanded, obstacle, write_whole
from dnd_engine.progress import finish
from dnd_engine.prompts.files import labelled_suffixes, read_prompt_file

if TYPE_CHECKING:
    from dnd_engine.engine import Engine
    from dnd_engine.library import Library
    from dnd_engine.measure.results import Measurement, MeasureStep

_FILES = ("measurement.json", "measurement.md", "items.csv", "plot.svg")
_LORAS = {"trained_lora": "trained.zip", "warm_lora": "trained-warm.zip"}

_DEFAULT = MeasureConfig()
_TRAINING = LabelledConfig()


@plain_errors
@engine_options
def measure(
    config: EngineConfig,
    adapter: AdapterArgument,
    data: Annotated[
        Path, typer.Argument(help=f"File of prompts with labels: {', '.join(labelled_suffixes())}.")
    ],
    train: Annotated[
        bool, typer.Option("--train", help="Also train a LoRA from scratch on the remaining rows.")
    ] = False,
    warm_start: Annotated[
        bool, typer.Option("--warm-start", help="Also train a LoRA that starts from the adapter.")
    ] = False,
    steps: Annotated[int, typer.Option(help="Training steps.")] = _TRAINING.steps,
    learning_rate: Annotated[
        float, typer.Option(help="Learning rate of AdamW.")
    ] = _TRAINING.learning_rate,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results, answers, picture and LoRAs.")
    ] = None,
    limit_items: Annotated[
        int, typer.Option(help="Number of rows to score, at most half of all.")
    ] = _DEFAULT.limit_items,
    modes: Annotated[str, typer.Option(help="bare, full or bare,full.")] = ",".join(_DEFAULT.modes),
    metric: Annotated[str, typer.Option(help="auto, choice, exact or rouge.")] = _DEFAULT.metric,
    allow_seen: Annotated[
        bool,
        typer.Option("--allow-seen", help="Also score prompts that the adapter was made from."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed for the split and for training.")] = 0,
    library: LibraryOption = None,
    as_json: Json = False,
) -> None:
    """Compare an adapter with base and trained LoRA on labelled rows."""
    from dnd_engine.measure.sides import labelled_rows

    settings = MeasureConfig(
        limit_items=limit_items,
        metric=one_of("metric", metric, METRICS),
        modes=known("modes", modes, _DEFAULT.modes),
        allow_seen=allow_seen,
        seed=seed,
    )
    training = LabelledConfig(steps=steps, learning_rate=learning_rate, seed=seed)
    labelled = read_prompt_file(data, limits=config.limits)
    labelled_rows(labelled)  # reject a file without labels before models load
    if out is not None:
        if (reason := obstacle(out)) is not None:
            raise MeasureError(f"`{out}` cannot be written: {reason}. Choose another place.")
        if out.exists() and not out.is_dir():
            raise MeasureError(f"`{out}` is a file. Name a folder for the result.")
        written = {(out / name).resolve() for name in (*_FILES, *_LORAS.values())}
        for path in (data, expanded(adapter)):
            if path.resolve() in written:
                raise MeasureError(f"The result would replace `{path}`. Choose another folder.")
    # The second says where scores are stored; None for an adapter that is a file.
    find, kept = find_adapter(adapter, library), find_kept(adapter, library)
    engine = load_engine(config)
    loaded = find(engine)
    results = _Results(engine, out, kept, replaces=out is not None and (out / _FILES[0]).exists())
    measured = _watch(engine.measure(loaded, labelled, settings), results)
    # Write now as well as at the end: if training fails, the scores must not be lost.
    files = results.keep(measured)
    for wanted, warm in ((train, False), (warm_start, True)):
        if wanted:
            run = engine.train_lora(loaded, measured, training, warm_start=warm)
            measured = _watch(run, results)
            files = results.keep(measured)
    values = measured.to_json() | {"files": files}
    show(values, as_json, measured.markdown() + "".join(f"\n{file}" for file in files))


@dataclass(slots=True)
class _Results:
    """Where the results go."""

    engine: "Engine"
    out: Path | None
    kept: "tuple[Library, str] | None"
    replaces: bool
    """Whether the folder still holds an earlier measurement."""

    def keep(self, measured: "Measurement") -> list[str]:
        """Write the files, if a folder is named, and store the scores in the library."""
        files = [] if self.out is None else _write(self.engine, measured, self.out)
        if self.out is not None and self.replaces:
            # An earlier measurement's LoRAs, perhaps of another adapter, though training may fail.
            for name in _LORAS.values():
                (self.out / name).unlink(missing_ok=True)
            self.replaces = False
        _keep_scores(self.kept, measured)
        return files

    def keep_finished(self, measured: "Measurement") -> None:
        """Write what was measured before Ctrl-C, but not over an earlier measurement."""
        if self.out is None or not measured.rows:
            return
        if self.replaces:
            typer.echo(f"`{self.out}` still holds the earlier measurement.", err=True)
            return
        _write(self.engine, measured, self.out)
        typer.echo(f"What was finished is in `{self.out}`.", err=True)


def _watch(steps: "Steps[MeasureStep, None, Measurement]", results: _Results) -> "Measurement":
    """Run an operation to its end, or keep what it found until Ctrl-C; the bar is on stderr."""
    from tqdm import tqdm

    last: Measurement | None = None
    try:
        with tqdm(total=1.0, bar_format="{desc} {percentage:3.0f}%|{bar}|") as bar:

            def show_step(step: "MeasureStep") -> None:
                nonlocal last
                last = step.measured
                stage = "Train" if step.stage == "train" else "Score"
                bar.set_description_str(f"{stage}: {step.detail}", refresh=False)
                bar.n = step.done / step.total
                bar.refresh()

            return finish(steps, show_step)
    except KeyboardInterrupt:
        if last is not None:
            results.keep_finished(last)
        raise


def _keep_scores(kept: "tuple[Library, str] | None", measured: "Measurement") -> None:
    """Store the scores with the adapter in the library, if it is still there."""
    if kept is None:
        return
    library, key = kept
    try:
        library.update(key, scores=measured.scores())
    except LibraryError as error:
        typer.echo(f"The scores could not be stored in the library: {error}", err=True)


def _write(engine: "Engine", measured: "Measurement", out: Path) -> list[str]:
    """Write all result files, each atomically."""
    import json

    from dnd_engine.charts import svg_file
    from dnd_engine.measure.picture import race_charts

    values = measured.to_json()
    texts = (
        json.dumps(values, indent=1, ensure_ascii=False) + "\n",
        measured.markdown(),
        measured.items_csv(),
        svg_file(race_charts(measured), "Score over the time it takes to get there"),
    )
    try:
        for name, text in zip(_FILES, texts, strict=True):
            write_whole(out / name, text)
    except OSError as error:
        raise MeasureError(
            f"cannot write to `{out}`: {error.strerror or error}. Free some space, or choose "
            "another folder with --out."
        ) from error
    names = [*_FILES]
    for row, lora in measured.trained.items():
        engine.save(lora, out / _LORAS[row])
        names.append(_LORAS[row])
    return [str(out / name) for name in names]
