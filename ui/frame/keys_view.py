"""Keyboard shortcuts, and their list, which opens with `?`.

`assets/page.js` clicks a shortcut's target; the words are in the catalogue. Single keys are ignored
while somebody types, none uses a modifier of browsers or screen readers, and all but Escape can be
switched off (WCAG 2.1.4).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dnd_engine.files import asset_path
from ui.markup import esc
from ui.text import N_, _, drawn, language


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortcut:
    """A keyboard shortcut."""

    name: str
    """Its name in the catalogue."""
    keys: tuple[str, ...]
    """Values of `KeyboardEvent.key`; several are shown side by side."""
    targets: tuple[str, ...] = ()
    """CSS selectors of elements to click; the first that exists is used. Empty if Gradio or the
    canvas handles the key."""
    focus: bool = False
    """Whether to focus the target instead of clicking it."""


SHORTCUTS: Mapping[str, tuple[Shortcut, ...]] = {
    "page": (
        Shortcut(name="help", keys=("?",), targets=(".dnd-keys-open",)),
        Shortcut(
            name="stop",
            keys=("Escape",),
            # In this order: an edit ends before an answer, and an answer before a run.
            targets=(
                *("#dnd-cancel-edit", "#dnd-stop-chat", "#dnd-teach-stop", "#dnd-stop-synthesis"),
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
        Shortcut(name="undo", keys=("Ctrl+Z",)),
        Shortcut(name="take", keys=("K",), targets=("#dnd-take-close", "#dnd-take-open")),
        Shortcut(name="refine", keys=("R",), targets=("#dnd-teach-later", "#dnd-teach-open")),
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
"""Shortcuts by group of the list."""


_KEYS_GROUPS: Mapping[str, str] = {
    "make": N_("Make an adapter"),
    "card": N_("On a card of the canvas"),
    "ask": N_("Ask and compare"),
    "page": N_("Anywhere"),
}
_KEYS_DO: Mapping[str, str] = {
    "help": N_("Show this list"),
    "stop": N_("Stop what is running, cancel an edit, or leave the question box"),
    "canvas": N_("Go to the prompts"),
    "synthesize": N_("Synthesize"),
    "undo": N_("Undo the last change of the canvas"),
    "take": N_("Open or close Keep or export"),
    "refine": N_("Open or close Teach"),
    "question": N_("Go to the question"),
    "send": N_("Send the question, in its box"),
    "newline": N_("New line in the question"),
    "again": N_("Ask again"),
    "edit": N_("Edit the last question"),
    "differences": N_("Mark differences"),
    "blind": N_("Blind on or off"),
    "vote_a": N_("A is better"),
    "vote_b": N_("B is better"),
    "vote_tie": N_("Tie"),
    "vote_bad": N_("Both bad"),
    "card_sides": N_("Move it to the next bucket"),
    "card_order": N_("Move it up or down"),
    "card_remove": N_("Remove it"),
}
_KEY_NAMES: Mapping[str, str] = {
    "Escape": N_("Esc"),
    "Enter": N_("Enter"),
    "Shift+Enter": N_("Shift Enter"),
    "Delete": N_("Del"),
    "Ctrl+Z": N_("Ctrl Z"),
}


def keys_panel() -> gr.HTML:
    """Lay out the closed list, and start listening to keys.

    Returns:
        Component that sends the event `speak` when the visitor switches the language.
    """
    pressed: list[dict[str, Any]] = [
        {
            "key": shortcut.keys[0],
            "targets": shortcut.targets,
            "focus": shortcut.focus,
        }
        for group in SHORTCUTS.values()
        for shortcut in group
        if shortcut.targets
    ]
    return gr.HTML(
        drawn(_dialog_html),
        js_on_load=asset_path("page.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        shortcuts=pressed,
        elem_id="dnd-page",
        padding=False,
    )


def _dialog_html() -> str:
    title = esc(_("Keyboard shortcuts"))
    groups = "".join(
        f"<section><h3>{_(_KEYS_GROUPS[group])}</h3><ul>"
        + "".join(_line_html(shortcut) for shortcut in shortcuts)
        + "</ul></section>"
        for group, shortcuts in SHORTCUTS.items()
    )
    return (
        f"<dialog class='dnd-keys-list' lang='{language().code}' aria-label='{title}' "
        f"data-key-title='{esc(_('Key: {key}'))}'><div class='dnd-row'>"
        f"<h2 class='dnd-heading'>{title}</h2>"
        f"<button type='button' class='dnd-button dnd-keys-close'>{_('Close')}</button></div>"
        f"<div class='dnd-keys-groups'>{groups}</div>"
        f"<label class='dnd-keys-on'><input type='checkbox' checked> {_('Single keys are on')} "
        f"<span class='dnd-facts'>{_('They wait while you type. Esc works always.')}</span>"
        "</label></dialog>"
    )


def _line_html(shortcut: Shortcut) -> str:
    keys = " ".join(
        f"<kbd data-key='{key}'>{_(_KEY_NAMES.get(key, key))}</kbd>" for key in shortcut.keys
    )
    return f"<li><span>{_(_KEYS_DO[shortcut.name])}</span><span>{keys}</span></li>"
