"""Which of the accumulator's sums each number of a history belongs to, and how its entry says so.

A method of sums is told apart by this alone: receivers add `weight * number` to a sum, whatever the
sum stands for. For FedKSeed a sum belongs to a candidate seed, and which ones an origin has used
follows from (origin, round). FedKSeed-Pro draws them by importance, so the indices travel. Without
a pool of seeds every step of the run has a seed, and so a sum, of its own: that is a replay of the
log, and the accumulator grows with the run. Ferret's sums belong to a candidate seed in one block
of the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from peer.accumulator import Accumulator
from peer.block_draw import draw_blocks
from peer.entry import Entry, index_type, pack_indices
from peer.errors import RefusedEntry, UserError
from peer.importance import sampling_weights
from peer.seeds import draw_uniform, draw_weighted

if TYPE_CHECKING:
    from peer.protocol import Protocol

UNIFORM: Final = "uniform"
WEIGHTED: Final = "weighted"
ENDLESS: Final = "endless"
BLOCKS: Final = "blocks"

MOST_SUMS: Final = 2**23
"""At most so many where they multiply, by steps or by blocks: 64 MiB of sums for each cut."""


class Seeding(Interface):
    """How one kind of method uses the sums.

    Attributes:
        sums: how many the accumulator has.
        numbers: how many a history carries.
        importance: whether magnitudes and counts are kept beside the sums.
        folds: whether sums stay few however long the run is, so that they can be a base.
        packed_bytes: of an entry's `indices`; None: they do not travel.
    """

    sums: int
    numbers: int
    importance: bool
    folds: bool
    packed_bytes: int | None

    def draw(self, origin: int, round_: int, cut: Accumulator) -> NDArray[np.int64]:
        """Return the indices of the sums that an origin's round from a cut will use.

        Shape (numbers,); or (0,) where only the local steps decide it.
        """

    def pack(self, chosen: NDArray[np.int64]) -> bytes | None:
        """Return what an entry carries as its `indices`, given what was drawn or decided."""

    def check(self, entry: Entry) -> None:
        """Hold the `indices` of a history against what an honest origin can have chosen.

        Raises:
            RefusedEntry: no honest peer of this run publishes them.
        """

    def indices(self, entry: Entry) -> NDArray[np.int64]:
        """Return the sum that each number of a checked history belongs to; shape (numbers,)."""


class UniformSeeding:
    """FedKSeed: K candidate seeds, drawn evenly by (origin, round) (Algorithm 1, line 13)."""

    importance = False
    folds = True
    packed_bytes: int | None = None

    def __init__(self, protocol: Protocol) -> None:
        self._root_seed = protocol.roster.root_seed
        self.sums = protocol.candidate_seeds
        self.numbers = protocol.local_steps

    def draw(self, origin: int, round_: int, cut: Accumulator) -> NDArray[np.int64]:
        """Return the seed index of each step; they hang on origin and round alone."""
        del cut
        return draw_uniform(self._root_seed, origin, round_, self.numbers, self.sums)

    def pack(self, chosen: NDArray[np.int64]) -> bytes | None:
        """Return None: receivers draw the same."""
        del chosen
        return None

    def check(self, entry: Entry) -> None:
        """See `Seeding.check`."""
        refuse_indices(entry)

    def indices(self, entry: Entry) -> NDArray[np.int64]:
        """See `Seeding.indices`."""
        return draw_uniform(self._root_seed, entry.origin, entry.round, self.numbers, self.sums)


class WeightedSeeding:
    """FedKSeed-Pro: K candidate seeds, drawn by importance (equation 14); indices travel."""

    importance = True
    folds = True

    def __init__(self, protocol: Protocol) -> None:
        self._root_seed = protocol.roster.root_seed
        self.sums = protocol.candidate_seeds
        self.numbers = protocol.local_steps
        self.packed_bytes: int | None = self.numbers * index_type(self.sums).itemsize

    def draw(self, origin: int, round_: int, cut: Accumulator) -> NDArray[np.int64]:
        """Return the seed index of each step, drawn by what the cut says of importance."""
        weights = sampling_weights(cut)
        return draw_weighted(self._root_seed, origin, round_, self.numbers, weights)

    def pack(self, chosen: NDArray[np.int64]) -> bytes | None:
        """Return the indices, 2 bytes each, or 4."""
        return pack_indices(chosen, self.sums)

    def check(self, entry: Entry) -> None:
        """See `Seeding.check`."""
        if entry.indices is None:
            raise RefusedEntry("seed indices travel with FedKSeed-Pro")
        if len(entry.indices) != self.packed_bytes:
            raise RefusedEntry(f"{len(entry.indices)} bytes of seed indices")
        if np.any(np.frombuffer(entry.indices, index_type(self.sums)) >= self.sums):
            raise RefusedEntry(f"a seed index past the {self.sums} candidates")

    def indices(self, entry: Entry) -> NDArray[np.int64]:
        """See `Seeding.indices`."""
        assert entry.indices is not None
        return np.frombuffer(entry.indices, index_type(self.sums)).astype(np.int64)


class EndlessSeeding:
    """No pool: each step has a seed of its own (FedKSeed, section 3.3: K without bound).

    Step t of the n-th active peer of round r has the sum first(r) + n * tau + t, first(r) being the
    number of steps of the rounds before, so a run that is continued keeps its numbers.
    """

    importance = False
    folds = False
    packed_bytes: int | None = None

    def __init__(self, protocol: Protocol) -> None:
        self._roster = protocol.roster
        self.numbers = protocol.local_steps
        active = [len(self._roster.active(round_)) for round_ in range(protocol.rounds)]
        self._first = np.cumsum([0, *active]) * self.numbers
        self.sums = int(self._first[-1])
        if self.sums > MOST_SUMS:
            raise UserError(
                f"without a pool of seeds the run's {self.sums} steps have as many sums: at most "
                f"{MOST_SUMS} are allowed"
            )

    def draw(self, origin: int, round_: int, cut: Accumulator) -> NDArray[np.int64]:
        """Return the numbers of the steps; they hang on origin and round alone."""
        del cut
        return self._steps(origin, round_)

    def pack(self, chosen: NDArray[np.int64]) -> bytes | None:
        """Return None: receivers count the same."""
        del chosen
        return None

    def check(self, entry: Entry) -> None:
        """See `Seeding.check`."""
        refuse_indices(entry)

    def indices(self, entry: Entry) -> NDArray[np.int64]:
        """See `Seeding.indices`."""
        return self._steps(entry.origin, entry.round)

    def _steps(self, origin: int, round_: int) -> NDArray[np.int64]:
        place = self._roster.active(round_).index(origin)
        start = int(self._first[round_]) + place * self.numbers
        return np.arange(start, start + self.numbers)


class BlockSeeding:
    """Ferret: each of L blocks of the weights has K sums, of which a history uses K_l.

    Which ones follows from (origin, round, block, K_l); how many a block gets is decided by the
    update that is projected (Proposition 2), so the L numbers K_l travel, 2 bytes each, or 4.
    """

    importance = False
    folds = True

    def __init__(self, protocol: Protocol) -> None:
        self._root_seed = protocol.roster.root_seed
        self._candidates = protocol.candidate_seeds
        self._blocks = protocol.blocks
        self._type = index_type(self._candidates + 1)
        self.numbers = protocol.coordinates
        self.sums = self._blocks * self._candidates
        if self.sums > MOST_SUMS:
            most = MOST_SUMS // self._blocks
            raise UserError(
                f"candidate_seeds = {self._candidates} is not allowed: each of the "
                f"{self._blocks} blocks has as many sums, so at most {most} are allowed"
            )
        if self.numbers > self.sums:
            raise UserError(
                f"coordinates = {self.numbers}: {self._candidates} candidate seeds for each of "
                f"{self._blocks} blocks allow at most {self.sums}"
            )
        self.packed_bytes: int | None = self._blocks * self._type.itemsize

    def draw(self, origin: int, round_: int, cut: Accumulator) -> NDArray[np.int64]:
        """Return nothing: the local steps decide how many coordinates each block gets."""
        del origin, round_, cut
        return np.empty(0, dtype=np.int64)

    def pack(self, chosen: NDArray[np.int64]) -> bytes | None:
        """Return the numbers K_l of all blocks, shape (L,)."""
        return chosen.astype(self._type).tobytes()

    def check(self, entry: Entry) -> None:
        """See `Seeding.check`."""
        if entry.indices is None or len(entry.indices) != self.packed_bytes:
            raise RefusedEntry(f"{len(entry.indices or b'')} bytes of numbers of coordinates")
        counts = self._counts(entry)
        if counts.sum() != self.numbers or np.any(counts > self._candidates):
            raise RefusedEntry(
                f"{counts.sum()} coordinates, {counts.max()} of one block: {self.numbers} are "
                f"wanted, of one block at most {self._candidates}"
            )

    def indices(self, entry: Entry) -> NDArray[np.int64]:
        """See `Seeding.indices`."""
        counts = self._counts(entry)
        return draw_blocks(self._root_seed, entry.origin, entry.round, counts, self._candidates)

    def _counts(self, entry: Entry) -> NDArray[np.int64]:
        assert entry.indices is not None
        return np.frombuffer(entry.indices, self._type).astype(np.int64)


def refuse_indices(entry: Entry) -> None:
    """Refuse an entry that brings what follows from its origin and round.

    Raises:
        RefusedEntry: it does.
    """
    if entry.indices is not None:
        raise RefusedEntry(
            "seed indices travel with FedKSeed-Pro; here they follow from origin and round"
        )


SEEDINGS: Final[dict[str, Callable[[Protocol], Seeding]]] = {
    UNIFORM: UniformSeeding,
    WEIGHTED: WeightedSeeding,
    ENDLESS: EndlessSeeding,
    BLOCKS: BlockSeeding,
}
"""The seedings by the names that methods give them."""


def most_hits(seeding: str, local_steps: int) -> int:
    """Return how often one history adds to one sum at most, which bounds the sums (C2)."""
    return local_steps if seeding in (UNIFORM, WEIGHTED) else 1
