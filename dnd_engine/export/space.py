"""Deploys the app as a Hugging Face Space: selects its files, checks them and uploads them.

Needs a checkout: an installed package lacks `app.py`, which a Space runs.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from huggingface_hub import metadata_load

from dnd_engine.errors import HubError

_FILES = ("README.md", "LICENSE", "NOTICE.md", "app.py", "pyproject.toml", "requirements.txt")
_FOLDERS = ("assets", "dnd_engine", "ui")
_LEFT_OUT = ("assets/tasks", "assets/screenshot.png")
"""Files for training and documentation, which the app does not need."""


@dataclass(frozen=True, slots=True)
class SpaceFile:
    """One file of the upload."""

    name: str
    """Path in the Space."""
    path: Path
    num_bytes: int


def space_files(root: Path) -> tuple[SpaceFile, ...]:
    """List the files that a Space needs, sorted by name.

    Args:
        root: A checkout of this repository.

    Raises:
        HubError: If it is not a checkout.
    """
    missing = [name for name in (*_FILES, *_FOLDERS) if not (root / name).exists()]
    if missing:
        raise HubError(
            f"`{root}` is no checkout of this project: {', '.join(missing)} missing. Clone the "
            "repository, and run the command there or name it with --root."
        )
    found = [root / name for name in _FILES] + [*_walk(root)]
    names = {path.relative_to(root).as_posix(): path for path in found}
    return tuple(
        SpaceFile(name, path, path.stat().st_size)
        for name, path in sorted(names.items())
        if not name.startswith(_LEFT_OUT)
    )


def _walk(root: Path) -> Iterator[Path]:
    for folder in _FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            # Only the path inside the checkout counts, which may itself be in a hidden folder.
            inside = path.relative_to(root).parts
            hidden = any(part.startswith((".", "__pycache__")) for part in inside)
            # A link may lead out of the checkout, and the upload would follow it.
            if path.is_file() and not path.is_symlink() and not hidden:
                yield path


def check_space(root: Path) -> None:
    """Check that the app would start in a Space.

    Raises:
        HubError: With every fault: a README that starts no Gradio app, or requirements that do not
            match pyproject.toml.
    """
    faults = [*_wrong_settings(root)]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (root / "requirements.txt").read_text(encoding="utf-8").splitlines()
    listed = {_package(line) for line in lines if line and not line.startswith("#")}
    if apart := listed ^ set(map(_package, project["dependencies"])):
        faults.append(
            f"requirements.txt and pyproject.toml differ in {', '.join(sorted(apart))}; write it "
            "again: python tests/test_packaging.py"
        )
    if faults:
        raise HubError(f"the Space would not start: {'; '.join(faults)}.")


def _wrong_settings(root: Path) -> Iterator[str]:
    """What is wrong with the settings that a Space reads at the beginning of its README."""
    try:
        settings = metadata_load(root / "README.md") or {}
    except (ValueError, yaml.YAMLError) as error:
        yield f"README.md begins with settings that cannot be read: {' '.join(str(error).split())}"
        return
    if settings.get("sdk") != "gradio":
        yield "README.md must begin with settings whose `sdk` is gradio"
    elif not (root / str(settings.get("app_file"))).is_file():
        yield f"README.md names the app file `{settings.get('app_file')}`, which is missing"


def _package(requirement: str) -> str:
    return re.split(r"[\s<>=!~;\[]", requirement, maxsplit=1)[0].lower()
