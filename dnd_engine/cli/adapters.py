"""Commands that make and use adapters: generate, chat, inspect, info."""

import platform
import sys
import time
from collections.abc import Generator as Steps
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dnd_engine.checks.registry import CHECKS, inspected, words
from dnd_engine.cli.common import (
    AdapterArgument,
    BucketOption,
    Json,
    LibraryOption,
    check_apart,
    counted_words,
    engine_options,
    find_adapter,
    find_kept,
    load_engine,
    plain_errors,
    progress_bar,
    show,
)
from dnd_engine.cli.prompts import (
    instructed,
    prompt_paths,
    read_buckets,
    read_given_recipe,
)
from dnd_engine.cli.structure import inspect_files, is_foreign
from dnd_engine.config import EngineConfig, ImprintConfig, Mix, Sampling, check_strength
from dnd_engine.errors import ConfigError
from dnd_engine.files import expanded
from dnd_engine.library import Entry, Library
from dnd_engine.lora.provenance import Imprinting
from dnd_engine.progress import Progress, finish
from dnd_engine.prompts.buckets import Bucket, check_buckets, check_pool
from dnd_engine.prompts.files import PromptFile, read_prompt_file
from dnd_engine.prompts.reading import Choices
from dnd_engine.wording import size

if TYPE_CHECKING:
    from dnd_engine.checks.results import Conditioning, Inspection
    from dnd_engine.engine import Engine
    from dnd_engine.lora.adapter import Adapter
    from dnd_engine.lora.provenance import Recipe
    from dnd_engine.models.replies import ChatStep


InstructionOption = Annotated[
    str, typer.Option(help="Instruction to prepend to prompts that have none.")
]

_NO_PROOF = "\nProof: needs at least two short prompts with a blank line before the input."
_NEAREST = 5
"""Number of training tasks to name, as provenance does."""

_SAME = {
    None: "",
    True: ", as the recipe says",
    False: ", which differs from the recipe: another device or version rounds differently",
}
"""Message about the digest of an adapter that was made from a recipe."""

_DEFAULT_OPTIONS = {"mix": "pool", "strength": 1.0, "seed": 0, "imprinted": True}
"""Defaults of `generate` for the options of `Engine.make`."""


@plain_errors
@engine_options
def generate(
    config: EngineConfig,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Prompt files of one bucket; with --recipe, where to look for its files."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A .zip or folder to write. Default: adapter.zip, unless you keep it."),
    ] = None,
    bucket: BucketOption = None,
    instruction: InstructionOption = "",
    column: Annotated[
        str | None, typer.Option(help="Column or key of the prompts in tables and JSON.")
    ] = None,
    instruction_column: Annotated[
        str | None, typer.Option(help="Column or key to put above each prompt.")
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column or key of the labels, for refining later.")
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out what cannot be read of a file.")
    ] = False,
    mix: Annotated[
        Mix,
        typer.Option(
            help="How several buckets become one adapter without imprint, which fits them "
            "together: pool or sum."
        ),
    ] = "pool",
    strength: Annotated[float, typer.Option(help="Factor by which to scale the adapter.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed for sampling prompts.")] = 0,
    imprint: Annotated[
        bool, typer.Option(help="Imprint the instruction of the prompts in closed form.")
    ] = True,
    prove: Annotated[
        bool,
        typer.Option(help="Compare with adapters made from another task's prompts; takes seconds."),
    ] = False,
    recipe: Annotated[
        Path | None, typer.Option(help="Recreate an adapter from this recipe.")
    ] = None,
    save_recipe: Annotated[
        Path | None, typer.Option(help="Write a recipe to recreate the adapter, as JSON.")
    ] = None,
    include_texts: Annotated[
        bool, typer.Option("--include-texts", help="Store prompt texts in the recipe and library.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Store the adapter in the library.")] = False,
    name: Annotated[str | None, typer.Option(help="Name in the library; implies --keep.")] = None,
    library: LibraryOption = None,
    as_json: Json = False,
) -> None:
    """Make an adapter from unlabeled prompt files."""
    # What can be refused is refused here, before models load.
    check_strength(strength)
    ImprintConfig(seed=seed)
    outputs = _Outputs.checked(
        out=out,
        save_recipe=save_recipe,
        library=library,
        keep=keep or name is not None,
        name=name,
        include_texts=include_texts,
        inputs=[*prompt_paths(files, bucket), *([recipe] if recipe else [])],
    )
    choices = Choices(
        text=column, instruction=instruction_column, label=label_column, skip_broken=skip_broken
    )
    options = {"mix": mix, "strength": strength, "seed": seed, "imprinted": imprint}
    if recipe is None:
        read = read_buckets(files or [], bucket or [], config, choices)
        source = _Source(instructed(read, instruction), options)
    # Compared with the defaults, because the values alone do not tell which options were typed.
    elif bucket or instruction or choices != Choices() or options != _DEFAULT_OPTIONS:
        raise typer.BadParameter("the --recipe already sets buckets, mix, strength and the rest.")
    else:
        wanted = read_given_recipe(recipe, files or [], config)
        if prove and wanted.refinements:
            raise typer.BadParameter("--prove needs an adapter that was not trained further.")
        source = _Source.of(wanted)
    counting = check_buckets(source.buckets, config.limits)
    if source.is_pooled(config):
        check_pool(counting)
    started = time.monotonic()
    engine = load_engine(config)
    load_seconds = time.monotonic() - started
    with progress_bar() as show_progress:
        adapter = finish(source.make(engine), show_progress)
        show_progress(Progress("check", None, 0.0, "run_checks"))
        found = engine.inspect(adapter, counting)
        proof = finish(engine.prove(adapter, source.buckets), show_progress) if prove else None
    # Before anything is written: the results go on the adapter's card.
    adapter = engine.with_checks(adapter, found, proof)
    started = time.monotonic()
    entry = outputs.write(engine, adapter, source)
    seconds = _seconds(adapter, load_seconds, time.monotonic() - started)
    same = source.matches(adapter)
    if as_json:  # the text says so itself
        for why in adapter.skipped_buckets:
            typer.echo(why, err=True)
    show(
        {
            "adapter": outputs.out and str(outputs.out),
            "kept_as": entry and entry.name,
            "sha256": adapter.sha256,
            "matches_recipe": same,
            "base": engine.info.base_id,
            "generator": engine.info.generator_id,
            "num_prompts": adapter.num_prompts,
            "seconds": {name: round(value, 4) for name, value in seconds.items()},
            "nearest_tasks": [asdict(task) for task in adapter.nearest_tasks],
            **_checks_json(found, proof),
            "imprint": adapter.provenance.get("imprint"),
            "not_imprinted": adapter.not_imprinted or None,
            "skipped_buckets": [
                {"name": why.values["bucket"], "reason": why} for why in adapter.skipped_buckets
            ],
            "r": adapter.r,
            "num_parameters": adapter.num_parameters,
            "kept_energy": adapter.kept_energy,
        },
        as_json,
        f"{outputs.places(entry)}: {_made_words(adapter, load_seconds)} "
        f"SHA-256 {adapter.sha256[:12]}{_SAME[same]}."
        + "".join(f"\n{sentence}" for sentence in words(found, proof))
        + (_NO_PROOF if prove and proof is None else ""),
    )


@dataclass(frozen=True, slots=True)
class _Source:
    """What an adapter is made from: buckets and options, or a recipe."""

    buckets: list[Bucket]
    options: dict[str, Any]
    """Arguments of `Engine.make`; empty for a recipe, which has its own."""
    recipe: "Recipe | None" = None

    @classmethod
    def of(cls, recipe: "Recipe") -> "_Source":
        """Take the buckets of a recipe."""
        return cls([source.bucket() for source in recipe.buckets], {}, recipe)

    def is_pooled(self, config: EngineConfig) -> bool:
        """Return whether a generator will read all buckets as one condition."""
        from dnd_engine.generator.installed import generator_path

        if self.recipe is not None:
            return self.recipe.mix == "pool" and self.recipe.generator is not None
        return self.options["mix"] == "pool" and generator_path(config) is not None

    def make(self, engine: "Engine") -> "Steps[Progress, None, Adapter]":
        """Make the adapter."""
        if self.recipe is None:
            return engine.make(self.buckets, **self.options)
        return engine.regenerate(self.recipe)

    def matches(self, adapter: "Adapter") -> bool | None:
        """Return whether the adapter is the recipe's; None if there is nothing to compare with."""
        if self.recipe is None or self.recipe.sha256 is None:
            return None
        return self.recipe.sha256 == adapter.sha256

    def files(self) -> list[PromptFile]:
        """Return all prompt files, possibly repeated."""
        files = [file for bucket in self.buckets for file in bucket.files]
        # The adapter may have been refined on other prompts than those it was made from.
        return files + [source.file() for source in (self.recipe.sources() if self.recipe else ())]


@dataclass(frozen=True, slots=True)
class _Outputs:
    """Where an adapter and its recipe are written."""

    out: Path | None
    save_recipe: Path | None
    shelf: Library | None
    """The library, if the adapter is kept."""
    name: str | None
    """Name in the library; None uses the adapter's own."""
    include_texts: bool
    """Whether recipe and library get the prompt texts."""

    @classmethod
    def checked(
        cls,
        *,
        out: Path | None,
        save_recipe: Path | None,
        library: Path | None,
        keep: bool,
        name: str | None,
        include_texts: bool,
        inputs: Sequence[Path],
    ) -> "_Outputs":
        """Refuse what cannot be written, or would replace an input."""
        from dnd_engine.export.place import check_place
        from dnd_engine.export.registry import export_target
        from dnd_engine.lora.provenance import check_recipe_place

        if include_texts and not keep and save_recipe is None:
            raise typer.BadParameter(
                "--include-texts needs --save-recipe or --keep to store them in."
            )
        if out is None and not keep:
            out = Path("adapter.zip")
        if out is not None:
            check_place(out, export_target("peft"))
        if save_recipe is not None:
            check_recipe_place(save_recipe)
        check_apart({"out": out, "save-recipe": save_recipe}, inputs)
        shelf = _shelf(library, name) if keep else None
        return cls(out, save_recipe, shelf, name, include_texts)

    def write(self, engine: "Engine", adapter: "Adapter", source: _Source) -> Entry | None:
        """Write the adapter and its recipe, and return its entry in the library if kept."""
        if self.out is None:
            # `save` verifies too, but the library only stores.
            engine.verify(adapter, adapter.files())
        else:
            engine.save(adapter, self.out)
        texts = source.files() if self.include_texts else []
        if self.save_recipe is not None:
            recipe = adapter.recipe.with_texts(texts) if texts else adapter.recipe
            recipe.save(self.save_recipe)
        return None if self.shelf is None else self.shelf.add(adapter, self.name, texts=texts)

    def places(self, entry: Entry | None) -> str:
        """Say where the adapter is."""
        kept = f"`{entry.name}` of the library" if entry else ""
        return " and ".join(filter(None, (str(self.out or ""), kept)))


def _seconds(adapter: "Adapter", loading: float, writing: float) -> dict[str, float]:
    """Return how long each part of a command took."""
    stages = ("encode", "decode", "imprint")
    made = {stage: adapter.seconds[stage] for stage in stages if stage in adapter.seconds}
    return {"load": loading, **made, "write": writing}


def _made_words(adapter: "Adapter", load_seconds: float) -> str:
    """Say how large the adapter is, and how it was made."""
    return (
        f"rank {adapter.r}, {size(adapter.num_bytes)}, from {adapter.num_prompts} "
        f"prompts in {adapter.seconds['total']:.2f} s (loading took "
        f"{load_seconds:.1f} s).{_imprint_words(adapter)}"
    )


def _checks_json(found: "Inspection", proof: "Conditioning | None" = None) -> dict[str, Any]:
    """Return the result of every check by name; null where it did not apply."""
    return {**dict.fromkeys(CHECKS), **inspected(found, proof)}


def _imprint_words(adapter: "Adapter") -> str:
    """Say whether the instructions were imprinted, and from how many prompts."""
    if adapter.not_imprinted:
        return f" Not imprinted: {adapter.not_imprinted}"
    if (found := adapter.provenance.get("imprint")) is None:
        return ""
    imprinting = Imprinting.from_json(found)
    alone = "" if "generator" in adapter.provenance else " without a generator"
    return (
        f" Imprinted{alone} in {adapter.seconds.get('imprint', 0):.1f} s: "
        f"{counted_words(imprinting.num_answers, 'different answer')} to "
        f"{counted_words(imprinting.num_prompts, 'prompt')}."
        + "".join(f" {why}" for why in adapter.skipped_buckets)
    )


@plain_errors
@engine_options
def chat(
    config: EngineConfig,
    prompt: Annotated[str, typer.Argument(help="Message to both models; - reads it from stdin.")],
    adapter: Annotated[
        str | None, typer.Option(help="PEFT folder or zip, or a name in the library.")
    ] = None,
    base_only: Annotated[bool, typer.Option(help="Ask only the base.")] = False,
    system: Annotated[
        str | None, typer.Option(help="System prompt; default: that of the base.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Maximum length of an answer.")] = 128,
    temperature: Annotated[float, typer.Option(help="0 means greedy decoding.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Sampling seed, shared by both models.")] = 0,
    library: LibraryOption = None,
    as_json: Json = False,
) -> None:
    """Show the answers of the base and the adapted model side by side."""
    if adapter is None and not base_only:
        raise typer.BadParameter("name an --adapter, or choose --base-only.")
    if adapter is not None and base_only:
        raise typer.BadParameter("--base-only asks no --adapter: leave out one of them.")
    read = None if adapter is None else find_adapter(adapter, library)
    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    text = _typed() if prompt == "-" else prompt
    engine = load_engine(config)
    active = None if read is None else read(engine)
    messages = [{"role": "user", "content": text}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    steps = engine.chat(messages, adapter=active, sampling=sampling)
    if sys.stdout.isatty() and not as_json:
        _show_growing(steps)
        return
    # Each step has the answers so far, so the last one has them whole.
    *_, step = steps
    adapted = step.adapted
    show(
        {
            "base": asdict(step.base),
            "adapted": None if adapted is None else asdict(adapted),
            "adapter_sha256": None if active is None else active.sha256,
        },
        as_json,
        _answers(step),
    )


def _shelf(library: Path | None, name: str | None) -> Library:
    """Return the library, once it is known that it can keep an adapter."""
    shelf = Library(library)
    shelf.check_place()
    if name is not None:
        shelf.check_free(name)
    return shelf


def _typed() -> str:
    """Return what comes on standard input, which must be text."""
    try:
        text = sys.stdin.buffer.read().decode() if sys.stdin is not None else ""
    except UnicodeDecodeError as error:
        raise typer.BadParameter("standard input is not UTF-8.") from error
    if not text.strip():
        raise typer.BadParameter("standard input has no message.")
    return text


def _answers(step: "ChatStep") -> str:
    adapted = "" if step.adapted is None else f"\n\nAdapted:\n{step.adapted.text}"
    return f"Base:\n{step.base.text}{adapted}"


def _show_growing(steps: Iterable["ChatStep"]) -> None:
    """Print the answers while they grow: first the base's, then the other from where it is."""
    shown = words = ""
    for step in steps:
        words = _answers(step if step.base.finished else replace(step, adapted=None))
        # A tokenizer may still change the end of a text. What is printed stays, so wait.
        if words.startswith(shown):
            typer.echo(words[len(shown) :], nl=False)
            shown = words
    typer.echo()
    if words != shown:  # it changed more than the end
        typer.echo(words)


@plain_errors
@engine_options
def inspect(
    config: EngineConfig,
    adapter: AdapterArgument,
    prompts: Annotated[
        Path | None, typer.Option(help="Prompt file to measure the effect on.")
    ] = None,
    instruction: InstructionOption = "",
    files: Annotated[
        bool,
        typer.Option(
            "--files", help="Check the files alone; no model is loaded, any base will do."
        ),
    ] = False,
    library: LibraryOption = None,
    as_json: Json = False,
) -> None:
    """Inspect an adapter: effect on the base, size by layer, origin.

    An adapter of another base is checked by its files: keys, shapes, and what silently does
    nothing, with exit code 1 if anything does.
    """
    if instruction and prompts is None:
        raise typer.BadParameter("--instruction goes above the prompts of --prompts: name a file.")
    file = None if prompts is None else read_prompt_file(prompts)
    measured_on = [] if file is None else [Bucket("prompts", 1.0, (file,))]
    measured_on = instructed(measured_on, instruction, "left out of the verdict")
    kept = find_kept(adapter, library)
    place = expanded(adapter) if kept is None else kept[0].path(kept[1])
    # Before `find_adapter`, whose reader refuses adapters of other bases.
    if files or is_foreign(place, config.base):
        if measured_on:
            raise ConfigError(
                f"`{adapter}` is checked by its files alone, so nothing can be measured on "
                f"`{prompts}`. Leave out --prompts, or name the adapter's base with --base."
            )
        return inspect_files(place, config.base, as_json)
    find = find_adapter(adapter, library)
    engine = load_engine(config)
    read = find(engine)
    if measured_on and engine.info.has_generator:
        # Those on file are of the prompts that it was made from.
        read = replace(
            read,
            nearest_tasks=engine.rank_tasks(measured_on)[:_NEAREST],
            num_prompts=measured_on[0].num_prompts,
        )
    found = engine.inspect(read, measured_on)
    nearest = [asdict(task) for task in read.nearest_tasks]
    # One mean for each module, over its layers.
    means = {name: sum(v) / len(v) for name, v in found.relative_norms.items()}
    show(
        {
            "adapter": str(adapter),
            "sha256": read.sha256,
            "r": read.r,
            "num_parameters": read.num_parameters,
            "num_prompts": found.num_prompts,
            **_checks_json(found),
            "relative_norms": found.relative_norms,
            "nearest_tasks": nearest or read.provenance.get("nearest_tasks", []),
            "provenance": read.provenance,
        },
        as_json,
        "\n".join(
            [
                f"{adapter}: rank {read.r}, {read.num_parameters:,} parameters, SHA-256 "
                f"{read.sha256[:12]}",
                *([] if found.num_prompts else ["Effect: not measured (no --prompts)"]),
                *words(found),
                *(["Training tasks nearest to the prompts (cosine):"] if nearest else []),
                *(f"  {task.slug} {task.similarity:.2f}" for task in read.nearest_tasks),
                "Mean relative weight change:",
                *(f"  {name:10} {value:.2%}" for name, value in means.items()),
            ]
        ),
    )


@plain_errors
@engine_options
def info(config: EngineConfig, as_json: Json = False) -> None:
    """Show versions, device, caches and loaded models."""
    engine = load_engine(config)
    known = engine.info
    packages = ("drag-and-drop-llms", "torch", "transformers", "peft", "gradio")
    versions = {"python": platform.python_version(), **{p: version(p) for p in packages}}
    parts: dict[str, tuple[str | None, str, str | None]] = {
        "base": (known.base_id, known.base_path, known.base_sha256),
        "encoder": (known.encoder_id, known.encoder_path, known.encoder_sha256),
    }
    if known.has_generator:
        path = str(known.generator_path)
        parts["generator"] = (known.generator_id, path, known.generator_sha256)
        if known.teacher_sha256:
            file = str(engine.generator.teacher_path)
            parts["teacher"] = (f"of {known.generator_id}", file, known.teacher_sha256)
    show(
        {
            "versions": versions,
            "device": known.device,
            # The key is in the JSON even if there is none.
            "generator": None,
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
                *([] if known.has_generator else ["generator: none, adapters are imprinted alone"]),
            ]
        ),
    )
