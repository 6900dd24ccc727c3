"""Reads PEFT folders and zips from any source, and treats them as hostile until checked.

It extracts nothing, follows no link, opens no pickle and checks sizes before reading. All faults of
an adapter are in one message. Knows files and layouts; writes nothing.
"""

import hashlib
import json
import lzma
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from jaxtyping import Float
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from dnd_engine.config import MIXES
from dnd_engine.errors import AdapterError, BaseMismatchError, LayoutMismatchError, RecipeError
from dnd_engine.files import recover
from dnd_engine.limits import FIXED
from dnd_engine.lora.adapter import Adapter, exploded
from dnd_engine.lora.layout import LoRALayout, LoRASpec, architecture_of
from dnd_engine.lora.provenance import FILES, Recipe
from dnd_engine.lora.weight_tokens import check_state, tokenize
from dnd_engine.notes import first_of, joined, noted
from dnd_engine.prompts.buckets import MAX_WEIGHT
from dnd_engine.prompts.readers.zips import METHODS, is_bomb, unpack
from dnd_engine.prompts.words import one_line, shorten

_CONFIG, _WEIGHTS = FILES[:2]
_LIMITS = {
    _CONFIG: FIXED.max_settings_bytes,
    _WEIGHTS: FIXED.max_weights_bytes,
    "provenance.json": FIXED.max_provenance_bytes,
}
"""Maximum bytes of each file to read. READMEs are not read."""
_MAX_ALPHA = 1_000_000
_MAX_NAMED = 3
"""Maximum number of names of one kind in a message."""
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_PICKLE_WORDS = noted(
    "which can run code when it is read; it was not opened. Save it again with PEFT, which writes "
    "safetensors."
)
_FREE_SETTINGS = {
    *("auto_mapping", "base_model_name_or_path", "inference_mode", "lora_alpha", "lora_dropout"),
    *("peft_type", "peft_version", "r", "revision", "target_modules", "task_type"),
}
"""Settings of PEFT's LoRA config that may have any value; all others must be off or at PEFT's
default."""
_WRITTEN_LAST = ("strength", "sha256", "checks")
"""Entries of provenance.json that describe the written adapter."""
_FLOATS = {torch.float32, torch.float16, torch.bfloat16}
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError)
"""Exceptions of a broken zip, apart from OSError (bzip2), RuntimeError (encrypted), ValueError (odd
names and offsets) and EOFError."""


class _Faults:
    """The faults of one adapter, raised once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.own: list[str] = []
        self.base: list[str] = []
        """Mismatches with this base; the adapter may fit another one."""

    def add(self, fault: str) -> None:
        self.own.append(joined([f"`{self.path}`", fault], " "))

    def misfit(self, fault: str) -> None:
        self.base.append(joined([f"`{self.path}`", fault], " "))

    def raise_any(self) -> None:
        kind = AdapterError if self.own else BaseMismatchError
        if faults := self.own + self.base:
            raise kind(joined(faults, "\n"))


def read_adapter(path: Path, base_config: Mapping[str, Any], base_id: str) -> Adapter:
    """Read a PEFT LoRA folder or zip and check it against a base.

    Args:
        path: A folder, or a zip of one.
        base_config: The base's `config.json`, as a mapping.
        base_id: Name of the base in adapter configs.

    Raises:
        AdapterError: With every fault: missing, too large or unsupported files, settings beyond
            plain LoRA, weights that are not finite floats.
        BaseMismatchError: If the only fault is that it was made for another base or does not fit
            its shapes.
    """
    # A disk that cannot be written to may still be read.
    with suppress(OSError):
        recover(path)
    faults = _Faults(path)
    files = _read_files(path, faults)
    if not files:
        faults.raise_any()
    spec = None
    if _CONFIG in files:
        config = _parse(files[_CONFIG], _CONFIG, faults)
        if config is not None:
            spec = _plain_spec(config, architecture_of(base_config).modules, faults)
            _check_base(config, base_id, faults)
    layout = None if spec is None else LoRALayout.from_config(base_config, spec)
    tokens = _read_tokens(files[_WEIGHTS], layout, base_id, faults) if _WEIGHTS in files else None
    # A foreign provenance is written on, and no other reader of JSON takes NaN or infinities.
    provenance = _parse(
        files.get("provenance.json", b"{}"), "provenance.json", faults, constant=lambda _: None
    )
    faults.raise_any()
    # Either is None only if there was a fault, which has been raised by now.
    assert layout is not None
    assert tokens is not None
    origin = _trusted(provenance, hashlib.sha256(files[_WEIGHTS]).hexdigest())
    num_prompts = origin.get("num_prompts", 0)
    return Adapter(
        name=_name(path),
        tokens=tokens,
        layout=layout,
        base_id=base_id,
        provenance=origin,
        num_prompts=num_prompts if type(num_prompts) is int and num_prompts > 0 else 0,
    )


def _name(path: Path) -> str:
    """Name an adapter after its file, or its folder, whose name may hold dots."""
    path = path.resolve()
    return path.name if path.is_dir() else path.stem


def read_files(path: Path) -> dict[str, bytes]:
    """Read config and weights of any PEFT folder or zip, safely but without validation.

    Raises:
        AdapterError: With every fault: files that are missing, too large, pickles or links.
    """
    faults = _Faults(path)
    files = _read_files(path, faults)
    faults.raise_any()
    return files


def _read_files(path: Path, faults: _Faults) -> dict[str, bytes]:
    """Read the known files of a folder or zip, without opening others."""
    if path.is_dir():
        found, others = _read_folder(path, faults)
    # By the name, before zipfile looks at it: what torch saves is a zip with a pickle inside.
    elif path.is_file() and path.suffix.lower() in _PICKLES:
        faults.add(noted("is a pickle, {why}", why=_PICKLE_WORDS))
        return {}
    elif path.is_file() and path.suffix.lower() == ".safetensors":
        faults.add(
            noted(
                "lacks its `{file}`. Name the folder that holds both, or a zip of that.",
                file=_CONFIG,
            )
        )
        return {}
    elif path.is_file():
        try:
            found, others = _read_zip(path, faults)
        except (*_ZIP_ERRORS, OSError, RuntimeError, EOFError, ValueError) as error:
            # Then `zipfile` says only that it is none.
            if isinstance(error, zipfile.BadZipFile) and not zipfile.is_zipfile(path):
                faults.add(
                    noted("is no zip, or its end is missing. Name a PEFT folder, or a zip of one.")
                )
            else:
                faults.add(noted("is no readable zip: {reason}", reason=_short(error)))
            return {}
    else:
        raise AdapterError("no adapter at `{path}`. Expected a PEFT folder or zip.", path=str(path))
    missing = [name for name in (_CONFIG, _WEIGHTS) if name not in found]
    pickles = [name for name in others if PurePosixPath(name).suffix.lower() in _PICKLES]
    if missing:
        faults.add(noted("is no PEFT adapter: {files} missing.", files=", ".join(missing)))
    if _WEIGHTS in missing and pickles:
        faults.add(
            noted(
                "has its weights in a pickle ({files}), {why}",
                files=_quoted(pickles),
                why=_PICKLE_WORDS,
            )
        )
    return {name: data for name, data in found.items() if data is not None}


_Found = tuple[dict[str, bytes | None], list[str]]
"""Contents of the known files, with None for refused ones, and the names of other files."""


def _read_folder(path: Path, faults: _Faults) -> _Found:
    found: dict[str, bytes | None] = {}
    try:
        names = sorted(child.name for child in path.iterdir())
        for name, limit in _LIMITS.items():
            if name in names:
                found[name] = None
            # Before `is_file`, which follows a link to any file of this computer.
            if (path / name).is_symlink():
                faults.add(
                    noted(
                        "holds `{file}` as a link, which is not followed. Copy the folder with the "
                        "files themselves (`cp -rL`).",
                        file=name,
                    )
                )
            elif (path / name).is_file():
                size = (path / name).stat().st_size
                if _fits(name, size, limit, faults):
                    found[name] = (path / name).read_bytes()
            elif name in names:
                # A folder, device or pipe; reading a pipe may never end.
                faults.add(noted("holds `{file}`, which is no file. Export it again.", file=name))
    except OSError as error:
        faults.add(noted("cannot be read: {reason}.", reason=error.strerror or str(error)))
        return dict.fromkeys(_LIMITS), []
    return found, [name for name in names if name not in _LIMITS]


def _read_zip(path: Path, faults: _Faults) -> _Found:
    """Read files at the top level, or in the only folder."""
    found: dict[str, bytes | None] = {}
    # Before opening it: zipfile reads the list of all entries into memory.
    if path.stat().st_size > sum(_LIMITS.values()):
        most = sum(_LIMITS.values()) // 1_000_000
        faults.add(noted("is over {most} MB, too large for an adapter.", most=most))
        return dict.fromkeys(_LIMITS), []
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        if len(entries) > FIXED.max_adapter_members:
            faults.add(
                noted(
                    "holds {number} entries, allowed {most}. Pack the adapter alone.",
                    number=len(entries),
                    most=FIXED.max_adapter_members,
                )
            )
            return dict.fromkeys(_LIMITS), []
        # Nothing is extracted here, but such names are made to harm whoever extracts them.
        if strays := [name for name in names if _climbs(name)]:
            faults.add(
                noted(
                    "holds entries that would land outside of its folder ({entries}). Nothing was "
                    "extracted. Do not trust it, or pack the folder again.",
                    entries=_quoted(strays),
                )
            )
        folder = _only_folder(names, faults)
        known = {folder + name: (name, limit) for name, limit in _LIMITS.items()}
        counts = Counter(names)
        # Each name once, so that a repeated one is reported once.
        for entry in {entry.filename: entry for entry in entries}.values():
            if entry.filename not in known:
                continue
            name, limit = known[entry.filename]
            found[name] = None
            if counts[entry.filename] > 1:
                # Other readers may take the other one of the two.
                faults.add(noted("holds `{file}` twice. Export it again.", file=name))
            elif entry.compress_type not in METHODS:
                faults.add(
                    noted(
                        "holds `{file}` packed in a way that is not read. Use Deflate.", file=name
                    )
                )
            # Zips made on Unix hold the file's mode in the upper 16 bits.
            elif stat.S_ISLNK(entry.external_attr >> 16):
                faults.add(noted("holds `{file}` as a link. Pack the files themselves.", file=name))
            elif entry.file_size <= limit and is_bomb(entry, FIXED.max_adapter_ratio):
                faults.add(
                    noted(
                        "holds `{file}` packed to less than 1 % of its size, as a zip bomb is; "
                        "weights barely compress. It was not unpacked.",
                        file=name,
                    )
                )
            elif _fits(name, entry.file_size, limit, faults):
                found[name] = unpack(archive, entry)
    return found, [name for name in names if name not in known]


def _climbs(name: str) -> bool:
    """Return whether an entry's name may point outside the folder it is extracted to."""
    parts = name.removesuffix("/").split("/")
    # On Windows a backslash separates folders, and `C:` is a drive.
    return "\\" in name or ":" in parts[0] or any(part in ("", ".", "..") for part in parts)


def _only_folder(names: Sequence[str], faults: _Faults) -> str:
    """Return where the adapter is: at the top level, or in the only folder."""
    # Only those with a config count: macOS puts a `__MACOSX` beside the folder that it packs.
    folders = [
        name.removesuffix(_CONFIG)
        for name in dict.fromkeys(names)
        if name.count("/") <= 1 and name.rpartition("/")[2] == _CONFIG and not _climbs(name)
    ]
    if "" in folders or not folders:
        return ""
    if len(folders) > 1:
        faults.add(
            noted("holds several adapters ({folders}). Pack one alone.", folders=_quoted(folders))
        )
    return folders[0]


def _fits(name: str, size: int, limit: int, faults: _Faults) -> bool:
    if size > limit:
        faults.own.append(
            noted(
                "`{file}` in `{path}` is over {most} MB, too large for a LoRA adapter.",
                file=name,
                path=str(faults.path),
                most=limit // 1_000_000,
            )
        )
    return size <= limit


def _parse(
    data: bytes, name: str, faults: _Faults, *, constant: Callable[[str], object] | None = None
) -> Any:
    """Parse JSON; return None with a fault. `null` counts as an empty object.

    `constant` makes values of NaN and infinities, which are floats by default.
    """
    try:
        value = json.loads(data, parse_constant=constant)
        return {} if value is None else _encodable(value)
    except (ValueError, RecursionError) as error:
        faults.add(noted("is damaged: {reason} (`{file}`)", reason=_short(error), file=name))
        return None


def _encodable(value: Any) -> Any:
    """Replace lone surrogates, which JSON may escape but no file or page can encode."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.loads(text.encode(errors="replace"))
    return value


def _plain_spec(config: Any, modules: Sequence[str], faults: _Faults) -> LoRASpec | None:
    """Return the LoRA that a config describes, or None with every setting beyond plain LoRA."""
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        faults.add(noted("is no LoRA: `peft_type` must be LORA."))
        return None
    before = len(faults.own)
    defaults = LoraConfig().to_dict()
    # What is off may pass, even if only a newer PEFT knows it, and so may this PEFT's defaults.
    # "gaussian" is how A was drawn at first; PiSSA and others change the base too.
    special = sorted(
        name
        for name, value in config.items()
        if name not in _FREE_SETTINGS and value and value not in (defaults.get(name), "gaussian")
    )
    if special:
        faults.add(
            noted(
                "is not plain LoRA: it sets {settings}. Only one r and one alpha for all layers "
                "can be used.",
                settings=_quoted(special, 8, quote=""),
            )
        )
    targets = config.get("target_modules")
    if not isinstance(targets, list):
        faults.add(
            noted(
                "lists no layers: `target_modules` must be a list of names, got {found}.",
                found=_short(targets),
            )
        )
    elif not targets or not all(isinstance(t, str) and t in modules for t in targets):
        names = ", ".join(shorten(one_line(str(target)), 40) for target in targets[:10])
        faults.add(
            noted(
                "adapts other layers: `target_modules` must be some of {known}, got {found}.",
                known=", ".join(modules),
                found=names or noted("none"),
            )
        )
    for name, most in (("r", FIXED.max_adapter_r), ("lora_alpha", _MAX_ALPHA)):
        value = config.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            faults.add(
                noted(
                    "is no LoRA of one size: `{name}` must be a whole number from 1 to {most}, got "
                    "{found}.",
                    name=name,
                    most=most,
                    found=_short(value),
                )
            )
    if len(faults.own) > before:
        return None
    return LoRASpec(
        r=config["r"],
        lora_alpha=config["lora_alpha"],
        target_modules=tuple(dict.fromkeys(config["target_modules"])),
    )


def _check_base(config: Any, base_id: str, faults: _Faults) -> None:
    named = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if named and named != base_id:
        name = shorten(one_line(str(named)), 100)
        faults.misfit(
            noted(
                "was made for {named}. It cannot run on {base}. If they are the same model, write "
                "{base} as `base_model_name_or_path` in its `{file}`.",
                named=name,
                base=base_id,
                file=_CONFIG,
            )
        )


def _read_tokens(
    data: bytes, layout: LoRALayout | None, base_id: str, faults: _Faults
) -> Float[Tensor, "tokens rows cols"] | None:
    """Return weight tokens in bfloat16, or None with the faults of the weights."""
    if (number := _num_tensors(data)) > FIXED.max_adapter_tensors:
        faults.add(
            noted(
                "holds {number} tensors in `{file}`, allowed {most}. A LoRA has two for each layer "
                "that it adapts; export it alone.",
                number=number,
                file=_WEIGHTS,
                most=FIXED.max_adapter_tensors,
            )
        )
        return None
    try:
        state = load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        faults.add(noted("is damaged: {reason} (`{file}`)", reason=_short(error), file=_WEIGHTS))
        return None
    dtypes = {str(value.dtype) for value in state.values()} - set(map(str, _FLOATS))
    if dtypes:
        faults.add(
            noted("holds {dtypes}; expected plain floats.", dtypes=", ".join(sorted(dtypes)))
        )
    # Check after conversion to bfloat16, where a large float32 becomes infinite.
    bad = [
        key
        for key, value in state.items()
        if value.dtype in _FLOATS and not value.to(torch.bfloat16).isfinite().all()
    ]
    if bad:
        faults.add(
            noted(
                "holds weights that are not finite numbers, in {keys}. Export it again.",
                keys=_quoted(sorted(bad)),
            )
        )
    for key, value in state.items():
        if value.dtype in _FLOATS and key not in bad and (fault := exploded(value)):
            faults.add(
                noted(
                    "{fault} The first is `{key}`. Export a sound checkpoint.",
                    fault=fault,
                    key=shorten(key, 80),
                )
            )
            break
    if layout is None:
        return None
    try:
        check_state(state, layout)
        # Some dtypes cannot be concatenated.
        return None if dtypes else tokenize(state, layout).to(torch.bfloat16)
    except LayoutMismatchError as error:
        faults.misfit(noted("does not fit {base}: {reason}", base=base_id, reason=str(error)))
        return None


def _num_tensors(data: bytes) -> int:
    """Return an upper bound on the tensors in a safetensors header; 0 if it is unreadable."""
    length = int.from_bytes(data[:8], "little")
    # Count braces: each tensor is one object, and parsing would take far more memory. A key could
    # be escaped, a brace could not.
    return max(0, data[8 : 8 + length].count(b"{") - 1) if length <= len(data) else 0


def _trusted(provenance: Any, sha256: str) -> dict[str, Any]:
    """Return the trustworthy part of a file's provenance, with its recipe only if the hash matches.

    The hash is that of the adapter's weights.
    """
    if not isinstance(provenance, dict):
        return {}
    # Drop checks measured elsewhere, so that they do not look as if measured here.
    # A section that is null counts as none, as one that is missing does.
    origin = {k: v for k, v in provenance.items() if k not in _WRITTEN_LAST and v is not None}
    # An adapter that was trained on answers has no recipe itself, but its file also holds that of
    # the adapter it began from.
    began = {k: v for k, v in provenance.items() if k != "trained"}
    try:
        recipe = Recipe.from_json(began)
    except RecipeError:
        recipe = None
    if recipe is not None and recipe.sha256 == sha256:
        # A file has its strength folded in, so it is one more folding from now on.
        folded = [*recipe.folded, *([recipe.strength] if recipe.strength != 1 else [])]
        return {**origin, "folded": folded}
    # Other code trusts these: they recreate the adapter, and say which prompts test its imprint.
    for key in ("format", "folded", "imprint", "refined_before"):
        origin.pop(key, None)
    if not _are_buckets(origin.get("buckets")):
        origin.pop("buckets", None)
    # Controls that an adapter is compared with are made with its own seed and mix.
    if type(origin.get("seed")) is not int:
        origin.pop("seed", None)
    if origin.get("mix") not in MIXES:
        origin.pop("mix", None)
    refined = origin.get("refined")
    if "refined" in origin and not (isinstance(refined, dict) and "labels" in refined):
        origin.pop("refined")
    return origin


def _are_buckets(value: Any) -> bool:
    """Return whether an untrusted provenance lists buckets in our format."""
    return isinstance(value, list) and all(
        isinstance(b, dict)
        and isinstance(b.get("name"), str)
        and isinstance(b.get("weight"), int | float)
        and abs(b["weight"]) <= MAX_WEIGHT
        and isinstance(b.get("num_prompts"), int)
        for b in value
    )


def _quoted(names: Sequence[str], most: int = _MAX_NAMED, quote: str = "`") -> str:
    """Shorten untrusted names to a list on one line."""
    return first_of(names, most, write=lambda n: f"{quote}{shorten(one_line(n), 60)}{quote}")


def _short(value: Any) -> str:
    """Shorten an untrusted value, or an error that quotes one, to one line."""
    if isinstance(value, Exception):
        return shorten(one_line(str(value)), 200)
    return shorten(one_line(repr(value)), 40)
