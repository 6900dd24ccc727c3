"""The generator's card, `README.md` of its folder: made by training, completed by examination."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dnd_engine.generator import Generator, GeneratorConfig

__all__ = ["new_card", "update_card"]

_NOT_EXAMINED = "Not examined yet: run `dnd evaluate`."

_TITLES = {
    "train": "Seen tasks, new items",
    "heldout": "Unseen task families",
}


def new_card(config: GeneratorConfig, result: Mapping[str, Any]) -> str:
    """The card of a fresh run; `dnd evaluate --card` adds what an examination found."""
    parameters = sum(p.numel() for p in Generator(config).parameters())
    recipe = config.training["recipe"]
    licences = Counter(row["licence"] for row in config.training["data"])
    families = len({row["family"] for row in config.training["data"]})
    lines = [
        "---",
        "license: apache-2.0",
        f"base_model: {config.base['id']}",
        "tags: [lora, hypernetwork, drag-and-drop-llms]",
        "---",
        "",
        f"# Generator for {config.base['id']}",
        "",
        "Turns a batch of unlabeled prompts into a LoRA adapter for this base, and no other.",
        "",
        f"- Encoder: {config.encoder['id']}",
        f"- Decoder: {parameters:,} parameters with the shared LoRA, stages "
        f"{' > '.join(str(stage) for stage in config.features)}, kernel {config.kernel_size}",
        f"- LoRA: r {config.layout.spec.r}, alpha {config.layout.spec.lora_alpha}, "
        f"{', '.join(config.layout.spec.target_modules)}",
        f"- Training: end to end, {result['steps']} steps of {recipe['tasks_per_step']} tasks x "
        f"{recipe['examples_per_task']} examples, {recipe['bare_share']:.0%} bare inputs, seed "
        f"{recipe['seed']}",
        "- Validation on held-back examples of the training tasks: "
        f"{result['validation_loss']:.3f} nats per token with the task's prompts, "
        f"{result['validation_loss_wrong_prompts']:.3f} with another task's",
        "",
        _NOT_EXAMINED,
        "",
        "## Data",
        "",
        f"{result['tasks']} tasks of {families} families; `config.json` names each with its "
        "licence. Left out: licence classes "
        f"{', '.join(recipe['without_licence_classes']) or 'none'}.",
        "",
        "| licence | tasks |",
        "| --- | ---: |",
        *(f"| {licence} | {count} |" for licence, count in licences.most_common()),
        "",
    ]
    return "\n".join(lines)


def update_card(folder: Path, split: str, report: str) -> None:
    """Write or replace the section of one split.

    Args:
        folder: A generator folder.
        split: `train` or `heldout`.
        report: The report as Markdown, without a heading.
    """
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8").replace(_NOT_EXAMINED + "\n", "")
    begin, end = f"<!-- examination: {split} -->", f"<!-- end of {split} -->"
    text = re.sub(f"\n*{re.escape(begin)}.*?{re.escape(end)}\n", "", text, flags=re.DOTALL)
    section = f"{begin}\n\n## {_TITLES[split]}\n\n{report.strip()}\n\n{end}\n"
    aside = path.with_suffix(".partial")
    aside.write_text(f"{text.rstrip()}\n\n{section}", encoding="utf-8")
    aside.replace(path)
