"""Measures what synthesis, chat, evaluation and training cost here, each beside a baseline.

Both sides of a ratio are measured alternately in one run, so that a busy machine slows both.
Absolute numbers hold for this machine and moment; ratios are more portable. Needs no task folder:
prompts and examples are synthetic, in the shapes that training uses. Knows the engine and stock
PEFT; knows nothing about quality.
"""
