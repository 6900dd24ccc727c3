"""Wires the library: its buttons act on the selected adapter."""

import gradio as gr

from ui.page import Page
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
    page.at_once(tab.select, on.open_library, _LISTED, chosen)
    # In the queue, as Gradio drops warnings elsewhere.
    page.queued(panel.kept.input, on.choose_kept, f"library_told {_OFFERED}", chosen)
    renamed = [panel.rename.click, panel.name.submit]
    page.at_once(renamed, on.rename_kept, _LISTED, [*chosen, panel.name])
    page.at_once(panel.duplicate.click, on.duplicate_kept, _LISTED, chosen)
    page.at_once(panel.delete.click, on.delete_kept, _LISTED, chosen)
    page.at_once(panel.undo.click, on.undo_delete, _LISTED, chosen)
    loaded = page.queued(
        panel.load.click, on.load_kept, f"tabs {_LISTED} {SHOWN}", chosen, lane="engine"
    )
    page.at_once(loaded.failure, on.load_broke, "library_load library_told")
    check_and_zip(page, loaded)
    brought = page.queued(
        panel.bring.upload,
        on.import_file,
        f"tabs {_LISTED} {OVER}",
        [page.session, panel.bring],
        lane="engine",
    )
    check_and_zip(page, carry_out(page, brought, on.remake, page.session, "remake"))
