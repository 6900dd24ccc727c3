"""What happens on each event. Handlers take plain values and a `Session`, and return what changed.

A handler returns a dict of slot name -> new value; `build` knows which component a slot is. So
handlers can be tested as plain functions. Generators among them are generators over the engine's.
"""

from ui.handlers.adapter import AdapterEvents
from ui.handlers.base import App, Updates
from ui.handlers.compare import CompareEvents
from ui.handlers.export import ExportEvents
from ui.handlers.imprint import ImprintEvents
from ui.handlers.language import LanguageEvents
from ui.handlers.library import LibraryEvents
from ui.handlers.measure import MeasureEvents
from ui.handlers.page import PageEvents
from ui.handlers.prompts import PromptEvents
from ui.handlers.refine import RefineEvents
from ui.handlers.report import ReportEvents
from ui.handlers.runs import RunEvents
from ui.handlers.synthesis import SynthesisEvents
from ui.handlers.watch import WatchEvents

__all__ = ["App", "Handlers", "Updates"]


class Handlers:
    """The events of all parts of the page, each made of those it needs."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.prompts = PromptEvents(app)
        self.compare = CompareEvents(app)
        self.adapter = AdapterEvents(app, self.compare)
        self.runs = RunEvents(app, self.adapter)
        self.synthesis = SynthesisEvents(app, self.runs)
        self.imprint = ImprintEvents(app, self.runs)
        self.refine = RefineEvents(app, self.adapter, self.runs)
        self.export = ExportEvents(app)
        self.library = LibraryEvents(app, self.adapter, self.runs)
        self.measure = MeasureEvents(app, self.adapter)
        self.report = ReportEvents(app)
        self.watch = WatchEvents(app)
        self.page = PageEvents(app, self.compare)
        self.language = LanguageEvents(
            self.page, self.prompts, self.compare, self.library, self.measure, self.report
        )
