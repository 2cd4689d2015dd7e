"""How the numba kernels of this package are compiled, kept, and written.

- A tile stays in the cache while all seeds pass over it, so each weight crosses memory once.
- Inner loops are plain loops over slices, for LLVM's vectoriser; `cpu_vectors` has what it does not
  find. Indices into tables are unsigned, because numba turns a negative index into one from the
  end, a test that costs more than the look-up.
- Compiled code is kept on disk, beside the sources, and is taken for what these sources say now.

Indices of weights are signed and below 2**62.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import numba
from numba.core.caching import FunctionCache

from peer import philox

_F = TypeVar("_F", bound=Callable[..., Any])


def _digest_of_sources() -> str:
    sources = [*sorted(Path(__file__).parent.glob("*.py")), Path(philox.__file__)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


class _Cache(FunctionCache):  # type: ignore[misc]
    """numba's, whose own key knows a kernel's file but not those that the kernel is built on."""

    sources: Final = _digest_of_sources()

    def _index_key(self, signature: Any, code_generator: Any) -> tuple[Any, ...]:
        return (*super()._index_key(signature, code_generator), self.sources)


def kernel(function: _F) -> _F:
    """Have a function compiled when it is first called, or taken from the cache."""
    # Contraction is safe: wherever a product meets a sum in a kernel, the product is exact.
    compiled: Any = numba.njit(nogil=True, error_model="numpy", fastmath={"contract"})(function)
    compiled._cache = _Cache(function)
    return compiled  # type: ignore[no-any-return]
