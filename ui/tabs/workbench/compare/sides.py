"""The choice of who answers on either side: the base, the visit's adapters, and the library's."""

from collections import Counter
from collections.abc import Mapping, Sequence

import gradio as gr

from dnd_engine.lora.changes import ChangedBy
from ui.shared import Updates
from ui.state import Made, Session
from ui.text import N_, _

_CHANGED: Mapping[ChangedBy, str] = {
    "imprint": N_("{name}, imprinted"),
    "itself": N_("{name}, by the model itself"),
    "itself_alike": N_("{name}, by the model itself"),
    "labels": N_("{name}, with labels"),
    "person": N_("{name}, by hand"),
    "teacher": N_("{name}, by a better model"),
}
"""What tells adapters of one name apart."""


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


def is_beside(session: Session) -> bool:
    """Return whether an adapter replaces the base; a server's model takes the place of either."""
    return session.beside is not None and session.remote is None


def name_of(session: Session, made: Made) -> str:
    """Return the name of an adapter in the library, if it is there, else its own."""
    # The library may have the same weights several times, newest first.
    alike = [entry for entry in session.library if entry.sha256 == made.key]
    for entry in alike:
        if made.kept is not None and made.kept.key == entry.key:
            return entry.name
    return alike[0].name if alike else made.adapter.name


def _names(session: Session) -> Mapping[str, str]:
    """Name all adapters by key: the visit's own, newest first, then the library's."""
    here = (*session.shelf, session.beside, session.made)
    mine = {made.key: made for made in here if made is not None}
    kept: dict[str, str] = {}
    for entry in session.library:
        # Of entries with the same weights, the newest counts, which is the one that is loaded.
        kept.setdefault(entry.sha256, entry.name)
    # None moves when it is loaded from the library, or kept in it.
    made_here = [key for key in reversed(mine) if key not in kept or mine[key].stages is not None]
    keys = dict.fromkeys((*made_here, *kept))
    names = {key: name_of(session, mine[key]) if key in mine else kept[key] for key in keys}
    repeated = Counter(names.values())
    for key, name in names.items():
        # An imprinted adapter has the name of the one it was made from, and all that were taught
        # from one adapter have the same name.
        if repeated[name] > 1 and key in mine:
            names[key] = _told_apart(mine[key], name, here)
    repeated = Counter(names.values())
    return {k: f"{name} {k[:8]}" if repeated[name] > 1 else name for k, name in names.items()}


def as_changed(made: Made, name: str) -> str:
    """Add to the name of an adapter how it was changed, if it was."""
    how = made.changed_by
    return name if how is None else _(_CHANGED[how], name=name)


def _told_apart(made: Made, name: str, here: Sequence[Made | None]) -> str:
    """Add to the name of an adapter how it was changed, or that it was imprinted later."""
    if made.changed_by is not None:
        return as_changed(made, name)
    imprints = (one for one in here if one is not None and one.changed_by == "imprint")
    if any(one.before is not None and one.before.key == made.key for one in imprints):
        return _("{name}, before imprint", name=name)
    return name
