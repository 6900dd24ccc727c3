"""Reads files into prompts and groups them into weighted buckets; imports no model, no torch."""

from dnd_engine.prompts.files import Prompt, PromptFile, read_prompt_file

__all__ = ["Prompt", "PromptFile", "read_prompt_file"]
