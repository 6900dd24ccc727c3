"""Wires the panel that teaches, and Undo."""

import gradio as gr

from ui.engine_calls import LANES
from ui.page import AT_ONCE, QUIET, Page
from ui.tabs.workbench.adapter.view import AdapterBar
from ui.tabs.workbench.adapter.wiring import SHOWN, check_and_zip
from ui.tabs.workbench.runs.wiring import OVER, carry_out
from ui.tabs.workbench.teach.view import NUM_ROWS, TeachPanel

ROWS = "teach_rows " + " ".join(f"teach_answers_{index}" for index in range(NUM_ROWS))
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
    opened = bar.teach_open.click(**page.does(on.open, "teach_box"), **AT_ONCE)
    opened.then(fn=None, js=_FOLLOW, **AT_ONCE)
    panel.later.click(**page.does(on.close, "teach_box"), **AT_ONCE)
    chosen = page.does(
        on.choose,
        "stages teach_itself teach_better teach_mine teach_told",
        inputs=[session, panel.door],
    )
    panel.door.input(**chosen, **AT_ONCE)
    placed = page.does(
        on.choose_place,
        "teach_server teach_local teach_told",
        inputs=[panel.place, panel.base],
    )
    # The name once it is typed: half of one would be said to be no model.
    named = [panel.place.input, panel.base.blur, panel.base.submit]
    gr.on(named, **placed, trigger_mode="always_last", **AT_ONCE)
    labels = page.does(on.use_labels, "teach_propose teach_rows", inputs=[session, panel.labels])
    panel.labels.input(**labels, trigger_mode="always_last", **AT_ONCE)
    proposed = panel.propose.click(
        **page.does(on.propose, f"teach_told teach_propose {ROWS}", inputs=session),
        **LANES["imprint"],
        **QUIET,
    )
    proposed.failure(**page.does(on.propose_broke, "teach_told teach_propose"), **AT_ONCE)
    # Labels may have been chosen meanwhile.
    proposed.then(**labels, **AT_ONCE)
    # Once an answer is typed, so that a reload loses none.
    gr.on(
        [answer.blur for answer in panel.answers],
        **page.does(on.keep_answers, "teach_told", inputs=[session, *panel.answers]),
        trigger_mode="always_last",
        **AT_ONCE,
    )
    better = [panel.place, panel.url, panel.model, panel.key, panel.base]
    ordered = panel.start.click(
        **page.does(
            on.begin,
            f"{OVER} teach_key teach_told",
            inputs=[session, panel.door, panel.labels, *better, *panel.answers],
        ),
        **AT_ONCE,
    )
    ordered.then(fn=None, js=_FOLLOW, **AT_ONCE)
    check_and_zip(page, carry_out(page, ordered, on.teach, session, **LANES["refine"]))
    panel.stop.click(**page.does(on.stop, OVER, inputs=session), **AT_ONCE)
    check_and_zip(page, bar.undo.click(**page.does(on.undo, SHOWN, inputs=session), **AT_ONCE))
