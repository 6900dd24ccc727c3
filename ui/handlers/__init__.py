"""What happens on each event. Handlers take plain values and a `Session`, and return what changed.

A handler returns a dict of slot name -> new value; `build` knows which component a slot is. So
handlers can be tested as plain functions. Generators among them are generators over the engine's.
"""

from ui.handlers.base import Updates
from ui.handlers.imprint import ImprintHandlers
from ui.handlers.language import LanguageHandlers
from ui.handlers.refine import RefineHandlers
from ui.handlers.watch import WatchHandlers

__all__ = ["Handlers", "Updates"]


class Handlers(LanguageHandlers, ImprintHandlers, RefineHandlers, WatchHandlers):
    """The events of the page, one file for each part of it."""
