"""Writes a folder for Ollama: the merged model as GGUF, and its Modelfile.

Ollama does not apply adapters to models it did not create, so the adapter is merged.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MODELFILE, MODEL = "Modelfile", "model.gguf"

_START, _END = "<|im_start|>", "<|im_end|>"
_TEMPLATE = (
    "{{- range .Messages }}" + _START + "{{ .Role }}\n"
    "{{ .Content }}" + _END + "\n"
    "{{ end }}" + _START + "assistant\n"
)
"""ChatML in Go's template language; the last line starts the answer."""


def modelfile(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return a Modelfile for a model in the same folder.

    For ChatML it sets the template, stop token and default system prompt of the base. For other
    formats Ollama uses the template in the GGUF file.
    """
    lines = [f"FROM ./{MODEL}"]
    # A NUL, which no template writes, marks where the user's text is.
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": "\0"}], add_generation_prompt=True, tokenize=False
    )
    assert isinstance(rendered, str)
    system, _, rest = rendered.partition(f"{_START}user\n\0")
    if rest == f"{_END}\n{_START}assistant\n":
        lines += [f'TEMPLATE """{_TEMPLATE}"""', f"PARAMETER stop {_END}"]
        opening, ending = f"{_START}system\n", f"{_END}\n"
        if system.startswith(opening) and system.endswith(ending):
            # The base's template adds this prompt by itself; the one for Ollama does not.
            lines.append(f'SYSTEM """{system[len(opening) : -len(ending)]}"""')
    # Greedy decoding, the page's default, which adapters are made for.
    lines.append("PARAMETER temperature 0")
    return "\n".join(lines) + "\n"
