"""A replica: the log of entries, and everything that follows from it.

    log --histories--> rounds --cut--> folding --base--> log
     \\--ENDs--> closed logs

Whatever way an entry, a base or a proof has come, it goes through here, so that a replica which was
rebuilt from its disk is the one that was lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from peer import wire
from peer.base import Base
from peer.entry import END, HISTORY, Entry
from peer.folding import Folding
from peer.log import EntryLog, Run
from peer.protocol import Protocol
from peer.rounds import SCHEDULES, Rounds


class Replica:
    """The state of one peer.

    Args:
        me: this peer's place in the roster.
        protocol: the agreement of the run.
        log: what is known from an earlier life, above `base`.
        base: what that life had of a neighbour's, if any.

    Attributes:
        rounds: which round it is in, and the cut that it trains from.
        last_word: the last round of which it has spoken itself, and may not speak again; -1: none.
        taken: how many entries and bases have been taken in this life.
        over: whether this peer has been through all rounds that it is a member in.
    """

    def __init__(self, me: int, protocol: Protocol, log: EntryLog, base: Base | None) -> None:
        self.me = me
        self.protocol = protocol
        self.log = log
        self.rounds: Rounds = SCHEDULES[protocol.schedule](protocol)
        self.last_word = -1
        self.taken = 0
        roster, rounds = protocol.roster, protocol.rounds
        self._last_round = roster.last_of(me, rounds)
        self.over = self.rounds.current >= self._last_round
        # A bit for each peer whose END is awaited, as sets would be the largest part of a replica.
        self._open = roster.lasting
        folds = protocol.folding and protocol.schedule == "sync" and protocol.folds
        self._folding = Folding(protocol, me) if folds else None
        if base is not None:
            digest = base.cut(protocol.units).digest
            self.go_on_from(base, [e for e in log if protocol.is_witness(e, base.round, digest)])
        else:
            for run in log.runs():
                self._note(run)

    @property
    def base(self) -> Base | None:
        """What it keeps of the entries that everybody has, if it has folded any."""
        return self._folding.base if self._folding is not None else None

    def digest(self) -> bytes:
        """Return the digest of the log."""
        return self.log.digest()

    def versions(self) -> wire.Versions:
        """Return what tells a neighbour which entries are held, and up to which round in a base."""
        base = self.base
        return wire.Versions(self.log.versions(), 0 if base is None else base.round)

    @property
    def witnesses(self) -> tuple[Entry, ...]:
        """Entries that bear the base out."""
        return self._folding.witnesses if self._folding is not None else ()

    @property
    def folds(self) -> bool:
        """Whether entries are folded, so that there are bases."""
        return self._folding is not None

    @property
    def complete(self) -> bool:
        """Whether every log of the roster is held up to its END."""
        return not self._open

    @property
    def open_logs(self) -> tuple[int, ...]:
        """The peers whose END is awaited."""
        return tuple(peer for peer in range(self._open.bit_length()) if self.awaits_end(peer))

    def awaits_end(self, peer: int) -> bool:
        """Tell whether a peer's END is awaited."""
        return bool(self._open >> peer & 1)

    def trains(self) -> bool:
        """Tell whether this peer is active in the current round."""
        return self.protocol.roster.is_active(self.me, self.rounds.current)

    def may_close(self) -> bool:
        """Tell whether the current round, if any, has everything that has to be waited for."""
        if self.over or self.rounds.awaited():
            return False
        return not self.trains() or self.rounds.has(self.me)

    def close_round(self) -> None:
        """Close the current round; see `Rounds.close`."""
        self.rounds.close()
        self.over = self.rounds.current >= self._last_round

    def add(self, entry: Entry) -> None:
        """Add a checked entry that is not held yet.

        Raises:
            Gap, Equivocation: see `EntryLog.add`.
        """
        self.log.add(entry)
        self.taken += 1
        self._note(self.log.run(entry.origin))

    def entered(self) -> None:
        """Take note of the round that this peer has entered; fold what everybody has."""
        if self._folding is None:
            return
        base = self._folding.entered(self.rounds.current, self.rounds.cut)
        if base is not None:
            self.log.rebase(base.versions, base.sum)

    def needs(self, base: Base) -> bool:
        """Tell whether another base has what is missing here, or settles what is not agreed on.

        The present one lies within it, but for those who have been convicted: the later base is
        what all others have acknowledged since.
        """
        mine = self.base.versions.items() if self.base is not None else ()
        present = 0 if self.base is None else self.base.round
        honest = [(origin, n) for origin, n in mine if origin not in self.log.convictions]
        within = all(base.versions.get(origin, 0) >= length for origin, length in honest)
        missing = bool(self.log.missing(base.versions)) or self.disputed(base.versions)
        return base.round > present and within and missing

    def disputed(self, versions: Mapping[int, int]) -> bool:
        """Tell whether others hold more of a convicted origin than is allowed here, or less.

        Less than lies in the base, that is, of which nothing can be dropped any more.
        """
        return any(
            not self.log.base_length(origin) <= versions.get(origin, 0) <= number
            for origin, number in self.log.convictions.items()
        )

    def take(self, base: Base, witnesses: Iterable[Entry]) -> None:
        """Put a checked base of a neighbour's under what is held above it."""
        self.taken += 1
        self.log.rebase(base.versions, base.sum)
        self.go_on_from(base, witnesses)

    def go_on_from(self, base: Base, witnesses: Iterable[Entry]) -> None:
        """Build all that follows from the log anew, above a base."""
        self._folding = Folding(self.protocol, self.me, base, tuple(witnesses))
        for origin in self.log.convictions:
            self._folding.excuse(origin)
        self._restart_rounds()
        for entry in self.log:
            self._know(entry)

    def convict(self, origin: int, sequence: int) -> None:
        """Drop what an origin has published from a number on, and wait for it no more."""
        self.taken += 1
        if self.log.convict(origin, sequence):
            self._restart_rounds()
        self.rounds.give_up(origin)
        self._open &= ~(1 << origin)
        if self._folding is not None:
            self._folding.excuse(origin)

    def _restart_rounds(self) -> None:
        """Have the rounds follow from the base and the log anew."""
        protocol, base = self.protocol, self.base
        cut = protocol.cuts.empty() if base is None else base.cut(protocol.units)
        histories = (run for run in self.log.runs() if run.entry.kind is HISTORY)
        self.rounds.restart(0 if base is None else base.round, cut, histories)
        for origin in self.log.convictions:
            self.rounds.give_up(origin)
        self.over = self.rounds.current >= self._last_round

    def _note(self, run: Run) -> None:
        """Let every part know of an entry that has come into the log."""
        entry = run.entry
        if entry.kind is HISTORY:
            self.rounds.add(run)
            if self.log.convictions and entry.origin in self.log.convictions:
                # What it wrote before its lie may come late, and is no sign of life.
                self.rounds.give_up(entry.origin)
        self._know(entry)

    def _know(self, entry: Entry) -> None:
        """Let every part know of an entry but the rounds."""
        end = entry.kind is END
        if entry.origin == self.me:
            # An END says that no history of an earlier round will follow.
            self.last_word = entry.round - end
        if end:
            protocol = self.protocol
            if entry.round == protocol.roster.last_of(entry.origin, protocol.rounds):
                self._open &= ~(1 << entry.origin)
            return
        if self._folding is not None:
            self._folding.heard(entry)
