"""Opens untrusted zip archives: checks limits before unpacking, and writes nothing to disk."""

import io
import zipfile
import zlib
from pathlib import PurePosixPath

from dnd_engine.errors import PromptFileError
from dnd_engine.limits import FIXED
from dnd_engine.prompts.reading import Asked
from dnd_engine.prompts.words import display_name, megabytes

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Allowed compression methods. For others, zipfile unpacks everything it has read, whatever the
bound: LZMA and bzip2 could need gigabytes of memory, and are rare."""
_SMALL_BYTES = 1_000_000
"""Size up to which the compression ratio does not matter."""
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    UnicodeError,
    KeyError,
)


class Members:
    """The files of an archive, unpacked on demand."""

    def __init__(self, archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo], name: str) -> None:
        self._archive, self._name = archive, name
        self._infos = {info.filename: info for info in infos}

    @property
    def names(self) -> list[str]:
        """Return the paths of the files, in archive order."""
        return [*self._infos]

    def read(self, member: str) -> bytes:
        """Unpack one file.

        Raises:
            PromptFileError: If the file is damaged.
        """
        info = self._infos[member]
        try:
            return unpack(self._archive, info)
        except _DAMAGED as error:
            raise PromptFileError(
                f"{self._name}: `{display_name(member)}` in it is damaged. Pack it again."
            ) from error


def is_bomb(info: zipfile.ZipInfo, max_ratio: int) -> bool:
    """Return whether a file is packed so small that it may be made to fill the memory."""
    return info.file_size > max(_SMALL_BYTES, max_ratio * info.compress_size)


def unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Unpack a file of a known size, packed by one of `METHODS`."""
    with archive.open(info) as file:
        # The size is the archive's own claim. With a bound, zipfile unpacks no more than this.
        return file.read(info.file_size + 1)


def open_zip(data: bytes, asked: Asked, what: str) -> Members:
    """List the files of an archive.

    Args:
        data: Bytes of the archive.
        asked: Display name and limits.
        what: Expected kind of file, for error messages.

    Raises:
        PromptFileError: If it is not a zip, is encrypted, exceeds limits, or contains unsafe paths.
    """
    name, limits = asked.name, asked.limits
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except _DAMAGED as error:
        raise PromptFileError(
            f"{name}: expected {what}, got something that does not read as one. Save it again."
        ) from error
    # Not `is_dir`, which fails on an empty name in Python 3.11.
    infos = [info for info in archive.infolist() if not info.filename.endswith("/")]
    if len(infos) > FIXED.max_zip_members:
        raise PromptFileError(
            f"{name}: expected at most {FIXED.max_zip_members:,} files in it, got {len(infos):,}. "
            "Split it."
        )
    # The sizes are the archive's own claim, but `unpack` unpacks no more than that.
    unpacked = sum(info.file_size for info in infos)
    if unpacked > limits.max_total_bytes:
        raise PromptFileError(
            f"{name}: {megabytes(unpacked)} when unpacked; the limit is "
            f"{limits.max_total_bytes / 1e6:g} MB. Split it, or keep a sample of it."
        )
    for info in infos:
        _check(info, name)
    # `Members` finds files by name, so the last would hide the others.
    if len({info.filename for info in infos}) < len(infos):
        raise PromptFileError(f"{name}: two files in it have the same name. Pack it again.")
    return Members(archive, infos, name)


def _check(info: zipfile.ZipInfo, name: str) -> None:
    inside = display_name(info.filename)
    # To Windows a backslash separates folders, and `C:` is a drive.
    path = PurePosixPath(info.filename.replace("\\", "/"))
    if not path.parts:
        raise PromptFileError(f"{name}: a file in it has no name. Pack it again.")
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise PromptFileError(
            f"{name}: the path of `{inside}` leads out of the archive. Pack it again with plain "
            "names."
        )
    if info.flag_bits & 0x1:
        raise PromptFileError(f"{name}: `{inside}` in it is encrypted. Pack it without a password.")
    if info.compress_type not in METHODS:
        raise PromptFileError(
            f"{name}: `{inside}` in it is compressed in a way that is not read. Pack it with "
            "Deflate, which is the default of most programs."
        )
    if is_bomb(info, FIXED.max_zip_ratio):
        raise PromptFileError(
            f"{name}: `{inside}` unpacks to more than {FIXED.max_zip_ratio} times its size. Leave "
            "it out."
        )
