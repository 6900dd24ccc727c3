"""What a store of scores keeps where a run is killed, or a disk refuses."""

import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from dnd_engine.errors import ConfigError
from dnd_engine.evaluation.items import EvalItems
from dnd_engine.evaluation.result_store import ResultStore
from dnd_engine.scoring.scores import ItemScore
from dnd_engine.tasks.folder import Example, Task, TaskInfo

EXAMPLES = tuple(Example(f"Say it.\n\n{n}", str(n)) for n in range(3))
INFO = TaskInfo(
    slug="one",
    family="family",
    category="category",
    metric="exact",
    licence="MIT",
    licence_class="permissive",
    description="words",
    split="heldout",
)
ITEMS = EvalItems(Task(INFO, EXAMPLES, EXAMPLES), (0, 1, 2), 8)


def opened(out: Path) -> ResultStore:
    store = ResultStore.open(out, "settings", [ITEMS])
    store.agree({"base": "source", "mean_lora": "other"})
    return store


def scores(row: str = "base") -> list[ItemScore]:
    values: dict[str, Any] = {
        **{"row": row, "mode": "full", "draw": 0, "slug": "one", "family": "family"},
        **{"category": "category", "holdout": "", "score": 0.5, "exact": False},
        **{"format_ok": None, "content_ok": None, "choice": None, "nll": 1.0, "text": "x"},
    }
    return [ItemScore(**values, item=item) for item in range(3)]


@pytest.mark.parametrize("cut", [10, 400, 100_000])
def test_what_a_kill_keeps_from_being_written_is_not_counted_twice(
    tmp_path: Path, cut: int
) -> None:
    """A kill may leave some of the last scores, half of one, or none."""
    store = opened(tmp_path)
    store.add(scores("mean_lora"), "mean_lora", 3.0)
    before = (tmp_path / "scores.jsonl").stat().st_size
    store.add(scores(), "base", 100.0)
    path = tmp_path / "scores.jsonl"
    path.write_bytes(path.read_bytes()[: max(before, path.stat().st_size - cut)])
    again = opened(tmp_path)
    assert not again.has("base", "full", 0, "one")
    assert again.found.seconds == {"mean_lora": 3.0, "base": 0.0}
    again.add(scores(), "base", 90.0)
    assert opened(tmp_path).found.seconds == {"mean_lora": 3.0, "base": 90.0}
    assert len(opened(tmp_path).found.scores) == 6


def test_a_disk_that_refuses_scores_is_named_and_what_was_written_stays(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.add(scores("mean_lora"), "mean_lora", 3.0)
    size = max(path.stat().st_size for path in tmp_path.iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
        with pytest.raises(
            ConfigError, match=r"cannot be written to: File too large\. .*make room"
        ):
            store.add(scores(), "base", 100.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert opened(tmp_path).has("mean_lora", "full", 0, "one")
    assert not opened(tmp_path).has("base", "full", 0, "one")


@pytest.mark.parametrize("name", ["scores.jsonl", "examination.json"])
def test_scores_that_cannot_be_read_are_named(tmp_path: Path, name: str) -> None:
    opened(tmp_path).add(scores(), "base", 1.0)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory"):
        opened(tmp_path)
