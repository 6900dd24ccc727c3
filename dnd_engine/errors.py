"""The exceptions this project raises on purpose.

Each one also inherits from a builtin, so you can catch it without importing this module. A message
names the object, what was expected, what was found, where, and how to fix it.
"""

from collections.abc import Sequence
from typing import Any

from dnd_engine.notes import Value, noted


class DndError(Exception):
    """Base class. The message is written for the user and says what to do next.

    The page translates a note, and a message with values apart (see `notes.noted`).
    """

    def __init__(self, message: str, /, **values: Value) -> None:
        super().__init__(noted(message, **values) if values else message)


class ConfigError(DndError, ValueError):
    """A setting has an invalid value."""


class UnknownSettingsError(ConfigError):
    """A recipe has settings that its kind does not know."""

    def __init__(self, message: str, names: Sequence[str]) -> None:
        super().__init__(message)
        self.names = tuple(names)
        """The settings, as they are shown."""


class PromptFileError(DndError, ValueError):
    """A prompt file cannot be read. The message lists all its faults."""


class BrokenItemsError(PromptFileError):
    """Some lines, rows or files cannot be read, but others can."""

    def __init__(self, message: str, num_good: int) -> None:
        super().__init__(message)
        self.num_good = num_good
        """Number of prompts that are left without the broken ones."""


class NoTextColumnError(PromptFileError):
    """A table has no column that can be read as prompts, or not the requested one."""

    def __init__(self, message: str, columns: Sequence[Any], /, **values: Value) -> None:
        super().__init__(message, **values)
        self.columns = tuple(columns)
        """Columns to choose from, each a `prompts.reading.Column`."""


class NoRoomError(DndError, RuntimeError):
    """A visit, its address or the server holds as much as it may."""


class BucketError(DndError, ValueError):
    """The buckets, taken together, cannot be turned into a condition."""


class AssetError(DndError, OSError):
    """Weights or other assets are missing, damaged or could not be downloaded."""


class LayoutError(DndError, ValueError):
    """No weight token layout can be derived from a base model's config."""


class LayoutMismatchError(DndError, ValueError):
    """Tensors do not have the shapes their layout specifies."""


class GeneratorError(DndError, ValueError):
    """A generator folder is missing, incomplete or inconsistent."""


class BaseMismatchError(GeneratorError):
    """A generator or adapter was made for another base model."""


class AdapterError(DndError, ValueError):
    """An adapter folder or zip is not a plain PEFT LoRA that this project can use."""


class ExportError(DndError, ValueError):
    """An adapter cannot be written in the requested format."""


class LlamaCppError(DndError, RuntimeError):
    """llama.cpp, which chat is compared with, does not do what it is asked to."""


class HubError(DndError, OSError):
    """The Hugging Face Hub cannot be reached, or it refused an upload."""


class RemoteError(DndError, OSError):
    """Another server cannot be reached, refuses a request, or sends an unexpected reply."""

    def __init__(
        self,
        message: str,
        /,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        **values: Value,
    ) -> None:
        super().__init__(message, **values)
        self.status = status
        """HTTP status of the reply; None if there was no reply."""
        self.retry_after = retry_after
        """Seconds after which the server asks to be tried again, if it says so."""


class PublishError(RemoteError):
    """A serving engine refuses an adapter, or does not use it to answer."""


class RecipeError(DndError, ValueError):
    """A recipe is invalid, or something it refers to is missing."""


class LibraryError(DndError, ValueError):
    """A library operation failed, or an adapter in the library is damaged."""


class ChatError(DndError, ValueError):
    """A conversation cannot be answered in its current form."""


class VerificationError(DndError, RuntimeError):
    """Stock PEFT did not read an adapter back as it was written."""


class TaskError(DndError, ValueError):
    """A task folder does not follow the schema."""


class MeasureError(DndError, ValueError):
    """Labelled rows are not usable for a measurement."""


class JobError(DndError, RuntimeError):
    """A cluster cannot be used, or lost a job."""


class TrainingError(DndError, RuntimeError):
    """A training run cannot start or continue."""


class ImprintError(DndError, ValueError):
    """An instruction cannot be imprinted from these prompts."""
