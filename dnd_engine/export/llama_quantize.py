"""Quantises one GGUF file, by the library of `llama-cpp-py-sync`.

Takes the arguments of llama.cpp's program `llama-quantize`: source, target, and the name of the
precision. Runs as a script, in a process of its own: llama.cpp ends its process when it finds a
fault of its own. Knows nothing of this project.
"""

import os
import sys
from importlib import import_module

PACKAGE = "llama_cpp_py_sync"


def main(source: str, target: str, precision: str) -> int:
    """Quantise a file; return llama.cpp's status, which is 0 if it worked."""
    bindings = import_module(f"{PACKAGE}._cffi_bindings")
    lib, ffi = bindings.get_lib(), bindings.get_ffi()
    params = ffi.new(
        "struct llama_model_quantize_params *", lib.llama_model_quantize_default_params()
    )
    params.ftype = getattr(lib, f"LLAMA_FTYPE_MOSTLY_{precision}")
    return int(lib.llama_model_quantize(os.fsencode(source), os.fsencode(target), params))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
