"""`dnd refine` trains an adapter on its prompts; `dnd propose` writes answers to correct."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dnd_engine.cli.common import (
    BucketOption,
    Json,
    LibraryOption,
    check_apart,
    engine_options,
    find_adapter,
    load_engine,
    plain_errors,
    progress_bar,
    show,
    write_text,
)
from dnd_engine.cli.prompts import prompt_paths, read_buckets
from dnd_engine.config import EngineConfig, RefineConfig
from dnd_engine.errors import ConfigError
from dnd_engine.files import existing, obstacle
from dnd_engine.lora.changes import taught_alike
from dnd_engine.progress import finish
from dnd_engine.teach.endpoint import Endpoint
from dnd_engine.teach.local import BetterModel, LocalTeacher

PromptFiles = Annotated[
    list[Path] | None,
    typer.Argument(help="Prompt files; each prompt is an instruction, a blank line and an input."),
]

_DEFAULT = RefineConfig()


@plain_errors
@engine_options
def refine(
    config: EngineConfig,
    adapter: Annotated[
        str,
        typer.Argument(help="Adapter to start from: PEFT folder or zip, or a name in the library."),
    ],
    files: PromptFiles = None,
    out: Annotated[Path, typer.Option(help="A .zip or folder to write.")] = Path("refined.zip"),
    bucket: BucketOption = None,
    steps: Annotated[int, typer.Option(help="Training steps.")] = _DEFAULT.steps,
    learning_rate: Annotated[
        float, typer.Option(help="Learning rate of AdamW.")
    ] = _DEFAULT.learning_rate,
    labels: Annotated[
        bool,
        typer.Option(
            "--labels",
            help="Train on the label column instead of the teacher's answers. Prompts then need no "
            "instruction.",
        ),
    ] = False,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Let a better model answer: the base address of an OpenAI-compatible server.",
        ),
    ] = None,
    teacher_model: Annotated[str, typer.Option(help="Name of the model there.")] = "",
    teacher_key: Annotated[
        str,
        typer.Option(
            envvar="DND_TEACHER_KEY", show_envvar=True, help="Key of that server; stored nowhere."
        ),
    ] = "",
    teacher_base: Annotated[
        str | None,
        typer.Option(
            metavar="BASE",
            help="Let a larger base on this computer answer: Hub id, folder or GGUF file.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed for sampling and ordering prompts.")] = 0,
    library: LibraryOption = None,
    as_json: Json = False,
) -> None:
    """Train an adapter briefly on prompts of its own task."""
    from dnd_engine.export.place import check_place
    from dnd_engine.export.registry import export_target

    if labels + (teacher is not None) + (teacher_base is not None) > 1:
        raise typer.BadParameter(
            "choose one of --labels, --teacher and --teacher-base: each says who answers."
        )
    # An empty address, or a model without one, must not quietly mean the base.
    if not teacher and (teacher is not None or teacher_model):
        raise typer.BadParameter("give --teacher the address of the server that answers.")
    settings = RefineConfig(steps=steps, learning_rate=learning_rate, labels=labels, seed=seed)
    check_place(out, export_target("peft"))
    given = existing(adapter)  # None for a name of the library
    check_apart({"out": out}, [*prompt_paths(files, bucket), *([given] if given else [])])
    # A bad address or a missing base is refused before models load.
    wise: BetterModel | None = None
    if teacher:
        wise = Endpoint(url=teacher, model=teacher_model, key=teacher_key)
    elif teacher_base is not None:
        wise = LocalTeacher(base=teacher_base, cache_dir=config.cache_dir, device=config.device)
    read = find_adapter(adapter, library)
    buckets = read_buckets(files or [], bucket or [], config)
    started = time.monotonic()
    if isinstance(wise, LocalTeacher):
        wise.check()
    engine = load_engine(config)
    load_seconds = time.monotonic() - started
    start = read(engine)
    with progress_bar() as show_progress:
        made = finish(
            engine.teach(start, wise, buckets, settings)
            if wise
            else engine.refine(start, buckets, settings),
            show_progress,
        )
    started = time.monotonic()
    path = engine.save(made, out)
    step = "train" if wise else "refine"
    took = made.seconds[step] - start.seconds.get(step, 0.0)  # without earlier runs
    seconds = {"load": load_seconds, "refine": took, "write": time.monotonic() - started}
    # Muted buckets were not trained on.
    learnt_from = [b for b in buckets if b.weight > 0]
    before, after = (
        engine.inspect(adapter, learnt_from, only=("effect",)).effect for adapter in (start, made)
    )
    refined = made.provenance["trained" if wise else "refined"]
    num_prompts = refined["num_examples" if wise else "num_prompts"]
    if taught_alike(refined):
        typer.echo(
            f"The base gave the same answer to {refined['commonest_share']:.0%} of the prompts, "
            "and the adapter learnt it. If it is wrong, the base cannot do the task: use --labels, "
            "--teacher or --teacher-base.",
            err=True,
        )
    if lost := refined.get("num_lost"):
        typer.echo(
            f"The teacher's server failed on the way. Prompts without an answer: {lost}.", err=True
        )
    score, score_before = refined.get("score"), refined.get("score_before")
    show(
        {
            "adapter": str(path),
            "sha256": made.sha256,
            "from_sha256": start.sha256,
            "num_prompts": num_prompts,
            "num_held_back": refined.get("num_held_back", 0),
            "commonest_share": refined.get("commonest_share"),
            "labels": labels,
            "teacher": refined.get("teacher"),
            "seconds": {name: round(value, 4) for name, value in seconds.items()},
            "score": score,
            "score_before": score_before,
            "effect": after,
            "effect_before": before,
        },
        as_json,
        f"{path}: refined on {num_prompts} {'labelled ' if labels else ''}prompts in {took:.0f} s. "
        + _score_words(refined, labels=labels, taught=bool(wise))
        + f"Effect {before:.3f} before, {after:.3f} nats after. SHA-256 {made.sha256[:12]}.",
    )


def _score_words(refined: Mapping[str, Any], *, labels: bool, taught: bool) -> str:
    """Say what the score is a share of; nothing if no prompts were held back."""
    if refined.get("score") is None:
        return ""
    reference = "the model's own answers with it"
    if labels or taught:
        reference = "the labels" if labels else "the teacher's answers"
    return (
        f"On {refined['num_held_back']} more prompts, held back from training, the adapter without "
        f"the instruction scored {refined['score_before']:.2f} before and {refined['score']:.2f} "
        f"after, compared with {reference}. "
    )


@plain_errors
@engine_options
def propose(
    config: EngineConfig,
    files: PromptFiles = None,
    out: Annotated[Path, typer.Option(help="A .jsonl file to write.")] = Path("answers.jsonl"),
    bucket: BucketOption = None,
    limit: Annotated[int, typer.Option(help="Number of prompts to answer.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed for sampling prompts.")] = 0,
    as_json: Json = False,
) -> None:
    """Write the model's answers to a new file, for you to correct.

    The generator's teacher answers, if it has one.
    """
    if out.suffix != ".jsonl":
        # JSON Lines only: the escapes against formulas in a spreadsheet would be learnt as answers.
        raise typer.BadParameter(f"--out must end in .jsonl, got `{out.name}`.")
    # Labels may have been corrected in it by hand.
    if os.path.lexists(out):
        raise ConfigError(f"`{out}` already exists. Move it, or choose another --out.")
    if (reason := obstacle(out)) is not None:
        raise ConfigError(f"`{out}` cannot be written: {reason}. Choose another --out.")
    buckets = read_buckets(files or [], bucket or [], config)
    engine = load_engine(config)
    found = finish(engine.propose(buckets, limit=limit, seed=seed))
    rows = [{"prompt": prompt, "label": answer} for prompt, answer in found.items()]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_text(out, lines)
    show(
        {"out": str(out), "answers": rows},
        as_json,
        f"{out}: {len(rows)} prompts with the base's answers. Correct the labels, then run "
        f"`dnd refine ADAPTER {out} --labels`.",
    )
