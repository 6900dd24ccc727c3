"""Wires the canvas and the examples."""

import functools

from dnd_engine.prompts.examples import load_examples
from ui.page import Event, Page
from ui.tabs.workbench.prompts.view import PromptsPanel


def forecast_at(page: Page, event: Event) -> None:
    """Forecast the buckets on the canvas at an event."""
    page.queued(
        event,
        page.on.prompts.forecast,
        "synthesize hint forecast",
        page.session,
        lane="forecast",
        trigger_mode="always_last",
    )


def wire_prompts(page: Page, panel: PromptsPanel) -> None:
    """Read prompt files when they are dropped, then forecast; load examples."""
    on, session, examples = page.on.prompts, page.session, load_examples()
    changed = page.queued(
        panel.canvas.change,
        on.update_prompts,
        "inbox synthesize hint forecast adapter_facts",
        [panel.canvas, session],
        lane="read",
    )
    page.queued(
        panel.instruction.change,
        on.set_instruction,
        "synthesize hint adapter_facts",
        [panel.instruction, session],
    )
    page.queued(panel.mix.input, on.set_mix, "synthesize hint", [panel.mix, session])
    forecast_at(page, changed.then)
    # Not at each keystroke: half an instruction would be forecast too.
    forecast_at(page, [panel.instruction.blur, panel.instruction.submit])
    for example in examples:
        load = functools.partial(on.load_examples, [example], own_weights=False)
        page.at_once(panel.examples[example.id].click, load, "inbox", session)
    load_all = functools.partial(on.load_examples, examples, own_weights=True)
    page.at_once(panel.load_all.click, load_all, "inbox", session)
    show_first = functools.partial(on.show_me, examples[0])
    page.at_once(panel.show.click, show_first, "inbox", session)
