"""The words that inputs are built of: everyday ones, all chosen for this project.

Train and test sides use different words: every third word of an open list belongs to the test
side. Closed lists (days, months, colours, numbers) are shared. No word stands in two lists, so that
a function can tell a name from a city by looking it up.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeVar

__all__ = [
    "CITIES",
    "COLOURS",
    "DAYS",
    "MONTHS",
    "NAMES",
    "NUMBERS",
    "VERBS",
    "Side",
    "Verb",
    "Vocabulary",
    "vocabulary",
]

T = TypeVar("T")
Side = Literal["train", "test"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = _words(
    "January February March April May June July August September October November December"
)
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "brown", "pink", "purple", "grey")
NUMBERS = _words(
    """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen twenty
    """
)
"""Number words, each at the index that it names."""

NAMES = _words(
    """
    Maria Tom Aisha Peter Lena Omar Julia Ben Ingrid Carlos Nina Hugo Priya Daniel Emma Yusuf
    Clara Victor Anna Kenji Sofia Martin Zara Felix Olga Samuel Ruth Diego Alice Marek Fatima
    Oscar Helen Ivan Greta Leo Amara Simon Elsa Pablo Irene Tariq Laura Nils Edith Jonas Wanda
    Arthur
    """
)
CITIES = _words(
    """
    Lisbon Oslo Nairobi Toronto Prague Madrid Osaka Dublin Cairo Vienna Lima Athens Berlin Quito
    Helsinki Accra Warsaw Hanoi Geneva Boston Istanbul Zagreb Amsterdam Seoul Naples Denver Riga
    Mumbai Antwerp Sydney Bogota Exeter Leeds Tunis Utrecht Porto Malmo Dallas Turin Essen
    """
)
_THINGS = _words(
    """
    lamp chair kettle camera table pillow basket guitar bottle carpet mirror ladder umbrella
    blanket hammer apron bucket curtain pencil wallet jacket candle drawer cushion helmet clock
    teapot violin tent rug oven vase notebook keyboard printer saddle whistle towel suitcase
    spoon engine easel lantern monitor stool sweater shovel toaster napkin racket
    """
)
_NOUNS = _words(
    """
    river window stone garden apple cloud bridge island paper forest engineer market onion wheel
    tiger button eagle valley butter owl castle ocean thread rabbit anchor planet envelope harbour
    acorn needle elephant desert lemon oyster tunnel arrow copper meadow elbow kitchen attic velvet
    emerald station orchard mountain ink tower olive pepper iron feather alley museum otter sailor
    autumn cotton ember wagon ivory pocket uncle winter exit sugar opera farmer ankle village eraser
    silver urn ticket almond shadow evening compass index summit actor ribbon oak marble estate
    pigeon igloo glacier oil doctor area canyon author sand elk bamboo office turtle insect flute
    emperor canoe idea lizard artist plum earring fountain ox honey essay saffron ice tractor agent
    pebble oat gallery army cactus event dolphin orbit kite anthem maple
    """
)
_ADJECTIVES = _words(
    """
    old quiet bright empty heavy early round narrow open warm easy soft ancient deep eager sharp
    slow odd tidy upper wild idle pale inner proud urban strong angry smooth able calm extra
    broad elegant cold
    """
)


@dataclass(frozen=True, slots=True)
class Verb:
    """Forms of a verb that takes any thing as its object."""

    base: str
    third: str
    past: str
    participle: str
    ing: str


VERBS = tuple(
    Verb(*forms.split("/"))
    for forms in _words(
        """
    paint/paints/painted/painted/painting clean/cleans/cleaned/cleaned/cleaning
    sell/sells/sold/sold/selling buy/buys/bought/bought/buying draw/draws/drew/drawn/drawing
    find/finds/found/found/finding carry/carries/carried/carried/carrying
    lift/lifts/lifted/lifted/lifting hide/hides/hid/hidden/hiding show/shows/showed/shown/showing
    break/breaks/broke/broken/breaking choose/chooses/chose/chosen/choosing
    steal/steals/stole/stolen/stealing bring/brings/brought/brought/bringing
    send/sends/sent/sent/sending wrap/wraps/wrapped/wrapped/wrapping
    repair/repairs/repaired/repaired/repairing wash/washes/washed/washed/washing
    build/builds/built/built/building hold/holds/held/held/holding
    drop/drops/dropped/dropped/dropping lend/lends/lent/lent/lending
    take/takes/took/taken/taking keep/keeps/kept/kept/keeping
    """
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The open word lists of one side."""

    side: Side
    names: tuple[str, ...] = NAMES
    cities: tuple[str, ...] = CITIES
    things: tuple[str, ...] = _THINGS
    """Singular; each forms its plural with an s."""
    nouns: tuple[str, ...] = _NOUNS
    adjectives: tuple[str, ...] = _ADJECTIVES
    verbs: tuple[Verb, ...] = VERBS

    def part(self, values: tuple[T, ...]) -> tuple[T, ...]:
        """The part of a list that belongs to this side: every third value is for tests."""
        return tuple(v for i, v in enumerate(values) if (i % 3 == 2) == (self.side == "test"))


@cache
def vocabulary(side: Side) -> Vocabulary:
    """The words of a side; the two sides share none."""
    whole = Vocabulary(side=side)
    return Vocabulary(
        side=side,
        names=whole.part(whole.names),
        cities=whole.part(whole.cities),
        things=whole.part(whole.things),
        nouns=whole.part(whole.nouns),
        adjectives=whole.part(whole.adjectives),
        verbs=whole.part(whole.verbs),
    )
