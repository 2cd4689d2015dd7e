"""What all peers of a run have agreed on, as the pure protocol sees it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from peer.accumulator import Accumulator
from peer.base import Base
from peer.cut import Cuts
from peer.entry import Entry, Kind
from peer.errors import Forgery, RefusedEntry
from peer.gradients import SCALE_LIMIT, decode
from peer.log import DIGEST_BYTES
from peer.mixing import Averaging
from peer.roster import Roster
from peer.seeding import SEEDINGS, Seeding
from peer.signatures import verify
from peer.sizes import Sizes
from peer.trees import Trees
from peer.units import SUM_LIMIT, Units
from peer.weights import PART_BYTES

WEIGHT_TOLERANCE = 1e-6
"""Relative difference that a received weight may have from one computed here from the roster."""

_CHECKED_KEPT: Final = 2**14
_ENTRY_OVERHEAD: Final = 128
_NUMBER_BYTES: Final = 4


@dataclass(frozen=True)
class Protocol:
    """The agreement of a run. Times are in seconds.

    Attributes:
        roster: who takes part.
        rounds: R, how many rounds the run has.
        local_steps: tau, the steps of an active peer in a round.
        candidate_seeds: K.
        gradient_bytes: how a scalar gradient travels: 4, 2 or 1 bytes.
        gradient_bound: g_max, a power of two that no scalar gradient passes.
        learning_rate: what a number of a history is multiplied with beside c_i, constant over the
            rounds: eta, for Ferret times the global learning rate.
        units: of the accumulator.
        seeding: which sums a history's numbers belong to, one of `peer.seeding.SEEDINGS`.
        blocks: Ferret's L, the number of blocks of the weights.
        coordinates: Ferret's B, how many numbers a history has.
        fields: name -> digest of everything that must be equal, compared in the handshake.
        schedule: `sync`: rounds that all go through together, or `async`: each peer by itself.
        averaging: of a method that averages weights; None: its numbers add up.
        public_keys: Ed25519 keys by peer, 32 bytes each; empty: entries are not signed.
        context: what a signature is bound to beside the entry, so that it holds in this run only.
        round_timeout: how long a peer waits for a later round's entries after publishing its own.
        settle_timeout: how long nothing new may come at the end, while logs are still open.
        start_timeout: how long it waits for its neighbours at the start, and in the first round for
            entries, if that is longer: who has not been heard of may not have come up yet.
        gossip: how entries spread, one of `peer.dissemination.MODES`.
        trees: along which edges an origin's entries are pushed, for `tree`; see `peer.trees`.
        tick: how often it looks whether its neighbours have to be told something.
        folding: whether entries are folded into a base once everybody has them.
        disconnects: whether a neighbour that lies is disconnected.
        linger: how long it stays to answer after everything has been settled.
    """

    roster: Roster
    rounds: int
    local_steps: int
    candidate_seeds: int
    gradient_bytes: int
    gradient_bound: float
    learning_rate: float
    units: Units
    seeding: str = "uniform"
    blocks: int = 1
    coordinates: int = 0
    fields: Mapping[str, bytes] = field(default_factory=dict)
    round_timeout: float = 60.0
    settle_timeout: float = 60.0
    start_timeout: float = 0.0
    schedule: str = "sync"
    gossip: str = "flood"
    trees: Trees | None = None
    averaging: Averaging | None = field(default=None, repr=False, compare=False)
    public_keys: tuple[bytes, ...] = ()
    context: bytes = b""
    folding: bool = True
    disconnects: bool = True
    tick: float = 1.0
    linger: float = 0.2
    # Replicas of one process share the agreement, and every entry comes over several links.
    _checked: set[bytes] = field(default_factory=set, init=False, repr=False, compare=False)

    @cached_property
    def cuts(self) -> Cuts:
        """Makes this run's cuts."""
        return Cuts(self.empty_accumulator, self.add)

    @cached_property
    def digest(self) -> bytes:
        """8 bytes for all that must be equal; the handshake compares them."""
        return field_digest(sorted(self.fields.items()))

    @cached_property
    def seeds(self) -> Seeding:
        """Which sums a history's numbers belong to."""
        return SEEDINGS[self.seeding](self)

    def patience(self, round_: int) -> float:
        """Return how long a round's entries are waited for once one's own is out."""
        longest = max(self.start_timeout, self.round_timeout)
        return longest if round_ == 0 else self.round_timeout

    @property
    def step_size(self) -> float:
        """eta / 2**e, in [1, 2)."""
        return self.learning_rate / 2.0**self.units.exponent

    @property
    def longest_log(self) -> int:
        """A history or an ACK in every round, and an END after each, if so often continued."""
        return 2 * self.rounds

    @property
    def entry_bytes(self) -> int:
        """What an entry, or a part of weights, takes at most."""
        if self.averaging is not None:
            return _ENTRY_OVERHEAD + PART_BYTES
        return _ENTRY_OVERHEAD + _NUMBER_BYTES * self.seeds.numbers + (self.seeds.packed_bytes or 0)

    @cached_property
    def sizes(self) -> Sizes:
        """How large the messages of this run can be."""
        sums, witnesses = self.seeds.sums, self.most_witnesses
        part = 0 if self.averaging is None else PART_BYTES
        return Sizes(len(self.roster.rows), sums, self.entry_bytes, witnesses, part)

    @property
    def weights_bytes(self) -> int:
        """What weights that travel take in all; 0 where none do."""
        return 0 if self.averaging is None else self.averaging.initial.raw.nbytes

    @property
    def folds(self) -> bool:
        """Whether the sums of a cut can take the place of its entries, and fit into a message."""
        return self.seeds.folds and self.sizes.base_fits

    @property
    def most_witnesses(self) -> int:
        """How many entries have to bear witness to a base, in any round, at most."""
        return math.ceil(self.roster.participation * len(self.roster.rows)) // 2 + 1

    def empty_accumulator(self) -> Accumulator:
        """Return the accumulator before round 0."""
        return Accumulator.empty(self.seeds.sums, self.units)

    def draw(self, origin: int, round_: int, cut: Accumulator) -> NDArray[np.int64]:
        """Return the indices of the sums that an origin uses from a cut; see `Seeding.draw`.

        They hang on the round and not on the place in the log, where an END may stand between, so
        a run that was continued draws what a longer one would have drawn.
        """
        return self.seeds.draw(origin, round_, cut)

    def check(self, entry: Entry) -> None:
        """Hold an entry against the roster, the bounds and its origin's key.

        Raises:
            RefusedEntry: no honest peer of this run publishes such an entry.
            Forgery: its origin has not signed it.
        """
        if entry.content in self._checked:
            return
        self._check(entry)
        if len(self._checked) == _CHECKED_KEPT:
            self._checked.clear()
        self._checked.add(entry.content)

    def _check(self, entry: Entry) -> None:
        if entry.origin >= len(self.roster.rows):
            raise RefusedEntry(f"peer {entry.origin} is not on the roster")
        if entry.sequence >= self.longest_log:
            raise RefusedEntry(f"entry {entry.sequence}, a log has {self.longest_log} at most")
        match entry.kind:
            case Kind.END:
                # A run may have been continued with more rounds, so an earlier END is in order.
                if not 0 < entry.round <= self.rounds:
                    raise RefusedEntry(f"END after {entry.round} rounds, the run has {self.rounds}")
            case Kind.ACK:
                self._check_round(entry)
            case Kind.HISTORY:
                self._check_history(entry)
        self._check_signature(entry)

    def _check_round(self, entry: Entry) -> None:
        if entry.round >= self.rounds:
            raise RefusedEntry(f"round {entry.round}, the run has {self.rounds}")
        active = self.roster.is_active(entry.origin, entry.round)
        if active != (entry.kind is Kind.HISTORY):
            raise RefusedEntry(
                f"peer {entry.origin} is {'' if active else 'not '}active in round {entry.round}"
            )

    def _check_history(self, entry: Entry) -> None:
        self._check_round(entry)
        expected = self.roster.weight(entry.origin, entry.round, self.step_size)
        if not abs(entry.weight - expected) <= WEIGHT_TOLERANCE * expected:
            raise RefusedEntry(f"weight {entry.weight:g}, the roster says {expected:g}")
        if len(entry.gradients) != self.seeds.numbers * self.gradient_bytes:
            raise RefusedEntry(f"{len(entry.gradients)} bytes of scalar gradients")
        if abs(entry.scale) > (SCALE_LIMIT if self.gradient_bytes == 1 else 0):
            raise RefusedEntry(f"a scale of 2**{entry.scale}")
        self.seeds.check(entry)
        self.gradients(entry)

    def _check_signature(self, entry: Entry) -> None:
        if not self.public_keys:
            if entry.signature is not None:
                raise RefusedEntry("entries are not signed in this run")
            return
        key = self.public_keys[entry.origin]
        if entry.signature is None or not verify(key, self.signed(entry.body), entry.signature):
            raise Forgery(
                f"entry {entry.sequence} of peer {entry.origin} does not bear its signature"
            )

    def signed(self, body: bytes) -> bytes:
        """Return the message that an origin signs for an entry with this body."""
        return b"kseed entry" + self.context + body

    def check_order(self, entry: Entry, previous: Entry | None, base: Base | None = None) -> None:
        """Hold an entry against the one before it in its origin's log.

        Rounds ascend, so a peer adds to each round once; the choice of units relies on it (C2).

        Args:
            entry: the one that comes.
            previous: the one before it; None: there is none, or it lies in the base.
            base: that of the log, if it has one.

        Raises:
            RefusedEntry: its round is over in this log.
        """
        ended = previous is not None and previous.is_end
        if previous is not None:
            last = previous.round
        elif base is not None and entry.origin in base.ends:
            _, last = base.ends[entry.origin]
        else:
            return
        if ended and last == self.roster.last_of(entry.origin, self.rounds):
            raise RefusedEntry(f"an entry after the end of the log of peer {entry.origin}")
        if entry.round < (last if ended and not entry.is_end else last + 1):
            raise RefusedEntry(f"round {entry.round} after round {last}")

    def check_versions(self, versions: Mapping[int, int]) -> None:
        """Hold a version vector against the roster.

        Raises:
            RefusedEntry: it names entries that no honest peer of this run publishes.
        """
        for origin, length in versions.items():
            if origin >= len(self.roster.rows):
                raise RefusedEntry(f"peer {origin} is not on the roster")
            if length > self.longest_log:
                raise RefusedEntry(f"{length} entries, a log has {self.longest_log} at most")

    def check_base(self, base: Base, witnesses: Iterable[Entry]) -> None:
        """Hold a neighbour's base against the bounds, and against those who acknowledge it.

        With signatures nobody can make witnesses up: more than half of the peers that trained in
        the base's round have started from this very cut.

        Raises:
            RefusedEntry: no honest peer of this run sends such a base.
        """
        self.check_versions(base.versions)
        sums, magnitudes, counts = base.arrays
        if not 0 < base.round < self.rounds or len(sums) != self.seeds.sums:
            raise RefusedEntry(f"a base of {len(sums)} sums at round {base.round}")
        if np.any(np.abs(sums) >= SUM_LIMIT) or np.any(magnitudes < 0) or np.any(counts < 0):
            raise RefusedEntry("a base with sums past their bounds")
        digest = base.cut(self.units).digest
        for entry in witnesses:
            self.check(entry)
        origins = {e.origin for e in witnesses if self.is_witness(e, base.round, digest)}
        if not self.convinces(len(origins), base.round):
            raise RefusedEntry(
                f"{len(origins)} of {len(self.roster.active(base.round))} peers acknowledge the "
                f"base of round {base.round}"
            )

    def is_witness(self, entry: Entry, round_: int, cut: bytes) -> bool:
        """Tell whether an entry's origin has started a round from the cut with this digest."""
        return entry.round == round_ and entry.cut == cut and entry.kind is Kind.HISTORY

    def convinces(self, witnesses: int, round_: int) -> bool:
        """Tell whether so many witnesses are enough for a base of this round."""
        return 2 * witnesses > len(self.roster.active(round_))

    def gradients(self, entry: Entry) -> NDArray[np.float32]:
        """Return the decoded numbers of a history; shape (numbers,)."""
        return decode(entry.gradients, self.gradient_bytes, entry.scale, self.gradient_bound)

    def indices(self, entry: Entry) -> NDArray[np.int64]:
        """Return the sum that each number of a history belongs to; shape (numbers,)."""
        return self.seeds.indices(entry)

    def add(self, accumulator: Accumulator, history: Entry) -> None:
        """Add a checked history's steps to an accumulator."""
        accumulator.add(
            self.indices(history),
            self.gradients(history),
            history.weight,
            importance=self.seeds.importance,
        )


def field_digest(value: Any) -> bytes:
    """Return the 8 bytes that stand for a value in the handshake; it must have an exact repr."""
    return hashlib.blake2b(repr(value).encode(), digest_size=DIGEST_BYTES).digest()
