"""Progress of the engine in the visitor's language."""

from collections.abc import Mapping

from dnd_engine.progress import Doing, Progress
from ui.text import N_, _, number

_DOING: Mapping[Doing, str] = {
    "fetch": "{name}",
    "download": "{name}",
    "convert": N_("Converting the base model"),
    "load_base": N_("Base model"),
    "load_encoder": N_("Text encoder"),
    "load_generator": N_("Generator"),
    "ready": "",
    "read": N_("Reading {name}"),
    "write": N_("Writing weights"),
    "compare_tasks": N_("Comparing with training tasks"),
    "shuffled": N_("shuffled prompts"),
    "wrong": N_("wrong prompts"),
    "compare_adapters": N_("on {num_prompts} prompts"),
    "run_checks": N_("Checking"),
    "ask": N_("Asking the teacher: {done} of {total} prompts"),
    "train": N_("Loss {loss}"),
    "answered": N_("“{answer}” to {same} of {total} prompts"),
    "measure_ordinary": N_("Once per base model: measuring its ordinary answers"),
    "ask_with_instruction": N_("Asking with the instruction: {done} of {total} prompts"),
    "fit_layer": N_("Layer {done} of {total}"),
}


def step_words(progress: Progress) -> str:
    """Describe the current step, without the time left, which is wrong once the stage has ended.

    The name of its stage is shown beside it.
    """
    words, values = _DOING[progress.doing], {"name": progress.name}
    if progress.doing == "read" and not progress.name:
        words = N_("Reading all prompts")
    if progress.done is not None and progress.total is not None:
        values |= {"done": number(progress.done), "total": number(progress.total)}
    if progress.num_prompts is not None:
        values["num_prompts"] = number(progress.num_prompts)
    if progress.loss is not None:
        values["loss"] = number(progress.loss, ".3f")
    if progress.score is not None and progress.score_before is not None:
        # A share, not a count, because long answers can be partly right.
        values |= {
            "now": number(100 * progress.score, ".0f"),
            "before": number(100 * progress.score_before, ".0f"),
            "count": number(progress.num_held_back),
        }
        words = N_("{now} % of {count} held-back prompts right, {before} % before")
        if progress.by_itself:
            words = N_(
                "{now} % of {count} held-back prompts answered as the teacher does, "
                "{before} % before"
            )
    if (answers := progress.answers) is not None:
        counts = {"same": answers.count, "total": answers.total, "different": answers.distinct}
        values |= {name: number(count) for name, count in counts.items()}
        values["answer"] = answers.commonest
        if answers.distinct > 1:
            words = N_("“{answer}” to {same} of {total} prompts, {different} different answers")
    return _(words, **values)
