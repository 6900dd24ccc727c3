"""The adapter in the bar for other tools: as GGUF, merged into its base, or on the Hub.

A visitor's token is passed on and forgotten: it leaves the page when the push begins, and stands in
no state.
"""

import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import gradio as gr

from dnd_engine.errors import DndError, ExportError, HubError
from dnd_engine.lora.usage import gguf_usage, merged_usage
from ui.handlers.adapter import nothing_exported
from ui.handlers.base import App, Updates, broke
from ui.markup import busy, esc, faults, notice
from ui.panels.take import EXPORT_DO, no_merging
from ui.state import Session
from ui.text import N_, _, number, size

if TYPE_CHECKING:
    from dnd_engine.lora.adapter import Adapter

__all__ = ["ExportEvents", "Target"]

Target = Literal["gguf", "merged", "hub"]


_EXPORT_DOING: Mapping[Target, str] = {
    "gguf": N_("Writing the GGUF file"),
    "merged": N_("Merging, then comparing with the adapter"),
    "hub": N_("Reloading with stock PEFT, then uploading"),
}
_EXPORT_FAILED: Mapping[Target, str] = {
    "gguf": N_("No GGUF file was made."),
    "merged": N_("No merged model was made."),
    "hub": N_("Not pushed."),
}


class ExportEvents:
    """Events of the panel that an adapter is taken away with."""

    def __init__(self, app: App) -> None:
        self._app = app

    def open_take(self) -> Updates:
        """Show the panel."""
        return {"take_box": gr.Row(visible=True)}

    def close_take(self) -> Updates:
        """Put the panel away."""
        return {"take_box": gr.Row(visible=False)}

    def choose_format(self, target: Target) -> Updates:
        """Ask for what the format needs."""
        return {
            "hub": gr.Column(visible=target == "hub"),
            "export": gr.Button(_(EXPORT_DO[target])),
            **nothing_exported(),
        }

    def export(
        self,
        session: Session,
        target: Target,
        repo: str,
        private: bool,
        token: str,
        request: gr.Request,
    ) -> Iterator[Updates]:
        """Write or push the adapter at its present strength, and tell how it is used."""
        made = session.made
        cleared: Updates = {"hub_token": ""}
        if made is None:
            yield cleared
            return
        adapter, start = made.adapter, time.monotonic()
        doing = _(_EXPORT_DOING[target])
        yield {**cleared, **nothing_exported(), "export": gr.Button(interactive=False)}
        done: Updates = {}
        try:
            steps = self._once(adapter, target, repo, private, token, request)
            for done in self._app.calls.beside(steps):
                if done is None:
                    clock = f"{number(time.monotonic() - start, '.0f')} s"
                    yield {"export_told": busy(f"{doing} <span class='dnd-num'>{clock}</span>")}
        except DndError as error:
            done = {"export_told": faults(_(_EXPORT_FAILED[target]), str(error))}
        if session.made is not made or made.adapter is not adapter:
            done = nothing_exported()  # what is shown belongs to the adapter in the bar
        yield {**done, "export": gr.Button(interactive=True)}

    def export_broke(self) -> Updates:
        """Put the button back after an error nobody foresaw."""
        told = faults(_("No zip"), broke())
        return {"export": gr.Button(interactive=True), "export_told": told}

    def _once(
        self,
        adapter: "Adapter",
        target: Target,
        repo: str,
        private: bool,
        token: str,
        request: gr.Request,
    ) -> Iterator[Updates]:
        """Do it, as the one step of an iterator."""
        if target == "hub":
            yield self._pushed(adapter, repo, private, token, own=self._app.is_own(request))
        else:
            session_hash = request.session_hash or ""
            yield self._written(adapter, target, session_hash, own=self._app.is_own(request))

    def _pushed(
        self, adapter: "Adapter", repo: str, private: bool, token: str, *, own: bool
    ) -> Updates:
        token = token.strip()
        # Never this machine's login for a visitor: the engine would take it for an empty token.
        if not own and not token:
            raise HubError(_("You need a token of your own here, with write access."))
        url, is_private, usage = self._app.calls.push(adapter, repo.strip(), token or None, private)
        words = N_("Pushed, private: {url}") if is_private else N_("Pushed, public: {url}")
        link = f"<a href='{esc(url)}' target='_blank' rel='noopener'>{esc(url)}</a>"
        return {
            "export_told": notice(_(words, url=link)),
            "export_usage": gr.Textbox(usage, visible=True),
        }

    def _written(
        self,
        adapter: "Adapter",
        target: Literal["gguf", "merged"],
        session_hash: str,
        *,
        own: bool,
    ) -> Updates:
        engine = self._app.calls.ready()
        usage: Callable[[str], str] = gguf_usage
        place = self._app.files.archive(adapter, session_hash)
        if target == "gguf":
            file = engine.export(adapter, target, place.with_suffix(".gguf")).path
            used = file.name
        else:
            if not own:
                raise ExportError(no_merging())
            folder = place.with_name(f"{place.stem}-merged")
            file, used, usage = (
                self._zipped(engine.export(adapter, target, folder).path),
                folder.name,
                merged_usage,
            )
        words = _(
            "<b>{name}</b>, {size}, is ready.", name=esc(file.name), size=size(file.stat().st_size)
        )
        return {
            "export_told": notice(words),
            "export_usage": gr.Textbox(
                usage(used),
                info=_gguf_base() if target == "gguf" else None,
                visible=True,
            ),
            "export_file": gr.DownloadButton(value=str(file), visible=True),
        }

    def _zipped(self, folder: Path) -> Path:
        """A folder as a zip in its place; stored, since weights hardly compress."""
        file = folder.with_name(f"{folder.name}.zip")
        try:
            with zipfile.ZipFile(file, "w") as archive:
                for part in sorted(folder.iterdir()):
                    archive.write(part, f"{folder.name}/{part.name}")
        except OSError as error:
            file.unlink(missing_ok=True)
            reason = error.strerror or str(error)
            raise ExportError(
                _(
                    "The zip could not be written: {reason}. Free some space, and try again.",
                    reason=reason,
                )
            ) from error
        finally:
            shutil.rmtree(folder)
        return file


def _gguf_base() -> str:
    return _(
        "base.gguf is the base model as a GGUF file: download one, or make one with "
        "convert_hf_to_gguf.py from llama.cpp."
    )
