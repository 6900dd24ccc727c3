"""Wires the Training tab."""

import gradio as gr

from ui.page import AT_ONCE, Page
from ui.tabs.training.view import WatchPanel


def wire_training(page: Page, panel: WatchPanel, tab: gr.Tab, tabs: gr.Tabs) -> None:
    """Refresh the run while its tab is open."""
    on = page.on.watch
    shown = [page.session, panel.watch_run]
    for look, watching, names, inputs in (
        (tab.select, on.open_runs, "watch watch_timer", shown),
        (panel.watch_timer.tick, on.follow_run, "watch watch_timer", shown),
        (panel.watch_run.input, on.choose_run, "watch watch_timer watch_all_box", shown[1:]),
        (panel.watch_all_box.expand, on.all_numbers, "watch_all", shown[1:]),
    ):
        look(**page.does(watching, names, inputs=inputs), **AT_ONCE)
    # Gradio tells of a tab that opens, never of one that closes.
    others = [other for other in tabs.children if isinstance(other, gr.Tab) and other is not tab]
    left = [other.select for other in others]
    gr.on(left, **page.does(on.rest, "watch_timer", inputs=page.session), **AT_ONCE)
