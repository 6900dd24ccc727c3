"""Handlers of all events. They take plain values and a `Session`, and return changes.

A handler returns a dict of slot name -> new value; `ui.page` maps slots to components. So handlers
can be tested as plain functions. Streaming handlers are generators over engine generators.
"""

from ui.frame.events import PageEvents
from ui.frame.language_events import LanguageEvents
from ui.frame.models_events import ModelsEvents
from ui.frame.visit_events import VisitEvents
from ui.shared import App
from ui.tabs.library.events import LibraryEvents
from ui.tabs.measure.events import MeasureEvents
from ui.tabs.report.events import ReportEvents
from ui.tabs.training.events import WatchEvents
from ui.tabs.workbench.adapter.events import AdapterEvents
from ui.tabs.workbench.batch.events import BatchEvents
from ui.tabs.workbench.compare.events import CompareEvents
from ui.tabs.workbench.compare.remote_events import RemoteEvents
from ui.tabs.workbench.prompts.events import PromptEvents
from ui.tabs.workbench.runs.events import RunEvents
from ui.tabs.workbench.runs.imprint_events import ImprintEvents
from ui.tabs.workbench.runs.synthesis_events import SynthesisEvents
from ui.tabs.workbench.take.events import ExportEvents
from ui.tabs.workbench.teach.events import TeachEvents


class Handlers:
    """The event handlers of all parts of the page."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.prompts = PromptEvents(app)
        self.compare = CompareEvents(app)
        self.remote = RemoteEvents(app, self.compare)
        self.batch = BatchEvents(app)
        self.adapter = AdapterEvents(app, self.compare)
        self.runs = RunEvents(app, self.adapter)
        self.synthesis = SynthesisEvents(app, self.runs)
        self.imprint = ImprintEvents(app, self.runs)
        self.teach = TeachEvents(app, self.adapter, self.runs)
        self.export = ExportEvents(app)
        self.library = LibraryEvents(app, self.compare, self.adapter, self.runs)
        self.measure = MeasureEvents(app, self.adapter)
        self.report = ReportEvents(app)
        self.watch = WatchEvents(app)
        self.page = PageEvents(app, self.compare)
        self.models = ModelsEvents(app, self.page)
        self.visit = VisitEvents(
            app,
            self.page,
            self.prompts,
            self.adapter,
            self.compare,
            self.batch,
            self.measure,
            self.library,
        )
        self.language = LanguageEvents(
            self.page, self.prompts, self.compare, self.library, self.measure, self.report
        )
