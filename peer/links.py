"""What a peer knows of the link to one neighbour."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass
class Link:
    """One neighbour.

    Attributes:
        open: it has greeted, and runs the same experiment.
        refused: one of the two runs another experiment.
        left: it has said BYE.
        last_heard: when its last readable message came, in seconds.
        greeted: when it was last greeted because it spoke without having greeted.
        digest: of its log, as it has last told; empty if it has not.
        complete: whether it held every log to its end then.
    """

    open: bool = False
    refused: bool = False
    left: bool = False
    last_heard: float = -math.inf
    greeted: float = -math.inf
    digest: bytes = b""
    complete: bool = False

    @property
    def met(self) -> bool:
        """Whether the neighbour has answered, one way or the other."""
        return self.open or self.refused

    def alive(self, since: float) -> bool:
        """Tell whether the neighbour has been heard since a time and has not left."""
        return not self.refused and not self.left and self.last_heard > since

    def agrees(self, digest: bytes) -> bool:
        """Tell whether the neighbour has reported this log, and that it is complete."""
        return self.open and self.complete and self.digest == digest


def differing(mine: Mapping[str, bytes], theirs: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return the names of the handshake fields that are not equal on both sides, sorted."""
    names = {*mine, *theirs}
    return tuple(sorted(name for name in names if mine.get(name) != theirs.get(name)))
