"""The choice of who answers on either side: the base, the visit's adapters, and the library's."""

from collections import Counter
from collections.abc import Mapping

import gradio as gr

from ui.shared import Updates
from ui.state import Session
from ui.text import _


def choosers(session: Session) -> Updates:
    """List the models of both sides, with those that answer now selected."""
    names = _names(session)
    made, beside = session.made, session.beside
    others = {key: name for key, name in names.items() if made is None or key != made.key}
    # While blind, either model may be on either side; and a server's models are chosen elsewhere.
    hidden = session.blind or session.remote is not None
    return {
        "left_choice": gr.Radio(
            # An adapter is compared with the one on the right, so that one is chosen first.
            choices=[(_("Base"), ""), *((name, key) for key, name in others.items() if made)],
            value=beside.key if beside is not None else "",
            visible=not hidden and bool(others),
            interactive=True,
        ),
        "right_choice": gr.Radio(
            choices=[(name, key) for key, name in names.items()],
            value=made.key if made is not None else None,
            # The adapter that is there already is no choice.
            visible=not hidden and bool(others),
            interactive=True,
        ),
    }


def _names(session: Session) -> Mapping[str, str]:
    """Name all adapters by key: the visit's own, newest first, then the library's."""
    here = (*session.shelf, session.beside, session.made)
    mine = {made.key: made for made in here if made is not None}
    kept = {entry.sha256: entry.name for entry in session.library}
    # An adapter of the library keeps its place when it is loaded.
    keys = [*(key for key in reversed(mine) if key not in kept), *kept]
    names = {key: mine[key].adapter.name if key in mine else kept[key] for key in keys}
    repeated = Counter(names.values())
    for key, name in names.items():
        # An imprinted adapter has the name of the one it was made from.
        if repeated[name] > 1 and key in mine and mine[key].taught == "imprinted":
            names[key] = _("{name}, imprinted", name=name)
    repeated = Counter(names.values())
    return {k: f"{name} {k[:8]}" if repeated[name] > 1 else name for k, name in names.items()}
