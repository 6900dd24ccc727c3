"""Which values of a call are refused, and the message to its caller if it fails.

Gradio would quote the values, fetch files from the web and print what nobody foresaw.
"""

import asyncio
import errno
import logging
import math
import re
from typing import Any

import gradio as gr
from gradio.exceptions import ComponentProcessingError

from dnd_engine.limits import FIXED
from dnd_engine.prompts.words import shorten
from ui.faults import refused_by_system, report_fault
from ui.text import _

logger = logging.getLogger(__name__)

_BAD_PATH = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG})
"""Errors of the system about a path that a client chose."""
_BAD_VALUE = ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError
"""Errors of reading a value that has another type or shape than expected."""
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
            error.title = _("Error")  # Gradio's own is English
            raise
        except (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - told and logged; a SystemExit would end the queue
            name = getattr(block_fn, "name", None) or "an event"
            found = refused_by_system(error) or error
            words = report_fault(found, str(name))
            raise gr.Error(words, title=_("Error"), print_exception=False) from None
