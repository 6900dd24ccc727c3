"""Fixtures of the engine's tests."""

from pathlib import Path

import pytest

from dnd_engine.models import BaseModel
from tests.dnd_engine.tiny import save_tiny, tiny_base


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base on disk; tests read it only."""
    return save_tiny(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture
def base(tiny_folder: Path) -> BaseModel:
    """A tiny base of the test's own, in float32."""
    return tiny_base(tiny_folder)
