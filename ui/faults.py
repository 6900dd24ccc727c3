"""Unexpected errors: visitors get a sentence and a reference, the log gets the details.

An error's message may quote a path or another visitor's text, so it is never shown. A reference
number on the page and in the log connects the two.
"""

import errno
import hashlib
import logging
import sys
from collections.abc import Callable

from filelock import Timeout
from safetensors import SafetensorError

from dnd_engine.errors import DndError, HubError, RemoteError
from ui.text import _, drawn, note_words

logger = logging.getLogger(__name__)

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate", "status_alloc_failed")
"""Words of torch's errors of memory, some of which are plain RuntimeErrors."""
LOST_DEVICE = "lost_device"
"""Attribute of a log record: whether only a new process can recover from the error."""
_MAX_FRAMES = 12


def fault_words(error: BaseException) -> str:
    """Describe an error in a sentence, by its type."""
    if _no_memory(error):
        return _("The memory of the server is full. Use fewer or shorter prompts, or try later.")
    if _disk_full(error):
        return _("The disk of the server is full. Try again once there is space.")
    if _lost_device(error):
        return _("The graphics card of the server failed. The app must be started again.")
    return _("Something broke that should not have. The app's log has the details; try again.")


def public_words(error: DndError, doing: str, redact: Callable[[str], str]) -> str:
    """Return the message of an error for people who do not run the app.

    What the system refused, such as a write, gets a reference: its message names folders of the
    server, and advises to choose others. `redact` removes secret folders from other messages.
    """
    refused = refused_by_system(error)
    if refused is not None:
        return report_fault(refused, doing)
    return drawn(lambda note: redact(note_words(note)), str(error))


def refused_by_system(error: BaseException) -> BaseException | None:
    """Return the error of this machine's system that an error is about, if any."""
    found: BaseException | None = error
    while found is not None:
        # About another server, whose errors are of the system's kinds, too.
        if isinstance(found, HubError | RemoteError):
            return None
        # Some of ours are `OSError`s, and say more than the system does. So is that of a lock that
        # another process holds.
        if not isinstance(found, DndError | Timeout) and (
            isinstance(found, OSError) or _disk_full(found)
        ):
            return found
        found = found.__cause__
    return None


def _no_memory(error: BaseException) -> bool:
    # Other errors than torch's may quote a visitor, so their words count for nothing.
    if isinstance(error, RuntimeError):
        said = str(error).lower()
        return any(words in said for words in _NO_MEMORY)
    return isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM


def _disk_full(error: BaseException) -> bool:
    # safetensors has an error of its own, and only its words tell.
    if isinstance(error, SafetensorError):
        return "no space left" in str(error).lower()
    return getattr(error, "errno", None) in _DISK_FULL


def _lost_device(error: BaseException) -> bool:
    """Return whether only a new process can use the graphics card again.

    Only torch's own error for what the card reports counts, and no words. After the card is lost,
    each further step of the engine raises it.
    """
    # Whoever raised it has imported torch; the page starts without.
    kind = getattr(sys.modules.get("torch"), "AcceleratorError", ())
    # It is also how some versions say that the card's memory is full.
    return isinstance(error, kind) and not _no_memory(error)


def report_fault(error: BaseException, doing: str) -> str:
    """Log an unexpected error of the handler `doing`, and return a message for visitors."""
    # Do not log the message: it may quote a visitor's input.
    what = f"{doing}: {type(error).__name__} at {_frames(error)}"
    # Equal for equal faults, of which the log gets one a minute: see `dnd_engine.server_log.Rare`.
    reference = hashlib.blake2b(what.encode(), digest_size=4).hexdigest()
    lost = {LOST_DEVICE: _lost_device(error)}
    logger.error("fault %s in %s", reference, what, extra=lost)
    return f"{fault_words(error)} {_('Reference: {number}.', number=reference)}"


def _frames(error: BaseException) -> str:
    """Return the stack frames of an error, innermost first, without values."""
    # By hand: `traceback` would name files instead of modules, and read their source lines.
    places, trace = [], error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        module = trace.tb_frame.f_globals.get("__name__", "?")
        places.append(f"{module}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return " < ".join(places[::-1][:_MAX_FRAMES]) or "an unknown place"
