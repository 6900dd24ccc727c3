"""Wires the library: its buttons act on the selected adapter."""

import gradio as gr

from ui.engine_calls import LANES
from ui.page import AT_ONCE, QUIET, Page
from ui.tabs.library.view import LibraryPanel
from ui.tabs.workbench.adapter.wiring import SHOWN, check_and_zip
from ui.tabs.workbench.compare.wiring import SIDES
from ui.tabs.workbench.runs.wiring import OVER, carry_out

_OFFERED = (
    "library_actions library_load library_name library_rename library_duplicate library_recipe"
)
_LISTED = f"library_told keep_told library_kept library_empty library_undo {SIDES} {_OFFERED}"


def wire_library(page: Page, panel: LibraryPanel, tab: gr.Tab) -> None:
    """Wire list, rename, copy, delete, load and import."""
    on, chosen = page.on.library, [page.session, panel.kept]
    tab.select(**page.does(on.open_library, _LISTED, inputs=chosen), **AT_ONCE)
    panel.kept.input(**page.does(on.choose_kept, _OFFERED, inputs=chosen), **AT_ONCE)
    for order in (panel.rename.click, panel.name.submit):
        order(**page.does(on.rename_kept, _LISTED, inputs=[*chosen, panel.name]), **AT_ONCE)
    for order, change in (
        (panel.duplicate.click, on.duplicate_kept),
        (panel.delete.click, on.delete_kept),
        (panel.undo.click, on.undo_delete),
    ):
        order(**page.does(change, _LISTED, inputs=chosen), **AT_ONCE)
    loaded = panel.load.click(
        **page.does(on.load_kept, f"tabs {_LISTED} {SHOWN}", inputs=chosen),
        **LANES["engine"],
        **QUIET,
    )
    loaded.failure(**page.does(on.load_broke, "library_load library_told"), **AT_ONCE)
    check_and_zip(page, loaded)
    brought = panel.bring.upload(
        **page.does(on.import_file, f"tabs {_LISTED} {OVER}", inputs=[page.session, panel.bring]),
        **LANES["engine"],
        **QUIET,
    )
    check_and_zip(page, carry_out(page, brought, on.remake, page.session, **LANES["refine"]))
