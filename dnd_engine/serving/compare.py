"""Queries several models of a server in parallel, and streams their answers."""

import queue
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any

from dnd_engine.config import Sampling
from dnd_engine.models.replies import Message, Reply, StopReason
from dnd_engine.serving.chat import LIST_SECONDS, Remote, stream
from dnd_engine.serving.llama_server import requests
from dnd_engine.serving.server import Server

_QUIET_SECONDS = 0.25


def compare_remote(
    url: str, key: str, rows: Sequence[tuple[str, Sequence[Message]]], sampling: Sampling
) -> Generator[list[Reply] | None, None, None]:
    """Ask several models of a server at once.

    Args:
        url: Address of the server.
        key: Bearer token, as in `serving.chat.ask`.
        rows: Pairs of model name and conversation. A name may be one of a llama-server's adapters
            (see `serving.llama_server`).
        sampling: Sampling settings, shared by all. Default values are not sent.

    Yields:
        All answers so far, or None if nothing came for a moment. The token count is the number of
        streamed pieces; on most servers a piece is one token. Closing the generator disconnects at
        the next line that a server sends.

    Raises:
        RemoteError: If a model does not answer.
    """
    asked = requests(Server(url, LIST_SECONDS, key=key), [model for model, _ in rows])
    out: queue.SimpleQueue[tuple[int, Remote | Exception | None]] = queue.SimpleQueue()
    left = threading.Event()

    def read(number: int) -> None:
        (model, fields), (_, messages) = asked[number], rows[number]
        try:
            steps = stream(
                url,
                model,
                messages,
                key,
                max_tokens=sampling.max_new_tokens,
                temperature=sampling.temperature,
                extra={**_extra(sampling), **fields},
            )
            with closing(steps):
                said = Remote("", "")
                for step in steps:
                    # A thread that waits for a server cannot be stopped: check at each line.
                    if left.is_set():
                        return
                    if step != said:
                        out.put((number, step))
                    said = step
        except Exception as error:  # noqa: BLE001 - raised again below, in the waiting thread
            out.put((number, error))
        else:
            out.put((number, None))

    started = time.monotonic()
    counts, first = [0] * len(rows), [0.0] * len(rows)
    replies = [Reply("", 0, None, 0.0, 0.0) for _ in rows]
    for number in range(len(rows)):
        # A daemon, because a server that still answers must not keep the process alive.
        threading.Thread(target=read, args=(number,), name="remote", daemon=True).start()
    running = len(rows)
    try:
        while running:
            try:
                number, step = out.get(timeout=_QUIET_SECONDS)
            except queue.Empty:
                yield None  # a model may think for minutes, in which a caller may leave
                continue
            if isinstance(step, Exception):
                raise step
            if step is None:
                running -= 1
                continue
            now = time.monotonic() - started
            # The step with the reason repeats the text and adds no token.
            counts[number] += not step.finish_reason
            first[number] = first[number] or now
            replies[number] = _reply(step, counts[number], first[number], now)
            yield list(replies)
    finally:
        left.set()


def _extra(sampling: Sampling) -> dict[str, Any]:
    """Return settings that differ from the defaults; not every server knows every name."""
    wanted = {
        "top_p": (sampling.top_p, 1.0),
        "top_k": (sampling.top_k, 0),
        "repetition_penalty": (sampling.repetition_penalty, 1.0),
        # Greedy answers are the same for all seeds.
        "seed": (sampling.seed if sampling.temperature else 0, 0),
    }
    return {name: value for name, (value, default) in wanted.items() if value != default}


def _reply(step: Remote, count: int, first: float, now: float) -> Reply:
    reason: StopReason | None = None
    if step.finish_reason:
        reason = "length" if step.finish_reason == "length" else "eos"
    speed = (count - 1) / (now - first) if count > 1 and now > first else 0.0
    return Reply(step.text, count, reason, first, speed)
