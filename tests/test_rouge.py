"""Rouge-L against the longest common subsequence written out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peer.rouge import rouge_l

WORDS = st.lists(st.sampled_from(["a", "b", "cat", "7"]), max_size=9)


def common(some: list[str], others: list[str]) -> int:
    """Return the length of the longest common subsequence, by trying all."""
    if not some or not others:
        return 0
    if some[0] == others[0]:
        return 1 + common(some[1:], others[1:])
    return max(common(some[1:], others), common(some, others[1:]))


@given(WORDS, WORDS)
@settings(deadline=None)
def test_it_is_the_f_measure_of_the_longest_common_subsequence(
    expected: list[str], said: list[str]
) -> None:
    score = rouge_l(" ".join(expected), " ".join(said))
    length = common(expected, said)
    if not length:
        assert score == 0
    else:
        precision, recall = length / len(said), length / len(expected)
        assert score == pytest.approx(2 * precision * recall / (precision + recall))


@given(st.text(max_size=40), st.text(max_size=40))
@settings(deadline=None)
def test_it_is_symmetric_and_a_share(expected: str, said: str) -> None:
    score = rouge_l(expected, said)
    assert 0 <= score <= 1
    assert score == pytest.approx(rouge_l(said, expected))


@pytest.mark.parametrize(
    ("expected", "said", "score"),
    [
        ("The cat sat.", "the CAT, sat", 1.0),
        ("the cat sat", "the cat", 0.8),
        ("one two three four", "four three two one", 0.25),
        ("running", "runs", 0.0),
        ("red red blue", "red", 0.5),
        ("дом", "дом", 0.0),
        ("", "", 0.0),
        ("word", "", 0.0),
    ],
)
def test_words_are_letters_and_digits_in_lower_case_without_stemming(
    expected: str, said: str, score: float
) -> None:
    assert rouge_l(expected, said) == pytest.approx(score)
