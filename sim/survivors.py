"""Who is there at the end of a simulated run, and whose whole log these have not got."""

from __future__ import annotations

from collections.abc import Iterable

from peer.errors import RunFailed
from peer.participant import Participant
from sim.world import World


def survivors(world: World) -> list[Participant]:
    """Return the peers that are there when a world has been run.

    Raises:
        RunFailed: the scenario has left none.
    """
    there = [participant for participant in world.peers if participant.me not in world.absent]
    if not there:
        raise RunFailed("the scenario has left no peer that could end the run")
    return there


def missing_peers(there: Iterable[Participant]) -> tuple[int, ...]:
    """Return in order whose END somebody who is there has waited for in vain."""
    return tuple(
        sorted({peer for each in there if each.finished for peer in each.finished.missing})
    )
