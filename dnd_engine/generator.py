"""A generator: the trained decoder of one base model, with everything needed to use it again.

Folder on disk <-> resident module. A generator knows its base by fingerprint and refuses another.
It turns a condition into weight tokens; it knows no prompts and no PEFT.
"""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dnd_engine.errors import BaseMismatchError, ConfigError, GeneratorError, LayoutMismatchError
from dnd_engine.hyperconv import HyperConvDecoder, Stage
from dnd_engine.layout import LoRALayout, LoRASpec, Target

__all__ = [
    "Generator",
    "GeneratorConfig",
    "GeneratorFolder",
    "TaskCentroid",
    "check_base",
    "check_encoder",
    "save_generator",
]

_MAX_AXIS = 65_536
"""Longest axis of a decoder stage that is believed; the authors' largest has 26,624."""

FORMAT = 1
"""Version of the folder's format; a newer one is refused."""

_STD_FLOOR = 0.05
"""Least deviation of a condition channel: one MiniLM channel never varies, and dividing by its zero
deviation gave NaN from the first training step."""

_FINGERPRINT_TOLERANCE = 0.02
"""Relative difference allowed in a base's weight sketch: quantising SmolLM2 to 4 bits moves it by
less, another fine-tune of the same architecture by more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorConfig:
    """What is needed to rebuild a generator and to know what it is for."""

    features: tuple[Stage, ...]
    """Decoder stages; the first is (prompts, length, width), the last the token grid."""
    kernel_size: int
    layout: LoRALayout
    delta_scale: float = 0.01
    """Factor on the decoder's output before it is added to the shared tokens: keeps its
    initial steps as small as a LoRA's own."""
    base: Mapping[str, Any] = field(default_factory=dict)
    """`id` and `fingerprint` of the base model (see `models.fingerprint`)."""
    encoder: Mapping[str, Any] = field(default_factory=dict)
    """`id` and `sha256` of the text encoder."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """The recipe, its result, the data and their licences."""

    def __post_init__(self) -> None:
        grid = (self.layout.num_tokens, self.layout.spec.r, self.layout.width)
        if len(self.features) < 2 or self.features[-1] != grid:
            raise ConfigError(
                f"the decoder's last stage must be the layout's token grid {grid}, "
                f"got {self.features[-1:]}."
            )

    @property
    def num_prompts(self) -> int:
        """Prompts in one condition."""
        return self.features[0][0]

    @property
    def length(self) -> int:
        """Tokens of a prompt that the condition holds."""
        return self.features[0][1]

    def to_json(self) -> dict[str, Any]:
        """As `config.json` holds it."""
        return {
            "format": FORMAT,
            "features": [list(stage) for stage in self.features],
            "kernel_size": self.kernel_size,
            "delta_scale": self.delta_scale,
            "lora": {**asdict(self.layout.spec)},
            "layout": [
                [t.layer, t.module, t.in_features, t.out_features] for t in self.layout.targets
            ],
            "base": dict(self.base),
            "encoder": dict(self.encoder),
            "training": dict(self.training),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "GeneratorConfig":
        """Undo `to_json`.

        Raises:
            GeneratorError: If a field is missing, of the wrong kind, or from a newer format.
        """
        try:
            if values["format"] != FORMAT:
                raise GeneratorError(
                    f"`format` is {values['format']!r}; this version reads format {FORMAT}."
                )
            lora = values["lora"]
            spec = LoRASpec(
                r=lora["r"],
                lora_alpha=lora["lora_alpha"],
                target_modules=tuple(lora["target_modules"]),
            )
            features = tuple((int(n), int(h), int(w)) for n, h, w in values["features"])
            if max(map(max, features)) > _MAX_AXIS:
                raise GeneratorError(f"`features` has an axis over {_MAX_AXIS:,}.")
            if not math.isfinite(values["delta_scale"]):
                raise GeneratorError(f"`delta_scale` is {values['delta_scale']}.")
            return cls(
                features=features,
                kernel_size=int(values["kernel_size"]),
                delta_scale=float(values["delta_scale"]),
                layout=LoRALayout(
                    spec=spec, targets=tuple(Target(*row) for row in values["layout"])
                ),
                base=dict(values["base"]),
                encoder=dict(values["encoder"]),
                training=dict(values["training"]),
            )
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            if isinstance(error, GeneratorError):
                raise
            raise GeneratorError(f"not a generator's `config.json`: {error!r}.") from error


class Generator(nn.Module):
    """Shared LoRA tokens plus what the hyper-convolutional decoder adds for a condition.

    `tokens = shared + delta_scale · decoder(standardised condition)`. The decoder's last
    convolution starts at zero and the shared B at zero, so an untrained generator is exactly the
    base; A starts random, as a LoRA's does.
    """

    condition_mean: Tensor
    condition_std: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        layout, width = config.layout, config.features[0][2]
        self.decoder = HyperConvDecoder(config.features, config.kernel_size)
        last = self.decoder.last_convolution
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        shared = torch.zeros(layout.num_tokens, layout.spec.r, layout.width)
        for m in layout.matrices():
            if m.side == "A":
                shared[m.first_token : m.first_token + m.num_tokens].normal_(std=m.long**-0.5)
        self.shared = nn.Parameter(shared)
        self.register_buffer("condition_mean", torch.zeros(width))
        self.register_buffer("condition_std", torch.ones(width))

    def set_condition_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Fix the standardisation of condition channels to the training prompts'."""
        self.condition_mean.copy_(mean)
        self.condition_std.copy_(std.clamp(min=_STD_FLOOR))

    def standardise(
        self,
        tokens: Float[Tensor, "*batch length width"],
        mask: Bool[Tensor, "*batch length"],
    ) -> Float[Tensor, "*batch length width"]:
        """Encoder output to condition; padding becomes zero, the channel mean."""
        scaled: Tensor = (tokens - self.condition_mean) / self.condition_std
        return scaled * mask[..., None]

    def forward(
        self, condition: Float[Tensor, "batch prompts length width"]
    ) -> Float[Tensor, "batch tokens rows cols"]:
        """Decode standardised conditions into the plain weight tokens of one adapter each."""
        delta = self.decoder(condition)
        tokens: Tensor = self.shared + self.config.delta_scale * delta
        return tokens


@dataclass(frozen=True, slots=True)
class TaskCentroid:
    """Where one training task lies in the encoder's space."""

    slug: str
    description: str
    centroid: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class GeneratorFolder:
    """A generator as it lies on disk: `config.json`, `model.safetensors`, `tasks.json`, card."""

    path: Path
    config: GeneratorConfig
    tasks: tuple[TaskCentroid, ...]
    sha256: str
    """Of `model.safetensors`."""

    @classmethod
    def open(cls, path: Path) -> "GeneratorFolder":
        """Read all but the weights.

        Raises:
            GeneratorError: If the folder or one of its files is missing or malformed.
        """
        if not path.is_dir():
            raise GeneratorError(
                f"no generator folder at `{path}`. Expected a folder with `config.json`, "
                "`model.safetensors` and `tasks.json`; `dnd train` makes one."
            )
        missing = [
            name
            for name in ("config.json", "model.safetensors", "tasks.json")
            if not (path / name).is_file()
        ]
        if missing:
            raise GeneratorError(f"`{path}` is no generator folder: {', '.join(missing)} missing.")
        try:
            config = GeneratorConfig.from_json(_read_json(path / "config.json"))
            tasks = tuple(
                TaskCentroid(row["slug"], row["description"], tuple(map(float, row["centroid"])))
                for row in _read_json(path / "tasks.json")
            )
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise GeneratorError(f"generator folder `{path}`: {error}") from error
        digest = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
        return cls(path, config, tasks, digest)

    def load(self, device: torch.device, dtype: torch.dtype) -> Generator:
        """Build the resident module, strictly.

        Raises:
            GeneratorError: If the weights are damaged or not those of `config.json`.
        """
        try:
            generator = Generator(self.config)
            state = load_file(self.path / "model.safetensors")
            generator.load_state_dict({k: v.float() for k, v in state.items()})
        except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
            raise GeneratorError(
                f"`{self.path / 'model.safetensors'}` does not fit its `config.json`: {error}"
            ) from error
        generator.eval().requires_grad_(False)
        generator.decoder.to(dtype)
        return generator.to(device)


def save_generator(
    generator: Generator, path: Path, tasks: Sequence[TaskCentroid], card: str
) -> None:
    """Write a generator folder, weights in bfloat16, in place of what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as parent:
        aside = Path(parent) / "new"
        aside.mkdir()
        state = generator.state_dict()
        save_file(
            {k: v.detach().to(torch.bfloat16).contiguous() for k, v in state.items()},
            aside / "model.safetensors",
            metadata={"format": "pt"},
        )
        _write_json(aside / "config.json", generator.config.to_json())
        _write_json(aside / "tasks.json", [asdict(task) for task in tasks])
        (aside / "README.md").write_text(card, encoding="utf-8")
        if path.exists():
            os.replace(path, Path(parent) / "old")
        os.replace(aside, path)


def check_base(config: GeneratorConfig, base_id: str, fingerprint: Mapping[str, Any]) -> None:
    """Refuse a base that the generator was not trained for.

    Raises:
        BaseMismatchError: With the first differing property as the reason.
    """
    made_for, wanted = config.base.get("id", "unknown"), config.base.get("fingerprint", {})
    theirs, ours = wanted.get("norms", []), fingerprint["norms"]
    if not theirs or "architecture" not in wanted:
        raise BaseMismatchError(
            f"this generator's `config.json` does not say which base it was made for, so it cannot "
            f"be trusted on {base_id}. Train it again with `dnd train`."
        )
    for name, value in wanted["architecture"].items():
        found = fingerprint["architecture"].get(name)
        if found != value:
            raise BaseMismatchError(
                f"this generator was made for {made_for}. It cannot run on {base_id}: "
                f"`{name}` is {found}, expected {value}. Choose another generator, or train one "
                "for this base with `dnd train`."
            )
    differences = [abs(a - b) / max(abs(b), 1e-6) for a, b in zip(ours, theirs, strict=False)]
    # Asked this way round, a NaN is refused too.
    if len(ours) != len(theirs) or not all(d <= _FINGERPRINT_TOLERANCE for d in differences):
        raise BaseMismatchError(
            f"this generator was made for {made_for}. {base_id} has the same shape but other "
            f"weights (norm scales differ by {max(differences):.0%}, allowed "
            f"{_FINGERPRINT_TOLERANCE:.0%})."
        )


def check_encoder(config: GeneratorConfig, width: int, sha256: str) -> None:
    """Refuse an encoder whose embeddings the generator has not learnt to read.

    Raises:
        LayoutMismatchError: If the width or the weights differ.
    """
    expected = config.features[0][2]
    if width != expected:
        raise LayoutMismatchError(
            f"the generator reads embeddings {expected} wide, the encoder's are {width} wide. "
            f"It was trained with {config.encoder.get('id', 'another encoder')}."
        )
    known = config.encoder.get("sha256")
    if known and known != sha256:
        raise LayoutMismatchError(
            f"the generator was trained with the encoder {config.encoder.get('id')} (SHA-256 "
            f"{known[:12]}…), this one's weights are {sha256[:12]}…"
        )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise GeneratorError(f"`{path.name}` is not JSON: {error}.") from error


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
