"""Wires the Training tab."""

import gradio as gr

from ui.page import Page
from ui.tabs.training.view import WatchPanel


def wire_training(page: Page, panel: WatchPanel, tab: gr.Tab, tabs: gr.Tabs) -> None:
    """Refresh the run while its tab is open."""
    on = page.on.watch
    run, shown = panel.watch_run, [page.session, panel.watch_run]
    page.at_once(tab.select, on.open_runs, "watch watch_timer", shown)
    page.at_once(panel.watch_timer.tick, on.follow_run, "watch watch_timer", shown)
    page.at_once(run.input, on.choose_run, "watch watch_timer watch_all_box", run)
    page.at_once(panel.watch_all_box.expand, on.all_numbers, "watch_all", run)
    # Gradio tells of a tab that opens, never of one that closes.
    others = [other for other in tabs.children if isinstance(other, gr.Tab) and other is not tab]
    page.at_once([other.select for other in others], on.rest, "watch_timer", page.session)
