"""Assembles the page. Each part lays itself out and wires itself."""

from collections.abc import Sequence

import gradio as gr

from dnd_engine.limits import PromptLimits, ServerLimits
from dnd_engine.training.watch import RunFolder
from ui.api import Endpoints, add_endpoints
from ui.engine_calls import EngineCalls
from ui.engine_handle import EngineHandle
from ui.frame.models_view import ModelsPanel
from ui.frame.view import Frame
from ui.frame.visit_view import VisitPanel
from ui.frame.wiring import wire_language, wire_loading, wire_models, wire_visit
from ui.handlers import Handlers
from ui.language import SpokenBlocks
from ui.owner import Owner
from ui.page import Page
from ui.panel import slots_of
from ui.server.gradio_private.start import calm_queue, one_app
from ui.server.gradio_private.uploads import keep_whole_uploads, upload_cache
from ui.server.values import GuardedBlocks
from ui.session_files import SessionFiles
from ui.shared import App
from ui.state import Session
from ui.tabs.library.view import LibraryPanel
from ui.tabs.library.wiring import wire_library
from ui.tabs.measure.view import MeasurePanel
from ui.tabs.measure.wiring import wire_measure
from ui.tabs.report.view import ReportPanel
from ui.tabs.report.wiring import wire_report
from ui.tabs.training.view import WatchPanel
from ui.tabs.training.wiring import wire_training
from ui.tabs.workbench.view import Workbench
from ui.tabs.workbench.wiring import wire_workbench
from ui.text import _


class _Blocks(SpokenBlocks, GuardedBlocks):
    """The page's blocks."""


@one_app()
def build_ui(
    handle: EngineHandle,
    limits: PromptLimits,
    own: Owner | None = None,
    runs: Sequence[RunFolder] = (),
    server: ServerLimits | None = None,
) -> gr.Blocks:
    """Build the page, without loading or starting anything.

    One page serves all languages; see `ui.language`.

    Args:
        handle: Handle of the engine; start it when the server starts.
        limits: Limits on prompt files.
        own: This computer's user. None on a server for others, where each visit has its own
            temporary library.
        runs: Runs that visitors may watch; without any, the tab Training is left out.
        server: Limits per visitor and server.
    """
    cache = upload_cache()
    files = SessionFiles(cache)
    shared, server = own is None, server or ServerLimits()
    # Gradio's copies of uploads may expire soon, because a visit copies them when it reads them.
    sweep_seconds = max(1, server.upload_seconds // 4)
    upload_seconds = max(1, server.upload_seconds - sweep_seconds)

    demo: gr.Blocks
    with _Blocks(
        title=_("Drag-and-Drop LLMs"),
        analytics_enabled=False,
        delete_cache=(sweep_seconds, upload_seconds),
        fill_width=True,
    ) as demo:
        calls = EngineCalls(handle)
        add_endpoints(demo, Endpoints(calls, limits, files, cache, server))
        session = gr.State(Session())  # `ui.visits` determines its lifetime
        frame = Frame()
        models = None if shared else ModelsPanel()
        with gr.Tabs(elem_id="dnd-tabs") as tabs:
            with gr.Tab(_("Workbench"), id="workbench"):
                workbench = Workbench(
                    limits,
                    shared=shared,
                    teachers=server.teacher_servers,
                    stop_keeps=calls.stop_keeps,
                )
            with gr.Tab(_("Library"), id="library") as library_tab:
                library = LibraryPanel(shared=shared)
            with gr.Tab(_("Measure"), id="measure") as measure_tab:
                measure = MeasurePanel(shared=shared)
            with gr.Tab(_("Report card"), id="report") as report_tab:
                report = ReportPanel()
            training = None
            if runs:
                with gr.Tab(_("Training"), id="training") as training_tab:
                    training = WatchPanel([run.name for run in runs])
        foot = VisitPanel()

        panels = (
            frame,
            foot,
            workbench,
            library,
            measure,
            report,
            *([models] if models else []),
            *([training] if training else []),
        )
        page = Page(
            demo=demo,
            on=Handlers(App(calls, limits, files, cache, own, runs, server)),
            session=session,
            slots={"tabs": tabs, "session": session, **slots_of(*panels)},
        )
        wire_loading(page, frame)
        if models is not None:
            wire_models(page, frame, models)
        wire_visit(page, frame, foot, workbench, measure)
        wire_workbench(page, workbench)
        wire_library(page, library, library_tab)
        wire_measure(page, measure, measure_tab)
        wire_report(page, report, report_tab)
        if training is not None:
            wire_training(page, training, training_tab, tabs)
        # Last, because it translates every component that exists by then.
        wire_language(page, frame, workbench, library, report, training)
    keep_whole_uploads(demo)
    # Close the API except for the queue: other routes would bypass its lanes and limits.
    demo.queue(default_concurrency_limit=4, api_open=False)
    calm_queue(demo)
    return demo
