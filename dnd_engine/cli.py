"""`dnd`, the command line: everything the app does, and the pipeline behind it.

Human output by default, one JSON object on stdout with --json; progress goes to stderr. Exit code
0, or 1 for a failure with a message, or 2 for wrong usage. Heavy modules load inside the commands,
so that `dnd --help` answers at once.
"""

import json
import platform
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import wraps
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

from dnd_engine.buckets import Bucket, check_buckets, draw_prompt_batch, parse_bucket_option
from dnd_engine.config import EFFECT_PROMPTS, MIXES, EngineConfig, Mix, Sampling
from dnd_engine.errors import BucketError, ConfigError, DndError, PromptFileError
from dnd_engine.prompts import PromptFile, read_prompt_file

if TYPE_CHECKING:
    from dnd_engine.engine import Engine, Progress

__all__ = ["app", "main"]

app = typer.Typer(
    name="dnd",
    help="Drop unlabeled prompts, get a LoRA adapter for a frozen language model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
tasks_app = typer.Typer(help="List and check task folders.", no_args_is_help=True)
app.add_typer(tasks_app, name="tasks")

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_BASE = EngineConfig().base

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
BaseOption = Annotated[str, typer.Option(help="Base model: embedded name, Hub id or folder.")]
GeneratorOption = Annotated[
    Path | None, typer.Option(help="Generator folder; default: the one shipped for the base.")
]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda or mps; default: the best.")]
CacheOption = Annotated[Path | None, typer.Option(help="Where converted weights are kept.")]


def _plain_errors(command: Callable[P, T]) -> Callable[P, T]:
    """Turn a `DndError` into its message and exit code 1; anything else is a bug and shows."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except DndError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(1) from error

    return wrapped


@app.command()
@_plain_errors
def generate(
    files: Annotated[list[Path] | None, typer.Argument(help="Prompt files of one bucket.")] = None,
    out: Annotated[Path, typer.Option(help="Adapter to write: a .zip, or a folder.")] = Path(
        "adapter.zip"
    ),
    bucket: Annotated[
        list[str] | None, typer.Option(help="NAME=WEIGHT:FILE,FILE; may be repeated.")
    ] = None,
    mix: Annotated[str, typer.Option(help="pool or sum.")] = "pool",
    strength: Annotated[float, typer.Option(help="Factor on the adapter.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the draw of prompts.")] = 0,
    base: BaseOption = DEFAULT_BASE,
    generator: GeneratorOption = None,
    device: DeviceOption = None,
    cache_dir: CacheOption = None,
    as_json: Json = False,
) -> None:
    """Make an adapter from unlabeled prompt files."""
    config = EngineConfig(base=base, generator=generator, device=device, cache_dir=cache_dir)
    chosen_mix = _mix(mix)
    buckets = _read_buckets(files or [], bucket or [], config)
    counting = check_buckets(buckets, config.limits)
    started = time.monotonic()
    engine = _load(config)
    load_seconds = time.monotonic() - started
    adapter = engine.generate(buckets, mix=chosen_mix, strength=strength, seed=seed)
    started = time.monotonic()
    path = engine.save(adapter, out)
    write_seconds = time.monotonic() - started
    inspection = engine.inspect(adapter, _effect_prompts(counting, seed))
    seconds = {
        "load": load_seconds,
        "encode": adapter.seconds["encode"],
        "decode": adapter.seconds["decode"],
        "write": write_seconds,
    }
    _show(
        {
            "adapter": str(path),
            "sha256": adapter.sha256,
            "num_prompts": adapter.num_prompts,
            "seconds": {name: round(value, 4) for name, value in seconds.items()},
            "effect": inspection.effect,
            "nearest_tasks": [asdict(task) for task in adapter.nearest_tasks],
            "r": adapter.r,
            "num_parameters": adapter.num_parameters,
            "kept_energy": adapter.kept_energy,
        },
        as_json,
        f"{path}: rank {adapter.r}, {adapter.num_bytes / 1e6:.1f} MB, from {adapter.num_prompts} "
        f"prompts in {seconds['encode'] + seconds['decode']:.2f} s (loading took "
        f"{load_seconds:.1f} s). Effect {inspection.effect or 0:.3f} nats. SHA-256 "
        f"{adapter.sha256[:12]}.",
    )


@app.command()
@_plain_errors
def chat(
    prompt: Annotated[str, typer.Argument(help="Message to both models; - reads stdin.")],
    adapter: Annotated[Path | None, typer.Option(help="PEFT folder or zip.")] = None,
    base_only: Annotated[bool, typer.Option(help="Ask the base alone.")] = False,
    system: Annotated[str | None, typer.Option(help="System prompt; default: the base's.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Answer length, at most.")] = 128,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the sampling, the same for both.")] = 0,
    base: BaseOption = DEFAULT_BASE,
    generator: GeneratorOption = None,
    device: DeviceOption = None,
    cache_dir: CacheOption = None,
    as_json: Json = False,
) -> None:
    """Answer as the base and as the adapted model, side by side."""
    if adapter is None and not base_only:
        raise typer.BadParameter("name an --adapter, or choose --base-only.")
    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    engine = _load(EngineConfig(base=base, generator=generator, device=device, cache_dir=cache_dir))
    worn = None if adapter is None or base_only else engine.read_adapter(adapter)
    text = sys.stdin.read() if prompt == "-" else prompt
    messages = [{"role": "user", "content": text}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    *_, step = engine.chat(messages, adapter=worn, sampling=sampling)
    adapted = step.adapted
    _show(
        {
            "base": asdict(step.base),
            "adapted": None if adapted is None else asdict(adapted),
            "adapter_sha256": None if worn is None else worn.sha256,
        },
        as_json,
        f"Base:\n{step.base.text}"
        + (f"\n\nAdapted:\n{adapted.text}" if adapted is not None else ""),
    )


@app.command()
@_plain_errors
def inspect(
    adapter: Annotated[Path, typer.Argument(help="PEFT folder or zip.")],
    prompts: Annotated[Path | None, typer.Option(help="Prompt file to measure on.")] = None,
    base: BaseOption = DEFAULT_BASE,
    generator: GeneratorOption = None,
    device: DeviceOption = None,
    cache_dir: CacheOption = None,
    as_json: Json = False,
) -> None:
    """Measure an adapter: effect on the base, size by layer, origin."""
    config = EngineConfig(base=base, generator=generator, device=device, cache_dir=cache_dir)
    file = None if prompts is None else read_prompt_file(prompts)
    texts = [] if file is None else _effect_prompts([Bucket("prompts", 1.0, (file,))], seed=0)
    engine = _load(config)
    read = engine.read_adapter(adapter)
    found = engine.inspect(read, texts)
    means = {name: sum(v) / len(v) for name, v in found.relative_norms.items()}
    effect = "not measured (no --prompts)" if found.effect is None else f"{found.effect:.4f} nats"
    _show(
        {
            "adapter": str(adapter),
            "sha256": read.sha256,
            "r": read.r,
            "num_parameters": read.num_parameters,
            "effect": found.effect,
            "num_prompts": found.num_prompts,
            "relative_norms": found.relative_norms,
            "nearest_tasks": read.provenance.get("nearest_tasks", []),
            "provenance": read.provenance,
        },
        as_json,
        "\n".join(
            [
                f"{adapter}: rank {read.r}, {read.num_parameters:,} parameters, SHA-256 "
                f"{read.sha256[:12]}",
                f"Effect: {effect}",
                "Mean relative weight change:",
                *(f"  {name:10} {value:.2%}" for name, value in means.items()),
            ]
        ),
    )


@app.command()
@_plain_errors
def train(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe; flags override it.")],
    tasks: Annotated[Path | None, typer.Option(help="Task folder.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder.")] = None,
    kind: Annotated[str | None, typer.Option(help="generator or multi_task_lora.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    as_json: Json = False,
) -> None:
    """Train a generator, or the multi-task LoRA it must beat."""
    from dnd_engine.training.recipe import TrainRecipe
    from dnd_engine.training.trainer import train as run

    overrides = {"tasks": tasks, "out": out, "kind": kind}
    overrides |= {"steps": steps, "seed": seed, "threads": threads}  # type: ignore[dict-item]
    result = run(TrainRecipe.read(recipe, **overrides), resume=resume)
    _show(
        {**asdict(result), "generator": str(result.generator)},
        as_json,
        f"{result.generator}: {result.steps} steps. Validation loss {result.validation_loss:.3f} "
        f"with the right prompts, {result.validation_loss_wrong_prompts:.3f} with another task's.",
    )


@app.command()
@_plain_errors
def evaluate(
    tasks: Annotated[Path, typer.Option(help="Task folder.")],
    out: Annotated[Path, typer.Option(help="Report folder; a second call continues in it.")],
    generator: GeneratorOption = None,
    split: Annotated[str, typer.Option(help="train or heldout.")] = "heldout",
    rows: Annotated[str | None, typer.Option(help="Comma-separated; default: all.")] = None,
    modes: Annotated[str, typer.Option(help="full, bare, or both with a comma.")] = "full,bare",
    multi_task_lora: Annotated[
        Path | None, typer.Option(help="Its folder, for the row of that name.")
    ] = None,
    limit_tasks: Annotated[int | None, typer.Option(help="Tasks, drawn by seed.")] = None,
    limit_items: Annotated[int, typer.Option(help="Test items per task.")] = 10,
    seed: Annotated[int, typer.Option(help="Of items, conditions and intervals.")] = 0,
    card: Annotated[
        bool, typer.Option("--card", help="Also write the result into the generator's card.")
    ] = False,
    base: BaseOption = DEFAULT_BASE,
    device: DeviceOption = None,
    as_json: Json = False,
) -> None:
    """Examine a generator on new items: against its base, its controls, and wrong prompts."""
    from dnd_engine.card import update_card
    from dnd_engine.evaluation.examine import ROWS, ExaminationConfig, examine, report_markdown
    from dnd_engine.training.tasks import SPLITS, load_tasks

    if split not in SPLITS:
        raise ConfigError(f"`split` must be {' or '.join(SPLITS)}, got {split!r}.")
    config = ExaminationConfig(
        out=out,
        rows=ROWS if rows is None else tuple(rows.split(",")),
        modes=tuple(modes.split(",")),  # type: ignore[arg-type]  # checked by the config
        split=split,
        multi_task_lora=multi_task_lora,
        limit_tasks=limit_tasks,
        limit_items=limit_items,
        seed=seed,
    )
    engine = _load(EngineConfig(base=base, generator=generator, device=device))
    chosen = load_tasks(tasks, split=split)
    if split == "train":
        # Only tasks the generator was trained on are "seen"; the rest of the split was left out.
        known = {row["task"] for row in engine.training_data}
        chosen = tuple(task for task in chosen if task.info.slug in known)
    report = examine(engine, chosen, config, command=shlex.join(["dnd", *_arguments()]))
    if card:
        update_card(engine.info.generator_path, split, report_markdown(report))
    _show(report, as_json, report_markdown(report))


@tasks_app.command("list")
@_plain_errors
def list_tasks(
    folder: Annotated[Path, typer.Argument(help="Holds tasks.csv and tasks/.")],
    as_json: Json = False,
) -> None:
    """List the tasks of a folder."""
    from dnd_engine.training.tasks import read_index

    index = read_index(folder)
    _show(
        {"tasks": [asdict(info) for info in index]},
        as_json,
        "\n".join(f"{i.slug:36} {i.split:8} {i.metric:7} {i.family:24} {i.licence}" for i in index),
    )


@tasks_app.command("check")
@_plain_errors
def check_tasks(
    folder: Annotated[Path, typer.Argument(help="Holds tasks.csv and tasks/.")],
    as_json: Json = False,
) -> None:
    """Check schema, sizes and labels; exit code 1 if a task has a defect."""
    from dnd_engine.training.tasks import audit_task, load_tasks

    found = load_tasks(folder)
    faults = {task.info.slug: audit_task(task) for task in found}
    faults = {slug: words for slug, words in faults.items() if words}
    lines = [f"{slug}: {word}" for slug, words in faults.items() for word in words]
    _show(
        {
            "num_tasks": len(found),
            "num_train": sum(len(task.train) for task in found),
            "num_test": sum(len(task.test) for task in found),
            "faults": faults,
        },
        as_json,
        "\n".join([f"{len(found)} tasks, {len(faults)} with defects.", *lines]),
    )
    if faults:
        raise typer.Exit(1)


@app.command()
@_plain_errors
def info(
    base: BaseOption = DEFAULT_BASE,
    generator: GeneratorOption = None,
    device: DeviceOption = None,
    cache_dir: CacheOption = None,
    as_json: Json = False,
) -> None:
    """Show versions, device, caches and what is loaded."""
    engine = _load(EngineConfig(base=base, generator=generator, device=device, cache_dir=cache_dir))
    known = engine.info
    packages = ("drag-and-drop-llms", "torch", "transformers", "peft", "gradio")
    versions = {"python": platform.python_version(), **{p: version(p) for p in packages}}
    parts = {
        "base": (known.base_id, known.base_path, known.base_sha256),
        "encoder": (known.encoder_id, known.encoder_path, known.encoder_sha256),
        "generator": (known.generator_id, str(known.generator_path), known.generator_sha256),
    }
    _show(
        {
            "versions": versions,
            "device": known.device,
            **{
                part: {"id": name, "path": path, "sha256": digest}
                for part, (name, path, digest) in parts.items()
            },
            "seconds": known.seconds,
        },
        as_json,
        "\n".join(
            [
                ", ".join(f"{name} {number}" for name, number in versions.items()),
                f"device: {known.device}",
                *(
                    f"{part}: {name}\n  {path}\n  SHA-256 {digest}"
                    for part, (name, path, digest) in parts.items()
                ),
            ]
        ),
    )


def main() -> None:
    """Entry point: the commands above, and those that other packages of this project add."""
    for command in entry_points(group="dnd.commands"):
        # Loading one may import a whole web framework: only when it, or all help, is asked for.
        if len(sys.argv) < 2 or sys.argv[1] in (command.name, "--help"):
            app.command(name=command.name)(_plain_errors(command.load()))
    app()


def _read_buckets(files: list[Path], options: list[str], config: EngineConfig) -> list[Bucket]:
    """Read every file of every bucket, and report all unreadable ones together."""
    wanted = [("prompts", 1.0, files)] if files else []
    wanted += [parse_bucket_option(option) for option in options]
    if not wanted:
        raise BucketError("no prompt files. Name some, or use --bucket NAME=WEIGHT:FILE,FILE.")
    faults: list[str] = []
    buckets = []
    for name, weight, paths in wanted:
        read: list[PromptFile] = []
        for path in paths:
            try:
                read.append(read_prompt_file(path, limits=config.limits))
            except PromptFileError as error:
                faults.append(str(error))
        buckets.append(Bucket(name, weight, tuple(read)))
    if faults:
        raise PromptFileError("\n".join(faults))
    for prompt_file in (f for b in buckets for f in b.files):
        for note in prompt_file.notes:
            typer.echo(f"{prompt_file.name}: {note}", err=True)
    return buckets


def _effect_prompts(buckets: Sequence[Bucket], seed: int) -> list[str]:
    """Prompts of every bucket alike: weights may be negative, shares may not."""
    equal = [Bucket(b.name, 1.0, b.files) for b in buckets]
    return [p.text for p in draw_prompt_batch(equal, EFFECT_PROMPTS, seed)]


def _load(config: EngineConfig) -> "Engine":
    from transformers.utils import logging as transformers_logging

    from dnd_engine.engine import Engine

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    shown: set[str] = set()

    def report(progress: "Progress") -> None:
        if progress.fraction is not None and progress.stage == "download":
            typer.echo(f"\r{progress.detail} {progress.fraction:4.0%}", err=True, nl=False)
        elif progress.detail not in shown:
            shown.add(progress.detail)
            typer.echo(f"\r{progress.detail}", err=True)

    return Engine.load(config, on_progress=report)


def _mix(value: str) -> Mix:
    for mix in MIXES:
        if value == mix:
            return mix
    raise ConfigError(f"`mix` must be {' or '.join(MIXES)}, got {value!r}.")


def _show(values: dict[str, Any], as_json: bool, words: str) -> None:
    typer.echo(json.dumps(values, default=str) if as_json else words)


def _arguments() -> list[str]:
    """The command as typed, paths cut to their last part: reports leave this machine."""
    return [re.sub(r"[^\s=]*/(?=[^/\s])", "", a.rstrip("/")) for a in sys.argv[1:]]


if __name__ == "__main__":
    main()
