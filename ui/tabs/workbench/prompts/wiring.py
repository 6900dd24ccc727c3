"""Wires the canvas and the examples."""

import functools
from collections.abc import Callable
from typing import Any

from dnd_engine.prompts.examples import load_examples
from ui.engine_calls import LANES
from ui.page import AT_ONCE, ORDERED, QUIET, Page
from ui.tabs.workbench.prompts.view import PromptsPanel


def forecast_at(page: Page, event: Callable[..., Any]) -> None:
    """Forecast the buckets on the canvas at an event."""
    forecast = page.does(page.on.prompts.forecast, "forecast", inputs=page.session)
    event(**forecast, **LANES["forecast"], **ORDERED)


def wire_prompts(page: Page, panel: PromptsPanel) -> None:
    """Read prompt files when they are dropped, then forecast; load examples."""
    on, session, examples = page.on.prompts, page.session, load_examples()
    changed = panel.canvas.change(
        **page.does(
            on.update_prompts,
            "inbox synthesize hint forecast adapter_facts",
            inputs=[panel.canvas, session],
        ),
        **LANES["read"],
        **QUIET,
    )
    panel.instruction.change(
        **page.does(
            on.set_instruction,
            "synthesize hint adapter_facts",
            inputs=[panel.instruction, session],
        ),
        **QUIET,
    )
    # Not at each keystroke: half an instruction would be forecast too.
    for event in (changed.then, panel.instruction.blur, panel.instruction.submit):
        forecast_at(page, event)
    for example in examples:
        load = functools.partial(on.load_examples, [example], own_weights=False)
        panel.examples[example.id].click(**page.does(load, "inbox", inputs=session), **AT_ONCE)
    load_all = functools.partial(on.load_examples, examples, own_weights=True)
    panel.load_all.click(**page.does(load_all, "inbox", inputs=session), **AT_ONCE)
    show_first = functools.partial(on.show_me, examples[0])
    panel.show.click(**page.does(show_first, "inbox", inputs=session), **AT_ONCE)
