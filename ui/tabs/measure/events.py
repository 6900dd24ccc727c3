"""Events of Measure: the adapter in the bar on labelled rows, compared with trained LoRAs."""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import gradio as gr

from dnd_engine.config import LabelledConfig, MeasureConfig
from dnd_engine.errors import DndError, MeasureError, NoTextColumnError, PromptFileError
from dnd_engine.files import write_whole
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.files import read_prompt_file
from dnd_engine.prompts.reading import Choices
from dnd_engine.prompts.words import display_name, shorten
from ui.markup import busy, esc, faults, notice, sentence
from ui.session_files import LABELLED
from ui.shared import App, Updates, broke, file_faults
from ui.stages import StageKey, Stages
from ui.state import CardReading, Found, Made, MeasureRun, Session
from ui.tabs.measure.view import (
    TRAINED,
    TrainedRow,
    can_train,
    columns_json,
    measured_html,
    most_measured,
    notes_html,
    of_html,
    rows_html,
    train_of_html,
)
from ui.tabs.workbench.adapter.events import AdapterEvents
from ui.tabs.workbench.compare.sides import choosers
from ui.text import _, duration, ngettext

if TYPE_CHECKING:
    from dnd_engine.measure.results import EvalPass, Measurement, MeasureStep

_BUTTONS = (
    ("measurement", "measure_start", "measure_stop"),
    ("training", "measure_train", "measure_train_stop"),
)
"""Kind of a run, and the slots that start and stop it."""


class MeasureEvents:
    """Events of the tab. Its runs are independent of the Workbench's."""

    def __init__(self, app: App, adapter: AdapterEvents) -> None:
        self._app = app
        self._adapter = adapter

    def open_measure(self, session: Session) -> Updates:
        """Redraw the tab, because the adapter in the bar may have changed."""
        return {
            **self.name_adapter(session),
            **self._may_run(session, shown=True),
            **self._drawn(session),
        }

    def name_adapter(self, session: Session) -> Updates:
        """Name the adapter in the bar, which a run can replace while the tab is open."""
        made = session.made
        return {
            "measure_empty": gr.HTML(visible=made is None),
            "measure_order": gr.Row(visible=made is not None),
            "measure_of": "" if made is None else of_html(made),
            **self._may_run(session),
        }

    def put_back(self, session: Session, request: gr.Request) -> Updates:
        """Restore the rows and results of a page that was left."""
        rows, run = session.rows, session.measuring
        shown: Updates = {} if run is None else {"measure_stages": run.stages.html()}
        # As for the conversation: a full disk must not keep the visit from coming back.
        with suppress(OSError):
            if run is not None and run.stages.ended:
                shown = self._measured(session, run, request)
        return {
            # Its box is new too, and would look as if nothing had been dropped.
            "measure_file": str(rows.copy) if rows is not None and rows.copy.is_file() else None,
            # The tab may have been opened before its visit was back.
            **self.open_measure(session),
            **self._rows(session),
            **shown,
        }

    def read_labelled(self, session: Session, path: str | None, request: gr.Request) -> Updates:
        """Read dropped rows, rejecting those without labels before anything runs."""
        page = request.session_hash or ""
        if session.rows is not None:
            shutil.rmtree(session.rows.copy.parent, ignore_errors=True)
        asked = session.rows_asked = object()
        session.rows = None
        self._app.files.hold(page, LABELLED, 0)
        rows = None if path is None else self._dropped(Path(path), session, page)
        return self._show_read(rows, session, asked, page)

    def choose_columns(self, session: Session, event: gr.EventData, request: gr.Request) -> Updates:
        """Read the rows again, with other columns."""
        sent = [getattr(event, role, None) for role in ("text", "instruction", "label")]
        # They come from a client, and so may be anything.
        columns = [name for name in sent if isinstance(name, str)]
        if session.rows is None or len(columns) < len(sent):
            return {}
        text, instruction, label = columns
        choices = Choices(text=text, instruction=instruction, label=label)
        copy, page = session.rows.copy, request.session_hash or ""
        asked = session.rows_asked = object()
        self._app.files.hold(page, LABELLED, 0)
        return self._show_read(self._read(copy, choices, session, page), session, asked, page)

    def begin_measure(self, session: Session, limit: float, allow_seen: bool) -> Updates:
        """Accept a request for the adapter in the bar."""
        made, file = session.made, session.labelled
        if made is None or file is None:
            return {}
        stages = Stages(("wait", "base", "adapter", "shared_lora"), "measurement")
        config = MeasureConfig(limit_items=self._at_most(limit), allow_seen=allow_seen)
        run = MeasureRun("measurement", stages, made, made.adapter, file, config)
        return self._begin_measuring(session, run)

    def begin_training(self, session: Session, steps: float, warm_start: bool) -> Updates:
        """Accept a request to train a LoRA, if the shown measurement is current."""
        found = _as_shown(session)
        if found is None or not can_train(found):
            return self._may_run(session, shown=True)
        run = MeasureRun(
            "training",
            Stages(("wait", "train"), "training"),
            found.made,
            found.adapter,
            found.file,
            LabelledConfig(steps=self._at_most(steps)),
            found.measured,
            warm_start,
        )
        return self._begin_measuring(session, run)

    def measure(self, session: Session) -> Iterator[Updates]:
        """Carry out the request step by step, drawing results and storing scores."""
        run = session.measuring
        if run is None or run.stages.ended:
            return
        drawn: tuple[EvalPass, ...] = ()
        try:
            steps = self._app.calls.measure(
                run.adapter, run.file, run.config, run.measured, run.warm_start, run.stop
            )
            for step in steps:
                updates: Updates = {}
                if step is not None and not run.stop.is_set():
                    self._tell_step(run, step)
                    # Compared by value: from ZeroGPU's worker each step brings a copy.
                    if step.measured.passes != drawn:
                        before, drawn = session.found, step.measured.passes
                        session.found = Found(run.made, run.adapter, run.file, step.measured)
                        # At the first result, which comes with a new LoRA in place of these.
                        if before is not None and not run.scored:
                            updates.update(self._shelve_trained(session, before))
                        updates.update(self._drawn(session))
                    run.scored |= step.stage == "score"
                yield {"measure_stages": run.stages.html(), **updates}
        # The page was closed.
        except GeneratorExit:
            run.stages.interrupt()
            raise
        except DndError as error:
            words = self._app.error_words(session, error, run.kind)
            run.stages.finish("failed", sentence(words, run.file.name))
        # After a failure this changes nothing, because only the first end counts.
        self._finish(run, "stopped" if run.stop.is_set() else "done")
        self._note_scores(session)
        # A newer run may be shown by now.
        yield {"measure_stages": (session.measuring or run).stages.html(), **self._drawn(session)}

    def still_waits(self, session: Session) -> Updates:
        """See `RunEvents.still_waits`."""
        run = session.measuring
        if run is None or not self._app.line.still_waits(run):
            return {}
        return {"measure_stages": run.stages.html()}

    def show_measured(self, session: Session, request: gr.Request) -> Updates:
        """Show a run's results, write them to files, restore the buttons; see `show_run`."""
        run = session.measuring
        # The answer to Stop has shown them. This one may be slow, and would take the next run's
        # Stop away.
        if run is None or not run.stages.ended or run.stop.is_set():
            return {}
        return self._measured(session, run, request)

    def stop_measure(self, session: Session, request: gr.Request) -> Updates:
        """Stop at the next step, keeping the results so far."""
        run = session.measuring
        if run is None or run.stages.ended:
            return {}
        run.stop.set()
        self._finish(run, "stopped")
        return self._measured(session, run, request)

    def measure_broke(self, session: Session, request: gr.Request) -> Updates:
        """Restore the buttons after an unexpected error."""
        run = session.measuring
        if run is None:
            return {}
        run.stages.finish("failed", broke())
        return self._measured(session, run, request)

    def take_trained(
        self, row: TrainedRow, session: Session, request: gr.Request
    ) -> Iterator[Updates]:
        """Put a trained LoRA in the bar and on the shelf, and verify its zip."""
        found = session.found
        if found is None or row not in found.measured.trained:
            return
        yield {"measure_take_told": busy(_("Reloading the LoRA with stock PEFT"))}
        made = _made_of(found, row)
        # If it was taken before, keep its strength and results.
        made = next((one for one in session.shelf if one.key == made.key), made)
        try:
            for _step in self._adapter.verify(session, made, request):
                pass
        except DndError as error:
            words = self._app.error_words(session, error, "take_trained")
            yield {"measure_take_told": faults(_("Not taken to the Workbench."), words)}
            return
        session.take(made)
        yield {
            "measure_take_told": "",
            "tabs": gr.Tabs(selected="workbench"),
            **self._adapter.show(session),
        }

    def take_broke(self) -> Updates:
        """Return the message for an unexpected error."""
        return {"measure_take_told": faults(_("Not taken to the Workbench."), broke())}

    def _dropped(self, upload: Path, session: Session, page: str) -> CardReading:
        """Read an upload from a copy of the visit's own, since Gradio deletes uploads by age."""
        # The visit must know its folder, so that what it holds is forgotten with it.
        session.folder = self._app.files.folder(page)
        # In a folder of its own, because it keeps the name that the visitor knows.
        copy = session.folder / LABELLED / upload.name
        shutil.rmtree(copy.parent, ignore_errors=True)
        try:
            if not upload.is_file():
                raise PromptFileError(_("The upload is gone. Drop the file again."))
            self._app.visits.check_writing(session, page, upload.stat().st_size)
        except DndError as error:
            return CardReading(split="auto", copy=copy, error=file_faults(error, copy.name))
        copy.parent.mkdir()
        shutil.copyfile(upload, copy)
        return self._read(copy, Choices(), session, page)

    def _read(self, copy: Path, choices: Choices, session: Session, page: str) -> CardReading:
        """Read rows by their chosen columns.

        Without labels, there is nothing to measure on, but columns to choose from.
        """
        # Lazy, because it imports tokenizers, which take a while to load.
        from dnd_engine.measure.sides import labelled_rows

        name = display_name(copy.name)
        rows = CardReading(split="auto", copy=copy, choices=choices)
        try:
            file = read_prompt_file(copy, name=name, choices=choices, limits=self._app.limits)
            rows = replace(rows, columns=file.columns)
            self._app.visits.check_reading(session, page, file.memory_bytes)
            labelled_rows(file)
        except NoTextColumnError as error:
            return replace(rows, columns=error.columns, error=file_faults(error, name))
        except MeasureError as error:
            # A person need not rename a column that they can choose.
            chosen = any(column.role == "label" for column in rows.columns)
            to_choose = len(rows.columns) > 1 and not chosen
            return rows if to_choose else replace(rows, error=file_faults(error, name))
        except DndError as error:
            return replace(rows, error=file_faults(error, name))
        return replace(rows, file=file)

    def _show_read(
        self, rows: CardReading | None, session: Session, asked: object, page: str
    ) -> Updates:
        """Put rows in the visit, unless others were asked for while these were read."""
        if asked is not session.rows_asked:
            return {}
        session.rows = rows
        if rows is not None and rows.file is not None:
            self._app.files.hold(page, LABELLED, rows.file.memory_bytes)
        return self._rows(session)

    def _rows(self, session: Session) -> Updates:
        """Describe the rows, offer their columns, and enable what can be done with them."""
        rows = session.rows
        return {
            "measure_told": "" if rows is None else rows_html(rows),
            "measure_columns": columns_json(rows),
            **self._may_run(session),
        }

    def again(self, session: Session) -> Updates:
        """Redraw the tab in another language."""
        made, run = session.made, session.measuring
        return {
            "measure_of": "" if made is None else of_html(made),
            **self._rows(session),
            "measure_stages": "" if run is None else run.stages.html(),
            **self._drawn(session),
        }

    def _begin_measuring(self, session: Session, run: MeasureRun) -> Updates:
        """Show stages and Stop at once, before the queue."""
        self._app.line.join_instead(session.measuring, run)
        session.measuring = run
        return {
            "measure_stages": run.stages.html(),
            "measure_take_told": "",
            **self._may_run(session, shown=True),
        }

    def _at_most(self, wanted: float) -> int:
        """Limit the steps or rows of a request."""
        return min(int(wanted), most_measured(shared=self._app.own is None))

    def _finish(self, run: MeasureRun, how: Literal["done", "stopped"]) -> None:
        """End a run; an early stop without results says so."""
        words = _("Stopped before anything was scored, so there is no new result.")
        run.stages.finish(how, words if how == "stopped" and not run.scored else "")

    def _shelve_trained(self, session: Session, before: Found) -> Updates:
        """Move LoRAs that a new run replaces to the visit's adapters.

        Their zips are written and verified when they are chosen: a full disk must lose none.
        """
        assert session.found is not None
        now, names = session.found.measured.trained, []
        for row in TRAINED:
            lora = before.measured.trained.get(row)
            kept = {one.sha256 for one in now.values()} | {one.key for one in session.shelf}
            if lora is None or lora.sha256 in kept:
                continue
            session.shelve(_made_of(before, row))
            names.append(f"<b>{esc(lora.name)}</b> <code>{esc(lora.sha256[:8])}</code>")
        if not names:
            return {}
        words = _(
            "Trained before, and still among the adapters of this visit: {names}.",
            names=", ".join(names),
        )
        return {"measure_take_told": notice(words), **choosers(session)}

    def _tell_step(self, run: MeasureRun, step: "MeasureStep") -> None:
        """Show the progress; scoring during training has no known end."""
        key: StageKey = "train"
        share: float | None = step.done / step.total
        if run.kind == "measurement":
            key = step.row
            words = _("{done} of {total} answers", done=step.done, total=step.total)
        elif step.stage == "train":
            words = _(
                "step {done} of {total}, loss {loss:.3f}",
                done=step.done,
                total=step.total,
                loss=step.loss,
            )
        else:
            share, steps = None, step.measured.passes[-1].steps
            words = ngettext("scoring after {number} step", "scoring after {number} steps", steps)
        if step.seconds_left is not None:
            left = duration(step.seconds_left)
            run.stages.left = _("about {duration} left", duration=left)
        run.stages.enter(key, words, share)

    def _measured(self, session: Session, run: MeasureRun, request: gr.Request) -> Updates:
        """Draw the results of a run, and write them to files."""
        updates = {
            "measure_stages": run.stages.html(),
            **self._may_run(session, shown=True),
            **self._drawn(session),
        }
        self._note_scores(session)
        found = session.found
        if found is not None:
            session.folder = self._app.files.folder(request.session_hash or "")
            files = _write(found.measured, session.folder)
            updates["measure_keep_row"] = gr.Row(visible=True)
            for name, file in files.items():
                updates[f"measure_keep_{name}"] = gr.DownloadButton(value=str(file))
                self._app.files.supersede(file, f"measured-*{file.suffix}")
        return updates

    def _note_scores(self, session: Session) -> None:
        """Store the scores with the adapter, even if the page was closed."""
        found = session.found
        if found is not None and (scores := found.measured.scores()):
            found.made.scores = {**found.made.scores, **scores}
            self._app.note(session, found.made, scores=scores)

    def _drawn(self, session: Session) -> Updates:
        """Draw the results, if there are any."""
        found = session.found
        if found is None:
            return {}
        trained = found.measured.trained
        return {
            "measure_found": measured_html(found, session.made),
            "measure_notes_box": gr.Accordion(visible=True),
            "measure_notes": notes_html(found.measured),
            "measure_take_row": gr.Row(visible=bool(trained)),
            **{f"measure_take_{row}": gr.Button(visible=row in trained) for row in TRAINED},
        }

    def _may_run(self, session: Session, *, shown: bool = False) -> Updates:
        """Enable what may be run now; with `shown`, put Stop in place of what runs.

        Only what begins or ends a run, or draws the whole tab, puts it there. Other answers may be
        slow, and would show the buttons of a moment before.
        """
        run = session.measuring
        running = run.kind if run is not None and not run.stages.ended else None
        found = _as_shown(session)
        ready = {
            "measurement": session.labelled is not None,
            "training": found is not None and can_train(found),
        }
        updates: Updates = {"measure_train_of": train_of_html(found)}
        for kind, start, stop in _BUTTONS:
            look: dict[str, Any] = {"visible": running != kind} if shown else {}
            updates[start] = gr.Button(interactive=running is None and ready[kind], **look)
            if shown:
                updates[stop] = gr.Button(visible=running == kind)
        return updates


def _as_shown(session: Session) -> Found | None:
    """Return the measurement, if it belongs to the adapter in the bar and to the dropped rows."""
    found, made, file = session.found, session.made, session.labelled
    if found is None or made is None or file is None:
        return None
    # By contents, because other columns of one file are other rows.
    same = found.adapter.sha256 == made.adapter.sha256 and found.file == file
    return found if same else None


def _made_of(found: Found, row: TrainedRow) -> Made:
    """Convert a LoRA that was trained here to an adapter of the visit."""
    lora = found.measured.trained[row]
    # Leave out the scored rows, so that refinement does not train on them.
    left = {example.prompt for example in found.measured.sides.train}
    file = replace(found.file, prompts=tuple(p for p in found.file.prompts if p.text in left))
    learnt = (Bucket(shorten(file.name, 60), 1.0, (file,)),)
    return Made(
        original=lora,
        adapter=lora,
        made_from="",
        buckets=found.made.buckets if row == "warm_lora" else learnt,
        scores=found.measured.scores(row),
    )


def _write(measured: "Measurement", folder: Path) -> dict[str, Path]:
    """Write the results as files to download."""
    # By content, so that results of other rows or adapters stay beside these.
    stem = f"measured-{measured.adapter_sha256[:8]}-{measured.sides.file_sha256[:8]}"
    whole = json.dumps(measured.to_json(), indent=1, ensure_ascii=False) + "\n"
    texts = {
        "items": (f"{stem}.csv", measured.items_csv()),
        "json": (f"{stem}.json", whole),
        "markdown": (f"{stem}.md", measured.markdown()),
    }
    files = {}
    for key, (name, words) in texts.items():
        files[key] = folder / name
        write_whole(files[key], words)  # atomically: Stop may write at the same time as the run
    return files
