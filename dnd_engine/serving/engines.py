"""Publishes an adapter to a running vLLM, SGLang or llama-server, and verifies its effect.

Each engine is an entry of `ENGINES`. A server may list an adapter and still ignore it. So base and
adapter answer the same question, and their answers must differ by more than two answers of the
base.
"""

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnd_engine.errors import ConfigError, PublishError
from dnd_engine.prompts.words import one_line
from dnd_engine.serving.llama_server import ADAPTERS, adapter_paths, chosen
from dnd_engine.serving.server import KEY_REFUSED, Reply, Server, difference

QUESTION = "Summarize in one word: The delivery was late, and the box was broken."
"""Default question of the verification."""

_MIN_GAP = 1e-3
"""Minimum difference of log-probabilities that counts: servers round to bfloat16."""
_NOISE = 3
"""Required ratio to the difference between two answers of the base."""
_NOT_FOUND = re.compile(r"not found|no adapter found|can.t find|no such file|not exist", re.I)
"""Words of a server that finds no adapter at a path, whatever its status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """An exported adapter, and how to publish it."""

    place: Path
    """Folder or GGUF file of the export."""
    name: str
    """Name for requests."""
    base_id: str
    """Name of the base on the server."""
    question: str = QUESTION
    is_new: bool = False
    """Whether the place held nothing or other contents before. What a server read earlier is then
    another adapter."""

    @property
    def path(self) -> str:
        """Return the absolute path, for a server on this machine."""
        return str(self.place.resolve())


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """An adapter that a server answers with."""

    engine: str
    url: str
    model: str
    """Value of `model` in a request."""
    request: Mapping[str, Any]
    """Additional request fields."""
    base_answer: str
    adapted_answer: str
    difference: float
    """1 if the answers' words differ, else the largest difference of the first token's
    log-probabilities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTarget:
    """One kind of server."""

    title: str
    suffix: str
    """Suffix of the export; empty for a folder."""
    publish: Callable[[Server, Offer], Published]
    """Raises `PublishError` if the server does not answer with the adapter."""


def engine_target(name: str) -> EngineTarget:
    """Look up an engine; raise a `ConfigError` if there is none of that name."""
    if name not in ENGINES:
        raise ConfigError(f"`engine` must be one of {', '.join(ENGINES)}, got {name!r}.")
    return ENGINES[name]


def _vllm(server: Server, offer: Offer) -> Published:
    listed = _serves(server, offer.base_id, f"vllm serve {offer.base_id} --enable-lora")
    name, base_id, path = offer.name, offer.base_id, offer.path
    # vLLM refuses to load a name twice, even if the files have changed.
    replaced = name if name in listed else ""
    if replaced:
        _refused(server.post("/v1/unload_lora_adapter", {"lora_name": name}), server, "unload")
    reply = server.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": path})
    # vLLM also answers 404 if it finds no adapter in the folder, and then says so.
    if reply.status == 404 and "lora" not in reply.message.lower():
        raise PublishError(
            f"`{server.url}` has no /v1/load_lora_adapter (404). Start vLLM with --enable-lora and "
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, or let it read the folder by itself: "
            "VLLM_PLUGINS=lora_filesystem_resolver "
            f"VLLM_LORA_RESOLVER_CACHE_DIR={shlex.quote(str(offer.place.resolve().parent))}."
        )
    _refused(reply, server, "load", path, replaced)
    found = next((model for model in server.models() if model["id"] == name), None)
    _check_listed(server, name, found is not None)
    assert found is not None
    # vLLM's name for the path of an adapter.
    root = found.get("root")
    if root is None:
        raise PublishError(
            f"`{server.url}` does not say from which folder it loaded `{name}`: /v1/models gives "
            "no `root`. So it may answer with another adapter. Ask vLLM itself, not a proxy before "
            "it."
        )
    if Path(str(root)) != offer.place.resolve():
        raise PublishError(
            f"`{server.url}` answers `{name}` with another adapter: it lists "
            f"`{one_line(str(root))}`, not `{path}`. Choose another name with --to "
            "DIR/NAME, or unload that one."
        )
    return _proven(server, "vllm", base_id, name, {"model": name}, offer.question)


def _sglang(server: Server, offer: Offer) -> Published:
    start = f"python -m sglang.launch_server --model-path {offer.base_id} --enable-lora"
    _serves(server, offer.base_id, start)
    name, base_id, path = offer.name, offer.base_id, offer.path
    values = {"lora_name": name, "lora_path": path}
    reply = server.post("/load_lora_adapter", values)
    loaded, replaced = _loaded(reply.body), ""
    # SGLang keeps the first adapter of a name, even if the files at its path have changed since.
    if name in loaded and (loaded[name] != path or not _has_loaded(reply)):
        replaced = name
        _refused(server.post("/unload_lora_adapter", {"lora_name": name}), server, "unload")
        reply = server.post("/load_lora_adapter", values)
        loaded = _loaded(reply.body)
    if reply.status == 404:
        raise PublishError(
            f"`{server.url}` has no /load_lora_adapter (404). Start SGLang with --enable-lora "
            "--max-lora-rank 16 --lora-target-modules all."
        )
    _refused(reply, server, "load", path, replaced)
    if not _has_loaded(reply):
        raise PublishError(
            f"`{server.url}` did not load `{path}`: {reply.message}.{_gone(replaced)}"
        )
    if loaded.get(name, path) != path:
        raise PublishError(
            f"`{server.url}` answers `{name}` with another adapter: `{one_line(loaded[name])}`, "
            f"not `{path}`. Choose another name with --to DIR/NAME, or unload that one."
        )
    listed = {str(model["id"]) for model in server.models()}
    model = f"{base_id}:{name}"
    _check_listed(server, name, bool({name, model} & listed) or name in loaded)
    return _proven(server, "sglang", base_id, model, {"model": model}, offer.question)


def _llama_server(server: Server, offer: Offer) -> Published:
    file = shlex.quote(str(offer.place))
    start = f"llama-server -m base.gguf --lora {file} --lora-init-without-apply"
    reply = server.get(ADAPTERS)
    if reply.status != 200 or not isinstance(reply.body, list):
        raise PublishError(
            f"`{server.url}{ADAPTERS}` answered {reply.status}: {reply.message}. Expected a "
            f"llama-server; start it with `{start}`."
        )
    try:
        paths = adapter_paths(reply.body)
    except ValueError as error:
        raise PublishError(
            f"`{server.url}{ADAPTERS}` does not list adapters as llama-server does, each with a "
            f"number as its `id`: {reply.message}. Check the address and the port."
        ) from error
    # The server may use another working directory or a container, so only file names are
    # comparable.
    found = [number for number, path in paths.items() if Path(path).name == offer.place.name]
    if not found:
        others = _shown(Path(path).name for path in paths.values()) or "none"
        raise PublishError(
            f"`{server.url}` has not loaded `{offer.place.name}` (loaded: {others}). "
            f"llama-server loads adapters when it starts: start it with `{start}`."
        )
    # It has no route that reads a file again.
    if offer.is_new:
        raise PublishError(
            f"`{server.url}` read `{offer.place.name}` before this adapter was written to "
            f"`{offer.place}`, so it still answers with an earlier one. llama-server reads files "
            f"only when it starts: restart it with `{start}`, then publish again."
        )
    # llama-server has one base, whatever name it lists.
    model = str((server.models() or [{"id": offer.base_id}])[0]["id"])
    return _proven(
        server,
        "llama-server",
        model,
        model,
        chosen(paths, found[0]),
        offer.question,
        # The server may have started with its adapters applied.
        base_extra=chosen(paths, None),
    )


def _serves(server: Server, base_id: str, start: str) -> set[str]:
    """Check that a server has the adapter's base, and return all models it lists."""
    listed = {str(model["id"]) for model in server.models()}
    if base_id not in listed:
        raise PublishError(
            f"`{server.url}` serves {_shown(listed) or 'nothing'}, and the adapter was "
            f"made for `{base_id}`. Start `{start}`, or publish with --served NAME if the server "
            "calls the same model by another name."
        )
    return listed


def _loaded(body: Any) -> dict[str, str]:
    """Return names and paths of SGLang's loaded adapters."""
    found = body.get("loaded_adapters") if isinstance(body, dict) else None
    return {str(name): str(path) for name, path in found.items()} if isinstance(found, dict) else {}


def _has_loaded(reply: Reply) -> bool:
    """Return whether SGLang has done what it was asked for; it may also say so with status 200."""
    success = reply.body.get("success", True) if isinstance(reply.body, dict) else True
    return reply.status == 200 and bool(success)


def _refused(reply: Reply, server: Server, what: str, path: str = "", replaced: str = "") -> None:
    if reply.status == 200:
        return
    way = ""
    if reply.status in KEY_REFUSED:
        way = " Give the server's key with --key."
    elif path and (reply.status == 404 or _NOT_FOUND.search(reply.message)):
        way = f" The server must see that folder: `{path}`."
    raise PublishError(
        f"`{server.url}` did not {what} the adapter ({reply.status}: {reply.message}).{way}"
        f"{_gone(replaced)}"
    )


def _gone(replaced: str) -> str:
    """Say that the server has unloaded an earlier adapter of this name, if it has."""
    return f" It no longer has the earlier adapter `{replaced}`, either." if replaced else ""


def _shown(names: Iterable[str]) -> str:
    """List names that a server sent, without escape sequences of a terminal."""
    return ", ".join(one_line(name) for name in sorted(names))


def _check_listed(server: Server, name: str, listed: bool) -> None:
    if not listed:
        raise PublishError(
            f"`{server.url}` said that it loaded `{name}`, but /v1/models does not list it. Look "
            "into the server's log."
        )


def _proven(
    server: Server,
    engine: str,
    base: str,
    model: str,
    request: Mapping[str, Any],
    question: str,
    base_extra: Mapping[str, Any] | None = None,
) -> Published:
    """Verify the adapter's effect by asking the base twice and the adapter once.

    Raises:
        PublishError: If the adapter answers like the base, or as differently as the base itself.
    """
    first, again = (server.ask(base, question, base_extra) for _ in range(2))
    adapted = server.ask(model, question, request)
    found, noise = difference(first, adapted), difference(first, again)
    if found <= max(_MIN_GAP, _NOISE * noise):
        as_model = f"as `{one_line(model)}`"
        if _NOISE * noise > _MIN_GAP:
            raise PublishError(
                f"`{server.url}` answers {question!r} differently each time as its base, so its "
                f"answer {as_model} shows nothing. Ask something with --ask that the base always "
                "answers alike."
            )
        raise PublishError(
            f"`{server.url}` answers {question!r} {as_model} exactly as its base does, so the "
            "adapter is loaded but not at work, or it leaves this question alone. Ask something "
            "that it should change with --ask."
        )
    return Published(
        engine=engine,
        url=server.url,
        model=model,
        request=request,
        base_answer=first.text,
        adapted_answer=adapted.text,
        difference=found,
    )


ENGINES: Mapping[str, EngineTarget] = {
    "vllm": EngineTarget(title="vLLM", suffix="", publish=_vllm),
    "sglang": EngineTarget(title="SGLang", suffix="", publish=_sglang),
    "llama-server": EngineTarget(title="llama-server", suffix=".gguf", publish=_llama_server),
}
"""Engines by the name that `dnd publish --engine` takes."""
