"""Wires the page around the tabs: loading, models, visits and languages."""

import functools

import gradio as gr
from gradio.components import Component

from dnd_engine.evaluation.pictures import Metric
from ui.canvas import Arrangement
from ui.frame.language_events import SAID_AGAIN
from ui.frame.models_view import ModelsPanel
from ui.frame.view import Frame
from ui.frame.visit_view import BRING_KEY, NOT_OPENED, VisitPanel
from ui.language import said_of, say_again
from ui.page import AT_ONCE, Page, by_slot
from ui.shared import Updates
from ui.state import Session
from ui.tabs.library.view import LibraryPanel
from ui.tabs.measure.view import MeasurePanel
from ui.tabs.measure.wiring import ENDED as MEASURE_ENDED
from ui.tabs.measure.wiring import OPENED as MEASURE_OPENED
from ui.tabs.measure.wiring import ROWS as MEASURED_ROWS
from ui.tabs.report.view import ReportPanel
from ui.tabs.training.view import WatchPanel
from ui.tabs.workbench.adapter.wiring import SHOWN, check_and_zip
from ui.tabs.workbench.compare.wiring import BLIND, OPENED
from ui.tabs.workbench.prompts.wiring import forecast_at
from ui.tabs.workbench.teach.wiring import ROWS
from ui.tabs.workbench.view import Workbench
from ui.text import languages, speaking

_LOAD = "header load_box load retry timer left_pane"


def wire_loading(page: Page, frame: Frame) -> None:
    """Load the engine while the page is already usable."""
    on = page.on.page
    page.at_once(frame.timer.tick, on.refresh_load, _LOAD, page.session)
    again = page.at_once(frame.retry.click, on.retry_load, _LOAD, page.session)
    # Forecasts belong to the models that gave them.
    forecast_at(page, again.then)


def wire_models(page: Page, frame: Frame, panel: ModelsPanel) -> None:
    """Let the owner switch the models without a restart."""
    on, session = page.on.models, page.session
    said, chosen = "models_told models_load", [panel.choice, panel.base]
    # Gradio knows an event for each name that the component's script triggers.
    opened = f"models_box models_choice models_base {said} {_LOAD}"
    page.at_once(frame.keys.models, on.open, opened, session)
    page.at_once(panel.close.click, on.close, "models_box")
    changed = [panel.choice.input, panel.base.input]
    page.at_once(changed, on.choose, f"models_base {said}", chosen)
    switched = page.queued(
        [panel.load.click, panel.base.submit],
        on.load,
        f"models_box models_looked_up {said} {_LOAD}",
        [*chosen, panel.looked_up, session],
    )
    forecast_at(page, switched.then)


def wire_visit(
    page: Page, frame: Frame, foot: VisitPanel, workbench: Workbench, measure: MeasurePanel
) -> None:
    """Restore the visit when its page opens, and store settings for the next time."""
    on, session = page.on.visit, page.session
    prompts, compare = workbench.prompts, workbench.compare
    controls: dict[str, Component] = {
        "mix": prompts.mix,
        "seed": prompts.seed,
        "imprint": prompts.imprint,
        **{f"settings_{name}": control for name, control in compare.settings.items()},
        **{
            f"measure_{name}": getattr(measure, name) for name in ("limit", "seen", "steps", "warm")
        },
    }
    opened = page.at_once(
        page.demo.load,
        on.open,
        f"session visit instruction inbox strength {_LOAD} {OPENED} {SHOWN} {MEASURED_ROWS} "
        "keep_head library_head "
        f"batch_box batch_table batch_inputs batch_start batch_stop batch_file measure_file {ROWS} "
        f"{MEASURE_OPENED} {MEASURE_ENDED} {' '.join(controls)}",
        [session, frame.language, foot.brought],
        js=BRING_KEY,
    )
    # In the browser alone, because a server that did not answer may not answer this either.
    opened.failure(None, js=NOT_OPENED, **AT_ONCE)
    # The page may have been left before the checks and the zip were done.
    check_and_zip(page, opened)
    # Last, because the events before draw what a blind page must not tell.
    page.at_once(opened.then, page.on.compare.opened, BLIND, session)
    page.at_once(
        # A text is sent once typing ends or pauses (`assets/visit.js`), everything else at once.
        [getattr(c, "blur" if isinstance(c, gr.Textbox) else "input") for c in controls.values()],
        functools.partial(on.remember, tuple(controls)),
        "visit",
        [session, *controls.values()],
        trigger_mode="always_last",
    )
    page.at_once(foot.visit.forget, on.forget, "visit")
    page.demo.unload(on.leave)


def wire_language(
    page: Page,
    frame: Frame,
    workbench: Workbench,
    library: LibraryPanel,
    report: ReportPanel,
    training: WatchPanel | None,
) -> None:
    """Translate all texts of the page in place when the language is switched."""
    on, names = page.on, {block: name for name, block in page.slots.items()}
    slots = {name: page.slots[name] for name in SAID_AGAIN}
    # Also components that no handler updates, such as labels and headings.
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
        # It comes from a client, and so may be anything.
        if event.code not in languages():
            return {}
        session.language = event.code
        # `by_slot` speaks the language from before the switch.
        with speaking(session.language):
            redrawn = on.language.say_again(
                session, arrangement, kept, target, group, metric, request
            )
            return {name: say_again(block, redrawn.get(name)) for name, block in slots.items()}

    spoken = frame.keys.speak(
        by_slot(speak, slots, page.on.app.visits),
        [
            *(page.session, page.session, workbench.prompts.canvas, library.kept),
            *(workbench.take.export_format, report.report_group, report.report_metric),
        ],
        list(slots.values()),
        **AT_ONCE,
    )
    # A tick of the loading clock that was under way would put the head back in the old language.
    page.at_once(spoken.then, on.page.refresh_load, _LOAD, page.session)
    if training is not None:
        follow = [page.session, training.watch_run]
        page.at_once(spoken.then, on.watch.follow_run, "watch watch_timer", follow)
