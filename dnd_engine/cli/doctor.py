"""`dnd doctor`: information about an installation for bug reports, without anything private.

Omits names, prompts and paths outside the standard folders.
"""

import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

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

_AUDIT_SECONDS = 300
"""Timeout of pip-audit."""
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
    """Print versions, machine and recent errors, for a bug report.

    It holds no names, prompts or answers. Look through it before you post it all the same.
    """
    found = examination() | ({"audit": audit()} if audited else {})
    lines = []
    for title, values in found.items():
        rows = values.items() if isinstance(values, dict) else enumerate(values, 1)
        lines += [f"{title}:", *(f"  {name}: {_words(value)}" for name, value in rows)]
    show(found, as_json, "\n".join(lines))


def _words(value: Any) -> str:
    """Write a value of the report on one line, as a person would."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(part)}" for name, part in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


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


def audit() -> dict[str, Any]:
    """Run pip-audit if it is installed, and count the packages it could look up.

    Returns:
        `audited` and `not_audited` packages, `vulnerable` ones with their advisories and fixed
        versions, and `said`, a summary sentence.
    """
    if importlib.util.find_spec("pip_audit") is None:
        return _nothing("pip-audit is not installed, so nothing was audited: pip install pip-audit")
    # By this interpreter, so that it audits this environment.
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    try:
        # No check: it exits with 1 if it finds vulnerabilities.
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_AUDIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return _nothing(f"No advisory source answered in {_AUDIT_SECONDS} s: nothing was audited.")
    return read_audit(done.stdout, done.stderr)


def read_audit(printed: str, errors: str = "") -> dict[str, Any]:
    """Summarise pip-audit's JSON output; without any, quote the last line of its errors."""
    try:
        packages = json.loads(printed)["dependencies"]
    except (ValueError, KeyError, TypeError):
        *_, last = ("it does not say why", *errors.strip().splitlines())
        return _nothing(f"pip-audit failed and nothing was audited: {last}")
    # Skipped ones, unknown to every source, must not look sound.
    audited = [package for package in packages if "skip_reason" not in package]
    vulnerable = {
        f"{package['name']} {package['version']}": [
            {"advisory": found["id"], "fixed_in": found["fix_versions"]}
            for found in package["vulns"]
        ]
        for package in audited
        if package["vulns"]
    }
    skipped = len(packages) - len(audited)
    if not audited:
        return _nothing(
            f"No advisory source knows any of {skipped} packages, as behind a mirror without "
            "advisories: nothing was audited. Run it where the internet can be reached."
        )
    said = f"{len(vulnerable)} of {len(audited)} packages have known vulnerabilities."
    if skipped:
        said += f" {skipped} could not be audited."
    return {
        "said": said,
        "audited": len(audited),
        "not_audited": skipped,
        "vulnerable": vulnerable,
    }


def _nothing(said: str) -> dict[str, Any]:
    return {"said": said, "audited": 0, "not_audited": None, "vulnerable": {}}
