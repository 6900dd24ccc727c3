"""A base that several processes share computes what a whole one does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dnd_engine.errors import AssetError
from dnd_engine.models import memory
from dnd_engine.models.base import BaseModel
from dnd_engine.models.sharding import shard_base
from tests.dnd_engine.architectures import CONFIGS, save_base

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_every_architecture_has_the_same_losses_and_gradients_when_sharded(tmp_path: Path) -> None:
    """In float32 to 1e-4, with and without recomputing blocks."""
    folders = [save_base(config, tmp_path / kind) for kind, config in CONFIGS.items()]
    script = ROOT / "tests/dnd_engine/models/two_processes.py"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launcher, str(script), *map(str, folders)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_share_that_does_not_fit_is_refused_with_the_numbers(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 0)
    with pytest.raises(AssetError, match=r"the share of example/tiny-llama needs about .* GB"):
        shard_base(base, 2)
