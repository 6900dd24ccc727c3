"""A stand-in for the package `spaces` of ZeroGPU: marked functions run in a forked worker.

What goes in and what comes out is pickled, as there; so whatever cannot cross, or is needed in
place of a copy, fails here too.
"""

import functools
import inspect
import io
import os
import pickle
import struct
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch


class _OnlyCpu(pickle.Pickler):
    """Refuses tensors that live on another device: the worker's ends with it."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.device.type != "cpu":
            raise pickle.PicklingError(f"a tensor on {value.device} would cross")
        return NotImplemented


def _pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    _OnlyCpu(buffer).dump(value)
    return buffer.getvalue()


def fake_spaces(marked: list[tuple[str, int]]) -> ModuleType:
    """Make the module.

    Args:
        marked: Is told of every call: its first argument, and the process that it ran in.
    """

    def gpu(duration: int = 60) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        assert 0 < duration <= 300

        def mark(function: Callable[..., Any]) -> Callable[..., Any]:
            def work(sent: bytes) -> Iterator[Any]:
                args, kwargs = pickle.loads(sent)
                found = function(*args, **kwargs)
                yield from found if inspect.isgenerator(found) else (found,)

            @functools.wraps(function)
            def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
                yield from _in_worker(work, _pickled((args, kwargs)), args[0], marked)

            @functools.wraps(function)
            def call(*args: Any, **kwargs: Any) -> Any:
                (found,) = stream(*args, **kwargs)
                return found

            return stream if inspect.isgeneratorfunction(function) else call

        return mark

    module = ModuleType("spaces")
    setattr(module, "GPU", gpu)  # noqa: B010 - a module made here declares no such name
    return module


def _in_worker(
    work: Callable[[bytes], Iterator[Any]], sent: bytes, name: str, marked: list[tuple[str, int]]
) -> Iterator[Any]:
    reads, writes = os.pipe()
    worker = os.fork()
    if worker == 0:
        torch.set_num_threads(1)  # the parent's threads are not here
        with os.fdopen(writes, "wb") as out:
            try:
                for item in work(sent):
                    _write(out, ("item", item))
            except BaseException as error:  # noqa: BLE001 - raised again by the parent
                _write(out, ("error", error))
        os._exit(0)
    marked.append((name, worker))
    os.close(writes)
    try:
        with os.fdopen(reads, "rb") as incoming:
            while header := incoming.read(8):
                kind, item = pickle.loads(incoming.read(struct.unpack("q", header)[0]))
                if kind == "error":
                    raise item
                yield item
    finally:
        os.waitpid(worker, 0)


def _write(out: Any, item: Any) -> None:
    data = _pickled(item)
    out.write(struct.pack("q", len(data)) + data)
    out.flush()
