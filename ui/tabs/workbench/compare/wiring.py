"""Wires the twin chat."""

import functools
from typing import Any

import gradio as gr

from ui.page import Page
from ui.state import Place
from ui.tabs.workbench.adapter.wiring import SHOWN, check_and_zip
from ui.tabs.workbench.compare.remote_view import RemotePanel
from ui.tabs.workbench.compare.view import ComparePanel

_PANES = "left_pane right_pane"
SIDES = f"{_PANES} left_choice right_choice compare_head mode told_with"
"""Slots of who answers on either side."""
_BUTTONS = "send stop_chat again vote_row edit_row"
_STATE = f"{_BUTTONS} {_PANES}"
_COMPARED = "mode told_with compare_head"
_KEPT = "keep_row keep_markdown keep_json keep_votes"
BLIND = f"{_STATE} {SIDES} strength checks votes"
"""Slots that change when the models' names are hidden or revealed."""
OPENED = f"{_STATE} {_KEPT} votes"
"""Slots of a restored conversation."""


def wire_chat(page: Page, panel: ComparePanel, shown: Any) -> None:
    """Wire questions, answers, settings and votes; Show me's question is asked after `shown`."""
    for order in _orders(page, panel, shown):
        _answer(page, panel, order)
    on, session = page.on.compare, page.session
    page.at_once(panel.stop_chat.click, on.stop_chat, _STATE, session)
    edited = f"box {_COMPARED} {_STATE}"
    page.at_once(panel.clear.click, on.clear_chat, f"{edited} votes keep_row", session)
    page.at_once(panel.left_pane.edit, on.edit, edited, [session, panel.box])
    page.at_once(panel.cancel_edit.click, on.cancel_edit, edited, session)
    marked = [session, panel.differences]
    page.at_once(panel.differences.input, on.mark_differences, _PANES, marked)
    page.at_once(panel.blind.input, on.go_blind, BLIND, [session, panel.blind])
    for name, button in panel.vote.items():
        vote = functools.partial(on.vote, name)
        page.at_once(button.click, vote, f"{_STATE} votes {_KEPT}", session)
    for index, button in enumerate(panel.suggestion):
        suggest = functools.partial(on.suggest, index)
        page.at_once(button.click, suggest, "box told_with compare_head", session)
    chosen = [session, panel.mode]
    page.at_once(panel.mode.input, on.choose_mode, "told_with compare_head", chosen)
    inputs = [session, panel.told_with]
    page.at_once(panel.told_with.input, on.choose_instruction, "compare_head", inputs)


def wire_sides(page: Page, panel: ComparePanel) -> None:
    """Wire the choice of who answers on either side."""
    on, session = page.on, page.session
    sides: tuple[tuple[Place, gr.Radio, Any, str], ...] = (
        ("left", panel.left_choice, on.compare.stand_beside, SIDES),
        ("right", panel.right_choice, on.adapter.choose, SHOWN),
    )
    for place, choice, choose, slots in sides:
        inputs = [session, choice]
        # Arrow keys may pass several. `bring` loads none but the last, see `Session.choose`.
        chosen = page.at_once(choice.input, choose, slots, inputs)
        # In the queue, since it reads weights, unlike the choice among those that are loaded.
        brought = page.then_queued(
            chosen, functools.partial(on.library.bring, place), SHOWN, inputs, lane="engine"
        )
        # In the queue, as Gradio drops warnings elsewhere.
        page.queued(brought.failure, on.library.bring_broke, SIDES, session)
        if place == "right":
            for event in (chosen, brought):
                check_and_zip(page, event)


def wire_remote(page: Page, panel: RemotePanel) -> None:
    """Wire switching to a server's models and back."""
    on, session = page.on.remote, page.session
    server = [panel.url, panel.key]
    # In the queue, unlike the others, because it waits for the network.
    page.queued(
        [panel.find.click, panel.url.submit],
        on.find,
        "remote_base remote_adapter remote_told",
        server,
    )
    chosen = [*server, panel.base, panel.adapter, session]
    page.at_once(panel.use.click, on.use, f"remote_told remote_leave {SIDES}", chosen)
    left = f"remote_told remote_key remote_leave {SIDES}"
    page.at_once(panel.leave.click, on.leave, left, session)


def _orders(page: Page, panel: ComparePanel, shown: Any) -> list[Any]:
    """Return the events that submit a question."""
    on, session = page.on.compare, page.session
    # After the whole run of Show me, imprint included.
    orders = [page.at_once(shown.success, on.ask_shown, _STATE, session)]
    question = [panel.box, panel.mode, session]
    sent = [panel.send.click, panel.box.submit]
    orders.append(page.at_once(sent, on.ask, f"box {_STATE}", question))
    places: tuple[tuple[Any, Place | None], ...] = (
        (panel.again.click, None),
        (panel.left_pane.retry, "left"),
        (panel.right_pane.retry, "right"),
    )
    for again, place in places:
        ask_again = functools.partial(on.ask_again, place=place)
        orders.append(page.at_once(again, ask_again, f"box {_COMPARED} {_STATE}", session))
    return orders


def _answer(page: Page, panel: ComparePanel, order: Any) -> None:
    """Answer the question that an event has submitted."""
    on, session = page.on.compare, page.session
    answered = page.then_queued(
        order, on.answer, _PANES, [session, *panel.settings.values()], lane="chat"
    )
    page.at_once(answered.failure, on.chat_broke, _STATE, session)
    # A separate event: see `CompareEvents.answered`.
    page.then_at_once(answered, on.answered, f"{_STATE} {_KEPT}", session)
