"""Recreates an adapter from its recipe."""

from collections.abc import Generator as Steps
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dnd_engine.errors import RecipeError
from dnd_engine.lora.adapter import Adapter
from dnd_engine.lora.provenance import Imprinting, Recipe, Refinement
from dnd_engine.notes import joined, noted
from dnd_engine.progress import Progress
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.synthesis.imprint import imprint_adapter, imprint_alone
from dnd_engine.synthesis.learn import refine_adapter
from dnd_engine.synthesis.loaded import Loaded
from dnd_engine.synthesis.write import write
from dnd_engine.wording import N_


def regenerate(
    loaded: Loaded, recipe: Recipe, paths: Sequence[Path]
) -> Steps[Progress, None, Adapter]:
    """Recreate an adapter; see `Engine.regenerate`."""
    _check_models(loaded, recipe)
    if not recipe.has_texts:
        recipe = recipe.with_texts(recipe.find_files(paths, loaded.config.limits))
    buckets = [source.bucket() for source in recipe.buckets]
    made = yield from _begin(loaded, recipe, buckets)
    # What was made without a generator was also refined without one.
    answering = loaded if recipe.generator else replace(loaded, generator=None)
    for step in recipe.refinements:
        # One by one, not their product: each folding rounds to bfloat16.
        for strength in step.folded:
            made = made.with_strength(strength).fold()
        learnt = [source.bucket() for source in step.buckets]
        config = step.config
        if _is_later_teacher(answering, step):
            config = replace(config, trained_teacher=False)
        made = yield from refine_adapter(answering, made, learnt, config)
    for strength in recipe.folded:
        made = made.with_strength(strength).fold()
    return made.with_strength(recipe.strength)


def _check_models(loaded: Loaded, recipe: Recipe) -> None:
    """Reject a recipe that needs other models than those loaded, and name all that differ."""
    # An imprint alone reads no prompts with the encoder.
    parts = (N_("base"), N_("encoder"), N_("generator")) if recipe.generator else ("base",)
    info, faults = loaded.info, []
    for part in parts:
        wanted, here = getattr(recipe, f"{part}_sha256"), getattr(info, f"{part}_sha256")
        if wanted != here:
            found = f"{getattr(info, f'{part}_id')} ({here[:12]}…)" if here else noted("none")
            faults.append(
                noted(
                    "the recipe needs the {part} {name} (SHA-256 {digest}…), loaded is {found}. "
                    "Load the one it names.",
                    part=noted(part),
                    name=getattr(recipe, part),
                    digest=wanted[:12],
                    found=found,
                )
            )
    taught = (recipe.imprint, *recipe.refinements)
    ours = loaded.generator.folder.teacher_sha256 if loaded.generator else ""
    for wanted in {step.teacher_sha256 for step in taught if step} - {"", ours}:
        faults.append(
            noted(
                "the recipe needs the teacher with the SHA-256 {digest}…, the loaded generator has "
                "{found}. Load the generator folder that the adapter was made with.",
                digest=wanted[:12],
                found=f"{ours[:12]}…" if ours else noted("none"),
            )
        )
    if faults:
        raise RecipeError(joined(faults, "\n"))


def _begin(
    loaded: Loaded, recipe: Recipe, buckets: Sequence[Bucket]
) -> Steps[Progress, None, Adapter]:
    """Run the first stage of a recipe: synthesis, imprint, or both."""
    found = recipe.imprint
    if recipe.generator is None:
        assert found is not None, "`Recipe` refuses one without generator and imprint"
        return (yield from imprint_alone(loaded, buckets, found.config, mix=recipe.mix))
    made = yield from write(loaded, buckets, mix=recipe.mix, seed=recipe.seed)
    if found is not None:
        config = found.config
        if _is_later_teacher(loaded, found):
            config = replace(config, trained_teacher=False)
        made = yield from imprint_adapter(loaded, made, buckets, config, teacher=found.teacher)
    return made


def _is_later_teacher(loaded: Loaded, step: Imprinting | Refinement) -> bool:
    """Return whether a step asked a generator that got its trained teacher later."""
    asked = step.teacher == "generator" if isinstance(step, Imprinting) else not step.labels
    return asked and not step.teacher_sha256 and bool(loaded.teacher_sha256(step.config))
