"""Wires Measure: an adapter on labelled rows, compared with a trained LoRA."""

import functools

import gradio as gr

from ui.engine_calls import LANES
from ui.page import AFTERWARDS, AT_ONCE, ORDERED, QUIET, Page
from ui.tabs.measure.view import MeasurePanel
from ui.tabs.workbench.adapter.wiring import SHOWN, check_and_zip

_READY = "measure_start measure_stop measure_train measure_train_stop measure_train_of"


def wire_measure(page: Page, panel: MeasurePanel, tab: gr.Tab) -> None:
    """Wire reading rows, measuring, training and results."""
    on, session = page.on.measure, page.session
    found = _found(panel)
    worth = f"{_READY} {found}"
    ended = measured(panel)
    opened = f"measure_empty measure_order measure_of {worth}"
    tab.select(**page.does(on.open_measure, opened, inputs=session), **AT_ONCE)
    # Not `change`, which also fires when the tab is opened again.
    gr.on(
        [panel.file.upload, panel.file.clear],
        **page.does(on.read_labelled, f"measure_told {_READY}", inputs=[session, panel.file]),
        trigger_mode="always_last",
        **LANES["read"],
        **QUIET,
    )
    for order, begin, settings in (
        (panel.start.click, on.begin_measure, [panel.limit, panel.seen]),
        (panel.train.click, on.begin_training, [panel.steps, panel.warm]),
    ):
        event = order(**page.does(begin, worth, inputs=[session, *settings]), **AT_ONCE).then(
            **page.does(on.measure, f"{found} left_choice right_choice", inputs=session),
            **LANES["measure"],
            **ORDERED,
        )
        event.failure(**page.does(on.measure_broke, ended, inputs=session), **AT_ONCE)
        event.then(**page.does(on.show_measured, ended, inputs=session), **AFTERWARDS)
    panel.stages.waits(**page.does(on.still_waits, "measure_stages", inputs=session), **AT_ONCE)
    for stop in (panel.stop, panel.train_stop):
        stop.click(**page.does(on.stop_measure, ended, inputs=session), **AT_ONCE)
    for row, button in panel.take.items():
        take = functools.partial(on.take_trained, row)
        taken = button.click(
            **page.does(take, f"tabs measure_take_told {SHOWN}", inputs=session),
            **LANES["engine"],
            **QUIET,
        )
        taken.failure(**page.does(on.take_broke, "measure_take_told"), **AT_ONCE)
        check_and_zip(page, taken)


def measured(panel: MeasurePanel) -> str:
    """Return the slots that change when a run ends."""
    kept = " ".join(f"measure_keep_{name}" for name in panel.keep)
    return f"{_READY} {_found(panel)} measure_keep_row {kept}"


def _found(panel: MeasurePanel) -> str:
    taken = " ".join(f"measure_take_{row}" for row in panel.take)
    return (
        "measure_stages measure_found measure_notes_box measure_notes measure_take_told "
        f"measure_take_row {taken}"
    )
