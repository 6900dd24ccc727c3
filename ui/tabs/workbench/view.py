"""The layout of the workbench: prompts, adapter bar, then chat and checks side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr

from dnd_engine.limits import PromptLimits
from ui.stages import StagesPanel, stages_panel
from ui.tabs.workbench.adapter.checks_view import ChecksPanel, checks_panel
from ui.tabs.workbench.adapter.view import AdapterBar, adapter_bar
from ui.tabs.workbench.batch.view import BatchPanel, batch_panel
from ui.tabs.workbench.compare.remote_view import RemotePanel, remote_panel
from ui.tabs.workbench.compare.view import ComparePanel, compare_panel
from ui.tabs.workbench.prompts.view import PromptsPanel, prompts_panel
from ui.tabs.workbench.take.view import TakePanel, take_panel
from ui.tabs.workbench.teach.view import TeachPanel, teach_panel


@dataclass(frozen=True, slots=True, kw_only=True)
class Workbench:
    """The panels of the tab."""

    prompts: PromptsPanel
    bar: AdapterBar
    take: TakePanel
    teach: TeachPanel
    stages: StagesPanel
    compare: ComparePanel
    remote: RemotePanel
    batch: BatchPanel
    norms: gr.HTML
    checks: ChecksPanel
    votes: gr.HTML
    """Shown while the chat is blind, instead of the checks, which would reveal the models."""


def workbench_panel(
    limits: PromptLimits, *, shared: bool, teachers: Sequence[str] = (), stop_keeps: bool = True
) -> Workbench:
    """Lay out the tab.

    Args:
        limits: Limits on prompt files.
        shared: Whether the page serves others.
        teachers: Servers that visitors may then use as teachers.
        stop_keeps: Whether a stopped training can keep its result.
    """
    prompts = prompts_panel(limits)
    bar = adapter_bar()
    take = take_panel(shared=shared)
    teach = teach_panel(shared=shared, teachers=teachers, stop_keeps=stop_keeps)
    stages = stages_panel()
    # Without `min_width=0`, Gradio would wrap columns below 320 px; the style sheet decides when
    # they stack.
    with gr.Row(elem_id="dnd-loop", equal_height=False):
        with gr.Column(elem_id="dnd-left", min_width=0):
            compare = compare_panel()
            remote = remote_panel(shared=shared)
            batch = batch_panel()
            norms = gr.HTML("", elem_id="dnd-norms", padding=False)
        with gr.Column(elem_id="dnd-right", min_width=0):
            checks = checks_panel()
            votes = gr.HTML("", elem_id="dnd-tally", padding=False, visible=False)
    return Workbench(
        prompts=prompts,
        bar=bar,
        take=take,
        teach=teach,
        stages=stages,
        compare=compare,
        remote=remote,
        batch=batch,
        norms=norms,
        checks=checks,
        votes=votes,
    )
