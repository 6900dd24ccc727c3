"""Files and folders that appear whole or not at all."""

import os
from pathlib import Path
from typing import Any

import pytest

from dnd_engine.files import written_aside


def write_folder(place: Path, text: str, name: str = "new") -> None:
    with written_aside(place) as aside:
        aside.mkdir()
        (aside / name).write_text(text)


@pytest.mark.parametrize("failure", [OSError("full"), KeyboardInterrupt()])
def test_a_failing_move_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    """An interrupt between the two moves counts too."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "old").write_text("kept")
    whole = os.replace

    def move(source: Any, target: Any) -> None:
        if Path(target) == place and Path(source).name == "place":
            raise failure
        whole(source, target)

    monkeypatch.setattr(os, "replace", move)
    with pytest.raises(type(failure)):
        write_folder(place, "half")
    assert [p.name for p in tmp_path.iterdir()] == ["place"]
    assert (place / "old").read_text() == "kept"
    monkeypatch.undo()
    write_folder(place, "whole")
    assert [p.name for p in place.iterdir()] == ["new"]


def test_what_raises_inside_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_folder(tmp_path / "place", "half", name="no/folder")
    assert list(tmp_path.iterdir()) == []
