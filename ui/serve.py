"""Serves the page: used by `app.py` and, as `dnd serve`, by the command line.

Gradio loads inside the functions: the command line reads this for its help and to complete words.
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dnd_engine.charts import STYLE
from dnd_engine.cli.common import (
    engine_options,
    quiet_libraries,
)
from dnd_engine.config import EngineConfig, PromptLimits
from dnd_engine.errors import ConfigError
from dnd_engine.files import asset_path
from dnd_engine.library import Library
from dnd_engine.training.watch import RunFolder
from ui.engine_handle import EngineHandle
from ui.spaces import on_space, serves_others

if TYPE_CHECKING:
    import gradio as gr

__all__ = ["launch_options", "listening_host", "own_library", "run", "serve"]

_UPLOAD_BYTES = 64_000_000
"""Of an adapter, of r 32 for a base of 0.5 B parameters. Prompt files have a smaller limit."""


def launch_options(limits: PromptLimits, *, mcp: bool = False) -> dict[str, Any]:
    """Return what every launch of this page shares: looks, limits and privacy.

    Args:
        limits: Of uploads.
        mcp: Whether the endpoints are tools for MCP clients too.

    Raises:
        ConfigError: If MCP is wanted and its packages are not installed.
    """
    if mcp and find_spec("mcp") is None:
        raise ConfigError(
            "MCP needs the package `mcp`, which is not installed. Install the extra: "
            "pip install -e '.[mcp]'"
        )
    from starlette.middleware import Middleware

    from ui.language import LanguageChoice
    from ui.theme import make_theme

    return {
        "theme": make_theme(),
        "css": STYLE,
        "css_paths": [asset_path("app.css")],
        "max_file_size": max(limits.max_file_bytes, _UPLOAD_BYTES),
        "show_error": True,
        "footer_links": ["api"],
        "share": False,
        # Nobody's prompts are kept in the browser or shown on a page for others.
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "mcp_server": mcp,
        "pwa": False,
        "app_kwargs": {"middleware": [Middleware(LanguageChoice)]},
    }


def listening_host(host: str | None = None) -> str:
    """Return the address to listen on: as asked, else this computer only, or all on a Space."""
    default = "0.0.0.0" if on_space() else "127.0.0.1"
    return host or os.environ.get("GRADIO_SERVER_NAME") or default


def own_library(host: str) -> Library | None:
    """Return the user's library for a page that only they can open, and None for any other."""
    return None if serves_others(host) else Library()


@engine_options
def serve(
    config: EngineConfig,
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on; default: this computer only, or all on a Space."),
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; default: 7860.")] = None,
    mcp: Annotated[
        bool, typer.Option("--mcp", help="Offer the endpoints as tools to MCP clients too.")
    ] = False,
    run_folders: Annotated[
        list[Path] | None,
        typer.Option(
            "--run",
            help="Folder of `dnd train` or `dnd collect` to show in a tab Training; may be "
            "repeated. Everyone who can open the page sees it.",
        ),
    ] = None,
) -> None:
    """Open the app in a browser."""
    runs = [RunFolder(folder) for folder in run_folders or ()]
    from ui.build import build_ui

    handle = EngineHandle.of(config)
    host = listening_host(host)
    demo = build_ui(handle, config.limits, own_library(host), runs)
    run(demo, handle, config.limits, host=host, port=port, mcp=mcp)


def run(
    demo: "gr.Blocks",
    handle: EngineHandle,
    limits: PromptLimits,
    *,
    host: str | None = None,
    port: int | None = None,
    mcp: bool = False,
) -> None:
    """Start to load the engine, and serve until interrupted."""
    host = listening_host(host)
    port = port or int(os.environ.get("GRADIO_SERVER_PORT") or 7860)
    options = launch_options(limits, mcp=mcp)
    quiet_libraries()
    handle.start()
    # Gradio would announce the address together with how to make the page public.
    _, url, _ = demo.launch(
        server_name=host, server_port=port, quiet=True, prevent_thread_lock=True, **options
    )
    if demo.mcp_error:
        typer.echo(demo.mcp_error, err=True)
    typer.echo(f"Serving {url} Ctrl+C ends it.")
    demo.block_thread()
