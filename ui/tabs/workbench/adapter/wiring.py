"""Wires the adapter bar and its checks."""

from typing import Any

import gradio as gr

from ui.engine_calls import LANES
from ui.page import AT_ONCE, ORDERED, QUIET, Page
from ui.tabs.workbench.adapter.checks_view import ChecksPanel
from ui.tabs.workbench.adapter.view import AdapterBar
from ui.tabs.workbench.compare.view import NUM_SUGGESTIONS

EXPORTED = "export_told export_usage export_file"
"""Slots of an exported file, which is removed when the adapter or its strength changes."""
_CHECKED = (
    "checks proof_box proof prove warning check_again teach_box teach_door teach_itself "
    "teach_better teach_mine download"
)
SHOWN = (
    f"{EXPORTED} {_CHECKED} imprint_now teach_open keep_name keep_texts keep_told stages "
    "adapter_box adapter_facts strength undo norms compare_head mode told_with differences blind "
    "left_choice right_choice left_pane right_pane teach_labels teach_propose teach_rows "
    + " ".join(("suggestions_row", *(f"suggestion_{index}" for index in range(NUM_SUGGESTIONS))))
)
"""Slots that change when another adapter is shown."""


def wire_adapter(page: Page, bar: AdapterBar, checks: ChecksPanel) -> None:
    """Wire strength and checks of the visit's adapter."""
    on, session = page.on.adapter, page.session
    # Not `change`, which a slider also sends, without a value, when its tab opens again. `release`
    # also fires after typing.
    scaled = gr.on(
        [bar.strength.input, bar.strength.release],
        **page.does(
            on.set_strength,
            f"adapter_facts download {EXPORTED}",
            inputs=[session, bar.strength],
        ),
        trigger_mode="always_last",
        **AT_ONCE,
    )
    proved = checks.prove.click(
        **page.does(on.prove, "proof prove download", inputs=session), **LANES["check"], **QUIET
    )
    for event in (scaled, proved):
        _zip(page, event)
    again = page.does(on.check_again, _CHECKED, inputs=session)
    check_and_zip(page, bar.check_again.click(**again, **AT_ONCE))


def check_and_zip(page: Page, event: Any) -> None:
    """Check the adapter in the bar if needed, and write its zip."""
    checked = event.then(
        **page.does(page.on.adapter.check, _CHECKED, inputs=page.session),
        **LANES["check"],
        **ORDERED,  # wait even while the previous adapter is still being checked
    )
    checked.failure(
        **page.does(page.on.adapter.check_broke, _CHECKED, inputs=page.session), **AT_ONCE
    )
    # After the checks, because the card in the zip quotes their results.
    _zip(page, checked)


def _zip(page: Page, event: Any) -> None:
    written = page.does(page.on.adapter.prepare_download, "download warning", inputs=page.session)
    event.then(**written, **LANES["check"], **ORDERED)
