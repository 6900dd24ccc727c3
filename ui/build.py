"""Assembles the panels and wires the events. Reads like a table of contents."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component
from gradio.utils import get_upload_folder

from dnd_engine.config import PromptLimits
from dnd_engine.evaluation.pictures import Metric
from dnd_engine.library import Library
from dnd_engine.training.watch import RunFolder
from ui.api import Endpoints, add_endpoints
from ui.canvas import Arrangement
from ui.engine_calls import LANES, EngineCalls
from ui.engine_handle import EngineHandle
from ui.frame.keys_view import keys_panel
from ui.frame.language_events import SAID_AGAIN
from ui.frame.view import Header, header_panel
from ui.gradio_private import calm_queue
from ui.handlers import App, Handlers, Updates
from ui.language import SpokenBlocks, said_of, say_again
from ui.stages import StagesPanel, stages_panel
from ui.state import Place, Session, SessionFiles
from ui.tabs.library.view import LibraryPanel, library_panel
from ui.tabs.measure.view import MeasurePanel, measure_panel
from ui.tabs.report.view import ReportPanel, report_panel
from ui.tabs.training.view import WatchPanel, watch_panel
from ui.tabs.workbench.adapter.checks_view import ChecksPanel, checks_panel
from ui.tabs.workbench.adapter.view import AdapterBar, adapter_bar
from ui.tabs.workbench.compare.view import NUM_SUGGESTIONS, VOTES, ComparePanel, compare_panel
from ui.tabs.workbench.prompts.view import PromptsPanel, prompts_panel
from ui.tabs.workbench.refine.view import RefinePanel, refine_panel
from ui.tabs.workbench.take.view import TakePanel, take_panel
from ui.text import _, drawn, language, languages, speaking

__all__ = ["QUEUE_SIZE", "UnlistedSlotError", "build_ui"]

QUEUE_SIZE = 20
_SESSION_SECONDS = 24 * 3600
_SWEEP_SECONDS = 300
_UPLOAD_SECONDS = 900
"""Uploads are copied to the visit's folder when they are read, so what Gradio keeps may go soon."""

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_AT_ONCE: dict[str, Any] = {**_QUIET, "queue": False}
_ORDERED: dict[str, Any] = {**_QUIET, "trigger_mode": "always_last"}
"""What was ordered right after Stop waits for the work before to end, and is not dropped."""
_AFTERWARDS: dict[str, Any] = {**_AT_ONCE, "trigger_mode": "multiple"}
"""What is drawn when work has ended, each time."""

# Slots that several events update.
_OVER = (
    "stages synthesize stop_synthesis stop_imprint refine_open undo refine_box refine_labels "
    "refine_start refine_stop refine_later"
)
_EXPORTED = "export_told export_usage export_file"
_SHOWN = (
    f"{_EXPORTED} refine_open keep_name keep_texts keep_told "
    "stages adapter_box adapter_facts shelf strength download undo warning refine_box "
    "checks proof_box proof prove norms compare_head beside differences blind "
    "left_pane right_pane refine_labels suggestions_row "
    + " ".join(f"suggestion_{i}" for i in range(NUM_SUGGESTIONS))
)
_CHECKED = "checks proof_box proof prove warning refine_box download"


def build_ui(
    handle: EngineHandle,
    limits: PromptLimits,
    own: Library | None = None,
    runs: Sequence[RunFolder] = (),
) -> gr.Blocks:
    """Build the page. Nothing is loaded and nothing is started.

    It is built once, for all languages; see `ui.language`.

    Args:
        handle: Of the engine; start it when the server starts.
        limits: What prompt files may amount to.
        own: The library of this computer's user, if only they can open the page; None where others
            are served: each visit then has a library that ends with it.
        runs: Folders of trainings and collections that visitors may watch; none, no tab for them.
    """
    cache = Path(get_upload_folder())
    files = SessionFiles(cache)

    demo: gr.Blocks
    with SpokenBlocks(
        title=_("Drag-and-Drop LLMs"),
        analytics_enabled=False,
        delete_cache=(_SWEEP_SECONDS, _UPLOAD_SECONDS),
        fill_width=True,
    ) as demo:
        calls = EngineCalls(handle)
        add_endpoints(demo, Endpoints(calls, limits, files, cache))
        on = Handlers(App(calls, limits, files, cache, own, runs))
        page = _lay_out(demo, on, limits, runs, shared=own is None)
        _wire_loading(page)
        _wire_language(page)
        _wire_report(page)
        if runs:
            _wire_watch(page)
        shown = _wire_synthesis(page)
        _wire_refine(page)
        _wire_taking(page)
        _wire_library(page)
        _wire_measure(page)
        _wire_strength(page)
        _wire_chat(page, shown)
        demo.unload(on.page.leave)  # files go when the visit ends
    demo.queue(max_size=QUEUE_SIZE, default_concurrency_limit=4)
    calm_queue(demo)
    return demo


class UnlistedSlotError(Exception):
    """A handler has updated a slot that its event does not list; a mistake in the code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    """The page, laid out."""

    demo: gr.Blocks
    on: Handlers
    session: gr.State
    language: gr.Textbox
    """The language that the page came in; never shown."""
    keys: gr.HTML
    slots: Mapping[str, Block]
    """What handlers update, by the names that they use."""
    tabs: gr.Tabs
    library_tab: gr.Tab
    measure_tab: gr.Tab
    report_tab: gr.Tab
    watch_tab: gr.Tab | None
    header: Header
    prompts: PromptsPanel
    bar: AdapterBar
    take: TakePanel
    refine: RefinePanel
    stages: StagesPanel
    compare: ComparePanel
    checks: ChecksPanel
    library: LibraryPanel
    measuring: MeasurePanel
    report: ReportPanel
    watch: WatchPanel | None
    """None without runs to watch."""

    def does(
        self, handler: Callable[..., Any], names: str, inputs: Component | Sequence[Component] = ()
    ) -> dict[str, Any]:
        """Return `fn`, `inputs` and `outputs` of an event, for a handler that updates these slots.

        It runs in the visit's language, so the visit is an input of every event.
        """
        chosen = {name: self.slots[name] for name in names.split()}
        taken = [inputs] if isinstance(inputs, Component) else inputs
        return {
            "fn": _by_slot(handler, chosen),
            "inputs": [self.session, *taken],
            "outputs": list(chosen.values()),
        }

    def carry_out(self, order: Any, handler: Callable[..., Any], inputs: Any, **lane: Any) -> Any:
        """Do what was ordered, its stages drawn as it goes; then show what came of it.

        Returns:
            The last event.
        """
        work = order.then(
            **self.does(
                handler, "stages adapter_box adapter_facts strength download", inputs=inputs
            ),
            **lane,
            **_ORDERED,
        )
        broke = self.does(self.on.runs.run_broke, _OVER, inputs=self.session)
        work.failure(**broke, **_AT_ONCE)
        return work.then(
            **self.does(self.on.runs.show_run, f"{_OVER} {_SHOWN} inbox", inputs=self.session),
            **_AFTERWARDS,
        )

    def check_and_zip(self, event: Any) -> None:
        """Check the adapter in the bar, if that is due, and write its zip."""
        zipped = self.does(
            self.on.adapter.prepare_download, "download warning", inputs=self.session
        )
        event.then(
            **self.does(self.on.adapter.check, _CHECKED, inputs=self.session),
            **LANES["engine"],
            **_QUIET,
        ).then(**zipped, **LANES["engine"], **_QUIET)


def _lay_out(
    demo: gr.Blocks,
    on: Handlers,
    limits: PromptLimits,
    runs: Sequence[RunFolder],
    *,
    shared: bool,
) -> _Page:
    """Lay out the page."""
    session = gr.State(
        Session(), time_to_live=_SESSION_SECONDS, delete_callback=Session.delete_files
    )
    # What the page came in; the visit goes on in it.
    came_in = gr.Textbox(drawn(lambda: language().code), visible=False)
    header = header_panel()
    keys = keys_panel()
    watch, watch_tab = None, None
    with gr.Tabs(elem_id="dnd-tabs") as tabs:
        with gr.Tab(_("Workbench"), id="workbench"):
            prompts = prompts_panel(limits)
            bar = adapter_bar()
            take = take_panel(shared=shared)
            refine = refine_panel()
            stages = stages_panel()
            with gr.Row(elem_id="dnd-loop", equal_height=False):
                with gr.Column(elem_id="dnd-left", min_width=0):
                    compare = compare_panel()
                    norms = gr.HTML("", elem_id="dnd-norms", padding=False)
                with gr.Column(elem_id="dnd-right", min_width=0):
                    checks = checks_panel()
                    votes = gr.HTML("", elem_id="dnd-tally", padding=False, visible=False)
        with gr.Tab(_("Library"), id="library") as library_tab:
            library = library_panel(shared=shared)
        with gr.Tab(_("Measure"), id="measure") as measure_tab:
            measuring = measure_panel(shared=shared)
        with gr.Tab(_("Report card"), id="report") as report_tab:
            report = report_panel()
        if runs:
            with gr.Tab(_("Training"), id="training") as watch_tab:
                watch = watch_panel([run.name for run in runs])
    gr.HTML(drawn(_footer_html), padding=False)

    slots: dict[str, Block] = {
        "tabs": tabs,
        "header": header.title,
        "load_box": header.load_box,
        "load": header.load,
        "retry": header.retry,
        "timer": header.timer,
        "inbox": prompts.inbox,
        "synthesize": prompts.synthesize,
        "stop_synthesis": prompts.stop,
        "hint": prompts.hint,
        "stages": stages.view,
        "stop_imprint": stages.stop,
        "adapter_box": bar.box,
        "adapter_facts": bar.facts,
        "shelf": bar.shelf,
        "strength": bar.strength,
        "download": bar.download,
        "refine_open": bar.refine,
        "undo": bar.undo,
        "warning": bar.warning,
        "take_box": take.box,
        "keep_name": take.name,
        "keep_texts": take.texts,
        "keep_told": take.keep_told,
        "hub": take.hub,
        "hub_token": take.token,
        "export": take.export,
        "export_told": take.export_told,
        "export_usage": take.usage,
        "export_file": take.file,
        "library_told": library.told,
        "library_empty": library.empty,
        "library_kept": library.kept,
        "library_actions": library.actions,
        "library_load": library.load,
        "library_name": library.name,
        "library_rename": library.rename,
        "library_duplicate": library.duplicate,
        "library_recipe": library.recipe,
        "library_undo": library.undo,
        "refine_box": refine.box,
        "refine_labels": refine.labels,
        "refine_start": refine.start,
        "refine_stop": refine.stop,
        "refine_later": refine.later,
        "compare_head": compare.head,
        "beside": compare.beside,
        "differences": compare.differences,
        "blind": compare.blind,
        "left_pane": compare.left,
        "right_pane": compare.right,
        "vote_row": compare.vote_row,
        "box": compare.box,
        "send": compare.send,
        "stop_chat": compare.stop,
        "again": compare.again,
        "mode": compare.mode,
        "keep_row": compare.keep_row,
        "keep_markdown": compare.keep_markdown,
        "keep_json": compare.keep_json,
        "keep_votes": compare.keep_votes,
        "suggestions_row": compare.suggestions_row,
        **{f"suggestion_{i}": button for i, button in enumerate(compare.suggestions)},
        "checks": checks.view,
        "proof_box": checks.proof_box,
        "proof": checks.proof,
        "prove": checks.prove,
        "votes": votes,
        "norms": norms,
        "measure_empty": measuring.empty,
        "measure_order": measuring.order,
        "measure_of": measuring.of,
        "measure_told": measuring.told,
        "measure_start": measuring.start,
        "measure_stop": measuring.stop,
        "measure_train": measuring.train,
        "measure_train_stop": measuring.train_stop,
        "measure_train_of": measuring.train_of,
        "measure_stages": measuring.stages,
        "measure_found": measuring.found,
        "measure_take_row": measuring.take_row,
        "measure_take_told": measuring.take_told,
        **{f"measure_take_{row}": button for row, button in measuring.take.items()},
        "measure_keep_row": measuring.keep_row,
        **{f"measure_keep_{name}": button for name, button in measuring.keep.items()},
        "report_controls": report.controls,
        "report_group": report.group,
        "report": report.view,
        "report_all": report.all_numbers,
        "report_card": report.card,
    }
    if watch is not None:
        slots |= {
            "watch": watch.view,
            "watch_all_box": watch.all_box,
            "watch_all": watch.all_numbers,
            "watch_timer": watch.timer,
        }
    return _Page(
        demo=demo,
        on=on,
        session=session,
        language=came_in,
        keys=keys,
        slots=slots,
        tabs=tabs,
        library_tab=library_tab,
        measure_tab=measure_tab,
        report_tab=report_tab,
        watch_tab=watch_tab,
        header=header,
        prompts=prompts,
        bar=bar,
        take=take,
        refine=refine,
        stages=stages,
        compare=compare,
        checks=checks,
        library=library,
        measuring=measuring,
        report=report,
        watch=watch,
    )


def _footer_html() -> str:
    words = _(
        "Your files stay in this session and are deleted when it ends, except for what "
        "you keep in a library on your own computer."
    )
    return f"<footer class='dnd-footer'>{words}</footer>"


def _wire_loading(page: _Page) -> None:
    """The engine loads while the page is used already."""
    on = page.on
    load_slots = "header load_box load retry timer left_pane"
    page.demo.load(
        **page.does(on.page.open_page, load_slots, inputs=[page.session, page.language]), **_AT_ONCE
    )
    page.header.timer.tick(**page.does(on.page.refresh_load, load_slots), **_AT_ONCE)
    page.header.retry.click(**page.does(on.page.retry_load, load_slots), **_AT_ONCE)


def _wire_language(page: _Page) -> None:
    """Another language: everything is said again, in the same visit."""
    on, names = page.on, {block: name for name, block in page.slots.items()}
    slots = {name: page.slots[name] for name in SAID_AGAIN}
    for number, block in page.demo.blocks.items():
        if said_of(block):
            slots.setdefault(names.get(block, f"said_{number}"), block)

    def speak(
        session: Session,
        arrangement: Arrangement,
        kept: str | None,
        target: str,
        group: str | None,
        metric: Metric,
        event: gr.EventData,
        request: gr.Request,
    ) -> Updates:
        if event.code not in languages():
            return {}
        session.language = event.code
        with speaking(session.language):
            redrawn = on.language.say_again(
                session, arrangement, kept, target, group, metric, request
            )
            return {name: say_again(block, redrawn.get(name)) for name, block in slots.items()}

    spoken = page.keys.speak(
        _by_slot(speak, slots),
        [
            *(page.session, page.session, page.prompts.canvas, page.library.kept),
            *(page.take.format, page.report.group, page.report.metric),
        ],
        list(slots.values()),
        **_AT_ONCE,
    )
    if page.watch is not None:
        spoken.then(**page.does(on.watch.draw_run, "watch", inputs=page.watch.run), **_AT_ONCE)


def _wire_report(page: _Page) -> None:
    """Draw the report card when its tab is opened."""
    on = page.on
    chosen = [page.report.group, page.report.metric]
    page.report_tab.select(
        **page.does(
            on.report.report,
            "report_controls report_group report report_all report_card",
            inputs=chosen,
        ),
        **_AT_ONCE,
    )
    for choice in chosen:
        choice.input(**page.does(on.report.draw_report, "report", inputs=chosen), **_AT_ONCE)


def _wire_watch(page: _Page) -> None:
    """Runs to watch: looked at anew while their tab is open."""
    on = page.on
    assert page.watch is not None
    assert page.watch_tab is not None
    for look, watching, names in (
        (page.watch_tab.select, on.watch.watch_run, "watch watch_timer"),
        (page.watch.timer.tick, on.watch.watch_run, "watch watch_timer"),
        (page.watch.run.input, on.watch.choose_run, "watch watch_timer watch_all_box"),
        (page.watch.all_box.expand, on.watch.all_numbers, "watch_all"),
    ):
        look(**page.does(watching, names, inputs=page.watch.run), **_AT_ONCE)
    tabs = [tab for tab in page.tabs.children if isinstance(tab, gr.Tab)]
    others = [tab.select for tab in tabs if tab is not page.watch_tab]
    gr.on(others, **page.does(on.watch.rest, "watch_timer"), **_AT_ONCE)


def _wire_synthesis(page: _Page) -> Any:
    """Read prompts, synthesize, imprint, then measure.

    Returns:
        The event of the one that Show me orders: its question is to be asked.
    """
    on, session = page.on, page.session
    # Prompts: read when dropped.
    page.prompts.canvas.change(
        **page.does(
            on.prompts.update_prompts,
            "inbox synthesize hint adapter_facts",
            inputs=[page.prompts.canvas, session],
        ),
        trigger_mode="always_last",
        **LANES["read"],
        **_QUIET,
    )
    page.prompts.instruction.change(
        **page.does(
            on.prompts.set_instruction,
            "synthesize hint adapter_facts",
            inputs=[page.prompts.instruction, page.prompts.canvas, session],
        ),
        trigger_mode="always_last",
        **_QUIET,
    )
    for example, button in page.prompts.examples:
        one = functools.partial(on.prompts.load_examples, [example], own_weights=False)
        button.click(**page.does(one, "inbox", inputs=session), **_AT_ONCE)
    every = [example for example, _ in page.prompts.examples]
    all_of_them = functools.partial(on.prompts.load_examples, every, own_weights=True)
    show_first = functools.partial(on.prompts.show_me, every[0])
    page.prompts.show.click(**page.does(show_first, "inbox", inputs=session), **_AT_ONCE)
    page.prompts.load_all.click(**page.does(all_of_them, "inbox", inputs=session), **_AT_ONCE)

    remix = functools.partial(on.synthesis.begin_synthesis, kind="remix")
    made = [
        page.carry_out(
            order(**page.does(begin, _OVER, inputs=[page.prompts.canvas, session]), **_AT_ONCE),
            on.synthesis.synthesize,
            [session, page.prompts.mix, page.prompts.seed],
            **LANES["engine"],
        )
        for order, begin in (
            (page.prompts.synthesize.click, on.synthesis.begin_synthesis),
            (page.prompts.canvas.remix, remix),
            (page.prompts.canvas.read, on.synthesis.begin_synthesis),  # Show me
        )
    ]
    for event in made:
        ordered = event.then(
            **page.does(
                on.imprint.begin_imprint, f"{_OVER} checks", inputs=[session, page.prompts.imprint]
            ),
            **_AFTERWARDS,
        )
        page.check_and_zip(page.carry_out(ordered, on.imprint.imprint, session, **LANES["imprint"]))
    page.stages.stop.click(**page.does(on.runs.stop_run, _OVER, inputs=session), **_AT_ONCE)
    page.prompts.stop.click(**page.does(on.runs.stop_run, _OVER, inputs=session), **_AT_ONCE)
    return made[-1]


def _wire_refine(page: _Page) -> None:
    """Refine on the same prompts, then measure again; Undo goes back."""
    on, session = page.on, page.session
    page.bar.refine.click(**page.does(on.refine.open_refine, "refine_box"), **_AT_ONCE)
    page.refine.later.click(**page.does(on.refine.close_refine, "refine_box"), **_AT_ONCE)
    ordered = page.refine.start.click(
        **page.does(on.refine.begin_refine, _OVER, inputs=[session, page.refine.labels]), **_AT_ONCE
    )
    page.check_and_zip(page.carry_out(ordered, on.refine.refine, session, **LANES["refine"]))
    page.refine.stop.click(**page.does(on.runs.stop_run, _OVER, inputs=session), **_AT_ONCE)
    page.check_and_zip(
        page.bar.undo.click(**page.does(on.refine.undo, _SHOWN, inputs=session), **_AT_ONCE)
    )
    page.checks.prove.click(
        **page.does(on.adapter.prove, "proof prove download", inputs=session),
        **LANES["engine"],
        **_QUIET,
    ).then(
        **page.does(on.adapter.prepare_download, "download warning", inputs=session),
        **LANES["engine"],
        **_QUIET,
    )

    page.check_and_zip(
        page.bar.shelf.input(
            **page.does(on.adapter.choose, _SHOWN, inputs=[session, page.bar.shelf]), **_AT_ONCE
        )
    )


def _wire_taking(page: _Page) -> None:
    """Keep the adapter, or take it elsewhere."""
    on, session = page.on, page.session
    page.bar.take.click(**page.does(on.export.open_take, "take_box"), **_AT_ONCE)
    page.take.close.click(**page.does(on.export.close_take, "take_box"), **_AT_ONCE)
    for order in (page.take.keep.click, page.take.name.submit):
        order(
            **page.does(
                on.library.keep,
                "keep_name keep_told",
                inputs=[session, page.take.name, page.take.texts],
            ),
            **_AT_ONCE,
        )
    page.take.format.input(
        **page.does(on.export.choose_format, f"hub export {_EXPORTED}", inputs=page.take.format),
        **_AT_ONCE,
    )
    taken = page.take.export.click(
        **page.does(
            on.export.export,
            f"export hub_token {_EXPORTED}",
            inputs=[session, page.take.format, page.take.repo, page.take.private, page.take.token],
        ),
        **LANES["export"],
        **_QUIET,
    )
    taken.failure(**page.does(on.export.export_broke, "export export_told"), **_AT_ONCE)


def _wire_library(page: _Page) -> None:
    """The library: what is done is done to the adapter chosen."""
    on, session = page.on, page.session
    offered = (
        "library_actions library_load library_name library_rename library_duplicate library_recipe"
    )
    listed = f"library_told library_kept library_empty library_undo {offered}"
    of_this = [session, page.library.kept]
    page.library_tab.select(
        **page.does(on.library.open_library, listed, inputs=of_this), **_AT_ONCE
    )
    page.library.kept.input(
        **page.does(on.library.choose_kept, offered, inputs=of_this), **_AT_ONCE
    )
    for order in (page.library.rename.click, page.library.name.submit):
        order(
            **page.does(on.library.rename_kept, listed, inputs=[*of_this, page.library.name]),
            **_AT_ONCE,
        )
    for order, change in (
        (page.library.duplicate.click, on.library.duplicate_kept),
        (page.library.delete.click, on.library.delete_kept),
        (page.library.undo.click, on.library.undo_delete),
    ):
        order(**page.does(change, listed, inputs=of_this), **_AT_ONCE)
    loaded = page.library.load.click(
        **page.does(on.library.load_kept, f"tabs {listed} {_SHOWN}", inputs=of_this),
        **LANES["engine"],
        **_QUIET,
    )
    loaded.failure(**page.does(on.library.load_broke, "library_load library_told"), **_AT_ONCE)
    page.check_and_zip(loaded)
    brought = page.library.bring.upload(
        **page.does(
            on.library.import_file, f"tabs {listed} {_OVER}", inputs=[session, page.library.bring]
        ),
        **LANES["engine"],
        **_QUIET,
    )
    page.check_and_zip(page.carry_out(brought, on.library.remake, session, **LANES["refine"]))


def _wire_measure(page: _Page) -> None:
    """Measure on labelled rows, and train on the others."""
    on, session = page.on, page.session
    ready = "measure_start measure_stop measure_train measure_train_stop measure_train_of"
    found = "measure_stages measure_found measure_take_told measure_take_row " + " ".join(
        f"measure_take_{row}" for row in page.measuring.take
    )
    worth = f"{ready} {found}"
    ended = f"{worth} measure_keep_row " + " ".join(
        f"measure_keep_{n}" for n in page.measuring.keep
    )
    page.measure_tab.select(
        **page.does(
            on.measure.open_measure,
            f"measure_empty measure_order measure_of {worth}",
            inputs=session,
        ),
        **_AT_ONCE,
    )
    # Not by `change`, which may also come when the tab is opened again.
    gr.on(
        [page.measuring.file.upload, page.measuring.file.clear],
        **page.does(
            on.measure.read_labelled, f"measure_told {ready}", inputs=[session, page.measuring.file]
        ),
        trigger_mode="always_last",
        **_AT_ONCE,
    )
    for order, begin, settings in (
        (
            page.measuring.start.click,
            on.measure.begin_measure,
            [page.measuring.limit, page.measuring.seen],
        ),
        (
            page.measuring.train.click,
            on.measure.begin_training,
            [page.measuring.steps, page.measuring.warm],
        ),
    ):
        event = order(**page.does(begin, worth, inputs=[session, *settings]), **_AT_ONCE).then(
            **page.does(on.measure.measure, f"{found} shelf beside", inputs=session),
            **LANES["measure"],
            **_ORDERED,
        )
        event.failure(**page.does(on.measure.measure_broke, ended, inputs=session), **_AT_ONCE)
        event.then(**page.does(on.measure.show_measured, ended, inputs=session), **_AFTERWARDS)
    for stop in (page.measuring.stop, page.measuring.train_stop):
        stop.click(**page.does(on.measure.stop_measure, ended, inputs=session), **_AT_ONCE)
    for row, button in page.measuring.take.items():
        taken = button.click(
            **page.does(
                functools.partial(on.measure.take_trained, row),
                f"tabs measure_take_told {_SHOWN}",
                inputs=session,
            ),
            **LANES["engine"],
            **_QUIET,
        )
        taken.failure(**page.does(on.measure.take_broke, "measure_take_told"), **_AT_ONCE)
        page.check_and_zip(taken)


def _wire_strength(page: _Page) -> None:
    """Strength: scaled at once, verified again before it is offered."""
    on, session = page.on, page.session
    # Not by `change`, which a slider also sends, without a value, when its tab is opened again;
    # `release` ends what is typed.
    gr.on(
        [page.bar.strength.input, page.bar.strength.release],
        **page.does(
            on.adapter.set_strength,
            f"adapter_facts download {_EXPORTED}",
            inputs=[session, page.bar.strength],
        ),
        trigger_mode="always_last",
        **_AT_ONCE,
    ).then(
        **page.does(on.adapter.prepare_download, "download warning", inputs=session),
        **LANES["engine"],
        **_QUIET,
    )


def _wire_chat(page: _Page, shown: Any) -> None:
    """Chat: one batch, both panes.

    Args:
        page: Laid out.
        shown: The event after which the question of Show me is asked.
    """
    on, session = page.on, page.session
    panes = "left_pane right_pane"
    buttons = "send stop_chat again vote_row"
    state = f"{buttons} {panes}"
    kept = "keep_row keep_markdown keep_json keep_votes"
    questions = [page.compare.box, page.compare.mode, session]
    asked = [shown.success(**page.does(on.compare.ask_shown, state, inputs=session), **_AT_ONCE)]
    asked += [
        ask(**page.does(on.compare.ask, f"box {state}", inputs=questions), **_AT_ONCE)
        for ask in (page.compare.send.click, page.compare.box.submit)
    ]
    places: tuple[tuple[Any, Place | None], ...] = (
        (page.compare.again.click, None),
        (page.compare.left.retry, "left"),
        (page.compare.right.retry, "right"),
    )
    for again, place in places:
        ask_again = functools.partial(on.compare.ask_again, place=place)
        asked.append(again(**page.does(ask_again, state, inputs=session), **_AT_ONCE))
    for order in asked:
        answered = order.then(
            **page.does(on.compare.answer, panes, inputs=[session, *page.compare.settings]),
            **LANES["engine"],
            **_ORDERED,
        )
        answered.failure(**page.does(on.compare.chat_broke, state, inputs=session), **_AT_ONCE)
        answered.then(
            **page.does(on.compare.answered, f"{buttons} {kept}", inputs=session), **_AFTERWARDS
        )
    page.compare.stop.click(**page.does(on.compare.stop_chat, state, inputs=session), **_AT_ONCE)
    page.compare.clear.click(
        **page.does(on.compare.clear_chat, f"{state} votes keep_row", inputs=session), **_AT_ONCE
    )
    page.compare.left.edit(
        **page.does(on.compare.edit, f"box mode {state}", inputs=session), **_AT_ONCE
    )
    for control, handler, names in (
        (page.compare.beside, on.compare.stand_beside, panes),
        (page.compare.differences, on.compare.mark_differences, panes),
        (page.compare.blind, on.compare.go_blind, f"{state} strength beside checks votes"),
    ):
        control.input(**page.does(handler, names, inputs=[session, control]), **_AT_ONCE)
    for name, button in zip(VOTES, page.compare.votes, strict=True):
        vote = functools.partial(on.compare.vote, name)
        button.click(**page.does(vote, f"{state} votes {kept}", inputs=session), **_AT_ONCE)
    for index, button in enumerate(page.compare.suggestions):
        suggest = functools.partial(on.compare.suggest, index)
        button.click(**page.does(suggest, "box", inputs=session), **_AT_ONCE)


def _by_slot(handler: Callable[..., Any], slots: Mapping[str, Block]) -> Callable[..., Any]:
    """Adapt a handler that returns slot -> value to Gradio's list of outputs; the rest is kept.

    Returns:
        A function that takes the visit before what the handler takes, and speaks its language. It
        raises `UnlistedSlotError` if the handler updates a slot that is none of these.
    """
    names = tuple(slots)

    def spread(updates: Updates) -> Any:
        if unlisted := updates.keys() - slots.keys():
            raise UnlistedSlotError(
                f"`{function.__qualname__}` updates {', '.join(sorted(unlisted))}, which its event "
                f"does not list. Add it to the event, or leave it out. Listed: {', '.join(names)}."
            )
        values = [updates.get(name, gr.skip()) for name in names]
        return values[0] if len(values) == 1 else values

    # Gradio looks at the signature, to hand in the request.
    function = handler.func if isinstance(handler, functools.partial) else handler
    signature = inspect.signature(handler)
    visit = inspect.Parameter("visit", inspect.Parameter.POSITIONAL_ONLY)
    signature = signature.replace(parameters=[visit, *signature.parameters.values()])
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def stream(visit: Session, *args: Any, **kwargs: Any) -> Iterator[Any]:
            silent = True
            with closing(handler(*args, **kwargs)) as steps:
                while True:
                    # At each step: it may have changed, and each may run in a context of its own.
                    with speaking(visit.language):
                        updates = next(steps, None)
                    if updates is None:
                        break
                    silent = False
                    yield spread(updates)
            if silent:
                yield spread({})  # Gradio empties every output of a generator without a step

        stream.__signature__ = signature  # type: ignore[attr-defined]
        stream.slots = names  # type: ignore[attr-defined]
        return stream

    @functools.wraps(function)
    def call(visit: Session, *args: Any, **kwargs: Any) -> Any:
        with speaking(visit.language):
            return spread(handler(*args, **kwargs))

    call.__signature__ = signature  # type: ignore[attr-defined]
    call.slots = names  # type: ignore[attr-defined]
    return call
