"""Lists bases and generators on this machine, and the download size of other bases.

Reads configs and file sizes; loads no weights. Only `availability` may query the Hub, and only on
request.
"""

import fnmatch
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import CachedRevisionInfo, HfApi, scan_cache_dir, snapshot_download
from huggingface_hub.errors import CacheNotFound, HfHubHTTPError, HFValidationError
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # public, but not typed

from dnd_engine.config import NO_GENERATOR, EngineConfig
from dnd_engine.errors import AssetError, GeneratorError
from dnd_engine.files import asset_path, existing, expanded, user_folder
from dnd_engine.generator.folder import GeneratorFolder
from dnd_engine.lora.layout import ARCHITECTURES
from dnd_engine.models.sources import (
    BASES,
    DEFAULT_ENCODER,
    ENCODERS,
    WEIGHTS,
    cache_folder,
    downloaded_files,
    first_line,
    known_name,
)

logger = logging.getLogger(__name__)

SHIPPED: Mapping[str, str] = {
    **{name: name for name in BASES},
    # Its base is no part of this package, and is downloaded when it is chosen.
    "Qwen/Qwen2.5-Coder-0.5B-Instruct": "qwen2.5-coder-0.5b-instruct",
}
"""Folders of the shipped generators, by the names of their bases."""

_HUB_SECONDS = 15
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """Whether a base is on this machine, and its size."""

    num_bytes: int | None
    """Size of its weights on disk; None if only the Hub knows."""
    download_bytes: int | None
    """Bytes to download first, 0 for none; None if only the Hub knows."""

    def with_part(self, part: "Availability") -> "Availability":
        """Add the download size of another part."""
        both = (self.download_bytes, part.download_bytes)
        return replace(self, download_bytes=None if None in both else sum(filter(None, both)))


_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A base, and its generator if there is one."""

    base: str
    """Name of the base, as `--base` takes it."""
    generator: Path | None = None
    """Folder of the generator; None means imprint alone."""
    generator_bytes: int = 0
    is_lora: bool = False
    """Whether the generator is one LoRA for all tasks, which reads no prompts."""
    encoder: str = ""
    """Hub id of the generator's encoder; empty if it is embedded."""

    @property
    def base_name(self) -> str:
        """Name of the base, without owner or folder."""
        source = BASES.get(self.base)
        return (source.hub_id if source else self.base).rstrip("/").rpartition("/")[2]

    @property
    def key(self) -> str:
        """Unique key of this choice."""
        return f"{self.base}|{self.generator or NO_GENERATOR}"


def generator_path(config: EngineConfig) -> Path | None:
    """Return the generator's folder; None if the base has none, or none is wanted."""
    if config.generator is not None:
        return None if config.generator == NO_GENERATOR else config.generator
    name = known_name(config.base, BASES)
    return asset_path("generators", SHIPPED[name]) if name in SHIPPED else None


def encoder_name(config: EngineConfig, folder: GeneratorFolder | None) -> str:
    """Return the encoder to load: the configured, else the generator's, else the embedded one.

    Raises:
        GeneratorError: If the generator names a local folder. It may be untrusted, so it must not
            choose what is read from this computer.
    """
    if config.encoder or folder is None:
        return known_name(config.encoder or "", ENCODERS) or DEFAULT_ENCODER
    named = folder.config.encoder.get("id") or DEFAULT_ENCODER
    known = known_name(named, ENCODERS)
    if known in ENCODERS:
        return known
    # A relative folder may look like an id of the Hub, and `resolve` would load it instead.
    if not _HUB_ID.fullmatch(known) or existing(known):
        raise GeneratorError(
            f"the generator `{folder.path}` reads prompts with the encoder {named!r}, which is no "
            "id of the Hub. If you have that folder and trust it, name it with --encoder."
        )
    return known


def loaded_choice(config: EngineConfig) -> Choice:
    """Return what a configuration loads, as a `Choice`."""
    path = generator_path(config)
    num_bytes = _weights(path) if path else 0
    return Choice(
        base=known_name(config.base, BASES),
        # The page names choices by their folders, and the path `.` has no name.
        generator=path.absolute() if path else None,
        generator_bytes=num_bytes,
        is_lora=path is not None and GeneratorFolder.open(path).config.is_lora,
    )


def installed(loaded: EngineConfig | None = None) -> list[Choice]:
    """List the available choices: first those with generators, then imprint alone.

    What is loaded now is among them, in whichever folder its generator is.
    """
    now = loaded_choice(loaded) if loaded else None
    places = [asset_path("generators", name) for name in SHIPPED.values()]
    if (own := user_folder("generators")).is_dir():
        places += sorted(path for path in own.iterdir() if path.is_dir())
    written = [one for one in _written(places) if now is None or one.generator != now.generator]
    if now is not None and now.generator is not None:
        # The loaded base may be named differently than in its generator's config.
        written.insert(0, now)
    # The loaded base too: it may have no generator, and may not be in the Hub's cache.
    bases = [*(one.base for one in written), *_cached_bases(), *([now.base] if now else [])]
    return [*written, *(Choice(base=base) for base in dict.fromkeys(bases))]


def availability(
    base: str, cache_dir: Path | None = None, *, ask_hub: bool = False
) -> Availability:
    """Find out whether a base is on this machine, and how large it is.

    Args:
        base: Name of the base, as `--base` takes it.
        cache_dir: Cache for converted weights; None is the user's cache folder.
        ask_hub: Whether to query the Hub about a base that is not here.

    Raises:
        AssetError: If there is no such file or folder, or the Hub does not know it.
    """
    if source := BASES.get(base):
        here = _weights(cache_folder(cache_dir) / base)
        return Availability(
            num_bytes=here or None, download_bytes=0 if here else source.download_bytes
        )
    try:
        num_bytes = _on_disk(base)
    except OSError as error:
        # The name may be anything: somebody may still be typing it.
        why = error.strerror or first_line(error)
        shown = base[:_SHOWN_CHARACTERS]
        raise AssetError("`{base}` cannot be read: {why}.", base=shown, why=why) from error
    if num_bytes == 0:
        raise AssetError(
            "no model at `{base}`. Expected a folder with .safetensors weights.", base=base
        )
    if num_bytes is not None:
        return Availability(num_bytes=num_bytes, download_bytes=0)
    try:
        # What is not in the Hub's cache is an OSError; what cannot be an id fails validation.
        here = _weights(Path(snapshot_download(base, local_files_only=True)))
    except (HFValidationError, OSError):
        here = 0
    if here:
        return Availability(num_bytes=here, download_bytes=0)
    return _on_hub(base) if ask_hub else Availability(num_bytes=None, download_bytes=None)


def _on_disk(base: str) -> int | None:
    """Return the size of a file's or folder's weights; None for a Hub id."""
    path = expanded(base)
    if path.is_file():
        return path.stat().st_size
    # A path that leads nowhere has 0 bytes of weights; it is no Hub id.
    if path.is_dir() or path.is_absolute() or base.startswith(("./", "../", "~")):
        return _weights(path)
    return None


def _on_hub(base: str) -> Availability:
    try:
        # An unreachable Hub is an error of httpx, and that is no OSError.
        found = HfApi().model_info(base, files_metadata=True, timeout=_HUB_SECONDS)
    except (HfHubHTTPError, HFValidationError, httpx.HTTPError, OSError) as error:
        raise AssetError(
            "`{base}` is neither here nor does the Hub say what it is: {reason}",
            base=base,
            reason=first_line(error),
        ) from error
    sizes = {file.rfilename: file.size or 0 for file in found.siblings or ()}
    wanted = downloaded_files(sizes)
    weights = sum(sizes[name] for name in wanted if fnmatch.fnmatch(name, WEIGHTS))
    if not weights:
        raise AssetError(
            "`{base}` has no .safetensors weights on the Hub; others are not loaded.", base=base
        )
    return Availability(num_bytes=weights, download_bytes=sum(sizes[name] for name in wanted))


def _written(places: Sequence[Path]) -> Iterator[Choice]:
    """Open generator folders; log and skip invalid ones."""
    for place in places:
        try:
            opened = GeneratorFolder.open(place)
            # An encoder that the user configured belongs to what is loaded, not to every generator.
            encoder = encoder_name(EngineConfig(), opened)
            num_bytes = _weights(place)
        except (GeneratorError, OSError) as error:
            logger.warning("Not offered as a generator: %s", error)
            continue
        yield Choice(
            base=known_name(str(opened.config.base.get("id", "")), BASES),
            generator=place,
            generator_bytes=num_bytes,
            is_lora=opened.config.is_lora,
            encoder="" if encoder in ENCODERS else encoder,
        )


def _cached_bases() -> Iterator[str]:
    """List supported models that are complete in the Hub's cache."""
    try:
        found = scan_cache_dir()
    except CacheNotFound:
        return
    for repo in sorted(found.repos, key=lambda repo: repo.repo_id):
        if repo.repo_type == "model" and any(_supported(one) for one in repo.revisions):
            yield known_name(repo.repo_id, BASES)


def _supported(revision: CachedRevisionInfo) -> bool:
    config = revision.snapshot_path / "config.json"
    try:
        if not (config.is_file() and _weights(revision.snapshot_path)):
            return False
        # Any JSON may be in the cache: a list has no `get`, and a `model_type` may be unhashable.
        return json.loads(config.read_text(encoding="utf-8")).get("model_type") in ARCHITECTURES
    except (OSError, ValueError, AttributeError, TypeError) as error:
        logger.warning("Not offered as a base: `%s`: %s", config, error)
        return False


def _weights(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob(WEIGHTS))
