"""Events of the library: store, list, rename, delete, restore, load and import adapters."""

from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr

from dnd_engine.errors import DndError, LibraryError, RecipeError
from dnd_engine.library import DamagedEntry, Entry, Library
from dnd_engine.lora.provenance import Recipe, read_recipe
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.words import one_line
from ui.frame.view import progress_words
from ui.markup import busy, esc, faults, notice, remark
from ui.session_files import file_stem
from ui.shared import App, Updates, broke, fingerprint, locked_words
from ui.stages import Stages
from ui.state import Kept, Made, Place, Run, Session
from ui.tabs.library.view import entry_words, library_head_html
from ui.tabs.workbench.adapter.events import AdapterEvents
from ui.tabs.workbench.compare.events import CompareEvents
from ui.tabs.workbench.runs.events import RunEvents
from ui.tabs.workbench.take.view import keep_head_html
from ui.text import _, note_words


class LibraryEvents:
    """Events of the library, and of Keep."""

    def __init__(
        self, app: App, compare: CompareEvents, adapter: AdapterEvents, runs: RunEvents
    ) -> None:
        self._app = app
        self._compare = compare
        self._adapter = adapter
        self._runs = runs

    def keep(self, session: Session, name: str, texts: bool, request: gr.Request) -> Updates:
        """Store the adapter in the bar with its results and votes."""
        made = session.made
        if made is None:
            return {}
        name = one_line(name) or made.adapter.name
        try:
            library = self._app.library(session, request)
            entry = made.kept.entry if made.kept is not None else None
            entry = entry or _same_weights(library, made.key, made.adapter.strength)
            if entry is not None and _says_the_same(entry, made, name, texts):
                if made.kept is None or made.kept.key != entry.key:
                    made.kept = Kept(library, entry.key)
                    checks = made.original.checks or None
                    self._app.note(session, made, scores=made.scores, checks=checks)
                words = _("Already in the library, as <b>{name}</b>.", name=esc(entry.name))
                return {"keep_told": notice(words)}
            files = [file for bucket in made.buckets for file in bucket.files] if texts else []
            num_bytes = made.adapter.num_bytes + sum(file.memory_bytes for file in files)
            self._check_room(session, library, num_bytes, request)
            entry = library.add(
                made.adapter,
                # Its own name gets a number if it is taken; a name that was typed is refused.
                None if name == made.adapter.name else name,
                texts=files,
            )
        except DndError as error:
            return {"keep_told": self._faults(session, error, _("Not kept."))}
        made.kept = Kept(library, entry.key)
        session.kept_now = entry.key
        sides = self.look(session, request)
        # Votes were given to the label that stood above the answers.
        label = self._app.label(made)
        votes = Counter(o for turn in session.turns if (o := turn.outcome(label)))
        if votes or made.scores:
            self._app.note(session, made, votes=votes, scores=made.scores)
        words = _("Kept in the library as <b>{name}</b>.", name=esc(entry.name))
        if self._app.is_locked_out(request):
            words = f"{words} {locked_words()}"
        return {"keep_name": gr.Textbox(entry.name), "keep_told": notice(words), **sides}

    def heads(self, request: gr.Request) -> Updates:
        """Say how long this visitor's adapters are kept; without the owner's key, for the visit."""
        ends = not self._app.is_own(request)
        return {
            "keep_head": keep_head_html(ends=ends),
            "library_head": library_head_html(ends=ends),
        }

    def open_library(self, session: Session, chosen: str | None, request: gr.Request) -> Updates:
        """List the stored adapters afresh, since another process may have changed them.

        What was kept since the last time is selected.
        """
        message = remark(locked_words()) if self._app.is_locked_out(request) else ""
        chosen, session.kept_now = session.kept_now or chosen, ""
        return {"library_told": message, **self.listed(session, request, chosen)}

    def choose_kept(self, session: Session, key: str | None, request: gr.Request) -> Updates:
        """Offer the actions for the selected adapter; what was said of another one goes."""
        found = self._app.library(session, request).entries()
        return {
            "library_told": remark(locked_words()) if self._app.is_locked_out(request) else "",
            **self._actions(session, request, next((e for e in found if e.key == key), None)),
        }

    def rename_kept(
        self, session: Session, key: str | None, name: str | None, request: gr.Request
    ) -> Updates:
        """Rename the selected adapter."""
        return self._change(
            session, request, key, lambda library: library.rename(_selected(key), name or "")
        )

    def duplicate_kept(self, session: Session, key: str | None, request: gr.Request) -> Updates:
        """Copy the selected adapter."""

        def copy(library: Library) -> Entry:
            self._check_room(session, library, library.get(_selected(key)).num_bytes, request)
            return library.duplicate(_selected(key))

        return self._change(session, request, key, copy)

    def delete_kept(self, session: Session, key: str | None, request: gr.Request) -> Updates:
        """Delete the selected adapter and select the newest one."""
        return self._change(session, request, key, lambda library: library.delete(_selected(key)))

    def undo_delete(self, session: Session, key: str | None, request: gr.Request) -> Updates:
        """Restore the adapter that was deleted last."""
        return self._change(session, request, key, lambda library: library.undo())

    def load_kept(
        self, session: Session, key: str | None, request: gr.Request
    ) -> Iterator[Updates]:
        """Put the selected adapter in the bar with its results, and verify its zip."""
        yield {
            "library_told": busy(_("Reading and verifying the adapter")),
            "library_load": gr.Button(interactive=False),
        }
        updates: Updates = {"library_load": gr.Button(interactive=True)}
        try:
            yield from self._until_ready()
            engine = self._app.calls.ready()
            made = self._load(session, _selected(key), request)
        except DndError as error:
            told_of = self._faults(session, error, _("Not loaded."))
            # It may have been deleted elsewhere.
            updates |= self.listed(session, request, key, keeps_name=True)
            yield {**updates, "library_told": told_of}
            return
        here = next((one for one in session.shelf if one.key == made.key), None)
        if here is not None:
            # Keep the visit's own object: it has the history, and running work refers to it.
            here.original, here.adapter, here.archive = made.original, made.adapter, made.archive
            here.kept, here.scores = made.kept, {**made.scores, **here.scores}
            here.inspection, here.proof = (
                here.inspection or made.inspection,
                here.proof or made.proof,
            )
            made = here
            if here.buckets and here.inspection is not None:
                self._adapter.put_on_card(session, here, engine)
        session.take(made)
        yield {
            **updates,
            "library_told": "",
            "tabs": gr.Tabs(selected="workbench"),
            **self._adapter.show(session),
        }

    def load_broke(self) -> Updates:
        """Restore the button after an unexpected error."""
        return {
            "library_load": gr.Button(interactive=True),
            "library_told": faults(_("Not loaded."), broke()),
        }

    def bring(
        self, place: Place, session: Session, key: str | None, request: gr.Request
    ) -> Iterator[Updates]:
        """Load an adapter that was chosen for a side, if it is still awaited there."""
        if not key or session.awaited.get(place) != key:
            return
        # It may have been loaded for the other side meanwhile.
        made = next((one for one in session.shelf if one.key == key), None)
        if made is None:
            yield {name: gr.Radio(interactive=False) for name in ("left_choice", "right_choice")}
            try:
                for _waiting in self._until_ready():
                    yield {}
                # The library as it is now, and of whoever asks now.
                self._note_names(session, request)
                # Of entries with the same weights, the newest, whose name the page shows.
                kept = {entry.sha256: entry.key for entry in reversed(session.library)}
                if key not in kept:
                    raise LibraryError(_("The adapter is no longer in the library."))
                made = self._load(session, kept[key], request)
            except DndError as error:
                gr.Warning(
                    esc(self._app.error_words(session, error, "library")), title=_("Not loaded.")
                )
                yield self._compare.sides(session)
                return
            # A later choice may have been on its way when the page was told to wait.
            if session.awaited.get(place) != key:
                yield self._compare.sides(session)
                return
        if place == "right":
            session.take(made)
            session.awaited.pop(place, None)
            yield self._adapter.show(session)
        else:
            session.shelve(made)
            yield self._compare.stand_beside(session, made.key)

    def bring_broke(self, session: Session) -> Updates:
        """Restore the choice after an unexpected error."""
        gr.Warning(broke(), title=_("Not loaded."))
        return self._compare.sides(session)

    def look(self, session: Session, request: gr.Request) -> Updates:
        """Offer the library's adapters in Compare."""
        session.library = ()
        # A visitor's library is a folder of the visit, which nobody needs to find it empty.
        if self._app.is_own(request) or session.folder is not None:
            # The Library tab says what is wrong with it.
            with suppress(LibraryError):
                self._note_names(session, request)
        return self._compare.sides(session)

    def _note_names(self, session: Session, request: gr.Request) -> None:
        """Note which adapters of the library can be chosen in Compare."""
        session.library = tuple(self._app.library(session, request).entry_names())

    def _until_ready(self) -> Iterator[Updates]:
        """Wait for the engine, with its progress."""
        self._app.calls.start()
        for state in self._app.calls.until_ready():
            yield {"library_told": busy(esc(progress_words(state)))}

    def _load(self, session: Session, key: str, request: gr.Request) -> Made:
        """Load an adapter with its results, and verify its zip."""
        library, engine = self._app.library(session, request), self._app.calls.ready()
        adapter = library.load(key, engine.read_adapter)
        entry = library.get(key)
        buckets = _buckets(entry.recipe, session)
        made = Made(
            original=adapter.with_strength(1.0),
            adapter=adapter,
            made_from=fingerprint(buckets) if buckets else "",
            buckets=buckets,
            kept=Kept(library, key),
            imported=entry.imported,
            scores=entry.scores,
        )
        made.inspection, made.proof = engine.recall(adapter.checks, adapter.nearest_tasks)
        for _step in self._adapter.verify(session, made, request):
            pass
        return made

    def import_file(
        self, session: Session, path: str | None, request: gr.Request
    ) -> Iterator[Updates]:
        """Import an adapter file, or request a remake of a recipe."""
        if path is None:  # from a program; the page sends a file
            yield {"library_told": notice(_("Choose the file of an adapter."))}
            return
        file = Path(path)
        try:
            if file.suffix.lower() == ".json":
                yield self.order(session, read_recipe(file))
                return
            yield from self._until_ready()
            library = self._app.library(session, request)
            self._check_room(session, library, file.stat().st_size, request)
            adapter = self._app.calls.ready().read_adapter(file)
            # Again, because its zip may have been much smaller.
            self._check_room(session, library, adapter.num_bytes, request)
            known = _same_weights(library, adapter.sha256, adapter.strength)
            entry = known or library.add(adapter, imported=True)
        except DndError as error:
            title = _("<b>{name}</b> was not imported.", name=esc(file.name))
            # The path is one of the server's own.
            words = self._app.error_words(session, error, "import").replace(str(file), file.name)
            yield {"library_told": faults(title, words)}
        else:
            words = _("Kept in the library as <b>{name}</b>.", name=esc(entry.name))
            if known is not None:
                words = _("Already in the library, as <b>{name}</b>.", name=esc(entry.name))
            yield {"library_told": notice(words), **self.listed(session, request, entry.key)}

    def remake(self, session: Session, request: gr.Request) -> Iterator[Updates]:
        """Carry out the requested recipe."""
        run = self._runs.ordered(session, "remake")
        if run is None:
            return
        yield from self._runs.carry_out(session, run, self._remaking(run), request)

    def order(self, session: Session, recipe: Recipe) -> Updates:
        """Start a remake; prompt files come from this visit or from the recipe."""
        # Removed cards too: their readings are kept for Undo.
        read = [reading.file for reading in session.readings.values() if reading.file is not None]
        recipe = recipe.with_texts(read)
        imprinting = ("imprint",) if recipe.imprint is not None else ()
        refining = ("refine",) if recipe.refinements else ()
        # Both begin with the teacher's answers.
        asking = ("ask",) if imprinting or refining else ()
        # Without a generator, an imprint alone makes the adapter.
        writing = () if recipe.generator is None else ("encode", "decode")
        keys = ("wait", *writing, *asking, *imprinting, *refining, "check")
        run = Run(
            "remake",
            Stages(keys, "remake"),
            tuple(source.bucket() for source in recipe.buckets),
            recipe=recipe,
        )
        return {
            "library_told": "",
            "tabs": gr.Tabs(selected="workbench"),
            **self._runs.begin(session, run),
        }

    def _remaking(self, run: Run) -> Generator[Updates, None, Made]:
        recipe = run.recipe
        assert recipe is not None
        yield from self._runs.until_ready(run)
        adapter = yield from self._runs.follow(run, self._app.calls.remake(recipe, run.stop))
        # A library's recipe for another strength than 1 has no digest to compare.
        same = recipe.sha256 in (None, adapter.sha256)
        run.stages.enter(
            "check",
            _("The weights are those of the recipe, to the last bit")
            if same
            else _("Remade; this machine rounds differently from the first one"),
        )
        return Made(
            original=adapter.with_strength(1.0),
            adapter=adapter,
            made_from=fingerprint(run.buckets),
            buckets=run.buckets,
            stages=run.stages,
        )

    def _faults(self, session: Session, error: DndError, title: str) -> str:
        return faults(title, self._app.error_words(session, error, "library"))

    def _change(
        self, session: Session, request: gr.Request, key: str | None, change: Any
    ) -> Updates:
        """Change the library and list it again, with the returned entry selected."""
        told_of = ""
        try:
            changed = change(self._app.library(session, request))
            key = changed.key if changed is not None else None
        except DndError as error:
            told_of = self._faults(session, error, _("The library is unchanged."))
        # On the workbench, it may name an adapter that is no longer in the list.
        found = self.listed(session, request, key, keeps_name=bool(told_of))
        return {"library_told": told_of, "keep_told": "", **found}

    def _check_room(
        self, session: Session, library: Library, num_bytes: int, request: gr.Request
    ) -> None:
        """Raise if the library of a visit may not take an adapter of this size."""
        if not self._app.is_own(request):
            kept, most = len(library.entries()), self._app.server.adapters_per_session
            # Deleted adapters are purged if there is no room for them.
            if kept < most <= kept + len(library.deleted()):
                library.empty_trash()
            if kept >= most:
                raise LibraryError(
                    _(
                        "A visit keeps up to {number} adapters here, including deleted ones.",
                        number=most,
                    )
                )
            self._app.visits.check_writing(session, request.session_hash or "", num_bytes)

    def listed(
        self,
        session: Session,
        request: gr.Request,
        chosen: str | None,
        *,
        keeps_name: bool = False,
    ) -> Updates:
        """Draw the list; by default the newest is selected.

        `keeps_name` leaves what was typed as a name, to be corrected, if the chosen one is there.
        """
        try:
            self._note_names(session, request)
            library = self._app.library(session, request)
            entries, deleted = library.entries(), library.deleted()
        except LibraryError as error:
            return {"library_told": self._faults(session, error, _("The library is unchanged."))}
        entry = next((e for e in entries if e.key == chosen), entries[0] if entries else None)
        last = deleted[0] if deleted else None
        name = last.name if isinstance(last, Entry) else last.key if last else ""
        actions = self._actions(session, request, entry)
        if keeps_name and entry is not None and entry.key == chosen:
            del actions["library_name"]
        return {
            "library_kept": gr.Radio(
                choices=[(self._words(e), e.key) for e in entries],
                value=entry.key if entry else None,
                visible=bool(entries),
            ),
            "library_empty": gr.HTML(visible=not entries),
            **self._compare.sides(session),
            "library_undo": gr.Button(
                _("Undo: bring back {name}", name=name), visible=last is not None
            ),
            **actions,
        }

    def _words(self, entry: Entry | DamagedEntry) -> str:
        engine = self._app.calls.engine
        found = None
        if isinstance(entry, Entry) and engine is not None:
            try:
                found, _proof = engine.recall(entry.checks)
            except DndError as error:
                return f"{entry.name}\n{note_words(str(error))}"
        return entry_words(entry, found)

    def _actions(
        self, session: Session, request: gr.Request, entry: Entry | DamagedEntry | None
    ) -> Updates:
        """Offer the actions for an entry; a damaged one can only be deleted."""
        whole = isinstance(entry, Entry)
        recipe = None
        if isinstance(entry, Entry) and entry.recipe is not None:
            folder = self._app.files.folder(request.session_hash or "")
            session.folder = folder
            # Now and not on the click, because Gradio's button takes a file that exists.
            try:
                place = folder / f"recipe-{file_stem(entry.name)}-{entry.key[:8]}.json"
                recipe = entry.recipe.save(place)
            except RecipeError as error:
                # On a full disk, adapters can still be listed and deleted.
                words = self._app.error_words(session, error, "recipe")
                gr.Warning(esc(words), title=_("No recipe to download."))
            else:
                self._app.files.supersede(recipe, "recipe-*.json")
        return {
            "library_actions": gr.Row(visible=entry is not None),
            "library_load": gr.Button(visible=whole, interactive=True),
            "library_name": gr.Textbox(
                entry.name if isinstance(entry, Entry) else "", visible=whole
            ),
            "library_rename": gr.Button(visible=whole),
            "library_duplicate": gr.Button(visible=whole),
            "library_recipe": gr.DownloadButton(
                value=str(recipe) if recipe else None, visible=recipe is not None
            ),
        }


def _selected(key: str | None) -> str:
    """Return the key of the selected adapter.

    Raises:
        LibraryError: If none is selected, as in a call that no page sends.
    """
    if key is None:
        raise LibraryError(_("Select an adapter first."))
    return key


def _same_weights(library: Library, sha256: str, strength: float) -> Entry | None:
    """Find an adapter that is the same, whatever its name."""
    kept = (entry for entry in library.entries() if isinstance(entry, Entry))
    return next((e for e in kept if (e.sha256, e.strength) == (sha256, strength)), None)


def _says_the_same(entry: Entry, made: Made, name: str, texts: bool) -> bool:
    """Return whether storing an adapter would add nothing to its entry."""
    has_texts = entry.recipe is not None and entry.recipe.has_texts
    named = name in (entry.name, made.adapter.name)
    return named and entry.strength == made.adapter.strength and (has_texts or not texts)


def _buckets(recipe: Recipe | None, session: Session) -> tuple[Bucket, ...]:
    """Return an adapter's buckets, if its recipe has the texts or this visit read the files."""
    read = [reading.file for reading in session.readings.values() if reading.file is not None]
    try:
        return tuple(s.bucket() for s in recipe.with_texts(read).buckets) if recipe else ()
    except RecipeError:
        return ()
