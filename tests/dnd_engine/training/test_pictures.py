"""The curves of a training run."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from dnd_engine.errors import TrainingError
from dnd_engine.training.pictures import draw_monitors


def write_log(out: Path, rows: list[dict[str, Any]]) -> None:
    (out / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


ROWS: list[dict[str, Any]] = [
    {"step": 1, "loss": 3.0, "seconds": 0.1},
    {
        "step": 2,
        "loss": 2.0,
        "between_task_share": 0.2,
        "validation_loss": 2.5,
        "validation_exact": 0.25,
        "families_loss": 3.5,
    },
]


@pytest.mark.parametrize(
    ("rows", "charts"),
    [(ROWS, 5), (ROWS[:1], 1), ([{"step": 0, "loss": 3.0}], 1)],
    ids=["monitored", "first step", "step 0"],
)
def test_pictures_show_what_was_measured(
    tmp_path: Path, rows: list[dict[str, Any]], charts: int
) -> None:
    """Also while there is little to show; the SVG is sound XML."""
    write_log(tmp_path, rows)
    draw_monitors(tmp_path)
    svg = (tmp_path / "monitors.svg").read_text(encoding="utf-8")
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert svg.count("<g><text class='strong'") == charts
    assert {path.name for path in tmp_path.iterdir()} == {"log.jsonl", "monitors.svg"}
    write_log(tmp_path, [*rows, {"step": 3, "loss": 9.0}])
    draw_monitors(tmp_path)
    assert (tmp_path / "monitors.svg").read_text(encoding="utf-8") != svg


def test_a_folder_without_a_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no log of a training run"):
        draw_monitors(tmp_path)
