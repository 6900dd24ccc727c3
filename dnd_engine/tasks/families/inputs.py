"""Input kinds: the texts that operations work on.

Many operations share a kind, and the writer gives all of them the same pool of texts. So a text
does not tell which operation is asked for; only the instruction does (mutually exclusive tasks).
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dnd_engine.errors import ConfigError
from dnd_engine.tasks.families.words import COLOURS, DAYS, NUMBERS, Side, Vocabulary, vocabulary


@dataclass(frozen=True, slots=True)
class Item:
    """An input text and what its maker knows about it."""

    text: str
    facts: Mapping[str, str] = field(default_factory=dict)
    """Empty where answers follow from the text alone."""


Make = Callable[[random.Random, Vocabulary], Item]


def _words(rng: random.Random, vocab: Vocabulary, low: int, high: int) -> list[str]:
    """Different words, adjectives before nouns as often as not."""
    pool = (*vocab.nouns, *vocab.nouns, *vocab.adjectives)
    found: list[str] = []
    size = rng.randint(low, high)
    while len(found) < size:
        word = rng.choice(pool)
        if word not in found:
            found.append(word)
    return found


def _plain(rng: random.Random, vocab: Vocabulary) -> Item:
    """One line of four to eight words without punctuation: `river lamp stone window`."""
    style = rng.randrange(3)
    if style == 0:
        return Item(" ".join(_words(rng, vocab, 4, 7)))
    if style == 1:
        words = _words(rng, vocab, 4, 7)
        cases = [rng.choice((str, str, str.title, str.upper)) for _ in words]
        # Capitals in some words at least, or operations on case would have nothing to change.
        changed = rng.sample(range(len(words)), 2)
        cases[changed[0]], cases[changed[1]] = str.upper, str.title
        return Item(" ".join(case(word) for case, word in zip(cases, words, strict=True)))
    # `NUMBERS` has no words beyond twenty.
    number = rng.randint(2, 20)
    count = rng.choice((str(number), NUMBERS[number]))
    adjective, thing = rng.choice(vocab.adjectives), rng.choice(vocab.things)
    name, other = rng.sample(vocab.names, 2)
    city, verb = rng.choice(vocab.cities), rng.choice(vocab.verbs)
    forms = (
        f"{name} {verb.third} {count} {adjective} {thing}s",
        f"{name} {verb.past} {count} {thing}s in {city}",
        f"{count} {adjective} {thing}s for {name}",
        f"the {adjective} {thing} of {name} in {city}",
        f"{name} and {other} {verb.base} {count} {thing}s",
    )
    return Item(rng.choice(forms))


def _lines(rng: random.Random, vocab: Vocabulary) -> Item:
    """Three or four lines of two to four words."""
    words = _words(rng, vocab, 16, 16)  # enough for four lines of four
    lines, cases = [], (str, str, str.capitalize, str.upper)
    for _ in range(rng.randint(3, 4)):
        size = rng.randint(2, 4)
        line, words = words[:size], words[size:]
        lines.append(" ".join(rng.choice(cases)(w) for w in line))
    return Item("\n".join(lines))


def _items(rng: random.Random, vocab: Vocabulary) -> Item:
    """Three to five comma-separated items of one to three words."""
    longer = rng.random() < 0.7
    words = _words(rng, vocab, 15, 15)
    items, cases = [], (str, str, str, str.capitalize, str.upper)
    for _ in range(rng.randint(3, 4 if longer else 5)):
        size = rng.randint(2, 3) if longer else 1
        item, words = words[:size], words[size:]
        items.append(" ".join(rng.choice(cases)(w) for w in item))
    return Item(", ".join(items))


def _labelled(rng: random.Random, vocab: Vocabulary) -> Item:
    """A label, a colon and three to six words: `old attic: lamp stone river`."""
    label, *words = _words(rng, vocab, 4, 7)
    if rng.random() < 0.5:
        label = f"{rng.choice(vocab.adjectives)} {label}"
    cases = (str, str, str, str.capitalize, str.upper)
    return Item(f"{label}: {' '.join(rng.choice(cases)(w) for w in words)}")


def _sentence(rng: random.Random, vocab: Vocabulary) -> str:
    # No template has a full stop inside: operations on sentences split there.
    verb, thing, name = rng.choice(vocab.verbs), rng.choice(vocab.things), rng.choice(vocab.names)
    noun, adjective = rng.choice(vocab.nouns), rng.choice(vocab.adjectives)
    forms = (
        f"{name} {verb.past} the {adjective} {thing}",
        f"The {thing} stood near the {noun}",
        f"Nobody saw the {adjective} {noun}",
        f"{name} lives in {rng.choice(vocab.cities)}",
        f"They {verb.past} every {thing}",
        f"The {noun} was {adjective} today",
        f"{name} likes this {noun}",
    )
    return rng.choice(forms)


def _sentences(rng: random.Random, vocab: Vocabulary) -> Item:
    """Two or three short sentences, each with a full stop."""
    return Item(" ".join(_sentence(rng, vocab) + "." for _ in range(rng.randint(2, 3))))


def _scene(rng: random.Random, vocab: Vocabulary) -> Item:
    """A sentence with one name, city, colour, day, number and thing each."""
    name, city = rng.choice(vocab.names), rng.choice(vocab.cities)
    thing = rng.choice(vocab.things)
    goods = f"{rng.randint(2, 20)} {rng.choice(COLOURS)} {thing}s"
    day, verb = rng.choice(DAYS), rng.choice(vocab.verbs)
    forms = (
        f"On {day} {name} {verb.past} {goods} in {city}.",
        f"{name} from {city} {verb.past} {goods} on {day}.",
        f"{name} will {verb.base} {goods} in {city} on {day}.",
        f"In {city} {name} {verb.past} {goods} last {day}.",
        f"We saw {goods} in {city} and told {name} on {day}.",
    )
    return Item(rng.choice(forms))


def _halves(rng: random.Random, vocab: Vocabulary) -> Item:
    """Two short phrases around a dash: `old lamp - green door`."""
    words = _words(rng, vocab, 6, 6)
    left, right = rng.randint(1, 3), rng.randint(1, 3)
    cases = (str, str, str, str.capitalize)
    words = [rng.choice(cases)(w) for w in words]
    return Item(f"{' '.join(words[:left])} - {' '.join(words[3 : 3 + right])}")


def _record(rng: random.Random, vocab: Vocabulary) -> Item:
    """Three or four `key: value` lines, name and city always among them."""
    values = {
        "item": f"{rng.choice(vocab.adjectives)} {rng.choice(vocab.things)}",
        "amount": str(rng.randint(2, 99)),
        "colour": rng.choice(COLOURS),
        "day": rng.choice(DAYS),
    }
    keys = rng.sample(sorted(values), rng.randint(1, 2))
    values |= {"name": rng.choice(vocab.names), "city": rng.choice(vocab.cities)}
    keys += ["name", "city"]
    rng.shuffle(keys)
    return Item("\n".join(f"{key}: {values[key]}" for key in keys))


def _numbered(rng: random.Random, vocab: Vocabulary) -> Item:
    """A sentence with two different numbers between 2 and 20, as digits or, at times, as words."""
    numbers = rng.sample(range(2, 21), 2)
    # Words are for `spell-digits`; operations on digits pass these texts over.
    a, b = (NUMBERS[n] for n in numbers) if rng.random() < 0.3 else map(str, numbers)
    first, second = rng.sample(vocab.things, 2)
    name, noun = rng.choice(vocab.names), rng.choice(vocab.nouns)
    verb = rng.choice(vocab.verbs)
    forms = (
        f"{name} {verb.past} {a} {first}s and {b} {second}s.",
        f"We need {a} {first}s but only {b} {second}s.",
        f"The {noun} has {a} {first}s near {b} {second}s.",
        f"Of {a} {first}s only {b} were left at the {noun}.",
        f"{name} has {a} {first}s, and the {noun} has {b}.",
    )
    return Item(rng.choice(forms))


def _dated(rng: random.Random, vocab: Vocabulary) -> Item:
    """A sentence with one ISO date."""
    # Day 28 is the last that every month has.
    date = f"{rng.randint(1985, 2030)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
    name, city = rng.choice(vocab.names), rng.choice(vocab.cities)
    noun, thing = rng.choice(vocab.nouns), rng.choice(vocab.things)
    forms = (
        f"{name} came to {city} on {date}.",
        f"The {noun} opens on {date} in {city}.",
        f"On {date} {name} sold the {thing}.",
        f"{date} is the day of the {noun}.",
        f"Please return the {thing} by {date}.",
    )
    return Item(rng.choice(forms))


def _priced(rng: random.Random, vocab: Vocabulary) -> Item:
    """A sentence with one whole price in dollars."""
    price = f"${rng.randint(2, 90)}"
    name, city, thing = rng.choice(vocab.names), rng.choice(vocab.cities), rng.choice(vocab.things)
    forms = (
        f"The {thing} costs {price} in {city}.",
        f"{name} paid {price} for the {rng.choice(vocab.adjectives)} {thing}.",
        f"For {price} you get this {thing} from {name}.",
        f"In {city} {name} sells every {thing} at {price}.",
    )
    return Item(rng.choice(forms))


KINDS: Mapping[str, Make] = {
    "plain": _plain,
    "lines": _lines,
    "items": _items,
    "labelled": _labelled,
    "sentences": _sentences,
    "scene": _scene,
    "halves": _halves,
    "record": _record,
    "numbered": _numbered,
    "dated": _dated,
    "priced": _priced,
}
"""Kinds whose answers follow from the text alone; `kinds` adds those with facts."""


def draw_items(kind: str, make: Make, side: Side, count: int, seed: int) -> tuple[Item, ...]:
    """Different items of a kind; the sides share no words, hence no texts.

    Raises:
        ConfigError: If the kind cannot make that many.
    """
    # A string as the seed gives the same draws in every process. Each kind and side has its own, so
    # its texts do not depend on which others are made.
    rng = random.Random(f"{seed}:inputs:{kind}:{side}")
    vocab = vocabulary(side)
    found: dict[str, Item] = {}
    number, last_new = -1, 0
    # Small kinds repeat themselves, so there are more tries than items.
    for number in range(20 * count):
        item = make(rng, vocab)
        if item.text not in found:
            found[item.text] = item
            last_new = number
        if len(found) == count:
            return tuple(found.values())
        # It has no more, and a large count would be tried for minutes.
        if number - last_new > 1000 + 20 * len(found):
            break
    raise ConfigError(
        f"input kind `{kind}`: expected {count} different texts for the {side} side, found "
        f"{len(found)} in {number + 1} tries. Ask for fewer examples."
    )
