"""Commands that hand things to others: `dnd export`, `dnd push` and `dnd deploy`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dnd_engine.cli.common import (
    AdapterArgument,
    Json,
    LibraryOption,
    StrengthOption,
    TokenOption,
    at_strength,
    check_apart,
    engine_options,
    find_adapter,
    load_engine,
    plain_errors,
    show,
)
from dnd_engine.config import EngineConfig
from dnd_engine.export.registry import EXPORTS, export_target
from dnd_engine.files import existing
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.files import read_prompt_file
from dnd_engine.wording import size


def _suffixes() -> str:
    """List the file types that each target writes."""
    return "; ".join(
        f"{name}: {' or '.join(suffix or 'a folder' for suffix in target.suffixes)}"
        for name, target in EXPORTS.items()
    )


@plain_errors
@engine_options
def export(
    config: EngineConfig,
    adapter: AdapterArgument,
    out: Annotated[Path, typer.Option(help=f"What to write, by format: {_suffixes()}.")],
    format: Annotated[str, typer.Option(help=f"One of {', '.join(EXPORTS)}.")] = "peft",
    strength: StrengthOption = None,
    library: LibraryOption = None,
    as_json: Json = False,
) -> None:
    """Export an adapter for PEFT or llama.cpp, or merged into its base."""
    from dnd_engine.export.place import check_place

    target = export_target(format)
    target.check_installed()
    check_place(out, target)
    # A base may be a GGUF file, and so may the whole model.
    # A name of the library or of a base is no path, even if the output has the same name.
    read = [path for name in (adapter, config.base) if (path := existing(name)) is not None]
    check_apart({"out": out}, read)
    find = find_adapter(adapter, library)
    engine = load_engine(config)
    found = at_strength(strength, find(engine))
    made = engine.export(found, format, out)
    show(
        {**asdict(made), "sha256": found.sha256, "strength": found.strength},
        as_json,
        f"{made.path}: {size(made.num_bytes)}. To use it:\n\n{made.usage}"
        + (f"\n\n{target.note}" if target.note else ""),
    )


@plain_errors
@engine_options
def push(
    config: EngineConfig,
    adapter: AdapterArgument,
    repo: Annotated[str, typer.Argument(help="USER/NAME on the Hugging Face Hub.")],
    private: Annotated[
        bool, typer.Option("--private/--public", help="Visibility of a new repository.")
    ] = True,
    token: TokenOption = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Prompt file for the checks on the card.")
    ] = None,
    strength: StrengthOption = None,
    library: LibraryOption = None,
    as_json: Json = False,
) -> None:
    """Upload an adapter and its card to the Hugging Face Hub.

    The upload contains names, counts and hashes, never prompt text.
    """
    from dnd_engine.export.hub import check_repo_id, find_token

    # A wrong name or a missing token fails here, before models take time to load.
    check_repo_id(repo)
    find_token(token)
    find = find_adapter(adapter, library)
    file = None if prompts is None else read_prompt_file(prompts)
    engine = load_engine(config)
    read = at_strength(strength, find(engine))
    if file is not None:
        found = engine.inspect(read, [Bucket("prompts", 1.0, (file,))])
        read = engine.with_checks(read, found)
    pushed = engine.push(read, repo, token=token, private=private)
    show(
        {**asdict(pushed), "sha256": read.sha256},
        as_json,
        f"{pushed.url} ({'private' if pushed.private else 'public'}). To use it:\n\n{pushed.usage}",
    )


@plain_errors
def deploy(
    space: Annotated[str, typer.Option(help="OWNER/NAME of the Space.")],
    root: Annotated[Path, typer.Option(help="Checkout of this project.")] = Path(),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the files and their sizes; upload nothing.")
    ] = False,
    private: Annotated[
        bool, typer.Option("--private/--public", help="Visibility of a new Space.")
    ] = True,
    token: TokenOption = None,
    as_json: Json = False,
) -> None:
    """Deploy the app as a Hugging Face Space.

    Uploads what the app needs to run, after checking settings, versions and code. Of a git
    repository, only files that git tracks.
    """
    from dnd_engine.export.hub import check_repo_id, push_files
    from dnd_engine.export.space import check_space

    # Everything is checked before the first upload, so that a faulty checkout leaves no empty Space
    # behind; also for a dry run.
    check_repo_id(space)
    selected = check_space(root)
    files = selected.files
    total = sum(file.num_bytes for file in files)
    values = {
        "space": space,
        "num_bytes": total,
        "files": [{"name": file.name, "num_bytes": file.num_bytes} for file in files],
        "untracked": list(selected.untracked),
    }
    summary = f"{len(files)} files, {size(total)}"
    stay = "".join(f"\nleft out, because git does not track it: {n}" for n in selected.untracked)
    if dry_run:
        listed = "\n".join(f"{file.num_bytes:>12,}  {file.name}" for file in files)
        show(
            {**values, "url": None},
            as_json,
            f"{listed}\n{summary} for {space}; none uploaded{stay}",
        )
        return
    contents = {file.name: file.path for file in files}
    url, is_private = push_files(contents, space, token, private, space=True)
    show(
        {**values, "url": url, "private": is_private},
        as_json,
        f"{url} ({'private' if is_private else 'public'}): {summary}. The Hub builds it now.{stay}",
    )
