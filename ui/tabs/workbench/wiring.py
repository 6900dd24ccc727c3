"""Wires the workbench, part by part."""

from ui.page import Page
from ui.tabs.workbench.adapter.wiring import wire_adapter
from ui.tabs.workbench.batch.wiring import wire_batch
from ui.tabs.workbench.compare.wiring import wire_chat, wire_remote, wire_sides
from ui.tabs.workbench.prompts.wiring import wire_prompts
from ui.tabs.workbench.runs.wiring import wire_synthesis
from ui.tabs.workbench.take.wiring import wire_taking
from ui.tabs.workbench.teach.wiring import wire_teach
from ui.tabs.workbench.view import Workbench


def wire_workbench(page: Page, bench: Workbench) -> None:
    """Wire all parts."""
    wire_prompts(page, bench.prompts)
    # The chat needs its last event: only then is Show me's question asked.
    shown = wire_synthesis(page, bench.prompts, bench.stages, bench.bar)
    wire_adapter(page, bench.bar, bench.checks)
    wire_teach(page, bench.teach, bench.bar)
    wire_taking(page, bench.take, bench.bar)
    wire_chat(page, bench.compare, shown)
    wire_sides(page, bench.compare)
    wire_remote(page, bench.remote)
    wire_batch(page, bench.batch, bench.compare)
