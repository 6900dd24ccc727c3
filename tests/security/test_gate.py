"""Who may do what over HTTP: the owner's key, other sites, headers, sizes and rates."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from gradio.routes import file_upload_statuses as progress
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from dnd_engine.library import Library
from dnd_engine.limits import FIXED
from tests.security.conftest import SMALL
from tests.serving import fetch, free_port, serving
from tests.ui.fake_engine import handle_of
from tests.until import until
from ui.owner import Owner
from ui.server.bodies import MIN_CHARGED, ChargedFiles
from ui.server.refusals import Refusal, not_served
from ui.server.shares import Share, SlidingShare
from ui.server.visitors import sender_of

EVIL = "https://evil.example"
UPLOAD = "/gradio_api/upload"
WRITING = [
    UPLOAD,
    "/gradio_api/queue/join",
    "/gradio_api/call/chat",
    "/gradio_api/call/v2/chat",
    "/gradio_api/run/predict",
    "/gradio_api/cancel",
    "/gradio_api/reset",
    "/login",
]


def file_of(size: int) -> dict[str, tuple[str, bytes]]:
    return {"files": ("a.txt", b"x" * size)}


# ------------------------------------------------------------------------------ the owner's key


def test_the_printed_address_sets_a_cookie_and_leaves_the_address_bar(
    url: str, owner: Owner
) -> None:
    answer = fetch(f"{owner.address(url)}&lang=de")
    assert answer.status_code == 303
    assert answer.headers["location"] == "./?lang=de"
    assert answer.headers["cache-control"] == "no-store"
    cookie = SimpleCookie(answer.headers["set-cookie"])[f"dnd-owner-{urlsplit(url).port}"]
    assert cookie["httponly"] is True
    assert cookie["samesite"] == "Strict"
    assert cookie["expires"] == cookie["max-age"] == "", "it ends with the browser"
    assert owner.owns({"host": urlsplit(url).netloc, "cookie": f"{cookie.key}={cookie.value}"})


@pytest.mark.parametrize(
    "other", ['prefs={"theme":"dark"}', "name=Jane Doe", "flag", 'u="', "x=\u00fc"]
)
def test_cookies_of_other_apps_on_this_host_do_not_lock_the_owner_out(
    owner: Owner, other: str
) -> None:
    """Browsers send them whatever the port, the oldest first."""
    mine = f"dnd-owner-7860={owner.key}"
    assert owner.owns({"host": "localhost:7860", "cookie": f"{other}; {mine}"})
    assert not owner.owns({"host": "localhost:7860", "cookie": f"{other}; {mine}x"})


def test_another_key_sets_no_cookie(client: httpx.Client) -> None:
    answer = client.get("/", params={"token": "guess"})
    assert answer.status_code == 303
    assert "set-cookie" not in answer.headers


def test_each_start_has_a_key_of_its_own(tmp_path: Path) -> None:
    one, two = (Owner(Library(tmp_path)) for _ in range(2))
    assert one.key != two.key
    assert len(one.key) >= 32
    assert one.key not in repr(one)


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=20))
def test_the_redirect_never_leads_to_another_site(query: str, lang: str, key: str) -> None:
    owner = Owner(Library(Path("unused")), "key")
    for value in (f"token={key}&{query}", f"{query}&token=key&lang={lang}", f"token=key;{query}"):
        taken = owner.admit({"host": "127.0.0.1:7860"}, value)
        if taken is not None:
            place = urlsplit(urljoin("http://127.0.0.1:7860/", taken[0]))
            assert (place.scheme, place.netloc, place.path) == ("http", "127.0.0.1:7860", "/")
            assert "\n" not in taken[0]


@pytest.mark.parametrize("path", ["////evil.example/..", "//evil.example", "/%2f%2fevil.example"])
def test_no_path_redirects_to_another_site(client: httpx.Client, owner: Owner, path: str) -> None:
    for query in ("", f"?token={owner.key}"):
        answer = fetch(f"{client.base_url}".rstrip("/") + path + query)
        place = urljoin(str(client.base_url), answer.headers.get("location", ""))
        assert urlsplit(place).hostname == "127.0.0.1"


# ------------------------------------------------------------------------------ ways round


def test_every_call_goes_through_the_queue(client: httpx.Client) -> None:
    """The others would pass by its lanes and its limits."""
    for route in ("run", "api"):
        answer = client.post(f"/gradio_api/{route}/chat", json={"data": ["Hello"]})
        assert answer.status_code in (401, 404), answer.text
        assert "queue" in answer.text


def test_names_that_clients_choose_are_short(client: httpx.Client) -> None:
    """Gradio keeps thousands of them."""
    long = "a" * 101
    call = {"data": [], "fn_index": 0, "session_hash": long}
    answers = [
        client.post("/gradio_api/queue/join", json=call),
        client.get("/gradio_api/queue/data", params={"session_hash": long}),
        client.get(f"/gradio_api/heartbeat/{long}"),
        client.post(UPLOAD, params={"upload_id": long}, files=file_of(10)),
        client.get(f"{UPLOAD}_progress", params={"upload_id": long}),
    ]
    for answer in answers:
        assert answer.status_code == 400
        assert "expected 1 to 100 characters" in answer.json()["detail"]


@pytest.mark.slow
def test_the_progress_of_an_upload_is_forgotten(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ui.server.gate._FORGET_SECONDS", 0.05)
    client.post(UPLOAD, params={"upload_id": "mine"}, files=file_of(10))
    client.get(f"{UPLOAD}_progress", params={"upload_id": "nobodys"})
    until(lambda: not {"mine", "nobodys"} & {*progress._statuses, *progress._signals})


def test_who_has_a_network_has_one_share() -> None:
    def visitor_at(address: str) -> str:
        return sender_of(Request({"type": "http", "headers": [], "client": (address, 0)}))

    one, two = (visitor_at(f"2001:db8:1:2::{n}") for n in (1, 2))
    assert one == two != visitor_at("2001:db8:1:3::1")
    assert visitor_at("203.0.113.7") == "203.0.113.7"
    assert visitor_at("testclient") == "testclient"


def guesses(client: httpx.Client, forwarded: list[str]) -> list[int]:
    """Return the statuses of guessed logins, each with its own X-Forwarded-For."""
    return [
        client.post(
            "/login",
            data={"username": "user", "password": f"guess-{number}"},
            headers={"x-forwarded-for": addresses},
        ).status_code
        for number, addresses in enumerate(forwarded)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("header", ["203.0.113.{}", "127.0.0.1, 203.0.113.{}"])
def test_nobody_names_their_own_address_where_no_proxy_is_said_to_be(
    monkeypatch: pytest.MonkeyPatch, header: str
) -> None:
    for name in ("FORWARDED_ALLOW_IPS", "GRADIO_ROOT_PATH"):
        monkeypatch.delenv(name, raising=False)
    with (
        serving(handle_of(), server=SMALL, auth=("user", "long-password")) as address,
        httpx.Client(base_url=address, timeout=120) as client,
    ):
        assert guesses(client, [header.format(n) for n in range(4)]) == [400, 400, 400, 429]


@pytest.mark.slow
@pytest.mark.parametrize("said", ["GRADIO_ROOT_PATH", "FORWARDED_ALLOW_IPS"])
def test_of_a_proxy_s_header_the_entry_that_it_added_counts(
    monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """The others are the client's own words, which nginx and tunnels pass on."""
    values = {"GRADIO_ROOT_PATH": "https://demo.example", "FORWARDED_ALLOW_IPS": "127.0.0.0/8"}
    for name in values:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(said, values[said])
    with (
        serving(handle_of(), server=SMALL, auth=("user", "long-password")) as address,
        httpx.Client(base_url=address, timeout=120) as client,
    ):
        one = [f"198.51.100.{n}, 203.0.113.1" for n in range(4)]
        assert guesses(client, one) == [400, 400, 400, 429]
        assert guesses(client, ["203.0.113.1, 203.0.113.2"]) == [400]


@pytest.mark.slow
@pytest.mark.parametrize("said", ["", "127.0.0.1"])
def test_a_page_behind_tls_names_itself_so_whoever_is_trusted(
    monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.delenv("GRADIO_ROOT_PATH", raising=False)
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", said)
    forwarded = {
        "host": "demo.example",
        "x-forwarded-proto": "https",
        "x-forwarded-for": "203.0.113.1",
    }
    with serving(handle_of()) as address:
        answer = fetch(f"{address}/config", forwarded)
    assert answer.json()["root"] == "https://demo.example"


# ------------------------------------------------------------------------------ other sites


@pytest.mark.parametrize("path", WRITING)
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": EVIL},
        {"origin": "null"},
        {"origin": "http://["},
        {"origin": "http://localhost:1"},
        {"origin": "http://127.0.0.1:1", "sec-fetch-site": "same-site"},
        {"origin": EVIL, "sec-fetch-site": "cross-site"},
    ],
    ids=str,
)
def test_no_other_site_may_write(client: httpx.Client, path: str, headers: dict[str, str]) -> None:
    for answer in (
        client.post(path, headers=headers, json={"data": []}),
        client.post(path, headers=headers, files=file_of(10)),
        client.post(path, headers=headers, content=b"{}"),
    ):
        assert answer.status_code == 403
        assert "Another site sent this" in answer.json()["detail"]


def test_the_page_itself_and_programs_may_write(client: httpx.Client, url: str) -> None:
    page = {"origin": url, "sec-fetch-site": "same-origin"}
    for headers in (page, {"origin": url}, {}):
        answer = client.post(UPLOAD, files=file_of(10), headers=headers)
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("origin", [EVIL, "http://localhost:1", "http://127.0.0.1:1", "null"])
def test_no_other_site_may_read_an_answer(client: httpx.Client, origin: str) -> None:
    asked = {"origin": origin, "access-control-request-method": "POST"}
    for answer in (
        client.options("/gradio_api/queue/join", headers=asked),
        client.get("/config", headers={"origin": origin}),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]


# ------------------------------------------------------------------------------ headers, routes


@pytest.mark.parametrize(
    "path", ["/", "/config", "/theme.css", "/nothing", "/gradio_api/info", "/openapi.json"]
)
def test_every_answer_has_the_headers(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["x-frame-options"] == "SAMEORIGIN"
    policy = headers["content-security-policy"]
    assert "frame-ancestors 'self';" in f"{policy};"
    assert "connect-src 'self';" in policy
    assert "object-src 'none'" in policy
    assert "http" not in policy


@pytest.mark.slow
def test_the_hub_alone_may_show_a_space_in_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "user/space")
    with serving(handle_of()) as address:
        headers = fetch(f"{address}/config").headers
    assert "frame-ancestors 'self' https://huggingface.co" in headers["content-security-policy"]
    assert "x-frame-options" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/openapi.json",
        "/gradio_api/openapi.json",
        "/gradio_api/deep_link?session_hash=a",
        "/gradio_api/proxy=https://evil.example/",
        "/gradio_api/run-history/buckets",
        "/gradio_api/component_server",
        "/gradio_api/stream/a/1/2/playlist.m3u8",
        "/monitoring",
        "/docs",
        "/redoc",
    ],
)
def test_what_the_page_does_not_use_is_closed(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "file=http://169.254.169.254/latest/meta-data",
        "file=http://127.0.0.1:1/",
        "file=https://evil.example/a",
        "file=/etc/passwd",
        "file=../../../../etc/passwd",
        "file=C:/windows/win.ini",
        "file=/windows/win.ini",
        "file=\\\\evil.example\\share",
        "file/etc/passwd",
        "file=%2e%2e/%2e%2e/etc/passwd",
    ],
)
def test_gradios_own_advisories_stay_mended(client: httpx.Client, path: str) -> None:
    answer = client.get(f"/gradio_api/{path}")
    assert answer.status_code in (403, 404)
    assert "location" not in answer.headers


def test_a_token_of_the_hub_is_in_no_answer(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret_of_this_computer")
    for path in ("/", "/config", "/gradio_api/info", "/gradio_api/token", "/gradio_api/user"):
        assert "hf_secret" not in client.get(path).text


@pytest.mark.parametrize(
    "path",
    [
        f"static/{'a' * 300}",
        "static/%00",
        "gradio_api/heartbeat/x%00",
        "gradio_api/call/chat/x%0a",
        "gradio_api/file=%00",
    ],
)
def test_a_path_that_names_nothing_is_no_fault(
    client: httpx.Client, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    answer = client.get(f"/{path}")
    assert answer.status_code == 404
    assert "does not serve that" in answer.json()["detail"]
    assert "fault" not in caplog.text


# ------------------------------------------------------------------------------ sizes and rates


def test_an_upload_without_a_name_is_no_crash(
    client: httpx.Client, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = client.post(UPLOAD, files={"files": ("", b"x")})
    assert answer.status_code == 400
    assert "each with a file name" in answer.json()["detail"]
    printed = "".join(capfd.readouterr())
    assert "Traceback" not in printed
    assert client.post(UPLOAD, files=file_of(1)).status_code == 200


def test_an_upload_with_a_long_boundary_is_no_fault(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    kind = {"content-type": f"multipart/form-data; boundary={'a' * 3000}"}
    answer = client.post(UPLOAD, content=b"x", headers=kind)
    assert answer.status_code == 400
    assert "expected files in fields" in answer.json()["detail"]
    assert "fault" not in caplog.text


def test_a_request_has_a_largest_size_stated_or_not(client: httpx.Client) -> None:
    many = b'"' + b"x" * (SMALL.request_bytes + 1) + b'"'
    assert client.post("/gradio_api/queue/join", content=many).status_code == 413

    def chunks() -> Iterator[bytes]:
        yield from (many[start : start + 50_000] for start in range(0, len(many), 50_000))

    answer = client.post("/gradio_api/queue/join", content=chunks())
    assert answer.status_code == 413
    assert client.get("/config").status_code == 200
    assert client.post(UPLOAD, files=file_of(SMALL.upload_bytes + 200_000)).status_code == 413
    assert client.post(UPLOAD, content=chunks()).status_code == 411


def test_a_body_of_brackets_is_refused_before_it_is_read(client: httpx.Client) -> None:
    for part, most in ((b"[],", 60_000), (b"0,", 90_000)):
        with pytest.MonkeyPatch.context() as patch:
            few = replace(FIXED, max_json_brackets=50_000, max_json_commas=80_000)
            patch.setattr("ui.server.bodies.FIXED", few)
            body = b'{"data": [' + part * most + b"0]}"
            answer = client.post("/gradio_api/queue/join", content=body)
        assert answer.status_code == 413
        assert "opening brackets" in answer.json()["detail"]


def test_a_body_of_another_shape_is_told_so_and_not_sent_back(client: httpx.Client) -> None:
    for body in (b'{"data": NaN, "event": "' + b"x" * 9000 + b'"}', b"1e999999"):
        answer = client.post("/gradio_api/queue/join", content=body)
        assert answer.status_code == 422
        assert "another shape than expected" in answer.json()["detail"]
        assert len(answer.text) < 500


def test_an_oversized_multipart_header_is_refused_and_the_app_lives(client: httpx.Client) -> None:
    name = "x" * 60_000
    body = f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n1\r\n--b--\r\n'
    kind = {"content-type": "multipart/form-data; boundary=b"}
    assert client.post(UPLOAD, content=body, headers=kind).status_code in (400, 413)
    assert client.get("/config").status_code == 200


def test_one_address_may_upload_so_much_and_others_still_may() -> None:
    now = [0.0]
    share = Share(most_each=100, most=150)
    uploads = SlidingShare(share, 60, clock=lambda: now[0])
    assert uploads.take("a", 60)
    assert not uploads.take("a", 60)
    assert uploads.take("b", 60)
    assert not uploads.take("c", 60), "the server is full"
    now[0] = 61
    assert uploads.take("c", 60)
    assert not share.amounts.keys() - {"c"}, "what counts no longer is forgotten"


@pytest.mark.slow
def test_a_flood_of_uploads_is_told_when_to_go_on(owner: Owner) -> None:
    with (
        serving(handle_of(), server=SMALL) as address,
        httpx.Client(base_url=address, timeout=120) as client,
    ):
        answers = [client.post(UPLOAD, files=file_of(290_000)) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        small = file_of(1)["files"]
        answers += [client.post(UPLOAD, files=[("files", small)] * count) for count in (1, 20)]
        assert [answer.status_code for answer in answers[4:]] == [200, 429], "each file counts"
        for refused in (answers[3], answers[5]):
            assert "Wait 20 minutes" in refused.json()["detail"]


def test_each_file_of_an_upload_counts_however_it_is_cut() -> None:
    charged: list[int] = []

    def charge(owed: int) -> Refusal | None:
        charged.append(owed)
        return None if len(charged) < 3 else not_served()

    files = ChargedFiles("multipart/form-data; boundary=b", charge, MIN_CHARGED)
    part = b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n"
    refused = [files.take(bytes([byte])) for byte in part * 3 + b"--b"]
    assert charged == [MIN_CHARGED] * 2
    assert not any(refused)
    assert files.take(b"\r\n\r\n--b")


@pytest.mark.slow
def test_a_login_is_asked_for_and_cannot_be_guessed_fast() -> None:
    handle = handle_of()
    with (
        serving(handle, server=SMALL, auth=("user", "long-password")) as address,
        httpx.Client(base_url=address, timeout=120) as client,
    ):
        assert client.get("/config").status_code == 401
        assert client.post(UPLOAD, files=file_of(10)).status_code == 401
        tries = [
            client.post("/login", data={"username": "user", "password": f"guess-{n}"})
            for n in range(4)
        ]
        assert [answer.status_code for answer in tries] == [400, 400, 400, 429]


# ------------------------------------------------------------------------------ the command


@pytest.mark.slow
def test_the_app_prints_the_address_with_the_key_and_others_print_no_key() -> None:
    for host, expected in (
        ("127.0.0.1", r"Serving http://127\.0\.0\.1:\d+/\?token=[\w-]{32}\n"),
        ("0.0.0.0", r"Everyone who can reach this address"),
    ):
        environment = {**os.environ, "GRADIO_SERVER_PORT": str(free_port())}
        command = ["-m", "dnd_engine.cli", "serve", "--base", "nowhere", "--host", host]
        app = subprocess.Popen(
            [sys.executable, "-u", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        told = ""
        try:
            assert app.stdout is not None
            while not re.search(expected, told):
                line = app.stdout.readline()
                assert line, told
                told += line
            assert ("token=" in told) is (host == "127.0.0.1")
        finally:
            app.terminate()
            app.wait(timeout=300)
