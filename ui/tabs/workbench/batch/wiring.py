"""Wires the batch table."""

from ui.page import Page
from ui.tabs.workbench.batch.view import BatchPanel
from ui.tabs.workbench.compare.view import ComparePanel

_BUTTONS = "batch_start batch_stop batch_file"


def wire_batch(page: Page, panel: BatchPanel, chat: ComparePanel) -> None:
    """Wire answering all inputs with the chat's settings."""
    on, session = page.on.batch, page.session
    ordered = page.at_once(
        panel.start.click,
        on.begin,
        f"batch_table {_BUTTONS}",
        [panel.inputs, chat.mode, chat.told_with, session],
    )
    answered = page.then_queued(
        ordered, on.answer, "batch_table", [session, *chat.settings.values()], lane="batch"
    )
    page.at_once(answered.failure, on.broke, f"batch_table {_BUTTONS}", session)
    # A separate event, as in the chat: see `CompareEvents.answered`.
    page.then_at_once(answered, on.answered, _BUTTONS, session)
    page.at_once(panel.stop.click, on.stop, "batch_table", session)
