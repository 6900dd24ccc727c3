"""What several test folders share; the engine is imported only where it is used, as it is slow."""

import os
from functools import partial
from importlib.machinery import SourceFileLoader
from types import CodeType
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from hypothesis import settings
from jaxtyping import _import_hook as shape_checks

if TYPE_CHECKING:
    from dnd_engine.engine import Engine

# No test may reach the model hub: what needs no hub must prove it, and what does fails fast.
os.environ["HF_HUB_OFFLINE"] = "1"


def _get_code(loader: Any, name: str) -> CodeType | None:
    """Compile a module of ours with checks of shapes; its bytecode has a name of its own."""
    own = partial(shape_checks._optimized_cache_from_source, loader._typechecker.get_hash())
    with patch("importlib._bootstrap_external.cache_from_source", own):
        return SourceFileLoader.get_code(loader, name)


# jaxtyping 0.3 renames bytecode for as long as a module of ours runs, so also that of every library
# which the module imports: torch and transformers are then compiled from source, 10 to 20 s a
# process. Only the module's own bytecode needs the name.
shape_checks._JaxtypingLoader.get_code = _get_code
shape_checks._JaxtypingLoader.exec_module = SourceFileLoader.exec_module

# On a busy machine any example may be slow; no test is about wall time.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def real_engine() -> "Engine":
    """The embedded default, loaded once."""
    from dnd_engine.engine import Engine

    return Engine.load()
