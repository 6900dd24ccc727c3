"""The foot of the page: what happens to a visit's files, and the script that restores it."""

import gradio as gr

from ui.fields import Textbox
from ui.markup import RING, esc, icon
from ui.panel import Panel, script
from ui.text import _, drawn

BRING_KEY = """(...inputs) => {
  let key = "";
  try { key = localStorage.getItem("dnd-visit") ?? ""; } catch { /* a frame may be denied it */ }
  return [...inputs.slice(0, -1), key];
}"""
"""Puts the key stored by this browser into the last input of the page's opening event."""

NOT_OPENED = """() => window.dispatchEvent(new Event("dnd-not-opened"))"""
"""Tells `assets/visit.js` that the opening event failed."""


class VisitPanel(Panel):
    """The foot of the page, with the components that restore a visit."""

    def __init__(self) -> None:
        # Key stored by the browser, sent when the page opens; never shown.
        self.brought = Textbox(visible=False)
        # Stores the key; sends `forget` when the visitor deletes the visit.
        self.visit = gr.HTML(
            drawn(_html),
            visit_key="",
            outcome="",
            js_on_load=script("storage", "visit"),
            apply_default_css=False,
            elem_id="dnd-visit",
            padding=False,
        )


def _html() -> str:
    words = _(
        "Files, adapters and chat of this visit come back when you open this page again in this "
        "browser. The server deletes them 24 hours after you last used them, sooner if it restarts "
        "or runs out of room. The library on your own computer is not affected."
    )
    sure = _("Deletes the files, adapters and chat of this visit now.")
    # Keep has the focus, so that Enter, pressed from habit, deletes nothing.
    delete_or_keep = (
        f"<button type='button' class='dnd-button dnd-forget-yes'>{_('Delete')}</button>"
        f"<button type='button' class='dnd-button dnd-forget-no' autofocus>{_('Keep')}</button>"
    )
    moved = _(
        "This visit went on in another tab, with all its files. Two tabs would overwrite each "
        "other."
    )
    take_over = (
        f"<button type='button' class='dnd-button dnd-primary dnd-take-over'>{_('Continue here')}"
        "</button>"
    )
    lost = _(
        "Your last visit is no longer here: the app was restarted, or you were away for more than "
        "24 hours. This is a new visit."
    )
    restarted = _(
        "The app was restarted after this page was opened, and no longer has what you see here. "
        "Copy what you still need, then reload the page."
    )
    reload = f"<button type='button' class='dnd-button dnd-reload'>{_('Reload')}</button>"
    coming = _("Restoring your visit …")
    failed = _("Your visit could not be restored. Reload the page to try again.")
    restoring = (
        f"<div class='dnd-notice dnd-restoring' hidden>{RING}{icon('error')}"
        f"<p role='status' data-coming='{esc(coming)}' data-failed='{esc(failed)}'></p>"
        f"{reload}</div>"
    )
    return (
        f"<footer class='dnd-footer'><p>{words}</p>"
        f"<button type='button' class='dnd-link dnd-forget'>{_('Delete this visit')}</button>"
        f"</footer>{_dialog('dnd-forget-sure', _('Delete this visit?'), sure, delete_or_keep)}"
        f"{_dialog('dnd-moved', _('Open in another tab'), moved, take_over)}"
        f"<div class='dnd-notice dnd-lost' role='status' hidden><p>{lost}</p>"
        f"<button type='button' class='dnd-button dnd-lost-close'>{_('Close')}</button></div>"
        f"{restoring}"
        f"<div class='dnd-notice is-error dnd-restarted' role='alert' hidden>{icon('error')}"
        f"<p>{restarted}</p>{reload}</div>"
        f"<div class='dnd-notice is-error dnd-refused' role='alert' hidden>{icon('error')}<p></p>"
        f"<button type='button' class='dnd-button dnd-refused-close'>{_('Close')}</button></div>"
    )


def _dialog(name: str, title: str, words: str, buttons: str) -> str:
    return (
        f"<dialog class='dnd-dialog {name}' aria-label='{esc(title)}'>"
        f"<h2 class='dnd-heading'>{title}</h2><p>{words}</p>"
        f"<div class='dnd-row'>{buttons}</div></dialog>"
    )
