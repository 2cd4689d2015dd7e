"""Philox4x32-10 for a tile of consecutive counters: numba kernels (see `cpu_kernel`)."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from peer.perturbation.cpu_kernel import kernel
from peer.philox import MULTIPLIER_0, MULTIPLIER_1, ROUNDS, WEYL_0, WEYL_1

_M0: Final = np.uint64(MULTIPLIER_0)
_M1: Final = np.uint64(MULTIPLIER_1)
_W0: Final = np.uint64(WEYL_0)
_W1: Final = np.uint64(WEYL_1)
_32: Final = np.uint64(32)
_LOW: Final = np.uint64(0xFFFFFFFF)


@kernel
def fill_words(seed: np.uint64, tag: int, first: int, words: NDArray[np.uint32]) -> None:
    """Set words, shape (4, n), to the blocks at counters from first."""
    word_0, word_1, word_2, word_3 = words[0], words[1], words[2], words[3]
    seed_0, seed_1 = np.uint32(seed), np.uint32(seed >> _32)
    for b in range(words.shape[1]):
        counter = np.uint64(first) + np.uint64(b)
        c0, c1, c2, c3 = np.uint32(counter), np.uint32(counter >> _32), np.uint32(tag), np.uint32(0)
        k0, k1 = seed_0, seed_1
        for _ in range(ROUNDS):
            product_0 = np.uint64(c0) * _M0
            product_1 = np.uint64(c2) * _M1
            c0 = np.uint32(product_1 >> _32) ^ c1 ^ k0
            c1 = np.uint32(product_1)
            c2 = np.uint32(product_0 >> _32) ^ c3 ^ k1
            c3 = np.uint32(product_0)
            k0 = np.uint32(k0 + np.uint32(_W0))
            k1 = np.uint32(k1 + np.uint32(_W1))
        word_0[b], word_1[b], word_2[b], word_3[b] = c0, c1, c2, c3


@kernel
def fill_halves(
    seed: np.uint64,
    other: np.uint64,
    tag: int,
    first: int,
    halves: NDArray[np.uint64],
    others: NDArray[np.uint64],
) -> None:
    """Set halves, shape (2, n), to the blocks at counters from first, as words of 64 bits.

    Row 0 holds words 0 and 1, the first being the lower, row 1 words 2 and 3. `others` gets those
    of the other seed: two chains of multiplications side by side keep the processor busy.

    Numbers lie in lanes of 64 bits, whose upper halves hold leftovers that no multiplication sees.
    """
    low, high, low_o, high_o = halves[0], halves[1], others[0], others[1]
    seed_0, seed_1 = seed & _LOW, seed >> _32
    seed_2, seed_3 = other & _LOW, other >> _32
    for b in range(halves.shape[1]):
        counter = np.uint64(first) + np.uint64(b)
        c0, c1, c2, c3 = counter, counter >> _32, np.uint64(tag), np.uint64(0)
        d0, d1, d2, d3 = c0, c1, c2, c3
        k0, k1, k2, k3 = seed_0, seed_1, seed_2, seed_3
        for _ in range(ROUNDS):
            product_0, product_1 = (c0 & _LOW) * _M0, (c2 & _LOW) * _M1
            product_2, product_3 = (d0 & _LOW) * _M0, (d2 & _LOW) * _M1
            c0, c1 = (product_1 >> _32) ^ c1 ^ k0, product_1
            c2, c3 = (product_0 >> _32) ^ c3 ^ k1, product_0
            d0, d1 = (product_3 >> _32) ^ d1 ^ k2, product_3
            d2, d3 = (product_2 >> _32) ^ d3 ^ k3, product_2
            k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
            k2, k3 = (k2 + _W0) & _LOW, (k3 + _W1) & _LOW
        low[b], high[b] = (c0 & _LOW) | (c1 << _32), (c2 & _LOW) | (c3 << _32)
        low_o[b], high_o[b] = (d0 & _LOW) | (d1 << _32), (d2 & _LOW) | (d3 << _32)
