"""Writes a folder for Ollama: the merged model as GGUF, and its Modelfile.

Ollama does not apply adapters to models it did not create, so the adapter is merged.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MODELFILE, MODEL = "Modelfile", "model.gguf"

_START, _END = "<|im_start|>", "<|im_end|>"
_TURNS = "{{- range .Messages }}" + _START + "{{ .Role }}\n{{ .Content }}" + _END + "\n{{ end }}"
"""ChatML in Go's template language, up to the answer."""


def modelfile(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return a Modelfile for a model in the same folder.

    For ChatML it sets the template, stop token and default system prompt of the base. For other
    formats Ollama uses the template in the GGUF file.
    """
    from dnd_engine.models.chat_format import chat_text

    lines = [f"FROM ./{MODEL}"]
    # A NUL, which no template writes, marks where the user's text is.
    rendered = chat_text(tokenizer, [{"role": "user", "content": "\0"}])
    head, _, rest = rendered.partition(f"{_START}user\n\0{_END}\n")
    # Before the turns a token may begin the text; the GGUF leaves that to the template.
    begin, found, system = head.partition(f"{_START}system\n")
    # The answer may begin with more, such as a thought that is left out.
    if rest.startswith(f"{_START}assistant\n"):
        lines += [f'TEMPLATE """{begin}{_TURNS}{rest}"""', f"PARAMETER stop {_END}"]
        ending = f"{_END}\n"
        if found and system.endswith(ending):
            # The base's template adds this prompt by itself; the one for Ollama does not.
            lines.append(f'SYSTEM """{system.removesuffix(ending)}"""')
    # Greedy decoding, the page's default, which adapters are made for.
    lines.append("PARAMETER temperature 0")
    return "\n".join(lines) + "\n"
