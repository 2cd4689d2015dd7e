"""Paragraphs in which something happens: stories, letters, talk and work."""

from __future__ import annotations

from collections.abc import Callable

from peer.builtin.draw import Draw
from peer.builtin.lexicon import (
    ANIMALS,
    BAD_EVENTS,
    COLOURS,
    COUNTED,
    DAYS,
    EDIBLES,
    GOOD_EVENTS,
    NUMBERS,
    OBJECTS,
    PEOPLE,
    PLACES,
    SPOTS,
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


def _lost_and_found(draw: Draw) -> str:
    hero, friend = draw.some(PEOPLE, 2)
    thing, spot = draw.one(OBJECTS), draw.one(SPOTS)
    colour = draw.one(COLOURS)
    start = draw.one(
        (
            f"{hero.name} had {an(colour)} {thing}. One day the {thing} was gone.",
            f"One evening {hero.name} could not find the {colour} {thing}.",
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
            f"Together they found some {animal.food} for supper.",
        )
    )
    name = f"{an(animal.size)} {draw.one((animal.colour + ' ', ''))}{animal.name}"
    return f"{draw.one(('Once there was', 'Long ago there lived'))} {name}. {event} {help_} {end}"


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
                    f"Please bring me the {draw.one(OBJECTS)} and some {draw.one(COUNTED)}.",
                    f"I will come on {draw.one(DAYS)}.",
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
                f"They met on the opposite side of the {draw.one(PLACES)}.",
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


def _introduction(draw: Draw) -> str:
    hero: Person = draw.one(PEOPLE)
    who = capital(hero.subject)
    return " ".join(
        (
            f"{hero.name} lives near the {draw.one(PLACES)} and has {an(draw.one(ANIMALS).name)}.",
            f"{who} is {NUMBERS[5 + draw.below(10)]} years old.",
            f"{who} likes {draw.one(COLOURS)} and eats many {draw.one(EDIBLES)}.",
            f"On {draw.one(DAYS)} {hero.subject} goes to the {draw.one(PLACES)}.",
        )
    )


KINDS: tuple[Callable[[Draw], str], ...] = (
    _lost_and_found,
    _journey,
    _animal_story,
    _feelings,
    _letter,
    _shopping,
    _office,
    _office,
    _advice,
    _introduction,
)
"""What a paragraph can be; a kind that stands here twice comes twice as often."""
