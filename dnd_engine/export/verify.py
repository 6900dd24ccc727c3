"""Verifies exports: other tools read them and must compute what the resident adapter does."""

import copy
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from peft.helpers import rescale_adapter_scale
from peft.tuners.lora import LoraLayer
from torch import nn

from dnd_engine.errors import VerificationError
from dnd_engine.files import scratch_folder
from dnd_engine.lora.adapter import Adapter, put_files
from dnd_engine.models.base import load_base
from dnd_engine.models.gguf_file import config_of, load, read_header
from dnd_engine.models.runtime import Runtime
from dnd_engine.models.sources import ResolvedWeights

_TOLERANCE = 0.15
"""Largest difference allowed between another tool's logits and ours, relative to the largest logit:
bfloat16 carries 8 bits through 30 layers, and PEFT rounds at other places than a fused update. At
strengths of .5 to 2, the difference was .01 to .06 for correct files, and .04 to 1.3 for files at
half or twice the strength, least for weak adapters. Separate checks compare the tensors that PEFT
reads, bit by bit, and its scale."""

_WEAKENED = 0.25
"""Share of its strength at which a file is compared again. A strong adapter magnifies rounding:
with weights and strengths up to their limits, correct files differed by up to .73, and at a quarter
by up to .13. There, files at twice the strength differed by .07 to 1.8, below .25 only where the
adapter was weak."""

_TEXT = "Say hello, then count to five."
"""What is read for the comparison. Without a chat's template: fewer tokens take less time, and
differ less."""


class Verifier:
    """Compares other tools' readings of an export with the resident model."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._stock_peft = _StockPEFT(runtime)

    def peft_files(self, adapter: Adapter, files: Mapping[str, bytes]) -> float:
        """Verify PEFT files in memory through a temporary folder; see `peft`."""
        with scratch_folder() as scratch:
            folder = scratch / "adapter"
            put_files(files, folder)
            return self.peft(adapter, folder)

    def peft(self, adapter: Adapter, path: Path) -> float:
        """Reload a folder or zip with stock PEFT on the same base and compare.

        Returns:
            Largest difference of logits, relative to the largest logit.

        Raises:
            VerificationError: If the reloaded adapter differs from the original.
        """
        if path.suffix.lower() == ".zip":
            with scratch_folder() as scratch:
                folder = scratch / "adapter"
                # Our own zip, just written, so its paths can be trusted.
                shutil.unpack_archive(path, folder, "zip")
                return self.peft(adapter, folder)
        # The page's last step before a first chat.
        awaited = self._runtime.lock.awaited()
        with awaited, self._stock_peft.reading(path) as (model, loaded):
            strays = [*loaded.missing_keys, *loaded.unexpected_keys]
            strays = [key for key in strays if "lora_" in key]
            if strays:
                raise VerificationError(
                    "verify failed: {number} keys missing or unexpected after reload ({keys}). "
                    "Nothing was saved.",
                    number=len(strays),
                    keys=", ".join(strays[:3]),
                )
            # PEFT puts the adapter's name into its keys; files do not have it.
            read = {k.replace(".default.", "."): v for k, v in model.named_parameters()}
            # float32 holds both dtypes exactly, so equal here means bit-identical.
            changed = [
                k for k, v in adapter.state.items() if not read[k].cpu().float().equal(v.float())
            ]
            if changed:
                raise VerificationError(
                    "verify failed: {number} tensors differ after reload ({keys}). Nothing was "
                    "saved.",
                    number=len(changed),
                    keys=", ".join(changed[:3]),
                )
            # The comparisons below may miss the wrong scale of a weak adapter.
            scale = adapter.layout.spec.scaling
            found = {m.scaling["default"] for m in model.modules() if isinstance(m, LoraLayer)}
            if others := sorted(found - {scale}):
                raise VerificationError(
                    "verify failed: reloaded layers scale by {got:.6g}, expected {scale:.6g}. "
                    "Nothing was saved.",
                    got=others[0],
                    scale=scale,
                )
            try:
                return self.compare(adapter, model)
            except VerificationError:
                with rescale_adapter_scale(model, _WEAKENED):
                    return self.compare(adapter.with_strength(_WEAKENED * adapter.strength), model)

    def transformers(self, adapter: Adapter, folder: Path) -> float:
        """Load a whole model with transformers and compare; see `peft`."""
        base = self._runtime.base
        dtype = next(base.model.parameters()).dtype
        weights = ResolvedWeights(adapter.base_id, folder, "")
        return self.compare(adapter, load_base(weights, base.device, dtype).model)

    def gguf_model(self, adapter: Adapter, path: Path, *, tolerance: float = _TOLERANCE) -> float:
        """Load a whole model from GGUF with transformers and compare; see `peft`."""
        base = self._runtime.base
        dtype = next(base.model.parameters()).dtype
        # Random weights in the place of missing ones would not compute the same.
        model, _missing = load(path, config_of(path, read_header(path)), dtype)
        return self.compare(adapter, model.to(base.device).eval(), tolerance)

    @torch.inference_mode()
    def compare(self, adapter: Adapter, model: nn.Module, tolerance: float = _TOLERANCE) -> float:
        """Compare another model's logits with those of the adapted resident base.

        Returns:
            Largest difference, relative to the largest logit.

        Raises:
            VerificationError: If the difference is too large.
        """
        base, host = self._runtime.base, self._runtime.host
        ids = torch.tensor([base.tokenizer(_TEXT)["input_ids"]], device=base.device)
        active = host.fit(adapter.scaled_tokens[None], adapter.layout)
        with self._runtime.lock, host.applying(active):
            ours = base.model(input_ids=ids, use_cache=False).logits.float()
        # Without the lock: no hook of ours is on this model, so no active adapter can reach it.
        theirs = model(input_ids=ids, use_cache=False).logits.float()
        difference = float((ours - theirs).abs().max() / ours.abs().max())
        # Written as a negation, so that NaN fails too.
        if not difference <= tolerance:
            raise VerificationError(
                "verify failed: the reloaded model's logits differ by {difference:.1%} of the "
                "largest, allowed {allowed:.0%}. Nothing was saved.",
                difference=difference,
                allowed=tolerance,
            )
        return difference


class _StockPEFT:
    """A PEFT model that shares the resident base's tensors.

    Wrapping a base takes PEFT longer than loading an adapter, and depends on the config alone. So
    the last wrapped model is cached and reused for the next adapter of the same config, which
    overwrites the weights.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = threading.Lock()
        self._model: PeftModel | None = None
        self._config = b""

    @contextmanager
    def reading(self, folder: Path) -> Iterator[tuple[PeftModel, Any]]:
        """Yield a PEFT model with the adapter of a folder, and PEFT's load result for its keys.

        Use the model only inside the `with` block: the next adapter is loaded into the same one.
        """
        # Held while the caller uses the model, because the next adapter overwrites it.
        with self._lock:
            config = (folder / "adapter_config.json").read_bytes()
            if self._model is None or config != self._config:
                # Freed first, and not left half made if wrapping fails.
                self._model, self._config = None, config
                with self._runtime.lock:
                    twin = _sharing_copy(self._runtime.base.model)
                self._model = PeftModel(
                    twin, PeftConfig.from_pretrained(str(folder)), autocast_adapter_dtype=False
                )
            model = self._model
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    # Fill with NaN, so that a key missing from the files cannot keep an earlier
                    # value.
                    nn.init.constant_(parameter, float("nan"))
            yield model, model.load_adapter(folder, "default", autocast_adapter_dtype=False)


def _sharing_copy(model: nn.Module) -> nn.Module:
    """Return a second model object over the same tensors, without our hooks, for PEFT to wrap."""
    tensors = [*model.parameters(), *model.buffers()]
    # Tensors in the memo are taken over instead of copied.
    twin = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    for module in twin.modules():
        # The copied hooks would add our active adapter to PEFT's.
        module._forward_hooks.clear()
    return twin
