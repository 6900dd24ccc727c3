"""Merges an adapter into its base, as a plain transformers folder that needs no PEFT.

Knows folders and PEFT; `verify` checks that the result computes what the adapter does.
"""

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from dnd_engine.files import scratch_folder
from dnd_engine.lora.adapter import Adapter
from dnd_engine.lora.card import model_card
from dnd_engine.lora.usage import merged_usage


def merge(adapter: Adapter, base_path: Path) -> Any:
    """Add ΔW, at the adapter's strength, to the base's weights from disk, in their dtype."""
    base = load(base_path)
    with scratch_folder() as scratch:
        place = adapter.save(scratch / "adapter")
        model = PeftModel.from_pretrained(base, str(place), autocast_adapter_dtype=False)
        with torch.inference_mode():
            return model.merge_and_unload()


def load(base_path: Path) -> Any:
    """Load a base from its folder."""
    # A copy with the dtype of the file, because merging would change the resident base.
    return AutoModelForCausalLM.from_pretrained(
        base_path,
        dtype="auto",
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
    )


def write_merged(adapter: Adapter, base_path: Path, folder: Path) -> None:
    """Write the base with ΔW added: weights, tokenizer, generation config, card, provenance.

    The folder must not exist.
    """
    merge(adapter, base_path).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(
        base_path, local_files_only=True, trust_remote_code=False
    )
    tokenizer.save_pretrained(folder)
    card = model_card(adapter, "transformers", merged_usage("path/to/this/folder"))
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "provenance.json").write_bytes(adapter.provenance_json)
