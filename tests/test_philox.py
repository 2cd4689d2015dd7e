"""The generator: Random123's known answers, and blocks that can be made alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.philox import philox

WORD = st.integers(0, 2**64 - 1)

# Random123's kat_vectors for philox4x32, 10 rounds: counter, key, words.
KNOWN_ANSWERS = [
    (
        (0x00000000, 0x00000000, 0x00000000, 0x00000000),
        (0x00000000, 0x00000000),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_known_answers_of_random123(counter, key, words):
    low = np.array([counter[0] | counter[1] << 32], dtype=np.uint64)
    block = philox(key[0] | key[1] << 32, low, counter[2] | counter[3] << 32)
    assert block.dtype == np.uint32
    assert block.tolist() == [list(words)]


def philox_in_python(key, counter):
    """Return one block, in Python's own integers, as the paper's figure has it."""
    c = [counter >> shift & 0xFFFFFFFF for shift in (0, 32, 64, 96)]
    k = [key & 0xFFFFFFFF, key >> 32]
    for _ in range(10):
        high_0, low_0 = divmod(c[0] * 0xD2511F53, 2**32)
        high_1, low_1 = divmod(c[2] * 0xCD9E8D57, 2**32)
        c = [high_1 ^ c[1] ^ k[0], low_1, high_0 ^ c[3] ^ k[1], low_0]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


@given(key=WORD, counters=st.lists(st.tuples(WORD, WORD), min_size=1, max_size=5))
def test_equals_python_integers_for_any_counters_and_key(key, counters):
    low, high = (np.array(half, dtype=np.uint64) for half in zip(*counters, strict=True))
    expected = [philox_in_python(key, h << 64 | a) for a, h in counters]
    assert philox(key, low, high).tolist() == expected


@given(key=WORD, first=st.integers(0, 2**64 - 100), high=WORD, at=st.integers(0, 99))
def test_a_block_alone_equals_the_block_among_others(key, first, high, at):
    low = np.arange(100, dtype=np.uint64) + np.uint64(first)
    assert philox(key, low, high)[at].tolist() == philox(key, low[at : at + 1], high)[0].tolist()
