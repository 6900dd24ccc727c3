"""Serves the page: used by `app.py` and, as `dnd serve`, by the command line.

Gradio is imported inside functions, because the command line imports this for its help and
completion.
"""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dnd_engine.charts import STYLE
from dnd_engine.cli.common import engine_options, quiet_libraries
from dnd_engine.config import EngineConfig
from dnd_engine.errors import ConfigError
from dnd_engine.files import asset_path, process_folder
from dnd_engine.library import Library
from dnd_engine.limits import PromptLimits, ServerLimits
from dnd_engine.models.allocator import importing, share_arenas
from dnd_engine.server_log import log_path, logging_to
from dnd_engine.teach.endpoint import origin
from dnd_engine.training.watch import RunFolder
from ui.engine_handle import EngineHandle
from ui.owner import Owner
from ui.spaces import on_space, serves_others

if TYPE_CHECKING:
    import gradio as gr

_MIN_PASSWORD = 8


def launch_options(
    limits: PromptLimits,
    owner: Owner | None = None,
    *,
    server: ServerLimits | None = None,
    handle: EngineHandle | None = None,
    mcp: bool = False,
    metrics: bool = False,
    schema: bool = False,
) -> dict[str, Any]:
    """Return the launch options of this page: theme, limits and privacy.

    See `serve` for `mcp`, `metrics` and `schema`. Without a handle to query, `/health/ready` counts
    the server as ready.

    Raises:
        ConfigError: If MCP is requested but its packages are not installed.
    """
    server = server or ServerLimits()
    if mcp and find_spec("mcp") is None:
        raise ConfigError(
            "MCP needs the package `mcp`, which is not installed. Install the extra: "
            "pip install -e '.[mcp]'"
        )
    from starlette.middleware import Middleware

    from ui.first_script import FirstScript
    from ui.language import LanguageChoice
    from ui.server.gate import gated
    from ui.server.gradio_private.start import launch_settings
    from ui.theme import make_theme, variables

    return {
        **launch_settings(),
        "theme": make_theme(),
        "css": variables() + STYLE,
        "css_paths": [asset_path("app.css")],
        "max_file_size": max(limits.max_file_bytes, server.upload_bytes),
        "show_error": False,  # an unexpected error may quote a path or a visitor's text
        "footer_links": ["api"],
        "share": False,
        # Store nobody's prompts in the browser, and show none on a page for others.
        "run_history": False,
        "enable_monitoring": False,
        # A Space may ask for it, but the canvas exists in the browser alone.
        "ssr_mode": False,
        "mcp_server": mcp,
        # On a Space, Gradio would offer to install the page as an app.
        "pwa": False,
        "app_kwargs": {
            "middleware": [Middleware(LanguageChoice), Middleware(FirstScript)],
            "lifespan": gated(
                server,
                owner,
                status=(lambda: handle.snapshot().status) if handle else (lambda: "ready"),
                metrics=metrics,
                schema=schema,
            ),
        },
    }


@cache  # a second call would make a folder in the first one's
def own_cache() -> None:
    """Make Gradio store uploads and visits in a folder that is removed with this process.

    If `GRADIO_TEMP_DIR` is set, the folder is made inside it. After a kill, the next start removes
    it. Call it before the page is built.
    """
    asked = os.environ.get("GRADIO_TEMP_DIR")
    place = Path(asked) if asked else None
    if place is not None:
        place.mkdir(parents=True, exist_ok=True)
    os.environ["GRADIO_TEMP_DIR"] = str(process_folder("dnd-server-", place))


def trusted_proxies() -> str:
    """Return the addresses whose X-Forwarded-For says who a visitor is, as uvicorn takes them.

    uvicorn trusts all programs of this computer unless told otherwise. A proxy that passes the
    header on as a client sent it, or another account, could then name a new address with each
    request, and no limit per visitor would hold. So the operator has to say that there is a proxy:
    one on this computer by `GRADIO_ROOT_PATH`, others by `FORWARDED_ALLOW_IPS`. Of a trusted
    proxy's header, uvicorn takes the last entry, which that proxy added.
    """
    default = "127.0.0.1,::1" if os.environ.get("GRADIO_ROOT_PATH") else ""
    return os.environ.get("FORWARDED_ALLOW_IPS", default)


def listening_host(host: str | None) -> str:
    """Return the address to listen on: as requested, else this computer only, or all on a Space."""
    default = "0.0.0.0" if on_space() else "127.0.0.1"
    return host or os.environ.get("GRADIO_SERVER_NAME") or default


def _check_port_variable(port: int | None) -> None:
    """Refuse or remove a GRADIO_SERVER_PORT at which Gradio's import would fail.

    Raises:
        ConfigError: If it is set, is not a decimal number, and `port` is None.
    """
    given = os.environ.get("GRADIO_SERVER_PORT")
    if given is None or given.strip().isdecimal():
        return
    if given.strip() and port is None:
        raise ConfigError(
            f"GRADIO_SERVER_PORT: expected a number from 1 to 65535, got `{given}`. Correct it, or "
            "choose a port with `dnd serve --port`."
        )
    del os.environ["GRADIO_SERVER_PORT"]


def listening_port(host: str, port: int | None) -> int:
    """Return the port to listen on: the given one, that of the environment, or 7860.

    Raises:
        ConfigError: If nothing can listen there.
    """
    chosen = port or os.environ.get("GRADIO_SERVER_PORT") or 7860
    try:
        number = int(chosen)
        if not 0 < number < 65_536:
            raise ValueError("ports are numbers from 1 to 65535")
        found = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            # A port that was left a moment ago is free, as for the server.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"Cannot listen at {host}, port {chosen}: {error}. Perhaps the app runs there already. "
            "Choose another port with `dnd serve --port` or GRADIO_SERVER_PORT."
        ) from error
    return number


def own_library(host: str) -> Owner | None:
    """Return this computer's user if the page serves only this computer, else None."""
    return None if serves_others(host) else Owner(Library())


def login(account: str) -> tuple[str, str]:
    """Parse the account of a page's login.

    Raises:
        ConfigError: If it is not USER:PASSWORD.
    """
    user, _colon, password = account.partition(":")
    if not user or len(password) < _MIN_PASSWORD:
        # Never quote the input: it may contain the password.
        raise ConfigError(
            f"`--auth` or `DND_AUTH`: expected USER:PASSWORD with a password of {_MIN_PASSWORD} "
            "characters or more, got something else. Choose a longer password, or leave it out."
        )
    return user, password


@engine_options
def serve(
    config: EngineConfig,
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on; default: this computer only, or all on a Space."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port to listen on; default: 7860.")
    ] = None,
    mcp: Annotated[
        bool, typer.Option("--mcp", help="Offer the endpoints as tools to MCP clients too.")
    ] = False,
    auth: Annotated[
        str | None,
        typer.Option(
            envvar="DND_AUTH",
            metavar="USER:PASSWORD",
            help="Ask everyone for this login. Set DND_AUTH to keep it out of the process list.",
        ),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Serve the schema of all routes at /openapi.json too.")
    ] = False,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Serve counters for Prometheus at /metrics.")
    ] = False,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            envvar="DND_LIMITS",
            metavar="NAME=NUMBER",
            help="Change a limit of SECURITY.md, for example queued_calls_per_visitor=40 for many "
            "people behind one address; may be repeated. DND_LIMITS takes several, separated by "
            "blanks.",
        ),
    ] = None,
    run_folders: Annotated[
        list[Path] | None,
        typer.Option(
            "--run",
            help="Folder of `dnd train` or `dnd collect` to show in a tab Training; may be "
            "repeated. Everyone who can open the page sees it.",
        ),
    ] = None,
    teacher_servers: Annotated[
        list[str] | None,
        typer.Option(
            "--teacher-server",
            metavar="URL",
            help="Server that visitors may let answer their prompts; may be repeated.",
        ),
    ] = None,
) -> None:
    """Serve the app, and print the address to open."""
    # Wrong options are reported before Gradio is imported, because that is slow.
    account = login(auth) if auth else None
    if mcp and account is not None:
        # Gradio calls its own queue for each tool, without the login, so every tool would fail.
        raise ConfigError(
            "`--mcp` does not work with `--auth` or `DND_AUTH`: MCP clients cannot log in. Leave "
            "out one of them, or put a proxy that asks for a login in front."
        )
    server = ServerLimits.of(limit or (), [origin(url) for url in teacher_servers or ()])
    _check_port_variable(port)
    runs = [RunFolder(folder) for folder in run_folders or ()]
    with importing("gradio"):
        from ui.build import build_ui

    own_cache()
    host = listening_host(host)
    owner = own_library(host)
    handle = EngineHandle.of(config, shared=owner is None)
    demo = build_ui(handle, config.limits, owner, runs, server)
    options = launch_options(
        config.limits, owner, server=server, handle=handle, mcp=mcp, metrics=metrics, schema=schema
    )
    run(demo, handle, {**options, "auth": account}, owner, host, port)


def run(
    demo: "gr.Blocks",
    handle: EngineHandle,
    options: Mapping[str, Any],
    owner: Owner | None,
    host: str,
    port: int | None,
) -> None:
    """Start loading the engine, and serve until interrupted.

    Options are those of `launch_options`; without a port, that of the environment is taken.

    Raises:
        ConfigError: If nothing can listen there.
    """
    port = listening_port(host, port)
    quiet_libraries()
    _allow_more_files()
    share_arenas()
    _keep_few_kernels()
    # A Space keeps no files, and shows what is written to stderr.
    with logging_to(None if on_space() else log_path()):
        # The models load while Gradio starts.
        handle.start()
        # uvicorn reads this when Gradio starts it; there is no option for it.
        os.environ["FORWARDED_ALLOW_IPS"] = trusted_proxies()
        # Quiet, because Gradio would also advertise how to make the page public. Without waiting,
        # because the address with the key is printed first.
        _, url, _ = demo.launch(
            server_name=host, server_port=port, quiet=True, prevent_thread_lock=True, **options
        )
        if demo.mcp_error:
            typer.echo(demo.mcp_error, err=True)
        _tell_address(url, owner, has_login=bool(options.get("auth")))
        demo.block_thread()


def _allow_more_files() -> None:
    """Raise the limit on open files as far as allowed: each connection is one."""
    with suppress(ImportError, OSError, ValueError):  # Windows has no such limit
        import resource

        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _keep_few_kernels() -> None:
    """Let oneDNN keep few compiled kernels; call it before torch computes anything.

    It compiles one for each length of a prompt and each matrix, and keeps 1,024: 100 MB more than
    with 128 after chats of 120 lengths. A step of an answer takes five.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")


def _tell_address(url: str, owner: Owner | None, *, has_login: bool) -> None:
    """Print where the page is, and what opening it allows."""
    if owner is not None:
        typer.echo(
            f"Serving {owner.address(url)}\n"
            "This address opens your library and your Hub login: share it with nobody. "
            f"{url} alone opens a page without them. Ctrl+C ends the app."
        )
        return
    typer.echo(f"Serving {url} Ctrl+C ends the app.")
    if not on_space() and not has_login:
        typer.echo(
            "Everyone who can reach this address can use the page, and no login is asked for: "
            "nothing of yours is on it. `dnd serve --auth USER:PASSWORD` asks for one.",
            err=True,
        )
