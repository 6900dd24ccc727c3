"""Files to prompts, prompts to weighted buckets; reads no model and no torch."""

from dnd_engine.prompts.files import Prompt, PromptFile, read_prompt_file

__all__ = ["Prompt", "PromptFile", "read_prompt_file"]
