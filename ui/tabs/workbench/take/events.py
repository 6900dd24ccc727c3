"""Exports the adapter in the bar: as GGUF, merged into its base, or to the Hub.

A visitor's token is passed on and forgotten: it is removed from the page when the push starts, and
never stored.
"""

import shutil
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from dnd_engine.errors import DndError, ExportError, HubError
from dnd_engine.export.registry import export_target
from ui.markup import busy, esc, faults, notice, prose, remark
from ui.shared import App, Updates, broke, locked_words
from ui.state import Made, Session
from ui.tabs.workbench.adapter.events import nothing_exported
from ui.tabs.workbench.take.view import HUB, export_do, no_merging, usage_note
from ui.text import N_, _, note_words, number, size

if TYPE_CHECKING:
    from dnd_engine.lora.adapter import Adapter


class ExportEvents:
    """Events of the export panel."""

    def __init__(self, app: App) -> None:
        self._app = app

    def open_take(self) -> Updates:
        """Show the panel."""
        return {"take_box": gr.Row(visible=True)}

    def close_take(self) -> Updates:
        """Hide the panel."""
        return {"take_box": gr.Row(visible=False)}

    def choose_format(self, target: str, request: gr.Request) -> Updates:
        """Show the fields that the format needs, and say what is missing for it."""
        # On a server for others, the layout leaves out what nobody has there.
        missing = self._missing(target, request) if self._app.own else ""
        return {
            "hub": gr.Column(visible=target == HUB),
            "export": gr.Button(export_do(target)),
            **nothing_exported(),
            **({"export_told": remark(prose(missing))} if missing else {}),
        }

    def export(
        self,
        session: Session,
        target: str,
        repo: str,
        private: bool,
        token: str,
        request: gr.Request,
    ) -> Iterator[Updates]:
        """Export or push the adapter at its current strength, and show how to use it."""
        made = session.made
        # In every case: a token that was not needed does not stay on the page either.
        cleared: Updates = {"hub_token": ""}
        if made is None:
            yield cleared
            return
        strength, start = made.adapter.strength, time.monotonic()
        doing, failed = _("Writing and checking the file"), _("Not exported.")
        if target == HUB:
            doing, failed = _("Reloading with stock PEFT, then uploading"), _("Not pushed.")
        yield {**cleared, **nothing_exported(), **_may_choose(False)}
        done: Updates = {}

        def once() -> Iterator[Updates]:
            if target == HUB:
                yield self._pushed(made.adapter, repo, private, token, request)
            else:
                yield self._written(session, made, target, request)

        try:
            # An iterator, so that `beside` ticks while its one step runs.
            for step in self._app.calls.beside(once()):
                if step is None:
                    clock = f"{number(time.monotonic() - start, '.0f')} s"
                    yield {"export_told": busy(f"{doing} <span class='dnd-num'>{clock}</span>")}
                else:
                    done = step  # a last tick may still follow
        except DndError as error:
            done = {"export_told": faults(failed, self._app.error_words(session, error, "export"))}
        # The shown export must belong to the current adapter. By strength, because checks that end
        # meanwhile put the same weights with their results in its place.
        is_current = session.made is made and made.adapter.strength == strength
        if "export_file" in done and not is_current:
            changed = remark(_("The adapter changed meanwhile. Export it again."))
            done = {**nothing_exported(), "export_told": changed}
        yield {**done, **_may_choose(True)}

    def export_broke(self) -> Updates:
        """Restore the button after an unexpected error."""
        message = faults(_("Nothing was exported"), broke())
        return {**_may_choose(True), "export_told": message}

    def _missing(self, target: str, request: gr.Request) -> str:
        """Say what a format needs that the visitor or this computer lacks; empty if nothing."""
        if self._app.is_own(request):
            return "" if target == HUB else note_words(export_target(target).missing() or "")
        if target == HUB:
            words = _("You need a token of your own here, with write access.")
        elif export_target(target).whole_model:
            words = no_merging()
        else:
            return ""
        return f"{words} {locked_words()}" if self._app.own else words

    def _pushed(
        self, adapter: "Adapter", repo: str, private: bool, token: str, request: gr.Request
    ) -> Updates:
        token = token.strip()
        # Never use this machine's login for a visitor; the engine would, without a token.
        if not token and (missing := self._missing(HUB, request)):
            raise HubError(missing)
        url, is_private, usage = self._app.calls.push(adapter, repo.strip(), token or None, private)
        words = N_("Pushed, private: {url}") if is_private else N_("Pushed, public: {url}")
        link = f"<a href='{esc(url)}' target='_blank' rel='noopener'>{esc(url)}</a>"
        return {
            "export_told": notice(_(words, url=link)),
            "export_usage": gr.Textbox(usage, info=usage_note(HUB), visible=True),
        }

    def _written(self, session: Session, made: Made, format: str, request: gr.Request) -> Updates:
        engine, target = self._app.calls.ready(), export_target(format)
        adapter, session_hash = made.adapter, request.session_hash or ""
        # The page may hide a format from visitors, but a program can still name it.
        if missing := self._missing(format, request):
            raise ExportError(missing)
        self._app.visits.check_writing(session, session_hash, adapter.num_bytes)
        place = self._app.files.archive(adapter, session_hash, made.key, format)
        # Formats without a suffix are folders, and a browser downloads one file.
        if suffix := target.suffixes[0]:
            # Downloads of one adapter end up in one folder, so their names differ.
            stem = f"{place.stem}-{format}" if target.whole_model else place.stem
            name = target.file_name or f"{stem}{suffix}"
            file = engine.export(adapter, format, place.with_name(name)).path
            used = file.name
        else:
            folder = place.with_name(f"{place.stem}-{format}")
            file = self._zipped(engine.export(adapter, format, folder).path)
            used = folder.name
        self._app.files.supersede(file)
        words = _(
            "<b>{name}</b>, {size}, is ready.", name=esc(file.name), size=size(file.stat().st_size)
        )
        return {
            "export_told": notice(words),
            "export_usage": gr.Textbox(
                target.usage(adapter, used), info=usage_note(format), visible=True
            ),
            "export_file": gr.DownloadButton(value=str(file), visible=True),
        }

    def _zipped(self, folder: Path) -> Path:
        """Replace a folder by an uncompressed zip of it, because weights barely compress."""
        file = folder.with_name(f"{folder.name}.zip")
        try:
            with zipfile.ZipFile(file, "w") as archive:
                for part in sorted(folder.iterdir()):
                    archive.write(part, f"{folder.name}/{part.name}")
        except OSError as error:
            file.unlink(missing_ok=True)
            words = _(
                "The zip could not be written: {reason}. Free some space, and try again.",
                reason=error.strerror or str(error),
            )
            raise ExportError(words) from error
        finally:
            # Also after a failure: a merged model takes as much space as its base.
            shutil.rmtree(folder)
        return file


def _may_choose(can: bool) -> Updates:
    """Lock button and formats during an export, whose result would appear under another format."""
    return {
        "export": gr.Button(interactive=can),
        "export_format": gr.Radio(interactive=can),
    }
