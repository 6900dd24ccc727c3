"""A server of the OpenAI protocol on this machine, which answers as a test scripts it."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Script = Callable[["Handler", dict[str, Any]], None]


class ChatServer(ThreadingHTTPServer):
    """Answers each question with the model's name and the question, word by word."""

    daemon_threads = True

    def __init__(self, script: Script | None = None, prefix: str = "/v1") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self.server_port}"
        self.url = self.root + prefix
        self.script, self.prefix = script, prefix
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.models = ["small", "tuned"]
        self.adapters: list[dict[str, Any]] | None = None
        """Those of a llama-server; None for another server."""
        self.listed: list[str] = []
        """Paths of GET requests."""


class Handler(BaseHTTPRequestHandler):
    """Speaks `/models` and `/chat/completions`."""

    server: ChatServer

    def do_GET(self) -> None:
        """List the models, or the adapters of a llama-server."""
        self.server.listed.append(self.path)
        if self.path == "/lora-adapters" and self.server.adapters is not None:
            return self.say(200, self.server.adapters)
        found = self.path == f"{self.server.prefix}/models"
        data = [{"id": model} for model in self.server.models]
        return self.say(200 if found else 404, {"data": data})

    def do_POST(self) -> None:
        """Answer."""
        values = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(values)
        self.server.keys.append(self.headers["authorization"])
        if self.path != f"{self.server.prefix}/chat/completions":
            self.say(404, {"detail": "Not Found"})
        elif self.server.script is not None:
            self.server.script(self, values)
        else:
            self.answer(values, f"{values['model']} says {values['messages'][-1]['content']}")

    def answer(self, values: dict[str, Any], text: str, reason: str = "stop") -> None:
        """Say `text`, as a stream if one is asked for."""
        if not values.get("stream"):
            message = {"role": "assistant", "content": text}
            return self.say(200, {"choices": [{"message": message, "finish_reason": reason}]})
        self.begin(200, "text/event-stream; charset=utf-8")
        words = [{"role": "assistant"}, *({"content": word} for word in text.split(" "))]
        for number, delta in enumerate(words):
            if number > 1:
                delta["content"] = f" {delta['content']}"
            self.event({"choices": [{"delta": delta}]})
        self.event({"choices": [{"delta": {}, "finish_reason": reason}]})
        self.event({"choices": [], "usage": {"total_tokens": 3}})
        self.write(b"data: [DONE]\r\n\r\n")
        return None

    def event(self, values: Any) -> None:
        """Send one event of a stream."""
        self.write(f"data: {json.dumps(values)}\r\n\r\n".encode())

    def say(self, status: int, values: Any, **headers: str) -> None:
        """Send a whole answer."""
        self.begin(status, "application/json", **headers)
        self.write(json.dumps(values).encode())

    def begin(self, status: int, kind: str, **headers: str) -> None:
        """Send the head; the end of the connection is the end of the answer."""
        self.send_response(status)
        self.send_header("content-type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def write(self, data: bytes) -> None:
        """Send a part at once."""
        self.wfile.write(data)
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def running_chat(script: Script | None = None, prefix: str = "/v1") -> Iterator[ChatServer]:
    """A server that answers while the `with` block runs."""
    with ChatServer(script, prefix) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            # Closed before it ended, it would poll a closed socket for ever, at full speed.
            server.shutdown()
