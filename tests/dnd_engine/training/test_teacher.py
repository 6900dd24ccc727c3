"""What a teacher answers, and how far a student is from it."""

import torch

from dnd_engine.models.base import BaseModel
from dnd_engine.tasks.folder import Example
from dnd_engine.training import teacher
from dnd_engine.training.examples import encode_example


def test_a_students_divergence_counts_the_rest_as_one_token() -> None:
    """Against the plain sum over a small vocabulary; zero for the teacher itself."""
    generator = torch.Generator().manual_seed(0)
    teachers, students = torch.randn(2, 5, 40, generator=generator).log_softmax(dim=-1)
    top = teachers.topk(16)
    rest = (1 - top.values.exp().sum(dim=1)).log()
    found = teacher.teacher_divergence(students, top.indices, top.values, rest)
    expected = []
    for p, q, kept in zip(teachers.exp(), students.exp(), top.indices, strict=True):
        others = [i for i in range(40) if i not in kept.tolist()]
        merged_p = torch.cat([p[kept], p[others].sum()[None]])
        merged_q = torch.cat([q[kept], q[others].sum()[None]])
        expected.append((merged_p * (merged_p / merged_q).log()).sum())
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-4, rtol=1e-4)
    same = teacher.teacher_divergence(teachers, top.indices, top.values, rest)
    torch.testing.assert_close(same, torch.zeros(5), atol=1e-5, rtol=0)


def test_the_teachers_tokens_are_those_of_full_prompts(base: BaseModel) -> None:
    """Against a forward pass over one example alone."""
    examples = [Example(f"Say it twice.\n\n{text}", 2 * text) for text in ("ab", "c", "def")]
    said = teacher.listen(examples, base)
    for (tokens, log_probs, rests), example in zip(said, examples, strict=True):
        encoded = encode_example(base.tokenizer, example, "full")
        assert encoded is not None
        logits = base.model(input_ids=torch.tensor([encoded.ids])).logits[0]
        expected = logits[encoded.start - 1 : -1].log_softmax(dim=-1)
        assert tokens.shape == (len(encoded.ids) - encoded.start, 16)
        top = expected.topk(16)
        torch.testing.assert_close(log_probs, top.values, atol=1e-3, rtol=0)
        rest = (1 - top.values.exp().sum(dim=1)).clamp(min=1e-6).log()
        torch.testing.assert_close(rests, rest, atol=1e-2, rtol=1e-2)
