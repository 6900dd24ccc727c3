"""Deploys the app as a Hugging Face Space: selects its files, checks them and uploads them.

Needs a checkout: an installed package lacks `app.py`, which a Space runs.
"""

import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import metadata_load
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

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


@dataclass(frozen=True, slots=True)
class Selection:
    """What a Space gets of a checkout."""

    files: tuple[SpaceFile, ...]
    """Sorted by name."""
    untracked: tuple[str, ...]
    """Files beside them that stay here, because git does not track them."""


def select_files(root: Path) -> Selection:
    """Tell the files that a Space needs from those that git does not track.

    A key or a note that lies in a folder of the app is not part of it. Only git knows that: without
    a repository, every file there counts as the app's.

    Args:
        root: A checkout of this repository.

    Raises:
        HubError: If it is not a checkout, or git cannot list its files.
    """
    missing = [name for name in (*_FILES, *_FOLDERS) if not (root / name).exists()]
    if missing:
        raise HubError(
            f"`{root}` is no checkout of this project: {', '.join(missing)} missing. Clone the "
            "repository, and run the command there or name it with --root."
        )
    found = [root / name for name in _FILES] + [*_walk(root)]
    names = {path.relative_to(root).as_posix(): path for path in found}
    needed = {name: names[name] for name in sorted(names) if not name.startswith(_LEFT_OUT)}
    tracked = _tracked(root)
    untracked = tuple(name for name in needed if tracked is not None and name not in tracked)
    return Selection(
        files=tuple(
            SpaceFile(name, path, path.stat().st_size)
            for name, path in needed.items()
            if name not in untracked
        ),
        untracked=untracked,
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


def _tracked(root: Path) -> set[str] | None:
    """Return the files that git tracks, or None outside a repository."""
    place = root.resolve()
    if not any((folder / ".git").exists() for folder in (place, *place.parents)):
        return None
    try:
        listed = subprocess.run(
            ["git", "-C", str(place), "ls-files", "-z"], capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        # Without git the error is that of the system; git's own words say more than its exit code.
        said = getattr(error, "stderr", None) or str(error).encode()
        raise HubError(
            f"git cannot list the files of `{root}`, and without its list private files could be "
            f"uploaded: {' '.join(said.decode(errors='replace').split())}"
        ) from error
    names = {name.decode(errors="surrogateescape") for name in listed.stdout.split(b"\0")}
    # A copy without a repository of its own may lie in the folder of another.
    return names if "app.py" in names else None


def check_space(root: Path) -> Selection:
    """Check that the app would start in a Space, and return what the Space gets.

    Raises:
        HubError: As `select_files` does, or with every fault: a README that starts no Gradio app,
            versions that contradict pyproject.toml, or code that is no Python.
    """
    selected = select_files(root)
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (root / "requirements.txt").read_text(encoding="utf-8").splitlines()
    faults = [f"git does not track {name}" for name in selected.untracked if name in _FILES]
    listed = _requirements(lines, "requirements.txt", faults)
    wanted = _requirements(project["dependencies"], "pyproject.toml", faults)
    faults += _wrong_settings(root, {file.name for file in selected.files}, listed, project)
    # What the dependencies need in turn is listed, too, at the versions that were tested. A folder
    # that came from a Space does not have those.
    inner, tested = listed.keys() - wanted.keys(), root / "constraints.txt"
    if tested.is_file():
        pins = _requirements(tested.read_text("utf-8").splitlines(), tested.name, faults)
        inner = {name for name in inner if listed[name] == pins.get(name)}
    wrong = sorted(
        name
        for name in (listed.keys() | wanted.keys()) - inner
        if name not in listed or name not in wanted or not _agree(listed[name], wanted[name])
    )
    if wrong:
        faults.append(
            f"requirements.txt and pyproject.toml differ in {', '.join(wrong)}; write it "
            "again: python tests/test_packaging.py"
        )
    faults += _wrong_code(selected.files)
    if faults:
        raise HubError(f"the Space would not start: {'; '.join(faults)}.")
    return selected


def _requirements(lines: list[str], file: str, faults: list[str]) -> dict[str, Requirement]:
    """Read requirements by package, and add those that cannot be read to `faults`."""
    found: dict[str, Requirement] = {}
    for line in lines:
        text = re.split(r"(?:^|\s)#", line)[0].strip()
        if not text:
            continue
        try:
            one = Requirement(text)
        except InvalidRequirement:
            faults.append(f"{file} has a requirement that cannot be read: `{text}`")
        else:
            found[canonicalize_name(one.name)] = one
    return found


def _agree(listed: Requirement, wanted: Requirement) -> bool:
    """Whether a pin is one of the wanted versions; a range must be the wanted one."""
    pins = [one.version for one in listed.specifier if one.operator == "=="]
    if len(pins) == len(listed.specifier) == 1 and not pins[0].endswith(".*"):
        return wanted.specifier.contains(pins[0])
    return listed.specifier == wanted.specifier


def _wrong_settings(
    root: Path, names: set[str], listed: Mapping[str, Requirement], project: Mapping[str, Any]
) -> Iterator[str]:
    """What is wrong with the settings that a Space reads at the beginning of its README."""
    try:
        settings = metadata_load(root / "README.md") or {}
    except (ValueError, yaml.YAMLError) as error:
        yield f"README.md begins with settings that cannot be read: {' '.join(str(error).split())}"
        return
    if settings.get("sdk") != "gradio":
        yield "README.md must begin with settings whose `sdk` is gradio"
        return
    if str(settings.get("app_file")) not in names:
        yield f"README.md names the app file `{settings.get('app_file')}`, which is missing"
    # A Space installs this Gradio beside requirements.txt, and pip refuses two versions.
    if "gradio" in listed:
        yield from _wrong_version(settings, "sdk_version", listed["gradio"].specifier)
    yield from _wrong_version(settings, "python_version", SpecifierSet(project["requires-python"]))


def _wrong_version(settings: Mapping[str, Any], key: str, wanted: SpecifierSet) -> Iterator[str]:
    value = settings.get(key)
    # Without quotes, YAML reads 3.10 as the number 3.1.
    if not isinstance(value, str | float | int) or not _contains(wanted, str(value)):
        yield f"README.md must begin with settings whose `{key}` is {wanted}, got {value!r}"


def _contains(wanted: SpecifierSet, version: str) -> bool:
    try:
        return wanted.contains(Version(version))
    except InvalidVersion:
        return False


def _wrong_code(files: tuple[SpaceFile, ...]) -> Iterator[str]:
    for file in files:
        if file.name.endswith(".py"):
            try:
                compile(file.path.read_bytes(), file.name, "exec", dont_inherit=True)
            except SyntaxError as error:
                yield f"{file.name}, line {error.lineno}, is no Python: {error.msg}"
            except ValueError as error:  # bytes that no source may hold
                yield f"{file.name} is no Python: {error}"
