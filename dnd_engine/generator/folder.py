"""A generator: the trained decoder of one base model, with everything needed to use it again.

Folder on disk <-> resident module. A generator knows its base by fingerprint and refuses another.
It turns a condition into weight tokens; it knows no prompts and no PEFT.
"""

import json
import math
import shutil
from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dnd_engine.errors import BaseMismatchError, GeneratorError, LayoutMismatchError
from dnd_engine.files import recover, sha256_of, written_aside
from dnd_engine.generator.config import GeneratorConfig, fits_encoder
from dnd_engine.generator.heads import head_named
from dnd_engine.generator.hyperconv import HyperConvDecoder
from dnd_engine.generator.projection import Projection
from dnd_engine.generator.report import Report
from dnd_engine.limits import FIXED
from dnd_engine.lora.weight_tokens import destandardise
from dnd_engine.models.base import fingerprint_difference
from dnd_engine.models.memory import check_memory
from dnd_engine.notes import first_of

_STD_FLOOR = 0.05
"""Minimum standard deviation of a condition channel: one MiniLM channel is constant, and dividing
by its zero deviation gave NaN from the first training step."""

_MAX_CENTROID = 1e9
"""Largest accepted entry of a centroid. Real ones are at most 1; this also refuses NaN."""

_FILES = ("config.json", "model.safetensors", "tasks.json")

_TEACHER_DTYPES = ("BF16", "F16", "F32")
"""Types of a teacher's tokens, as safetensors names them: those that every operation knows."""

TEACHER, TEACHER_NOTES = "teacher.safetensors", "teacher.json"
"""Files of an optional trained teacher: its weight tokens, and how it was trained."""


class Generator(nn.Module):
    """Shared LoRA tokens plus the decoder's output for a condition.

    `tokens = shared + delta_scale · decoder(standardised condition)`. The decoder starts with B at
    zero (see `heads`) and so do the shared tokens, so an untrained generator leaves the base
    unchanged; A starts random, as in a LoRA. Output in standardised tokens is destandardised first.
    Some project their condition before they decode it (see `projection`).
    """

    condition_mean: Tensor
    condition_std: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        layout = config.layout
        self.decoder = head_named(config.head).build(config)
        shared = torch.zeros(layout.grid())
        for m in layout.matrices():
            if m.side == "A":
                # Variance 1 / in: each output of A is then about as large as one of its inputs.
                shared[m.first_token : m.first_token + m.num_tokens].normal_(std=m.long**-0.5)
        self.shared = nn.Parameter(shared)
        # Buffers are saved with the weights but not trained.
        self.register_buffer("condition_mean", torch.zeros(config.width))
        self.register_buffer("condition_std", torch.ones(config.width))
        reads = config.reads_tokens
        self.projection = None if reads is None else Projection(reads, config.length)

    @property
    def networks(self) -> list[nn.Module]:
        """The decoder, and the projection if there is one: all that reads a condition."""
        return [self.decoder] if self.projection is None else [self.decoder, self.projection]

    def set_condition_statistics(
        self, mean: Float[Tensor, " width"], std: Float[Tensor, " width"]
    ) -> None:
        """Set the condition's standardisation to the statistics of the training prompts.

        Raises:
            LayoutMismatchError: If their size is not the width of this generator's condition.
        """
        if mean.shape != self.condition_mean.shape or mean.shape != std.shape:
            raise LayoutMismatchError(
                f"expected the mean and deviation of {self.config.width} channels, got "
                f"{tuple(mean.shape)} and {tuple(std.shape)}."
            )
        self.condition_mean.copy_(mean)
        self.condition_std.copy_(std.clamp(min=_STD_FLOOR))

    def standardise(
        self,
        tokens: Float[Tensor, "*batch length width"],
        mask: Bool[Tensor, "*batch length"],
    ) -> Float[Tensor, "*batch length width"]:
        """Standardise encoder output to a condition; padding becomes zero, the channel mean."""
        scaled: Tensor = (tokens - self.condition_mean) / self.condition_std
        return scaled * mask[..., None]

    def forward(
        self, condition: Float[Tensor, "batch prompts read width"]
    ) -> Float[Tensor, "batch tokens rows cols"]:
        """Project and decode standardised conditions: plain weight tokens of one adapter each."""
        return self.decode(self.project(condition))

    def project(
        self, condition: Float[Tensor, "batch prompts read width"]
    ) -> Float[Tensor, "batch prompts length width"]:
        """Project standardised conditions to the decoder's first stage, if they must be."""
        if self.projection is None:
            return condition
        projected: Tensor = self.projection(condition)
        return projected

    def decode(
        self, condition: Float[Tensor, "batch prompts length width"]
    ) -> Float[Tensor, "batch tokens rows cols"]:
        """Decode what `project` returns."""
        return self._tokens(self.decoder(condition))

    def decode_mean(
        self, condition: Float[Tensor, "batch prompts length width"]
    ) -> Float[Tensor, "tokens rows cols"]:
        """Decode what `project` returns, and average the weight tokens of the batch."""
        # Standardised tokens are no linear function of the output, so each entry needs its own.
        if self.config.tokens == "plain" and isinstance(self.decoder, HyperConvDecoder):
            return self._tokens(self.decoder.mean(condition))[0]
        return self.decode(condition).float().mean(dim=0)

    def _tokens(
        self, delta: Float[Tensor, "batch tokens out_rows out_cols"]
    ) -> Float[Tensor, "batch tokens rows cols"]:
        if self.config.tokens == "standardised":
            # In float32: a small error in a token's scale becomes a large one in all its weights.
            flat = destandardise(delta.flatten(0, 1).float())
            delta = flat.unflatten(0, delta.shape[:2])
        tokens: Tensor = self.shared + self.config.delta_scale * delta
        return tokens


@dataclass(frozen=True, slots=True)
class TaskCentroid:
    """Position of a training task in the encoder's embedding space."""

    slug: str
    description: str
    centroid: Sequence[float]

    def __post_init__(self) -> None:
        # An array, because those of the shipped generator would take 9 MB as Python's floats.
        object.__setattr__(self, "centroid", array("d", self.centroid))


@dataclass(frozen=True, slots=True)
class GeneratorFolder:
    """A generator on disk: `config.json`, `model.safetensors`, `tasks.json`, card.

    Evaluations may add `reports/<split>.json`, and `dnd train --kind teacher` a teacher: a LoRA of
    any rank for the same layers that answers whole prompts for imprints. A generator that is itself
    one LoRA for all tasks is its own teacher.
    """

    path: Path
    config: GeneratorConfig
    tasks: tuple[TaskCentroid, ...]
    sha256: str
    """Hash of `model.safetensors`."""
    teacher_sha256: str = ""
    """Hash of the file at `teacher_path`; empty if there is no teacher."""
    teacher: Mapping[str, Any] = field(default_factory=dict)
    """How the teacher was trained, in the form of `config.training`."""
    _read: dict[Path, tuple[tuple[int, int], Report]] = field(
        default_factory=dict, compare=False, repr=False
    )
    """Reports by file, as of its time and size."""

    @classmethod
    def open(cls, path: Path) -> "GeneratorFolder":
        """Read everything except the weights.

        Raises:
            GeneratorError: If the folder or one of its files is missing or malformed.
        """
        # A disk that cannot be written to may still be read.
        with suppress(OSError):
            recover(path)
        if not path.is_dir():
            raise GeneratorError(
                f"no generator folder at `{path}`. Expected a folder with `config.json`, "
                "`model.safetensors` and `tasks.json`; `dnd train` makes one."
            )
        try:
            return cls._read_files(path)
        except OSError as error:
            raise GeneratorError(
                f"generator folder `{path}` cannot be read: {error.strerror or error}. Check its "
                "permissions, or copy it again."
            ) from error

    @classmethod
    def _read_files(cls, path: Path) -> "GeneratorFolder":
        missing = [name for name in _FILES if not (path / name).is_file()]
        if missing:
            raise GeneratorError(f"`{path}` is no generator folder: {', '.join(missing)} missing.")
        try:
            config = GeneratorConfig.from_json(_read_object(path / "config.json"))
            tasks = _read_tasks(path / "tasks.json")
            has_teacher = (path / TEACHER).is_file()
            notes = _read_object(path / TEACHER_NOTES) if has_teacher else {}
        except GeneratorError as error:
            raise GeneratorError(f"generator folder `{path}`: {error}") from error
        folder = cls(path, config, tasks, sha256_of(path / "model.safetensors"), teacher=notes)
        own = sha256_of(path / TEACHER) if has_teacher else ""
        return replace(folder, teacher_sha256=own or (folder.sha256 if config.is_lora else ""))

    @property
    def name(self) -> str:
        """Name of the folder as the user gave it, so a link keeps its own."""
        # The path `.` has no name.
        return self.path.name or self.path.absolute().name

    @property
    def teacher_path(self) -> Path:
        """File of the teacher, if there is one."""
        own = self.path / TEACHER
        return self.path / "model.safetensors" if self.config.is_lora and not own.is_file() else own

    def seen(self, name: str) -> list[Any]:
        """Return `data`, `validation_data` or `variants` of generator and teacher, in one list."""
        found: dict[str, Any] = {}
        for training in (self.config.training, self.teacher):
            rows = training.get(name)
            # A row of a stranger's notes may be of any type.
            for row in rows if isinstance(rows, list) else ():
                name_of = row.get("task") if isinstance(row, dict) else row
                found.setdefault(str(name_of), row)
        return list(found.values())

    def card(self) -> str:
        """Contents of its `README.md`; may be empty."""
        path = self.path / "README.md"
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    def reports(self) -> dict[str, Report]:
        """Evaluations stored with the generator now, by split; may be empty.

        Raises:
            GeneratorError: If one of them is damaged.
        """
        found = {}
        for file in sorted((self.path / "reports").glob("*.json")):
            try:
                state = file.stat()
                changed = state.st_mtime_ns, state.st_size
                before, report = self._read.get(file, (None, None))
                if before != changed or report is None:
                    report = Report.from_json(_read_object(file))
                    self._read[file] = changed, report
                found[file.stem] = report
            except (GeneratorError, OSError) as error:
                raise GeneratorError(
                    f"the report `{file}` is damaged: {error} Write it again with "
                    "`dnd evaluate --card`, or remove it."
                ) from error
        return found

    def load(self, device: torch.device, dtype: torch.dtype) -> Generator:
        """Build the resident module, with strict loading.

        Raises:
            GeneratorError: If the weights are damaged or not those of `config.json`.
            AssetError: If they do not fit into memory.
        """
        weights = self.path / "model.safetensors"
        try:
            _check_shapes(weights, self.config)
            generator = Generator(self.config)
            broken = _fill(generator, weights)
        except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
            raise GeneratorError(f"`{weights}` does not fit its `config.json`: {error}") from error
        if broken:
            raise GeneratorError(
                f"`{weights}` holds weights that are NaN or infinite, in {len(broken)} tensor(s), "
                f"first `{broken[0]}`. It is damaged, or its training diverged. Use another "
                "generator, or train it again from a sound checkpoint."
            )
        if float(generator.condition_std.min()) <= 0:
            raise GeneratorError(
                f"`{weights}` holds a `condition_std` that is not positive, by which conditions "
                "would be divided. It is damaged. Use another generator."
            )
        generator.eval().requires_grad_(False)
        # These alone: adding shared tokens and dividing by statistics stays in float32.
        for network in generator.networks:
            network.to(dtype)
        return generator.to(device)

    def load_teacher(self) -> Float[Tensor, "tokens rows cols"] | None:
        """Read the teacher's weight tokens; None if there is none.

        Its number of rows is its rank, which may be higher than the generator's.

        Raises:
            GeneratorError: If the file is damaged or has another layout.
        """
        if not self.teacher_sha256:
            return None
        path, (count, rows, width) = self.teacher_path, self.config.layout.grid()
        # What a generator adds to its shared tokens is zero in a LoRA for all tasks.
        key = "tokens" if path.name == TEACHER else "shared"
        scaling = self.config.layout.spec.scaling
        try:
            with safe_open(path, framework="pt") as file:
                # The shape is in the header, so a tensor of any size is refused before it is read.
                keys = list(file.keys())
                header = file.get_slice(key) if key in keys else None
                found = tuple(header.get_shape()) if header else ()
                dtype = header.get_dtype() if header else ""
                fits = len(found) == 3 and (found[0], found[2]) == (count, width)
                # The factor on B·A is the generator's, with a whole `lora_alpha`.
                fits = fits and rows <= found[1] <= width and (scaling * found[1]).is_integer()
                tokens = file.get_tensor(key) if fits and dtype in _TEACHER_DTYPES else None
        except (SafetensorError, OSError) as error:
            raise GeneratorError(f"`{path}` is damaged: {error}") from error
        if tokens is None or not is_finite(tokens):
            odd = f" in {dtype}" if found and dtype not in _TEACHER_DTYPES else ""
            raise GeneratorError(
                f"`{path}` holds no teacher for this generator: expected finite `{key}` in "
                f"{', '.join(_TEACHER_DTYPES)} of the shape ({count}, {rows} or more, {width}), "
                f"found {found or ', '.join(keys[:3])}{odd}. Train it again with "
                "`dnd train --kind teacher`, or remove the file."
            )
        taught: Tensor = tokens.to(torch.bfloat16)
        return taught


def _fill(generator: Generator, weights: Path) -> list[str]:
    """Load checked weights. Those of the networks stay in the file, mapped, and in its dtype.

    Returns:
        Names of weights that are not finite.
    """
    state = {}
    with safe_open(weights, framework="pt") as file:
        for key in generator.state_dict():
            value = file.get_tensor(key)
            state[key] = value if key.startswith(("decoder.", "projection.")) else value.float()
    generator.load_state_dict(state, assign=True)
    return [key for key, value in state.items() if not is_finite(value)]


def is_finite(value: Tensor) -> bool:
    """Return whether no entry is NaN or infinite; `isfinite` would need twice the memory."""
    # Both extremes are NaN if any entry is.
    return bool(torch.stack(value.aminmax()).isfinite().all())


def _check_shapes(weights: Path, config: GeneratorConfig) -> None:
    """Compare a file's header with a config before allocating memory for either.

    Raises:
        ValueError: A shape differs. The config of a stranger may ask for gigabytes.
        AssetError: There is not enough memory.
    """
    with torch.device("meta"):
        wanted = {k: tuple(v.shape) for k, v in Generator(config).state_dict().items()}
    with safe_open(weights, framework="pt") as file:
        found = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no dict
    differing = [
        f"`{key}` is {found.get(key, 'missing')}, expected {wanted.get(key, 'none')}"
        for key in sorted(wanted.keys() | found.keys())
        if wanted.get(key) != found.get(key)
    ]
    if differing:
        raise ValueError(f"{first_of(differing, 3, '; ')}.")
    # The module is built in float32, whatever the file holds; `load` casts the decoder later.
    entries = sum(map(math.prod, wanted.values())) + _largest_tensor(config)
    num_bytes = torch.float32.itemsize * entries
    check_memory(num_bytes, f"the generator `{weights.parent}`")


def _largest_tensor(config: GeneratorConfig) -> int:
    """Return the entries of the largest tensor that decoding one condition needs."""
    sizes = [math.prod(config.features[0]), math.prod(config.features[-1])]
    if head_named(config.head).has_stages:
        # Small kernels between two large stages would take no memory until they are used. A stage
        # changes its planes before its channels.
        for (n, h, w), (_, new_h, new_w) in pairwise(config.features):
            sizes += [n * new_h * new_w, n * h * new_w, n * new_h * w]
        sizes += map(math.prod, config.features)
    return max(sizes)


def save_generator(
    generator: Generator, path: Path, tasks: Sequence[TaskCentroid], card: str
) -> None:
    """Write or replace a generator folder, with weights in bfloat16.

    Reports belong to the replaced generator and are not kept. If the replacement fails, the old
    folder is restored.
    """
    with written_aside(path) as aside:
        aside.mkdir()
        state = generator.state_dict()
        save_file(
            # safetensors refuses tensors that are not contiguous.
            {k: v.detach().to(torch.bfloat16).contiguous() for k, v in state.items()},
            aside / "model.safetensors",
            metadata={"format": "pt"},
        )
        _write_json(aside / "config.json", generator.config.to_json())
        _write_json(
            aside / "tasks.json",
            [asdict(task) | {"centroid": list(task.centroid)} for task in tasks],
        )
        (aside / "README.md").write_text(card, encoding="utf-8")


def save_teacher(
    folder: GeneratorFolder,
    path: Path,
    tokens: Float[Tensor, "tokens rows cols"],
    notes: Mapping[str, Any],
) -> None:
    """Rewrite a generator folder with a new teacher, in the generator's layout but for the rank.

    Reports belong to the replaced teacher and are not kept, nor are files that are no part of a
    generator: a stranger's folder may hold links to anything.
    """
    with written_aside(path) as aside:
        aside.mkdir()
        for name in (*_FILES, "README.md"):
            if (folder.path / name).is_file():
                shutil.copyfile(folder.path / name, aside / name)
        tokens = tokens.detach().to(torch.bfloat16).contiguous().cpu()
        save_file({"tokens": tokens}, aside / TEACHER, metadata={"format": "pt"})
        _write_json(aside / TEACHER_NOTES, notes)


def check_base(config: GeneratorConfig, base_id: str, fingerprint: Mapping[str, Any]) -> None:
    """Refuse a base that the generator was not trained for.

    Raises:
        BaseMismatchError: With the first differing property as the reason.
    """
    made_for, wanted = config.base.get("id", "unknown"), config.base.get("fingerprint", {})
    if not wanted.get("norms") or "architecture" not in wanted:
        raise BaseMismatchError(
            f"this generator's `config.json` does not say which base it was made for, so it cannot "
            f"be trusted on {base_id}. Train it again with `dnd train`."
        )
    if difference := fingerprint_difference(wanted, fingerprint):
        raise BaseMismatchError(
            f"this generator was made for {made_for}. It cannot run on {base_id}: {difference}. "
            "Choose another generator, or train one for this base with `dnd train`."
        )


def check_encoder(
    config: GeneratorConfig,
    width: int,
    sha256: str,
    tasks: Sequence[TaskCentroid] = (),
    *,
    longest: int | None = None,
) -> None:
    """Refuse an encoder whose embeddings the generator has not learnt to read.

    Args:
        config: Config of the generator.
        width: Width of the encoder's embeddings.
        sha256: Hash of the encoder's weights.
        tasks: Training tasks, whose centroids must be in the encoder's space.
        longest: Maximum tokens per prompt of the encoder; None without a limit.

    Raises:
        LayoutMismatchError: If the width, the length or the weights differ.
    """
    read, projects = config.read_length, config.reads_tokens is not None
    if not fits_encoder(read, longest, in_pieces=projects):
        raise LayoutMismatchError(
            f"the generator reads {read:,} tokens of a prompt, the encoder "
            f"{config.encoder.get('id', '')} {'pieces of' if projects else 'at most'} {longest}. "
            "Use another generator."
        )
    if width != config.width:
        raise LayoutMismatchError(
            f"the generator reads embeddings {config.width} wide, the encoder's are {width} wide. "
            f"It was trained with {config.encoder.get('id', 'another encoder')}."
        )
    known = config.encoder.get("sha256")
    if known and known != sha256:
        raise LayoutMismatchError(
            f"the generator was trained with the encoder {config.encoder.get('id')} (SHA-256 "
            f"{known[:12]}…), this one's weights are {sha256[:12]}…"
        )
    if tasks and len(tasks[0].centroid) != width:
        raise LayoutMismatchError(
            f"the generator's `tasks.json` holds centroids {len(tasks[0].centroid)} wide, the "
            f"encoder's embeddings are {width} wide. Train it again with `dnd train`."
        )


def _read_tasks(path: Path) -> tuple[TaskCentroid, ...]:
    rows = _read_json(path)
    if not isinstance(rows, list):
        raise GeneratorError(f"`{path.name}` must hold a list, found a {type(rows).__name__}.")
    tasks: list[TaskCentroid] = []
    for number, row in enumerate(rows, start=1):
        where = f"`{path.name}`, entry {number}"
        if not isinstance(row, dict) or set(row) != {"slug", "description", "centroid"}:
            raise GeneratorError(f"{where}: expected `slug`, `description` and `centroid` alone.")
        slug, description, centroid = row["slug"], row["description"], row["centroid"]
        if not isinstance(slug, str) or not isinstance(description, str):
            raise GeneratorError(f"{where}: `slug` and `description` must be strings.")
        if (
            not isinstance(centroid, list)
            or not centroid
            or not all(type(v) in (int, float) and abs(v) <= _MAX_CENTROID for v in centroid)
        ):
            raise GeneratorError(f"{where}: `centroid` must be a list of numbers.")
        if tasks and len(centroid) != len(tasks[0].centroid):
            raise GeneratorError(
                f"{where}: `centroid` has {len(centroid)} numbers, the first "
                f"{len(tasks[0].centroid)}."
            )
        tasks.append(TaskCentroid(slug, description, centroid))
    if len({task.slug for task in tasks}) != len(tasks):
        raise GeneratorError(f"`{path.name}` names a task twice.")
    return tuple(tasks)


def _read_object(path: Path) -> dict[str, Any]:
    values = _read_json(path)
    if not isinstance(values, dict):
        raise GeneratorError(f"`{path.name}` must hold an object, found a {type(values).__name__}.")
    return values


def _read_json(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(FIXED.max_generator_bytes + 1)
        if len(data) > FIXED.max_generator_bytes:
            raise GeneratorError(
                f"`{path.name}` is larger than {FIXED.max_generator_bytes // 1_000_000} MB. Use "
                "another generator."
            )
        # Brackets nested by the thousand end in a RecursionError.
        return json.loads(data.decode(), parse_constant=_refuse_constant)
    except GeneratorError:
        raise
    except (ValueError, OSError, RecursionError) as error:
        raise GeneratorError(f"`{path.name}` is not JSON: {error}.") from error


def _refuse_constant(name: str) -> NoReturn:
    """Reject NaN and infinity, which Python's JSON parser accepts."""
    raise ValueError(f"it holds {name}")


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
