"""Wires Refine, and Undo that goes back."""

from ui.engine_calls import LANES
from ui.page import AT_ONCE, Page
from ui.tabs.workbench.adapter.view import AdapterBar
from ui.tabs.workbench.adapter.wiring import SHOWN, check_and_zip
from ui.tabs.workbench.runs.wiring import OVER, carry_out
from ui.tabs.workbench.teach.view import TeachPanel

__all__ = ["wire_teach"]


def wire_teach(page: Page, panel: TeachPanel, bar: AdapterBar) -> None:
    """Refine on the same prompts, then measure again."""
    on, session = page.on.teach, page.session
    bar.teach_open.click(**page.does(on.open, "teach_box"), **AT_ONCE)
    panel.later.click(**page.does(on.close, "teach_box"), **AT_ONCE)
    ordered = panel.start.click(
        **page.does(on.begin, OVER, inputs=[session, panel.labels]), **AT_ONCE
    )
    check_and_zip(page, carry_out(page, ordered, on.teach, session, **LANES["refine"]))
    panel.stop.click(**page.does(page.on.runs.stop_run, OVER, inputs=session), **AT_ONCE)
    check_and_zip(page, bar.undo.click(**page.does(on.undo, SHOWN, inputs=session), **AT_ONCE))
