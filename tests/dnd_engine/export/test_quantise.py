"""Q4_K_M: llama.cpp's own quantiser writes it, and llama.cpp computes what it says."""

import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader, LlamaFileType
from transformers import AutoModelForCausalLM, GgufConfig, LlamaConfig, LlamaForCausalLM

from dnd_engine.errors import ExportError, VerificationError
from dnd_engine.export import llama_quantize
from dnd_engine.export.gguf_model import write_model
from dnd_engine.export.quantise import missing, quantise
from dnd_engine.models.gguf_file import config_of, read_header
from tests.dnd_engine.export.test_export import ANSWER, PROMPT, following, tiny_qwen
from tests.dnd_engine.llama_cpp import llama_cpp
from tests.dnd_engine.tiny import CONFIG, byte_tokenizer, tiny_llama

Program = Callable[[str], None]


@pytest.fixture
def sixteen_bits(tmp_path: Path) -> Path:
    path = tmp_path / "files" / "model.gguf"
    path.parent.mkdir()
    write_model(tiny_llama(), byte_tokenizer(), "tiny", path, "f16")
    return path


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Python that a test writes is the only `llama-quantize`; the package is missing."""
    monkeypatch.setattr(llama_quantize, "PACKAGE", "no_such_package")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def write(code: str) -> None:
        file = tmp_path / "bin" / "llama-quantize"
        file.parent.mkdir()
        file.write_text(
            f"#!{sys.executable}\nimport shutil, sys\n_, source, target, kind = sys.argv\n{code}"
        )
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    return write


def wide_llama() -> LlamaForCausalLM:
    """Its rows fit blocks of 256 numbers."""
    torch.manual_seed(0)
    sizes = {**CONFIG, "hidden_size": 256, "intermediate_size": 512}
    model = LlamaForCausalLM(LlamaConfig(**sizes, initializer_range=0.1))
    model.requires_grad_(False).eval()
    return model


@pytest.mark.parametrize(
    ("make", "kinds"),
    [
        (wide_llama, {"Q4_K": 13, "Q6_K": 3, "F32": 5}),
        (tiny_llama, {"Q5_0": 13, "Q8_0": 3, "F32": 5}),
        (tiny_qwen, {"Q5_0": 13, "Q8_0": 3, "F32": 11}),
    ],
)
def test_llama_cpp_computes_with_the_weights_in_the_file(
    make: Any, kinds: dict[str, int], tmp_path: Path
) -> None:
    """Logits differ by .03 to .05 of their norm, as llama.cpp rounds activations to 8 bits.

    From those of the 16 bits, random weights in 4 or 5 differ by .2 and more.
    """
    path = tmp_path / "model.gguf"
    write_model(make(), byte_tokenizer(), "tiny", path, "f16")
    with llama_cpp(path):
        pass  # or there is none for this machine, and the test is left out
    before = path.stat().st_size
    quantise(path)
    assert path.stat().st_size < 0.45 * before
    reader = GGUFReader(path)
    assert Counter(tensor.tensor_type.name for tensor in reader.tensors) == kinds
    assert reader.fields["general.file_type"].contents() == LlamaFileType.MOSTLY_Q4_K_M
    model: Any = AutoModelForCausalLM.from_pretrained(
        tmp_path,
        gguf_file=path.name,
        config=config_of(path, read_header(path)),
        dtype=torch.float32,
        quantization_config=GgufConfig(gguf_file=path.name, dequantize=True),
    )
    expected = following(model.eval(), PROMPT, ANSWER)
    with llama_cpp(path) as llama:
        found = llama.logits(PROMPT, ANSWER)
    assert (found - expected).norm() < 0.1 * expected.norm()
    assert list(tmp_path.iterdir()) == [path]


def test_the_program_is_run_where_the_package_is_not_installed(
    sixteen_bits: Path, program: Program
) -> None:
    told = str(missing())
    assert "pip install llama-cpp-py-sync" in told
    assert "`llama-quantize`" in told
    with pytest.raises(ExportError, match="Q4_K_M needs"):
        quantise(sixteen_bits)
    program("assert kind == 'Q4_K_M'\nshutil.copy(source, target)\n")
    assert missing() is None
    before = sixteen_bits.read_bytes()
    quantise(sixteen_bits)
    assert sixteen_bits.read_bytes() == before


ROWS_TURNED = """
import gguf
import numpy as np
data = bytearray(open(source, "rb").read())
(one,) = (t for t in gguf.GGUFReader(source).tensors if t.name == "blk.0.attn_q.weight")
place = slice(one.data_offset, one.data_offset + one.n_bytes)
data[place] = np.frombuffer(data[place], np.uint16).reshape(-1, 64)[::-1].tobytes()
open(target, "wb").write(data)
"""


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("sys.exit('main: no space left')", ExportError, "failed .main: no space left."),
        ("sys.exit(3)", ExportError, "exit code 3"),
        (ROWS_TURNED, VerificationError, "1 tensors differ after quantising .blk.0.attn_q.weight."),
    ],
)
def test_a_quantiser_that_fails_leaves_the_file_as_it_was(
    code: str, error: Any, message: str, sixteen_bits: Path, program: Program
) -> None:
    before = sixteen_bits.read_bytes()
    program(code)
    with pytest.raises(error, match=message):
        quantise(sixteen_bits)
    assert sixteen_bits.read_bytes() == before
    assert list(sixteen_bits.parent.iterdir()) == [sixteen_bits]


def test_an_interrupted_quantiser_leaves_the_file_as_it_was(
    sixteen_bits: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(command: list[str], **_: Any) -> None:
        Path(command[2]).write_bytes(b"half")
        raise KeyboardInterrupt

    program("")
    monkeypatch.setattr(subprocess, "run", interrupted)
    before = sixteen_bits.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        quantise(sixteen_bits)
    assert sixteen_bits.read_bytes() == before
    assert list(sixteen_bits.parent.iterdir()) == [sixteen_bits]
