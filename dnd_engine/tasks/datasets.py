"""Task folders made from Hugging Face datasets, or from local files, by one YAML recipe a task.

Knows columns, labels and wordings; everything else is `datasets.load_dataset`, which needs the
extra `train`. Code that a dataset brings along is never run.
"""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any, Literal

from tqdm import tqdm

from dnd_engine.errors import AssetError, ConfigError, TaskError
from dnd_engine.files import existing
from dnd_engine.limits import check_least
from dnd_engine.prompts.split import split_prompt
from dnd_engine.recipe_file import read_recipe
from dnd_engine.tasks.audit import Fault, audit_tasks
from dnd_engine.tasks.folder import Example, Task, TaskInfo, check_new, is_folder_name, write_tasks

if TYPE_CHECKING:
    from datasets import Dataset

_BUILDERS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".csv": "csv"}
"""What reads a local file, by its ending."""

_HIDDEN = ("", "-1")
"""Labels of rows that are not labelled, where no label has that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRecipe:
    """How a dataset becomes a task.

    A *column* may reach into a nested one by dots: `answers.text`. Of a list of answers the first
    is the reference; a list of options in a template has one a line, each after a dash.
    """

    slug: str
    dataset: str
    """Id on the Hub, or a local folder or file (Parquet, JSON Lines, JSON or CSV)."""
    config: str | None = None
    """Name of a configuration of the dataset, where it has several."""
    revision: str | None = None
    """Branch, tag or commit on the Hub; None is the newest."""
    train: str = "train"
    """Split of the train side. Slices work: `train[:80%]`."""
    test: str = "test"
    """Split of the test side. Labels of many public test splits are hidden: take `validation`."""
    instruction: str | tuple[str, ...]
    """One wording or several, drawn for each example; without a blank line."""
    input: str
    """Template of the bare input over columns: `{sentence1} [SEP] {sentence2}`."""
    label: str
    """Column of the answer: a text, or what `labels` or `options` give the texts of."""
    labels: tuple[str, ...] = ()
    """Texts of the label's values, in the order of `label_values`. Empty takes the class names
    that the dataset itself has, or else the column's text as it is."""
    label_values: tuple[str, ...] = ()
    """Values of the label, written as text, in the order of `labels` or of the options; empty
    counts from 0, false being 0 and true 1."""
    options: tuple[str, ...] = ()
    """Columns with the options of a row, each a text or a list of texts, where every row has
    options of its own."""
    option_labels: str | None = None
    """Column with the label of each option, where rows differ in that too, like ARC's
    `choices.label`. Otherwise `label_values` holds."""
    metric: Literal["choice", "exact", "rouge", "bleu"]
    licence: str
    licence_class: str = "unknown"
    family: str = ""
    """Tasks of one source; empty takes the slug. Splits never part a family."""
    category: str
    description: str = ""
    """Empty takes the first wording."""
    split: Literal["train", "heldout"] = "train"
    train_examples: int = 800
    """At most; drawn at random, as are those of the test side."""
    test_examples: int = 150
    max_characters: int = 1200
    """Limit on prompt and response together, about 300 tokens. Longer rows are skipped."""
    skip_unlabelled: bool = False
    """Leaves out rows without a label, as SNLI has some, instead of refusing the split. A split
    without any label is refused either way."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_least(self, 1, "train_examples", "test_examples", "max_characters")
        # `write_tasks` refuses these too, but only after everything is downloaded.
        if not is_folder_name(self.slug):
            raise ConfigError(f"`slug` {self.slug[:80]!r} is not a plain folder name.")
        if not self.category.strip():
            raise ConfigError("`category` is empty. Name what kind of task it is.")
        # As `split_prompt` cuts: a line of blanks ends an instruction too.
        if not self.wordings or any(split_prompt(f"{w}\n\nx").input != "x" for w in self.wordings):
            raise ConfigError(
                "`instruction` needs one or more wordings, none empty and none with a blank line: "
                "the input begins after the first one."
            )
        if self.labels and self.options:
            raise ConfigError("give `labels` or `options`, not both.")
        if self.option_labels and (self.label_values or not self.options):
            raise ConfigError("`option_labels` needs `options` and replaces `label_values`.")
        if self.labels and self.label_values and len(self.labels) != len(self.label_values):
            raise ConfigError(
                f"`labels` has {len(self.labels)} entries and `label_values` "
                f"{len(self.label_values)}; expected one text a value."
            )
        if repeated := [v for v, count in Counter(self.label_values).items() if count > 1]:
            raise ConfigError(
                f"`label_values` has {repeated[0][:80]!r} twice; expected each value once."
            )
        # Reads the whole template, so a malformed one is refused here as well.
        if not list(_template_columns(self.input)):
            raise ConfigError(f"`input` {self.input!r} names no column. Write {{column}}.")

    @property
    def wordings(self) -> tuple[str, ...]:
        """The instruction's wordings, however many there are."""
        return (self.instruction,) if isinstance(self.instruction, str) else self.instruction

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read, by its first name."""
        return _first_names(*_template_columns(self.input), *self.answer_columns)

    @property
    def answer_columns(self) -> tuple[str, ...]:
        """Columns that the answer is read from."""
        last = (self.option_labels,) if self.option_labels else ()
        return _first_names(self.label, *self.options, *last)

    @classmethod
    def read(cls, path: Path, **overrides: Any) -> "DatasetRecipe":
        """Read a recipe file; `overrides` that are not None win (see `read_recipe`)."""
        needed = ("slug", "dataset", "instruction", "input", "label")
        return read_recipe(cls, path, overrides, (*needed, "metric", "licence", "category"))


def read_dataset_recipes(paths: Sequence[Path], **overrides: Any) -> tuple[DatasetRecipe, ...]:
    """Read recipe files, and all `*.yaml` of folders; `overrides` hold for each."""
    files = [file for path in paths for file in (sorted(path.glob("*.yaml")) or [path])]
    return tuple(DatasetRecipe.read(file, **overrides) for file in files)


def fetch_tasks(
    recipes: Sequence[DatasetRecipe], out: Path
) -> tuple[tuple[Task, ...], list[Fault]]:
    """Make a task folder, a task a recipe, and audit it before it is written.

    Args:
        recipes: With slugs of their own.
        out: The folder to make; nothing may stand there.

    Returns:
        The tasks, and the warnings of the audit.

    Raises:
        ConfigError: If `datasets` is not installed, or a recipe does not fit its dataset.
        AssetError: If a dataset or a split cannot be loaded.
        TaskError: If labels are hidden, no rows are left, the audit finds an error, two recipes
            have one slug, or `out` is there already. Nothing is written then.
    """
    # Asked before the downloads, and again by `write_tasks`.
    check_new(out, [recipe.slug for recipe in recipes])
    tasks = tuple(make_task(recipe) for recipe in tqdm(recipes, desc="Fetch tasks"))
    # All together: what two recipes have in common shows only side by side.
    faults = audit_tasks(tasks)
    errors = [f"{fault.task}: {fault.words}" for fault in faults if fault.severity == "error"]
    if errors:
        raise TaskError(
            f"nothing was written to `{out}`, as the labels do not hold: {'; '.join(errors)}."
        )
    write_tasks(out, tasks)
    return tasks, faults


def make_task(recipe: DatasetRecipe) -> Task:
    """Make one task: examples drawn by the seed, no input twice, none on both sides.

    Raises:
        ConfigError, AssetError, TaskError: As `fetch_tasks`.
    """
    taken: set[str] = set()  # the test side first, so that it never depends on the train side
    test = _side(recipe, recipe.test, recipe.test_examples, taken)
    train = _side(recipe, recipe.train, recipe.train_examples, taken)
    info = TaskInfo(
        slug=recipe.slug,
        family=recipe.family.strip() or recipe.slug,
        category=recipe.category,
        metric=recipe.metric,
        licence=recipe.licence,
        licence_class=recipe.licence_class,
        description=recipe.description or recipe.wordings[0],
        split=recipe.split,
        holdout="family" if recipe.split == "heldout" else "",
    )
    return Task(info, train, test)


def _side(recipe: DatasetRecipe, split: str, limit: int, taken: set[str]) -> tuple[Example, ...]:
    """Examples of one split; their inputs are added to `taken`."""
    where = f"dataset `{recipe.dataset}`, split `{split}`"
    rows = _load(recipe, split, where)
    missing = [name for name in recipe.columns if name not in rows.column_names]
    if missing:
        raise ConfigError(
            f"{where} has no column {', '.join(missing)}. It has {', '.join(rows.column_names)}."
        )
    answers = _Answers(recipe, rows, where)
    # With the slug, so that several tasks of one dataset draw different rows.
    seed = f"{recipe.seed}:{split}:{recipe.slug}"
    # The wordings have a generator of their own, so that rows are drawn one at a time.
    order, rng = random.Random(seed), random.Random(f"{seed}:wordings")
    examples: list[Example] = []
    left_out = dict.fromkeys(("unlabelled", "empty or too long", "repeated"), 0)
    # Rows are read from disk one by one, and only until there are enough.
    for number in _shuffled(len(rows), order):
        row = rows[number]
        text = _filled(recipe.input, row, where).strip()
        # Compared up to white space, as the audit compares prompts.
        plain = " ".join(text.split())
        prompt = f"{rng.choice(recipe.wordings)}\n\n{text}"
        answer = answers.of(row)
        # Asked first: one missing label may refuse the whole split, whatever else the row lacks.
        if answer is None:
            if not recipe.skip_unlabelled:
                raise TaskError(answers.refusal())
            left_out["unlabelled"] += 1
        elif not text or len(prompt) + len(answer[0]) > recipe.max_characters:
            left_out["empty or too long"] += 1
        elif plain in taken:
            left_out["repeated"] += 1
        else:
            taken.add(plain)
            examples.append(Example(prompt, *answer))
            if len(examples) == limit:
                break
    if not examples:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
        raise TaskError(f"{where} has no row left: {reasons or 'it is empty'}.")
    return tuple(examples)


def _shuffled(count: int, rng: random.Random) -> Iterator[int]:
    """The numbers below `count` in the order of `rng.sample`, which would hold them all at once.

    A split may have 100 million rows, of which a thousand are read.
    """
    moved: dict[int, int] = {}
    for left in range(count, 0, -1):
        place = rng.randrange(left)
        yield moved.get(place, place)
        # The last number that is left takes the place of the one drawn.
        moved[place] = moved.pop(left - 1, left - 1)


def _load(recipe: DatasetRecipe, split: str, where: str) -> "Dataset":
    try:
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError
    except ImportError as error:
        raise ConfigError(
            "making tasks from datasets needs the package `datasets`. Install the extra: "
            "pip install -e '.[train]'."
        ) from error
    local = existing(recipe.dataset)
    what: dict[str, Any] = {"path": recipe.dataset, "revision": recipe.revision}
    if local and local.is_dir():
        # Without `revision`, which only the Hub has.
        what = {"path": str(local)}
    elif local:
        if local.suffix.lower() not in _BUILDERS:
            raise ConfigError(f"`{local}` is none of {', '.join(_BUILDERS)}.")
        # One file is one split, `train`, whatever its name. Recipes slice it: `train[:80%]`.
        what = {"path": _BUILDERS[local.suffix.lower()], "data_files": str(local)}
    try:
        # From version 4 on, `datasets` runs no code of a dataset, so there is nothing to forbid.
        rows: Dataset = load_dataset(**what, name=recipe.config, split=split)
    # An unreachable Hub and its HTTP errors raise subclasses of OSError, a dataset that needs a
    # script of its own a RuntimeError.
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise AssetError(
            f"{where} could not be loaded: {error} Check the id, `config`, the split's name and "
            "the connection."
        ) from error
    return rows


class _Answers:
    """Reads a row's answer as text, with the options it is one of."""

    def __init__(self, recipe: DatasetRecipe, rows: "Dataset", where: str) -> None:
        self.recipe = recipe
        self.rows = rows
        self.where = where
        # Only a `ClassLabel` has names. A label such as `a.b` is no column, and has none.
        names = getattr(rows.features.get(recipe.label), "names", None) or ()
        # Where rows bring options of their own, class names only number them.
        self.labels = recipe.labels or (() if recipe.options else tuple(names))
        values = recipe.label_values
        # A recipe compares its own `labels` with `label_values`; class names are known only now.
        if self.labels and values and len(values) != len(self.labels):
            raise ConfigError(
                f"{where} names the classes {', '.join(self.labels)}; `label_values` has "
                f"{len(values)} entries."
            )
        if recipe.metric == "choice" and not self.labels and not recipe.options:
            raise ConfigError(
                f"{where}: metric choice needs `labels` or `options`, as the column "
                f"`{recipe.label}` has no class names."
            )

    def of(self, row: Mapping[str, Any]) -> tuple[str, tuple[str, ...]] | None:
        """The answer and, for a choice task, the options; None if the row is not labelled."""
        value = _first(_reach(row, self.recipe.label, self.where))
        options = self._options(row) or self.labels
        if not options:
            # A free text may well be -1, so only an empty one counts as no answer.
            text = _text_of(value).strip()
            return (text, ()) if text else None
        keys = self._keys(row) or tuple(str(number) for number in range(len(options)))
        if len(keys) != len(options):
            raise ConfigError(
                f"{self.where}: a row has {len(options)} options and {len(keys)} labels for them."
            )
        # Options that a row lacks are empty. They go only now, so that the rest keep their labels.
        texts = {key: text for key, text in zip(keys, options, strict=True) if text}
        # Looked up before asking whether the label is hidden, as -1 is a real one in some datasets.
        named = [name for name in _names_of(value) if name in texts]
        if not named:
            if any(name in _HIDDEN for name in _names_of(value)):
                return None
            raise ConfigError(f"{self.where}: {self._fault(value, keys)}")
        return texts[named[0]], tuple(texts.values()) if self.recipe.metric == "choice" else ()

    def _fault(self, value: Any, keys: Sequence[str]) -> str:
        """What is wrong with a label that names no text, and the way out."""
        recipe = self.recipe
        if any(name in keys for name in _names_of(value)):
            texts = "options" if recipe.options else "labels"
            return (
                f"a row has the label {value!r}, but no text for it. Check `{texts}` and the row."
            )
        if recipe.option_labels or recipe.label_values:
            way_out = f"Check `{'option_labels' if recipe.option_labels else 'label_values'}`."
        else:
            way_out = "Give `label_values`, in the order of the texts."
        return f"the label {value!r} is none of {', '.join(keys)}. {way_out}"

    def _options(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """The texts of a row's own options; empty for those that it lacks."""
        found: list[Any] = []
        for column in self.recipe.options:
            value = _reach(row, column, self.where)
            found += value if isinstance(value, list) else [value]
        return tuple(_text_of(option).strip() for option in found)

    def _keys(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        if self.recipe.option_labels is None:
            return self.recipe.label_values
        return tuple(map(str, _reach(row, self.recipe.option_labels, self.where)))

    def refusal(self) -> str:
        """How many labels are missing, for a message."""
        # Only these columns are read: a row's input may be long.
        rows = self.rows.select_columns(list(self.recipe.answer_columns))
        hidden = sum(self.of(row) is None for row in rows)
        words = f"{self.where}: {hidden} of {len(self.rows)} labels are hidden (-1 or empty)"
        if hidden == len(self.rows):
            return f"{words}. Take a split that has labels, often `validation`."
        return f"{words}. Set `skip_unlabelled: true` to leave those rows out."


def _names_of(value: Any) -> tuple[str, ...]:
    """How a recipe may write a label's value."""
    # A column of whole numbers with a gap in it is often stored as floats.
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return str(value), str(int(value))
    return (_text_of(value),)


def _text_of(value: Any) -> str:
    """A value as text; empty where a row has none, which is NaN in some columns of numbers."""
    return "" if _is_missing(value) else str(value)


def _is_missing(value: Any) -> bool:
    # Only NaN differs from itself.
    return value is None or bool(value != value)


def _first(value: Any) -> Any:
    """Return the first of several references; None if there is none."""
    return (value[0] if value else None) if isinstance(value, list) else value


def _first_names(*paths: str) -> tuple[str, ...]:
    # Not a set: its order differs between processes, and messages list these columns.
    return tuple(dict.fromkeys(path.partition(".")[0] for path in paths))


def _template_columns(template: str) -> Iterator[str]:
    try:
        # `parse` is lazy and raises while it is read, so read it all inside `try`.
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"`input` {template!r}: {error}. Write {{column}}.") from error
    for _, name, form, conversion in parts:
        if name is None:
            continue
        # `str.format` knows more, such as `{x!r}` and `{x[0]}`, which `_filled` does not.
        if not name or form or conversion or "[" in name:
            raise ConfigError(
                f"`input` {template!r}: expected plain names of columns in braces, such as "
                "{text} or {answers.text}."
            )
        yield name


def _filled(template: str, row: Mapping[str, Any], where: str) -> str:
    """A template with a row's values, taken as they are: braces in them mean nothing."""
    text = ""
    # Not `str.format`: its dots read attributes of Python objects, ours reach into nested columns.
    for literal, name, _, _ in Formatter().parse(template):
        text += literal
        if name is not None:
            value = _reach(row, name, where)
            if isinstance(value, list):
                text += "\n".join(f"- {item}" for item in value if not _is_missing(item))
            else:
                text += _text_of(value)
    return text


def _reach(row: Mapping[str, Any], column: str, where: str) -> Any:
    """The value of a column, inside others after dots."""
    value: Any = row
    for name in column.split("."):
        if not isinstance(value, Mapping) or name not in value:
            raise ConfigError(f"{where}: a row has no `{column}`.")
        value = value[name]
    return value
