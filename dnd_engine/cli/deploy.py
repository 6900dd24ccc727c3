"""The `dnd deploy` command: the app as a Hugging Face Space."""

from pathlib import Path
from typing import Annotated

import typer

from dnd_engine.cli.common import Json, TokenOption, plain_errors, show


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
    summary = f"{len(files)} files, {total / 1e6:.1f} MB"
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
