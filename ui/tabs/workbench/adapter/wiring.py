"""Wires the adapter bar and its checks."""

from typing import Any

from ui.page import Page
from ui.tabs.workbench.adapter.checks_view import ChecksPanel
from ui.tabs.workbench.adapter.view import AdapterBar

EXPORTED = "export_told export_usage export_file"
"""Slots of an exported file, which is removed when the adapter or its strength changes."""
_CHECKED = "checks proof_box proof prove warning check_again teach_box download adapter_facts"
SHOWN = (
    f"{EXPORTED} {_CHECKED} imprint_now teach_open keep_name keep_texts keep_told stages "
    "adapter_box strength undo norms compare_head mode told_with differences blind "
    "left_choice right_choice left_pane right_pane teach_labels teach_propose teach_first "
    "teach_rows suggestions_row suggestion_0 suggestion_1 suggestion_2"
)
"""Slots that change when another adapter is shown."""


def wire_adapter(page: Page, bar: AdapterBar, checks: ChecksPanel) -> None:
    """Wire strength and checks of the visit's adapter."""
    on, session = page.on.adapter, page.session
    scaled = page.at_once(
        # Not `change`, which a slider also sends, without a value, when its tab opens again.
        # `release` also fires after typing.
        [bar.strength.input, bar.strength.release],
        on.set_strength,
        f"adapter_facts download {EXPORTED}",
        [session, bar.strength],
    )
    proved = page.queued(
        checks.prove.click, on.prove, "proof prove download", session, lane="check"
    )
    page.at_once(proved.failure, on.prove_broke, "proof prove")
    for event in (scaled, proved):
        _zip(page, event)
    again = page.at_once(bar.check_again.click, on.check_again, _CHECKED, session)
    check_and_zip(page, again)


def check_and_zip(page: Page, event: Any) -> None:
    """Check the adapter in the bar if needed, and write its zip."""
    on, session = page.on.adapter, page.session
    # They wait even while the previous adapter is still being checked.
    checked = page.then_queued(event, on.check, _CHECKED, session, lane="check")
    page.at_once(checked.failure, on.check_broke, _CHECKED, session)
    # After the checks, because the card in the zip quotes their results.
    _zip(page, checked)


def _zip(page: Page, event: Any) -> None:
    page.then_queued(
        event, page.on.adapter.prepare_download, "download warning", page.session, lane="check"
    )
