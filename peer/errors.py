"""The families of errors: the user's and ours, raised, and the neighbours', recorded.

A user's mistake or a caller's misuse raises `UserError`; it ends a command with one line and exit
status 2. Bytes from outside that cannot be taken raise `NeighbourError` inside the protocol, where
`Gossip` turns them into an event; it never travels through a driver's loop. Whenever one of the two
is raised, the state is unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peer.entry import Entry


class UserError(ValueError):
    """A mistake of the user's, told in one line: what was given, and what is allowed."""


class RunFailed(Exception):
    """A run that ended for a reason that is no mistake of the user's, told in one line."""


class NeighbourError(Exception):
    """Something a neighbour sent that cannot be accepted. State unchanged."""


class MalformedMessage(NeighbourError):
    """Bytes that are no message of this protocol, or one past its limits."""


class RefusedEntry(NeighbourError):
    """A well-formed entry that the roster or the bounds of the experiment forbid."""


class Forgery(RefusedEntry):
    """An entry that its origin has not signed; who sends it has not looked, or made it."""


class Gap(NeighbourError):
    """An entry whose predecessor in its origin's log is missing, so it cannot be added yet."""


class Equivocation(NeighbourError):
    """A second content for an (origin, sequence number) that is already held.

    Attributes:
        held: the entry that is held.
        other: the one that came.
    """

    def __init__(self, held: Entry, other: Entry) -> None:
        super().__init__(f"a second content for entry {other.sequence} of peer {other.origin}")
        self.held = held
        self.other = other


def in_one_line(error: Exception) -> str:
    """Return the first line of what a library says was wrong, or what kind of error it raised."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
