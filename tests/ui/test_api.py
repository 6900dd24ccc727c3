"""The app from code: what a caller sees, gets, and is refused."""

import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio import processing_utils
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from starlette.datastructures import Address

from dnd_engine.limits import PromptLimits, ServerLimits
from tests.serving import fetch, serving
from tests.ui.fake_engine import FakeEngine, handle_of
from tests.until import until
from ui.api import Endpoints
from ui.engine_calls import EngineCalls
from ui.engine_handle import EngineHandle
from ui.session_files import SessionFiles
from ui.text import speaking

PROMPTS = [{"name": "SQL", "prompts": ["Write SQL.\n\nHow many cars?", "Write SQL.\n\nWho won?"]}]
Requests = Callable[[str], gr.Request]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        # How long it takes to see that a client has gone.
        patch.setenv("GRADIO_HEARTBEAT_INTERVAL", "0.2")
        engine = FakeEngine()
        with serving(handle_of(engine)) as address:
            yield address


@pytest.fixture
def clients(url: str, tmp_path: Path) -> Iterator[Callable[[], Client]]:
    opened: list[Client] = []

    def connect() -> Client:
        patient = {"timeout": 60}
        opened.append(Client(url, verbose=False, download_files=tmp_path, httpx_kwargs=patient))
        return opened[-1]

    yield connect
    for client in opened:
        client.close()


@pytest.fixture
def client(clients: Callable[[], Client]) -> Client:
    return clients()


@pytest.fixture
def endpoints(handle: EngineHandle, files: SessionFiles, tmp_path: Path) -> Endpoints:
    return Endpoints(EngineCalls(handle), PromptLimits(), files, tmp_path / "cache")


def make(endpoints: Endpoints, request: gr.Request, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = endpoints.make_adapter(request, PROMPTS, **more)
    return found


def test_the_listing_shows_these_endpoints_and_no_event_of_any_page(client: Client) -> None:
    listed: Any = client.view_api(return_format="dict", print_info=False)
    names = {"/make_adapter", "/chat", "/inspect", "/list_adapters", "/download"}
    assert set(listed["named_endpoints"]) == names
    assert listed["unnamed_endpoints"] == {}
    for name, told in listed["named_endpoints"].items():
        assert told["description"], f"{name} does not say what it does"


def test_a_file_that_is_hardly_prompts_is_said_to_be_so(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "lunch.txt"
    file.write_text("From: Ann\nTo: Bob\nSubject: Lunch\n\nShall we?\n")
    buckets = [{"name": "Mail", "files": [handle_file(str(file))]}]
    made = client.predict(buckets, api_name="/make_adapter")
    assert made["notes"][0].startswith("lunch.txt: This looks like an e-mail, not like a list")


def test_files_become_an_adapter_that_answers_and_comes_as_a_zip(
    client: Client, tmp_path: Path
) -> None:
    file = tmp_path / "queries.txt"
    file.write_text("Write SQL.\n\nHow many cars?\n---\nWrite SQL.\n\nWho won?\n")
    buckets = [{"name": "SQL", "weight": 1.5, "files": [handle_file(str(file))]}]
    made = client.predict(buckets, strength=0.5, seed=3, api_name="/make_adapter")
    assert made["num_prompts"] == 2
    assert made["buckets"] == {"SQL": 1.5}
    assert made["strength"] == 0.5
    assert made["checks"]["effect"] == 0.42
    assert made["notes"] == ["queries.txt: Read as prompts separated by lines of `---`."]

    answers = client.predict("Cars?", made["adapter_id"], api_name="/chat")
    assert answers["base"]["text"].startswith("The question can be answered")
    assert made["sha256"][:8] in answers["adapted"]["text"]
    alone = client.predict("Cars?", max_new_tokens=3, api_name="/chat")
    assert alone["base"]["num_tokens"] == 3
    assert alone["adapted"] is None

    with zipfile.ZipFile(client.predict(made["adapter_id"], api_name="/download")) as archive:
        assert "adapter_model.safetensors" in archive.namelist()


def test_the_instruction_is_imprinted_unless_that_cannot_be_or_is_not_wanted(
    client: Client,
) -> None:
    prompts = [f"Write SQL.\n\nIMPRINT {i}" for i in range(9)]
    made = client.predict([{"prompts": prompts}], seed=3, api_name="/make_adapter")
    assert (made["imprinted"], made["not_imprinted"]) == (True, "")
    assert made["seconds"]["imprint"] == 3.2
    plain = client.predict([{"prompts": prompts}], imprint=False, api_name="/make_adapter")
    assert (plain["imprinted"], plain["not_imprinted"]) == (False, "")
    refused = client.predict([{"prompts": ["one", "two"]}], api_name="/make_adapter")
    assert refused["imprinted"] is False
    assert refused["not_imprinted"].startswith("no prompt has an instruction and an input.")
    inputs = [f"IMPRINT {i}" for i in range(9)]
    spec = {"prompts": inputs, "instruction": "Write SQL."}
    typed = client.predict([spec], seed=3, api_name="/make_adapter")
    assert typed["sha256"] == made["sha256"]
    with pytest.raises(AppError, match="an instruction of at most 2,000 characters"):
        client.predict([{**spec, "instruction": "x" * 2001}], api_name="/make_adapter")


def test_inspect_tells_norms_and_on_demand_the_proof(client: Client) -> None:
    made = client.predict(PROMPTS, api_name="/make_adapter")
    found = client.predict(made["adapter_id"], api_name="/inspect")
    assert len(found["relative_norms"]["q_proj"]) == 30
    assert found["nearest_tasks"][0]["slug"] == "wikisql"
    assert found["proof"] is None
    proved = client.predict(made["adapter_id"], True, api_name="/inspect")
    assert proved["proof"]["controls"]


def test_a_session_lists_its_own_adapters_and_they_go_with_it(
    clients: Callable[[], Client],
) -> None:
    mine, other = clients(), clients()
    key = mine.predict(PROMPTS, api_name="/make_adapter")["adapter_id"]
    listed = mine.predict(api_name="/list_adapters")
    assert [one["adapter_id"] for one in listed] == [key]
    assert other.predict(api_name="/list_adapters") == []
    assert len(other.predict([key], api_name="/list_adapters")) == 1, "an id is the key"
    mine.close()

    def ask() -> bool:
        other.predict([key], api_name="/list_adapters")
        return False

    with pytest.raises(AppError, match="not known"):
        until(ask)  # the server sees after a while that a client has gone


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"buckets": []}, "got no bucket. Make one"),
        ({"buckets": [{"weight": "heavy", "prompts": ["a"]}]}, r"`buckets.0.weight`.*got 'heavy'"),
        ({"buckets": [{"promts": ["a"]}]}, r"`buckets.0.promts`: Extra inputs"),
        ({"buckets": [{"prompts": ["a"], "weight": 3}]}, "weight between -2 and 2, got 3"),
        ({"buckets": [{"prompts": ["a"]}], "mix": "stir"}, "'pool' or 'sum', got 'stir'"),
        ({"buckets": [{"prompts": ["FAIL"]}]}, "ran out of memory at prompt 3"),
        ({"buckets": [{"prompts": [" "]}]}, "prompts-1.jsonl"),
        ({"buckets": [{"prompts": ["a"]}] * 61}, "`buckets`: expected at most 60, got 61"),
        ({"buckets": [{"files": [], "prompts": ["a"]}, {"files": ["a"] * 60}]}, "in all, got 61"),
    ],
)
def test_a_caller_is_told_what_is_wrong(
    client: Client, arguments: dict[str, Any], told: str
) -> None:
    with pytest.raises(AppError, match=told):
        client.predict(**arguments, api_name="/make_adapter")


@pytest.mark.parametrize(
    ("buckets", "told"),
    [
        ([{"prompts": [1] * 100_000}], "`buckets.0.prompts.0`: Input should be a valid string"),
        ([{"files": [1] * 100_000}], "`buckets.0.files.0`: Input should be"),
        ([1] * 100_000, "`buckets.0`: Input should be a valid dictionary"),
        ([{"weight": 99}] * 100_000, "expected at most 60, got 100000"),
        ([dict.fromkeys(map(str, range(100_000)), 1)], "expected at most 20 keys"),
        ([{"k" * 100_000: 1}], "Extra inputs are not permitted"),
        ([{"prompts": "a" * 100_000}], "Input should be a valid list"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_answer_to_many_faults_is_short(endpoints: Endpoints, buckets: Any, told: str) -> None:
    """A report of 300,000 faults took 25 MB, and stayed when nobody fetched it."""
    tracemalloc.start()
    try:
        with pytest.raises(gr.Error) as caught:
            endpoints.make_adapter(gr.Request(), buckets)
        used = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert told in caught.value.message
    assert len(caught.value.message) < 1000
    assert used < 30e6


def test_questions_are_refused_as_on_the_page(client: Client) -> None:
    with pytest.raises(AppError, match="expected a question, got nothing"):
        client.predict(" ", api_name="/chat")
    with pytest.raises(AppError, match="at most 512 here, got 513"):
        client.predict("a", max_new_tokens=513, api_name="/chat")
    with pytest.raises(AppError, match="longer than the model can read"):
        client.predict("BREAK", api_name="/chat")
    with pytest.raises(AppError, match="Adapter id 'nothing': expected one that `make_adapter`"):
        client.predict("a", "nothing", api_name="/chat")


@pytest.mark.parametrize("marked", [True, False])
def test_only_uploads_are_read(url: str, tmp_path: Path, marked: bool) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the words of somebody else")
    upload: Any = {"path": str(secret)}
    if marked:
        upload["meta"] = {"_type": "gradio.FileData"}
    for file in (upload, str(secret), "http://localhost/secret.txt"):
        assert "words of somebody" not in refused(url, file)


def test_nothing_is_fetched_from_the_web(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    async def fetch(address: str) -> None:
        fetched.append(address)

    monkeypatch.setattr(processing_utils, "async_ssrf_protected_get", fetch)
    for path in ("https://example.com/a.txt", "HTTP://example.com/a.txt"):
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        assert "Files are not fetched from the web" in refused(url, file)
    assert not fetched


def refused(url: str, file: Any) -> str:
    """Return how an order with a file that may not be read is answered."""
    order = {"data": [[{"files": [file]}]]}
    path = f"{url}/gradio_api/call/make_adapter"
    event = httpx.post(path, json=order, timeout=120).json()["event_id"]
    answer = fetch(f"{path}/{event}").text
    assert "event: error" in answer
    return answer


def test_a_prompt_file_is_as_large_as_on_the_page_at_most(client: Client, tmp_path: Path) -> None:
    """Adapters may be larger, so the server takes more than the reader of prompts does."""
    large = tmp_path / "large.txt"
    large.write_bytes(b"a" * (PromptLimits().max_file_bytes + 1))
    with pytest.raises(AppError, match=r"large\.txt.* MB"):
        client.predict([{"files": [handle_file(str(large))]}], api_name="/make_adapter")


def test_a_session_keeps_a_bounded_number_and_files_go_with_adapters(
    handle: EngineHandle, files: SessionFiles, request_of: Requests, tmp_path: Path
) -> None:
    few = ServerLimits(adapters_per_session=3, adapters=4)
    calls, cache = EngineCalls(handle), tmp_path / "cache"
    endpoints = Endpoints(calls, PromptLimits(), files, cache, few)
    one, two, three = (request_of(name) for name in ("one", "two", "three"))
    keys = [make(endpoints, one, seed=seed)["adapter_id"] for seed in range(4)]
    assert [a["adapter_id"] for a in endpoints.list_adapters(one)] == keys[1:]
    endpoints.download(one, keys[1])  # so that another one was unused for longer
    for session in (two, three):
        make(endpoints, session)
    # Whoever has the most makes room, and nobody else loses what they made.
    assert [a["adapter_id"] for a in endpoints.list_adapters(one)] == [keys[3], keys[1]]
    make(endpoints, two, seed=1)
    assert [len(endpoints.list_adapters(s)) for s in (one, two, three)] in ([1, 2, 1], [2, 1, 1])
    assert len(list(cache.glob("*/*.zip"))) == 4


def test_the_memory_of_all_adapters_is_bounded_with_their_prompts(
    handle: EngineHandle, files: SessionFiles, request_of: Requests, tmp_path: Path
) -> None:
    calls, cache = EngineCalls(handle), tmp_path / "cache"
    few = ServerLimits(adapters_bytes=10_000_000)
    endpoints = Endpoints(calls, PromptLimits(max_total_memory_bytes=5_000_000), files, cache, few)
    mine, flood = request_of("mine"), request_of("flood")
    flood.kwargs["client"] = Address("203.0.113.7", 1)
    key = make(endpoints, mine)["adapter_id"]  # 2.4 MB of weights, as the others
    long = [f"Say it.\n\n{number} {'x' * 5_000}" for number in range(400)]
    for _ in range(4):
        spec = [{"prompts": long}]  # 2 MB
        last = endpoints.make_adapter(flood, spec)["adapter_id"]
    assert [a["adapter_id"] for a in endpoints.list_adapters(mine)] == [key]
    assert [a["adapter_id"] for a in endpoints.list_adapters(flood)] == [last]
    files_of = []
    for number in range(9):
        path = cache / f"{number}.txt"
        path.write_text("\n---\n".join(long))
        files_of.append({"path": str(path)})
    with pytest.raises(gr.Error, match=r"take 6\.\d MB of memory; the limit is 5 MB, and"):
        endpoints.make_adapter(flood, [{"files": files_of}])


def test_faults_are_said_in_the_language_of_the_caller(
    endpoints: Endpoints, request_of: Requests
) -> None:
    buckets = [{"name": "a" * 200, "prompts": ["one"]}, {"prompts": []}]
    with speaking("de"), pytest.raises(gr.Error) as caught:
        endpoints.make_adapter(request_of("a"), buckets)
    name, prompts = str(caught.value.message).split("\n")
    assert name.startswith("Name der Gruppe: erwartet werden 1 bis 60 Zeichen, gefunden: 200 (aaa")
    assert prompts.startswith("prompts-2.jsonl: erwartet wird mindestens ein Prompt")


def test_a_client_without_a_session_cannot_push_out_what_others_made(
    handle: EngineHandle, files: SessionFiles, request_of: Requests, tmp_path: Path
) -> None:
    endpoints = Endpoints(
        EngineCalls(handle), PromptLimits(), files, tmp_path / "cache", ServerLimits(adapters=4)
    )
    mine = request_of("mine")
    keys = [make(endpoints, mine, seed=seed)["adapter_id"] for seed in range(2)]
    for number in range(6):
        flood = request_of(f"flood-{number}")
        flood.kwargs["client"] = Address("203.0.113.7", 1)
        make(endpoints, flood)
    assert [a["adapter_id"] for a in endpoints.list_adapters(mine)] == keys


def test_an_id_is_forgotten_when_it_was_not_used_for_an_hour(
    endpoints: Endpoints, request_of: Requests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = request_of("one")
    key = make(endpoints, one)["adapter_id"]
    now = time.monotonic()
    for hours in (0.9, 1.8):  # a use counts
        monkeypatch.setattr(time, "monotonic", lambda hours=hours: now + hours * 3600)
        assert endpoints.list_adapters(one, [key])
    monkeypatch.setattr(time, "monotonic", lambda: now + 2.9 * 3600)
    with pytest.raises(gr.Error, match="after 60 minutes unused"):
        endpoints.list_adapters(one, [key])
    assert not list((tmp_path / "cache").glob("*/*.zip"))


def test_an_adapter_that_cannot_be_verified_gets_no_id_and_no_folder(
    endpoints: Endpoints, request_of: Requests, tmp_path: Path
) -> None:
    one = request_of("one")
    with pytest.raises(gr.Error, match="Verify failed"):
        make(endpoints, one, strength=2.0)
    assert endpoints.list_adapters(one) == []
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("strength", float("nan")), ("strength", 10.5), ("seed", -1), ("seed", 2**31)],
)
def test_a_number_out_of_bounds_is_refused_before_the_work(
    endpoints: Endpoints, request_of: Requests, engine: FakeEngine, name: str, value: float
) -> None:
    with pytest.raises(gr.Error, match=f"`{name}` must be between"):
        make(endpoints, request_of("one"), **{name: value})
    assert not engine.calls


def test_a_call_without_a_session_must_name_ids(endpoints: Endpoints, request_of: Requests) -> None:
    nobody = request_of("")
    key = make(endpoints, nobody)["adapter_id"]
    with pytest.raises(gr.Error, match="no session of its own, got none"):
        endpoints.list_adapters(nobody)
    assert len(endpoints.list_adapters(nobody, [key])) == 1
