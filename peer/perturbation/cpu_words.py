"""Philox4x32-10 for a tile of consecutive counters: the numba kernels that all others build on.

How the kernels of this package are written:
- A tile stays in the cache while all seeds pass over it, so each weight crosses memory once.
- Inner loops are plain loops over slices, for LLVM's vectoriser. Indices into tables are unsigned,
  because numba turns a negative index into one from the end, a test that costs more than the
  look-up.
- Compiled code is kept on disk, beside the sources or in the user's cache where those may not be
  written to, and is taken for what these sources say now. Where neither can be, it is not kept.

Indices of weights are signed and below 2**62.
"""

from __future__ import annotations

import contextlib
import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import numba
import numpy as np
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numpy.typing import NDArray

from peer import philox
from peer.philox import MULTIPLIER_0, MULTIPLIER_1, ROUNDS, WEYL_0, WEYL_1

_CUT_SHORT: Final = (EOFError, pickle.UnpicklingError)
"""What reading a file raises that a power cut has left empty, or in part."""

_F = TypeVar("_F", bound=Callable[..., Any])


def _digest_of_sources() -> str:
    sources = [*sorted(Path(__file__).parent.glob("*.py")), Path(philox.__file__)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


class _Files(IndexDataCacheFile):  # type: ignore[misc]
    """numba's, but compiled code lies in a file that is named after what it is for.

    numba numbers these files by an index that another process may be about to change, so two that
    compile a kernel for different types at once can leave one's code under the other's name.
    """

    def save(self, key: tuple[Any, ...], data: Any) -> None:
        digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
        name = self._data_name(int.from_bytes(digest, "big"))
        self._save_data(name, data)
        self._save_index(self._load_index() | {key: name})

    def load(self, key: tuple[Any, ...]) -> Any:
        with contextlib.suppress(*_CUT_SHORT):
            return super().load(key)
        return None

    def _load_index(self) -> dict[Any, str]:
        with contextlib.suppress(*_CUT_SHORT):
            index: dict[Any, str] = super()._load_index()
            return index
        return {}


class _Cache(FunctionCache):  # type: ignore[misc]
    """numba's, whose own key knows a kernel's file but not those that the kernel is built on."""

    sources: Final = _digest_of_sources()

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, stamp)

    def _index_key(self, signature: Any, code_generator: Any) -> tuple[Any, ...]:
        return (*super()._index_key(signature, code_generator), self.sources)


def kernel(function: _F) -> _F:
    """Have a function compiled when it is first called, or taken from the cache."""
    # Contraction is safe: wherever a product meets a sum in a kernel, the product is exact.
    compiled: Any = numba.njit(nogil=True, error_model="numpy", fastmath={"contract"})(function)
    # numba finds no place if neither the sources' folder nor the user's may be written to.
    with contextlib.suppress(RuntimeError):
        compiled._cache = _Cache(function)
    return compiled  # type: ignore[no-any-return]


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
