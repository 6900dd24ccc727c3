"""The keyboard: which key does what, and the list of them that opens with `?`.

`assets/page.js` presses what a key stands for; the words are the catalogue's. Single keys wait
while somebody types, none has a modifier that browsers or screen readers use, and all but Escape
can be switched off (WCAG 2.1.4).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dnd_engine.files import asset_path
from ui.text import Text

__all__ = ["SHORTCUTS", "Shortcut", "keys_panel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortcut:
    """A key, and what it does."""

    name: str
    """As the catalogue has it."""
    keys: tuple[str, ...]
    """As `KeyboardEvent.key` names them; more than one are shown side by side."""
    targets: tuple[str, ...] = ()
    """What to press, as CSS selectors: the first that is there. Empty where Gradio or the canvas
    listens itself."""
    focus: bool = False
    """Whether to go there instead of pressing it."""


SHORTCUTS: Mapping[str, tuple[Shortcut, ...]] = {
    "page": (
        Shortcut(name="help", keys=("?",), targets=(".dnd-keys-open",)),
        Shortcut(
            name="stop",
            keys=("Escape",),
            targets=(
                *("#dnd-stop-chat", "#dnd-refine-stop", "#dnd-stop-synthesis"),
                *("#dnd-measure-stop", "#dnd-train-stop"),
            ),
        ),
    ),
    "make": (
        Shortcut(
            name="canvas",
            keys=("P",),
            targets=(".dnd-card", ".dnd-canvas .dnd-edit", ".dnd-canvas .dnd-browse"),
            focus=True,
        ),
        Shortcut(name="synthesize", keys=("S",), targets=("#dnd-synthesize",)),
        Shortcut(name="take", keys=("K",), targets=("#dnd-take-close", "#dnd-take-open")),
        Shortcut(name="refine", keys=("R",), targets=("#dnd-refine-later", "#dnd-refine-open")),
    ),
    "card": (
        Shortcut(name="card_sides", keys=("←", "→")),
        Shortcut(name="card_order", keys=("↑", "↓")),
        Shortcut(name="card_remove", keys=("Delete",)),
    ),
    "ask": (
        Shortcut(name="question", keys=("Q",), targets=("#dnd-box textarea",), focus=True),
        Shortcut(name="send", keys=("Enter",)),
        Shortcut(name="newline", keys=("Shift+Enter",)),
        Shortcut(name="again", keys=("A",), targets=("#dnd-again",)),
        Shortcut(name="edit", keys=("E",), targets=("#dnd-pane-left [data-event=edit]",)),
        Shortcut(name="differences", keys=("D",), targets=("#dnd-differences input",)),
        Shortcut(name="blind", keys=("B",), targets=("#dnd-blind input",)),
        Shortcut(name="vote_a", keys=("1",), targets=("#dnd-vote-a",)),
        Shortcut(name="vote_b", keys=("2",), targets=("#dnd-vote-b",)),
        Shortcut(name="vote_tie", keys=("3",), targets=("#dnd-vote-tie",)),
        Shortcut(name="vote_bad", keys=("4",), targets=("#dnd-vote-bad",)),
    ),
}
"""By group of the list."""


def keys_panel(text: Text) -> None:
    """Lay out the list, closed, and start to listen; no event of it concerns Python."""
    pressed: list[dict[str, Any]] = [
        {
            "key": shortcut.keys[0],
            "shown": _shown(text, shortcut.keys[0]),
            "targets": shortcut.targets,
            "focus": shortcut.focus,
        }
        for group in SHORTCUTS.values()
        for shortcut in group
        if shortcut.targets
    ]
    gr.HTML(
        html_template=_dialog_html(text),
        js_on_load=asset_path("page.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        shortcuts=pressed,
        title_words=text.KEYS_TITLE,
        lang=text.CODE,
        elem_id="dnd-page",
        padding=False,
    )


def _dialog_html(text: Text) -> str:
    groups = "".join(
        f"<section><h3>{text.KEYS_GROUPS[group]}</h3><ul>"
        + "".join(_line_html(text, shortcut) for shortcut in shortcuts)
        + "</ul></section>"
        for group, shortcuts in SHORTCUTS.items()
    )
    return (
        f"<dialog class='dnd-keys-list' aria-label='{text.KEYS_OPEN}'><div class='dnd-row'>"
        f"<h2 class='dnd-heading'>{text.KEYS_OPEN}</h2>"
        f"<button type='button' class='dnd-button dnd-keys-close'>{text.KEYS_CLOSE}</button></div>"
        f"<div class='dnd-keys-groups'>{groups}</div>"
        f"<label class='dnd-keys-on'><input type='checkbox' checked> {text.KEYS_ON} "
        f"<span class='dnd-facts'>{text.KEYS_ON_MORE}</span></label></dialog>"
    )


def _line_html(text: Text, shortcut: Shortcut) -> str:
    keys = " ".join(f"<kbd>{_shown(text, key)}</kbd>" for key in shortcut.keys)
    return f"<li><span>{text.KEYS_DO[shortcut.name]}</span><span>{keys}</span></li>"


def _shown(text: Text, key: str) -> str:
    return text.KEY_NAMES.get(key, key)
