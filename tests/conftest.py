"""What several test folders share; the engine is imported only where it is used, as it is slow."""

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from dnd_engine.engine import Engine

# No test may reach the model hub: what needs no hub must prove it, and what does fails fast.
os.environ["HF_HUB_OFFLINE"] = "1"

# On a busy machine any example may be slow; no test is about wall time.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def real_engine() -> "Engine":
    """The embedded default, loaded once."""
    from dnd_engine.engine import Engine

    return Engine.load()
