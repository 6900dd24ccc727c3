"""Adapters: weight tokens with their origin, as a PEFT folder or zip, and back.

What is written is plain LoRA that stock PEFT loads: one r, one alpha, strength folded into B, the
base by its Hub id, the same bytes for the same input. What is read is hostile until checked.
"""

import hashlib
import io
import json
import math
import os
import re
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from dnd_engine.errors import AdapterError, BaseMismatchError, ConfigError, LayoutMismatchError
from dnd_engine.layout import LoRALayout, LoRASpec
from dnd_engine.weight_tokens import LoRAState, detokenize, tokenize

__all__ = ["Adapter", "NearestTask", "read_adapter", "sum_adapters", "write_files"]

FILES = ("adapter_config.json", "adapter_model.safetensors", "README.md", "provenance.json")
_MAX_BYTES = 512_000_000
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
"""Zip entries carry a time; a fixed one keeps equal adapters equal bytes."""


@dataclass(frozen=True, slots=True)
class NearestTask:
    """A training task and how similar its prompts are to the ones used."""

    slug: str
    description: str
    similarity: float
    """Cosine of mean prompt embeddings."""


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter in memory, on the CPU, owned by whoever holds it."""

    name: str
    tokens: Float[Tensor, "tokens rows cols"] = field(repr=False)
    """Plain weight tokens in bfloat16, at strength 1."""
    layout: LoRALayout = field(repr=False)
    base_id: str
    strength: float = 1.0
    """Factor on ΔW; negative for the opposite."""
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What it was made from: generator, buckets with counts, mix, seed. Never prompt texts."""
    num_prompts: int = 0
    """Distinct prompts in the buckets that counted."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    nearest_tasks: tuple[NearestTask, ...] = ()
    kept_energy: float | None = None
    """Share of a sum's squared ΔW norm left after the cut back to rank r; None when pooled."""

    def __post_init__(self) -> None:
        if not -10 <= self.strength <= 10:
            raise ConfigError(f"`strength` must lie between -10 and 10, got {self.strength}.")

    @property
    def r(self) -> int:
        """Rank."""
        return self.layout.spec.r

    @property
    def num_parameters(self) -> int:
        """Entries of all A and B."""
        return self.layout.num_parameters

    @property
    def worn_tokens(self) -> Float[Tensor, "tokens rows cols"]:
        """Tokens with the strength folded into B, exactly as saved."""
        if self.strength == 1:
            return self.tokens
        worn = self.tokens.clone()
        for m in self.layout.matrices():
            if m.side == "B":
                worn[m.first_token : m.first_token + m.num_tokens] *= self.strength
        return worn

    @property
    def state(self) -> LoRAState:
        """PEFT's state dict, strength folded into B."""
        return detokenize(self.worn_tokens, self.layout)

    @cached_property
    def weights(self) -> bytes:
        """`adapter_model.safetensors`."""
        contiguous = {key: value.contiguous() for key, value in sorted(self.state.items())}
        return save(contiguous, metadata={"format": "pt"})

    @cached_property
    def sha256(self) -> str:
        """Of `adapter_model.safetensors`, in hexadecimal."""
        return hashlib.sha256(self.weights).hexdigest()

    @property
    def num_bytes(self) -> int:
        """Size of `adapter_model.safetensors`."""
        return len(self.weights)

    def with_strength(self, strength: float) -> "Adapter":
        """The same adapter, stronger, weaker or reversed; nothing is synthesized again."""
        return replace(self, strength=strength)

    def save(self, path: Path | str) -> Path:
        """Write a PEFT folder, or a zip if `path` ends in .zip; appears whole or not at all.

        `Engine.save` also proves that stock PEFT reads it back.

        Raises:
            AdapterError: If `path` is an existing file where a folder is meant, or the reverse.
        """
        return write_files(self.files(), Path(path))

    def files(self) -> dict[str, bytes]:
        """The four files, by name."""
        config = LoraConfig(
            r=self.layout.spec.r,
            lora_alpha=self.layout.spec.lora_alpha,
            target_modules=list(self.layout.spec.target_modules),
            lora_dropout=0.0,
            bias="none",
            task_type="CAUSAL_LM",
            base_model_name_or_path=self.base_id,
            inference_mode=True,
        ).to_dict()  # type: ignore[no-untyped-call]
        # PEFT keeps these as sets and enums, whose order changes between processes.
        config = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
        config |= {"peft_type": "LORA", "task_type": "CAUSAL_LM"}
        provenance = {**self.provenance, "strength": self.strength, "sha256": self.sha256}
        return {
            "adapter_config.json": _json(config),
            "adapter_model.safetensors": self.weights,
            "README.md": _card(self).encode(),
            "provenance.json": _json(provenance),
        }


def sum_adapters(
    adapters: Sequence[Adapter], weights: Sequence[float]
) -> tuple[Float[Tensor, "tokens rows cols"], float]:
    """Weighted sum of ΔW, cut back to the common rank.

    The sum itself is exact: ranks are concatenated, A stacked and B side by side. A singular value
    decomposition per matrix then keeps the best rank r, computed on the small factors only.

    Args:
        adapters: Of one layout.
        weights: One each; negative ones subtract.

    Returns:
        Weight tokens, and the share of squared norm kept, over all matrices.
    """
    layout = adapters[0].layout
    states = [{k: v.float() for k, v in a.state.items()} for a in adapters]
    summed: LoRAState = {}
    kept = total = 0.0
    for m in layout.matrices():
        if m.side == "B":
            continue
        key_a, key_b = m.key, m.key.replace(".lora_A.", ".lora_B.")
        stacked_a = torch.cat([state[key_a] for state in states])
        stacked_b = torch.cat(
            [w * state[key_b] for w, state in zip(weights, states, strict=True)], dim=1
        )
        # ΔW = B·A; with B = Q_b·R_b and A^T = Q_a·R_a its singular values are those of R_b·R_a^T.
        q_a, r_a = torch.linalg.qr(stacked_a.T)
        q_b, r_b = torch.linalg.qr(stacked_b)
        u, s, vh = torch.linalg.svd(r_b @ r_a.T)
        r = layout.spec.r
        root = s[:r].sqrt()
        summed[key_b] = (q_b @ u[:, :r]) * root
        summed[key_a] = root[:, None] * (vh[:r] @ q_a.T)
        kept += float(s[:r].square().sum())
        total += float(s.square().sum())
    share = kept / total if total > 0 else 1.0
    return tokenize(summed, layout).to(torch.bfloat16), share


def write_files(files: Mapping[str, bytes], path: Path) -> Path:
    """Write aside, then rename."""
    as_zip = path.suffix == ".zip"
    if path.exists() and path.is_dir() == as_zip:
        kind = "a folder" if path.is_dir() else "a file"
        raise AdapterError(f"`{path}` is {kind}. Choose another name, or remove it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    if as_zip:
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as aside:
            aside.write(zip_bytes(files))
        os.replace(aside.name, path)
        return path
    if path.exists() and {f.name for f in path.iterdir()} - set(FILES):
        raise AdapterError(f"`{path}` holds other files. Choose a new or an empty folder.")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as parent:
        aside_folder = Path(parent) / "adapter"
        aside_folder.mkdir()
        for name, data in files.items():
            (aside_folder / name).write_bytes(data)
        if path.exists():
            os.replace(path, Path(parent) / "old")
        os.replace(aside_folder, path)
    return path


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """A zip of the files, equal bytes for equal files; stored, as weights hardly compress."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), data)
    return buffer.getvalue()


def read_adapter(path: Path, base_config: Mapping[str, Any], base_id: str) -> Adapter:
    """Read a PEFT LoRA folder or zip and check it against a base.

    Raises:
        AdapterError: If files are missing, too large, or not plain LoRA.
        BaseMismatchError: If it was made for another base or does not fit its shapes.
    """
    files = _read_files(path)
    try:
        config = json.loads(files["adapter_config.json"])
        provenance = json.loads(files.get("provenance.json", b"{}"))
        state = load(files["adapter_model.safetensors"])
    except (ValueError, SafetensorError) as error:
        raise AdapterError(f"`{path}` is damaged: {error}") from error
    spec = _plain_spec(path, config)
    named = config.get("base_model_name_or_path")
    if named and named != base_id:
        raise BaseMismatchError(f"`{path}` was made for {named}. It cannot run on {base_id}.")
    layout = LoRALayout.from_config(base_config, spec)
    try:
        tokens = tokenize(state, layout)
    except LayoutMismatchError as error:
        raise BaseMismatchError(f"`{path}` does not fit {base_id}: {error}") from error
    provenance = provenance if isinstance(provenance, dict) else {}
    num_prompts = provenance.get("num_prompts", 0)
    return Adapter(
        name=path.stem,
        tokens=tokens.to(torch.bfloat16),
        layout=layout,
        base_id=base_id,
        provenance={k: v for k, v in provenance.items() if k not in ("strength", "sha256")},
        num_prompts=num_prompts if isinstance(num_prompts, int) else 0,
    )


def _read_files(path: Path) -> dict[str, bytes]:
    """The known files of a folder or zip; anything else in it is not even opened."""
    needed = FILES[:2]
    found: dict[str, bytes] = {}
    if path.is_dir():
        for name in FILES:
            if (path / name).is_file():
                if (path / name).stat().st_size > _MAX_BYTES:
                    raise AdapterError(f"`{path / name}` is over {_MAX_BYTES // 1_000_000} MB.")
                found[name] = (path / name).read_bytes()
    elif path.is_file():
        try:
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    if info.filename in FILES:
                        if info.file_size > _MAX_BYTES:
                            raise AdapterError(
                                f"`{info.filename}` in `{path}` is over "
                                f"{_MAX_BYTES // 1_000_000} MB."
                            )
                        found[info.filename] = archive.read(info)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            raise AdapterError(f"`{path}` is no readable zip: {error}") from error
    else:
        raise AdapterError(f"no adapter at `{path}`. Expected a PEFT folder or zip.")
    missing = [name for name in needed if name not in found]
    if missing:
        raise AdapterError(f"`{path}` is no PEFT adapter: {', '.join(missing)} missing.")
    return found


def _plain_spec(path: Path, config: Any) -> LoRASpec:
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise AdapterError(f"`{path}` is no LoRA: `peft_type` must be LORA.")
    special = [
        name
        for name in ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save")
        if config.get(name)
    ]
    if special or config.get("bias", "none") != "none":
        raise AdapterError(
            f"`{path}` is not plain LoRA: it sets {', '.join(special) or 'bias'}. "
            "Only one r and one alpha for all layers can be used."
        )
    targets = config.get("target_modules")
    if not isinstance(targets, list):
        raise AdapterError(f"`{path}`: `target_modules` must be a list of names, got {targets!r}.")
    try:
        spec = LoRASpec(
            r=int(config["r"]),
            lora_alpha=int(config["lora_alpha"]),
            target_modules=tuple(map(str, targets)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise AdapterError(f"`{path}`: {error}") from error
    if not math.isfinite(spec.scaling):
        raise AdapterError(f"`{path}`: alpha / r is not finite.")
    return spec


def adapter_name(bucket_names: Sequence[str]) -> str:
    """A short file-safe name from the buckets that went in."""
    words = [re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") for name in bucket_names]
    return "-".join(word[:20] for word in words if word)[:60] or "adapter"


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _card(adapter: Adapter) -> str:
    """The adapter's model card: how to use it, what it came from, what it cannot say."""
    origin = adapter.provenance
    buckets = [
        f"- {_plain(b['name'])}: weight {b['weight']:g}, {b['num_prompts']} prompts"
        for b in origin.get("buckets", [])
    ]
    nearest = [f"- {t.slug}: {t.similarity:.2f} ({t.description})" for t in adapter.nearest_tasks]
    return "\n".join(
        [
            "---",
            f"base_model: {adapter.base_id}",
            "library_name: peft",
            "pipeline_tag: text-generation",
            "tags: [lora, drag-and-drop-llms]",
            "---",
            "",
            f"# {adapter.name}",
            "",
            "A LoRA adapter written by a hypernetwork from unlabeled prompts, without a gradient "
            "step. It has not been trained on answers; test it before you rely on it.",
            "",
            "```python",
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM",
            "",
            f'base = AutoModelForCausalLM.from_pretrained("{adapter.base_id}")',
            'model = PeftModel.from_pretrained(base, "path/to/this/folder")',
            "```",
            "",
            f"- LoRA: r {adapter.r}, alpha {adapter.layout.spec.lora_alpha}, "
            f"{adapter.num_parameters:,} parameters, strength {adapter.strength:g} folded into B",
            f"- Generator: `{origin.get('generator_sha256', 'unknown')}`",
            f"- Mix: {origin.get('mix', 'unknown')}, seed {origin.get('seed', 'unknown')}",
            "",
            "## Prompts",
            "",
            *(buckets or ["Unknown."]),
            "",
            "Their texts are not part of this file.",
            "",
            "## Nearest training tasks (cosine of prompt embeddings)",
            "",
            *(nearest or ["Unknown."]),
            "",
        ]
    )


def _plain(text: str) -> str:
    """Bucket names are free text: keep them from being read as markup."""
    return re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", " ".join(text.split()))
