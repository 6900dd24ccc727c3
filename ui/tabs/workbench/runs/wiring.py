"""Wires the runs: synthesis, the following imprint, and the end of every run."""

import functools
from collections.abc import Callable
from typing import Any

from ui.line import LANE_OF
from ui.page import Page
from ui.stages import RunKind, StagesPanel
from ui.tabs.measure.wiring import OPENED, READY
from ui.tabs.workbench.adapter.view import AdapterBar
from ui.tabs.workbench.adapter.wiring import SHOWN, check_and_zip
from ui.tabs.workbench.compare.wiring import BLIND
from ui.tabs.workbench.prompts.view import PromptsPanel
from ui.tabs.workbench.prompts.wiring import forecast_at

OVER = (
    "stages synthesize stop_synthesis stop_imprint imprint_now teach_open undo teach_box "
    "teach_labels teach_doors teach_propose teach_start teach_stop teach_later adapter_facts"
)
"""Slots that change when a run begins or ends."""


def wire_synthesis(page: Page, prompts: PromptsPanel, stages: StagesPanel, bar: AdapterBar) -> Any:
    """Wire synthesis, then imprint, then checks.

    Returns:
        The last event of Show me's synthesis, after the imprint: its question goes to the final
        adapter.
    """
    on, session = page.on, page.session
    made = [
        carry_out(
            page,
            # A weight may change faster than the page is answered, and the last change counts.
            page.at_once(order, begin, OVER, [prompts.canvas, session], trigger_mode="always_last"),
            on.synthesis.synthesize,
            [session, prompts.mix, prompts.seed],
            "synthesis",
        )
        for order, begin in (
            (prompts.synthesize.click, on.synthesis.begin_synthesis),
            (prompts.canvas.remix, on.synthesis.begin_remix),
            # Stays last: the event that is returned below follows it.
            (prompts.canvas.read, on.synthesis.begin_shown),
        )
    ]
    ordered_alone = page.at_once(bar.imprint_now.click, on.imprint.order, OVER, session)
    following = [
        page.then_at_once(
            event, on.imprint.begin_imprint, f"{OVER} checks warning", [session, prompts.imprint]
        )
        for event in made
    ]
    for ordered in (ordered_alone, *following):
        imprinted = carry_out(page, ordered, on.imprint.imprint, session, "imprint")
        # Also if nothing is imprinted: its event then ends at once, and the checks begin.
        check_and_zip(page, imprinted)
    # The last one follows Show me's synthesis.
    shown = imprinted
    page.at_once(stages.stages.waits, on.runs.still_waits, "stages", session)
    stop = [stages.stop_imprint.click, prompts.stop_synthesis.click]
    page.at_once(stop, on.runs.stop_run, OVER, session)
    return shown


def carry_out(
    page: Page, order: Any, handler: Callable[..., Any], inputs: Any, kind: RunKind
) -> Any:
    """Carry out a request while drawing its stages, show the adapter, and return the last event."""
    on, session = page.on.runs, page.session
    work = page.then_queued(
        order,
        handler,
        "stages adapter_box adapter_facts strength download warning",
        inputs,
        lane=LANE_OF[kind],
    )
    page.at_once(work.failure, on.run_broke, OVER, session)
    # It ended a forecast of the canvas.
    forecast_at(page, work.then)
    # A separate event: see `RunEvents.show_run`.
    show = functools.partial(on.show_run, kind=kind)
    shown = page.then_at_once(work, show, f"{OVER} {SHOWN} inbox", session)
    page.then_at_once(shown, page.on.compare.hide_names, BLIND, session)
    page.then_at_once(shown, page.on.measure.name_adapter, f"{OPENED} {READY}", session)
    return shown
