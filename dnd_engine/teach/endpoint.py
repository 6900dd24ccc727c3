"""A better teacher: any OpenAI-compatible server that answers whole prompts.

Examples are llama-server, Ollama, vLLM and hosted services. Nothing is sent before the first answer
is requested, and the key is never shown or stored. Knows texts; knows no model, and leaves HTTP to
`serving`.
"""

import re
import time
from collections.abc import Collection, Sequence
from collections.abc import Generator as Steps
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
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
_BUSY = (429, 503)
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
"""The thinking part before an answer of reasoning models."""


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
            Answers in the order of the examples, in batches; None for an empty or truncated one.

        Raises:
            RemoteError: If the server cannot be reached, refuses, or answers in another form.
        """
        # A generator's body starts on its first `next`, so nothing is sent before.
        pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="teacher")
        try:
            asked = [pool.submit(self._answer, example.prompt) for example in examples]
            for first in range(0, len(asked), _TOGETHER):
                yield [one.result() for one in asked[first : first + _TOGETHER]]
        finally:
            # Requests in flight end by themselves, and their answers are dropped.
            pool.shutdown(wait=False, cancel_futures=True)

    def _answer(self, prompt: str) -> str | None:
        """Return the answer to one prompt, retrying while the server is busy."""
        for tries_left in reversed(range(_TRIES)):
            try:
                said = self._ask(prompt)
                break
            except RemoteError as error:
                if error.status not in _BUSY or not tries_left:
                    raise
                time.sleep(min(1.0 if error.retry_after is None else error.retry_after, _MAX_WAIT))
        text = _THOUGHT.sub("", said.text).strip()
        # An answer that was cut off would teach the adapter to stop in the middle.
        return None if said.finish_reason == "length" else text or None

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
