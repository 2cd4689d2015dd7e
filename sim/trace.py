"""trace.csv: every frame that reached its receiver or did not, and every incident, in order.

| event                 | sender | receiver | message      | bytes         |
| --------------------- | ------ | -------- | ------------ | ------------- |
| delivered, lost, held | from   | to       | its kind     | of the frame  |
| a scenario's verb     |        | whom     |              |               |

`time` is the virtual time in seconds with all its digits: equal runs leave equal files. A frame
that was held comes a second time, as delivered, when its receiver goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self

from peer import wire
from peer.errors import NeighbourError

HEADER = "time,event,sender,receiver,message,bytes\n"


class Trace:
    """The file, written while the run goes on; an earlier one is replaced."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="ascii", newline="")
        self._file.write(HEADER)

    def frame(self, time: float, event: str, sender: int, receiver: int, frame: bytes) -> None:
        """Note what happened to a frame: delivered, lost or held."""
        self._file.write(f"{time!r},{event},{sender},{receiver},{kind(frame)},{len(frame)}\n")

    def incident(self, time: float, verb: str, peers: Sequence[int]) -> None:
        """Note an incident and whom it has befallen."""
        self._file.write(f"{time!r},{verb},,{' '.join(map(str, peers))},,\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


# The frames of a flood, and the digests of a tick, are the same on many links.
@lru_cache(2**10)
def kind(frame: bytes) -> str:
    """Return the name of a frame's message, as in `entries`, or `malformed`."""
    try:
        return type(wire.decode(frame)).__name__.lower()
    except NeighbourError:
        return "malformed"
