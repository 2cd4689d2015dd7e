"""How much of the processors others used meanwhile: their load falsifies every ratio.

All the time that processors were busy or taken by the hypervisor, less this process's own and that
of its children that have ended. Only Linux tells; elsewhere it is not known.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

QUIET: Final = 0.05
"""A machine is quiet while others use less than this share of its cores."""

_STAT: Final = Path("/proc/stat")
_IDLE: Final = (3, 4)
"""Idle, and waiting for a disk."""

_GUEST: Final = 8
"""From here on are times that have been counted before."""


class Reading(NamedTuple):
    """Seconds so far.

    Attributes:
        wall: of the clock.
        busy: of all processors.
        own: of processors, used by this process and its children that have ended.
        processors: how many there are.
    """

    wall: float
    busy: float
    own: float
    processors: int


class ForeignLoad:
    """Measures what others use while it is entered.

    Attributes:
        cores: how many processors others kept busy, on average; None: not known.
        quiet: whether that is too little to matter; None: not known.
    """

    cores: float | None = None
    quiet: bool | None = None

    def __enter__(self) -> ForeignLoad:
        self._before = read()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        after = read()
        if self._before is not None and after is not None:
            self.cores = foreign_cores(self._before, after)
            self.quiet = self.cores < QUIET * after.processors

    def fields(self) -> dict[str, Any]:
        """Return {"foreign_load": in cores, "quiet": true or false}, or nulls."""
        return {"foreign_load": self.cores, "quiet": self.quiet}


def foreign_cores(before: Reading, after: Reading) -> float:
    """Return how many processors others kept busy between two readings, on average."""
    foreign = (after.busy - before.busy) - (after.own - before.own)
    # The two are rounded in their own ways, so little can be less than nothing.
    return max(0.0, foreign / (after.wall - before.wall))


def read() -> Reading | None:
    """Return where the counters stand, None where the system has none."""
    try:
        text = _STAT.read_text(encoding="ascii")
    except OSError:
        return None
    own = os.times()
    used = own.user + own.system + own.children_user + own.children_system
    busy, processors = busy_seconds(text, os.sysconf("SC_CLK_TCK"))
    return Reading(time.perf_counter(), busy, used, processors)


def busy_seconds(stat: str, ticks: int) -> tuple[float, int]:
    """Return the seconds that all processors were busy, and how many there are.

    Args:
        stat: the text of /proc/stat.
        ticks: in a second.
    """
    first, *rest = (line.split() for line in stat.splitlines())
    times = [int(word) for word in first[1:]][:_GUEST]
    busy = sum(times) - sum(times[i] for i in _IDLE)
    return busy / ticks, sum(words[0].startswith("cpu") for words in rest if words)


def warning(fields: Mapping[str, Any]) -> str:
    """Return what is to be said of a machine that was not quiet; see `ForeignLoad.fields`."""
    return (
        f"others used {fields['foreign_load']:.2f} cores while this was measured: its ratios are "
        "not to be relied on"
    )
