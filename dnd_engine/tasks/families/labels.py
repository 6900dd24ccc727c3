"""Phrases that instructions use for labels."""

from collections.abc import Mapping, Sequence

from dnd_engine.tasks.families.wording import Phrases


def label_phrases(conditions: Sequence[str], yes: str, no: str) -> Phrases:
    """Ways to ask for one of two labels.

    Args:
        conditions: Wordings of when `yes` holds; the last is for the test side too.
        yes: Label where the condition holds.
        no: Label where it does not.
    """
    return (
        tuple(f"answer {yes} if {c}, otherwise {no}" for c in conditions),
        tuple(f"say {yes} when {c} and {no} when not" for c in conditions),
        tuple(f"reply with {no} unless {c}; then reply with {yes}" for c in conditions),
        tuple(f"write {yes} if {c} and {no} if not" for c in conditions),
        (f"choose between {yes} and {no}: {yes} if {conditions[-1]}, else {no}",),
    )


def class_phrases(attribute: str, labels: Mapping[str, str]) -> Phrases:
    """Ways to ask for one of several labels.

    Args:
        attribute: What is asked for, such as `topic`.
        labels: Meaning to label; where all are equal, only the labels are named.
    """
    if all(meaning == label for meaning, label in labels.items()):
        # Not `sport for sport`.
        listed = _listed([*labels.values()])
    else:
        listed = _listed([f"{label} for {meaning}" for meaning, label in labels.items()])
    return (
        (f"name the {attribute}: {listed}",),
        (f"choose the {attribute} from {listed}",),
        (f"classify the text by its {attribute}, with the labels {listed}",),
        (f"which {attribute} fits, {listed}?",),
        (f"sort the text by {attribute}: {listed}",),
    )


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
