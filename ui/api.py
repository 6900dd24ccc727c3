"""The app's API: named endpoints for `gradio_client`, also available as MCP tools.

They call the engine as handlers do, in the same lane of the queue. An adapter made here has an
unguessable id. A Gradio session cannot hold it: over MCP, all visitors share the session of
Gradio's own client, which calls the app for them and keeps no state between calls. So the id alone
gives access to the adapter, until the session ends, if there is one, or the id was unused for an
hour (see `ui.api_shelf`).
"""

import functools
import inspect
import json
import reprlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import gradio as gr
from gradio.data_classes import FileData
from gradio.events import api
from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, validate_call
from typing_extensions import TypedDict

from dnd_engine.config import ImprintConfig, Mix, Sampling, check_strength
from dnd_engine.errors import (
    AdapterError,
    BucketError,
    ChatError,
    ConfigError,
    DndError,
    GeneratorError,
)
from dnd_engine.limits import FIXED, PromptLimits, ServerLimits
from dnd_engine.notes import joined
from dnd_engine.prompts.buckets import Bucket, check_buckets, memory_faults
from dnd_engine.prompts.files import PromptFile, from_texts, read_prompt_file
from dnd_engine.prompts.words import display_name
from ui.api_shelf import Kept, Shelf, memory_bytes
from ui.engine_calls import LANES, EngineCalls
from ui.faults import public_words
from ui.server.gradio_private.event_ids import caller_left
from ui.server.visitors import sender_of
from ui.session_files import SessionFiles


def _as_file(value: Any) -> Any:
    """Convert a path to an upload: MCP clients pass strings."""
    return {"path": value} if isinstance(value, str) else value


def _with_few_keys(value: Any) -> Any:
    """Reject an object with many keys, each of which pydantic would otherwise report."""
    if isinstance(value, dict) and len(value) > _MAX_KEYS:
        raise ValueError(f"expected at most {_MAX_KEYS} keys")
    return value


_MAX_FAULTS = 5
_MAX_KEYS = 20
"""Maximum number of keys of a bucket; five are known, and some may be misspelt."""
# A caller may send a million items, and pydantic keeps a report on each faulty one.
_FIRST_FAULT = Field(fail_fast=True)


class BucketSpec(TypedDict, total=False):
    """A bucket in the API's input."""

    # A misspelt key would otherwise be ignored without a word.
    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # pydantic asks for it

    name: str
    weight: float
    files: Annotated[list[Annotated[FileData, BeforeValidator(_as_file)]], _FIRST_FAULT]
    prompts: Annotated[list[str], _FIRST_FAULT]
    instruction: str


def _endpoint(method: Callable[..., Any]) -> Callable[..., Any]:
    """Check arguments, and report each `DndError` with its message."""
    checked = validate_call(config=ConfigDict(arbitrary_types_allowed=True))(method)

    @functools.wraps(method)
    def call(self: "Endpoints", request: gr.Request, *args: Any, **kwargs: Any) -> Any:
        try:
            result = checked(self, request, *args, **kwargs)
        except ValidationError as error:
            raise gr.Error(_faults(method.__name__, error), print_exception=False) from error
        except DndError as error:
            # Whoever calls a program's API is not known to be the owner.
            words = public_words(error, method.__name__, self._files.redacted)
            raise gr.Error(words, print_exception=False) from error
        # Gradio recognises files in plain values only.
        if isinstance(result, FileData):
            return result.model_dump()
        # MCP tools return text, and Gradio would format it as Python, not JSON.
        return json.dumps(result, default=str) if _over_mcp(request) else result

    return call


# `repr` of a whole list would take as much memory as the list.
_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 80


def _faults(name: str, error: ValidationError) -> str:
    names = list(inspect.signature(getattr(Endpoints, name)).parameters)
    lines = []
    # The caller chooses names and values, of any length, and need not fetch the answer.
    for fault in error.errors()[:_MAX_FAULTS]:
        # Gradio passes arguments by position.
        first, *rest = fault["loc"]
        where = ".".join(map(str, (names[first] if isinstance(first, int) else first, *rest)))
        got = _brief.repr(fault["input"])
        lines.append(f"`{name}`, `{where[:80]}`: {fault['msg'][:200]}, got {got[:80]}.")
    return "\n".join([*lines, "docs/api.md shows calls that work."])


def _over_mcp(request: gr.Request) -> bool:
    """Return whether Gradio's own client calls for an MCP client."""
    headers = getattr(request, "headers", None) or {}
    # Any client may claim it, and merely loses its session by that.
    return headers.get("x-gradio-user") == "mcp"


def _session(request: gr.Request) -> str:
    """Return the caller's session; empty over MCP, where all callers share one."""
    return "" if _over_mcp(request) else request.session_hash or ""


class Endpoints:
    """The endpoints of the app. Gradio shows these docstrings to callers.

    Zips of adapters are written to `files`; `cache` is Gradio's, which contains uploads.
    """

    def __init__(
        self,
        calls: EngineCalls,
        limits: PromptLimits,
        files: SessionFiles,
        cache: Path,
        server: ServerLimits | None = None,
    ) -> None:
        self._server = server or ServerLimits()
        self._calls = calls
        self._limits = limits
        self._files = files
        self._cache = cache
        self._shelf = Shelf(self._server, files.remove)

    @_endpoint
    def make_adapter(
        self,
        request: gr.Request,
        buckets: Annotated[
            list[Annotated[BucketSpec, BeforeValidator(_with_few_keys)]], _FIRST_FAULT
        ],
        mix: Mix = "pool",
        strength: float = 1.0,
        seed: int = 0,
        imprint: bool = True,
    ) -> dict[str, Any]:
        """Make a LoRA adapter for the app's small language model from unlabeled example prompts.

        No training: a hypernetwork writes the weights, then the instruction is imprinted into them.
        Give a dozen prompts or more of one task, each the instruction, a blank line and an input.
        The adapter is verified and measured before its id is returned. Keep the id to yourself.

        Args:
            request: Of the caller; from Gradio.
            buckets: Groups of prompts; each has `prompts` (texts) or uploaded `files`, and may have `name`, `weight`, and `instruction` to put above prompts that have none.
            mix: `pool` reads all prompts together; `sum` adds one adapter per bucket by weight, -2 to 2.
            strength: Factor on the adapter's effect, -10 to 10.
            seed: Of the draw of prompts; equal input gives an equal adapter.
            imprint: Also imprint the instruction, in some seconds; `not_imprinted` says why where that cannot be done.

        Returns:
            `adapter_id`, which the other tools take; its facts; `checks`, what was measured; `notes` on the prompts.
        """  # noqa: E501 - Gradio reads one line an argument
        # Before the work, after which they would be refused as well.
        check_strength(strength)
        if imprint:
            ImprintConfig(seed=seed)
        engine = self._calls.loaded(FIXED.max_load_seconds)
        read = self._read_buckets(buckets)
        counting = check_buckets(read, self._limits)
        memory = engine.new_memory()
        if not (imprint or engine.info.has_generator):
            raise GeneratorError(
                f"{engine.info.base_id} has no generator, so an adapter can only be imprinted. "
                "Leave `imprint` on."
            )
        left = caller_left()
        steps = self._calls.make(counting, mix, seed, imprint, memory)
        made = self._calls.result(steps, left)
        found = self._calls.inspect(made, counting)
        adapter = engine.with_checks(made, found).with_strength(strength)
        # It alone gives access, and so must not be guessed.
        key = secrets.token_hex(16)
        # In a folder by id and not by session, so that it is removed with the adapter.
        try:
            archive = self._calls.save(adapter, self._files.archive(adapter, key))
        except BaseException:
            self._files.remove(key)
            raise
        who = sender_of(request)
        kept = Kept(adapter, counting, found, archive, _session(request), who, key)
        self._shelf.add(kept)
        notes = [
            f"{file.name}: {note}"
            for one in read
            for file in one.files
            for note in (file.doubt, *file.notes)
            if note
        ]
        return {**kept.facts(), "notes": notes}

    @_endpoint
    def chat(
        self,
        request: gr.Request,
        message: str,
        adapter_id: str = "",
        system: str = "",
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
    ) -> dict[str, Any]:
        """Ask the base model and the adapted model the same question, side by side.

        Args:
            request: Of the caller; from Gradio.
            message: The question. To see whether an adapter carries its instruction, send an input alone.
            adapter_id: Of an adapter that `make_adapter` made; leave it empty to ask the base alone.
            system: System prompt; empty for the base model's own.
            max_new_tokens: Length of an answer at most, 1 to 512.
            temperature: 0 takes the likeliest token; higher, .01 to 5, draws more freely.
            top_p: Probability mass that tokens are drawn from, .01 to 1.
            top_k: Number of tokens drawn from; 0 is all.
            repetition_penalty: Above 1, tokens already written become less likely.
            seed: Of the draws, the same for both models.

        Returns:
            `base` and `adapted` (null without an adapter), each with `text`, `num_tokens` and `stop_reason`.
        """  # noqa: E501 - Gradio reads one line an argument
        active = self._shelf.get(adapter_id).adapter if adapter_id else None
        if not message.strip():
            raise ChatError("`message`: expected a question, got nothing. Write one.")
        if max_new_tokens > FIXED.max_answer_tokens:
            raise ConfigError(
                f"`max_new_tokens` must be at most {FIXED.max_answer_tokens} here, got "
                f"{max_new_tokens}."
            )
        sampling = Sampling(
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            repetition_penalty=repetition_penalty,
            seed=seed,
        )
        self._calls.loaded(FIXED.max_load_seconds)
        messages = [{"role": "system", "content": system}] if system.strip() else []
        messages.append({"role": "user", "content": message})
        models = [None] if active is None else [None, active]
        steps = self._calls.compare([(messages, one) for one in models], sampling)
        base, *adapted = map(asdict, self._calls.last(steps, caller_left()))
        return {"base": base, "adapted": adapted[0] if adapted else None}

    @_endpoint
    def inspect(self, request: gr.Request, adapter_id: str, prove: bool = False) -> dict[str, Any]:
        """Tell all that is known of an adapter: facts, effect, size by layer, origin, and proof.

        Args:
            request: Of the caller; from Gradio.
            adapter_id: Of an adapter that `make_adapter` made.
            prove: Compare it with adapters made from other and from shuffled prompts; takes some seconds.

        Returns:
            Its facts and `checks`, `relative_norms` by module and layer, `nearest_tasks`, `provenance`, `proof`.
        """  # noqa: E501 - Gradio reads one line an argument
        kept = self._shelf.get(adapter_id)
        proof = None
        if prove:
            engine = self._calls.loaded(FIXED.max_load_seconds)
            # As on the page, so that the proof does not depend on the chosen strength.
            original = kept.adapter.with_strength(1.0)
            steps = self._calls.prove(original, kept.buckets, engine.new_memory())
            proof = self._calls.result(steps, caller_left())
        return {
            **kept.facts(),
            "relative_norms": kept.inspection.relative_norms,
            "nearest_tasks": [asdict(task) for task in kept.inspection.nearest_tasks],
            "provenance": dict(kept.adapter.provenance),
            "proof": None if proof is None else asdict(proof),
        }

    @_endpoint
    def list_adapters(
        self,
        request: gr.Request,
        adapter_ids: Annotated[list[str], _FIRST_FAULT] | None = None,
    ) -> list[dict[str, Any]]:
        """List adapters with their facts: those of this session, or those whose ids are given.

        Args:
            request: Of the caller; from Gradio.
            adapter_ids: Which ones. Over MCP, where calls have no session of their own, always name them.

        Returns:
            The facts of each, as `make_adapter` returned them, the one used last at the end.
        """  # noqa: E501 - Gradio reads one line an argument
        session = _session(request)
        if adapter_ids is None and not session:
            raise AdapterError(
                "`adapter_ids`: expected ids, since this call has no session of its own, got none. "
                "Name those that `make_adapter` gave."
            )
        if adapter_ids is not None:
            # Bounded, because a caller may repeat one id any number of times.
            return [self._shelf.get(key).facts() for key in adapter_ids[: self._server.adapters]]
        return [kept.facts() for kept in self._shelf.of(session)]

    @_endpoint
    def download(self, request: gr.Request, adapter_id: str) -> FileData:
        """Download an adapter as a zip for PEFT, verified by reloading it.

        Args:
            request: Of the caller; from Gradio.
            adapter_id: Of an adapter that `make_adapter` made.

        Returns:
            The zip: `adapter_config.json`, `adapter_model.safetensors`, `README.md`, `provenance.json`.
        """  # noqa: E501 - Gradio reads one line an argument
        archive = self._shelf.get(adapter_id).archive
        return FileData(path=str(archive), orig_name=archive.name, size=archive.stat().st_size)

    def end_session(self, request: gr.Request) -> None:
        """Drop the adapters of a session that ended."""
        self._shelf.end(request.session_hash or "")

    def _read_buckets(self, specs: Sequence[BucketSpec]) -> list[Bucket]:
        """Read all prompts, and report the faults of all files together."""
        # Before anything is read. Each empty bucket would be a fault of its own.
        if len(specs) > self._limits.max_files:
            raise BucketError(
                f"`buckets`: expected at most {self._limits.max_files}, got {len(specs)}. Send "
                "fewer, or join small ones."
            )
        count = sum(len(spec.get("files", ())) + ("prompts" in spec) for spec in specs)
        if count > self._limits.max_files:
            raise BucketError(
                f"`buckets`: expected at most {self._limits.max_files} files in all, got {count}. "
                "Send fewer, or join small ones."
            )
        faults: list[str] = []
        buckets: list[Bucket] = []
        for number, spec in enumerate(specs, 1):
            files: list[PromptFile] = []
            name = spec.get("name", f"Bucket {number}")
            for upload in spec.get("files", ()):
                # Before the next one: together they could take gigabytes.
                num_bytes = memory_bytes(buckets) + sum(file.memory_bytes for file in files)
                if too_much := memory_faults(num_bytes, self._limits):
                    raise BucketError(too_much[0])
                try:
                    files.append(self._read_upload(upload))
                except DndError as error:
                    faults.append(str(error))
            if "prompts" in spec:
                shown = f"prompts-{number}.jsonl"
                try:
                    files.append(from_texts(spec["prompts"], name=shown, limits=self._limits))
                except DndError as error:
                    faults.append(str(error))
            weight, instruction = spec.get("weight", 1.0), spec.get("instruction", "")
            try:
                buckets.append(Bucket(name, weight, tuple(files), instruction))
            except BucketError as error:
                faults.append(str(error))
        if faults:
            raise BucketError(joined(faults, "\n"))
        return buckets

    def _read_upload(self, upload: FileData) -> PromptFile:
        path = Path(upload.path)
        name = display_name(upload.orig_name or path.name)
        # Gradio checks this too, but only for values marked as files.
        if not path.resolve().is_relative_to(self._cache.resolve()) or not path.is_file():
            raise BucketError(
                f"{name}: expected an uploaded file, got a path or address that is none. Upload it "
                "(`gradio_client.handle_file` does), or send its texts as `prompts`."
            )
        return read_prompt_file(path, name=name, limits=self._limits)


def add_endpoints(demo: gr.Blocks, endpoints: Endpoints) -> None:
    """Add the endpoints to the app, before other events, so that they keep their names."""
    api(endpoints.make_adapter, **LANES["api"])
    api(endpoints.chat, **LANES["chat"])
    api(endpoints.inspect, **LANES["api"])
    # They need no engine, and so no lane.
    for function in (endpoints.list_adapters, endpoints.download):
        api(function)
    demo.unload(endpoints.end_session)
