"""Atomic and durable writes, hashes, and the location of the shipped files.

A write appears whole or not at all, and is on disk when the call returns: files and folders are
flushed before the rename, their parent after it. A folder is replaced by an atomic swap if the
system supports it. Otherwise it is briefly missing; `recover` restores it if the process is killed
then. Whatever writes raises an `OSError` if the disk refuses.
"""

import atexit
import errno
import glob
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_data_path

from dnd_engine.errors import AssetError, ConfigError
from dnd_engine.exchange import exchange

logger = logging.getLogger(__name__)

_ASIDE = ".aside-"
_BEGUN = "dnd-begun-"
_LOCK, _OLD = "lock", "old"
CALL_LOCK = ".lock"
"""File by which a call keeps others away from its output folder; see `only_call_on`."""
_OLD_SECONDS = 24 * 3600
"""Age from which a folder without a lock is abandoned: its owner would have locked it by then."""
_NO_SYNC = frozenset({errno.EINVAL, errno.EBADF, errno.EACCES, errno.ENOTSUP})
"""Errors of systems that cannot flush a folder."""
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP})
"""Errors of disks that have no locks."""

# A wheel carries `assets/` inside the package; a checkout has it beside the package.
_PLACES = (Path(__file__).parent / "assets", Path(__file__).parents[1] / "assets")


def expanded(name: str | Path) -> Path:
    """Return a path with `~` replaced by the home folder.

    An unknown user stays in the path, which then does not exist, so that callers report it as any
    other mistyped path. `Path.expanduser` would raise instead.
    """
    return Path(os.path.expanduser(name))  # noqa: PTH111 - see above


def existing(name: str | Path) -> Path | None:
    """Return the path that a name stands for, as `expanded` reads it; None if nothing is there.

    A name that is too long for a path, or inside a folder without access, counts as absent.
    """
    path = expanded(name)
    try:
        return path if path.exists() else None
    except OSError:
        return None


def public_name(name: str) -> str:
    """Return a model's name for what may be published: of a path that exists, its last part."""
    path = existing(name)
    return name if path is None else path.absolute().name


def user_folder(name: str) -> Path:
    """Return a folder for the user's own data, which may not exist yet."""
    return user_data_path("drag-and-drop-llms", appauthor=False) / name


def asset_path(*parts: str) -> Path:
    """Return the path of a shipped file or folder.

    Raises:
        AssetError: If it is missing, which means a broken installation.
    """
    for place in _PLACES:
        path = place.joinpath(*parts)
        if path.exists():
            return path
    raise AssetError(
        f"the shipped file `assets/{'/'.join(parts)}` is missing. Install the project again."
    )


def obstacle(path: Path) -> str | None:
    """Return why nothing can be written at a path; None if nothing is known against it.

    Missing folders above it are no obstacle: `written_aside` makes them.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # the folders above say what is missing
    except (OSError, ValueError) as error:  # a name that is too long, or no name at all
        return getattr(error, "strerror", None) or str(error)
    for parent in path.parents:
        if os.path.isdir(parent):  # noqa: PTH112 - `Path.is_dir` raises without access
            if not os.access(parent, os.W_OK | os.X_OK):
                return f"no permission to write in `{parent}`"
            # Permissions are not all: `/proc` and full disks refuse root, too.
            try:
                Path(tempfile.mkdtemp(dir=parent, prefix=f".{_BEGUN}")).rmdir()
            except OSError as error:
                return f"`{parent}` takes no new files ({error.strerror or error})"
            return None
        if os.path.lexists(parent):
            return f"`{parent}` is not a folder"
    return None


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def written_aside(path: Path, *, inside: Path | None = None) -> Iterator[Path]:
    """Write a file or folder atomically and durably.

    Write to the yielded path. When the `with` block ends, the result replaces `path`. If the block
    raises, `path` is unchanged. Several writers of one path do not interfere: the last one to
    finish wins. Leftovers of killed processes beside it are removed.

    Args:
        path: The file or folder to write.
        inside: Where to put the temporary folder, on the same disk. Defaults to the parent of
            `path`.

    Yields:
        A path that does not exist yet.
    """
    _make_folder(path.parent)
    # A writer that was killed may have left the old folder in its temporary one.
    recover(path)
    place = inside or path.parent
    remove_leftovers(place)
    with _own_folder(place, _ASIDE) as parent:
        # Under the final name: writers choose a format by its suffix.
        aside = parent / path.name
        yield aside
        # Before the rename: after a power cut, the new name could otherwise lead to lost contents.
        sync(aside)
        _replace(aside, path, parent / f"{path.name}.{_OLD}")
        # The rename survives a power cut only once the folder that lists the names is flushed.
        _sync_folder(path.parent)


def _make_folder(folder: Path) -> None:
    """Make a folder that survives a power cut, and those above it that are missing."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in reversed(missing):
        _sync_folder(place.parent)


def move(path: Path, target: Path) -> None:
    """Move a file or folder to a free path on the same disk, so that it survives a power cut."""
    _make_folder(target.parent)
    os.replace(path, target)
    # In this order: a cut between the two may leave both names, but never none.
    _sync_folder(target.parent)
    _sync_folder(path.parent)


def _replace(new: Path, path: Path, old: Path) -> None:
    if not path.is_dir():
        os.replace(new, path)
    # An exchange leaves the old folder at `new`, where it goes with the temporary folder.
    elif not exchange(new, path):
        # A folder that is not empty cannot be replaced in one move. If the second move fails or is
        # interrupted, undo the first, or the old folder would be deleted with the temporary one.
        try:
            os.replace(path, old)
            os.replace(new, path)
        except BaseException:
            if old.exists() and not path.exists():
                os.replace(old, path)
            raise


def recover(path: Path) -> None:
    """Bring back a folder whose writer was killed while it replaced it."""
    if path.exists():
        return
    for old in path.parent.glob(f"{_ASIDE}*/{glob.escape(path.name)}.{_OLD}"):
        # A living writer finishes its replacement, or undoes it, by itself.
        if _is_abandoned(old.parent):
            os.replace(old, path)
            return


def write_whole(path: Path, data: str | bytes) -> None:
    """Write a file atomically and durably. Text is encoded as UTF-8.

    Raises:
        IsADirectoryError: If a folder is there.
        OSError: If it cannot be written; an earlier file is then unchanged.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with written_aside(path) as aside:
        aside.write_bytes(data.encode() if isinstance(data, str) else data)


def check_folder(folder: Path) -> None:
    """Check an output folder, which need not exist yet, before anything is computed for it.

    Raises:
        ConfigError: If it is no folder, or nothing can be written in it.
    """
    if os.path.lexists(folder) and not os.path.isdir(folder):  # noqa: PTH112 - as in `obstacle`
        raise ConfigError(f"`{folder}` is a file, not a folder. Choose another --out.")
    if (reason := obstacle(folder / CALL_LOCK)) is not None:
        raise ConfigError(f"`{folder}` cannot be written to: {reason}. Choose another --out.")


@contextmanager
def only_call_on(folder: Path) -> Iterator[None]:
    """Keep other calls away from an output folder, which is made if it does not exist.

    Raises:
        ConfigError: If another call is writing to it, or it is a file, or not writable.
    """
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / CALL_LOCK)
    try:
        if (missing := _acquire(lock)) is not None:
            logger.warning(
                "`%s` cannot be locked (%s): start no other call on it.", folder, missing
            )
    except Timeout as error:
        raise ConfigError(
            f"another call is writing to `{folder}`. Choose another --out, or wait for it."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: FileLock) -> OSError | None:
    """Acquire a lock at once; on a disk without locks, go on and return its error.

    Some shared disks have none, and hold what nodes write together.

    Raises:
        Timeout: If another process has it.
    """
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return error
    return None


def is_leftover(path: Path) -> bool:
    """Return whether a path is a temporary folder of `written_aside`, in use or abandoned."""
    return path.name.startswith(_ASIDE)


def remove_leftovers(folder: Path) -> None:
    """Remove leftovers of killed processes from a folder, sparing those of living ones."""
    _remove_abandoned(folder, _ASIDE)


@contextmanager
def scratch_folder(prefix: str = "dnd-scratch-", place: Path | None = None) -> Iterator[Path]:
    """Yield a temporary folder; remove killed processes' folders of the same prefix.

    It is made in `place`, by default the system's place for temporary files.
    """
    place = place or Path(tempfile.gettempdir())
    _remove_abandoned(place, prefix)
    with _own_folder(place, prefix) as folder:
        yield folder


def process_folder(prefix: str, place: Path | None = None) -> Path:
    """Return a scratch folder (see above) that lasts as long as this process."""
    # Without a `with` block to end it: the folder goes at exit, or after a kill at the next start.
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(scratch_folder(prefix, place))


def sync(path: Path) -> None:
    """Flush a file, or a folder with all its contents, so that it survives a power cut."""
    if not path.is_dir():
        # Writable, because Windows flushes no file that is open for reading only.
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        return
    for child in path.iterdir():
        # The target of a link lies elsewhere, and was not written here.
        if not child.is_symlink():
            sync(child)
    _sync_folder(path)


def _sync_folder(folder: Path) -> None:
    """Flush a folder's list of names, if the system supports it."""
    with suppress(PermissionError):  # Windows opens no folders
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise
        finally:
            os.close(number)


@contextmanager
def _own_folder(place: Path, prefix: str) -> Iterator[Path]:
    """Yield a folder that is locked, and so visibly in use, as long as this process lives."""
    # Create and lock it under another name first: between creation and locking, other processes
    # would take it for abandoned.
    begun = Path(tempfile.mkdtemp(dir=place, prefix=f".{_BEGUN}"))
    folder = begun.with_name(prefix + begun.name.removeprefix(f".{_BEGUN}"))
    lock = FileLock(begun / _LOCK)
    try:
        if _acquire(lock) is not None:
            # On a disk without locks, `_is_abandoned` spares every folder that has this file.
            (begun / _LOCK).touch()
        begun.rename(folder)
        yield folder
    finally:
        lock.release()
        # Only one of them exists; which one depends on how far this came.
        for left in (folder, begun):
            shutil.rmtree(left, ignore_errors=True)


def _remove_abandoned(place: Path, prefix: str) -> None:
    for folder in place.glob(f"{glob.escape(prefix)}*"):
        if _is_abandoned(folder):
            # It may hold the only copy of a folder that was being replaced.
            for old in folder.glob(f"*.{_OLD}"):
                recover(place / old.name.removesuffix(f".{_OLD}"))
            shutil.rmtree(folder, ignore_errors=True)
    for begun in place.glob(f".{_BEGUN}*"):
        if _is_old(begun):
            shutil.rmtree(begun, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    """Return whether no living process locks a temporary folder; locks end with their process."""
    if not (folder / _LOCK).exists():
        return _is_old(folder)  # earlier versions made no lock
    try:
        # Each lock object conflicts with every other, so this sees those of this process too.
        with FileLock(folder / _LOCK, timeout=0):
            return True
    # In doubt it is in use: rubbish that stays harms less than work that is deleted.
    except (Timeout, OSError):
        return False


def _is_old(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime > _OLD_SECONDS
    except OSError:
        return False  # gone meanwhile
