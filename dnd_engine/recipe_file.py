"""Reads YAML, checks the settings of a run against a frozen dataclass, and tells faults of JSON."""

import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import ConfigDict, ValidationError, with_config

from dnd_engine.errors import ConfigError, UnknownSettingsError
from dnd_engine.files import existing
from dnd_engine.limits import FIXED

R = TypeVar("R")

checked_late = with_config(ConfigDict(defer_build=True))
"""Decorates a dataclass so that pydantic builds its checks when the first is read or written, as
they would slow the import."""

_MAX_REASON_CHARS = 500
"""PyYAML quotes names from the file, of any length."""
_RAISED_BY_TAGS = (LookupError, AttributeError, OverflowError)
"""What PyYAML raises for a value that does not fit its tag, such as `!!bool maybe`."""
_MAX_FAULTS = 10
"""Maximum number of faults in a message."""
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200


class _Loader(yaml.SafeLoader):
    """A loader without aliases, because a few of them stand for billions of values.

    Nor does a key come twice in a mapping, where PyYAML takes the last one.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Read a mapping."""
        seen = set[tuple[str, str]]()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # PyYAML refuses it
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"expected each key once, got `{key.value}` again", key.start_mark
                )
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Read a value; PyYAML passes a list's index or a mapping's key."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None,
                None,
                "expected a value, got an alias (`*name`). Write the value itself",
                self.peek_event().start_mark,  # type: ignore[no-untyped-call]  # of the stubs
            )
        return super().compose_node(parent, index)


def read_yaml(path: Path, what: str) -> Any:
    """Read a YAML file that a person wrote. `what` names its kind in messages.

    Raises:
        ConfigError: If it cannot be read, is too large, or contains aliases.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FIXED.max_yaml_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"{what} `{path}` cannot be read: {reason}. Name a YAML file of settings."
        ) from error
    if len(data) > FIXED.max_yaml_bytes:
        raise ConfigError(
            f"{what} `{path}` has more than {FIXED.max_yaml_bytes / 1e3:g} kB, which is the limit. "
            "Name a YAML file of settings."
        )
    try:
        return yaml.load(data.decode(), _Loader)
    except RecursionError as error:
        raise ConfigError(f"{what} `{path}` is nested too deeply to be read.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{what} `{path}` is not UTF-8 text. Name a YAML file of settings."
        ) from error
    except _RAISED_BY_TAGS as error:
        raise ConfigError(f"{what} `{path}` holds a value that does not fit its tag.") from error
    except (ValueError, yaml.YAMLError) as error:  # dates and numbers out of range too
        raise ConfigError(
            f"{what} `{path}` cannot be read: {_yaml_words(error)}. Fix the file."
        ) from error


def _yaml_words(error: ValueError | yaml.YAMLError) -> str:
    """Describe what is wrong with a YAML file on one line, without the parser's quotation of it."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        words = f"{place}{error.problem or error.context}"
    elif isinstance(error, yaml.reader.ReaderError):
        words = f"character {error.position + 1} is one that YAML forbids"
    else:
        words = str(error)
    return " ".join(words.split())[:_MAX_REASON_CHARS]


def read_recipe(
    kind: type[R], path: Path, overrides: Mapping[str, Any], required: Sequence[str] = ()
) -> R:
    """Read a recipe.

    Args:
        kind: A dataclass whose fields are the settings. It may reject values with a `ConfigError`.
        path: A YAML file that contains a mapping.
        overrides: Values that replace those in the file, unless they are None. Their names are
            those of the command's options.
        required: Fields that the file or the overrides must set.

    Raises:
        UnknownSettingsError: If the file has other settings.
        ConfigError: If the file is not a mapping of known fields to values of the right type. All
            values of a wrong type are listed in one message.
    """
    values = read_yaml(path, "recipe")
    if not isinstance(values, dict):
        raise ConfigError(f"recipe `{path}` must be a mapping of settings.")
    # None is an option that was not given at the command line.
    values |= {name: value for name, value in overrides.items() if value is not None}
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    unknown = sorted(_shown(name) for name in values if name not in known)
    if unknown:
        raise UnknownSettingsError(
            f"recipe `{path}`: unknown setting(s) {', '.join(unknown)}. "
            f"Use any of {', '.join(known)}.",
            unknown,
        )
    missing = [name for name in required if values.get(name) is None]
    if missing:
        which = "it" if len(missing) == 1 else "them"
        options = [f"--{name.replace('_', '-')}" for name in missing if name in overrides]
        given = f", or give {' and '.join(options)}" if options else ""
        raise ConfigError(
            f"recipe `{path}` needs {' and '.join(missing)}. Write {which} into the file{given}."
        )
    fitting, faults = {}, []
    for name, value in values.items():
        try:
            fitting[name] = _coerce(known[name].type, value)
        # A huge integer overflows `float`; `~nobody`, an unknown home, is a RuntimeError.
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            faults.append(f"`{name}`: {error}")
    if faults:
        raise ConfigError(f"recipe `{path}`: {'; '.join(faults)}.")
    try:
        return kind(**fitting)
    except ConfigError as error:
        raise ConfigError(f"recipe `{path}`: {error}") from error


def _shown(name: Any, most: int = 40) -> str:
    try:
        words = str(name)
    except ValueError:  # Python writes no numbers of thousands of digits
        words = f"a {type(name).__name__}"
    return words if len(words) <= most else f"{words[:most]}…"


def without_folders(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the settings with local model folders reduced to their names.

    Reports and cards leave this machine, so they must not contain its paths.
    """
    places = {name: existing(values[name]) for name in names}
    return {**values, **{n: place.name for n, place in places.items() if place and place.is_dir()}}


def _coerce(kind: Any, value: Any) -> Any:  # noqa: C901 - one branch a kind, each simple
    """Convert a YAML value to the field's type, and reject anything that does not fit exactly."""
    if isinstance(kind, UnionType):
        return _coerce_to_one_of(get_args(kind), value)
    if kind == tuple[Path, ...]:
        paths = value if isinstance(value, list | tuple) else [value]
        return tuple(_coerce(Path, path) for path in paths)
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError(f"expected true or false, got {_SHORT.repr(value)}")
        return value
    if kind is Path:
        if not isinstance(value, str | Path) or not str(value).strip():
            raise ValueError(f"expected a path, got {_SHORT.repr(value)}")
        return Path(value).expanduser()
    if kind is int and (isinstance(value, bool) or not isinstance(value, int)):
        raise ValueError(f"expected a whole number, got {_SHORT.repr(value)}")
    if kind is int and value.bit_length() > 63:
        # Python writes no numbers of thousands of digits, not even to refuse them.
        raise ValueError(f"expected a number of at most 63 bits, got one of {value.bit_length()}")
    if kind is float:
        # YAML parses 5e-4 as a string.
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(f"expected a number, got {_SHORT.repr(value)}")
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(f"expected a finite number, got {_SHORT.repr(value)}")
        return number
    if kind == tuple[str, ...]:
        # A single string would be taken apart into its characters.
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            raise ValueError(f"expected a list of names, got {_SHORT.repr(value)}")
        return tuple(value)
    if kind == Mapping[str, int]:
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise ValueError(f"expected names with whole numbers, got {_SHORT.repr(value)}")
        return {name: _coerce(int, number) for name, number in value.items()}
    if kind == tuple[tuple[int, int, int], ...]:
        stages = tuple((n, h, w) for n, h, w in value)
        axes = [axis for stage in stages for axis in stage]
        # Not `isinstance`, which takes `true` for 1.
        if not all(type(axis) is int and axis > 0 for axis in axes):
            raise ValueError(
                f"expected a list of [channels, height, width], got {_SHORT.repr(value)}"
            )
        return stages
    if get_origin(kind) is Literal and value not in get_args(kind):
        raise ValueError(f"expected {' or '.join(get_args(kind))}, got {_SHORT.repr(value)}")
    # What is left is `str` and `Literal`, and `int`, which was checked above.
    if not isinstance(value, str) and kind not in (int, float):
        raise ValueError(f"expected a name, got {_SHORT.repr(value)}")
    return value


def _coerce_to_one_of(kinds: Sequence[Any], value: Any) -> Any:
    """Convert a value to the first type that fits. None is accepted only if it is listed."""
    if value is None and NoneType in kinds:
        return None
    faults = []
    for kind in kinds:
        if kind is not NoneType:
            try:
                return _coerce(kind, value)
            except (TypeError, ValueError, OverflowError, RuntimeError) as error:
                faults.append(str(error))
    raise ValueError("; or ".join(faults))


def validation_words(error: ValidationError, depth: int | None = None) -> str:
    """Describe every fault of a JSON validation on one line.

    Args:
        error: What pydantic found.
        depth: Number of names that tell where a fault is; None for all. Where several types are
            allowed, the names include these types, which no file names.
    """
    # Without the values themselves, which may be prompts or megabytes long.
    faults = error.errors(include_url=False, include_input=False)
    # A value that is of none of the allowed types has a fault for each. One is enough: the deepest,
    # because its type fits best.
    faults.sort(key=lambda fault: len(fault["loc"]))
    words = {}
    for fault in faults:
        names = [*fault["loc"][:depth]]
        if depth is not None:
            names += [part for part in fault["loc"][depth:] if isinstance(part, int)]
        place = ".".join(map(str, names))
        words[fault["loc"][:depth]] = f"`{place}`: {fault['msg']}" if place else fault["msg"]
    return "; ".join([*words.values()][:_MAX_FAULTS])
