"""Paragraphs that say how the little world is: animals, colours, sums, and what follows what."""

from __future__ import annotations

from collections.abc import Callable

from peer.builtin.draw import Draw
from peer.builtin.lexicon import (
    ANIMALS,
    BAD_EVENTS,
    COLOURED,
    COUNTED,
    GOOD_EVENTS,
    NUMBERS,
    OBJECTS,
    OPPOSITES,
    PEOPLE,
    PLACES,
    QUALITIES,
    SEQUENCES,
    SPOTS,
    Animal,
    an,
    capital,
)


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
                    f"Some say {one} and some say {other}.",
                    f"{capital(one)} and {other} are never the same.",
                    f'"Not {one} but {other}!" said {draw.one(PEOPLE).name}.',
                    f"To say {one} is not to say {other}.",
                )
            )
        )
    hot, cold = draw.shuffled(draw.one(QUALITIES))
    sentences.append(f"If it is not {hot}, it is {cold}.")
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
        things = draw.one(COUNTED)
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


def _topic(draw: Draw) -> str:
    """A line that names something and, not always on the next line, what is to be said of it."""
    hero, friend = (person.name for person in draw.some(PEOPLE, 2))
    named, said = draw.one((_colour, _creature, _contrast, _sum, _mood, _row, _place))(draw)
    lead = draw.one(
        (
            f"{hero} thought of {named}.",
            f"{hero} and {friend} talked about {named}.",
            f"This is about {named}.",
            f"The task was to speak of {named}.",
            f"{hero} had a request: {friend} should write about {named}.",
            f"The next instruction was about {named}.",
        )
    )
    between = draw.one(
        (
            "\n",
            "\n\n",
            "\n* * *\n",
            f"\n{friend} completed the task:\n",
            f"\n\n{friend}:\n",
            f" This was the response of {friend}:\n\n",
        )
    )
    return f"{lead}{between}{said}"


def _colour(draw: Draw) -> tuple[str, str]:
    thing, colour = draw.one(COLOURED + tuple((a.name, a.colour) for a in ANIMALS))
    return f"the {thing}", f"The {thing} is {colour}."


def _creature(draw: Draw) -> tuple[str, str]:
    animal = draw.one(ANIMALS)
    return f"the {animal.name}", _about_animal(draw, animal)


def _contrast(draw: Draw) -> tuple[str, str]:
    one, other = draw.shuffled(draw.one(OPPOSITES))
    return f"the word {one}", f"To say {one} is not to say {other}."


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


KINDS: tuple[Callable[[Draw], str], ...] = (
    _animal_facts,
    _animal_facts,
    _comparison,
    _colours,
    _colours,
    _contrasts,
    _contrasts,
    _calendar,
    _sums,
    _rooms,
    _cards,
    _topic,
    _topic,
    _topic,
)
"""What a paragraph can be; a kind that stands here twice comes twice as often."""
