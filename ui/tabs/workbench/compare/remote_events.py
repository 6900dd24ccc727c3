"""Comparing models of another server, which only the owner may do."""

import gradio as gr

from dnd_engine.errors import DndError
from dnd_engine.serving.chat import list_models
from ui.markup import faults, remark
from ui.shared import App, Updates, locked_words
from ui.state import RemoteSide, Session
from ui.tabs.workbench.compare.events import CompareEvents
from ui.tabs.workbench.compare.remote_view import remote_words
from ui.text import _, note_words


class RemoteEvents:
    """Events of the server chooser."""

    def __init__(self, app: App, compare: CompareEvents) -> None:
        self._app = app
        self._compare = compare

    def find(self, url: str, key: str, request: gr.Request) -> Updates:
        """List the server's models."""
        # This server would send requests for a stranger, also to addresses only it can reach.
        if not self._app.is_own(request):
            return {"remote_told": remark(locked_words())}
        try:
            models = list_models(url, key)
        except DndError as error:
            title = _("The server's models cannot be listed.")
            return {"remote_told": faults(title, note_words(str(error)))}
        if not models:
            return {"remote_told": remark(_("The server lists no models."))}
        first, *others = models
        return {
            "remote_base": gr.Dropdown(choices=list(models), value=first),
            "remote_adapter": gr.Dropdown(choices=list(models), value=others[0] if others else ""),
            "remote_told": "",
        }

    def use(
        self,
        url: str,
        key: str,
        base: str | None,
        adapter: str | None,
        session: Session,
        request: gr.Request,
    ) -> Updates:
        """Use the server from the next question on."""
        if not self._app.is_own(request):
            return {"remote_told": remark(locked_words())}
        if not url.strip() or not base or not adapter:
            words = _("Give the address and both models; List models shows what the server has.")
            return {"remote_told": faults(_("Something is missing."), words)}
        left, right = (RemoteSide(url.strip(), model) for model in (base, adapter))
        # Each turn keeps its sides, so the key is not part of them: it must be possible to forget.
        session.remote, session.remote_access = (left, right), key
        return {
            "remote_told": remote_words(session.remote),
            "remote_leave": gr.Button(visible=True),
            **self._compare.sides(session),
        }

    def leave(self, session: Session) -> Updates:
        """Return to this app's models, and forget the key."""
        session.leave_server()
        return {
            "remote_told": "",
            "remote_key": "",
            "remote_leave": gr.Button(visible=False),
            **self._compare.sides(session),
        }
