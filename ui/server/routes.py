"""Gradio's routes, as far as the server tells them apart."""

from starlette.requests import Request

# Without OPTIONS, so that preflights of other sites are refused.
READING = frozenset({"GET", "HEAD"})
API = "/gradio_api"
HEARTBEAT = f"{API}/heartbeat/"
UPLOAD = f"{API}/upload"
MCP = f"{API}/mcp"

SCHEMAS = ("/openapi.json", f"{API}/openapi.json")
"""Prefixes of what `--schema` opens."""
CLOSED = (
    # Stores the state of a page on the server.
    f"{API}/deep_link",
    # Fetches addresses for the caller.
    f"{API}/proxy=",
    f"{API}/process_recording",
    f"{API}/run-history",
    f"{API}/vibe-",
    f"{API}/undo-vibe-edit",
    f"{API}/dev/",
    # Bypasses the queue, with values that nobody checked.
    f"{API}/component_server",
    f"{API}/stream/",
    "/monitoring",
)
"""Prefixes of what this page does not use."""


def path_of(request: Request) -> str:
    """Return the path of a request, below the address that the app is served at."""
    path: str = request.scope["path"]
    return path.removeprefix(request.scope.get("root_path", ""))
