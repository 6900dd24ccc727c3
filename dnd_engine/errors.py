"""Every failure this project raises on purpose, and nothing else.

Each error is also a fitting builtin, so callers that know only Python can catch it. Messages name
the thing, what was expected, what came, where, and the way out. Knows no torch and no Gradio.
"""

__all__ = [
    "AdapterError",
    "AssetError",
    "BaseMismatchError",
    "BucketError",
    "ChatError",
    "ConfigError",
    "DndError",
    "ExportError",
    "GeneratorError",
    "HubError",
    "LayoutError",
    "LayoutMismatchError",
    "LibraryError",
    "MeasureError",
    "PromptFileError",
    "RecipeError",
    "TaskError",
    "TrainingError",
    "VerificationError",
]


class DndError(Exception):
    """Base class: a failure with a message that a person can act on."""


class ConfigError(DndError, ValueError):
    """A setting lies outside what it may be."""


class PromptFileError(DndError, ValueError):
    """A prompt file cannot be read; all its faults are in one message."""


class BucketError(DndError, ValueError):
    """The buckets as a whole cannot be turned into a condition."""


class AssetError(DndError, OSError):
    """Weights or other assets are missing, damaged, or could not be fetched."""


class LayoutError(DndError, ValueError):
    """A base model's config cannot be laid out as LoRA weight tokens."""


class LayoutMismatchError(DndError, ValueError):
    """Tensors do not have the shapes that their layout states."""


class GeneratorError(DndError, ValueError):
    """A generator folder is missing, incomplete or inconsistent."""


class BaseMismatchError(GeneratorError):
    """A generator or adapter was made for another base model."""


class AdapterError(DndError, ValueError):
    """An adapter folder or zip is not a plain PEFT LoRA that this project can use."""


class ExportError(DndError, ValueError):
    """An adapter cannot be written in the format that was asked for."""


class HubError(DndError, OSError):
    """The model hub cannot be reached, or refuses an upload."""


class RecipeError(DndError, ValueError):
    """A recipe is not one, or what it asks for is not here."""


class LibraryError(DndError, ValueError):
    """The library cannot do what it was asked, or one of its adapters is damaged."""


class ChatError(DndError, ValueError):
    """A conversation cannot be answered as it stands."""


class VerificationError(DndError, RuntimeError):
    """An adapter did not come back from stock PEFT as it was written."""


class TaskError(DndError, ValueError):
    """A task folder does not follow the schema."""


class MeasureError(DndError, ValueError):
    """Labelled rows cannot be measured on as they stand."""


class TrainingError(DndError, RuntimeError):
    """A training run cannot start or continue."""


class ImprintError(DndError, ValueError):
    """An instruction cannot be imprinted from these prompts."""
