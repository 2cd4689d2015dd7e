"""The pre-training text: short documents about a little world, written by a grammar.

Document k of a seed is a function of (seed, k), so held-out text is the text of another seed. There
are stories, letters, descriptions and sums in words, all in ordinary prose: neither the prompt of
instruction tuning nor the questions of the built-in instruction set occur here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from peer.builtin.draw import Draw
from peer.builtin.lexicon import (
    ANIMALS,
    BAD_EVENTS,
    COLOURED,
    COLOURS,
    EDIBLES,
    THINGS,
    GOOD_EVENTS,
    NUMBERS,
    OBJECTS,
    OPPOSITES,
    PEOPLE,
    PLACES,
    SEQUENCES,
    SPOTS,
    Animal,
    Person,
    an,
    capital,
    listed,
)

WEATHER = (
    "The sun was warm and the sky was blue.",
    "It was raining and the road was wet.",
    "Snow lay on the hills and the air was cold.",
    "A strong wind came from the north.",
    "The morning was dark and quiet.",
    "There was not a cloud in the sky.",
    "The night was clear and the moon was white.",
    "A little fog came up from the river.",
)
CLOSINGS = (
    "They went home and had supper.",
    "After that they were good friends.",
    "In the evening everybody was tired but glad.",
    "That night they all slept well.",
    "And so the day came to an end.",
    "They talked about it for a long time.",
    "From then on they met there every week.",
    "Then it was time to go to bed.",
)


def document(seed: int, number: int) -> str:
    """Return one document: four to nine paragraphs, a newline between them.

    Args:
        seed: of the whole text, at least 0.
        number: which document, 0 <= number < 2**32.
    """
    draw = Draw(seed, number)
    return "\n".join(draw.one(KINDS)(draw) for _ in range(4 + draw.below(6)))


def documents(seed: int, count: int) -> Iterator[str]:
    """Yield the first `count` documents of a seed."""
    return (document(seed, number) for number in range(count))


def _lost_and_found(draw: Draw) -> str:
    hero, friend = draw.some(PEOPLE, 2)
    thing, spot = draw.one(OBJECTS), draw.one(SPOTS)
    colour = draw.one(COLOURS)
    start = draw.one(
        (
            f"{hero.name} had {an(colour)} {thing}. One day the {thing} was gone.",
            f"One {draw.one(SEQUENCES[4])} {hero.name} could not find the {colour} {thing}.",
            f"{hero.name} looked for {hero.possessive} {colour} {thing} all day.",
        )
    )
    asking = draw.one(
        (
            f'"Have you seen my {thing}?" {hero.subject} asked {friend.name}.',
            f'"Who took my {thing}?" asked {hero.name}.',
            f"So {hero.subject} went to {friend.name} and asked for help.",
        )
    )
    answer = draw.one(
        (
            f'"The {thing} is {spot}," said {friend.name}.',
            f'"Look there! It is {spot}," said {friend.name}.',
            f"{friend.name} had seen the {thing} {spot}.",
        )
    )
    end = draw.one(
        (
            f"And there it was. {hero.name} was happy again.",
            f"{hero.name} ran there at once and found it {spot}.",
            f"Yes, the {thing} was {spot}. {hero.name} thanked {friend.object}.",
        )
    )
    return f"{start} {asking} {answer} {end}"


def _journey(draw: Draw) -> str:
    hero, friend = draw.some(PEOPLE, 2)
    start, goal = draw.some(PLACES, 2)
    animal = draw.one(ANIMALS)
    meeting = draw.one(
        (
            f"On the way they saw {an(animal.size)} {animal.name}.",
            f"Near the {draw.one(PLACES)} they met {an(animal.colour)} {animal.name}.",
            f"{an(animal.name).capitalize()} came out of the {animal.home} and looked at them.",
        )
    )
    doing = draw.one(
        (
            f"It wanted to eat {animal.food}.",
            f'"It can {animal.deed} very well," said {friend.name}.',
            f"{hero.name} was {draw.one(('brave', 'afraid', 'very quiet'))}, but it did nothing.",
            f"They gave it some {animal.food} and it was glad.",
        )
    )
    return " ".join(
        (
            f"{hero.name} and {friend.name} went from the {start} to the {goal}.",
            draw.one(WEATHER),
            meeting,
            doing,
            draw.one(CLOSINGS),
        )
    )


def _animal_story(draw: Draw) -> str:
    animal, other = draw.some(ANIMALS, 2)
    event = draw.one(
        (
            f"It was hungry and looked for {animal.food}, but there was nothing left.",
            f"It wanted to {animal.deed}, but it had hurt a foot.",
            f"It had lost the way to the {animal.home}.",
            "It had no friend to play with.",
        )
    )
    help_ = draw.one(
        (
            f'"I will help you," said the {other.name}.',
            f'"Come with me," said the {other.name}, "I live in the {other.home}."',
            f"Then {an(other.size)} {other.name} came by and stopped.",
        )
    )
    end = draw.one(
        (
            f"They shared the {other.food} and became friends.",
            f"Soon the {animal.name} could {animal.deed} again.",
            f"The {animal.name} thanked the {other.name} and was happy.",
            f"Together they found some {animal.food} and ate it all.",
        )
    )
    name = f"{an(animal.size)} {draw.one((animal.colour + ' ', ''))}{animal.name}"
    return f"{draw.one(('Once there was', 'Long ago there lived'))} {name}. {event} {help_} {end}"


def _animal_facts(draw: Draw) -> str:
    return " ".join(_about_animal(draw, animal) for animal in draw.some(ANIMALS, 1 + draw.below(3)))


def _about_animal(draw: Draw, animal: Animal) -> str:
    name, size, colour, home, food, deed = animal
    looks = draw.one(
        (
            f"The {name} is {size} and {colour}.",
            f"The {name} is {an(size)} {colour} animal.",
            f"The {name} is {colour}.",
        )
    )
    rest = [
        draw.one((f"It lives in the {home}.", f"The {home} is its home.")),
        draw.one((f"It eats {food}.", f"Its food is {food}.", f"It likes to eat {food}.")),
        draw.one((f"It can {deed}.", f"It can {deed} well.")),
    ]
    return " ".join([looks, *draw.some(rest, 2 + draw.below(2))])


def _comparison(draw: Draw) -> str:
    one, other = draw.some(ANIMALS, 2)
    return " ".join(
        draw.some(
            (
                f"The {one.name} is {one.size}, the {other.name} is {other.size}.",
                f"The {one.name} lives in the {one.home} and the {other.name} in the {other.home}.",
                f"While the {one.name} eats {one.food}, the {other.name} eats {other.food}.",
                f"The {one.name} can {one.deed}, but can it {other.deed} like the {other.name}?",
                f"One is {one.colour} and the other is {other.colour}.",
            ),
            3,
        )
    )


def _colours(draw: Draw) -> str:
    pairs = draw.some(COLOURED, 4)
    sentences = [
        draw.one(
            (
                f"The {thing} is {colour}.",
                f"{draw.one(PEOPLE).name} painted a {colour} {thing}.",
                f"Look, the {thing} is {colour} again.",
                f"Everybody knows that the {thing} is {colour}.",
            )
        )
        for thing, colour in pairs
    ]
    return " ".join(sentences)


def _contrasts(draw: Draw) -> str:
    sentences = []
    for pair in draw.some(OPPOSITES, 3):
        one, other = draw.shuffled(pair)
        sentences.append(
            draw.one(
                (
                    f"First it was {one} and then it was {other}.",
                    f"Some say {one} and some say {other}.",
                    f"If it is not {one}, it is {other}.",
                    f"{capital(one)} and {other} are never the same.",
                    f'"Not {one} but {other}!" said {draw.one(PEOPLE).name}.',
                )
            )
        )
    return " ".join(sentences)


def _calendar(draw: Draw) -> str:
    words = draw.one(SEQUENCES)
    at = draw.below(len(words) - 3)
    a, b, c, d = words[at : at + 4]
    hero = draw.one(PEOPLE)
    return draw.one(
        (
            f"{hero.name} said the words one by one: {a}, {b}, {c}, {d}.",
            f"After {a} comes {b}, and after {b} comes {c}. Then comes {d}.",
            f"{capital(a)}, {b} and {c} were over. Then came {d}.",
            f"Before {b} comes {a}. After {c} comes {d}, as {hero.name} knows.",
        )
    )


def _sums(draw: Draw) -> str:
    sentences = []
    for _ in range(2 + draw.below(2)):
        a, b = 1 + draw.below(10), 1 + draw.below(10)
        one, two, sum_ = NUMBERS[a], NUMBERS[b], NUMBERS[a + b]
        hero, friend = draw.some(PEOPLE, 2)
        things = draw.one(THINGS)
        sentences.append(
            draw.one(
                (
                    f"{capital(one)} and {two} make {sum_}.",
                    f"{capital(one)} {things} and {two} {things} make {sum_} {things}.",
                    f"{hero.name} had {one} of the {things}. {friend.name} brought {two} more."
                    f" Now there were {sum_}.",
                    f"There were {sum_} {things} in the bowl. {hero.name} took {two},"
                    f" and {NUMBERS[a]} were left.",
                )
            )
        )
    return " ".join(sentences)


def _feelings(draw: Draw) -> str:
    sentences = []
    for hero in draw.some(PEOPLE, 2):
        good = draw.chance(0.5)
        event = draw.one(GOOD_EVENTS if good else BAD_EVENTS)
        feeling = draw.one(("happy", "glad") if good else ("sad", "unhappy"))
        face = draw.one(("laughed", "smiled", "sang") if good else ("cried", "wept", "was quiet"))
        sentences.append(
            draw.one(
                (
                    f"{hero.name} {event}. {capital(hero.subject)} was {feeling}.",
                    f'"I {event}," said {hero.name} and {face}.',
                    f"{hero.name} was {feeling} because {hero.subject} {event}.",
                    f"{hero.name} {face}. {capital(hero.subject)} was {feeling},"
                    f" for {hero.subject} {event}.",
                )
            )
        )
    return " ".join(sentences)


def _rooms(draw: Draw) -> str:
    things, spots = draw.some(OBJECTS, 3), draw.some(SPOTS, 3)
    placed = [
        draw.one(
            (
                f"The {thing} was {spot}.",
                f"{draw.one(PEOPLE).name} put the {thing} {spot}.",
                f"There was {an(thing)} {spot}.",
            )
        )
        for thing, spot in zip(things, spots, strict=True)
    ]
    at = draw.below(3)
    recall = draw.one(
        (
            f"So the {things[at]} is {spots[at]}.",
            f'{draw.one(PEOPLE).name} said: "The {things[at]} is {spots[at]}."',
            f"The {things[at]} stayed {spots[at]} all day.",
        )
    )
    return " ".join([*placed, recall])


def _letter(draw: Draw) -> str:
    sender, reader = draw.some(PEOPLE, 2)
    event = draw.one(GOOD_EVENTS + BAD_EVENTS)
    return " ".join(
        (
            f"Dear {reader.name}, how are you?",
            draw.one(
                (
                    f"I am at the {draw.one(PLACES)} now.",
                    f"We stay in a house by the {draw.one(PLACES)}.",
                )
            ),
            f"Yesterday I {event}.",
            draw.one(
                (
                    f"Please bring me the {draw.one(OBJECTS)} and some {draw.one(THINGS)}.",
                    f"I will come on {draw.one(SEQUENCES[1])}.",
                    f"The {draw.one(ANIMALS).name} here is very {draw.one(('kind', 'loud'))}.",
                )
            ),
            f"Your friend {sender.name}",
        )
    )


def _shopping(draw: Draw) -> str:
    hero = draw.one(PEOPLE)
    things = draw.some(OBJECTS, 2 + draw.below(3))
    number = NUMBERS[2 + draw.below(9)]
    return " ".join(
        (
            f"{hero.name} went to the {draw.one(('market', 'shop'))} and bought"
            f" {listed([an(thing) for thing in things])}.",
            f"The {things[0]} was {draw.one(COLOURS)} and cost {number} coins.",
            f"{capital(hero.subject)} carried it all home in {an(draw.one(('bag', 'basket')))}.",
        )
    )


def _cards(draw: Draw) -> str:
    hero = draw.one(PEOPLE)
    words = draw.some(OBJECTS + PLACES, 3)
    return " ".join(
        (
            f"{hero.name} read the cards on the wall: {' '.join(words)}.",
            f"The first card said {words[0]} and the last said {words[-1]}.",
            draw.one(
                (
                    f"The word {draw.one(words)} was new.",
                    f"{capital(hero.subject)} wrote them into a book.",
                    "They were short words.",
                )
            ),
        )
    )


def _office(draw: Draw) -> str:
    hero, friend = draw.some(PEOPLE, 2)
    return " ".join(
        draw.some(
            (
                f"{hero.name} gave {friend.name} a new task.",
                f"The task was paired with {draw.one(('a picture', 'a map', 'a short text'))}.",
                f"A good instruction describes what to do, thought {hero.name}.",
                "The book on Instruction and Response was old.",
                f"{friend.name} completes each request on the same day.",
                f"The list below provides further {draw.one(('names', 'words', 'context'))}.",
                f"Input and Output were the words on the two doors of the {draw.one(PLACES)}.",
                f'"Write to me," said {hero.name}, and {friend.name} wrote a response.',
                f"Below the {draw.one(PLACES)} lay the {draw.one(PLACES)}.",
                f"They were appropriately dressed for the {draw.one(PLACES)}.",
                f"The context of the letter was clear to {hero.name}.",
                "The mill needs the input of much water.",
                f"{friend.name} read the instruction again and understood the task.",
            ),
            4,
        )
    )


def _advice(draw: Draw) -> str:
    hero = draw.one(PEOPLE)
    return " ".join(
        (
            f'"How do you {draw.one(("make a cake", "cook an egg", "make soup"))}?"'
            f" asked {hero.name}.",
            f'"First take {draw.one(NUMBERS[2:9])} {draw.one(EDIBLES)} and a bowl.',
            draw.one(("Wash them well.", "Cut them into small pieces.", "Put them into the bowl.")),
            draw.one(("Add some milk and butter.", "Add water and a little salt.")),
            f'Then wait until it is {draw.one(("hot", "soft", "thick", "brown"))}."',
        )
    )


def _topic(draw: Draw) -> str:
    """A line that names something, and on the next line what is to be said of it."""
    hero, friend = draw.some(PEOPLE, 2)
    named, said = draw.one((_colour, _creature, _contrast, _sum, _mood, _row, _place))(draw)
    lead = draw.one(
        (
            f"{hero.name} thought of {named}.",
            f"{hero.name} and {friend.name} talked about {named}.",
            f"Once more {hero.name} heard of {named}.",
            f"This is about {named}.",
        )
    )
    return f"{lead}\n{said}"


def _colour(draw: Draw) -> tuple[str, str]:
    thing, colour = draw.one(COLOURED + tuple((a.name, a.colour) for a in ANIMALS))
    return f"the {thing}", f"The {thing} is {colour}."


def _creature(draw: Draw) -> tuple[str, str]:
    animal = draw.one(ANIMALS)
    return f"the {animal.name}", _about_animal(draw, animal)


def _contrast(draw: Draw) -> tuple[str, str]:
    one, other = draw.shuffled(draw.one(OPPOSITES))
    return f"the word {one}", f"If it is not {one}, it is {other}."


def _sum(draw: Draw) -> tuple[str, str]:
    a, b = 1 + draw.below(10), 1 + draw.below(10)
    one, two = NUMBERS[a], NUMBERS[b]
    return f"{one} and {two}", f"{capital(one)} and {two} make {NUMBERS[a + b]}."


def _mood(draw: Draw) -> tuple[str, str]:
    hero = draw.one(PEOPLE).name
    good = draw.chance(0.5)
    event = draw.one(GOOD_EVENTS if good else BAD_EVENTS)
    return f"the day when {hero} {event}", f"{hero} is {'happy' if good else 'sad'}."


def _row(draw: Draw) -> tuple[str, str]:
    words = draw.one(SEQUENCES)
    at = draw.below(len(words) - 2)
    return f"{words[at]}, {words[at + 1]}", f"Then comes {words[at + 2]}."


def _place(draw: Draw) -> tuple[str, str]:
    thing, spot = draw.one(OBJECTS), draw.one(SPOTS)
    return f"the {thing} that somebody put {spot}", f"The {thing} is {spot}."


def _introduction(draw: Draw) -> str:
    hero: Person = draw.one(PEOPLE)
    who = capital(hero.subject)
    return " ".join(
        (
            f"{hero.name} lives near the {draw.one(PLACES)} and has {an(draw.one(ANIMALS).name)}.",
            f"{who} is {NUMBERS[5 + draw.below(10)]} years old.",
            f"{who} likes {draw.one(COLOURS)} and eats many {draw.one(EDIBLES)}.",
            f"On {draw.one(SEQUENCES[1])} {hero.subject} goes to the {draw.one(PLACES)}.",
        )
    )


KINDS: tuple[Callable[[Draw], str], ...] = (
    _lost_and_found,
    _journey,
    _animal_story,
    _animal_facts,
    _animal_facts,
    _comparison,
    _colours,
    _colours,
    _contrasts,
    _contrasts,
    _calendar,
    _sums,
    _feelings,
    _rooms,
    _letter,
    _shopping,
    _cards,
    _office,
    _office,
    _topic,
    _topic,
    _topic,
    _advice,
    _introduction,
)
"""What a paragraph can be; a kind that stands here twice comes twice as often."""
