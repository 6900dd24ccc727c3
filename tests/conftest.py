"""What several test folders share; the engine is imported only where it is used, as it is slow."""

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from dnd_engine.engine import Engine

# No test may reach the model hub: what needs no hub must prove it, and what does fails fast.
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def real_engine() -> "Engine":
    """The embedded default, loaded once."""
    from dnd_engine.engine import Engine

    return Engine.load()
