"""Explains that a model needs code of its own, which is never run.

Every loader passes `trust_remote_code=False`: with transformers' default, a `y` on standard input
runs whatever Python the model's folder brings.
"""

from pathlib import Path

from dnd_engine.errors import AssetError
from dnd_engine.notes import noted


def refuse_own_code(folder: Path, error: Exception) -> None:
    """Raise if a loader failed because it was not allowed to run code of the model.

    Raises:
        AssetError: With the files that ask for code. Other errors are left to the caller.
    """
    # transformers and sentence-transformers raise a plain ValueError that names this argument.
    if "trust_remote_code" not in str(error):
        return
    asking = [file.name for file in sorted(folder.glob("*.json")) if _asks_for_code(file)]
    raise AssetError(
        "`{folder}` needs Python code of its own ({files} asks for it), and code that comes with "
        "a model is never run here. Choose a model that transformers loads without such code.",
        folder=str(folder),
        files=", ".join(asking) or noted("one of its files"),
    ) from error


def _asks_for_code(file: Path) -> bool:
    try:
        return '"auto_map"' in file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
