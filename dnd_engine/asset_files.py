"""Finds the files shipped with the project: generators, examples, the page's JavaScript and CSS."""

from pathlib import Path

from dnd_engine.errors import AssetError

__all__ = ["asset_path"]

# A wheel carries `assets/` inside the package; a checkout has it beside the package.
_PLACES = (Path(__file__).parent / "assets", Path(__file__).parents[1] / "assets")


def asset_path(*parts: str) -> Path:
    """Path of a shipped file or folder.

    Raises:
        AssetError: If it is missing, which means a broken installation.
    """
    for place in _PLACES:
        path = place.joinpath(*parts)
        if path.exists():
            return path
    raise AssetError(
        f"the shipped file `assets/{'/'.join(parts)}` is missing. Install the project again."
    )
