"""All limits on untrusted input; `SECURITY.md` quotes them all. Imports no torch.

`PromptLimits` and `ServerLimits` are settings. `FIXED` bounds are not, because no legitimate use
reaches them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from dnd_engine.errors import ConfigError


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


def check_odd(name: str, value: int) -> None:
    """Raise unless a setting is a positive odd number."""
    if value < 1 or value % 2 == 0:
        raise ConfigError(f"`{name}` must be odd and positive, got {value}.")


def check_seed(seed: object) -> None:
    """Raise unless a seed is a whole number that every random generator here takes."""
    if not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise ConfigError(
            f"`seed` must be between 0 and {2**31 - 1}, a whole number, got {seed!r}."
        )


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
    max_memory_bytes: int = 40_000_000
    """Memory of one file's prompts. The text of a plain file takes at most four times its size; a
    table whose rows share a long text can take thousands of times its own."""
    max_total_memory_bytes: int = 100_000_000
    """Memory of the prompts of all files together."""
    max_prompts: int = 20_000
    """Prompts per file, after cleaning. A condition never samples this many."""
    max_rows: int = 100_000
    """Non-empty rows, lines or items per file, including repeated and broken ones. A file of two
    million would block everyone for ten seconds."""
    max_prompt_chars: int = 8_000
    """Characters per prompt. The encoder reads only the first few hundred."""

    def __post_init__(self) -> None:
        check_least(self, 1, *self.__slots__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedLimits:
    """Limits on one request, file or answer from an untrusted source."""

    max_question_chars: int = 20_000
    """Characters per question; the model reads fewer."""
    max_system_chars: int = 8_000
    """Characters per system prompt."""
    max_turns: int = 200
    """Questions per conversation."""
    max_answer_tokens: int = 512
    """Tokens per answer: about half a minute on two CPU cores."""
    max_batch_inputs: int = 20
    """Inputs per batch."""
    max_batch_chars: int = 2_000
    """Characters per input of a batch."""
    max_taught_chars: int = 2_000
    """Characters per answer that a person teaches. Longer ones are not trained on anyway."""
    max_line_chars: int = 500
    """Characters per single-line field: an address, a key, a repository name."""
    max_name_chars: int = 60
    """Characters per bucket or adapter name. Keep in sync with `assets/canvas.js`."""
    max_instruction_chars: int = 2_000
    """Characters per bucket instruction."""
    max_canvas_parts: int = 1_000
    """Buckets or cards per canvas request; a browser sends a few dozen."""
    max_encoded_prompts: int = 512
    """Encoded prompts cached per visit: 38 MB at 48 tokens each."""
    max_encoded_bytes: int = 320_000_000
    """Memory of these prompts: 512 of 384 tokens, which the authors' decoders for 0.5B read, or
    207 of 1,000 vectors, to which those for 1.5B and 7B project them."""
    max_load_seconds: int = 300
    """Seconds an API call waits for the engine: the first start downloads a base model."""
    max_json_brackets: int = 200_000
    """Opening brackets and braces in a request body. Prompts may be code, which contains some."""
    max_json_commas: int = 2_000_000
    """Commas in a request body. A sentence has one in sixty characters."""
    max_columns: int = 100
    """Selectable columns of a table."""
    max_zip_members: int = 2_000
    """Files in a zip of prompt files."""
    max_zip_ratio: int = 200
    """Maximum compression ratio of a prompt file. Text reaches 10, a very repetitive table 100."""
    max_parquet_bytes: int = 1_000_000_000
    """Memory of the process that unpacks a parquet table: several times what one within the limits
    takes. Not every system enforces it; Linux does."""
    max_parquet_seconds: int = 120
    """Time of this process. A table within the limits takes a second or two."""
    max_weights_bytes: int = 512_000_000
    """Bytes of an imported adapter's weights."""
    max_settings_bytes: int = 1_000_000
    """Bytes of an imported adapter's config."""
    max_provenance_bytes: int = 8_000_000
    """Bytes of its provenance: 18 for each prompt it was made from, and for each it was trained
    on."""
    max_listed_prompts: int = 150_000
    """Prompts that a provenance lists as read, or as learnt. Of more, none are listed."""
    max_adapter_members: int = 1_000
    """Entries in an adapter's zip. A trainer's checkpoint has about twenty."""
    max_adapter_ratio: int = 100
    """Maximum compression ratio of an adapter's file. A fresh LoRA, its B all zeros, reaches 2."""
    max_adapter_tensors: int = 10_000
    """Tensors of an adapter. All seven modules make 14 per block: enough for 700 blocks."""
    max_layers: int = 1_000
    """Layers of a base. Llama 3.1 405B has 126."""
    max_adapter_r: int = 1_024
    """Rank of an adapter."""
    max_layer_size: int = 65_536
    """Inputs or outputs of a layer. The authors' longest decoder axis has 26,624."""
    max_vocabulary: int = 1_000_000
    """Tokens that a base's config states. Gemma 3 has 262,144."""
    max_kernel_size: int = 63
    """Kernel size of a generator's convolutions; the authors use 9 and 11."""
    max_head_option: int = 8_192
    """Value of an option of a generator's head."""
    max_stages: int = 32
    """Stages of a generator's decoder. The authors' have at most nine."""
    max_generator_bytes: int = 64_000_000
    """Bytes of a JSON file of a generator. A thousand centroids, 384 wide, take 5 MB."""
    max_pickle_bytes: int = 10_000_000
    """Bytes of names and shapes in a `.pth` file. The authors' files have about ten kilobytes."""
    max_gguf_items: int = 2_000_000
    """Fields, array entries and tensors in the header of a GGUF file. The vocabulary of Gemma 3,
    262,144 tokens with a score and a type each, takes .8 million."""
    max_yaml_bytes: int = 200_000
    """Bytes of a YAML file: the recipe of a run or a table of hardware. They have a few
    kilobytes."""
    max_threads: int = 1_024
    """CPU threads in the recipe of a training or a collection."""
    max_recipe_bytes: int = 50_000_000
    """Bytes of a recipe: a few kilobytes without texts, else about the size of its prompt files."""
    max_recipe_refinements: int = 16
    """Refinements per recipe. Each takes most of a minute."""
    max_recipe_folds: int = 100
    """Folded strengths per recipe. Each takes milliseconds, but millions would fit into its
    file."""
    max_reply_bytes: int = 4_000_000
    """Bytes of a reply of another server. A list of models or an answer takes kilobytes."""
    max_reply_chars: int = 100_000
    """Characters of an answer in such a reply. Longer ones are cut: nothing here reads more."""
    max_reply_seconds: int = 120
    """Seconds such a reply may take."""
    max_error_chars: int = 4_000
    """Characters of an error that answers a call."""
    max_log_bytes: int = 8_000_000
    """Bytes of the server's log, including rotated files."""


FIXED = FixedLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """Limits per visitor and for all visitors of a server. Sizes are in bytes."""

    sessions: int = 200
    """Open pages. Beyond, the longest unused one ends, closed tabs first."""
    sessions_per_visitor: int = 40
    """Connected pages and MCP clients per address."""
    session_seconds: int = 24 * 3600
    """Seconds an unused page is held."""
    closed_seconds: int = 300
    """Seconds a page is held after its tab was closed."""
    queued_calls: int = 40
    """Calls waiting for the engine, for all visitors together."""
    queued_calls_per_visitor: int = 10
    """Waiting and running calls per address: a quarter, so that it takes four addresses to fill the
    queue. A page has one or two at a time. Many people behind one address need more:
    `dnd serve --limit`."""
    unattended_seconds: int = 30
    """Seconds until a call that nobody listens to counts as left. A program listens at once, a
    person at a terminal within some seconds."""
    answers: int = 200
    """Answers kept until somebody fetches them."""
    answers_per_visitor: int = 20
    """Answers kept per address: more than it may have calls in the queue."""
    answers_bytes: int = 200_000_000
    """Memory of the answers kept for all visitors."""
    answers_per_visitor_bytes: int = 20_000_000
    """Memory of the answers kept per address. Most have some kilobytes."""
    answer_seconds: int = 300
    """Seconds an answer is kept until somebody fetches it."""
    request_bytes: int = 32_000_000
    """Body of a request that is not an upload. A call may carry as many prompts as files may
    hold."""
    bodies_bytes: int = 256_000_000
    """Bodies of such requests that are in memory: those that arrive, and those of calls that wait
    or run. The first 64 kB of each do not count."""
    bodies_per_visitor_bytes: int = 64_000_000
    """The same per address, at least one of the largest. Over MCP each counts twice, because the
    server calls itself."""
    body_seconds: int = 120
    """Seconds until such a body has arrived: the largest at two megabits a second."""
    upload_bytes: int = 64_000_000
    """One uploaded file: an adapter of r 32 for a base of 0.5 B parameters. Prompt files have a
    smaller limit."""
    uploads_per_visitor_bytes: int = 500_000_000
    """Uploads per address within `upload_seconds`."""
    uploads_bytes: int = 4_000_000_000
    """Uploads of all visitors within `upload_seconds`."""
    upload_seconds: int = 1200
    """Seconds uploads count: they expire after three quarters of this, and the next sweep follows
    within a quarter."""
    readings_per_visit: int = 400
    """Prompt files read per visit, including those kept for Undo."""
    readings_per_visit_bytes: int = 100_000_000
    """Prompt files read per visit, each as its size or the memory of its prompts, whichever is
    more. Short prompts take up to four times the size of their file."""
    readings_bytes: int = 1_000_000_000
    """The same for all visits together."""
    readings_per_visitor_bytes: int = 250_000_000
    """The same for all visits from one address."""
    files_per_visit_bytes: int = 500_000_000
    """Bytes on disk of one visit: library, zips, exports and prompt files. The owner of a computer
    has no such limit."""
    files_per_visitor_bytes: int = 2_500_000_000
    """Bytes on disk of all visits from one address: a quarter of the total."""
    files_bytes: int = 10_000_000_000
    """Bytes on disk of all visits together."""
    left_visits: int = 200
    """Visits kept after their page was closed, so that they can be reopened."""
    left_visits_bytes: int = 500_000_000
    """Memory of closed visits: weights and prompts, also encoded ones. Beyond either limit, empty
    visits are dropped, then the oldest."""
    visits_bytes: int = 4_000_000_000
    """Memory of all visits, including open ones. Beyond, empty visits are dropped first, then those
    of the address that uses the most."""
    visit_seconds: int = 24 * 3600
    """Seconds an unused visit is kept."""
    adapters_per_session: int = 20
    """Adapters per visit, library or API session."""
    adapters_per_session_bytes: int = 300_000_000
    """Memory of a visit's adapters, including those kept for Undo: their weights, and the prompts
    that they were made from."""
    adapters: int = 64
    """Adapters of all API sessions, of some megabytes each."""
    adapters_bytes: int = 1_000_000_000
    """Memory of these adapters: their weights, and the prompts that they were made from."""
    adapter_seconds: int = 3600
    """Seconds an unused adapter of the API is kept."""
    logins_per_minute: int = 10
    """Login attempts per address."""
    teacher_servers: tuple[str, ...] = ()
    """Servers that visitors may use as teachers, as `https://HOST` or `https://HOST:PORT`. Empty by
    default, because this server would send requests for strangers. The owner of a computer may use
    any."""

    def __post_init__(self) -> None:
        check_least(self, 1, *_numbers())

    @classmethod
    def of(cls, settings: Sequence[str], teacher_servers: Sequence[str] = ()) -> "ServerLimits":
        """Return the limits with some of them overridden.

        Args:
            settings: Overrides as `NAME=NUMBER`; the last of a name wins.
            teacher_servers: Value of the field `teacher_servers`.

        Raises:
            ConfigError: If a name is unknown, or a value is not a positive integer.
        """
        values: dict[str, int] = {}
        for setting in settings:
            name, equals, value = setting.partition("=")
            if name and equals and name not in _numbers():
                raise ConfigError(
                    f"`--limit` or `DND_LIMITS`: there is no limit {name[:60]!r}. SECURITY.md says "
                    f"what each bounds: {', '.join(_numbers())}."
                )
            # `int` alone would also take signs, blanks and underscores.
            if name not in _numbers() or not value.isdecimal():
                raise ConfigError(
                    f"`--limit` or `DND_LIMITS`: expected NAME=NUMBER, got {setting[:60]!r}. "
                    f"Names, and what each bounds, are in SECURITY.md: {', '.join(_numbers())}."
                )
            values[name] = int(value)
        return cls(**values, teacher_servers=tuple(teacher_servers))


def _numbers() -> list[str]:
    # This needs types, not strings: no `from __future__ import annotations` in this module.
    return [field.name for field in fields(ServerLimits) if field.type is int]
