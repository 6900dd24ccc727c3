"""Wires the panel that stores or exports an adapter."""

from ui.engine_calls import LANES
from ui.page import AT_ONCE, QUIET, Page
from ui.tabs.workbench.adapter.view import AdapterBar
from ui.tabs.workbench.adapter.wiring import EXPORTED
from ui.tabs.workbench.compare.wiring import SIDES
from ui.tabs.workbench.take.view import TakePanel


def wire_taking(page: Page, panel: TakePanel, bar: AdapterBar) -> None:
    """Wire storing the adapter in the library, and exporting it."""
    on, session = page.on.export, page.session
    bar.take_open.click(**page.does(on.open_take, "take_box"), **AT_ONCE)
    panel.take_close.click(**page.does(on.close_take, "take_box"), **AT_ONCE)
    kept = page.does(
        page.on.library.keep,
        f"keep_name keep_told {SIDES}",
        inputs=[session, panel.keep_name, panel.keep_texts],
    )
    for order in (panel.keep.click, panel.keep_name.submit):
        order(**kept, **AT_ONCE)
    chosen = page.does(on.choose_format, f"hub export {EXPORTED}", inputs=panel.export_format)
    panel.export_format.input(**chosen, **AT_ONCE)
    settings = [panel.export_format, panel.hub_repo, panel.hub_private, panel.hub_token]
    taken = panel.export.click(
        **page.does(on.export, f"export hub_token {EXPORTED}", inputs=[session, *settings]),
        **LANES["export"],
        **QUIET,
    )
    taken.failure(**page.does(on.export_broke, "export export_told"), **AT_ONCE)
