"""What stays on the server's disk of an upload."""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from gradio.routes import file_upload_statuses as progress
from gradio.utils import get_upload_folder

from tests.serving import serving
from tests.ui.fake_engine import handle_of
from tests.until import until

UPLOAD = "/gradio_api/upload"
KIND = "multipart/form-data; boundary=b"
END = b"--b--\r\n"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(handle_of()) as address:
        yield address


def part(field: str, file: str, contents: bytes) -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="{field}"; filename="{file}"\r\n\r\n'
    return head.encode() + contents + b"\r\n"


def stored(contents: bytes) -> set[Path]:
    """Files in Gradio's cache that begin with these bytes."""
    found = set()
    # `os.walk` passes over folders that are deleted while they are listed; `rglob` fails.
    for folder, _, names in os.walk(get_upload_folder()):
        for path in (Path(folder) / name for name in names):
            with suppress(FileNotFoundError):
                if path.read_bytes().startswith(contents):
                    found.add(path)
    return found


WHOLE = part("files", "a.txt", b"left")
NO_FILE = b'--b\r\nContent-Disposition: form-data; name="files"\r\n\r\nleft\r\n'


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(part("other", "a.txt", b"left") + END, id="another field"),
        pytest.param(WHOLE, id="no end mark"),
        pytest.param(WHOLE + b"--b\r\nX: y\r\n\r\n" + END, id="a part without a name"),
        pytest.param(WHOLE + NO_FILE + END, id="a field that is no file"),
        pytest.param(WHOLE + part("files", "..", b"left") + END, id="a file of a name of dots"),
    ],
)
def test_nothing_stays_of_an_upload_that_brought_no_whole_files(
    client: httpx.Client, body: bytes
) -> None:
    answer = client.post(UPLOAD, content=body, headers={"content-type": KIND})
    assert answer.status_code == 400 or answer.json() == [], answer.text
    assert not stored(b"left")


def test_nothing_stays_of_an_upload_whose_client_left_and_that_is_no_fault(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ui.server.gate._FORGET_SECONDS", 0)
    address = urlsplit(url)
    head = (
        f"POST {UPLOAD}?upload_id=left HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Content-Type: {KIND}\r\nContent-Length: 200000\r\n\r\n"
    )
    with socket.create_connection((str(address.hostname), int(address.port or 0))) as leaving:
        leaving.sendall(head.encode() + part("files", "a.txt", b"left" * 25_000))
        until(lambda: bool(stored(b"left")))
    until(lambda: not stored(b"left"))
    until(lambda: "left" not in progress._statuses)  # the gate has answered
    assert "fault" not in caplog.text


def test_whole_files_stay_where_gradio_looks_for_them(client: httpx.Client) -> None:
    files = [("files", (name, b"whole")) for name in ("a.txt", "b.txt", "a.txt")]
    places = [Path(place) for place in client.post(UPLOAD, files=files).json()]
    assert [place.name for place in places] == ["a.txt", "b.txt", "a.txt"]
    assert {place.parent.parent for place in places} == {Path(get_upload_folder())}
    assert stored(b"whole") == {*places}
