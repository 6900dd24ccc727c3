"""Opens untrusted zip archives: checks limits before unpacking, and writes nothing to disk."""

import io
import zipfile
import zlib
from pathlib import PurePosixPath

from dnd_engine.errors import PromptFileError
from dnd_engine.limits import FIXED, PromptLimits
from dnd_engine.notes import Note, noted
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
    NotImplementedError,  # zipfile: a compression method that it does not know
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
                "{name}: `{file}` in it is damaged. Pack it again.",
                name=self._name,
                file=display_name(member),
            ) from error


def is_bomb(info: zipfile.ZipInfo, max_ratio: int) -> bool:
    """Return whether a file is packed so small that it may be made to fill the memory."""
    return info.file_size > max(_SMALL_BYTES, max_ratio * info.compress_size)


def unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Unpack a file of a known size, packed by one of `METHODS`."""
    with archive.open(info) as file:
        # The size is the archive's own claim. With a bound, zipfile unpacks no more than this.
        return file.read(info.file_size + 1)


def open_zip(data: bytes, asked: Asked, what: Note) -> Members:
    """List the files of an archive; `what` names the expected kind of file in errors.

    Raises:
        PromptFileError: If it is not a zip, is encrypted, exceeds limits, or contains unsafe paths.
    """
    name, limits = asked.name, asked.limits
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except _DAMAGED as error:
        raise PromptFileError(
            "{name}: expected {what}, got something that does not read as one. Save it again.",
            name=name,
            what=what,
        ) from error
    # Not `is_dir`, which fails on an empty name in Python 3.11.
    infos = [info for info in archive.infolist() if not info.filename.endswith("/")]
    if len(infos) > FIXED.max_zip_members:
        raise PromptFileError(
            "{name}: expected at most {most} files in it, got {found}. Split it.",
            name=name,
            most=FIXED.max_zip_members,
            found=len(infos),
        )
    # The sizes are the archive's own claim, but `unpack` unpacks no more than that.
    unpacked = sum(info.file_size for info in infos)
    if unpacked > limits.max_total_bytes:
        raise PromptFileError(unpacks_to(unpacked, name, limits))
    for info in infos:
        _check(info, name)
    # `Members` finds files by name, so the last would hide the others.
    if len({info.filename for info in infos}) < len(infos):
        raise PromptFileError(
            "{name}: two files in it have the same name. Pack it again.", name=name
        )
    return Members(archive, infos, name)


def unpacks_to(num_bytes: int, name: str, limits: PromptLimits) -> Note:
    """Say that a file is too large once it is unpacked."""
    return noted(
        "{name}: {size:,g} MB when unpacked; the limit is {most:g} MB. Split it, or keep a sample "
        "of it.",
        name=name,
        size=megabytes(num_bytes),
        most=limits.max_total_bytes / 1e6,
    )


def _check(info: zipfile.ZipInfo, name: str) -> None:
    values = {"name": name, "file": display_name(info.filename)}
    # To Windows a backslash separates folders, and `C:` is a drive.
    path = PurePosixPath(info.filename.replace("\\", "/"))
    if not path.parts:
        raise PromptFileError("{name}: a file in it has no name. Pack it again.", **values)
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise PromptFileError(
            "{name}: the path of `{file}` leads out of the archive. Pack it again with plain "
            "names.",
            **values,
        )
    if info.flag_bits & 0x1:
        raise PromptFileError(
            "{name}: `{file}` in it is encrypted. Pack it without a password.", **values
        )
    if info.compress_type not in METHODS:
        raise PromptFileError(
            "{name}: `{file}` in it is compressed in a way that is not read. Pack it with "
            "Deflate, which is the default of most programs.",
            **values,
        )
    if is_bomb(info, FIXED.max_zip_ratio):
        raise PromptFileError(
            "{name}: `{file}` unpacks to more than {ratio} times its size. Leave it out.",
            **values,
            ratio=FIXED.max_zip_ratio,
        )
