"""Wires the twin chat."""

import functools
from typing import Any

import gradio as gr

from ui.engine_calls import LANES
from ui.page import AFTERWARDS, AT_ONCE, ORDERED, QUIET, Page
from ui.state import Place
from ui.tabs.workbench.adapter.wiring import SHOWN, check_and_zip
from ui.tabs.workbench.compare.remote_view import RemotePanel
from ui.tabs.workbench.compare.view import ComparePanel

_PANES = "left_pane right_pane"
SIDES = f"{_PANES} left_choice right_choice compare_head"
"""Slots of who answers on either side."""
_BUTTONS = "send stop_chat again vote_row edit_row"
_STATE = f"{_BUTTONS} {_PANES}"
_KEPT = "keep_row keep_markdown keep_json keep_votes"
BLIND = f"{_STATE} {SIDES} strength checks votes"
"""Slots that change when the models' names are hidden or revealed."""
OPENED = f"{_STATE} {_KEPT} votes"
"""Slots of a restored conversation."""


def wire_chat(page: Page, panel: ComparePanel, shown: Any) -> None:
    """Wire questions, answers, settings and votes.

    Args:
        page: The laid-out page.
        panel: Panel of the chat.
        shown: Event after which Show me's question is asked.
    """
    for order in _orders(page, panel, shown):
        _answer(page, panel, order)
    on, session = page.on.compare, page.session
    panel.stop_chat.click(**page.does(on.stop_chat, _STATE, inputs=session), **AT_ONCE)
    cleared = page.does(on.clear_chat, f"{_STATE} votes keep_row", inputs=session)
    panel.clear.click(**cleared, **AT_ONCE)
    edited = page.does(on.edit, f"box mode {_STATE}", inputs=[session, panel.box, panel.mode])
    panel.left_pane.edit(**edited, **AT_ONCE)
    cancelled = page.does(on.cancel_edit, f"box mode {_STATE}", inputs=session)
    panel.cancel_edit.click(**cancelled, **AT_ONCE)
    for control, handler, names in (
        (panel.differences, on.mark_differences, _PANES),
        (panel.blind, on.go_blind, BLIND),
    ):
        control.input(**page.does(handler, names, inputs=[session, control]), **AT_ONCE)
    for name, button in panel.vote.items():
        vote = functools.partial(on.vote, name)
        button.click(**page.does(vote, f"{_STATE} votes {_KEPT}", inputs=session), **AT_ONCE)
    for index, button in enumerate(panel.suggestion):
        suggest = functools.partial(on.suggest, index)
        button.click(**page.does(suggest, "box told_with", inputs=session), **AT_ONCE)
    compared = page.does(
        on.choose_mode, "mode told_with compare_head", inputs=[session, panel.mode]
    )
    panel.mode.input(**compared, **AT_ONCE)
    told = page.does(on.choose_instruction, "told_with", inputs=[session, panel.told_with])
    panel.told_with.input(**told, **AT_ONCE)


def wire_sides(page: Page, panel: ComparePanel) -> None:
    """Wire the choice of who answers on either side."""
    on, session = page.on, page.session
    sides: tuple[tuple[Place, gr.Radio, Any, str], ...] = (
        ("left", panel.left_choice, on.compare.stand_beside, SIDES),
        ("right", panel.right_choice, on.adapter.choose, SHOWN),
    )
    for place, choice, choose, names in sides:
        inputs = [session, choice]
        # Arrow keys may pass several. `bring` loads none but the last, see `Session.choose`.
        chosen = choice.input(
            **page.does(choose, names, inputs=inputs), trigger_mode="always_last", **AT_ONCE
        )
        # In the queue, since it reads weights, unlike the choice among those that are loaded.
        brought = chosen.then(
            **page.does(functools.partial(on.library.bring, place), SHOWN, inputs=inputs),
            **LANES["engine"],
            **ORDERED,
        )
        brought.failure(**page.does(on.library.bring_broke, SIDES, inputs=session), **AT_ONCE)
        if place == "right":
            for event in (chosen, brought):
                check_and_zip(page, event)


def wire_remote(page: Page, panel: RemotePanel) -> None:
    """Wire switching to a server's models and back."""
    on, session = page.on.remote, page.session
    server = [panel.url, panel.key]
    found = page.does(on.find, "remote_base remote_adapter remote_told", inputs=server)
    # In the queue, unlike the others, because it waits for the network.
    gr.on([panel.find.click, panel.url.submit], **found, **QUIET)
    chosen = [*server, panel.base, panel.adapter, session]
    used = page.does(on.use, f"remote_told remote_leave {SIDES}", inputs=chosen)
    panel.use.click(**used, **AT_ONCE)
    left = page.does(on.leave, f"remote_told remote_key remote_leave {SIDES}", inputs=session)
    panel.leave.click(**left, **AT_ONCE)


def _orders(page: Page, panel: ComparePanel, shown: Any) -> list[Any]:
    """Return the events that submit a question."""
    on, session = page.on.compare, page.session
    # After the whole run of Show me, imprint included.
    orders = [shown.success(**page.does(on.ask_shown, _STATE, inputs=session), **AT_ONCE)]
    questions = [panel.box, panel.mode, session]
    orders += [
        ask(**page.does(on.ask, f"box {_STATE}", inputs=questions), **AT_ONCE)
        for ask in (panel.send.click, panel.box.submit)
    ]
    places: tuple[tuple[Any, Place | None], ...] = (
        (panel.again.click, None),
        (panel.left_pane.retry, "left"),
        (panel.right_pane.retry, "right"),
    )
    for again, place in places:
        ask_again = functools.partial(on.ask_again, place=place)
        orders.append(again(**page.does(ask_again, _STATE, inputs=session), **AT_ONCE))
    return orders


def _answer(page: Page, panel: ComparePanel, order: Any) -> None:
    """Answer the question that an event has submitted."""
    on, session = page.on.compare, page.session
    answered = order.then(
        **page.does(on.answer, _PANES, inputs=[session, *panel.settings.values()]),
        **LANES["chat"],
        **ORDERED,
    )
    answered.failure(**page.does(on.chat_broke, _STATE, inputs=session), **AT_ONCE)
    # A separate event: see `CompareEvents.answered`.
    answered.then(**page.does(on.answered, f"{_STATE} {_KEPT}", inputs=session), **AFTERWARDS)
