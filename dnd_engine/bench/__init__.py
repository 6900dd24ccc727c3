"""What synthesis, chat and training cost here, each beside what it is compared with.

Everything of a ratio is measured in turns in one run, so that a busy machine slows both sides. The
numbers are of this machine and this moment; the ratios travel better. Needs no task folder: prompts
and examples are made up, in the shapes that training has. Knows the engine and stock PEFT; knows no
quality.
"""
