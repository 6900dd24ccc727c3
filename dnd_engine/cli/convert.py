"""The `dnd convert` command: makes a generator folder from an authors' `.pth` file."""

from pathlib import Path
from typing import Annotated

import typer

from dnd_engine.cli.common import BaseOption, CacheOption, Json, plain_errors, show
from dnd_engine.generator.config import RELEASED_BASE, RELEASED_ENCODER


@plain_errors
def convert(
    file: Annotated[Path, typer.Argument(help="The .pth file; it is read as weights alone.")],
    out: Annotated[Path, typer.Option(help="New generator folder.")],
    base: BaseOption = RELEASED_BASE,
    encoder: Annotated[
        str, typer.Option(help="Text encoder it was trained with: Hub id or folder.")
    ] = RELEASED_ENCODER,
    cache_dir: CacheOption = None,
    as_json: Json = False,
) -> None:
    """Convert a decoder that the paper's authors released (.pth)."""
    from dnd_engine.generator.released import convert as run

    made = run(file, out, base=base, encoder=encoder, cache_dir=cache_dir)
    show(
        {"generator": str(made.path), "sha256": made.sha256, "base": made.config.base["id"]},
        as_json,
        f"{made.path}: the authors' decoder for {made.config.base['id']}. Use it with --base "
        f"{base} --generator {made.path}.",
    )
