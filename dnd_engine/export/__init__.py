"""Adapters for other tools: merged into their base, as GGUF for llama.cpp, on the Hugging Face Hub.

The PEFT folder or zip, from which all of them start, is the `lora.adapter` module's.
"""
