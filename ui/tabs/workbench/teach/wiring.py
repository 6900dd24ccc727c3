"""Wires the panel that teaches, and Undo."""

from ui.page import AT_ONCE, Page
from ui.tabs.workbench.adapter.view import AdapterBar
from ui.tabs.workbench.adapter.wiring import SHOWN, check_and_zip
from ui.tabs.workbench.runs.wiring import OVER, carry_out
from ui.tabs.workbench.teach.view import TeachPanel

ROWS = "teach_rows teach_answers"
"""Slots of the answers to correct."""

_FOLLOW = """() => requestAnimationFrame(() => {
  for (const id of ["dnd-stages", "dnd-teach"])
    document.getElementById(id)?.scrollIntoView({ block: "nearest" });
})"""
"""Brings the opened form into view, and keeps the progress there when the form above Start folds.

The panel comes last: the next Tab goes on from where the browser scrolled to last, and must find
Stop.
"""


def wire_teach(page: Page, panel: TeachPanel, bar: AdapterBar) -> None:
    """Wire teaching the adapter in the bar on its prompts, then checking it."""
    on, session = page.on.teach, page.session
    opened = page.at_once(bar.teach_open.click, on.open, "teach_box")
    opened.then(fn=None, js=_FOLLOW, **AT_ONCE)
    page.at_once(panel.later.click, on.close, "teach_box")
    page.at_once(
        panel.door.input,
        on.choose,
        "stages teach_itself teach_better teach_mine teach_place teach_server teach_local "
        "teach_told teach_start",
        [session, panel.door],
    )
    page.at_once(
        # The name once it is typed: half of one would be said to be no model.
        [panel.place.input, panel.base.blur, panel.base.submit],
        on.choose_place,
        "teach_server teach_local teach_base_told teach_told",
        [panel.place, panel.base],
    )
    labelled, with_labels = "teach_propose teach_first teach_rows", [session, panel.labels]
    page.at_once(panel.labels.input, on.use_labels, labelled, with_labels)
    proposed = page.queued(
        panel.propose.click, on.propose, f"teach_told teach_propose {ROWS}", session, lane="imprint"
    )
    page.at_once(proposed.failure, on.propose_broke, "teach_told teach_propose")
    # Labels may have been chosen meanwhile.
    page.at_once(proposed.then, on.use_labels, labelled, with_labels)
    page.at_once(
        panel.answers.typed,
        on.keep_answers,
        "teach_told",
        [session, panel.answers],
        trigger_mode="always_last",
    )
    better = [panel.place, panel.url, panel.model, panel.key, panel.base]
    ordered = page.at_once(
        panel.start.click,
        on.begin,
        f"{OVER} teach_key teach_told",
        [session, panel.door, panel.labels, *better, panel.answers],
    )
    ordered.then(fn=None, js=_FOLLOW, **AT_ONCE)
    check_and_zip(page, carry_out(page, ordered, on.teach, session, "refinement"))
    page.at_once(panel.stop.click, on.stop, OVER, session)
    # In the queue, as Gradio drops what is said elsewhere.
    check_and_zip(page, page.queued(bar.undo.click, on.undo, SHOWN, session))
