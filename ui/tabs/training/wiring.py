"""Wires the runs to watch."""

import gradio as gr

from ui.page import AT_ONCE, Page
from ui.tabs.training.view import WatchPanel

__all__ = ["wire_training"]


def wire_training(page: Page, panel: WatchPanel, tab: gr.Tab, tabs: gr.Tabs) -> None:
    """Read the run again and again while its tab is open, and rest while it is not."""
    on = page.on.watch
    for look, watching, names in (
        (tab.select, on.watch_run, "watch watch_timer"),
        (panel.watch_timer.tick, on.watch_run, "watch watch_timer"),
        (panel.watch_run.input, on.choose_run, "watch watch_timer watch_all_box"),
        (panel.watch_all_box.expand, on.all_numbers, "watch_all"),
    ):
        look(**page.does(watching, names, inputs=panel.watch_run), **AT_ONCE)
    others = [other for other in tabs.children if isinstance(other, gr.Tab) and other is not tab]
    gr.on([other.select for other in others], **page.does(on.rest, "watch_timer"), **AT_ONCE)
