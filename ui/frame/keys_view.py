"""Keyboard shortcuts, and their list, which opens with `?`.

`assets/page.js` clicks a shortcut's target; the words are in the catalogue. Single keys are ignored
while somebody types, none uses a modifier of browsers or screen readers, and all but Escape can be
switched off (WCAG 2.1.4).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ui.markup import esc
from ui.panel import script
from ui.text import N_, _, drawn, language


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortcut:
    """A keyboard shortcut."""

    does: str
    """What it does, in English."""
    keys: tuple[str, ...]
    """Values of `KeyboardEvent.key`; several are shown side by side."""
    targets: tuple[str, ...] = ()
    """CSS selectors of elements to click; the first that exists is used. Empty if Gradio or the
    canvas handles the key."""
    focus: bool = False
    """Whether to focus the target instead of clicking it."""


SHORTCUTS: Mapping[str, tuple[Shortcut, ...]] = {
    N_("Anywhere"): (
        Shortcut(does=N_("Show this list"), keys=("?",), targets=(".dnd-keys-open",)),
        Shortcut(
            does=N_("Stop what is running, cancel an edit, or leave the question box"),
            keys=("Escape",),
            # In this order: an edit ends before an answer, and an answer before a run. Not an
            # imprint, which runs behind a chat: Esc would end it for who leaves the question box.
            targets=(
                *("#dnd-cancel-edit", "#dnd-stop-chat", "#dnd-batch-stop", "#dnd-teach-stop"),
                *("#dnd-stop-synthesis", "#dnd-measure-stop", "#dnd-train-stop"),
            ),
        ),
    ),
    N_("Make an adapter"): (
        Shortcut(
            does=N_("Go to the prompts"),
            keys=("P",),
            targets=(".dnd-card", ".dnd-canvas .dnd-edit", ".dnd-canvas .dnd-browse"),
            focus=True,
        ),
        Shortcut(does=N_("Synthesize"), keys=("S",), targets=("#dnd-synthesize",)),
        Shortcut(does=N_("Paste onto the canvas"), keys=("Ctrl+V",)),
        Shortcut(does=N_("Undo the last change of the canvas"), keys=("Ctrl+Z",)),
        Shortcut(
            does=N_("Open or close Keep or export"),
            keys=("K",),
            targets=("#dnd-take-close", "#dnd-take-open"),
        ),
        Shortcut(
            does=N_("Open or close Teach"),
            keys=("R",),
            targets=("#dnd-teach-later", "#dnd-teach-open"),
        ),
    ),
    N_("On a card of the canvas"): (
        Shortcut(does=N_("Move it to the next bucket"), keys=("←", "→")),
        Shortcut(does=N_("Move it up or down"), keys=("↑", "↓")),
        Shortcut(does=N_("Remove it"), keys=("Delete",)),
    ),
    N_("Ask and compare"): (
        Shortcut(
            does=N_("Go to the question"), keys=("Q",), targets=("#dnd-box textarea",), focus=True
        ),
        Shortcut(does=N_("Send the question, in its box"), keys=("Enter",)),
        Shortcut(does=N_("New line in the question"), keys=("Shift+Enter",)),
        Shortcut(does=N_("Ask again"), keys=("A",), targets=("#dnd-again",)),
        Shortcut(
            does=N_("Edit the last question"),
            keys=("E",),
            targets=("#dnd-pane-left [data-event=edit]",),
        ),
        Shortcut(does=N_("Mark differences"), keys=("D",), targets=("#dnd-differences input",)),
        Shortcut(does=N_("Blind on or off"), keys=("B",), targets=("#dnd-blind input",)),
        Shortcut(does=N_("A is better"), keys=("1",), targets=("#dnd-vote-a",)),
        Shortcut(does=N_("B is better"), keys=("2",), targets=("#dnd-vote-b",)),
        Shortcut(does=N_("Tie"), keys=("3",), targets=("#dnd-vote-tie",)),
        Shortcut(does=N_("Both bad"), keys=("4",), targets=("#dnd-vote-bad",)),
    ),
}
"""Shortcuts by group of the list, named in English."""

_KEY_NAMES: Mapping[str, str] = {
    "Escape": N_("Esc"),
    "Enter": N_("Enter"),
    "Shift+Enter": N_("Shift Enter"),
    "Delete": N_("Del"),
    "Ctrl+V": N_("Ctrl V"),
    "Ctrl+Z": N_("Ctrl Z"),
}
_OF_GRADIO = (
    N_("Click to upload or drop files"),
    N_("Close"),
    N_("Connection Lost"),
    N_("Connection errored out. Failed to fetch"),
    N_("Connection to the server was lost. Attempting reconnection..."),
    N_("Error"),
    N_("File upload"),
    N_("Gradio footer navigation"),
    N_("More tabs"),
    N_("Remove this file"),
    N_("number input for {label}"),
    N_("range slider for {label}"),
)
"""What Gradio says in English only, mostly names of controls; `assets/page.js` translates it."""


def keys_panel() -> gr.HTML:
    """Lay out the closed list, and start listening to keys.

    Returns:
        Component that sends the event `speak` when the visitor switches the language.
    """
    pressed: list[dict[str, Any]] = [
        {"key": shortcut.keys[0], "targets": shortcut.targets, "focus": shortcut.focus}
        for group in SHORTCUTS.values()
        for shortcut in group
        if shortcut.targets
    ]
    return gr.HTML(
        drawn(_dialog_html),
        js_on_load=script("storage", "page"),
        apply_default_css=False,
        shortcuts=pressed,
        elem_id="dnd-page",
        padding=False,
    )


def _dialog_html() -> str:
    title = esc(_("Keyboard shortcuts"))
    groups = "".join(
        f"<section><h3>{_(group)}</h3><ul>"
        + "".join(_line_html(shortcut) for shortcut in shortcuts)
        + "</ul></section>"
        for group, shortcuts in SHORTCUTS.items()
    )
    return (
        f"<dialog class='dnd-keys-list' lang='{language().code}' aria-label='{title}' "
        f"data-key-title='{esc(_('Key: {key}'))}' "
        f"data-cut='{esc(_('Only the first part fits: {most} of {found} characters.'))}' "
        f"data-gradio='{esc(json.dumps({name: _(name) for name in _OF_GRADIO}))}'>"
        f"<div class='dnd-row'>"
        f"<h2 class='dnd-heading'>{title}</h2>"
        f"<button type='button' class='dnd-button dnd-keys-close'>{_('Close')}</button></div>"
        f"<div class='dnd-keys-groups'>{groups}</div>"
        f"<label class='dnd-keys-on'><input type='checkbox' checked> {_('Single keys are on')} "
        f"<span class='dnd-facts'>{_('They do nothing while you type, except Esc.')}</span>"
        "</label></dialog>"
    )


def _line_html(shortcut: Shortcut) -> str:
    keys = " ".join(
        f"<kbd data-key='{key}'>{_(_KEY_NAMES.get(key, key))}</kbd>" for key in shortcut.keys
    )
    return f"<li><span>{_(shortcut.does)}</span><span>{keys}</span></li>"
