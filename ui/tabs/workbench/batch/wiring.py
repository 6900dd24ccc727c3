"""Wires the batch table."""

from ui.engine_calls import LANES
from ui.page import AFTERWARDS, AT_ONCE, ORDERED, Page
from ui.tabs.workbench.batch.view import BatchPanel
from ui.tabs.workbench.compare.view import ComparePanel

_BUTTONS = "batch_start batch_stop batch_file"


def wire_batch(page: Page, panel: BatchPanel, chat: ComparePanel) -> None:
    """Wire answering all inputs with the chat's settings."""
    on, session = page.on.batch, page.session
    ordered = panel.start.click(
        **page.does(
            on.begin,
            f"batch_table {_BUTTONS}",
            inputs=[panel.inputs, chat.mode, chat.told_with, session],
        ),
        **AT_ONCE,
    )
    answered = ordered.then(
        **page.does(on.answer, "batch_table", inputs=[session, *chat.settings.values()]),
        **LANES["batch"],
        **ORDERED,
    )
    broken = page.does(on.broke, f"batch_table {_BUTTONS}", inputs=session)
    answered.failure(**broken, **AT_ONCE)
    # A separate event, as in the chat: see `CompareEvents.answered`.
    answered.then(**page.does(on.answered, _BUTTONS, inputs=session), **AFTERWARDS)
    panel.stop.click(**page.does(on.stop, "batch_table", inputs=session), **AT_ONCE)
