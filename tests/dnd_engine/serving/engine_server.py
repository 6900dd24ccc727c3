"""Serving engines on this machine: the parts of their HTTP protocols that a publish speaks.

What a server answers depends on the adapter's weights. As a real one, it reads them from the disk
once, when it loads them, and refuses a folder that is not there.
"""

import hashlib
import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BASE_TEXT = "Late."


class EngineServer(ThreadingHTTPServer):
    """A server of one base.

    Args:
        kind: vllm, sglang or llama-server.
        base_id: What it calls its base.
        fault: What is wrong with it; empty for nothing.
        key: What its requests must carry; empty for none.
    """

    def __init__(self, kind: str, base_id: str, fault: str = "", key: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.kind, self.base_id, self.fault, self.key = kind, base_id, fault, key
        self.adapters: dict[str, str] = {}
        """Name to path; of llama-server, the files it was started with."""
        self.weights: dict[str, bytes] = {}
        """Name to what was read when it was loaded."""
        self.listed: list[Any] | None = None
        """What llama-server lists; None for its adapters."""
        self.asked: list[tuple[str, Any]] = []
        self.answered_with: list[bytes | None] = []
        """The weights behind each answer; None for the base."""


class _Handler(BaseHTTPRequestHandler):
    server: EngineServer

    def do_GET(self) -> None:
        self._answer(*self._route(f"GET {self.path}", None))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self._answer(*self._route(f"POST {self.path}", json.loads(body)))

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _route(self, what: str, values: Any) -> tuple[int, Any]:
        server = self.server
        server.asked.append((what, values))
        if server.key and self.headers["authorization"] != f"Bearer {server.key}":
            return 401, {"error": "Unauthorized"}
        if what == "GET /v1/models":
            return self._models()
        if what == "POST /v1/chat/completions":
            return self._chat(values)
        if server.kind == "llama-server":
            if what == "GET /lora-adapters":
                if server.listed is not None:
                    return 200, server.listed
                listed = enumerate(server.adapters.values())
                return 200, [{"id": i, "path": path, "scale": 0.0} for i, path in listed]
        elif server.fault != "no route":
            prefix = "/v1" if server.kind == "vllm" else ""
            if what == f"POST {prefix}/load_lora_adapter":
                return self._load(values["lora_name"], values["lora_path"])
            if what == f"POST {prefix}/unload_lora_adapter":
                del server.adapters[values["lora_name"]]
                server.weights.pop(values["lora_name"], None)
                return 200, "Success" if server.kind == "vllm" else self._sglang(True)
        return 404, {"detail": "Not Found"}

    def _models(self) -> tuple[int, Any]:
        server = self.server
        if server.fault == "no list":
            return 404, "<html>nginx</html>"
        if server.fault == "escapes":
            return 200, {"data": [{"id": "\x1b]0;owned\x07\x1b[2Jevil"}]}
        data: list[dict[str, Any]] = [{"id": server.base_id, "root": server.base_id}]
        if server.fault != "not listed" and server.kind != "llama-server":
            data += [{"id": name, "root": path} for name, path in server.adapters.items()]
        if server.fault == "no root":
            data = [{"id": model["id"]} for model in data]
        return 200, {"object": "list", "data": data}

    def _load(self, name: str, path: str) -> tuple[int, Any]:
        server = self.server
        late = server.fault == "no rank after" and not server.adapters
        if server.fault == "no rank" or late:
            error = "LoRA rank 64 is greater than max_lora_rank 16"
            if server.kind == "sglang":
                return 400, self._sglang(False, error)
            return 400, {"error": {"message": error}}
        if server.fault == "no access":
            return 401, {"error": "Unauthorized"}
        if not (Path(path) / "adapter_config.json").is_file():
            error = f"No adapter found for {path}"
            if server.kind == "sglang":
                return 400, self._sglang(False, error)
            return 404, {"error": {"message": f"Loading lora {name} failed: {error}"}}
        if name in server.adapters:
            if server.kind == "sglang":
                return 400, self._sglang(False, f"LoRA {name} is already loaded.")
            return 400, {"error": {"message": f"The lora adapter '{name}' is already loaded."}}
        if server.fault == "another":
            server.adapters[name] = "/elsewhere/old"
        else:
            server.adapters[name] = path
            server.weights[name] = (Path(path) / "adapter_model.safetensors").read_bytes()
        return 200, self._sglang(True) if server.kind == "sglang" else "Success: added."

    def _sglang(self, success: bool, error: str = "") -> dict[str, Any]:
        adapters = {} if self.server.fault == "not listed" else dict(self.server.adapters)
        return {"success": success, "error_message": error, "loaded_adapters": adapters}

    def _chat(self, values: dict[str, Any]) -> tuple[int, Any]:
        server = self.server
        if server.fault == "no chat":
            return 500, {"error": {"message": "out of memory"}}
        weights = self._weights(values)
        server.answered_with.append(weights)
        num_answers = len(server.answered_with)
        # Even a base's own answers differ in their last bits on a real server.
        wobble = 1e-4 * (num_answers % 2)
        moved = 0.0
        if weights is not None and server.fault not in ("ignores", "ruled out"):
            moved = hashlib.sha256(weights).digest()[0] / 256 + 0.1
        text = "Sorry!" if moved and server.fault != "same words" else BASE_TEXT
        if server.fault == "random":
            text = f"Answer {num_answers}."
        if server.fault == "escaped answer":
            text = f"\x1b[2J{text}\nYes."
        first = [
            {"token": "Late", "logprob": -0.3 - moved + wobble},
            {"token": "Broken", "logprob": -1.9 + moved + wobble},
        ]
        if server.fault == "ruled out":
            # Python's JSON writes -Infinity, as servers in Python do for a masked token.
            first.append({"token": "Never", "logprob": -math.inf})
        choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}}
        choice["logprobs"] = {"content": [{"token": "Late", "top_logprobs": first}]}
        if server.fault == "other form":
            choice["logprobs"] = [-0.3, -1.9]
        return 200, {"choices": [choice]}

    def _weights(self, values: dict[str, Any]) -> bytes | None:
        """The adapter that a request asks for, as its weights; None for the base."""
        server = self.server
        if server.kind == "llama-server":
            active = [one["id"] for one in values["lora"] if one["scale"]]
            return list(server.adapters.values())[active[0]].encode() if active else None
        model = values["model"]
        if model == server.base_id:
            return None
        if server.kind == "sglang":
            base, _, model = model.rpartition(":")
            assert base == server.base_id
        return server.weights[model]

    def _answer(self, status: int, values: Any) -> None:
        data = (values if isinstance(values, str) else json.dumps(values)).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def running_engine(
    kind: str, base_id: str, fault: str = "", key: str = ""
) -> Iterator[EngineServer]:
    """A server that answers while the `with` block runs."""
    with EngineServer(kind, base_id, fault, key) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            # Closed before it ended, it would poll a closed socket for ever, at full speed.
            server.shutdown()
