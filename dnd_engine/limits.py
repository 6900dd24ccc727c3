"""Limits on what strangers send, in one place; `SECURITY.md` quotes them all. Imports no torch.

`PromptLimits` and `ServerLimits` are settings. `FIXED` holds bounds that no legitimate use reaches,
so they are none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from dnd_engine.errors import ConfigError

__all__ = [
    "FIXED",
    "FixedLimits",
    "PromptLimits",
    "ServerLimits",
    "check_between",
    "check_least",
    "check_positive",
]


def check_least(settings: object, least: float, *names: str) -> None:
    """Raise if a setting is less than `least` or NaN."""
    for name in names:
        if not (value := getattr(settings, name)) >= least:  # `<` would let NaN pass
            raise ConfigError(f"`{name}` must be at least {least}, got {value}.")


def check_between(settings: object, least: float, most: float, *names: str) -> None:
    """Raise if a setting is outside the range from `least` to `most`."""
    for name in names:
        if not least <= (value := getattr(settings, name)) <= most:
            raise ConfigError(f"`{name}` must be between {least} and {most}, got {value}.")


def check_positive(settings: object, *names: str) -> None:
    """Raise if a setting is zero, negative or NaN."""
    for name in names:
        if not (value := getattr(settings, name)) > 0:
            raise ConfigError(f"`{name}` must be above 0, got {value}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLimits:
    """Limits on uploaded prompt files."""

    max_files: int = 60
    """Number of files in all buckets."""
    max_file_bytes: int = 5_000_000
    """Size of one file. A prompt list of this size holds tens of thousands of prompts."""
    max_total_bytes: int = 25_000_000
    """Size of all files together."""
    max_prompts: int = 20_000
    """Prompts per file, after cleaning. A condition never samples this many."""
    max_rows: int = 100_000
    """Rows, lines or items of a file that hold something, repeated and broken ones included: a file
    of two million of them keeps everyone waiting for ten seconds."""
    max_prompt_chars: int = 8_000
    """Characters per prompt. The encoder reads only the first few hundred."""

    def __post_init__(self) -> None:
        check_least(self, 1, *self.__slots__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedLimits:
    """What one request, file or answer of a stranger may hold."""

    max_question_chars: int = 20_000
    """Characters of a question; the model reads fewer."""
    max_system_chars: int = 8_000
    """Characters of a system prompt."""
    max_turns: int = 200
    """Questions of one conversation."""
    max_answer_tokens: int = 512
    """Tokens of one answer: about half a minute on two CPU cores."""
    max_batch_inputs: int = 20
    """Inputs that are asked together."""
    max_batch_chars: int = 2_000
    """Characters of each of them."""
    max_taught_chars: int = 2_000
    """Characters of an answer that a person teaches. Longer ones are not learnt anyway."""
    max_line_chars: int = 500
    """Characters of a field of one line: an address, a key, the name of a repository."""
    max_name_chars: int = 60
    """Characters of a bucket's or an adapter's name; `assets/canvas.js` has it too."""
    max_instruction_chars: int = 2_000
    """Characters of a bucket's instruction."""
    max_canvas_parts: int = 1_000
    """Buckets or cards a canvas may send; a visitor's browser sends a few dozen."""
    max_encoded_prompts: int = 512
    """Prompts that a visit keeps as the encoder read them: 38 MB of 48 tokens each."""
    max_load_seconds: int = 300
    """How long a call of the API waits for the engine: the first start fetches a base model."""
    max_json_brackets: int = 200_000
    """Brackets and braces that open in a request's body. Prompts may be code, which has some."""
    max_json_commas: int = 2_000_000
    """Commas of it. A sentence has one in sixty characters."""
    max_columns: int = 100
    """Columns of a table that a person can choose from."""
    max_zip_members: int = 2_000
    """Files in a zip of prompt files."""
    max_zip_ratio: int = 200
    """Largest ratio of unpacked to packed size of a prompt file. Text reaches 10, a very repetitive
    table 100."""
    max_weights_bytes: int = 512_000_000
    """Weights of an adapter that is imported."""
    max_settings_bytes: int = 1_000_000
    """Its configuration, and its provenance."""
    max_adapter_members: int = 1_000
    """Entries of an adapter's zip. A trainer's checkpoint has about twenty."""
    max_adapter_ratio: int = 100
    """Largest ratio of unpacked to packed size of an adapter's file. A fresh LoRA, its B all zeros,
    reaches 2."""
    max_adapter_tensors: int = 10_000
    """Tensors of an adapter. All seven modules have 14 for each block: enough for 700 blocks."""
    max_adapter_r: int = 1_024
    """Rank of an adapter."""
    max_layer_size: int = 65_536
    """Inputs or outputs of a layer. The authors' longest decoder axis has 26,624."""
    max_kernel_size: int = 63
    """Kernel of a generator's convolutions; the authors use 9 and 11."""
    max_head_option: int = 8_192
    """Value of an option of a generator's head."""
    max_pickle_bytes: int = 10_000_000
    """Names and shapes in a `.pth` that is converted. The authors' have about ten kilobytes."""
    max_recipe_bytes: int = 50_000_000
    """A recipe: a few kilobytes without texts, else about the size of its files."""
    max_recipe_refinements: int = 16
    """Refinements of a recipe. Each takes most of a minute."""
    max_recipe_folds: int = 100
    """Strengths that a recipe folds in. Each takes milliseconds, and millions fit into its file."""
    max_reply_bytes: int = 4_000_000
    """One reply of another server. A list of models or an answer takes kilobytes."""
    max_reply_chars: int = 100_000
    """Characters of its answer. Longer ones end here: nothing in this project reads more."""
    max_reply_seconds: int = 120
    """How long it may take."""
    max_log_bytes: int = 8_000_000
    """The server's log, older files included."""


FIXED = FixedLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """What visitors of one server may take, alone and together. Sizes are in bytes."""

    sessions: int = 200
    """Open pages held at once. Beyond, the one unused for longest ends, closed tabs first."""
    sessions_per_visitor: int = 40
    """Pages of one address that stay connected."""
    session_seconds: int = 24 * 3600
    """How long an unused page is held."""
    closed_seconds: int = 300
    """How long a page is held after its tab was closed."""
    queued_calls: int = 40
    """Calls that wait for the engine, of all visitors together."""
    queued_calls_per_visitor: int = 10
    """The same for one address: a quarter, so that it takes four to fill the queue. A page has one
    or two at a time. Many people behind one address need more: `dnd serve --limit`."""
    request_bytes: int = 32_000_000
    """Body of one request that is no upload. A call may carry as many prompts as files may hold."""
    upload_bytes: int = 64_000_000
    """One uploaded file: an adapter of r 32 for a base of 0.5 B parameters. Prompt files have a
    smaller limit."""
    uploads_per_visitor_bytes: int = 500_000_000
    """Uploads of one address within `upload_seconds`."""
    uploads_bytes: int = 4_000_000_000
    """Uploads of all visitors within `upload_seconds`."""
    upload_seconds: int = 1200
    """How long uploads count: three quarters until they are old enough to go, and up to a quarter
    until the next sweep."""
    readings_per_visit: int = 400
    """Prompt files that a visit may have read, those kept for Undo included."""
    readings_per_visit_bytes: int = 50_000_000
    """The same as bytes of files. In memory they take up to twice as much."""
    readings_bytes: int = 1_000_000_000
    """Prompt files read by all visits together."""
    readings_per_visitor_bytes: int = 250_000_000
    """Those of the visits from one address."""
    left_visits: int = 200
    """Visits that are kept though their page was closed, so that it can bring them back."""
    left_visits_bytes: int = 500_000_000
    """What they hold in memory: weights, encoded prompts and labelled rows. Beyond either limit the
    oldest go."""
    visits_bytes: int = 4_000_000_000
    """The same for all visits, open ones included: empty ones go first, then those of the address
    that has the most."""
    visit_seconds: int = 24 * 3600
    """How long an unused visit is kept."""
    adapters_per_session: int = 20
    """Adapters that a visit, its library or a session of the API keeps."""
    adapters_per_session_bytes: int = 300_000_000
    """Weights of a visit's adapters in memory, those that Undo goes back to included."""
    adapters: int = 64
    """Adapters of all sessions of the API, of some megabytes each."""
    adapter_seconds: int = 3600
    """How long an adapter of the API is kept unused."""
    logins_per_minute: int = 10
    """Attempts to log in from one address."""
    teacher_servers: tuple[str, ...] = ()
    """Servers that visitors may let answer their prompts, as `https://HOST` or `https://HOST:PORT`.
    None by default: this server would send requests for strangers. The owner of a computer may ask
    any."""

    def __post_init__(self) -> None:
        check_least(self, 1, *_numbers())

    @classmethod
    def of(cls, settings: Sequence[str], teacher_servers: Sequence[str] = ()) -> "ServerLimits":
        """Return the limits with some of them changed.

        Args:
            settings: Each `NAME=NUMBER`; the last of a name counts.
            teacher_servers: See the field.

        Raises:
            ConfigError: If one names no limit, or has no whole number above 0.
        """
        values: dict[str, int] = {}
        for setting in settings:
            name, _equals, value = setting.partition("=")
            if name not in _numbers() or not value.isdecimal():
                raise ConfigError(
                    f"`--limit`: expected NAME=NUMBER, got {setting[:60]!r}. Names, and what each "
                    f"bounds, are in SECURITY.md: {', '.join(_numbers())}."
                )
            values[name] = int(value)
        return cls(**values, teacher_servers=tuple(teacher_servers))


def _numbers() -> list[str]:
    return [field.name for field in fields(ServerLimits) if field.type is int]
