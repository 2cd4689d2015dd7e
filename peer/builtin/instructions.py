"""The built-in instruction set: eight kinds of small tasks about the pre-training text's world.

`python -m peer.builtin.instructions FILE` writes the rows of `instructions.jsonl` again, byte for
byte. What a response says is mostly known from pre-training; that there is an instruction to be
answered in one sentence is not, and that is what tuning teaches.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

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
    SEQUENCES,
    SPOTS,
    an,
    capital,
)

SEED = 2024
ROWS_PER_CATEGORY = 250

Task = tuple[str, str, str]
"""Instruction, context (may be empty), response."""


def rows(seed: int, per_category: int) -> list[dict[str, str]]:
    """Return the rows, category after category mixed: no two have one instruction and context.

    Args:
        seed: at least 0.
        per_category: rows of each of the eight categories; the smallest one holds about 400.
    """
    found = [
        {"instruction": task[0], "context": task[1], "response": task[2], "category": category}
        for number, (category, make) in enumerate(CATEGORIES.items())
        for task in _different(make, Draw(seed, number), per_category)
    ]
    return Draw(seed, len(CATEGORIES)).shuffled(found)


def as_json_lines(rows: list[dict[str, str]]) -> str:
    """Return the rows as text, one JSON object a line."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def _different(make: Callable[[Draw], Task], draw: Draw, count: int) -> Iterator[Task]:
    seen: set[tuple[str, str]] = set()
    while len(seen) < count:
        task = make(draw)
        if task[:2] not in seen:
            seen.add(task[:2])
            yield task


def _colour(draw: Draw) -> Task:
    thing, colour = draw.one(COLOURED + tuple((a.name, a.colour) for a in ANIMALS))
    asked = draw.one(
        (
            f"What colour is the {thing}?",
            f"Tell me the colour of the {thing}.",
            f"Which colour does the {thing} have?",
            f"Name the colour of the {thing}.",
            f"Say in one sentence what colour the {thing} is.",
        )
    )
    return asked, "", f"The {thing} is {colour}."


def _opposite(draw: Draw) -> Task:
    word, other = draw.shuffled(draw.one(OPPOSITES))
    asked = draw.one(
        (
            f"What is the opposite of {word}?",
            f"Name the opposite of {word}.",
            f"Tell me the opposite of the word {word}.",
            f"Which word means the opposite of {word}?",
            f"Find a word that is the opposite of {word}.",
        )
    )
    return asked, "", f"The opposite of {word} is {other}."


def _sum(draw: Draw) -> Task:
    a, b = 1 + draw.below(10), 1 + draw.below(10)
    one, two = NUMBERS[a], NUMBERS[b]
    things = draw.one(COUNTED)
    asked = draw.one(
        (
            f"How much is {one} and {two}?",
            f"Add {one} and {two}.",
            f"What do you get if you add {one} to {two}?",
            f"Count {one} {things} and {two} {things} together.",
            f"How many {things} are {one} {things} and {two} {things}?",
        )
    )
    return asked, "", f"{capital(one)} and {two} make {NUMBERS[a + b]}."


def _word(draw: Draw) -> Task:
    words = draw.some(OBJECTS + PLACES, 3 + draw.below(3))
    which = draw.one(("first", "last"))
    asked = draw.one(
        (
            f"What is the {which} word?",
            f"Find the {which} word of the line.",
            f"Repeat the {which} word that is given.",
            f"Which word stands {which}?",
        )
    )
    return asked, " ".join(words), f"The {which} word is {words[0 if which == 'first' else -1]}."


def _describe(draw: Draw) -> Task:
    animal = draw.one(ANIMALS)
    asked = draw.one(
        (
            f"Describe the {animal.name}.",
            f"Tell me something about the {animal.name}.",
            f"What do you know about the {animal.name}?",
            f"Explain to a child what {an(animal.name)} is.",
            f"Write two sentences about the {animal.name}.",
            f"What kind of animal is the {animal.name}?",
            f"Give a short description of the {animal.name}.",
        )
    )
    looks = f"The {animal.name} is {an(animal.size)} {animal.colour} animal."
    return asked, "", f"{looks} It lives in the {animal.home}."


def _sentiment(draw: Draw) -> Task:
    hero = draw.one(PEOPLE)
    good = draw.chance(0.5)
    asked = draw.one(
        (
            f"How does {hero.name} feel?",
            f"Is {hero.name} happy or sad?",
            f"Say whether {hero.name} is happy or sad.",
            f"Guess the feeling of {hero.name}.",
        )
    )
    event = draw.one(GOOD_EVENTS if good else BAD_EVENTS)
    return asked, f"{hero.name} {event}.", f"{hero.name} is {'happy' if good else 'sad'}."


def _where(draw: Draw) -> Task:
    hero, friend = draw.some(PEOPLE, 2)
    thing, other = draw.some(OBJECTS, 2)
    spot, elsewhere = draw.some(SPOTS, 2)
    context = " ".join(
        draw.shuffled(
            (f"{hero.name} put the {thing} {spot}.", f"{friend.name} put the {other} {elsewhere}.")
        )
    )
    asked = draw.one(
        (
            f"Where is the {thing}?",
            f"Tell me where the {thing} is.",
            f"Find the {thing}.",
            f"In which place can I find the {thing}?",
        )
    )
    return asked, context, f"The {thing} is {spot}."


def _next(draw: Draw) -> Task:
    words = draw.one(SEQUENCES)
    shown = 2 + draw.below(2)
    at = draw.below(len(words) - shown)
    asked = draw.one(
        (
            "What comes next?",
            "Continue the list.",
            "Which word follows?",
            "Give the next word of the list.",
            "Go on with these words.",
            "Complete the list with one more word.",
            "Name the word that is missing at the end.",
        )
    )
    return asked, ", ".join(words[at : at + shown]), f"Then comes {words[at + shown]}."


CATEGORIES: dict[str, Callable[[Draw], Task]] = {
    "colour": _colour,
    "opposite": _opposite,
    "sum": _sum,
    "word": _word,
    "describe": _describe,
    "sentiment": _sentiment,
    "where": _where,
    "next": _next,
}

if __name__ == "__main__":
    Path(sys.argv[1]).write_text(as_json_lines(rows(SEED, ROWS_PER_CATEGORY)), encoding="ascii")
