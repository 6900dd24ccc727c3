"""A better teacher: any OpenAI-compatible server that answers whole prompts.

Examples are llama-server, Ollama, vLLM and hosted services. Nothing is sent before the first answer
is requested, and the key is never shown or stored. Knows texts; knows no model, and leaves HTTP to
`serving`.
"""

from collections.abc import Collection, Sequence
from collections.abc import Generator as Steps
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event, Thread
from urllib.parse import urlsplit

from dnd_engine.errors import RemoteError
from dnd_engine.limits import check_between
from dnd_engine.notes import noted
from dnd_engine.serving.address import base_url
from dnd_engine.serving.chat import Remote, ask
from dnd_engine.tasks.folder import Example

_AT_ONCE = 4
"""Number of concurrent requests: hosted services allow more, a laptop one or two."""
_TOGETHER = 8
"""Number of answers per yielded batch."""
_TRIES = 3
"""Attempts per question while the server is busy."""
_MAX_WAIT = 10.0
"""Maximum seconds between attempts, whatever the server requests."""
_BUSY = (429, 500, 502, 503, 504)
_FOR_ALL = (401, 403, 404)
"""Refusals that are not about one prompt: the key, or the address or model."""
_FAILS = 4
"""Failures in a row after which the server is taken to have failed. Fewer are about their prompts,
such as one that a content filter refuses, or that takes too long."""
_UNFINISHED = ("length", "max_tokens", "model_length", "content_filter", "tool_calls", "error")
"""Reasons for which an answer ended before its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Endpoint of a teacher.

    Raises:
        ConfigError: If a limit is out of bounds.
        RemoteError: If the address is invalid or not in `allowed`, or the model has no name.
    """

    url: str
    """Base address, such as `http://localhost:11434/v1`."""
    model: str
    """Model name on the server."""
    key: str = field(default="", repr=False)
    """API key, sent only to that server."""
    allowed: Collection[str] | None = None
    """Allowed servers, as `https://HOST` or `https://HOST:PORT`; None allows any."""
    max_answer_tokens: int = 512
    """Longer answers are skipped. Reasoning models need room for their thoughts."""
    timeout_seconds: float = 60.0
    """Timeout of one answer."""

    def __post_init__(self) -> None:
        check_between(self, 1, 32_768, "max_answer_tokens")
        check_between(self, 0.1, 600, "timeout_seconds")
        # On a shared server a visitor names the address, and could make that server call
        # machines that only it can reach.
        found = origin(self.url)
        if self.allowed is not None and found not in {origin(one) for one in self.allowed}:
            raise RemoteError(
                "`{server}` may not be asked from this server. Allowed: {known}. Run the app on "
                "your own computer to use any teacher.",
                server=found,
                known=", ".join(sorted(self.allowed)) or noted("none"),
            )
        if not self.model.strip():
            raise RemoteError(
                noted("the teacher needs the name of a model, as its server lists it.")
            )

    @property
    def sha256(self) -> str:
        """Empty, because a server shows no weights."""
        return ""

    def answers(self, examples: Sequence[Example]) -> Steps[Sequence[str | None], None, None]:
        """Ask whole prompts concurrently, while the consumer of the answers does other work.

        Yields:
            Answers in the order of the examples, in batches; None for one that is empty or
            unfinished, and for a prompt that the server refuses while it answers others.

        Raises:
            RemoteError: If the server cannot be reached, refuses prompts in a row or the key, or
                answers in another form. What was answered before has been yielded.
        """
        # A generator's body starts on its first `next`, so nothing is sent before.
        asked: list[Future[str | None]] = [Future() for _ in examples]
        left: SimpleQueue[tuple[str, Future[str | None]]] = SimpleQueue()
        for example, answer in zip(examples, asked, strict=True):
            left.put((example.prompt, answer))
        closed = Event()
        # Not a pool, whose threads Python waits for when it ends.
        for _ in range(_AT_ONCE):
            Thread(target=self._work, args=(left, closed), name="teacher", daemon=True).start()
        fails = 0
        try:
            for first in range(0, len(asked), _TOGETHER):
                texts: list[str | None] = []
                for one in asked[first : first + _TOGETHER]:
                    try:
                        texts.append(one.result())
                        fails = 0
                    except RemoteError as error:
                        texts.append(None)
                        fails += 1
                        if error.status in _FOR_ALL or fails == min(_FAILS, len(asked)):
                            if before := texts[: max(0, len(texts) - fails)]:
                                yield before
                            raise
                yield texts
        finally:
            # Requests in flight end by themselves, and their answers are dropped.
            closed.set()

    def _work(self, left: "SimpleQueue[tuple[str, Future[str | None]]]", closed: Event) -> None:
        """Answer prompts until none is left, or nobody wants more answers."""
        with suppress(Empty):
            while not closed.is_set():
                prompt, answer = left.get_nowait()
                try:
                    answer.set_result(self._answer(prompt, closed))
                except Exception as error:  # noqa: BLE001  # raised where it is waited for
                    answer.set_exception(error)

    def _answer(self, prompt: str, closed: Event) -> str | None:
        """Return the answer to one prompt, retrying while the server is busy."""
        for tries_left in reversed(range(_TRIES)):
            try:
                said = self._ask(prompt)
                break
            except RemoteError as error:
                if error.status not in _BUSY or not tries_left:
                    raise
                wait = 1.0 if error.retry_after is None else error.retry_after
                if closed.wait(min(wait, _MAX_WAIT)):
                    raise
        # An answer that was cut off would teach the adapter to stop in the middle.
        return None if said.finish_reason in _UNFINISHED else _without_thought(said.text) or None

    def _ask(self, prompt: str, temperature: float | None = 0.0) -> Remote:
        try:
            return ask(
                self.url,
                self.model.strip(),
                [{"role": "user", "content": prompt}],
                self.key,
                max_tokens=self.max_answer_tokens,
                temperature=temperature,
                timeout=self.timeout_seconds,
            )
        except RemoteError as error:
            words = str(error)
            if error.status == 400 and "temperature" in words and temperature is not None:
                # Some hosted models accept only their default temperature.
                return self._ask(prompt, None)
            raise


def _without_thought(text: str) -> str:
    """Return an answer without the thoughts before it; empty if these do not end."""
    thought, end, rest = text.partition("</think>")
    # Some chat templates begin the thoughts in the prompt, so that only their end is in the answer.
    if end and thought.lstrip().startswith("<think>") == ("<think>" in thought):
        return rest.strip()
    return "" if thought.lstrip().startswith("<think>") else text.strip()


def origin(url: str) -> str:
    """Return scheme, host and port of an address, in one form.

    Raises:
        RemoteError: If it is not the address of a server.
    """
    parts = urlsplit(base_url(url))
    # `hostname` is in lower case, and without the brackets of an IPv6 address.
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    # The usual port may be given or not; both forms must compare equal.
    usual = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if (parts.port or usual) != usual else "")
