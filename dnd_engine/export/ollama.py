"""A folder for Ollama: the merged model as GGUF, and the Modelfile that makes a model of it.

Ollama applies no adapters of its own accord to models it did not make, so the adapter is merged.
"""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

__all__ = ["MODEL", "MODELFILE", "modelfile", "write_modelfile"]

MODELFILE, MODEL = "Modelfile", "model.gguf"

_START, _END = "<|im_start|>", "<|im_end|>"
_TEMPLATE = (
    "{{- range .Messages }}" + _START + "{{ .Role }}\n"
    "{{ .Content }}" + _END + "\n"
    "{{ end }}" + _START + "assistant\n"
)
"""ChatML in Go's template language; the last line begins the answer."""


def modelfile(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the Modelfile of a model in the same folder.

    For ChatML it names the turns, where an answer stops and the default system prompt, as the
    base's own template writes them. For others Ollama reads the template inside the GGUF file.
    """
    lines = [f"FROM ./{MODEL}"]
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": "\0"}], add_generation_prompt=True, tokenize=False
    )
    assert isinstance(rendered, str)
    system, _, rest = rendered.partition(f"{_START}user\n\0")
    if rest == f"{_END}\n{_START}assistant\n":
        lines += [f'TEMPLATE """{_TEMPLATE}"""', f"PARAMETER stop {_END}"]
        opening, ending = f"{_START}system\n", f"{_END}\n"
        if system.startswith(opening) and system.endswith(ending):
            lines.append(f'SYSTEM """{system[len(opening) : -len(ending)]}"""')
    # Adapters are made for greedy answers, as the page gives them.
    lines.append("PARAMETER temperature 0")
    return "\n".join(lines) + "\n"


def write_modelfile(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the Modelfile into a folder."""
    (folder / MODELFILE).write_text(modelfile(tokenizer), encoding="utf-8")
