"""Code snippets that show how to use an adapter outside this project, for cards and the page."""

import json
import re
import shlex

GGUF_BASE = "base.gguf"
"""Placeholder for the user's own GGUF file of the base."""

# No prompt may stand here: a card contains none.
_ASK = """\
# Put one of your inputs in place of the greeting, which the adapter was not made for.
messages = [{"role": "user", "content": "Say hello."}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
)
answer = model.generate(**inputs, max_new_tokens=64, do_sample=False)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))"""


def peft_usage(base_id: str, place: str) -> str:
    """Return Python code for stock PEFT.

    Args:
        base_id: Hub id or folder of the base.
        place: Folder, zip or Hub id of the adapter. The code unpacks a zip first.
    """
    # PEFT reads folders and Hub ids, but no zips.
    unpack = ""
    if (folder := _unpacked(place)) != place:
        unpack = f"import shutil\n\nshutil.unpack_archive({_string(place)}, {_string(folder)})\n\n"
        place = folder
    return f"""\
{unpack}from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({_string(base_id)})
# As Drag-and-Drop LLMs computes on most CPUs. In another dtype, such as bfloat16 on its GPUs,
# an answer may differ where two words are nearly as likely.
base = AutoModelForCausalLM.from_pretrained({_string(base_id)}, dtype="float32")
model = PeftModel.from_pretrained(base, {_string(place)})
{_ASK}"""


def merged_usage(place: str) -> str:
    """Return Python code that needs only transformers, for a merged model's folder or Hub id."""
    return f"""\
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({_string(place)})
model = AutoModelForCausalLM.from_pretrained({_string(place)})
{_ASK}"""


def gguf_usage(place: str) -> str:
    """Return a llama.cpp command that opens a chat.

    Replace `GGUF_BASE` in it with a GGUF file of the base, in any quantisation.
    """
    return f"llama-cli -m {GGUF_BASE} --lora {shlex.quote(place)}"


def mlx_usage(base_id: str, place: str) -> str:
    """Return an mlx-lm command that opens a chat."""
    # mlx-lm reads folders only; a download is a zip of one.
    folder = shlex.quote(_unpacked(place))
    return f"mlx_lm.chat --model {shlex.quote(base_id)} --adapter-path {folder}"


def gguf_model_usage(place: str) -> str:
    """Return the commands for a whole model: a chat in llama.cpp, and the import into LM Studio."""
    file = shlex.quote(place)
    return (
        f"llama-cli -m {file}\n\n# In LM Studio, then choose it among My Models:\nlms import {file}"
    )


def ollama_usage(name: str, place: str) -> str:
    """Return the commands that create an Ollama model from a folder and chat with it."""
    model = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-.") or "adapter"
    return f"ollama create {model} -f {shlex.quote(f'{place}/Modelfile')}\nollama run {model}"


def _unpacked(place: str) -> str:
    """Return the folder that a zip unpacks to; any other place as it is."""
    return place[: -len(".zip")] if place.lower().endswith(".zip") else place


def _string(text: str) -> str:
    """Quote a path as a Python string literal, whatever characters it contains."""
    return json.dumps(text, ensure_ascii=False)
