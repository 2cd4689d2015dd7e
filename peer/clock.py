"""The clock that a real peer goes by: it says what time it is, and never jumps."""

from __future__ import annotations

import time
from typing import Final

_AHEAD: Final = time.time() - time.monotonic()


def clock() -> float:
    """Return the seconds since the epoch by this host's clock when the process began, and since.

    The protocol only takes differences of one peer's times, but neighbours tell each other what
    their clocks say, so that one that is hours off is noticed.
    """
    return _AHEAD + time.monotonic()
