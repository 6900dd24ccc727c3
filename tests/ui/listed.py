"""Handlers as the page calls them: what they update must be listed by each of their events."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from dnd_engine.limits import PromptLimits
from tests.ui.fake_engine import handle_of
from ui.build import build_ui
from ui.handlers import Handlers
from ui.shared import Updates


@functools.cache
def events() -> dict[str, list[frozenset[str]]]:
    """The slots of every event of the page, by the name of its handler."""
    handle = handle_of()
    found: dict[str, list[frozenset[str]]] = {}
    for event in build_ui(handle, PromptLimits()).fns.values():
        if event.fn is not None and (slots := getattr(event.fn, "slots", None)):
            handler = inspect.unwrap(event.fn)
            found.setdefault(handler.__qualname__, []).append(frozenset(slots))
    return found


class Listed:
    """Some handlers; each call is checked, and otherwise as it was."""

    def __init__(self, part: Any) -> None:
        self._part = part

    def __getattr__(self, name: str) -> Any:
        handler = getattr(self._part, name)
        qualname = getattr(handler, "__qualname__", "")
        return _checked(handler, events()[qualname]) if qualname in events() else handler


def listed(handlers: Handlers) -> Handlers:
    """Have every call from outside checked; those among handlers are not the page's."""
    for name, part in list(vars(handlers).items()):
        setattr(handlers, name, part if name == "app" else Listed(part))
    return handlers


def _checked(handler: Callable[..., Any], lists: list[frozenset[str]]) -> Callable[..., Any]:
    def check(updates: Updates) -> Updates:
        for slots in lists:
            assert not updates.keys() - slots, f"{handler.__qualname__}: not listed"
        return updates

    def stream(*args: Any, **kwargs: Any) -> Iterator[Updates]:
        for updates in handler(*args, **kwargs):
            yield check(updates)

    def call(*args: Any, **kwargs: Any) -> Updates:
        return check(handler(*args, **kwargs))

    return stream if inspect.isgeneratorfunction(handler) else call
