"""The file checks of `dnd inspect`, for adapters of other bases or tools."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dnd_engine.cli.common import check_exists, show
from dnd_engine.limits import FIXED

if TYPE_CHECKING:
    from dnd_engine.lora.layout import LoRALayout
    from dnd_engine.lora.structure import AdapterStructure
    from dnd_engine.serving.contract import Contract


def is_foreign(path: Path, base: str) -> bool:
    """Return whether a folder's config names another base than the one to load.

    Zips and unreadable files count as not foreign: the reader reports them with better messages.
    """
    from dnd_engine.models.sources import BASES

    file = path / "adapter_config.json"
    try:
        # Reading a pipe, or what a link leads to, may never end.
        if file.is_symlink() or not file.is_file():
            return False
        if file.stat().st_size > FIXED.max_settings_bytes:
            return False
        # As bytes, which may begin with a byte order mark.
        config = json.loads(file.read_bytes())
        named = config["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    # Adapters refer to the embedded base by its Hub id.
    known = {base, BASES[base].hub_id} if base in BASES else {base, str(Path(base))}
    return isinstance(named, str) and bool(named) and named not in known


def inspect_files(path: Path, base: str, as_json: bool) -> None:
    """Print an adapter's structure and what does nothing; exit code 1 if anything is wrong.

    What only engines refuse is printed too, and is not wrong: PEFT applies it. If the base that the
    user named is a folder, its layers are compared with; else those of the base that the adapter
    names, if they are known here.
    """
    from dnd_engine.lora.reader import read_files
    from dnd_engine.lora.structure import read_structure
    from dnd_engine.serving.contract import check_files

    check_exists(path)
    # The first reading finds the name of the base, the second compares with its layers.
    found = read_structure(path)
    name, place = (base, base) if _is_folder(base) else (found.base, _known_here(found.base))
    if place and (layout := _layout(place)) is not None:
        found = replace(read_structure(path, layout), checked_against=name)
    served = check_files(read_files(path))
    show(
        {
            "adapter": str(path),
            **asdict(found),
            "works": found.works,
            "engines": {"refuse": served.faults, "warnings": served.warnings},
        },
        as_json,
        "\n".join(_words(path, found, served)),
    )
    if not found.works:
        raise typer.Exit(1)


def _is_folder(base: str) -> bool:
    from dnd_engine.files import existing
    from dnd_engine.models.sources import BASES

    folder = None if base in BASES else existing(base)
    return folder is not None and folder.is_dir()


def _known_here(base: str) -> str | None:
    """Return where to read the sizes of a base that an adapter names; None if nowhere.

    Not from a folder of that name: a stranger wrote it, and it may be any path.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    from dnd_engine.plan.shapes import shipped_shapes

    if base in shipped_shapes():
        return base
    try:
        found = try_to_load_from_cache(base, "config.json")
    except HFValidationError:
        return None
    return found if isinstance(found, str) else None


def _layout(base: str) -> "LoRALayout | None":
    """Return the layout of all layers of a base; None if it is not supported."""
    from dnd_engine.errors import ConfigError, LayoutError
    from dnd_engine.lora.layout import LoRASpec
    from dnd_engine.plan.shapes import read_shape

    try:
        return read_shape(base, LoRASpec()).layout
    except (ConfigError, LayoutError):
        return None


def _words(path: Path, found: "AdapterStructure", served: "Contract") -> list[str]:
    modules = ", ".join(f"{name} {count}" for name, count in sorted(found.modules.items()))
    against = (
        f"compared with the layers of {found.checked_against}"
        if found.checked_against
        else "not compared with its base, whose sizes are not known here"
    )
    changed = found.num_layers - found.num_zero
    zero = f"; {changed} of them change the base, the others are zero" if found.num_zero else ""
    return [
        f"{path}: LoRA for `{found.base or 'no base named'}`, r {found.r}, alpha "
        f"{found.lora_alpha}; {against}",
        f"{found.num_keys} keys, {found.num_parameters:,} parameters ({', '.join(found.dtypes)})",
        f"{found.num_layers} adapted layers: {modules or 'none'}{zero}",
        *(f"Wrong: {fault}." for fault in found.faults),
        *(f"Does nothing: {idle}." for idle in found.does_nothing),
        *(
            f"Used by PEFT, not by the engines that people serve with: {part}."
            for part in found.peft_only
        ),
        *(f"Engines cannot serve it: {fault}." for fault in served.faults),
        *(f"To serve it: {warning}." for warning in served.warnings),
        *([f"{'PEFT' if served.faults else 'A loader'} uses all of it."] if found.works else []),
    ]
