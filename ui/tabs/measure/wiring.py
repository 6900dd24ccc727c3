"""Wires Measure: an adapter on labelled rows, compared with a trained LoRA."""

import functools

import gradio as gr

from ui.line import LANE_OF
from ui.page import Page
from ui.tabs.measure.view import MeasurePanel
from ui.tabs.workbench.adapter.wiring import SHOWN, check_and_zip

READY = "measure_start measure_stop measure_train measure_train_stop measure_train_of"
"""Slots that change with what may be measured or trained now."""
_FOUND = (
    "measure_stages measure_found measure_notes_box measure_notes measure_take_told "
    "measure_take_row measure_take_trained_lora measure_take_warm_lora"
)
ROWS = f"measure_told measure_columns {READY}"
"""Slots that change with the rows to measure on."""
OPENED = "measure_empty measure_order measure_of"
"""Slots that change with the adapter to measure."""
ENDED = (
    f"{READY} {_FOUND} measure_keep_row measure_keep_items measure_keep_json measure_keep_markdown"
)
"""Slots that change when a run ends."""


def wire_measure(page: Page, panel: MeasurePanel, tab: gr.Tab) -> None:
    """Wire reading rows, measuring, training and results."""
    on, session = page.on.measure, page.session
    worth = f"{READY} {_FOUND}"
    page.at_once(tab.select, on.open_measure, f"{OPENED} {worth}", session)
    # Not `change`, which also fires when the tab is opened again.
    dropped = [panel.file.upload, panel.file.clear]
    # Of choices in a row, Gradio's `always_last` would send the first one's columns twice.
    for event, read, inputs, mode in (
        (dropped, on.read_labelled, [session, panel.file], "always_last"),
        (panel.columns.choose, on.choose_columns, session, "multiple"),
    ):
        page.queued(event, read, ROWS, inputs, lane="read", trigger_mode=mode)
    for order, begin, settings in (
        (panel.start.click, on.begin_measure, [panel.limit, panel.seen]),
        (panel.train.click, on.begin_training, [panel.steps, panel.warm]),
    ):
        work = page.then_queued(
            page.at_once(order, begin, worth, [session, *settings]),
            on.measure,
            f"{_FOUND} left_choice right_choice",
            session,
            lane=LANE_OF["measurement"],
        )
        page.at_once(work.failure, on.measure_broke, ENDED, session)
        page.then_at_once(work, on.show_measured, ENDED, session)
    page.at_once(panel.stages.waits, on.still_waits, "measure_stages", session)
    stop = [panel.stop.click, panel.train_stop.click]
    page.at_once(stop, on.stop_measure, ENDED, session)
    for row, button in panel.take.items():
        take = functools.partial(on.take_trained, row)
        shown = f"tabs measure_take_told {SHOWN}"
        taken = page.queued(button.click, take, shown, session, lane="engine")
        page.at_once(taken.failure, on.take_broke, "measure_take_told")
        check_and_zip(page, taken)
