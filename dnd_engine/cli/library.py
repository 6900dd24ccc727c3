"""The `dnd library` and `dnd import` commands: adapters stored on disk."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dnd_engine.cli.common import (
    DEFAULT_BASE,
    BaseOption,
    CacheOption,
    Json,
    LibraryOption,
    check_exists,
    plain_errors,
    show,
)
from dnd_engine.errors import LibraryError
from dnd_engine.library import DamagedEntry, Entry, Library
from dnd_engine.prompts.words import one_line
from dnd_engine.wording import mode_label, size

if TYPE_CHECKING:
    from dnd_engine.lora.adapter import Adapter

app = typer.Typer(help="Manage the adapters in your library.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name or key of an adapter in the library.")]


@app.command("list")
@plain_errors
def list_adapters(
    deleted: Annotated[
        bool, typer.Option("--deleted", help="List deleted adapters, which undo can restore.")
    ] = False,
    library: LibraryOption = None,
    as_json: Json = False,
) -> None:
    """List adapters, newest first; damaged ones with the reason."""
    shelf = Library(library)
    found = shelf.deleted() if deleted else shelf.entries()
    show(
        {"library": str(shelf.root), "adapters": [entry.to_json() for entry in found]},
        as_json,
        "\n".join(map(_line, found)) or f"No adapters in {shelf.root}.",
    )


@app.command("show")
@plain_errors
def show_adapter(
    name: Name,
    save_recipe: Annotated[
        Path | None, typer.Option(help="Write the adapter's recipe, as JSON.")
    ] = None,
    library: LibraryOption = None,
    as_json: Json = False,
) -> None:
    """Show everything known about an adapter."""
    shelf = Library(library)
    entry = shelf.get(name)
    if save_recipe is not None:
        if entry.recipe is None:
            raise LibraryError(
                f"`{entry.name}` has no recipe: it was made by another tool or an earlier version."
            )
        entry.recipe.save(save_recipe)
    show(
        {**entry.to_json(), "path": str(shelf.path(entry.key))},
        as_json,
        "\n".join(_facts(entry)),
    )


@app.command()
@plain_errors
def rename(
    name: Name,
    new_name: Annotated[str, typer.Argument(help="New name.")],
    library: LibraryOption = None,
    as_json: Json = False,
) -> None:
    """Rename an adapter."""
    entry = Library(library).rename(name, new_name)
    show(entry.to_json(), as_json, f"Renamed to {entry.name}.")


@app.command()
@plain_errors
def duplicate(
    name: Name,
    new_name: Annotated[
        str | None, typer.Argument(help="Name of the copy; default: the name with a number.")
    ] = None,
    library: LibraryOption = None,
    as_json: Json = False,
) -> None:
    """Copy an adapter."""
    entry = Library(library).duplicate(name, new_name)
    show(entry.to_json(), as_json, f"Copied to {entry.name}.")


@app.command()
@plain_errors
def delete(name: Name, library: LibraryOption = None, as_json: Json = False) -> None:
    """Delete an adapter; undo restores it."""
    entry = Library(library).delete(name)
    show(entry.to_json(), as_json, f"Deleted {name}. `dnd library undo {entry.key}` restores it.")


@app.command()
@plain_errors
def undo(
    key: Annotated[
        str | None, typer.Argument(help="Key of a deleted adapter; default: the last one deleted.")
    ] = None,
    library: LibraryOption = None,
    as_json: Json = False,
) -> None:
    """Restore a deleted adapter."""
    entry = Library(library).undo(key)
    # A damaged entry has no name.
    show(entry.to_json(), as_json, f"Restored {getattr(entry, 'name', entry.key)}.")


@app.command("empty-trash")
@plain_errors
def empty_trash(library: LibraryOption = None, as_json: Json = False) -> None:
    """Remove all deleted adapters permanently."""
    count = Library(library).empty_trash()
    show({"removed": count}, as_json, f"Removed permanently: {count}.")


@app.command()
@plain_errors
def export(
    name: Name,
    out: Annotated[
        Path | None, typer.Option(help="A .zip or folder to write; default: NAME.zip.")
    ] = None,
    cache_dir: CacheOption = None,
    library: LibraryOption = None,
    as_json: Json = False,
) -> None:
    """Write an adapter as a PEFT zip or folder at its strength."""
    shelf = Library(library)
    entry = shelf.get(name)
    adapter = shelf.load(entry.key, _reader(entry.base, cache_dir))
    path = adapter.save(out or Path(f"{entry.name}.zip"))
    show(
        {"adapter": str(path), "sha256": adapter.sha256, "strength": adapter.strength},
        as_json,
        f"{path}: strength {adapter.strength:g}, SHA-256 {adapter.sha256[:12]}.",
    )


@plain_errors
def import_adapter(
    path: Annotated[Path, typer.Argument(help="PEFT zip or folder from any tool.")],
    name: Annotated[
        str | None, typer.Option(help="Name in the library; default: that of the file.")
    ] = None,
    base: BaseOption = DEFAULT_BASE,
    cache_dir: CacheOption = None,
    library: LibraryOption = None,
    as_json: Json = False,
) -> None:
    """Check an adapter file and add it to the library."""
    check_exists(path)
    shelf = Library(library)
    # A name that is taken is refused before the file is read.
    if name is not None:
        shelf.check_free(name)
    adapter = _reader(base, cache_dir)(path)
    entry = shelf.add(adapter, name, imported=True)
    show(entry.to_json(), as_json, f"Added as {entry.name}: {_line(entry)}")


def _reader(base: str, cache_dir: Path | None) -> "Callable[[Path], Adapter]":
    """Return a reader that checks files against the base's config, without loading its weights."""
    from dnd_engine.lora.layout import architecture_of
    from dnd_engine.lora.reader import read_adapter
    from dnd_engine.models.base import read_config
    from dnd_engine.models.sources import BASES, known_name, resolve

    def check(folder: Path, _name: str, _num_bytes: int | None) -> None:
        # Its memory is not asked about, because the base is not loaded.
        architecture_of(read_config(folder))

    # Adapters refer to the embedded base by its Hub id, not by its name here.
    weights = resolve(known_name(base, BASES), BASES, cache_dir, check=check)
    config = read_config(weights.path)
    return lambda path: read_adapter(path, config, weights.hub_id)


def _line(entry: "Entry | DamagedEntry") -> str:
    day = f"{entry.created.astimezone():%Y-%m-%d %H:%M}"
    if isinstance(entry, DamagedEntry):
        return f"{entry.key:30} {day}  damaged: {entry.reason}"
    origin = f"{entry.num_prompts} prompts" if entry.num_prompts else "prompts unknown"
    scored = "".join(f"; {line}" for line in _scored(entry))
    return (
        f"{entry.name:30} {day}  r {entry.r}, strength {entry.strength:g}, {origin}, "
        f"{size(entry.num_bytes)}, {entry.sha256[:12]}{scored}"
    )


def _scored(entry: "Entry") -> list[str]:
    """Format an adapter's scores on each file of labelled rows, beside the base's."""
    return [
        name
        # A score at another strength does not apply to the current one, so say which it was.
        + ("" if scores.strength == entry.strength else f" at strength {scores.strength:g}")
        + ": "
        + ", ".join(
            f"{mode_label(mode).lower()} {own:.2f}"
            + ("" if base is None else f" (base {base:.2f})")
            for mode, own, base in scores.brief
        )
        for name, scores in entry.scores.items()
    ]


def _facts(entry: "Entry") -> list[str]:
    recipe = entry.recipe
    buckets = [
        f"  {name}: weight {weight:g}, {count} prompts" for name, weight, count in entry.buckets
    ]
    votes = ", ".join(f"{option} {count}" for option, count in entry.votes.items())
    return [
        _line(entry),
        f"Key: {entry.key}",
        f"Base: {entry.base}",
        f"Imported from a file: {'yes' if entry.imported else 'no'}",
        *(
            [
                f"Generator: {recipe.generator} ({recipe.generator_sha256[:12]})"
                if recipe.generator and recipe.generator_sha256
                else "Generator: none, imprint alone",
                f"Mix: {recipe.mix}, seed {recipe.seed}, refined {len(recipe.refinements)} times",
                f"Prompts ({'with' if recipe.has_texts else 'without'} their texts):",
                *buckets,
            ]
            if recipe
            else ["Recipe: unknown"]
        ),
        *_checks(entry),
        *([f"Votes: {votes}"] if votes else []),
    ]


def _checks(entry: "Entry") -> list[str]:
    """Return the sentences that `dnd inspect` printed, as stored with the adapter."""
    # The entry's file may have been edited, or copied from elsewhere.
    if not isinstance(said := entry.checks.get("words"), list) or not said:
        return []
    strength = entry.checks.get("strength")
    other = isinstance(strength, int | float) and strength != entry.strength
    at = f" at strength {strength:g}" if other else ""
    return [f"Checks{at}:", *(f"  {one_line(str(sentence))}" for sentence in said)]
