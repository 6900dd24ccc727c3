"""Unexpected errors: visitors get a sentence and a reference, the log gets the details.

An error's message may quote a path or another visitor's text, so it is never shown. A reference
number on the page and in the log connects the two.
"""

import asyncio
import errno
import hashlib
import logging
import math
import re
import sys
from collections.abc import Callable
from typing import Any

import gradio as gr
from filelock import Timeout
from gradio.exceptions import ComponentProcessingError
from safetensors import SafetensorError

from dnd_engine.errors import DndError, HubError, RemoteError
from dnd_engine.limits import FIXED
from dnd_engine.prompts.words import shorten
from ui.text import _

logger = logging.getLogger(__name__)

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate", "status_alloc_failed")
"""Words of torch's errors of memory, some of which are plain RuntimeErrors."""
_BAD_PATH = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG})
"""Errors of the system about a path that a client chose."""
_BAD_VALUE = ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError
"""Errors of reading a value that has another type or shape than expected."""
LOST_DEVICE = "lost_device"
"""Attribute of a log record: whether only a new process can recover from the error."""
_MAX_FRAMES = 12
"""Maximum number of stack frames to log."""


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
    server, and advises to choose others.

    Args:
        error: The error.
        doing: Name of what failed, for the log.
        redact: Removes secret folders from a message.
    """
    refused = _refused(error)
    return redact(str(error)) if refused is None else report_fault(refused, doing)


def _refused(error: BaseException) -> BaseException | None:
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
    """Log an unexpected error, and return a message for visitors.

    Args:
        error: The exception.
        doing: Name of the handler it came from.
    """
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


_SURROGATES = re.compile("[\ud800-\udfff]")
_MAX_INTEGER = 2**63


def _writable(value: Any) -> Any:
    """Make a client's value serialisable again: JSON escapes can express more.

    Lone surrogates are removed, as from prompt files. Integers beyond 64 bits become floats.
    """
    if isinstance(value, str):
        # Most texts are ASCII, and this test is much cheaper than the search.
        return value if value.isascii() else _SURROGATES.sub("", value)
    if isinstance(value, list):
        return [_writable(one) for one in value]
    if isinstance(value, dict):
        return {_writable(key): _writable(one) for key, one in value.items()}
    if isinstance(value, int) and not -_MAX_INTEGER <= value < _MAX_INTEGER:
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return value


def _names_a_web_file(value: Any) -> bool:
    """Return whether a file is given as a URL: Gradio would download it, whatever its size."""
    if isinstance(value, list):
        return any(map(_names_a_web_file, value))
    if not isinstance(value, dict):
        return False
    path = value.get("path")
    is_address = isinstance(path, str) and path.lower().startswith(("http://", "https://"))
    return is_address or any(map(_names_a_web_file, value.values()))


def _name_of(block_fn: Any) -> str:
    """Return the name of an event for messages."""
    return str(block_fn.api_name or block_fn.name)


def _is_unfit(error: BaseException) -> bool:
    """Return whether reading a call's values failed by the values, and not by the machine."""
    if isinstance(error, gr.Error):
        # Ours are not printed. Gradio's are, and quote the value, whatever its size.
        return bool(error.print_exception)
    if isinstance(error, ComponentProcessingError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError):
        return error.errno in _BAD_PATH
    return isinstance(error, _BAD_VALUE)


class GuardedBlocks(gr.Blocks):
    """Blocks that never show or print the message of an unexpected error."""

    def validate_inputs(self, block_fn: Any, inputs: list[Any]) -> None:
        """Reject a call with too few values, without quoting them as Gradio does.

        Raises:
            gr.Error: If there are too few values.
        """
        wanted = len(block_fn.inputs)
        if len(inputs) < wanted:
            words = _(
                "`{name}` expects {wanted} value(s), got {got}. docs/api.md shows calls that work.",
                name=_name_of(block_fn),
                wanted=wanted,
                got=len(inputs),
            )
            raise gr.Error(words, print_exception=False)

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Read the values of a call; see `gr.Blocks.preprocess_data`.

        Raises:
            gr.Error: If a value does not fit.
        """
        try:
            # Events of scripts alone, too, have a number that a client can call.
            if block_fn.fn is None:
                raise LookupError
            if _names_a_web_file(inputs):
                words = _(
                    "Files are not fetched from the web. Download the file, then upload it here."
                )
                raise gr.Error(words, print_exception=False)
            return await super().preprocess_data(block_fn, _writable(inputs), *args, **kwargs)
        except Exception as error:
            if not _is_unfit(error):
                raise
            # The fault may also be ours, or come with another version of Gradio.
            kind = type(error.__cause__ or error).__name__
            logger.warning("refused values of %s: %s", _name_of(block_fn), kind)
        words = _(
            "`{name}` got a value that does not fit. Reload the page, or see docs/api.md for calls "
            "that work.",
            name=_name_of(block_fn),
        )
        raise gr.Error(words, print_exception=False)

    async def process_api(
        self, block_fn: Any, inputs: Any, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """Run an event; see `gr.Blocks.process_api`.

        Raises:
            gr.Error: If the event failed; the message is for visitors.
        """
        try:
            return await super().process_api(block_fn, inputs, *args, **kwargs)
        except gr.Error as error:
            error.print_exception = False  # the log has only places
            # A message of ours may quote a name or a file, and nobody need fetch the answer.
            error.message = shorten(error.message, FIXED.max_error_chars)
            raise
        except (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - told and logged; a SystemExit would end the queue
            name = getattr(block_fn, "name", None) or "an event"
            found = _refused(error) or error
            raise gr.Error(report_fault(found, str(name)), print_exception=False) from None
