"""The layout of the workbench: prompts, adapter bar, then chat and checks side by side."""

from collections.abc import Sequence

import gradio as gr

from dnd_engine.limits import PromptLimits
from ui.panel import Panel
from ui.stages import StagesPanel
from ui.tabs.workbench.adapter.checks_view import ChecksPanel
from ui.tabs.workbench.adapter.view import AdapterBar
from ui.tabs.workbench.batch.view import BatchPanel
from ui.tabs.workbench.compare.remote_view import RemotePanel
from ui.tabs.workbench.compare.view import ComparePanel
from ui.tabs.workbench.prompts.view import PromptsPanel
from ui.tabs.workbench.take.view import TakePanel
from ui.tabs.workbench.teach.view import TeachPanel


class Workbench(Panel):
    """The tab, made of panels; see `TeachPanel` for its arguments beside the limits on files."""

    def __init__(
        self, limits: PromptLimits, *, shared: bool, teachers: Sequence[str], stop_keeps: bool
    ) -> None:
        self.prompts = PromptsPanel(limits)
        self.bar = AdapterBar()
        self.take = TakePanel(shared=shared)
        self.teach = TeachPanel(shared=shared, teachers=teachers, stop_keeps=stop_keeps)
        self.stages = StagesPanel()
        # Without `min_width=0`, Gradio would wrap columns below 320 px; the style sheet decides
        # when they stack.
        with gr.Row(elem_id="dnd-loop", equal_height=False):
            with gr.Column(elem_id="dnd-left", min_width=0):
                self.compare = ComparePanel()
                self.remote = RemotePanel(shared=shared)
                self.batch = BatchPanel()
                self.norms = gr.HTML("", elem_id="dnd-norms", padding=False)
            with gr.Column(elem_id="dnd-right", min_width=0):
                self.checks = ChecksPanel()
                # Shown while the chat is blind, instead of the checks, which would reveal the
                # models.
                self.votes = gr.HTML("", elem_id="dnd-tally", padding=False, visible=False)
