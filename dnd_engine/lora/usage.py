"""How an adapter is used outside of this project: short code to copy, for cards and for screens."""

import json
import shlex

__all__ = ["GGUF_BASE", "gguf_usage", "merged_usage", "peft_usage"]

GGUF_BASE = "base.gguf"
"""Stands for the user's own GGUF file of the base."""

_ASK = """\
messages = [{"role": "user", "content": "Say hello."}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
)
answer = model.generate(**inputs, max_new_tokens=64, do_sample=False)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))"""


def peft_usage(base_id: str, place: str) -> str:
    """Python with stock PEFT.

    Args:
        base_id: Hub id or folder of the base.
        place: Folder or Hub id of the adapter; a zip is unpacked first.
    """
    unpack = ""
    if place.endswith(".zip"):
        folder = place.removesuffix(".zip")
        unpack = f"import shutil\n\nshutil.unpack_archive({_string(place)}, {_string(folder)})\n\n"
        place = folder
    return f"""\
{unpack}from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({_string(base_id)})
base = AutoModelForCausalLM.from_pretrained({_string(base_id)})
model = PeftModel.from_pretrained(base, {_string(place)})
{_ASK}"""


def merged_usage(place: str) -> str:
    """Python with transformers alone.

    Args:
        place: Folder or Hub id of the merged model.
    """
    return f"""\
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({_string(place)})
model = AutoModelForCausalLM.from_pretrained({_string(place)})
{_ASK}"""


def gguf_usage(place: str) -> str:
    """A llama.cpp command line that opens a chat.

    `GGUF_BASE` in it stands for a GGUF file of the base; any quantisation will do.

    Args:
        place: The adapter's GGUF file.
    """
    return f"llama-cli -m {GGUF_BASE} --lora {shlex.quote(place)}"


def _string(text: str) -> str:
    """A Python string literal in double quotes, whatever a path holds."""
    return json.dumps(text, ensure_ascii=False)
