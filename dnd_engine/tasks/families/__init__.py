"""Task families made in code, so that a generator can be rebuilt from this repository alone.

An *operation* is a *primitive* (reverse the words) in a *scope* (of each line), or two of them one
after the other (a *composition*), or a question about a little text whose facts its maker knows
(*kinds*). Every operation is a task with eight wordings. Operations of one *input kind* get the
same texts, so that only the instruction tells them apart. Whole primitives, whole families of
kinds, and pairs of primitives are held out.

Where things are: `words` word lists, `../data/` phrases and sentences, `inputs` input kinds,
`scopes`, `primitives/` one function each, `compositions` the pairs, `kinds` texts with facts,
`answers` questions about them, `wording` frames, `registry` all operations by name, `sample` some
of them, `write` the task folder.
"""

from dnd_engine.tasks.families.registry import apply_operation
from dnd_engine.tasks.families.write import write_families

__all__ = ["apply_operation", "write_families"]
