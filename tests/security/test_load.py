"""Many clients of the real app at once, and what stays of those that left.

A short run, with a model of random weights, is part of every test run. The long ones, with the
shipped base and generator and with such a model:

    python -m pytest tests/security/test_load.py -m soak -k shipped -s
    python -m pytest tests/security/test_load.py -m soak -k tiny -s
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from tests.dnd_engine.test_engine import write_generator
from tests.dnd_engine.tiny import save_tiny
from tests.loops import run
from tests.serving import free_port
from tests.until import until

FRESH = httpx.Limits(max_connections=None, max_keepalive_connections=0)
"""Each request on a connection of its own: one that was idle may be closed by the server just as it
is used again, which browsers hide and this client does not."""

WORDS = ("Paris", "bread", "rain", "music", "paper", "gold", "winter", "green")


@dataclass
class App:
    """The app as `dnd serve` starts it, in a process of its own."""

    url: str
    process: psutil.Process
    files: Path

    def size(self) -> tuple[float, int, int, float]:
        """Return MB of memory, threads, open files, and MB of files."""
        files = (path for path in self.files.rglob("*") if path.is_file())
        return (
            self.process.memory_info().rss / 1e6,
            self.process.num_threads(),
            self.process.num_fds(),
            sum(path.stat().st_size for path in files) / 1e6,
        )


@pytest.fixture(scope="module")
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Serve the shipped models, or tiny ones, whose tokens take a thousandth of the time."""
    models, files = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("app")
    port = free_port()
    # The visitors' requests name addresses, as those of a proxy on this computer do.
    environment = {**os.environ, "FORWARDED_ALLOW_IPS": "127.0.0.1"}
    environment |= {"GRADIO_TEMP_DIR": str(files / "gradio"), "TMPDIR": str(files)}
    command = [sys.executable, "-m", "dnd_engine.cli", "serve", "--port", str(port)]
    if request.param == "tiny":
        base = save_tiny(models / "base")
        generator = write_generator(base, models / "generator")
        command += ["--base", str(base), "--generator", str(generator)]
    # Pages go as soon as their tab is closed, so that growth shows within a test.
    started = subprocess.Popen(
        [*command, "--limit", "closed_seconds=2"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=(files / "log").open("wb"),
    )
    url = f"http://127.0.0.1:{port}"
    try:

        def is_up() -> bool:
            assert started.poll() is None
            return is_ready(url)

        until(is_up, 600)
        yield App(url, psutil.Process(started.pid), files)
    finally:
        started.terminate()
        started.wait(timeout=300)


def tell(figures: str) -> None:
    """Say what a long run measured, past pytest's capture if `-s` is given."""
    sys.stdout.write(f"\n{figures}\n")


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=30).status_code == 200
    except httpx.TransportError:
        return False


@dataclass
class Visitor:
    """Somebody at an address of their own, who makes an adapter and asks it."""

    client: httpx.AsyncClient
    number: int
    seconds: dict[str, list[float]] = field(default_factory=dict)
    refused: Counter[int] = field(default_factory=Counter)

    async def call(self, name: str, *data: Any, session: str = "") -> Any:
        """Return an endpoint's answer; who is refused waits and tries again, as the app asks."""
        began = time.monotonic()
        body = {"data": data} | ({"session_hash": session} if session else {})
        headers = {"x-forwarded-for": f"203.0.113.{self.number + 1}"}
        while True:
            path = f"/gradio_api/call/{name}"
            answer = await self.client.post(path, json=body, headers=headers)
            if answer.status_code == 200:
                break
            assert answer.status_code in (429, 503), answer.text
            assert answer.headers["retry-after"]
            assert answer.json()["detail"].count(". ") >= 1, "a sentence and a way out"
            self.refused[answer.status_code] += 1
            await asyncio.sleep(1)
        path = f"{path}/{answer.json()['event_id']}"
        told = await self.client.get(path, headers=headers)
        *_, event, values = [line for line in told.text.splitlines() if line]
        assert event == "event: complete", told.text
        self.seconds.setdefault(name, []).append(time.monotonic() - began)
        return json.loads(values.removeprefix("data: "))[0]

    async def visit(self, session: str = "") -> None:
        """Make an adapter, ask it, and check that both are one's own."""
        word, name = WORDS[self.number % len(WORDS)], f"bucket of {self.number}"
        prompts = [f"Say a word like {word}.\n\n{n} {self.number}" for n in range(8)]
        buckets = [{"name": name, "prompts": prompts}]
        made = await self.call("make_adapter", buckets, "pool", 1.0, 0, False, session=session)
        assert list(made["buckets"]) == [name]
        settings = ("", 8, 0.0, 1.0, 0, 1.0, 0)
        question = f"Name the number {self.number}."
        asked = await self.call("chat", question, made["adapter_id"], *settings, session=session)
        assert asked["adapted"]["num_tokens"] >= 1
        found = await self.call("inspect", made["adapter_id"], False, session=session)
        assert found["sha256"] == made["sha256"]
        assert list(found["buckets"]) == [name]


async def crowd(url: str, count: int, seconds: float) -> list[Visitor]:
    """Have so many visitors come again and again for a while; each ends its last visit."""
    ends = time.monotonic() + seconds
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=FRESH) as client:
        visitors = [Visitor(client, number) for number in range(count)]

        async def come(visitor: Visitor) -> None:
            await visitor.visit()
            while time.monotonic() < ends:
                await visitor.visit()

        await asyncio.gather(*map(come, visitors))
    return visitors


@pytest.mark.parametrize(
    ("app", "count", "seconds"),
    [
        pytest.param("tiny", 12, 0, marks=pytest.mark.real),
        *(
            pytest.param(models, count, 60, marks=pytest.mark.soak)
            for models in ("shipped", "tiny")
            for count in (8, 16, 40)
        ),
    ],
    indirect=["app"],
)
def test_everybody_of_a_crowd_is_served_and_gets_their_own(
    app: App, count: int, seconds: float
) -> None:
    """Check that no answer reaches another client, and that refusals say when to retry."""
    before, began = app.size()[0], time.monotonic()
    visitors = run(crowd(app.url, count, seconds))
    took = time.monotonic() - began
    visits = [len(visitor.seconds["inspect"]) for visitor in visitors]
    assert min(visits) >= 1
    assert max(visits) <= 3 * min(visits) + 2, "places are shared fairly"
    refused = sum((visitor.refused for visitor in visitors), Counter[int]())
    after, threads, open_files, _ = app.size()
    assert threads < 100
    assert open_files < 300
    if seconds:
        chats = [s for visitor in visitors for s in visitor.seconds["chat"]]
        tell(
            f"{count} clients, {took:.0f} s: {sum(visits)} visits ({min(visits)} to "
            f"{max(visits)} each), chat p50 {np.median(chats):.1f} s, p90 "
            f"{np.quantile(chats, 0.9):.1f} s, refused and served later: {dict(refused)}; memory "
            f"{before:.0f} to {after:.0f} MB"
        )


async def come_and_go(url: str, first: int, count: int) -> None:
    """Visit as a page does: its connection stays open until its tab is closed."""
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=FRESH) as client:
        for number in range(first, first + count):
            page = f"page-{number}"
            async with client.stream("GET", f"/gradio_api/heartbeat/{page}"):
                await Visitor(client, number % 100).visit(page)


@pytest.mark.parametrize(
    ("app", "cycles", "step"),
    [
        pytest.param("tiny", 12, 4, marks=pytest.mark.real),
        *(pytest.param(models, 200, 20, marks=pytest.mark.soak) for models in ("shipped", "tiny")),
    ],
    indirect=["app"],
)
def test_nothing_stays_of_visits_that_ended(app: App, cycles: int, step: int) -> None:
    run(come_and_go(app.url, 0, step))
    sizes = []
    for first in range(step, step + cycles, step):
        run(come_and_go(app.url, first, step))
        time.sleep(4)  # what was closed goes within two seconds
        sizes.append(app.size())
    memory, threads, open_files, disk = np.array(sizes).T
    if len(sizes) > 3:
        # After the first quarter: by then everything is loaded and caches have their size.
        begun = len(memory) // 4
        slope = np.polyfit(np.arange(begun, len(memory)) * step, memory[begun:], 1)[0]
        tell(
            f"{cycles} cycles: {slope:+.3f} MB a cycle, {memory[begun]:.0f} to "
            f"{memory[-1]:.0f} MB, "
            f"{threads[0]:.0f} to {threads[-1]:.0f} threads, {open_files[0]:.0f} to "
            f"{open_files[-1]:.0f} open files, {disk[0]:.1f} to {disk[-1]:.1f} MB of files"
        )
        assert slope <= 0.05, memory

    def is_as_small_as_at_first() -> bool:
        _, threads_now, files_now, disk_now = app.size()
        return bool(
            threads_now <= threads[0] + 4
            and files_now <= open_files[0] + 8
            and disk_now <= disk[0] + 1
        )

    until(is_as_small_as_at_first)  # a slow machine may still be putting away the last visits


async def leave_unfetched(url: str, first: int, count: int) -> None:
    """Call without listening, from many addresses: long answers, and faults in long lists."""
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=FRESH) as client:
        maker = Visitor(client, 0)
        prompts = [f"Say yes.\n\n{number}" for number in range(8)]
        bucket = {"name": "A", "prompts": prompts}
        made = await maker.call("make_adapter", [bucket], "pool", 1.0, 0, False, session="maker")
        for number in range(first, first + count):
            name, data = (
                ("make_adapter", [[{"prompts": [1] * 30_000}], "pool", 1.0, 0, False])
                if number % 4 == 0
                else ("list_adapters", [[made["adapter_id"]] * 64])
            )
            body = {"data": data, "session_hash": f"left-{number}"}
            headers = {"x-forwarded-for": f"203.0.113.{number % 100 + 1}"}
            path = f"/gradio_api/call/{name}"
            while (answer := await client.post(path, json=body, headers=headers)).is_error:
                assert answer.status_code in (429, 503), answer.text
                await asyncio.sleep(0.5)


@pytest.mark.soak
@pytest.mark.parametrize("app", ["tiny"], indirect=True)
def test_nothing_stays_of_answers_that_nobody_fetches(app: App) -> None:
    """Each had stayed for ever: .1 MB of a long list, 25 MB of 300,000 faults."""
    step, memory = 50, []
    for first in range(0, 800, step):
        run(leave_unfetched(app.url, first, step))
        memory.append(app.size()[0])
    # After the first half: by then as many answers and pages are held as may be.
    begun = len(memory) // 2
    slope = np.polyfit(np.arange(begun, len(memory)) * step, memory[begun:], 1)[0]
    tell(f"800 calls: {slope:+.3f} MB a call, {memory[begun]:.0f} to {memory[-1]:.0f} MB")
    assert slope <= 0.02, memory
