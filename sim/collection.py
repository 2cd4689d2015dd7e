"""How often Python looks for garbage in cycles while a world runs.

Every look walks through all that is young, and some through all there is: many replicas, none of
which is garbage. So what is there when a run starts is set aside, and looks become rare.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

YOUNG: Final = 200_000
"""So many objects more than were freed have been made between two looks."""


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Collect cyclic garbage seldom while this is entered; afterwards as before."""
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(YOUNG, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
