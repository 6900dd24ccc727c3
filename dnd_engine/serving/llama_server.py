"""The adapters of a llama-server, which a request chooses by number instead of a model's name.

To be compared like the models of other servers, each has a name here: `MODEL + FILE`. Source:
llama.cpp's description of its server, `/lora-adapters` and the field `lora` of a request.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dnd_engine.errors import RemoteError
from dnd_engine.notes import noted
from dnd_engine.serving.server import Server

ADAPTERS = "/lora-adapters"
_WITH = " + "


def adapter_paths(body: Any) -> dict[int, str]:
    """Return the paths of a llama-server's adapters, by number; or raise a `ValueError`."""
    if not isinstance(body, list):
        raise ValueError("no list")
    paths: dict[int, str] = {}
    for one in body:
        number = one.get("id") if isinstance(one, dict) else None
        # `type`, because JSON's `true` becomes a bool, which is an int in Python.
        if type(number) is not int:
            raise ValueError("an adapter without a number")
        paths[number] = str(one.get("path", ""))
    return paths


def chosen(numbers: Iterable[int], active: int | None) -> dict[str, Any]:
    """Return the fields of a request that apply one adapter; None applies none of them."""
    return {"lora": [{"id": number, "scale": float(number == active)} for number in numbers]}


def adapter_names(server: Server, model: str) -> list[str]:
    """Return names for a server's adapters; none if it is no llama-server."""
    return [f"{model}{_WITH}{name}" for name in _named(_paths(server) or {}).values()]


def requests(server: Server, names: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """Return the model to ask by each name, and the fields that choose its adapter.

    Args:
        server: The server. Only if a name may be one of `adapter_names`, it is asked what it has.
        names: Names of models or adapters that are compared with each other.

    Raises:
        RemoteError: If a llama-server does not have an adapter.
    """
    paths = _paths(server) if any(_WITH in name for name in names) else None
    if paths is None:  # the models of another server may be called like that
        return [(name, {}) for name in names]
    numbers = {name: number for number, name in _named(paths).items()}
    found = []
    for name in names:
        model, file = _parted(server, name, numbers)
        if file and file not in numbers:
            raise RemoteError(
                "`{server}` has not loaded the adapter `{file}`; it has {others}. llama-server "
                "loads adapters when it starts: start it with --lora.",
                server=server.url,
                file=file,
                others=", ".join(numbers) or noted("none"),
            )
        # Without the field, the base would answer with what the server applies by itself.
        found.append((model, chosen(paths, numbers.get(file))))
    return found


def _parted(server: Server, name: str, files: Iterable[str]) -> tuple[str, str]:
    """Split a name into its model's and its adapter's, either of which may hold what joins them."""
    ends = [file for file in files if name.endswith(f"{_WITH}{file}")]
    if ends:
        file = max(ends, key=len)
        return name.removesuffix(f"{_WITH}{file}"), file
    if _WITH not in name or name in {str(model["id"]) for model in server.models()}:
        return name, ""
    model, _, file = name.rpartition(_WITH)
    return model, file


def _paths(server: Server) -> dict[int, str] | None:
    """Return a llama-server's adapters; None for another server."""
    try:
        return adapter_paths(server.get(ADAPTERS).body)
    except (RemoteError, ValueError):  # what it does with a path that it need not know
        return None


def _named(paths: Mapping[int, str]) -> dict[int, str]:
    """Name adapters by their files, or by the whole path where files of two have the same name."""
    names = {number: Path(path).name for number, path in paths.items()}
    several = [*names.values()]
    return {
        number: name if several.count(name) == 1 else paths[number]
        for number, name in names.items()
    }
