"""Prompt files, buckets and recipes that a command names."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dnd_engine.cli.common import counted_words
from dnd_engine.config import EngineConfig
from dnd_engine.errors import BrokenItemsError, BucketError, PromptFileError
from dnd_engine.files import existing
from dnd_engine.prompts.buckets import Bucket, parse_bucket_option, with_instruction
from dnd_engine.prompts.files import PromptFile, read_prompt_file
from dnd_engine.prompts.reading import Choices

if TYPE_CHECKING:
    from dnd_engine.lora.provenance import Recipe


def read_given_recipe(path: Path, files: list[Path], config: EngineConfig) -> "Recipe":
    """Read a recipe and find its prompt files, which may have moved since."""
    from dnd_engine.lora.provenance import read_recipe

    recipe = read_recipe(path)
    if recipe.has_texts:
        return recipe
    return recipe.with_texts(recipe.find_files(files, config.limits))


def instructed(
    buckets: list[Bucket], instruction: str, consequence: str = "not imprinted"
) -> list[Bucket]:
    """Set the typed instruction on buckets that lack one, and warn of prompts that have none.

    `consequence` is what happens to those prompts.
    """
    if instruction and not any(bucket.num_without_instruction for bucket in buckets):
        raise BucketError(
            "no prompt takes --instruction: each has an instruction, a blank line and an input. "
            "Leave it out, or change the files."
        )
    found = with_instruction(buckets, instruction)
    for bucket in found:
        if bucket.weight > 0 and (bare := bucket.num_without_instruction):
            lacking = (
                f"no instruction found, so this bucket is {consequence}"
                if bare == bucket.num_prompts
                else f"{bare} of {bucket.num_prompts} prompts have no instruction and are "
                f"{consequence}"
            )
            typer.echo(f"{bucket.name}: {lacking}. Give one with --instruction.", err=True)
    return found


def prompt_paths(files: list[Path] | None, options: list[str] | None) -> list[Path]:
    """Return all prompt files that a command names."""
    named = [path for option in options or [] for path in parse_bucket_option(option)[2]]
    return [*(files or []), *named]


def read_buckets(
    files: list[Path],
    options: list[str],
    config: EngineConfig,
    choices: Choices = Choices(),  # noqa: B008  # frozen, so sharing the default is safe
) -> list[Bucket]:
    """Read all files of all buckets, and report every unreadable file in one error."""
    wanted = [("prompts", 1.0, files)] if files else []
    asked = [parse_bucket_option(option) for option in options]
    wanted += asked
    if not wanted:
        raise BucketError("no prompt files. Name some, or use --bucket NAME=WEIGHT:FILE,FILE.")
    faults: list[str] = []
    buckets = []
    for name, weight, paths in wanted:
        read: list[PromptFile] = []
        for path in paths:
            try:
                read.append(read_prompt_file(path, choices=choices, limits=config.limits))
            except BrokenItemsError as error:
                good = counted_words(error.num_good, "good prompt")
                faults.append(f"{error} Or use the {good} with --skip-broken.")
            except PromptFileError as error:
                faults.append(str(error))
        buckets.append(Bucket(name, weight, tuple(read)))
    if faults:
        listed = [path for *_, paths in asked if len(paths) > 1 for path in paths]
        if any(existing(path) is None for path in listed):
            faults.append("In --bucket, a comma separates files. Rename a file whose name has one.")
        raise PromptFileError("\n".join(faults))
    for prompt_file in (f for b in buckets for f in b.files):
        if prompt_file.doubt:
            typer.echo(f"{prompt_file.name}: {prompt_file.doubt} Used all the same.", err=True)
        for note in prompt_file.notes:
            typer.echo(f"{prompt_file.name}: {note}", err=True)
    return buckets
