"""Recipes: the provenance of an adapter, complete enough to recreate it.

The `provenance.json` of an adapter contains its recipe; a recipe file is that part alone. Prompt
files are identified by hash, so their names may change. Their texts are in a recipe only on
request. Knows prompts and buckets; knows no model, and imports no torch.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError

from dnd_engine.config import ImprintConfig, Mix, RefineConfig, Teacher
from dnd_engine.errors import PromptFileError, RecipeError
from dnd_engine.files import obstacle, sha256_of, write_whole
from dnd_engine.limits import FIXED, PromptLimits
from dnd_engine.notes import Note, counted, first_of, joined, noted
from dnd_engine.prompts.buckets import MAX_WEIGHT, Bucket
from dnd_engine.prompts.files import Prompt, PromptFile, read_prompt_file
from dnd_engine.prompts.reading import Choices, Split, SplitMode
from dnd_engine.prompts.words import display_name, shorten
from dnd_engine.recipe_file import checked_late, validation_words

FILES = ("adapter_config.json", "adapter_model.safetensors", "README.md", "provenance.json")
"""Files in a PEFT folder or zip of ours."""

FORMAT: Final = 1
"""Version of the recipe format. It rises when an older engine could not recreate the same
adapter."""

_MAX_NAMED = 10
"""Maximum number of missing files in a message."""

Named = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=-10, le=10)]
Weight = Annotated[float, Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT)]


@dataclass(frozen=True, slots=True)
class NearestTask:
    """A training task and the similarity of its prompts to those used."""

    slug: str
    description: str
    similarity: float
    """Cosine of mean prompt embeddings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSource:
    """A prompt file that was used, and how it was read."""

    name: str
    """Original file name; its suffix determines the format."""
    sha256: str
    """Hash of its bytes."""
    split: SplitMode
    column: str | None = None
    choices: Choices | None = None
    """Reading options that a person chose; None if none."""
    num_prompts: int
    prompts_sha256: str
    """Hash of the prompts read, labels included, to detect a change in how the file is read."""
    prompts: tuple[Prompt, ...] | None = None
    """The prompts themselves, if they were stored on request."""

    @classmethod
    def of(cls, file: PromptFile) -> "PromptSource":
        """Describe a prompt file without its texts."""
        return cls(
            name=file.name,
            sha256=file.sha256,
            split=file.split,
            column=file.column,
            choices=None if file.choices == Choices() else file.choices,
            num_prompts=len(file.prompts),
            prompts_sha256=_digest(file.prompts),
        )

    def read(self, path: Path, limits: PromptLimits) -> PromptFile:
        """Read a file with this hash in the same way as before.

        Raises:
            PromptFileError: If it can no longer be read.
        """
        # Pairs, rows and objects follow from the file's content and cannot be requested.
        split: Split = next((s for s in get_args(Split) if s == self.split), "auto")
        choices = self.choices or Choices()
        return read_prompt_file(path, name=self.name, split=split, choices=choices, limits=limits)

    def file(self) -> PromptFile:
        """Return the prompt file from the stored texts."""
        prompts = self.prompts or ()
        return PromptFile(
            name=display_name(self.name),
            prompts=prompts,
            split=self.split,
            column=self.column,
            notes=(),
            num_bytes=sum(len(prompt.text.encode()) for prompt in prompts),
            sha256=self.sha256,
            choices=self.choices or Choices(),
        )

    @property
    def words(self) -> Note:
        """Return its name, size and hash, for messages."""
        return counted(
            "`{file}` ({number} prompt, SHA-256 {sha256}…)",
            "`{file}` ({number} prompts, SHA-256 {sha256}…)",
            self.num_prompts,
            file=display_name(self.name),
            sha256=self.sha256[:12],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketSource:
    """A bucket that was used."""

    name: str
    weight: Weight
    num_prompts: int
    files: tuple[PromptSource, ...]
    instruction: str | None = None
    """Instruction typed for prompts without one; stored, because no file contains it."""
    above_all: bool = True
    """See `Bucket`; True for recipes that precede it."""

    @classmethod
    def of(cls, bucket: Bucket) -> "BucketSource":
        """Describe a bucket without the texts of its prompts."""
        return cls(
            name=bucket.name,
            weight=bucket.weight,
            num_prompts=bucket.num_prompts,
            files=tuple(map(PromptSource.of, bucket.files)),
            instruction=bucket.instruction or None,
            above_all=bucket.above_all,
        )

    def bucket(self) -> Bucket:
        """Return the bucket from the stored texts."""
        files = tuple(source.file() for source in self.files)
        return Bucket(self.name, self.weight, files, self.instruction or "", self.above_all)


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketScore:
    """Score of teaching on the prompts held back from one of several buckets."""

    bucket: str
    num_held_back: int
    score: Share | None = None
    """After the last step; None without such prompts."""


@checked_late
@dataclass(frozen=True, slots=True, kw_only=True)
class Imprinting(ImprintConfig):
    """How an instruction was imprinted, and the quality of the fit."""

    # Defaults are for recipes that precede a field: they say what those versions did, so that these
    # recipes still make the same adapter. New recipes state every field.
    trained_teacher: bool = False
    mix_first_layer_share: float = 0.4  # as for a single bucket
    own_share: float = 1.0
    max_bucket_prompts: int = 1024  # no limit
    ordinary_change: float = 1e6  # no limit
    left_out_share: float = 0.0
    teacher_sha256: str = ""
    """SHA-256 of the trained teacher; empty if it was not used."""
    left_out: tuple[str, ...] = ()
    """Digests of the left-out prompts (see `lora.seen`)."""
    teacher: Teacher = "generator"
    """Model that answered whole prompts."""
    from_sha256: str
    """SHA-256 of the generated adapter that the imprint replaced."""
    num_prompts: int
    """Number of fitted prompts."""
    num_answers: int
    """Number of distinct answers of the instructed model."""
    commonest_share: Share
    """Share of the prompts with the most common answer."""
    one_answer: tuple[str, ...] = ()
    """Buckets of a mix whose prompts nearly all got the same answer."""
    unfinished: int
    """Number of truncated answers."""
    layers: tuple[float, ...]
    """Share of the wanted change that each layer predicts for left-out prompts; 0 for an unchanged
    layer."""

    @classmethod
    def of(cls, config: ImprintConfig, **found: Any) -> "Imprinting":
        """Combine settings with results."""
        return cls(**asdict(config), **found)

    @property
    def config(self) -> ImprintConfig:
        """Return the settings alone."""
        return ImprintConfig(**{f.name: getattr(self, f.name) for f in fields(ImprintConfig)})

    @property
    def explained(self) -> float:
        """Return the share of the lowest fitted layer, where most of the change is."""
        return next((share for share in self.layers if share), 0.0)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dict(_IMPRINTING.dump_python(self, mode="json"))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Imprinting":
        """Undo `to_json`.

        Raises:
            RecipeError: With every value that is missing or wrong.
        """
        try:
            return _IMPRINTING.validate_json(json.dumps(values), strict=True)
        except ValidationError as error:
            raise RecipeError(validation_words(error)) from error


@checked_late
@dataclass(frozen=True, slots=True, kw_only=True)
class Refinement(RefineConfig):
    """How an adapter was refined, from which adapter, and on which prompts."""

    # Defaults for recipes that precede a field, as above: earlier versions trained on every prompt
    # and asked all questions first.
    held_back_share: float = 0.0
    hold_back_unfitted: bool = False
    each_bucket: bool = False
    learn_whole: bool = False
    ask_every: int = 0
    trained_teacher: bool = False
    teacher_sha256: str = ""
    """SHA-256 of the trained teacher; empty if it was not used."""
    from_sha256: str
    """SHA-256 of the adapter before refinement."""
    num_prompts: int
    """Number of prompts that were trained on."""
    score: Share | None = None
    """Score on the validation prompts after the last step; None without such prompts."""
    score_before: Share | None = None
    num_held_back: int = 0
    by_bucket: tuple[BucketScore, ...] | None = None
    """Parts of the score; None for one bucket, and in recipes that precede it."""
    commonest_share: Share | None = None
    """Share of the prompts with the most common answer; None in recipes that precede it."""
    folded: tuple[Strength, ...] = ()
    """Strengths folded into the weights before, in order."""
    buckets: tuple[BucketSource, ...] = ()

    @classmethod
    def of(cls, config: RefineConfig, **origin: Any) -> "Refinement":
        """Combine settings with the starting point."""
        return cls(**asdict(config), **origin)

    @property
    def config(self) -> RefineConfig:
        """Return the settings alone."""
        return RefineConfig(**{f.name: getattr(self, f.name) for f in fields(RefineConfig)})

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dict(_REFINEMENT.dump_python(self, mode="json", exclude_none=True))


@checked_late
@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How an adapter was made: models, prompts and operations.

    The order is: synthesis, imprint, each refinement preceded by its folded strengths, later folded
    strengths, final strength.
    """

    format: Literal[1] = FORMAT
    base: str
    base_sha256: str
    encoder: Named | None = None
    """Encoder; None, like the generator, for an adapter made by imprint alone."""
    encoder_sha256: Named | None = None
    generator: Named | None = None
    generator_sha256: Named | None = None
    mix: Mix
    seed: int
    buckets: tuple[BucketSource, ...]
    imprint: Imprinting | None = None
    """None if nothing was imprinted."""
    refined: Refinement | None = None
    """The last refinement."""
    refined_before: tuple[Refinement, ...] = ()
    """Earlier refinements, in order."""
    folded: tuple[Strength, ...] = ()
    """Strengths folded in by writing and rereading files. Their product would not do, because each
    folding rounds to bfloat16."""
    strength: Strength = 1.0
    sha256: str | None = None
    """Hash of the adapter's weights, to compare with a recreated adapter."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Recipe":
        """Check the values of a recipe, or of a `provenance.json`.

        Raises:
            RecipeError: With every value that is missing or wrong.
        """
        # Before validation, which would list every field of another format as a fault.
        if values.get("format") != FORMAT:
            raise RecipeError(
                "expected a recipe of format {format}, got format {found}. Adapters of other "
                "tools have no recipe, nor have those of earlier versions.",
                format=str(FORMAT),
                found=str(values["format"]) if "format" in values else noted("none"),
            )
        # Its other fields are the recipe of what it was trained from, which would make another
        # adapter.
        if "trained" in values:
            raise RecipeError(
                noted(
                    "it was trained on answers, and a recipe makes only what came from prompts "
                    "alone. Keep the adapter itself."
                )
            )
        try:
            # Through JSON text, because only there does strict validation accept a list for a
            # tuple.
            recipe = _RECIPE.validate_json(json.dumps(values), strict=True)
        except ValidationError as error:
            raise RecipeError(validation_words(error)) from error
        if recipe.generator is None and recipe.imprint is None:
            raise RecipeError(
                noted(
                    "it names neither a generator nor an imprint, and one of them must make the "
                    "adapter. Use the recipe as it was saved."
                )
            )
        models = (recipe.encoder, recipe.encoder_sha256, recipe.generator, recipe.generator_sha256)
        if (recipe.generator or recipe.generator_sha256) and not all(models):
            raise RecipeError(
                noted(
                    "a recipe with a generator names generator and encoder, each with its SHA-256. "
                    "Use the recipe as it was saved."
                )
            )
        # A stranger's recipe must not keep the machine busy for hours.
        if len(recipe.refinements) > FIXED.max_recipe_refinements:
            raise RecipeError(
                "expected at most {most} refinements, got {found}. Keep the adapter itself.",
                most=FIXED.max_recipe_refinements,
                found=len(recipe.refinements),
            )
        folds = len(recipe.folded) + sum(len(step.folded) for step in recipe.refinements)
        if folds > FIXED.max_recipe_folds:
            raise RecipeError(
                "expected at most {most} strengths folded in, got {found}. Keep the adapter "
                "itself.",
                most=FIXED.max_recipe_folds,
                found=folds,
            )
        changed = [
            source.words
            for source in recipe.sources()
            if source.prompts is not None and _digest(source.prompts) != source.prompts_sha256
        ]
        if changed:
            raise RecipeError(
                "the texts of {files} are not those the adapter was made from. Use the recipe as "
                "it was saved.",
                files=first_of(changed, _MAX_NAMED),
            )
        return recipe

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON, in the order of the fields."""
        return dict(_RECIPE.dump_python(self, mode="json", exclude_none=True))

    @property
    def refinements(self) -> tuple[Refinement, ...]:
        """Return all refinements, in order."""
        return (*self.refined_before, self.refined) if self.refined else self.refined_before

    @property
    def has_texts(self) -> bool:
        """Return whether it contains all its prompts and needs no files."""
        return all(source.prompts is not None for source in self.sources())

    def sources(self) -> Iterator[PromptSource]:
        """Yield all prompt files, including those of refinements, possibly repeated."""
        for bucket in chain(self.buckets, *(r.buckets for r in self.refinements)):
            yield from bucket.files

    def find_files(
        self, paths: Sequence[Path], limits: PromptLimits | None = None
    ) -> tuple[PromptFile, ...]:
        """Find the recipe's prompt files by hash, under any name.

        Args:
            paths: Files, and folders to search recursively.
            limits: Limits on prompt files; larger files are skipped.

        Returns:
            Files that were found. `with_texts` reports missing ones.

        Raises:
            PromptFileError: If a path is missing, or a matching file can no longer be read.
        """
        limits = limits or PromptLimits()
        wanted = {source.sha256 for source in self.sources()}
        at: dict[str, Path] = {}
        for path in _files(paths):
            if wanted <= at.keys():
                break
            try:
                # A folder may hold files of gigabytes; one above the limit could not be read as
                # prompts anyway.
                if path.stat().st_size <= limits.max_file_bytes:
                    at.setdefault(sha256_of(path), path)
            except OSError:
                continue  # Skip unreadable files; if one was needed, it is reported as missing.
        # Two buckets may have read one file in different ways.
        readings = {
            # The name too, because its suffix determines the format.
            (source.sha256, source.split, source.choices, display_name(source.name)): source
            for source in self.sources()
            if source.sha256 in at
        }
        return tuple(s.read(at[s.sha256], limits) for s in readings.values())

    def with_texts(self, files: Iterable[PromptFile]) -> "Recipe":
        """Return the recipe with its prompts included, so that it needs no files.

        Args:
            files: Files from `find_files`, or of the buckets that the adapter was made from.

        Raises:
            RecipeError: With every prompt file that is missing or gives other prompts now.
        """
        # By prompts, not by file: a file gives other prompts if it is read in another way.
        read = {_digest(file.prompts): file.prompts for file in files}
        missing = {
            source.words: None
            for source in self.sources()
            if source.prompts is None and source.prompts_sha256 not in read
        }
        if missing:
            named = [*list(missing)[:_MAX_NAMED], *(["…"] if len(missing) > _MAX_NAMED else [])]
            raise RecipeError(
                "{number} prompt file(s) that the adapter was made from are missing, or read "
                "otherwise with these limits or this version:\n  {files}\nOn the page, drop them "
                "on the Workbench first; on the command line, name them or a folder that holds "
                "them. They may have other names now.",
                number=len(missing),
                files=joined(named, "\n  "),
            )
        return self._with_sources(
            lambda s: s if s.prompts is not None else replace(s, prompts=read[s.prompts_sha256])
        )

    def without_texts(self) -> "Recipe":
        """Return the recipe with hashes instead of texts."""
        return self._with_sources(lambda source: replace(source, prompts=None))

    def save(self, path: Path | str) -> Path:
        """Write the recipe as JSON, atomically.

        Raises:
            RecipeError: If `path` cannot be written to.
        """
        path = Path(path)
        check_recipe_place(path)
        text = json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n"
        try:
            write_whole(path, text)
        except OSError as error:
            raise RecipeError(
                f"`{path}` cannot be written: {error.strerror or error}. Choose another place."
            ) from error
        return path

    def _with_sources(self, change: Callable[[PromptSource], PromptSource]) -> "Recipe":
        def over(buckets: tuple[BucketSource, ...]) -> tuple[BucketSource, ...]:
            return tuple(replace(b, files=tuple(map(change, b.files))) for b in buckets)

        return replace(
            self,
            buckets=over(self.buckets),
            refined=self.refined and replace(self.refined, buckets=over(self.refined.buckets)),
            refined_before=tuple(replace(r, buckets=over(r.buckets)) for r in self.refined_before),
        )


_RECIPES = noted("Use a recipe saved as JSON, or the `provenance.json` of an adapter.")
_RECIPE = TypeAdapter(Recipe)
_IMPRINTING = TypeAdapter(Imprinting)
_REFINEMENT = TypeAdapter(Refinement)


def check_recipe_place(path: Path) -> None:
    """Check where a recipe is to be saved, before an adapter is made.

    Raises:
        RecipeError: If `path` cannot be written to.
    """
    reason = obstacle(path) or ("it is a folder" if path.is_dir() else None)
    if reason is not None:
        raise RecipeError(f"`{path}` cannot be written: {reason}. Choose another place.")


def read_recipe(path: Path | str) -> Recipe:
    """Read a recipe file; an adapter's `provenance.json` is one too.

    Raises:
        RecipeError: If the file is missing, too large, or invalid, with every wrong value.
    """
    path = Path(path)
    try:
        if path.stat().st_size > FIXED.max_recipe_bytes:
            most = FIXED.max_recipe_bytes // 1_000_000
            raise RecipeError(
                "`{path}` is over {most} MB, too large for a recipe. {expected}",
                path=str(path),
                most=most,
                expected=_RECIPES,
            )
        # Editors on Windows begin a file with a byte order mark.
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise RecipeError(
            "recipe `{path}` cannot be read: {reason}.", path=str(path), reason=reason
        ) from error
    except UnicodeDecodeError as error:
        raise RecipeError(
            "`{path}` is no recipe file: it holds no text. {expected}",
            path=str(path),
            expected=_RECIPES,
        ) from error
    except (ValueError, RecursionError) as error:
        raise RecipeError(
            "recipe `{path}` is not JSON: {reason}. {expected}",
            path=str(path),
            reason=str(error),
            expected=_RECIPES,
        ) from error
    if not isinstance(values, dict):
        raise RecipeError(
            "recipe `{path}` must be an object in braces, got `{found}`. {expected}",
            path=str(path),
            found=shorten(json.dumps(values), 40),
            expected=_RECIPES,
        )
    try:
        return Recipe.from_json(values)
    except RecipeError as error:
        raise RecipeError("recipe `{path}`: {fault}", path=str(path), fault=str(error)) from error


def _digest(prompts: Iterable[Prompt]) -> str:
    # As JSON, in which no text can run into the next.
    return hashlib.sha256(json.dumps([[p.text, p.label] for p in prompts]).encode()).hexdigest()


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield all regular files among and below paths, in a fixed order."""
    # `Path.is_dir` and `Path.is_file` raise without access, and for a name that is too long.
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112 - see above
            for folder, folders, names in os.walk(path):
                # `os.walk` descends in the order that this list has afterwards.
                folders.sort()
                # This also leaves out pipes and devices, and reading those may never end.
                files = (Path(folder, name) for name in sorted(names))
                yield from (file for file in files if os.path.isfile(file))  # noqa: PTH113
        elif os.path.isfile(path):  # noqa: PTH113
            yield path
        else:
            raise PromptFileError(
                f"{display_name(path.name)}: expected a file or folder, found nothing there, or "
                "no access to it. Check the path."
            )
