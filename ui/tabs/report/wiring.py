"""Wires the report card."""

import gradio as gr

from ui.page import Page
from ui.tabs.report.view import ReportPanel


def wire_report(page: Page, panel: ReportPanel, tab: gr.Tab) -> None:
    """Draw the report card when its tab opens, and when the visitor changes the selection."""
    on, chosen = page.on.report, [panel.report_group, panel.report_metric]
    drawn = "report_controls report_group report report_more report_all report_card"
    page.at_once(tab.select, on.report, drawn, [page.session, *chosen])
    changed = [choice.input for choice in chosen]
    page.at_once(changed, on.draw_report, "report report_more", chosen)
