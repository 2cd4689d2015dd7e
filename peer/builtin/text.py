"""The pre-training text: short documents about a little world, written by a grammar.

Document k of a seed is a function of (seed, k), so held-out text is the text of another seed. There
are stories, letters, descriptions and sums in words, all in ordinary prose: neither the prompt of
instruction tuning nor the questions of the built-in instruction set occur here.
"""

from __future__ import annotations

from collections.abc import Iterator

from peer.builtin import facts, stories
from peer.builtin.draw import Draw

KINDS = (*facts.KINDS, *stories.KINDS)


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
