"""Adapters for other tools: PEFT, merged into the base, GGUF for llama.cpp, the Hugging Face Hub.

`registry` lists the targets; the Hub, a place rather than a format, is not among them.
"""
