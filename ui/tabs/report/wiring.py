"""Wires the report card."""

import gradio as gr

from ui.page import AT_ONCE, Page
from ui.tabs.report.view import ReportPanel


def wire_report(page: Page, panel: ReportPanel, tab: gr.Tab) -> None:
    """Draw the report card when its tab opens, and when the visitor changes the selection."""
    on, chosen = page.on.report, [panel.report_group, panel.report_metric]
    drawn = "report_controls report_group report report_more report_all report_card"
    tab.select(**page.does(on.report, drawn, inputs=[page.session, *chosen]), **AT_ONCE)
    for choice in chosen:
        choice.input(**page.does(on.draw_report, "report report_more", inputs=chosen), **AT_ONCE)
