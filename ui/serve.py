"""Serves the page: used by `app.py` and, as `dnd serve`, by the command line."""

import os
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from dnd_engine.asset_files import asset_path
from dnd_engine.config import EngineConfig, PromptLimits
from ui.build import build_ui
from ui.engine_handle import EngineHandle
from ui.language import LanguageSwitch
from ui.theme import make_theme

__all__ = ["launch_options", "serve"]


def launch_options(limits: PromptLimits) -> dict[str, Any]:
    """Return what every launch of this page shares: looks, limits and privacy."""
    return {
        "theme": make_theme(),
        "css_paths": [asset_path("app.css")],
        "max_file_size": limits.max_file_bytes,
        "show_error": True,
        "footer_links": ["api"],
        "share": False,
        # Nobody's prompts are kept in the browser or shown on a page for others.
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "mcp_server": False,
        "pwa": False,
        "app_kwargs": {"middleware": [Middleware(LanguageSwitch)]},
    }


def serve(
    host: str | None = None,
    port: int | None = None,
    base: str = "smollm2-135m-instruct",
    generator: Path | None = None,
    device: str | None = None,
) -> None:
    """Open the app in a browser: drop prompts, make an adapter, compare.

    Args:
        host: Address to listen on; by default this computer only, or all on a Space.
        port: Port to listen on.
        base: Base model: an embedded name, a Hub id or a folder.
        generator: Generator folder; by default the one shipped for the base.
        device: cpu, cuda or mps; by default the best one present.
    """
    config = EngineConfig(base=base, generator=generator, device=device)
    handle = EngineHandle.of(config)
    run(build_ui(handle, config.limits), handle, config.limits, host=host, port=port)


def run(
    demo: gr.Blocks,
    handle: EngineHandle,
    limits: PromptLimits,
    *,
    host: str | None = None,
    port: int | None = None,
) -> None:
    """Start to load the engine, and serve until interrupted."""
    on_space = bool(os.environ.get("SPACE_ID"))
    host = host or os.environ.get("GRADIO_SERVER_NAME") or ("0.0.0.0" if on_space else "127.0.0.1")
    port = port or int(os.environ.get("GRADIO_SERVER_PORT") or 7860)
    handle.start()
    demo.launch(server_name=host, server_port=port, **launch_options(limits))
