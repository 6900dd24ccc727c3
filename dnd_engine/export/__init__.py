"""Exports adapters: PEFT, merged into the base, GGUF for llama.cpp, the Hugging Face Hub.

`registry` lists the targets. The Hub is a destination rather than a format, so it is not listed.
"""
