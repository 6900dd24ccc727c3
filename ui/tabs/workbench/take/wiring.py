"""Wires the panel that stores or exports an adapter."""

from ui.page import AT_ONCE, Page
from ui.tabs.workbench.adapter.view import AdapterBar
from ui.tabs.workbench.adapter.wiring import EXPORTED
from ui.tabs.workbench.compare.wiring import SIDES
from ui.tabs.workbench.take.view import TakePanel

_INTO_VIEW = """() => requestAnimationFrame(() =>
  document.getElementById("dnd-take")?.scrollIntoView({ block: "nearest" }))"""
"""Shows the panel that was opened: on a phone, it is below what the window shows."""


def wire_taking(page: Page, panel: TakePanel, bar: AdapterBar) -> None:
    """Wire storing the adapter in the library, and exporting it."""
    on, session = page.on.export, page.session
    opened = page.at_once(bar.take_open.click, on.open_take, "take_box")
    opened.then(fn=None, js=_INTO_VIEW, **AT_ONCE)
    page.at_once(panel.take_close.click, on.close_take, "take_box")
    page.at_once(
        [panel.keep.click, panel.keep_name.submit],
        page.on.library.keep,
        f"keep_name keep_told {SIDES}",
        [session, panel.keep_name, panel.keep_texts],
    )
    page.at_once(
        panel.export_format.input, on.choose_format, f"hub export {EXPORTED}", panel.export_format
    )
    taken = page.queued(
        panel.export.click,
        on.export,
        f"export export_format hub_token {EXPORTED}",
        [session, panel.export_format, panel.hub_repo, panel.hub_private, panel.hub_token],
        lane="export",
    )
    page.at_once(taken.failure, on.export_broke, "export export_format export_told")
