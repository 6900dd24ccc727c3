"""The endpoints as tools, through a real MCP client."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest

from dnd_engine.errors import ConfigError
from dnd_engine.limits import PromptLimits, ServerLimits
from tests.loops import run
from tests.serving import serving
from tests.ui.fake_engine import FakeEngine, handle_of
from tests.until import until
from ui import serve
from ui.server.visitors import sender_of

BUCKETS = {"buckets": [{"name": "SQL", "prompts": ["Write SQL.\n\nCars?", "Write SQL.\n\nWho?"]}]}


def visit(
    url: str,
    do: Callable[[Any], Awaitable[Any]],
    *,
    address: str = "127.0.0.1",
    headers: dict[str, str] | None = None,
) -> Any:
    """Do something as a client of its own, from an address of this computer."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    def client(
        headers: dict[str, str] | None = None,
        timeout: httpx.Timeout | None = None,
        auth: httpx.Auth | None = None,
    ) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(local_address=address)
        return httpx.AsyncClient(
            headers=headers,
            timeout=timeout,
            auth=auth,
            transport=transport,
            follow_redirects=True,
        )

    async def connected() -> Any:
        async with (
            streamablehttp_client(
                f"{url}/gradio_api/mcp/", headers, httpx_client_factory=client
            ) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await do(session)

    return run(connected())


@pytest.mark.slow
def test_an_assistant_makes_an_adapter_and_others_do_not_see_it() -> None:
    engine = FakeEngine()

    async def make(session: Any) -> Any:
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        made = await session.call_tool("make_adapter", BUCKETS)
        key = json.loads(made.content[0].text)["adapter_id"]
        answers = await session.call_tool("chat", {"message": "Cars?", "adapter_id": key})
        zipped = await session.call_tool("download", {"adapter_id": key})
        return tools, key, json.loads(answers.content[0].text), zipped.content[0].text

    async def look(session: Any) -> Any:
        listed = await session.call_tool("list_adapters", {})
        guessed = await session.call_tool("inspect", {"adapter_id": "0" * 32})
        path = {"buckets": [{"files": ["/etc/hostname.txt", "http://127.0.0.1/a.txt"]}]}
        return listed, guessed, await session.call_tool("make_adapter", path)

    with serving(handle_of(engine), mcp=True) as url:
        tools, key, answers, zipped = visit(url, make)
        listed, guessed, stolen = visit(url, look)

    assert set(tools) == {"make_adapter", "chat", "inspect", "list_adapters", "download"}
    for name, tool in tools.items():
        assert tool.description, name
        assert all(p["description"] for p in tool.inputSchema["properties"].values()), name
    assert len(key) == 32
    assert answers["adapted"]["text"].startswith("```sql")
    assert zipped.startswith(url)
    assert zipped.endswith(".zip")
    for refused, words in (
        (listed, "Name those that `make_adapter` gave"),
        (guessed, "expected one that `make_adapter` gave"),
        (stolen, "expected an uploaded file"),
    ):
        assert refused.isError
        assert words in refused.content[0].text


@pytest.mark.slow
def test_a_tool_s_call_counts_for_its_client_s_address(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def sender(request: Any) -> str:
        seen.append(sender_of(request))
        return seen[-1]

    monkeypatch.setattr("ui.server.gradio_private.calls.sender_of", sender)

    async def make(session: Any) -> Any:
        return await session.call_tool("make_adapter", BUCKETS)

    with serving(handle_of(), mcp=True) as url:
        visit(url, make, address="127.0.0.2", headers={"x-forwarded-for": "203.0.113.7"})
        visit(url, make)
    assert seen == ["127.0.0.2", "127.0.0.1"]


@pytest.mark.slow
def test_a_tool_s_call_ends_when_its_client_leaves() -> None:
    engine = FakeEngine()

    async def ask_and_leave(session: Any) -> None:
        call = asyncio.create_task(session.call_tool("chat", {"message": "What?"}))
        async with asyncio.timeout(60):
            while not engine.asked:
                await asyncio.sleep(0.05)
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call

    async def ask(session: Any) -> Any:
        return await session.call_tool("chat", {"message": "What?"})

    with serving(handle_of(engine), mcp=True) as url:
        with engine.pace.held("chat"):  # only who ends it ends it
            visit(url, ask_and_leave)
            until(lambda: engine.closed_chats == 1)
        assert "several ways" in visit(url, ask).content[0].text, "the next one is answered"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["", "sse"])
def test_an_address_keeps_as_many_streams_open_as_pages(path: str, method: str) -> None:
    stream = f"/gradio_api/mcp/{path}"
    headers = {"accept": "text/event-stream"}
    with (
        serving(handle_of(), mcp=True, server=ServerLimits(sessions_per_visitor=1)) as url,
        httpx.Client(base_url=url, headers=headers, timeout=60) as client,
        client.stream("GET", stream) as held,
    ):
        assert held.status_code == 200
        refused = client.request(method, stream)
        assert refused.status_code == 429
        assert client.get("/gradio_api/heartbeat/a").status_code == 429


def test_without_its_packages_mcp_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[mcp\]'"):
        serve.launch_options(PromptLimits(), mcp=True)
