"""The generator's model card (`README.md`): written by training, completed by evaluation."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dnd_engine.errors import GeneratorError
from dnd_engine.files import asset_path, obstacle, write_whole
from dnd_engine.generator.config import GeneratorConfig, trained_steps
from dnd_engine.generator.folder import Generator
from dnd_engine.generator.heads import HEADS
from dnd_engine.generator.report import Report
from dnd_engine.tasks.families.registry import all_operations
from dnd_engine.tasks.folder import read_index
from dnd_engine.wording import section_label

_NOT_EXAMINED = "Not examined yet: run `dnd evaluate`."

_EXAMINATION = re.compile(
    r"\n*<!-- examination: ([^\n]*) -->\n.*?<!-- end of \1 -->\n", flags=re.DOTALL
)
"""A section that `update_card` has written."""

_OBJECTIVES = {
    "task_loss": "task loss, end to end through the frozen base",
    "imprint": "task loss of bare inputs, end to end through imprints of the teacher's answers",
    "reconstruction": "reconstruction of LoRA checkpoints (the paper's): weighted squared error of "
    "standardised weight tokens",
}


def new_card(config: GeneratorConfig) -> str:
    """Write the card of a generator that `dnd train` made; `dnd evaluate --card` adds to it."""
    training, lowest = config.training, config.layout.targets[0].layer
    lines = [
        "---",
        "license: apache-2.0",
        f"base_model: {config.base['id']}",
        "tags: [lora, hypernetwork, drag-and-drop-llms]",
        "---",
        "",
        f"# {'Multi-task LoRA' if config.is_lora else 'Generator'} for {config.base['id']}",
        "",
        "One LoRA for all training tasks, which ignores its prompts. It is the teacher that "
        "imprints on this base learn from, and the control for generators of it."
        if config.is_lora
        else "Turns a batch of unlabeled prompts into a LoRA adapter for this base, and no other: "
        "`dnd generate PROMPTS --generator FOLDER` of Drag-and-Drop LLMs. On tasks unlike its "
        "training, its adapters follow an instruction in the chat; imprint, which is the default "
        "there, makes them work without it.",
        "",
        *([] if config.is_lora else _structure(config)),
        f"- LoRA: r {config.layout.spec.r}, alpha {config.layout.spec.lora_alpha}, "
        f"{', '.join(config.layout.spec.target_modules)}"
        f"{f' from layer {lowest} on' if lowest else ''}",
        *_training(training),
        *_validation(training, ", bare inputs where a task has them"),
        "",
        _NOT_EXAMINED,
        "",
        *_data(training),
    ]
    return "\n".join(lines)


def released_card(config: GeneratorConfig) -> str:
    """Write the card of a decoder by the paper's authors, converted by `released.convert`."""
    spec, released = config.layout.spec, config.training["released"]
    # The file does not say its licence, so the front matter names none.
    lines = [
        "---",
        f"base_model: {config.base['id']}",
        "tags: [lora, hypernetwork, drag-and-drop-llms]",
        "---",
        "",
        f"# The authors' decoder for {config.base['id']}",
        "",
        f"Converted from `{released['file']}` (SHA-256 {released['sha256']}), of the authors of "
        "Drag-and-Drop LLMs (Liang et al. 2025, arXiv:2506.16406). Weights were rounded to "
        "bfloat16, and nothing was trained. The file does not say on which tasks it was trained, "
        "nor its licence: ask where you got it.",
        "",
        *_structure(config),
        f"- LoRA: r {spec.r}, alpha {spec.lora_alpha}, {', '.join(spec.target_modules)}",
        "- Prompts padded to one length, padding kept; standardised weight tokens",
        "",
        _NOT_EXAMINED,
        "",
    ]
    return "\n".join(lines)


def check_card(folder: Path) -> None:
    """Check that a generator's card can be written, before an evaluation takes hours.

    Raises:
        GeneratorError: If the folder cannot be written to.
    """
    path = folder / "README.md"
    if (reason := obstacle(path)) is not None:
        raise _unwritten(path, reason)


def update_card(folder: Path, section: str, report: str) -> None:
    """Write or replace the section of one evaluation: Markdown without a heading.

    Raises:
        GeneratorError: If the folder cannot be written to.
    """
    text = f"## {section_label(section)}\n\n{report}"
    try:
        _put(folder, f"examination: {section}", section, text, instead_of=_NOT_EXAMINED + "\n")
    except OSError as error:
        raise _unwritten(folder / "README.md", error.strerror or str(error)) from error


def add_teacher(folder: Path, notes: Mapping[str, Any]) -> None:
    """Write or replace the section on the teacher, whose `teacher.json` holds the notes.

    Evaluations measured the teacher before it, so their sections go.
    """
    recipe, steps = notes["recipe"], trained_steps(notes)
    lines = [
        "## Teacher",
        "",
        f"`teacher.safetensors` is one LoRA of rank {recipe['r']} for all tasks. It was trained to "
        "follow the instruction of whole prompts, and answers them for imprints.",
        "",
        f"- Training: {steps} steps of {_tasks_per_step(notes)} tasks x up to "
        f"{recipe['examples_per_task']} examples, seed {recipe['seed']}",
        f"- Objective of the last run: {_OBJECTIVES[recipe['objective']]}",
        *(
            # The losses are those of the last step, which is not the kept one.
            [f"- Weights: {share:.0%} of the last run's start, the rest of its end"]
            if (share := recipe.get("start_share", 0))
            else _validation(notes, ", whole prompts")
        ),
        "",
        f"{len(notes['data'])} tasks, and {len(notes['variants'])} variants of them; "
        "`teacher.json` names each with its licence.",
        "",
        "| licence | tasks |",
        "| --- | ---: |",
        *_licences(notes["data"]),
    ]
    card = _read(folder)
    if (rest := _EXAMINATION.sub("", card)) != card:
        write_whole(folder / "README.md", f"{rest.rstrip()}\n\n{_NOT_EXAMINED}\n")
    _put(folder, "teacher", "teacher", "\n".join(lines))


def _put(folder: Path, name: str, end_name: str, text: str, instead_of: str = "") -> None:
    """Write a section at the end of a card, replacing its earlier version and `instead_of`."""
    card = _read(folder)
    if instead_of:
        card = card.replace(instead_of, "")
    # HTML comments, which Markdown does not show, mark where a section begins and ends.
    begin, end = f"<!-- {name} -->", f"<!-- end of {end_name} -->"
    # The blank lines above it go too, so that a card that is rewritten often does not grow.
    card = re.sub(f"\n*{re.escape(begin)}.*?{re.escape(end)}\n", "", card, flags=re.DOTALL)
    write_whole(folder / "README.md", f"{card.rstrip()}\n\n{begin}\n\n{text.strip()}\n\n{end}\n")


def _read(folder: Path) -> str:
    path = folder / "README.md"
    # Somebody else may have written it, in any encoding.
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def save_report(folder: Path, section: str, report: Report) -> Path:
    """Store an evaluation's report with the generator, as `reports/<section>.json`.

    A generator may be shared, and its report with it. So wrong answers are quoted only for tasks
    of this project; `failures_left_out` counts the others. The report's own folder has them all.

    Raises:
        GeneratorError: If the folder cannot be written to.
    """
    written = read_index(asset_path("tasks", "written"))
    own = {*all_operations(), *(task.slug for task in written)}
    # The slug of a variant is its task's, `~` and what sets it apart.
    ours = tuple(f for f in report.failures if f.slug.partition("~")[0] in own)
    kept = replace(report, failures=ours, failures_left_out=len(report.failures) - len(ours))
    path = folder / "reports" / f"{section}.json"
    try:
        write_whole(path, json.dumps(kept.to_json(), indent=1) + "\n")
    except OSError as error:
        raise _unwritten(path, error.strerror or str(error)) from error
    return path


def _unwritten(path: Path, reason: str) -> GeneratorError:
    return GeneratorError(
        f"the report cannot be kept as `{path}`: {reason}. Name a generator folder that can be "
        "written to, or leave --card out."
    )


def _structure(config: GeneratorConfig) -> list[str]:
    # Counted on the meta device, which allocates nothing: the authors' decoder has a billion
    # parameters.
    with torch.device("meta"):
        parameters = sum(p.numel() for p in Generator(config).parameters())
    prompts, length, width = config.features[0]
    options = ", ".join(f"{name} {value}" for name, value in config.head_options.items())
    if HEADS[config.head].has_stages:
        stages = " > ".join(str(stage) for stage in config.features)
        options = f"stages {stages}, kernel {config.kernel_size}"
    projected = f", projected from {reads:,} tokens" if (reads := config.reads_tokens) else ""
    return [
        f"- Condition: text encoder {config.encoder['id']}; {prompts} prompts of {length} vectors, "
        f"{width} wide{projected}",
        f"- Head: {config.head}, {parameters:,} parameters with the shared LoRA"
        + (f"; {options}" if options else ""),
    ]


def _training(training: Mapping[str, Any]) -> list[str]:
    recipe, result = training["recipe"], training["result"]
    objective = recipe["objective"]
    steps = f"{result['steps']} steps of {_tasks_per_step(training)} tasks"
    # Reconstruction fits weights, so the base reads no examples.
    if objective == "task_loss":
        steps += (
            f" x up to {recipe['examples_per_task']} examples, {recipe['bare_share']:.0%} bare "
            "inputs"
        )
    stopped = ", stopped early" if result["stopped_early"] else ""
    start = f", from the weights of `{recipe['warm_start']}`" if recipe["warm_start"] else ""
    return [
        f"- Objective: {_OBJECTIVES[objective]}",
        f"- Training: {steps}, seed {recipe['seed']}{start}; weights of step "
        f"{result['kept_step']}{', the best validation' if recipe['patience'] else ''}{stopped}",
    ]


def _tasks_per_step(training: Mapping[str, Any]) -> int:
    # A step takes no task twice, so there may be fewer than the recipe asks for.
    asked, there = training["recipe"]["tasks_per_step"], training["result"]["variants"]
    return int(min(asked, there))


def _validation(training: Mapping[str, Any], inputs: str) -> list[str]:
    recipe, result = training["recipe"], training["result"]
    chose = ", which chose the step" if recipe["patience"] else ""
    sets = (
        ("validation", "held-back examples of the training tasks"),
        ("families", f"families left out of training{chose}"),
    )
    lines = []
    for prefix, words in sets:
        if f"{prefix}_loss" in result:
            loss = f"{result[f'{prefix}_loss']:.3f} nats per answer token"
            line = f"- Validation on {words}{inputs}: {loss}"
            wrong = result.get(f"{prefix}_loss_wrong_prompts")
            gain = result.get(f"{prefix}_operation_gain")
            if wrong is not None:
                line += f" with the task's prompts, {wrong:.3f} with another family's"
            if gain is not None:
                line += f"; {gain:+.3f} where only the operation is another family's"
            lines.append(line)
    return lines


def _data(training: Mapping[str, Any]) -> list[str]:
    # Includes what a warm start has seen, which `result` does not count.
    recipe, rows, more = training["recipe"], training["data"], len(training["variants"])
    families = {row["family"] for row in rows}
    left_out = sorted({row["family"] for row in training["validation_data"]} - families)
    return [
        "## Data",
        "",
        f"{len(rows)} tasks of {len(families)} families"
        + (f", and {more} variants of them (answer formats, labels)" if more else "")
        + "; `config.json` names each with its licence. Left out: licence classes "
        f"{', '.join(recipe['without_licence_classes']) or 'none'}.",
        "",
        f"Families that only validated: {', '.join(left_out) or 'none'}.",
        "",
        "| licence | tasks |",
        "| --- | ---: |",
        *_licences(rows),
        "",
    ]


def _licences(rows: Sequence[Mapping[str, str]]) -> list[str]:
    counts = Counter(row["licence"] for row in rows)
    return [f"| {licence} | {count} |" for licence, count in counts.most_common()]
