"""Adapters: weight tokens with provenance, and their PEFT folder or zip.

Files are plain LoRA that stock PEFT loads: one r, one alpha, strength folded into B, the base's Hub
id. Equal input gives equal bytes. `reader` reads it back.
"""

import hashlib
import io
import json
import math
import re
import unicodedata
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from peft import LoraConfig
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import pad

from dnd_engine.config import check_strength
from dnd_engine.errors import AdapterError
from dnd_engine.files import written_aside
from dnd_engine.lora.card import model_card
from dnd_engine.lora.layout import LoRALayout
from dnd_engine.lora.provenance import FILES, NearestTask, Recipe
from dnd_engine.lora.usage import peft_usage
from dnd_engine.lora.weight_tokens import LoRAState, detokenize, tokenize
from dnd_engine.notes import Note, noted

_MAX_WEIGHT = 1e4
"""Upper bound on the size of a weight; real LoRAs stay below 10. Beyond it the forward pass
overflows, and answers are empty or cannot be sampled."""

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
"""Fixed timestamp of zip entries, so that equal adapters give equal bytes."""


@dataclass(frozen=True, eq=False)
class Adapter:
    """A LoRA adapter in memory, on the CPU."""

    name: str
    tokens: Float[Tensor, "tokens rows cols"] = field(repr=False)
    """Plain weight tokens in bfloat16, at strength 1."""
    layout: LoRALayout = field(repr=False)
    base_id: str
    strength: float = 1.0
    """Factor on ΔW; a negative one inverts the effect."""
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Origin: the recipe without strength and digest, and further facts. Never prompt texts."""
    num_prompts: int = 0
    """Number of distinct prompts in the buckets used."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Duration of each step that made it. `total` is the time to write the weights (`encode` and
    `decode` included); without a generator, the imprint's. An adapter read from a file does not
    record how long it took, so later steps alone give no total."""
    nearest_tasks: tuple[NearestTask, ...] = ()
    checks: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Check results, for its card; see `checks.registry.as_checks`."""
    not_imprinted: str = ""
    """Why a requested imprint failed; empty otherwise."""
    skipped_buckets: tuple[Note, ...] = ()
    """A sentence for each bucket that the imprint left out, in whole or in part, and why; its value
    `bucket` is the name."""
    kept_energy: float | None = None
    """Share of the squared ΔW norm that remains after a sum was cut to rank r; None when pooled."""

    def __post_init__(self) -> None:
        check_strength(self.strength)
        # NumPy's numbers could not be written into files.
        object.__setattr__(self, "strength", float(self.strength))
        if fault := exploded(self.tokens):
            raise AdapterError(
                "adapter `{adapter}` {fault} Whatever made it is broken: a damaged file or "
                "generator, or a training that diverged. Make it again, or use another one.",
                adapter=self.name,
                fault=fault,
            )

    @property
    def r(self) -> int:
        """Rank."""
        return self.layout.spec.r

    @property
    def num_parameters(self) -> int:
        """Number of entries in all A and B."""
        return self.layout.num_parameters

    @property
    def making_seconds(self) -> float | None:
        """Seconds from prompts to the adapter, in all steps; None if not all are known."""
        trained = self.provenance.get("trained")
        if isinstance(trained, Mapping) and trained.get("start") == "scratch":
            return self.seconds.get("train")
        if "total" not in self.seconds:
            return None
        later = ("imprint", "refine", "train") if self.is_generated else ("refine", "train")
        return self.seconds["total"] + sum(self.seconds.get(step, 0.0) for step in later)

    def seconds_with(self, step: str, more: float) -> dict[str, float]:
        """Return `seconds` after one more run of a step that builds on the earlier ones."""
        return {**self.seconds, step: self.seconds.get(step, 0.0) + more}

    @property
    def is_generated(self) -> bool:
        """Whether a generator wrote its first weights."""
        return "generator_sha256" in self.provenance

    @property
    def was_trained(self) -> bool:
        """Whether it was trained by gradient steps: refined, or trained on labels."""
        return "refined" in self.provenance or "trained" in self.provenance

    @property
    def is_imprinted(self) -> bool:
        """Whether its instructions were imprinted."""
        return "imprint" in self.provenance

    @property
    def scaled_tokens(self) -> Float[Tensor, "tokens rows cols"]:
        """Tokens with the strength folded into B, exactly as saved."""
        if self.strength == 1:
            return self.tokens
        scaled = self.tokens.clone()
        # B alone, because ΔW = B·A: a factor on both would be squared.
        for m in self.layout.matrices():
            if m.side == "B":
                scaled[m.first_token : m.first_token + m.num_tokens] *= self.strength
        return scaled

    @property
    def state(self) -> LoRAState:
        """PEFT's state dict, with the strength folded into B."""
        return detokenize(self.scaled_tokens, self.layout)

    @property
    def weights(self) -> bytes:
        """Contents of `adapter_model.safetensors`."""
        # Not cached: it takes milliseconds, and an adapter would take twice the memory.
        # Sorted, so that equal adapters give equal bytes; safetensors refuses strided views.
        contiguous = {key: value.contiguous() for key, value in sorted(self.state.items())}
        return save(contiguous, metadata={"format": "pt"})

    @property
    def sha256(self) -> str:
        """SHA-256 of `adapter_model.safetensors`, in hexadecimal."""
        return self._hash_and_size[0]

    @property
    def num_bytes(self) -> int:
        """Size of `adapter_model.safetensors`, about that of the tokens in memory."""
        return self._hash_and_size[1]

    @cached_property
    def _hash_and_size(self) -> tuple[str, int]:
        weights = self.weights
        return hashlib.sha256(weights).hexdigest(), len(weights)

    def with_strength(self, strength: float) -> "Adapter":
        """Return the adapter at another strength, without synthesizing again."""
        return replace(self, strength=strength)

    def with_tokens(self, tokens: Float[Tensor, "tokens rows cols"], **changes: Any) -> "Adapter":
        """Return the adapter with other weights, without what was measured on its own.

        Args:
            tokens: Plain weight tokens in bfloat16.
            changes: Further fields, such as a layout that the tokens need.
        """
        return replace(self, tokens=tokens, checks={}, kept_energy=None, **changes)

    def fold(self) -> "Adapter":
        """Return the adapter with its strength folded in, as it would be read from a file."""
        if self.strength == 1:
            return self
        folded = [*self.provenance.get("folded", ()), self.strength]
        return replace(
            self,
            tokens=self.scaled_tokens,
            strength=1.0,
            provenance={**self.provenance, "folded": folded},
        )

    @property
    def recipe(self) -> Recipe:
        """The recipe that recreates the adapter.

        Raises:
            RecipeError: If there is none: another tool or an earlier version made the adapter, or
                it was trained on answers, which recipes do not contain.
        """
        return Recipe.from_json(self._origin)

    @property
    def _origin(self) -> dict[str, Any]:
        return {**self.provenance, "strength": self.strength, "sha256": self.sha256}

    def save(self, path: Path | str) -> Path:
        """Write a PEFT folder, or a zip if `path` ends in .zip, atomically.

        `Engine.save` also verifies that stock PEFT reads it back.

        Raises:
            AdapterError: If a file exists where a folder is to be written, or the reverse.
        """
        return write_files(self.files(), Path(path))

    def files(self, place: str = "path/to/this/folder") -> dict[str, bytes]:
        """Return the contents of the four files, by name; the card's example code names `place`."""
        config = LoraConfig(
            r=self.layout.spec.r,
            lora_alpha=self.layout.spec.lora_alpha,
            target_modules=list(self.layout.spec.target_modules),
            lora_dropout=0.0,
            bias="none",
            task_type="CAUSAL_LM",
            base_model_name_or_path=self.base_id,
            inference_mode=True,
        ).to_dict()
        # PEFT keeps these as sets and enums, whose order differs between processes.
        config = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
        config |= {"peft_type": "LORA", "task_type": "CAUSAL_LM"}
        return {
            "adapter_config.json": _json(config),
            "adapter_model.safetensors": self.weights,
            "README.md": model_card(self, "peft", peft_usage(self.base_id, place)).encode(),
            "provenance.json": self.provenance_json,
        }

    @property
    def provenance_json(self) -> bytes:
        """Return the contents of `provenance.json`."""
        return _json(self._origin | ({"checks": self.checks} if self.checks else {}))


def exploded(weights: Tensor) -> str:
    """Describe what is wrong with the values of weights; empty if nothing is."""
    if weights.numel() == 0:
        return ""
    largest = float(weights.abs().max())  # NaN if any value is NaN
    if largest <= _MAX_WEIGHT:
        return ""
    if math.isfinite(largest):
        return noted(
            "has weights as large as {largest:.3g}; those of a LoRA stay far below {limit}.",
            largest=largest,
            limit=10_000,
        )
    return noted(
        "has {broken} of {total} weights that are NaN or infinite.",
        broken=int((~weights.isfinite()).sum()),
        total=weights.numel(),
    )


def sum_adapters(
    adapters: Sequence[Adapter], weights: Sequence[float]
) -> tuple[Float[Tensor, "tokens rows cols"], float]:
    """Compute a weighted sum of ΔW, cut to the common rank.

    The sum itself is exact: ranks are concatenated, A stacked and B side by side. A singular value
    decomposition per matrix then keeps the best rank r, computed on the small factors only.

    Args:
        adapters: Adapters of one layout.
        weights: Weight of each adapter, possibly negative.

    Returns:
        Weight tokens, and the share of the squared norm that they keep.
    """
    layout = adapters[0].layout
    # Without alpha / r: the adapters have it in common, so it stays outside of the sum.
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
        u, s, vh = torch.linalg.svd(r_b @ r_a.T, full_matrices=False)
        # A small layer has fewer singular values than the rank; the rest of its rows are zeros.
        r = layout.spec.r
        # The root of each singular value goes to each side, so that A and B are equally large.
        root = s[:r].sqrt()
        lacking = r - len(root)
        summed[key_b] = pad((q_b @ u[:, :r]) * root, (0, lacking))
        summed[key_a] = pad(root[:, None] * (vh[:r] @ q_a.T), (0, 0, 0, lacking))
        # The squares of the singular values add up to the squared norm of ΔW.
        kept += float(s[:r].square().sum())
        total += float(s.square().sum())
    share = kept / total if total > 0 else 1.0
    return tokenize(summed, layout).to(torch.bfloat16), share


def write_files(files: Mapping[str, bytes], path: Path) -> Path:
    """Write a folder, or a zip if `path` ends in .zip, atomically.

    Raises:
        AdapterError: If `path` cannot be written to, or holds something else.
    """
    as_zip = path.suffix.lower() == ".zip"
    try:
        if path.exists() and path.is_dir() == as_zip:
            kind = "a folder" if path.is_dir() else "a file"
            raise AdapterError(f"`{path}` is {kind}. Choose another name, or remove it.")
        # The folder is replaced as a whole, so nothing else may be in it.
        if not as_zip and path.exists() and {f.name for f in path.iterdir()} - set(FILES):
            raise AdapterError(f"`{path}` holds other files. Choose a new or an empty folder.")
        with written_aside(path) as aside:
            put_files(files, aside)
    except OSError as error:
        raise AdapterError(
            f"`{path}` cannot be written: {error.strerror or error}. Nothing was kept; choose "
            "another place."
        ) from error
    return path


def put_files(files: Mapping[str, bytes], path: Path) -> None:
    """Write a new folder, or a zip if `path` ends in .zip.

    Raises:
        OSError: If the disk refuses a write.
    """
    if path.suffix.lower() == ".zip":
        path.write_bytes(zip_bytes(files))
        return
    path.mkdir()
    for name, data in files.items():
        (path / name).write_bytes(data)


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of the files, uncompressed, because weights barely compress; deterministic."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), data)
    return buffer.getvalue()


def adapter_name(bucket_names: Sequence[str]) -> str:
    """Make a short, file-safe adapter name from bucket names."""
    words = [re.sub(r"[^a-z0-9]+", "-", _ascii(name.lower())).strip("-") for name in bucket_names]
    # 60 characters are also the longest name that the library takes.
    return "-".join(word[:20] for word in words if word)[:60] or "adapter"


def _ascii(text: str) -> str:
    """Spell umlauts out, and drop the accents of other letters."""
    spelt = text.translate({ord("ä"): "ae", ord("ö"): "oe", ord("ü"): "ue", ord("ß"): "ss"})
    return "".join(c for c in unicodedata.normalize("NFKD", spelt) if not unicodedata.combining(c))


def _json(value: Any) -> bytes:
    # Sorted, so that equal adapters give equal bytes.
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
