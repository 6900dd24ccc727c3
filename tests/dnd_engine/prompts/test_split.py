"""Instruction and input are told apart in one place, in the same way for training and for chat."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dnd_engine
from dnd_engine.prompts.split import PromptParts, split_prompt
from dnd_engine.tasks.folder import Example

CASES = {
    "plain": ("Say it.\n\nab", "Say it.", "ab"),
    "no blank line": ("Say it: ab", "Say it: ab", None),
    "line breaks alone": ("Say it:\nab", "Say it:\nab", None),
    "Windows": ("Say it.\r\n\r\nab\r\ncd", "Say it.", "ab\ncd"),
    "old Mac": ("Say it.\r\rab", "Say it.", "ab"),
    "spaces on the blank line": ("Say it.\n \t\nab", "Say it.", "ab"),
    "several blank lines": ("Say it.\n\n \n\nab", "Say it.", "ab"),
    "input of two paragraphs": ("Say it.\n\nab\n\ncd", "Say it.", "ab\n\ncd"),
    "indented input": ("Run it.\n\n    x = 1", "Run it.", "    x = 1"),
    "blank lines around": ("\n\nSay it.\n\nab\n\n", "Say it.", "ab"),
    "nothing below": ("Say it.\n\n  ", "Say it.", None),
}


@pytest.mark.parametrize(("prompt", "instruction", "rest"), CASES.values(), ids=CASES)
def test_a_prompt_is_cut_at_its_first_blank_line(
    prompt: str, instruction: str, rest: str | None
) -> None:
    assert split_prompt(prompt) == PromptParts(instruction, rest)


@pytest.mark.parametrize("prompt", [case[0] for case in CASES.values()], ids=CASES)
def test_an_example_without_its_instruction_is_the_input(prompt: str) -> None:
    assert Example(prompt, "").bare == split_prompt(prompt).input


@given(st.text(st.sampled_from("ab \t\n\r"), max_size=20))
def test_parts_that_are_joined_are_cut_in_the_same_place(prompt: str) -> None:
    parts = split_prompt(prompt)
    assert split_prompt(parts.joined) == parts


def test_nothing_else_cuts_a_prompt() -> None:
    root = Path(dnd_engine.__file__).parents[1]
    cutting = [
        path.name
        for folder in ("dnd_engine", "ui")
        for path in (root / folder).rglob("*.py")
        if re.search(r'(partition|split)\("(\\\\n){2}"', path.read_text("utf-8"))
    ]
    assert cutting == []
