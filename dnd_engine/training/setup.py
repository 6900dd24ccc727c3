"""What a training run needs before its first step, from its recipe.

Everything that can be refused is refused first: sizes, folders of other runs, the number of tasks,
the disk. Slow work comes after: reading checkpoints, encoding prompts.
"""

import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dnd_engine.errors import GeneratorError, TrainingError
from dnd_engine.files import write_whole
from dnd_engine.generator.config import GeneratorConfig, fits_encoder
from dnd_engine.generator.folder import Generator, GeneratorFolder, check_base
from dnd_engine.lora.layout import LoRALayout, LoRASpec
from dnd_engine.models.base import (
    BaseModel,
    best_device,
    best_dtype,
    fingerprint,
    load_base,
    resolve_base,
)
from dnd_engine.models.encoder import PromptEncoder
from dnd_engine.models.memory import check_memory
from dnd_engine.models.runtime import Runtime
from dnd_engine.models.sources import ENCODERS, ResolvedWeights, resolve
from dnd_engine.tasks.folder import Task, load_tasks
from dnd_engine.tasks.formats import expand
from dnd_engine.tasks.label_names import relabelled_tasks
from dnd_engine.tasks.wordings import read_wordings, reworded
from dnd_engine.training.batches import (
    ConditionPool,
    TaskPool,
    build_pools,
    condition_path,
    encode_conditions,
    split_families,
)
from dnd_engine.training.checkpoint import read_notes
from dnd_engine.training.collection import Collection, check_same_base
from dnd_engine.training.objectives import Objective, Reconstruction, TaskLoss
from dnd_engine.training.recipe import MODELS, TrainRecipe
from dnd_engine.training.run_log import RECIPE
from dnd_engine.training.through_imprint import ImprintLoss, has_bare_inputs

_SPARE_BYTES = 200_000_000
"""Room left for the log, the pictures and the generator folder."""

_DATA_FIELDS = ("task", "family", "licence")
"""What is known of each task that a generator was trained on."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """All of a run but its optimizer and its progress."""

    runtime: Runtime
    dtype: torch.dtype
    """That base and decoder compute in."""
    generator: Generator
    """At its start; exactly the base, unless a warm start says otherwise."""
    objective: Objective
    pools: tuple[TaskPool, ...]
    conditions: ConditionPool
    hashes: dict[str, str]
    """SHA-256 of the contents that the run depends on, by what they are."""
    identity: dict[str, Any]
    """Settings and hashes: a checkpoint belongs to one of these."""
    inherited: Mapping[str, Any]
    """What the warm start says of its own training, whose data count as seen; empty without."""
    teacher_before: Mapping[str, Any] = field(default_factory=dict)
    """What the warm start says of its teacher's training; empty unless a teacher is trained."""
    teacher_start: Float[Tensor, "tokens rows cols"] | None = None
    """Weight tokens that a teacher's training starts from; None unless one is trained."""


def prepare(recipe: TrainRecipe, checkpoint: Path) -> Prepared:
    """Load, check, and do what is done once; the checkpoint of another run is refused.

    Raises:
        TrainingError, TaskError, AssetError, BaseMismatchError: As `trainer.train` says.
    """
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    device = best_device()
    dtype = best_dtype(device)
    # A base that will be sharded is read into main memory, since no device need hold all of it.
    place = torch.device("cpu") if recipe.shard_base else device
    base = load_base(resolve_base(recipe.base, place, dtype), place, dtype)
    base = replace(base, device=device)
    encoder = resolve(recipe.encoder, ENCODERS)
    reader = PromptEncoder(encoder.path, device, dtype)
    _check_first_stage(recipe, reader, encoder.hub_id)
    config = _configure(recipe, base, encoder)
    _check_memory(recipe, config, device)
    # Sampled on the CPU and then moved, so that the start does not depend on the device.
    torch.manual_seed(recipe.seed)
    generator = Generator(config).to(device)
    runtime = Runtime.of(base, generator.config.layout)
    hashes = {"base": base.weights.sha256, "encoder": encoder.sha256}
    warm_start = _open_warm_start(recipe, generator.config, hashes)
    collection = _open_collection(recipe, generator.config, hashes)
    tasks = _read_tasks(recipe, hashes)
    families = split_families(tasks, recipe.validation_families, recipe.seed)
    inherited = {} if warm_start is None else warm_start.config.training
    seen = inherited.get("data", ())
    if warm_start is not None and recipe.kind == "teacher":
        # The earlier teacher's too, which this one goes on from.
        seen = warm_start.seen("data")
    _check_unseen(families, seen)
    pools = build_pools(tasks, base.tokenizer, recipe, families)
    _check_count(recipe, pools)
    if collection is not None:
        pools = _with_checkpoints(pools, collection)
        if recipe.objective == "task_loss":
            # It needs nothing of the collection but which tasks are in it.
            hashes["collected_tasks"] = _sha256_of(pool.task.info.slug for pool in pools)
    if recipe.objective == "imprint":
        pools = tuple(p for p in pools if p.role == "validation" or has_bare_inputs(p, recipe))
        _check_count(recipe, pools)
    identity = {**recipe.identity(), **{f"{name}_sha256": h for name, h in hashes.items()}}
    if checkpoint.exists():
        _check_checkpoint(checkpoint, identity, recipe)
    read_by = f"encoder:{hashes['encoder']}:{dtype}"  # the same for any base
    # A teacher has no condition: it reads its prompts through the base.
    reads = recipe.kind != "teacher"
    missing = [p for p in pools if reads and not condition_path(p, read_by, recipe).exists()]
    _check_disk(recipe, generator, _condition_bytes(missing, reader, recipe))
    # Before the slow work, so that whoever watches the folder sees meanwhile what is planned.
    write_whole(recipe.out / RECIPE, json.dumps(recipe.to_json(), indent=1) + "\n")
    objective: Objective = TaskLoss(runtime)
    if collection is not None and recipe.objective == "reconstruction":
        objective = Reconstruction(collection, pools, recipe, hashes["collection"])
    if recipe.objective == "imprint":
        objective = ImprintLoss(runtime, pools, recipe)
    conditions = ConditionPool.unread(len(pools))
    if reads:
        conditions = encode_conditions(pools, reader, read_by, recipe)
    prepared = Prepared(
        runtime, dtype, generator, objective, pools, conditions, hashes, identity, inherited
    )
    if warm_start is not None and recipe.kind == "teacher":
        # A teacher is trained in the place of the shared tokens; its decoder is not used.
        start = _teacher_start(generator.shared.detach().cpu(), warm_start)
        with torch.no_grad():
            generator.shared.copy_(start)
        return replace(prepared, teacher_before=warm_start.teacher, teacher_start=start)
    if warm_start is not None:
        # With its channel statistics, because its decoder has learnt to read what they standardise.
        generator.load_state_dict(warm_start.load(device, torch.float32).state_dict())
    else:
        trained = (i for i, pool in enumerate(pools) if pool.role == "train")
        generator.set_condition_statistics(*conditions.statistics(trained))
        if isinstance(objective, Reconstruction):
            objective.initialise(generator)
    return prepared


def _check_first_stage(recipe: TrainRecipe, encoder: PromptEncoder, encoder_id: str) -> None:
    """Refuse a decoder whose first stage does not take what the encoder gives."""
    num_prompts, length, width = recipe.stages[0]
    if width != encoder.width:
        raise TrainingError(
            f"`stages` begins with {list(recipe.stages[0])}, but the encoder {encoder_id} gives "
            f"embeddings {encoder.width} wide. Let `stages` begin with "
            f"{[num_prompts, length, encoder.width]}."
        )
    longest, reads = encoder.longest, recipe.reads_tokens
    if reads is None and not fits_encoder(length, longest, in_pieces=False):
        raise TrainingError(
            f"`stages` begins with {length} tokens of a prompt, but the encoder {encoder_id} reads "
            f"at most {longest}. Shorten them, or set `reads_tokens`."
        )
    if reads is not None and not fits_encoder(reads, longest, in_pieces=True):
        raise TrainingError(
            f"`reads_tokens` is {reads}, and the encoder {encoder_id} reads {longest} tokens at "
            f"once. Set it to at most {longest}, or to a multiple of that."
        )


def _configure(recipe: TrainRecipe, base: BaseModel, encoder: ResolvedWeights) -> GeneratorConfig:
    spec = LoRASpec(r=recipe.r, lora_alpha=recipe.lora_alpha)
    layout = LoRALayout.from_config(base.config, spec).from_layer(recipe.first_layer)
    return GeneratorConfig(
        features=(*recipe.stages, layout.grid()),
        kernel_size=recipe.kernel_size,
        layout=layout,
        head=recipe.head,
        head_options=recipe.head_options,
        reads_tokens=recipe.reads_tokens,
        base={"id": base.weights.hub_id, "fingerprint": fingerprint(base)},
        encoder={"id": encoder.hub_id, "sha256": encoder.sha256},
    )


def _check_memory(recipe: TrainRecipe, config: GeneratorConfig, device: torch.device) -> None:
    """Refuse sizes that do not fit into memory, before anything is built of them."""
    with torch.device("meta"):
        generator = Generator(config)
    trained = generator.parameters() if recipe.kind == "generator" else [generator.shared]
    # Of what is trained also a gradient and two moments.
    entries = sum(v.numel() for v in generator.state_dict().values())
    entries += 3 * sum(v.numel() for v in trained)
    check_memory(torch.float32.itemsize * entries, "training the generator", device)


def _open_warm_start(
    recipe: TrainRecipe, ours: GeneratorConfig, hashes: dict[str, str]
) -> GeneratorFolder | None:
    """The generator to start from, if its decoder and LoRA are those of the recipe.

    A teacher's rank may be higher than the LoRA's, and the decoder does not matter to it.
    """
    if recipe.warm_start is None:
        return None
    folder = GeneratorFolder.open(recipe.warm_start)
    check_base(folder.config, ours.base["id"], ours.base["fingerprint"])
    _check_notes(folder.path, folder.config.training)
    if recipe.kind == "teacher":
        _check_notes(folder.path, folder.teacher)
        _check_teacher(folder, ours.layout)
        hashes |= {"warm_start": folder.sha256, "teacher": folder.teacher_sha256}
        return folder
    names = ("layout", "features", "kernel_size", "head", "head_options", "reads_tokens")
    for name in (*names, "delta_scale", "tokens", "padding"):
        theirs, wanted = getattr(folder.config, name), getattr(ours, name)
        if theirs != wanted:
            raise TrainingError(
                f"`warm_start` `{folder.path}` does not fit the recipe: its `{name}` is "
                f"{_in_words(theirs)}, the recipe's {_in_words(wanted)}. Change the recipe, or "
                "start without it."
            )
    hashes["warm_start"] = folder.sha256
    return folder


def _check_notes(path: Path, training: Mapping[str, Any]) -> None:
    """Refuse notes on data that the end of the training could not add to its own."""
    for name in ("data", "validation_data", "variants"):
        rows = training.get(name, [])
        fits = _is_variant if name == "variants" else _is_data
        if not isinstance(rows, list) or not all(map(fits, rows)):
            expected = "slugs" if name == "variants" else f"objects with {', '.join(_DATA_FIELDS)}"
            raise GeneratorError(
                f"`warm_start` `{path}`: expected `{name}` of its training to be a list of "
                f"{expected}. Take the generator from where it was trained, or start without it."
            )


def _is_data(row: object) -> bool:
    return isinstance(row, dict) and all(isinstance(row.get(name), str) for name in _DATA_FIELDS)


def _is_variant(row: object) -> bool:
    return isinstance(row, str)


def _check_teacher(folder: GeneratorFolder, wanted: LoRALayout) -> None:
    """Refuse a recipe whose LoRA cannot go on from the generator's teacher, or shared part."""
    if folder.config.layout.targets != wanted.targets:
        raise TrainingError(
            f"a teacher adapts the layers of its generator: `{folder.path}` has "
            f"{_in_words(folder.config.layout)}, the recipe asks for {_in_words(wanted)}. Set "
            f"`first_layer: {folder.config.layout.targets[0].layer}`."
        )
    before, r = folder.load_teacher(), wanted.spec.r
    least = folder.config.layout.spec.r if before is None else before.shape[1]
    scaling = folder.config.layout.spec.scaling
    if r < least or wanted.spec.scaling != scaling:
        raise TrainingError(
            f"a teacher for `{folder.path}` needs rank {least} or more and a `lora_alpha` of "
            f"{scaling:g} times the rank, got {_in_words(wanted)}. Set `r: {max(r, least)}` and "
            f"`lora_alpha: {scaling * max(r, least):g}`."
        )


def _teacher_start(
    fresh: Float[Tensor, "tokens rows cols"], generator: GeneratorFolder
) -> Float[Tensor, "tokens rows cols"]:
    """Return what a teacher's training starts from: the earlier one, else the shared part.

    Rows of a higher rank than before keep their fresh tokens, with B at zero, so the start computes
    what it did before.
    """
    before = generator.load_teacher()
    if before is None:
        before = generator.load(torch.device("cpu"), torch.float32).shared.detach()
    return torch.cat([before.float(), fresh[:, before.shape[1] :]], dim=1)


def _check_unseen(families: set[str], rows: Iterable[Mapping[str, str]]) -> None:
    """Refuse to validate on families that the warm start was trained on."""
    seen = sorted(families & {row["family"] for row in rows})
    if seen:
        raise TrainingError(
            f"`warm_start` was trained on {len(seen)} of the validation families, such as "
            f"`{seen[0]}`, so they would say nothing of unseen ones. Name other families, or use "
            "its `seed` and `validation_families`, which leave out the same ones."
        )


def _open_collection(
    recipe: TrainRecipe, config: GeneratorConfig, hashes: dict[str, str]
) -> Collection | None:
    """The checkpoints, if the recipe names some; to be reconstructed, they must fit the recipe."""
    if recipe.collection is None:
        return None
    collection = Collection.open(recipe.collection)
    if recipe.objective == "task_loss":
        return collection
    check_same_base(collection.path, collection.manifest.base, config.base)
    if collection.layout != config.layout:
        raise TrainingError(
            f"the collection `{collection.path}` has LoRAs of {_in_words(collection.layout)}, the "
            f"recipe asks for {_in_words(config.layout)}. Set `r`, `lora_alpha` and "
            "`first_layer` to the collection's."
        )
    hashes["collection"] = collection.train_runs_sha256
    return collection


def _read_tasks(recipe: TrainRecipe, hashes: dict[str, str]) -> tuple[Task, ...]:
    tasks = load_tasks(
        recipe.tasks,
        split="train",
        without_licence_classes=recipe.without_licence_classes,
    )
    if recipe.wordings is not None:
        wordings = read_wordings(recipe.wordings)
        tasks = tuple(reworded(task, wordings, recipe.seed) for task in tasks)
    renamed = relabelled_tasks(tasks, per_task=recipe.label_variants, seed=recipe.seed)
    # Other labels are made of the tasks as they are, so they come in no other format.
    tasks = (*expand(tasks, per_task=recipe.format_variants, seed=recipe.seed), *renamed)
    digest = hashlib.sha256()
    for task in tasks:
        # What training reads of a task; descriptions and test sides may change.
        info = task.info
        sides = [[e.prompt, e.response] for e in task.train]
        digest.update(json.dumps([info.slug, info.family, info.category, sides]).encode())
    hashes["tasks"] = digest.hexdigest()
    return tasks


def _check_count(recipe: TrainRecipe, pools: Sequence[TaskPool]) -> None:
    trained = sum(pool.role == "train" for pool in pools)
    if trained < 2:
        raise TrainingError(
            f"only {trained} task(s) of {', '.join(f'`{folder}`' for folder in recipe.tasks)} have "
            f"enough examples of at most {recipe.max_tokens} tokens; training needs two or more."
        )


def _sha256_of(names: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def _with_checkpoints(pools: Sequence[TaskPool], collection: Collection) -> tuple[TaskPool, ...]:
    """Leave out trained tasks without checkpoints; validating ones need none.

    Variants count as their task: only the task loss, which reads no checkpoint, knows any.
    """
    collected = set(collection.train_slugs)
    kept = tuple(p for p in pools if p.role == "validation" or p.task.info.plain_slug in collected)
    trained = sum(pool.role == "train" for pool in kept)
    if trained < 2:
        raise TrainingError(
            f"the collection `{collection.path}` has checkpoints of {trained} of the tasks; "
            "training needs two or more. Collect more tasks, or name the task folders that it was "
            "made from."
        )
    return kept


def _check_checkpoint(checkpoint: Path, identity: dict[str, Any], recipe: TrainRecipe) -> None:
    """Refuse to resume a run with other settings, data or models, saying which, or past its end."""
    notes = read_notes(checkpoint)
    theirs = json.loads(notes.get("identity", "{}"))
    # Through JSON, which makes lists of tuples, as in the notes.
    ours = json.loads(json.dumps(identity))
    # A local folder may have moved since, or be named from elsewhere: its hash is compared.
    moved = {name for name in MODELS if name not in theirs or name not in ours}
    # A setting that is newer than the checkpoint had its default.
    theirs = {**{f.name: f.default for f in fields(recipe) if f.name in ours}, **theirs}
    names = {**theirs, **ours}.keys() - moved
    changed = [name for name in sorted(names) if theirs.get(name) != ours.get(name)]
    contents = [n.removesuffix("_sha256") for n in changed if n.endswith("_sha256")]
    if contents:
        raise TrainingError(
            f"checkpoint `{checkpoint}` was made with other contents of: {', '.join(contents)} "
            "(their SHA-256 differ). Bring back what the run began with, or train into another "
            "folder."
        )
    if changed:
        words = [f"`{n}` was {theirs.get(n)!r}, is {ours.get(n)!r}" for n in changed[:3]]
        raise TrainingError(
            f"checkpoint `{checkpoint}` belongs to another recipe: {'; '.join(words)}. Resume with "
            "the recipe that made it, or train into another folder."
        )
    if (done := int(notes["step"])) > recipe.steps:
        raise TrainingError(
            f"`{recipe.out}` has already done {done} steps, more than the {recipe.steps} asked for."
        )


def _condition_bytes(pools: Sequence[TaskPool], encoder: PromptEncoder, recipe: TrainRecipe) -> int:
    """Return the bytes of tasks' encoded prompts, in bfloat16 (see `encode_conditions`)."""
    vectors = 0
    for pool in pools:
        length = recipe.read_length
        if recipe.reads_tokens is not None:
            # Only as many as its longest prompt has: a small share of the paper's.
            length = max(encoder.count_tokens(pool.prompts, length))
        vectors += len(pool.prompts) * length
    return torch.bfloat16.itemsize * vectors * encoder.width


def _check_disk(recipe: TrainRecipe, generator: Generator, encoded: int) -> None:
    """Refuse to start what a disk cannot hold: checkpoint, best weights, and encoded prompts.

    The bytes of prompts still to be encoded include tasks that the objective is going to leave out.
    """
    # In float32.
    state = 4 * sum(tensor.numel() for tensor in generator.state_dict().values())
    # Parameters, two moments and the best parameters, all twice while one file replaces another.
    written = 8 * state - sum(file.stat().st_size for file in recipe.out.glob("*.safetensors"))
    needs = ((recipe.out, max(0, written) + _SPARE_BYTES), (recipe.cache_folder, encoded))
    # Both folders may be on one disk. They must exist before the system tells which.
    on_disk: dict[int, int] = defaultdict(int)
    for folder, size in needs:
        folder.mkdir(parents=True, exist_ok=True)
        on_disk[_disk(folder)] += size
    for folder, _ in needs:
        free, needed = shutil.disk_usage(folder).free, on_disk[_disk(folder)]
        if free < needed:
            raise TrainingError(
                f"the disk of `{folder}` has {free / 1e9:.1f} GB free, the run needs about "
                f"{needed / 1e9:.1f} GB there; encoded prompts take {encoded / 1e9:.1f} GB of "
                f"`{recipe.cache_folder}`. Make room, name another `out` or `cache`, or lower "
                "`pool_prompts`."
            )


def _disk(folder: Path) -> int:
    """Which file system a folder is on."""
    return folder.stat().st_dev


def _in_words(value: object) -> str:
    """A setting; of a layout, what can be set."""
    if isinstance(value, LoRALayout):
        spec = value.spec
        return (
            f"r {spec.r}, alpha {spec.lora_alpha} on {len(spec.target_modules)} modules, "
            f"{len(value.targets)} from layer {value.targets[0].layer} on"
        )
    return repr(value)
