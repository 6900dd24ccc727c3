"""The model card of an adapter or of the merged model: usage, origin and limitations.

The provenance may come from an untrusted file, so any of its values may be of any type.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal, Protocol, runtime_checkable

from dnd_engine.config import check_strength
from dnd_engine.errors import ConfigError
from dnd_engine.lora.changes import ChangedBy, changed_by, taught_score
from dnd_engine.lora.layout import LoRALayout
from dnd_engine.lora.provenance import NearestTask

_MAX_NEAREST = 5
_MAX_TASK_CHARS = 300
"""Maximum number of nearest tasks, and length of each name and description, that a file may put on
the card."""
_MAX_MODEL_NAME = 200
"""Maximum length of a teacher's name on the card; the page has the same limit."""


# So that beartype can check it in the tests.
@runtime_checkable
class Described(Protocol):
    """What a card needs of an `Adapter`, whose module imports this one."""

    @property
    def name(self) -> str:
        """Its name, free text."""

    @property
    def base_id(self) -> str:
        """Hub id or folder of its base."""

    @property
    def layout(self) -> LoRALayout:
        """Shapes of its matrices."""

    @property
    def strength(self) -> float:
        """Factor on ΔW."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Its origin."""

    @property
    def nearest_tasks(self) -> tuple[NearestTask, ...]:
        """Training tasks most similar to its prompts."""

    @property
    def checks(self) -> Mapping[str, Any]:
        """Results of its checks."""


def model_card(adapter: Described, library: Literal["peft", "transformers"], usage: str) -> str:
    """Write the model card: usage, origin and limitations.

    With `transformers` as its library, it describes the merged model.
    """
    origin, layout = adapter.provenance, adapter.layout
    merged = library == "transformers"
    licence = f"Here it is merged into the weights of {adapter.base_id}, whose licence applies."
    only_trained = "trained" in origin and not _from_prompts(origin)
    # By its first two fields the Hub links a model to its base.
    head = f"""\
---
base_model: {adapter.base_id}
base_model_relation: {"finetune" if merged else "adapter"}
library_name: {library}
pipeline_tag: text-generation
tags: [{"" if merged else "lora, "}drag-and-drop-llms]
---

# {_plain(adapter.name)}
"""
    return "\n".join(
        [
            head,
            _how_made(origin),
            *([licence] if merged else []),
            f"\n```python\n{usage}\n```\n",
            f"- LoRA: r {layout.spec.r}, alpha {layout.spec.lora_alpha}, "
            f"{layout.num_parameters:,} parameters, strength {adapter.strength:g} folded into B",
            *_held_back(origin),
            *([] if only_trained else _generated(adapter)),
            "",
        ]
    )


def _held_back(origin: Mapping[str, Any]) -> list[str]:
    """Describe the score of teaching; empty without one."""
    if (score := taught_score(origin)) is None:
        return []
    right = "answered as its teacher does" if score.by_itself else "right"
    return [
        f"- Prompts held back from teaching: {score.num_held_back}, of which {score.before:.0%} "
        f"{right} before, and {score.now:.0%} after the last step"
    ]


def _generated(adapter: Described) -> list[str]:
    """Describe the generator's input."""
    origin = adapter.provenance
    buckets = [
        f"- {_plain(b['name'])}: weight {b['weight']:g}, {b['num_prompts']} prompts"
        for b in origin.get("buckets", [])
    ]
    nearest = [f"- {t.slug}: {t.similarity:.2f} ({t.description})" for t in adapter.nearest_tasks]
    return [
        f"- Generator: {_word(origin.get('generator_sha256'))}"
        if "generator_sha256" in origin
        else "- Generator: none; the base's own answers were imprinted",
        f"- Mix: {_word(origin.get('mix'))}, seed {_word(origin.get('seed'))}",
        "",
        "## Prompts",
        "",
        *(buckets or ["Unknown."]),
        "",
        "Their texts are not part of this file.",
        "",
        *_checks(adapter.checks),
        *(
            [
                "## Nearest training tasks (cosine of prompt embeddings)",
                "",
                *(nearest or _nearest_on_file(origin) or ["Unknown."]),
            ]
            if "generator_sha256" in origin
            else []
        ),
    ]


def _nearest_on_file(origin: Mapping[str, Any]) -> list[str]:
    """Describe the nearest tasks of an adapter that was read from a file."""
    rows = origin.get("nearest_tasks")
    lines = []
    for row in rows[:_MAX_NEAREST] if isinstance(rows, list) else []:
        match row:
            case {"slug": str(slug), "description": str(said), "similarity": float(near)}:
                # The file may have been edited, so these are free text as buckets' names are.
                name, words = _plain(slug[:_MAX_TASK_CHARS]), _plain(said[:_MAX_TASK_CHARS])
                lines.append(f"- {name}: {near:.2f} ({words})")
    return lines


def _checks(checks: Mapping[str, Any]) -> list[str]:
    """Describe the check results; empty if there are none.

    They may come from a file that was edited, so any value may be of any type.
    """
    words, strength = checks.get("words"), checks.get("strength")
    if not (isinstance(words, list) and words and _is_strength(strength)):
        return []
    head = f"## Checks on prompts it was made from, at strength {strength:g}"
    return [head, "", *(f"- {_plain(str(line))}" for line in words), ""]


def _is_strength(value: Any) -> bool:
    try:
        check_strength(value)
    except (ConfigError, TypeError):
        return False
    return not isinstance(value, bool)


def _how_made(origin: Mapping[str, Any]) -> str:
    """Describe whether it was generated, trained, or both."""
    written = "A LoRA adapter written by a hypernetwork from unlabeled prompts"
    if "generator_sha256" not in origin:
        written = "A LoRA adapter from unlabeled prompts"
    if "imprint" in origin:
        written += ", with their instruction imprinted in closed form"
    changed = changed_by(origin)
    if "trained" in origin:
        known = origin["trained"] if isinstance(origin["trained"], dict) else {}
        how = (
            f"trained on {_whose_answers(changed, known)}: "
            f"{_whole(known.get('num_examples'))} examples, {_whole(known.get('steps'))} steps. "
            "Test it before you rely on it."
        )
        if known.get("start") == "adapter" and _from_prompts(origin):
            return f"{written}, then {how}"
        return f"A LoRA adapter {how} It was not generated."
    if not _from_prompts(origin):
        return "A LoRA adapter of unknown origin. Test it before you rely on it."
    if changed is None or changed == "imprint":
        return (
            f"{written}, without a gradient step. It has not been trained on answers; test it "
            "before you rely on it."
        )
    taught = "the labels of prompts" if changed == "labels" else "the base's own answers to prompts"
    if changed == "itself_alike":
        taught += ", nearly all of them one and the same"
    return f"{written}, then trained a little on {taught}. Test it before you rely on it."


def _whose_answers(by: ChangedBy | None, trained: Mapping[str, Any]) -> str:
    """Name the source of the answers that it was trained on."""
    if by == "person":
        return "answers that a person corrected"
    if by == "teacher":
        model = trained.get("teacher")
        named = isinstance(model, str) and 0 < len(model) <= _MAX_MODEL_NAME
        return f"the answers of {_plain(str(model)) if named else 'a better model'}"
    return "labels"


def _from_prompts(origin: Mapping[str, Any]) -> bool:
    """Return whether a generator or an imprint made it from prompts."""
    return "generator_sha256" in origin or "imprint" in origin


def _word(value: Any) -> str:
    """Return a digest, name or number of a provenance; any other value gives “unknown”."""
    known = value is not None and re.fullmatch(r"[0-9A-Za-z-]{1,64}", str(value))
    return str(value) if known else "unknown"


def _whole(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "unknown"


def _plain(text: str) -> str:
    """Escape bucket names, which are free text, so that they are not read as markup."""
    return re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", " ".join(text.split()))
