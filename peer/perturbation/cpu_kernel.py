"""How the numba kernels of this package are compiled, kept, and written.

- A tile stays in the cache while all seeds pass over it, so each weight crosses memory once.
- Inner loops are plain loops over slices, for LLVM's vectoriser; `cpu_vectors` has what it does not
  find. Indices into tables are unsigned, because numba turns a negative index into one from the
  end, a test that costs more than the look-up.
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
from numba.core.caching import FunctionCache, IndexDataCacheFile

from peer import philox

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


@kernel
def tile_size(length: int, most: int, period: int) -> int:
    """Return how long tiles of some weights are that none is much longer than the others.

    Args:
        length: of the weights, from the period that the first lies in.
        most: what a tile may have, a multiple of the period.
        period: tiles are a multiple of this.
    """
    tiles = max(1, (length + most - 1) // most)
    each = (length + tiles - 1) // tiles
    return max(1, (each + period - 1) // period) * period
