"""The little world that both the pre-training text and the instruction set speak about."""

from __future__ import annotations

from typing import NamedTuple


class Animal(NamedTuple):
    """What is said about an animal."""

    name: str
    size: str
    colour: str
    home: str
    food: str
    deed: str


class Person(NamedTuple):
    """Somebody in a story, and the words that stand for them."""

    name: str
    subject: str
    object: str
    possessive: str


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(" ".join(phrase.split()) for phrase in text.split(","))


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((first, second) for first, _, second in (w.partition("/") for w in text.split()))


ANIMALS = tuple(
    Animal(*line.split())
    for line in """\
ant tiny black forest leaves climb
bear big brown forest honey climb
bee tiny yellow garden nectar fly
camel big yellow desert grass walk
cat small black house fish jump
cow big brown field grass walk
crab small red sea fish walk
crow small black tree seeds fly
deer big brown forest leaves run
dog big brown house meat run
donkey big grey barn hay walk
duck small white pond bread swim
eagle big brown forest fish fly
elephant huge grey jungle leaves walk
fox small red forest mice run
frog small green pond flies jump
giraffe tall yellow jungle leaves run
goat small white barn grass climb
goose big white lake grass swim
hen small red barn corn run
horse big brown field hay run
lion big yellow jungle meat run
mole small black garden worms dig
monkey small brown jungle bananas climb
mouse tiny grey house cheese run
owl small brown tree mice fly
panda big black forest leaves climb
parrot small green jungle nuts fly
pig big pink barn corn dig
rabbit small white garden carrots jump
seal big grey sea fish swim
sheep big white field grass walk
snail tiny brown garden leaves climb
snake long green desert eggs climb
spider tiny black house flies climb
squirrel small red tree nuts jump
swan big white lake bread swim
tiger big orange jungle meat run
turtle small green sea leaves swim
whale huge blue sea fish swim
wolf big grey forest meat run
""".splitlines()
)

COLOURED = tuple(
    (name, colour)
    for colour, names in {
        "red": "cherry tomato rose fire apple strawberry",
        "blue": "sky ocean river",
        "green": "grass leaf pear cucumber bush",
        "yellow": "sun lemon banana butter sand",
        "white": "snow milk cloud salt egg moon",
        "black": "coal night tar",
        "brown": "mud chocolate nut wood",
        "grey": "stone smoke road",
        "orange": "carrot pumpkin",
        "purple": "plum grape",
    }.items()
    for name in names.split()
)
"""Pairs of a thing and the colour that it always has."""

COLOURS = _words("red blue green yellow white black brown grey orange purple")

QUALITIES = _pairs("""
hot/cold big/small fast/slow happy/sad old/young wet/dry dark/bright heavy/light hard/soft
long/short loud/quiet clean/dirty full/empty early/late strong/weak rich/poor near/far high/low
good/bad thick/thin wide/narrow sweet/sour warm/cool easy/difficult kind/cruel brave/afraid
open/closed awake/asleep true/false
""")
OPPOSITES = QUALITIES + _pairs("""
up/down left/right inside/outside above/below day/night summer/winter morning/evening north/south
east/west begin/end give/take buy/sell push/pull laugh/cry love/hate win/lose come/go
remember/forget rise/fall
""")

NUMBERS = _words("""
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen twenty
""")
DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
SEQUENCES = (
    NUMBERS[1:],
    DAYS,
    _words("""
    January February March April May June July August September October November December
    """),
    _words("spring summer autumn winter"),
    _words("morning noon afternoon evening night"),
    _words("first second third fourth fifth sixth seventh eighth ninth tenth"),
)
"""Words that always follow one another in this order."""

PEOPLE = (
    *(Person(name, "he", "him", "his") for name in _words("Tom Ben Sam Max Jack Leo Paul Tim")),
    *(
        Person(name, "she", "her", "her")
        for name in _words("Mia Anna Lily Eva Rosa Nina Ella Clara")
    ),
)

OBJECTS = _words("""
cup ball book hat key spoon box lamp coat bag bell drum kite doll pen map coin shoe ring rope
basket clock plate letter stick bowl candle brush blanket picture
""")
"""What can be carried about."""

SPOTS = _phrases("""
on the table, under the bed, behind the door, near the window, on the chair, under the tree,
by the gate, on the shelf, in the kitchen, in the drawer, on the floor, in the garden,
behind the house, near the fire, under the bench, by the wall, on the roof, in the cellar,
near the well, behind the curtain
""")

PLACES = _words("""
park school farm market river forest beach town library hill garden lake shop village station
bridge mill harbour castle field
""")

EDIBLES = _words("apples pears plums nuts eggs cherries lemons carrots")
COUNTED = EDIBLES + _words("stones shells flowers coins")

GOOD_EVENTS = _phrases("""
won the race, found the lost ring, got a new kite, ate a sweet cake, met an old friend,
sang with the children, made a fine drum, saw the first flowers, caught a big fish,
danced at the feast, heard a good joke, got a letter from a friend, saw a rainbow,
played in the sun, learned a new song, finished the picture
""")
BAD_EVENTS = _phrases("""
lost the race, broke the blue cup, tore the new coat, fell into the mud, missed the train,
lost the way home, hurt a foot, dropped the warm cake, forgot the key, had nobody to play with,
stayed alone all day, heard some bad news, had a bad dream, spilled the milk,
lost a good friend, saw the kite fly away
""")
"""What makes people happy or sad; each follows a person's name or `I`."""


def an(word: str) -> str:
    """Return the word with `a` or `an` before it, as it is spoken."""
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def capital(text: str) -> str:
    """Return the text with its first letter as a capital."""
    return text[:1].upper() + text[1:]


def listed(words: list[str]) -> str:
    """Return `a, b and c` for the words a, b and c."""
    return " and ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else words[0]
