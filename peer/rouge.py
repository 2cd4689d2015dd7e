"""Rouge-L: how much of an expected text another one has, in the same order (Lin, 2004)."""

from __future__ import annotations

from functools import cache
from typing import Any


def rouge_l(expected: str, said: str) -> float:
    """Return the F measure of Rouge-L, from 0 to 1.

    With l words in the longest common subsequence, p = l / (words said) and r = l / (words
    expected), it is 2 p r / (p + r), and 0 where nothing is common. Words are runs of a-z and 0-9
    in lower case, without stemming; so a text in another script has none.

    The papers' program takes the package `rouge` (1.0.1) instead: words are what spaces part, with
    their case and punctuation, sentences end at full stops, and p and r count different words, each
    once. So its numbers are near these, and not the same.

    Args:
        expected: one reference: as in that program, the first where several outputs are allowed.
        said: by the model.
    """
    return float(_scorer().score(expected, said)["rougeL"].fmeasure)


@cache
def _scorer() -> Any:
    # It takes half a second to import, and few runs need it.
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=False)
