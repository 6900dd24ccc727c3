"""Wires the runs: synthesis, the following imprint, and the end of every run."""

import functools
from collections.abc import Callable
from typing import Any

from ui.engine_calls import LANES
from ui.page import AFTERWARDS, AT_ONCE, ORDERED, Page
from ui.stages import StagesPanel
from ui.tabs.workbench.adapter.view import AdapterBar
from ui.tabs.workbench.adapter.wiring import SHOWN, check_and_zip
from ui.tabs.workbench.prompts.view import PromptsPanel
from ui.tabs.workbench.prompts.wiring import forecast_at

OVER = (
    "stages synthesize stop_synthesis stop_imprint imprint_now teach_open undo teach_box "
    "teach_labels teach_doors teach_propose teach_start teach_stop teach_later"
)
"""Slots that change when a run begins or ends."""


def wire_synthesis(page: Page, prompts: PromptsPanel, stages: StagesPanel, bar: AdapterBar) -> Any:
    """Wire synthesis, then imprint, then checks.

    Returns:
        The last event of Show me's synthesis, after the imprint: its question goes to the final
        adapter.
    """
    on, session = page.on, page.session
    remix = functools.partial(on.synthesis.begin_synthesis, kind="remix")
    made = [
        carry_out(
            page,
            # A weight may change faster than the page is answered, and the last change counts.
            order(
                **page.does(begin, OVER, inputs=[prompts.canvas, session]),
                **AT_ONCE,
                trigger_mode="always_last",
            ),
            on.synthesis.synthesize,
            [session, prompts.mix, prompts.seed],
            **LANES["engine"],
        )
        for order, begin in (
            (prompts.synthesize.click, on.synthesis.begin_synthesis),
            (prompts.canvas.remix, remix),
            # Stays last: the event that is returned below follows it.
            (prompts.canvas.read, on.synthesis.begin_shown),
        )
    ]
    ordered_alone = bar.imprint_now.click(
        **page.does(on.imprint.order, OVER, inputs=session), **AT_ONCE
    )
    following = [
        event.then(
            **page.does(
                on.imprint.begin_imprint,
                f"{OVER} checks warning",
                inputs=[session, prompts.imprint],
            ),
            **AFTERWARDS,
        )
        for event in made
    ]
    for ordered in (ordered_alone, *following):
        imprinted = carry_out(page, ordered, on.imprint.imprint, session, **LANES["imprint"])
        # Also if nothing is imprinted: its event then ends at once, and the checks begin.
        check_and_zip(page, imprinted)
    # The last one follows Show me's synthesis.
    shown = imprinted
    stages.stages.waits(**page.does(on.runs.still_waits, "stages", inputs=session), **AT_ONCE)
    for stop in (stages.stop_imprint, prompts.stop_synthesis):
        stop.click(**page.does(on.runs.stop_run, OVER, inputs=session), **AT_ONCE)
    return shown


def carry_out(page: Page, order: Any, handler: Callable[..., Any], inputs: Any, **lane: Any) -> Any:
    """Carry out a request while drawing its stages, then show the resulting adapter.

    Returns:
        The last event.
    """
    on, session = page.on.runs, page.session
    work = order.then(
        **page.does(handler, "stages adapter_box adapter_facts strength download", inputs=inputs),
        **lane,
        **ORDERED,
    )
    work.failure(**page.does(on.run_broke, OVER, inputs=session), **AT_ONCE)
    # It ended a forecast of the canvas.
    forecast_at(page, work.then)
    # A separate event: see `RunEvents.show_run`.
    return work.then(
        **page.does(on.show_run, f"{OVER} {SHOWN} inbox", inputs=session), **AFTERWARDS
    )
