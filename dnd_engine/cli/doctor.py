"""`dnd doctor`: information about an installation for bug reports, without anything private.

Omits names, prompts and paths outside the standard folders.
"""

import os
import platform
import re
import shutil
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from dnd_engine.cli.audit import audit
from dnd_engine.cli.common import Json, plain_errors, show
from dnd_engine.limits import FIXED, PromptLimits
from dnd_engine.server_log import SERVER_COUNTERS, SERVER_LIMITS, last_lines, last_numbers, log_path

_PACKAGES = (
    *("drag-and-drop-llms", "gradio", "torch", "transformers", "peft", "safetensors", "tokenizers"),
    *("huggingface-hub", "numpy", "pydantic", "starlette", "uvicorn", "sentence-transformers"),
)
_SETTINGS = (
    *("HF_HUB_OFFLINE", "SPACE_ID", "SPACES_ZERO_GPU", "GRADIO_ROOT_PATH", "GRADIO_SERVER_NAME"),
    "FORWARDED_ALLOW_IPS",
    *("GRADIO_TEMP_DIR", "DND_AUTH", "HF_TOKEN", "OMP_NUM_THREADS", "OMP_WAIT_POLICY"),
    "GOMP_SPINCOUNT",
)
"""Reported only as set or not set: some are secrets."""

_HIDDEN = "<path>"
_ROOT = r"(?:~?/|[A-Za-z]:[\\/]|\\\\)"
"""What an absolute path begins with, also on Windows."""
# Our own messages quote paths, which may contain blanks.
_QUOTED_PATH = re.compile(rf"([`'\"]){_ROOT}.*?\1")
# Routes of the server, which errors name, have a single part or begin otherwise.
_PATH = re.compile(
    rf"(?:file:/*|(?<![\w.~/:])(?:{_ROOT}|//))(?!gradio_api/)"
    r"[^\s`'\",;:/\\]+[/\\][^\s`'\",;:]*"
)


@plain_errors
def doctor(
    as_json: Json = False,
    audited: Annotated[
        bool,
        typer.Option("--audit", help="Also ask pip-audit for known vulnerabilities of packages."),
    ] = False,
) -> None:
    """Tell versions, machine and last errors, to report a problem.

    It holds no names, prompts or answers. Look through it before you post it all the same.
    """
    found = examination() | ({"audit": audit()} if audited else {})
    lines = []
    for title, values in found.items():
        rows = values.items() if isinstance(values, dict) else enumerate(values, 1)
        lines += [f"{title}:", *(f"  {name}: {value}" for name, value in rows)]
    show(found, as_json, "\n".join(lines))


def examination() -> dict[str, Any]:
    """Return the content of the report, by title."""
    from dnd_engine.library import Library
    from dnd_engine.models.sources import cache_folder

    memory = psutil.virtual_memory()
    places = {"cache": cache_folder(None), "library": Library().root, "log": log_path()}
    return {
        "versions": {name: _version(name) for name in _PACKAGES},
        "machine": {
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "cores": os.cpu_count(),
            "memory_bytes": memory.total,
            "free_memory_bytes": memory.available,
            "devices": _devices(),
        },
        "places": {
            name: {"path": _at_home(path), "bytes": _size(path), "free_bytes": _free(path)}
            for name, path in places.items()
        },
        "library": {"adapters": len(Library().entries())},
        "set": {name: bool(os.environ.get(name)) for name in _SETTINGS},
        "limits": {**asdict(PromptLimits()), **asdict(FIXED)},
        # A server writes its errors to its log; this process has none of them.
        "server_limits": last_numbers(log_path(), SERVER_LIMITS),
        "server_counters": last_numbers(log_path(), SERVER_COUNTERS),
        "last_errors": [
            {
                name: without_paths(said) if isinstance(said, str) else said
                for name, said in line.items()
            }
            for line in last_lines(log_path())
        ],
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _devices() -> list[str]:
    import torch

    found = ["cpu"]
    if torch.cuda.is_available():
        found += [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def without_paths(text: str) -> str:
    """Return a text with `<path>` for each absolute path in it: folders have private names."""
    return _PATH.sub(_HIDDEN, _QUOTED_PATH.sub(rf"\1{_HIDDEN}\1", text))


def _at_home(path: Path) -> str:
    """Return a path from the home folder without the user's name, and hide any other."""
    home = Path.home()
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) else _HIDDEN


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*") if path.is_dir() else []
    return sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink())


def _free(path: Path) -> int:
    # A folder that was never made will be on the disk of its nearest parent.
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free if path.exists() else 0
