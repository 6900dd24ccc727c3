"""Files and folders that appear whole or not at all."""

import ast
import errno
import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import dnd_engine
from dnd_engine import files
from dnd_engine.errors import ConfigError
from dnd_engine.exchange import exchange
from dnd_engine.files import (
    existing,
    is_leftover,
    obstacle,
    only_call_on,
    recover,
    remove_leftovers,
    scratch_folder,
    write_whole,
    written_aside,
)

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("number", "refused"), [(errno.ENOLCK, False), (errno.EACCES, True)])
def test_a_disk_without_locks_is_warned_of_and_one_that_refuses_is_an_error(
    number: int,
    refused: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(lock: FileLock, timeout: float | None = None) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(PermissionError) if refused else nullcontext(), only_call_on(tmp_path):
        assert not refused
    assert ("cannot be locked" in caplog.text) != refused


def test_a_disk_without_locks_can_be_written_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(lock: FileLock, timeout: float | None = None) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with written_aside(tmp_path / "new") as aside:
        aside.write_text("first")
        # Another writer must not take this one's folder for abandoned.
        write_whole(tmp_path / "other", "second")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "other"]
    assert (tmp_path / "new").read_text() == "first"


def test_an_output_folder_is_checked_before_the_work(tmp_path: Path) -> None:
    (file := tmp_path / "file").touch()
    for place, reason in ((file, "is a file, not a folder"), (file / "below", "cannot be written")):
        with (
            pytest.raises(ConfigError, match=rf"{place}` {reason}.*\. Choose another --out\."),
            only_call_on(place),
        ):
            pass


@pytest.mark.parametrize("name", ["none", "~nobody-here/x", "x" * 5000, f"/{'x' * 300}/y"])
def test_a_name_that_leads_nowhere_does_not_exist(tmp_path: Path, name: str) -> None:
    assert existing(name) is None
    assert existing(str(tmp_path)) == tmp_path


def test_a_place_is_tried_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert obstacle(tmp_path / "new" / "x.zip") is None
    assert list(tmp_path.iterdir()) == []

    def refuse(**_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    found = obstacle(tmp_path / "new" / "x.zip")
    assert found == f"`{tmp_path}` takes no new files (No space left on device)"


def write_folder(place: Path, text: str, name: str = "new") -> None:
    with written_aside(place) as aside:
        aside.mkdir()
        (aside / name).write_text(text)


@pytest.mark.parametrize("failure", [OSError("full"), KeyboardInterrupt()])
def test_a_failing_move_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    """Where two folders cannot change places at once; an interrupt between two moves counts too."""
    monkeypatch.setattr(files, "exchange", lambda *_: False)
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


def test_what_a_killed_process_was_writing_is_removed_by_the_next_writer(tmp_path: Path) -> None:
    write_whole(tmp_path / "place", "kept")
    killed = in_another_process(
        "with written_aside(place) as aside:\n"
        "    aside.write_text('half')\n"
        "    os._exit(9)  # as a kill ends it",
        tmp_path / "place",
    )
    assert killed == 9
    (left,) = (path for path in tmp_path.iterdir() if is_leftover(path))
    assert (left / "place").read_text() == "half"
    write_whole(tmp_path / "other", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "place"]
    assert (tmp_path / "place").read_text() == "kept"


def test_what_a_living_writer_writes_stays(tmp_path: Path) -> None:
    with written_aside(tmp_path / "place") as aside:
        assert is_leftover(aside.parent)
        aside.write_text("whole")
        remove_leftovers(tmp_path)
        removed = in_another_process("remove_leftovers(place)", tmp_path)
        assert removed == 0
        assert aside.read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_a_scratch_folder_of_a_killed_process_goes_and_one_in_use_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    killed = "with scratch_folder() as folder:\n    (folder / 'large').write_text('x')\n"
    assert in_another_process(f"{killed}    os._exit(9)", tmp_path) == 9
    assert len(list(tmp_path.glob("*/large"))) == 1
    with scratch_folder() as one, scratch_folder() as other:
        assert {path for path in tmp_path.iterdir() if path.is_dir()} == {one, other}
    assert in_another_process("process_folder('server-')", tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_is_replaced_without_a_moment_in_which_both_are_lost(
    tmp_path: Path, can_exchange: bool
) -> None:
    """The process is killed at each call that moves something."""
    for number in range(3):
        place = tmp_path / str(number) / "place[1]"
        place.mkdir(parents=True)
        (place / "version").write_text("old")
        in_another_process(
            f"""
count = 0
def dying(function):
    def call(*args, **kwargs):
        global count
        count += 1
        if count == {number} + 1:
            os._exit(9)
        return function(*args, **kwargs)
    return call
os.replace = dying(os.replace)
files.exchange = dying(files.exchange) if {can_exchange} else lambda *_: False
with written_aside(place) as aside:
    aside.mkdir()
    (aside / "version").write_text("new")
""",
            place,
        )
        recover(place)
        assert (place / "version").read_text() in ("old", "new")
        remove_leftovers(place.parent)
        assert list(place.parent.iterdir()) == [place]


@pytest.mark.skipif(
    sys.platform != "linux",
    reason="only Linux has renameat2",
)
def test_here_both_change_places_at_once(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    (one / "a").touch()
    other.mkdir()
    assert exchange(one, other)
    assert (other / "a").exists()
    with pytest.raises(FileNotFoundError):
        exchange(one, tmp_path / "none")


class PowerCut:
    """A disk that forgets what was not flushed: each call that lasts is noted in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.flushed: set[int] = set()
        self.moves: list[tuple[set[int], set[int]]] = []
        flush, move = os.fsync, os.replace

        def fsync(number: int) -> None:
            self.flushed.add(os.fstat(number).st_ino)
            flush(number)

        def noting(source: Any, target: Any) -> None:
            self.note(Path(source))
            move(source, target)

        def noting_exchange(source: Path, target: Path) -> bool:
            self.note(source)
            return exchange(source, target)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "replace", noting)
        monkeypatch.setattr(files, "exchange", noting_exchange)

    def note(self, moved: Path) -> None:
        """Note what moves, and what the disk had by then."""
        inodes = {path.stat().st_ino for path in [moved, *moved.rglob("*")]}
        self.moves.append((inodes, set(self.flushed)))


def test_nothing_is_renamed_into_place_before_the_disk_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename may outlive a power cut that the bytes behind it do not."""
    disk = PowerCut(monkeypatch)
    for text in ("old", "new"):
        write_whole(tmp_path / "file", text)
        with written_aside(tmp_path / "folder") as aside:
            (aside / "inner").mkdir(parents=True)
            (aside / "inner" / "part").write_text(text)
            (aside / "part").write_text(text)
    assert len(disk.moves) == 4
    assert all(moved <= flushed for moved, flushed in disk.moves)
    disk.flushed.clear()
    write_whole(tmp_path / "file", "newest")
    assert tmp_path.stat().st_ino in disk.flushed, "the name lasts too"


def in_another_process(code: str, place: Path) -> int:
    """Run a script that knows a place, and return its exit code."""
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom dnd_engine import files\n"
        "from dnd_engine.files import *\nplace = Path(sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", script + code, place], cwd=ROOT, check=False)
    return done.returncode


@pytest.mark.slow
def test_no_other_module_writes_aside_or_moves_by_hand() -> None:
    package = Path(dnd_engine.__file__).parent
    moving = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if (isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.replace", "os.rename"))
        or (isinstance(node, ast.Constant) and str(node.value).endswith(".partial"))
    }
    assert moving == {"files.py"}


def test_a_file_does_not_take_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "items.csv").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "items.csv", "a")
    assert (tmp_path / "items.csv").is_dir()
