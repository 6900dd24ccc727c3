"""Quantises a GGUF file of 16 bits to Q4_K_M with llama.cpp's own quantiser.

The gguf package reads such files and cannot write them. Knows files and their tensors; knows no
model. Imports neither torch nor gguf at first, because the registry asks it what is installed.
"""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from dnd_engine.errors import ExportError, VerificationError
from dnd_engine.export import llama_quantize
from dnd_engine.files import written_aside
from dnd_engine.notes import Note, noted

Q4_K_M = "Q4_K_M"
"""llama.cpp's name: most matrices have 4 bits, some 6. Those whose rows are no multiple of 256 long
have 5 or 8."""
_PROGRAM = "llama-quantize"
_MISSING = noted(
    "Q4_K_M needs llama.cpp's quantiser, which is not installed here. Run `pip install "
    "llama-cpp-py-sync`, or put llama.cpp's `llama-quantize` on the PATH, and try again."
)
_TOLERANCE = 0.25
"""Largest difference allowed between a tensor and its quantised form, relative to the tensor's
norm. SmolLM2-135M measured .054 in 4 bits; rows in another order, as of another matrix, differ by
1.4."""


def missing() -> Note | None:
    """Return what to install first; None if a quantiser is at hand."""
    return None if _command() else _MISSING


def quantise(path: Path) -> None:
    """Replace a GGUF file of 16 bits by its Q4_K_M; after an error it is unchanged.

    Raises:
        ExportError: If there is no quantiser, or it fails.
        VerificationError: If a tensor differs by more than rounding.
    """
    command = _command()
    if command is None:
        raise ExportError(_MISSING)
    with written_aside(path) as aside:
        # Ends the process, too, if it is interrupted.
        done = subprocess.run(
            [*command, str(path), str(aside), Q4_K_M],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines()
            raise ExportError(
                "llama.cpp's quantiser failed ({reason}). Nothing was kept; export 8 bits "
                "(`merged-gguf-q8`) instead.",
                reason=lines[-1] if lines else f"exit code {done.returncode}",
            )
        _check_rounding(path, aside)


def _command() -> list[str] | None:
    """Return the beginning of a command line that quantises; None if nothing here can."""
    if importlib.util.find_spec(llama_quantize.PACKAGE) is not None:
        # `-P`: beside the script are modules named like packages that it imports.
        return [sys.executable, "-P", llama_quantize.__file__]
    program = shutil.which(_PROGRAM)
    return [program] if program else None


def _check_rounding(source: Path, quantised: Path) -> None:
    expected, found = _tensors(source), _tensors(quantised)
    strays = expected.keys() ^ found.keys()
    changed = sorted(strays) or [
        name for name, tensor in expected.items() if not _is_rounded(tensor, found[name])
    ]
    if changed:
        raise VerificationError(
            "verify failed: {number} tensors differ after quantising ({keys}). Nothing was saved.",
            number=len(changed),
            keys=", ".join(changed[:3]),
        )


def _tensors(path: Path) -> dict[str, Any]:
    from gguf import GGUFReader

    return {tensor.name: tensor for tensor in GGUFReader(path).tensors}


def _is_rounded(tensor: Any, quantised: Any) -> bool:
    import numpy as np
    from gguf import dequantize

    expected, found = (
        dequantize(one.data, one.tensor_type).astype(np.float32) for one in (tensor, quantised)
    )
    if expected.shape != found.shape:
        return False
    # False for NaN, too.
    return bool(np.linalg.norm(expected - found) <= _TOLERANCE * np.linalg.norm(expected))
