"""A small model hub on this machine: the part of the Hub's HTTP protocol that an upload speaks."""

import base64
import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_writesHere"
READ_TOKEN = "hf_readsOnly"


class Hub(ThreadingHTTPServer):
    """Repositories by name, with what was committed to them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.private: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.kinds: defaultdict[str, str] = defaultdict(lambda: "models")
        self.blobs: dict[str, bytes] = {}
        """Large files, by SHA-256, before a commit names them."""
        self.asked: list[str] = []
        """Method and path of every request."""
        self.sent = b""
        """Every byte of every request's body."""


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _serve(self, method: str) -> None:
        hub, body = self.server, self._body()
        hub.asked.append(f"{method} {self.path}")
        hub.sent += body
        if method == "PUT":
            # Storage has signed addresses, and sees no token.
            name = self.path.removeprefix("/storage/")
            assert hashlib.sha256(body).hexdigest() == name
            hub.blobs[name] = body
            self._answer(200, {})
            return
        token = self.headers["authorization"]
        if token == f"Bearer {READ_TOKEN}":
            self._answer(403, {"error": "You don't have the rights to create a model"})
        elif token != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
        else:
            self._answer(*self._route(method, body))

    def _route(self, method: str, body: bytes) -> tuple[int, dict[str, Any]]:
        hub, path = self.server, self.path
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            known = name in hub.private
            if not known:
                hub.private[name] = asked["visibility"] == "private"
                hub.files[name] = {}
                hub.kinds[name] = f"{asked.get('type', 'model')}s"
                hub.asked.append(f"sdk {asked.get('sdk')}")
            folder = "spaces/" if hub.kinds[name] == "spaces" else ""
            return (409 if known else 200), {"url": f"{hub.url}/{folder}{name}"}
        if path == "/api/validate-yaml":
            asked = json.loads(body)
            needed = "sdk: " if asked["repoType"] == "space" else "base_model: "
            if asked["content"].startswith("---\n") and needed in asked["content"]:
                return 200, {"warnings": [], "errors": []}
            return 400, {"errors": [{"message": "no metadata"}]}
        if path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**wanted, "actions": {"upload": {"href": f"{hub.url}/storage/{wanted['oid']}"}}}
                for wanted in json.loads(body)["objects"]
            ]
            return 200, {"transfer": "basic", "objects": objects}
        return self._in_repository(method, body)

    def _in_repository(self, method: str, body: bytes) -> tuple[int, dict[str, Any]]:
        hub, path = self.server, self.path
        name = "/".join(path.split("/")[3:5])
        if name not in hub.private:
            return 404, {"error": "Repository not found"}
        kind = path.split("/")[2]
        if kind != hub.kinds[name]:
            return 404, {"error": f"{name} is not one of the {kind}"}
        if method == "GET" and path == f"/api/{kind}/{name}":
            return 200, {"id": name, "private": hub.private[name], "tags": [], "siblings": []}
        if path == f"/api/{kind}/{name}/preupload/main":
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            return 200, {"files": modes}
        if path == f"/api/{kind}/{name}/commit/main":
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    hub.files[name][value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    hub.files[name][value["path"]] = hub.blobs[value["oid"]]
            return 200, {"commitUrl": f"{hub.url}/{name}/commit/{'0' * 40}", "commitOid": "0" * 40}
        return 500, {"error": f"the test's hub does not know {method} {path}"}

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def _answer(self, status: int, values: dict[str, Any]) -> None:
        data = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that answers while the `with` block runs."""
    with Hub() as hub:
        # It looks this often whether it is to end: half a second at each test otherwise.
        threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield hub
        finally:
            # Closed before it ended, it would poll a closed socket for ever, at full speed.
            hub.shutdown()
