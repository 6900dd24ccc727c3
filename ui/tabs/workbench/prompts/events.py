"""Events of the canvas: files are read when dropped, so that every fault shows at once."""

import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import gradio as gr

from dnd_engine.config import Mix
from dnd_engine.errors import (
    BrokenItemsError,
    BucketError,
    DndError,
    GeneratorError,
    NoRoomError,
    NoTextColumnError,
    PromptFileError,
)
from dnd_engine.files import asset_path
from dnd_engine.prompts.buckets import Bucket, check_buckets, memory_faults, with_instruction
from dnd_engine.prompts.examples import ExampleBucket
from dnd_engine.prompts.files import read_prompt_file, without
from dnd_engine.prompts.reading import Choices, Split
from dnd_engine.prompts.words import display_name
from ui.canvas import Arrangement, CanvasCard
from ui.server.gradio_private.uploads import copied_to_cache
from ui.session_files import PROMPTS
from ui.shared import App, Updates, file_faults, fingerprint, used_words
from ui.state import CardReading, Session
from ui.tabs.workbench.adapter.events import facts_of
from ui.tabs.workbench.prompts.file_info import look, reading_info
from ui.tabs.workbench.prompts.forecast_view import forecast_html
from ui.tabs.workbench.prompts.view import hint_html
from ui.text import _, languages, ngettext, note_words, speaking

_MAX_FORECASTS = 64
"""Forecasts that a visit keeps: of more buckets than a canvas holds."""


class PromptEvents:
    """Events of the canvas and the examples."""

    def __init__(self, app: App) -> None:
        self._app = app

    def update_prompts(
        self, arrangement: Arrangement, session: Session, request: gr.Request
    ) -> Updates:
        """Read new files on the canvas, and describe what Synthesize would use."""
        fresh: set[str] = set()
        # Not for an empty canvas: a visit with a folder counts as worth keeping.
        if arrangement.cards and session.folder is None:
            session.folder = self._app.files.folder(request.session_hash or "")
        for card in arrangement.cards:
            reading = session.readings.get(card.id)
            if reading is None or _asked(reading) != _asked(card):
                if session.over:
                    break
                # One by one, because each new file is counted by those before it.
                session.readings[card.id] = self._read(
                    card, reading, session, request.session_hash or ""
                )
                fresh.add(card.id)
        # A reload took the visit over, and nothing of it is here any more.
        if session.over:
            return {}
        session.canvas = arrangement
        session.canvas_fingerprint = fingerprint(buckets_on(arrangement, session))
        updates = self.readiness(arrangement, session)
        # Answer waiting cards again: the first answer may have been lost.
        shown = {card.id: card for card in arrangement.cards if card.waiting or card.id in fresh}
        looked = look(arrangement, session)
        if shown or looked:
            readings = {key: reading_info(session.readings[key], shown[key]) for key in shown}
            updates["inbox"] = {"op": "readings", "readings": readings, "looked": looked}
        # A remix will fit the adapter to the canvas at once, so it is not called outdated before.
        # A taught one is not remixed.
        if session.made is not None and (
            session.made.adapter.was_trained or not arrangement.remixing
        ):
            updates["adapter_facts"] = facts_of(session)
        return updates

    def readings_again(self, arrangement: Arrangement, session: Session) -> Updates:
        """Describe all cards, and the open dialog, in the current language."""
        readings = {
            card.id: reading_info(reading, card)
            for card in arrangement.cards
            if (reading := session.readings.get(card.id)) is not None
            # With other options it is being read again, which answers in the new language.
            and _asked(reading) == _asked(card)
        }
        if not readings:
            return {}
        looked = look(arrangement, session)
        return {"inbox": {"op": "readings", "readings": readings, "looked": looked}}

    def set_instruction(self, instruction: str, session: Session) -> Updates:
        """Set the instruction for prompts that have none, while it is typed.

        The forecast stays until the instruction is complete, so that the page does not jump.
        """
        session.instruction = instruction
        # The server's copy: while a page is being restored, its canvas is still empty.
        arrangement = session.canvas
        session.canvas_fingerprint = fingerprint(buckets_on(arrangement, session))
        updates = self._readiness(arrangement, session)
        if session.made is not None:
            updates["adapter_facts"] = facts_of(session)
        return updates

    def set_mix(self, mix: Mix, session: Session) -> Updates:
        """Choose how buckets are mixed, which decides whether a weight may be negative."""
        session.settings["mix"] = mix
        return self._readiness(session.canvas, session)

    def forecast(self, session: Session) -> Iterator[Updates]:
        """Ask the model how sure it is of each new bucket, once it is loaded.

        First their prompts are encoded. A synthesis or a newer canvas ends it; what was found is
        kept.
        """
        try:
            for _state in self._app.calls.until_ready():
                yield {}
        except DndError:
            return  # the head of the page says why no model is loaded
        begun_with = session.canvas_fingerprint
        buckets = buckets_on(session.canvas, session)
        if any(bucket.weight < 0 for bucket in buckets):
            # Only the loaded models tell whether there is a pool.
            yield self._readiness(session.canvas, session)
            # Gradio sends the last answer again at the end, and this one may be outdated by then.
            yield {}
        if memory_faults(sum(bucket.memory_bytes for bucket in buckets), self._app.limits):
            return  # the line beside Synthesize says so
        self._read_ahead(buckets, session)
        for bucket in buckets:
            # For each bucket, because the owner may switch models between two of them.
            model = self._loaded_model()
            if not model:
                return  # the head of the page says that others are loading
            key = (model, _contents(bucket))
            # None counts as found: those prompts cannot be asked, and need not be tried again.
            if not bucket.files or bucket.weight <= 0 or key in session.forecasts:
                continue
            if session.canvas_fingerprint != begun_with or session.is_busy:
                return
            try:
                found = self._app.calls.forecast(bucket)
            except DndError:
                if self._loaded_model() == model:
                    raise
                return  # other models were asked for while this waited for its turn
            if self._loaded_model() != model:
                return  # other models were loaded meanwhile
            session.forecasts[key] = found
            # A dict keeps the order of insertion, so the oldest goes first.
            while len(session.forecasts) > _MAX_FORECASTS:
                del session.forecasts[next(iter(session.forecasts))]
            yield {"forecast": self._forecasts(session.canvas, session)}
        # Once more, because a card may have been removed while its forecast was on its way.
        yield {"forecast": self._forecasts(session.canvas, session)}

    def _read_ahead(self, buckets: Sequence[Bucket], session: Session) -> None:
        """Encode the prompts now, so that Synthesize need not."""
        if session.is_busy or session.over:
            return
        begun_with = session.canvas_fingerprint
        # Whatever fails here fails again where it was asked for, and is reported there.
        with suppress(DndError):
            if session.memory is None:
                session.memory = self._app.calls.ready().new_memory()
            # An empty seed field gives None.
            mix, seed = session.settings.get("mix", "pool"), session.settings.get("seed")
            self._app.calls.read_ahead(
                buckets,
                mix,
                int(seed or 0),
                session.memory,
                lambda: session.canvas_fingerprint == begun_with and not session.is_busy,
            )

    def _pools(self, session: Session) -> bool:
        """Whether a synthesis would draw prompts by weight; an imprint alone does not."""
        # Before models are loaded nobody knows; the run itself then refuses.
        engine = self._app.calls.engine
        generates = engine is not None and engine.info.has_generator
        return generates and session.settings.get("mix", "pool") == "pool"

    def _loaded_model(self) -> str:
        """Identify the model that a forecast asks; empty if none is loaded."""
        if (engine := self._app.calls.engine) is None:
            return ""
        info = engine.info
        return f"{info.base_sha256} {info.generator_sha256} {info.teacher_sha256}"

    def _forecasts(self, arrangement: Arrangement, session: Session) -> str:
        engine = self._app.calls.engine
        gauge = None
        # A damaged report must not break the canvas; the report card says what is wrong with it.
        with suppress(GeneratorError):
            report = engine.reports.get("written") if engine else None
            gauge = report.forecast if report else None
        # What was measured of one teacher does not hold for another.
        if engine and gauge and gauge.teacher_sha256 != engine.info.teacher_sha256:
            gauge = None
        model = self._loaded_model()
        found = []
        for bucket in buckets_on(arrangement, session):
            forecast = session.forecasts.get((model, _contents(bucket)))
            counts = bool(bucket.files) and bucket.weight > 0
            if counts and (forecast is not None or bucket.num_without_instruction):
                found.append((bucket, forecast))
        return forecast_html(found, gauge, arrangement.buckets)

    def _read(
        self, card: CanvasCard, before: CardReading | None, session: Session, session_hash: str
    ) -> CardReading:
        name = display_name(card.name)
        # Nothing was copied where the upload was gone, or there was no room for it.
        files, copy = self._app.files, before.copy if before and before.copy != Path() else None
        read = CardReading(
            split=card.split, copy=copy or Path(), choices=card.choices, accepted=card.accepted
        )
        try:
            if copy is None:
                # Gradio deletes uploads by age; see `delete_cache` in `ui.build`.
                if card.upload is None or not card.upload.is_file():
                    raise PromptFileError(_("The upload is gone. Drop the file again."))
                self._check_number(session)
                size = card.upload.stat().st_size
                self._app.visits.check_reading(session, session_hash, size)
                self._app.visits.check_writing(session, session_hash, size)
                # The visit's own copy, because uploads are shared by content and removed by age.
                # Not numbered: a page that takes the visit over meanwhile may count otherwise.
                copy = files.folder(session_hash) / f"{PROMPTS}{secrets.token_hex(8)}"
                copy = copy.with_suffix(card.upload.suffix)
                shutil.copyfile(card.upload, copy)
                read = replace(read, copy=copy)
            # Its earlier prompts go, also if it cannot be read again.
            files.hold(session_hash, copy.name, 0)
            # With all its prompts, because the dialog also shows those removed by hand.
            whole = read_prompt_file(
                copy,
                name=name,
                split=card.split,
                choices=replace(card.choices, without=()),
                limits=self._app.limits,
            )
            more = whole.memory_bytes - copy.stat().st_size
            self._app.visits.check_reading(session, session_hash, max(0, more))
            files.hold(session_hash, copy.name, whole.memory_bytes)
            # Before `without`, which fails if nothing is left: the dialog must open even then, so
            # that prompts can be brought back.
            read = replace(read, whole=whole)
            used = without(whole, card.choices.without)
        except BrokenItemsError as error:
            return replace(read, error=file_faults(error, name), num_good=error.num_good)
        except NoTextColumnError as error:
            return replace(read, error=file_faults(error, name), columns=error.columns)
        except (PromptFileError, NoRoomError) as error:
            return replace(read, error=file_faults(error, name))
        # A doubtful file is shown, but not used until the visitor confirms it.
        return read if whole.doubt and not card.accepted else replace(read, file=used)

    def _check_number(self, session: Session) -> None:
        """Raise if this visit has read as many files as it may."""
        server = self._app.server
        if len(session.readings) >= server.readings_per_visit:
            words = _(
                "This visit has read {number} files, which is the limit. "
                "Delete this visit, at the foot of the page, to start over.",
                number=server.readings_per_visit,
            )
            raise PromptFileError(words)

    def load_examples(
        self, examples: Sequence[ExampleBucket], session: Session, *, own_weights: bool
    ) -> Updates:
        """Put example files on the canvas."""
        sets = []
        for example in examples:
            # In every language, because the bucket may be named in any.
            for code in languages():
                with speaking(code):
                    session.example_questions[_(example.bucket)] = example.question
            files = []
            for name in example.files:
                source = asset_path("examples", example.id, name)
                # The canvas may only refer to files of the cache.
                cached = copied_to_cache(source, self._app.cache)
                size = source.stat().st_size
                data = {"path": cached, "orig_name": name, "size": size}
                files.append({"name": name, "size": size, "file": data})
            weight = example.weight if own_weights else 1.0
            sets.append({"bucket": example.bucket, "weight": weight, "files": files})
        return {"inbox": {"op": "load", "sets": sets}}

    def show_me(self, example: ExampleBucket, session: Session) -> Updates:
        """Load an example; once it is read, the canvas requests the rest, as a visitor would."""
        session.to_show = example.question
        inbox = self.load_examples([example], session, own_weights=False)["inbox"]
        return {"inbox": {**inbox, "tell_when_read": True}}

    def put_back(self, session: Session) -> Updates:
        """Restore the canvas; its files were read before."""
        if not session.canvas.buckets:
            return {}  # the page was left before it sent its canvas
        return {
            "inbox": {
                "op": "restore",
                **session.canvas.to_message(),
                "readings": {
                    card.id: reading_info(session.readings[card.id], card)
                    for card in session.canvas.cards
                    if card.id in session.readings
                },
                "folded": session.made is not None,
            }
        }

    def readiness(self, arrangement: Arrangement, session: Session) -> Updates:
        """Describe what Synthesize would use, or what is missing, with the forecasts so far."""
        return {
            **self._readiness(arrangement, session),
            "forecast": self._forecasts(arrangement, session),
        }

    def _readiness(self, arrangement: Arrangement, session: Session) -> Updates:
        cards = arrangement.cards
        buckets = buckets_on(arrangement, session)
        files = [file for bucket in buckets for file in bucket.files]
        ready = False
        if not cards:
            hint = _("Drop prompt files first.")
        elif not files:
            hint = _unused_words(arrangement, session)
        else:
            try:
                used = check_buckets(buckets, self._app.limits)
            except BucketError as error:
                hint = note_words(str(error))
            else:
                hint = used_words(used, len(cards) - len(files))
                negative = any(bucket.weight < 0 for bucket in used)
                ready = not (negative and self._pools(session))
                if not ready:
                    hint = _(
                        "A pool has no negative weights. Raise them, or choose Sum adapters under "
                        "Advanced and switch the imprint off."
                    )
                elif negative:
                    why = _("negative weights count only in a sum without imprint (Advanced)")
                    hint = f"{hint}; {why}"
        return {"synthesize": gr.Button(interactive=ready), "hint": hint_html(hint)}


def _unused_words(arrangement: Arrangement, session: Session) -> str:
    """Say why no file on the canvas is used."""
    readings = [session.readings.get(card.id) for card in arrangement.cards]
    waiting = sum(reading is not None and reading.awaits_choice for reading in readings)
    if not waiting:
        return _("No file can be read yet.")
    return ngettext(
        "{number} file waits for your choice on its card.",
        "{number} files wait for your choice on their cards.",
        waiting,
    )


def buckets_on(arrangement: Arrangement, session: Session) -> list[Bucket]:
    """Return the buckets on a canvas, with readable files and the typed instructions."""
    found: list[Bucket] = []
    for bucket in arrangement.buckets:
        files = tuple(
            reading.file
            for card in bucket.cards
            if (reading := session.readings.get(card.id)) and reading.file is not None
        )
        typed = bucket.instruction.strip() or session.instruction
        found += with_instruction([Bucket(bucket.name, bucket.weight, files)], typed)
    return found


def _contents(bucket: Bucket) -> str:
    """Identify what a forecast asks: prompts and instruction, not name and weight."""
    return fingerprint([replace(bucket, name="any", weight=1.0)])


def _asked(about: CardReading | CanvasCard) -> tuple[Split, Choices, bool]:
    """Return the options for reading a file; if they change, it is read again."""
    return about.split, about.choices, about.accepted
