"""Every limit of a server that others use, in one place. `SECURITY.md` quotes these numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from dnd_engine.config import check_least
from dnd_engine.errors import ConfigError

__all__ = ["ServerLimits"]


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
    """How long uploads count: 900 s until they are old enough to go, and up to 300 s until the next
    sweep."""
    readings_per_visit: int = 400
    """Prompt files that a visit may have read, those kept for Undo included."""
    readings_per_visit_bytes: int = 50_000_000
    """The same as bytes of files. In memory they take up to twice as much."""
    readings_bytes: int = 1_000_000_000
    """Prompt files read by all visits together."""
    left_visits: int = 200
    """Visits that are kept though their page was closed, so that it can bring them back."""
    left_visits_bytes: int = 500_000_000
    """Weights of their adapters together, in memory. Beyond either limit the oldest go."""
    visits_bytes: int = 4_000_000_000
    """The same for all visits, open ones included: those go first that were unused for longest."""
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
