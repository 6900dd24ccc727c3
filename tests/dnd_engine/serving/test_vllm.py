"""A real vLLM answers with our adapter, loaded into it or found by its own resolver.

vLLM needs other versions of torch and transformers than this project, so it is a program in an
environment of its own:

    DND_VLLM=PATH/bin/vllm python -m pytest tests/dnd_engine/serving/test_vllm.py
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from dnd_engine.cli import app
from dnd_engine.config import Sampling
from dnd_engine.engine import Engine
from dnd_engine.lora.adapter import put_files
from dnd_engine.models.sources import BASES, resolve
from dnd_engine.prompts.examples import load_examples
from tests.present import present
from tests.serving import free_port, until_healthy

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif("DND_VLLM" not in os.environ, reason="DND_VLLM names no vLLM"),
]

BASE = BASES["smollm2-135m-instruct"].hub_id


@contextmanager
def vllm(place: Path, **settings: str) -> Iterator[str]:
    """The server's address, once it is ready.

    Args:
        place: Holds the base where its Hub id leads as a path, since no hub can be reached: the
            resolver compares the id with the name that the server was started with.
        **settings: Added to the environment.
    """
    port, said = str(free_port()), place / "said"
    arguments = (
        *("--port", port, "--enable-lora", "--max-lora-rank", "16"),
        *("--enforce-eager", "--dtype", "bfloat16", "--max-model-len", "1024"),
    )
    environment = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with (
        said.open("w") as output,
        subprocess.Popen(
            [os.environ["DND_VLLM"], "serve", BASE, *arguments],
            cwd=place,
            env={**os.environ, **environment, **settings},
            stdout=output,
            stderr=output,
        ) as server,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            until_healthy(url, server, said)
            yield url
        finally:
            server.terminate()


def ask(url: str, model: str, question: str) -> str:
    """Return the greedy answer of a model of the server."""
    answer = httpx.post(
        f"{url}/v1/chat/completions",
        json={
            "model": model,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": 24,
        },
        timeout=300,
    ).json()
    text: str = answer["choices"][0]["message"]["content"]
    return text.strip()


def test_a_real_vllm_answers_with_a_published_adapter(
    real_engine: Engine, resident: None, tmp_path: Path
) -> None:
    example = load_examples()[0]
    adapter = real_engine.generate([example.read()])
    put_files(adapter.files(), tmp_path / "made")
    adapters = tmp_path / "adapters"
    question = [{"role": "user", "content": example.question}]
    *_, here = real_engine.chat(question, adapter=adapter, sampling=Sampling(max_new_tokens=24))
    (tmp_path / BASE).parent.mkdir()
    (tmp_path / BASE).symlink_to(resolve("smollm2-135m-instruct", BASES).path)

    def publish(*arguments: object) -> Any:
        return CliRunner().invoke(app, ["publish", str(tmp_path / "made"), *map(str, arguments)])

    with vllm(tmp_path) as url:
        to = ("--to", adapters / "sql", "--engine", "vllm", url, "--ask", example.question)
        made = publish(*to)
        assert made.exit_code == 0, made.output
        assert ask(url, "sql", example.question) == present(here.adapted).text
    resolver = {
        "VLLM_PLUGINS": "lora_filesystem_resolver",
        "VLLM_LORA_RESOLVER_CACHE_DIR": str(adapters),
    }
    with vllm(tmp_path, **resolver) as url:
        assert ask(url, "sql", example.question) == present(here.adapted).text
