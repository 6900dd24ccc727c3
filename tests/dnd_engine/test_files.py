"""Files and folders that appear whole or not at all."""

import ast
import os
from pathlib import Path
from typing import Any

import pytest

import dnd_engine
from dnd_engine.files import is_leftover, remove_leftovers, write_whole, written_aside


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


def test_a_file_is_written_whole_and_in_utf_8(tmp_path: Path) -> None:
    place = tmp_path / "new" / "place"
    write_whole(place, "größer\n")
    assert place.read_bytes() == "größer\n".encode()
    write_whole(place, b"\xff")
    assert place.read_bytes() == b"\xff"
    assert [path.name for path in place.parent.iterdir()] == ["place"]


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    with written_aside(tmp_path / "place") as one, written_aside(tmp_path / "place") as other:
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "place").read_text() == "one", "the last to end"


def test_what_a_killed_process_was_writing_is_known_and_removed(tmp_path: Path) -> None:
    write_whole(tmp_path / "place", "kept")
    with written_aside(tmp_path / "place", inside=tmp_path) as aside:
        assert is_leftover(aside.parent)
        aside.write_text("half")
        remove_leftovers(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["place"]
        aside.parent.mkdir()
        aside.write_text("whole")
    assert (tmp_path / "place").read_text() == "whole"


def test_no_other_module_writes_aside_by_hand() -> None:
    """A library also moves entries to its trash and back: nothing is written then."""
    package = Path(dnd_engine.__file__).parent
    moving = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if (isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.replace", "os.rename"))
        or (isinstance(node, ast.Constant) and str(node.value).endswith(".partial"))
    }
    assert moving == {"files.py", "library.py"}
